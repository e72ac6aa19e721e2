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
    /// Flatten, Reshape, Squeeze, Unsqueeze.
    pub(super) fn reshape(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Tensor> {
        let x = self.tensor(node, inputs, 0)?;
        let mut shapes = Vec::with_capacity(2);
        for (k, batch) in self.batch.sizes.into_iter().enumerate() {
            let operand = match inputs.get(1) {
                Some(Some(Value::Host(arrays))) => Some(&arrays[k]),
                Some(Some(_)) => {
                    return refuse("its shape depends on values of the data");
                }
                _ => None,
            };
            let from = x.shape(batch);
            shapes.push(match node.op_type() {
                "Flatten" => fold::axis_of(node.int("axis", 1), from.len() + 1).map(|axis| {
                    let (a, b) = from.split_at(axis);
                    vec![a.iter().product(), b.iter().product()]
                }),
                "Squeeze" => fold::axes_of(node, operand)
                    .and_then(|axes| fold::squeezed(&from, axes.as_deref())),
                "Unsqueeze" => fold::axes_of(node, operand)
                    .and_then(|axes| fold::unsqueezed(&from, &axes.ok_or("its axes are missing")?)),
                _ => match operand {
                    Some(target) => fold::ints(target)
                        .and_then(|target| fold::reshape_target(node, &from, target)),
                    None => Err("its shape is missing".into()),
                },
            });
        }
        let one = shapes.swap_remove(0);
        let many = match shapes.swap_remove(0) {
            Ok(many) => many,
            // A shape baked for the batch of the example input fits no other batch.
            Err(why) if self.batch.open => {
                return refuse(format!(
                    "{why}: its shape was baked for the batch of the example input; export with a fixed batch, or reshape by x.shape[0]"
                ));
            }
            Err(why) => return Err(Error::Shape(why)),
        };
        let Some(place) = x.sample else {
            if self.batch.open && one.as_ref() != Ok(&many) {
                return refuse("the shape of a parameter depends on the number of samples");
            }
            return self.reshape_to(node, &x, many, None);
        };
        let batch = self.batch.sizes[1];
        let axes = match (node.op_type(), inputs.get(1)) {
            ("Squeeze" | "Unsqueeze", Some(Some(Value::Host(axes)))) => axes[1].as_ints(),
            ("Squeeze" | "Unsqueeze", _) => node.ints("axes"),
            _ => None,
        };
        let Some((sample, rest)) = self.place(node, &x, place, &many, axes) else {
            return refuse(format!(
                "it reshapes {:?} to {many:?}, which mixes samples: {batch} samples no longer lie on an axis of their own",
                x.shape(batch)
            ));
        };
        if self.batch.open && one.as_ref() != Ok(&rest) {
            return refuse(format!(
                "it reshapes to {one:?} for one sample but to {many:?} for {batch}: no axis grows with the samples alone",
            ));
        }
        self.reshape_to(node, &x, rest, Some(sample))
    }

    /// Where a reshape puts the samples.
    fn place(
        &self,
        node: &Node,
        x: &Tensor,
        place: Sample,
        shape: &[usize],
        axes: Option<&[i64]>,
    ) -> Option<(Sample, Vec<usize>)> {
        let batch = self.batch.sizes[1];
        // At batch 1 extents of 1 leave a choice; Squeeze and Unsqueeze say which axis it is.
        if let (1, Some(axes), 1) = (batch, axes, place.before * place.after) {
            let rank = x.rest.len().max(shape.len());
            let changed: Vec<usize> = axes
                .iter()
                .filter_map(|&a| fold::axis_of(a, rank).ok())
                .collect();
            let mut kept = (0..rank).filter(|k| !changed.contains(k));
            let axis = match node.op_type() {
                "Unsqueeze" => kept.nth(place.axis),
                _ => kept.position(|k| k == place.axis),
            };
            if let Some(axis) = axis {
                return Some((Sample::alone(axis), shape.to_vec()));
            }
        }
        locate(shape, place.elements_before(&x.rest), batch)
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
            self.network.warnings.push(format!(
                "node {:?} (Dropout) was exported in training mode; it is left out, as at inference",
                node.name()
            ));
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
                return refuse("it repeats along the samples");
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
