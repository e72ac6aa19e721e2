//! Runs cases on a device and compares what comes out with CPU f64.

use super::case::{Group, TestCase};
use super::compare::difference;
use super::draft::COPIES;
use super::report::{TestReport, TestedCase, TestedDevice};
use crate::control::CancelToken;
use crate::device::{Device, Kind};
use crate::error::{Error, Result};
use crate::tensor::Contract;
#[cfg(feature = "gpu")]
use crate::tensor::gpu::{Gpu, Options, Selector};
use crate::trial::System;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// The progress of a run.
///
/// ```
/// # use hessblock::{Device, Precision};
/// # use hessblock::selftest::{run, select};
/// # use hessblock::CancelToken;
/// # let device = Device::cpu(Precision::F32);
/// # let cancel = CancelToken::new();
/// use hessblock::selftest::TestProgress;
/// let show = |progress: TestProgress<'_>| {
///     println!("{} of {}: {}", progress.done, progress.total, progress.case);
///     assert!(progress.done < progress.total);
/// };
/// run(&device, &select(&["primitive/take".into()])?, &show, &cancel)?;
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct TestProgress<'a> {
    /// Cases done.
    pub done: usize,
    /// Cases in all.
    pub total: usize,
    /// The name of the case that is next.
    pub case: &'a str,
}

/// Tests a device. A GPU runs every case twice, compiled with shader checks and without, all its tensors filled with NaN
/// before they are written. A case that fails is in the report and does not end the run.
///
/// ```
/// use hessblock::selftest::{run, select};
/// use hessblock::{Device, Precision};
/// use hessblock::CancelToken;
///
/// let cases = select(&["primitive/take".into()])?;
/// let report = run(&Device::cpu(Precision::F32), &cases, &|_| (), &CancelToken::new())?;
/// assert_eq!((report.passed, report.failed), (cases.len(), 0));
/// # Ok::<(), hessblock::Error>(())
/// ```
///
/// # Errors
/// [`Error::Request`] for the CPU in double precision, which is the reference; [`Error::Device`] where the device
/// cannot be opened; [`Error::Interrupted`].
pub fn run(
    device: &Device,
    cases: &[TestCase],
    progress: &dyn Fn(TestProgress<'_>),
    cancel: &CancelToken,
) -> Result<TestReport> {
    let (clock, cancel) = (Instant::now(), cancel.flag());
    let (described, cases) = match device.kind() {
        Kind::CpuF64(_) => {
            return Err(Error::Request(
                "CPU f64 is the reference and cannot be tested against itself: test the CPU in single precision or a GPU"
                    .into(),
            ));
        }
        Kind::CpuF32(cpu) => {
            let described = TestedDevice {
                name: System::here().processor,
                kind: "cpu".into(),
                backend: "cpu".into(),
                driver: None,
                probe: None,
                findings: None,
            };
            let backends = [cpu.clone()];
            (described, run_on(&backends, cases, progress, cancel)?)
        }
        #[cfg(feature = "gpu")]
        Kind::Gpus(_) => {
            return Err(Error::Request(
                "one device is tested at a time: give a single index or name".into(),
            ));
        }
        #[cfg(feature = "gpu")]
        Kind::Gpu(gpu) => {
            let report = gpu.report();
            let described = TestedDevice {
                name: report.name.clone(),
                kind: report.kind().into(),
                backend: report.backend.clone(),
                driver: Some(report.driver.clone()),
                probe: Some(gpu.findings().to_string()),
                findings: serde_json::to_value(gpu.findings()).ok(),
            };
            let open = |checked| {
                let options = Options {
                    checked,
                    poison: true,
                    ..Options::default()
                };
                Gpu::open_with(&Selector::Index(report.index), options)
            };
            let backends = [open(true)?, open(false)?];
            (described, run_on(&backends, cases, progress, cancel)?)
        }
    };
    let seconds = clock.elapsed().as_secs_f64();
    Ok(TestReport::new(described, cases, seconds))
}

/// Tests any backend, in one form or in several (a GPU with shader checks and without) whose products are to be the same
/// bits.
///
/// # Errors
/// [`Error::Interrupted`]; what CPU f64, the reference, reports.
pub fn run_on<B: Contract + Sync>(
    backends: &[B],
    cases: &[TestCase],
    progress: &dyn Fn(TestProgress<'_>),
    cancel: &AtomicBool,
) -> Result<Vec<TestedCase>> {
    let mut reports = Vec::with_capacity(cases.len());
    for (done, case) in cases.iter().enumerate() {
        if cancel.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        let (total, name) = (cases.len(), case.name());
        let case_name = name.as_str();
        progress(TestProgress {
            done,
            total,
            case: case_name,
        });
        reports.push(one(backends, case)?);
    }
    Ok(reports)
}

fn one<B: Contract + Sync>(backends: &[B], case: &TestCase) -> Result<TestedCase> {
    let clock = Instant::now();
    let mut report = TestedCase::new(case);
    let reference = case.reference()?;
    let (mut runs, mut worst, mut fault) = (Vec::new(), 0.0f64, None);
    // Operations and networks are made of primitives that were compared in every form: the last one, as users have it, does.
    let alone = matches!(case.group(), Group::Operation | Group::Network);
    let forms = &backends[if alone {
        backends.len().saturating_sub(1)
    } else {
        0
    }..];
    // At once: a driver compiles a kernel on one thread, and the forms have kernels of their own.
    let found = std::thread::scope(|scope| {
        let start = |backend| scope.spawn(move || case.run(backend));
        let forms: Vec<_> = forms.iter().map(start).collect();
        let ended = forms.into_iter().map(|form| form.join());
        ended.collect::<Vec<_>>()
    });
    for found in found {
        let found = found.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match found {
            Ok(found) => {
                let compared = case.measure().compare(&found, &reference);
                worst = worst.max(compared.error);
                fault = fault.or(compared.fault);
                runs.push(found);
            }
            Err(error) => {
                worst = f64::INFINITY;
                fault = fault.or(Some(error.to_string()));
            }
        }
    }
    if let ([first, second], true) = (&runs[..], case.is_fixed()) {
        let differs = difference(first, second);
        report.same_bits = Some(differs.is_none());
        // Of sums, a driver may compile the two forms differently (Metal's fast math): both are compared with the reference.
        if case.measure() == COPIES {
            fault = fault.or(differs);
        }
    }
    report.error = Some(worst).filter(|error| error.is_finite());
    report.pass = fault.is_none();
    report.fault = fault;
    report.seconds = clock.elapsed().as_secs_f64();
    Ok(report)
}
