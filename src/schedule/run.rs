//! Execution of a plan: factors, tiles, read-back and writing, overlapped.

use super::budget::anonymous_resident;
use super::moves::{Passes, moves};
use super::plan::{
    DIAGONAL_ROWS, Keep, PartPlan, Plan, RING, TileJob, WRITING, encounters, wanted,
};
use super::routes::Routes;
use super::tiles::Grid;
use super::unit::{LossSeeds, Unit, dual_seed, units};
use crate::contraction::accumulate;
use crate::error::{Error, Result};
use crate::import::data::Dataset;
use crate::jacobian::passes::{Reach, Weights};
use crate::loss::{Curvature, Curved, Loss};
use crate::network::Network;
use crate::sink::{PartLayout, Sink};
use crate::tensor::dual::DualTensor;
use crate::tensor::{Backend, Contract, Fill, HostSlice, How, Real, Shape};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// How far a run has come.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Work done, in operations of the plan.
    pub done: u64,
    /// All work.
    pub total: u64,
    /// Tiles handed to the writer.
    pub tiles: usize,
    /// All tiles.
    pub tile_count: usize,
}

/// What a caller may do to a run under way.
pub struct Control<'a> {
    /// Called after each piece of work.
    pub progress: &'a dyn Fn(Progress),
    /// Set to stop the run at the next piece of work.
    pub cancel: &'a AtomicBool,
}

impl Control<'static> {
    /// No progress, no way to stop.
    pub fn none() -> Self {
        static NEVER: AtomicBool = AtomicBool::new(false);
        Control {
            progress: &|_| {},
            cancel: &NEVER,
        }
    }
}

impl Control<'_> {
    /// # Errors
    /// [`Error::Interrupted`] once the run was asked to stop.
    pub fn check(&self) -> Result<()> {
        if self.cancel.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        Ok(())
    }
}

/// What a run did, by stage.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Report {
    /// Seconds from start to end.
    pub seconds: f64,
    /// Seconds of reading data, forward and reverse passes (enqueued only, on a GPU).
    pub factor_seconds: f64,
    /// Seconds of contractions (enqueued only, on a GPU).
    pub contraction_seconds: f64,
    /// Seconds of waiting for tiles.
    pub read_back_seconds: f64,
    /// Seconds that the busiest writer was busy, beside the rest.
    pub write_seconds: f64,
    /// Seconds of making the result durable at the end.
    pub sync_seconds: f64,
    /// Seconds of waiting for the writer.
    pub wait_seconds: f64,
    /// Floating-point operations, as planned.
    pub operations: u64,
    /// Entries of the parts.
    pub entries: u64,
    /// Bytes of the parts.
    pub bytes: u64,
    /// Tiles computed.
    pub tiles: usize,
    /// Most anonymous resident memory seen during the run, where the system tells.
    pub peak_anonymous_bytes: Option<u64>,
    /// Entries that are NaN or infinite.
    pub non_finite: u64,
    /// Most device memory in use at a time, on a GPU.
    pub peak_device_bytes: Option<u64>,
}

impl Report {
    /// Operations per second over the whole run, in 10⁹.
    pub fn gflops(&self) -> f64 {
        self.operations as f64 / self.seconds.max(1e-9) / 1e9
    }
}

/// What goes to the writer.
enum Item<R> {
    Tile {
        job: TileJob,
        values: Vec<R>,
        /// Whether they are known to be finite.
        finite: bool,
    },
    Vector {
        part: usize,
        values: Vec<R>,
    },
}

/// What a run works on.
pub struct Work<'a> {
    /// The network.
    pub network: &'a Network,
    /// Its data.
    pub dataset: &'a Dataset,
    /// The loss, prepared.
    pub loss: &'a dyn Loss,
    /// The matrix that is meant.
    pub curvature: Curvature,
}

