//! The self-test of a device, and the benchmark of devices.

use crate::device::Device;
use crate::work;
use hessblock::bench::{
    self as benches, BenchOptions, BenchProgress, device_heading, device_table,
};
use hessblock::selftest::{self as tests, TestProgress};
use pyo3::prelude::*;

/// Tests a device: the table, and everything as JSON.
#[pyfunction]
#[pyo3(signature = (device, cases=vec![], *, progress: "Progress" = None))]
#[allow(clippy::needless_pass_by_value)] // Python's list is turned into one of ours
pub fn selftest(
    py: Python<'_>,
    device: &Device,
    cases: Vec<String>,
    progress: Option<Bound<'_, PyAny>>,
) -> PyResult<(String, String)> {
    work::run(py, progress.as_ref(), |token, told| {
        let cases = tests::select(&cases)?;
        let step = |p: TestProgress<'_>| told.step(p.done as u64, p.total as u64);
        let report = tests::run(&device.0, &cases, &step, token)?;
        let table = format!("{}\n{}", tests::heading(&report), tests::table(&report));
        Ok((table, report.json()?))
    })
}

/// Measures devices: the tables, and everything as JSON.
#[pyfunction]
#[pyo3(signature = (devices, cases=vec![], *, seconds=0.5, progress: "Progress" = None))]
#[allow(clippy::needless_pass_by_value)] // Python's lists are turned into ours
pub fn bench(
    py: Python<'_>,
    devices: Vec<PyRef<'_, Device>>,
    cases: Vec<String>,
    seconds: f64,
    progress: Option<Bound<'_, PyAny>>,
) -> PyResult<(String, String)> {
    let devices: Vec<hessblock::Device> = devices.iter().map(|d| d.0.clone()).collect();
    work::run(py, progress.as_ref(), |token, told| {
        let cases = benches::select(&cases)?;
        let step = |p: BenchProgress<'_>| told.step(p.done as u64, p.total as u64);
        let options = BenchOptions { seconds };
        let report = benches::measure(&cases, &devices, options, &step, token)?;
        let tables = report.devices.iter().map(|device| {
            format!(
                "{}\n{}",
                device_heading(device, &report),
                device_table(device)
            )
        });
        Ok((tables.collect::<Vec<_>>().join("\n"), report.json()?))
    })
}
