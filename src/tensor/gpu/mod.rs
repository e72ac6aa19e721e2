//! The backend on any GPU that Vulkan, Metal or DX12 reaches.
//!
//! Primitives record kernels (`shaders/*.wgsl`) and return; the device meters their work, submits it in
//! portions of a fraction of a second, and only [`Backend::read`] and [`Contract::collect`] wait, or whoever
//! needs memory that work under way still holds. Nothing here panics on account of the device: the first
//! thing that goes wrong is returned by the next read.
//! This folder must not know of networks, nor of what a tile means.
//!
//! From below: `params`, `tiles` and `kernel` (text), `stream`, `busy`, `pool` and `failure` (state), `device`, `token`,
//! `launch`, then tensors and the primitives, and `tuning`, which runs them. None of these reaches back.
//!
//! [`Contract::collect`]: crate::tensor::Contract::collect

mod adapter;
mod axis;
mod busy;
mod contract;
mod conv;
mod device;
mod failure;
mod findings;
mod grouped;
mod kernel;
mod launch;
mod layout;
mod lock;
mod lookup;
mod map;
mod memory;
mod params;
mod pool;
mod product;
mod stream;
mod tensor;
mod tiles;
mod token;
mod tuning;
mod window;

use std::sync::Arc;

pub use adapter::{AdapterReport, Selector, adapters};
pub use contract::{GpuPending, GpuTile};
pub use device::{Faults, Options};
pub use findings::{Findings, ShapeRate, Tuning};
pub use kernel::{ShaderSource, map_source, shader_sources};
pub use memory::{DeviceMemory, MemorySource};
pub use tensor::{GpuIndices, GpuTensor};
pub use tuning::{cache_folder, stored};

use crate::error::Result;
use crate::tensor::{Backend, DeviceCounters, Einsum, Expr, HostSlice, RateLimits, Shape, Window};
use device::Device;
use kernel::WindowKernel;

/// An open GPU; clones share it.
///
/// ```no_run
/// use hessblock::internals::tensor::gpu::{Gpu, Selector};
/// use hessblock::internals::tensor::{Backend, HostSlice, Shape};
///
/// let gpu = Gpu::open(&Selector::Auto, None)?;
/// let x = gpu.upload(&Shape::new(1, 1, &[2]), HostSlice::F64(&[1.0, 2.0]));
/// assert_eq!(gpu.read(&gpu.add(&x, &x))?, [2.0, 4.0]);
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone)]
pub struct Gpu {
    device: Arc<Device>,
    measured: bool,
}

impl Gpu {
    /// Opens an adapter; `memory` is its budget in bytes, see [`Gpu::set_budget`].
    ///
    /// # Errors
    /// [`crate::Error::Device`] when no adapter, or more than one, is meant, or it cannot be opened.
    pub fn open(selector: &Selector, memory: Option<u64>) -> Result<Gpu> {
        let options = Options {
            memory,
            ..Options::default()
        };
        Gpu::open_with(selector, options)
    }

    /// Opens an adapter with all options given.
    ///
    /// # Errors
    /// As [`Gpu::open`].
    pub fn open_with(selector: &Selector, options: Options) -> Result<Gpu> {
        let (report, adapter) = adapter::select(selector)?;
        let (findings, measured) = tuning::findings(&report, &adapter, options.tuning)?;
        let device = Device::open(report, &adapter, options, &findings)?;
        Ok(Gpu {
            device: Arc::new(device),
            measured,
        })
    }

    /// Whether this opening found out about the adapter, since nothing was known of it.
    pub fn was_measured(&self) -> bool {
        self.measured
    }

    /// The adapter.
    pub fn report(&self) -> &AdapterReport {
        &self.device.report
    }

    /// What was found out about the adapter: accuracy, loops, read-back, and which kernels are fast.
    pub fn findings(&self) -> &Findings {
        &self.device.findings
    }

    /// Sets the budget of device memory in bytes, for all clones.
    ///
    /// Buffers of dropped tensors are kept for new ones as long as all buffers together fit the budget, and
    /// are given back to the driver before they would not. Where the tensors in use alone would exceed it
    /// by more than a tenth, the next read fails.
    pub fn set_budget(&self, bytes: u64) {
        self.device.pool.set_budget(bytes);
    }

    /// Bytes of device memory that tensors and tiles hold now.
    pub fn memory_in_use(&self) -> u64 {
        self.device.pool.live_bytes()
    }

    /// Most bytes of device memory held at a time: tensors, tiles, and buffers kept for new ones.
    pub fn peak_memory(&self) -> u64 {
        self.device.pool.peak_bytes()
    }

    /// What the driver says now; buffers kept here for new tensors count as free.
    pub fn memory(&self) -> DeviceMemory {
        let mut memory = DeviceMemory::of(&self.device.adapter);
        let kept = self.device.pool.free_bytes();
        memory.free_bytes = memory.free_bytes.map(|free| free + kept);
        memory
    }

    /// How long it was busy since it was opened, and what was read back from it; clones share the counts.
    pub fn counters(&self) -> DeviceCounters {
        self.device.busy.counters()
    }

    /// Size of the largest tensor or tile, in bytes.
    pub fn max_tensor_bytes(&self) -> u64 {
        self.device.max_bytes
    }
}

