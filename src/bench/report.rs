//! What was measured, as a JSON file, and such files read back.

use super::case::SET;
use super::measure::Timing;
use super::peak::Peak;
use crate::error::{Error, Result};
use crate::files::{folders, is_there, open};
use crate::setting::{FORCE, OUT};
use crate::trial::System;
use serde::{Deserialize, Serialize};
use std::io::Read as _;
use std::path::Path;

/// What the files say they are.
const FORMAT: &str = "hessblock bench";
/// The version of the files' form.
const FORMAT_VERSION: u64 = 1;
/// Bytes of the largest file that is taken for a report.
const MOST_BYTES: u64 = 64 << 20;

/// Everything that was measured in one go.
///
/// ```
/// use hessblock::bench::BenchReport;
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("bench.json");
/// # let text = r#"{"format": "hessblock bench", "format_version": 1, "set": 1, "version": "0.1.0",
/// #     "system": {"processor": "Example CPU", "architecture": "x86_64", "os": "Debian 12", "threads": 8},
/// #     "devices": [{"name": "Example CPU", "kind": "cpu", "precision": "f32", "backend": "cpu", "threads": 8,
/// #         "peak": {"flops": 4e11}, "cases": [{"name": "lenet5/gradient", "outcome": "passed", "error": 2e-7,
/// #             "tolerance": 1e-5, "operations": 200000000, "gflops": 100.0, "timing": {"median_seconds": 2e-3,
/// #             "least_seconds": 1.9e-3, "most_seconds": 2.2e-3, "runs": 51, "batch": 3}}]}]}"#;
/// # std::fs::write(&path, text).map_err(hessblock::Error::io(&path))?;
/// let report = BenchReport::read(&path)?; // written by `hessblock bench --out bench.json`
/// for (device, case) in report.failures() {
///     println!("{} failed on {}: {:?}", case.name, device.name, case.reason);
/// }
/// assert_eq!(report.failures().count(), 0);
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BenchReport {
    /// `hessblock bench`.
    pub format: String,
    /// The version of this form.
    pub format_version: u64,
    /// The version of the set of cases: their sizes and meaning.
    pub set: u64,
    /// The crate's version.
    pub version: String,
    /// The machine.
    pub system: System,
    /// Devices, in order.
    pub devices: Vec<BenchedDevice>,
}

/// A device with its cases.
///
/// ```
/// use hessblock::bench::BenchReport;
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("bench.json");
/// # let text = r#"{"format": "hessblock bench", "format_version": 1, "set": 1, "version": "0.1.0",
/// #     "system": {"processor": "Example CPU", "architecture": "x86_64", "os": "Debian 12", "threads": 8},
/// #     "devices": [{"name": "Example CPU", "kind": "cpu", "precision": "f32", "backend": "cpu", "threads": 8,
/// #         "peak": {"flops": 4e11}, "cases": [{"name": "lenet5/gradient", "outcome": "passed", "error": 2e-7,
/// #             "tolerance": 1e-5, "operations": 200000000, "gflops": 100.0, "timing": {"median_seconds": 2e-3,
/// #             "least_seconds": 1.9e-3, "most_seconds": 2.2e-3, "runs": 51, "batch": 3}}]}]}"#;
/// # std::fs::write(&path, text).map_err(hessblock::Error::io(&path))?;
/// let report = BenchReport::read(&path)?; // written by `hessblock bench --out bench.json`
/// let device = &report.devices[0];
/// println!("{} in {}, {:?} threads", device.name, device.precision, device.threads);
/// assert_eq!((device.kind.as_str(), device.cases.len()), ("cpu", 1));
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BenchedDevice {
    /// The adapter's name, or the processor's.
    pub name: String,
    /// `cpu`, or an adapter's kind: `discrete`, `integrated`, `virtual`, `software`.
    pub kind: String,
    /// `f32` or `f64`.
    pub precision: String,
    /// `cpu`, `vulkan`, `metal` or `dx12`.
    pub backend: String,
    /// An adapter's driver and its version.
    pub driver: Option<String>,
    /// Threads of the CPU.
    pub threads: Option<usize>,
    /// What the device can do at most.
    pub peak: Peak,
    /// Cases, in order.
    pub cases: Vec<BenchedCase>,
}

