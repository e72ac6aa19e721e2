//! Infinities and NaN that a file means: what stands for them, and what formulas make of them.
//!
//! Attention masks hold −∞, a softmax of nothing but −∞ is NaN, and a guard of the exporter turns that NaN into 0. Kernels
//! cannot be trusted with either: shading languages leave infinities and NaN undefined, and in a derivative 0·∞ spoils
//! what the guard threw away. So a tensor that may hold them stores finite numbers that stand for them:
//!
//! | means | stored | read as |
//! |---|---|---|
//! | −∞ | −M, the lowest number of single precision | x ≤ −M |
//! | +∞ | 2.5·10³⁸ | 2.25·10³⁸ ≤ x |
//! | NaN | 3·10³⁸ | 2.75·10³⁸ ≤ x |
//!
//! and which of the three it may hold is known at import ([`Lowering::kinds`]). Everything goes through one of four doors:
//!
//! - **Formulas** ([`Lowering::elementwise`]) are rewritten by cases: for each stand-in that an operand may hold, the
//!   formula's value there is found by the rules of IEEE 754 at import (−∞ + x = −∞, e^−∞ = 0, NaN ≤ x is false) and chosen by a
//!   comparison of finite numbers. A case has the derivative of its own value, so none reaches an operand through a
//!   stand-in.
//! - **Moves** (reshape, transpose, slice, concatenation, maximum) carry stand-ins along: their order is that of what they stand
//!   for, NaN being the greatest, as maxima propagate it.
//! - **Softmax** of a row whose maximum is a stand-in (all −∞, or any +∞ or NaN) is NaN in the whole row.
//! - **Everything else** (products, sums, convolutions) takes true infinities, made at that point, and zeros in place of NaN;
//!   that the sample is spoilt is remembered beside, and its outputs are NaN at the end. So a NaN that no guard removed is
//!   always seen by the check of the outputs, and never meets a derivative.
//!
//! Some masks hold −M itself for a finite number (`finfo.min`). A tensor without stand-ins keeps it; beside them it is one step
//! above −M, which no softmax can tell, and two of them together are −∞, as in single precision.

mod cases;

pub(super) use cases::INFINITE;

use super::{Lowering, Tensor, Value};
use crate::error::Result;
use crate::import::onnx::graph::{Graph, Node};
use crate::import::onnx::tensor::{Array, Data};
use crate::network::{LOWEST, MINUS_INFINITY, Network, Operand};
use crate::ops::{Elementwise, Op, ReduceSum, Reshape, Softmax};
use crate::tensor::{Expr, broadcast_rest};
use cases::{
    Classes, FINITE, HIGH, INFINITE_FROM, LOW, MOST_FINITE, NAN, NAN_FROM, SPECIAL, by_cases,
    chooses, from, has_infinity, is_singular, is_truth, reads, stand_in, up_to,
};
use std::collections::{HashMap, HashSet};

/// Finite constants from here on are cut where they meet stand-ins; smaller ones are lost in the rounding of −M.
const HUGE: f64 = 1e20;
/// Entries of a mask up to which it is kept where it is −∞.
pub(super) const MOST_KNOWN: usize = 1 << 24;
/// Inputs and operations up to which a truth value's formula is written into what reads it.
const MOST_INPUTS: usize = 6;
const MOST_OPERATIONS: usize = 48;

/// What is known of a tensor that may hold stand-ins.
#[derive(Clone, Debug)]
struct Special {
    /// Which ones.
    kinds: Classes,
    /// Where −∞ is, as 0 and 1, if that is known at import.
    hidden: Option<Array>,
    /// Name and operation of the node that made them.
    origin: (String, String),
}

/// A formula in terms of what its operands mean.
#[derive(Clone, Debug)]
struct Formula {
    expr: Expr,
    operands: Vec<Tensor>,
}

