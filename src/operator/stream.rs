//! Passes over all samples, a chunk at a time, as many directions at once as fit.

use crate::bytes::Bytes;
use crate::control::{Control, Progress};
use crate::error::Result;
use crate::jacobian::passes::Weights;
use crate::loss::TargetBatch;
use crate::network::Network;
use crate::plan::Limits;
use crate::plan::Shortfall;
use crate::run::Problem;
use crate::tensor::dual::DualTensor;
use crate::tensor::meter::{Meter, MeterTensor};
use crate::tensor::{Backend, HostSlice, Shape};
use std::ops::Range;

/// Samples per chunk at most.
const CHUNK: usize = 1024;
/// Directions at once at most: beyond, nothing is left to share.
const DIRECTIONS: usize = 64;

/// How an operator goes over its samples and directions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stream {
    /// Samples per pass.
    chunk: usize,
    /// Directions per pass.
    group: usize,
}

/// A range of samples, with what the loss needs to know of it.
pub(super) struct Chunk {
    /// Within the samples taken.
    pub range: Range<usize>,
    /// Absolute index of the first.
    pub first: usize,
    /// Their targets.
    pub targets: TargetBatch,
}

impl Stream {
    /// The largest chunk and group whose passes fit the limits, found by `measure(meter, inputs, directions)` on
    /// shapes alone.
    ///
    /// # Errors
    /// [`Error::Budget`] where not even one sample and one direction fit.
    pub(super) fn fit(
        work: &Problem<'_>,
        directions: usize,
        batch: Option<usize>,
        limits: Limits,
        number_bytes: usize,
        measure: impl Fn(&Meter, Vec<MeterTensor>, usize),
    ) -> Result<Stream> {
        let samples = work.dataset.len().max(1);
        let mut chunk = batch.unwrap_or(CHUNK).clamp(1, samples);
        let mut group = directions.clamp(1, DIRECTIONS);
        loop {
            let meter = Meter::new(number_bytes);
            let inputs = work.network.inputs.iter();
            let inputs = inputs.map(|i| meter.fill(&Shape::new(chunk, 1, &i.rest), 0.0));
            measure(&meter, inputs.collect(), group);
            // Outputs and seeds of a chunk lie on the host in double precision, and so do all vectors, all results
            // and the group's vectors once more.
            let seeds = chunk * work.network.outputs() * (2 + 3 * group);
            let vectors = work.network.parameter_count() * (2 * directions + group);
            let host = 8 * (seeds + vectors) as u64;
            let device = limits.device_beside(host);
            if meter.peak() <= device
                && host <= limits.host_left()
                && meter.largest() <= limits.tensor
            {
                return Ok(Stream { chunk, group });
            }
            // A group of directions shares the primal passes, a chunk of samples only overheads.
            if chunk > 16 || group == 1 && chunk > 1 {
                chunk = chunk.div_ceil(2);
            } else if group > 1 {
                group = group.div_ceil(2);
            } else {
                let peak = meter.peak();
                let short = Shortfall::of(limits, peak, host);
                let message = format!(
                    "the memory budget of {} is too small: {}one sample's passes take {} (largest tensor {}) and {} on the host; {} would do",
                    short.budget,
                    short.held,
                    Bytes(peak.into()),
                    Bytes(meter.largest().into()),
                    Bytes(host.into()),
                    short.would_do(),
                );
                return Err(short.error(message));
            }
        }
    }

    /// Gives every group of directions, and what `prepare` makes of it once, with every chunk of samples to `visit`.
    ///
    /// # Errors
    /// What the data or `visit` report; [`Error::Interrupted`].
    pub(super) fn each<G>(
        self,
        work: &Problem<'_>,
        directions: usize,
        control: &Control<'_>,
        prepare: impl Fn(&Range<usize>) -> G,
        mut visit: impl FnMut(&G, Range<usize>, Chunk) -> Result<()>,
    ) -> Result<()> {
        let samples = work.dataset.len();
        let groups = directions.div_ceil(self.group);
        for (k, start) in (0..directions).step_by(self.group).enumerate() {
            let group = start..(start + self.group).min(directions);
            let prepared = prepare(&group);
            for start in (0..samples).step_by(self.chunk) {
                control.check()?;
                let range = start..(start + self.chunk).min(samples);
                let end = range.end;
                let chunk = Chunk {
                    first: work.dataset.sample_range().start + start,
                    targets: work.dataset.targets(range.clone())?,
                    range,
                };
                visit(&prepared, group.clone(), chunk)?;
                (control.progress)(Progress {
                    done: (k * samples + end) as u64,
                    total: (groups * samples) as u64,
                    tiles: 0,
                    tile_count: 0,
                });
            }
        }
        control.check()
    }
}

/// Dual weights with tangents of that many directions for every parameter, on shapes alone.
pub(super) fn blank(
    meter: &Meter,
    network: &Network,
    directions: usize,
) -> Weights<DualTensor<MeterTensor>> {
    let primal = Weights::upload(meter, network);
    let vectors = network.parameters.iter().map(|parameter| {
        let shape = Shape::new(1, directions, &parameter.data.shape);
        Some(meter.fill(&shape, 0.0))
    });
    primal.with_tangents(vectors)
}

/// Dual weights along `vectors`, `[directions, p]` in the flat order; a parameter that none of them touches has no
/// tangent.
pub(crate) fn along<B: Backend>(
    backend: &B,
    network: &Network,
    primal: &Weights<B::Tensor>,
    vectors: &[f64],
) -> Weights<DualTensor<B::Tensor>> {
    let p = network.parameter_count().max(1);
    let directions = vectors.len() / p;
    let parameters = network.parameters.iter().map(|parameter| {
        // A copy of whole rows: one by one, 8 vectors of an MLP of 535,818 parameters cost as much as its gradient.
        let mut values = Vec::with_capacity(directions * parameter.range().len());
        for vector in vectors.chunks_exact(p) {
            values.extend_from_slice(&vector[parameter.range()]);
        }
        (values.iter().any(|&v| v != 0.0)).then(|| {
            let shape = Shape::new(1, directions, &parameter.data.shape);
            backend.upload(&shape, HostSlice::F64(&values))
        })
    });
    primal.with_tangents(parameters)
}
