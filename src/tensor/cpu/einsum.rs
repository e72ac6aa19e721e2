//! Products with named axes, brought to the form `batch × (m, k) · (k, n)` and given to faer.
//!
//! Every label is one of: batch (both operands and output), m (left and output), n (right and output),
//! k (both operands, summed), or summed in one operand alone, which is done first. Neighbouring axes of a
//! kind become one where both strides allow it; of those left the longest is the product's own axis, the
//! others are walked.

use super::Tensor;
use super::matrix::{Axis, PARALLEL_WORK, Tiles, View, column_slice, multiply, offsets};
use super::pool::{unwritten, zeroed};
use super::reduce::{LANES, dot, pairwise, reduce_sum};
use crate::tensor::{Einsum, Real, strides};

/// An axis with its strides in left, right and output; 0 where it is absent or repeated.
#[derive(Clone, Copy, Debug)]
struct Label {
    extent: usize,
    strides: [usize; 3],
}

const LEFT: usize = 0;
const RIGHT: usize = 1;
const OUTPUT: usize = 2;

impl Label {
    const NONE: Label = Label {
        extent: 1,
        strides: [0; 3],
    };

    fn along(&self, tensor: usize) -> Axis {
        Axis::new(self.extent, self.strides[tensor])
    }

    fn operands(&self) -> (usize, [usize; 2]) {
        (self.extent, [self.strides[LEFT], self.strides[RIGHT]])
    }
}

/// The labels by kind.
#[derive(Default, Debug)]
struct Plan {
    batch: Vec<Label>,
    m: Vec<Label>,
    n: Vec<Label>,
    k: Vec<Label>,
}

/// Product of two tensors with named axes.
pub(super) fn einsum<R: Real>(formula: &Einsum, left: &Tensor<R>, right: &Tensor<R>) -> Tensor<R> {
    let (extents, shape) = formula.extents(&left.shape, &right.shape);
    let left = sum_lonely(&formula.left, left, |label, axis| {
        formula.output.contains(&label) || is_spread(&formula.right, right, label) || axis == 1
    });
    let right = sum_lonely(&formula.right, right, |label, axis| {
        formula.output.contains(&label) || is_spread(&formula.left, &left, label) || axis == 1
    });
    if shape.is_empty() || left.shape.is_empty() || right.shape.is_empty() {
        let zeros = zeroed(shape.len());
        return Tensor::new(shape, zeros);
    }
    // Every way below writes all of it.
    let mut output = unwritten(shape.len());

    let mut plan = Plan::default();
    let output_strides = strides(&shape.axes());
    for (&label, &extent) in &extents {
        let stride_in = |labels: &[u8], tensor: &Tensor<R>| -> usize {
            let axes = tensor.shape.axes();
            let own = strides(&axes);
            let matching = (0..axes.len()).filter(|&k| labels[k] == label && axes[k] > 1);
            matching.map(|k| own[k]).sum()
        };
        let mut places = (0..formula.output.len()).filter(|&k| formula.output[k] == label);
        let label = Label {
            extent,
            strides: [
                stride_in(&formula.left, &left),
                stride_in(&formula.right, &right),
                places.next().map_or(0, |k| output_strides[k]),
            ],
        };
        assert!(
            places.next().is_none(),
            "an output label twice: {formula:?}"
        );
        if extent == 1 {
            continue;
        }
        match label.strides.map(|stride| stride > 0) {
            [_, _, false] if label.strides == [0; 3] => {} // summed before
            [true, true, true] => plan.batch.push(label),
            [true, false, true] => plan.m.push(label),
            [false, true, true] => plan.n.push(label),
            [true, true, false] => plan.k.push(label),
            _ => unreachable!("a label is in an operand, and lonely ones are summed"),
        }
    }
    plan.batch = collapse(plan.batch);
    plan.m = collapse(plan.m);
    plan.n = collapse(plan.n);
    plan.k = collapse(plan.k);
    run(plan, left.values(), right.values(), &mut output);
    Tensor::new(shape, output)
}

