//! What the operands and attributes of layout operations say: axes, permutations, target shapes.

use super::super::graph::Node;
use super::super::tensor::{Array, elements};
use super::Outcome;

/// The integers of an operand.
pub(crate) fn ints(array: &Array) -> Outcome<&[i64]> {
    array
        .as_ints()
        .ok_or_else(|| "an operand should hold integers".into())
}

/// What `Shape` gives for a tensor of that shape.
pub(crate) fn shape_of(node: &Node, shape: &[usize]) -> Array {
    let rank = shape.len() as i64;
    let bound = |at: i64| (if at < 0 { at + rank } else { at }).clamp(0, rank) as usize;
    let (start, end) = (bound(node.int("start", 0)), bound(node.int("end", rank)));
    let part: Vec<i64> = shape[start.min(end)..end]
        .iter()
        .map(|&d| d as i64)
        .collect();
    Array::ints(&[part.len()], part)
}

/// An axis counted from either end.
pub(crate) fn axis_of(axis: i64, rank: usize) -> Outcome<usize> {
    let at = if axis < 0 {
        axis.checked_add(rank as i64).unwrap_or(-1)
    } else {
        axis
    };
    match usize::try_from(at) {
        Ok(at) if at < rank => Ok(at),
        _ => Err(format!("it has no axis {axis} (of {rank})")),
    }
}

/// The axes of Squeeze, Unsqueeze and reductions: an attribute in older files, else an input.
pub(crate) fn axes_of(node: &Node, operand: Option<&Array>) -> Outcome<Option<Vec<i64>>> {
    match (operand, node.ints("axes")) {
        (Some(array), _) => Ok(Some(ints(array)?.to_vec())),
        (None, Some(axes)) => Ok(Some(axes.to_vec())),
        (None, None) => Ok(None),
    }
}

/// A shape without the listed axes of extent 1 (or without all of them).
pub(crate) fn squeezed(shape: &[usize], axes: Option<&[i64]>) -> Outcome<Vec<usize>> {
    let Some(axes) = axes else {
        return Ok(shape.iter().copied().filter(|&d| d != 1).collect());
    };
    let mut drop = vec![false; shape.len()];
    for &axis in axes {
        let axis = axis_of(axis, shape.len())?;
        if shape[axis] != 1 {
            return Err(format!("axis {axis} of {shape:?} is not of extent 1"));
        }
        drop[axis] = true;
    }
    Ok((0..shape.len())
        .filter(|&k| !drop[k])
        .map(|k| shape[k])
        .collect())
}

/// A shape with axes of extent 1 put in.
pub(crate) fn unsqueezed(shape: &[usize], axes: &[i64]) -> Outcome<Vec<usize>> {
    let rank = shape.len() + axes.len();
    let mut new = vec![false; rank];
    for &axis in axes {
        let axis = axis_of(axis, rank)?;
        if std::mem::replace(&mut new[axis], true) {
            return Err(format!("axis {axis} is given twice"));
        }
    }
    let mut old = shape.iter();
    Ok(new
        .iter()
        .map(|&n| {
            if n {
                1
            } else {
                *old.next().expect("rank is counted")
            }
        })
        .collect())
}

/// The permutation of a Transpose; reversed axes where none is given.
pub(crate) fn permutation(node: &Node, rank: usize) -> Outcome<Vec<usize>> {
    let Some(order) = node.ints("perm") else {
        return Ok((0..rank).rev().collect());
    };
    let order: Vec<usize> = order
        .iter()
        .map(|&a| axis_of(a, rank))
        .collect::<Outcome<_>>()?;
    let mut seen = order.clone();
    seen.sort_unstable();
    if seen != (0..rank).collect::<Vec<_>>() {
        return Err(format!("{order:?} is no permutation of {rank} axes"));
    }
    Ok(order)
}

/// The shape a Reshape makes: 0 copies an extent, −1 takes what is left.
pub(crate) fn reshape_target(node: &Node, from: &[usize], target: &[i64]) -> Outcome<Vec<usize>> {
    let copies = node.int("allowzero", 0) == 0;
    let fault = || format!("{from:?} cannot be reshaped to {target:?}");
    let mut shape = Vec::with_capacity(target.len());
    let mut open = None;
    for (axis, &extent) in target.iter().enumerate() {
        shape.push(match extent {
            0 if copies => *from.get(axis).ok_or_else(fault)?,
            -1 if open.replace(axis).is_none() => 1,
            extent => usize::try_from(extent).map_err(|_| fault())?,
        });
    }
    let all: usize = from.iter().product();
    let known = elements(&shape).ok_or_else(fault)?;
    match open {
        Some(axis) if known != 0 && all.is_multiple_of(known) => shape[axis] = all / known,
        None if known == all => {}
        _ => return Err(fault()),
    }
    Ok(shape)
}
