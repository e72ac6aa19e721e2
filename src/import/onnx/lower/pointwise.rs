//! Everything that acts position by position: bias, residual sums, products, comparisons, constants.

use super::super::fold;
use super::super::graph::Node;
use super::super::samples::Sample;
use super::super::tensor::Array;
use super::activation::{below, extremum};
use super::logic::makes_integers;
use super::{Lowering, Tensor, Value, refuse};
use crate::error::{Error, Result};
use crate::tensor::Expr;

impl Lowering<'_> {
    /// Any pointwise node of the file.
    pub(super) fn pointwise_node(
        &mut self,
        node: &Node,
        inputs: &[Option<Value>],
    ) -> Result<Value> {
        let given: Vec<Value> = inputs.iter().flatten().cloned().collect();
        let (x, y) = (|| Expr::input(0), || Expr::input(1));
        let binary = || match given.len() {
            2 => Ok((x(), y())),
            n => Err(Error::Shape(format!("{n} operands instead of two"))),
        };
        if node.op_type() == "Div" && makes_integers(node, inputs) {
            return refuse("of whole numbers among the data it rounds, which is not supported");
        }
        let expr = match node.op_type() {
            "Add" => {
                let expr = binary().map(|(x, y)| x + y)?;
                let given: Vec<Value> = given.into_iter().map(|v| self.meant(node, v)).collect();
                return Ok(Value::Tensor(self.pointwise(node, expr, &given)?));
            }
            "Sub" => binary().map(|(x, y)| x - y)?,
            "Mul" => binary().map(|(x, y)| x * y)?,
            "Div" => binary().map(|(x, y)| x / y)?,
            "Sum" => return Ok(Value::Tensor(self.chain(node, x() + y(), given)?)),
            "Mean" => {
                let share = Expr::constant(1.0 / given.len() as f64);
                let sum = self.chain(node, x() + y(), given)?;
                let mean = self.pointwise(node, share * x(), &[Value::Tensor(sum)])?;
                return Ok(Value::Tensor(mean));
            }
            "Min" | "Max" => {
                let expr = extremum(node.op_type() == "Max");
                return Ok(Value::Tensor(self.chain(node, expr, given)?));
            }
            "PRelu" => {
                let (x, slope) = binary()?;
                below(&x.clone(), 0.0, slope * x.clone(), x)
            }
            "IsNaN" | "IsInf" => return self.is_special(node, &given),
            _ => return Ok(Value::Tensor(self.activate(node, &given)?)),
        };
        Ok(Value::Tensor(self.pointwise(node, expr, &given)?))
    }

    /// Sum, Min and Max of any number of operands: one pair after another, as a GPU kernel reads few operands.
    fn chain(&mut self, node: &Node, pair: Expr, mut given: Vec<Value>) -> Result<Tensor> {
        // What has samples comes first: it says how many rows a constant baked for the batch has.
        given.sort_by_key(|v| !matches!(v, Value::Tensor(t) if t.sample.is_some()));
        let mut given = given.into_iter();
        let Some(first) = given.next() else {
            return Err(Error::Shape("it has no operands".into()));
        };
        let mut result = self.pointwise(node, Expr::input(0), &[first])?;
        for next in given {
            let operands = [Value::Tensor(result), next];
            result = self.pointwise(node, pair.clone(), &operands)?;
        }
        Ok(result)
    }

    /// How many axes a value has.
    pub(super) fn rank(&self, value: &Value) -> usize {
        match value {
            Value::Tensor(tensor) => tensor.rest.len(),
            Value::Host(arrays) => arrays[1].shape.len(),
            Value::Sequence(_) | Value::Unknown => 0,
        }
    }

    /// Applies a formula to operands that broadcast: scalars become part of it, constants baked for a batch
    /// are cut to one sample, samples must meet samples.
    pub(super) fn pointwise(
        &mut self,
        node: &Node,
        expr: Expr,
        operands: &[Value],
    ) -> Result<Tensor> {
        let rank = operands.iter().map(|v| self.rank(v)).max().unwrap_or(0);
        let sample = self.common_sample(operands)?;
        let tensor_rank = operands
            .iter()
            .filter(|v| matches!(v, Value::Tensor(_)))
            .map(|v| self.rank(v))
            .max();
        let mut tensors: Vec<Tensor> = Vec::new();
        let mut formula = Vec::new();
        let masked = operands.len() > 1;
        for operand in operands {
            match operand {
                Value::Host(arrays) => {
                    if arrays[1].has_nan() {
                        return refuse("a constant holds what is not a number (NaN)");
                    }
                    let scalar = arrays[1].scalar().filter(|_| arrays[0] == arrays[1]);
                    match scalar {
                        Some(value) if Some(arrays[1].shape.len()) <= tensor_rank => {
                            self.note_scalar(value);
                            formula.push(Expr::constant(value));
                            continue;
                        }
                        _ => {
                            let array = self.per_sample(arrays, sample)?;
                            tensors.push(self.constant(node, &array)?);
                        }
                    }
                }
                Value::Tensor(tensor) => {
                    self.shared_by_samples(tensor, sample)?;
                    let tensor = &if masked {
                        self.masking(node, tensor)?
                    } else {
                        tensor.clone()
                    };
                    // Read twice, an operand is one input of the formula, with one derivative.
                    if let Some(k) = tensors.iter().position(|t| t.operand == tensor.operand) {
                        formula.push(Expr::input(k));
                        continue;
                    }
                    tensors.push(tensor.clone());
                }
                Value::Sequence(_) | Value::Unknown => return refuse("an operand is no tensor"),
            }
            formula.push(Expr::input(tensors.len() - 1));
        }
        let expr = expr.substitute(&formula);
        if expr == Expr::input(0) && tensors.len() == 1 {
            return Ok(tensors.remove(0));
        }
        let sample = sample.map(|(back, s)| s.on(rank - back));
        self.elementwise(node, expr, &tensors, sample)
    }

    /// Where the samples sit in all operands, counted from the last axis; refused where they differ.
    pub(super) fn common_sample(&self, operands: &[Value]) -> Result<Option<(usize, Sample)>> {
        let mut common: Option<(usize, Sample)> = None;
        for operand in operands {
            let Value::Tensor(tensor) = operand else {
                continue;
            };
            let Some(sample) = tensor.sample else {
                continue;
            };
            let back = tensor.rest.len() - sample.axis;
            match common {
                None => common = Some((back, sample)),
                Some((place, other))
                    if place == back
                        && (other.before, other.after) == (sample.before, sample.after) => {}
                Some(_) => {
                    return refuse(
                        "the samples of its operands lie on different axes, so it combines samples with each other",
                    );
                }
            }
        }
        Ok(common)
    }

    /// A parameter or what is made of parameters must be the same for all samples.
    fn shared_by_samples(&self, tensor: &Tensor, sample: Option<(usize, Sample)>) -> Result<()> {
        let Some((back, _)) = sample else {
            return Ok(());
        };
        if tensor.sample.is_some() || tensor.rest.len() < back || self.batch.sizes[1] == 1 {
            return Ok(());
        }
        let extent = tensor.rest[tensor.rest.len() - back];
        if extent != 1 {
            // Entries of a vector rather than rows of samples.
            self.weighs(back == 1);
            return refuse(if self.batch.open {
                format!(
                    "a parameter of shape {:?} has {extent} rows along the axis of the samples, whose number the file leaves open; expand it by x.shape[0] in the module, or export it for one sample (an example input of batch 1, without dynamic axes)",
                    tensor.rest
                )
            } else {
                format!(
                    "a parameter of shape {:?} has a row per sample of the example input; export with an example input of batch 1, or with an open batch",
                    tensor.rest
                )
            });
        }
        Ok(())
    }

    /// A constant cut to one sample where it was baked for a batch.
    ///
    /// # Errors
    /// Refused where its rows for different samples differ.
    pub(super) fn per_sample(
        &self,
        arrays: &[Array; 2],
        sample: Option<(usize, Sample)>,
    ) -> Result<Array> {
        let array = &arrays[1];
        let rank = array.shape.len();
        let Some((back, place)) = sample.filter(|(back, _)| *back <= rank) else {
            if arrays[0] != arrays[1] {
                return refuse(
                    "a constant depends on the number of samples, so they do not stand each on its own; make it in the module of what does not (x.shape[0])",
                );
            }
            return Ok(array.clone());
        };
        let axis = rank - back;
        let extent = array.shape[axis];
        if array.len() == 0 {
            return refuse("a constant is empty");
        }
        let varies = || {
            refuse(
                "a constant depends on the number of samples, so they do not stand each on its own; make it in the module of what does not (x.shape[0])",
            )
        };
        if extent == 1 {
            return if arrays[0] == arrays[1] {
                Ok(array.clone())
            } else {
                varies()
            };
        }
        let positions = place.before * place.after;
        let mut batch = self.batch.sizes[1];
        if batch.checked_mul(positions) != Some(extent) {
            // Baked for the batch of the example input although the file leaves the batch open.
            if positions != 1 || !self.batch.open {
                return refuse(format!(
                    "a constant of shape {:?} has {extent} rows along the samples, which does not fit",
                    array.shape
                ));
            }
            batch = extent;
        }
        let mut split = array.shape.clone();
        split.splice(axis..=axis, [place.before, batch, place.after]);
        let array = array.reshaped(&split);
        let first = fold::cut(&array, axis + 1, 0, 1);
        let repeated =
            fold::expand(&first, &split).map_err(|why| Error::Unsupported { nodes: vec![why] })?;
        let mut shape = arrays[1].shape.clone();
        shape[axis] = positions;
        let first = first.reshaped(&shape);
        if repeated != array {
            if self.may_differ() {
                return Ok(first);
            }
            return refuse(format!(
                "a constant of shape {:?} differs between the samples of a batch, so that what a sample gives depends on its place there; leave out what numbers the samples",
                arrays[1].shape
            ));
        }
        // What the file makes for one sample must be that row, unless it was baked for a batch.
        if arrays[0] != arrays[1] && arrays[0] != first {
            return varies();
        }
        Ok(first)
    }
}
