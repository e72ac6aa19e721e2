//! Weights from a safetensors file, by name: `f16`, `bf16`, `f32` and `f64`.

use crate::error::{Error, Result};
use crate::tensor::HostArray;
use crate::text::escaped;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

/// A place that a file of weights can fill.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// Name in the network.
    pub name: String,
    /// Shape in the network.
    pub shape: Vec<usize>,
    /// Whether a file without it is refused.
    pub required: bool,
}

/// Names that a message lists.
const MOST_FAULTS: usize = 40;

/// Reads the values of the places from a safetensors file.
///
/// # Errors
/// [`Error::Io`] and [`Error::File`], the latter listing the names that are missing, have another shape or
/// number type, or have no place in the network.
pub fn read(path: &Path, places: &[Place]) -> Result<Vec<(String, HostArray)>> {
    let bytes = crate::files::read(path)?;
    super::pytorch::refuse(
        path,
        &bytes,
        "save weights with safetensors.torch.save_file(module.state_dict(), \"FILE.safetensors\")",
    )?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| {
        Error::file(
            path,
            format!("not a safetensors file, or one that was cut off ({error})"),
        )
    })?;
    // The network's names are as they are printed.
    let names: BTreeMap<String, String> = file
        .names()
        .into_iter()
        .map(|name| (escaped(name).into_owned(), name.to_string()))
        .collect();
    let mut faults = Vec::new();
    let mut values = Vec::new();
    for place in places {
        let view = names.get(&place.name).map(|name| file.tensor(name));
        let Some(Ok(view)) = view else {
            if place.required {
                faults.push(format!("{} is missing", place.name));
            }
            continue;
        };
        if view.shape() != place.shape {
            faults.push(format!(
                "{} has shape {:?}, the network's has {:?}",
                place.name,
                view.shape(),
                place.shape
            ));
            continue;
        }
        match decode(&view) {
            Some(array) if array.to_f64().iter().any(|v| !v.is_finite()) => {
                faults.push(format!("{} holds NaN or infinity", place.name));
            }
            Some(array) => values.push((place.name.clone(), array)),
            None => faults.push(format!(
                "{} holds {:?}; f16, bf16, f32 and f64 are read",
                place.name,
                view.dtype()
            )),
        }
    }
    let known: HashSet<&String> = places.iter().map(|place| &place.name).collect();
    for name in names.keys() {
        // PyTorch's counter of training steps is part of every state_dict and of no network.
        if !known.contains(name) && !name.ends_with("num_batches_tracked") {
            faults.push(format!("{name} has no place in the network"));
        }
    }
    if !faults.is_empty() {
        let more = faults.len().saturating_sub(MOST_FAULTS);
        faults.truncate(MOST_FAULTS);
        if more > 0 {
            faults.push(format!("and {more} more"));
        }
        return Err(Error::file(
            path,
            format!(
                "its weights do not fit the network: {}; a network exported with examples/export.py keeps all names",
                faults.join("; ")
            ),
        ));
    }
    Ok(values)
}

fn decode(view: &TensorView<'_>) -> Option<HostArray> {
    let (shape, bytes) = (view.shape(), view.data());
    macro_rules! each {
        ($size:literal, $convert:expr) => {
            bytes
                .chunks_exact($size)
                .map(|b| $convert(b.try_into().expect("chunks have this size")))
                .collect()
        };
    }
    Some(match view.dtype() {
        Dtype::F32 => HostArray::f32(shape, each!(4, f32::from_le_bytes)),
        Dtype::F64 => HostArray::f64(shape, each!(8, f64::from_le_bytes)),
        Dtype::F16 => HostArray::f32(shape, each!(2, |b| half::f16::from_le_bytes(b).to_f32())),
        Dtype::BF16 => HostArray::f32(shape, each!(2, |b| half::bf16::from_le_bytes(b).to_f32())),
        _ => return None,
    })
}
