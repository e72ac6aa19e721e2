//! Everything that acts position by position: activations, bias, residual sums, products, constants.

use super::super::fold;
use super::super::graph::Node;
use super::super::samples::Sample;
use super::super::tensor::Array;
use super::{Lowering, Tensor, Value, refuse};
use crate::error::{Error, Result};
use crate::tensor::Expr;
use crate::tensor::expression::Unary;

/// `if x ≤ bound { then } else { otherwise }`.
fn below(x: &Expr, bound: f64, then: Expr, otherwise: Expr) -> Expr {
    Expr::if_less_equal(x.clone(), Expr::constant(bound), then, otherwise)
}

/// The formula of an activation, with PyTorch's choice at every kink.
fn activation(node: &Node) -> Option<Expr> {
    let x = Expr::input(0);
    let constant = Expr::constant;
    let unary = |function| Expr::input(0).unary(function);
    Some(match node.op_type() {
        "Relu" => below(&x, 0.0, constant(0.0), x.clone()),
        "Tanh" => unary(Unary::Tanh),
        "Sigmoid" => unary(Unary::Sigmoid),
        "Softplus" => unary(Unary::Softplus),
        "Exp" => unary(Unary::Exp),
        "Log" => unary(Unary::Log),
        "Sqrt" => unary(Unary::Sqrt),
        "Reciprocal" => unary(Unary::Reciprocal),
        "Neg" => -x,
        "LeakyRelu" => {
            let alpha = constant(node.float("alpha", 0.01));
            below(&x, 0.0, alpha * x.clone(), x.clone())
        }
        "Elu" => {
            let alpha = constant(node.float("alpha", 1.0));
            below(&x, 0.0, alpha * unary(Unary::ExpM1), x.clone())
        }
        "Celu" => {
            let alpha = constant(node.float("alpha", 1.0));
            let low = alpha.clone() * (x.clone() / alpha).unary(Unary::ExpM1);
            below(&x, 0.0, low, x.clone())
        }
        "Selu" => {
            let alpha = constant(node.float("alpha", 1.673_263_2));
            let gamma = constant(node.float("gamma", 1.050_701));
            let low = gamma.clone() * alpha * unary(Unary::ExpM1);
            below(&x, 0.0, low, gamma * x.clone())
        }
        "HardSigmoid" => {
            let line = constant(node.float("alpha", 0.2)) * x + constant(node.float("beta", 0.5));
            let top = Expr::if_less_equal(constant(1.0), line.clone(), constant(1.0), line.clone());
            below(&line, 0.0, constant(0.0), top)
        }
        "HardSwish" => {
            // Its derivative is 0 at −3 and 1 at 3.
            let middle = x.clone() * (x.clone() + constant(3.0)) / constant(6.0);
            let top = Expr::if_less_equal(constant(3.0), x.clone(), x.clone(), middle);
            below(&x, -3.0, constant(0.0), top)
        }
        "Abs" => {
            // sign(0) = 0.
            let at_zero = Expr::if_less_equal(constant(0.0), x.clone(), constant(0.0), -x.clone());
            below(&x, 0.0, at_zero, x.clone())
        }
        "Softsign" => {
            let one = || constant(1.0);
            below(
                &x,
                0.0,
                x.clone() / (one() - x.clone()),
                x.clone() / (one() + x.clone()),
            )
        }
        _ => return None,
    })
}

