//! Networks written in Rust, layer after layer; the same [`Network`] an importer makes.
//!
//! ```
//! use hessblock::network::builder::{Builder, Window2d};
//! // LeNet-5 on 28 × 28 images.
//! let network = Builder::new(&[1, 28, 28])
//!     .conv2d("conv1", 6, Window2d::new(5).padding(2)).tanh().max_pool2d(Window2d::new(2).stride(2))
//!     .conv2d("conv2", 16, Window2d::new(5)).tanh().max_pool2d(Window2d::new(2).stride(2))
//!     .flatten()
//!     .linear("fc1", 120).tanh()
//!     .linear("fc2", 84).tanh()
//!     .linear("fc3", 10)
//!     .initialize(7)
//!     .build()?;
//! assert_eq!(network.parameter_count(), 61_706);
//! assert_eq!(network.layers()[0].name, "conv1");
//! # Ok::<(), hessblock::Error>(())
//! ```

mod activations;
mod draw;
mod window;

pub use window::Window2d;

use draw::uniform;

use super::{Input, Network, Operand, Parameter, ValueId};
use crate::error::{Error, Result};
use crate::ops::{Conv, Elementwise, Linear, MaxPool, Op, ReduceSum, Reshape, WindowSum};
use crate::tensor::{Expr, HostArray};

/// Builds a network; every method continues from the result of the one before.
///
/// The first mistake (a shape that does not fit, a name used twice) is kept and returned by
/// [`Builder::build`]. A layer `name` has the parameters `name.weight` and `name.bias`.
///
/// ```
/// use hessblock::network::builder::Builder;
/// let network = Builder::new(&[3]).linear("fc1", 4).tanh().linear("fc2", 2).initialize(0).build()?;
/// assert_eq!((network.parameter_count(), network.outputs()), (26, 2));
/// // Two layers may not have the same name.
/// let error = Builder::new(&[3]).linear("fc", 4).linear("fc", 2).initialize(0).build();
/// assert!(error.is_err());
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Debug)]
pub struct Builder {
    network: Network,
    current: ValueId,
    marks: Vec<(String, ValueId)>,
    /// Per parameter, how many inputs and outputs one entry of its layer's output has; `None` once given.
    fans: Vec<Option<(usize, usize)>>,
    fault: Option<Error>,
}

impl Builder {
    /// Starts with the shape of one sample, without the sample axis.
    pub fn new(input_shape: &[usize]) -> Self {
        let mut rest = vec![1];
        rest.extend_from_slice(input_shape);
        Self {
            network: Network {
                inputs: vec![Input::new("input", &rest)],
                ..Network::default()
            },
            current: 0,
            marks: Vec::new(),
            fans: Vec::new(),
            fault: None,
        }
    }

    /// z = W·x + b on the last axis; W is `[outputs, inputs]`.
    pub fn linear(self, name: &str, outputs: usize) -> Self {
        self.affine(name, outputs, true)
    }

    /// z = W·x without a bias.
    pub fn linear_without_bias(self, name: &str, outputs: usize) -> Self {
        self.affine(name, outputs, false)
    }

    fn affine(self, name: &str, outputs: usize, bias: bool) -> Self {
        self.then(|b| {
            let inputs = *b.rest().last().expect("a rest has the sample axis");
            let fan = (inputs, outputs);
            let weight = b.parameter(
                &format!("{name}.weight"),
                name,
                &[outputs, inputs],
                Some(fan),
            )?;
            let op = Linear {
                outputs_first: true,
            };
            b.append(name, "Gemm", op, &[Operand::Value(b.current), weight])?;
            if bias {
                let bias = b.parameter(&format!("{name}.bias"), name, &[outputs], Some((0, 0)))?;
                b.pointwise(name, "Gemm", Expr::input(0) + Expr::input(1), &[bias])?;
            }
            Ok(())
        })
    }

    /// A convolution with bias over `[channels, height, width]`; its weight is
    /// `[channels, inputs / groups, kernel, kernel]`.
    pub fn conv2d(self, name: &str, channels: usize, window: Window2d) -> Self {
        self.convolution(name, channels, window, true)
    }

    /// A convolution without a bias.
    pub fn conv2d_without_bias(self, name: &str, channels: usize, window: Window2d) -> Self {
        self.convolution(name, channels, window, false)
    }

