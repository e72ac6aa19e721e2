//! The plan: what will run, in how much memory, found by running it on shapes alone.

use super::counts::Counted;
use super::cut::{check_tiles, strips_of, tile_count, tiles_of};
use super::fit::{Room, room_first, room_second};
use super::footprint::Planner;
use super::lesser::with_what_fits;
use super::request::ResolvedPart;
use super::room::shortage;
use super::routes::Routes;
use super::tiles::{Grid, Strip, Tiling};
use super::ways::{Chosen, Way, choose};
use crate::bytes::Bytes;
use crate::contraction::Contraction;
use crate::error::{Error, Result};
use crate::jacobian::passes::Reach;
use crate::loss::Curvature;
use crate::network::Network;
use crate::sink::{PartLayout, Tile};
use std::ops::Range;

/// Rows of V (samples × directions) in a unit at most, but for [`UNIT_SAMPLES`]: partial sums are cut there (DESIGN §4, §5).
pub const UNIT_ROWS: usize = 4096;

/// Samples in a unit where there are many directions, while its rows are no more than four times [`UNIT_ROWS`]: of less, sums
/// of outer products would be too short to be fast.
pub const UNIT_SAMPLES: usize = 32;

/// Finished tiles of a device on their way to the host at once.
pub const RING: usize = 3;

/// Finished tiles that wait for the writer, or are being written.
pub const WRITING: usize = 2;

/// Entries of all parts at most: a million tiles. What is larger has no disk to go to.
pub const MOST_ENTRIES: u128 = 1 << 42;

/// Numbers that the rows of a diagonal's piece may hold.
pub const DIAGONAL_ROWS: usize = 1 << 22;

/// What the device can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes that tensors and tiles on the device may take together.
    pub device: u64,
    /// Bytes of the host's budget.
    pub host: u64,
    /// Bytes of [`Limits::host`] that are in use already. Host buffers may use the rest.
    pub held: u64,
    /// Devices that share the host's budget; 1 for a single one.
    pub sharing: u64,
    /// Bytes of the largest single tensor.
    pub tensor: u64,
    /// Whether the device's memory is the host's.
    pub unified: bool,
}

impl Limits {
    /// Bytes that the host buffers of one device may take.
    pub fn host_left(&self) -> u64 {
        self.host.saturating_sub(self.held) / self.sharing.max(1)
    }

    /// The clause of a budget message that names the memory in use; empty if there is none.
    pub(crate) fn held_text(&self) -> String {
        match self.held {
            0 => String::new(),
            held => format!("{} of it are in use already, ", Bytes(held.into())),
        }
    }

    /// Bytes that tensors and tiles may take beside so many of host buffers: on the CPU these lie in the same memory.
    pub fn device_beside(&self, host: u64) -> u64 {
        if self.unified {
            self.device.min(self.host_left()).saturating_sub(host)
        } else {
            self.device
        }
    }
}

/// What becomes of the factors between tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    /// Factors of all samples stay on the device, dense rows formed once.
    Rows,
    /// Factors of all samples stay on the device, or dense rows where these are smaller; others are formed per tile.
    Factors,
    /// Factors are recomputed for each wave of tiles.
    Recompute,
}

/// A part with its grid.
#[derive(Clone, Debug)]
pub struct PartPlan {
    /// The part.
    pub part: ResolvedPart,
    /// Its place in the request.
    pub number: usize,
    /// Operations of either way to it, where they were counted for the choice.
    pub counted: Option<Counted>,
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
///
/// If there are more than 20,000 pairs, there is one entry per contraction rule, and `rows` and `columns` are [`PairPlan::ALL`].
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

impl PairPlan {
    /// The name that stands for all parameters, where pairs are summed up.
    pub const ALL: &'static str = "(all)";
}

/// What would run.
///
/// Parts of G that are cheaper forward are planned apart from those that are cheaper backwards ([`Way`]): where a request has
/// both, [`Plan::rest`] is the plan of the former, and the other fields are of the latter alone.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How parts are cut.
    pub grid: Grid,
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
    /// Whether the data of all samples stay on the device from one wave to the next.
    pub keep_data: bool,
    /// What is moved for which pair of parameters, where second derivatives of the network are asked for, and for G
    /// forward.
    pub routes: Option<Routes>,
    /// Contractions by pair of parameters.
    pub pairs: Vec<PairPlan>,
    /// Operations of one pass over all samples that makes the factors; of all passes where parameters are moved.
    pub factor_operations: u64,
    /// Operations of all contractions.
    pub contraction_operations: u64,
    /// Predicted peak on the device.
    pub device_bytes: u64,
    /// Predicted peak of host buffers.
    pub host_bytes: u64,
    /// The plan of the parts that go the other way; it runs after this one.
    pub rest: Option<Box<Plan>>,
    /// What it was made for.
    sizes: Sizes,
    /// What it keeps within.
    limits: Limits,
}

