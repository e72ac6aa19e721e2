//! The results of one node whose inputs are all known, by its operation.

use super::arithmetic::{UNARY, binary, cast, clip, like, range, unary};
use super::{
    FOLDED, Outcome, axes_of, axis_of, choice, concat, constant, expand, index, inner, ints, pad,
    permutation, reduce, reshape_target, shape_of, slice, split, squeezed, tile, transpose,
    unsqueezed,
};
use crate::import::onnx::graph::Node;
use crate::import::onnx::proto::data_type;
use crate::import::onnx::tensor::{self, Array};
use crate::tensor::broadcast_rest;

/// The inputs of a node; `None` is an input left out.
#[derive(Clone, Copy)]
struct Given<'a>(&'a [Option<Array>]);

impl<'a> Given<'a> {
    /// Input `k`, which the node cannot do without.
    fn get(self, k: usize) -> Outcome<&'a Array> {
        let given = self.optional(k);
        given.ok_or_else(|| format!("input {k} is missing"))
    }

    fn optional(self, k: usize) -> Option<&'a Array> {
        self.0.get(k).and_then(|i| i.as_ref())
    }
}

/// The results of a node whose inputs are all known; `None` is an input left out.
pub(crate) fn evaluate(node: &Node, inputs: &[Option<Array>]) -> Outcome<Vec<Array>> {
    let given = Given(inputs);
    let input = |k: usize| given.get(k);
    let one = match node.op_type() {
        "Split" => return split(node, inputs),
        "TopK" => return choice::top_k(node, input(0)?, given.optional(1)),
        "Constant" => constant(node)?,
        "Identity" => input(0)?.clone(),
        "Shape" => shape_of(node, &input(0)?.shape),
        "Size" => Array::ints(&[], vec![input(0)?.len() as i64]),
        "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" | "Transpose" | "Expand" | "Tile"
        | "ConstantOfShape" => laid_out(node, given)?,
        "Concat" => {
            let parts: Vec<&Array> = (0..inputs.len()).map(input).collect::<Outcome<_>>()?;
            concat(&parts, node.int("axis", 0))?
        }
        "Slice" => slice(node, inputs)?,
        "Pad" => pad::pad(node, inputs)?,
        "Range" => range(input(0)?, input(1)?, input(2)?)?,
        "ReduceL1" | "ReduceL2" | "ReduceSumSquare" | "ReduceSum" | "ReduceMean" | "ReduceProd"
        | "ReduceMax" | "ReduceMin" => reduce::reduce(node, input(0)?, given.optional(1))?,
        "ArgMax" | "ArgMin" => choice::extreme(node, input(0)?)?,
        "CumSum" => reduce::cum_sum(node, input(0)?, input(1)?)?,
        "MatMul" => reduce::matmul(input(0)?, input(1)?)?,
        "Gather" | "GatherElements" | "GatherND" | "ScatterND" | "ScatterElements" | "Scatter"
        | "Trilu" | "EyeLike" | "OneHot" | "NonZero" => by_index(node, given)?,
        _ => elementwise(node, given)?,
    };
    Ok(vec![one])
}

/// Results that hold the elements of an input under another shape, repeated or in another order.
fn laid_out(node: &Node, given: Given<'_>) -> Outcome<Array> {
    let x = given.get(0)?;
    match node.op_type() {
        "Reshape" => {
            let shape = reshape_target(node, &x.shape, ints(given.get(1)?)?)?;
            Ok(x.reshaped(&shape))
        }
        "Flatten" => {
            let axis = axis_of(node.int("axis", 1), x.shape.len() + 1)?;
            let (a, b) = x.shape.split_at(axis);
            Ok(x.reshaped(&[a.iter().product(), b.iter().product()]))
        }
        "Squeeze" => {
            let axes = axes_of(node, given.optional(1))?;
            let shape = squeezed(&x.shape, axes.as_deref())?;
            Ok(x.reshaped(&shape))
        }
        "Unsqueeze" => {
            let axes = axes_of(node, given.optional(1))?;
            let shape = unsqueezed(&x.shape, &axes.ok_or("its axes are missing")?)?;
            Ok(x.reshaped(&shape))
        }
        "Transpose" => Ok(transpose(x, &permutation(node, x.shape.len())?)),
        "Expand" => {
            let target = tensor::extents(ints(given.get(1)?)?).ok_or("its shape cannot be")?;
            let shape = broadcast_rest(&x.shape, &target).ok_or("its shape does not fit")?;
            expand(x, &shape)
        }
        "Tile" => tile(x, ints(given.get(1)?)?),
        _ => constant_of_shape(node, x),
    }
}