    fn convolution(self, name: &str, channels: usize, window: Window2d, bias: bool) -> Self {
        self.then(|b| {
            let [_, inputs, height, width] = b.rest()[..] else {
                return Err(Error::Shape(format!(
                    "layer {name:?}: a convolution needs [channels, height, width], not {:?}",
                    &b.rest()[1..]
                )));
            };
            if window.groups == 0 || inputs % window.groups != 0 {
                return Err(Error::Shape(format!(
                    "layer {name:?}: {inputs} channels in {} groups",
                    window.groups
                )));
            }
            let geometry = window.over(&[height, width])?;
            let shape = [
                channels,
                inputs / window.groups,
                window.kernel,
                window.kernel,
            ];
            let taps = window.kernel * window.kernel;
            let fan = (shape[1] * taps, channels / window.groups * taps);
            let weight = b.parameter(&format!("{name}.weight"), name, &shape, Some(fan))?;
            let op = Conv {
                window: geometry,
                groups: window.groups,
            };
            b.append(name, "Conv", op, &[Operand::Value(b.current), weight])?;
            if !bias {
                return Ok(());
            }
            let bias = b.parameter(&format!("{name}.bias"), name, &[channels], Some((0, 0)))?;
            let bias = b.per_channel(name, "Conv", channels, bias)?;
            b.pointwise(name, "Conv", Expr::input(0) + Expr::input(1), &[bias])
        })
    }

    /// A batch norm in evaluation mode over `[channels, height, width]`, as it is before any training:
    /// x/√(1 + 10⁻⁵)·scale + shift, the mean 0 and the variance 1. The scale `name.weight` starts at 1, the shift
    /// `name.bias` at 0.
    pub fn batch_norm2d(self, name: &str) -> Self {
        self.then(|b| {
            let [_, channels, _, _] = b.rest()[..] else {
                return Err(Error::Shape(format!(
                    "layer {name:?}: a batch norm needs [channels, height, width], not {:?}",
                    &b.rest()[1..]
                )));
            };
            let scale = b.parameter(&format!("{name}.weight"), name, &[channels], None)?;
            if let Operand::Parameter(k) = scale {
                b.network.parameters[k].data = HostArray::f32(&[channels], vec![1.0; channels]);
            }
            let shift = b.parameter(&format!("{name}.bias"), name, &[channels], Some((0, 0)))?;
            let scale = b.per_channel(name, "BatchNormalization", channels, scale)?;
            let shift = b.per_channel(name, "BatchNormalization", channels, shift)?;
            let normal = Expr::constant(1.0 / (1.0f64 + 1e-5).sqrt()) * Expr::input(0);
            let expr = normal * Expr::input(1) + Expr::input(2);
            b.pointwise(name, "BatchNormalization", expr, &[scale, shift])
        })
    }

    /// The maximum over windows.
    pub fn max_pool2d(self, window: Window2d) -> Self {
        self.then(|b| {
            if window.padding > window.kernel / 2 {
                return Err(Error::Shape(format!(
                    "a pool of {window:?}: padding above half its kernel"
                )));
            }
            let window = window.over(b.plane()?)?;
            b.append(
                "max_pool2d",
                "MaxPool",
                MaxPool { window },
                &[Operand::Value(b.current)],
            )
        })
    }

    /// The mean over windows; padding counts.
    pub fn avg_pool2d(self, window: Window2d) -> Self {
        self.then(|b| {
            let taps = (window.kernel * window.kernel) as f64;
            let window = window.over(b.plane()?)?;
            let op = WindowSum { window };
            b.append(
                "avg_pool2d",
                "AveragePool",
                op,
                &[Operand::Value(b.current)],
            )?;
            b.pointwise(
                "avg_pool2d",
                "AveragePool",
                Expr::constant(1.0 / taps) * Expr::input(0),
                &[],
            )
        })
    }

    /// The mean over height and width.
    pub fn global_avg_pool2d(self) -> Self {
        self.then(|b| {
            let count: usize = b.plane()?.iter().product();
            let op = ReduceSum {
                axes: vec![2, 3],
                keep: true,
            };
            let name = "global_avg_pool2d";
            b.append(name, "GlobalAveragePool", op, &[Operand::Value(b.current)])?;
            let mean = Expr::constant(1.0 / count as f64) * Expr::input(0);
            b.pointwise(name, "GlobalAveragePool", mean, &[])
        })
    }

    /// All axes of a sample into one.
    pub fn flatten(self) -> Self {
        self.then(|b| {
            let rest = vec![1, b.rest().iter().product()];
            b.append(
                "flatten",
                "Flatten",
                Reshape { rest },
                &[Operand::Value(b.current)],
            )
        })
    }

    /// Keeps the present result under a name, for [`Builder::add`].
    pub fn mark(self, name: &str) -> Self {
        self.then(|b| {
            b.marks.push((name.to_string(), b.current));
            Ok(())
        })
    }

