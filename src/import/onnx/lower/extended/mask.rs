//! Masks: which −∞ a file means, what a softmax makes of it, and the guards behind one.

use super::cases::{HIGH, INFINITE_FROM, LOW, MOST_FINITE, NAN, SPECIAL, from, stand_in, up_to};
use super::{MOST_KNOWN, Special, hidden_of};
use crate::error::Result;
use crate::import::onnx::graph::{Graph, Node};
use crate::import::onnx::lower::{Lowering, Tensor, Value};
use crate::import::onnx::tensor::{Array, Data};
use crate::network::{LOWEST, MINUS_INFINITY, Operand};
use crate::ops::{Elementwise, Softmax};
use crate::tensor::Expr;
use std::collections::HashSet;

impl Lowering<'_> {
    /// Softmax or its logarithm along an axis, NaN in rows that are −∞ throughout or hold +∞ or NaN.
    pub(in super::super) fn softmax(
        &mut self,
        node: &Node,
        x: &Tensor,
        axis: usize,
        log: bool,
    ) -> Result<Tensor> {
        let op = Softmax { axis, log };
        let value = self.append_as_is(node, op.into(), &[x.operand], x.sample)?;
        if !log {
            self.extended.bounded.insert(value.operand);
        }
        let Some(special) = self.extended.specials.get(&x.operand).cloned() else {
            return Ok(value);
        };
        let rows = special
            .hidden
            .as_ref()
            .is_some_and(|hidden| !covers_row(hidden, &x.rest, axis));
        if special.kinds == LOW && rows {
            if log {
                self.note(node, value.operand, LOW, special.hidden);
            }
            return Ok(value);
        }
        let most = self.maximum(node, x, &[axis], true)?;
        let input = Expr::input;
        let mut number = input(0);
        let mut operands = vec![value.operand, most.operand];
        let mut kinds = NAN;
        if log && special.kinds & LOW != 0 {
            number = up_to(&input(2), MINUS_INFINITY, stand_in(LOW), number);
            operands.push(x.operand);
            kinds |= LOW;
        }
        let above = from(&input(1), INFINITE_FROM, stand_in(NAN), number);
        let formula = up_to(&input(1), MINUS_INFINITY, stand_in(NAN), above);
        let result = self.append(node, Elementwise::new(formula), &operands, x.sample)?;
        self.note(node, result.operand, kinds, None);
        if !log {
            self.extended.bounded.insert(result.operand);
        }
        Ok(result)
    }

    /// The operand with its infinities and NaN replaced by what stands for them, where it is computed of data alone and a
    /// softmax reads what is made of it: an additive mask among the inputs.
    pub(in super::super) fn masking(&mut self, node: &Node, tensor: &Tensor) -> Result<Tensor> {
        let Operand::Value(_) = tensor.operand else {
            return Ok(tensor.clone());
        };
        if tensor.integer
            || self.kinds(tensor.operand) != 0
            || self.is_bounded(tensor.operand)
            || self.source_of(tensor.operand) != (false, true)
            || !self.feeds_softmax(node)
        {
            return Ok(tensor.clone());
        }
        let (x, most) = (Expr::input(0), f64::from(f32::MAX));
        let number = Expr::if_less_equal(x.clone(), x.clone(), x.clone(), stand_in(NAN));
        let limit = Expr::constant;
        let finite = up_to(&x, most, limit(MOST_FINITE), stand_in(HIGH));
        let upper = from(&x, MOST_FINITE, finite, number);
        let finite = from(&x, MINUS_INFINITY, limit(LOWEST), stand_in(LOW));
        let expr = up_to(&x, MINUS_INFINITY, finite, upper);
        let op = Elementwise::new(expr);
        let result = self.append(node, op, &[tensor.operand], tensor.sample)?;
        self.note(node, result.operand, SPECIAL, None);
        Ok(result)
    }

    /// The mask that is meant by an operand of a Where or an Add, with −∞ for the lowest finite number.
    ///
    /// PyTorch's newer exporter writes truth masks of attention as `Where(keep, 0, finfo.min)`, added to the scores, and guards
    /// their softmax by `Where(IsNaN(…), 0, …)`: it makes what is wholly masked 0, as PyTorch does, only if −∞ was meant.
    pub(in super::super) fn meant(&mut self, node: &Node, operand: Value) -> Value {
        let Value::Host([one, many]) = &operand else {
            return operand;
        };
        let masks = |op: &str| match op {
            "Where" => many.len() == 1,
            _ => true,
        };
        if !many.is_float() || !masks(node.op_type()) {
            return operand;
        }
        let (Some(few), Some(most)) = (opened(one), opened(many)) else {
            return operand;
        };
        let guarded = match node.op_type() {
            "Add" => self.is_guarded(node),
            "Where" => {
                let zero = |name: &String| match self.values.get(name) {
                    Some(Value::Host([_, other])) => other.scalar() == Some(0.0),
                    _ => false,
                };
                let added = |next: &&Node| next.op_type() == "Add" && self.is_guarded(next);
                node.proto.input[1..].iter().any(zero) && self.readers(node).iter().all(added)
            }
            _ => false,
        };
        if !guarded {
            return operand;
        }
        let Some(hidden) = hidden_of(&most) else {
            return operand;
        };
        let rank = most.shape.len();
        if node.op_type() == "Where" || rank > 0 && covers_row(&hidden, &most.shape, rank - 1) {
            let warning = format!(
                "node {:?} ({}) masks by the lowest finite number what the softmax after it guards as if it were −∞: it is taken for −∞, so that rows that are masked throughout are 0 as in PyTorch, where other runtimes average",
                node.name(),
                node.op_type()
            );
            self.network.warnings.push(warning);
        }
        Value::Host([few, most])
    }

    /// The nodes that read a node's first result.
    fn readers(&self, node: &Node) -> Vec<&Node> {
        let readers = self.links.readers.get(node.proto.output[0].as_str());
        let mut readers = readers.cloned().unwrap_or_default();
        // A node that reads it twice is one reader.
        readers.dedup();
        readers.iter().map(|&k| &self.graph.nodes[k]).collect()
    }

    /// Whether what the node makes goes to a softmax alone whose NaN a guard makes 0.
    fn is_guarded(&self, node: &Node) -> bool {
        let readers = self.readers(node);
        let [softmax] = readers[..] else { return false };
        if softmax.op_type() != "Softmax" {
            return false;
        }
        let guards = self.readers(softmax);
        let tests = guards.iter().filter(|n| n.op_type() == "IsNaN");
        tests.into_iter().any(|test| {
            let chosen = |n: &&Node| {
                let inputs = &n.proto.input;
                n.op_type() == "Where"
                    && inputs.first() == test.proto.output.first()
                    && inputs.get(2) == softmax.proto.output.first()
            };
            guards.iter().any(chosen)
        })
    }

    /// Remembers that an input may hold −∞.
    pub(in super::super) fn note_mask(&mut self, input: usize, value: Operand, name: &str) {
        let special = Special {
            kinds: LOW,
            hidden: None,
            origin: (name.to_string(), "input".to_string()),
        };
        self.extended.specials.insert(value, special);
        self.network.masks.push(input);
    }

    /// Whether what the node makes gets to a softmax by moves, sums and choices.
    fn feeds_softmax(&self, node: &Node) -> bool {
        let mut names = node.proto.output.iter();
        names.any(|name| self.scores.contains(name.as_str()))
    }
}

