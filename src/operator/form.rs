//! Bilinear forms uᵀGv and uᵀ(H − G)v by forward mode alone.
//!
//! Dual numbers over dual numbers carry ż along u, ż along v and the second derivative z̈ along both, so that
//! `uᵀGv = Σ_n ż_uᵀ ∇²ℓ ż_v` and `uᵀ(H − G)v = Σ_n ∇ℓᵀ z̈`. No reverse rule, factor or contraction takes part: what
//! `verify` needs of a second way; and H − G comes out as itself, not as a difference.

use super::product::check_vectors;
use super::stream::{Stream, along, blank};
use crate::error::{Error, Result};
use crate::jacobian::passes::{Reach, Weights, forward};
use crate::jacobian::unit::{Seeded, read_f64, read_outputs, read_tangents};
use crate::plan::Limits;
use crate::run::{Control, Work};
use crate::tensor::Backend;
use crate::tensor::dual::{Dual, DualTensor};
use serde::Serialize;
use std::ops::Range;

/// A bilinear form of both terms of the Hessian.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Form {
    /// uᵀGv (or that of the Fisher matrix that stands for G).
    pub ggn: f64,
    /// uᵀ(H − G)v.
    pub residual: f64,
}

impl Form {
    /// uᵀHv.
    pub fn exact(self) -> f64 {
        self.ggn + self.residual
    }
}

type Twice<T> = DualTensor<DualTensor<T>>;

/// The forms of pairs (u_r, v_r): `left` and `right` are `[pairs, p]` in the flat order.
///
/// Without `second`, the residual is 0 and not computed: one dual pass does, and the loss needs no gradient.
///
/// # Errors
/// [`Error::Shape`] for vectors of another length, [`Error::Budget`] where not even one sample fits; what data and
/// device report.
#[allow(clippy::too_many_arguments)]
pub fn forms<B: Backend>(
    backend: &B,
    work: &Work<'_>,
    left: &[f64],
    right: &[f64],
    second: bool,
    limits: Limits,
    batch: Option<usize>,
    control: &Control<'_>,
) -> Result<Vec<Form>> {
    let network = work.network;
    let pairs = check_vectors(network, left)?;
    if check_vectors(network, right)? != pairs {
        return Err(Error::Shape(format!(
            "{} numbers on the left and {} on the right are no pairs of vectors",
            left.len(),
            right.len()
        )));
    }
    let reach = Reach::forward_only(network);
    let bytes = size_of::<B::Real>();
    let stream = Stream::fit(work, pairs, batch, limits, bytes, |meter, inputs, group| {
        let outer = Dual { inner: meter };
        let tangents = blank(meter, network, group);
        let weights = twice(&tangents, &tangents);
        let inputs = inputs.into_iter().map(constant).collect();
        forward(&Dual { inner: &outer }, network, &weights, inputs, &reach);
    })?;
    let primal = Weights::upload(backend, network);
    let loss = work.hessian();
    let p = network.parameter_count();
    let mut result = vec![Form::default(); pairs];
    let weights = |group: &Range<usize>| {
        let own = group.start * p..group.end * p;
        [left, right].map(|vectors| along(backend, network, &primal, &vectors[own.clone()]))
    };
    stream.each(
        work,
        pairs,
        control,
        weights,
        |[left, right], group, chunk| {
            let inputs = work.upload(backend, chunk.range.clone())?;
            let inner = Dual { inner: backend };
            let output: Twice<B::Tensor> = if second {
                let weights = twice(left, right);
                let inputs = inputs.into_iter().map(constant).collect();
                let outer = Dual { inner: &inner };
                forward(&outer, network, &weights, inputs, &reach).output
            } else {
                let run = |weights| {
                    let inputs = inputs.iter().cloned().map(DualTensor::constant).collect();
                    forward(&inner, network, weights, inputs, &reach).output
                };
                DualTensor {
                    primal: run(left),
                    tangent: run(right).tangent.map(DualTensor::constant),
                }
            };
            let outputs = read_outputs(
                backend,
                &output.primal.primal,
                chunk.first,
                (work.loss, &chunk.targets),
                work.lenient,
            )?;
            let along_left = read_tangents(backend, &output.primal)?;
            let (along_right, second_order) = match &output.tangent {
                None => (Vec::new(), Vec::new()),
                Some(tangent) => {
                    let along_right = read_f64(backend, &tangent.primal)?;
                    (along_right, read_tangents(backend, tangent)?)
                }
            };
            let seeded = Seeded::new(
                &loss,
                &chunk.targets,
                chunk.first,
                &outputs,
                &along_right,
                second,
            );
            let each = network.outputs();
            for (at, (left, product)) in along_left
                .chunks_exact(each)
                .zip(seeded.products.chunks_exact(each))
                .enumerate()
            {
                result[group.start + at % group.len()].ggn += dot(left, product);
            }
            for (at, second_order) in second_order.chunks_exact(each).enumerate() {
                let sample = at / group.len();
                let gradient = &seeded.gradient[sample * each..(sample + 1) * each];
                result[group.start + at % group.len()].residual += dot(gradient, second_order);
            }
            Ok(())
        },
    )?;
    Ok(result)
}

fn dot(left: &[f64], right: &[f64]) -> f64 {
    left.iter().zip(right).map(|(l, r)| l * r).sum()
}

fn constant<T>(input: T) -> Twice<T> {
    DualTensor::constant(DualTensor::constant(input))
}

/// Weights that vary along the tangents of `left` within, and of `right` without.
fn twice<T: Clone>(
    left: &Weights<DualTensor<T>>,
    right: &Weights<DualTensor<T>>,
) -> Weights<Twice<T>> {
    let tangents = right.parameters.iter();
    left.with_tangents(tangents.map(|w| w.tangent.clone().map(DualTensor::constant)))
}
