//! How many directions every sample's loss factor needs.

use super::stream::Stream;
use crate::control::Control;
use crate::error::{Error, Result};
use crate::jacobian::passes::{Passes, Reach, Weights};
use crate::jacobian::seeds::{per_sample, read_outputs};
use crate::loss::{RankReport, check_tolerance, count_kept};
use crate::plan::Limits;
use crate::run::Problem;
use crate::tensor::Backend;

/// One forward pass over all samples, a chunk at a time: how many directions each keeps where S may lose the share
/// `tolerance` of its squares ([`crate::loss::RankCut`]).
///
/// # Errors
/// [`Error::Request`] for a tolerance outside 0..1, [`Error::Budget`] where not even one sample fits, [`Error::Value`]
/// for a Hessian of the loss that is not finite; what data and device report.
pub fn ranks<B: Backend>(
    backend: &B,
    work: &Problem<'_>,
    tolerance: f64,
    limits: Limits,
    batch: Option<usize>,
    control: &Control<'_>,
) -> Result<RankReport> {
    check_tolerance(tolerance)?;
    let (network, loss) = (work.network, work.loss);
    let reach = Reach::forward_only(network);
    let bytes = size_of::<B::Real>();
    let stream = Stream::fit(work, 1, batch, limits, bytes, |meter, inputs, _| {
        let weights = Weights::upload(meter, network);
        Passes::new(meter, network, &weights, &reach).forward(inputs);
    })?;
    let weights = Weights::upload(backend, network);
    let passes = Passes::new(backend, network, &weights, &reach);
    let mut report = RankReport {
        tolerance,
        directions: 1,
        all_directions: loss.directions(network.outputs()),
        mean_directions: 0.0,
        worst_share: 0.0,
        cut: 0.0,
        whole: 0.0,
    };
    stream.each(
        work,
        1,
        control,
        |_| (),
        |(), _, chunk| {
            let inputs = work.upload(backend, chunk.range.clone())?;
            let activations = passes.forward(inputs);
            let outputs = read_outputs(
                backend,
                &activations.output,
                chunk.first,
                (work.loss, &chunk.targets),
                false,
            )?;
            // Each sample's slot: directions that are counted; Σ ‖S_r‖² of those that a run will cut, and of all.
            let mut slots = vec![0.0; 3 * chunk.range.len()];
            let (targets, first) = (&chunk.targets, chunk.first);
            per_sample(&outputs, targets, first, &mut slots, |sample, slot| {
                let (counted, kept) = count_kept(loss, sample, tolerance);
                slot.copy_from_slice(&[counted as f64, kept.cut, kept.whole]);
            });
            for (k, slot) in slots.chunks_exact(3).enumerate() {
                let &[counted, cut, whole] = slot else {
                    continue;
                };
                if !whole.is_finite() {
                    return Err(Error::Value(format!(
                        "the Hessian of the loss {} is not finite for sample {}",
                        loss.name(),
                        first + k
                    )));
                }
                report.directions = report.directions.max(counted as usize);
                report.mean_directions += counted;
                report.cut += cut;
                report.whole += whole;
                if whole > 0.0 {
                    report.worst_share = report.worst_share.max(cut / whole);
                }
            }
            Ok(())
        },
    )?;
    report.mean_directions /= work.dataset.len().max(1) as f64;
    Ok(report)
}
