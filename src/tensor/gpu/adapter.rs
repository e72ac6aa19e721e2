//! Which adapters there are, and picking one of them.

use super::memory::DeviceMemory;
use crate::error::{Error, Result};

/// What an adapter is and can do.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct AdapterReport {
    /// Position in [`adapters`], for [`Selector::Index`].
    pub index: usize,
    /// Name as the driver gives it.
    pub name: String,
    /// `vulkan`, `metal` or `dx12`.
    pub backend: String,
    /// Driver and its version.
    pub driver: String,
    /// Kind of device.
    #[serde(serialize_with = "serialize_kind")]
    pub device_type: wgpu::DeviceType,
    /// Largest storage binding, in bytes: no tensor can be larger.
    pub max_binding_bytes: u64,
    /// Largest buffer, in bytes.
    pub max_buffer_bytes: u64,
    /// Shared memory per workgroup, in bytes.
    pub shared_memory_bytes: u32,
    /// Threads per workgroup.
    pub max_workgroup_threads: u32,
    /// Smallest and largest subgroup.
    pub subgroup: (u32, u32),
    /// Memory as the driver tells it.
    pub memory: DeviceMemory,
    /// The card: equal for adapters that are one card's, through another backend or driver.
    pub card: String,
}

impl AdapterReport {
    /// Whether this is a CPU in the clothes of a GPU (lavapipe, WARP), taken only when asked for.
    pub fn is_software(&self) -> bool {
        self.device_type == wgpu::DeviceType::Cpu
    }

    /// `discrete`, `integrated`, `virtual`, `software` or `unknown kind`.
    pub fn kind(&self) -> &'static str {
        kind(self.device_type)
    }
}

impl std::fmt::Display for AdapterReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = kind(self.device_type);
        write!(
            f,
            "{}: {} ({}, {kind}, {})",
            self.index, self.name, self.backend, self.driver
        )
    }
}

fn kind(device_type: wgpu::DeviceType) -> &'static str {
    match device_type {
        wgpu::DeviceType::DiscreteGpu => "discrete",
        wgpu::DeviceType::IntegratedGpu => "integrated",
        wgpu::DeviceType::VirtualGpu => "virtual",
        wgpu::DeviceType::Cpu => "software",
        wgpu::DeviceType::Other => "unknown kind",
    }
}

fn serialize_kind<S: serde::Serializer>(
    device_type: &wgpu::DeviceType,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_str(kind(*device_type))
}

/// Which adapter to open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Selector {
    /// The first hardware adapter.
    #[default]
    Auto,
    /// The adapter at this place in [`adapters`], software or not.
    Index(usize),
    /// The one adapter whose name, or `name (backend)`, contains this, upper and lower case alike.
    Name(String),
}

/// All adapters of Vulkan, Metal and DX12, hardware first, in an order that does not change between runs.
pub fn adapters() -> Vec<AdapterReport> {
    enumerate().into_iter().map(|(report, _)| report).collect()
}

fn enumerate() -> Vec<(AdapterReport, wgpu::Adapter)> {
    // GL is left out: two of its drivers' kernels ran a hundred times slower, and Vulkan covers them.
    let backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = backends;
    // Validation layers and debug labels belong to whoever debugs a driver: WGPU_VALIDATION and the like.
    descriptor.flags = wgpu::InstanceFlags::empty().with_env();
    // Where the driver tells its budget, what is beyond is refused, and planned anew, before it is swapped out.
    descriptor.memory_budget_thresholds.for_resource_creation = Some(97);
    if wgpu::Instance::enabled_backend_features().is_empty() {
        return Vec::new();
    }
    let instance = wgpu::Instance::new(descriptor);
    let found = pollster::block_on(instance.enumerate_adapters(backends));
    let mut found: Vec<_> = found
        .into_iter()
        .map(|adapter| {
            let (info, limits) = (adapter.get_info(), adapter.limits());
            let report = AdapterReport {
                index: 0,
                name: info.name.clone(),
                backend: info.backend.to_str().to_string(),
                driver: format!("{} {}", info.driver, info.driver_info)
                    .trim()
                    .to_string(),
                device_type: info.device_type,
                max_binding_bytes: limits.max_storage_buffer_binding_size,
                max_buffer_bytes: limits.max_buffer_size,
                shared_memory_bytes: limits.max_compute_workgroup_storage_size,
                max_workgroup_threads: limits.max_compute_invocations_per_workgroup,
                subgroup: (info.subgroup_min_size, info.subgroup_max_size),
                memory: DeviceMemory::of(&adapter),
                card: match info.device_pci_bus_id.as_str() {
                    "" => format!("{:04x}:{:04x}", info.vendor, info.device),
                    bus => bus.to_lowercase(),
                },
            };
            (report, info.device_pci_bus_id, adapter)
        })
        .collect();
    let rank = |kind: wgpu::DeviceType| match kind {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    };
    // Drivers list adapters in an order of their own; ties are told apart by where they are plugged in.
    found.sort_by_key(|(report, bus, _)| {
        let backend = ["vulkan", "metal", "dx12"]
            .iter()
            .position(|b| *b == report.backend);
        (
            rank(report.device_type),
            backend,
            report.name.clone(),
            bus.clone(),
        )
    });
    found
        .into_iter()
        .enumerate()
        .map(|(index, (report, _, adapter))| (AdapterReport { index, ..report }, adapter))
        .collect()
}