    /// Continues from the result that was marked, in place of the present one: a branch.
    pub fn back_to(self, mark: &str) -> Self {
        self.then(|b| {
            b.current = b.marked(mark)?;
            Ok(())
        })
    }

    /// Adds the result that was marked: a residual connection.
    #[allow(clippy::should_implement_trait)] // a step of the chain, not a sum of builders
    pub fn add(self, mark: &str) -> Self {
        self.then(|b| {
            let marked = Operand::Value(b.marked(mark)?);
            b.pointwise("add", "Add", Expr::input(0) + Expr::input(1), &[marked])
        })
    }

    /// Sets a parameter's values.
    pub fn weights(self, parameter: &str, values: HostArray) -> Self {
        self.then(|b| {
            let k = b.network.parameter(parameter)?;
            let place = &mut b.network.parameters[k].data;
            if place.shape != values.shape {
                return Err(Error::Shape(format!(
                    "parameter {parameter:?} has shape {:?}, not {:?}",
                    place.shape, values.shape
                )));
            }
            if values.to_f64().iter().any(|v| !v.is_finite()) {
                return Err(Error::Value(format!(
                    "parameter {parameter:?} holds a value that is not finite"
                )));
            }
            *place = values;
            b.fans[k] = None;
            Ok(())
        })
    }

    /// Draws the weights not set: uniform in ±√(6/(inputs + outputs)) (Glorot), biases 0.
    ///
    /// The same seed gives the same values on every machine. Call it last.
    pub fn initialize(self, seed: u64) -> Self {
        self.draw(seed, |inputs, outputs| {
            (6.0 / (inputs + outputs) as f64).sqrt()
        })
    }

    /// Draws the weights not set: uniform in ±√(6/inputs) (He), biases 0.
    pub fn initialize_he(self, seed: u64) -> Self {
        self.draw(seed, |inputs, _| (6.0 / inputs as f64).sqrt())
    }

    fn draw(self, seed: u64, bound: impl Fn(usize, usize) -> f64) -> Self {
        self.then(|b| {
            for (k, fan) in b.fans.iter_mut().enumerate() {
                let Some((inputs, outputs)) = fan.take() else {
                    continue;
                };
                if inputs + outputs == 0 {
                    continue;
                }
                let data = &mut b.network.parameters[k].data;
                let bound = bound(inputs, outputs);
                let values = (0..data.len() as u64)
                    .map(|entry| ((2.0 * uniform(seed, k as u64, entry) - 1.0) * bound) as f32)
                    .collect();
                *data = HostArray::f32(&data.shape.clone(), values);
            }
            Ok(())
        })
    }

