//! What a run did.

use crate::plan::{Keep, Units};
use crate::tensor::RateLimits;
use std::fmt;

/// What a run did, by stage.
///
/// ```
/// # use hessblock::data::Dataset;
/// # use hessblock::loss::CrossEntropy;
/// # use hessblock::network::builder::Builder;
/// # use hessblock::{Device, Output, Part, Precision, Session};
/// # use ndarray::{arr1, arr2};
/// # let network = Builder::new(&[3]).linear("fc1", 4).tanh().linear("fc2", 2).initialize(0).build()?;
/// # let data = Dataset::from_arrays(arr2(&[[0.1, 0.2, 0.3], [0.5, -0.4, 0.0]]), arr1(&[0i64, 1]));
/// # let session = Session::builder(network).data(data).loss(CrossEntropy::mean())
/// #     .device(Device::cpu(Precision::F32)).build()?;
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("blocks");
/// let report = session.ggn().parts([Part::layer("fc2")])?.write(Output::folder(&path))?;
/// assert_eq!((report.entries, report.bytes), (100, 400));
/// assert_eq!(report.non_finite, 0);
/// println!("{:.1} Gflop/s over {:.3} s", report.gflops(), report.seconds);
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct RunReport {
    /// Seconds from start to end.
    pub seconds: f64,
    /// Seconds of reading data, forward and reverse passes (enqueued only, on a GPU; of several devices together).
    pub factor_seconds: f64,
    /// Seconds of contractions (likewise).
    pub contraction_seconds: f64,
    /// Seconds of copying finished tiles to host memory, beside the rest.
    pub read_back_seconds: f64,
    /// Bytes that were copied from the device: tiles, and what passes and diagonals read.
    pub read_back_bytes: u64,
    /// Seconds that the device had work under way; of several devices the busiest.
    pub device_busy_seconds: Option<f64>,
    /// Seconds that the busiest writer was busy, beside the rest.
    pub write_seconds: f64,
    /// Seconds of making the result durable at the end.
    pub sync_seconds: f64,
    /// Seconds of waiting for the writer, or for read-back.
    pub wait_seconds: f64,
    /// Floating-point operations, as planned.
    pub operations: u64,
    /// Those of them that are forward and reverse passes.
    pub factor_operations: u64,
    /// Entries of the parts that this run made.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Tiles computed.
    pub tiles: usize,
    /// Tiles that an earlier run made, which this one went on with.
    pub found_tiles: usize,
    /// Whether the result was whole already, so that nothing was done.
    pub was_whole: bool,
    /// Most anonymous resident memory seen during the run, where the system tells.
    pub peak_anonymous_bytes: Option<u64>,
    /// Entries that are NaN or infinite.
    pub non_finite: u64,
    /// Most device memory in use at a time, on a GPU.
    pub peak_device_bytes: Option<u64>,
    /// What went wrong on the way and was got over.
    pub warnings: Vec<String>,
    /// The plans that the run went on with where a device had less memory than the plan before counted on.
    pub replanned: Vec<Replanned>,
    /// What each device did, in the order in which they were given.
    pub devices: Vec<DeviceShare>,
    /// What took longest.
    pub bottleneck: Option<Bottleneck>,
}

/// What one device did.
///
/// ```
/// # use hessblock::data::Dataset;
/// # use hessblock::loss::CrossEntropy;
/// # use hessblock::network::builder::Builder;
/// # use hessblock::{Device, Output, Part, Precision, Session};
/// # use ndarray::{arr1, arr2};
/// # let network = Builder::new(&[3]).linear("fc1", 4).tanh().linear("fc2", 2).initialize(0).build()?;
/// # let data = Dataset::from_arrays(arr2(&[[0.1, 0.2, 0.3], [0.5, -0.4, 0.0]]), arr1(&[0i64, 1]));
/// # let session = Session::builder(network).data(data).loss(CrossEntropy::mean())
/// #     .device(Device::cpu(Precision::F32)).build()?;
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("blocks");
/// let report = session.ggn().parts([Part::Layers])?.write(Output::folder(&path))?;
/// for device in &report.devices {
///     println!("{} made {} of {} tiles", device.name, device.tiles, report.tiles);
/// }
/// assert_eq!(report.devices[0].tiles, report.tiles); // a single device made all of them
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct DeviceShare {
    /// Its name.
    pub name: String,
    /// Tiles made.
    pub tiles: usize,
    /// Seconds with work under way, where it is not the CPU.
    pub busy_seconds: Option<f64>,
    /// Whether it was lost on the way.
    pub lost: bool,
}

impl DeviceShare {
    /// The share of a device that did nothing so far.
    pub(super) fn named(name: String) -> DeviceShare {
        DeviceShare {
            name,
            ..DeviceShare::default()
        }
    }
}