/// Finds the adapter that a selector means.
///
/// # Errors
/// [`Error::Device`] when there is none or more than one, with what there is.
pub(super) fn select(selector: &Selector) -> Result<(AdapterReport, wgpu::Adapter)> {
    let mut found = enumerate();
    let reports: Vec<AdapterReport> = found.iter().map(|(report, _)| report.clone()).collect();
    let index = choose(selector, &reports)?;
    Ok(found.swap_remove(index))
}

fn choose(selector: &Selector, reports: &[AdapterReport]) -> Result<usize> {
    let listed = |of: &[&AdapterReport]| {
        let lines: Vec<String> = of.iter().map(|r| format!("\n  {r}")).collect();
        lines.concat()
    };
    let all: Vec<&AdapterReport> = reports.iter().collect();
    if reports.is_empty() {
        return Err(Error::Device(
            "no GPU adapter was found: install a Vulkan driver, or run on the CPU".into(),
        ));
    }
    match selector {
        Selector::Auto => match reports.iter().position(|r| !r.is_software()) {
            Some(index) => Ok(index),
            None => Err(Error::Device(format!(
                "no hardware GPU was found, only software adapters, which are used when asked for by name or index:{}",
                listed(&all)
            ))),
        },
        Selector::Index(index) if *index < reports.len() => Ok(*index),
        Selector::Index(index) => Err(Error::Device(format!(
            "there is no adapter {index}; there are:{}",
            listed(&all)
        ))),
        Selector::Name(name) => {
            let part = name.to_lowercase();
            let matching: Vec<&AdapterReport> = reports
                .iter()
                .filter(|r| {
                    format!("{} ({})", r.name, r.backend)
                        .to_lowercase()
                        .contains(&part)
                })
                .collect();
            match matching[..] {
                [one] => Ok(one.index),
                [] => Err(Error::Device(format!(
                    "no adapter's name contains {name:?}; there are:{}",
                    listed(&all)
                ))),
                _ => Err(Error::Device(format!(
                    "{name:?} is part of several adapters' names; give an index or more of the name:{}",
                    listed(&matching)
                ))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::MemorySource;
    use super::*;

    fn report(index: usize, name: &str, device_type: wgpu::DeviceType) -> AdapterReport {
        AdapterReport {
            index,
            name: name.into(),
            backend: "vulkan".into(),
            driver: String::new(),
            device_type,
            max_binding_bytes: 0,
            max_buffer_bytes: 0,
            shared_memory_bytes: 0,
            max_workgroup_threads: 0,
            subgroup: (0, 0),
            memory: DeviceMemory {
                total_bytes: None,
                free_bytes: None,
                source: MemorySource::Unknown,
            },
            card: String::new(),
        }
    }

    #[test]
    fn auto_never_takes_software_and_names_must_be_unique() {
        let gpu = report(0, "Radeon RX", wgpu::DeviceType::DiscreteGpu);
        let other = report(1, "Radeon Vega", wgpu::DeviceType::IntegratedGpu);
        let soft = report(2, "llvmpipe", wgpu::DeviceType::Cpu);
        let all = [gpu, other, soft.clone()];
        assert_eq!(choose(&Selector::Auto, &all).unwrap(), 0);
        assert!(choose(&Selector::Auto, &[AdapterReport { index: 0, ..soft }]).is_err());
        let name = |s: &str| Selector::Name(s.into());
        assert_eq!(choose(&name("LLVM"), &all).unwrap(), 2);
        assert_eq!(choose(&name("vega"), &all).unwrap(), 1);
        let ambiguous = choose(&name("radeon"), &all).unwrap_err().to_string();
        assert!(
            ambiguous.contains("RX") && ambiguous.contains("Vega"),
            "{ambiguous}"
        );
        let unknown = choose(&name("geforce"), &all).unwrap_err().to_string();
        assert!(unknown.contains("llvmpipe"), "{unknown}");
        assert!(choose(&Selector::Index(3), &all).is_err());
        assert!(choose(&Selector::Auto, &[]).is_err());
    }
}
