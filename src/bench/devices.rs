//! Which devices are measured.

use crate::device::Device;
use crate::error::{Error, Result};
use crate::precision::Precision;
use crate::setting::DEVICE;

/// The devices that selectors mean, each as [`Device::open`] takes it; `all` is the CPU and every hardware adapter, and so
/// is no selector at all. A software adapter is meant by its name or index alone. With notes for people.
///
/// # Errors
/// As [`Device::open`].
pub fn devices(selectors: &[String], precision: Precision) -> Result<(Vec<Device>, Vec<String>)> {
    let (mut devices, mut notes) = (Vec::new(), Vec::new());
    let all = ["all".to_string()];
    let selectors = if selectors.is_empty() {
        &all
    } else {
        selectors
    };
    for selector in selectors {
        if !selector.trim().eq_ignore_ascii_case("all") {
            if selector.contains(',') {
                return Err(Error::Request(format!(
                    "devices are measured one by one: name those of {selector:?} apart, each after {DEVICE}"
                )));
            }
            let device = Device::open(selector, precision)?;
            notes.extend(device.note().map(str::to_string));
            devices.push(device);
            continue;
        }
        devices.push(Device::cpu(precision));
        hardware(precision, &mut devices, &mut notes);
    }
    Ok((devices, notes))
}

#[cfg(feature = "gpu")]
fn hardware(precision: Precision, devices: &mut Vec<Device>, notes: &mut Vec<String>) {
    let adapters = crate::tensor::gpu::adapters();
    let (software, hardware): (Vec<_>, Vec<_>) =
        adapters.into_iter().partition(|a| a.is_software());
    if precision == Precision::F64 {
        let left_out = hardware.len();
        if left_out > 0 {
            notes.push(format!(
                "double precision runs on the CPU only: {left_out} adapters are left out"
            ));
        }
        return;
    }
    if hardware.is_empty() {
        let names: Vec<&str> = software.iter().map(|a| a.name.as_str()).collect();
        notes.push(match names.as_slice() {
            [] => "no hardware GPU found: measuring the CPU".into(),
            names => format!(
                "no hardware GPU found: measuring the CPU; a software adapter is measured by name ({})",
                names.join(", ")
            ),
        });
    }
    for adapter in hardware {
        match Device::open(&adapter.index.to_string(), precision) {
            Ok(device) => devices.push(device),
            Err(error) => notes.push(format!("{} is left out: {error}", adapter.name)),
        }
    }
}

#[cfg(not(feature = "gpu"))]
fn hardware(_: Precision, _: &mut Vec<Device>, notes: &mut Vec<String>) {
    notes.push("this build has no GPU backend (feature `gpu`): measuring the CPU".into());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_starts_with_the_cpu_and_unknown_devices_are_refused() {
        let (found, _) = devices(&[], Precision::F64).unwrap();
        assert!(matches!(&found[..], [cpu] if cpu.precision() == Precision::F64));
        let (found, _) = devices(&["cpu".into()], Precision::F32).unwrap();
        assert!(matches!(&found[..], [cpu] if cpu.to_string() == "CPU"));
        assert!(devices(&["no such adapter".into()], Precision::F32).is_err());
        assert!(devices(&["0,0".into()], Precision::F32).is_err());
    }
}
