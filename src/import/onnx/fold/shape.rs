//! What the operands and attributes of layout operations say: axes, permutations, target shapes.

use super::super::graph::Node;
use super::super::tensor::{Array, elements};
use super::{Outcome, listed};
use crate::network::MOST_AXES;

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
    if rank > MOST_AXES {
        return Err(format!("{rank} axes, where up to {MOST_AXES} can be"));
    }
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

/// Each axis that a Slice of a tensor of that shape cuts, with the entries it takes.
pub(crate) fn sliced(
    node: &Node,
    shape: &[usize],
    inputs: &[Option<Array>],
) -> Outcome<Vec<(usize, Vec<usize>)>> {
    let list = |k: usize, name: &str| -> Outcome<Option<Vec<i64>>> {
        match inputs.get(k).and_then(|i| i.as_ref()) {
            Some(array) => Ok(Some(ints(array)?.to_vec())),
            None => Ok(node.ints(name).map(|v| v.to_vec())),
        }
    };
    let starts = list(1, "starts")?.ok_or("its starts are missing")?;
    let ends = list(2, "ends")?.ok_or("its ends are missing")?;
    let axes = list(3, "axes")?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = list(4, "steps")?.unwrap_or_else(|| vec![1; starts.len()]);
    if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
        return Err("its starts, ends, axes and steps differ in number".into());
    }
    let mut cuts: Vec<(usize, Vec<usize>)> = Vec::with_capacity(starts.len());
    for k in 0..starts.len() {
        let axis = axis_of(axes[k], shape.len())?;
        if cuts.iter().any(|(other, _)| *other == axis) {
            return Err(format!("axis {axis} is given twice"));
        }
        listed(shape[axis])?;
        let extent = shape[axis] as i64;
        let bound = |at: i64| {
            if at < 0 {
                at.saturating_add(extent)
            } else {
                at
            }
        };
        let chosen: Vec<usize> = match steps[k] {
            0 => return Err("a step of 0".into()),
            step if step > 0 => {
                let (from, to) = (
                    bound(starts[k]).clamp(0, extent),
                    bound(ends[k]).clamp(0, extent),
                );
                (from..to)
                    .step_by(step as usize)
                    .map(|v| v as usize)
                    .collect()
            }
            step => {
                let from = bound(starts[k]).clamp(-1, extent - 1);
                let to = bound(ends[k]).clamp(-1, extent - 1);
                let mut chosen = Vec::new();
                let mut at = from;
                while at > to {
                    chosen.push(at as usize);
                    at = at.saturating_add(step);
                }
                chosen
            }
        };
        cuts.push((axis, chosen));
    }
    Ok(cuts)
}

/// The axis that a Split of a tensor of that shape cuts, and the extents of its parts.
pub(crate) fn parts(
    node: &Node,
    shape: &[usize],
    sizes: Option<&Array>,
) -> Outcome<(usize, Vec<usize>)> {
    let axis = axis_of(node.int("axis", 0), shape.len())?;
    let extent = shape[axis];
    listed(extent)?;
    let outputs = node.proto.output.len().max(1);
    let given = match sizes {
        Some(sizes) => Some((ints(sizes)?, sizes.shape.is_empty())),
        None => node.ints("split").map(|sizes| (sizes, false)),
    };
    let sizes: Vec<usize> = match given {
        // A single number says how long each part is, the last one aside.
        Some((&[each], true)) => {
            let each = usize::try_from(each).ok().filter(|&each| each > 0);
            let each = each.ok_or("its parts cannot be")?;
            (0..extent)
                .step_by(each)
                .map(|start| each.min(extent - start))
                .collect()
        }
        Some((sizes, _)) => {
            let sizes = sizes.iter().map(|&size| usize::try_from(size).ok());
            sizes.collect::<Option<_>>().ok_or("its parts cannot be")?
        }
        None => {
            let each = extent.div_ceil(outputs);
            (0..outputs)
                .map(|k| each.min(extent.saturating_sub(k.saturating_mul(each))))
                .collect()
        }
    };
    if sizes.iter().try_fold(0usize, |a, &b| a.checked_add(b)) != Some(extent) {
        return Err(format!("parts {sizes:?} of an axis of {extent}"));
    }
    Ok((axis, sizes))
}
