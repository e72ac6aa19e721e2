//! Devices by the selectors that people give: names, indices, `auto`, lists.

use super::Device;
#[cfg(feature = "gpu")]
use super::{Gpus, Kind};
use crate::error::{Error, Result};
use crate::plan::budget::address_space;
use crate::precision::Precision;
use crate::setting::DEVICE;
#[cfg(feature = "gpu")]
use crate::setting::PRECISION;
#[cfg(feature = "gpu")]
use crate::tensor::gpu::{AdapterReport, Gpu, Selector, adapters};

/// Bytes of address space below which no driver of a GPU is looked for: each maps some hundred MiB before any work.
const SPACE_OF_A_DRIVER: u64 = 4 << 30;

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

/// A device that this machine has.
///
/// ```
/// let all = hessblock::Device::available();
/// assert_eq!((all[0].selector.as_str(), all[0].kind.as_str()), ("cpu", "cpu"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct AvailableDevice {
    /// What opens it ([`Device::open`]): `cpu`, or the index of a GPU.
    pub selector: String,
    /// Its name.
    pub name: String,
    /// `cpu`, `discrete`, `integrated`, `virtual`, `software` or `unknown kind`.
    pub kind: String,
    /// `cpu`, `vulkan`, `metal` or `dx12`.
    pub backend: String,
    /// Its driver and the driver's version, where it has one.
    pub driver: Option<String>,
}

impl Device {
    /// The devices of this machine: the CPU, then every GPU that a driver shows.
    pub fn available() -> Vec<AvailableDevice> {
        #[cfg_attr(not(feature = "gpu"), allow(unused_mut))] // nothing is added
        let mut all = vec![AvailableDevice {
            selector: "cpu".into(),
            name: "CPU".into(),
            kind: "cpu".into(),
            backend: "cpu".into(),
            driver: None,
        }];
        #[cfg(feature = "gpu")]
        all.extend(adapters().into_iter().map(|adapter| AvailableDevice {
            selector: adapter.index.to_string(),
            kind: adapter.kind().into(),
            name: adapter.name,
            backend: adapter.backend,
            driver: Some(adapter.driver),
        }));
        all
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
            "{selector:?}: this build has no GPU backend (feature `gpu`); use {DEVICE} cpu"
        )))
    }

    #[cfg(feature = "gpu")]
    fn open_gpu(selector: &str, precision: Precision) -> Result<Device> {
        if precision == Precision::F64 {
            return Err(Error::Request(format!(
                "{PRECISION} f64 runs on the CPU only, not on device {selector:?}; use {DEVICE} cpu"
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
            return Err(Error::Request(format!("{DEVICE} {list:?} {refused}")));
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
}
