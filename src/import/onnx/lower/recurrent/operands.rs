//! The operands of a recurrent node: weights and biases of each direction, initial states, lengths.

use super::layer::{Kind, Layer};
use super::{Recurrence, number, zero};
use crate::error::{Error, Result};
use crate::import::onnx::graph::Node;
use crate::import::onnx::lower::{Lowering, Tensor, Value, refuse};
use crate::import::onnx::tensor::Array;
use crate::ops::{Concat, Reshape};
use crate::tensor::Expr;

/// The operands of one direction.
pub(super) struct Direction<'l> {
    pub layer: &'l Layer,
    /// x·Wᵀ and those biases that may be added before the recurrence: `[samples, steps, gates · hidden]`.
    pub ready: Tensor,
    /// R; of a GRU that resets before it multiplies, the rows of z and r, and those of h.
    pub recurrence: Vec<Tensor>,
    /// Rb_h of a GRU, where it is reset too.
    pub reset_bias: Value,
    /// Peepholes of i, o and f; 0 where there are none.
    pub peepholes: [Value; 3],
    pub reversed: bool,
    /// f, g and h, as far as there are.
    pub functions: &'l [Expr],
}

/// Whether a value is the number 0.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Host(arrays) => arrays
            .iter()
            .all(|a| a.len() > 0 && a.to_f64().iter().all(|&v| v == 0.0)),
        _ => false,
    }
}

