//! The plan of an exact Hessian, or of its residual, found by running its passes on shapes alone.

use super::footprint::{Pairs, Planner, pieces, under_way};
use super::moves::{Contracted, Move, Moving, Passes, Piece, moves};
use super::plan::{PairPlan, TileJob};
use super::routes::{Costs, Routes};
use super::unit::blank_dual_seed;
use crate::error::Result;
use crate::jacobian::Factor;
use crate::jacobian::passes::Weights;
use crate::tensor::Contract;
use crate::tensor::dual::DualTensor;
use crate::tensor::meter::{Meter, MeterTensor};
use std::collections::{BTreeMap, BTreeSet};

/// Directions of a pass at most: beyond, nothing is left to share.
pub(super) const MOST_DIRECTIONS: usize = 32;

/// The memory of one choice of unit and chunk of directions, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Needs {
    weights: u64,
    /// Peak of a pass and its contractions, without weights and tiles.
    pass: u64,
    /// The largest tile.
    pub(super) tile: u64,
    /// Units of samples that are added to a tile.
    units: u64,
    /// The largest tensor.
    pub(super) largest: u64,
}

impl Needs {
    /// Peak with `wave` tiles under way.
    pub(super) fn peak(&self, wave: u64, unified: bool) -> u64 {
        // As for the factors of G, in `Footprint`.
        let ring = u64::from(!unified);
        self.weights + self.pass + wave * self.tile_under_way(unified) + ring * self.tile
    }

    /// A tile under way.
    pub(super) fn tile_under_way(&self, unified: bool) -> u64 {
        under_way(self.tile, self.units, unified)
    }
}

