//! Where the work runs: the CPU in either precision, or a GPU.

use crate::bytes::Bytes;
use crate::error::{Error, Result};
use crate::plan::Limits;
use crate::plan::RunOptions;
use crate::plan::budget::{address_space, available_memory};
use crate::plan::tiles::Grid;
use crate::precision::Precision;
use crate::tensor::cpu::Cpu;
#[cfg(feature = "gpu")]
use crate::tensor::gpu::{AdapterReport, DeviceMemory, Gpu, Selector, adapters};
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

/// Where a device computes.
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

/// Several open GPUs, at least one.
#[cfg(feature = "gpu")]
#[derive(Clone)]
pub struct Gpus(Vec<Gpu>);

#[cfg(feature = "gpu")]
impl Gpus {
    /// `None` of none.
    pub fn new(gpus: Vec<Gpu>) -> Option<Gpus> {
        (!gpus.is_empty()).then_some(Gpus(gpus))
    }

    /// The one that does what is not shared.
    pub fn first(&self) -> &Gpu {
        &self.0[0]
    }

    /// All of them, in the order in which they were given.
    pub fn all(&self) -> &[Gpu] {
        &self.0
    }

    /// Names, or drivers, each once.
    fn joined(&self, text: impl Fn(&Gpu) -> String) -> String {
        let mut found: Vec<(String, usize)> = Vec::new();
        for gpu in &self.0 {
            let text = text(gpu);
            match found.iter_mut().find(|(known, _)| *known == text) {
                Some((_, times)) => *times += 1,
                None => found.push((text, 1)),
            }
        }
        let named = found.into_iter().map(|(text, times)| match times {
            1 => text,
            _ => format!("{times} × {text}"),
        });
        named.collect::<Vec<_>>().join(" + ")
    }

    /// What the user is to know of them.
    fn note(&self) -> String {
        let first = &self.first().report().name;
        let model = |gpu: &Gpu| {
            let report = gpu.report();
            (
                report.name.clone(),
                report.backend.clone(),
                report.driver.clone(),
            )
        };
        let alike = self.0.iter().all(|gpu| model(gpu) == model(self.first()));
        let text = format!(
            "{} share the tiles of blocks; all else runs on the first, {first}",
            self.joined(|gpu| gpu.report().name.clone())
        );
        match alike {
            true => text,
            false => format!(
                "{text}; they round differently, so that the last bits of an entry depend on who made it"
            ),
        }
    }
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

pub(crate) use with_backend;

/// Bytes of address space below which no driver of a GPU is looked for: each maps some hundred MiB before any work.
const SPACE_OF_A_DRIVER: u64 = 4 << 30;

/// Share of what is free that is taken where no budget is given.
const SHARE: f64 = 0.8;

/// What a plan takes a GPU to have free, and where that is known from.
#[cfg(feature = "gpu")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PlannedMemory {
    /// Bytes that tensors and tiles may take where the user sets no budget.
    pub bytes: u64,
    /// What that is a share of.
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

/// What a selector of one adapter means: `gpu`, an index or a part of a name.
#[cfg(feature = "gpu")]
pub fn choice(selector: &str) -> Selector {
    match selector.to_lowercase().as_str() {
        "auto" | "gpu" => Selector::Auto,
        text => match text.parse() {
            Ok(index) => Selector::Index(index),
            Err(_) => Selector::Name(selector.to_string()),
        },
    }
}

/// The hardware adapters, each card once: Windows has it through Vulkan and through DX12. Two cards of one model are two, where
/// one backend lists both.
#[cfg(feature = "gpu")]
fn cards(adapters: &[AdapterReport]) -> impl Iterator<Item = &AdapterReport> {
    let hardware = adapters
        .iter()
        .enumerate()
        .filter(|(_, a)| !a.is_software());
    hardware.filter_map(|(k, adapter)| {
        let same = |other: &AdapterReport| {
            other.card == adapter.card
                && (other.backend != adapter.backend || other.driver != adapter.driver)
        };
        (!adapters[..k].iter().any(same)).then_some(adapter)
    })
}

/// A line about the measurement that a hardware adapter's first use takes.
#[cfg(feature = "gpu")]
fn measured_note(gpu: &Gpu) -> Option<String> {
    let (report, findings) = (gpu.report(), gpu.findings());
    let wanted = gpu.was_measured() && !report.is_software();
    wanted.then(|| {
        format!(
            "{} was measured, once, in {:.1} s: {findings}",
            report.name, findings.seconds
        )
    })
}

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

/// What this build can compute on, whether this machine has it or not.
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

    /// Where it computes.
    #[doc(hidden)]
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// What the user should know of the choice: that there is no GPU, or that a new one was measured. It is a tracing event too.
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

