//! A plan carried out: its devices, the writers beside them, and what becomes of a run when a device fails.
//!
//! May use `plan`, `jacobian`, `contraction` and `sink`; must not know of formulas.

mod attempts;
mod collector;
mod diagonal;
mod driver;
mod ledger;
mod left;
mod leg;
mod problem;
mod report;
mod writer;

use crate::control::{Control, Progress};
pub use problem::Problem;
pub use report::{Bottleneck, DeviceShare, Replanned, RunReport, Stage};

use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::plan::tiles::Grid;
use crate::sink::Sink;
use crate::tensor::Contract;
use left::Left;
use leg::Leg;
use std::borrow::Cow;
use std::time::Instant;

/// Runs a plan into a sink, which has not begun; the caller finishes it.
///
/// Where the device has less memory than planned, the rest is planned anew for half of it
/// ([`RunReport::warnings`], [`RunReport::replanned`]).
///
/// # Errors
/// Whatever the data, the device or the sink reports; [`Error::Interrupted`] when asked to stop;
/// [`Error::DeviceMemory`] where no smaller plan can be made; [`Error::DeviceLost`] with the tiles that the sink has.
pub fn run<B: Contract>(
    backend: &B,
    work: &Problem<'_>,
    plan: &Plan,
    sink: &mut dyn Sink<B::Real>,
    control: &Control<'_>,
) -> Result<RunReport> {
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
    work: &Problem<'_>,
    plan: &Plan,
    sink: &mut dyn Sink<B::Real>,
    control: &Control<'_>,
) -> Result<RunReport> {
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
    let mut report = RunReport {
        devices: backends
            .iter()
            .map(|b| DeviceShare::named(b.device_name()))
            .collect(),
        ..RunReport::default()
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
    /// The numbers of the stages to come, the last first.
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
