//! Operations that move elements without changing them.

use super::super::fold;
use super::super::graph::Node;
use super::super::samples::{Sample, locate};
use super::{Lowering, Tensor, Value, refuse};
use crate::error::{Error, Result};
use crate::ops::{Broadcast, Concat, Reshape};
use crate::tensor::broadcast_rest;

pub(super) fn fits<T>(outcome: Result<T, String>) -> Result<T> {
    outcome.map_err(Error::Shape)
}

impl Lowering<'_> {
    /// Flatten, Reshape.
    pub(super) fn reshape(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Tensor> {
        let x = self.tensor(node, inputs, 0)?;
        let mut shapes = Vec::with_capacity(2);
        for (k, batch) in self.batch.sizes.into_iter().enumerate() {
            let from = x.shape(batch);
            shapes.push(match (node.op_type(), inputs.get(1)) {
                ("Flatten", _) => fold::axis_of(node.int("axis", 1), from.len() + 1).map(|axis| {
                    let (a, b) = from.split_at(axis);
                    vec![a.iter().product(), b.iter().product()]
                }),
                (_, Some(Some(Value::Host(arrays)))) => fold::ints(&arrays[k])
                    .and_then(|target| fold::reshape_target(node, &from, target)),
                (_, Some(Some(_))) => {
                    return refuse(
                        "its shape depends on values of the data; reshape to extents that are the same for all samples",
                    );
                }
                _ => Err("its shape is missing".into()),
            });
        }
        let one = shapes.swap_remove(0);
        let many = match shapes.swap_remove(0) {
            Ok(many) => many,
            // A shape baked for the batch of the example input fits no other batch.
            Err(_) if self.batch.open && one.is_ok() => {
                let fixed = one.unwrap_or_default();
                return refuse(format!(
                    "the file leaves the number of samples open, but this shape {fixed:?} holds for one number of them only; reshape by x.shape[0] or -1 in the module, or export it for one sample (an example input of batch 1, without dynamic axes)"
                ));
            }
            Err(why) if self.batch.open => {
                return refuse(format!(
                    "{}; reshape by x.shape[0] or -1 in the module, or export it for one sample (an example input of batch 1, without dynamic axes)",
                    one.err().unwrap_or(why)
                ));
            }
            Err(why) => return Err(Error::Shape(why)),
        };
        let Some(place) = x.sample else {
            if self.batch.open && one.as_ref() != Ok(&many) {
                return refuse(
                    "the shape of a parameter depends on the number of samples, and would not be the same for every sample",
                );
            }
            return self.reshape_to(node, &x, many, None);
        };
        let located = locate(&many, place.elements_before(&x.rest), self.batch.sizes[1]);
        let Some((sample, rest)) = located else {
            return refuse(format!(
                "it reshapes {}{}, which mixes samples: they no longer lie on an axis of their own; keep their axis apart in the module (reshape by x.shape[0])",
                self.spelled(&x),
                one.map_or(String::new(), |one| format!(
                    " to {}",
                    self.growing(&one, &many)
                ))
            ));
        };
        if self.batch.open && one.as_ref() != Ok(&rest) {
            return refuse(
                "its shape does not grow with the number of samples along one axis alone; reshape by x.shape[0] in the module",
            );
        }
        self.reshape_to(node, &x, rest, Some(sample))
    }

    /// Squeeze, Unsqueeze: axes of extent 1 are dropped or put in, and the samples stay on their axis. Without a list
    /// of axes all of extent 1 are dropped, that of the samples not among them, unless the file is for one sample:
    /// then each sample is what is left, as a whole.
    pub(super) fn squeeze(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Tensor> {
        let x = self.tensor(node, inputs, 0)?;
        let operand = match inputs.get(1) {
            Some(Some(Value::Tensor(_))) => return refuse("its axes depend on values of the data"),
            Some(Some(_)) => self.host(inputs, 1)?,
            _ => None,
        };
        let axes = fits(fold::axes_of(node, operand.as_ref()))?;
        let batch = self.batch.sizes[1];
        if node.op_type() == "Unsqueeze" {
            let axes = axes.ok_or_else(|| Error::Shape("its axes are missing".into()))?;
            let rest = fits(fold::unsqueezed(&x.rest, &axes))?;
            let mut new = Vec::with_capacity(axes.len());
            for axis in axes {
                new.push(fits(fold::axis_of(axis, rest.len()))?);
            }
            let mut kept = (0..rest.len()).filter(|axis| !new.contains(axis));
            let sample = x.sample.and_then(|s| Some(s.on(kept.nth(s.axis)?)));
            return self.reshape_to(node, &x, rest, sample);
        }
        let shape = x.shape(batch);
        let mut dropped = Vec::new();
        match axes {
            Some(axes) => {
                for axis in axes {
                    dropped.push(fits(fold::axis_of(axis, shape.len()))?);
                }
            }
            None => dropped.extend((0..shape.len()).filter(|&axis| shape[axis] == 1)),
        }
        if let Some(&axis) = dropped.iter().find(|&&axis| shape[axis] != 1) {
            if x.samples_on(axis) && x.rest[axis] == 1 {
                return refuse(format!(
                    "it drops axis {axis}, which holds the samples, and fits a batch of 1 only; leave it out of the module"
                ));
            }
            return Err(Error::Shape(format!(
                "axis {axis} of extent {} cannot be dropped",
                x.rest[axis]
            )));
        }
        let kept: Vec<usize> = (0..shape.len()).filter(|k| !dropped.contains(k)).collect();
        let rest = kept.iter().map(|&axis| x.rest[axis]).collect();
        let place = |s: Sample| Some(s.on(kept.iter().position(|&axis| axis == s.axis)?));
        self.reshape_to(node, &x, rest, x.sample.and_then(place))
    }

    /// The shape of a tensor in the file, `N` being the number of samples where the file leaves it open.
    pub(super) fn spelled(&self, x: &Tensor) -> String {
        self.growing(&x.rest, &x.shape(self.batch.sizes[1]))
    }

    /// As [`Self::spelled`], from a shape at both batch sizes.
    fn growing(&self, one: &[usize], many: &[usize]) -> String {
        let extent = |(&one, &many): (&usize, &usize)| match one {
            _ if one == many || !self.batch.open => many.to_string(),
            1 => "N".to_string(),
            positions => format!("{positions}·N"),
        };
        let listed: Vec<String> = one.iter().zip(many).map(extent).collect();
        format!("[{}]", listed.join(", "))
    }

    pub(super) fn reshape_to(
        &mut self,
        node: &Node,
        x: &Tensor,
        rest: Vec<usize>,
        sample: Option<Sample>,
    ) -> Result<Tensor> {
        if rest == x.rest {
            return Ok(Tensor {
                sample,
                ..x.clone()
            });
        }
        self.append(node, Reshape { rest }, &[x.operand], sample)
    }

    pub(super) fn transpose(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Tensor> {
        let x = self.tensor(node, inputs, 0)?;
        let order = fits(fold::permutation(node, x.rest.len()))?;
        self.permute(node, &x, &order)
    }

    /// Identity, and Dropout as at inference.
    pub(super) fn identity(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Tensor> {
        if let ("Dropout", Some(Some(Value::Host(flag)))) = (node.op_type(), inputs.get(2))
            && flag[1].scalar() == Some(1.0)
        {
            self.dropouts.push(node.name().to_string());
        }
        self.tensor(node, inputs, 0)
    }

    /// Expand: repetition to a shape.
    pub(super) fn expand(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Tensor> {
        let x = self.tensor(node, inputs, 0)?;
        let Some(Some(Value::Host(targets))) = inputs.get(1) else {
            return refuse("its shape depends on values of the data");
        };
        let mut shapes = Vec::with_capacity(2);
        for (target, batch) in targets.iter().zip(self.batch.sizes) {
            let target = fits(fold::ints(target))?;
            let target = super::super::tensor::extents(target)
                .ok_or_else(|| Error::Shape(format!("its shape {target:?} cannot be")))?;
            let from = x.shape(batch);
            shapes.push(broadcast_rest(&from, &target).ok_or_else(|| {
                Error::Shape(format!("{from:?} cannot be expanded to {target:?}"))
            })?);
        }
        let many = shapes.swap_remove(1);
        let mut rest = many.clone();
        let batch = self.batch.sizes[1];
        let sample = match x.sample {
            Some(sample) => Some(sample.on(sample.axis + many.len() - x.rest.len())),
            None if self.batch.open => (0..many.len())
                .find(|&k| shapes[0][k] != many[k])
                .map(Sample::alone),
            // With a fixed batch a repetition as often as there are samples is one over the samples: if it is
            // not, what follows does not fit and is refused.
            None if batch > 1 => {
                let missing = many.len() - x.rest.len();
                let repeated =
                    |k: usize| many[k] == batch && (k < missing || x.rest[k - missing] == 1);
                (0..many.len()).find(|&k| repeated(k)).map(Sample::alone)
            }
            None => None,
        };
        if let Some(sample) = sample {
            if rest[sample.axis] % batch != 0 {
                return refuse("it repeats along the axis of the samples, and so mixes them");
            }
            rest[sample.axis] /= batch;
        }
        if self.batch.open && rest != shapes[0] {
            return refuse("its shape does not grow with the samples alone");
        }
        if rest == x.rest {
            return Ok(Tensor { sample, ..x });
        }
        self.append(node, Broadcast { rest }, &[x.operand], sample)
    }

    pub(super) fn concat(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Tensor> {
        let given: Vec<Value> = inputs.iter().flatten().cloned().collect();
        let common = self.common_sample(&given)?;
        let mut tensors = Vec::with_capacity(given.len());
        for value in &given {
            tensors.push(match value {
                Value::Host(arrays) => {
                    let array = self.per_sample(arrays, common)?;
                    self.constant(node, &array)?
                }
                Value::Tensor(tensor) => tensor.clone(),
                Value::Sequence(_) | Value::Unknown => {
                    return refuse("an operand is not a number");
                }
            });
        }
        let rank = tensors[0].rest.len();
        let axis = fits(fold::axis_of(node.int("axis", 0), rank))?;
        let sample = common.map(|(back, s)| s.on(rank.saturating_sub(back)));
        if sample.is_some_and(|s| s.axis == axis) {
            return refuse("it joins along the axis of the samples, and so mixes them");
        }
        let operands: Vec<_> = tensors.iter().map(|t| t.operand).collect();
        self.append(node, Concat { axis }, &operands, sample)
    }
}
