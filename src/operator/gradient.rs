//! The gradient of the loss, with its value: a user's first sanity check.

use crate::bytes::Bytes;
use crate::error::{Error, Result};
use crate::jacobian::passes::{Reach, Weights, backward, forward};
use crate::network::Network;
use crate::schedule::plan::Limits;
use crate::schedule::run::{Control, Progress, Work};
use crate::schedule::unit::{per_sample, read_outputs};
use crate::tensor::meter::Meter;
use crate::tensor::{Backend, HostSlice, Real, Shape};

/// Samples per chunk at most.
const CHUNK: usize = 1024;

/// ∇_w Σ_n ℓ_n, with what comes along with it.
#[derive(Clone, Debug)]
pub struct Gradient {
    /// `[p]`, in the flat order.
    pub values: Vec<f64>,
    /// Σ_n ℓ_n.
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
    work: &Work<'_>,
    limits: Limits,
    batch: Option<usize>,
    control: &Control<'_>,
) -> Result<Gradient> {
    let network = work.network;
    let reach = Reach::new(network, vec![true; network.parameters.len()]);
    if network.parameters.is_empty() {
        return Err(Error::Request(
            "the network has no parameters to differentiate".into(),
        ));
    }
    let samples = work.dataset.len();
    let chunk = fit(
        network,
        &reach,
        batch.unwrap_or(CHUNK).clamp(1, samples.max(1)),
        limits,
        size_of::<B::Real>(),
    )?;
    let weights = Weights::upload(backend, network);
    let mut result = Gradient {
        values: vec![0.0; network.parameter_count()],
        loss: 0.0,
        accuracy: None,
    };
    for start in (0..samples).step_by(chunk) {
        control.check()?;
        let range = start..(start + chunk).min(samples);
        let first = work.dataset.sample_range().start + start;
        let targets = work.dataset.targets(range.clone())?;
        let trace = forward(
            backend,
            network,
            &weights,
            work.upload(backend, range.clone())?,
            &reach,
        );
        let outputs = read_outputs(backend, &trace.output, first)?;
        let each = outputs.len() / range.len();
        // Each sample's slot: ∇ℓ, then ℓ, then right and all predictions (−1 without classes).
        let mut slots = vec![0.0; range.len() * (each + 3)];
        per_sample(&outputs, &targets, first, &mut slots, |sample, slot| {
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
        let shape = Shape::new(range.len(), 1, &backend.shape(&trace.output).rest);
        let seed = backend.upload(&shape, HostSlice::F64(&seed));
        let mut sums = Vec::new();
        backward(
            backend,
            network,
            &weights,
            &trace,
            &reach,
            seed,
            |k, site| sums.push((k, site.sum(backend))),
        );
        for (k, sum) in sums {
            for (total, value) in result.values[network.parameters[k].range()]
                .iter_mut()
                .zip(backend.read(&sum)?)
            {
                *total += value.to_f64();
            }
        }
        (control.progress)(Progress {
            done: range.end as u64,
            total: samples as u64,
            tiles: 0,
            tile_count: 0,
        });
    }
    control.check()?;
    Ok(result)
}

/// The largest chunk up to `most` whose passes fit the limits, found on shapes alone.
fn fit(
    network: &Network,
    reach: &Reach,
    most: usize,
    limits: Limits,
    number_bytes: usize,
) -> Result<usize> {
    let mut chunk = most;
    loop {
        let meter = Meter::new(number_bytes);
        let weights = Weights::upload(&meter, network);
        let inputs = network.inputs.iter();
        let inputs = inputs.map(|i| meter.fill(&Shape::new(chunk, 1, &i.rest), 0.0));
        let trace = forward(&meter, network, &weights, inputs.collect(), reach);
        let seed = meter.fill(&meter.shape(&trace.output), 0.0);
        let mut sums = Vec::new();
        backward(&meter, network, &weights, &trace, reach, seed, |_, site| {
            sums.push(site.sum(&meter))
        });
        if meter.peak() <= limits.device && meter.largest() <= limits.tensor {
            return Ok(chunk);
        }
        if chunk == 1 {
            return Err(Error::Budget(format!(
                "the memory budget of {} is too small: one sample's forward and reverse pass takes {} (largest tensor {}, the device takes {})",
                Bytes(limits.device as u128),
                Bytes(meter.peak() as u128),
                Bytes(meter.largest() as u128),
                Bytes(limits.tensor as u128),
            )));
        }
        chunk = chunk.div_ceil(2);
    }
}
