//! The steps of a direction, one after another: the formulas of the three nodes.

use super::layer::Kind;
use super::operands::Direction;
use super::zero;
use crate::error::Result;
use crate::import::onnx::graph::Node;
use crate::import::onnx::lower::{Lowering, Tensor, Value};
use crate::ops::Reshape;
use crate::tensor::Expr;

/// One step of a direction.
struct Step<'l> {
    t: usize,
    /// Steps of each sample.
    lengths: &'l Value,
    /// The entries of `ready`: `[samples, gates · hidden]`.
    now: Tensor,
}

impl Step<'_> {
    /// `if t < length { inside } else { outside }`.
    fn inside(&self, inside: Expr, outside: Expr, length: Expr) -> Expr {
        Expr::if_less_equal(Expr::constant(self.t as f64 + 1.0), length, inside, outside)
    }
}

/// The results of one direction.
pub(super) struct Run {
    /// `[samples, hidden]` per step, in the order of the steps.
    pub outputs: Vec<Value>,
    pub last: States,
}

/// The states before or after a step: h, and c of an LSTM.
#[derive(Clone)]
pub(super) struct States {
    pub hidden: Value,
    pub cell: Value,
}

impl Lowering<'_> {
    /// All steps of a direction.
    pub(super) fn steps(
        &mut self,
        node: &Node,
        direction: &Direction<'_>,
        first: States,
        lengths: &Value,
    ) -> Result<Run> {
        let steps = direction.ready.rest[1];
        let mut outputs = vec![zero(); steps];
        let mut states = first;
        for k in 0..steps {
            let t = if direction.reversed { steps - 1 - k } else { k };
            let now = self.entries(node, &direction.ready, 1, vec![Some(t)])?;
            let rest = vec![now.rest[0], now.rest[2]];
            let now = self.append(node, Reshape { rest }, &[now.operand], now.sample)?;
            let step = Step { t, lengths, now };
            states = match direction.layer.kind {
                Kind::Rnn => self.rnn(node, direction, &step, &states)?,
                Kind::Gru => self.gru(node, direction, &step, &states)?,
                Kind::Lstm => self.lstm(node, direction, &step, &states)?,
            };
            let shown = step.inside(Expr::input(0), Expr::constant(0.0), Expr::input(1));
            outputs[t] = self.formula(node, shown, &[&states.hidden, lengths])?;
        }
        Ok(Run {
            outputs,
            last: states,
        })
    }

    /// a + h·Rᵀ.
    fn with_recurrence(
        &mut self,
        node: &Node,
        a: &Tensor,
        hidden: &Value,
        weight: &Tensor,
    ) -> Result<Tensor> {
        let Value::Tensor(hidden) = hidden else {
            return Ok(a.clone());
        };
        let product = self.linear(node, hidden, weight, true)?;
        self.plus(node, a.clone(), product)
    }

    /// One step of an RNN.
    fn rnn(
        &mut self,
        node: &Node,
        direction: &Direction<'_>,
        step: &Step<'_>,
        before: &States,
    ) -> Result<States> {
        let x = Expr::input;
        let weight = &direction.recurrence[0];
        let a = self.with_recurrence(node, &step.now, &before.hidden, weight)?;
        let h = direction.layer.apply(&direction.functions[0], x(0));
        let h = step.inside(h, x(1), x(2));
        let operands = [&Value::Tensor(a), &before.hidden, step.lengths];
        Ok(States {
            hidden: self.formula(node, h, &operands)?,
            cell: zero(),
        })
    }

    /// One step of a GRU.
    fn gru(
        &mut self,
        node: &Node,
        direction: &Direction<'_>,
        step: &Step<'_>,
        before: &States,
    ) -> Result<States> {
        let (x, layer) = (Expr::input, direction.layer);
        let hidden = layer.hidden;
        let [f, g] = [&direction.functions[0], &direction.functions[1]];
        let mut both = self.run_of(node, &step.now, 0, 2 * hidden)?;
        let new = Value::Tensor(self.run_of(node, &step.now, 2 * hidden, 3 * hidden)?);
        let mut late = zero();
        let n = if layer.linear_before_reset {
            // h·Rᵀ of all gates at once, of which the last is reset.
            if let Value::Tensor(h) = &before.hidden {
                let all = self.linear(node, h, &direction.recurrence[0], true)?;
                let early = self.run_of(node, &all, 0, 2 * hidden)?;
                late = Value::Tensor(self.run_of(node, &all, 2 * hidden, 3 * hidden)?);
                both = self.plus(node, both, early)?;
            }
            let r = Value::Tensor(self.run_of(node, &both, hidden, 2 * hidden)?);
            let n = x(0) + layer.apply(f, x(1)) * (x(2) + x(3));
            let operands = [&new, &r, &late, &direction.reset_bias];
            self.formula(node, layer.apply(g, n), &operands)?
        } else {
            let weights = &direction.recurrence;
            both = self.with_recurrence(node, &both, &before.hidden, &weights[0])?;
            let r = Value::Tensor(self.run_of(node, &both, hidden, 2 * hidden)?);
            let kept = layer.apply(f, x(0)) * x(1);
            if let Value::Tensor(kept) = self.formula(node, kept, &[&r, &before.hidden])? {
                late = Value::Tensor(self.linear(node, &kept, &weights[1], true)?);
            }
            self.formula(node, layer.apply(g, x(0) + x(1)), &[&new, &late])?
        };
        let z = Value::Tensor(self.run_of(node, &both, 0, hidden)?);
        let z_of = layer.apply(f, x(0));
        let h = (Expr::constant(1.0) - z_of.clone()) * x(1) + z_of * x(2);
        let h = step.inside(h, x(2), x(3));
        let operands = [&z, &n, &before.hidden, step.lengths];
        Ok(States {
            hidden: self.formula(node, h, &operands)?,
            cell: zero(),
        })
    }

    /// One step of an LSTM.
    fn lstm(
        &mut self,
        node: &Node,
        direction: &Direction<'_>,
        step: &Step<'_>,
        before: &States,
    ) -> Result<States> {
        let (x, layer) = (Expr::input, direction.layer);
        let hidden = layer.hidden;
        let [f, g, h] = [0, 1, 2].map(|k| &direction.functions[k]);
        let weight = &direction.recurrence[0];
        let a = self.with_recurrence(node, &step.now, &before.hidden, weight)?;
        let mut gates = Vec::with_capacity(4);
        for k in 0..4 {
            let part = self.run_of(node, &a, k * hidden, (k + 1) * hidden)?;
            gates.push(Value::Tensor(part));
        }
        let [pi, po, pf] = &direction.peepholes;
        // Operands: i, f, new, c, Pi, Pf, lengths.
        let input = layer.apply(f, x(0) + x(4) * x(3));
        let kept = if layer.coupled {
            Expr::constant(1.0) - input.clone()
        } else {
            layer.apply(f, x(1) + x(5) * x(3))
        };
        let c = kept * x(3) + input * layer.apply(g, x(2));
        let c = step.inside(c, x(3), x(6));
        let (i, o, forget, new) = (&gates[0], &gates[1], &gates[2], &gates[3]);
        let operands = [i, forget, new, &before.cell, pi, pf, step.lengths];
        let cell = self.formula(node, c, &operands)?;
        // Operands: o, c, Po, h, lengths. Beyond the end of a sample c is not the new one, but not read either.
        let output = layer.apply(f, x(0) + x(2) * x(1));
        let value = step.inside(output * layer.apply(h, x(1)), x(3), x(4));
        let operands = [o, &cell, po, &before.hidden, step.lengths];
        Ok(States {
            hidden: self.formula(node, value, &operands)?,
            cell,
        })
    }
}
