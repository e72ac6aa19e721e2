//! The work of a whole plan by kind, found by running its passes and tiles on shapes alone.

use super::contractions::Contractions;
use super::footprint::{Planner, pieces};
use super::forward::{Known, waves};
use super::parts::wanted;
use super::planned::{Keep, Plan};
use super::sizes::{DIAGONAL_ROWS, WRITING};
use super::tangents::{self, tangent_groups};
use super::tiles::Grid;
use crate::error::Result;
use crate::jacobian::passes::{Reach, Weights};
use crate::network::Network;
use crate::tensor::meter::Meter;
use crate::tensor::{Contract, Kind, Tally, Work};

/// The work of a plan, by stage.
///
/// A unit's work is counted once for each size of unit that there is, and taken as often as there are units of that size:
/// the last range of samples, or of directions, may be shorter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlanTally {
    /// Uploads, seeds, forward and reverse passes, and rows of V that are formed once and kept.
    pub passes: Tally,
    /// Contractions, with rows that are formed on the way, and diagonals.
    pub contractions: Tally,
    /// Tiles made, and read back where they are not the host's.
    pub tiles: Tally,
}

impl Plan {
    /// The work of the plan by kind, with the rest's. `network` is the one that it was made for.
    ///
    /// # Errors
    /// As [`super::plan`].
    pub fn tally(&self, network: &Network) -> Result<PlanTally> {
        let mut all = PlanTally::default();
        for stage in self.stages() {
            let own = stage.own_tally(network)?;
            all.passes += own.passes;
            all.contractions += own.contractions;
            all.tiles += own.tiles;
        }
        Ok(all)
    }

    /// The work of its own parts.
    pub(crate) fn own_tally(&self, network: &Network) -> Result<PlanTally> {
        let parts = self.parts.iter().map(|p| &p.part);
        let reach = Reach::new(network, wanted(network, parts));
        let planner = Planner {
            network,
            reach: &reach,
            parts: &self.parts,
            tiles: &self.tiles,
            sizes: self.sizes,
            grid: self.grid,
        };
        let mut tally = match &self.routes {
            Some(_) => self.tally_forward(&planner)?,
            None => self.tally_backward(&planner)?,
        };
        tally.tiles = self.made(&planner);
        Ok(tally)
    }

    /// The memory of tiles, and their way back.
    fn made(&self, planner: &Planner<'_>) -> Tally {
        let entries = |job| planner.tile_entries(job) as u64;
        let (tiles, numbers) = match self.grid {
            // One for each part.
            Grid::Whole => {
                let parts = self.parts.iter().filter(|p| p.part.columns.is_some());
                let entries = parts.clone().map(|p| p.part.entries() as u64);
                (parts.count(), entries.sum())
            }
            // Memory of tiles that were written is there already.
            Grid::Panels => {
                let fresh = self.tiles.len().min(WRITING + 2);
                (
                    self.tiles.len(),
                    self.tiles[..fresh].iter().map(entries).sum(),
                )
            }
            Grid::Squares => (self.tiles.len(), self.tiles.iter().map(entries).sum()),
        };
        let mut tally = Tally::default();
        if tiles > 0 {
            tally.enter(Kind::Tile, Work([tiles as u64, 0, 0, numbers, 0, 0]));
        }
        tally
    }

