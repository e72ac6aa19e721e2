//! RNN, GRU and LSTM, unrolled over their steps.
//!
//! The inputs of all steps meet W in one linear operation with a position per step; the recurrence h_{t−1}·Rᵀ is
//! one linear operation per step, so that R is a parameter used at as many places. A state of zeros is the number
//! 0, which formulas drop. Where the samples have lengths, a step beyond the end of a sample leaves its states as
//! they are and gives 0; the reverse direction walks from the last step to the first, so it starts at each
//! sample's end.
//!
//! Formulas and the order of the gates are those of the ONNX operations, with f, g and h the activations:
//!
//! | node | gates | formulas |
//! |---|---|---|
//! | RNN | i | h_t = f(x_t·Wᵢᵀ + h_{t−1}·Rᵢᵀ + Wbᵢ + Rbᵢ) |
//! | GRU | z, r, h | h_t = (1 − z)⊙n + z⊙h_{t−1}, n = g(x_t·W_hᵀ + Wb_h + r⊙(h_{t−1}·R_hᵀ + Rb_h)), or with (r⊙h_{t−1})·R_hᵀ + Rb_h where it is not `linear_before_reset` |
//! | LSTM | i, o, f, c | c_t = f⊙c_{t−1} + i⊙g(…), h_t = o⊙h(c_t); the peepholes P add P⊙c to the arguments of i, f (c_{t−1}) and o (c_t) |

mod layer;
mod operands;
mod steps;

use super::super::graph::Node;
use super::{Array, Lowering, Tensor, Value, refuse};
use crate::error::{Error, Result};
use crate::network;
use crate::ops::{Concat, Reshape};
use crate::tensor::Expr;
use layer::{Kind, Layer};
use steps::{Run, States};

/// Operations that a step becomes, at most.
const OPERATIONS_OF_STEP: usize = 16;

/// A recurrent node that is being lowered.
#[derive(Clone, Copy)]
struct Recurrence<'l> {
    node: &'l Node,
    inputs: &'l [Option<Value>],
    layer: &'l Layer,
    /// The data, the samples before the steps.
    x: &'l Tensor,
}

fn zero() -> Value {
    number(0.0)
}

fn number(value: f64) -> Value {
    let scalar = Array::reals(&[], vec![value], true);
    Value::Host([scalar.clone(), scalar])
}

