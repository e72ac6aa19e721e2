//! Moving elements without changing them: permute, slice, embed, concat.

use super::Tensor;
use super::matrix::offsets;
use super::pool::{unwritten, zeroed};
use super::walk::{Shared, collapse, expand};
use crate::tensor::{Real, Shape, strides};
use rayon::prelude::*;

/// Elements per parallel task.
const TASK: usize = 1 << 15;
/// Side of the squares in which a transposition is done.
const SQUARE: usize = 32;

/// Permutes the rest: output axis `k` is input axis `order[k]`.
pub(super) fn permute<R: Real>(input: &Tensor<R>, order: &[usize]) -> Tensor<R> {
    let axes = input.shape.axes();
    let all: Vec<usize> = [0, 1]
        .into_iter()
        .chain(order.iter().map(|axis| axis + 2))
        .collect();
    let extents: Vec<usize> = all.iter().map(|&axis| axes[axis]).collect();
    let own = strides(&axes);
    let from: Vec<usize> = all.iter().map(|&axis| own[axis]).collect();
    let shape = Shape::from_axes(&extents);
    let shared = collapse(&extents, &[from]);
    if shared.len() <= 1 {
        return input.with_shape(shape);
    }
    let mut output = unwritten(shape.len());
    if !output.is_empty() {
        transpose(input.values(), &shared, &mut output);
    }
    Tensor::new(shape, output)
}

/// Fills a row-major output of `axes` from strided `data`.
fn transpose<R: Real>(data: &[R], axes: &[Shared], output: &mut [R]) {
    let (last, outer) = axes.split_last().expect("two axes or more");
    // The input's fastest axis, where it is not the output's: squares over both use whole cache lines.
    let fast = outer.iter().position(|axis| axis.strides[0] == 1);
    let Some(fast) = fast else {
        let piece = TASK.next_multiple_of(last.extent);
        let fill = |(number, part): (usize, &mut [R])| expand(data, axes, 0, number * piece, part);
        output.par_chunks_mut(piece).enumerate().for_each(fill);
        return;
    };
    // One task per position of the axes before `fast`; inside, axes between and the last one are walked.
    let step: usize = axes[fast + 1..].iter().map(|axis| axis.extent).product();
    let plane = step * axes[fast].extent;
    let (before, between) = (&axes[..fast], &axes[fast + 1..axes.len() - 1]);
    let at = |axis: &Shared| (axis.extent, [axis.strides[0]]);
    let copy = |(number, part): (usize, &mut [R])| {
        let [start] = offsets(number, before, at);
        for middle in 0..between.iter().map(|axis| axis.extent).product() {
            let [offset] = offsets(middle, between, at);
            let (from, to) = (&data[start + offset..], &mut part[middle * last.extent..]);
            square(
                from,
                last.strides[0],
                to,
                step,
                axes[fast].extent,
                last.extent,
            );
        }
    };
    output.par_chunks_mut(plane).enumerate().for_each(copy);
}

/// `to[r·to_step + c] = from[r + c·from_step]` in squares.
fn square<R: Real>(
    from: &[R],
    from_step: usize,
    to: &mut [R],
    to_step: usize,
    rows: usize,
    columns: usize,
) {
    for row in (0..rows).step_by(SQUARE) {
        for column in (0..columns).step_by(SQUARE) {
            for r in row..rows.min(row + SQUARE) {
                for c in column..columns.min(column + SQUARE) {
                    to[r * to_step + c] = from[r + c * from_step];
                }
            }
        }
    }
}

/// Extents before and after an axis.
fn around(axes: &[usize], axis: usize) -> (usize, usize) {
    (
        axes[..axis].iter().product(),
        axes[axis + 1..].iter().product(),
    )
}

/// The part `start..stop` of an axis; no copy where only axes of extent 1 come before it.
pub(super) fn slice<R: Real>(
    input: &Tensor<R>,
    axis: usize,
    start: usize,
    stop: usize,
) -> Tensor<R> {
    let mut axes = input.shape.axes();
    assert!(
        start <= stop && stop <= axes[axis],
        "slice {start}..{stop} of axis {axis} of {:?}",
        input.shape
    );
    let (before, after) = around(&axes, axis);
    let extent = axes[axis];
    axes[axis] = stop - start;
    let shape = Shape::from_axes(&axes);
    if before == 1 || start == 0 && stop == extent {
        return input.part(shape, start * after);
    }
    let mut output = Vec::with_capacity(shape.len());
    let data = input.values();
    for outer in 0..before {
        let offset = outer * extent * after;
        output.extend_from_slice(&data[offset + start * after..offset + stop * after]);
    }
    Tensor::new(shape, output)
}

/// Places `input` at `start` along an axis of extent `extent`, zeros around.
pub(super) fn embed<R: Real>(
    input: &Tensor<R>,
    axis: usize,
    start: usize,
    extent: usize,
) -> Tensor<R> {
    let mut axes = input.shape.axes();
    let own = axes[axis];
    assert!(
        start + own <= extent,
        "{:?} at {start} of an axis {axis} of {extent}",
        input.shape
    );
    let (_, after) = around(&axes, axis);
    axes[axis] = extent;
    let shape = Shape::from_axes(&axes);
    let mut output = zeroed(shape.len());
    let run = own * after;
    if run > 0 {
        let rows = output.chunks_mut(extent * after);
        for (to, from) in rows.zip(input.values().chunks(run)) {
            to[start * after..start * after + run].copy_from_slice(from);
        }
    }
    Tensor::new(shape, output)
}

/// Joins along an axis of the rest (numbered over all axes); samples and directions broadcast.
pub(super) fn concat<R: Real>(inputs: &[&Tensor<R>], axis: usize) -> Tensor<R> {
    let first = inputs.first().expect("at least one tensor is joined");
    let common = |of: fn(&Shape) -> usize| {
        let mut extents = inputs.iter().map(|input| of(&input.shape));
        extents.find(|extent| *extent != 1).unwrap_or(1)
    };
    let (samples, directions) = (common(|s| s.samples), common(|s| s.directions));
    let mut rest = first.shape.rest.clone();
    rest[axis - 2] = inputs.iter().map(|input| input.shape.rest[axis - 2]).sum();
    let shape = Shape::new(samples, directions, &rest);
    let (lead, after) = around(&rest, axis - 2);
    let mut output = Vec::with_capacity(shape.len());
    for sample in 0..samples {
        for direction in 0..directions {
            for outer in 0..lead {
                for input in inputs {
                    let run = input.shape.rest[axis - 2] * after;
                    let row = input.unit(sample, direction) * lead + outer;
                    output.extend_from_slice(&input.values()[row * run..(row + 1) * run]);
                }
            }
        }
    }
    Tensor::new(shape, output)
}
