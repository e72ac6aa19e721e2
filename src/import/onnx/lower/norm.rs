//! Norms: evaluated batch norm, and those that take their statistics of the sample itself, composed of sums and
//! elementwise formulas.

use super::super::fold;
use super::super::graph::Node;
use super::{Array, Lowering, Sample, Tensor, Value, check_finite, refuse};
use crate::error::{Error, Result};
use crate::ops::{ReduceSum, Reshape, WindowSum};
use crate::tensor::expression::Unary;
use crate::tensor::{Expr, Window};
use std::slice::from_ref;

/// The channels of a batch norm.
struct Channels {
    count: usize,
    /// The shape of an operand with an entry for each channel, that it meets the data in.
    shape: Vec<usize>,
    /// The samples of such an operand, where they share the axis with the channels: an instance norm with running
    /// statistics has [1, samples · channels, …], and its operands as often as there are samples.
    merged: Option<Sample>,
}

impl Channels {
    /// The error of an operand that has not one entry for each channel.
    fn misfit(&self, k: usize, rest: &[usize]) -> Error {
        Error::Shape(format!(
            "input {k} of shape {rest:?} for {} channels",
            self.count
        ))
    }
}

/// What a norm takes its statistics over.
struct Statistics<'a> {
    axes: &'a [usize],
    /// Whether it takes the mean off.
    centred: bool,
}