fn is_spread<R: Real>(labels: &[u8], tensor: &Tensor<R>, label: u8) -> bool {
    let axes = tensor.shape.axes();
    (0..axes.len()).any(|k| labels[k] == label && axes[k] != 1)
}

/// Sums the axes that neither the other operand nor the output has.
fn sum_lonely<R: Real>(
    labels: &[u8],
    tensor: &Tensor<R>,
    is_needed: impl Fn(u8, usize) -> bool,
) -> Tensor<R> {
    let axes = tensor.shape.axes();
    let lonely: Vec<usize> = (0..axes.len())
        .filter(|&k| !is_needed(labels[k], axes[k]))
        .collect();
    if lonely.is_empty() {
        tensor.clone()
    } else {
        reduce_sum(tensor, &lonely)
    }
}

/// Sorts by stride, output first, and joins neighbours that all three tensors walk as one axis.
fn collapse(mut labels: Vec<Label>) -> Vec<Label> {
    labels
        .sort_by_key(|l| std::cmp::Reverse((l.strides[OUTPUT], l.strides[LEFT], l.strides[RIGHT])));
    let mut joined: Vec<Label> = Vec::new();
    for next in labels {
        match joined.last_mut() {
            Some(last) if (0..3).all(|t| last.strides[t] == next.strides[t] * next.extent) => {
                last.extent *= next.extent;
                last.strides = next.strides;
            }
            _ => joined.push(next),
        }
    }
    joined
}

/// Takes the longest label out.
fn longest(labels: &mut Vec<Label>) -> Label {
    match (0..labels.len()).max_by_key(|&k| labels[k].extent) {
        Some(k) => labels.remove(k),
        None => Label::NONE,
    }
}

/// Extent from which the label of the output's neighbours is the product's own, however long others are: stores to every
/// n-th number cost more than the products of a short inner dimension.
const NEIGHBOURS: usize = 16;

/// Takes out the label that a product goes along: that of neighbours in the output, else the longest.
fn own(labels: &mut Vec<Label>) -> Label {
    let neighbours = |label: &Label| label.strides[OUTPUT] == 1 && label.extent >= NEIGHBOURS;
    match labels.iter().position(neighbours) {
        Some(k) => labels.remove(k),
        None => longest(labels),
    }
}

fn count(labels: &[Label]) -> usize {
    labels.iter().map(|label| label.extent).product()
}

fn run<R: Real>(mut plan: Plan, left: &[R], right: &[R], output: &mut [R]) {
    let m = own(&mut plan.m);
    let n = own(&mut plan.n);
    let inner = plan.k.iter().map(|label| label.extent).max().unwrap_or(1);
    let mut batch = plan.batch;
    batch.append(&mut plan.m);
    batch.append(&mut plan.n);
    // A call of faer costs some hundred nanoseconds: what is smaller is done in lanes along the output.
    let product = m.extent * n.extent;
    if let (1, [k]) = (product, plan.k.as_slice())
        && k.strides[..2] == [1, 1]
        && k.extent >= 16
    {
        dots(&batch, k.extent, left, right, output);
        return;
    }
    if product == 1 && batch.iter().any(|label| label.extent > 4) || product * inner <= 64 {
        batch.push(m);
        batch.push(n);
        lanes(batch, &plan.k, left, right, output);
        return;
    }
    let k = longest(&mut plan.k);
    let work = m.extent * n.extent * k.extent * count(&plan.k);
    // Few large products share threads inside, many small ones each take one.
    let inside = count(&batch) < 2 * rayon::current_num_threads() && work >= 16 * PARALLEL_WORK;
    let axes: Vec<Axis> = batch.iter().map(|label| label.along(OUTPUT)).collect();
    let tiles = Tiles::new(output, &axes, m.along(OUTPUT), n.along(OUTPUT));
    let task = |_: &mut (), position: usize, _: usize, mut tile: faer::MatMut<'_, R>| {
        let [l, r] = offsets(position, &batch, Label::operands);
        for summed in 0..count(&plan.k) {
            let [kl, kr] = offsets(summed, &plan.k, Label::operands);
            let a = View::new(&left[l + kl..], m.along(LEFT), k.along(LEFT));
            let b = View::new(&right[r + kr..], k.along(RIGHT), n.along(RIGHT));
            multiply(tile.as_mut(), summed > 0, a, b, inside);
        }
    };
    let work = if inside { 0 } else { work };
    tiles.for_each(work, || (), task);
}

