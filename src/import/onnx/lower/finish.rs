//! The end of lowering: the network's output, the inputs that are derived from data, and warnings.

use super::super::names::list;
use super::super::samples::Sample;
use super::{Lowering, Tensor, Value};
use crate::error::{Error, Result};
use crate::network::{Network, Operand, Parameter, ValueId};
use crate::ops::{Op, Reshape};
use crate::tensor::Expr;
use crate::tensor::expression::Unary;
use std::collections::HashSet;

impl Lowering<'_> {
    /// Warns where the output is that of a softmax or a sigmoid, moved or not: losses take what comes before it.
    pub(super) fn warn_of_output(&mut self, value: ValueId) {
        let first = self.network.inputs.len();
        let mut at = value;
        while let Some(node) = at.checked_sub(first).map(|k| &self.network.nodes[k]) {
            let loss = match &node.op {
                Op::Reshape(_) | Op::Permute(_) => match node.inputs[0] {
                    Operand::Value(before) => {
                        at = before;
                        continue;
                    }
                    _ => return,
                },
                Op::Softmax(_) => "cross-entropy",
                Op::Elementwise(op) if op.expr == Expr::input(0).unary(Unary::Sigmoid) => "bce",
                _ => return,
            };
            let warning = format!(
                "the output is that of a {} (node {:?}): {loss} takes logits, so export the network without it for that loss",
                node.operation, node.name
            );
            self.network.warnings.push(warning);
            return;
        }
    }

    /// The network, once all nodes are lowered.
    pub(super) fn finish(mut self) -> Result<Network> {
        let output = self.graph.output.as_str();
        let fault = |message: String| Error::file(&self.graph.path, message);
        // A parameter repeated for every sample has samples, but not of the input.
        let (value, sample, rest) = match self.values.get(output) {
            Some(Value::Tensor(Tensor {
                operand: Operand::Value(value),
                sample,
                rest,
                ..
            })) if self.of_data[*value] => (*value, *sample, rest.clone()),
            _ => {
                return Err(fault(format!(
                    "the output {output:?} does not depend on the input"
                )));
            }
        };
        if let Some(why) = self.dependence_on_place(&self.values[output]) {
            return Err(Error::Unsupported {
                nodes: vec![why.clone()],
            });
        }
        self.warn_of_output(value);
        let value = match self.exposed(Operand::Value(value))? {
            Operand::Value(exposed) => exposed,
            _ => value,
        };
        let (value, sample) = match sample {
            Some(sample) => (value, sample),
            // A whole output gets an axis for the samples, unless its first can serve.
            None if rest.len() > 1 && rest[0] == 1 => (value, Sample::alone(0)),
            None => {
                let rest = [&[1], &rest[..]].concat();
                let operand = [Operand::Value(value)];
                let op = Reshape { rest };
                let value = self.push(output, "Reshape", op, &operand)?;
                (value, Sample::alone(0))
            }
        };
        self.network.output = value;
        self.network.output_name = output.to_string();
        self.network.output_sample_axis = sample.axis;
        self.network.output_positions_first = sample.before > 1;
        self.derive()?;
        let read = self.network.nodes.iter().flat_map(|n| &n.inputs);
        let read: HashSet<Operand> = read.copied().collect();
        let unread = |(k, _): &(usize, &Parameter)| !read.contains(&Operand::Parameter(*k));
        let parameters = self.network.parameters.iter().enumerate();
        let idle: Vec<&str> = (parameters.filter(unread))
            .map(|(_, p)| p.name.as_str())
            .collect();
        let mut warnings = Vec::new();
        if !idle.is_empty() {
            warnings.push(format!(
                "parameters do not enter the output, so that their rows of the Hessian are zero: {}",
                list(idle)
            ));
        }
        if !self.dropouts.is_empty() {
            warnings.push(format!(
                "dropout was exported in training mode and is left out, as at inference: {}",
                list(self.dropouts.iter().map(|s| s.as_str()))
            ));
        }
        self.network.warnings.extend(warnings);
        Ok(self.network)
    }
}