impl Lowering<'_> {
    /// (x − mean)·scale/√(variance + ε) + shift, with the statistics of the file.
    pub(super) fn batch_norm(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Tensor> {
        if let Some(sign) = self.training_mode(node) {
            return refuse(format!(
                "it was exported in training mode ({sign}), where it mixes samples; call model.eval() before the export"
            ));
        }
        let x = self.tensor(node, inputs, 0)?;
        if x.rest.len() < 2 {
            return Err(Error::Shape(format!(
                "a norm over channels of {:?}",
                x.rest
            )));
        }
        // Samples that share the axis with channels are normed one by one.
        if x.sample
            .is_some_and(|s| s.axis == 1 && s.before * s.after == 1)
        {
            self.weighs(true);
            self.not_over_samples(&x, 1)?;
        }
        let mut shape = vec![x.rest[1]];
        shape.resize(x.rest.len() - 1, 1);
        let channels = Channels {
            count: x.rest[1],
            shape,
            merged: x.sample.filter(|s| s.axis == 1).map(|s| s.on(0)),
        };
        let mut operands = vec![Value::Tensor(x.clone())];
        for k in 1..=4 {
            operands.push(Value::Tensor(match k {
                1 | 2 => self.scale_or_shift(node, inputs, k, &channels, &x)?,
                _ => self.statistic(node, inputs, k, &channels)?,
            }));
        }
        let x = Expr::input;
        self.pointwise(node, (x(0) - x(3)) * x(4) * x(1) + x(2), &operands)
    }

    /// Scale or shift of a batch norm of `x`, shaped to meet it.
    fn scale_or_shift(
        &mut self,
        node: &Node,
        inputs: &[Option<Value>],
        k: usize,
        channels: &Channels,
        x: &Tensor,
    ) -> Result<Tensor> {
        let sample = channels.merged;
        let tensor = match self.of_merged(inputs, k, channels)? {
            Some(array) => Tensor {
                sample,
                ..self.constant(node, &array)?
            },
            None => self.tensor(node, inputs, k)?,
        };
        if self.depends(&tensor) && tensor.sample != sample {
            return refuse(format!("its input {k} depends on the data"));
        }
        if tensor.rest != [channels.count] {
            if tensor.sample.is_none() {
                self.not_over_samples(x, 1)?;
            }
            return Err(channels.misfit(k, &tensor.rest));
        }
        if channels.shape.len() == 1 {
            return Ok(tensor);
        }
        let rest = channels.shape.clone();
        self.append(node, Reshape { rest }, &[tensor.operand], tensor.sample)
    }

    /// Mean (input 3) of a batch norm, or 1/√(variance + ε) (input 4), shaped to meet its data.
    fn statistic(
        &mut self,
        node: &Node,
        inputs: &[Option<Value>],
        k: usize,
        channels: &Channels,
    ) -> Result<Tensor> {
        // A statistic is a constant even where the exporter gave it the name of an equal scale.
        let array = match self.of_merged(inputs, k, channels)? {
            Some(array) => Some(array),
            None => self.host(inputs, k)?,
        };
        let mut array = array.ok_or_else(|| Error::Shape(format!("input {k} is missing")))?;
        if array.shape != [channels.count] {
            return Err(channels.misfit(k, &array.shape));
        }
        check_finite(self.graph, node.name(), &array.to_host())?;
        if k == 4 {
            let epsilon = node.float("epsilon", 1e-5);
            let values = array.to_f64();
            let inverse = values.iter().map(|v| 1.0 / (v + epsilon).sqrt());
            array = Array::reals(&array.shape, inverse.collect(), true);
        }
        let constant = self.constant(node, &array.reshaped(&channels.shape))?;
        Ok(Tensor {
            sample: channels.merged,
            ..constant
        })
    }

    /// A known operand of a batch norm whose samples share the axis with the channels: its part of one sample. `None` for
    /// any other.
    fn of_merged(
        &self,
        inputs: &[Option<Value>],
        k: usize,
        channels: &Channels,
    ) -> Result<Option<Array>> {
        match (inputs.get(k), channels.merged) {
            (Some(Some(Value::Host(arrays))), Some(sample)) => {
                self.per_sample(arrays, Some((1, sample))).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The sign of a batch norm's training mode, where it has one.
    ///
    /// From version 14 of the operations on it is the attribute `training_mode`. Before, further outputs made the
    /// difference; but files in evaluation mode have them too, so they count only where one is used, or has the
    /// name that PyTorch gives them in training mode. Of others the statistics of the file are taken, and said to be.
    fn training_mode(&mut self, node: &Node) -> Option<String> {
        if node.int("training_mode", 0) != 0 {
            return Some("training_mode = 1".into());
        }
        let further = node.proto.output.iter().skip(1);
        let mut further = further.filter(|name| !name.is_empty()).peekable();
        further.peek()?;
        let dead = |name: &&String| name.starts_with("batch_norm_dead_output");
        if let Some(name) = further
            .clone()
            .find(|name| self.is_used(name) || dead(name))
        {
            return Some(format!("it makes the output {name:?}"));
        }
        self.network.warnings.push(format!(
            "node {:?} (BatchNormalization) makes outputs of training mode that nothing uses; it is taken as in evaluation mode, with the file's running statistics",
            node.name()
        ));
        None
    }

    /// (x − mean)/(σ + 10⁻⁹) over `axes`, with σ² the mean of the squared deviations.
    pub(super) fn mean_variance(
        &mut self,
        node: &Node,
        inputs: &[Option<Value>],
    ) -> Result<Tensor> {
        let x = self.tensor(node, inputs, 0)?;
        let rank = x.rest.len();
        let mut axes = Vec::new();
        for &axis in node.ints("axes").unwrap_or(&[0, 2, 3]) {
            let axis = fold::axis_of(axis, rank).map_err(Error::Shape)?;
            self.not_over_samples(&x, axis)?;
            if !axes.contains(&axis) {
                axes.push(axis);
            }
        }
        if axes.is_empty() {
            return refuse("it has no axes to take statistics over");
        }
        let deviation = |variance: Expr| variance.unary(Unary::Sqrt) + Expr::constant(1e-9);
        let over = Statistics {
            axes: &axes,
            centred: true,
        };
        self.normalize_by(node, &x, &over, deviation, &[])
    }

    /// Layer and RMS norm: over the axes from `axis` on.
    pub(super) fn layer_norm(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Tensor> {
        let x = self.tensor(node, inputs, 0)?;
        let axis = fold::axis_of(node.int("axis", -1), x.rest.len()).map_err(Error::Shape)?;
        let axes: Vec<usize> = (axis..x.rest.len()).collect();
        let over = Statistics {
            axes: &axes,
            centred: node.op_type() == "LayerNormalization",
        };
        let affine: Vec<Value> = inputs.iter().skip(1).flatten().cloned().collect();
        self.normalize(node, &x, &over, 1e-5, &affine)
    }

    /// Group and instance norm: over the channels of a group and all positions.
    pub(super) fn group_norm(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Tensor> {
        let x = self.tensor(node, inputs, 0)?;
        let rank = x.rest.len();
        if rank < 3 {
            return Err(Error::Shape(format!(
                "a norm over the positions of {:?}, which has none",
                x.rest
            )));
        }
        self.not_over_samples(&x, 1)?;
        let channels = x.rest[1];
        let instance = node.op_type() == "InstanceNormalization";
        let groups = if instance {
            channels
        } else {
            usize::try_from(node.int("num_groups", 0))
                .ok()
                .filter(|&g| g > 0 && channels % g == 0)
                .ok_or_else(|| {
                    Error::Shape(format!("its num_groups cannot be, for {channels} channels"))
                })?
        };
        // [B, C, …] as [B, groups, C / groups, …]; the extent of one channel per group stays as it is.
        let each = channels / groups;
        let mut grouped = x.rest.clone();
        grouped.splice(1..2, [groups, each]);
        let sample = x
            .sample
            .map(|s| if s.axis > 1 { s.on(s.axis + 1) } else { s });
        let y = self.append(node, Reshape { rest: grouped }, &[x.operand], sample)?;
        let axes: Vec<usize> = (2..=rank).collect();
        let mut affine = Vec::with_capacity(2);
        for k in 1..=2 {
            let given = self.tensor(node, inputs, k)?;
            if self.depends(&given) {
                return refuse(format!("its input {k} depends on the data"));
            }
            // Before version 21 a group had one scale and shift.
            let mut shape = match given.rest[..] {
                [n] if n == channels => vec![groups, each],
                [n] if n == groups => vec![groups, 1],
                _ => {
                    return Err(Error::Shape(format!(
                        "input {k} of shape {:?} for {channels} channels in {groups} groups",
                        given.rest
                    )));
                }
            };
            shape.resize(rank, 1);
            let shaped = self.append(node, Reshape { rest: shape }, &[given.operand], None)?;
            affine.push(Value::Tensor(shaped));
        }
        let over = Statistics {
            axes: &axes,
            centred: true,
        };
        let y = self.normalize(node, &y, &over, 1e-5, &affine)?;
        let rest = x.rest.clone();
        self.append(node, Reshape { rest }, &[y.operand], x.sample)
    }

    /// (x − mean)/√(variance + ε)·scale + shift with the statistics over `over.axes`; without the mean where
    /// it is not `over.centred`. `affine` is scale and shift, as far as they are given.
    fn normalize(
        &mut self,
        node: &Node,
        x: &Tensor,
        over: &Statistics<'_>,
        epsilon: f32,
        affine: &[Value],
    ) -> Result<Tensor> {
        let epsilon = Expr::constant(node.float("epsilon", epsilon));
        let deviation = |variance: Expr| (variance + epsilon).unary(Unary::Sqrt);
        self.normalize_by(node, x, over, deviation, affine)
    }

    /// As [`Self::normalize`], over any function of the variance.
    fn normalize_by(
        &mut self,
        node: &Node,
        x: &Tensor,
        over: &Statistics<'_>,
        deviation: impl FnOnce(Expr) -> Expr,
        affine: &[Value],
    ) -> Result<Tensor> {
        let Statistics { axes, centred } = *over;
        for &axis in axes {
            self.weighs(!affine.is_empty() && x.samples_on(axis));
            self.not_over_samples(x, axis)?;
        }
        let share = 1.0 / axes.iter().map(|&a| x.rest[a] as f64).product::<f64>();
        let input = Expr::input;
        let sum_over = || ReduceSum {
            axes: axes.to_vec(),
            keep: true,
        };
        let y = if centred {
            let sum = self.append(node, sum_over(), &[x.operand], x.sample)?;
            let centre = input(0) - Expr::constant(share) * input(1);
            self.elementwise(node, centre, &[x.clone(), sum], x.sample)?
        } else {
            x.clone()
        };
        let square = self.elementwise(node, input(0) * input(0), from_ref(&y), x.sample)?;
        let squares = self.append(node, sum_over(), &[square.operand], x.sample)?;
        let mut formula = input(0) / deviation(Expr::constant(share) * input(1));
        if !affine.is_empty() {
            formula = formula * input(2);
        }
        if affine.len() > 1 {
            formula = formula + input(3);
        }
        let mut operands = vec![Value::Tensor(y), Value::Tensor(squares)];
        operands.extend_from_slice(affine);
        self.pointwise(node, formula, &operands)
    }

    /// x over its norm along an axis.
    pub(super) fn lp_norm(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Tensor> {
        let x = self.tensor(node, inputs, 0)?;
        let axis = fold::axis_of(node.int("axis", -1), x.rest.len()).map_err(Error::Shape)?;
        self.not_over_samples(&x, axis)?;
        let input = Expr::input;
        let (measure, norm) = match node.int("p", 2) {
            1 => {
                let size = Expr::if_less_equal(Expr::constant(0.0), input(0), input(0), -input(0));
                (size, input(1))
            }
            2 => (input(0) * input(0), input(1).unary(Unary::Sqrt)),
            p => return refuse(format!("norms of order 1 and 2 are supported, not {p}")),
        };
        let measured = self.elementwise(node, measure, from_ref(&x), x.sample)?;
        let sum = ReduceSum {
            axes: vec![axis],
            keep: true,
        };
        let sum = self.append(node, sum, &[measured.operand], x.sample)?;
        self.elementwise(node, input(0) / norm, &[x.clone(), sum], x.sample)
    }

    /// x / (bias + α/size·Σ x²)^β, the sum over neighbouring channels.
    pub(super) fn local_response(
        &mut self,
        node: &Node,
        inputs: &[Option<Value>],
    ) -> Result<Tensor> {
        let x = self.tensor(node, inputs, 0)?;
        let rank = x.rest.len();
        let size = usize::try_from(node.int("size", 0)).unwrap_or(0);
        if rank < 2 || size == 0 || size > x.rest[1].saturating_mul(2) {
            return Err(Error::Shape(format!(
                "a window of {size} channels of {:?}",
                x.rest
            )));
        }
        if rank > 4 {
            return refuse("it is supported over up to two axes of positions");
        }
        self.not_over_samples(&x, 1)?;
        let input = Expr::input;
        let square = self.elementwise(node, input(0) * input(0), from_ref(&x), x.sample)?;
        let extents = x.rest[1..].to_vec();
        let along = |first: usize, others: usize| {
            let mut all = vec![others; extents.len()];
            all[0] = first;
            all
        };
        let window = Window {
            kernel: along(size, 1),
            stride: along(1, 1),
            dilation: along(1, 1),
            padding: along((size - 1) / 2, 0),
            output: extents.clone(),
            input: extents.clone(),
        };
        let sum = self.append(node, WindowSum { window }, &[square.operand], x.sample)?;
        let constant = Expr::constant;
        let share = node.float("alpha", 1e-4) / size as f64;
        let base = constant(node.float("bias", 1.0)) + constant(share) * input(1);
        let formula = input(0) / base.power(constant(node.float("beta", 0.75)));
        self.elementwise(node, formula, &[x.clone(), sum], x.sample)
    }
}