/// What became of a case.
///
/// ```
/// use hessblock::bench::{BenchReport, Outcome};
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("bench.json");
/// # let text = r#"{"format": "hessblock bench", "format_version": 1, "set": 1, "version": "0.1.0",
/// #     "system": {"processor": "Example CPU", "architecture": "x86_64", "os": "Debian 12", "threads": 8},
/// #     "devices": [{"name": "Example CPU", "kind": "cpu", "precision": "f32", "backend": "cpu", "threads": 8,
/// #         "peak": {"flops": 4e11}, "cases": [{"name": "lenet5/gradient", "outcome": "passed", "error": 2e-7,
/// #             "tolerance": 1e-5, "operations": 200000000, "gflops": 100.0, "timing": {"median_seconds": 2e-3,
/// #             "least_seconds": 1.9e-3, "most_seconds": 2.2e-3, "runs": 51, "batch": 3}}]}]}"#;
/// # std::fs::write(&path, text).map_err(hessblock::Error::io(&path))?;
/// let report = BenchReport::read(&path)?; // written by `hessblock bench --out bench.json`
/// let cases = report.devices.iter().flat_map(|device| &device.cases);
/// for case in cases.filter(|case| case.outcome == Outcome::Skipped) {
///     println!("there was no room for {}", case.name);
/// }
/// assert_eq!(report.devices[0].cases[0].outcome, Outcome::Passed);
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Its numbers are right, and it was timed.
    Passed,
    /// Its numbers are wrong, or the device failed: it was not timed.
    Failed,
    /// The machine has no room for it.
    Skipped,
}

/// A case on a device.
///
/// ```
/// use hessblock::bench::BenchReport;
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("bench.json");
/// # let text = r#"{"format": "hessblock bench", "format_version": 1, "set": 1, "version": "0.1.0",
/// #     "system": {"processor": "Example CPU", "architecture": "x86_64", "os": "Debian 12", "threads": 8},
/// #     "devices": [{"name": "Example CPU", "kind": "cpu", "precision": "f32", "backend": "cpu", "threads": 8,
/// #         "peak": {"flops": 4e11}, "cases": [{"name": "lenet5/gradient", "outcome": "passed", "error": 2e-7,
/// #             "tolerance": 1e-5, "operations": 200000000, "gflops": 100.0, "timing": {"median_seconds": 2e-3,
/// #             "least_seconds": 1.9e-3, "most_seconds": 2.2e-3, "runs": 51, "batch": 3}}]}]}"#;
/// # std::fs::write(&path, text).map_err(hessblock::Error::io(&path))?;
/// let report = BenchReport::read(&path)?; // written by `hessblock bench --out bench.json`
/// let case = &report.devices[0].cases[0];
/// println!("{}: {:?} s", case.name, case.seconds());
/// assert_eq!(case.gflops, Some(100.0));
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BenchedCase {
    /// Its name.
    pub name: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Why it failed or was skipped.
    pub reason: Option<String>,
    /// The largest error of its numbers, of the largest of them.
    pub error: Option<f64>,
    /// What that may be.
    pub tolerance: Option<f64>,
    /// Floating-point operations by the rules that are planned with; a multiply-add is two.
    pub operations: Option<u64>,
    /// Bytes that go through memory at least once, where that says something.
    pub bytes: Option<u64>,
    /// Times, where it passed.
    pub timing: Option<Timing>,
    /// 10⁹ operations per second, by the median.
    pub gflops: Option<f64>,
    /// 10⁹ bytes per second, by the median.
    pub gigabytes: Option<f64>,
    /// The share of the device's peak rate, of operations or of bytes, whichever is more.
    pub of_peak: Option<f64>,
    /// Which of the two: `flop` or `byte`.
    pub bound: Option<String>,
}