impl PartPlan {
    /// A part that is not cut yet.
    pub(super) fn uncut(part: ResolvedPart) -> Self {
        PartPlan {
            part,
            number: 0,
            counted: None,
            rows: Vec::new(),
            columns: Vec::new(),
        }
    }

    /// Whether the tile, of a grid of squares, is its own mirror.
    pub fn on_diagonal(&self, job: &TileJob) -> bool {
        self.part.symmetric() && job.row == job.column
    }

    /// Rows and columns of the part.
    pub fn extents(&self) -> (usize, usize) {
        let end = |strips: &[Strip]| strips.last().map_or(0, |strip| strip.positions.end);
        (end(&self.rows), end(&self.columns))
    }
}

impl Plan {
    /// This plan and that of the rest, in the order in which they run.
    pub fn stages(&self) -> impl Iterator<Item = &Plan> {
        std::iter::once(self).chain(self.rest.as_deref())
    }

    /// The way of its parts, without the rest.
    pub fn way(&self) -> Way {
        match self.routes {
            Some(_) => Way::Forward,
            None => Way::Backward,
        }
    }

    /// The same parts and tiles in half the device's memory (that of the limits, or what is used of it), or in three
    /// quarters where half is too little. The rest stays as it is.
    ///
    /// # Errors
    /// As [`plan`].
    pub fn halved(&self, network: &Network) -> Result<Plan> {
        let whole = self.limits.device.min(self.device_bytes);
        let within = |device: u64| self.again(network, None, device);
        within(whole / 2).or_else(|refused| within(whole / 4 * 3).map_err(|_| refused))
    }

    /// The same parts and tiles in other units, within so many bytes of the device's memory and no more than before: those of
    /// a run that this one shares a result with.
    ///
    /// # Errors
    /// As [`plan`]; [`Error::Budget`] where the memory does not hold these units.
    pub fn in_units(&self, network: &Network, units: Units, device: u64) -> Result<Plan> {
        let device = device.min(self.limits.device);
        let mut plan = self.again(network, Some(units), device)?;
        if let (Some(rest), Some(units)) = (&self.rest, units.of_rest()) {
            plan.rest = Some(Box::new(rest.again(network, Some(units), device)?));
        }
        Ok(plan)
    }

    /// Its own parts planned anew, in the same way; the rest stays as it is.
    pub(super) fn again(
        &self,
        network: &Network,
        units: Option<Units>,
        device: u64,
    ) -> Result<Plan> {
        let limits = Limits {
            device,
            ..self.limits
        };
        let chosen = |part: &PartPlan| Chosen {
            number: part.number,
            part: part.part.clone(),
            way: self.way(),
            counted: part.counted,
        };
        let parts = self.parts.iter().map(chosen).collect();
        let sizes = Sizes {
            units,
            ..self.sizes
        };
        let plan = stage(network, parts, sizes, limits)?;
        Ok(Plan {
            rest: self.rest.clone(),
            ..plan
        })
    }

    /// What it takes at a time, and the rest.
    pub fn units(&self) -> Units {
        Units {
            samples: self.unit,
            directions: self.chunk,
            rest: self.rest.as_ref().map(|rest| (rest.unit, rest.chunk)),
        }
    }

    /// All parts with the rest's, in the order of the request.
    pub fn all_parts(&self) -> Vec<&PartPlan> {
        let mut parts: Vec<&PartPlan> = self.stages().flat_map(|plan| &plan.parts).collect();
        parts.sort_by_key(|part| part.number);
        parts
    }

