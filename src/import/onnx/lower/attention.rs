//! Softmax on any axis, and attention where an exporter writes it as one node.

use super::super::fold;
use super::super::graph::Node;
use super::super::samples::Sample;
use super::activation::below;
use super::triangle::triangle;
use super::{Array, Lowering, Tensor, Value, refuse};
use crate::error::{Error, Result};
use crate::ops::{Broadcast, Einsum, Reshape};
use crate::tensor::Expr;
use crate::tensor::expression::Unary;
use std::slice::from_ref;

impl Lowering<'_> {
    pub(super) fn softmax_node(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Tensor> {
        let x = self.tensor(node, inputs, 0)?;
        let rank = x.rest.len();
        let log = node.op_type() == "LogSoftmax";
        // Before version 13 all axes from the given one on were taken as one.
        let old = self.graph.opset < 13;
        let default = if old { 1 } else { -1 };
        let axis = fold::axis_of(node.int("axis", default), rank).map_err(Error::Shape)?;
        for k in axis..if old { rank } else { axis + 1 } {
            self.not_over_samples(&x, k)?;
        }
        if !old || x.rest[axis + 1..].iter().all(|&e| e == 1) {
            return self.softmax(node, &x, axis, log);
        }
        let mut flat = x.rest[..axis].to_vec();
        flat.push(x.rest[axis..].iter().product());
        let flat = self.append(node, Reshape { rest: flat }, &[x.operand], x.sample)?;
        let y = self.softmax(node, &flat, axis, log)?;
        let rest = x.rest.clone();
        self.append(node, Reshape { rest }, &[y.operand], x.sample)
    }

    /// softmax(Q·Kᵀ·scale + mask)·V per head, as version 23 of the operations defines it; 0 for a query whose keys are all
    /// masked (as in ONNX's reference implementation of versions 23 to 25, and in PyTorch).
    pub(super) fn attention(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Tensor> {
        let given = |k: usize| inputs.get(k).is_some_and(Option::is_some);
        if given(4) || given(5) || given(6) {
            return refuse(
                "keys and values of earlier calls are not supported; export without a cache",
            );
        }
        let operands: Vec<Value> = inputs.iter().take(3).flatten().cloned().collect();
        self.common_sample(&operands)?;
        let flat = self.tensor(node, inputs, 0)?.rest.len() == 3;
        let heads = |name: &str| usize::try_from(node.int(name, 0)).unwrap_or(0);
        let queries = self.heads(node, inputs, 0, heads("q_num_heads"))?;
        let keys = self.heads(node, inputs, 1, heads("kv_num_heads"))?;
        let values = self.heads(node, inputs, 2, heads("kv_num_heads"))?;
        let [_, many, length, width] = queries.rest[..] else {
            return refuse("its queries should have three or four axes");
        };
        let [_, few, keyed, _] = keys.rest[..] else {
            return refuse("its keys should have three or four axes");
        };
        if few == 0 || many % few != 0 || values.rest[1..3] != keys.rest[1..3] {
            return Err(Error::Shape(format!(
                "queries {:?}, keys {:?} and values {:?} do not fit each other",
                queries.rest, keys.rest, values.rest
            )));
        }
        let keys = self.repeated(node, keys, many)?;
        let values = self.repeated(node, values, many)?;
        let keys = self.permute(node, &keys, &[0, 1, 3, 2])?;
        let scale = node.float("scale", 0.0);
        let scale = if scale == 0.0 {
            1.0 / (width as f64).sqrt()
        } else {
            scale
        };
        let product = [queries.operand, keys.operand];
        // Learned queries have no samples in a file of batch 1.
        let sample = queries.sample.or(keys.sample).or(values.sample);
        let scores = self.append(node, Einsum::matmul(4, 4), &product, sample)?;
        let mut formula = Expr::constant(scale) * Expr::input(0);
        let cap = node.float("softcap", 0.0);
        if cap != 0.0 {
            formula = Expr::constant(cap) * (formula / Expr::constant(cap)).unary(Unary::Tanh);
        }
        let mut operands = vec![Value::Tensor(scores)];
        for mask in self.masks(node, inputs, length, keyed)? {
            formula = formula + Expr::input(operands.len());
            operands.push(mask);
        }
        let scores = self.pointwise(node, formula, &operands)?;
        let mut weights = self.softmax(node, &scores, 3, false)?;
        if self.kinds(weights.operand) != 0 {
            // A query that may attend to nothing gets nothing.
            let x = Expr::input(0);
            let none = Expr::if_less_equal(x.clone(), x.clone(), x, Expr::constant(0.0));
            weights = self.elementwise(node, none, from_ref(&weights), weights.sample)?;
        }
        let product = [weights.operand, values.operand];
        let sample = weights.sample.or(sample);
        let result = self.append(node, Einsum::matmul(4, 4), &product, sample)?;
        if !flat {
            return Ok(result);
        }
        let turned = self.permute(node, &result, &[0, 2, 1, 3])?;
        let rest = vec![turned.rest[0], length, many * turned.rest[3]];
        self.append(node, Reshape { rest }, &[turned.operand], turned.sample)
    }

    /// An operand as `[B, heads, positions, width]`.
    fn heads(
        &mut self,
        node: &Node,
        inputs: &[Option<Value>],
        k: usize,
        heads: usize,
    ) -> Result<Tensor> {
        let x = self.tensor(node, inputs, k)?;
        let shared = x.sample.is_none() && (self.batch.sizes[1] == 1 || x.rest.first() == Some(&1));
        if !shared && x.sample != Some(Sample::alone(0)) {
            return refuse(format!("the samples of its input {k} are not on axis 0"));
        }
        match x.rest[..] {
            [_, _, _, _] => Ok(x),
            [batch, length, width] if heads > 0 && width % heads == 0 => {
                let rest = vec![batch, length, heads, width / heads];
                let split = self.append(node, Reshape { rest }, &[x.operand], x.sample)?;
                self.permute(node, &split, &[0, 2, 1, 3])
            }
            _ => Err(Error::Shape(format!(
                "input {k} of shape {:?} for {heads} heads",
                x.rest
            ))),
        }
    }

    /// Heads of keys or values repeated, each in place, for groups of queries.
    fn repeated(&mut self, node: &Node, x: Tensor, heads: usize) -> Result<Tensor> {
        let few = x.rest[1];
        if few == heads {
            return Ok(x);
        }
        let rest = vec![x.rest[0], few, 1, x.rest[2], x.rest[3]];
        let split = self.append(node, Reshape { rest: rest.clone() }, &[x.operand], x.sample)?;
        let wide = [rest[0], few, heads / few, rest[3], rest[4]].to_vec();
        let wide = self.append(node, Broadcast { rest: wide }, &[split.operand], x.sample)?;
        let rest = vec![rest[0], heads, rest[3], rest[4]];
        self.append(node, Reshape { rest }, &[wide.operand], x.sample)
    }

    /// What is added to the scores: the mask given, and that of the future.
    fn masks(
        &mut self,
        node: &Node,
        inputs: &[Option<Value>],
        length: usize,
        keyed: usize,
    ) -> Result<Vec<Value>> {
        let mut masks = Vec::new();
        // A truth value says what is attended to.
        let hidden = |truth: Expr| {
            let none = Expr::constant(f64::NEG_INFINITY);
            below(&truth, 0.5, none, Expr::constant(0.0))
        };
        match inputs.get(3) {
            Some(Some(Value::Host(arrays))) if !arrays[1].is_float() => {
                masks.push(Value::Host(arrays.clone().map(|array| {
                    let values = array.to_f64();
                    let added = values
                        .iter()
                        .map(|&t| if t == 0.0 { f64::NEG_INFINITY } else { 0.0 });
                    Array::reals(&array.shape, added.collect(), true)
                })));
            }
            Some(Some(Value::Tensor(mask))) if mask.integer => {
                let truth = [Value::Tensor(mask.clone())];
                let mask = self.pointwise(node, hidden(Expr::input(0)), &truth)?;
                masks.push(Value::Tensor(mask));
            }
            Some(Some(mask)) => masks.push(mask.clone()),
            _ => {}
        }
        if node.int("is_causal", 0) != 0 {
            let future = triangle(length, keyed, |query, key| {
                if key <= query { 0.0 } else { f32::NEG_INFINITY }
            })?;
            masks.push(Value::Host([future.clone(), future]));
        }
        Ok(masks)
    }
}
