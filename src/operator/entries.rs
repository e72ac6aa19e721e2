//! Single entries of G straight from the definition: Σ_n (J e_i)ᵀ ∇²ℓ_n (J e_j), with J·e in forward mode.
//!
//! This path shares neither factors nor contraction with the one that makes blocks; `verify` rests on it.

use crate::error::Result;
use crate::jacobian::passes::{Reach, Weights, forward};
use crate::network::Network;
use crate::schedule::run::{Control, Progress, Work};
use crate::schedule::unit::{per_sample, read_outputs};
use crate::tensor::cpu::Cpu;
use crate::tensor::dual::{Dual, DualTensor};
use crate::tensor::{Backend, HostSlice, Real, Shape};

/// Numbers that the tangents of a chunk may hold.
const TANGENT: usize = 1 << 23;

/// G[i, j] for each pair (i, j) of the flat order, on the CPU with tangents in the precision of `R`.
///
/// Source: Skorski 2021, the definition of the approximate chain rule, evaluated entry by entry.
///
/// # Errors
/// What reading the data reports; [`crate::Error::Interrupted`].
pub fn entries<R: Real>(
    work: &Work<'_>,
    pairs: &[(usize, usize)],
    control: &Control<'_>,
) -> Result<Vec<f64>> {
    let mut indices: Vec<usize> = pairs.iter().flat_map(|&(i, j)| [i, j]).collect();
    indices.sort_unstable();
    indices.dedup();
    let place = |index: usize| indices.binary_search(&index).unwrap_or_default();
    let located: Vec<(usize, usize)> = pairs.iter().map(|&(i, j)| (place(i), place(j))).collect();
    let network = work.network;
    let (backend, reach) = (Cpu::<R>::new(), Reach::forward_only(network));
    let primal = Weights::upload(&backend, network);
    let widest = network
        .nodes
        .iter()
        .map(|n| n.rest.iter().product::<usize>())
        .max()
        .unwrap_or(1)
        .max(1);
    let largest = network
        .parameters
        .iter()
        .map(|p| p.data.len())
        .max()
        .unwrap_or(1)
        .max(1);
    let group = (TANGENT / largest.max(widest)).clamp(1, indices.len().max(1));
    let chunk = (TANGENT / (widest * group)).max(1);
    let samples = work.dataset.len();
    let mut totals = vec![0.0; pairs.len()];
    for start in (0..samples).step_by(chunk) {
        control.check()?;
        let range = start..(start + chunk).min(samples);
        let first = work.dataset.sample_range().start + start;
        let targets = work.dataset.targets(range.clone())?;
        let inputs = work.upload(&backend, range.clone())?;
        let mut outputs = Vec::new();
        // J e per sample and index: [samples][indices · outputs].
        let mut columns: Vec<Vec<f64>> = vec![Vec::new(); range.len()];
        for group in indices.chunks(group) {
            let dual = Dual { inner: &backend };
            let weights = with_units(&backend, network, &primal, group);
            let trace = forward(
                &dual,
                network,
                &weights,
                inputs.iter().cloned().map(DualTensor::constant).collect(),
                &reach,
            );
            if outputs.is_empty() {
                outputs = read_outputs(&backend, &trace.output.primal, first)?;
            }
            let width = outputs.len() / range.len() * group.len();
            match &trace.output.tangent {
                Some(tangent) => {
                    let values = backend.read(tangent)?;
                    for (column, values) in columns.iter_mut().zip(values.chunks_exact(width)) {
                        column.extend(values.iter().map(|v| v.to_f64()));
                    }
                }
                // The output does not depend on these parameters.
                None => columns
                    .iter_mut()
                    .for_each(|c| c.extend(std::iter::repeat_n(0.0, width))),
            }
        }
        let each = outputs.len() / range.len();
        let mut slots = vec![0.0; range.len() * pairs.len()];
        per_sample(&outputs, &targets, first, &mut slots, |sample, slot| {
            let columns = &columns[sample.index - first];
            let column = |k: usize| &columns[k * each..(k + 1) * each];
            let mut product = vec![0.0; each];
            for (entry, &(i, j)) in slot.iter_mut().zip(&located) {
                work.loss.hessian_product(sample, column(j), &mut product);
                *entry = column(i).iter().zip(&product).map(|(a, b)| a * b).sum();
            }
        });
        for slot in slots.chunks_exact(pairs.len().max(1)) {
            for (total, value) in totals.iter_mut().zip(slot) {
                *total += value;
            }
        }
        (control.progress)(Progress {
            done: range.end as u64,
            total: samples as u64,
            tiles: 0,
            tile_count: 0,
        });
    }
    Ok(totals)
}

/// Dual weights whose direction k is the unit vector of the k-th index of the flat order.
fn with_units<B: Backend>(
    backend: &B,
    network: &Network,
    primal: &Weights<B::Tensor>,
    indices: &[usize],
) -> Weights<DualTensor<B::Tensor>> {
    let parameters =
        network
            .parameters
            .iter()
            .zip(&primal.parameters)
            .map(|(parameter, tensor)| {
                let (own, count) = (parameter.range(), parameter.data.len());
                let tangent = indices.iter().any(|i| own.contains(i)).then(|| {
                    let mut values = vec![0.0; indices.len() * count];
                    for (direction, index) in
                        indices.iter().enumerate().filter(|(_, i)| own.contains(i))
                    {
                        values[direction * count + index - own.start] = 1.0;
                    }
                    let shape = Shape::new(1, indices.len(), &parameter.data.shape);
                    backend.upload(&shape, HostSlice::F64(&values))
                });
                DualTensor {
                    primal: tensor.clone(),
                    tangent,
                }
            });
    Weights {
        parameters: parameters.collect(),
        constants: primal
            .constants
            .iter()
            .cloned()
            .map(DualTensor::constant)
            .collect(),
    }
}
