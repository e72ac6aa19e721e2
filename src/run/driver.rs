//! One device's share of a run: factors, tiles, and their way back to the host.
//!
//! A driver computes; a collector beside it waits for finished tiles and gives them to the writers, so that neither the
//! copy to host memory nor a slow disk keeps the device from its next tile while the ring has room.

use super::collector::{Returning, Share, Shared, collect, hand_over, more_severe};
use super::diagonal::Diagonal;
use super::writer::{Item, checked};
use crate::contraction::accumulate;
use crate::control::Progress;
use crate::error::{Error, Result};
use crate::files::writing;
use crate::jacobian::hessian::{GroupPasses, Reaches};
use crate::jacobian::passes::{Passes, Reach, Weights};
use crate::jacobian::seeds::{LossSeeds, dual_seed};
use crate::jacobian::unit::{Unit, units};
use crate::plan::pairs::factor_pairs;
use crate::plan::routes::Routes;
use crate::plan::tangents::{self, tangent_groups};
use crate::plan::tiles::Grid;
use crate::plan::{Keep, PartPlan, RING, TileJob, wanted};
use crate::tensor::dual::DualTensor;
use crate::tensor::{Contract, Placement};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Instant;

/// Makes tiles, and vectors where nobody else does, until there are none left.
pub(super) fn drive<B: Contract>(
    backend: &B,
    shared: &Shared<'_, B::Real>,
    progress: &dyn Fn(Progress),
    send: SyncSender<Item<B::Real>>,
) -> (Share, Result<()>) {
    let broken = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (mut back, mut collector) = (None, None);
        if !backend.accumulates_in_host_memory() {
            // One tile is copied, one waits in the driver's hand, the rest between them.
            let (sender, returning) = sync_channel(RING - 2);
            let (send, broken) = (send.clone(), &broken);
            collector =
                Some(scope.spawn(move || collect(backend, shared, returning, &send, broken)));
            back = Some(sender);
        }
        let mut driver = Driver {
            backend,
            shared,
            progress,
            send,
            back,
            broken: &broken,
            share: Share::default(),
            all_entries: 0.0,
            held: Vec::new(),
            data: HashMap::new(),
        };
        driver.all_entries = shared
            .plan
            .tiles
            .iter()
            .map(|job| driver.entries(job))
            .sum();
        let driven = driver.drive();
        shared.ledger.put_back(std::mem::take(&mut driver.held));
        let Driver {
            back, mut share, ..
        } = driver;
        drop(back);
        let Some(collector) = collector else {
            return (share, driven);
        };
        let (collected, returned) = match collector.join() {
            Ok(collected) => collected,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        share.tiles = collected.tiles;
        let both = match (driven, returned) {
            (Err(own), Err(other)) => Err(more_severe(own, other)),
            (driven, returned) => driven.and(returned),
        };
        (share, both)
    })
}

struct Driver<'a, B: Contract> {
    backend: &'a B,
    shared: &'a Shared<'a, B::Real>,
    progress: &'a dyn Fn(Progress),
    send: SyncSender<Item<B::Real>>,
    /// To the collector, where tiles are not in host memory already.
    back: Option<SyncSender<Returning<B::Pending>>>,
    /// Set where the collector failed.
    broken: &'a AtomicBool,
    share: Share,
    /// Entries of all tiles.
    all_entries: f64,
    /// Numbers of the tiles that were taken and not sent on.
    held: Vec<usize>,
    /// Inputs of units that stay on the device, by their first sample.
    data: HashMap<usize, Vec<B::Tensor>>,
}

