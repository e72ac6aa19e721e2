//! The plan: what will run, in how much memory, found by running it on shapes alone.

use super::request::ResolvedPart;
use super::tiles::{Run, Strip, TILE, strips};
use super::unit::{BlankSeeds, Unit, units};
use crate::bytes::Bytes;
use crate::contraction::{Contraction, Segment, accumulate, contraction};
use crate::error::{Error, Result};
use crate::jacobian::passes::{Reach, Weights};
use crate::network::Network;
use crate::tensor::meter::{Meter, MeterTensor};
use crate::tensor::{Contract, HostSlice, Shape};
use std::collections::BTreeMap;
use std::ops::Range;

/// Rows of V (samples × directions) in a unit at most: partial sums are cut there (DESIGN §4, §5).
pub const UNIT_ROWS: usize = 4096;

/// Finished tiles on their way to the host at once.
pub const RING: usize = 2;

/// Finished tiles that wait for the writer, or are being written.
pub const WRITING: usize = 2;

/// Entries of a part at most: a million tiles. What is larger has no disk to go to.
pub const MOST_ENTRIES: u128 = 1 << 42;

/// Numbers that the rows of a diagonal's piece may hold.
pub const DIAGONAL_ROWS: usize = 1 << 22;

/// What the device can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes that tensors and tiles on the device may take together.
    pub device: u64,
    /// Bytes that host buffers may take.
    pub host: u64,
    /// Bytes of the largest single tensor.
    pub tensor: u64,
    /// Whether the device's memory is the host's.
    pub unified: bool,
}

/// What becomes of the factors between tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    /// Factors of all samples stay on the device, dense rows formed once.
    Rows,
    /// Factors of all samples stay on the device, dense rows formed per tile.
    Factors,
    /// Factors are recomputed for each wave of tiles.
    Recompute,
}

/// A part with its grid.
#[derive(Clone, Debug)]
pub struct PartPlan {
    /// The part.
    pub part: ResolvedPart,
    /// Strips of rows; empty for a vector.
    pub rows: Vec<Strip>,
    /// Strips of columns; empty for a vector.
    pub columns: Vec<Strip>,
}

/// One tile: a strip of rows against a strip of columns of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TileJob {
    /// Index of the part.
    pub part: usize,
    /// Index of its strip of rows.
    pub row: usize,
    /// Index of its strip of columns.
    pub column: usize,
}

/// How a pair of parameters is contracted, over all tiles.
#[derive(Clone, Debug, serde::Serialize)]
pub struct PairPlan {
    /// Parameter of the rows.
    pub rows: String,
    /// Parameter of the columns.
    pub columns: String,
    /// The rule taken.
    pub contraction: Contraction,
    /// Floating-point operations, all samples.
    pub operations: u64,
}

/// What would run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Parts with their grids.
    pub parts: Vec<PartPlan>,
    /// Tiles in order.
    pub tiles: Vec<TileJob>,
    /// Number of samples.
    pub samples: usize,
    /// Samples per unit.
    pub unit: usize,
    /// Directions R.
    pub directions: usize,
    /// Directions per reverse pass.
    pub chunk: usize,
    /// What becomes of the factors.
    pub keep: Keep,
    /// Tiles accumulated at once when factors are recomputed.
    pub wave: usize,
    /// Contractions by pair of parameters.
    pub pairs: Vec<PairPlan>,
    /// Operations of one pass over all samples that makes the factors.
    pub factor_operations: u64,
    /// Operations of all contractions.
    pub contraction_operations: u64,
    /// Predicted peak on the device.
    pub device_bytes: u64,
    /// Predicted peak of host buffers.
    pub host_bytes: u64,
}

impl PartPlan {
    /// Whether the tile is its own mirror.
    pub fn on_diagonal(&self, job: &TileJob) -> bool {
        self.part.symmetric() && job.row == job.column
    }
}

impl Plan {
    /// Number of passes over the data.
    pub fn passes(&self) -> usize {
        match self.keep {
            Keep::Recompute => self.tiles.len().div_ceil(self.wave.max(1)).max(1),
            _ => 1,
        }
    }

    /// All floating-point operations.
    pub fn operations(&self) -> u64 {
        self.factor_operations * self.passes() as u64 + self.contraction_operations
    }

    /// Entries of all parts.
    pub fn entries(&self) -> u128 {
        self.parts.iter().map(|p| p.part.entries()).sum()
    }

    /// The ranges of samples of the units.
    pub fn unit_ranges(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        (0..self.samples)
            .step_by(self.unit)
            .map(|start| start..(start + self.unit).min(self.samples))
    }
}

/// What a plan is made of, apart from the network.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// Number of samples.
    pub samples: usize,
    /// Directions R of the loss.
    pub directions: usize,
    /// Whether directions carry signs.
    pub signed: bool,
    /// Bytes of a number.
    pub number_bytes: usize,
    /// Samples per unit where the user sets it.
    pub batch: Option<usize>,
}

