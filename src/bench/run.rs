//! Runs cases on devices: every case is checked against CPU f64 before it is timed.

use super::case::{BenchCase, Prepared};
use super::check::{Check, SINGLE};
use super::measure::time;
use super::peak::Peak;
use super::report::{BenchReport, BenchedCase, BenchedDevice, Outcome};
use crate::control::CancelToken;
use crate::device::{Device, Kind};
use crate::error::{Error, Result};
use crate::trial::System;
use std::sync::atomic::{AtomicBool, Ordering};

/// How long to measure.
///
/// ```no_run
/// use hessblock::bench::{BenchOptions, measure, select};
/// # use hessblock::{Device, Precision};
/// # use hessblock::CancelToken;
/// let options = BenchOptions { seconds: 5.0 }; // ten times the default, for steadier numbers
/// let devices = [Device::cpu(Precision::F32)];
/// let report = measure(&select(&[])?, &devices, options, &|_| (), &CancelToken::new())?;
/// println!("{}", report.json()?);
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct BenchOptions {
    /// Seconds that each case is timed for on each device; a case that takes longer runs up to three times.
    pub seconds: f64,
}

impl Default for BenchOptions {
    fn default() -> Self {
        Self { seconds: 0.5 }
    }
}

/// How far a measurement has come.
///
/// ```
/// use hessblock::bench::{BenchOptions, BenchProgress, measure, select};
/// # use hessblock::{Device, Error, Precision};
/// # use hessblock::CancelToken;
/// # let (cases, devices) = (select(&["primitive/slice".into()])?, [Device::cpu(Precision::F32)]);
/// let cancel = CancelToken::new();
/// let show = |progress: BenchProgress<'_>| {
///     println!("{} of {}: {}", progress.done, progress.total, progress.what);
///     cancel.cancel(); // as Ctrl-C would
/// };
/// let stopped = measure(&cases, &devices, BenchOptions::default(), &show, &cancel);
/// assert!(matches!(stopped, Err(Error::Interrupted)));
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct BenchProgress<'a> {
    /// Steps done; a step is the peak of a device, or a case on one.
    pub done: usize,
    /// Steps in all.
    pub total: usize,
    /// What is done now.
    pub what: &'a str,
    /// On which device.
    pub device: &'a str,
}

