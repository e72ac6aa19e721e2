//! Tiles of G: accumulated on the device, read back through a ring of staging buffers.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::channel::oneshot;

use super::Gpu;
use super::axis::{broadcast, stride};
use super::kernel::Symmetry;
use super::pool::Block;
use super::product::Product;
use super::tensor::{Content, GpuTensor, View};
use super::token::Tokens;
use crate::error::{Error, Result};
use crate::tensor::{
    Backend, Contract, Einsum, MirrorRule, OuterAxes, OuterTerm, Placement, Scaled, Shape, strides,
};

/// Numbers of P that are formed at a time.
const PAIRS: usize = 1 << 22;

/// A tile `[rows, columns]` under way on the device.
pub struct GpuTile {
    tensor: GpuTensor,
    columns: usize,
    /// Places that hold a product already.
    begun: HashSet<(usize, usize)>,
    /// What the sums have lost, once there were any: a second number for each.
    lost: Option<Arc<Block>>,
}

/// Where a product goes in a tile.
#[derive(Clone, Copy)]
struct Place {
    /// Row and column of its first entry.
    origin: (usize, usize),
    /// Whether it is written there, whatever was.
    begin: bool,
    /// Whether it is the first one there: of a tile of zeros or of nothing, so that no sum has lost anything yet. What one unit
    /// adds in several turns counts as one.
    first: bool,
}

/// Strides of o, o', i and i' of an outer product with inputs on both sides.
struct PairStrides {
    /// Of o and o' in P.
    scale: [i64; 2],
    /// Of o and o' in the tile and in its mirror.
    outputs: ([i64; 2], [i64; 2]),
    /// Of i and i' there.
    inputs: ([i64; 2], [i64; 2]),
}

/// The number of elements of a sample and direction.
fn each(tensor: &GpuTensor) -> usize {
    tensor.shape.rest_len()
}

