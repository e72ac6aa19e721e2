//! Parts of constants by number, parts written over, and what exporters make of them: masks, one-hot rows.

use super::super::graph::Node;
use super::super::proto::data_type;
use super::super::tensor::{Array, Data};
use super::arithmetic::cast;
use super::{Outcome, axis_of, bounded, ints};
use crate::tensor::strides;
use std::sync::Arc;

/// Entries of an axis, `None` being `fill`.
pub(super) fn select(x: &Array, axis: usize, entries: &[Option<usize>], fill: f64) -> Array {
    let outer: usize = x.shape[..axis].iter().product();
    let inner: usize = x.shape[axis + 1..].iter().product();
    let mut shape = x.shape.clone();
    let extent = std::mem::replace(&mut shape[axis], entries.len());
    fn copied<T: Copy>(x: &[T], places: impl Iterator<Item = Option<usize>>, fill: T) -> Vec<T> {
        places.map(|at| at.map_or(fill, |at| x[at])).collect()
    }
    let places = (0..outer).flat_map(|o| {
        entries.iter().flat_map(move |e| {
            let start = e.map(|e| (o * extent + e) * inner);
            (0..inner).map(move |k| start.map(|start| start + k))
        })
    });
    let data = match &x.data {
        Data::F32(v) => Data::F32(Arc::new(copied(v, places, fill as f32))),
        Data::F64(v) => Data::F64(Arc::new(copied(v, places, fill))),
        Data::Int(v) => Data::Int(Arc::new(copied(v, places, fill as i64))),
    };
    Array { shape, data }
}

pub(super) fn gather(x: &Array, indices: &Array, axis: i64) -> Outcome<Array> {
    let axis = axis_of(axis, x.shape.len())?;
    let chosen: Vec<usize> = ints(indices)?
        .iter()
        .map(|&k| axis_of(k, x.shape[axis]))
        .collect::<Outcome<_>>()?;
    let outer: usize = x.shape[..axis].iter().product();
    let inner: usize = x.shape[axis + 1..].iter().product();
    let mut shape = x.shape[..axis].to_vec();
    shape.extend_from_slice(&indices.shape);
    shape.extend_from_slice(&x.shape[axis + 1..]);
    bounded(&shape, x.len())?;
    let mut positions = Vec::new();
    for o in 0..outer {
        for &k in &chosen {
            let start = (o * x.shape[axis] + k) * inner;
            positions.extend(start..start + inner);
        }
    }
    Ok(x.pick(&shape, &positions))
}

/// Where each number of `indices` points in an array of `shape`: to its own place but for the axis.
fn element_places(shape: &[usize], indices: &Array, axis: usize) -> Outcome<Vec<usize>> {
    let within = indices.shape.len() == shape.len()
        && (0..shape.len()).all(|k| k == axis || indices.shape[k] <= shape[k]);
    if !within {
        return Err(format!(
            "indices {:?} along axis {axis} of {shape:?}",
            indices.shape
        ));
    }
    let (own, steps) = (strides(shape), strides(&indices.shape));
    let place = |(flat, &index): (usize, &i64)| {
        let index = axis_of(index, shape[axis])?;
        let along = |k: usize| {
            if k == axis {
                index
            } else {
                flat / steps[k] % indices.shape[k]
            }
        };
        Ok((0..shape.len()).map(|k| along(k) * own[k]).sum())
    };
    ints(indices)?.iter().enumerate().map(place).collect()
}

pub(super) fn gather_elements(x: &Array, indices: &Array, axis: i64) -> Outcome<Array> {
    let axis = axis_of(axis, x.shape.len())?;
    let places = element_places(&x.shape, indices, axis)?;
    Ok(x.pick(&indices.shape, &places))
}

/// The first flat position of each slice that the last axis of `indices` names, and a slice's length.
fn slice_places(shape: &[usize], indices: &Array, batch: usize) -> Outcome<(Vec<usize>, usize)> {
    let rank = indices.shape.len();
    let depth = indices.shape.last().copied().unwrap_or(0);
    let fits =
        batch < rank && batch + depth <= shape.len() && shape[..batch] == indices.shape[..batch];
    if !fits {
        return Err(format!("indices {:?} of {shape:?}", indices.shape));
    }
    let own = strides(shape);
    let count: usize = indices.shape[..rank - 1].iter().product();
    let group: usize = indices.shape[batch..rank - 1].iter().product();
    let block: usize = shape[batch..].iter().product();
    let values = ints(indices)?;
    let place = |k: usize| {
        let named = &values[k * depth..(k + 1) * depth];
        let mut at = k / group.max(1) * block;
        for (axis, &index) in (batch..).zip(named) {
            at += axis_of(index, shape[axis])? * own[axis];
        }
        Ok(at)
    };
    let places = (0..count).map(place).collect::<Outcome<_>>()?;
    Ok((places, shape[batch + depth..].iter().product()))
}