impl Work<'_> {
    /// The loss whose Hessian in the outputs makes the matrix.
    pub fn hessian(&self) -> Curved<'_> {
        Curved {
            loss: self.loss,
            curvature: self.curvature,
        }
    }

    /// Uploads the inputs of a range of samples: `[samples, 1, rest…]` for each input of the network.
    ///
    /// # Errors
    /// What reading the data reports; [`Error::Value`] for a number that the backend's precision cannot hold.
    pub fn upload<B: Backend>(&self, backend: &B, range: Range<usize>) -> Result<Vec<B::Tensor>> {
        let inputs = self.dataset.inputs(range.clone())?;
        let mut tensors = Vec::with_capacity(inputs.len());
        for (input, values) in self.network.inputs.iter().zip(inputs) {
            if let Some(at) = values
                .iter()
                .position(|&v| !B::Real::from_f64(v).to_f64().is_finite())
            {
                return Err(Error::Value(format!(
                    "sample {} of input {:?} holds {:e}, which {} cannot hold; scale the inputs (--scale, --std) or use --precision f64",
                    self.dataset.sample_range().start
                        + range.start
                        + at / (values.len() / range.len()).max(1),
                    input.name,
                    values[at],
                    B::Real::NAME
                )));
            }
            let shape = Shape::new(range.len(), 1, &input.rest);
            tensors.push(backend.upload(&shape, HostSlice::F64(&values)));
        }
        Ok(tensors)
    }
}

/// Runs a plan into a sink, which has not begun; the caller finishes it.
///
/// # Errors
/// Whatever the data, the device or the sink reports; [`Error::Interrupted`] when asked to stop.
pub fn run<B: Contract>(
    backend: &B,
    work: &Work<'_>,
    plan: &Plan,
    sink: &mut dyn Sink<B::Real>,
    control: &Control<'_>,
) -> Result<Report> {
    if plan.grid != Grid::Squares && !backend.accumulates_in_host_memory() {
        return Err(Error::Request(
            "the plan was made for the CPU: plan again for the device that runs it".into(),
        ));
    }
    let start = Instant::now();
    let layouts: Vec<PartLayout> = plan.parts.iter().map(|p| layout(&p.part)).collect();
    sink.begin(&layouts)?;
    let peak = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let (send, receive) = sync_channel::<Item<B::Real>>(1);
    let (sink, receive, written) = (&*sink, Mutex::new(receive), Mutex::new(Vec::new()));
    let failed = AtomicBool::new(false);
    let mut report = std::thread::scope(|scope| {
        // Also when the driver panics, as a user's loss may: the scope waits for the watcher.
        let _stop = StopOnDrop(&stop);
        scope.spawn(|| watch_memory(&peak, &stop));
        let writer = Writer {
            plan,
            sink,
            items: &receive,
            written: &written,
            // Second derivatives start from tiles of zeros, a device from its own.
            keep: backend.accumulates_in_host_memory() && plan.routes.is_none(),
            failed: &failed,
        };
        let writers: Vec<_> = (0..WRITING)
            .map(|_| scope.spawn(move || writer.run()))
            .collect();
        let mut driver = Driver {
            backend,
            work,
            plan,
            control,
            sink,
            send,
            written: &written,
            failed: &failed,
            report: Report::default(),
            all_entries: 0.0,
            done: 0,
            pending: VecDeque::new(),
        };
        driver.all_entries = plan.tiles.iter().map(|job| driver.entries(job)).sum();
        let driven = driver.drive();
        let Driver { send, report, .. } = driver;
        drop(send);
        let mut report = report;
        for writer in writers {
            let stopped = || Err(Error::Device("the writer stopped unexpectedly".into()));
            // A writer that failed makes sending fail: its error is the cause.
            let (busy, non_finite) = writer.join().unwrap_or_else(|_| stopped())?;
            report.write_seconds = report.write_seconds.max(busy);
            report.non_finite += non_finite;
        }
        driven.map(|()| report)
    })?;
    report.seconds = start.elapsed().as_secs_f64();
    report.operations = plan.operations();
    report.entries = plan.entries() as u64;
    report.bytes = report.entries * size_of::<B::Real>() as u64;
    report.tiles = plan.tiles.len();
    report.peak_device_bytes = backend.peak_device_bytes();
    report.peak_anonymous_bytes = Some(peak.into_inner()).filter(|&bytes| bytes > 0);
    Ok(report)
}

