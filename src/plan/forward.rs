//! The plan of parts that go forward (an exact Hessian, its residual, or G from tangents), found by running the passes on
//! shapes alone.

use super::contractions::PairSums;
use super::counts::{Counts, product, weighed};
use super::footprint::{Planner, pieces, under_way};
use super::parts::{PairPlan, TileJob};
use super::routes::{Costs, Routes};
use super::sizes::MOST_DIRECTIONS;
use super::tangents::{self, Contracted, tangent_groups};
use crate::cache::Cache;
use crate::error::Result;
use crate::jacobian::Factor;
use crate::jacobian::hessian::{
    Candidates, Entries, Factors, GroupFactors, GroupPasses, Piece, REACHES, Reaches, TangentGroup,
};
use crate::jacobian::passes::Weights;
use crate::jacobian::seeds::blank_dual_seed;
use crate::tensor::dual::DualTensor;
use crate::tensor::meter::{Meter, MeterTensor};
use crate::tensor::{Contract, Tally};
use std::collections::BTreeSet;
use std::rc::Rc;

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
    /// The list of groups of tangents, on the host.
    pub(super) groups: u64,
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
    /// The entries that have tangents for each pair of parameters.
    pub(super) fn routes(&self) -> Result<Routes> {
        let network = self.network;
        if !self.second() {
            return Ok(Counts::new(self)?.routes(self.parts, self.reach));
        }
        let samples = self.sizes.samples as u64;
        let costs = Costs {
            direction: self.direction()?.saturating_mul(samples),
            samples,
        };
        let candidates = Candidates::new(network, &self.outer_factors()?).second(network);
        Ok(Routes::new(network, self.parts, &candidates, costs))
    }

    /// Bytes of host memory that the routes take, with what their passes keep of which value reaches which parameter.
    pub(super) fn route_bytes(&self, routes: &Routes) -> u64 {
        let values = self.network.inputs.len() + self.network.nodes.len();
        let parameters = self.network.parameters.len();
        let reach = values + parameters * (1 + size_of::<usize>());
        routes.bytes() + (REACHES * reach) as u64
    }

    /// Whether second derivatives of the network are part of the matrix.
    fn second(&self) -> bool {
        self.sizes.curvature.needs_second_derivatives()
    }

    /// Operations that a sample takes for one direction: of a pass with a tangent of the first parameter, the furthest
    /// from the output, and goes back to all that are wanted. What does not depend on directions is shared by as many as a
    /// pass has.
    pub(super) fn direction(&self) -> Result<u64> {
        let wanted: Vec<usize> = (0..self.reach.wanted.len())
            .filter(|&k| self.reach.wanted[k])
            .collect();
        let Some(&parameter) = wanted.first() else {
            return Ok(0);
        };
        let piece = Piece {
            parameter,
            range: 0..1,
            direction: 0,
        };
        let meter = Meter::new(self.sizes.number_bytes);
        let weights = Weights::upload(&meter, self.network);
        let inputs = self.inputs(&meter, 1);
        let group = TangentGroup {
            entries: Entries::Parameters(vec![piece]),
            wanted: wanted.into(),
        };
        self.group_factors(&meter, (&weights, &inputs), &Routes::default(), &group)?;
        let pass = weighed(&meter);
        let (forward, back) = self.plain_pass()?;
        let shared = forward + if self.second() { back } else { 0 };
        let shared = shared.min(pass);
        let own = pass - shared + shared / MOST_DIRECTIONS as u64;
        Ok(own.saturating_add(product(self.network, self.sizes)))
    }

    /// Operations of a sample's forward pass, and of a direction of its reverse pass with its seed.
    pub(super) fn plain_pass(&self) -> Result<(u64, u64)> {
        let count = |directions: usize| {
            let meter = Meter::new(self.sizes.number_bytes);
            let weights = Weights::upload(&meter, self.network);
            let mut operations = 0;
            self.unit(&meter, &weights, 1, directions, |_| {
                operations = weighed(&meter);
                Ok(())
            })?;
            Ok(operations)
        };
        let (one, two): (u64, u64) = (count(1)?, count(2)?);
        let back = two.saturating_sub(one);
        Ok((one.saturating_sub(back), back))
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

    /// Runs the pass of one group on inputs.
    fn group_factors<'g>(
        &self,
        meter: &Meter,
        (weights, inputs): (&Weights<MeterTensor>, &[MeterTensor]),
        routes: &Routes,
        group: &'g TangentGroup,
    ) -> Result<GroupFactors<'g, MeterTensor>> {
        let passes = GroupPasses {
            backend: meter,
            network: self.network,
            weights,
            reaches: &Reaches::new(self.network, self.reach),
            pre_activations: &routes.pre_activations,
            second: self.second(),
        };
        let mut seed = |meter: &Meter, output: &DualTensor<MeterTensor>| {
            blank_dual_seed(meter, self.sizes.curvature, output)
        };
        passes.run(group, inputs, &mut seed)
    }

    /// The most directions that a pass has, of no more than [`MOST_DIRECTIONS`].
    pub(super) fn most_directions(&self, routes: &Routes) -> usize {
        let (network, diagonal) = (self.network, self.diagonal());
        let (parts, tiles) = (self.parts, self.tiles);
        let all = tangent_groups(network, routes, parts, tiles, diagonal, MOST_DIRECTIONS);
        all.iter()
            .map(TangentGroup::directions)
            .max()
            .unwrap_or(1)
            .max(1)
    }

    /// Measures one choice of unit and chunk.
    ///
    /// It ends early once `go_on` is false for what was measured so far.
    pub(super) fn needs(
        &self,
        routes: &Routes,
        samples: usize,
        chunk: usize,
        go_on: impl Fn(&Needs) -> bool,
    ) -> Result<Needs> {
        let meter = Meter::new(self.sizes.number_bytes);
        let weights = Weights::upload(&meter, self.network);
        let base = meter.live();
        let tiles = self.samples_of_tiles();
        let most = tiles.first().map_or(0, |job| self.tile_entries(job));
        let tile = (most * self.sizes.number_bytes) as u64;
        // Passes with tangents of the same parameters take the same memory.
        let mut seen = BTreeSet::new();
        let mut all = tangent_groups(
            self.network,
            routes,
            self.parts,
            self.tiles,
            self.diagonal(),
            chunk,
        );
        let bytes = |k: usize| all[k].bytes(k.checked_sub(1).map(|before| &all[before]));
        let listed = (0..all.len()).map(bytes).sum();
        all.retain(|group| seen.insert(kind(group)));
        meter.reset_peak();
        let inputs = self.inputs(&meter, samples);
        let so_far = || Needs {
            weights: base,
            pass: meter.peak() - base,
            tile,
            units: self.sizes.samples.div_ceil(samples.max(1)) as u64,
            largest: meter.largest(),
            groups: listed,
        };
        for group in &all {
            if !go_on(&so_far()) {
                break;
            }
            let factors = self.group_factors(&meter, (&weights, &inputs), routes, group)?;
            for job in &tiles {
                let own = (&self.parts[job.part], *job);
                // Tiles are counted apart.
                let mut tile = meter.accumulator(0, 0);
                tangents::contract(&meter, &factors, routes, own, &mut tile, |_| {});
            }
            if self.diagonal() {
                tangents::diagonal(&meter, &factors, routes);
            }
        }
        Ok(so_far())
    }

    /// Operations of all contractions by pair of parameters, and of all passes, for waves of so many tiles.
    pub(super) fn count_forward(
        &self,
        routes: &Routes,
        unit: usize,
        chunk: usize,
        wave: usize,
    ) -> Result<(Vec<PairPlan>, u64)> {
        let mut sums = PairSums::new(self.parts);
        let mut operations = 0;
        for (samples, times) in pieces(self.sizes.samples, unit) {
            let mut known = Known::new(self, routes, samples);
            for (wave, all) in waves(self.tiles, wave, self.diagonal()) {
                let all = tangent_groups(self.network, routes, self.parts, wave, all, chunk);
                for group in &all {
                    let (meter, factors, pass) = known.pass(group)?;
                    operations += pass.operations * times;
                    for job in wave {
                        let own = (&self.parts[job.part], job);
                        let mut tile = meter.accumulator(0, 0);
                        let mut made = |(a, b, rule, operations): Contracted| {
                            sums.enter((a, b), rule, operations * times);
                        };
                        tangents::contract(&meter, &factors, routes, own, &mut tile, &mut made);
                    }
                }
            }
        }
        Ok((sums.pair_plans(self.network), operations))
    }
}

