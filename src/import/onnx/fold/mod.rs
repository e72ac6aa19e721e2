//! Evaluation of constant nodes on the host: the shape arithmetic that exporters leave behind.

mod arithmetic;
mod choice;
mod evaluate;
mod index;
mod pad;
mod reduce;
mod shape;

pub(crate) use shape::{
    axes_of, axis_of, ints, parts, permutation, reshape_target, shape_of, sliced, squeezed,
    unsqueezed,
};

pub(crate) use choice::top;
pub(crate) use evaluate::evaluate;
pub(crate) use index::places;
pub(crate) use pad::{PAD_MODES, padded};

use index::{gather, select};

use super::graph::Node;
use super::tensor::{self, Array};
use crate::tensor::strides;

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

/// An array with its axes in another order.
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