/// The parameters that any part touches.
pub fn wanted(network: &Network, parts: &[ResolvedPart]) -> Vec<bool> {
    let touches = |ranges: &[Range<usize>], own: &Range<usize>| {
        ranges
            .iter()
            .any(|r| r.start < own.end && own.start < r.end)
    };
    network
        .parameters
        .iter()
        .map(|parameter| {
            let own = parameter.range();
            parts.iter().any(|part| {
                touches(&part.rows, &own) || part.columns.as_ref().is_some_and(|c| touches(c, &own))
            })
        })
        .collect()
}

/// The parameters that a plan's parts touch.
pub fn wanted_of(network: &Network, plan: &Plan) -> Vec<bool> {
    let parts: Vec<ResolvedPart> = plan.parts.iter().map(|p| p.part.clone()).collect();
    wanted(network, &parts)
}

/// Pairs of segments where a tile's rows and columns meet, with both factors of a unit.
///
/// On the diagonal of a symmetric part only pairs on or above the diagonal: [`mirror`] fills the rest.
pub fn segment_pairs<'a, T>(
    unit: &'a Unit<T>,
    part: &'a PartPlan,
    job: &TileJob,
) -> impl Iterator<Item = (usize, usize, Segment<'a, T>, Segment<'a, T>)> {
    let segment = |run: &Run| Segment {
        factor: unit.factors[run.parameter]
            .as_ref()
            .expect("every parameter of a tile is wanted"),
        range: run.range.clone(),
        origin: run.origin,
    };
    let diagonal = part.on_diagonal(job);
    let (rows, columns) = (&part.rows[job.row].runs, &part.columns[job.column].runs);
    rows.iter().enumerate().flat_map(move |(k, row)| {
        let first = if diagonal { k } else { 0 };
        columns[first..].iter().map(move |column| {
            (
                row.parameter,
                column.parameter,
                segment(row),
                segment(column),
            )
        })
    })
}

/// Fills a diagonal tile below its diagonal from above it, so that it is symmetric to the bit.
pub fn mirror<R: Copy>(width: usize, values: &mut [R]) {
    /// Rows and columns that stay in cache while they are transposed.
    const BLOCK: usize = 32;
    for top in (0..width).step_by(BLOCK) {
        for left in (0..=top).step_by(BLOCK) {
            for row in top..(top + BLOCK).min(width) {
                for column in left..(left + BLOCK).min(row) {
                    values[row * width + column] = values[column * width + row];
                }
            }
        }
    }
}

/// The memory of one choice of unit and chunk, in bytes.
struct Footprint {
    weights: u64,
    /// Peak while a unit's factors are made, weights included.
    unit_peak: u64,
    /// A unit's factors.
    kept: u64,
    /// A unit's factors with dense rows formed.
    kept_rows: u64,
    /// Peak of a tile's accumulator and temporaries, factors not included.
    tile_peak: u64,
    tile: u64,
    largest: u64,
}

struct Planner<'a> {
    network: &'a Network,
    reach: &'a Reach,
    parts: &'a [PartPlan],
    tiles: &'a [TileJob],
    work: Workload,
}

/// Contractions found so far: (row parameter, column parameter, rule) → operations.
type Pairs = BTreeMap<(usize, usize, Contraction), u64>;

