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
mod formula;
mod mask;

pub(super) use cases::INFINITE;
pub(super) use mask::scores;

use super::{Lowering, Tensor};
use crate::error::Result;
use crate::import::onnx::graph::Node;
use crate::import::onnx::tensor::{Array, Data};
use crate::network::{MINUS_INFINITY, Network, Operand};
use crate::ops::{Elementwise, Op, ReduceSum, Reshape};
use crate::tensor::Expr;
use cases::{Classes, HIGH, INFINITE_FROM, LOW, NAN, NAN_FROM, from, is_singular, up_to};
use std::collections::{HashMap, HashSet};

/// Finite constants from here on are cut where they meet stand-ins; smaller ones are lost in the rounding of −M.
const HUGE: f64 = 1e20;
/// Entries of a mask up to which it is kept where it is −∞.
pub(super) const MOST_KNOWN: usize = 1 << 24;
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
}
