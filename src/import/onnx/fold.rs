//! Evaluation of constant nodes on the host: the shape arithmetic that exporters leave behind.

use super::graph::Node;
use super::proto::data_type;
use super::tensor::{self, Array, Data};
use crate::tensor::{broadcast_rest, strides};
use std::sync::Arc;

/// Elements that folding may make of nothing (`ConstantOfShape`, `Range`, `Expand`): far above what shape
/// arithmetic needs, and a bound on what a small file can ask for.
const MOST: usize = 1 << 22;

/// The operations that fold.
pub(crate) const FOLDED: &[&str] = &[
    "Abs",
    "Add",
    "And",
    "Cast",
    "CastLike",
    "Ceil",
    "Concat",
    "Constant",
    "ConstantOfShape",
    "Div",
    "Equal",
    "Exp",
    "Expand",
    "Flatten",
    "Floor",
    "Gather",
    "Greater",
    "GreaterOrEqual",
    "Identity",
    "Less",
    "LessOrEqual",
    "Log",
    "Max",
    "Min",
    "Mod",
    "Mul",
    "Neg",
    "Not",
    "Or",
    "Pow",
    "Range",
    "Reciprocal",
    "ReduceProd",
    "Reshape",
    "Shape",
    "Size",
    "Slice",
    "Split",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Tile",
    "Transpose",
    "Unsqueeze",
    "Where",
];

type Outcome<T> = Result<T, String>;