impl BenchedCase {
    /// A case that has not run.
    pub(super) fn new(name: &str) -> BenchedCase {
        BenchedCase {
            name: name.into(),
            outcome: Outcome::Failed,
            reason: None,
            error: None,
            tolerance: None,
            operations: None,
            bytes: None,
            timing: None,
            gflops: None,
            gigabytes: None,
            of_peak: None,
            bound: None,
        }
    }

    /// Takes the times, and what follows of them.
    pub(super) fn timed(&mut self, timing: Timing, peak: &Peak) {
        let seconds = timing.median_seconds;
        // A layout has no operations to speak of.
        let flops = self
            .operations
            .filter(|&o| o > 0)
            .map(|o| o as f64 / seconds);
        let bytes = self.bytes.map(|b| b as f64 / seconds);
        self.gflops = flops.map(|rate| rate * 1e-9);
        self.gigabytes = bytes.map(|rate| rate * 1e-9);
        let share = |rate: Option<f64>, peak: Option<f64>| Some(rate? / peak?);
        let shares = [
            ("flop", share(flops, peak.flops)),
            ("byte", share(bytes, peak.bandwidth())),
        ];
        let most = shares
            .into_iter()
            .filter_map(|(bound, share)| Some((bound, share?)))
            .max_by(|a, b| a.1.total_cmp(&b.1));
        self.of_peak = most.map(|(_, share)| share);
        self.bound = most.map(|(bound, _)| bound.into());
        self.timing = Some(timing);
        self.outcome = Outcome::Passed;
    }

    /// Seconds, the median, where the case passed.
    pub fn seconds(&self) -> Option<f64> {
        self.timing.map(|t| t.median_seconds)
    }
}

impl BenchReport {
    /// A report of this machine with no device yet.
    pub(super) fn here() -> BenchReport {
        BenchReport {
            format: FORMAT.into(),
            format_version: FORMAT_VERSION,
            set: SET.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            system: System::here(),
            devices: Vec::new(),
        }
    }

    /// Cases that failed, with their device.
    pub fn failures(&self) -> impl Iterator<Item = (&BenchedDevice, &BenchedCase)> {
        self.devices
            .iter()
            .flat_map(|device| device.cases.iter().map(move |case| (device, case)))
            .filter(|(_, case)| case.outcome == Outcome::Failed)
    }

    /// Everything, as JSON.
    ///
    /// # Errors
    /// [`Error::Value`] where a number cannot be written.
    pub fn json(&self) -> Result<String> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|e| Error::Value(format!("the report cannot be written as JSON: {e}")))?;
        Ok(text + "\n")
    }

    /// Reads a file that [`BenchReport::json`] made.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::File`] with the file and what is wrong in it.
    pub fn read(path: &Path) -> Result<BenchReport> {
        let (file, length) = open(path)?;
        let fault = |message: String| Error::file(path, message);
        if length > MOST_BYTES {
            return Err(fault(format!(
                "{length} bytes are no report of `hessblock bench`"
            )));
        }
        let mut bytes = Vec::new();
        file.take(MOST_BYTES)
            .read_to_end(&mut bytes)
            .map_err(Error::io(path))?;
        let mut value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|e| {
            fault(format!(
                "is not JSON: {e}; give files that `hessblock bench {OUT}` wrote"
            ))
        })?;
        if value.get("format").and_then(|f| f.as_str()) != Some(FORMAT) {
            return Err(fault(format!(
                "is JSON, but does not say \"format\": \"{FORMAT}\"; give files that `hessblock bench {OUT}` wrote"
            )));
        }
        // Names of devices and cases are printed.
        crate::text::escape_strings(&mut value);
        let number = |name: &str| value.get(name).and_then(serde_json::Value::as_u64);
        let made_by = value.get("version").and_then(|v| v.as_str()).unwrap_or("?");
        for (name, what, known) in [
            ("format_version", "form", FORMAT_VERSION),
            ("set", "set of cases", SET.into()),
        ] {
            match number(name) {
                Some(found) if found == known => {}
                Some(found) => {
                    return Err(fault(format!(
                        "is of version {found} of the {what} (hessblock {made_by}), this is hessblock {} with version \
                         {known}: measure again with one release on all machines",
                        env!("CARGO_PKG_VERSION")
                    )));
                }
                None => return Err(fault(format!("has no number {name:?}"))),
            }
        }
        serde_json::from_value(value).map_err(|e| fault(format!("is not a whole report: {e}")))
    }
}

