//! What came out, as JSON, to be attached to a bug report.

use super::case::{Group, TestCase};
use super::compare::Measure;
use crate::error::{Error, Result};
use crate::trial::System;
use serde::{Deserialize, Serialize};

/// What the files say they are.
const FORMAT: &str = "hessblock selftest";
/// The version of their form.
const FORMAT_VERSION: u64 = 1;

/// Everything that was tested in one go.
///
/// ```
/// # use hessblock::{Device, Precision};
/// # use hessblock::selftest::{run, select};
/// # use hessblock::CancelToken;
/// # let device = Device::cpu(Precision::F32);
/// # let cancel = CancelToken::new();
/// let report = run(&device, &select(&["primitive/take".into()])?, &|_| (), &cancel)?;
/// for case in report.failures() {
///     println!("{}: {:?}", case.name, case.fault);
/// }
/// assert_eq!(report.passed + report.failed, report.cases.len());
/// println!("{}", report.json()?); // to be attached to a bug report
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TestReport {
    /// `hessblock selftest`.
    pub format: String,
    /// The version of this form.
    pub format_version: u64,
    /// The crate's version.
    pub version: String,
    /// The machine, with its operating system.
    pub system: System,
    /// What was tested.
    pub device: TestedDevice,
    /// Cases that passed.
    pub passed: usize,
    /// Cases that failed.
    pub failed: usize,
    /// Seconds in all.
    pub seconds: f64,
    /// Cases, in order.
    pub cases: Vec<TestedCase>,
}

/// The device under test.
///
/// ```
/// # use hessblock::{Device, Precision};
/// # use hessblock::selftest::{run, select};
/// # use hessblock::CancelToken;
/// # let device = Device::cpu(Precision::F32);
/// # let cancel = CancelToken::new();
/// let report = run(&device, &select(&["primitive/take".into()])?, &|_| (), &cancel)?;
/// println!("tested {}", report.device.name);
/// assert_eq!((report.device.kind.as_str(), report.device.driver), ("cpu", None));
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TestedDevice {
    /// The adapter's name, or the processor's.
    pub name: String,
    /// `cpu`, or an adapter's kind: `discrete`, `integrated`, `virtual`, `software`.
    pub kind: String,
    /// `cpu`, `vulkan`, `metal` or `dx12`.
    pub backend: String,
    /// An adapter's driver and its version.
    pub driver: Option<String>,
    /// What was found out about an adapter's compiler and speed, in words.
    pub probe: Option<String>,
    /// The same as [`Findings`](crate::tensor::gpu::Findings).
    pub findings: Option<serde_json::Value>,
}

/// What became of a case.
///
/// ```
/// # use hessblock::{Device, Precision};
/// # use hessblock::selftest::{run, select};
/// # use hessblock::CancelToken;
/// # let device = Device::cpu(Precision::F32);
/// # let cancel = CancelToken::new();
/// let report = run(&device, &select(&["primitive/take".into()])?, &|_| (), &cancel)?;
/// let case = &report.cases[0];
/// println!("{}: error {:?}, {} allowed", case.name, case.error, case.measure.allowed());
/// assert!(case.pass && case.fault.is_none());
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TestedCase {
    /// Its group.
    pub group: Group,
    /// What was tested.
    pub subject: String,
    /// Its name, group and subject included.
    pub name: String,
    /// Its error, where it is a number.
    pub error: Option<f64>,
    /// In what that is measured, and what it may be.
    #[serde(flatten)]
    pub measure: Measure,
    /// Whether shader checks changed no bit, where they may not.
    pub same_bits: Option<bool>,
    /// Whether the numbers are right.
    pub pass: bool,
    /// What is wrong.
    pub fault: Option<String>,
    /// Seconds, the reference's included.
    pub seconds: f64,
}

impl TestedCase {
    pub(super) fn new(case: &TestCase) -> TestedCase {
        TestedCase {
            group: case.group(),
            subject: case.subject().into(),
            name: case.name(),
            error: None,
            measure: case.measure(),
            same_bits: None,
            pass: false,
            fault: None,
            seconds: 0.0,
        }
    }

    /// The error as a share of what is allowed; infinite where there is no number.
    pub(super) fn share(&self) -> f64 {
        match (self.error, self.measure.allowed()) {
            (Some(0.0), _) => 0.0,
            (Some(error), allowed) => error / allowed,
            (None, _) => f64::INFINITY,
        }
    }
}

impl TestReport {
    pub(super) fn new(device: TestedDevice, cases: Vec<TestedCase>, seconds: f64) -> TestReport {
        let passed = cases.iter().filter(|case| case.pass).count();
        TestReport {
            format: FORMAT.into(),
            format_version: FORMAT_VERSION,
            version: env!("CARGO_PKG_VERSION").into(),
            system: System::here(),
            device,
            passed,
            failed: cases.len() - passed,
            seconds,
            cases,
        }
    }

    /// The cases that failed.
    pub fn failures(&self) -> impl Iterator<Item = &TestedCase> {
        self.cases.iter().filter(|case| !case.pass)
    }

    /// All of it as JSON.
    ///
    /// # Errors
    /// [`Error::Value`] where it cannot be written.
    pub fn json(&self) -> Result<String> {
        serde_json::to_string_pretty(self)
            .map(|text| text + "\n")
            .map_err(|e| Error::Value(format!("the report cannot be written as JSON: {e}")))
    }
}
