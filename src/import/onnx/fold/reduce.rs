//! Sums and extremes over axes of constants, running sums, products of matrices.

use super::super::graph::Node;
use super::super::tensor::{Array, Data};
use super::arithmetic::like;
use super::{Outcome, axes_of, axis_of, bounded, expand, transpose};
use crate::tensor::broadcast_rest;

/// Multiplications above which a product of constant matrices is left to the device.
const MOST_PRODUCTS: usize = 1 << 24;

/// ReduceSum, ReduceMean, ReduceProd, ReduceMax, ReduceMin, and the norms ReduceL1, ReduceL2, ReduceSumSquare.
pub(super) fn reduce(node: &Node, x: &Array, axes: Option<&Array>) -> Outcome<Array> {
    let rank = x.shape.len();
    let axes: Vec<usize> = match axes_of(node, axes)? {
        Some(axes) if !axes.is_empty() => {
            let axes = axes.iter().map(|&a| axis_of(a, rank));
            axes.collect::<Outcome<_>>()?
        }
        _ if node.int("noop_with_empty_axes", 0) != 0 => vec![],
        _ => (0..rank).collect(),
    };
    let kept: Vec<usize> = (0..rank).filter(|a| !axes.contains(a)).collect();
    let reduced: Vec<usize> = (0..rank).filter(|a| axes.contains(a)).collect();
    let count: usize = reduced.iter().map(|&a| x.shape[a]).product();
    let keep = node.int("keepdims", 1) != 0;
    let shape: Vec<usize> = (0..rank)
        .filter(|a| keep || kept.contains(a))
        .map(|a| if reduced.contains(&a) { 1 } else { x.shape[a] })
        .collect();
    bounded(&shape, x.len())?;
    let operation = node.op_type();
    if count == 0 && matches!(operation, "ReduceMean" | "ReduceMax" | "ReduceMin") {
        return Err(format!("it is over none of the entries of {:?}", x.shape));
    }
    let rows = transpose(x, &[&kept[..], &reduced].concat());
    let results: usize = shape.iter().product();
    if let Data::Int(values) = &rows.data
        && matches!(
            operation,
            "ReduceSum" | "ReduceProd" | "ReduceMax" | "ReduceMin"
        )
    {
        let row = |k: usize| {
            let row = &values[k * count..(k + 1) * count];
            match operation {
                "ReduceSum" => row.iter().try_fold(0i64, |a, &b| a.checked_add(b)),
                "ReduceProd" => row.iter().try_fold(1i64, |a, &b| a.checked_mul(b)),
                "ReduceMax" => row.iter().max().copied(),
                _ => row.iter().min().copied(),
            }
        };
        let results: Option<Vec<i64>> = (0..results).map(row).collect();
        return Ok(Array::ints(&shape, results.ok_or("it overflows")?));
    }
    let values = rows.to_f64();
    let row = |k: usize| {
        let row = values[k * count..(k + 1) * count].iter();
        match operation {
            "ReduceSum" => row.sum(),
            "ReduceMean" => row.sum::<f64>() / count as f64,
            "ReduceProd" => row.product(),
            "ReduceL1" => row.map(|x| x.abs()).sum(),
            "ReduceL2" => row.map(|x| x * x).sum::<f64>().sqrt(),
            "ReduceSumSquare" => row.map(|x| x * x).sum(),
            "ReduceMax" => row.copied().fold(f64::NEG_INFINITY, f64::max),
            _ => row.copied().fold(f64::INFINITY, f64::min),
        }
    };
    Ok(like(&shape, (0..results).map(row).collect(), x))
}

/// Running sums along an axis.
pub(super) fn cum_sum(node: &Node, x: &Array, axis: &Array) -> Outcome<Array> {
    let axis = axis.scalar().ok_or("its axis should be one number")?;
    let axis = axis_of(axis as i64, x.shape.len())?;
    let (exclusive, reverse) = (node.int("exclusive", 0) != 0, node.int("reverse", 0) != 0);
    let extent = x.shape[axis];
    let inner: usize = x.shape[axis + 1..].iter().product();
    let ints = x.as_ints();
    let mut sums = vec![0i64; if ints.is_some() { x.len() } else { 0 }];
    let values = x.to_f64();
    let mut reals = vec![0.0; if ints.is_some() { 0 } else { x.len() }];
    for line in 0..x.len() / extent.max(1) {
        let start = line / inner * inner * extent + line % inner;
        let (mut whole, mut real) = (0i64, 0.0);
        for k in 0..extent {
            let k = if reverse { extent - 1 - k } else { k };
            let at = start + k * inner;
            if let Some(ints) = ints {
                let next = whole.checked_add(ints[at]).ok_or("it overflows")?;
                sums[at] = if exclusive { whole } else { next };
                whole = next;
            } else {
                let next = real + values[at];
                reals[at] = if exclusive { real } else { next };
                real = next;
            }
        }
    }
    Ok(match ints {
        Some(_) => Array::ints(&x.shape, sums),
        None => like(&x.shape, reals, x),
    })
}

/// The shapes of a product of matrices, vectors being rows or columns: `[…, m, k]`, `[…, k, n]`, `[…]`.
fn factors(a: &[usize], b: &[usize]) -> Option<(Vec<usize>, Vec<usize>, Vec<usize>)> {
    let (mut a, mut b) = (a.to_vec(), b.to_vec());
    if a.len() == 1 {
        a.insert(0, 1);
    }
    if b.len() == 1 {
        b.push(1);
    }
    let (m, n) = (a.len().checked_sub(2)?, b.len().checked_sub(2)?);
    let lead = broadcast_rest(&a[..m], &b[..n])?;
    (a[m + 1] == b[n]).then_some((a, b, lead))
}

/// Whether a product of constants is small enough to be folded.
pub(super) fn small_product(a: &Array, b: &Array) -> bool {
    count_products(a, b).is_none_or(|count| count <= MOST_PRODUCTS)
}

/// The multiplications of a product of constants; `None` where they do not fit each other.
pub(super) fn count_products(a: &Array, b: &Array) -> Option<usize> {
    let (a, b, lead) = factors(&a.shape, &b.shape)?;
    let sides = [a[a.len() - 2], a[a.len() - 1], b[b.len() - 1]];
    let all = lead.iter().chain(&sides);
    Some(all.fold(1usize, |all, &d| all.saturating_mul(d.max(1))))
}

/// MatMul.
pub(super) fn matmul(a: &Array, b: &Array) -> Outcome<Array> {
    let fault = || format!("a matrix product of {:?} and {:?}", a.shape, b.shape);
    let (left, right, lead) = factors(&a.shape, &b.shape).ok_or_else(fault)?;
    let [m, k] = left[left.len() - 2..] else {
        return Err(fault());
    };
    let n = right[right.len() - 1];
    let x = expand(&a.reshaped(&left), &[&lead[..], &[m, k]].concat())?.to_f64();
    let y = expand(&b.reshaped(&right), &[&lead[..], &[k, n]].concat())?.to_f64();
    let count: usize = lead.iter().product();
    let mut shape = lead;
    shape.extend((a.shape.len() > 1).then_some(m));
    shape.extend((b.shape.len() > 1).then_some(n));
    bounded(&shape, a.len().max(b.len()))?;
    let entry = |at: usize| {
        let (batch, row, column) = (at / n / m, at / n % m, at % n);
        let term = |j: usize| x[(batch * m + row) * k + j] * y[(batch * k + j) * n + column];
        (0..k).map(term).sum()
    };
    let values = (0..count * m * n).map(entry).collect();
    Ok(like(&shape, values, a))
}