/// A file to be written that can be, checked before any work starts.
///
/// # Errors
/// [`Error::File`] where its folder can be neither written nor made, or it exists and `force` was not given.
pub fn check_target(path: &Path, force: bool) -> Result<()> {
    folders::check(path)?;
    if path.is_dir() {
        return Err(Error::file(path, "is a folder: give the name of a file"));
    }
    if is_there(path) && !force {
        let why =
            format!("exists already: choose another name, remove it, or replace it with {FORCE}");
        return Err(Error::file(path, why));
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::files::whole;

    /// A report of one device with two cases, times scaled.
    pub(in crate::bench) fn example(name: &str, scale: f64) -> BenchReport {
        let peak = Peak {
            flops: Some(2e11),
            one_thread_flops: Some(1e11),
            write: Some(1e10),
            copy: Some(2e10),
        };
        let case = |name: &str, seconds: f64| {
            let mut case = BenchedCase::new(name);
            (case.operations, case.bytes) = (Some(1_000_000_000), Some(40_000_000));
            let timing = Timing {
                median_seconds: seconds,
                least_seconds: 0.9 * seconds,
                most_seconds: Some(1.1 * seconds),
                runs: 5,
                batch: 1,
            };
            case.timed(timing, &peak);
            case
        };
        let mut failed = BenchedCase::new("lenet5/diagonal");
        failed.reason = Some("number 3 is wrong".into());
        let mut report = BenchReport::here();
        report.devices.push(BenchedDevice {
            name: name.into(),
            kind: "cpu".into(),
            precision: "f32".into(),
            backend: "cpu".into(),
            driver: None,
            threads: Some(2),
            peak,
            cases: vec![
                case("primitive/conv", 0.02 * scale),
                case("lenet5/gradient", 0.5 * scale),
                failed,
            ],
        });
        report
    }

    #[test]
    fn a_report_comes_back_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        let report = example("a", 1.0);
        check_target(&path, false).unwrap();
        whole::write(&path, report.json().unwrap().as_bytes()).unwrap();
        assert_eq!(BenchReport::read(&path).unwrap(), report);
        assert!(check_target(&path, false).is_err());
        assert!(check_target(&path, true).is_ok());
        let case = &report.devices[0].cases[0];
        assert_eq!((case.gflops, case.gigabytes), (Some(50.0), Some(2.0)));
        assert_eq!(
            (case.of_peak, case.bound.as_deref()),
            (Some(0.25), Some("flop"))
        );
        assert_eq!(report.failures().count(), 1);
    }

    #[test]
    fn files_that_are_no_reports_are_refused_with_what_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        let whole = example("a", 1.0).json().unwrap();
        for (text, why) in [
            (String::from("{"), "not JSON"),
            ("[1]".into(), "hessblock bench"),
            (
                whole.replace("\"format_version\": 1", "\"format_version\": 7"),
                "version 7 of the form",
            ),
            (
                whole.replace("\"set\": 1", "\"set\": 2"),
                "version 2 of the set of cases",
            ),
            (
                whole.replace("\"set\": 1", "\"set\": null"),
                "no number \"set\"",
            ),
            (
                whole.replace("\"threads\"", "\"yarns\""),
                "not a whole report",
            ),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = BenchReport::read(&path).unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("a.json"), "{error}");
        }
    }
}