/// The results of a node whose inputs are all known; `None` is an input left out.
pub(crate) fn evaluate(node: &Node, inputs: &[Option<Array>]) -> Outcome<Vec<Array>> {
    let input = |k: usize| {
        let given = inputs.get(k).and_then(|i| i.as_ref());
        given.ok_or_else(|| format!("input {k} is missing"))
    };
    let one = |array: Array| Ok(vec![array]);
    match node.op_type() {
        "Constant" => one(constant(node)?),
        "Identity" => one(input(0)?.clone()),
        "Shape" => one(shape_of(node, &input(0)?.shape)),
        "Size" => one(Array::ints(&[], vec![input(0)?.len() as i64])),
        "Cast" => one(cast(input(0)?, node.int("to", 1) as i32)),
        "CastLike" => {
            let like = input(1)?;
            let x = input(0)?;
            one(if like.is_double() {
                cast(x, data_type::DOUBLE)
            } else if like.is_float() {
                cast(x, data_type::FLOAT)
            } else {
                cast(x, data_type::INT64)
            })
        }
        "Reshape" => {
            let x = input(0)?;
            let shape = reshape_target(node, &x.shape, ints(input(1)?)?)?;
            one(x.reshaped(&shape))
        }
        "Flatten" => {
            let x = input(0)?;
            let axis = axis_of(node.int("axis", 1), x.shape.len() + 1)?;
            let (a, b) = x.shape.split_at(axis);
            one(x.reshaped(&[a.iter().product(), b.iter().product()]))
        }
        "Squeeze" => {
            let x = input(0)?;
            let axes = axes_of(node, inputs.get(1).and_then(|a| a.as_ref()))?;
            let shape = squeezed(&x.shape, axes.as_deref())?;
            one(x.reshaped(&shape))
        }
        "Unsqueeze" => {
            let x = input(0)?;
            let axes = axes_of(node, inputs.get(1).and_then(|a| a.as_ref()))?;
            let shape = unsqueezed(&x.shape, &axes.ok_or("its axes are missing")?)?;
            one(x.reshaped(&shape))
        }
        "Transpose" => {
            let x = input(0)?;
            one(transpose(x, &permutation(node, x.shape.len())?))
        }
        "Concat" => {
            let parts: Vec<&Array> = (0..inputs.len()).map(input).collect::<Outcome<_>>()?;
            one(concat(&parts, node.int("axis", 0))?)
        }
        "Gather" => one(gather(input(0)?, input(1)?, node.int("axis", 0))?),
        "Slice" => one(slice(node, inputs)?),
        "Split" => split(node, inputs),
        "Expand" => {
            let x = input(0)?;
            let target = tensor::extents(ints(input(1)?)?).ok_or("its shape cannot be")?;
            let shape = broadcast_rest(&x.shape, &target).ok_or("its shape does not fit")?;
            one(expand(x, &shape)?)
        }
        "Tile" => one(tile(input(0)?, ints(input(1)?)?)?),
        "ConstantOfShape" => {
            let shape = tensor::extents(ints(input(0)?)?).ok_or("its shape cannot be")?;
            let value = match node.attribute("value").and_then(|a| a.t.as_ref()) {
                Some(value) => inner(value)?,
                None => Array::reals(&[1], vec![0.0], false),
            };
            one(expand(&value.reshaped(&[]), &shape)?)
        }
        "Range" => one(range(input(0)?, input(1)?, input(2)?)?),
        "ReduceProd" => {
            let x = input(0)?;
            let all = x.shape.len() <= 1;
            let values = x
                .as_ints()
                .filter(|_| all)
                .ok_or("it folds over one axis of integers")?;
            let product = values.iter().try_fold(1i64, |a, &b| a.checked_mul(b));
            let shape: &[usize] = if node.int("keepdims", 1) == 1 {
                &[1]
            } else {
                &[]
            };
            one(Array::ints(
                shape,
                vec![product.ok_or("its product overflows")?],
            ))
        }
        "Where" => {
            let (c, a, b) = (input(0)?, input(1)?, input(2)?);
            let shape = broadcast_rest(&c.shape, &a.shape)
                .and_then(|s| broadcast_rest(&s, &b.shape))
                .ok_or("its operands do not broadcast")?;
            let (c, a, b) = (expand(c, &shape)?, expand(a, &shape)?, expand(b, &shape)?);
            let (c, av, bv) = (c.to_f64(), a.to_f64(), b.to_f64());
            let chosen = (0..c.len()).map(|k| if c[k] != 0.0 { av[k] } else { bv[k] });
            one(like(&shape, chosen.collect(), &a))
        }
        "Not" | "Neg" | "Abs" | "Sqrt" | "Exp" | "Log" | "Floor" | "Ceil" | "Reciprocal" => {
            one(unary(node.op_type(), input(0)?)?)
        }
        "Min" | "Max" => {
            let mut result = input(0)?.clone();
            for k in 1..inputs.len() {
                result = binary(node.op_type(), &result, input(k)?)?;
            }
            one(result)
        }
        "Mod" if node.int("fmod", 0) != 0 => Err("Mod with fmod does not fold".into()),
        operation if FOLDED.contains(&operation) => one(binary(operation, input(0)?, input(1)?)?),
        operation => Err(format!("{operation} of constants is not computed")),
    }
}

/// The integers of an operand.
pub(crate) fn ints(array: &Array) -> Outcome<&[i64]> {
    array
        .as_ints()
        .ok_or_else(|| "an operand should hold integers".into())
}

/// A tensor kept in an attribute.
fn inner(value: &super::proto::Tensor) -> Outcome<Array> {
    // Attributes have no external data, so the path is not looked at but for messages.
    tensor::read(value, std::path::Path::new("")).map_err(|error| error.to_string())
}

/// The value of a `Constant` node.
fn constant(node: &Node) -> Outcome<Array> {
    let Some(attribute) = node.proto.attribute.first() else {
        return Err("a Constant without a value".into());
    };
    match attribute.name.as_str() {
        "value" => inner(attribute.t.as_ref().ok_or("a Constant without a value")?),
        "value_int" => Ok(Array::ints(&[], vec![attribute.i])),
        "value_ints" => Ok(Array::ints(&[attribute.ints.len()], attribute.ints.clone())),
        "value_float" => Ok(Array::reals(&[], vec![attribute.f.into()], false)),
        "value_floats" => {
            let values = attribute.floats.iter().map(|&x| x.into()).collect();
            Ok(Array::reals(&[attribute.floats.len()], values, false))
        }
        other => Err(format!("a Constant of kind {other:?}")),
    }
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
    let known = shape
        .iter()
        .try_fold(1usize, |a, &d| a.checked_mul(d))
        .ok_or_else(fault)?;
    match open {
        Some(axis) if known != 0 && all % known == 0 => shape[axis] = all / known,
        None if known == all => {}
        _ => return Err(fault()),
    }
    Ok(shape)
}

