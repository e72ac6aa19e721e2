//! What a unit and a tile take, measured by running them on shapes alone.

use super::contractions::{Contractions, PairSums};
use super::parts::{PairPlan, PartPlan, TileJob};
use super::sizes::{DIAGONAL_ROWS, Sizes};
use super::tiles::{Grid, Strip};
use crate::error::Result;
use crate::jacobian::passes::{Passes, Reach, Weights};
use crate::jacobian::seeds::BlankSeeds;
use crate::jacobian::unit::{Unit, units};
use crate::network::Network;
use crate::tensor::meter::{Meter, MeterTensor};
use crate::tensor::{Backend, HostSlice, Shape};
use std::collections::{BTreeMap, BTreeSet};

/// The memory of one choice of unit and chunk of directions, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Footprint {
    /// Parameters and constants.
    weights: u64,
    /// Peak while a unit is made, without weights.
    making: u64,
    /// What lives while a unit is used: activations, seeds and its factors.
    alive: u64,
    /// A unit's factors with dense rows formed where they are smaller, and with all of them formed.
    kept_smaller: u64,
    kept_rows: u64,
    /// The most that forming rows takes on the way, where they are smaller, and all of them.
    forming_smaller: u64,
    forming_rows: u64,
    /// Temporaries of a tile, or of the diagonal.
    temporary: u64,
    /// The largest tile.
    pub(super) tile: u64,
    /// Units that are added to a tile.
    count: u64,
    /// The largest tensor, and that where dense rows are formed for whole parameters.
    pub(super) largest: u64,
    pub(super) largest_rows: u64,
}

impl Footprint {
    /// A tile on its way is in the host's staging buffers, its own is free for the next; one is counted for what memory
    /// in size classes takes beyond. On the CPU finished tiles count as the host's.
    fn ring(&self, unified: bool) -> u64 {
        if unified { 0 } else { self.tile }
    }

    /// A tile under way: on a device of its own memory also what sums over several units have lost, a number for each.
    pub(super) fn tile_under_way(&self, unified: bool) -> u64 {
        under_way(self.tile, self.count, unified)
    }

    /// Peak where each unit is used while its activations live, with `wave` tiles under way.
    pub(super) fn recompute(&self, wave: u64, unified: bool) -> u64 {
        let using = self.alive + self.temporary;
        self.weights
            + wave * self.tile_under_way(unified)
            + self.making.max(using)
            + self.ring(unified)
    }

    /// Peak where the factors of `count` units are kept.
    pub(super) fn keep_factors(&self, count: u64, unified: bool) -> u64 {
        self.keep(self.kept_smaller, self.forming_smaller, count, unified)
    }

    /// Peak where the factors of `count` units are kept with their dense rows.
    pub(super) fn keep_rows(&self, count: u64, unified: bool) -> u64 {
        self.keep(self.kept_rows, self.forming_rows, count, unified)
    }

    /// Peak where `formed` bytes are kept of each of `count` units.
    fn keep(&self, formed: u64, forming: u64, count: u64, unified: bool) -> u64 {
        let forming = self.alive + formed + forming;
        let making = count.saturating_sub(1) * formed + self.making.max(forming);
        let using =
            count * formed + self.tile_under_way(unified) + self.temporary + self.ring(unified);
        self.weights + making.max(using)
    }
}

/// Bytes of a tile of `tile` bytes to which `count` units are added.
pub(super) fn under_way(tile: u64, count: u64, unified: bool) -> u64 {
    if unified || count == 1 {
        tile
    } else {
        2 * tile
    }
}

/// Runs units and tiles on a [`Meter`].
pub(super) struct Planner<'a> {
    pub(super) network: &'a Network,
    pub(super) reach: &'a Reach,
    pub(super) parts: &'a [PartPlan],
    pub(super) tiles: &'a [TileJob],
    pub(super) sizes: Sizes,
    pub(super) grid: Grid,
}

impl<'a> Planner<'a> {
    /// A planner for passes to the parameters of `reach`, without parts.
    pub(super) fn of_passes(network: &'a Network, reach: &'a Reach, sizes: Sizes) -> Self {
        Planner {
            network,
            reach,
            parts: &[],
            tiles: &[],
            sizes,
            grid: sizes.grid,
        }
    }

    /// Whether a part is a diagonal.
    pub(super) fn diagonal(&self) -> bool {
        self.parts.iter().any(|p| p.part.columns.is_none())
    }

    /// The inputs of so many samples.
    pub(super) fn inputs(&self, meter: &Meter, samples: usize) -> Vec<MeterTensor> {
        let inputs = self.network.inputs.iter().map(|input| {
            let shape = Shape::new(samples, 1, &input.rest);
            meter.upload(&shape, HostSlice::F32(&[]))
        });
        inputs.collect()
    }

    /// Makes one unit of `samples` and `chunk` directions and gives it to `visit` while its trace lives.
    pub(super) fn unit(
        &self,
        meter: &Meter,
        weights: &Weights<MeterTensor>,
        samples: usize,
        chunk: usize,
        visit: impl FnMut(Unit<MeterTensor>) -> Result<()>,
    ) -> Result<()> {
        let inputs = self.inputs(meter, samples);
        let mut seeds = BlankSeeds {
            signed: self.sizes.signed,
        };
        let passes = Passes::new(meter, self.network, weights, self.reach);
        units(&passes, inputs, 0..chunk, chunk, &mut seeds, visit)
    }