    /// A device by its selector: `cpu`, `gpu` (a hardware adapter), `auto` (that, else the CPU), the index
    /// of an adapter, a unique part of its name, or several of these with commas between them, `all` for every
    /// hardware adapter. Several GPUs share the tiles of blocks; all else runs on the first.
    ///
    /// # Errors
    /// [`Error::Device`] where there is no such adapter or it cannot be opened; [`Error::Request`] for f64
    /// on a GPU.
    pub fn open(selector: &str, precision: Precision) -> Result<Device> {
        let selector = selector.trim();
        let cpu = |note: &str| Device::noted(Device::cpu(precision).kind, note);
        match selector.to_lowercase().as_str() {
            "cpu" => return Ok(Device::cpu(precision)),
            "auto" if precision == Precision::F64 => {
                return Ok(cpu("double precision runs on the CPU"));
            }
            "auto" if address_space().is_some_and(|limit| limit < SPACE_OF_A_DRIVER) => {
                return Ok(cpu(
                    "this process's memory is limited (ulimit -v) to less than a GPU's driver takes: running on the CPU",
                ));
            }
            "" => {
                return Err(Error::Request(
                    "the device has no name: give auto, cpu, gpu, an index or a name".into(),
                ));
            }
            _ => {}
        }
        Self::open_gpu(selector, precision)
    }

    #[cfg(not(feature = "gpu"))]
    fn open_gpu(selector: &str, precision: Precision) -> Result<Device> {
        if selector == "auto" {
            return Ok(Device::noted(
                Device::cpu(precision).kind,
                "this build has no GPU backend: running on the CPU",
            ));
        }
        Err(Error::Device(format!(
            "{selector:?}: this build has no GPU backend (feature `gpu`); use --device cpu"
        )))
    }

    #[cfg(feature = "gpu")]
    fn open_gpu(selector: &str, precision: Precision) -> Result<Device> {
        if precision == Precision::F64 {
            return Err(Error::Request(format!(
                "--precision f64 runs on the CPU only, not on device {selector:?}; use --device cpu"
            )));
        }
        if selector.eq_ignore_ascii_case("all") {
            return Self::open_all();
        }
        if selector.contains(',') {
            return Self::open_list(selector);
        }
        let choice = choice(selector);
        match Gpu::open(&choice, None) {
            Ok(gpu) => {
                let note = measured_note(&gpu);
                Ok(match note {
                    Some(note) => Device::noted(Kind::Gpu(gpu), note),
                    None => Device::from(gpu),
                })
            }
            Err(error) if selector.eq_ignore_ascii_case("auto") => {
                let there = adapters().iter().any(|adapter| !adapter.is_software());
                let why = match there {
                    true => error.to_string(),
                    false => "no hardware GPU found".into(),
                };
                Ok(Device::noted(
                    Device::cpu(precision).kind,
                    format!("{why}: running on the CPU"),
                ))
            }
            Err(error) => Err(error),
        }
    }

    /// Every hardware adapter.
    #[cfg(feature = "gpu")]
    fn open_all() -> Result<Device> {
        let all = adapters();
        let choices: Vec<Selector> = cards(&all).map(|a| Selector::Index(a.index)).collect();
        if choices.is_empty() {
            // Its error says what there is.
            return Ok(Device::from(Gpu::open(&Selector::Auto, None)?));
        }
        Self::open_several(&choices)
    }

    /// Adapters by index or name, with commas between them.
    #[cfg(feature = "gpu")]
    fn open_list(list: &str) -> Result<Device> {
        let mut choices = Vec::new();
        for selector in list.split(',').map(str::trim) {
            let refused = match selector.to_lowercase().as_str() {
                "" => "has an empty place: give indices or names with a comma between two",
                "cpu" => {
                    "mixes the CPU with GPUs: it has another grid of tiles and rounds differently, so that a result \
                     would depend on who made which tile; give GPUs alone, or cpu alone"
                }
                "auto" | "all" => "is a list: give indices or names in it, or that word alone",
                _ => {
                    choices.push(choice(selector));
                    continue;
                }
            };
            return Err(Error::Request(format!("--device {list:?} {refused}")));
        }
        Self::open_several(&choices)
    }

    #[cfg(feature = "gpu")]
    fn open_several(choices: &[Selector]) -> Result<Device> {
        let open = |choice| Gpu::open(choice, None);
        let mut gpus = choices.iter().map(open).collect::<Result<Vec<Gpu>>>()?;
        if gpus.len() == 1
            && let Some(only) = gpus.pop()
        {
            return Ok(Device::from(only));
        }
        let gpus = Gpus(gpus);
        let note = gpus.note();
        Ok(Device::noted(Kind::Gpus(gpus), note))
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

    /// What was found out about the device and decides how its kernels sum, for provenance.
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
