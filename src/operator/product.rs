//! Products with vectors: J·v, Jᵀ·u, and G·v, H·v, (H − G)·v and those of the Fisher matrices.
//!
//! H·v is forward over reverse (Pearlmutter 1994): dual numbers run through the reverse rules. The seeds of the
//! reverse pass as (primal, tangent) are (∇ℓ, ∇²ℓ·ż) for H and (∇ℓ, 0) for H − G, which so is computed as itself;
//! G·v is forward and then a plain reverse pass from ∇²ℓ·ż (DESIGN §3).

use super::stream::{Stream, along, blank};
use crate::control::Control;
use crate::error::{Error, Result};
use crate::jacobian::passes::{Activations, Passes, Reach, Weights};
use crate::jacobian::seeds::{dual_seed, read_tangents};
use crate::loss::Curvature;
use crate::network::Network;
use crate::plan::Limits;
use crate::run::Problem;
use crate::tensor::dual::{Dual, DualTensor};
use crate::tensor::{Backend, HostSlice, Real, Shape};
use rayon::prelude::*;
use std::ops::Range;

/// The curvature's product with vectors: `[directions, p]` in the flat order, the result alike.
///
/// Sums over chunks of samples are in double precision.
///
/// # Errors
/// [`Error::Shape`] for vectors of another length than the network's parameters, [`Error::Budget`] where not even
/// one sample fits, what data and device report.
pub fn product<B: Backend>(
    backend: &B,
    work: &Problem<'_>,
    vectors: &[f64],
    limits: Limits,
    batch: Option<usize>,
    control: &Control<'_>,
) -> Result<Vec<f64>> {
    let directions = check_vectors(work.network, vectors)?;
    let (network, curvature) = (work.network, work.curvature);
    let reach = Reach::new(network, vec![true; network.parameters.len()]);
    let rest = network.rest(network.output);
    let stream = Stream::fit(
        work,
        directions,
        batch,
        limits,
        size_of::<B::Real>(),
        |meter, inputs, group| {
            let weights = blank(meter, network, group);
            let activations = push(meter, network, &weights, inputs, &reach);
            let samples = meter.shape(&activations.output.primal).samples;
            let blank = |directions| meter.fill(&Shape::new(samples, directions, rest), 0.0);
            let seed = DualTensor {
                primal: blank(1),
                // The residual's reverse pass has no tangent to start from.
                tangent: (curvature != Curvature::Residual).then(|| blank(group)),
            };
            pull(meter, work, &weights, &reach, activations, seed);
        },
    )?;
    let primal = Weights::upload(backend, network);
    let loss = work.hessian();
    let p = network.parameter_count();
    let mut result = vec![0.0; vectors.len()];
    let weights = |group: &Range<usize>| {
        let own = &vectors[group.start * p..group.end * p];
        along(backend, network, &primal, own)
    };
    stream.each(
        work,
        directions,
        control,
        weights,
        |weights, group, chunk| {
            let inputs = work.upload(backend, chunk.range.clone())?;
            let activations = push(backend, network, weights, inputs, &reach);
            let output = &activations.output;
            let seed = dual_seed(backend, &loss, &chunk.targets, chunk.first, output)?;
            for (k, sum) in pull(backend, work, weights, &reach, activations, seed) {
                let own = group.start * p..group.end * p;
                add_rows(backend, &sum, network, k, &mut result[own])?;
            }
            Ok(())
        },
    )?;
    Ok(result)
}

/// J·v per sample: `[samples, directions, outputs]` from `[directions, p]`.
///
/// # Errors
/// As [`product`].
pub fn jacobian_product<B: Backend>(
    backend: &B,
    work: &Problem<'_>,
    vectors: &[f64],
    limits: Limits,
    batch: Option<usize>,
    control: &Control<'_>,
) -> Result<Vec<f64>> {
    let directions = check_vectors(work.network, vectors)?;
    let network = work.network;
    let reach = Reach::forward_only(network);
    let bytes = size_of::<B::Real>();
    let stream = Stream::fit(
        work,
        directions,
        batch,
        limits,
        bytes,
        |meter, inputs, group| {
            push(
                meter,
                network,
                &blank(meter, network, group),
                inputs,
                &reach,
            );
        },
    )?;
    let primal = Weights::upload(backend, network);
    let (p, outputs) = (network.parameter_count(), network.outputs());
    let mut result = vec![0.0; work.dataset.len() * directions * outputs];
    let weights = |group: &Range<usize>| {
        let own = &vectors[group.start * p..group.end * p];
        along(backend, network, &primal, own)
    };
    stream.each(
        work,
        directions,
        control,
        weights,
        |weights, group, chunk| {
            let inputs = work.upload(backend, chunk.range.clone())?;
            let activations = push(backend, network, weights, inputs, &reach);
            let tangents = read_tangents(backend, &activations.output)?;
            for (sample, tangents) in chunk
                .range
                .clone()
                .zip(tangents.chunks_exact(group.len() * outputs))
            {
                let at = (sample * directions + group.start) * outputs;
                result[at..at + tangents.len()].copy_from_slice(tangents);
            }
            Ok(())
        },
    )?;
    Ok(result)
}