/// Tiles in waves of so many, one wave at least, and whether the wave makes the diagonal too: the first does, where it is asked
/// for.
pub(super) fn waves(
    tiles: &[TileJob],
    wave: usize,
    diagonal: bool,
) -> impl Iterator<Item = (&[TileJob], bool)> {
    let none = tiles.is_empty().then_some(tiles);
    let waves = tiles.chunks(wave.max(1)).chain(none);
    waves
        .enumerate()
        .map(move |(k, wave)| (wave, diagonal && k == 0))
}

/// The parameters that have tangents in a pass, without the number of entries, and how far back the pass goes.
type Alike = (Vec<usize>, Rc<[usize]>);

fn kind(group: &TangentGroup) -> Alike {
    let own = match &group.entries {
        Entries::PreActivation { number, .. } => vec![usize::MAX, *number],
        Entries::Parameters(pieces) => pieces.iter().map(|p| p.parameter).collect(),
    };
    (own, Rc::clone(&group.wanted))
}

/// The work of a pass.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pass {
    pub(super) operations: u64,
    pub(super) tally: Tally,
}

/// The maximum number of factors of cached passes.
const CACHED: usize = 1 << 14;

/// Caches passes on shapes. Passes with tangents of the same parameters, as many entries of each, back to the same parameters do the
/// same work.
pub(super) struct Known<'p> {
    planner: &'p Planner<'p>,
    routes: &'p Routes,
    samples: usize,
    passes: Cache<(Vec<usize>, Alike), Measured>,
}