impl Lowering<'_> {
    /// RNN, GRU and LSTM: all steps, the last states.
    pub(super) fn recurrent(
        &mut self,
        node: &Node,
        inputs: &[Option<Value>],
    ) -> Result<Vec<Value>> {
        let [x, w, r] = [
            self.tensor(node, inputs, 0)?,
            self.tensor(node, inputs, 1)?,
            self.tensor(node, inputs, 2)?,
        ];
        let shapes = || {
            Error::Shape(format!(
                "inputs {:?} with weights {:?} and {:?}",
                x.rest, w.rest, r.rest
            ))
        };
        let (&[_, _, width], &[directions, rows, columns], &[_, _, hidden]) =
            (&x.rest[..], &w.rest[..], &r.rest[..])
        else {
            return Err(shapes());
        };
        let layer = Layer::read(node, hidden)?;
        let gates = layer.kind.gates();
        let fits = hidden > 0
            && directions == layer.reversed.len()
            && gates.checked_mul(hidden) == Some(rows)
            && columns == width
            && r.rest == [directions, rows, hidden];
        if !fits {
            return Err(shapes());
        }
        if w.sample.is_some() || r.sample.is_some() {
            return refuse("its weights depend on the data");
        }
        let time = usize::from(layer.samples_first);
        if x.samples_on(time) {
            return refuse(format!(
                "its steps lie on axis {time} of {:?}, which holds the samples; export with an input of three axes and the samples on the one that the layer takes for its batch (batch_first says which)",
                x.shape(self.batch.sizes[1])
            ));
        }
        self.not_over_samples(&x, 2)?;
        let steps = x.rest[time];
        self.unrolled(node, steps, directions)?;
        let x = if layer.samples_first {
            x
        } else {
            self.permute(node, &x, &[1, 0, 2])?
        };
        let of = Recurrence {
            node,
            inputs,
            layer: &layer,
            x: &x,
        };
        let lengths = self.lengths(&of, steps)?;
        let mut runs = Vec::with_capacity(directions);
        for d in 0..directions {
            let direction = self.direction(&of, [&w, &r], d)?;
            let first = States {
                hidden: self.state(&of, 5, d)?,
                cell: match layer.kind {
                    Kind::Lstm => self.state(&of, 6, d)?,
                    _ => zero(),
                },
            };
            runs.push(self.steps(node, &direction, first, &lengths)?);
        }
        self.results(&of, runs)
    }

    /// Sets aside what the operations of all steps take.
    fn unrolled(&mut self, node: &Node, steps: usize, directions: usize) -> Result<()> {
        let each = size_of::<network::Node>() + 2 * node.name().len() + 64;
        let operations = (steps * directions).saturating_mul(OPERATIONS_OF_STEP);
        match self.room.hold(operations.saturating_mul(each)) {
            Ok(()) => Ok(()),
            Err(_) => refuse(format!(
                "it is unrolled over its steps, and {steps} of them are more than can be; export with a shorter sequence"
            )),
        }
    }

    /// A formula of operands, of which some are numbers; what it does not read is left out.
    fn formula(&mut self, node: &Node, expr: Expr, operands: &[&Value]) -> Result<Value> {
        let known = |(k, operand): (usize, &&Value)| match operand {
            Value::Host(arrays) => arrays[0].scalar().map_or(Expr::input(k), Expr::constant),
            _ => Expr::input(k),
        };
        let known: Vec<Expr> = operands.iter().enumerate().map(known).collect();
        let expr = expr.substitute(&known);
        if let Some(value) = expr.as_constant() {
            return Ok(number(value));
        }
        let mut read = Vec::new();
        let mut places = Vec::with_capacity(operands.len());
        for (k, &operand) in operands.iter().enumerate() {
            places.push(Expr::input(read.len()));
            if expr.reads(k) {
                read.push(operand.clone());
            }
        }
        let result = self.pointwise(node, expr.substitute(&places), &read)?;
        Ok(Value::Tensor(result))
    }

    /// The sum of two.
    fn plus(&mut self, node: &Node, a: Tensor, b: Tensor) -> Result<Tensor> {
        let sum = Expr::input(0) + Expr::input(1);
        self.pointwise(node, sum, &[Value::Tensor(a), Value::Tensor(b)])
    }

    /// The outputs of the node that are used: Y, Y_h and Y_c.
    fn results(&mut self, of: &Recurrence<'_>, runs: Vec<Run>) -> Result<Vec<Value>> {
        let Recurrence { node, layer, x, .. } = *of;
        let mut results = vec![Value::Unknown; 3];
        let used = |lowering: &Self, k: usize| {
            let name = node.proto.output.get(k);
            name.is_some_and(|name| !name.is_empty() && lowering.is_used(name))
        };
        let (rows, hidden) = (x.rest[0], layer.hidden);
        // Y is [steps, directions, samples, hidden] or [samples, steps, directions, hidden].
        if used(self, 0) {
            let (samples, time, direction) = match layer.samples_first {
                true => (0, 1, 2),
                false => (2, 0, 1),
            };
            let mut rest = [1, 1, 1, hidden];
            rest[samples] = rows;
            let mut each = Vec::with_capacity(runs.len());
            for run in &runs {
                let mut parts = Vec::with_capacity(run.outputs.len());
                for output in &run.outputs {
                    parts.push(self.placed(of, output, &rest, samples)?);
                }
                each.push(self.joined(node, parts, time)?);
            }
            results[0] = Value::Tensor(self.joined(node, each, direction)?);
        }
        // The others are [directions, samples, hidden] or [samples, directions, hidden].
        let (samples, direction) = match layer.samples_first {
            true => (0, 1),
            false => (1, 0),
        };
        let mut rest = [1, 1, hidden];
        rest[samples] = rows;
        for k in [1, 2] {
            if !used(self, k) {
                continue;
            }
            let mut parts = Vec::with_capacity(runs.len());
            for run in &runs {
                let state = if k == 1 {
                    &run.last.hidden
                } else {
                    &run.last.cell
                };
                parts.push(self.placed(of, state, &rest, samples)?);
            }
            results[k] = Value::Tensor(self.joined(node, parts, direction)?);
        }
        Ok(results)
    }

    /// A state `[samples, hidden]` under the shape `rest`, the samples on axis `samples`.
    fn placed(
        &mut self,
        of: &Recurrence<'_>,
        state: &Value,
        rest: &[usize],
        samples: usize,
    ) -> Result<Tensor> {
        let Recurrence { node, x, .. } = *of;
        let shape = [x.rest[0], rest[rest.len() - 1]];
        let state = match state {
            Value::Tensor(state) if state.rest == shape => state.clone(),
            // One that no step has changed, or that all rows share.
            other => {
                let zeros = Array::reals(&shape, vec![0.0; shape[0] * shape[1]], true);
                let zeros = self.constant(node, &zeros)?;
                match other {
                    Value::Tensor(state) => self.plus(node, state.clone(), zeros)?,
                    _ => zeros,
                }
            }
        };
        let sample = state.sample.or(x.sample).map(|s| s.on(samples));
        let rest = rest.to_vec();
        self.append(node, Reshape { rest }, &[state.operand], sample)
    }

    /// Tensors one after another along an axis.
    fn joined(&mut self, node: &Node, mut parts: Vec<Tensor>, axis: usize) -> Result<Tensor> {
        if parts.len() == 1 {
            return Ok(parts.remove(0));
        }
        let operands: Vec<_> = parts.iter().map(|t| t.operand).collect();
        let sample = parts.iter().find_map(|t| t.sample);
        self.append(node, Concat { axis }, &operands, sample)
    }
}
