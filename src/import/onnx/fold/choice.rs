//! Positions by value: ArgMax, ArgMin and TopK of what is known.

use super::super::graph::Node;
use super::super::tensor::Array;
use super::{Outcome, axis_of, bounded};
use std::cmp::Ordering;

/// Compares two entries: integers exactly, reals with NaN as the largest, as PyTorch does.
fn compare(x: &Array) -> impl Fn(usize, usize) -> Ordering {
    let ints = x.as_ints().map(<[i64]>::to_vec);
    let reals = if ints.is_none() {
        x.to_f64()
    } else {
        Vec::new()
    };
    move |a, b| match &ints {
        Some(ints) => ints[a].cmp(&ints[b]),
        None => {
            let (a, b) = (reals[a], reals[b]);
            a.partial_cmp(&b)
                .unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
        }
    }
}

/// The flat positions of each line along an axis, lines in row-major order.
fn lines(shape: &[usize], axis: usize) -> impl Iterator<Item = Vec<usize>> {
    let extent = shape[axis];
    let inner: usize = shape[axis + 1..].iter().product();
    let outer: usize = shape[..axis].iter().product();
    (0..outer * inner).map(move |line| {
        let start = line / inner * inner * extent + line % inner;
        (0..extent).map(|k| start + k * inner).collect()
    })
}

/// ArgMax and ArgMin: of equal entries the first, or the last where the node says so.
pub(super) fn extreme(node: &Node, x: &Array) -> Outcome<Array> {
    let axis = axis_of(node.int("axis", 0), x.shape.len())?;
    if x.shape[axis] == 0 {
        return Err(format!("it is over none of the entries of {:?}", x.shape));
    }
    let last = node.int("select_last_index", 0) != 0;
    let greatest = node.op_type() == "ArgMax";
    let order = compare(x);
    let best = |line: Vec<usize>| {
        let mut best = 0;
        for k in 1..line.len() {
            let better = match order(line[k], line[best]) {
                Ordering::Equal => last,
                Ordering::Greater => greatest,
                Ordering::Less => !greatest,
            };
            if better {
                best = k;
            }
        }
        best as i64
    };
    let mut shape = x.shape.clone();
    if node.int("keepdims", 1) != 0 {
        shape[axis] = 1;
    } else {
        shape.remove(axis);
    }
    Ok(Array::ints(
        &shape,
        lines(&x.shape, axis).map(best).collect(),
    ))
}

/// The number of entries that a TopK takes, and its axis.
pub(crate) fn top(node: &Node, shape: &[usize], count: Option<&Array>) -> Outcome<(usize, usize)> {
    let axis = axis_of(node.int("axis", -1), shape.len())?;
    let count = match count {
        Some(count) => count.scalar().ok_or("its k should be one number")?,
        None => node.int("k", 0) as f64,
    };
    if !(1.0..=shape[axis] as f64).contains(&count) {
        return Err(format!("it takes {count} of the {} entries", shape[axis]));
    }
    Ok((axis, count as usize))
}

/// TopK: the values and where they stand, the first of equal ones before the others.
pub(super) fn top_k(node: &Node, x: &Array, count: Option<&Array>) -> Outcome<Vec<Array>> {
    let (axis, count) = top(node, &x.shape, count)?;
    let mut shape = x.shape.clone();
    shape[axis] = count;
    bounded(&shape, x.len())?;
    let largest = node.int("largest", 1) != 0;
    let order = compare(x);
    let inner: usize = x.shape[axis + 1..].iter().product();
    let all: usize = shape.iter().product();
    let (mut positions, mut numbers) = (vec![0; all], vec![0; all]);
    for (k, line) in lines(&x.shape, axis).enumerate() {
        let mut ranks: Vec<usize> = (0..line.len()).collect();
        ranks.sort_by(|&a, &b| {
            let order = order(line[a], line[b]);
            if largest { order.reverse() } else { order }
        });
        let start = k / inner * inner * count + k % inner;
        for (rank, &number) in ranks.iter().take(count).enumerate() {
            positions[start + rank * inner] = line[number];
            numbers[start + rank * inner] = number as i64;
        }
    }
    Ok(vec![
        x.pick(&shape, &positions),
        Array::ints(&shape, numbers),
    ])
}
