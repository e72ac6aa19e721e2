//! The outputs of the network, sample by sample.

use super::stream::Stream;
use crate::control::Control;
use crate::error::Result;
use crate::jacobian::passes::{Passes, Reach, Weights};
use crate::jacobian::seeds::read_f64;
use crate::plan::Limits;
use crate::run::Problem;
use crate::tensor::Backend;

/// The outputs z_n of all samples: `[samples, outputs]`, row-major.
///
/// # Errors
/// [`crate::Error::Budget`] where not even one sample fits; what data and device report.
pub fn outputs<B: Backend>(
    backend: &B,
    work: &Problem<'_>,
    limits: Limits,
    batch: Option<usize>,
    control: &Control<'_>,
) -> Result<Vec<f64>> {
    let network = work.network;
    let reach = Reach::forward_only(network);
    let bytes = size_of::<B::Real>();
    let stream = Stream::fit(work, 1, batch, limits, bytes, |meter, inputs, _| {
        let weights = Weights::upload(meter, network);
        Passes::new(meter, network, &weights, &reach).forward(inputs);
    })?;
    let weights = Weights::upload(backend, network);
    let passes = Passes::new(backend, network, &weights, &reach);
    let each = network.outputs();
    let mut result = vec![0.0; work.dataset.len() * each];
    stream.each(
        work,
        1,
        control,
        |_| (),
        |(), _, chunk| {
            let inputs = work.upload(backend, chunk.range.clone())?;
            let activations = passes.forward(inputs);
            let values = read_f64(backend, &activations.output)?;
            let at = chunk.range.start * each;
            result[at..at + values.len()].copy_from_slice(&values);
            Ok(())
        },
    )?;
    Ok(result)
}
