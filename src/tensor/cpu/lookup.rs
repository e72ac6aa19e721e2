//! Picking entries of an axis by number, and its transpose.

use super::{Tensor, common, pick};
use crate::memory::zeros;
use crate::tensor::{Real, Shape};
use rayon::prelude::*;
use std::ops::Range;

/// Elements of a result that go to one thread.
const PARALLEL: usize = 1 << 14;
/// Terms added up before their sum joins the others.
const CHUNK: usize = 64;

/// An axis's surroundings in the rest: extents before it and after it.
fn around(shape: &Shape, axis: usize) -> (usize, usize) {
    assert!(
        axis >= 2 && axis < shape.rest.len() + 2,
        "axis {axis} of {shape:?}"
    );
    let rest = &shape.rest;
    (
        rest[..axis - 2].iter().product(),
        rest[axis - 1..].iter().product(),
    )
}

/// The shape with another extent on an axis, for as many samples as both operands have.
fn shape_with(shape: &Shape, samples: usize, axis: usize, extent: usize) -> Shape {
    let mut rest = shape.rest.clone();
    rest[axis - 2] = extent;
    Shape::new(samples, shape.directions, &rest)
}

/// Each sample's indices, as far as they lie in `range`, counted from its start.
fn numbers<R: Real>(indices: &Tensor<R>, range: &Range<usize>) -> Vec<Vec<Option<usize>>> {
    assert_eq!(
        indices.shape.directions, 1,
        "indices have no directions: {:?}",
        indices.shape
    );
    let each = indices.shape.rest_len();
    let number = |value: &R| {
        let value = value.to_f64();
        let inside = value >= range.start as f64 && value < range.end as f64;
        inside.then(|| value as usize - range.start)
    };
    (0..indices.shape.samples)
        .map(|s| {
            indices.values()[s * each..(s + 1) * each]
                .iter()
                .map(number)
                .collect()
        })
        .collect()
}

/// `[s, d, …, E, …]` and `[s, 1, K]` → `[s, d, …, K, …]`.
pub(super) fn take<R: Real>(inputs: &Tensor<R>, indices: &Tensor<R>, axis: usize) -> Tensor<R> {
    let (before, after) = around(&inputs.shape, axis);
    let extent = inputs.shape.rest[axis - 2];
    let numbers = numbers(indices, &(0..extent));
    let samples = common(inputs.shape.samples, indices.shape.samples);
    let shape = shape_with(&inputs.shape, samples, axis, indices.shape.rest_len());
    let mut output: Vec<R> = zeros(shape.len());
    let block = shape.rest[axis - 2] * after;
    let directions = shape.directions;
    let copy = |(k, block): (usize, &mut [R])| {
        let (unit, outer) = (k / before, k % before);
        let (s, d) = (unit / directions, unit % directions);
        let from = (inputs.unit(s, d) * before + outer) * extent * after;
        let source = &inputs.values()[from..from + extent * after];
        let chosen = &numbers[pick(s, numbers.len())];
        for (to, number) in block.chunks_exact_mut(after).zip(chosen) {
            if let Some(number) = number {
                to.copy_from_slice(&source[number * after..(number + 1) * after]);
            }
        }
    };
    if !output.is_empty() {
        output.par_chunks_mut(block).enumerate().for_each(copy);
    }
    Tensor::new(shape, output)
}

/// The entries that name a row of the result, by row, then in their order: (row, sample, k).
fn by_row(numbers: &[Vec<Option<usize>>], samples: Range<usize>) -> Vec<(usize, usize, usize)> {
    let mut list: Vec<(usize, usize, usize)> = samples
        .flat_map(|s| {
            let of_sample = numbers[pick(s, numbers.len())].iter().enumerate();
            of_sample.filter_map(move |(k, number)| number.map(|row| (row, s, k)))
        })
        .collect();
    list.sort_unstable();
    list
}

/// `[s, d, …, K, …]` and `[s, 1, K]` → `[s, d, …, range, …]`, or `[1, d, …]` summed over samples.
pub(super) fn put<R: Real>(
    cotangents: &Tensor<R>,
    indices: &Tensor<R>,
    axis: usize,
    range: Range<usize>,
    sum_samples: bool,
) -> Tensor<R> {
    let (before, after) = around(&cotangents.shape, axis);
    let count = cotangents.shape.rest[axis - 2];
    let numbers = numbers(indices, &range);
    let samples = common(cotangents.shape.samples, indices.shape.samples);
    let lists: Vec<_> = if sum_samples {
        vec![by_row(&numbers, 0..samples)]
    } else {
        (0..samples).map(|s| by_row(&numbers, s..s + 1)).collect()
    };
    let shape = shape_with(&cotangents.shape, lists.len(), axis, range.len());
    let mut output: Vec<R> = zeros(shape.len());
    if output.is_empty() {
        return Tensor::new(shape, output);
    }
    let directions = shape.directions;
    // Rows at a time: large tables are filled by several threads.
    let step = (PARALLEL / after).max(1);
    let add = |(k, block): (usize, &mut [R])| {
        let (unit, outer) = (k / before, k % before);
        let (list, d) = (&lists[unit / directions], unit % directions);
        let cotangent = |s: usize, k: usize| {
            let at = ((cotangents.unit(s, d) * before + outer) * count + k) * after;
            &cotangents.values()[at..at + after]
        };
        let add = |(part, rows): (usize, &mut [R])| {
            let first = part * step;
            let start = list.partition_point(|entry| entry.0 < first);
            let stop = list.partition_point(|entry| entry.0 < first + rows.len() / after);
            let mut sum = vec![R::default(); after];
            for entries in list[start..stop].chunk_by(|a, b| a.0 == b.0) {
                let row = &mut rows[(entries[0].0 - first) * after..][..after];
                for chunk in entries.chunks(CHUNK) {
                    sum.fill(R::default());
                    for &(_, s, k) in chunk {
                        for (sum, cotangent) in sum.iter_mut().zip(cotangent(s, k)) {
                            *sum += *cotangent;
                        }
                    }
                    for (row, sum) in row.iter_mut().zip(&sum) {
                        *row += *sum;
                    }
                }
            }
        };
        block.par_chunks_mut(step * after).enumerate().for_each(add);
    };
    let block = range.len() * after;
    output.par_chunks_mut(block).enumerate().for_each(add);
    Tensor::new(shape, output)
}