impl<B: Contract> Driver<'_, B> {
    /// # Errors
    /// [`Error::Interrupted`] where the run is to stop, or this device's collector has.
    fn check(&self) -> Result<()> {
        writing::check(self.shared.cancel)?;
        match self.shared.ledger.is_stopped() || self.broken.load(Ordering::Relaxed) {
            true => Err(Error::Interrupted),
            false => Ok(()),
        }
    }

    /// Takes the next tiles, at most so many.
    fn take(&mut self, most: usize) -> Vec<usize> {
        let taken = self.shared.ledger.take(most);
        self.held.extend(&taken);
        taken
    }

    fn jobs(&self, numbers: &[usize]) -> Vec<TileJob> {
        numbers.iter().map(|&n| self.shared.plan.tiles[n]).collect()
    }

    fn drive(&mut self) -> Result<()> {
        let ledger = self.shared.ledger;
        let mut vectors = None;
        if ledger.take_vectors() {
            vectors = Some(Diagonal::new(self.shared.work.network, self.shared.plan));
        }
        let driven = self.drive_with(vectors);
        if driven.is_err() {
            ledger.put_vectors_back();
        }
        driven
    }

    fn drive_with(&mut self, mut vectors: Option<Diagonal<'_>>) -> Result<()> {
        let (plan, network) = (self.shared.plan, self.shared.work.network);
        if vectors.is_none() && !self.shared.ledger.has_waiting() {
            // As many devices as tiles, or more: factors would be made for nothing.
            return Ok(());
        }
        let reach = Reach::new(network, wanted(network, plan.parts.iter().map(|p| &p.part)));
        let weights = Weights::upload(self.backend, network);
        if let Some(routes) = &plan.routes {
            return self.drive_forward(&weights, &reach, routes, vectors);
        }
        if plan.keep == Keep::Recompute {
            loop {
                let numbers = self.take(self.wave());
                if numbers.is_empty() && vectors.is_none() {
                    return Ok(());
                }
                let wave = self.jobs(&numbers);
                let mut open = self.open(&wave);
                let mut begin = true;
                self.each_unit(&weights, &reach, |driver, unit| {
                    if let Some(diagonal) = &mut vectors {
                        diagonal.add(driver.backend, &unit)?;
                    }
                    for (position, job) in wave.iter().enumerate() {
                        let tile = open.of(position, job);
                        driver.contract(job, tile, &unit, begin)?;
                    }
                    begin = false;
                    Ok(())
                })?;
                self.close(&numbers, &wave, open)?;
                self.hand_over_vectors(vectors.take())?;
            }
        }
        let mut kept = Vec::new();
        self.each_unit(&weights, &reach, |driver, mut unit| {
            if let Some(diagonal) = &mut vectors {
                diagonal.add(driver.backend, &unit)?;
            }
            for factor in unit.factors.iter_mut().flatten() {
                factor.keep_rows(driver.backend, plan.keep == Keep::Factors);
            }
            kept.push(unit);
            Ok(())
        })?;
        drop(weights);
        self.hand_over_vectors(vectors)?;
        // A part that is one tile is open until its last strip is done.
        let most = match plan.grid {
            Grid::Whole => usize::MAX,
            _ => 1,
        };
        loop {
            let numbers = self.take(most);
            if numbers.is_empty() {
                return Ok(());
            }
            let wave = self.jobs(&numbers);
            let mut open = self.open(&wave);
            for (position, job) in wave.iter().enumerate() {
                // Unit by unit: what is formed of one on the way is what the plan has counted.
                for (number, unit) in kept.iter().enumerate() {
                    self.contract(job, open.of(position, job), unit, number == 0)?;
                }
            }
            self.close(&numbers, &wave, open)?;
        }
    }

    /// Tiles that are accumulated at once where factors are recomputed: no more than leave others their share.
    fn wave(&self) -> usize {
        let (plan, devices) = (self.shared.plan, self.shared.devices.max(1));
        match plan.grid {
            Grid::Whole => usize::MAX,
            _ => plan.wave.min(plan.tiles.len().div_ceil(devices)).max(1),
        }
    }

    /// H, H − G, or G forward: every wave of tiles runs its groups of tangents on every unit of samples.
    fn drive_forward(
        &mut self,
        weights: &Weights<B::Tensor>,
        reach: &Reach,
        routes: &Routes,
        mut vectors: Option<Diagonal<'_>>,
    ) -> Result<()> {
        let (plan, backend, work) = (self.shared.plan, self.backend, self.shared.work);
        let (network, loss) = (work.network, work.hessian());
        let passes = GroupPasses {
            backend,
            network,
            weights,
            reaches: &Reaches::new(network, reach),
            pre_activations: &routes.pre_activations,
            second: work.curvature.needs_second_derivatives(),
        };
        let waves = plan.tiles.len().div_ceil(self.wave()).max(1);
        let per_wave = plan.factor_operations / waves as u64;
        loop {
            let numbers = self.take(self.wave());
            if numbers.is_empty() && vectors.is_none() {
                return Ok(());
            }
            let wave = self.jobs(&numbers);
            let mut open: Vec<B::Accumulator> = wave.iter().map(|job| self.zeros(job)).collect();
            let groups = tangent_groups(
                network,
                routes,
                &plan.parts,
                &wave,
                vectors.is_some(),
                plan.chunk,
            );
            let per_pass = per_wave / (groups.len() * plan.unit_ranges().count()).max(1) as u64;
            for range in plan.unit_ranges() {
                let inputs = self.inputs(&range)?;
                let targets = work.dataset.targets(range.clone())?;
                let first = work.dataset.sample_range().start + range.start;
                let mut seed = |backend: &B, output: &DualTensor<B::Tensor>| {
                    dual_seed(backend, &loss, &targets, first, output)
                };
                for group in &groups {
                    self.check()?;
                    let start = Instant::now();
                    let factors = passes.run(group, &inputs, &mut seed)?;
                    self.share.factor_seconds += start.elapsed().as_secs_f64();
                    self.advance(per_pass);
                    let start = Instant::now();
                    let mut operations = 0;
                    for (job, tile) in wave.iter().zip(&mut open) {
                        let own = (&plan.parts[job.part], job);
                        tangents::contract(backend, &factors, routes, own, tile, |made| {
                            operations += made.3;
                        });
                    }
                    if let Some(diagonal) = &mut vectors {
                        let found = tangents::diagonal(backend, &factors, routes);
                        diagonal.add_ranges(backend, &found)?;
                    }
                    self.share.contraction_seconds += start.elapsed().as_secs_f64();
                    self.advance(operations);
                }
            }
            self.close(&numbers, &wave, Open::Tiles(open))?;
            self.hand_over_vectors(vectors.take())?;
        }
    }

    /// Rows and columns of a tile.
    fn extents(&self, job: &TileJob) -> (usize, usize) {
        let part = &self.shared.plan.parts[job.part];
        let (rows, columns) = (&part.rows[job.row], &part.columns[job.column]);
        (rows.positions.len(), columns.positions.len())
    }

    /// Entries of a tile.
    fn entries(&self, job: &TileJob) -> f64 {
        let (rows, columns) = self.extents(job);
        rows as f64 * columns as f64
    }

    /// Memory for a tile that products begin: zeros where there are none, as of a loss whose factor was cut to nothing.
    fn memory(&self, found: Option<Vec<B::Real>>, numbers: usize) -> Vec<B::Real> {
        match found {
            Some(memory) if self.shared.plan.directions > 0 => memory,
            _ => crate::memory::zeros(numbers),
        }
    }

    /// A tile of zeros, to which products are added.
    fn zeros(&self, job: &TileJob) -> B::Accumulator {
        let (rows, columns) = self.extents(job);
        self.backend.accumulator(rows, columns)
    }

    /// What the tiles of a wave are accumulated in; products begin it.
    fn open(&self, wave: &[TileJob]) -> Open<B::Accumulator> {
        let plan = self.shared.plan;
        if plan.grid != Grid::Whole {
            let tile = |job: &TileJob| {
                let (rows, columns) = self.extents(job);
                if plan.directions == 0 {
                    return self.zeros(job);
                }
                let written = self.shared.written;
                let mut written = written.lock().unwrap_or_else(PoisonError::into_inner);
                // Its pages are there already.
                let fits = |memory: &Vec<B::Real>| memory.capacity() >= rows * columns;
                let fitting = written.iter().position(fits);
                let found = fitting.map(|at| written.swap_remove(at));
                let memory = match self.backend.accumulates_in_host_memory() {
                    true => self.memory(found, rows * columns),
                    false => Vec::new(),
                };
                self.backend.accumulator_in(rows, columns, memory)
            };
            return Open::Tiles(wave.iter().map(tile).collect());
        }
        let part = |(k, part): (usize, &PartPlan)| {
            let wanted = wave.iter().any(|job| job.part == k);
            wanted.then(|| {
                let (rows, columns) = part.extents();
                let memory = self.memory(self.shared.sink.take(part.number), rows * columns);
                self.backend.accumulator_in(rows, columns, memory)
            })
        };
        Open::Parts(plan.parts.iter().enumerate().map(part).collect())
    }

    /// Sends what was accumulated on its way.
    fn close(
        &mut self,
        numbers: &[usize],
        wave: &[TileJob],
        open: Open<B::Accumulator>,
    ) -> Result<()> {
        match open {
            Open::Tiles(tiles) => {
                for ((number, job), tile) in numbers.iter().zip(wave).zip(tiles) {
                    self.finish(*number, *job, tile)?;
                }
            }
            Open::Parts(parts) => {
                for (part, tile) in parts.into_iter().enumerate() {
                    let Some(tile) = tile else { continue };
                    let pending = self.backend.finish(tile);
                    let finite = self.backend.is_finite(&pending);
                    let values = self.backend.collect(pending)?;
                    if !finite {
                        self.share.non_finite += checked(&values, self.shared.work.lenient)?;
                    }
                    let number = self.shared.plan.parts[part].number;
                    self.shared.sink.put_back(number, values)?;
                }
                self.share.tiles += wave.len();
                wave.iter().for_each(|_| self.shared.ledger.done());
                self.held.clear();
                self.advance(0);
            }
        }
        Ok(())
    }

    /// The inputs of a unit's samples on the device: uploaded once where the plan keeps them for the next wave.
    fn inputs(&mut self, range: &Range<usize>) -> Result<Vec<B::Tensor>> {
        if let Some(inputs) = self.data.get(&range.start) {
            return Ok(inputs.clone());
        }
        let inputs = self.shared.work.upload(self.backend, range.clone())?;
        if self.shared.plan.keep_data {
            self.data.insert(range.start, inputs.clone());
        }
        Ok(inputs)
    }

    /// Makes every unit in order: ranges of samples, ranges of directions within.
    fn each_unit(
        &mut self,
        weights: &Weights<B::Tensor>,
        reach: &Reach,
        mut visit: impl FnMut(&mut Self, Unit<B::Tensor>) -> Result<()>,
    ) -> Result<()> {
        let (plan, work, backend) = (self.shared.plan, self.shared.work, self.backend);
        for range in plan.unit_ranges() {
            self.check()?;
            let start = Instant::now();
            let before = self.share.contraction_seconds;
            let inputs = self.inputs(&range)?;
            let targets = work.dataset.targets(range.clone())?;
            let first = work.dataset.sample_range().start + range.start;
            let loss = work.hessian();
            let mut seeds = LossSeeds::new(&loss, first, &targets).lenient(work.lenient);
            let passes = Passes::new(backend, work.network, weights, reach);
            let all = 0..plan.directions;
            units(&passes, inputs, all, plan.chunk, &mut seeds, |unit| {
                self.check()?;
                visit(self, unit)
            })?;
            let contracted = self.share.contraction_seconds - before;
            self.share.factor_seconds += start.elapsed().as_secs_f64() - contracted;
            let share = range.len() as f64 / plan.samples as f64;
            self.advance((plan.factor_operations as f64 * share) as u64);
        }
        Ok(())
    }

    /// Adds what a unit gives to a tile, or begins it with that.
    fn contract(
        &mut self,
        job: &TileJob,
        tile: &mut B::Accumulator,
        unit: &Unit<B::Tensor>,
        begin: bool,
    ) -> Result<()> {
        let start = Instant::now();
        let plan = self.shared.plan;
        for (_, _, fill, pair) in factor_pairs(unit, &plan.parts[job.part], job, plan.grid) {
            self.check()?;
            accumulate(
                self.backend,
                tile,
                Placement {
                    mirror: fill,
                    begin,
                },
                &pair,
            );
        }
        // Its share of all: how many operations a symmetry saves is the plan's to know.
        let visits = plan.unit_ranges().count() * plan.directions.div_ceil(plan.chunk.max(1));
        let share = self.entries(job) / self.all_entries.max(1.0) / visits.max(1) as f64;
        self.advance((plan.contraction_operations as f64 * share) as u64);
        self.share.contraction_seconds += start.elapsed().as_secs_f64();
        Ok(())
    }

    /// Starts a finished tile's way to the host; waits where the ring is full.
    fn finish(&mut self, number: usize, job: TileJob, tile: B::Accumulator) -> Result<()> {
        let pending = self.backend.finish(tile);
        match &self.back {
            Some(back) => {
                let start = Instant::now();
                let returning = Returning {
                    number,
                    job,
                    pending,
                };
                // From here on the collector answers for it.
                self.held.retain(|&held| held != number);
                if let Err(refused) = back.send(returning) {
                    self.shared.ledger.put_back([refused.0.number]);
                    return Err(Error::Interrupted);
                }
                self.share.wait_seconds += start.elapsed().as_secs_f64();
            }
            // What is in host memory is there already.
            None => {
                let finite = self.backend.is_finite(&pending);
                let values = self.backend.collect(pending)?;
                let item = Item::Tile {
                    job,
                    values,
                    finite,
                };
                self.send(item)?;
                self.held.retain(|&held| held != number);
                self.share.tiles += 1;
                self.shared.ledger.done();
            }
        }
        self.advance(0);
        Ok(())
    }

    /// Gives an item to the writers.
    fn send(&mut self, item: Item<B::Real>) -> Result<()> {
        let start = Instant::now();
        let sent = hand_over(self.shared, &self.send, item);
        self.share.wait_seconds += start.elapsed().as_secs_f64();
        sent
    }

    /// Gives the vectors to the writers, where they are this device's to make.
    fn hand_over_vectors(&mut self, vectors: Option<Diagonal<'_>>) -> Result<()> {
        let Some(diagonal) = vectors else {
            return Ok(());
        };
        for (part, values) in diagonal.finish() {
            self.send(Item::Vector { part, values })?;
        }
        self.shared.ledger.vectors_done();
        Ok(())
    }

    fn advance(&mut self, operations: u64) {
        let plan = self.shared.plan;
        let before = self
            .shared
            .operations
            .fetch_add(operations, Ordering::Relaxed);
        // Kept factors are made by every device.
        let again = match plan.keep {
            Keep::Recompute => 0,
            _ => plan.factor_operations * (self.shared.devices as u64 - 1),
        };
        let (passes, contractions) = plan.operations_of(self.shared.fraction);
        let total = passes + contractions + again;
        let (tiles, tile_count) = self.shared.ledger.there();
        (self.progress)(Progress {
            done: (before + operations).min(total),
            total,
            tiles,
            tile_count,
        });
    }
}

/// What a wave of tiles is accumulated in.
enum Open<A> {
    /// Each tile by itself.
    Tiles(Vec<A>),
    /// Tiles are strips of their part.
    Parts(Vec<Option<A>>),
}

impl<A> Open<A> {
    /// That of the job at a position of the wave.
    fn of(&mut self, position: usize, job: &TileJob) -> &mut A {
        match self {
            Open::Tiles(tiles) => &mut tiles[position],
            Open::Parts(parts) => parts[job.part]
                .as_mut()
                .expect("the part of a job of the wave"),
        }
    }
}