    /// G: every unit's passes, then its tiles.
    fn tally_backward(&self, planner: &Planner<'_>) -> Result<PlanTally> {
        let mut tally = PlanTally::default();
        let number_bytes = planner.sizes.number_bytes;
        let passes = self.passes() as u64;
        for (samples, times) in pieces(self.samples, self.unit) {
            for (directions, repeat) in pieces(self.directions, self.chunk) {
                let meter = Meter::new(number_bytes);
                let weights = Weights::upload(&meter, planner.network);
                let uploaded = meter.tally();
                planner.unit(&meter, &weights, samples, directions, |mut unit| {
                    let times = times * repeat;
                    let made = meter.tally() - uploaded;
                    let before = meter.tally();
                    if planner.diagonal() {
                        for factor in unit.factors.iter().flatten() {
                            let squares =
                                factor.squares(&meter, unit.signs.as_ref(), DIAGONAL_ROWS);
                            crate::tensor::Backend::read(&meter, &squares)?;
                        }
                    }
                    // Made in the first wave.
                    tally.contractions += (meter.tally() - before).times(times);
                    let before = meter.tally();
                    if self.keep != Keep::Recompute {
                        for factor in unit.factors.iter_mut().flatten() {
                            factor.keep_rows(&meter, self.keep == Keep::Factors);
                        }
                    }
                    tally.passes += (made.times(passes) + (meter.tally() - before)).times(times);
                    let mut contractions = Contractions::new(&meter, &unit);
                    for job in &self.tiles {
                        contractions.tile(&self.parts[job.part], job, self.grid, |_, made| {
                            tally.contractions += made.tally.times(times);
                        });
                    }
                    Ok(())
                })?;
            }
        }
        Ok(tally)
    }

