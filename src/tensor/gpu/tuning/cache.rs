//! Findings on disk: one JSON file per adapter, driver and version of the kernels.

use super::Findings;
use crate::tensor::gpu::adapter::AdapterReport;
use std::path::PathBuf;

/// What findings depend on beside the device: kernels of another text have other speeds.
const KERNELS: [&str; 4] = [
    include_str!("../../../../shaders/common.wgsl"),
    include_str!("../../../../shaders/gemm.wgsl"),
    include_str!("../product/source.rs"),
    include_str!("../product/shape.rs"),
];

/// What the file holds.
#[derive(serde::Serialize, serde::Deserialize)]
struct Stored {
    adapter: String,
    backend: String,
    driver: String,
    kernels: String,
    findings: Findings,
}

/// FNV-1a, to keep names of files short: nothing depends on collisions but a measurement.
fn hash<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let bytes = texts.flat_map(|text| text.bytes().chain([0]));
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", bytes.fold(0xcbf2_9ce4_8422_2325, step))
}

/// The folder of what is measured once: `HESSBLOCK_CACHE` where that is set (nothing is kept where it is empty), else the
/// system's place for caches.
pub fn cache_folder() -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("HESSBLOCK_CACHE") {
        return (!folder.is_empty()).then(|| PathBuf::from(folder));
    }
    let variable = |name: &str| {
        let value = std::env::var_os(name).filter(|value| !value.is_empty());
        value.map(PathBuf::from)
    };
    let base = if cfg!(windows) {
        variable("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        variable("HOME").map(|home| home.join("Library/Caches"))
    } else {
        let own = variable("XDG_CACHE_HOME").filter(|path| path.is_absolute());
        own.or_else(|| Some(variable("HOME")?.join(".cache")))
    };
    Some(base?.join("hessblock"))
}

fn kernels() -> String {
    hash(KERNELS.into_iter().chain([env!("CARGO_PKG_VERSION")]))
}

fn path(report: &AdapterReport) -> Option<PathBuf> {
    let name = hash([&*report.name, &*report.backend, &*report.driver].into_iter());
    Some(cache_folder()?.join(format!("device-{name}.json")))
}

/// What is on disk for this adapter, driver and these kernels.
pub(super) fn load(report: &AdapterReport) -> Option<Findings> {
    let text = std::fs::read_to_string(path(report)?).ok()?;
    let stored: Stored = serde_json::from_str(&text).ok()?;
    let same = stored.adapter == report.name
        && stored.backend == report.backend
        && stored.driver == report.driver
        && stored.kernels == kernels();
    let sound = |rate: f64| rate.is_finite() && rate > 0.0;
    let findings = stored.findings;
    let plausible = sound(findings.read_back) && findings.shapes.iter().all(|s| sound(s.gflops));
    (same && plausible).then_some(findings)
}

/// Keeps findings; where that cannot be, they are found anew next time.
pub(super) fn store(report: &AdapterReport, findings: &Findings) {
    let stored = Stored {
        adapter: report.name.clone(),
        backend: report.backend.clone(),
        driver: report.driver.clone(),
        kernels: kernels(),
        findings: findings.clone(),
    };
    let Some(path) = path(report) else { return };
    let write = || -> std::io::Result<()> {
        let folder = path.parent().unwrap_or(&path);
        std::fs::create_dir_all(folder)?;
        // Another process may read it, or measure too.
        let partial = path.with_extension(format!("{}.partial", std::process::id()));
        let text = serde_json::to_string_pretty(&stored).map_err(std::io::Error::other)?;
        std::fs::write(&partial, text)?;
        std::fs::rename(&partial, &path)
    };
    if let Err(error) = write() {
        tracing::warn!(
            "{}: {error}; devices are measured anew at every start",
            path.display()
        );
    }
}