    /// The number of tiles, with the rest's.
    pub fn tile_count(&self) -> usize {
        self.stages().map(|plan| plan.tiles.len()).sum()
    }

    /// All parts as a sink knows them, with the rest's.
    pub fn layouts(&self) -> Vec<PartLayout> {
        let parts = self.all_parts().into_iter();
        parts.map(|part| part.part.layout()).collect()
    }

    /// The entries of a tile.
    pub fn tile(&self, job: &TileJob) -> Tile {
        let part = &self.parts[job.part];
        Tile {
            part: part.number,
            rows: part.rows[job.row].positions.clone(),
            columns: part.columns[job.column].positions.clone(),
        }
    }

    /// Whether whoever writes the tile writes its mirror too.
    pub fn mirrored(&self, job: &TileJob) -> bool {
        let part = &self.parts[job.part];
        let halved = part.part.symmetric() && self.grid.above_the_diagonal();
        halved && !part.on_diagonal(job)
    }

    /// How its parts are cut.
    pub fn tiling(&self) -> Tiling {
        self.sizes.tiling
    }

    /// What decides the order of accumulation, and so the bits (DESIGN §4).
    pub fn order(&self) -> serde_json::Value {
        let mut order = serde_json::json!({
            "unit_samples": self.unit,
            "unit_directions": self.chunk,
            "batch": self.sizes.batch,
            "grid": self.grid,
            "tile": self.grid.tile(self.sizes.tiling),
            "regular": self.sizes.tiling.regular,
        });
        if self.chose_forward() {
            order["way"] = serde_json::json!(Way::Forward);
        }
        if let Some(rest) = &self.rest {
            let numbers: Vec<usize> = rest.parts.iter().map(|part| part.number).collect();
            order["rest"] = rest.order();
            order["rest"]["parts"] = serde_json::json!(numbers);
        }
        order
    }

    /// Whether its parts go forward where they could go backwards.
    pub(super) fn chose_forward(&self) -> bool {
        self.routes.is_some() && !self.sizes.curvature.needs_second_derivatives()
    }

    /// What it was made for.
    pub(super) fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// Bytes of a number.
    pub fn number_bytes(&self) -> usize {
        self.sizes.number_bytes
    }

    /// Bytes that it keeps within on the device.
    pub fn device_budget(&self) -> u64 {
        self.limits.device
    }

    /// Bytes that it keeps within in host buffers.
    pub(super) fn host_budget(&self) -> u64 {
        self.limits.host_left()
    }

    /// Whether the device's memory is the host's.
    pub fn is_unified(&self) -> bool {
        self.limits.unified
    }

    /// Number of passes over the data.
    pub fn passes(&self) -> usize {
        match self.keep {
            Keep::Recompute => self.tiles.len().div_ceil(self.wave.max(1)).max(1),
            _ => 1,
        }
    }

    /// Operations of all forward and reverse passes, without the rest's.
    pub fn pass_operations(&self) -> u64 {
        match self.routes {
            // Each wave makes the passes that it needs.
            Some(_) => self.factor_operations,
            None => self.factor_operations * self.passes() as u64,
        }
    }

    /// All floating-point operations, with the rest's.
    pub fn operations(&self) -> u64 {
        self.stages().map(Plan::own_operations).sum()
    }

    /// All floating-point operations of its own parts.
    pub(super) fn own_operations(&self) -> u64 {
        self.pass_operations() + self.contraction_operations
    }

    /// Operations of passes and of contractions for a share of the tiles: where factors are kept they are made for whatever
    /// is left.
    pub fn operations_of(&self, fraction: f64) -> (u64, u64) {
        let share = |operations: u64, share: f64| (operations as f64 * share) as u64;
        let passes = share(self.pass_operations(), self.share_of_passes(fraction));
        (passes, share(self.contraction_operations, fraction))
    }

    /// The share of its passes that a share of its tiles takes: all where factors are kept.
    pub fn share_of_passes(&self, fraction: f64) -> f64 {
        match self.keep {
            Keep::Recompute => fraction,
            _ if fraction > 0.0 => 1.0,
            _ => 0.0,
        }
    }