/// A part as the sink knows it.
fn layout(part: &super::request::ResolvedPart) -> PartLayout {
    PartLayout {
        name: part.name.clone(),
        rows: part.rows.clone(),
        columns: part.columns.clone(),
    }
}

/// Sets its flag when it goes out of scope.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Samples the process's anonymous memory until told to stop.
fn watch_memory(peak: &AtomicU64, stop: &AtomicBool) {
    // At least once, however short the run.
    while let Some(bytes) = anonymous_resident() {
        peak.fetch_max(bytes, Ordering::Relaxed);
        if stop.load(Ordering::Relaxed) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// What a writer works on.
struct Writer<'a, R> {
    plan: &'a Plan,
    sink: &'a dyn Sink<R>,
    items: &'a Mutex<Receiver<Item<R>>>,
    /// Buffers of tiles that were written, for the next ones.
    written: &'a Mutex<Vec<Vec<R>>>,
    /// Whether these are wanted.
    keep: bool,
    /// Set where writing failed: no more items are wanted.
    failed: &'a AtomicBool,
}

/// Takes what is still sent, unread, when a writer stops early: nobody is to wait for it.
struct Drain<'a, R>(Writer<'a, R>);

impl<R> Drop for Drain<'_, R> {
    fn drop(&mut self) {
        self.0.failed.store(true, Ordering::Relaxed);
        let items = self.0.items.lock().unwrap_or_else(PoisonError::into_inner);
        while items.recv().is_ok() {}
    }
}

impl<R> Clone for Writer<'_, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for Writer<'_, R> {}

impl<R: Real> Writer<'_, R> {
    /// Gives items to the sink until there are no more; returns the seconds it was busy and the entries that are not
    /// finite.
    fn run(self) -> Result<(f64, u64)> {
        let (mut busy, mut non_finite) = (0.0, 0);
        loop {
            // A writer that panicked has its own error.
            let item = self
                .items
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .recv();
            let Ok(item) = item else {
                return Ok((busy, non_finite));
            };
            let start = Instant::now();
            // Also where a sink of the user's panics.
            let drain = Drain(self);
            non_finite += self.write(item)?;
            std::mem::forget(drain);
            busy += start.elapsed().as_secs_f64();
        }
    }

    /// Writes an item; returns the entries that are not finite.
    fn write(&self, item: Item<R>) -> Result<u64> {
        match item {
            Item::Vector { part, values } => {
                self.sink.vector(part, &values)?;
                Ok(count_non_finite(&values))
            }
            Item::Tile {
                job,
                mut values,
                finite,
            } => {
                let part = &self.plan.parts[job.part];
                let (rows, columns) = (&part.rows[job.row], &part.columns[job.column]);
                let halved = part.part.symmetric() && self.plan.grid.above_the_diagonal();
                let on_diagonal = halved && part.on_diagonal(&job);
                let mirrored = halved && !on_diagonal;
                if on_diagonal {
                    mirror(rows.positions.len(), &mut values);
                }
                let (rows, columns) = (rows.positions.clone(), columns.positions.clone());
                self.sink.tile(job.part, rows, columns, &values, mirrored)?;
                let non_finite = if finite { 0 } else { count_non_finite(&values) };
                if self.keep {
                    let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
                    written.push(values);
                }
                Ok(non_finite * if mirrored { 2 } else { 1 })
            }
        }
    }
}

fn count_non_finite<R: Real>(values: &[R]) -> u64 {
    values.iter().filter(|v| !v.to_f64().is_finite()).count() as u64
}

/// Fills a diagonal tile below its diagonal from above it, so that it is symmetric to the bit.
fn mirror<R: Copy>(width: usize, values: &mut [R]) {
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

struct Driver<'a, B: Contract> {
    backend: &'a B,
    work: &'a Work<'a>,
    plan: &'a Plan,
    control: &'a Control<'a>,
    sink: &'a dyn Sink<B::Real>,
    send: SyncSender<Item<B::Real>>,
    written: &'a Mutex<Vec<Vec<B::Real>>>,
    failed: &'a AtomicBool,
    report: Report,
    /// Entries of all tiles.
    all_entries: f64,
    done: u64,
    /// Tiles on their way to the host, oldest first.
    pending: VecDeque<(TileJob, B::Pending)>,
}

