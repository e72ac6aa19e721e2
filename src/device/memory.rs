//! The memory that plans take a device to have.

use super::{Device, Kind};
use crate::bytes::Bytes;
use crate::plan::budget::available_memory;
use crate::plan::{Limits, RunOptions};
#[cfg(feature = "gpu")]
use crate::tensor::gpu::{AdapterReport, DeviceMemory, Gpu};

/// Share of what is free that is taken where no budget is given.
const SHARE: f64 = 0.8;

/// The GPU memory that plans count on, and the source of that number.
#[cfg(feature = "gpu")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PlannedMemory {
    /// Bytes that tensors and tiles may take where the user sets no budget.
    pub bytes: u64,
    /// The memory that `bytes` is a share of.
    pub from: &'static str,
}

/// The share of an adapter's memory that is planned with: 0.8 of what its driver says is free; where it does not say
/// that, 0.8 of all of a discrete card's memory, half of what the host has free (`host_free`) where the GPU shares it
/// (but no more than 0.8 of the heap), and 0.8 of 4 GiB where nothing is known.
#[cfg(feature = "gpu")]
pub fn planned_memory(
    report: &AdapterReport,
    memory: DeviceMemory,
    host_free: u64,
) -> PlannedMemory {
    let share = |bytes: u64| (bytes as f64 * SHARE) as u64;
    let shared = matches!(
        report.device_type,
        wgpu::DeviceType::IntegratedGpu | wgpu::DeviceType::Cpu
    );
    let (bytes, from) = match (memory.free_bytes, memory.total_bytes) {
        // What an integrated GPU's driver gives away is the host's memory, of which less may be left.
        (Some(free), _) if shared => (share(free.min(host_free)), memory.source.name()),
        (Some(free), _) => (share(free), memory.source.name()),
        // More than there is of a heap is never given.
        (None, Some(total)) if shared && share(total) < host_free / 2 => {
            (share(total), memory.source.name())
        }
        _ if shared => (host_free / 2, "half of the host's free memory"),
        (None, Some(total)) => (share(total), memory.source.name()),
        _ => (share(4 << 30), "an assumption: the driver does not tell"),
    };
    PlannedMemory { bytes, from }
}

impl Device {
    /// The limits that a plan keeps: the budgets given, else a share of what is free.
    #[cfg_attr(not(feature = "gpu"), allow(unused_variables))] // the device's memory is a GPU's
    pub fn limits(&self, options: RunOptions) -> Limits {
        let free = available_memory().unwrap_or(4 << 30);
        // What is free is beside what the process holds.
        let (host, held) = match options.host_memory {
            Some(bytes) => (bytes, options.held),
            None => ((free as f64 * SHARE) as u64, 0),
        };
        #[cfg(feature = "gpu")]
        let of_gpu = |gpu: &Gpu, sharing: u64| Limits {
            device: options.memory.unwrap_or_else(|| {
                planned_memory(gpu.report(), gpu.memory(), free).bytes / sharing
            }),
            host,
            held,
            sharing: 1,
            tensor: gpu.max_tensor_bytes(),
            unified: false,
        };
        match &self.kind {
            Kind::CpuF32(_) | Kind::CpuF64(_) => Limits {
                device: host,
                host,
                held,
                sharing: 1,
                tensor: u64::MAX,
                unified: true,
            },
            #[cfg(feature = "gpu")]
            Kind::Gpu(gpu) => of_gpu(gpu, 1),
            #[cfg(feature = "gpu")]
            Kind::Gpus(gpus) => {
                // Each works by the same plan: one that the smallest of them has room for.
                let card = |gpu: &Gpu| gpu.report().card.clone();
                let sharing = |gpu: &Gpu| {
                    let same = gpus.all().iter().filter(|other| card(other) == card(gpu));
                    same.count() as u64
                };
                let all = gpus.all().iter().map(|gpu| of_gpu(gpu, sharing(gpu)));
                let smallest = all.reduce(|a, b| Limits {
                    device: a.device.min(b.device),
                    tensor: a.tensor.min(b.tensor),
                    ..a
                });
                let smallest = smallest.expect("there is at least one");
                Limits {
                    sharing: gpus.all().len() as u64,
                    ..smallest
                }
            }
        }
    }

    /// Bounds what the device's driver holds for this process; nothing on the CPU.
    pub fn set_memory(&self, bytes: u64) {
        match &self.kind {
            Kind::CpuF32(_) | Kind::CpuF64(_) => _ = bytes,
            #[cfg(feature = "gpu")]
            Kind::Gpu(gpu) => gpu.set_budget(bytes),
            #[cfg(feature = "gpu")]
            Kind::Gpus(gpus) => gpus.all().iter().for_each(|gpu| gpu.set_budget(bytes)),
        }
    }

    /// A line about budgets that do not apply.
    pub fn budget_note(&self, memory: Option<Bytes>) -> Option<String> {
        match &self.kind {
            Kind::CpuF32(_) | Kind::CpuF64(_) if memory.is_some() => {
                Some("--memory is the device's; on the CPU only --host-memory counts".into())
            }
            _ => None,
        }
    }
}

#[cfg(all(test, feature = "gpu"))]
mod tests {
    use super::*;
    use crate::tensor::gpu::MemorySource;
    use crate::tensor::gpu::adapters;

    #[test]
    fn what_the_driver_says_goes_before_what_is_assumed() {
        let Some(mut report) = adapters().into_iter().next() else {
            return;
        };
        let memory = |total_bytes, free_bytes, source| DeviceMemory {
            total_bytes,
            free_bytes,
            source,
        };
        report.device_type = wgpu::DeviceType::DiscreteGpu;
        let told = memory(Some(1000), Some(500), MemorySource::VulkanBudget);
        let heap = memory(Some(1000), None, MemorySource::VulkanHeap);
        let unknown = memory(None, None, MemorySource::Unknown);
        let bytes =
            |report: &AdapterReport, memory, host| planned_memory(report, memory, host).bytes;
        assert_eq!(bytes(&report, told, 100), 400);
        assert_eq!(
            planned_memory(&report, told, 100).from,
            "VK_EXT_memory_budget"
        );
        assert_eq!(bytes(&report, heap, 100), 800);
        assert_eq!(
            bytes(&report, unknown, 100),
            ((4u64 << 30) as f64 * SHARE) as u64
        );
        report.device_type = wgpu::DeviceType::IntegratedGpu;
        assert_eq!(bytes(&report, told, 100), 80);
        assert_eq!(bytes(&report, told, 5000), 400);
        assert_eq!(bytes(&report, heap, 100), 50);
        assert_eq!(bytes(&report, heap, 5000), 800);
        assert_eq!(bytes(&report, unknown, 5000), 2500);
    }
}