    /// Entries of all parts, with the rest's.
    pub fn entries(&self) -> u128 {
        self.stages().map(Plan::own_entries).sum()
    }

    /// Entries of its own parts.
    pub(crate) fn own_entries(&self) -> u128 {
        self.parts.iter().map(|p| p.part.entries()).sum()
    }

    /// The ranges of samples of the units.
    pub fn unit_ranges(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        (0..self.samples)
            .step_by(self.unit)
            .map(|start| start..(start + self.unit).min(self.samples))
    }
}

/// The numbers that a plan is made of, apart from the network.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Number of samples.
    pub samples: usize,
    /// Directions R of the loss.
    pub directions: usize,
    /// Whether directions carry signs.
    pub signed: bool,
    /// The matrix that is meant.
    pub curvature: Curvature,
    /// Bytes of a number.
    pub number_bytes: usize,
    /// Numbers in a sample's target.
    pub target: usize,
    /// Samples per unit where the user sets it.
    pub batch: Option<usize>,
    /// Units as they are to be, of a run that is gone on with.
    pub units: Option<Units>,
    /// How parts are cut; squares where second derivatives are asked for.
    pub grid: Grid,
    /// How large tiles are.
    pub tiling: Tiling,
    /// The way of all parts; `None` chooses by counted operations.
    pub way: Option<Way>,
}

/// What is taken at a time: partial sums are cut there, so that it decides how they are rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Units {
    /// Samples of a unit.
    pub samples: usize,
    /// Directions of a pass.
    pub directions: usize,
    /// Samples and directions of the parts that go the other way, where a request has such ([`Plan::rest`]).
    pub rest: Option<(usize, usize)>,
}

impl Units {
    /// Those of the rest.
    fn of_rest(self) -> Option<Units> {
        self.rest.map(|(samples, directions)| Units {
            samples,
            directions,
            rest: None,
        })
    }
}

impl Sizes {
    /// Sizes for G in single precision, in squares.
    #[cfg(test)]
    pub(super) fn of_test(samples: usize, directions: usize) -> Sizes {
        Sizes {
            samples,
            directions,
            signed: false,
            curvature: Curvature::Ggn,
            number_bytes: 4,
            target: 1,
            batch: None,
            units: None,
            grid: Grid::Squares,
            tiling: Tiling::default(),
            way: None,
        }
    }

    /// Units of `unit` samples and `chunk` directions.
    pub(super) fn units(&self, unit: usize, chunk: usize) -> u64 {
        (self.samples.div_ceil(unit.max(1)) * self.directions.div_ceil(chunk.max(1))) as u64
    }
}

/// The parameters that any part touches.
pub fn wanted<'a>(
    network: &Network,
    parts: impl Iterator<Item = &'a ResolvedPart> + Clone,
) -> Vec<bool> {
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
            parts.clone().any(|part| {
                touches(&part.rows, &own) || part.columns.as_ref().is_some_and(|c| touches(c, &own))
            })
        })
        .collect()
}

/// Plans the parts: grid, unit, what is kept, contractions, operations and memory.
///
/// # Errors
/// [`Error::Budget`] with the arithmetic where not even one sample, one direction and one tile fit, the least budget that would
/// do, and parts that fit; [`Error::Request`] for parts that no disk could hold, with those that could be had.
pub fn plan(
    network: &Network,
    parts: Vec<ResolvedPart>,
    sizes: Sizes,
    limits: Limits,
) -> Result<Plan> {
    let asked = parts.clone();
    attempt(network, parts, sizes, limits).map_err(|error| match sizes.units {
        // What it goes on with is of these parts and no others.
        Some(_) => error,
        None => with_what_fits(error, network, &asked, sizes, limits),
    })
}

/// Parts cut into tiles, before it is known in what units they are made.
struct Cut {
    reach: Reach,
    grid: Grid,
    parts: Vec<PartPlan>,
    tiles: Vec<TileJob>,
}

