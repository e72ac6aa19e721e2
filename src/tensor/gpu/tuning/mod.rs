//! What is found out about a device when it is first used: what its compiler does to sums and loops, how fast it is read
//! back, and which tile shapes are fast there. Kept on disk by adapter, driver and kernels.

mod cache;
mod probe;
mod shapes;

pub use crate::files::cache::cache_folder;

use super::Gpu;
use super::adapter::AdapterReport;
use super::device::{Device, Options};
use super::findings::{Findings, Tuning};
use super::lock::lock;
use crate::error::Result;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// What was found out about an adapter before, if anything.
pub fn stored(report: &AdapterReport) -> Option<Findings> {
    cache::load(report)
}

/// Finds out about an adapter, or looks up what is known; says whether it was found out now.
///
/// # Errors
/// What opening it reports; [`crate::Error::Device`] where its loops end before the kernels' do.
pub(super) fn findings(
    report: &AdapterReport,
    adapter: &wgpu::Adapter,
    tuning: Tuning,
) -> Result<(Findings, bool)> {
    /// What this process found out: where nothing can be stored, the same kernels are chosen until it ends.
    static KNOWN: Mutex<Vec<(Model, Findings)>> = Mutex::new(Vec::new());
    type Model = (String, String, String);

    let model = (
        report.name.clone(),
        report.backend.clone(),
        report.driver.clone(),
    );
    // Nobody else measures meanwhile, nor works on the device.
    let mut known = lock(&KNOWN);
    if tuning == Tuning::Stored {
        let found = known.iter().find(|(other, _)| *other == model);
        let found = found.map(|(_, found)| found.clone());
        if let Some(found) = found.or_else(|| cache::load(report)) {
            return Ok((found, false));
        }
    }
    let start = Instant::now();
    // A device of its own: what this takes is nobody's peak.
    let options = Options {
        checked: false,
        poison: false,
        ..Options::default()
    };
    let device = Device::open(report.clone(), adapter, options, &Findings::default())?;
    let gpu = Gpu {
        device: Arc::new(device),
        measured: true,
    };
    let mut found = probe::probe(&gpu)?;
    if tuning == Tuning::Trial || !report.is_software() {
        shapes::measure(&gpu, &mut found)?;
    }
    found.seconds = start.elapsed().as_secs_f64();
    tracing::info!(adapter = %report, seconds = found.seconds, "measured");
    if tuning != Tuning::Trial {
        cache::store(report, &found);
        known.retain(|(other, _)| *other != model);
        known.push((model, found.clone()));
    }
    Ok((found, true))
}
