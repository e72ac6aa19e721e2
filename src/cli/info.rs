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
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let picked = Device::auto()?;
    let why = picked.note().unwrap_or("the first hardware adapter");
    let memory = available_memory();
    #[cfg(feature = "gpu")]
    let adapters = crate::tensor::gpu::adapters();
    #[cfg(feature = "gpu")]
    let planned = |adapter: &crate::tensor::gpu::AdapterReport| {
        crate::device::planned_memory(adapter, adapter.memory, memory.unwrap_or(4 << 30))
    };
    #[cfg(feature = "gpu")]
    if command.retune && command.device.as_deref() != Some("cpu") {
        retune(command.device.as_deref(), &adapters)?;
    }
    if command.retune {
        measure_rates(command.device.as_deref())?;
    }
    let cpus = [Precision::F32, Precision::F64].map(Device::cpu);
    let rated = |device: &Device| Rates::stored(device).is_some();
    #[cfg(not(feature = "gpu"))]
    let adapters: Vec<()> = Vec::new();
    if command.json {
        #[cfg(feature = "gpu")]
        let adapters: Vec<_> = adapters
            .iter()
            .map(|adapter| {
                let mut value = serde_json::json!(adapter);
                value["planned_memory"] = serde_json::json!(planned(adapter));
                value["findings"] = serde_json::json!(stored(adapter));
                value
            })
            .collect();
        return print_json(&serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "cpu": {
                "threads": threads,
                "available_bytes": memory,
                "rates": { "f32": rated(&cpus[0]), "f64": rated(&cpus[1]) },
            },
            "adapters": adapters,
            "auto": { "picks": picked.name(), "why": why },
            "operations": onnx::operations(),
        }));
    }
    let memory = memory.map_or("unknown".into(), |b| Bytes(b.into()).to_string());
    print(&format!(
        "CPU        {threads} threads, {memory} available; f32 and f64; --device cpu"
    ))?;
    let known: Vec<&str> = cpus
        .iter()
        .filter(|cpu| rated(cpu))
        .map(|cpu| cpu.precision().name())
        .collect();
    print(&match known.is_empty() {
        true => "   rates not measured yet: the first plan does".to_string(),
        false => format!("   rates measured: {}", known.join(", ")),
    })?;
    #[cfg(feature = "gpu")]
    for adapter in &adapters {
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
        print(&format!("   probed: {found}"))?;
    }
    if adapters.len() > 1 {
        print("several    share the tiles of blocks: --device 0,1 or all")?;
    }
    if adapters.is_empty() {
        print("adapters   none found")?;
    }
    print(&format!("auto       picks {}: {why}", picked.name()))?;
    print(&format!("ONNX       {}", onnx::operations().join(" ")))
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
        let control = Control {
            progress: &|_| {},
            cancel: CANCEL.flag(),
        };
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
