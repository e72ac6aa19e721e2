//! Elementwise formulas over tensors that may hold stand-ins.

use super::cases::{Classes, FINITE, LOW, by_cases, chooses, has_infinity, is_truth, reads};
use super::{Formula, Special};
use crate::error::Result;
use crate::import::onnx::graph::Node;
use crate::import::onnx::lower::{Lowering, Tensor};
use crate::import::onnx::samples::Sample;
use crate::network::Operand;
use crate::ops::Elementwise;
use crate::tensor::{Expr, broadcast_rest};

/// Inputs and operations up to which a truth value's formula is written into what reads it.
const MOST_INPUTS: usize = 6;

const MOST_OPERATIONS: usize = 48;

impl Lowering<'_> {
    /// An elementwise operation on tensors already aligned, its formula in terms of what the tensors mean.
    ///
    /// `None` where no stand-in is about, and the formula is as it stands.
    pub(in super::super) fn extended_elementwise(
        &mut self,
        node: &Node,
        expr: &Expr,
        tensors: &[Tensor],
        sample: Option<Sample>,
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
}
