//! The gradient of the loss, with its value: a user's first sanity check.

use super::product::{add_rows, sums};
use super::stream::Stream;
use crate::control::Control;
use crate::error::{Error, Result};
use crate::jacobian::passes::{Passes, Reach, Weights};
use crate::jacobian::seeds::{per_sample, read_outputs};
use crate::plan::Limits;
use crate::run::Problem;
use crate::tensor::{Backend, HostSlice, Shape};

/// ∇_w Σ_n ℓ_n, with what comes along with it.
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
/// let gradient = session.gradient()?;
/// let (right, all) = gradient.accuracy.expect("cross-entropy has classes");
/// println!("loss {:.3}, {right} of {all} right", gradient.loss);
/// assert_eq!(gradient.values.len(), 26);
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Gradient {
    /// `[p]`, in the flat order.
    pub values: Vec<f64>,
    /// Σ_n ℓ_n; NaN where only the loss's derivatives are given.
    pub loss: f64,
    /// Right and all predictions, for losses with classes.
    pub accuracy: Option<(usize, usize)>,
}

/// Computes the gradient in chunks of samples; sums over chunks are in double precision.
///
/// # Errors
/// [`Error::Budget`] where not even one sample fits; what data and device report.
pub fn gradient<B: Backend>(
    backend: &B,
    work: &Problem<'_>,
    limits: Limits,
    batch: Option<usize>,
    control: &Control<'_>,
) -> Result<Gradient> {
    let network = work.network;
    if network.parameters.is_empty() {
        return Err(Error::Request(
            "the network has no parameters to differentiate".into(),
        ));
    }
    let reach = Reach::new(network, vec![true; network.parameters.len()]);
    let bytes = size_of::<B::Real>();
    let stream = Stream::fit(work, 1, batch, limits, bytes, |meter, inputs, _| {
        let weights = Weights::upload(meter, network);
        let passes = Passes::new(meter, network, &weights, &reach);
        let activations = passes.forward(inputs);
        let seed = meter.fill(&meter.shape(&activations.output), 0.0);
        sums(&passes, &activations, seed);
    })?;
    let weights = Weights::upload(backend, network);
    let passes = Passes::new(backend, network, &weights, &reach);
    let mut result = Gradient {
        values: vec![0.0; network.parameter_count()],
        loss: 0.0,
        accuracy: None,
    };
    stream.each(
        work,
        1,
        control,
        |_| (),
        |(), _, chunk| {
            let samples = chunk.range.len();
            let inputs = work.upload(backend, chunk.range.clone())?;
            let activations = passes.forward(inputs);
            let outputs = read_outputs(
                backend,
                &activations.output,
                chunk.first,
                (work.loss, &chunk.targets),
                work.lenient,
            )?;
            let each = outputs.len() / samples;
            // Each sample's slot: ∇ℓ, then ℓ, then right and all predictions (−1 without classes).
            let mut slots = vec![0.0; samples * (each + 3)];
            let (targets, first) = (&chunk.targets, chunk.first);
            per_sample(&outputs, targets, first, &mut slots, |sample, slot| {
                let (gradient, rest) = slot.split_at_mut(each);
                work.loss.gradient(sample, gradient);
                rest[0] = work.loss.value(sample);
                let (right, all) = work
                    .loss
                    .accuracy(sample)
                    .map_or((-1.0, -1.0), |(r, a)| (r as f64, a as f64));
                rest[1..].copy_from_slice(&[right, all]);
            });
            let mut seed = Vec::with_capacity(outputs.len());
            for slot in slots.chunks_exact(each + 3) {
                seed.extend_from_slice(&slot[..each]);
                result.loss += slot[each];
                if slot[each + 1] >= 0.0 {
                    let (right, all) = result.accuracy.unwrap_or_default();
                    result.accuracy = Some((
                        right + slot[each + 1] as usize,
                        all + slot[each + 2] as usize,
                    ));
                }
            }
            let shape = Shape::new(samples, 1, &backend.shape(&activations.output).rest);
            let seed = backend.upload(&shape, HostSlice::F64(&seed));
            for (k, sum) in sums(&passes, &activations, seed) {
                add_rows(backend, &sum, network, k, &mut result.values)?;
            }
            Ok(())
        },
    )?;
    Ok(result)
}