impl Backend for Gpu {
    type Real = f32;
    type Tensor = GpuTensor;
    type Indices = GpuIndices;

    fn rate_limits(&self) -> RateLimits {
        let findings = self.findings();
        RateLimits {
            operations: findings.operations_per_second(),
            read_back: Some(findings.read_back),
        }
    }

    fn largest_tensor(&self) -> u64 {
        self.max_tensor_bytes()
    }

    fn peak_device_bytes(&self) -> Option<u64> {
        Some(self.peak_memory())
    }

    fn device_name(&self) -> String {
        self.report().name.clone()
    }

    fn device_counters(&self) -> Option<DeviceCounters> {
        Some(self.counters())
    }

    fn shape(&self, tensor: &GpuTensor) -> Shape {
        tensor.shape.clone()
    }

    fn upload(&self, shape: &Shape, values: HostSlice<'_>) -> GpuTensor {
        assert_eq!(shape.len(), values.len(), "values for {shape:?}");
        self.upload_tensor(shape, values)
    }

    fn fill(&self, shape: &Shape, value: f64) -> GpuTensor {
        self.create(shape.clone(), &[], |output, _| {
            self.fill_bits(output, shape.len(), (value as f32).to_bits());
            true
        })
    }

    fn read(&self, tensor: &GpuTensor) -> Result<Vec<f32>> {
        self.finish_read(self.start_read(tensor))
    }

    fn map(&self, expr: &Expr, inputs: &[&GpuTensor]) -> GpuTensor {
        self.map_tensors(expr, inputs)
    }

    fn einsum(&self, einsum: &Einsum, left: &GpuTensor, right: &GpuTensor) -> GpuTensor {
        self.einsum_tensors(einsum, left, right)
    }

    fn conv(
        &self,
        inputs: &GpuTensor,
        weights: &GpuTensor,
        window: &Window,
        groups: usize,
    ) -> GpuTensor {
        self.conv_forward(inputs, weights, window, groups)
    }

    fn conv_inputs(
        &self,
        cotangents: &GpuTensor,
        weights: &GpuTensor,
        window: &Window,
        groups: usize,
    ) -> GpuTensor {
        self.conv_transpose_inputs(cotangents, weights, window, groups)
    }

    fn conv_weights(
        &self,
        cotangents: &GpuTensor,
        inputs: &GpuTensor,
        window: &Window,
        groups: usize,
        sum_samples: bool,
    ) -> GpuTensor {
        self.conv_transpose_weights(cotangents, inputs, window, groups, sum_samples)
    }

    fn window_sum(&self, inputs: &GpuTensor, window: &Window) -> GpuTensor {
        self.window(WindowKernel::Sum, inputs, None, window)
    }

    fn window_spread(&self, cotangents: &GpuTensor, window: &Window) -> GpuTensor {
        self.window(WindowKernel::Spread, cotangents, None, window)
    }

    fn max_pool_indices(&self, inputs: &GpuTensor, window: &Window) -> GpuIndices {
        GpuIndices(self.window(WindowKernel::MaxPoolIndices, inputs, None, window))
    }

    fn gather(&self, inputs: &GpuTensor, indices: &GpuIndices, window: &Window) -> GpuTensor {
        self.window(WindowKernel::Gather, inputs, Some(indices), window)
    }

    fn scatter(&self, cotangents: &GpuTensor, indices: &GpuIndices, window: &Window) -> GpuTensor {
        self.window(WindowKernel::Scatter, cotangents, Some(indices), window)
    }

    fn reduce_sum(&self, inputs: &GpuTensor, axes: &[usize]) -> GpuTensor {
        self.reduce_tensor(inputs, axes)
    }

    fn broadcast(&self, inputs: &GpuTensor, rest: &[usize]) -> GpuTensor {
        self.broadcast_tensor(inputs, rest)
    }

    fn reshape(&self, inputs: &GpuTensor, rest: &[usize]) -> GpuTensor {
        let shape = Shape::new(inputs.shape.samples, inputs.shape.directions, rest);
        inputs.reshaped(shape)
    }

    fn permute(&self, inputs: &GpuTensor, order: &[usize]) -> GpuTensor {
        self.permute_tensor(inputs, order)
    }

    fn slice(&self, inputs: &GpuTensor, axis: usize, start: usize, stop: usize) -> GpuTensor {
        self.slice_tensor(inputs, axis, start, stop)
    }

    fn embed(&self, inputs: &GpuTensor, axis: usize, start: usize, extent: usize) -> GpuTensor {
        self.embed_tensor(inputs, axis, start, extent)
    }

    fn take(&self, inputs: &GpuTensor, indices: &GpuTensor, axis: usize) -> GpuTensor {
        self.take_tensor(inputs, indices, axis)
    }

    fn put(
        &self,
        cotangents: &GpuTensor,
        indices: &GpuTensor,
        axis: usize,
        range: std::ops::Range<usize>,
        sum_samples: bool,
    ) -> GpuTensor {
        self.put_tensor(cotangents, indices, axis, range, sum_samples)
    }

    fn concat(&self, inputs: &[&GpuTensor], axis: usize) -> GpuTensor {
        self.concat_tensors(inputs, axis)
    }
}