    /// One tile for every combination of parameters that tiles meet, the largest: others are like it.
    pub(super) fn samples_of_tiles(&self) -> Vec<&TileJob> {
        // Strips of the same parameters have the same number.
        let mut numbers: BTreeMap<Vec<usize>, usize> = BTreeMap::new();
        let mut number = |strip: &Strip| {
            let parameters = strip.spans.iter().map(|span| span.parameter).collect();
            let next = numbers.len();
            *numbers.entry(parameters).or_insert(next)
        };
        let mut of = |strips: &[Strip]| strips.iter().map(&mut number).collect::<Vec<_>>();
        let strips: Vec<_> = self
            .parts
            .iter()
            .map(|p| (of(&p.rows), of(&p.columns)))
            .collect();
        let mut seen = BTreeSet::new();
        let mut order: Vec<&TileJob> = self.tiles.iter().collect();
        order.sort_by_key(|job| std::cmp::Reverse(self.tile_entries(job)));
        order.retain(|job| {
            let (rows, columns) = &strips[job.part];
            seen.insert((rows[job.row], columns[job.column]))
        });
        order
    }

    pub(super) fn tile_entries(&self, job: &TileJob) -> usize {
        let part = &self.parts[job.part];
        part.rows[job.row].positions.len() * part.columns[job.column].positions.len()
    }

    /// Measures one choice of unit and chunk.
    pub(super) fn footprint(&self, samples: usize, chunk: usize) -> Result<Footprint> {
        let meter = Meter::new(self.sizes.number_bytes);
        let weights = Weights::upload(&meter, self.network);
        let base = meter.live();
        let tiles = self.samples_of_tiles();
        // A part that stays where it is accumulated is the caller's memory.
        let most = match self.grid {
            Grid::Whole => 0,
            _ => tiles.first().map_or(0, |job| self.tile_entries(job)),
        };
        let mut footprint = Footprint {
            weights: base,
            tile: most as u64 * self.sizes.number_bytes as u64,
            count: self.sizes.units(samples, chunk),
            ..Footprint::default()
        };
        let mut made = None;
        self.unit(&meter, &weights, samples, chunk, |unit| {
            footprint.making = meter.peak() - base;
            let live = meter.live();
            footprint.alive = live - base;
            let mut contractions = Contractions::new(&meter, &unit);
            for job in &tiles {
                let part = &self.parts[job.part];
                contractions.tile(part, job, self.grid, |_, made| {
                    footprint.temporary = footprint.temporary.max(made.temporary);
                });
            }
            if self.diagonal() {
                meter.reset_peak();
                for factor in unit.factors.iter().flatten() {
                    factor.squares(&meter, unit.signs.as_ref(), DIAGONAL_ROWS);
                }
                footprint.temporary = footprint.temporary.max(meter.peak() - live);
            }
            made = Some(unit);
            Ok(())
        })?;
        // The trace is gone: what is alive is what keeping the unit takes, activations that factors read included.
        let mut unit = made.expect("a range of directions is one unit");
        // Forming rows takes more than they do: those of every site, and their sum.
        let mut forming = footprint.temporary;
        let mut keep = |smaller: bool| {
            for factor in unit.factors.iter_mut().flatten() {
                meter.reset_peak();
                let before = meter.live();
                factor.keep_rows(&meter, smaller);
                forming = forming.max(meter.peak() - before);
            }
            (meter.live() - base, meter.largest(), forming)
        };
        (
            footprint.kept_smaller,
            footprint.largest,
            footprint.forming_smaller,
        ) = keep(true);
        (
            footprint.kept_rows,
            footprint.largest_rows,
            footprint.forming_rows,
        ) = keep(false);
        Ok(footprint)
    }

    /// Operations of all contractions by pair of parameters, and of one pass that makes the factors.
    pub(super) fn count(&self, unit: usize, chunk: usize) -> Result<(Vec<PairPlan>, u64)> {
        let mut sums = PairSums::new(self.parts);
        let mut factor_operations = 0;
        for (samples, times) in pieces(self.sizes.samples, unit) {
            for (directions, repeat) in pieces(self.sizes.directions, chunk) {
                let meter = Meter::new(self.sizes.number_bytes);
                let weights = Weights::upload(&meter, self.network);
                self.unit(&meter, &weights, samples, directions, |unit| {
                    factor_operations += meter.operations() * times * repeat;
                    let mut contractions = Contractions::new(&meter, &unit);
                    for job in self.tiles {
                        let part = &self.parts[job.part];
                        contractions.tile(part, job, self.grid, |pair, made| {
                            sums.enter(pair, made.rule, made.operations * times * repeat);
                        });
                    }
                    Ok(())
                })?;
            }
        }
        Ok((sums.pair_plans(self.network), factor_operations))
    }
}

/// Cuts `total` into pieces of `size`: (size of a piece, how often).
pub(super) fn pieces(total: usize, size: usize) -> impl Iterator<Item = (usize, u64)> {
    [(size, (total / size) as u64), (total % size, 1)]
        .into_iter()
        .filter(|&(size, times)| size > 0 && times > 0)
}