/// One number repeated to the shape that `x` lists.
fn constant_of_shape(node: &Node, x: &Array) -> Outcome<Array> {
    let shape = tensor::extents(ints(x)?).ok_or("its shape cannot be")?;
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
    expand(&value.reshaped(&[]), &shape)
}

/// Entries by number: taken, written, or where they are.
fn by_index(node: &Node, given: Given<'_>) -> Outcome<Array> {
    let input = |k: usize| given.get(k);
    match node.op_type() {
        "Gather" => index::gather(input(0)?, input(1)?, node.int("axis", 0)),
        "GatherElements" => index::gather_elements(input(0)?, input(1)?, node.int("axis", 0)),
        "GatherND" => index::gather_nd(input(0)?, input(1)?, node.int("batch_dims", 0)),
        "Trilu" => {
            let offset = match given.optional(1) {
                Some(offset) => offset.scalar().ok_or("its offset should be one number")?,
                None => 0.0,
            };
            let upper = node.int("upper", 1) != 0;
            index::trilu(input(0)?, offset as i64, upper)
        }
        "EyeLike" => index::eye_like(node, input(0)?),
        "OneHot" => index::one_hot(input(0)?, input(1)?, input(2)?, node.int("axis", -1)),
        "NonZero" => index::non_zero(input(0)?),
        _ => index::scatter(node, input(0)?, input(1)?, input(2)?),
    }
}

/// Functions of the elements at one position.
fn elementwise(node: &Node, given: Given<'_>) -> Outcome<Array> {
    let input = |k: usize| given.get(k);
    match node.op_type() {
        "Cast" => Ok(cast(input(0)?, node.int("to", 1) as i32)),
        "CastLike" => {
            let like = input(1)?;
            let kind = if like.is_double() {
                data_type::DOUBLE
            } else if like.is_float() {
                data_type::FLOAT
            } else {
                data_type::INT64
            };
            Ok(cast(input(0)?, kind))
        }
        "Clip" => clip(node, input(0)?, given.optional(1), given.optional(2)),
        "Where" => choose([input(0)?, input(1)?, input(2)?]),
        operation if UNARY.contains(&operation) => unary(operation, input(0)?),
        "Min" | "Max" | "Sum" => {
            let operation = match node.op_type() {
                "Sum" => "Add",
                operation => operation,
            };
            let mut result = input(0)?.clone();
            for k in 1..given.0.len() {
                result = binary(operation, false, &result, input(k)?)?;
            }
            Ok(result)
        }
        "BitShift" => {
            let left = node.text("direction").as_deref() == Some("LEFT");
            let operation = if left { "ShiftLeft" } else { "ShiftRight" };
            binary(operation, false, input(0)?, input(1)?)
        }
        operation if FOLDED.contains(&operation) => {
            let fmod = node.int("fmod", 0) != 0;
            binary(operation, fmod, input(0)?, input(1)?)
        }
        operation => Err(format!("{operation} of constants is not computed")),
    }
}

/// The elements of `a` where the condition `c` is not 0, those of `b` elsewhere.
fn choose([c, a, b]: [&Array; 3]) -> Outcome<Array> {
    let shape = broadcast_rest(&c.shape, &a.shape)
        .and_then(|s| broadcast_rest(&s, &b.shape))
        .ok_or("its operands do not broadcast")?;
    let (c, a, b) = (expand(c, &shape)?, expand(a, &shape)?, expand(b, &shape)?);
    let (c, av, bv) = (c.to_f64(), a.to_f64(), b.to_f64());
    let chosen = (0..c.len()).map(|k| if c[k] != 0.0 { av[k] } else { bv[k] });
    Ok(like(&shape, chosen.collect(), &a))
}