/// The stride of samples, 0 where all share one.
fn per_sample(tensor: &GpuTensor) -> i64 {
    let len = tensor.shape.directions * tensor.shape.rest_len();
    stride(tensor.shape.samples, len) as i64
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

impl GpuTile {
    fn of(tensor: GpuTensor, columns: usize) -> GpuTile {
        GpuTile {
            tensor,
            columns,
            begun: HashSet::new(),
            lost: None,
        }
    }

    /// The place of what is added at `origin`.
    fn place(&mut self, origin: (usize, usize), how: Placement) -> Place {
        Place {
            origin,
            begin: how.begin,
            first: self.begun.insert(origin) || how.begin,
        }
    }

    /// Keeps what sums lose from the first one on, whether or not the device is known to compute it.
    pub(super) fn keep_what_is_lost(&mut self, gpu: &Gpu) {
        self.lost = gpu.device.allocate(self.tensor.shape.len()).map(Arc::new);
        if let Some(lost) = &self.lost {
            gpu.device.clear(lost.buffer());
        }
    }
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

    /// Records a product of two or three operands into a tile at `origin`; a tile that an operand's failure reached is failed.
    ///
    /// Where something was added at this place before, on a device whose compiler keeps the error terms of sums, what this sum
    /// loses is kept beside it (hi/lo across dispatches, GPU-NOTES B5).
    fn add(
        &self,
        tile: &mut GpuTile,
        place: Place,
        operands: &[&GpuTensor],
        describe: impl FnOnce(Product<'_>) -> bool,
    ) {
        let Place {
            origin,
            begin,
            first,
        } = place;
        if !first && tile.lost.is_none() && self.device.compensates() {
            tile.keep_what_is_lost(self);
        }
        let kept = first || !self.device.compensates() || tile.lost.is_some();
        let failed = |tensor: &&GpuTensor| matches!(tensor.content, Content::Failed);
        let done = match (operands.iter().any(failed) || !kept, tile.tensor.view()) {
            (true, _) => false,
            (false, None) => return,
            (false, Some(output)) => {
                let output = View {
                    offset: origin.0 * tile.columns + origin.1,
                    ..output
                };
                let views: Option<Vec<View<'_>>> = operands.iter().map(|t| t.view()).collect();
                // An operand without elements adds nothing.
                views.is_none_or(|views| {
                    let right = *views.get(1).unwrap_or(&views[0]);
                    let mut product = Product::new(views[0], right, output);
                    product.second = views.get(2).copied();
                    product.accumulate = !begin;
                    product.lost = tile.lost.as_deref().filter(|_| !first).map(Block::buffer);
                    describe(product)
                })
            }
        };
        if !done {
            tile.tensor.content = Content::Failed;
        }
    }

    /// Adds one dense × dense product to a tile; of a `symmetric` one, half of it and its mirror.
    fn add_dense(
        &self,
        tile: &mut GpuTile,
        place: Place,
        symmetric: bool,
        (left, right): (&GpuTensor, &GpuTensor),
    ) {
        let width = tile.columns as i64;
        let (l, r) = (&left.shape, &right.shape);
        let (rows, across) = (l.rest_len(), r.rest_len());
        self.add(tile, place, &[left, right], |mut product| {
            if symmetric {
                product.symmetry = Symmetry::Tiles;
            }
            product.row(rows, 1, [width, 1]);
            product.column(across, 1, [1, width]);
            product.summed(
                broadcast(l.samples, r.samples),
                [
                    stride(l.samples, l.directions * rows),
                    stride(r.samples, r.directions * across),
                    0,
                ]
                .map(|step| step as i64),
            );
            product.summed(
                broadcast(l.directions, r.directions),
                [stride(l.directions, rows), stride(r.directions, across), 0]
                    .map(|step| step as i64),
            );
            self.product(&product)
        });
    }

    /// Adds Σ_n P_n[o, o'] a_n[i] a'_n[i'] with inputs on both sides: as batches (o, o'), or with rows (o, o') where that is
    /// faster.
    fn add_pairs(
        &self,
        tile: &mut GpuTile,
        (place, symmetry): (Place, Symmetry),
        pairs: &GpuTensor,
        (a, a2): (&GpuTensor, &GpuTensor),
        strides: &PairStrides,
    ) {
        let outputs = [pairs.shape.rest[0], pairs.shape.rest[1]];
        let (scale, (o, o2), (i, i2)) = (strides.scale, strides.outputs, strides.inputs);
        let samples = [pairs, a, a2].map(|x| x.shape.samples);
        let samples = samples.into_iter().fold(1, broadcast);
        let count = match symmetry == Symmetry::Both {
            true => outputs[0] * (outputs[0] + 1) / 2,
            false => outputs[0] * outputs[1],
        };
        let shapes = &self.device.shapes;
        let (_, batched) = shapes.choose((count, each(a), each(a2)), symmetry != Symmetry::None);
        let flat = (1, outputs[0] * outputs[1], each(a) * each(a2));
        let (_, paired) = shapes.choose(flat, false);
        // The second operand is looked up for every column there, once for all of them here.
        if batched <= 1.25 * paired {
            self.add(tile, place, &[a, a2, pairs], |mut product| {
                product.symmetry = symmetry;
                product.scale(outputs[0], scale[0], o);
                product.scale(outputs[1], scale[1], o2);
                product.row(each(a), 1, i);
                product.column(each(a2), 1, i2);
                let steps = [per_sample(a), per_sample(a2), per_sample(pairs)];
                product.summed(samples, steps);
                self.product_with(&product, shapes)
            });
        } else {
            self.add(tile, place, &[pairs, a, a2], |mut product| {
                product.row(outputs[0], scale[0], o);
                product.row(outputs[1], scale[1], o2);
                product.column(each(a), 1, i);
                product.axis_of_pair(each(a2), [0, 0, 1], i2[0]);
                let steps = [per_sample(pairs), per_sample(a), per_sample(a2)];
                product.summed(samples, steps);
                self.product_with(&product, shapes)
            });
        }
    }

    /// Adds Σ_n P_n[o, o'] a_n[i] a'_n[i'] to a tile: `pairs` is P, `[samples, 1, O, O']`.
    ///
    /// With inputs on both sides the outputs are batches of products over (i, i') that P scales, or, where there are few
    /// inputs, rows of one product whose columns are the pairs of inputs; with inputs on one side P is an operand as it is.
    fn add_outer(
        &self,
        tile: &mut GpuTile,
        (place, symmetry): (Place, Symmetry),
        pairs: &GpuTensor,
        (rows, columns): (OuterAxes, OuterAxes),
        inputs: (Option<&GpuTensor>, Option<&GpuTensor>),
    ) {
        let width = tile.columns as i64;
        let p = strides(&pairs.shape.axes());
        let outputs = [pairs.shape.rest[0], pairs.shape.rest[1]];
        // Strides of o and o' in P, and of o, o', i and i' in the tile; in its mirror rows and columns are exchanged.
        let scale = [stride(outputs[0], p[2]), stride(outputs[1], p[3])].map(|step| step as i64);
        let row = |step: usize| [step as i64 * width, step as i64];
        let column = |step: usize| [step as i64, step as i64 * width];
        let (o, o2) = (row(rows.output_stride), column(columns.output_stride));
        let (i, i2) = (row(rows.input_stride), column(columns.input_stride));
        let all = [Some(pairs), inputs.0, inputs.1].into_iter().flatten();
        let samples = all.map(|x| x.shape.samples).fold(1, broadcast);
        match inputs {
            (Some(a), Some(a2)) => {
                let strides = PairStrides {
                    scale,
                    outputs: (o, o2),
                    inputs: (i, i2),
                };
                self.add_pairs(tile, (place, symmetry), pairs, (a, a2), &strides);
            }
            // What is contiguous in a row of the tile is a column of the product.
            (Some(a), None) => self.add(tile, place, &[a, pairs], |mut product| {
                product.row(each(a), 1, i);
                product.column(outputs[0], scale[0], o);
                product.column(outputs[1], scale[1], o2);
                product.summed(samples, [per_sample(a), per_sample(pairs), 0]);
                self.product(&product)
            }),
            (None, Some(a2)) => self.add(tile, place, &[pairs, a2], |mut product| {
                product.row(outputs[0], scale[0], o);
                product.row(outputs[1], scale[1], o2);
                product.column(each(a2), 1, i2);
                product.summed(samples, [per_sample(pairs), per_sample(a2), 0]);
                self.product(&product)
            }),
            // Without inputs P is summed over the samples, by a one that every step reads.
            (None, None) => {
                let one = self.create(Shape::new(1, 1, &[]), &[], |output, _| {
                    self.fill_bits(output, 1, 1.0f32.to_bits());
                    true
                });
                self.add(tile, place, &[&one, pairs], |mut product| {
                    product.column(outputs[0], scale[0], o);
                    product.column(outputs[1], scale[1], o2);
                    product.summed(samples, [0, per_sample(pairs), 0]);
                    self.product(&product)
                });
            }
        }
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
        GpuTile::of(tensor, columns)
    }

    fn accumulator_in(&self, rows: usize, columns: usize, _: Vec<f32>) -> GpuTile {
        let shape = Shape::new(1, 1, &[rows, columns]);
        GpuTile::of(self.create(shape, &[], |_, _| true), columns)
    }

    fn accumulate_dense(
        &self,
        tile: &mut GpuTile,
        how: Placement,
        origin: (usize, usize),
        (left, right): (&GpuTensor, &GpuTensor),
    ) {
        if how.mirror != MirrorRule::Transposed {
            let place = tile.place(origin, how);
            let symmetric = how.mirror == MirrorRule::Symmetric;
            self.add_dense(tile, place, symmetric, (left, right));
        }
        if matches!(how.mirror, MirrorRule::Transposed | MirrorRule::Both) {
            let place = tile.place((origin.1, origin.0), how);
            self.add_dense(tile, place, false, (right, left));
        }
    }

    fn accumulate_outer(
        &self,
        tile: &mut GpuTile,
        how: Placement,
        sides: (OuterAxes, OuterAxes),
        term: OuterTerm<'_, GpuTensor>,
        scaled: Scaled,
    ) {
        let formula = Einsum::new("sro,srp->s1op");
        let (l, r) = (&term.row_cotangents.shape, &term.column_cotangents.shape);
        let inputs = [term.row_inputs, term.column_inputs].into_iter().flatten();
        let inputs = inputs.map(|a| a.shape.samples);
        let samples = inputs.fold(broadcast(l.samples, r.samples), broadcast);
        let each = (l.rest_len() * r.rest_len()).max(1);
        let turn = (PAIRS / each).clamp(1, samples.max(1));
        let symmetry = match (scaled, term.row_inputs) {
            (Scaled::Alike, Some(_)) if how.mirror == MirrorRule::Symmetric => Symmetry::Both,
            (Scaled::Alike, Some(_)) => Symmetry::Tiles,
            _ => Symmetry::None,
        };
        let origin = (sides.0.origin, sides.1.origin);
        let own = (how.mirror != MirrorRule::Transposed).then(|| tile.place(origin, how));
        let mirrored = matches!(how.mirror, MirrorRule::Transposed | MirrorRule::Both)
            .then(|| tile.place((origin.1, origin.0), how));
        for start in (0..samples).step_by(turn) {
            let stop = (start + turn).min(samples);
            // A tensor that all samples share stays whole.
            let take = |x: &GpuTensor| match x.shape.samples {
                1 => x.clone(),
                _ => self.slice(x, 0, start, stop),
            };
            let (rows, columns) = (take(term.row_cotangents), take(term.column_cotangents));
            let of_turn = |place: Place| Place {
                begin: place.begin && start == 0,
                ..place
            };
            let inputs = (term.row_inputs.map(take), term.column_inputs.map(take));
            let inputs = (inputs.0.as_ref(), inputs.1.as_ref());
            if let Some(place) = own.map(of_turn) {
                let pairs = self.einsum(&formula, &rows, &columns);
                self.add_outer(tile, (place, symmetry), &pairs, sides, inputs);
            }
            if let Some(place) = mirrored.map(of_turn) {
                let pairs = self.einsum(&formula, &columns, &rows);
                let (sides, inputs) = ((sides.1, sides.0), (inputs.1, inputs.0));
                self.add_outer(tile, (place, symmetry), &pairs, sides, inputs);
            }
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