    /// The network.
    ///
    /// # Errors
    /// The first mistake made on the way, or parameters that were given no values.
    pub fn build(self) -> Result<Network> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let mut network = self.network;
        network.output = self.current;
        let open: Vec<&str> = network
            .parameters
            .iter()
            .zip(&self.fans)
            .filter(|(_, fan)| fan.is_some())
            .map(|(p, _)| p.name.as_str())
            .collect();
        if !open.is_empty() {
            return Err(Error::Request(format!(
                "no values for {}; call initialize or weights",
                open.join(", ")
            )));
        }
        Ok(network)
    }

    /// Runs a step unless one before failed.
    fn then(mut self, step: impl FnOnce(&mut Self) -> Result<()>) -> Self {
        if self.fault.is_none() {
            self.fault = step(&mut self).err();
        }
        self
    }

    fn rest(&self) -> &[usize] {
        self.network.rest(self.current)
    }

    /// The result that was marked last by that name.
    fn marked(&self, mark: &str) -> Result<ValueId> {
        let found = self.marks.iter().rev().find(|(name, _)| name == mark);
        found
            .map(|(_, value)| *value)
            .ok_or_else(|| Error::Request(format!("nothing was marked {mark:?} before it is used")))
    }

    /// A parameter of one number per channel, shaped to meet `[channels, height, width]`.
    fn per_channel(
        &mut self,
        name: &str,
        operation: &str,
        channels: usize,
        parameter: Operand,
    ) -> Result<Operand> {
        let kept = self.current;
        let rest = vec![channels, 1, 1];
        self.append(name, operation, Reshape { rest }, &[parameter])?;
        Ok(Operand::Value(std::mem::replace(&mut self.current, kept)))
    }

    /// Height and width of the present result.
    fn plane(&self) -> Result<&[usize]> {
        match self.rest() {
            [_, _, plane @ ..] if plane.len() == 2 => Ok(plane),
            rest => Err(Error::Shape(format!(
                "a pool needs [channels, height, width], not {:?}",
                &rest[1..]
            ))),
        }
    }

    fn append(
        &mut self,
        name: &str,
        operation: &str,
        op: impl Into<Op>,
        inputs: &[Operand],
    ) -> Result<()> {
        self.current = self.network.append(name, operation, op, inputs)?;
        Ok(())
    }

    /// A formula of the present result and further operands.
    fn pointwise(
        &mut self,
        name: &str,
        operation: &str,
        expr: Expr,
        more: &[Operand],
    ) -> Result<()> {
        let mut inputs = vec![Operand::Value(self.current)];
        inputs.extend_from_slice(more);
        self.append(name, operation, Elementwise::new(expr), &inputs)
    }

    fn parameter(
        &mut self,
        name: &str,
        layer: &str,
        shape: &[usize],
        fan: Option<(usize, usize)>,
    ) -> Result<Operand> {
        if self.network.parameters.iter().any(|p| p.name == name) {
            return Err(Error::Request(format!("two layers are named {layer:?}")));
        }
        let count = shape.iter().try_fold(1usize, |all, &e| all.checked_mul(e));
        let count = count
            .filter(|&c| c > 0 && c <= super::MOST_ELEMENTS)
            .ok_or_else(|| {
                Error::Shape(format!(
                    "parameter {name:?} of shape {shape:?} is empty or too large"
                ))
            })?;
        self.network.parameters.push(Parameter {
            name: name.to_string(),
            layer: layer.to_string(),
            offset: self.network.parameter_count(),
            data: HostArray::f32(shape, vec![0.0; count]),
        });
        self.fans.push(fan);
        Ok(Operand::Parameter(self.network.parameters.len() - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_residual_network_has_its_parameters_in_order() {
        let network = Builder::new(&[4])
            .linear("a", 5)
            .tanh()
            .mark("skip")
            .linear("b", 5)
            .sigmoid()
            .add("skip")
            .linear_without_bias("c", 2)
            .initialize(3)
            .build()
            .unwrap();
        let names: Vec<_> = network
            .parameters
            .iter()
            .map(|p| (p.name.as_str(), p.offset))
            .collect();
        assert_eq!(
            names,
            [
                ("a.weight", 0),
                ("a.bias", 20),
                ("b.weight", 25),
                ("b.bias", 50),
                ("c.weight", 55)
            ]
        );
        assert_eq!(network.rest(network.output), [1, 2]);
    }

    #[test]
    fn a_batch_norm_has_scale_and_shift_and_a_branch_leaves_from_a_mark() {
        let window = Window2d::new(3).padding(1);
        let network = Builder::new(&[2, 4, 4])
            .mark("in")
            .conv2d_without_bias("conv", 3, window)
            .batch_norm2d("norm")
            .mark("branch")
            .back_to("in")
            .conv2d_without_bias("short", 3, Window2d::new(1))
            .add("branch")
            .initialize(3)
            .build()
            .unwrap();
        let of = |name: &str| {
            let k = network.parameter(name).unwrap();
            network.parameters[k].data.to_f64()
        };
        assert_eq!(
            (of("norm.weight"), of("norm.bias")),
            (vec![1.0; 3], vec![0.0; 3])
        );
        assert_eq!(network.parameter_count(), 3 * 2 * 9 + 6 + 3 * 2);
        assert_eq!(network.rest(network.output), [1, 3, 4, 4]);
        let error = Builder::new(&[2]).back_to("there").build().unwrap_err();
        assert!(error.to_string().contains("there"), "{error}");
    }

    #[test]
    fn the_first_mistake_is_told() {
        let error = Builder::new(&[4])
            .max_pool2d(Window2d::new(2))
            .linear("a", 2)
            .build();
        assert!(error.unwrap_err().to_string().contains("pool"));
        let error = Builder::new(&[4]).linear("a", 2).build().unwrap_err();
        assert!(error.to_string().contains("a.weight"), "{error}");
    }

    #[test]
    fn draws_lie_in_their_bounds_and_repeat() {
        let make = || {
            Builder::new(&[30])
                .linear("a", 20)
                .initialize(9)
                .build()
                .unwrap()
        };
        let values = make().parameters[0].data.to_f64();
        assert_eq!(values, make().parameters[0].data.to_f64());
        let bound = (6.0f64 / 50.0).sqrt();
        assert!(values.iter().all(|v| v.abs() <= bound));
        let mean: f64 = values.iter().sum::<f64>() / values.len() as f64;
        assert!(mean.abs() < 0.05 && values.iter().any(|v| v.abs() > 0.9 * bound));
    }
}