/// The stage of a run that took longest, which the others waited for.
///
/// ```
/// # use hessblock::data::Dataset;
/// # use hessblock::loss::CrossEntropy;
/// # use hessblock::network::builder::Builder;
/// # use hessblock::{Device, Output, Part, Precision, Session};
/// # use ndarray::{arr1, arr2};
/// # let network = Builder::new(&[3]).linear("fc1", 4).tanh().linear("fc2", 2).initialize(0).build()?;
/// # let data = Dataset::from_arrays(arr2(&[[0.1, 0.2, 0.3], [0.5, -0.4, 0.0]]), arr1(&[0i64, 1]));
/// # let session = Session::builder(network).data(data).loss(CrossEntropy::mean())
/// #     .device(Device::cpu(Precision::F32)).build()?;
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("blocks");
/// let report = session.ggn().parts([Part::Layers])?.write(Output::folder(&path))?;
/// if let Some(slowest) = report.bottleneck {
///     println!("{}: busy {:.0} % of the time", slowest.stage, 100.0 * slowest.busy_fraction);
///     println!("{:.2e} {}", slowest.rate, slowest.unit);
///     assert!(slowest.busy_fraction <= 1.0);
/// }
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Bottleneck {
    /// The stage.
    pub stage: Stage,
    /// Share of the run's time that it was busy.
    pub busy_fraction: f64,
    /// What it did in a second of that.
    pub rate: f64,
    /// Of what.
    pub unit: &'static str,
    /// What it was seen to do at most, where that was measured.
    pub limit: Option<f64>,
}

/// What a run does at once, or one after the other on a CPU.
///
/// ```
/// # use hessblock::data::Dataset;
/// # use hessblock::loss::CrossEntropy;
/// # use hessblock::network::builder::Builder;
/// # use hessblock::{Device, Output, Part, Precision, Session};
/// # use ndarray::{arr1, arr2};
/// # let network = Builder::new(&[3]).linear("fc1", 4).tanh().linear("fc2", 2).initialize(0).build()?;
/// # let data = Dataset::from_arrays(arr2(&[[0.1, 0.2, 0.3], [0.5, -0.4, 0.0]]), arr1(&[0i64, 1]));
/// # let session = Session::builder(network).data(data).loss(CrossEntropy::mean())
/// #     .device(Device::cpu(Precision::F32)).build()?;
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("blocks");
/// use hessblock::Stage;
/// let report = session.ggn().parts([Part::Layers])?.write(Output::folder(&path))?;
/// match report.bottleneck.map(|slowest| slowest.stage) {
///     Some(Stage::Writing | Stage::Sync) => println!("a faster disk would help"),
///     Some(stage) => println!("most time went into {stage}"),
///     None => println!("nothing was computed"),
/// }
/// assert_eq!(Stage::ReadBack.to_string(), "read-back");
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Passes on the CPU.
    Factors,
    /// Contractions on the CPU.
    Contraction,
    /// What the CPU prepares while the device waits: data, the loss's factor, commands.
    Preparation,
    /// The device's work.
    Device,
    /// Copies of tiles to host memory.
    ReadBack,
    /// What the sink takes.
    Writing,
    /// Making the result durable.
    Sync,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Factors => "factors",
            Stage::Contraction => "contraction",
            Stage::Preparation => "preparation on the CPU",
            Stage::Device => "device",
            Stage::ReadBack => "read-back",
            Stage::Writing => "writing",
            Stage::Sync => "sync",
        })
    }
}

/// A plan that a run went on with.
///
/// ```
/// # use hessblock::data::Dataset;
/// # use hessblock::loss::CrossEntropy;
/// # use hessblock::network::builder::Builder;
/// # use hessblock::{Device, Output, Part, Precision, Session};
/// # use ndarray::{arr1, arr2};
/// # let network = Builder::new(&[3]).linear("fc1", 4).tanh().linear("fc2", 2).initialize(0).build()?;
/// # let data = Dataset::from_arrays(arr2(&[[0.1, 0.2, 0.3], [0.5, -0.4, 0.0]]), arr1(&[0i64, 1]));
/// # let session = Session::builder(network).data(data).loss(CrossEntropy::mean())
/// #     .device(Device::cpu(Precision::F32)).build()?;
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("blocks");
/// let report = session.ggn().parts([Part::Layers])?.write(Output::folder(&path))?;
/// for plan in &report.replanned {
///     println!("after {} tiles: {} samples per unit", plan.tiles_done, plan.unit_samples);
/// }
/// assert!(report.replanned.is_empty()); // no device had less memory than planned
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Replanned {
    /// Tiles that were made by then.
    pub tiles_done: usize,
    /// Samples per unit from there on.
    pub unit_samples: usize,
    /// Directions per reverse pass from there on.
    pub unit_directions: usize,
    /// What becomes of the factors from there on.
    pub keep: Keep,
    /// Predicted peak on the device from there on.
    pub device_bytes: u64,
    /// Bytes that the plan was to keep within on the device.
    pub device_budget: u64,
}

impl Replanned {
    /// The names they are noted under, for runs that go on with this one ([`crate::sink::Sink::noted`]): of a plan, and of its
    /// rest.
    pub(super) const NOTES: [&str; 2] = ["replanned", "replanned_forward"];