impl Cut {
    /// Cuts parts that go one way.
    ///
    /// # Errors
    /// [`Error::Budget`] where the budget does not hold the list of tiles.
    fn new(network: &Network, parts: Vec<Chosen>, sizes: Sizes, limits: Limits) -> Result<Cut> {
        let reach = Reach::new(network, wanted(network, parts.iter().map(|p| &p.part)));
        let cut = match parts.first().map(|part| part.way) {
            Some(Way::Forward) => Grid::Squares,
            _ => sizes.grid,
        };
        let parts = strips_of(network, parts, cut, sizes.tiling);
        let count = parts.iter().map(|part| tile_count(part, cut)).sum();
        check_tiles(count, cut.tile(sizes.tiling), limits)?;
        let tiles = tiles_of(&parts, cut);
        Ok(Cut {
            reach,
            grid: cut,
            parts,
            tiles,
        })
    }

    fn planner<'a>(&'a self, network: &'a Network, sizes: Sizes) -> Planner<'a> {
        Planner {
            network,
            reach: &self.reach,
            parts: &self.parts,
            tiles: &self.tiles,
            sizes,
            grid: self.grid,
        }
    }
}

/// Whether parts have room, in whatever units: as [`attempt`] finds it, without what it counts beyond.
pub(super) fn has_room(
    network: &Network,
    parts: Vec<ResolvedPart>,
    sizes: Sizes,
    limits: Limits,
) -> bool {
    let found = |(parts, sizes): (Vec<Chosen>, Sizes)| {
        let way = parts.first().map(|part| part.way);
        let cut = Cut::new(network, parts, sizes, limits)?;
        let planner = cut.planner(network, sizes);
        match way {
            Some(Way::Forward) => room_second(&planner, &planner.routes()?, limits).map(|_| ()),
            _ => room_first(&planner, limits).map(|_| ()),
        }
    };
    let stages = stages(network, parts, sizes);
    stages.is_ok_and(|stages| stages.into_iter().all(|stage| found(stage).is_ok()))
}

/// Checks the sizes of parts, chooses their ways, and puts those of the same way together: those that go backwards first,
/// each with what its plan is made for. One stage at least.
fn stages(
    network: &Network,
    parts: Vec<ResolvedPart>,
    sizes: Sizes,
) -> Result<Vec<(Vec<Chosen>, Sizes)>> {
    check_size(network, &parts, sizes.number_bytes)?;
    let chosen = choose(network, parts, sizes)?;
    let backward = |part: &Chosen| part.way == Way::Backward;
    let (backward, forward): (Vec<_>, Vec<_>) = chosen.into_iter().partition(backward);
    let of_rest = Sizes {
        units: sizes.units.and_then(Units::of_rest),
        ..sizes
    };
    Ok(match (backward.is_empty(), forward.is_empty()) {
        (true, false) => vec![(forward, sizes)],
        (_, true) => vec![(backward, sizes)],
        (false, false) => vec![(backward, sizes), (forward, of_rest)],
    })
}

/// As [`plan`], without a word on what would fit.
fn attempt(
    network: &Network,
    parts: Vec<ResolvedPart>,
    sizes: Sizes,
    limits: Limits,
) -> Result<Plan> {
    let mut later: Option<Box<Plan>> = None;
    for (parts, sizes) in stages(network, parts, sizes)?.into_iter().rev() {
        let plan = stage(network, parts, sizes, limits)?;
        later = Some(Box::new(Plan {
            rest: later,
            ..plan
        }));
    }
    Ok(*later.expect("a request has one stage at least"))
}

