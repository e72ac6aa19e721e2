//! The trace of a curvature, exact from its diagonal or by random probes.

use super::product::product;
use super::steps::Steps;
use crate::control::Control;
use crate::error::Result;
use crate::network::Network;
use crate::plan::Limits;
use crate::random::Draws;
use crate::run::Problem;
use crate::tensor::Backend;
use serde::Serialize;

/// Probes that lie on the host at once.
const TURN: usize = 32;

/// A trace, or a layer's part of it.
///
/// ```
/// # use hessblock::data::Dataset;
/// # use hessblock::loss::CrossEntropy;
/// # use hessblock::network::builder::Builder;
/// # use hessblock::{Device, Precision, Session};
/// # use ndarray::{arr1, arr2};
/// # let network = Builder::new(&[3]).linear("fc1", 4).tanh().linear("fc2", 2).initialize(0).build()?;
/// # let data = Dataset::from_arrays(arr2(&[[0.1, 0.2, 0.3], [0.5, -0.4, 0.0]]), arr1(&[0i64, 1]));
/// # let session = Session::builder(network).data(data).loss(CrossEntropy::mean())
/// #     .device(Device::cpu(Precision::F64)).build()?;
/// for trace in session.ggn().estimated_traces(20, 1)? {
///     let layer = trace.layer.as_deref().unwrap_or("all");
///     println!("{layer}: {:.3} ± {:.3}", trace.value, trace.error.unwrap_or(0.0));
/// }
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trace {
    /// The layer; `None` for the whole.
    pub layer: Option<String>,
    /// Entries on the diagonal.
    pub parameters: usize,
    /// The sum of the diagonal, or its estimate.
    pub value: f64,
    /// The standard error of an estimate; `None` for an exact value, and for one probe.
    pub error: Option<f64>,
}

/// The random vectors of an estimate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probes {
    /// How many.
    pub count: usize,
    /// Chooses them.
    pub seed: u64,
}

/// The traces of every layer and, last, of the whole, from a diagonal `[p]`.
pub fn trace_of(network: &Network, diagonal: &[f64]) -> Vec<Trace> {
    let sums = by_layer(network, diagonal);
    traces(network, &[sums])
}

/// The traces of every layer and, last, of the whole, from random vectors of ±1.
///
/// Source: Hutchinson 1990: `E[vᵀHv] = tr H`. The error is that of the mean over the probes.
///
/// # Errors
/// As [`product`].
pub fn probed_trace<B: Backend>(
    backend: &B,
    work: &Problem<'_>,
    probes: Probes,
    limits: Limits,
    batch: Option<usize>,
    control: &Control<'_>,
) -> Result<Vec<Trace>> {
    let p = work.network.parameter_count();
    let Probes { count, seed } = probes;
    let mut sums = Vec::with_capacity(count);
    let steps = Steps::new(control, work.dataset.len(), count as u64);
    for start in (0..count).step_by(TURN) {
        let turn = start..(start + TURN).min(count);
        let draw = |probe: usize| {
            let mut draws = Draws::new(seed, probe as u64, 0);
            (0..p).map(move |_| draws.sign())
        };
        let vectors: Vec<f64> = turn.clone().flat_map(draw).collect();
        let mut products = steps.step(turn.len(), |control| {
            product(backend, work, &vectors, limits, batch, control)
        })?;
        for (product, vector) in products.iter_mut().zip(&vectors) {
            *product *= vector;
        }
        let rows = products.chunks_exact(p.max(1));
        sums.extend(rows.map(|products| by_layer(work.network, products)));
    }
    Ok(traces(work.network, &sums))
}

/// Sums of `[p]` numbers over each layer, and over all.
fn by_layer(network: &Network, values: &[f64]) -> Vec<f64> {
    let layers = network.layers();
    let sum = |layer| network.ranges(layer).flat_map(|own| &values[own]).sum();
    let mut sums: Vec<f64> = layers.iter().map(sum).collect();
    sums.push(sums.iter().sum());
    sums
}

/// Means and standard errors of one or more rows of sums.
fn traces(network: &Network, sums: &[Vec<f64>]) -> Vec<Trace> {
    let count = sums.len() as f64;
    let mut names: Vec<(Option<String>, usize)> = Vec::new();
    for layer in network.layers() {
        let count = network.ranges(&layer).map(|own| own.len()).sum();
        names.push((Some(layer.name), count));
    }
    names.push((None, network.parameter_count()));
    let trace = |(at, (layer, parameters)): (usize, (Option<String>, usize))| {
        let value = sums.iter().map(|s| s[at]).sum::<f64>() / count;
        let squares = sums.iter().map(|s| (s[at] - value).powi(2)).sum::<f64>();
        Trace {
            layer,
            parameters,
            value,
            error: (sums.len() > 1).then(|| (squares / (count - 1.0) / count).sqrt()),
        }
    };
    names.into_iter().enumerate().map(trace).collect()
}