pub(super) fn gather_nd(x: &Array, indices: &Array, batch: i64) -> Outcome<Array> {
    let batch = axis_of(batch, x.shape.len())?;
    let (places, run) = slice_places(&x.shape, indices, batch)?;
    let rank = indices.shape.len();
    let depth = indices.shape[rank - 1];
    let mut shape = indices.shape[..rank - 1].to_vec();
    shape.extend_from_slice(&x.shape[batch + depth..]);
    bounded(&shape, x.len())?;
    let positions: Vec<usize> = places.iter().flat_map(|&p| p..p + run).collect();
    Ok(x.pick(&shape, &positions))
}

/// ScatterND and ScatterElements: a copy of x with some of its entries written over.
pub(super) fn scatter(node: &Node, x: &Array, indices: &Array, updates: &Array) -> Outcome<Array> {
    let positions: Vec<usize> = if node.op_type() == "ScatterND" {
        let (places, run) = slice_places(&x.shape, indices, 0)?;
        let count = places
            .len()
            .checked_mul(run)
            .filter(|&c| c == updates.len());
        count.ok_or("its updates do not fit its indices")?;
        places.iter().flat_map(|&p| p..p + run).collect()
    } else {
        let axis = axis_of(node.int("axis", 0), x.shape.len())?;
        element_places(&x.shape, indices, axis)?
    };
    if positions.len() != updates.len() || x.is_float() != updates.is_float() {
        return Err("its updates do not fit its indices or its data".into());
    }
    let reduction = node.text("reduction").unwrap_or_else(|| "none".into());
    if !["none", "add", "mul", "min", "max"].contains(&reduction.as_str()) {
        return Err(format!("its reduction is {reduction:?}"));
    }
    let mut result = x.clone();
    match (&mut result.data, &updates.data) {
        (Data::Int(old), Data::Int(new)) => {
            let old = Arc::make_mut(old);
            for (&at, &update) in positions.iter().zip(new.iter()) {
                let result = match reduction.as_str() {
                    "add" => old[at].checked_add(update),
                    "mul" => old[at].checked_mul(update),
                    "min" => Some(old[at].min(update)),
                    "max" => Some(old[at].max(update)),
                    _ => Some(update),
                };
                old[at] = result.ok_or("it overflows")?;
            }
        }
        _ => {
            let (mut old, new) = (x.to_f64(), updates.to_f64());
            for (&at, &update) in positions.iter().zip(&new) {
                old[at] = match reduction.as_str() {
                    "add" => old[at] + update,
                    "mul" => old[at] * update,
                    "min" => old[at].min(update),
                    "max" => old[at].max(update),
                    _ => update,
                };
            }
            result = Array::reals(&x.shape, old, true);
        }
    }
    Ok(result)
}

/// Where the indices of a Gather or Scatter point, as flat positions in an array of `shape`: one for each element
/// of what a Gather makes or of a Scatter's updates, whose shape comes second.
pub(crate) fn places(
    node: &Node,
    shape: &[usize],
    indices: &Array,
) -> Outcome<(Vec<usize>, Vec<usize>)> {
    let whole: usize = shape.iter().product();
    match node.op_type() {
        "Gather" => {
            let axis = axis_of(node.int("axis", 0), shape.len())?;
            let inner: usize = shape[axis + 1..].iter().product();
            let outer: usize = shape[..axis].iter().product();
            let made = [&shape[..axis], &indices.shape, &shape[axis + 1..]].concat();
            bounded(&made, whole)?;
            let entry = |&k: &i64| axis_of(k, shape[axis]);
            let chosen: Vec<usize> = ints(indices)?.iter().map(entry).collect::<Outcome<_>>()?;
            let runs = (0..outer).flat_map(|o| chosen.iter().map(move |k| (o, k)));
            let starts = runs.map(|(o, k)| (o * shape[axis] + k) * inner);
            Ok((
                starts.flat_map(|start| start..start + inner).collect(),
                made,
            ))
        }
        "GatherND" | "ScatterND" => {
            let batch = match node.op_type() {
                "GatherND" => usize::try_from(node.int("batch_dims", 0)).unwrap_or(usize::MAX),
                _ => 0,
            };
            let depth = indices.shape.last().copied().unwrap_or(0);
            let (starts, run) = slice_places(shape, indices, batch)?;
            let mut made = indices.shape[..indices.shape.len() - 1].to_vec();
            made.extend_from_slice(&shape[batch + depth..]);
            bounded(&made, whole)?;
            let positions = starts.iter().flat_map(|&start| start..start + run);
            Ok((positions.collect(), made))
        }
        _ => {
            let axis = axis_of(node.int("axis", 0), shape.len())?;
            let positions = element_places(shape, indices, axis)?;
            Ok((positions, indices.shape.clone()))
        }
    }
}

