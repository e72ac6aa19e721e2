//! The open device: its limits, its pipelines, and what went wrong.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use super::adapter::AdapterReport;
use super::busy::Busy;
use super::failure::{Failure, Trouble, watch};
use super::findings::{Findings, Tuning};
use super::kernel::Kernel;
use super::lock::lock;
use super::params::PARAM_WORDS;
use super::pool::{Block, Pool};
use super::stream::{SLOTS, Stream};
use super::tiles::Shapes;
use crate::error::{Error, Result};

/// Places for tokens: an hour of submissions.
pub(super) const TOKENS: u64 = 1 << 16;

/// How a device is opened.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Budget of device memory in bytes, as [`Gpu::set_budget`] sets it; `None` leaves it to the driver.
    ///
    /// [`Gpu::set_budget`]: super::Gpu::set_budget
    pub memory: Option<u64>,
    /// Compile kernels with bounds checks and loop bounds. Results must not change.
    pub checked: bool,
    /// Fill every new tensor with NaN before the kernel that writes it.
    pub poison: bool,
    /// Keep what sums over several dispatches lose, where the device's compiler lets it survive.
    pub compensated: bool,
    /// Whether what was found out about the adapter before is used.
    pub tuning: Tuning,
    /// Faults that the device is to show, for tests.
    pub faults: Faults,
}

/// Faults of a device, made up to test what becomes of them; none by default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// The driver has no memory for a buffer that would take all buffers of tensors above so many bytes.
    pub out_of_memory_above: Option<u64>,
    /// The device is lost when more than so many submissions are made.
    pub lost_after_submissions: Option<u64>,
    /// The submission of this number, from 1 on, ends without its last kernel having run, and nobody says so: what
    /// Metal makes of a command buffer that the system ended.
    pub broken_submission: Option<u64>,
}

impl Default for Options {
    /// Checks and poison in debug builds, neither in release builds.
    fn default() -> Self {
        Self {
            memory: None,
            checked: cfg!(debug_assertions),
            poison: cfg!(debug_assertions),
            compensated: true,
            tuning: Tuning::Stored,
            faults: Faults::default(),
        }
    }
}

pub(super) struct Device {
    pub wgpu: wgpu::Device,
    pub queue: wgpu::Queue,
    pub adapter: wgpu::Adapter,
    pub report: AdapterReport,
    pub options: Options,
    pub max_bytes: u64,
    pub pool: Arc<Pool>,
    pub params: wgpu::Buffer,
    pub findings: Findings,
    /// Tile shapes of products.
    pub shapes: Shapes,
    layouts: Mutex<HashMap<(usize, usize), (wgpu::BindGroupLayout, wgpu::PipelineLayout)>>,
    pub tokens: wgpu::Buffer,
    /// Number of the last submission known to have been carried out, with all before it.
    pub verified: AtomicU64,
    /// Compiled kernels, numbered in the order of their compilation.
    pipelines: Mutex<HashMap<Kernel, (usize, wgpu::ComputePipeline)>>,
    pub stream: Mutex<Stream>,
    pub busy: Busy,
    failure: Arc<Mutex<Failure>>,
}

