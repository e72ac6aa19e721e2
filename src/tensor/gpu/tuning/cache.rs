//! Findings on disk: one JSON file per adapter, driver and version of the kernels.

use crate::files::cache::{Slot, hash};
use crate::tensor::gpu::adapter::AdapterReport;
use crate::tensor::gpu::findings::Findings;

/// What findings depend on beside the device: kernels of another text have other speeds.
const KERNELS: [&str; 6] = [
    include_str!("../../../../shaders/common.wgsl"),
    include_str!("../../../../shaders/gemm.wgsl"),
    include_str!("../params.rs"),
    include_str!("../kernel/offsets.rs"),
    include_str!("../kernel/product.rs"),
    include_str!("../tiles.rs"),
];

fn slot(report: &AdapterReport) -> Slot {
    let kernels = hash(KERNELS.into_iter().chain([env!("CARGO_PKG_VERSION")]));
    let of = [&*report.name, &*report.backend, &*report.driver];
    Slot::new("device", &of, &kernels)
}

/// What is on disk for this adapter, driver and these kernels.
pub(super) fn load(report: &AdapterReport) -> Option<Findings> {
    let findings: Findings = slot(report).load()?;
    let sound = |rate: f64| rate.is_finite() && rate > 0.0;
    let plausible = sound(findings.read_back) && findings.shapes.iter().all(|s| sound(s.gflops));
    plausible.then_some(findings)
}

/// Keeps findings; where that cannot be, they are found anew next time.
pub(super) fn store(report: &AdapterReport, findings: &Findings) {
    slot(report).store(findings, "devices are measured anew at every start");
}