/// The names of the values that get to a softmax by moves, sums and choices.
pub(in super::super) fn scores(graph: &Graph) -> HashSet<&str> {
    let mut scores: HashSet<&str> = HashSet::new();
    for node in graph.nodes.iter().rev() {
        let given = node.proto.input.iter().map(String::as_str);
        let given = given.filter(|name| !name.is_empty());
        match node.op_type() {
            "Softmax" | "LogSoftmax" | "Attention" | "ReduceLogSumExp" => scores.extend(given),
            "Add" | "Cast" | "CastLike" | "Concat" | "Div" | "Expand" | "Flatten" | "Gather"
            | "Identity" | "Max" | "Min" | "Mul" | "Neg" | "Reshape" | "Slice" | "Squeeze"
            | "Sub" | "Sum" | "Transpose" | "Unsqueeze" | "Where" => {
                let mut made = node.proto.output.iter();
                if made.any(|name| scores.contains(name.as_str())) {
                    scores.extend(given);
                }
            }
            _ => {}
        }
    }
    scores
}

/// The lowest finite numbers of the types that files have: 16 bits (both kinds), 32 and 64.
const LOWEST_OF_TYPES: [f64; 4] = [
    -65504.0,
    -3.389_531_389_251_535_5e38,
    f32::MIN as f64,
    f64::MIN,
];

/// A mask of 0 and a lowest finite number, with −∞ for that; `None` for any other array, and for one that is too large.
fn opened(array: &Array) -> Option<Array> {
    if array.len() > MOST_KNOWN {
        return None;
    }
    let values = array.to_f64();
    let low = *values.iter().find(|&&v| v != 0.0)?;
    let mask = LOWEST_OF_TYPES.contains(&low) && values.iter().all(|&v| v == 0.0 || v == low);
    let infinite = |&v: &f64| if v == 0.0 { 0.0 } else { f64::NEG_INFINITY };
    mask.then(|| Array::reals(&array.shape, values.iter().map(infinite).collect(), true))
}

/// Whether a row along the axis is hidden throughout.
fn covers_row(hidden: &Array, rest: &[usize], axis: usize) -> bool {
    let Data::Int(values) = &hidden.data else {
        return true;
    };
    // Its own rows are those of what it is broadcast to, unless it has one entry along the axis: for all of a row then.
    let Some(own) = (hidden.shape.len() + axis).checked_sub(rest.len()) else {
        return values.iter().any(|&v| v != 0);
    };
    let extent = hidden.shape[own];
    if extent != 1 && extent != rest[axis] {
        return true;
    }
    let inner = hidden.shape[own + 1..].iter().product::<usize>();
    let rows = values.len() / extent.max(1);
    (0..rows).any(|row| {
        let start = row / inner * inner * extent + row % inner;
        (0..extent).all(|k| values[start + k * inner] != 0)
    })
}
