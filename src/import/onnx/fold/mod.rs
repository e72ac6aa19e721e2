//! Evaluation of constant nodes on the host: the shape arithmetic that exporters leave behind.

mod arithmetic;
mod choice;
mod index;
mod pad;
mod reduce;
mod shape;

pub(crate) use shape::{
    axes_of, axis_of, ints, parts, permutation, reshape_target, shape_of, sliced, squeezed,
    unsqueezed,
};

pub(crate) use choice::top;
pub(crate) use index::places;
pub(crate) use pad::{PAD_MODES, padded};

use arithmetic::{UNARY, binary, cast, clip, like, range, unary};
use index::{gather, select};

use super::graph::Node;
use super::proto::data_type;
use super::tensor::{self, Array};
use crate::tensor::{broadcast_rest, strides};

/// Elements that folding may make of nothing (`ConstantOfShape`, `Range`, `Expand`): far above what shape
/// arithmetic needs, and a bound on what a small file can ask for.
const MOST: usize = 1 << 22;

/// The operations that fold.
pub(crate) const FOLDED: &[&str] = &[
    "Abs",
    "Add",
    "And",
    "ArgMax",
    "ArgMin",
    "BitShift",
    "BitwiseAnd",
    "BitwiseNot",
    "BitwiseOr",
    "BitwiseXor",
    "Cast",
    "CastLike",
    "Ceil",
    "Clip",
    "Concat",
    "Constant",
    "ConstantOfShape",
    "Cos",
    "CumSum",
    "Div",
    "Equal",
    "Erf",
    "Exp",
    "Expand",
    "EyeLike",
    "Flatten",
    "Floor",
    "Gather",
    "GatherElements",
    "GatherND",
    "Greater",
    "GreaterOrEqual",
    "Identity",
    "IsNaN",
    "Less",
    "LessOrEqual",
    "Log",
    "MatMul",
    "Max",
    "Min",
    "Mod",
    "Mul",
    "Neg",
    "NonZero",
    "Not",
    "OneHot",
    "Or",
    "Pad",
    "Pow",
    "Range",
    "Reciprocal",
    "ReduceL1",
    "ReduceL2",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
    "Relu",
    "Reshape",
    "Round",
    "Scatter",
    "ScatterElements",
    "ScatterND",
    "Shape",
    "Sigmoid",
    "Sign",
    "Sin",
    "Size",
    "Slice",
    "Split",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Sum",
    "Tanh",
    "Tile",
    "TopK",
    "Transpose",
    "Trilu",
    "Unsqueeze",
    "Where",
    "Xor",
];

type Outcome<T> = Result<T, String>;

/// Whether a node of known inputs is computed here; a large product of matrices is left to the device.
pub(crate) fn folds(node: &Node, inputs: &[Option<&Array>]) -> bool {
    match (node.op_type(), inputs) {
        ("MatMul", [Some(a), Some(b)]) => reduce::small_product(a, b),
        (operation, _) => FOLDED.contains(&operation),
    }
}

/// Multiplications of a product of constants that is computed here, for one of its batch sizes.
pub(crate) fn products(node: &Node, inputs: &[Option<Array>]) -> usize {
    match (node.op_type(), inputs) {
        ("MatMul", [Some(a), Some(b)]) => reduce::count_products(a, b).unwrap_or(0),
        _ => 0,
    }
}

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
            if value.len() != 1 {
                return Err(format!(
                    "its value has {} elements where one is meant",
                    value.len()
                ));
            }
            one(expand(&value.reshaped(&[]), &shape)?)
        }
        "Range" => one(range(input(0)?, input(1)?, input(2)?)?),
        "ReduceL1" | "ReduceL2" | "ReduceSumSquare" | "ReduceSum" | "ReduceMean" | "ReduceProd"
        | "ReduceMax" | "ReduceMin" => one(reduce::reduce(node, input(0)?, input(1).ok())?),
        "ArgMax" | "ArgMin" => one(choice::extreme(node, input(0)?)?),
        "TopK" => choice::top_k(node, input(0)?, input(1).ok()),
        "CumSum" => one(reduce::cum_sum(node, input(0)?, input(1)?)?),
        "MatMul" => one(reduce::matmul(input(0)?, input(1)?)?),
        "GatherElements" => {
            let axis = node.int("axis", 0);
            one(index::gather_elements(input(0)?, input(1)?, axis)?)
        }
        "GatherND" => {
            let batch = node.int("batch_dims", 0);
            one(index::gather_nd(input(0)?, input(1)?, batch)?)
        }
        "ScatterND" | "ScatterElements" | "Scatter" => {
            one(index::scatter(node, input(0)?, input(1)?, input(2)?)?)
        }
        "Trilu" => {
            let offset = match input(1) {
                Ok(offset) => offset.scalar().ok_or("its offset should be one number")?,
                Err(_) => 0.0,
            };
            let upper = node.int("upper", 1) != 0;
            one(index::trilu(input(0)?, offset as i64, upper)?)
        }
        "EyeLike" => one(index::eye_like(node, input(0)?)?),
        "OneHot" => {
            let axis = node.int("axis", -1);
            one(index::one_hot(input(0)?, input(1)?, input(2)?, axis)?)
        }
        "NonZero" => one(index::non_zero(input(0)?)?),
        "Pad" => one(pad::pad(node, inputs)?),
        "Clip" => one(clip(node, input(0)?, input(1).ok(), input(2).ok())?),
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
        operation if UNARY.contains(&operation) => one(unary(operation, input(0)?)?),
        "Min" | "Max" | "Sum" => {
            let operation = match node.op_type() {
                "Sum" => "Add",
                operation => operation,
            };
            let mut result = input(0)?.clone();
            for k in 1..inputs.len() {
                result = binary(operation, false, &result, input(k)?)?;
            }
            one(result)
        }
        "BitShift" => {
            let left = node.text("direction").as_deref() == Some("LEFT");
            let operation = if left { "ShiftLeft" } else { "ShiftRight" };
            one(binary(operation, false, input(0)?, input(1)?)?)
        }
        operation if FOLDED.contains(&operation) => {
            let fmod = node.int("fmod", 0) != 0;
            one(binary(operation, fmod, input(0)?, input(1)?)?)
        }
        operation => Err(format!("{operation} of constants is not computed")),
    }
}

