//! The results of nodes that the host computes, as inputs of the network: their shapes, and what they hold.

use super::{Source, Wanted};
use crate::error::{Error, Result};
use crate::import::onnx::fold;
use crate::import::onnx::graph::Node;
use crate::import::onnx::lower::logic::makes_integers;
use crate::import::onnx::lower::rules::{RULES, why_not};
use crate::import::onnx::lower::select::Selection;
use crate::import::onnx::lower::{Lowering, Tensor, Value, describe, refuse};
use crate::network::{Input, Operand, ValueId};
use crate::tensor::Expr;

impl Lowering<'_> {
    /// The results of a node that depends on the data alone as derived inputs of the network; `None` where they
    /// cannot be. `refused` is what its rule says of it.
    ///
    /// # Errors
    /// What the rules of its shape report; [`Error::Unsupported`] where it is refused all the same.
    pub(in super::super) fn on_host(
        &mut self,
        node: &Node,
        inputs: &[Option<Value>],
        refused: &[String],
    ) -> Result<Option<Vec<Value>>> {
        let outputs = node.proto.output.iter();
        let slots = outputs.map(|name| self.data_only.slots.get(name.as_str()).copied());
        let slots: Vec<Option<ValueId>> = slots.collect();
        let first = node.proto.output.first();
        let made = first.and_then(|name| self.data_only.made.get(name.as_str()));
        let Some(&(k, _)) = made else {
            return Ok(None);
        };
        match self.data_only.steps.get(&k).map(|step| step.blocked) {
            Some(None) => {}
            Some(Some(before)) if before != k => {
                let other = &self.graph.nodes[before];
                return refuse(format!(
                    "of the data it is computed on the host, where node {:?} ({}) before it is not",
                    other.name(),
                    other.op_type()
                ));
            }
            _ => return Ok(None),
        }
        let before = inputs
            .iter()
            .flatten()
            .find_map(|value| self.dependence_on_place(value));
        let before = before.cloned();
        let mark = self.mark();
        self.data_only.differs.set(Some(false));
        let outlines = self.outlines(node, inputs);
        let differs = self.data_only.differs.take() == Some(true);
        let placed = before.or_else(|| differs.then(|| describe(node, &refused.join("; "))));
        self.back_to(&mark);
        let outlines = outlines?;
        let mut results = Vec::with_capacity(outlines.len());
        for (output, outline) in outlines.into_iter().enumerate() {
            let name = &node.proto.output[output];
            let (Some(Some(slot)), Some(sample)) = (slots.get(output), outline.sample) else {
                if name.is_empty() {
                    results.push(Value::Unknown);
                    continue;
                }
                return Ok(None);
            };
            let source = Source::Made(k, output);
            let tensor = self.derived_input(*slot, name, outline, Wanted::Value { source, sample });
            if let Some(why) = &placed {
                self.data_only.placed.insert(tensor.operand, why.clone());
            }
            results.push(Value::Tensor(tensor));
        }
        Ok(Some(results))
    }

    fn derived_input(
        &mut self,
        slot: ValueId,
        name: &str,
        outline: Tensor,
        wanted: Wanted,
    ) -> Tensor {
        self.network.inputs[slot] = Input {
            integer: outline.integer,
            sample_axis: outline.sample.map_or(0, |s| s.axis),
            ..Input::new(name, &outline.rest)
        };
        self.data_only.wanted.insert(slot, wanted);
        Tensor {
            operand: Operand::Value(slot),
            ..outline
        }
    }

    /// The results of a node that is computed on the host: their shapes and samples, and no more.
    fn outlines(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Vec<Tensor>> {
        let integer = makes_integers(node, inputs);
        let mut outlines = match node.op_type() {
            "ArgMax" | "ArgMin" => {
                let x = self.tensor(node, inputs, 0)?;
                let rank = x.rest.len();
                let axis = fold::axis_of(node.int("axis", 0), rank).map_err(Error::Shape)?;
                self.not_over_samples(&x, axis)?;
                let mut outline = x;
                if node.int("keepdims", 1) != 0 {
                    outline.rest[axis] = 1;
                } else {
                    outline.rest.remove(axis);
                    outline.sample = outline
                        .sample
                        .map(|s| if s.axis > axis { s.on(s.axis - 1) } else { s });
                }
                vec![outline]
            }
            "TopK" => {
                let mut outline = self.tensor(node, inputs, 0)?;
                let count = self.host(inputs, 1)?;
                let top = fold::top(node, &outline.rest, count.as_ref());
                let (axis, count) = top.map_err(Error::Shape)?;
                self.not_over_samples(&outline, axis)?;
                outline.rest[axis] = count;
                vec![outline.clone(), outline]
            }
            "BitShift" | "BitwiseAnd" | "BitwiseNot" | "BitwiseOr" | "BitwiseXor" | "Cast"
            | "Ceil" | "Div" | "Floor" | "Mod" | "Pow" | "Round" => {
                let given: Vec<Value> = inputs.iter().flatten().cloned().collect();
                let inputs = (0..given.len()).map(Expr::input);
                let all = inputs.reduce(|sum, x| sum + x);
                let all = all.ok_or_else(|| Error::Shape("it has no operands".into()))?;
                vec![self.pointwise(node, all, &given)?]
            }
            operation if !RULES.contains(&operation) => return refuse(why_not(node)),
            _ => {
                let values = self.lowered(node, inputs)?;
                let tensor = |value| match value {
                    Value::Tensor(tensor) => Ok(tensor),
                    _ => refuse("its result is no tensor"),
                };
                values.into_iter().map(tensor).collect::<Result<_>>()?
            }
        };
        for (k, outline) in outlines.iter_mut().enumerate() {
            outline.integer = integer || node.op_type() == "TopK" && k == 1;
        }
        Ok(outlines)
    }

    /// A list per sample of the entries that a node takes or of the places it puts them, by indices that depend on
    /// the data alone; `None` where they do not, or are not computed on the host.
    pub(in super::super) fn places_of_data(
        &mut self,
        node: &Node,
        selection: &Selection,
    ) -> Option<Operand> {
        let slot = *self.data_only.slots.get(node.proto.output[0].as_str())?;
        let indices = self.source(node.input(1)?)?;
        match indices {
            Source::Known(_) => return None,
            Source::Made(before, _) => {
                let step = self.data_only.steps.get(&before)?;
                if step.blocked.is_some() {
                    return None;
                }
            }
            Source::Given(_) => {}
        }
        let wanted = Wanted::Places {
            node: *self.links.maker.get(node.proto.output[0].as_str())?,
            indices,
            selection: selection.clone(),
        };
        let outline = Tensor {
            operand: Operand::Value(slot),
            rest: vec![selection.count()],
            sample: None,
            integer: true,
        };
        Some(
            self.derived_input(slot, node.name(), outline, wanted)
                .operand,
        )
    }
}