/// Plans parts that go one way.
fn stage(network: &Network, parts: Vec<Chosen>, sizes: Sizes, limits: Limits) -> Result<Plan> {
    let way = parts.first().map(|part| part.way);
    let cut = Cut::new(network, parts, sizes, limits)?;
    let planner = cut.planner(network, sizes);
    if way == Some(Way::Forward) {
        let mut plan = plan_second(&planner, limits)?;
        (plan.parts, plan.tiles) = (cut.parts, cut.tiles);
        return Ok(plan);
    }
    let Room {
        needs: footprint,
        unit,
        chunk,
        host,
        device,
    } = room_first(&planner, limits)?;
    let tiles = &cut.tiles;
    let count = sizes.units(unit, chunk);
    let rows = footprint.keep_rows(count, limits.unified);
    let factors = footprint.keep_factors(count, limits.unified);
    let mut kept_data = 0;
    let (keep, wave, device_bytes) = if tiles.is_empty() {
        (Keep::Recompute, 1, footprint.recompute(1, limits.unified))
    } else if rows <= device && footprint.largest_rows <= limits.tensor {
        (Keep::Rows, tiles.len(), rows)
    } else if factors <= device {
        (Keep::Factors, tiles.len(), factors)
    } else {
        let one = footprint.recompute(1, limits.unified);
        let tile = footprint.tile_under_way(limits.unified);
        let (more, data) = tiles_beside_data(network, sizes, device - one, tile);
        let wave = match cut.grid {
            // Strips of one memory.
            Grid::Whole => tiles.len() as u64,
            _ => (1 + more).min(tiles.len() as u64),
        };
        if wave < tiles.len() as u64 {
            kept_data = data;
        }
        (
            Keep::Recompute,
            wave as usize,
            footprint.recompute(wave, limits.unified) + kept_data,
        )
    };
    let (pairs, factor_operations) = planner.count(unit, chunk)?;
    let contraction_operations = pairs.iter().map(|p| p.operations).sum();
    let host_bytes = host + if limits.unified { device_bytes } else { 0 };
    Ok(Plan {
        grid: cut.grid,
        parts: cut.parts,
        tiles: cut.tiles,
        samples: sizes.samples,
        unit,
        directions: sizes.directions,
        chunk,
        keep,
        wave,
        keep_data: kept_data > 0,
        routes: None,
        pairs,
        factor_operations,
        contraction_operations,
        device_bytes,
        host_bytes,
        rest: None,
        sizes,
        limits,
    })
}

/// Plans the planner's tiles of what is moved: H, H − G, or G forward; the caller puts parts and tiles in.
fn plan_second(planner: &Planner<'_>, limits: Limits) -> Result<Plan> {
    let (network, sizes) = (planner.network, planner.sizes);
    let routes = planner.routes()?;
    let Room {
        needs,
        unit,
        chunk,
        host,
        device,
    } = room_second(planner, &routes, limits)?;
    let tile = needs.tile_under_way(limits.unified);
    let room = device - needs.peak(1, limits.unified);
    let (more, data) = tiles_beside_data(network, sizes, room, tile);
    let all = planner.tiles.len().max(1) as u64;
    let wave = (1 + more).min(all);
    let kept_data = if wave < all { data } else { 0 };
    let (pairs, factor_operations) = planner.count_second(&routes, unit, chunk, wave as usize)?;
    let device_bytes = needs.peak(wave, limits.unified) + kept_data;
    Ok(Plan {
        grid: planner.grid,
        parts: Vec::new(),
        tiles: Vec::new(),
        samples: sizes.samples,
        unit,
        directions: sizes.directions,
        chunk,
        keep: Keep::Recompute,
        wave: wave as usize,
        keep_data: kept_data > 0,
        routes: Some(routes),
        contraction_operations: pairs.iter().map(|p| p.operations).sum(),
        pairs,
        factor_operations,
        device_bytes,
        host_bytes: host + if limits.unified { device_bytes } else { 0 },
        rest: None,
        sizes,
        limits,
    })
}

/// Tiles that fit into `room` bytes, and the bytes of the data of all samples, where they leave as much to tiles: every wave
/// would upload them anew. 0 where they do not.
fn tiles_beside_data(network: &Network, sizes: Sizes, room: u64, tile: u64) -> (u64, u64) {
    let numbers: usize = network
        .inputs
        .iter()
        .map(|input| input.rest.iter().product::<usize>())
        .sum();
    let data = sizes.samples as u64 * numbers as u64 * sizes.number_bytes as u64;
    let data = if 2 * data <= room { data } else { 0 };
    ((room - data) / tile.max(1), data)
}

/// Refuses parts that nothing could hold, with the arithmetic.
fn check_size(network: &Network, parts: &[ResolvedPart], number_bytes: usize) -> Result<()> {
    let most = MOST_ENTRIES * number_bytes as u128;
    let holder = format!("no more than {} can be planned", Bytes(most));
    match shortage(network, parts, number_bytes, most, &holder)? {
        Some(message) => Err(Error::Request(message)),
        None => Ok(()),
    }
}