/// Inner products of contiguous vectors.
fn dots<R: Real>(batch: &[Label], inner: usize, left: &[R], right: &[R], output: &mut [R]) {
    let axes: Vec<Axis> = batch.iter().map(|label| label.along(OUTPUT)).collect();
    let tiles = Tiles::new(output, &axes, Axis::new(1, 0), Axis::new(1, 0));
    let task = |_: &mut (), position: usize, _: usize, mut tile: faer::MatMut<'_, R>| {
        let [l, r] = offsets(position, batch, Label::operands);
        tile[(0, 0)] = dot(&left[l..l + inner], &right[r..r + inner]);
    };
    tiles.for_each(inner, || (), task);
}

/// Sums of products side by side along the output, for matrices too small for faer.
fn lanes<R: Real>(
    mut axes: Vec<Label>,
    summed: &[Label],
    left: &[R],
    right: &[R],
    output: &mut [R],
) {
    axes.retain(|label| label.extent > 1);
    let fastest = (0..axes.len()).find(|&k| axes[k].strides[OUTPUT] == 1 && axes[k].extent >= 4);
    let lane = match fastest {
        Some(k) => axes.remove(k),
        None => longest(&mut axes),
    };
    let terms = count(summed);
    let batch: Vec<Axis> = axes.iter().map(|label| label.along(OUTPUT)).collect();
    let tiles =
        Tiles::new(output, &batch, Axis::new(1, 0), lane.along(OUTPUT)).column_blocks(LANES);
    let work = terms * lane.extent.min(LANES);
    let task = |_: &mut (), position: usize, first: usize, tile: faer::MatMut<'_, R>| {
        let [mut l, mut r] = offsets(position, &axes, Label::operands);
        l += first * lane.strides[LEFT];
        r += first * lane.strides[RIGHT];
        let add = |start: usize, stop: usize, to: &mut [R]| {
            for term in start..stop {
                let [kl, kr] = offsets(term, summed, Label::operands);
                let steps = (lane.strides[LEFT], lane.strides[RIGHT]);
                add_products(to, &left[l + kl..], &right[r + kr..], steps);
            }
        };
        let mut column = tile.transpose_mut();
        match column_slice(column.as_mut()) {
            Some(to) => {
                to.fill(R::default());
                pairwise(0, terms, to, &add);
            }
            None => {
                let mut to = [R::default(); LANES];
                let to = &mut to[..column.nrows()];
                pairwise(0, terms, to, &add);
                for (k, value) in to.iter().enumerate() {
                    column[(k, 0)] = *value;
                }
            }
        }
    };
    tiles.for_each(work, || (), task);
}

/// `to[k] += left[k·steps.0] · right[k·steps.1]`.
fn add_products<R: Real>(to: &mut [R], left: &[R], right: &[R], steps: (usize, usize)) {
    match steps {
        (1, 1) => {
            for (t, (x, y)) in to.iter_mut().zip(left.iter().zip(right)) {
                *t += *x * *y;
            }
        }
        (1, 0) => {
            for (t, x) in to.iter_mut().zip(left) {
                *t += *x * right[0];
            }
        }
        (0, 1) => {
            for (t, y) in to.iter_mut().zip(right) {
                *t += left[0] * *y;
            }
        }
        (step_left, step_right) => {
            for (k, t) in to.iter_mut().enumerate() {
                *t += left[k * step_left] * right[k * step_right];
            }
        }
    }
}