/// The entries below or above a diagonal, the others 0.
pub(super) fn trilu(x: &Array, offset: i64, upper: bool) -> Outcome<Array> {
    let [.., rows, columns] = x.shape[..] else {
        return Err(format!("a triangle of {:?}", x.shape));
    };
    let inside = |flat: usize| {
        let (row, column) = (flat / columns % rows, flat % columns);
        let above = column as i64 - row as i64;
        if upper {
            above >= offset
        } else {
            above <= offset
        }
    };
    // A last entry of 0 stands for all that is cut off.
    let flat = x.reshaped(&[x.len()]);
    let entries: Vec<_> = (0..x.len()).map(|k| inside(k).then_some(k)).collect();
    Ok(select(&flat, 0, &entries, 0.0).reshaped(&x.shape))
}

/// Ones on a diagonal of a matrix of the shape of `like`.
pub(super) fn eye_like(node: &Node, like: &Array) -> Outcome<Array> {
    let &[rows, columns] = &like.shape[..] else {
        return Err(format!("a diagonal of {:?}", like.shape));
    };
    let offset = node.int("k", 0);
    let on = |flat: usize| {
        let (row, column) = (flat / columns, flat % columns);
        (column as i64 - row as i64 == offset) as i64
    };
    let ones = Array::ints(&like.shape, (0..rows * columns).map(on).collect());
    Ok(match node.attribute("dtype") {
        Some(to) => cast(&ones, to.i as i32),
        None if like.is_float() => cast(&ones, data_type::FLOAT),
        None => ones,
    })
}

/// Rows of `off` with `on` at the places named, along a new axis.
pub(super) fn one_hot(indices: &Array, depth: &Array, values: &Array, axis: i64) -> Outcome<Array> {
    let depth = depth.scalar().filter(|d| (0.0..=1e9).contains(d));
    let depth = depth.ok_or("its depth cannot be")? as usize;
    if values.len() != 2 {
        return Err("its values should be two".into());
    }
    let axis = axis_of(axis, indices.shape.len() + 1)?;
    let mut shape = indices.shape.clone();
    shape.insert(axis, depth);
    bounded(&shape, indices.len())?;
    let inner: usize = indices.shape[axis..].iter().product();
    let numbers = indices.to_f64();
    let all: usize = shape.iter().product();
    let hit = |flat: usize| {
        let (outer, level, rest) = (flat / inner / depth, flat / inner % depth, flat % inner);
        let index = numbers[outer * inner + rest];
        let index = if index < 0.0 {
            index + depth as f64
        } else {
            index
        };
        (index == level as f64) as usize
    };
    let positions: Vec<usize> = (0..all).map(hit).collect();
    Ok(values.reshaped(&[2]).pick(&shape, &positions))
}

/// The positions of what is not 0: one row per axis.
pub(super) fn non_zero(x: &Array) -> Outcome<Array> {
    let (own, values) = (strides(&x.shape), x.to_f64());
    let found: Vec<usize> = (0..values.len()).filter(|&k| values[k] != 0.0).collect();
    let shape = [x.shape.len(), found.len()];
    bounded(&shape, x.len())?;
    let mut rows = Vec::with_capacity(shape[0] * shape[1]);
    for (axis, step) in own.into_iter().enumerate() {
        rows.extend(
            found
                .iter()
                .map(|flat| (flat / step % x.shape[axis]) as i64),
        );
    }
    Ok(Array::ints(&shape, rows))
}
