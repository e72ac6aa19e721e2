//! One node of the file: folded on the host, lowered by its rule, or computed of the data.

use super::super::fold::{self, FOLDED};
use super::super::graph::Node;
use super::super::subgraphs;
use super::super::tensor::Array;
use super::room::elements_walked;
use super::rules::{RULES, why_not};
use super::{Lowering, Tensor, Value, describe, logic, refuse, select};
use crate::error::{Error, Result};
use std::sync::Arc;

impl Lowering<'_> {
    /// Lowers one node; what cannot be taken goes to `problems`.
    pub(super) fn node(&mut self, node: &Node, problems: &mut Vec<String>) -> Result<()> {
        if !subgraphs::conditions(node).all(|(name, value)| self.truth(name) == Some(value)) {
            // Of a branch that is not taken, or is refused where it ends.
            for name in node.proto.output.iter().filter(|o| !o.is_empty()) {
                self.values.insert(name.clone(), Value::Unknown);
            }
            return Ok(());
        }
        if let Some(chosen) = self.branch_taken(node) {
            let places = self.places.get(chosen).cloned();
            let value = self.values.get(chosen).cloned().unwrap_or(Value::Unknown);
            let name = &node.proto.output[0];
            self.values.insert(name.clone(), value);
            self.places
                .extend(places.map(|places| (name.clone(), places)));
            return Ok(());
        }
        let inputs: Vec<Option<Value>> = (0..node.proto.input.len())
            .map(|k| node.input(k).map(|name| self.values[name].clone()))
            .collect();
        // An If that is reached here is not decided, and its values are unknown for that reason alone.
        let unknown =
            node.op_type() != "If" && inputs.iter().flatten().any(|i| matches!(i, Value::Unknown));
        let known = node.standard() && (RULES.contains(&node.op_type()) || folds(&inputs, node));
        // What is taken of constants alone may be one, were it not for what could not be taken before it.
        let blocked = unknown && node.standard() && FOLDED.contains(&node.op_type());
        let results = if unknown && (known || blocked) {
            Ok(vec![])
        } else {
            self.weighted.set(false);
            self.under_choices(node, &inputs)
        };
        match results {
            Ok(results) => {
                for (k, name) in node.proto.output.iter().enumerate() {
                    if name.is_empty() {
                        continue;
                    }
                    let value = results.get(k).cloned().unwrap_or(Value::Unknown);
                    if k >= results.len() && !unknown && self.is_used(name) {
                        problems.push(describe(
                            node,
                            &format!("its output {k} ({name:?}) is used, which is not supported"),
                        ));
                    }
                    let held = self.insert(name, value);
                    held.map_err(|error| match error {
                        Error::Shape(why) => Error::file(&self.graph.path, describe(node, &why)),
                        other => other,
                    })?;
                }
            }
            Err(Error::Unsupported { nodes: why }) => {
                let weighted = known && self.weighted.get();
                self.all_weighted = Some(weighted && self.all_weighted != Some(false));
                problems.extend(why.iter().map(|why| describe(node, why)));
                for name in node.proto.output.iter().filter(|o| !o.is_empty()) {
                    self.values.insert(name.clone(), Value::Unknown);
                }
            }
            Err(Error::Shape(why)) => {
                let why = if why.starts_with("node ") {
                    why
                } else {
                    describe(node, &why)
                };
                return Err(Error::file(&self.graph.path, why));
            }
            Err(other) => return Err(other),
        }
        Ok(())
    }

    /// A truth value that is known, and the same for any number of samples.
    pub(super) fn truth(&self, name: &str) -> Option<bool> {
        match self.values.get(name) {
            Some(Value::Host([one, many])) if one == many => Some(many.scalar()? != 0.0),
            _ => None,
        }
    }

    /// The name of the value that an If gives, where its condition is known.
    pub(super) fn branch_taken<'n>(&self, node: &'n Node) -> Option<&'n str> {
        let ("If", [condition, then, otherwise]) = (node.op_type(), &node.proto.input[..]) else {
            return None;
        };
        Some(if self.truth(condition)? {
            then
        } else {
            otherwise
        })
    }

    /// The results of a node: by its rule, else on the host where it depends on the data alone, else as a choice of
    /// each sample's own entries.
    pub(super) fn computed(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Vec<Value>> {
        let known = node.standard() && (RULES.contains(&node.op_type()) || folds(inputs, node));
        let mark = self.mark();
        let placed = inputs
            .iter()
            .flatten()
            .find_map(|value| self.dependence_on_place(value));
        let shape_alone = matches!(node.op_type(), "Shape" | "Size");
        let ruled = if let (Some(why), false) = (placed, shape_alone) {
            refuse(format!(
                "it reads what depends on a sample's place in its batch, which may only pick the sample's own entries: {why}"
            ))
        } else if known {
            self.rule(node, inputs)
        } else {
            refuse(why_not(node))
        };
        let mut why = match ruled {
            Ok(results) => {
                // On the host integers are exact, where a device's single precision would round large ones.
                if logic::counts(node, inputs)
                    && let Ok(Some(exact)) = self.on_host(node, inputs, &[])
                {
                    self.back_to(&mark);
                    return Ok(exact);
                }
                return Ok(results);
            }
            Err(Error::Unsupported { nodes: why }) => why,
            Err(other) => return Err(other),
        };
        self.back_to(&mark);
        match self.on_host(node, inputs, &why) {
            Ok(Some(results)) => return Ok(results),
            Ok(None) => {}
            Err(Error::Unsupported { nodes: reason }) if !known => why = reason,
            Err(Error::Unsupported { .. }) => {}
            Err(other) => return Err(other),
        }
        let chosen_from = inputs.first().and_then(|x| x.as_ref());
        if select::selects(node)
            && chosen_from.is_none_or(|x| self.dependence_on_place(x).is_none())
        {
            match self.select(node, inputs) {
                Ok(mut tensor) => {
                    tensor.integer = logic::makes_integers(node, inputs);
                    return Ok(vec![Value::Tensor(tensor)]);
                }
                Err(Error::Unsupported { .. }) => self.back_to(&mark),
                Err(other) => return Err(other),
            }
        }
        Err(Error::Unsupported { nodes: why })
    }

    /// The results of a node by the rule of its operation.
    pub(super) fn rule(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Vec<Value>> {
        if let Some(&root) = (node.op_type() == "Identity")
            .then(|| self.roots.by_name.get(&node.proto.output[0]))
            .flatten()
        {
            return Ok(vec![self.root_value(root)]);
        }
        if let ("Shape" | "Size", Some(Some(Value::Tensor(tensor)))) =
            (node.op_type(), inputs.first())
        {
            let [one, many] = self.batch.sizes.map(|size| {
                let shape = tensor.shape(size);
                if node.op_type() == "Size" {
                    Array::ints(&[], vec![shape.iter().product::<usize>() as i64])
                } else {
                    fold::shape_of(node, &shape)
                }
            });
            return Ok(vec![Value::Host([one, many])]);
        }
        if let ("CastLike", [Some(Value::Host(arrays)), Some(Value::Tensor(_))]) =
            (node.op_type(), inputs)
        {
            // Like an activation, whose numbers are reals.
            let real = |a: &Array| {
                if a.is_float() {
                    a.clone()
                } else {
                    Array::reals(&a.shape, a.to_f64(), false)
                }
            };
            return Ok(vec![Value::Host([real(&arrays[0]), real(&arrays[1])])]);
        }
        if folds(inputs, node) {
            return self.fold(node, inputs);
        }
        let mut results = self.lowered(node, inputs)?;
        let integer = logic::makes_integers(node, inputs);
        for result in &mut results {
            if let Value::Tensor(tensor) = result {
                tensor.integer = integer;
            }
        }
        Ok(results)
    }

    /// Lowers a node of which an input is a tensor.
    pub(super) fn lowered(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Vec<Value>> {
        let one = |tensor: Tensor| vec![Value::Tensor(tensor)];
        Ok(match node.op_type() {
            "Gemm" => one(self.gemm(node, inputs)?),
            "MatMul" => one(self.matmul_node(node, inputs)?),
            "Conv" => one(self.conv(node, inputs)?),
            "Col2Im" => one(self.columns_to_image(node, inputs)?),
            "DFT" => one(self.fourier(node, inputs)?),
            "AveragePool" => one(self.average_pool(node, inputs)?),
            "ConvTranspose" => one(self.conv_transpose(node, inputs)?),
            "MaxPool" => one(self.max_pool(node, inputs)?),
            "Pad" => one(self.pad(node, inputs)?),
            "GlobalMaxPool" | "ReduceMax" | "ReduceMin" => one(self.extreme(node, inputs)?),
            "GlobalAveragePool" | "GlobalLpPool" | "ReduceL1" | "ReduceL2" | "ReduceLogSum"
            | "ReduceLogSumExp" | "ReduceMean" | "ReduceSum" | "ReduceSumSquare" => {
                one(self.reduce(node, inputs)?)
            }
            "ReduceProd" => one(self.reduce_product(node, inputs)?),
            "Resize" | "Upsample" => one(self.resize(node, inputs)?),
            "DepthToSpace" | "SpaceToDepth" => one(self.blocks(node, inputs)?),
            "Tile" => one(self.tile(node, inputs)?),
            "BatchNormalization" => one(self.batch_norm(node, inputs)?),
            "Flatten" | "Reshape" => one(self.reshape(node, inputs)?),
            "Squeeze" | "Unsqueeze" => one(self.squeeze(node, inputs)?),
            "Transpose" => one(self.transpose(node, inputs)?),
            "Expand" => one(self.expand(node, inputs)?),
            "Concat" => one(self.concat(node, inputs)?),
            "And" | "Equal" | "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual" | "Not"
            | "Or" | "Xor" => one(self.compare(node, inputs)?),
            "Where" => one(self.choose(node, inputs)?),
            "Cast" | "CastLike" => one(self.cast(node, inputs)?),
            "Identity" | "Dropout" => one(self.identity(node, inputs)?),
            "Gather" => one(self.gather(node, inputs)?),
            "Slice" => one(self.slice(node, inputs)?),
            "GatherElements" => one(self.gather_elements(node, inputs)?),
            "GatherND" => one(self.gather_nd(node, inputs)?),
            "OneHot" => one(self.one_hot(node, inputs)?),
            "Scatter" | "ScatterElements" | "ScatterND" => one(self.select(node, inputs)?),
            "Split" => self.split(node, inputs)?,
            "SplitToSequence" => vec![Value::Sequence(Arc::new(self.split(node, inputs)?))],
            "SequenceAt" => vec![self.sequence_at(inputs)?],
            "SequenceEmpty" => vec![Value::Sequence(Arc::default())],
            "Loop" => self.loop_node(node, inputs)?,
            "ConcatFromSequence" => one(self.concat_sequence(node, inputs)?),
            "If" => {
                return refuse(match inputs.first() {
                    Some(Some(Value::Unknown)) => {
                        "its condition is made by what could not be taken; out of scope is a choice that anything but shapes decides"
                    }
                    _ => {
                        "a choice that depends on values of the data or on the number of samples is out of scope, only one that shapes decide is taken; write it with torch.where in the module"
                    }
                });
            }
            "CumSum" | "Trilu" => one(self.triangular(node, inputs)?),
            "Softmax" | "LogSoftmax" => one(self.softmax_node(node, inputs)?),
            "Attention" => one(self.attention(node, inputs)?),
            "GRU" | "LSTM" | "RNN" => self.recurrent(node, inputs)?,
            "Einsum" => one(self.einsum(node, inputs)?),
            "LayerNormalization" | "RMSNormalization" => one(self.layer_norm(node, inputs)?),
            "GroupNormalization" | "InstanceNormalization" => one(self.group_norm(node, inputs)?),
            "MeanVarianceNormalization" => one(self.mean_variance(node, inputs)?),
            "LpNormalization" => one(self.lp_norm(node, inputs)?),
            "LRN" => one(self.local_response(node, inputs)?),
            "Clip" => one(self.clip(node, inputs)?),
            "Pow" => one(self.power(node, inputs)?),
            _ => vec![self.pointwise_node(node, inputs)?],
        })
    }

    /// Computes a node whose inputs are all known.
    pub(super) fn fold(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Vec<Value>> {
        let at = |k: usize| -> Vec<Option<Array>> {
            let host = |value: &Value| match value {
                Value::Host(arrays) => Some(arrays[k].clone()),
                _ => None,
            };
            inputs.iter().map(|i| i.as_ref().and_then(host)).collect()
        };
        let (one, many) = (at(0), at(1));
        let fault = |why: String| Error::Shape(describe(node, &why));
        self.room.work(fold::products(node, &many))?;
        // A float at the probe size may be large (a mask over the batch); equal inputs are computed once.
        let first = fold::evaluate(node, &one).map_err(fault)?;
        let second = if one == many {
            first.clone()
        } else {
            match fold::evaluate(node, &many) {
                Ok(results) => results,
                Err(why) if self.batch.open => {
                    return refuse(format!(
                        "it can be computed for one sample but not for several ({why}): the exporter wrote the batch of the example input into the file; export with a fixed batch, without dynamic axes"
                    ));
                }
                Err(why) => return Err(fault(why)),
            }
        };
        self.room.work(elements_walked(&many, &second))?;
        Ok(first
            .into_iter()
            .zip(second)
            .map(|(a, b)| Value::Host([a, b]))
            .collect())
    }
}

/// Whether a node is computed at import: its inputs are all known.
fn folds(inputs: &[Option<Value>], node: &Node) -> bool {
    let known: Option<Vec<Option<&Array>>> = inputs
        .iter()
        .map(|input| match input {
            None => Some(None),
            Some(Value::Host(arrays)) => Some(Some(&arrays[1])),
            Some(_) => None,
        })
        .collect();
    known.is_some_and(|known| fold::folds(node, &known))
}