impl Lowering<'_> {
    /// The entry `d` of the first axis of a parameter, without that axis.
    fn of_direction(&mut self, node: &Node, x: &Tensor, d: usize) -> Result<Tensor> {
        let part = self.entries(node, x, 0, vec![Some(d)])?;
        let rest = x.rest[1..].to_vec();
        self.append(node, Reshape { rest }, &[part.operand], None)
    }

    /// A parameter's row of direction `d`, cut into parts of `hidden`; `None` where it is not given.
    fn row(
        &mut self,
        node: &Node,
        inputs: &[Option<Value>],
        k: usize,
        extents: [usize; 2],
        d: usize,
    ) -> Result<Option<Tensor>> {
        if !matches!(inputs.get(k), Some(Some(_))) {
            return Ok(None);
        }
        let given = self.tensor(node, inputs, k)?;
        if given.sample.is_some() {
            return refuse(format!("its input {k} depends on the data"));
        }
        if given.rest != extents {
            return Err(Error::Shape(format!(
                "its input {k} has the shape {:?} instead of {extents:?}",
                given.rest
            )));
        }
        self.of_direction(node, &given, d).map(Some)
    }

    /// The entries `from..to` of the last axis.
    pub(super) fn run_of(
        &mut self,
        node: &Node,
        x: &Tensor,
        from: usize,
        to: usize,
    ) -> Result<Tensor> {
        let axis = x.rest.len() - 1;
        self.entries(node, x, axis, (from..to).map(Some).collect())
    }

    /// The operands of direction `d`, of the weights W and R of all directions.
    pub(super) fn direction<'l>(
        &mut self,
        of: &Recurrence<'l>,
        [w, r]: [&Tensor; 2],
        d: usize,
    ) -> Result<Direction<'l>> {
        let Recurrence {
            node,
            inputs,
            layer,
            x,
        } = *of;
        let (hidden, directions) = (layer.hidden, layer.reversed.len());
        let rows = layer.kind.gates() * hidden;
        let early = 2 * hidden;
        let w = self.of_direction(node, w, d)?;
        let r = self.of_direction(node, r, d)?;
        let mut ready = self.linear(node, x, &w, true)?;
        let gru = layer.kind == Kind::Gru;
        let mut reset_bias = zero();
        if let Some(bias) = self.row(node, inputs, 3, [directions, 2 * rows], d)? {
            let own = self.run_of(node, &bias, 0, rows)?;
            let other = self.run_of(node, &bias, rows, 2 * rows)?;
            // Rb_h of a GRU is reset with what it is added to.
            let both = if gru && layer.linear_before_reset {
                let last = self.run_of(node, &other, early, rows)?;
                reset_bias = Value::Tensor(last);
                let other = self.run_of(node, &other, 0, early)?;
                let first = self.run_of(node, &own, 0, early)?;
                let first = self.plus(node, first, other)?;
                let last = self.run_of(node, &own, early, rows)?;
                let operands = [first.operand, last.operand];
                self.append(node, Concat { axis: 0 }, &operands, None)?
            } else {
                self.plus(node, own, other)?
            };
            ready = self.plus(node, ready, both)?;
        }
        let recurrence = if gru && !layer.linear_before_reset {
            let part = |from: usize, to: usize| (from..to).map(Some).collect();
            vec![
                self.entries(node, &r, 0, part(0, early))?,
                self.entries(node, &r, 0, part(early, rows))?,
            ]
        } else {
            vec![r]
        };
        let mut peepholes = [zero(), zero(), zero()];
        if layer.kind == Kind::Lstm
            && let Some(all) = self.row(node, inputs, 7, [directions, 3 * hidden], d)?
        {
            for (k, peephole) in peepholes.iter_mut().enumerate() {
                let part = self.run_of(node, &all, k * hidden, (k + 1) * hidden)?;
                *peephole = Value::Tensor(part);
            }
        }
        let each = layer.kind.functions().len();
        Ok(Direction {
            layer,
            ready,
            recurrence,
            reset_bias,
            peepholes,
            reversed: layer.reversed[d],
            functions: &layer.functions[d * each..(d + 1) * each],
        })
    }

    /// An initial state of direction `d` as `[samples, hidden]`; 0 where it is not given or all zeros.
    pub(super) fn state(&mut self, of: &Recurrence<'_>, k: usize, d: usize) -> Result<Value> {
        let Recurrence {
            node,
            inputs,
            layer,
            x,
        } = *of;
        let (samples, own) = if layer.samples_first { (0, 1) } else { (1, 0) };
        let given = match inputs.get(k) {
            Some(Some(value)) if !is_zero(value) => value,
            _ => return Ok(zero()),
        };
        let tensor = match given {
            Value::Host(arrays) => {
                // Zeros or not, the rows of all samples are the same.
                let place = x.sample.map(|s| (3 - samples, s));
                let array = self.per_sample(arrays, place)?;
                self.constant(node, &array)?
            }
            _ => self.tensor(node, inputs, k)?,
        };
        let rows = x.rest[0];
        let fits = tensor.rest.len() == 3
            && tensor.rest[own] == layer.reversed.len()
            && tensor.rest[2] == layer.hidden
            && (tensor.rest[samples] == rows || tensor.rest[samples] == 1);
        if !fits {
            return if tensor.sample.is_none() && tensor.rest.len() == 3 {
                refuse(format!(
                    "its input {k} of shape {:?} has a row per sample of the exported batch; export with batch 1 or an open batch",
                    tensor.rest
                ))
            } else {
                Err(Error::Shape(format!(
                    "its input {k} of shape {:?} per sample is no state of {} numbers in {} directions",
                    tensor.rest,
                    layer.hidden,
                    layer.reversed.len()
                )))
            };
        }
        if tensor.sample.is_some_and(|s| s.axis != samples) {
            return refuse(format!(
                "the samples of its input {k} do not lie on the axis of its batch"
            ));
        }
        let part = self.entries(node, &tensor, own, vec![Some(d)])?;
        let rest = vec![tensor.rest[samples], layer.hidden];
        let sample = tensor.sample.map(|s| s.on(0));
        let state = self.append(node, Reshape { rest }, &[part.operand], sample)?;
        Ok(Value::Tensor(state))
    }

    /// The steps of each sample as `[samples, 1]`, or their number where it is the same for all.
    pub(super) fn lengths(&mut self, of: &Recurrence<'_>, steps: usize) -> Result<Value> {
        let Recurrence {
            node, inputs, x, ..
        } = *of;
        match inputs.get(4) {
            Some(Some(Value::Host(arrays))) => {
                let all: Vec<f64> = arrays.iter().flat_map(Array::to_f64).collect();
                let Some(&first) = all.first() else {
                    return Err(Error::Shape("its sequence_lens is empty".into()));
                };
                if all.iter().any(|&length| length != first) {
                    return refuse(
                        "its sequence_lens is a constant that differs between the samples of the exported batch; export with the lengths as an input",
                    );
                }
                Ok(number(first))
            }
            Some(Some(_)) => {
                let lengths = self.tensor(node, inputs, 4)?;
                let fits = lengths.rest == [x.rest[0]] || lengths.rest == [1];
                if !fits || lengths.sample.is_some_and(|s| s.axis != 0) {
                    return Err(Error::Shape(format!(
                        "its sequence_lens of shape {:?} per sample is not one number for each",
                        lengths.rest
                    )));
                }
                let rest = vec![lengths.rest[0], 1];
                let sample = lengths.sample;
                let column = self.append(node, Reshape { rest }, &[lengths.operand], sample)?;
                Ok(Value::Tensor(column))
            }
            _ => Ok(number(steps as f64)),
        }
    }
}
