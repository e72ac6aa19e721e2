//! Sums over axes, pairwise, so that the error grows with the logarithm of the number of terms.

use super::Tensor;
use super::pool::zeroed;
use crate::tensor::{Real, Shape};
use rayon::prelude::*;

/// Terms added one after another before partial sums are paired.
const RUN: usize = 32;
/// Positions summed side by side.
pub(super) const LANES: usize = 256;
/// Elements from which the halves of a sum go to two threads.
const PARALLEL: usize = 1 << 16;

/// Sum over the axes listed (numbered over all axes), which are kept with extent 1.
pub(super) fn reduce_sum<R: Real>(input: &Tensor<R>, axes: &[usize]) -> Tensor<R> {
    let mut extents = input.shape.axes();
    let mut current = input.clone();
    // Neighbouring axes go in one pass, the last ones first: they lie closest together.
    let mut stop = extents.len();
    while stop > 0 {
        if !axes.contains(&(stop - 1)) {
            stop -= 1;
            continue;
        }
        let mut start = stop - 1;
        while start > 0 && axes.contains(&(start - 1)) {
            start -= 1;
        }
        let outer: usize = extents[..start].iter().product();
        let terms: usize = extents[start..stop].iter().product();
        let inner: usize = extents[stop..].iter().product();
        extents[start..stop].fill(1);
        let shape = Shape::from_axes(&extents);
        current = if terms == 1 {
            current.with_shape(shape)
        } else {
            Tensor::new(shape, pass(current.values(), outer, terms, inner))
        };
        stop = start;
    }
    current
}

/// `[outer, terms, inner]` → `[outer, inner]`.
fn pass<R: Real>(data: &[R], outer: usize, terms: usize, inner: usize) -> Vec<R> {
    let mut output = zeroed(outer * inner);
    if data.is_empty() || output.is_empty() {
        return output;
    }
    if inner == 1 {
        let least = (PARALLEL / 4 / terms).max(1);
        output
            .par_iter_mut()
            .zip(data.par_chunks(terms))
            .with_min_len(least)
            .for_each(|(to, from)| *to = contiguous(from));
        return output;
    }
    let lanes = LANES.min(inner);
    let pieces = inner.div_ceil(lanes);
    let fill = |row: usize, piece: usize, to: &mut [R]| {
        let from = &data[row * terms * inner + piece * lanes..];
        pairwise(0, terms, to, &|first, last, to| {
            for term in first..last {
                for (t, x) in to.iter_mut().zip(&from[term * inner..]) {
                    *t += *x;
                }
            }
        });
    };
    output
        .par_chunks_mut(inner)
        .enumerate()
        .with_min_len((PARALLEL / 4 / (terms * inner)).max(1))
        .for_each(|(row, to)| {
            if terms * inner >= PARALLEL && pieces > 1 {
                let parts = to.par_chunks_mut(lanes).enumerate();
                parts.for_each(|(piece, to)| fill(row, piece, to));
            } else {
                let parts = to.chunks_mut(lanes).enumerate();
                parts.for_each(|(piece, to)| fill(row, piece, to));
            }
        });
    output
}

/// Adds terms `first..last` to the lanes `to` (at most [`LANES`]), `add` doing short runs of them.
///
/// The tree of partial sums depends on the number of terms alone, not on threads.
pub(super) fn pairwise<R: Real>(
    first: usize,
    last: usize,
    to: &mut [R],
    add: &(impl Fn(usize, usize, &mut [R]) + Sync),
) {
    if last - first <= RUN {
        add(first, last, to);
        return;
    }
    let middle = first + (last - first) / 2;
    let mut second = [R::default(); LANES];
    let second = &mut second[..to.len()];
    if (last - first) * to.len() >= PARALLEL {
        rayon::join(
            || pairwise(first, middle, to, add),
            || pairwise(middle, last, second, add),
        );
    } else {
        pairwise(first, middle, to, add);
        pairwise(middle, last, second, add);
    }
    for (t, s) in to.iter_mut().zip(second) {
        *t += *s;
    }
}

/// Sum of neighbours.
fn contiguous<R: Real>(terms: &[R]) -> R {
    halves(terms.len(), 0, &|first, last| {
        let eights = terms[first..last].chunks_exact(8);
        let rest = eights.remainder().iter();
        let rest = rest.fold(R::default(), |sum, term| sum + *term);
        let mut lanes = [R::default(); 8];
        for eight in eights {
            for (lane, term) in lanes.iter_mut().zip(eight) {
                *lane += *term;
            }
        }
        lanes.into_iter().fold(rest, |sum, lane| sum + lane)
    })
}

/// Σ_k left[k] · right[k].
pub(super) fn dot<R: Real>(left: &[R], right: &[R]) -> R {
    halves(left.len(), 0, &|first, last| {
        let (left, right) = (&left[first..last], &right[first..last]);
        let mut lanes = [R::default(); 8];
        let (l, r) = (left.chunks_exact(8), right.chunks_exact(8));
        let tail = l.remainder().iter().zip(r.remainder());
        let rest = tail.fold(R::default(), |sum, (x, y)| sum + *x * *y);
        for (l, r) in l.zip(r) {
            for ((lane, x), y) in lanes.iter_mut().zip(l).zip(r) {
                *lane += *x * *y;
            }
        }
        lanes.into_iter().fold(rest, |sum, lane| sum + lane)
    })
}

/// Halves `first..first + len` until `run` takes it, and adds the results in pairs.
fn halves<R: Real>(len: usize, first: usize, run: &(impl Fn(usize, usize) -> R + Sync)) -> R {
    if len <= 8 * RUN {
        return run(first, first + len);
    }
    let half = len / 2;
    let left = || halves(half, first, run);
    let right = || halves(len - half, first + half, run);
    let (left, right) = if len >= PARALLEL {
        rayon::join(left, right)
    } else {
        (left(), right())
    };
    left + right
}
