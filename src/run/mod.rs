//! A plan carried out: its devices, the writers beside them, and what becomes of a run when a device fails.
//!
//! May use `plan`, `jacobian`, `contraction` and `sink`; must not know of formulas.

mod collector;
mod diagonal;
mod driver;
mod ledger;
mod report;
mod writer;

use self::collector::{Share, Shared};
use self::driver::drive;
use self::ledger::Ledger;
pub use self::report::{Bottleneck, DeviceShare, Replanned, Report, Stage};
use self::writer::{Item, Writer};
use crate::bytes::Bytes;
pub use crate::control::{Control, Progress};
use crate::error::{Error, Result};
use crate::import::data::Dataset;
use crate::loss::{Curvature, Curved, Loss};
use crate::network::Network;
use crate::plan::budget::anonymous_resident;
use crate::plan::tiles::Grid;
use crate::plan::{Plan, WRITING};
use crate::sink::{Sink, Tile};
use crate::tensor::{Backend, Contract, HostSlice, Real, Shape};
use rayon::prelude::*;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, channel, sync_channel};
use std::time::Instant;

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
    /// Whether numbers that are not finite are no error.
    pub lenient: bool,
}

impl Work<'_> {
    /// The loss whose Hessian in the outputs makes the matrix.
    pub fn hessian(&self) -> Curved<'_> {
        Curved {
            loss: self.loss,
            curvature: self.curvature,
            lenient: self.lenient,
        }
    }

    /// The same for another matrix, whatever the outputs are.
    pub(crate) fn lenient_hessian(&self, curvature: Curvature) -> Curved<'_> {
        Curved {
            loss: self.loss,
            curvature,
            lenient: true,
        }
    }

    /// Uploads the inputs of a range of samples: `[samples, 1, rest…]` for each input of the network.
    ///
    /// # Errors
    /// What reading the data reports; [`Error::Value`] for a number that the backend's precision cannot hold.
    pub fn upload<B: Backend>(&self, backend: &B, range: Range<usize>) -> Result<Vec<B::Tensor>> {
        let inputs = self.dataset.inputs(range.clone())?;
        let first = self.dataset.sample_range().start + range.start;
        let inputs = self.network.with_derived(inputs, range.len(), first)?;
        let mut tensors = Vec::with_capacity(inputs.len());
        for (input, values) in self.network.inputs.iter().zip(inputs) {
            if let Some(at) = values
                .iter()
                .position(|&v| !B::Real::from_f64(v).to_f64().is_finite())
            {
                return Err(Error::Value(format!(
                    "sample {} of input {:?} holds {:e}, which {} cannot hold; scale the inputs (--scale, --std) or use --precision f64",
                    first + at / (values.len() / range.len()).max(1),
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
/// Where the device has less memory than planned, the rest is planned anew for half of it
/// ([`Report::warnings`], [`Report::replanned`]).
///
/// # Errors
/// Whatever the data, the device or the sink reports; [`Error::Interrupted`] when asked to stop;
/// [`Error::DeviceMemory`] where no smaller plan can be made; [`Error::DeviceLost`] with the tiles that the sink has.
pub fn run<B: Contract>(
    backend: &B,
    work: &Work<'_>,
    plan: &Plan,
    sink: &mut dyn Sink<B::Real>,
    control: &Control<'_>,
) -> Result<Report> {
    run_on_all(&[backend], work, plan, sink, control)
}

/// The same on several devices of one kind, which take tiles from one queue; vectors are made by one of them.
///
/// Where one is lost, the others make its tiles. The plan is one that each of them has memory for.
///
/// # Errors
/// As [`run`]; [`Error::DeviceLost`] where all are lost.
pub fn run_on_all<B: Contract>(
    backends: &[&B],
    work: &Work<'_>,
    plan: &Plan,
    sink: &mut dyn Sink<B::Real>,
    control: &Control<'_>,
) -> Result<Report> {
    let Some(&first) = backends.first() else {
        return Err(Error::Request("there is no device to run on".into()));
    };
    let host = first.accumulates_in_host_memory();
    for stage in plan.stages() {
        check(stage, host, backends.len())?;
    }
    let start = Instant::now();
    sink.begin(&plan.layouts())?;
    // Where a run that this one goes on with had less memory than planned, its tiles were rounded as those to come are to be.
    let mut stages = Vec::new();
    for (stage, note) in plan.stages().zip(Replanned::NOTES) {
        let noted = sink.noted(note);
        let last = noted.and_then(|note| serde_json::from_value::<Replanned>(note).ok());
        stages.push(match last {
            Some(last) => {
                let device = last.device_budget.min(stage.device_budget());
                Cow::Owned(stage.again(work.network, Some(last.units()), device)?)
            }
            None => Cow::Borrowed(stage),
        });
    }
    let left = Left::of(&stages, sink, control)?;
    let mut report = Report {
        devices: backends.iter().map(|b| named(b.device_name())).collect(),
        ..Report::default()
    };
    let mut course = Course::new(&stages, &left);
    for ((plan, note), left) in stages.iter().zip(Replanned::NOTES).zip(left) {
        let progress = |progress| (control.progress)(course.of_all(progress));
        let control = Control {
            progress: &progress,
            cancel: control.cancel,
        };
        let lost = report.devices.iter().map(|device| device.lost).collect();
        let leg = Leg {
            backends,
            lost,
            work,
            plan,
            note,
            sink: &*sink,
            control: &control,
        };
        let planned = (left.operations(plan), left.all_tiles());
        report.add(leg.run(left)?);
        if !course.later.is_empty() {
            // The next stage is planned with all of the memory.
            backends.iter().for_each(|backend| backend.forget_failure());
        }
        course.pass(planned);
    }
    report.seconds = start.elapsed().as_secs_f64();
    tracing::info!(
        seconds = report.seconds,
        tiles = report.tiles,
        found = report.found_tiles,
        "tiles made"
    );
    report.find_bottleneck(first.rate_limits());
    let peaks = backends.iter().flat_map(|b| b.peak_device_bytes());
    report.peak_device_bytes = peaks.max();
    Ok(report)
}

/// Refuses a plan that was made for other devices.
fn check(plan: &Plan, host: bool, devices: usize) -> Result<()> {
    if plan.grid != Grid::Squares && !host {
        return Err(Error::Request(
            "the plan was made for the CPU: plan again for the device that runs it".into(),
        ));
    }
    if plan.grid == Grid::Whole && devices > 1 {
        return Err(Error::Request(
            "a part that is computed where it stays runs on one device".into(),
        ));
    }
    Ok(())
}

/// How far a run of several stages has come.
struct Course {
    /// Operations and tiles of the stages that are done.
    before: (u64, usize),
    /// Those of the stages after the one under way.
    after: (u64, usize),
    /// Those of the stages to come, the last first.
    later: Vec<(u64, usize)>,
}

impl Course {
    fn new(stages: &[Cow<'_, Plan>], left: &[Left]) -> Course {
        let of = |(plan, left): (&Cow<'_, Plan>, &Left)| (left.operations(plan), left.all_tiles());
        let mut later: Vec<(u64, usize)> = stages.iter().zip(left).map(of).skip(1).collect();
        later.reverse();
        let sum = |a: (u64, usize), b: &(u64, usize)| (a.0 + b.0, a.1 + b.1);
        Course {
            before: (0, 0),
            after: later.iter().fold((0, 0), sum),
            later,
        }
    }

    /// The progress of the whole run from that of the stage under way.
    fn of_all(&self, stage: Progress) -> Progress {
        Progress {
            done: self.before.0 + stage.done,
            total: self.before.0 + stage.total + self.after.0,
            tiles: self.before.1 + stage.tiles,
            tile_count: self.before.1 + stage.tile_count + self.after.1,
        }
    }

    /// A stage of so many operations and tiles is done.
    fn pass(&mut self, (operations, tiles): (u64, usize)) {
        self.before = (self.before.0 + operations, self.before.1 + tiles);
        if let Some(next) = self.later.pop() {
            self.after = (self.after.0 - next.0, self.after.1 - next.1);
        }
    }
}

/// The parts of a plan that go one way, under way.
struct Leg<'a, B: Contract> {
    backends: &'a [&'a B],
    /// Which devices are lost.
    lost: Vec<bool>,
    work: &'a Work<'a>,
    plan: &'a Plan,
    /// The name under which a plan for less memory is noted.
    note: &'static str,
    sink: &'a dyn Sink<B::Real>,
    control: &'a Control<'a>,
}

impl<B: Contract> Leg<'_, B> {
    /// Makes what is left of the stage.
    fn run(&self, left: Left) -> Result<Report> {
        let (backends, plan, sink) = (self.backends, self.plan, self.sink);
        let host = backends.iter().all(|b| b.accumulates_in_host_memory());
        let before: Vec<_> = backends.iter().map(|b| b.device_counters()).collect();
        let (peak, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        // What the collectors hold is enough; a CPU has none.
        let (send, receive) = sync_channel::<Item<B::Real>>(usize::from(host));
        let (receive, written) = (Mutex::new(receive), Mutex::new(Vec::new()));
        let (failed, operations) = (AtomicBool::new(false), AtomicU64::new(0));
        let (made, fraction, found) = (left.entries, left.fraction(plan), left.found);
        let ledger = Ledger::new(left.tiles, left.vectors, found);
        let mut report = std::thread::scope(|scope| {
            // Also when the driver panics, as a user's loss may: the scope waits for the watcher.
            let _stop = StopOnDrop(&stop);
            scope.spawn(|| watch_memory(&peak, &stop));
            let writer = Writer {
                plan,
                sink,
                items: &receive,
                written: &written,
                // Parts that go forward start from tiles of zeros, a device from its own.
                keep: host && plan.routes.is_none(),
                lenient: self.work.lenient,
                failed: &failed,
            };
            let writers: Vec<_> = (0..WRITING)
                .map(|_| scope.spawn(move || writer.run()))
                .collect();
            let mut attempts = Attempts {
                backends,
                alive: (0..backends.len()).filter(|&k| !self.lost[k]).collect(),
                shared: Shared {
                    work: self.work,
                    plan,
                    ledger: &ledger,
                    sink,
                    cancel: self.control.cancel,
                    failed: &failed,
                    written: &written,
                    operations: &operations,
                    fraction,
                    devices: backends.len(),
                },
                note: self.note,
                control: self.control,
                report: Report {
                    devices: backends.iter().map(|b| named(b.device_name())).collect(),
                    ..Report::default()
                },
            };
            let driven = attempts.run(&send);
            let mut report = attempts.report;
            drop(send);
            for writer in writers {
                let stopped = || Err(Error::Device("the writer stopped unexpectedly".into()));
                // A writer that failed makes sending fail: its error is the cause.
                let (busy, non_finite) = writer.join().unwrap_or_else(|_| stopped())?;
                report.write_seconds = report.write_seconds.max(busy);
                report.non_finite += non_finite;
            }
            driven.map(|()| report)
        })?;
        let (passes, contractions) = plan.operations_of(fraction);
        report.operations = passes + contractions;
        report.factor_operations = passes;
        report.entries = made;
        report.bytes = report.entries * size_of::<B::Real>() as u64;
        report.tiles = ledger.tiles_done();
        report.found_tiles = found;
        for ((backend, before), share) in backends.iter().zip(before).zip(&mut report.devices) {
            let (Some(before), Some(after)) = (before, backend.device_counters()) else {
                continue;
            };
            let busy = after.busy_seconds - before.busy_seconds;
            share.busy_seconds = Some(busy);
            let most = report
                .device_busy_seconds
                .map_or(busy, |most| most.max(busy));
            report.device_busy_seconds = Some(most);
            report.read_back_bytes += after.read_back_bytes - before.read_back_bytes;
            report.read_back_seconds += after.read_back_seconds - before.read_back_seconds;
        }
        report.peak_anonymous_bytes = Some(peak.into_inner()).filter(|&bytes| bytes > 0);
        Ok(report)
    }
}

/// What is left to make of a plan.
struct Left {
    tiles: BTreeSet<usize>,
    vectors: bool,
    /// Entries of both.
    entries: u64,
    /// Tiles of this process's share that are there.
    found: usize,
}

/// A tile of a plan, or a vector.
struct Piece {
    stage: usize,
    /// The tile's number in its stage; `None` for a vector.
    number: Option<usize>,
    mirrored: bool,
}

impl Left {
    /// Asks the sink, tile by tile, for each stage: what an earlier run wrote is read again and compared with its checksum.
    fn of<R: Real>(
        stages: &[Cow<'_, Plan>],
        sink: &dyn Sink<R>,
        control: &Control<'_>,
    ) -> Result<Vec<Left>> {
        /// Tiles that are read between two looks at the caller, at most.
        const BATCH: usize = 32;
        /// Tiles' sizes that reading one takes: a chunk, its numbers, and these transposed.
        const TIMES: u64 = 3;
        let (mut tiles, mut pieces) = (Vec::new(), Vec::new());
        for (stage, plan) in stages.iter().enumerate() {
            for (number, job) in plan.tiles.iter().enumerate() {
                tiles.push(plan.tile(job));
                pieces.push(Piece {
                    stage,
                    number: Some(number),
                    mirrored: plan.mirrored(job),
                });
            }
        }
        for (stage, plan) in stages.iter().enumerate() {
            for part in plan.parts.iter().filter(|p| p.part.columns.is_none()) {
                tiles.push(Tile::whole(part.number, &part.part.layout()));
                pieces.push(Piece {
                    stage,
                    number: None,
                    mirrored: false,
                });
            }
        }
        let own = sink.share(&tiles);
        let own: Vec<usize> = (0..tiles.len()).filter(|&k| own[k]).collect();
        let tile_count = own.iter().filter(|&&k| pieces[k].number.is_some()).count();
        let operations: u64 = stages.iter().map(|plan| plan.own_operations()).sum();
        let budget = stages.iter().map(|plan| plan.host_budget()).min();
        let none = || Left {
            tiles: BTreeSet::new(),
            vectors: false,
            entries: 0,
            found: 0,
        };
        let mut left: Vec<Left> = stages.iter().map(|_| none()).collect();
        let largest = own.iter().map(|&k| tiles[k].entries()).max().unwrap_or(0);
        let bytes = TIMES * (largest * size_of::<R>()) as u64;
        let at_once = (budget.unwrap_or(0) / bytes.max(1)).clamp(1, BATCH as u64);
        for batch in own.chunks(at_once as usize) {
            control.check()?;
            let has: Vec<Result<bool>> = batch.par_iter().map(|&k| sink.has(&tiles[k])).collect();
            for (&at, has) in batch.iter().zip(has) {
                let piece = &pieces[at];
                let left = &mut left[piece.stage];
                if has? {
                    left.found += usize::from(piece.number.is_some());
                    continue;
                }
                let entries = tiles[at].entries() as u64;
                left.entries += entries * if piece.mirrored { 2 } else { 1 };
                match piece.number {
                    Some(number) => _ = left.tiles.insert(number),
                    None => left.vectors = true,
                }
            }
            let found: usize = left.iter().map(|left| left.found).sum();
            if found > 0 {
                (control.progress)(Progress {
                    done: 0,
                    total: operations.max(1),
                    tiles: found,
                    tile_count,
                });
            }
        }
        Ok(left)
    }

    /// Its operations.
    fn operations(&self, plan: &Plan) -> u64 {
        let (passes, contractions) = plan.operations_of(self.fraction(plan));
        passes + contractions
    }

    /// Its tiles, and those that an earlier run made.
    fn all_tiles(&self) -> usize {
        self.tiles.len() + self.found
    }

    /// Share of the stage's work.
    fn fraction(&self, plan: &Plan) -> f64 {
        let all = plan.own_entries() as f64;
        if all == 0.0 {
            1.0
        } else {
            self.entries as f64 / all
        }
    }
}

/// The share of a device that did nothing so far.
fn named(name: String) -> DeviceShare {
    DeviceShare {
        name,
        ..DeviceShare::default()
    }
}

/// The devices at work until all tiles are made, or nothing helps.
struct Attempts<'a, B: Contract> {
    backends: &'a [&'a B],
    /// Indices of the devices that are not lost.
    alive: Vec<usize>,
    shared: Shared<'a, B::Real>,
    note: &'static str,
    control: &'a Control<'a>,
    report: Report,
}

impl<B: Contract> Attempts<'_, B> {
    fn run(&mut self, send: &SyncSender<Item<B::Real>>) -> Result<()> {
        let ledger = self.shared.ledger;
        let mut plan = Cow::Borrowed(self.shared.plan);
        loop {
            let made = self.attempt(&plan, send);
            let (mut lost, mut memory, mut other) = (Vec::new(), None, None);
            for (device, share, result) in made {
                self.add(device, &share);
                match result {
                    Ok(()) => {}
                    Err(Error::DeviceLost(message)) => lost.push((device, message)),
                    Err(Error::DeviceMemory(message)) => memory = Some(message),
                    // Others are interrupted where one fails.
                    Err(Error::Interrupted) => {}
                    Err(error) => _ = other.get_or_insert(error),
                }
            }
            if let Some(error) = other {
                return Err(error);
            }
            self.control.check()?;
            for (device, _) in &lost {
                self.report.devices[*device].lost = true;
            }
            self.alive
                .retain(|&device| lost.iter().all(|(gone, _)| *gone != device));
            let messages: Vec<String> = lost.into_iter().map(|(_, message)| message).collect();
            if self.alive.is_empty() {
                let done = self.tiles_done();
                return Err(Error::DeviceLost(format!(
                    "{}; {done}",
                    messages.join("; ")
                )));
            }
            for message in &messages {
                self.warn(format!("{message}; the other devices make its tiles"));
            }
            match memory {
                Some(message) => plan = Cow::Owned(self.smaller(&plan, message)?),
                None if ledger.is_complete() => return Ok(()),
                None if messages.is_empty() => {
                    return Err(Error::Device("tiles were left out".into()));
                }
                None => {}
            }
            ledger.go_on();
        }
    }

    /// A plan for half the memory, after a device had none left.
    fn smaller(&mut self, plan: &Plan, message: String) -> Result<Plan> {
        let planned = Bytes(plan.device_bytes.into());
        let smaller = plan.halved(self.shared.work.network).map_err(|refused| {
            let done = self.tiles_done();
            Error::DeviceMemory(format!(
                "{message}; {planned} were planned with, and for half of them: {refused}; {done}"
            ))
        })?;
        self.warn(format!(
            "{message}; {planned} were planned with: going on with {}, {} samples and {} directions at a time",
            Bytes(smaller.device_bytes.into()),
            smaller.unit,
            smaller.chunk
        ));
        let replanned = Replanned {
            tiles_done: self.shared.ledger.tiles_done(),
            unit_samples: smaller.unit,
            unit_directions: smaller.chunk,
            keep: smaller.keep,
            device_bytes: smaller.device_bytes,
            device_budget: smaller.device_budget(),
        };
        // Rounding is another from here on.
        let note = serde_json::json!(replanned);
        self.shared.sink.note(self.note, note)?;
        self.report.replanned.push(replanned);
        for &device in &self.alive {
            self.backends[device].forget_failure();
        }
        Ok(smaller)
    }

    fn tiles_done(&self) -> String {
        let (done, all) = self.shared.ledger.there();
        format!("{done} of {all} tiles were made before")
    }

    fn warn(&mut self, message: String) {
        tracing::warn!("{message}");
        self.report.warnings.push(message);
    }

    fn add(&mut self, device: usize, share: &Share) {
        let report = &mut self.report;
        report.devices[device].tiles += share.tiles;
        report.factor_seconds += share.factor_seconds;
        report.contraction_seconds += share.contraction_seconds;
        report.wait_seconds += share.wait_seconds;
        report.non_finite += share.non_finite;
    }

    /// Lets all devices that are alive take tiles until none is left or one fails.
    fn attempt(
        &self,
        plan: &Plan,
        send: &SyncSender<Item<B::Real>>,
    ) -> Vec<(usize, Share, Result<()>)> {
        let shared = Shared {
            plan,
            devices: self.alive.len(),
            ..self.shared
        };
        if let [only] = self.alive[..] {
            let progress = self.control.progress;
            let (share, result) = drive(self.backends[only], &shared, progress, send.clone());
            return vec![(only, share, result)];
        }
        std::thread::scope(|scope| {
            let (tell, told) = channel::<Progress>();
            let devices: Vec<_> = self
                .alive
                .iter()
                .map(|&device| {
                    let (backend, send, tell) = (self.backends[device], send.clone(), tell.clone());
                    let shared = &shared;
                    scope.spawn(move || {
                        let progress = |progress| _ = tell.send(progress);
                        // Nor where this one panics, as a user's loss may, are they to go on.
                        let stop = StopOnPanic(shared.ledger);
                        let (share, result) = drive(backend, shared, &progress, send);
                        // The others go on without a lost device, and stop for anything else.
                        if !matches!(result, Ok(()) | Err(Error::DeviceLost(_))) {
                            shared.ledger.stop();
                        }
                        drop(stop);
                        (device, share, result)
                    })
                })
                .collect();
            drop(tell);
            // The caller's progress is the caller's thread's; where it panics, the devices are not to go on.
            let _stop = StopOnPanic(shared.ledger);
            for progress in told {
                (self.control.progress)(progress);
            }
            let join = |device: std::thread::ScopedJoinHandle<'_, _>| match device.join() {
                Ok(made) => made,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            devices.into_iter().map(join).collect()
        })
    }
}

/// Stops all devices when it goes out of scope in a panic.
struct StopOnPanic<'a>(&'a Ledger);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop();
        }
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