fn cast(x: &Array, to: i32) -> Array {
    match (to, &x.data) {
        (data_type::DOUBLE, _) => Array::reals(&x.shape, x.to_f64(), true),
        (to, _) if data_type::is_float(to) => Array::reals(&x.shape, x.to_f64(), false),
        (data_type::BOOL, _) => Array::ints(
            &x.shape,
            x.to_f64().iter().map(|&v| (v != 0.0) as i64).collect(),
        ),
        (_, Data::Int(_)) => x.clone(),
        _ => Array::ints(&x.shape, x.to_f64().iter().map(|&v| v as i64).collect()),
    }
}

/// Values in the number type of `model`.
fn like(shape: &[usize], values: Vec<f64>, model: &Array) -> Array {
    match model.data {
        Data::Int(_) => Array::ints(shape, values.iter().map(|&v| v as i64).collect()),
        _ => Array::reals(shape, values, model.is_double()),
    }
}

pub(crate) fn transpose(x: &Array, order: &[usize]) -> Array {
    let shape: Vec<usize> = order.iter().map(|&a| x.shape[a]).collect();
    let own = strides(&x.shape);
    let steps: Vec<usize> = order.iter().map(|&a| own[a]).collect();
    x.pick(&shape, &walk(&shape, &steps, 0))
}

/// Flat positions of an array of `shape` read with `steps` from `origin`.
fn walk(shape: &[usize], steps: &[usize], origin: usize) -> Vec<usize> {
    let mut positions = vec![origin];
    for (&extent, &step) in shape.iter().zip(steps) {
        let mut next = Vec::with_capacity(positions.len() * extent);
        for &p in &positions {
            next.extend((0..extent).map(|k| p + k * step));
        }
        positions = next;
    }
    positions
}

/// An array repeated to a shape it broadcasts to.
pub(crate) fn expand(x: &Array, shape: &[usize]) -> Outcome<Array> {
    if x.shape == shape {
        return Ok(x.clone());
    }
    let count = shape.iter().try_fold(1usize, |a, &d| a.checked_mul(d));
    if count.is_none_or(|count| count > MOST.max(x.len())) {
        return Err(format!(
            "a constant of shape {shape:?} is too large to be folded"
        ));
    }
    let missing = shape.len() - x.shape.len();
    let own = strides(&x.shape);
    let steps: Vec<usize> = (0..shape.len())
        .map(|k| {
            if k < missing || x.shape[k - missing] == 1 {
                0
            } else {
                own[k - missing]
            }
        })
        .collect();
    Ok(x.pick(shape, &walk(shape, &steps, 0)))
}

/// The part `start..stop` of an axis.
pub(crate) fn cut(x: &Array, axis: usize, start: usize, stop: usize) -> Array {
    let own = strides(&x.shape);
    let mut shape = x.shape.clone();
    shape[axis] = stop - start;
    x.pick(&shape, &walk(&shape, &own, start * own[axis]))
}

fn concat(parts: &[&Array], axis: i64) -> Outcome<Array> {
    let first = parts.first().ok_or("nothing to join")?;
    let axis = axis_of(axis, first.shape.len())?;
    let fits = |p: &&Array| {
        p.shape.len() == first.shape.len()
            && p.is_float() == first.is_float()
            && (0..p.shape.len()).all(|k| k == axis || p.shape[k] == first.shape[k])
    };
    if !parts.iter().all(|p| fits(p)) {
        return Err("its operands do not fit each other".into());
    }
    let mut shape = first.shape.clone();
    shape[axis] = parts.iter().map(|p| p.shape[axis]).sum();
    let outer: usize = shape[..axis].iter().product();
    let inner: usize = shape[axis + 1..].iter().product();
    macro_rules! join {
        ($values:ident) => {{
            let mut all = Vec::new();
            for k in 0..outer {
                for part in parts {
                    let run = part.shape[axis] * inner;
                    let values = part.$values();
                    all.extend_from_slice(&values[k * run..(k + 1) * run]);
                }
            }
            all
        }};
    }
    if first.is_float() {
        let double = parts.iter().any(|p| p.is_double());
        return Ok(Array::reals(&shape, join!(to_f64), double));
    }
    let integers: Vec<&[i64]> = parts.iter().filter_map(|p| p.as_ints()).collect();
    let mut all = Vec::new();
    for k in 0..outer {
        for (part, values) in parts.iter().zip(&integers) {
            let run = part.shape[axis] * inner;
            all.extend_from_slice(&values[k * run..(k + 1) * run]);
        }
    }
    Ok(Array::ints(&shape, all))
}