impl Lowering<'_> {
    /// Any pointwise node of the file.
    pub(super) fn pointwise_node(
        &mut self,
        node: &Node,
        inputs: &[Option<Value>],
    ) -> Result<Value> {
        let given: Vec<Value> = inputs.iter().flatten().cloned().collect();
        let binary = || match given.len() {
            2 => Ok((Expr::input(0), Expr::input(1))),
            n => Err(Error::Shape(format!("{n} operands instead of two"))),
        };
        let expr = match node.op_type() {
            "Add" => binary().map(|(x, y)| x + y)?,
            "Sub" => binary().map(|(x, y)| x - y)?,
            "Mul" => binary().map(|(x, y)| x * y)?,
            "Div" => binary().map(|(x, y)| x / y)?,
            "Sum" => return Ok(Value::Tensor(self.sum(node, given)?)),
            "PRelu" => {
                let (x, slope) = binary()?;
                below(&x.clone(), 0.0, slope * x.clone(), x)
            }
            "Pow" => return Ok(Value::Tensor(self.power(node, inputs)?)),
            "Clip" => return Ok(Value::Tensor(self.clip(node, inputs)?)),
            _ => match activation(node) {
                Some(expr) if given.len() == 1 => expr,
                _ => {
                    return Err(Error::Shape(format!(
                        "{} operands instead of one",
                        given.len()
                    )));
                }
            },
        };
        Ok(Value::Tensor(self.pointwise(node, expr, &given)?))
    }

    /// Sum: one addition after another, as a GPU kernel reads few operands.
    fn sum(&mut self, node: &Node, mut given: Vec<Value>) -> Result<Tensor> {
        // What has samples comes first: it says how many rows a constant baked for the batch has.
        given.sort_by_key(|v| !matches!(v, Value::Tensor(t) if t.sample.is_some()));
        let mut given = given.into_iter();
        let Some(first) = given.next() else {
            return Err(Error::Shape("it has no operands".into()));
        };
        let mut sum = self.pointwise(node, Expr::input(0), &[first])?;
        for next in given {
            let operands = [Value::Tensor(sum), next];
            sum = self.pointwise(node, Expr::input(0) + Expr::input(1), &operands)?;
        }
        Ok(sum)
    }

    fn power(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Tensor> {
        let exponent = self.host(inputs, 1)?.and_then(|e| e.scalar());
        let x = Expr::input(0);
        let expr = match exponent {
            Some(1.0) => x,
            Some(2.0) => x.clone() * x,
            Some(3.0) => x.clone() * x.clone() * x,
            Some(0.5) => x.unary(Unary::Sqrt),
            Some(-1.0) => x.unary(Unary::Reciprocal),
            other => {
                return refuse(format!(
                    "powers 1, 2, 3, 0.5 and -1 are supported, not {other:?}"
                ));
            }
        };
        let base = inputs.first().cloned().flatten();
        let base = base.ok_or_else(|| Error::Shape("input 0 is missing".into()))?;
        self.pointwise(node, expr, &[base])
    }

    fn clip(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Tensor> {
        let bound = |k: usize, name: &str, open: f64| -> Result<f64> {
            match self.host(inputs, k)? {
                Some(array) => match array.scalar() {
                    Some(value) => Ok(value),
                    None => refuse("its bounds should be scalars"),
                },
                None => Ok(node.attribute(name).map_or(open, |a| a.f.into())),
            }
        };
        let low = bound(1, "min", f64::NEG_INFINITY)?;
        let high = bound(2, "max", f64::INFINITY)?;
        let x = Expr::input(0);
        let constant = Expr::constant;
        // The derivative is 0 at the bounds too.
        let mut expr = x.clone();
        if high < f64::INFINITY {
            expr = Expr::if_less_equal(constant(high), x.clone(), constant(high), expr);
        }
        if low > f64::NEG_INFINITY {
            expr = below(&x, low, constant(low), expr);
        }
        let base = inputs.first().cloned().flatten();
        let base = base.ok_or_else(|| Error::Shape("input 0 is missing".into()))?;
        self.pointwise(node, expr, &[base])
    }

    /// Applies a formula to operands that broadcast: scalars become part of it, constants baked for a batch
    /// are cut to one sample, samples must meet samples.
    pub(super) fn pointwise(
        &mut self,
        node: &Node,
        expr: Expr,
        operands: &[Value],
    ) -> Result<Tensor> {
        let rank_of = |value: &Value| match value {
            Value::Tensor(t) => t.rest.len(),
            Value::Host(arrays) => arrays[1].shape.len(),
            Value::Sequence(_) | Value::Unknown => 0,
        };
        let rank = operands.iter().map(rank_of).max().unwrap_or(0);
        let sample = self.common_sample(operands)?;
        let tensor_rank = operands
            .iter()
            .filter(|v| matches!(v, Value::Tensor(_)))
            .map(rank_of)
            .max();
        let mut tensors: Vec<Tensor> = Vec::new();
        let mut formula = Vec::new();
        for operand in operands {
            match operand {
                Value::Host(arrays) => {
                    let scalar = arrays[1].scalar().filter(|_| arrays[0] == arrays[1]);
                    match scalar {
                        Some(value) if Some(arrays[1].shape.len()) <= tensor_rank => {
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
            return refuse(format!(
                "a parameter of shape {:?} has a row per sample of the exported batch; export with batch 1 or an open batch",
                tensor.rest
            ));
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
                return refuse("a constant depends on the number of samples");
            }
            return Ok(array.clone());
        };
        let axis = rank - back;
        let extent = array.shape[axis];
        if array.len() == 0 {
            return refuse("a constant is empty");
        }
        if extent == 1 {
            return Ok(array.clone());
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
        let repeated = fold::expand(&first, &split).map_err(|why| Error::Unsupported(vec![why]))?;
        if repeated != array {
            return refuse(format!(
                "a constant of shape {:?} differs between the samples of the exported batch; export with an open batch",
                arrays[1].shape
            ));
        }
        let mut shape = arrays[1].shape.clone();
        shape[axis] = positions;
        Ok(first.reshaped(&shape))
    }
}
