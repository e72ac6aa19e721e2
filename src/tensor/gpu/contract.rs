//! Tiles of G: accumulated on the device, read back through a ring of staging buffers.

use std::time::{Duration, Instant};

use futures::channel::oneshot;

use super::Gpu;
use super::product::Product;
use super::tensor::{Content, GpuTensor, View};
use super::token::Tokens;
use crate::error::{Error, Result};
use crate::tensor::{
    Backend, Contract, Einsum, Fill, How, OuterAxes, OuterTerm, Scaled, Shape, strides,
};

/// Numbers of P that are formed at a time.
const PAIRS: usize = 1 << 22;

/// A tile `[rows, columns]` under way on the device.
pub struct GpuTile {
    tensor: GpuTensor,
    columns: usize,
}

/// Values on their way to the host.
pub struct GpuPending {
    on_the_way: Option<OnTheWay>,
    failed: bool,
}

struct OnTheWay {
    staging: wgpu::Buffer,
    bytes: u64,
    tokens: Tokens,
    submission: wgpu::SubmissionIndex,
    mapped: oneshot::Receiver<bool>,
}

fn broadcast(a: usize, b: usize) -> usize {
    if a == 1 { b } else { a }
}

/// Stride of an axis of `extent`, 0 where it repeats.
fn stride(extent: usize, own: usize) -> i64 {
    if extent == 1 { 0 } else { own as i64 }
}

impl Gpu {
    /// Starts copying a tensor to the host.
    pub(super) fn start_read(&self, tensor: &GpuTensor) -> GpuPending {
        let mut pending = GpuPending {
            on_the_way: None,
            failed: matches!(tensor.content, Content::Failed),
        };
        let Some(view) = tensor.view() else {
            return pending;
        };
        let bytes = tensor.shape.len() as u64 * 4;
        let from = (view.buffer, view.offset as u64 * 4);
        let staging = |bytes| match self.device.pool.acquire_staging(bytes) {
            Ok(staging) => Some(staging),
            Err(message) => {
                self.device.fail_memory(message);
                None
            }
        };
        let Some((staging, submission, tokens)) = self.device.copy_out(from, bytes, staging) else {
            pending.failed = true;
            return pending;
        };
        let (send, mapped) = oneshot::channel();
        staging
            .slice(0..tokens.end())
            .map_async(wgpu::MapMode::Read, move |result| {
                // Nobody listens any more where the tile was dropped.
                let _ = send.send(result.is_ok());
            });
        pending.on_the_way = Some(OnTheWay {
            staging,
            bytes,
            tokens,
            submission,
            mapped,
        });
        pending
    }

    /// Waits for values on their way.
    pub(super) fn finish_read(&self, pending: GpuPending) -> Result<Vec<f32>> {
        let lost = |message: &str| {
            Err(Error::Device(format!(
                "{}: {message}",
                self.device.report.name
            )))
        };
        let Some(mut way) = pending.on_the_way else {
            self.device.check()?;
            if pending.failed {
                return lost("the result depends on an operation that failed before");
            }
            return Ok(Vec::new());
        };
        self.device.wait(way.submission);
        let deadline = Instant::now() + Duration::from_secs(10);
        let mapped = loop {
            // The mapping's callback runs in a poll after its submission is through.
            match way.mapped.try_recv() {
                Ok(Some(mapped)) => break mapped,
                Err(oneshot::Canceled) => break false,
                Ok(None) if self.device.is_lost() || Instant::now() > deadline => break false,
                Ok(None) => self.device.poll(),
            }
        };
        self.device.check()?;
        if !mapped {
            return lost("a buffer could not be mapped for reading");
        }
        let start = Instant::now();
        let values = match way.staging.slice(0..way.tokens.end()).get_mapped_range() {
            Ok(range) if self.device.verify(&way.tokens, &range) => {
                bytemuck::pod_collect_to_vec(&range[..way.bytes as usize])
            }
            Ok(_) => {
                let message = "a submission was not carried out, though the driver says so";
                self.device.lose(message.into());
                return Err(Error::DeviceLost(format!(
                    "{}: {message}",
                    self.device.report.name
                )));
            }
            Err(error) => return lost(&format!("a buffer could not be read: {error}")),
        };
        self.device.busy.read_back(way.bytes, start.elapsed());
        way.staging.unmap();
        self.device.pool.release_staging(way.staging);
        Ok(values)
    }