    /// The plan's units from there on.
    pub(super) fn units(&self) -> Units {
        Units {
            samples: self.unit_samples,
            directions: self.unit_directions,
            rest: None,
        }
    }
}

impl RunReport {
    /// Finds what took longest, once all times are known.
    pub(crate) fn find_bottleneck(&mut self, limits: RateLimits) {
        let computing = self.factor_seconds + self.contraction_seconds;
        let (operations, read) = (self.operations as f64, self.read_back_bytes as f64);
        let passes = self.factor_operations as f64;
        let (flops, bytes) = ("flop/s", "B/s");
        let written = self.bytes as f64;
        let mut stages = match self.device_busy_seconds {
            None => vec![
                (Stage::Factors, self.factor_seconds, passes, flops, None),
                (
                    Stage::Contraction,
                    self.contraction_seconds,
                    operations - passes,
                    flops,
                    None,
                ),
            ],
            Some(busy) => {
                let idle = (computing / self.devices.len().max(1) as f64 - busy).max(0.0);
                let of_all =
                    |limit: Option<f64>| limit.map(|limit| limit * self.devices.len() as f64);
                let (work, read_back) = (of_all(limits.operations), of_all(limits.read_back));
                vec![
                    (Stage::Device, busy, operations, flops, work),
                    (Stage::Preparation, idle, operations, flops, None),
                    (
                        Stage::ReadBack,
                        self.read_back_seconds,
                        read,
                        bytes,
                        read_back,
                    ),
                ]
            }
        };
        stages.push((Stage::Writing, self.write_seconds, written, bytes, None));
        stages.push((Stage::Sync, self.sync_seconds, written, bytes, None));
        let longest = stages.into_iter().max_by(|a, b| a.1.total_cmp(&b.1));
        self.bottleneck =
            longest
                .filter(|longest| longest.1 > 0.0)
                .map(|(stage, busy, done, unit, limit)| Bottleneck {
                    stage,
                    busy_fraction: busy / self.seconds.max(busy),
                    rate: done / busy,
                    unit,
                    limit,
                });
    }

    /// Adds what a later stage of the same run did, on the same devices.
    pub(super) fn add(&mut self, later: RunReport) {
        let sum = |a: Option<f64>, b: Option<f64>| match (a, b) {
            (Some(a), Some(b)) => Some(a + b),
            (a, b) => a.or(b),
        };
        self.factor_seconds += later.factor_seconds;
        self.contraction_seconds += later.contraction_seconds;
        self.read_back_seconds += later.read_back_seconds;
        self.read_back_bytes += later.read_back_bytes;
        self.device_busy_seconds = sum(self.device_busy_seconds, later.device_busy_seconds);
        self.write_seconds += later.write_seconds;
        self.wait_seconds += later.wait_seconds;
        self.operations += later.operations;
        self.factor_operations += later.factor_operations;
        self.entries += later.entries;
        self.bytes += later.bytes;
        self.tiles += later.tiles;
        self.found_tiles += later.found_tiles;
        self.peak_anonymous_bytes = self.peak_anonymous_bytes.max(later.peak_anonymous_bytes);
        self.non_finite += later.non_finite;
        self.peak_device_bytes = self.peak_device_bytes.max(later.peak_device_bytes);
        self.warnings.extend(later.warnings);
        self.replanned.extend(later.replanned);
        for (own, later) in self.devices.iter_mut().zip(later.devices) {
            own.tiles += later.tiles;
            own.busy_seconds = sum(own.busy_seconds, later.busy_seconds);
            own.lost |= later.lost;
        }
    }

    /// Operations per second over the whole run, in 10⁹.
    pub fn gflops(&self) -> f64 {
        self.operations as f64 / self.seconds.max(1e-9) / 1e9
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bottleneck_is_the_stage_that_was_busy_longest() {
        let mut report = RunReport {
            seconds: 10.0,
            factor_seconds: 1.0,
            contraction_seconds: 7.0,
            device_busy_seconds: Some(6.0),
            write_seconds: 9.0,
            read_back_seconds: 2.0,
            operations: 12_000,
            devices: vec![DeviceShare::default()],
            bytes: 900,
            ..RunReport::default()
        };
        let limits = RateLimits {
            operations: Some(4000.0),
            read_back: None,
        };
        let found = |report: &mut RunReport| {
            report.find_bottleneck(limits);
            let found = report.bottleneck.expect("something took time");
            (found.stage, found.busy_fraction, found.rate, found.limit)
        };
        assert_eq!(found(&mut report), (Stage::Writing, 0.9, 100.0, None));
        report.write_seconds = 0.5;
        assert_eq!(
            found(&mut report),
            (Stage::Device, 0.6, 2000.0, Some(4000.0))
        );
        // The device idles while the CPU prepares its work.
        report.device_busy_seconds = Some(1.0);
        assert_eq!(found(&mut report).0, Stage::Preparation);
        report.device_busy_seconds = None;
        assert_eq!(found(&mut report).0, Stage::Contraction);
    }
}
