//! Execution of a plan: factors, tiles, read-back and writing, overlapped.

use super::budget::anonymous_resident;
use super::moves::{Passes, moves};
use super::plan::{DIAGONAL_ROWS, Keep, Plan, RING, TileJob, segment_pairs, wanted};
use super::routes::Routes;
use super::unit::{LossSeeds, Unit, dual_seed, units};
use crate::contraction::accumulate;
use crate::error::{Error, Result};
use crate::import::data::Dataset;
use crate::jacobian::passes::{Reach, Weights};
use crate::loss::{Curvature, Curved, Loss};
use crate::network::Network;
use crate::sink::{PartLayout, Sink};
use crate::tensor::dual::DualTensor;
use crate::tensor::{Backend, Contract, HostSlice, Real, Shape};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
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
    /// Seconds that the writer was busy, beside the rest.
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
    Tile { job: TileJob, values: Vec<R> },
    Vector { part: usize, values: Vec<R> },
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
    let start = Instant::now();
    let layouts: Vec<PartLayout> = plan.parts.iter().map(|p| layout(&p.part)).collect();
    sink.begin(&layouts)?;
    let peak = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let (send, receive) = sync_channel::<Item<B::Real>>(1);
    let mut report = std::thread::scope(|scope| {
        // Also when the driver panics, as a user's loss may: the scope waits for the watcher.
        let _stop = StopOnDrop(&stop);
        scope.spawn(|| watch_memory(&peak, &stop));
        let writer = scope.spawn(move || write(plan, sink, receive));
        let mut driver = Driver {
            backend,
            work,
            plan,
            control,
            send,
            report: Report::default(),
            done: 0,
            pending: VecDeque::new(),
        };
        let driven = driver.drive();
        let Driver { send, report, .. } = driver;
        drop(send);
        let written = writer.join();
        let written = written
            .unwrap_or_else(|_| Err(Error::Device("the writer stopped unexpectedly".into())));
        // A writer that failed makes sending fail: its error is the cause.
        match (written, driven) {
            (Err(error), _) | (_, Err(error)) => Err(error),
            (Ok((busy, non_finite)), Ok(())) => Ok(Report {
                write_seconds: busy,
                non_finite,
                ..report
            }),
        }
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

/// The writer: gives every item to the sink; returns the seconds it was busy and the entries that are not
/// finite.
fn write<R: Real>(
    plan: &Plan,
    sink: &mut dyn Sink<R>,
    items: std::sync::mpsc::Receiver<Item<R>>,
) -> Result<(f64, u64)> {
    let (mut busy, mut non_finite) = (0.0, 0);
    for item in items {
        let start = Instant::now();
        match item {
            Item::Vector { part, values } => {
                non_finite += count_non_finite(&values);
                sink.vector(part, &values)?;
            }
            Item::Tile { job, mut values } => {
                let part = &plan.parts[job.part];
                let (rows, columns) = (&part.rows[job.row], &part.columns[job.column]);
                let mirrored = part.part.symmetric() && !part.on_diagonal(&job);
                if part.on_diagonal(&job) {
                    mirror(rows.positions.len(), &mut values);
                }
                non_finite += count_non_finite(&values) * if mirrored { 2 } else { 1 };
                sink.tile(
                    job.part,
                    rows.positions.clone(),
                    columns.positions.clone(),
                    &values,
                    mirrored,
                )?;
            }
        }
        busy += start.elapsed().as_secs_f64();
    }
    Ok((busy, non_finite))
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
    send: SyncSender<Item<B::Real>>,
    report: Report,
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
                let mut open: Vec<B::Accumulator> =
                    wave.iter().map(|job| self.accumulator(job)).collect();
                self.each_unit(&weights, &reach, |driver, unit| {
                    if k == 0 {
                        diagonal.add(driver.backend, &unit)?;
                    }
                    for (job, tile) in wave.iter().zip(&mut open) {
                        driver.contract(job, tile, &unit)?;
                    }
                    Ok(())
                })?;
                for (job, tile) in wave.iter().zip(open) {
                    self.finish(*job, tile)?;
                }
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
            for job in &plan.tiles {
                let mut tile = self.accumulator(job);
                for unit in &kept {
                    self.contract(job, &mut tile, unit)?;
                }
                self.finish(*job, tile)?;
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
            let mut open: Vec<B::Accumulator> =
                wave.iter().map(|job| self.accumulator(job)).collect();
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

    fn accumulator(&self, job: &TileJob) -> B::Accumulator {
        let part = &self.plan.parts[job.part];
        self.backend.accumulator(
            part.rows[job.row].positions.len(),
            part.columns[job.column].positions.len(),
        )
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

    /// Adds a unit's contribution to a tile.
    fn contract(
        &mut self,
        job: &TileJob,
        tile: &mut B::Accumulator,
        unit: &Unit<B::Tensor>,
    ) -> Result<()> {
        let start = Instant::now();
        let part = &self.plan.parts[job.part];
        let mut operations = 0;
        for (_, _, rows, columns) in segment_pairs(unit, part, job) {
            self.control.check()?;
            operations += accumulate(self.backend, tile, &rows, &columns, unit.signs.as_ref()).1;
        }
        self.report.contraction_seconds += start.elapsed().as_secs_f64();
        self.advance(operations);
        Ok(())
    }

    /// Starts a finished tile's way to the host, and waits for the oldest once the ring is full.
    fn finish(&mut self, job: TileJob, tile: B::Accumulator) -> Result<()> {
        self.pending.push_back((job, self.backend.finish(tile)));
        if self.pending.len() > RING
            && let Some((job, pending)) = self.pending.pop_front()
        {
            self.collect(job, pending)?;
        }
        Ok(())
    }

    fn collect(&mut self, job: TileJob, pending: B::Pending) -> Result<()> {
        let start = Instant::now();
        let values = self.backend.collect(pending)?;
        self.report.read_back_seconds += start.elapsed().as_secs_f64();
        self.report.tiles += 1;
        self.hand_over(Item::Tile { job, values })?;
        self.advance(0);
        Ok(())
    }

    fn hand_over(&mut self, item: Item<B::Real>) -> Result<()> {
        let start = Instant::now();
        let sent = self.send.send(item);
        self.report.wait_seconds += start.elapsed().as_secs_f64();
        sent.map_err(|_| Error::Request("the writer stopped".into()))
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