/// Which tensors of the network may hold stand-ins, and what else is known of them.
#[derive(Default)]
pub(super) struct Extended {
    specials: HashMap<Operand, Special>,
    /// Truth values of tensors with stand-ins: a guard's condition.
    truths: HashMap<Operand, Formula>,
    /// Results of a softmax and what was chosen of them: never infinite, nor NaN unless by a stand-in.
    bounded: HashSet<Operand>,
    /// What operations that know no stand-ins read instead.
    plain: HashMap<Operand, Operand>,
    /// Per NaN that no guard removed: how often it is in the sample, a scalar, and who made it.
    spoilt: Vec<(Operand, (String, String))>,
    /// Whether a finite constant was met that is not lost in the rounding of −M.
    huge: bool,
    /// Per value, as far as it was asked: whether it depends on a parameter, and whether a function of a singularity made it.
    varies: Vec<(bool, bool)>,
}

/// Whether an operation moves numbers without looking at more than their order.
pub(super) fn moves(op: &Op) -> bool {
    matches!(
        op,
        Op::Broadcast(_)
            | Op::Concat(_)
            | Op::MaxPool(_)
            | Op::Permute(_)
            | Op::Reshape(_)
            | Op::Slice(_)
            | Op::Take(_)
    )
}

impl Extended {
    /// Forgets what is known of values and constants that are taken back.
    pub(super) fn forget(&mut self, gone: impl Fn(&Operand) -> bool, values: usize) {
        self.specials.retain(|operand, _| !gone(operand));
        self.truths.retain(|operand, _| !gone(operand));
        self.bounded.retain(|operand| !gone(operand));
        self.plain
            .retain(|operand, plain| !gone(operand) && !gone(plain));
        self.spoilt.retain(|(operand, _)| !gone(operand));
        self.varies.truncate(values);
    }

    /// Remembers whether an array has finite numbers that are not lost in the rounding of −M.
    pub(super) fn note_size(&mut self, array: &Array) {
        self.huge |= any(array, |v| v.is_finite() && v.abs() > HUGE);
    }
}

/// Whether a value of an array is such.
fn any(array: &Array, test: impl Fn(f64) -> bool) -> bool {
    match &array.data {
        Data::F32(v) => v.iter().any(|&v| test(v.into())),
        Data::F64(v) => v.iter().any(|&v| test(v)),
        Data::Int(_) => false,
    }
}

/// Where a host array is −∞, as 0 and 1; `None` for one that is too large to keep such a list.
fn hidden_of(array: &Array) -> Option<Array> {
    let truth = |v: f64| i64::from(v == f64::NEG_INFINITY);
    let truths = match &array.data {
        _ if array.len() > MOST_KNOWN => return None,
        Data::F32(v) => v.iter().map(|&v| truth(v.into())).collect(),
        Data::F64(v) => v.iter().map(|&v| truth(v)).collect(),
        Data::Int(v) => vec![0; v.len()],
    };
    Some(Array::ints(&array.shape, truths))
}

