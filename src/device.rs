//! Where the work runs: the CPU in either precision, or a GPU.

use crate::error::{Error, Result};
use crate::schedule::budget::{Bytes, available_memory};
use crate::schedule::plan::Limits;
use crate::tensor::cpu::Cpu;
#[cfg(feature = "gpu")]
use crate::tensor::gpu::{Gpu, Selector};

/// The precision of the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Precision {
    /// Single.
    #[default]
    F32,
    /// Double; CPU only.
    F64,
}

/// A device that is ready to work.
#[derive(Clone)]
#[non_exhaustive]
pub enum Device {
    /// The CPU in single precision.
    CpuF32(Cpu<f32>),
    /// The CPU in double precision: the reference.
    CpuF64(Cpu<f64>),
    /// A GPU, in single precision.
    #[cfg(feature = "gpu")]
    Gpu(Gpu),
}

/// Runs `$body` with `$backend` bound to the device's backend.
#[macro_export]
macro_rules! with_backend {
    ($device:expr, $backend:ident => $body:expr) => {
        match $device {
            $crate::device::Device::CpuF32($backend) => $body,
            $crate::device::Device::CpuF64($backend) => $body,
            #[cfg(feature = "gpu")]
            $crate::device::Device::Gpu($backend) => $body,
        }
    };
}