/// Σ_n J_nᵀ·u_n: `[directions, p]` from cotangents `[samples, directions, outputs]`.
///
/// # Errors
/// [`Error::Shape`] for cotangents of another size; else as [`product`].
pub fn jacobian_transpose_product<B: Backend>(
    backend: &B,
    work: &Problem<'_>,
    cotangents: &[f64],
    limits: Limits,
    batch: Option<usize>,
    control: &Control<'_>,
) -> Result<Vec<f64>> {
    let network = work.network;
    let (p, outputs, samples) = (
        network.parameter_count(),
        network.outputs(),
        work.dataset.len(),
    );
    let directions = cotangents.len() / (samples * outputs).max(1);
    if directions == 0 || cotangents.len() != samples * outputs * directions {
        return Err(Error::Shape(format!(
            "{} cotangents are no multiple of {samples} samples × {outputs} outputs",
            cotangents.len()
        )));
    }
    let reach = Reach::new(network, vec![true; network.parameters.len()]);
    let bytes = size_of::<B::Real>();
    let stream = Stream::fit(
        work,
        directions,
        batch,
        limits,
        bytes,
        |meter, inputs, group| {
            let weights = Weights::upload(meter, network);
            let passes = Passes::new(meter, network, &weights, &reach);
            let activations = passes.forward(inputs);
            let shape = meter.shape(&activations.output);
            let seed = meter.fill(&Shape::new(shape.samples, group, &shape.rest), 0.0);
            sums(&passes, &activations, seed);
        },
    )?;
    let weights = Weights::upload(backend, network);
    let passes = Passes::new(backend, network, &weights, &reach);
    let mut result = vec![0.0; directions * p];
    stream.each(
        work,
        directions,
        control,
        |_| (),
        |(), group, chunk| {
            let inputs = work.upload(backend, chunk.range.clone())?;
            let activations = passes.forward(inputs);
            let rows = chunk.range.clone().flat_map(|sample| {
                let at = sample * directions * outputs;
                &cotangents[at + group.start * outputs..at + group.end * outputs]
            });
            let values: Vec<f64> = rows.copied().collect();
            let shape = Shape::new(chunk.range.len(), group.len(), network.rest(network.output));
            let seed = backend.upload(&shape, HostSlice::F64(&values));
            for (k, sum) in sums(&passes, &activations, seed) {
                let own = group.start * p..group.end * p;
                add_rows(backend, &sum, network, k, &mut result[own])?;
            }
            Ok(())
        },
    )?;
    Ok(result)
}

/// The reverse pass of a curvature from [`dual_seed`]: every site's part of the product with its parameter,
/// `[1, directions, shape…]`.
fn pull<'a, B: Backend>(
    backend: &'a B,
    work: &Problem<'_>,
    weights: &Weights<DualTensor<B::Tensor>>,
    reach: &Reach,
    activations: Activations<Dual<'a, B>>,
    seed: DualTensor<B::Tensor>,
) -> Vec<(usize, B::Tensor)> {
    let network = work.network;
    let mut parts = Vec::new();
    if work.curvature.needs_second_derivatives() {
        let dual = Dual { inner: backend };
        let passes = Passes::new(&dual, network, weights, reach);
        passes.backward(&activations, seed, |k, site| {
            let tangents = site.tangents().into_iter();
            parts.extend(tangents.map(|site| (k, site.sum(backend))));
        });
    } else if let Some(products) = seed.tangent {
        let (weights, activations) = (weights.primal(), activations.primal());
        let passes = Passes::new(backend, network, &weights, reach);
        parts = sums(&passes, &activations, products);
    }
    parts
}

/// Jᵀ of cotangents, site by site with its parameter: `[1, directions, shape…]`.
pub(super) fn sums<B: Backend>(
    passes: &Passes<'_, B>,
    activations: &Activations<B>,
    seed: B::Tensor,
) -> Vec<(usize, B::Tensor)> {
    let mut sums = Vec::new();
    passes.backward(activations, seed, |k, site| {
        sums.push((k, site.sum(passes.backend)));
    });
    sums
}

/// A forward pass of dual numbers: inputs are constant, weights carry the tangents.
fn push<'a, B: Backend>(
    backend: &'a B,
    network: &Network,
    weights: &Weights<DualTensor<B::Tensor>>,
    inputs: Vec<B::Tensor>,
    reach: &Reach,
) -> Activations<Dual<'a, B>> {
    let inputs = inputs.into_iter().map(DualTensor::constant).collect();
    Passes::new(&Dual { inner: backend }, network, weights, reach).forward(inputs)
}

/// Adds the rows of a parameter, `[1, directions, shape…]`, to `[directions, p]`.
pub(super) fn add_rows<B: Backend>(
    backend: &B,
    rows: &B::Tensor,
    network: &Network,
    parameter: usize,
    into: &mut [f64],
) -> Result<()> {
    let range = network.parameters[parameter].range();
    let values = backend.read(rows)?;
    let rows = into.par_chunks_exact_mut(network.parameter_count());
    let values = values.par_chunks_exact(range.len().max(1));
    rows.zip(values).for_each(|(row, values)| {
        for (sum, value) in row[range.clone()].iter_mut().zip(values) {
            *sum += value.to_f64();
        }
    });
    Ok(())
}

/// Refuses vectors that are not of the network's length; returns how many there are.
pub(super) fn check_vectors(network: &Network, vectors: &[f64]) -> Result<usize> {
    let p = network.parameter_count();
    if p == 0 {
        return Err(Error::Request(
            "the network has no parameters to differentiate".into(),
        ));
    }
    if vectors.is_empty() || !vectors.len().is_multiple_of(p) {
        return Err(Error::Shape(format!(
            "{} numbers are no vectors of the network's {p} parameters",
            vectors.len()
        )));
    }
    let finite = |part: &[f64]| part.iter().all(|v| v.is_finite());
    if vectors.par_chunks(1 << 16).all(finite) {
        return Ok(vectors.len() / p);
    }
    match vectors.iter().position(|v| !v.is_finite()) {
        None => Ok(vectors.len() / p),
        Some(at) => Err(Error::Value(format!(
            "entry {} of vector {} is {}: vectors must be finite",
            at % p,
            at / p,
            vectors[at]
        ))),
    }
}