    /// Records a product into a tile; a tile that an operand's failure reached is failed.
    fn accumulate(
        &self,
        tile: &mut GpuTile,
        operands: &[&GpuTensor],
        describe: impl FnOnce(View<'_>, &[View<'_>]) -> bool,
    ) {
        let failed = |tensor: &&GpuTensor| matches!(tensor.content, Content::Failed);
        let done = match (operands.iter().any(failed), tile.tensor.view()) {
            (true, _) => false,
            (false, None) => return,
            (false, Some(output)) => {
                let views: Option<Vec<View<'_>>> = operands.iter().map(|t| t.view()).collect();
                // An operand without elements adds nothing.
                views.is_none_or(|views| describe(output, &views))
            }
        };
        if !done {
            tile.tensor.content = Content::Failed;
        }
    }

    /// Adds one dense × dense product to a tile.
    fn add_dense(
        &self,
        tile: &mut GpuTile,
        origin: (usize, usize),
        left: &GpuTensor,
        right: &GpuTensor,
    ) {
        let columns = tile.columns;
        let (l, r) = (&left.shape, &right.shape);
        let (rows, across) = (l.rest_len(), r.rest_len());
        self.accumulate(tile, &[left, right], |output, views| {
            let output = View {
                offset: origin.0 * columns + origin.1,
                ..output
            };
            let mut product = Product::new(views[0], views[1], output);
            product.accumulate = true;
            product.axis(rows, 1, 0, columns as i64);
            product.axis(across, 0, 1, 1);
            product.summed(
                broadcast(l.samples, r.samples),
                stride(l.samples, l.directions * rows),
                stride(r.samples, r.directions * across),
                0,
            );
            product.summed(
                broadcast(l.directions, r.directions),
                stride(l.directions, rows),
                stride(r.directions, across),
                0,
            );
            self.product(&product)
        });
    }

    /// Adds Σ_n P_n[o, o'] a_n[i] a'_n[i'] to a tile: `pairs` is P, `[samples, 1, O, O']`.
    fn add_outer(
        &self,
        tile: &mut GpuTile,
        pairs: &GpuTensor,
        (rows, columns): (OuterAxes, OuterAxes),
        (row_inputs, column_inputs): (Option<&GpuTensor>, Option<&GpuTensor>),
    ) {
        let width = tile.columns;
        let p = strides(&pairs.shape.axes());
        let outputs = [pairs.shape.rest[0], pairs.shape.rest[1]];
        // Without a and a' the product's right side is a one, read everywhere.
        let one = match (row_inputs, column_inputs) {
            (None, None) => Some(self.create(Shape::new(1, 1, &[]), &[], |output, _| {
                self.fill_bits(output, 1, 1.0f32.to_bits());
                true
            })),
            _ => None,
        };
        let factors: Vec<&GpuTensor> = [row_inputs, column_inputs, one.as_ref()]
            .into_iter()
            .flatten()
            .collect();
        let mut operands = vec![pairs];
        operands.extend(&factors);
        self.accumulate(tile, &operands, |output, views| {
            let output = View {
                offset: rows.origin * width + columns.origin,
                ..output
            };
            let mut product = Product::new(views[0], views[1], output);
            product.second = views.get(2).copied();
            product.accumulate = true;
            let mut samples = pairs.shape.samples;
            let mut per_sample = [0; 2];
            for (k, factor) in factors.iter().enumerate() {
                samples = broadcast(samples, factor.shape.samples);
                let len = factor.shape.directions * factor.shape.rest_len();
                per_sample[k] = stride(factor.shape.samples, len);
            }
            let (row, column) = (width as i64, 1);
            product.axis(
                outputs[0],
                stride(outputs[0], p[2]),
                0,
                rows.output_stride as i64 * row,
            );
            product.axis(
                outputs[1],
                stride(outputs[1], p[3]),
                0,
                columns.output_stride as i64 * column,
            );
            if let Some(inputs) = row_inputs {
                let step = rows.input_stride as i64 * row;
                product.axis_of_pair(inputs.shape.rest_len(), 0, 1, 0, step);
            }
            if let Some(inputs) = column_inputs {
                let step = columns.input_stride as i64 * column;
                // a' is the right operand where there is no a.
                let (right, second) = if row_inputs.is_some() { (0, 1) } else { (1, 0) };
                product.axis_of_pair(inputs.shape.rest_len(), 0, right, second, step);
            }
            let sample = stride(pairs.shape.samples, p[0]);
            product.summed(samples, sample, per_sample[0], per_sample[1]);
            self.product(&product)
        });
    }
}

impl Contract for Gpu {
    type Accumulator = GpuTile;
    type Pending = GpuPending;

    fn accumulator(&self, rows: usize, columns: usize) -> GpuTile {
        let shape = Shape::new(1, 1, &[rows, columns]);
        let tensor = self.create(shape, &[], |output, _| {
            self.device.clear(output.buffer);
            true
        });
        GpuTile { tensor, columns }
    }

    fn accumulate_dense(
        &self,
        tile: &mut GpuTile,
        how: How,
        origin: (usize, usize),
        (left, right): (&GpuTensor, &GpuTensor),
    ) {
        // A tile is zeros until something is added to it.
        assert_eq!(how.fill, Fill::Own, "the host mirrors tiles of a device");
        self.add_dense(tile, origin, left, right);
    }

    fn accumulate_outer(
        &self,
        tile: &mut GpuTile,
        how: How,
        sides: (OuterAxes, OuterAxes),
        term: OuterTerm<'_, GpuTensor>,
        _: Scaled,
    ) {
        assert_eq!(how.fill, Fill::Own, "the host mirrors tiles of a device");
        let formula = Einsum::new("sro,srp->s1op");
        let (l, r) = (&term.row_cotangents.shape, &term.column_cotangents.shape);
        let inputs = [term.row_inputs, term.column_inputs].into_iter().flatten();
        let inputs = inputs.map(|a| a.shape.samples);
        let samples = inputs.fold(broadcast(l.samples, r.samples), broadcast);
        let each = (l.rest_len() * r.rest_len()).max(1);
        let turn = (PAIRS / each).clamp(1, samples.max(1));
        for start in (0..samples).step_by(turn) {
            let stop = (start + turn).min(samples);
            // A tensor that all samples share stays whole.
            let take = |x: &GpuTensor| match x.shape.samples {
                1 => x.clone(),
                _ => self.slice(x, 0, start, stop),
            };
            let (rows, columns) = (take(term.row_cotangents), take(term.column_cotangents));
            let pairs = self.einsum(&formula, &rows, &columns);
            let inputs = (term.row_inputs.map(take), term.column_inputs.map(take));
            self.add_outer(tile, &pairs, sides, (inputs.0.as_ref(), inputs.1.as_ref()));
        }
    }

    fn forget_failure(&self) {
        self.device.forget_failure();
    }

    fn finish(&self, tile: GpuTile) -> GpuPending {
        self.start_read(&tile.tensor)
    }

    fn collect(&self, pending: GpuPending) -> Result<Vec<f32>> {
        self.finish_read(pending)
    }
}
