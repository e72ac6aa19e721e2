//! `info`.

use super::args::Info;
use super::{CANCEL, print, print_json};
use crate::bytes::Bytes;
use crate::control::Control;
use crate::forecast::Rates;
use crate::import::onnx;
use crate::plan::budget::available_memory;
#[cfg(feature = "gpu")]
use crate::tensor::gpu::{AdapterReport, Gpu, Options, Selector, Tuning, stored};
use crate::{Device, Precision, Result};

/// `hessblock info`.
pub fn run(command: &Info) -> Result<()> {
    let picked = Device::auto()?;
    #[cfg(feature = "gpu")]
    let adapters = crate::tensor::gpu::adapters();
    #[cfg(not(feature = "gpu"))]
    let adapters: Vec<Adapter> = Vec::new();
    #[cfg(feature = "gpu")]
    if command.retune && command.device.as_deref() != Some("cpu") {
        retune(command.device.as_deref(), &adapters)?;
    }
    if command.retune {
        measure_rates(command.device.as_deref())?;
    }
    match command.json {
        true => print_json(&machine(&picked, &adapters)),
        false => describe(&picked, &adapters),
    }
}

/// An adapter of a build that has no backend for any.
#[cfg(not(feature = "gpu"))]
enum Adapter {}

#[cfg(feature = "gpu")]
use AdapterReport as Adapter;

/// Why a device was picked.
fn why(picked: &Device) -> &str {
    picked.note().unwrap_or("the first hardware adapter")
}

/// The CPU in both precisions.
fn cpus() -> [Device; 2] {
    [Precision::F32, Precision::F64].map(Device::cpu)
}

fn rated(device: &Device) -> bool {
    Rates::stored(device).is_some()
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The GPU memory that plans count on.
#[cfg(feature = "gpu")]
fn planned(adapter: &Adapter) -> crate::device::PlannedMemory {
    let host_free = available_memory().unwrap_or(4 << 30);
    crate::device::planned_memory(adapter, adapter.memory, host_free)
}

/// Describes CPU, adapters and operations as JSON.
fn machine(picked: &Device, adapters: &[Adapter]) -> serde_json::Value {
    #[cfg(feature = "gpu")]
    let described = |adapter: &Adapter| {
        let mut value = serde_json::json!(adapter);
        value["planned_memory"] = serde_json::json!(planned(adapter));
        value["findings"] = serde_json::json!(stored(adapter));
        value
    };
    #[cfg(not(feature = "gpu"))]
    let described = |adapter: &Adapter| -> serde_json::Value { match *adapter {} };
    let adapters: Vec<_> = adapters.iter().map(described).collect();
    let [single, double] = cpus();
    serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "cpu": {
            "threads": threads(),
            "available_bytes": available_memory(),
            "rates": { "f32": rated(&single), "f64": rated(&double) },
        },
        "adapters": adapters,
        "auto": { "picks": picked.name(), "why": why(picked) },
        "operations": onnx::operations(),
    })
}

/// Prints CPU, adapters and operations as text.
fn describe(picked: &Device, adapters: &[Adapter]) -> Result<()> {
    let memory = available_memory().map_or("unknown".into(), |b| Bytes(b.into()).to_string());
    let threads = threads();
    print(&format!(
        "CPU        {threads} threads, {memory} available; f32 and f64; --device cpu"
    ))?;
    let cpus = cpus();
    let known = cpus.iter().filter(|cpu| rated(cpu));
    let known: Vec<&str> = known.map(|cpu| cpu.precision().name()).collect();
    print(&match known.is_empty() {
        true => "   rates not measured yet: the first plan does".to_string(),
        false => format!("   rates measured: {}", known.join(", ")),
    })?;
    #[cfg(feature = "gpu")]
    for adapter in adapters {
        describe_adapter(adapter)?;
    }
    if adapters.len() > 1 {
        print("several    share the tiles of blocks: --device 0,1 or all")?;
    }
    if adapters.is_empty() {
        print("adapters   none found")?;
    }
    print(&format!(
        "auto       picks {}: {}",
        picked.name(),
        why(picked)
    ))?;
    print(&format!("ONNX       {}", onnx::operations().join(" ")))
}

#[cfg(feature = "gpu")]
fn describe_adapter(adapter: &Adapter) -> Result<()> {
    print(&adapter.to_string())?;
    let planned = planned(adapter);
    let bytes = |b: u64| Bytes(b.into()).to_string();
    print(&format!(
        "   largest tensor {}, buffer {}; {} of shared memory and {} threads per workgroup; f32; --device {}",
        bytes(adapter.max_binding_bytes),
        bytes(adapter.max_buffer_bytes),
        bytes(adapter.shared_memory_bytes.into()),
        adapter.max_workgroup_threads,
        adapter.index
    ))?;
    let total = adapter.memory.total_bytes;
    print(&format!(
        "   memory {}; plans take {} ({})",
        total.map_or("unknown".into(), bytes),
        bytes(planned.bytes),
        planned.from
    ))?;
    let found = stored(adapter).map_or("not used yet".into(), |f| f.to_string());
    print(&format!("   probed: {found}"))
}

/// Measures how long each kind of work takes on the device that a selector means, or on the CPU and all hardware adapters, and
/// keeps what is found.
fn measure_rates(device: Option<&str>) -> Result<()> {
    let mut devices = Vec::new();
    match device {
        Some("cpu") => {}
        Some(text) => devices.push(Device::open(text.trim(), Precision::F32)?),
        // Each is measured by itself: a plan for several asks for the first of them.
        #[cfg(feature = "gpu")]
        None => {
            let all = crate::tensor::gpu::adapters();
            for adapter in all.iter().filter(|adapter| !adapter.is_software()) {
                devices.push(Device::open(&adapter.index.to_string(), Precision::F32)?);
            }
        }
        #[cfg(not(feature = "gpu"))]
        None => {}
    }
    if device.is_none_or(|text| text == "cpu") {
        devices.extend([Precision::F32, Precision::F64].map(Device::cpu));
    }
    for device in &devices {
        let control = Control::stopped_by(CANCEL.flag());
        Rates::anew(device, &control)?;
    }
    Ok(())
}

/// Measures the adapter that a selector means, or all hardware ones, and keeps what is found.
#[cfg(feature = "gpu")]
fn retune(device: Option<&str>, adapters: &[AdapterReport]) -> Result<()> {
    let choices: Vec<Selector> = match device {
        Some(text) => vec![crate::device::choice(text.trim())],
        None => {
            let hardware = adapters.iter().filter(|adapter| !adapter.is_software());
            hardware.map(|a| Selector::Index(a.index)).collect()
        }
    };
    if choices.is_empty() {
        super::note(
            false,
            "there is no hardware adapter to measure; a software one is probed by --device",
        );
    }
    for choice in &choices {
        let options = Options {
            tuning: Tuning::Anew,
            ..Options::default()
        };
        Gpu::open_with(choice, options)?;
    }
    Ok(())
}