    /// H, H − G, or G forward: every wave's groups of tangents on every unit of samples.
    fn tally_forward(&self, planner: &Planner<'_>) -> Result<PlanTally> {
        let mut tally = PlanTally::default();
        let Some(routes) = &self.routes else {
            return Ok(tally);
        };
        // Every wave uploads the data anew, unless they stay.
        let uploads = match self.keep_data {
            true => 1,
            false => self.passes() as u64,
        };
        for (samples, times) in pieces(self.samples, self.unit) {
            let meter = Meter::new(planner.sizes.number_bytes);
            planner.inputs(&meter, samples);
            tally.passes += meter.tally().times(uploads * times);
            let mut known = Known::new(planner, routes, samples);
            for (wave, diagonal) in waves(&self.tiles, self.wave, planner.diagonal()) {
                let (parts, chunk) = (&self.parts, self.chunk);
                let all = tangent_groups(planner.network, routes, parts, wave, diagonal, chunk);
                for group in &all {
                    let (meter, factors, pass) = known.pass(group)?;
                    tally.passes += pass.tally.times(times);
                    let before = meter.tally();
                    for job in wave {
                        let mut tile = meter.accumulator(0, 0);
                        let own = (&self.parts[job.part], job);
                        tangents::contract(&meter, &factors, routes, own, &mut tile, |_| {});
                    }
                    if diagonal {
                        for (_, _, values) in tangents::diagonal(&meter, &factors, routes) {
                            crate::tensor::Backend::read(&meter, &values)?;
                        }
                    }
                    tally.contractions += (meter.tally() - before).times(times);
                }
            }
        }
        Ok(tally)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::data::Dataset;
    use crate::loss::{CrossEntropy, Curvature};
    use crate::network::builder::Builder;
    use crate::plan::Limits;
    use crate::plan::RunOptions;
    use crate::plan::request::resolve;
    use crate::{Device, Operator, Part, Precision, Session};
    use ndarray::{Array1, Array2};

    fn session(samples: usize) -> Session {
        let network = Builder::new(&[6]).linear("a", 5).tanh().linear("b", 3);
        let network = network.initialize(0).build().unwrap();
        let inputs = Array2::<f64>::ones((samples, 6));
        let data = Dataset::from_arrays(inputs, Array1::<i64>::zeros(samples));
        Session::builder(network)
            .data(data)
            .loss(CrossEntropy::mean())
            .device(Device::cpu(Precision::F64))
            .build()
            .unwrap()
    }

    fn planned(operator: &Operator, part: Part, grid: Grid) -> Plan {
        let parts = resolve(operator.session().network(), &[part]).unwrap();
        operator
            .plan_within(
                parts,
                Precision::F32,
                Limits::ENDLESS,
                RunOptions {
                    batch: Some(4),
                    ..RunOptions::default()
                },
                grid,
            )
            .unwrap()
    }

    #[test]
    fn twice_the_units_are_twice_the_work() {
        for grid in [Grid::Squares, Grid::Panels, Grid::Whole] {
            for part in [Part::Full, Part::Diagonal, Part::between("a", "b")] {
                let tally = |samples: usize| {
                    let session = session(samples);
                    planned(&session.ggn(), part.clone(), grid)
                        .tally(session.network())
                        .unwrap()
                };
                let (once, twice, more) = (tally(8), tally(16), tally(10));
                assert_eq!(twice.passes, once.passes.times(2), "{part}");
                assert_eq!(twice.contractions, once.contractions.times(2), "{part}");
                assert_eq!(twice.tiles, once.tiles, "{part}");
                // The last unit has two samples.
                let calls = |tally: &PlanTally| tally.passes.of(Kind::Upload).0[0];
                assert_eq!(2 * calls(&more), 3 * calls(&once), "{part}");
                assert!(once.passes.of(Kind::Seeds).0[0] == 2 && once.passes != Tally::default());
            }
        }
    }

    #[test]
    fn passes_are_counted_as_often_as_they_are_made() {
        let session = session(8);
        let mut plan = planned(&session.ggn(), Part::Layers, Grid::Squares);
        plan.keep = Keep::Recompute;
        plan.wave = plan.tiles.len();
        let once = plan.tally(session.network()).unwrap();
        plan.wave = 1;
        let each = plan.tally(session.network()).unwrap();
        assert_eq!(plan.passes(), 2);
        assert_eq!(each.passes, once.passes.times(2));
        assert_eq!(each.contractions, once.contractions);
    }

    #[test]
    fn second_derivatives_have_their_own_passes() {
        let session = session(8);
        let plan = planned(&session.hessian(), Part::layer("a"), Grid::Squares);
        let tally = plan.tally(session.network()).unwrap();
        let operations = |tally: Tally| {
            let kinds = [Kind::Product, Kind::Lanes, Kind::Dense, Kind::Outer];
            kinds.iter().map(|kind| tally.of(*kind).0[2]).sum::<u64>()
        };
        assert!(operations(tally.passes) > 0 && operations(tally.contractions) > 0);
    }

    #[test]
    fn passes_of_second_derivatives_do_their_work_on_the_host_too() {
        let tally = |curvature: Curvature, keep_data: bool| {
            let session = session(8);
            let mut plan = planned(
                &session.operator(curvature),
                Part::layer("a"),
                Grid::Squares,
            );
            plan.keep_data = keep_data;
            // Three tiles of one, in waves of one.
            let job = plan.tiles[0];
            (plan.tiles, plan.wave) = (vec![job; 3], 1);
            let tally = plan.tally(session.network()).unwrap();
            (tally.passes, plan.unit_ranges().count() as u64)
        };
        let calls = |tally: &Tally, kind: Kind| tally.of(kind).0[0];
        let (exact, units) = tally(Curvature::Exact, false);
        let (kept, _) = tally(Curvature::Exact, true);
        let (residual, _) = tally(Curvature::Residual, false);
        assert_eq!(units, 2);
        let passes = calls(&exact, Kind::Seeds);
        assert!(passes >= 3 * units && passes % (3 * units) == 0, "{passes}");
        // Outputs are read with the seeds, tangents beside: G's part, that the residual has none of.
        assert_eq!(calls(&exact, Kind::Read), passes);
        assert_eq!(calls(&residual, Kind::Read), 0);
        assert_eq!(calls(&residual, Kind::Seeds), passes);
        let numbers = |tally: &Tally, kind: Kind| tally.of(kind).numbers();
        assert!(numbers(&residual, Kind::Seeds) < numbers(&exact, Kind::Seeds));
        // Of the data each wave uploads its own, or the first for all.
        let spared = calls(&exact, Kind::Upload) - calls(&kept, Kind::Upload);
        assert_eq!(spared, 2 * units);
    }
}