impl<B: Contract> Driver<'_, B> {
    fn drive(&mut self) -> Result<()> {
        let plan = self.plan;
        let wanted = wanted(self.work.network, plan.parts.iter().map(|p| &p.part));
        let reach = Reach::new(self.work.network, wanted);
        let weights = Weights::upload(self.backend, self.work.network);
        let mut diagonal = Diagonal::new(self.work.network, plan);
        if let Some(routes) = &plan.routes {
            self.drive_second(&weights, &reach, routes, &mut diagonal)?;
        } else if plan.keep == Keep::Recompute {
            for (k, wave) in plan.waves().into_iter().enumerate() {
                let mut open = self.open(wave);
                let mut begin = true;
                self.each_unit(&weights, &reach, |driver, unit| {
                    if k == 0 {
                        diagonal.add(driver.backend, &unit)?;
                    }
                    for (position, job) in wave.iter().enumerate() {
                        let tile = open.of(position, job);
                        driver.contract(job, tile, &unit, begin)?;
                    }
                    begin = false;
                    Ok(())
                })?;
                self.close(wave, open)?;
            }
        } else {
            let mut kept = Vec::new();
            self.each_unit(&weights, &reach, |driver, mut unit| {
                diagonal.add(driver.backend, &unit)?;
                for factor in unit.factors.iter_mut().flatten() {
                    factor.keep_rows(driver.backend, plan.keep == Keep::Factors);
                }
                kept.push(unit);
                Ok(())
            })?;
            drop(weights);
            // A part that is one tile is open until its last strip is done.
            let waves: Vec<&[TileJob]> = match plan.grid {
                Grid::Whole => vec![&plan.tiles],
                _ => plan.tiles.chunks(1).collect(),
            };
            for wave in waves {
                let mut open = self.open(wave);
                for (position, job) in wave.iter().enumerate() {
                    // Unit by unit: what is formed of one on the way is what the plan has counted.
                    for (number, unit) in kept.iter().enumerate() {
                        self.contract(job, open.of(position, job), unit, number == 0)?;
                    }
                }
                self.close(wave, open)?;
            }
        }
        while let Some((job, pending)) = self.pending.pop_front() {
            self.collect(job, pending)?;
        }
        for (part, values) in diagonal.finish() {
            self.hand_over(Item::Vector { part, values })?;
        }
        Ok(())
    }

    /// H or H − G: every wave of tiles moves what it needs, on every unit of samples.
    fn drive_second(
        &mut self,
        weights: &Weights<B::Tensor>,
        reach: &Reach,
        routes: &Routes,
        diagonal: &mut Diagonal<'_>,
    ) -> Result<()> {
        let (plan, backend, work) = (self.plan, self.backend, self.work);
        let (network, loss) = (work.network, work.hessian());
        let passes = Passes {
            backend,
            network,
            weights,
            reach,
            routes,
        };
        let per_wave = plan.factor_operations / plan.waves().len() as u64;
        for (k, wave) in plan.waves().into_iter().enumerate() {
            let mut open: Vec<B::Accumulator> = wave.iter().map(|job| self.zeros(job)).collect();
            let with_diagonal = k == 0 && diagonal.is_wanted();
            let moves = moves(
                network,
                routes,
                &plan.parts,
                wave,
                with_diagonal,
                plan.chunk,
            );
            let per_pass = per_wave / (moves.len() * plan.unit_ranges().count()).max(1) as u64;
            for range in plan.unit_ranges() {
                let inputs = work.upload(backend, range.clone())?;
                let targets = work.dataset.targets(range.clone())?;
                let first = work.dataset.sample_range().start + range.start;
                let mut seed = |backend: &B, output: &DualTensor<B::Tensor>| {
                    dual_seed(backend, &loss, &targets, first, output)
                };
                for made_by in &moves {
                    self.control.check()?;
                    let start = Instant::now();
                    let moving = passes.run(made_by, &inputs, &mut seed)?;
                    self.report.factor_seconds += start.elapsed().as_secs_f64();
                    self.advance(per_pass);
                    let start = Instant::now();
                    let mut operations = 0;
                    for (job, tile) in wave.iter().zip(&mut open) {
                        let part = &plan.parts[job.part];
                        moving.contract(backend, routes, part, job, tile, |made| {
                            operations += made.3
                        });
                    }
                    if with_diagonal {
                        diagonal.add_moving(backend, &moving.diagonal(backend, routes))?;
                    }
                    self.report.contraction_seconds += start.elapsed().as_secs_f64();
                    self.advance(operations);
                }
            }
            for (job, tile) in wave.iter().zip(open) {
                self.finish(*job, tile)?;
            }
        }
        Ok(())
    }

    /// Rows and columns of a tile.
    fn extents(&self, job: &TileJob) -> (usize, usize) {
        let part = &self.plan.parts[job.part];
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
            Some(memory) if self.plan.directions > 0 => memory,
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
        let plan = self.plan;
        if plan.grid != Grid::Whole {
            let tile = |job: &TileJob| {
                let (rows, columns) = self.extents(job);
                let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
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
                let memory = self.memory(self.sink.lend(k), rows * columns);
                self.backend.accumulator_in(rows, columns, memory)
            })
        };
        Open::Parts(plan.parts.iter().enumerate().map(part).collect())
    }

    /// Sends what was accumulated on its way.
    fn close(&mut self, wave: &[TileJob], open: Open<B::Accumulator>) -> Result<()> {
        match open {
            Open::Tiles(tiles) => {
                for (job, tile) in wave.iter().zip(tiles) {
                    self.finish(*job, tile)?;
                }
            }
            Open::Parts(parts) => {
                for (part, tile) in parts.into_iter().enumerate() {
                    let Some(tile) = tile else { continue };
                    let pending = self.backend.finish(tile);
                    let finite = self.backend.is_finite(&pending);
                    let values = self.backend.collect(pending)?;
                    if !finite {
                        self.report.non_finite += count_non_finite(&values);
                    }
                    self.sink.give_back(part, values)?;
                }
                self.report.tiles += wave.len();
                self.advance(0);
            }
        }
        Ok(())
    }

    /// Makes every unit in order: ranges of samples, ranges of directions within.
    fn each_unit(
        &mut self,
        weights: &Weights<B::Tensor>,
        reach: &Reach,
        mut visit: impl FnMut(&mut Self, Unit<B::Tensor>) -> Result<()>,
    ) -> Result<()> {
        let plan = self.plan;
        for range in plan.unit_ranges() {
            self.control.check()?;
            let start = Instant::now();
            let before = self.report.contraction_seconds;
            let inputs = self.work.upload(self.backend, range.clone())?;
            let targets = self.work.dataset.targets(range.clone())?;
            let first = self.work.dataset.sample_range().start + range.start;
            let loss = self.work.hessian();
            let mut seeds = LossSeeds::new(&loss, first, &targets);
            let (backend, network) = (self.backend, self.work.network);
            units(
                backend,
                network,
                weights,
                reach,
                inputs,
                0..plan.directions,
                plan.chunk,
                &mut seeds,
                |unit| {
                    self.control.check()?;
                    visit(self, unit)
                },
            )?;
            let contracted = self.report.contraction_seconds - before;
            self.report.factor_seconds += start.elapsed().as_secs_f64() - contracted;
            self.advance(
                (plan.factor_operations as f64 * range.len() as f64 / plan.samples as f64) as u64,
            );
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
        let part = &self.plan.parts[job.part];
        for (_, _, fill, meeting) in encounters(unit, part, job, self.plan.grid) {
            self.control.check()?;
            let how = match self.backend.accumulates_in_host_memory() {
                true => How { fill, begin },
                false => How::ADD,
            };
            debug_assert!(how.fill == fill || fill == Fill::Own);
            accumulate(self.backend, tile, how, &meeting);
        }
        // Its share of all: how many operations a symmetry saves is the plan's to know.
        let plan = self.plan;
        let visits = plan.unit_ranges().count() * plan.directions.div_ceil(plan.chunk.max(1));
        let share = self.entries(job) / self.all_entries.max(1.0) / visits.max(1) as f64;
        self.advance((plan.contraction_operations as f64 * share) as u64);
        self.report.contraction_seconds += start.elapsed().as_secs_f64();
        Ok(())
    }

    /// Starts a finished tile's way to the host, and waits for the oldest once the ring is full.
    fn finish(&mut self, job: TileJob, tile: B::Accumulator) -> Result<()> {
        self.pending.push_back((job, self.backend.finish(tile)));
        // What is in host memory is there already.
        let ring = if self.backend.accumulates_in_host_memory() {
            0
        } else {
            RING
        };
        if self.pending.len() > ring
            && let Some((job, pending)) = self.pending.pop_front()
        {
            self.collect(job, pending)?;
        }
        Ok(())
    }

    fn collect(&mut self, job: TileJob, pending: B::Pending) -> Result<()> {
        let start = Instant::now();
        let finite = self.backend.is_finite(&pending);
        let values = self.backend.collect(pending)?;
        self.report.read_back_seconds += start.elapsed().as_secs_f64();
        self.report.tiles += 1;
        self.hand_over(Item::Tile {
            job,
            values,
            finite,
        })?;
        self.advance(0);
        Ok(())
    }

    fn hand_over(&mut self, item: Item<B::Real>) -> Result<()> {
        let start = Instant::now();
        let sent = self.send.send(item);
        self.report.wait_seconds += start.elapsed().as_secs_f64();
        if sent.is_err() || self.failed.load(Ordering::Relaxed) {
            return Err(Error::Request("the writer stopped".into()));
        }
        Ok(())
    }

    fn advance(&mut self, operations: u64) {
        self.done += operations;
        let total = self.plan.operations();
        (self.control.progress)(Progress {
            done: self.done.min(total),
            total,
            tiles: self.report.tiles,
            tile_count: self.plan.tiles.len(),
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

/// The diagonal, accumulated on the host in double precision over units.
struct Diagonal<'a> {
    network: &'a Network,
    parts: Vec<(usize, Vec<Range<usize>>)>,
    values: Vec<f64>,
}

impl<'a> Diagonal<'a> {
    fn new(network: &'a Network, plan: &Plan) -> Self {
        let parts: Vec<_> = plan
            .parts
            .iter()
            .enumerate()
            .filter(|(_, p)| p.part.columns.is_none())
            .map(|(k, p)| (k, p.part.rows.clone()))
            .collect();
        let values = if parts.is_empty() {
            0
        } else {
            network.parameter_count()
        };
        Self {
            network,
            parts,
            values: vec![0.0; values],
        }
    }

    fn is_wanted(&self) -> bool {
        !self.parts.is_empty()
    }

    /// Adds ranges of parameters and their values, `[1, 1, range]`.
    fn add_moving<B: Backend>(
        &mut self,
        backend: &B,
        found: &[(usize, Range<usize>, B::Tensor)],
    ) -> Result<()> {
        for (parameter, range, values) in found {
            let start = self.network.parameters[*parameter].range().start;
            let own = &mut self.values[start + range.start..start + range.end];
            for (sum, value) in own.iter_mut().zip(backend.read(values)?) {
                *sum += value.to_f64();
            }
        }
        Ok(())
    }

    fn add<B: Backend>(&mut self, backend: &B, unit: &Unit<B::Tensor>) -> Result<()> {
        if !self.is_wanted() {
            return Ok(());
        }
        for (parameter, factor) in self.network.parameters.iter().zip(&unit.factors) {
            let Some(factor) = factor else { continue };
            let squares = factor.squares(backend, unit.signs.as_ref(), DIAGONAL_ROWS);
            let squares = backend.read(&squares)?;
            for (sum, value) in self.values[parameter.range()].iter_mut().zip(squares) {
                *sum += value.to_f64();
            }
        }
        Ok(())
    }

    fn finish<R: Real>(self) -> Vec<(usize, Vec<R>)> {
        let pick = |ranges: &[Range<usize>]| {
            let entries = ranges.iter().flat_map(|r| &self.values[r.clone()]);
            entries.map(|&v| R::from_f64(v)).collect()
        };
        self.parts
            .iter()
            .map(|(part, ranges)| (*part, pick(ranges)))
            .collect()
    }
}
