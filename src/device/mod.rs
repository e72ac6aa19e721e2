//! Devices: the CPU in either precision, a GPU, or several GPUs.

#[cfg(feature = "gpu")]
mod gpus;
mod memory;
mod open;

#[cfg(feature = "gpu")]
pub use gpus::Gpus;
#[cfg(feature = "gpu")]
pub use memory::{PlannedMemory, planned_memory};
pub use open::AvailableDevice;
#[cfg(feature = "gpu")]
pub use open::choice;

use crate::error::Result;
use crate::plan::tiles::Grid;
use crate::precision::Precision;
use crate::tensor::cpu::Cpu;
#[cfg(feature = "gpu")]
use crate::tensor::gpu::Gpu;
use std::fmt;
use std::sync::Arc;

/// A device that is ready to work: the CPU in either precision, a GPU, or several GPUs.
///
/// It is cheap to clone. It prints as its name; what the user should know of the choice ("no hardware GPU found") is its
/// [`Device::note`].
///
/// ```
/// use hessblock::{Device, Precision};
/// let device = Device::cpu(Precision::F64);
/// assert_eq!((device.to_string().as_str(), device.precision()), ("CPU", Precision::F64));
/// // A GPU where there is one:
/// println!("{}", Device::auto()?);
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone)]
pub struct Device {
    kind: Kind,
    note: Option<Arc<str>>,
}

/// The backend, or backends, of a device.
#[derive(Clone)]
#[non_exhaustive]
pub enum Kind {
    /// The CPU in single precision.
    CpuF32(Cpu<f32>),
    /// The CPU in double precision: the reference.
    CpuF64(Cpu<f64>),
    /// A GPU, in single precision.
    #[cfg(feature = "gpu")]
    Gpu(Gpu),
    /// Several GPUs, which share the tiles of blocks; whatever else is asked for runs on the first of them.
    #[cfg(feature = "gpu")]
    Gpus(Gpus),
}

/// Runs `$body` with `$backend` bound to the device's backend, that of the first of several.
macro_rules! with_backend {
    ($device:expr, $backend:ident => $body:expr) => {
        match $device.kind() {
            $crate::device::Kind::CpuF32($backend) => $body,
            $crate::device::Kind::CpuF64($backend) => $body,
            #[cfg(feature = "gpu")]
            $crate::device::Kind::Gpu($backend) => $body,
            #[cfg(feature = "gpu")]
            $crate::device::Kind::Gpus(gpus) => {
                let $backend = gpus.first();
                $body
            }
        }
    };
}

/// Runs `$body` with `$backends` bound to all backends of the device: those of several GPUs share its work.
macro_rules! with_backends {
    ($device:expr, $backends:ident => $body:expr) => {
        match $device.kind() {
            #[cfg(feature = "gpu")]
            $crate::device::Kind::Gpus(gpus) => {
                let $backends: &[_] = &gpus.all().iter().collect::<Vec<_>>();
                $body
            }
            _ => $crate::device::with_backend!($device, backend => {
                let $backends: &[_] = &[backend];
                $body
            }),
        }
    };
}

pub(crate) use {with_backend, with_backends};

/// The widest vector instructions of this CPU that are used: sums of other widths round differently.
fn vectors() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") {
            return "AVX-512";
        }
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
        {
            return "AVX2";
        }
    }
    if cfg!(target_arch = "aarch64") {
        "NEON"
    } else {
        "portable"
    }
}

impl From<Kind> for Device {
    fn from(kind: Kind) -> Device {
        Device { kind, note: None }
    }
}

/// A GPU that was opened with options of its own.
#[cfg(feature = "gpu")]
impl From<Gpu> for Device {
    fn from(gpu: Gpu) -> Device {
        Kind::Gpu(gpu).into()
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name())
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device")
            .field("name", &self.name())
            .field("driver", &self.driver())
            .field("precision", &self.precision())
            .finish()
    }
}

