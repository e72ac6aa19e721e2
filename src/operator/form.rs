//! Bilinear forms uᵀGv and uᵀ(H − G)v by forward mode alone.
//!
//! Dual numbers over dual numbers carry ż along u, ż along v and the second derivative z̈ along both, so that
//! `uᵀGv = Σ_n ż_uᵀ ∇²ℓ ż_v` and `uᵀ(H − G)v = Σ_n ∇ℓᵀ z̈`. No reverse rule, factor or contraction takes part: what
//! `verify` needs of a second way; and H − G comes out as itself, not as a difference.

use super::product::check_vectors;
use super::stream::{Chunk, Stream, along, blank};
use crate::control::Control;
use crate::error::{Error, Result};
use crate::jacobian::passes::{Passes, Reach, Weights};
use crate::jacobian::seeds::{Seeded, read_f64, read_outputs, read_tangents};
use crate::network::Network;
use crate::plan::Limits;
use crate::run::Problem;
use crate::tensor::Backend;
use crate::tensor::dual::{Dual, DualTensor};
use serde::Serialize;
use std::ops::Range;

/// A bilinear form of both terms of the Hessian.
///
/// ```
/// # use hessblock::data::Dataset;
/// # use hessblock::loss::CrossEntropy;
/// # use hessblock::network::builder::Builder;
/// # use hessblock::{Device, Precision, Session};
/// # use ndarray::{Array1, arr1, arr2};
/// # let network = Builder::new(&[3]).linear("fc1", 4).tanh().linear("fc2", 2).initialize(0).build()?;
/// # let data = Dataset::from_arrays(arr2(&[[0.1, 0.2, 0.3], [0.5, -0.4, 0.0]]), arr1(&[0i64, 1]));
/// # let session = Session::builder(network).data(data).loss(CrossEntropy::mean())
/// #     .device(Device::cpu(Precision::F64)).build()?;
/// let v = Array1::<f64>::ones(26);
/// let form = session.ggn().forms(v.view())?[0];
/// assert!((form.exact() - session.hessian().quadratic_form(v.view())?).abs() < 1e-14);
/// # Ok::<(), hessblock::Error>(())
/// ```
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

/// The pairs (u_r, v_r) of vectors of forms, each `[pairs, p]` in the flat order.
#[derive(Clone, Copy)]
pub struct Pairs<'a> {
    /// The vectors u.
    pub left: &'a [f64],
    /// The vectors v.
    pub right: &'a [f64],
}

/// The forms of pairs of vectors.
///
/// Without `second`, the residual is 0 and not computed: one dual pass does, and the loss needs no gradient. `sizes` are the
/// limits on memory, and the samples of a pass where the user sets them.
///
/// # Errors
/// [`Error::Shape`] for vectors of another length, [`Error::Budget`] where not even one sample fits; what data and
/// device report.
pub fn forms<B: Backend>(
    backend: &B,
    work: &Problem<'_>,
    Pairs { left, right }: Pairs<'_>,
    second: bool,
    (limits, batch): (Limits, Option<usize>),
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
        Passes::new(&Dual { inner: &outer }, network, &weights, &reach).forward(inputs);
    })?;
    let primal = Weights::upload(backend, network);
    let p = network.parameter_count();
    let mut result = vec![Form::default(); pairs];
    let weights = |group: &Range<usize>| {
        let own = group.start * p..group.end * p;
        [left, right].map(|vectors| along(backend, network, &primal, &vectors[own.clone()]))
    };
    stream.each(work, pairs, control, weights, |weights, group, chunk| {
        let inputs = work.upload(backend, chunk.range.clone())?;
        let output = match second {
            true => along_both(backend, network, weights, &reach, inputs),
            false => along_each(backend, network, weights, &reach, inputs),
        };
        add_forms(backend, work, &output, &chunk, second, &mut result[group])
    })?;
    Ok(result)
}

/// The outputs with their tangents along both vectors and their second derivatives.
fn along_both<B: Backend>(
    backend: &B,
    network: &Network,
    [left, right]: &[Weights<DualTensor<B::Tensor>>; 2],
    reach: &Reach,
    inputs: Vec<B::Tensor>,
) -> Twice<B::Tensor> {
    let inner = Dual { inner: backend };
    let outer = Dual { inner: &inner };
    let weights = twice(left, right);
    let inputs = inputs.into_iter().map(constant).collect();
    let passes = Passes::new(&outer, network, &weights, reach);
    passes.forward(inputs).output
}

/// The outputs with their tangents along each of both vectors alone.
fn along_each<B: Backend>(
    backend: &B,
    network: &Network,
    [left, right]: &[Weights<DualTensor<B::Tensor>>; 2],
    reach: &Reach,
    inputs: Vec<B::Tensor>,
) -> Twice<B::Tensor> {
    let inner = Dual { inner: backend };
    let run = |weights| {
        let inputs = inputs.iter().cloned().map(DualTensor::constant).collect();
        let passes = Passes::new(&inner, network, weights, reach);
        passes.forward(inputs).output
    };
    DualTensor {
        primal: run(left),
        tangent: run(right).tangent.map(DualTensor::constant),
    }
}

/// Adds a chunk's part of the forms of a group of pairs, from the outputs with their tangents.
fn add_forms<B: Backend>(
    backend: &B,
    work: &Problem<'_>,
    output: &Twice<B::Tensor>,
    chunk: &Chunk,
    second: bool,
    forms: &mut [Form],
) -> Result<()> {
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
    let (loss, targets) = (work.hessian(), &chunk.targets);
    let seeded = Seeded::new(&loss, targets, chunk.first, &outputs, &along_right, second);
    let (each, pairs) = (work.network.outputs(), forms.len());
    let products = seeded.products.chunks_exact(each);
    for (at, (left, product)) in along_left.chunks_exact(each).zip(products).enumerate() {
        forms[at % pairs].ggn += dot(left, product);
    }
    for (at, second_order) in second_order.chunks_exact(each).enumerate() {
        let sample = at / pairs;
        let gradient = &seeded.gradient[sample * each..(sample + 1) * each];
        forms[at % pairs].residual += dot(gradient, second_order);
    }
    Ok(())
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