/// Checks and times cases on devices, case after case, so that only one's reference is kept.
///
/// A case that fails is in the report and does not end the run.
///
/// ```
/// use hessblock::bench::{BenchOptions, measure, select};
/// use hessblock::{CancelToken, Device, Precision};
///
/// let (cases, devices) = (select(&["primitive/slice".into()])?, [Device::cpu(Precision::F32)]);
/// let options = BenchOptions { seconds: 0.01 };
/// let report = measure(&cases, &devices, options, &|_| (), &CancelToken::new())?;
/// assert!(report.devices[0].cases[0].seconds().is_some());
/// # Ok::<(), hessblock::Error>(())
/// ```
///
/// # Errors
/// [`Error::Interrupted`]; [`Error::Device`] where a peak cannot be measured.
pub fn measure(
    cases: &[BenchCase],
    devices: &[Device],
    options: BenchOptions,
    progress: &dyn Fn(BenchProgress<'_>),
    cancel: &CancelToken,
) -> Result<BenchReport> {
    let cancel = cancel.flag();
    let mut report = BenchReport::here();
    let total = devices.len() * (cases.len() + 1);
    let mut done = 0;
    let mut step = |what: &str, device: &str| {
        let (at, total) = (done, total);
        done += 1;
        progress(BenchProgress {
            done: at,
            total,
            what,
            device,
        });
        match cancel.load(Ordering::Relaxed) {
            true => Err(Error::Interrupted),
            false => Ok(()),
        }
    };
    for device in devices {
        let mut described = describe(device, &report.system);
        step("peak", &described.name)?;
        described.peak = Peak::measure_until(device, cancel)?;
        report.devices.push(described);
    }
    for case in cases {
        // A case that cannot be prepared fails on every device.
        let prepared = prepare(case);
        for (device, described) in devices.iter().zip(&mut report.devices) {
            step(case.name(), &described.name)?;
            let mut found = BenchedCase::new(case.name());
            let ended = match &prepared {
                Ok(prepared) => one(prepared, device, described, options, cancel, &mut found),
                Err(error) => Err(Error::Value(error.to_string())),
            };
            match ended {
                Ok(()) => {}
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                Err(error @ Error::Budget { .. }) => {
                    (found.outcome, found.reason) = (Outcome::Skipped, Some(error.to_string()));
                }
                Err(error) => found.reason = Some(error.to_string()),
            }
            described.cases.push(found);
        }
    }
    Ok(report)
}

/// A case with what CPU f64 gives; its reference is an error of its own where there is no room for it.
fn prepare(case: &BenchCase) -> Result<(Prepared, Result<Vec<f64>>)> {
    let prepared = case.prepare()?;
    let reference = prepared.reference();
    Ok((prepared, reference))
}

fn one(
    (prepared, reference): &(Prepared, Result<Vec<f64>>),
    device: &Device,
    described: &BenchedDevice,
    options: BenchOptions,
    cancel: &AtomicBool,
    found: &mut BenchedCase,
) -> Result<()> {
    let reference = match reference {
        Ok(reference) => reference,
        Err(Error::Budget {
            needed,
            available,
            remedies,
            message,
        }) => {
            let bytes = (*needed, *available);
            return Err(Error::budget(bytes, remedies.clone(), message.clone()));
        }
        Err(error) => return Err(Error::Value(format!("CPU f64, the reference: {error}"))),
    };
    let (operations, numbers) = prepared.work()?;
    let number_bytes = if described.precision == "f64" { 8 } else { 4 };
    (found.operations, found.bytes) = (Some(operations), numbers.map(|n| n * number_bytes));
    let ready = prepared.on(device);
    let check = match device.kind() {
        Kind::CpuF64(_) => prepared.definition(reference)?,
        _ => ready.check(reference, SINGLE)?,
    };
    if !passed(&check, found) {
        return Ok(());
    }
    if matches!(device.kind(), Kind::CpuF64(_)) {
        // The reference's own run may have been long ago.
        ready.start()?;
        ready.wait()?;
    }
    let timing = time(&|| ready.start(), &|| ready.wait(), options.seconds, cancel)?;
    found.timed(timing, &described.peak);
    Ok(())
}

/// Notes the outcome of a check.
fn passed(check: &Check, found: &mut BenchedCase) -> bool {
    found.error = Some(check.error).filter(|e| e.is_finite());
    found.tolerance = Some(check.tolerance);
    found.reason.clone_from(&check.fault);
    check.passed()
}

fn describe(device: &Device, system: &System) -> BenchedDevice {
    let cpu = BenchedDevice {
        name: system.processor.clone(),
        kind: "cpu".into(),
        precision: device.precision().to_string(),
        backend: "cpu".into(),
        driver: device.driver(),
        threads: Some(system.threads),
        peak: Peak::default(),
        cases: Vec::new(),
    };
    #[cfg(feature = "gpu")]
    let of_gpu = |gpu: &crate::tensor::gpu::Gpu, cpu| BenchedDevice {
        name: gpu.report().name.clone(),
        kind: gpu.report().kind().into(),
        backend: gpu.report().backend.clone(),
        threads: None,
        ..cpu
    };
    match device.kind() {
        Kind::CpuF32(_) | Kind::CpuF64(_) => cpu,
        #[cfg(feature = "gpu")]
        Kind::Gpu(gpu) => of_gpu(gpu, cpu),
        #[cfg(feature = "gpu")]
        Kind::Gpus(gpus) => of_gpu(gpus.first(), cpu),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::select;
    use crate::precision::Precision;
    use std::cell::RefCell;

    static GO_ON: AtomicBool = AtomicBool::new(false);

    #[test]
    fn cases_are_checked_and_timed_on_every_device_with_progress() {
        let cases = select(&["primitive/slice".into(), "primitive/take".into()]).unwrap();
        let devices = [Device::cpu(Precision::F32), Device::cpu(Precision::F64)];
        let steps = RefCell::new(Vec::new());
        let progress = |p: BenchProgress<'_>| {
            steps
                .borrow_mut()
                .push((p.done, p.total, p.what.to_string()))
        };
        let options = BenchOptions { seconds: 0.01 };
        let token = CancelToken::new();
        let report = measure(&cases, &devices, options, &progress, &token).unwrap();
        assert_eq!(report.failures().count(), 0, "{report:?}");
        let steps = steps.into_inner();
        assert_eq!(steps.len(), 6);
        assert_eq!(
            (steps[0].2.as_str(), steps[5].0, steps[5].1),
            ("peak", 5, 6)
        );
        let [single, double] = &report.devices[..] else {
            panic!("{report:?}")
        };
        let bytes = |device: &BenchedDevice| device.cases[0].bytes.unwrap();
        assert_eq!(2 * bytes(single), bytes(double));
        assert!(
            single
                .cases
                .iter()
                .all(|c| c.timing.is_some() && c.of_peak.is_some())
        );
        assert_eq!(single.cases[0].gflops, None);
        token.cancel();
        let ended = measure(&cases, &devices, options, &|_| (), &token);
        assert!(matches!(ended, Err(Error::Interrupted)));
    }

    #[test]
    fn a_case_whose_numbers_are_wrong_fails_and_is_not_timed() {
        let case = &select(&["primitive/slice".into()]).unwrap()[0];
        let (prepared, reference) = prepare(case).unwrap();
        let mut wrong = reference.unwrap();
        wrong[5] += 0.5;
        let mut report = BenchReport::here();
        let described = describe(&Device::cpu(Precision::F32), &report.system);
        for precision in [Precision::F32, Precision::F64] {
            let mut found = BenchedCase::new(case.name());
            let device = Device::cpu(precision);
            let options = BenchOptions::default();
            let given = (
                case.prepare().unwrap(),
                Ok(wrong.iter().map(|v| v + 1.0).collect()),
            );
            one(&given, &device, &described, options, &GO_ON, &mut found).unwrap();
            assert_eq!((found.outcome, found.timing), (Outcome::Failed, None));
            assert!(
                found.reason.as_ref().unwrap().contains("of the largest"),
                "{found:?}"
            );
            report.devices.push(describe(&device, &report.system));
            report.devices.last_mut().unwrap().cases.push(found);
        }
        assert_eq!(report.failures().count(), 2);
        // No room is no failure.
        let given = (
            prepared,
            Err(Error::budget((2, 1), Vec::new(), "too large")),
        );
        let mut found = BenchedCase::new(case.name());
        let device = Device::cpu(Precision::F32);
        let ended = one(
            &given,
            &device,
            &described,
            BenchOptions::default(),
            &GO_ON,
            &mut found,
        );
        assert!(matches!(ended, Err(Error::Budget { .. })));
    }
}