impl Planner<'_> {
    /// What is moved for which pair of parameters.
    pub(super) fn routes(&self) -> Result<Routes> {
        let Some(parameter) = self.reach.wanted.iter().position(|wanted| *wanted) else {
            return Ok(Routes::default());
        };
        // One direction of the first parameter, the furthest from the output.
        let piece = Piece {
            parameter,
            range: 0..1,
            direction: 0,
        };
        let meter = Meter::new(self.sizes.number_bytes);
        let weights = Weights::upload(&meter, self.network);
        let inputs = self.inputs(&meter, 1);
        let moved = Move::Entries(vec![piece]);
        self.pass(
            &meter,
            (&weights, &inputs),
            &Routes::default(),
            &moved,
            |_| Ok(()),
        )?;
        let samples = self.sizes.samples as u64;
        let costs = Costs {
            direction: meter.operations() * samples,
            samples,
        };
        let outer = self.outer_factors()?;
        Ok(Routes::new(
            self.network,
            self.parts,
            self.tiles,
            &outer,
            costs,
        ))
    }

    /// Whether each parameter's factor is an outer one, as a plain reverse pass finds it.
    fn outer_factors(&self) -> Result<Vec<bool>> {
        let meter = Meter::new(self.sizes.number_bytes);
        let weights = Weights::upload(&meter, self.network);
        let mut outer = Vec::new();
        self.unit(&meter, &weights, 1, 1, |unit| {
            let is_outer = |factor: &Option<Factor<MeterTensor>>| {
                factor.as_ref().is_some_and(|f| f.outer(&meter).is_some())
            };
            outer = unit.factors.iter().map(is_outer).collect();
            Ok(())
        })?;
        Ok(outer)
    }

    /// Runs one pass on inputs and gives what it makes to `visit` while it lives.
    pub(super) fn pass(
        &self,
        meter: &Meter,
        (weights, inputs): (&Weights<MeterTensor>, &[MeterTensor]),
        routes: &Routes,
        made_by: &Move,
        visit: impl FnOnce(Moving<'_, MeterTensor>) -> Result<()>,
    ) -> Result<()> {
        let passes = Passes {
            backend: meter,
            network: self.network,
            weights,
            reach: self.reach,
            routes,
        };
        let mut seed = |meter: &Meter, output: &DualTensor<MeterTensor>| {
            blank_dual_seed(meter, self.sizes.curvature, output)
        };
        visit(passes.run(made_by, inputs, &mut seed)?)
    }

    fn diagonal(&self) -> bool {
        self.parts.iter().any(|p| p.part.columns.is_none())
    }

    /// Measures one choice of unit and chunk.
    pub(super) fn needs(&self, routes: &Routes, samples: usize, chunk: usize) -> Result<Needs> {
        let meter = Meter::new(self.sizes.number_bytes);
        let weights = Weights::upload(&meter, self.network);
        let base = meter.live();
        let tiles = self.samples_of_tiles();
        let most = tiles.first().map_or(0, |job| self.tile_entries(job));
        let tile = (most * self.sizes.number_bytes) as u64;
        // Passes that move the same parameters take the same memory.
        let mut seen = BTreeSet::new();
        let mut all = moves(
            self.network,
            routes,
            self.parts,
            self.tiles,
            self.diagonal(),
            chunk,
        );
        all.retain(|made_by| seen.insert(kind(made_by)));
        meter.reset_peak();
        let inputs = self.inputs(&meter, samples);
        for made_by in &all {
            self.pass(&meter, (&weights, &inputs), routes, made_by, |moving| {
                for job in &tiles {
                    let part = &self.parts[job.part];
                    // Tiles are counted apart.
                    let mut tile = meter.accumulator(0, 0);
                    moving.contract(&meter, routes, part, job, &mut tile, |_| {});
                }
                if self.diagonal() {
                    moving.diagonal(&meter, routes);
                }
                Ok(())
            })?;
        }
        Ok(Needs {
            weights: base,
            pass: meter.peak() - base,
            tile,
            units: self.sizes.samples.div_ceil(samples.max(1)) as u64,
            largest: meter.largest(),
        })
    }

    /// Operations of all contractions by pair of parameters, and of all passes, for waves of so many tiles.
    pub(super) fn count_second(
        &self,
        routes: &Routes,
        unit: usize,
        chunk: usize,
        wave: usize,
    ) -> Result<(Vec<PairPlan>, u64)> {
        let mut pairs = Pairs::new();
        let mut operations = 0;
        let mut waves: Vec<&[TileJob]> = self.tiles.chunks(wave.max(1)).collect();
        if waves.is_empty() {
            waves.push(&[]);
        }
        for (samples, times) in pieces(self.sizes.samples, unit) {
            // Passes that move the same parameters and as many entries do the same work.
            let mut known: BTreeMap<(usize, Vec<usize>), u64> = BTreeMap::new();
            for (k, wave) in waves.iter().enumerate() {
                let diagonal = k == 0 && self.diagonal();
                for made_by in moves(self.network, routes, self.parts, wave, diagonal, chunk) {
                    let meter = Meter::new(self.sizes.number_bytes);
                    let weights = Weights::upload(&meter, self.network);
                    let inputs = self.inputs(&meter, samples);
                    let mut made = |(a, b, rule, operations): Contracted| {
                        *pairs.entry((a, b, rule)).or_default() += operations * times;
                    };
                    let key = (made_by.directions(), kind(&made_by));
                    self.pass(&meter, (&weights, &inputs), routes, &made_by, |moving| {
                        known.entry(key.clone()).or_insert(meter.operations());
                        for job in *wave {
                            let part = &self.parts[job.part];
                            let mut tile = meter.accumulator(0, 0);
                            moving.contract(&meter, routes, part, job, &mut tile, &mut made);
                        }
                        Ok(())
                    })?;
                    operations += known[&key] * times;
                }
            }
        }
        Ok((self.pair_plans(pairs), operations))
    }
}

/// What a pass moves, apart from how many entries.
pub(super) fn kind(made_by: &Move) -> Vec<usize> {
    match made_by {
        Move::PreActivation { moved, .. } => vec![usize::MAX, *moved],
        Move::Entries(pieces) => pieces.iter().map(|p| p.parameter).collect(),
    }
}
