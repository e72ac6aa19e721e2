//! A chunk's outputs and their tangents on the host, in double precision, as losses take them.

use crate::error::{Error, Result};
use crate::loss::{Loss, Sample, TargetBatch};
use crate::tensor::dual::DualTensor;
use crate::tensor::{Backend, Real};
use rayon::prelude::*;

/// A tensor's numbers in double precision.
///
/// # Errors
/// What reading reports.
pub fn read_f64<B: Backend>(backend: &B, tensor: &B::Tensor) -> Result<Vec<f64>> {
    Ok(backend
        .read(tensor)?
        .into_iter()
        .map(Real::to_f64)
        .collect())
}

/// The network's outputs of a chunk, in double precision: `[samples, outputs]`.
///
/// # Errors
/// [`Error::NotFinite`] naming the first sample whose output is not finite, unless `lenient`; that of a sample whose weight is 0 is
/// taken for 0.
pub fn read_outputs<B: Backend>(
    backend: &B,
    output: &B::Tensor,
    first: usize,
    (loss, targets): (&dyn Loss, &TargetBatch),
    lenient: bool,
) -> Result<Vec<f64>> {
    let mut values = read_f64(backend, output)?;
    let each = values.len() / backend.shape(output).samples.max(1);
    for (k, outputs) in values.chunks_exact_mut(each.max(1)).enumerate() {
        if outputs.iter().all(|v| v.is_finite()) {
            continue;
        }
        let weight = loss.weight(&Sample {
            index: first + k,
            outputs: &*outputs,
            target: targets.get(k),
        });
        // Where all labels are ignored, so are the outputs.
        if weight == 0.0 {
            outputs.fill(0.0);
        }
    }
    match values.iter().position(|v| !v.is_finite()) {
        Some(at) if !lenient => Err(Error::not_finite(format!(
            "the network's output for sample {} is {}",
            first + at / each.max(1),
            values[at]
        ))),
        _ => Ok(values),
    }
}

/// Calls `f` with every sample of a chunk and its slice of `into`, in parallel.
pub fn per_sample<F>(outputs: &[f64], targets: &TargetBatch, first: usize, into: &mut [f64], f: F)
where
    F: Fn(&Sample<'_>, &mut [f64]) + Sync,
{
    let samples = targets.samples();
    if samples == 0 || into.is_empty() {
        return;
    }
    let (each, slot) = (outputs.len() / samples, into.len() / samples);
    into.par_chunks_mut(slot).enumerate().for_each(|(k, slot)| {
        let sample = Sample {
            index: first + k,
            outputs: &outputs[k * each..(k + 1) * each],
            target: targets.get(k),
        };
        f(&sample, slot);
    });
}

/// The tangents of a chunk's outputs in double precision, `[samples, directions, outputs]`; empty where none of the
/// vectors reaches the outputs.
///
/// # Errors
/// What reading reports.
pub fn read_tangents<B: Backend>(backend: &B, output: &DualTensor<B::Tensor>) -> Result<Vec<f64>> {
    match &output.tangent {
        Some(tangent) => read_f64(backend, tangent),
        None => Ok(Vec::new()),
    }
}