impl Planner<'_> {
    fn make_units(
        &self,
        meter: &Meter,
        weights: &Weights<MeterTensor>,
        samples: usize,
        chunk: usize,
    ) -> Result<Vec<Unit<MeterTensor>>> {
        let input = Shape::new(samples, 1, &self.network.inputs[0].rest);
        let inputs = crate::tensor::Backend::upload(meter, &input, HostSlice::F32(&[]));
        let mut made = Vec::new();
        let mut seeds = BlankSeeds {
            signed: self.work.signed,
        };
        // One chunk of directions stands for all: they are alike, and are made one after another.
        let directions = 0..chunk.min(self.work.directions);
        units(
            meter,
            self.network,
            weights,
            self.reach,
            inputs,
            directions,
            chunk,
            &mut seeds,
            |unit| made.push(unit),
        )?;
        Ok(made)
    }

    fn run_tiles(
        &self,
        meter: &Meter,
        unit: &Unit<MeterTensor>,
        tiles: &[TileJob],
        repeat: u64,
        pairs: &mut Pairs,
    ) -> u64 {
        let base = meter.live();
        meter.reset_peak();
        for job in tiles {
            let part = &self.parts[job.part];
            let (rows, columns) = (&part.rows[job.row], &part.columns[job.column]);
            let mut tile = meter.accumulator(rows.positions.len(), columns.positions.len());
            for (row, column, left, right) in segment_pairs(unit, part, job) {
                let (rule, _) = contraction(meter, &left, &right);
                let before = meter.operations();
                accumulate(meter, &mut tile, &left, &right, unit.signs.as_ref());
                *pairs.entry((row, column, rule)).or_default() +=
                    (meter.operations() - before) * repeat;
            }
        }
        meter.peak() - base
    }

    fn diagonal(&self, meter: &Meter, unit: &Unit<MeterTensor>) -> u64 {
        let base = meter.live();
        meter.reset_peak();
        for factor in unit.factors.iter().flatten() {
            factor.squares(meter, unit.signs.as_ref(), DIAGONAL_ROWS);
        }
        meter.peak() - base
    }

    fn footprint(&self, samples: usize, chunk: usize) -> Result<Footprint> {
        let meter = Meter::new(self.work.number_bytes);
        let weights = Weights::upload(&meter, self.network);
        let base = meter.live();
        let mut made = self.make_units(&meter, &weights, samples, chunk)?;
        let unit_peak = meter.peak();
        let kept = meter.live() - base;
        let mut pairs = Pairs::new();
        // Tiles of a grid are much alike: the first few and the last show the peak.
        let mut sample: Vec<TileJob> = self.tiles.iter().copied().take(64).collect();
        sample.extend(self.tiles.iter().rev().copied().take(64));
        let mut tile_peak = 0;
        for unit in &made {
            tile_peak = tile_peak.max(self.run_tiles(&meter, unit, &sample, 1, &mut pairs));
            if self.parts.iter().any(|p| p.part.columns.is_none()) {
                tile_peak = tile_peak.max(self.diagonal(&meter, unit));
            }
        }
        for factor in made.iter_mut().flat_map(|u| &mut u.factors).flatten() {
            if factor.outer(&meter).is_none() {
                factor.keep_rows(&meter);
            }
        }
        let tile = self.tiles.iter().map(|t| {
            let part = &self.parts[t.part];
            part.rows[t.row].positions.len() * part.columns[t.column].positions.len()
        });
        let tile = tile.max().unwrap_or(0) as u64 * self.work.number_bytes as u64;
        Ok(Footprint {
            weights: base,
            unit_peak,
            kept,
            kept_rows: meter.live() - base,
            tile_peak: tile_peak.max(tile),
            tile,
            largest: meter.largest(),
        })
    }

    /// Operations of all contractions, by pair.
    fn count(&self, unit: usize, chunk: usize) -> Result<(Pairs, u64)> {
        let mut pairs = Pairs::new();
        let mut factor_operations = 0;
        let (whole, rest) = (self.work.samples / unit, self.work.samples % unit);
        for (samples, repeat) in [(unit, whole as u64), (rest, 1)] {
            if samples == 0 || repeat == 0 {
                continue;
            }
            for (chunk, repeat) in direction_chunks(self.work.directions, chunk, repeat) {
                let meter = Meter::new(self.work.number_bytes);
                let weights = Weights::upload(&meter, self.network);
                let made = self.make_units(&meter, &weights, samples, chunk)?;
                factor_operations += meter.operations() * repeat;
                for unit in &made {
                    self.run_tiles(&meter, unit, self.tiles, repeat, &mut pairs);
                }
            }
        }
        Ok((pairs, factor_operations))
    }
}

/// Chunks of directions: (size, how often).
fn direction_chunks(
    directions: usize,
    chunk: usize,
    repeat: u64,
) -> impl Iterator<Item = (usize, u64)> {
    let (whole, rest) = (directions / chunk, directions % chunk);
    [(chunk, whole as u64 * repeat), (rest, repeat)]
        .into_iter()
        .filter(|&(size, times)| size > 0 && times > 0)
}