impl Device {
    /// Opens an adapter about which `findings` are known.
    pub fn open(
        report: AdapterReport,
        adapter: &wgpu::Adapter,
        options: Options,
        findings: &Findings,
    ) -> Result<Device> {
        let limits = adapter.limits();
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("hessblock"),
            required_features: wgpu::Features::empty(),
            required_limits: limits.clone(),
            // Buffers are pooled here, large blocks below would only hold memory twice.
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            ..Default::default()
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))
            .map_err(|e| Error::Device(format!("{report} could not be opened: {e}")))?;
        let failure = watch(&device);
        // Elements are counted in 32 bits by the kernels, and bindings end on multiples of 256.
        let max_bytes = limits
            .max_storage_buffer_binding_size
            .min(limits.max_buffer_size)
            .min(i32::MAX as u64)
            / 256
            * 256;
        let params = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("launch parameters"),
            size: (SLOTS * PARAM_WORDS * 4) as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let tokens = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("tokens"),
            size: TOKENS * 4,
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        });
        // Pessimistic: products in multiply-adds, windows in taps, maps in elements, products of thin tiles.
        let first_rates = match report.device_type {
            wgpu::DeviceType::DiscreteGpu => [2e10, 5e8, 5e8, 2e10],
            wgpu::DeviceType::Cpu => [2e8, 5e7, 5e7, 2e8],
            _ => [5e9, 2e8, 2e8, 5e9],
        };
        let shapes = findings.chosen(report.device_type);
        let mut stream = Stream::new(first_rates);
        if let Some(operations) = findings.operations_per_second() {
            // Far less than the best: operands that lie scattered are slower, and a submission that takes eight times what it
            // should is still no second.
            stream.expect_products(operations / 16.0);
        }
        Ok(Device {
            busy: Busy::new(device.clone()),
            pool: Pool::new(
                device.clone(),
                options.memory,
                max_bytes,
                options.faults.out_of_memory_above,
            ),
            wgpu: device,
            queue,
            adapter: adapter.clone(),
            report,
            options,
            max_bytes,
            params,
            shapes,
            tokens,
            verified: AtomicU64::new(0),
            layouts: Mutex::default(),
            pipelines: Mutex::default(),
            stream: Mutex::new(stream),
            findings: findings.clone(),
            failure,
        })
    }

    /// Whether sums keep what they lose ([`Options::compensated`]).
    pub fn compensates(&self) -> bool {
        self.options.compensated && self.findings.compensated
    }

    /// Notes an error that spoilt a tensor but not the device.
    pub fn fail(&self, message: String) {
        lock(&self.failure)
            .passing
            .get_or_insert(Trouble::Other(message));
    }

    /// Notes that there was no memory for a tensor.
    pub fn fail_memory(&self, message: String) {
        lock(&self.failure)
            .passing
            .get_or_insert(Trouble::Memory(message));
    }

    /// Notes that the device is lost.
    pub fn lose(&self, message: String) {
        lock(&self.failure)
            .fatal
            .get_or_insert(Trouble::Lost(message));
    }

    pub fn is_lost(&self) -> bool {
        lock(&self.failure).fatal.is_some()
    }

    /// Forgets what spoilt tensors that are dropped by now, and gives unused memory back.
    pub fn forget_failure(&self) {
        self.finish();
        lock(&self.failure).passing = None;
        self.pool.trim();
    }

    /// The first error since the last call; one that nothing works after stays.
    pub fn check(&self) -> Result<()> {
        let mut failure = lock(&self.failure);
        let trouble = match &failure.fatal {
            Some(trouble) => Some(trouble.clone()),
            None => failure.passing.take(),
        };
        match trouble {
            Some(trouble) => Err(trouble.error(&self.report.name)),
            None => Ok(()),
        }
    }

    /// Memory for `len` elements; `None` after noting why not.
    pub fn allocate(&self, len: usize) -> Option<Block> {
        if self.is_lost() {
            return None;
        }
        let bytes = len as u64 * 4;
        if bytes > self.max_bytes {
            self.fail(format!(
                "a tensor of {bytes} bytes is above this adapter's limit of {} bytes per binding; take fewer samples or directions at a time",
                self.max_bytes
            ));
            return None;
        }
        let acquired = self.pool.acquire(bytes).or_else(|_| {
            // Dropped buffers are freed once the commands that used them are through.
            self.finish();
            self.pool.make_room(bytes);
            self.pool.acquire(bytes)
        });
        let acquired = acquired.or_else(|_| {
            self.pool.trim();
            self.pool.acquire(bytes)
        });
        match acquired {
            Ok(block) => Some(block),
            Err(message) => {
                self.fail_memory(message);
                None
            }
        }
    }

    /// Bindings of a kernel with so many inputs and outputs.
    pub fn layout(
        &self,
        inputs: usize,
        outputs: usize,
    ) -> (wgpu::BindGroupLayout, wgpu::PipelineLayout) {
        let mut layouts = lock(&self.layouts);
        let make = || {
            let entry = |binding: u32, ty, has_dynamic_offset, size| wgpu::BindGroupLayoutEntry {
                binding,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty,
                    has_dynamic_offset,
                    min_binding_size: size,
                },
                count: None,
            };
            let storage = |read_only| wgpu::BufferBindingType::Storage { read_only };
            let slot = wgpu::BufferSize::new(PARAM_WORDS as u64 * 4);
            let mut entries = vec![entry(0, wgpu::BufferBindingType::Uniform, true, slot)];
            for k in 0..inputs + outputs {
                entries.push(entry(k as u32 + 1, storage(k < inputs), false, None));
            }
            let group = self
                .wgpu
                .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                    label: None,
                    entries: &entries,
                });
            let pipeline = self
                .wgpu
                .create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                    label: None,
                    bind_group_layouts: &[Some(&group)],
                    immediate_size: 0,
                });
            (group, pipeline)
        };
        layouts
            .entry((inputs, outputs))
            .or_insert_with(make)
            .clone()
    }

    /// The compiled kernel and its number.
    pub fn pipeline(
        &self,
        kernel: &Kernel,
        layout: &wgpu::PipelineLayout,
    ) -> (usize, wgpu::ComputePipeline) {
        let mut pipelines = lock(&self.pipelines);
        if let Some(numbered) = pipelines.get(kernel) {
            return numbered.clone();
        }
        let descriptor = wgpu::ShaderModuleDescriptor {
            label: None,
            source: wgpu::ShaderSource::Wgsl(kernel.source().into()),
        };
        let module = if self.options.checked {
            self.wgpu.create_shader_module(descriptor)
        } else {
            // SAFETY: the kernels are this crate's own. Every index they form is below an extent that the
            // host computed from the bound tensors, every loop counts up to a bound in its parameters,
            // and no divisor is zero: launches over empty extents are not made. The conformance suite
            // runs them with the checks as well and compares.
            unsafe {
                self.wgpu.create_shader_module_trusted(
                    descriptor,
                    wgpu::ShaderRuntimeChecks::unchecked(),
                )
            }
        };
        let pipeline = self
            .wgpu
            .create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: None,
                layout: Some(layout),
                module: &module,
                entry_point: Some(kernel.entry()),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: &[],
                    // Every kernel writes its shared memory before it reads it; on Metal and DX12 one
                    // thread would clear the whole of it.
                    zero_initialize_workgroup_memory: false,
                },
                cache: None,
            });
        let numbered = (pipelines.len(), pipeline);
        pipelines.insert(kernel.clone(), numbered.clone());
        numbered
    }
}
