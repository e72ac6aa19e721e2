//! The operands of nodes as tensors of the network or arrays of the host, and the operations that read them.

use super::super::fold;
use super::super::graph::Node;
use super::super::samples::Sample;
use super::super::tensor::Array;
use super::{Lowering, Tensor, Value, check_finite, describe, extended, finite, refuse};
use crate::error::{Error, Result};
use crate::network::{MOST_ELEMENTS, Operand, ValueId};
use crate::ops::Op;
use crate::tensor::{HostData, broadcast_rest};
use std::sync::Arc;

impl Lowering<'_> {
    /// Appends an operation of ours, infinities and NaN among its operands as it needs them ([`extended`]).
    pub(super) fn append(
        &mut self,
        node: &Node,
        op: impl Into<Op>,
        inputs: &[Operand],
        sample: Option<Sample>,
    ) -> Result<Tensor> {
        let op = op.into();
        let (inputs, kinds) = self.carried(&op, inputs)?;
        let result = self.append_as_is(node, op.clone(), &inputs, sample)?;
        if extended::moves(&op) {
            self.note_moved(&inputs, result.operand, kinds);
            self.note_root_moved(&op, &inputs, &result);
        }
        Ok(result)
    }

    /// Appends an operation of ours on what its operands store.
    pub(super) fn append_as_is(
        &mut self,
        node: &Node,
        op: Op,
        inputs: &[Operand],
        sample: Option<Sample>,
    ) -> Result<Tensor> {
        let value = self.push(node.name(), node.op_type(), op, inputs)?;
        // With a fixed batch, shapes are inferred at that batch.
        let rest = self.network.rest(value);
        let all = rest
            .iter()
            .try_fold(self.batch.sizes[1], |a, &d| a.checked_mul(d));
        let large = all.is_none_or(|all| all > MOST_ELEMENTS);
        if !self.batch.open && sample.is_some() && large {
            return Err(Error::Shape(format!(
                "a result of {} samples of shape {rest:?} is larger than can be; export with a smaller batch",
                self.batch.sizes[1]
            )));
        }
        Ok(Tensor {
            operand: Operand::Value(value),
            rest: self.network.rest(value).to_vec(),
            sample,
            integer: false,
        })
    }

    /// Adds an operation to the network, and notes whether it reads the data.
    pub(super) fn push(
        &mut self,
        name: &str,
        operation: &str,
        op: impl Into<Op>,
        inputs: &[Operand],
    ) -> Result<ValueId> {
        let value = self.network.append(name, operation, op, inputs)?;
        let of_data = inputs.iter().any(|&operand| self.reads_data(operand));
        self.of_data.push(of_data);
        Ok(value)
    }

    /// Whether an operand depends on an input of the network.
    pub(super) fn reads_data(&self, operand: Operand) -> bool {
        matches!(operand, Operand::Value(value) if self.of_data[value])
    }

    /// Whether a tensor differs between samples.
    pub(super) fn depends(&self, tensor: &Tensor) -> bool {
        tensor.sample.is_some() || self.reads_data(tensor.operand)
    }

    /// Adds a constant to the network, infinities made [`finite`].
    ///
    /// # Errors
    /// [`Error::Value`] where it holds a NaN, [`Error::Shape`] where it is empty.
    pub(super) fn constant(&mut self, node: &Node, array: &Array) -> Result<Tensor> {
        if array.len() == 0 {
            return Err(Error::Shape(format!(
                "a constant of shape {:?} is empty",
                array.shape
            )));
        }
        let mut host = array.to_host();
        match &mut host.data {
            HostData::F32(v) if v.iter().any(|x| x.is_infinite()) => {
                *v = Arc::new(v.iter().map(|&x| finite(x.into()) as f32).collect());
            }
            HostData::F64(v) if v.iter().any(|x| x.is_infinite()) => {
                *v = Arc::new(v.iter().map(|&x| finite(x)).collect());
            }
            _ => {}
        }
        check_finite(self.graph, node.name(), &host)?;
        let operand = Operand::Constant(self.network.constants.len());
        self.note_constant(node, array, operand);
        // Read by several nodes, it has one memory, unless it is made of integers.
        let held = Array::from_host(&host);
        if self.placed.insert(held.address()) {
            self.room.hold(held.bytes())?;
        }
        self.network.constants.push(host);
        Ok(Tensor {
            operand,
            rest: array.shape.clone(),
            sample: None,
            integer: !array.is_float(),
        })
    }

    /// An operand as a tensor that all samples share or not: constants are entered as they are.
    pub(super) fn tensor(
        &mut self,
        node: &Node,
        inputs: &[Option<Value>],
        k: usize,
    ) -> Result<Tensor> {
        match inputs.get(k) {
            Some(Some(Value::Tensor(tensor))) => Ok(tensor.clone()),
            Some(Some(Value::Host(arrays))) => {
                let axis = self.rows_of_samples(arrays);
                if axis.is_none() && arrays[0] != arrays[1] {
                    return refuse(format!(
                        "its input {k} depends on the number of samples, so they do not stand each on its own; make it in the module of what does not (x.shape[0])"
                    ));
                }
                let sample = axis.map(Sample::alone);
                let tensor = self.constant(node, &arrays[0])?;
                Ok(Tensor { sample, ..tensor })
            }
            _ => Err(Error::Shape(describe(
                node,
                &format!("input {k} is missing"),
            ))),
        }
    }

    /// The axis along which a constant has one row per sample, all the same, where the file leaves the batch
    /// open: the first hidden state of a recurrence written out, zeros(x.shape[0], H).
    pub(super) fn rows_of_samples(&self, arrays: &[Array; 2]) -> Option<usize> {
        let [one, many] = arrays;
        let axis = (0..one.shape.len()).find(|&k| many.shape.get(k) != Some(&one.shape[k]))?;
        let [few, most] = self.batch.sizes;
        let rows = (one.shape[axis], many.shape[axis]) == (few, most) && few == 1;
        let rows = rows && one.shape.len() == many.shape.len();
        let alike = |repeated: Array| rows && repeated == *many;
        let fits = broadcast_rest(&one.shape, &many.shape).as_ref() == Some(&many.shape);
        (fits && fold::expand(one, &many.shape).is_ok_and(alike)).then_some(axis)
    }

    /// A known operand, or the values of a parameter used as a constant here.
    pub(super) fn host(&self, inputs: &[Option<Value>], k: usize) -> Result<Option<Array>> {
        match inputs.get(k) {
            Some(Some(Value::Host(arrays))) if arrays[0] != arrays[1] => refuse(format!(
                "its input {k} depends on the number of samples, so they do not stand each on its own; make it in the module of what does not (x.shape[0])"
            )),
            Some(Some(Value::Host(arrays))) => Ok(Some(arrays[1].clone())),
            Some(Some(Value::Tensor(Tensor {
                operand: Operand::Parameter(p),
                ..
            }))) => Ok(Some(Array::from_host(&self.network.parameters[*p].data))),
            Some(Some(_)) => refuse(format!("its input {k} should be a constant")),
            _ => Ok(None),
        }
    }
}