/// Plans the parts: grid, unit, what is kept, contractions, operations and memory.
///
/// # Errors
/// [`Error::Budget`] with the arithmetic where not even one sample, one direction and one tile fit.
pub fn plan(
    network: &Network,
    parts: Vec<ResolvedPart>,
    work: Workload,
    limits: Limits,
) -> Result<Plan> {
    if let Some(part) = parts.iter().max_by_key(|part| part.entries())
        && part.entries() > MOST_ENTRIES
    {
        let (rows, columns) = part.shape();
        return Err(Error::Request(format!(
            "part {} is {rows} × {}: {} in {}-byte numbers, more than the {} that can be planned; ask for smaller parts, such as layer=NAME, range=R0..R1,C0..C1 or diag, or leave it out by --skip-larger",
            part.name,
            columns.unwrap_or(1),
            Bytes(part.entries() * work.number_bytes as u128),
            work.number_bytes,
            Bytes(MOST_ENTRIES * work.number_bytes as u128),
        )));
    }
    let reach = Reach::new(network, wanted(network, &parts));
    let mut tiles = Vec::new();
    let parts: Vec<PartPlan> = parts
        .into_iter()
        .enumerate()
        .map(|(index, part)| {
            let Some(columns) = &part.columns else {
                return PartPlan {
                    part,
                    rows: Vec::new(),
                    columns: Vec::new(),
                };
            };
            let rows = strips(network, &part.rows, TILE);
            let columns = strips(network, columns, TILE);
            let symmetric = part.symmetric();
            for row in 0..rows.len() {
                // A tile job owns its mirror: below the diagonal nothing is computed.
                for column in if symmetric { row } else { 0 }..columns.len() {
                    tiles.push(TileJob {
                        part: index,
                        row,
                        column,
                    });
                }
            }
            PartPlan {
                part,
                rows,
                columns,
            }
        })
        .collect();
    let planner = Planner {
        network,
        reach: &reach,
        parts: &parts,
        tiles: &tiles,
        work,
    };
    let mut unit = work
        .batch
        .unwrap_or((UNIT_ROWS / work.directions.max(1)).max(1))
        .clamp(1, work.samples.max(1));
    let mut chunk = work.directions.max(1);
    let (footprint, host) = loop {
        let footprint = planner.footprint(unit, chunk)?;
        // On the CPU finished tiles lie in the same memory as those under way.
        let host = footprint.tile * (RING + WRITING) as u64;
        let device = limits
            .device
            .saturating_sub(if limits.unified { host } else { 0 });
        let least = footprint
            .unit_peak
            .max(footprint.weights + footprint.kept + footprint.tile_peak);
        if least <= device && footprint.largest <= limits.tensor && host <= limits.host {
            break (footprint, host);
        }
        if unit > 1 {
            unit = unit.div_ceil(2);
        } else if chunk > 1 {
            chunk = chunk.div_ceil(2);
        } else {
            let unified = if limits.unified { host } else { 0 };
            return Err(Error::Budget(format!(
                "the memory budget of {} is too small: one sample and one direction take {} for the weights, {} for a pass, {} for one tile and its temporaries, and {} for finished tiles (largest tensor {}, the device takes {}); raise {}",
                Bytes(if limits.unified {
                    limits.device.min(limits.host)
                } else {
                    limits.device
                } as u128),
                Bytes(footprint.weights as u128),
                Bytes((footprint.unit_peak - footprint.weights) as u128),
                Bytes(footprint.tile_peak as u128),
                Bytes(if limits.unified { unified } else { host } as u128),
                Bytes(footprint.largest as u128),
                Bytes(limits.tensor as u128),
                if limits.unified || host > limits.host {
                    "--host-memory"
                } else {
                    "--memory"
                },
            )));
        }
    };
    let device = limits
        .device
        .saturating_sub(if limits.unified { host } else { 0 });
    let count = (work.samples.div_ceil(unit) * work.directions.div_ceil(chunk)) as u64;
    let working = footprint.unit_peak - footprint.weights;
    let whole = |kept: u64| {
        footprint.weights + count * kept + working.saturating_sub(kept).max(footprint.tile_peak)
    };
    // Tiles under way and on the ring are accumulators on the device.
    let ring = if limits.unified {
        0
    } else {
        RING as u64 * footprint.tile
    };
    let (keep, wave, device_bytes) = if tiles.is_empty() {
        (
            Keep::Recompute,
            1,
            footprint
                .unit_peak
                .max(footprint.weights + footprint.kept + footprint.tile_peak),
        )
    } else if whole(footprint.kept_rows) + ring <= device {
        (Keep::Rows, tiles.len(), whole(footprint.kept_rows) + ring)
    } else if whole(footprint.kept) + ring <= device {
        (Keep::Factors, tiles.len(), whole(footprint.kept) + ring)
    } else {
        let one = footprint
            .unit_peak
            .max(footprint.weights + footprint.kept + footprint.tile_peak);
        let more = (device - one) / footprint.tile.max(1);
        let wave = (1 + more as usize).min(tiles.len());
        (
            Keep::Recompute,
            wave,
            one + (wave as u64 - 1) * footprint.tile,
        )
    };
    let (found, factor_operations) = planner.count(unit, chunk)?;
    let name = |k: usize| network.parameters[k].name.clone();
    let pairs: Vec<PairPlan> = found
        .into_iter()
        .map(|((row, column, contraction), operations)| PairPlan {
            rows: name(row),
            columns: name(column),
            contraction,
            operations,
        })
        .collect();
    let contraction_operations = pairs.iter().map(|p| p.operations).sum();
    let host_bytes = host + if limits.unified { device_bytes } else { 0 };
    Ok(Plan {
        parts,
        tiles,
        samples: work.samples,
        unit,
        directions: work.directions,
        chunk,
        keep,
        wave,
        pairs,
        factor_operations,
        contraction_operations,
        device_bytes,
        host_bytes,
    })
}