fn gather(x: &Array, indices: &Array, axis: i64) -> Outcome<Array> {
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
    let count = outer
        .checked_mul(inner)
        .and_then(|c| c.checked_mul(chosen.len()));
    if count.is_none_or(|count| count > MOST.max(x.len())) {
        return Err(format!(
            "a constant of shape {shape:?} is too large to be folded"
        ));
    }
    let mut positions = Vec::new();
    for o in 0..outer {
        for &k in &chosen {
            let start = (o * x.shape[axis] + k) * inner;
            positions.extend(start..start + inner);
        }
    }
    Ok(x.pick(&shape, &positions))
}

fn slice(node: &Node, inputs: &[Option<Array>]) -> Outcome<Array> {
    let x = inputs
        .first()
        .and_then(|x| x.as_ref())
        .ok_or("input 0 is missing")?;
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
    let mut result = x.clone();
    for k in 0..starts.len() {
        let axis = axis_of(axes[k], result.shape.len())?;
        let extent = result.shape[axis] as i64;
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
        let picked = chosen.iter().map(|&v| v as i64).collect();
        result = gather(&result, &Array::ints(&[chosen.len()], picked), axis as i64)?;
    }
    Ok(result)
}

fn split(node: &Node, inputs: &[Option<Array>]) -> Outcome<Vec<Array>> {
    let x = inputs
        .first()
        .and_then(|x| x.as_ref())
        .ok_or("input 0 is missing")?;
    let axis = axis_of(node.int("axis", 0), x.shape.len())?;
    let outputs = node.proto.output.len().max(1);
    let sizes: Vec<usize> = match inputs.get(1).and_then(|i| i.as_ref()) {
        Some(sizes) => tensor::extents(ints(sizes)?).ok_or("its parts cannot be")?,
        None => match node.ints("split") {
            Some(sizes) => tensor::extents(sizes).ok_or("its parts cannot be")?,
            None => {
                let each = x.shape[axis].div_ceil(outputs);
                (0..outputs)
                    .map(|k| each.min(x.shape[axis].saturating_sub(k * each)))
                    .collect()
            }
        },
    };
    if sizes.iter().try_fold(0usize, |a, &b| a.checked_add(b)) != Some(x.shape[axis]) {
        return Err(format!("parts {sizes:?} of an axis of {}", x.shape[axis]));
    }
    let mut start = 0;
    Ok(sizes
        .iter()
        .map(|&size| {
            start += size;
            cut(x, axis, start - size, start)
        })
        .collect())
}

fn tile(x: &Array, repeats: &[i64]) -> Outcome<Array> {
    let repeats = tensor::extents(repeats).ok_or("its repeats cannot be")?;
    if repeats.len() != x.shape.len() {
        return Err("its repeats do not fit".into());
    }
    let mut result = x.clone();
    for (axis, &times) in repeats.iter().enumerate() {
        let extent = result.shape[axis] as i64;
        let total = times.checked_mul(extent as usize).filter(|&t| t <= MOST);
        let total = total.ok_or("it is too large to be folded")?;
        let picked = (0..total as i64).map(|k| k % extent.max(1)).collect();
        result = gather(&result, &Array::ints(&[total], picked), axis as i64)?;
    }
    Ok(result)
}