impl Lowering<'_> {
    /// The stand-ins that an operand may hold.
    pub(super) fn kinds(&self, operand: Operand) -> Classes {
        self.extended.specials.get(&operand).map_or(0, |s| s.kinds)
    }

    /// Whether an operand is neither infinite nor NaN, whatever the data.
    pub(super) fn is_bounded(&self, operand: Operand) -> bool {
        self.kinds(operand) == 0 && self.extended.bounded.contains(&operand)
    }

    /// Remembers what a host array becomes as a constant of the network.
    pub(super) fn note_constant(&mut self, node: &Node, array: &Array, operand: Operand) {
        let kinds = [(LOW, f64::NEG_INFINITY), (HIGH, f64::INFINITY)];
        let there = |&(_, value): &(Classes, f64)| any(array, |v| v == value);
        let classes = kinds
            .iter()
            .filter(|k| there(k))
            .fold(0, |all, k| all | k.0);
        self.extended.note_size(array);
        if classes != 0 {
            let hidden = (classes == LOW).then(|| hidden_of(array)).flatten();
            self.note(node, operand, classes, hidden);
        }
    }

    /// Remembers a constant that becomes part of a formula.
    pub(super) fn note_scalar(&mut self, value: f64) {
        self.extended.huge |= value.is_finite() && value.abs() > HUGE;
    }

    fn note(&mut self, node: &Node, operand: Operand, kinds: Classes, hidden: Option<Array>) {
        let origin = (node.name().to_string(), node.op_type().to_string());
        let special = Special {
            kinds,
            hidden,
            origin,
        };
        self.extended.specials.insert(operand, special);
    }

    /// Says where a tensor is −∞, for a choice whose condition is known.
    pub(super) fn note_hidden(&mut self, tensor: &Tensor, hidden: Array) {
        if let Some(special) = self.extended.specials.get_mut(&tensor.operand)
            && special.kinds == LOW
        {
            special.hidden = Some(hidden);
        }
    }

    /// The operands of an operation that moves numbers or computes with them: stand-ins go along with moves, and become what
    /// they stand for everywhere else. Returns the operands, and what the result may hold.
    pub(super) fn carried(
        &mut self,
        op: &Op,
        inputs: &[Operand],
    ) -> Result<(Vec<Operand>, Classes)> {
        let kinds = inputs.iter().fold(0, |all, &i| all | self.kinds(i));
        if kinds == 0 || moves(op) || matches!(op, Op::Elementwise(_)) {
            let kinds = if moves(op) { kinds } else { 0 };
            return Ok((inputs.to_vec(), kinds));
        }
        let plain: Result<Vec<Operand>> = inputs.iter().map(|&i| self.plain(i)).collect();
        Ok((plain?, 0))
    }

    /// Remembers what a move made.
    pub(super) fn note_moved(&mut self, inputs: &[Operand], result: Operand, kinds: Classes) {
        if inputs.iter().all(|i| self.extended.bounded.contains(i)) {
            self.extended.bounded.insert(result);
        }
        let from = inputs.iter().find_map(|i| self.extended.specials.get(i));
        if let (true, Some(from)) = (kinds != 0, from) {
            let special = Special {
                kinds,
                hidden: None,
                origin: from.origin.clone(),
            };
            self.extended.specials.insert(result, special);
        }
    }

    /// The operand with true infinities, and 0 for NaN; that the sample is spoilt is remembered.
    fn plain(&mut self, operand: Operand) -> Result<Operand> {
        let Some(special) = self.extended.specials.get(&operand).cloned() else {
            return Ok(operand);
        };
        if let Some(&plain) = self.extended.plain.get(&operand) {
            return Ok(plain);
        }
        let x = Expr::input(0);
        let mut expr = x.clone();
        if special.kinds & LOW != 0 {
            let low = Expr::constant(f64::NEG_INFINITY);
            expr = up_to(&x, MINUS_INFINITY, low, expr);
        }
        if special.kinds & HIGH != 0 {
            expr = from(&x, INFINITE_FROM, Expr::constant(f64::INFINITY), expr);
        }
        if special.kinds & NAN != 0 {
            expr = from(&x, NAN_FROM, Expr::constant(0.0), expr);
            self.spoil(operand, &special.origin)?;
        }
        let (name, operation) = &special.origin;
        let op = Elementwise::new(expr);
        let value = self.push(name, operation, op, &[operand])?;
        self.extended.plain.insert(operand, Operand::Value(value));
        Ok(Operand::Value(value))
    }

    /// Counts the NaN of an operand per sample.
    fn spoil(&mut self, operand: Operand, origin: &(String, String)) -> Result<()> {
        let (name, operation) = origin;
        let constant = Expr::constant;
        let truth = from(&Expr::input(0), NAN_FROM, constant(1.0), constant(0.0));
        let truth = self.push(name, operation, Elementwise::new(truth), &[operand])?;
        let axes = (0..self.network.rest(truth).len()).collect();
        let sum = ReduceSum { axes, keep: false };
        let sum = self.push(name, operation, sum, &[Operand::Value(truth)])?;
        self.extended
            .spoilt
            .push((Operand::Value(sum), origin.clone()));
        Ok(())
    }

    /// The network's output as it leaves: NaN where it stands for that, or where a NaN that no guard removed is in the sample.
    ///
    /// −∞ stays what stands for it: losses of logits take it, a class that is masked.
    pub(super) fn exposed(&mut self, output: Operand) -> Result<Operand> {
        let mut output = output;
        if let Some(special) = self.extended.specials.get(&output).cloned()
            && special.kinds & (HIGH | NAN) != 0
        {
            let x = Expr::input(0);
            let high = from(&x, INFINITE_FROM, Expr::constant(f64::INFINITY), x.clone());
            let nan = from(&x, NAN_FROM, Expr::constant(f64::NAN), high);
            let (name, operation) = &special.origin;
            let op = Elementwise::new(nan);
            output = Operand::Value(self.push(name, operation, op, &[output])?);
        }
        for (count, (name, operation)) in std::mem::take(&mut self.extended.spoilt) {
            let rest = vec![1; self.network.operand_rest(output).len()];
            let count = self.push(&name, &operation, Reshape { rest }, &[count])?;
            let none = up_to(
                &Expr::input(1),
                0.5,
                Expr::input(0),
                Expr::constant(f64::NAN),
            );
            let operands = [output, Operand::Value(count)];
            let op = Elementwise::new(none);
            output = Operand::Value(self.push(&name, &operation, op, &operands)?);
        }
        Ok(output)
    }

    /// An elementwise operation on tensors already aligned, its formula in terms of what the tensors mean.
    ///
    /// `None` where no stand-in is about, and the formula is as it stands.
    pub(super) fn extended_elementwise(
        &mut self,
        node: &Node,
        expr: &Expr,
        tensors: &[Tensor],
        sample: Option<super::Sample>,
    ) -> Result<Option<Tensor>> {
        let Formula { expr, operands } = self.written_in(expr, tensors);
        let kinds: Vec<Classes> = operands.iter().map(|t| self.kinds(t.operand)).collect();
        if kinds.iter().all(|&k| k == 0) && !has_infinity(&expr) {
            return Ok(None);
        }
        let absorbed = self.absorbed(&expr, &operands, &kinds);
        let (formula, found, hidden) = match absorbed {
            Some(special) => (expr.clone(), special.kinds, special.hidden),
            None => {
                let mut given: Vec<Classes> = vec![FINITE; operands.len()];
                let (mut formula, found) = by_cases(&expr, &kinds, 0, &mut given, false);
                if found != 0 && self.extended.huge {
                    formula = by_cases(&expr, &kinds, 0, &mut given, true).0;
                }
                (formula, found, None)
            }
        };
        let bounded = chooses(&formula)
            && (operands.iter().enumerate())
                .all(|(k, t)| !reads(&formula, k) || self.extended.bounded.contains(&t.operand));
        let (formula, kept) = self.compact(formula, &operands, sample.is_some());
        let inputs: Vec<Operand> = kept.iter().map(|t| t.operand).collect();
        let result = self.append(node, Elementwise::new(formula), &inputs, sample)?;
        if found != 0 {
            self.note(node, result.operand, found, hidden);
        } else if is_truth(&expr, operands.len()) && expr.operations() <= MOST_OPERATIONS {
            let formula = Formula { expr, operands };
            self.extended.truths.insert(result.operand, formula);
        }
        if bounded {
            self.extended.bounded.insert(result.operand);
        }
        Ok(Some(result))
    }

    /// A formula with those of its operands that are truth values of stand-ins written out, so that a guard's condition is
    /// decided together with what it guards.
    fn written_in(&self, expr: &Expr, tensors: &[Tensor]) -> Formula {
        let mut operands: Vec<Tensor> = Vec::new();
        let mut place = |tensor: &Tensor| {
            let found = operands.iter().position(|t| t.operand == tensor.operand);
            Expr::input(found.unwrap_or_else(|| {
                operands.push(tensor.clone());
                operands.len() - 1
            }))
        };
        let inputs: Vec<Expr> = tensors
            .iter()
            .map(|tensor| match self.extended.truths.get(&tensor.operand) {
                Some(truth) => {
                    let inner: Vec<Expr> = truth.operands.iter().map(&mut place).collect();
                    truth.expr.substitute(&inner)
                }
                None => place(tensor),
            })
            .collect();
        let written = expr.substitute(&inputs);
        if operands.len() > MOST_INPUTS || written.operations() > MOST_OPERATIONS {
            return Formula {
                expr: expr.clone(),
                operands: tensors.to_vec(),
            };
        }
        Formula {
            expr: written,
            operands,
        }
    }

    /// What a sum of finite numbers and one tensor of −∞ may hold: −M swallows what is added to it, and the formula stands.
    fn absorbed(&self, expr: &Expr, operands: &[Tensor], kinds: &[Classes]) -> Option<Special> {
        let mut special = (0..kinds.len()).filter(|&k| kinds[k] != 0);
        let (k, None) = (special.next()?, special.next()) else {
            return None;
        };
        let sum = expr.derivative(k).as_constant() == Some(1.0);
        let plain = !self.extended.huge && !has_infinity(expr);
        if kinds[k] != LOW || !sum || !plain {
            return None;
        }
        self.extended.specials.get(&operands[k].operand).cloned()
    }

    /// The formula without the operands that it does not read, unless they widen its result.
    fn compact(&self, formula: Expr, operands: &[Tensor], sampled: bool) -> (Expr, Vec<Tensor>) {
        let shape = |tensors: &[Tensor]| {
            let rests = tensors.iter();
            rests.fold(Vec::new(), |all, t| {
                broadcast_rest(&all, &t.rest).unwrap_or_default()
            })
        };
        let whole = shape(operands);
        let mut kept: Vec<usize> = (0..operands.len()).collect();
        for k in 0..operands.len() {
            let less: Vec<usize> = kept.iter().copied().filter(|&j| j != k).collect();
            let tensors: Vec<Tensor> = less.iter().map(|&j| operands[j].clone()).collect();
            let samples = !sampled || tensors.iter().any(|t| t.sample.is_some());
            if !reads(&formula, k) && samples && !tensors.is_empty() && shape(&tensors) == whole {
                kept = less;
            }
        }
        let place = |k: usize| kept.iter().position(|&j| j == k).unwrap_or(0);
        let inputs: Vec<Expr> = (0..operands.len()).map(|k| Expr::input(place(k))).collect();
        let tensors = kept.iter().map(|&k| operands[k].clone()).collect();
        (formula.substitute(&inputs), tensors)
    }

    /// Softmax or its logarithm along an axis, NaN in rows that are −∞ throughout or hold +∞ or NaN.
    pub(super) fn softmax(
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
    pub(super) fn masking(&mut self, node: &Node, tensor: &Tensor) -> Result<Tensor> {
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

    /// Whether an operand depends on a parameter, and whether a logarithm, quotient or power is among what made it.
    pub(super) fn source_of(&mut self, operand: Operand) -> (bool, bool) {
        let Operand::Value(value) = operand else {
            return (matches!(operand, Operand::Parameter(_)), false);
        };
        let Network { inputs, nodes, .. } = &self.network;
        let known = &mut self.extended.varies;
        known.resize(known.len().max(inputs.len()), (false, false));
        for node in &nodes[known.len() - inputs.len()..] {
            let own = matches!(&node.op, Op::Elementwise(op) if is_singular(&op.expr));
            let all = node
                .inputs
                .iter()
                .fold((false, own), |all, input| match *input {
                    Operand::Value(value) => (all.0 | known[value].0, all.1 | known[value].1),
                    Operand::Parameter(_) => (true, all.1),
                    Operand::Constant(_) => all,
                });
            known.push(all);
        }
        known[value]
    }

    /// The mask that is meant by an operand of a Where or an Add, with −∞ for the lowest finite number.
    ///
    /// PyTorch's newer exporter writes truth masks of attention as `Where(keep, 0, finfo.min)`, added to the scores, and guards
    /// their softmax by `Where(IsNaN(…), 0, …)`: it makes what is wholly masked 0, as PyTorch does, only if −∞ was meant.
    pub(super) fn meant(&mut self, node: &Node, operand: Value) -> Value {
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
    pub(super) fn note_mask(&mut self, input: usize, value: Operand, name: &str) {
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
pub(super) fn scores(graph: &Graph) -> HashSet<&str> {
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