impl Device {
    /// The backends of this build, whether or not this machine has them.
    pub fn backends() -> Vec<String> {
        #[cfg_attr(not(feature = "gpu"), allow(unused_mut))] // nothing is added
        let mut all = vec![format!("CPU ({})", vectors())];
        #[cfg(feature = "gpu")]
        {
            let enabled = wgpu::Instance::enabled_backend_features();
            let named = [
                (wgpu::Backends::VULKAN, "Vulkan"),
                (wgpu::Backends::METAL, "Metal"),
                (wgpu::Backends::DX12, "DX12"),
            ];
            let there = named
                .iter()
                .filter(|(backend, _)| enabled.contains(*backend));
            all.extend(there.map(|(_, name)| name.to_string()));
        }
        all
    }

    /// The CPU.
    pub fn cpu(precision: Precision) -> Device {
        Device::from(match precision {
            Precision::F32 => Kind::CpuF32(Cpu::new()),
            Precision::F64 => Kind::CpuF64(Cpu::new()),
        })
    }

    /// A hardware GPU where there is one, else the CPU in single precision.
    ///
    /// # Errors
    /// As [`Device::open`].
    pub fn auto() -> Result<Device> {
        Device::open("auto", Precision::F32)
    }

    /// The backend, or backends.
    #[doc(hidden)]
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// A note on the choice, such as that no GPU was found or that a new one was measured. It is also a tracing event.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    fn noted(kind: Kind, note: impl Into<String>) -> Device {
        let note: Arc<str> = note.into().into();
        tracing::info!("{note}");
        Device {
            kind,
            note: Some(note),
        }
    }

    /// Name for people and provenance.
    pub fn name(&self) -> String {
        match &self.kind {
            Kind::CpuF32(_) | Kind::CpuF64(_) => "CPU".into(),
            #[cfg(feature = "gpu")]
            Kind::Gpu(gpu) => gpu.report().name.clone(),
            #[cfg(feature = "gpu")]
            Kind::Gpus(gpus) => gpus.joined(|gpu| gpu.report().name.clone()),
        }
    }

    /// How many share the tiles of blocks.
    pub fn count(&self) -> usize {
        match &self.kind {
            #[cfg(feature = "gpu")]
            Kind::Gpus(gpus) => gpus.all().len(),
            _ => 1,
        }
    }

    /// The driver, for provenance.
    pub fn driver(&self) -> Option<String> {
        match &self.kind {
            Kind::CpuF32(_) | Kind::CpuF64(_) => None,
            #[cfg(feature = "gpu")]
            Kind::Gpu(gpu) => Some(gpu.report().driver.clone()),
            #[cfg(feature = "gpu")]
            Kind::Gpus(gpus) => Some(gpus.joined(|gpu| gpu.report().driver.clone())),
        }
    }

    /// The measured properties that decide how the device's kernels sum, for provenance.
    pub fn kernels(&self) -> Option<serde_json::Value> {
        match &self.kind {
            Kind::CpuF32(_) | Kind::CpuF64(_) => Some(serde_json::json!({ "vectors": vectors() })),
            #[cfg(feature = "gpu")]
            Kind::Gpu(gpu) => serde_json::to_value(gpu.findings()).ok(),
            #[cfg(feature = "gpu")]
            Kind::Gpus(gpus) => {
                let all: Vec<_> = gpus.all().iter().map(Gpu::findings).collect();
                serde_json::to_value(all).ok()
            }
        }
    }

    /// The precision that it computes in.
    pub fn precision(&self) -> Precision {
        match &self.kind {
            Kind::CpuF64(_) => Precision::F64,
            _ => Precision::F32,
        }
    }

    /// Whether it works in the host's memory, so that blocks in memory are made in place.
    pub(crate) fn shares_host_memory(&self) -> bool {
        matches!(self.kind, Kind::CpuF32(_) | Kind::CpuF64(_))
    }

    /// How parts are cut that go to files.
    pub fn grid(&self) -> Grid {
        match &self.kind {
            Kind::CpuF32(_) | Kind::CpuF64(_) => Grid::Panels,
            #[cfg(feature = "gpu")]
            Kind::Gpu(_) | Kind::Gpus(_) => Grid::Squares,
        }
    }
}