fn range(start: &Array, limit: &Array, step: &Array) -> Outcome<Array> {
    let scalar = |a: &Array| a.scalar().ok_or("its operands should be scalars");
    let (from, to, by) = (scalar(start)?, scalar(limit)?, scalar(step)?);
    let count = ((to - from) / by).ceil().max(0.0);
    if !count.is_finite() || count > MOST as f64 {
        return Err("it is too large to be folded".into());
    }
    let values: Vec<f64> = (0..count as usize).map(|k| from + k as f64 * by).collect();
    Ok(like(&[values.len()], values, start))
}

fn unary(operation: &str, x: &Array) -> Outcome<Array> {
    if let (Data::Int(v), "Neg" | "Abs" | "Not") = (&x.data, operation) {
        let apply = |&a: &i64| match operation {
            "Neg" => a.checked_neg(),
            "Abs" => a.checked_abs(),
            _ => Some((a == 0) as i64),
        };
        let values: Option<Vec<i64>> = v.iter().map(apply).collect();
        return Ok(Array::ints(&x.shape, values.ok_or("it overflows")?));
    }
    let apply = |a: f64| match operation {
        "Neg" => -a,
        "Abs" => a.abs(),
        "Sqrt" => a.sqrt(),
        "Exp" => a.exp(),
        "Log" => a.ln(),
        "Floor" => a.floor(),
        "Ceil" => a.ceil(),
        _ => 1.0 / a,
    };
    Ok(like(
        &x.shape,
        x.to_f64().into_iter().map(apply).collect(),
        x,
    ))
}

fn binary(operation: &str, a: &Array, b: &Array) -> Outcome<Array> {
    let shape = broadcast_rest(&a.shape, &b.shape).ok_or("its operands do not broadcast")?;
    let (a, b) = (expand(a, &shape)?, expand(b, &shape)?);
    let compare = |x: f64, y: f64| match operation {
        "Equal" => Some(x == y),
        "Greater" => Some(x > y),
        "GreaterOrEqual" => Some(x >= y),
        "Less" => Some(x < y),
        "LessOrEqual" => Some(x <= y),
        "And" => Some(x != 0.0 && y != 0.0),
        "Or" => Some(x != 0.0 || y != 0.0),
        _ => None,
    };
    if compare(0.0, 0.0).is_some() {
        let (x, y) = (a.to_f64(), b.to_f64());
        let values = x.iter().zip(&y).filter_map(|(&x, &y)| compare(x, y));
        return Ok(Array::ints(&shape, values.map(|v| v as i64).collect()));
    }
    if let (Data::Int(x), Data::Int(y)) = (&a.data, &b.data) {
        let apply = |(&x, &y): (&i64, &i64)| match operation {
            "Add" => x.checked_add(y),
            "Sub" => x.checked_sub(y),
            "Mul" => x.checked_mul(y),
            // ONNX divides integers towards zero.
            "Div" => x.checked_div(y),
            "Mod" => x.checked_rem(y).map(|r| {
                if r != 0 && (r < 0) != (y < 0) {
                    r + y
                } else {
                    r
                }
            }),
            "Min" => Some(x.min(y)),
            "Max" => Some(x.max(y)),
            "Pow" => u32::try_from(y).ok().and_then(|y| x.checked_pow(y)),
            _ => None,
        };
        let values: Option<Vec<i64>> = x.iter().zip(y.iter()).map(apply).collect();
        let values = values.ok_or("it overflows or divides by zero")?;
        return Ok(Array {
            shape,
            data: Data::Int(Arc::new(values)),
        });
    }
    let (x, y) = (a.to_f64(), b.to_f64());
    let apply = |(&x, &y): (&f64, &f64)| match operation {
        "Add" => x + y,
        "Sub" => x - y,
        "Mul" => x * y,
        "Div" => x / y,
        "Min" => x.min(y),
        "Max" => x.max(y),
        "Pow" => x.powf(y),
        _ => f64::NAN,
    };
    let values = x.iter().zip(&y).map(apply).collect();
    Ok(Array::reals(&shape, values, a.is_double() || b.is_double()))
}