/// A pass that was run on shapes: where, what it made, and what it took.
type Measured = (Meter, Rc<Factors<MeterTensor>>, Pass);

impl<'p> Known<'p> {
    /// Passes over units of so many samples.
    pub(super) fn new(planner: &'p Planner<'p>, routes: &'p Routes, samples: usize) -> Self {
        Known {
            planner,
            routes,
            samples,
            passes: Cache::new(CACHED),
        }
    }

    /// The results of a pass, on its meter, and its work without the upload of weights and inputs.
    pub(super) fn pass<'g>(
        &mut self,
        group: &'g TangentGroup,
    ) -> Result<(Meter, GroupFactors<'g, MeterTensor>, Pass)> {
        let lengths = match &group.entries {
            Entries::PreActivation { range, .. } => vec![range.len()],
            Entries::Parameters(pieces) => pieces.iter().map(|p| p.range.len()).collect(),
        };
        let key = (lengths, kind(group));
        if let Some((meter, factors, pass)) = self.passes.get(&key) {
            let factors = GroupFactors::new(group, Rc::clone(factors));
            return Ok((meter.clone(), factors, *pass));
        }
        let planner = self.planner;
        let meter = Meter::new(planner.sizes.number_bytes);
        let weights = Weights::upload(&meter, planner.network);
        let inputs = planner.inputs(&meter, self.samples);
        let before = meter.tally();
        let of = (&weights, &inputs[..]);
        let made = planner.group_factors(&meter, of, self.routes, group)?;
        let pass = Pass {
            operations: meter.operations(),
            tally: meter.tally() - before,
        };
        let factors = Rc::clone(made.factors());
        let weight = factors.count();
        self.passes
            .insert(key, (meter.clone(), factors, pass), weight);
        Ok((meter, made, pass))
    }
}