/// A tensor kept in an attribute.
pub(crate) fn inner(value: &super::proto::Tensor) -> Outcome<Array> {
    // Attributes have no external data.
    tensor::read(value, std::path::Path::new(""), &mut tensor::Outside::new())
        .map_err(|error| error.to_string())
}

/// The value of a `Constant` node.
pub(crate) fn constant(node: &Node) -> Outcome<Array> {
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

/// Refuses an axis whose entries are too many to be listed one by one.
pub(crate) fn listed(extent: usize) -> Outcome<()> {
    if extent > MOST {
        return Err(format!("an axis of {extent} entries is longer than can be"));
    }
    Ok(())
}

/// Refuses a result of more elements than folding makes, unless its largest operand has as many.
fn bounded(shape: &[usize], operand: usize) -> Outcome<()> {
    match tensor::elements(shape) {
        Some(count) if count <= MOST.max(operand) => Ok(()),
        _ => Err(format!(
            "a constant of shape {shape:?} is too large to be folded"
        )),
    }
}

/// An array repeated to a shape it broadcasts to.
pub(crate) fn expand(x: &Array, shape: &[usize]) -> Outcome<Array> {
    if x.shape == shape {
        return Ok(x.clone());
    }
    bounded(shape, x.len())?;
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
    if !parts.iter().all(fits) {
        return Err("its operands do not fit each other".into());
    }
    let mut shape = first.shape.clone();
    let extents = parts.iter().map(|p| p.shape[axis]);
    shape[axis] = extents.fold(0, usize::saturating_add);
    bounded(&shape, parts.iter().map(|p| p.len()).max().unwrap_or(0))?;
    let outer: usize = shape[..axis].iter().product();
    if first.is_float() {
        let double = parts.iter().any(|p| p.is_double());
        let values: Vec<Vec<f64>> = parts.iter().map(|p| p.to_f64()).collect();
        let values: Vec<&[f64]> = values.iter().map(|v| v.as_slice()).collect();
        return Ok(Array::reals(&shape, interleave(&values, outer), double));
    }
    let values: Vec<&[i64]> = parts.iter().filter_map(|p| p.as_ints()).collect();
    Ok(Array::ints(&shape, interleave(&values, outer)))
}

/// `outer` runs of every part in turn.
fn interleave<T: Copy>(parts: &[&[T]], outer: usize) -> Vec<T> {
    let mut all = Vec::with_capacity(parts.iter().map(|p| p.len()).sum());
    for k in 0..outer {
        for part in parts {
            let run = part.len() / outer;
            all.extend_from_slice(&part[k * run..(k + 1) * run]);
        }
    }
    all
}

fn slice(node: &Node, inputs: &[Option<Array>]) -> Outcome<Array> {
    let x = inputs
        .first()
        .and_then(|x| x.as_ref())
        .ok_or("input 0 is missing")?;
    let mut result = x.clone();
    for (axis, chosen) in sliced(node, &x.shape, inputs)? {
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
    let sizes = inputs.get(1).and_then(|i| i.as_ref());
    let (axis, sizes) = parts(node, &x.shape, sizes)?;
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
        if times == 1 {
            continue;
        }
        let extent = result.shape[axis] as i64;
        let total = times.checked_mul(extent as usize).filter(|&t| t <= MOST);
        let total = total.ok_or("it is too large to be folded")?;
        let picked = (0..total as i64).map(|k| k % extent.max(1)).collect();
        result = gather(&result, &Array::ints(&[total], picked), axis as i64)?;
    }
    Ok(result)
}
