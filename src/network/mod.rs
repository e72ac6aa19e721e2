//! The graph of operations, with shapes, named parameters and layers.
//!
//! A [`Network`] is what an importer or the [`builder::Builder`] makes and what the passes of
//! `src/jacobian` walk. Every shape here is a `rest`: the ONNX shape at batch 1; samples are an axis of
//! their own that no operation sees. This folder must not know of devices.

pub mod builder;
mod derived;
pub mod initialise;
pub mod inspect;

pub use derived::{Derive, Derived};

use crate::error::{Error, Result};
use crate::ops::{Op, Operation};
use crate::tensor::HostArray;
use std::collections::HashMap;
use std::ops::Range;

/// Elements of one value per sample above which a network is taken for damaged.
pub(crate) const MOST_ELEMENTS: usize = 1 << 32;

/// Axes of one value above which a network is taken for damaged; as in NumPy and PyTorch.
pub(crate) const MOST_AXES: usize = 64;

/// A value in the graph: network inputs first, then one per node.
pub type ValueId = usize;

/// What a node reads.
///
/// ```
/// use hessblock::network::Operand;
/// # use hessblock::network::builder::Builder;
/// # let network = Builder::new(&[3]).linear("fc1", 4).tanh().linear("fc2", 2).initialize(0).build()?;
/// // The first node multiplies the input, value 0, by the weight of fc1, parameter 0.
/// assert_eq!(network.nodes[0].inputs, [Operand::Value(0), Operand::Parameter(0)]);
/// assert_eq!(network.operand_rest(Operand::Parameter(0)), [4, 3]);
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operand {
    /// An input of the network or the result of a node.
    Value(ValueId),
    /// A parameter, by index into [`Network::parameters`].
    Parameter(usize),
    /// A constant, by index into [`Network::constants`].
    Constant(usize),
}

/// A parameter: an initializer that is differentiated.
///
/// ```
/// # use hessblock::network::builder::Builder;
/// # let network = Builder::new(&[3]).linear("fc1", 4).tanh().linear("fc2", 2).initialize(0).build()?;
/// let bias = &network.parameters[network.parameter("fc1.bias")?];
/// assert_eq!((bias.layer.as_str(), bias.range()), ("fc1", 12..16));
/// assert_eq!(bias.data.shape, [4]);
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Name in the file.
    pub name: String,
    /// The layer it belongs to (DESIGN §3, Parameters).
    pub layer: String,
    /// Index of its first entry in the flat order.
    pub offset: usize,
    /// Its values, in the file's layout.
    pub data: HostArray,
}

impl Parameter {
    /// Its entries in the flat order.
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.data.len()
    }
}

/// An input of the network.
///
/// ```
/// use hessblock::network::Input;
/// let images = Input::new("images", &[1, 3, 28, 28]);
/// assert_eq!(images.sample_shape(), [3, 28, 28]);
/// // A recurrent network that takes [positions, samples, features].
/// let sequences = Input { sample_axis: 1, ..Input::new("sequences", &[10, 1, 8]) };
/// assert_eq!(sequences.sample_shape(), [10, 8]);
/// ```
#[derive(Clone, Debug)]
pub struct Input {
    /// Name in the file.
    pub name: String,
    /// Shape at batch 1, the sample axis included with extent 1.
    pub rest: Vec<usize>,
    /// Which axis of `rest` carries the samples in data files.
    pub sample_axis: usize,
    /// Whether the network takes integers here (tokens).
    pub integer: bool,
    /// Rows of the table that its integers look up, where they do: they are then −limit..limit, as ONNX's
    /// Gather counts negative ones from the end.
    pub limit: Option<usize>,
}

impl Input {
    /// An input of real numbers of that shape at batch 1, with the samples on the first axis.
    pub fn new(name: impl Into<String>, rest: &[usize]) -> Input {
        Input {
            name: name.into(),
            rest: rest.to_vec(),
            sample_axis: 0,
            integer: false,
            limit: None,
        }
    }

    /// The shape of a sample: `rest` without the axis of samples.
    pub fn sample_shape(&self) -> Vec<usize> {
        let mut shape = self.rest.clone();
        if self.sample_axis < shape.len() {
            shape.remove(self.sample_axis);
        }
        shape
    }
}

/// A node: an operation and what it reads.
///
/// ```
/// # use hessblock::network::builder::Builder;
/// # let network = Builder::new(&[3]).linear("fc1", 4).tanh().linear("fc2", 2).initialize(0).build()?;
/// for node in &network.nodes {
///     println!("{} ({}): {:?}", node.name, node.operation, node.rest);
/// }
/// assert_eq!(network.nodes[0].operation, "Gemm");
/// assert_eq!(network.nodes[0].rest, [1, 4]);
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Node {
    /// Name in the file, for messages.
    pub name: String,
    /// The file's word for the operation (`Gemm`, `Relu`), for people.
    pub operation: String,
    /// What it computes.
    pub op: Op,
    /// What it reads.
    pub inputs: Vec<Operand>,
    /// Shape of its result.
    pub rest: Vec<usize>,
}

/// The number that stands for −∞ in a network: the lowest of single precision.
pub const MINUS_INFINITY: f64 = f32::MIN as f64;
/// The lowest finite number beside it, one step above.
pub const LOWEST: f64 = f32::from_bits(0xff7f_fffe) as f64;

/// A number where a tensor may be −∞, with [`MINUS_INFINITY`] for that: finite ones are [`LOWEST`] at least.
pub fn masked(value: f64) -> f64 {
    match value {
        f64::NEG_INFINITY => MINUS_INFINITY,
        v if v < LOWEST => LOWEST,
        v => v,
    }
}

/// A network: a graph in execution order.
///
/// ```
/// use hessblock::network::builder::Builder;
/// let network = Builder::new(&[3]).linear("fc1", 4).tanh().linear("fc2", 2).initialize(0).build()?;
/// for layer in network.layers() {
///     println!("{}: {} parameters", layer.name, network.ranges(&layer).flatten().count());
/// }
/// assert_eq!((network.parameter_count(), network.outputs()), (26, 2));
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// Inputs, which are values `0..inputs.len()`: those that data are given for, then the derived ones.
    pub inputs: Vec<Input>,
    /// How the derived inputs are computed; `None` where there are none.
    pub derived: Option<Derived>,
    /// Parameters in the flat order.
    pub parameters: Vec<Parameter>,
    /// Constants.
    pub constants: Vec<HostArray>,
    /// Nodes in execution order; node `k` makes value `inputs.len() + k`.
    pub nodes: Vec<Node>,
    /// The value the loss is taken of.
    pub output: ValueId,
    /// Its name in the file; empty where the network has no file.
    pub output_name: String,
    /// Which axis of the output's rest carries the samples.
    pub output_sample_axis: usize,
    /// Whether the output holds positions on that axis that vary slower than the samples, [T·N, C].
    pub output_positions_first: bool,
    /// Inputs that may hold −∞, numbers of [`Network::inputs`]: masks that are added to what a softmax reads. The network takes
    /// [`MINUS_INFINITY`] for −∞ there ([`masked`]).
    pub masks: Vec<usize>,
    /// Things a user should know (`inspect` prints them).
    pub warnings: Vec<String>,
}

/// A layer: the parameters that share the name before the last dot.
///
/// ```
/// # use hessblock::network::builder::Builder;
/// # let network = Builder::new(&[3]).linear("fc1", 4).tanh().linear("fc2", 2).initialize(0).build()?;
/// let layer = network.layer("fc2")?;
/// assert_eq!(layer.parameters, [2, 3]); // fc2.weight and fc2.bias
/// assert_eq!(network.ranges(&layer).collect::<Vec<_>>(), [16..24, 24..26]);
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Its name.
    pub name: String,
    /// Its parameters, in the flat order.
    pub parameters: Vec<usize>,
}

impl Network {
    /// Appends a node after checking that its operands fit, and returns its value.
    ///
    /// `name` and `operation` are the file's words, for messages.
    ///
    /// # Errors
    /// [`Error::Shape`] naming the node and what does not fit.
    pub fn append(
        &mut self,
        name: &str,
        operation: &str,
        op: impl Into<Op>,
        inputs: &[Operand],
    ) -> Result<ValueId> {
        let op = op.into();
        let rests: Vec<&[usize]> = inputs.iter().map(|&i| self.operand_rest(i)).collect();
        let fault =
            |message: String| Error::Shape(format!("node {name:?} ({operation}): {message}"));
        let rest = op.shape(&rests).map_err(|error| match error {
            Error::Shape(message) => fault(message),
            other => other,
        })?;
        if rest.len() > MOST_AXES {
            return Err(fault(format!(
                "a result of {} axes, where up to {MOST_AXES} can be",
                rest.len()
            )));
        }
        let elements = rest.iter().try_fold(1usize, |all, &d| all.checked_mul(d));
        if elements.is_none_or(|elements| elements == 0 || elements > MOST_ELEMENTS) {
            return Err(fault(format!(
                "a result of shape {rest:?} per sample is empty or larger than can be"
            )));
        }
        self.nodes.push(Node {
            name: name.to_string(),
            operation: operation.to_string(),
            op,
            inputs: inputs.to_vec(),
            rest,
        });
        Ok(self.inputs.len() + self.nodes.len() - 1)
    }

    /// The inputs that data are given for.
    pub fn data_inputs(&self) -> &[Input] {
        let derived = self.derived.as_ref().map_or(0, |derived| derived.count);
        &self.inputs[..self.inputs.len() - derived]
    }

    /// All inputs of some samples from those that data are given for: `[samples, rest…]` each. `first` is the
    /// number of the first sample, for messages.
    ///
    /// # Errors
    /// As [`Derive::derive`].
    pub fn with_derived(
        &self,
        mut inputs: Vec<Vec<f64>>,
        samples: usize,
        first: usize,
    ) -> Result<Vec<Vec<f64>>> {
        if let Some(derived) = &self.derived {
            inputs.extend(derived.compute.derive(&inputs, samples, first)?);
        }
        Ok(inputs)
    }

    /// Number of parameter entries, p.
    pub fn parameter_count(&self) -> usize {
        self.parameters.last().map_or(0, |p| p.range().end)
    }

    /// The ranges of a layer's parameters in the flat order.
    pub fn ranges<'a>(&'a self, layer: &'a Layer) -> impl Iterator<Item = Range<usize>> + 'a {
        layer.parameters.iter().map(|&k| self.parameters[k].range())
    }

    /// All parameters: `[p]` in the flat order.
    pub fn parameter_values(&self) -> Vec<f64> {
        let mut values = Vec::with_capacity(self.parameter_count());
        for parameter in &self.parameters {
            values.extend(parameter.data.to_f64());
        }
        values
    }

    /// Replaces all parameters: `[p]` in the flat order, kept in double precision.
    ///
    /// # Errors
    /// [`Error::Shape`] for another number of them, [`Error::Value`] for one that is not finite.
    pub fn set_parameters(&mut self, values: &[f64]) -> Result<()> {
        if values.len() != self.parameter_count() {
            return Err(Error::Shape(format!(
                "{} numbers are given for the network's {} parameters",
                values.len(),
                self.parameter_count()
            )));
        }
        if let Some(at) = values.iter().position(|v| !v.is_finite()) {
            return Err(Error::Value(format!("parameter {at} is {}", values[at])));
        }
        for parameter in &mut self.parameters {
            let own = values[parameter.range()].to_vec();
            parameter.data = HostArray::f64(&parameter.data.shape, own);
        }
        Ok(())
    }

    /// The shape at batch 1 of a value.
    pub fn rest(&self, value: ValueId) -> &[usize] {
        match value.checked_sub(self.inputs.len()) {
            None => &self.inputs[value].rest,
            Some(node) => &self.nodes[node].rest,
        }
    }

    /// The shape at batch 1 of an operand.
    pub fn operand_rest(&self, operand: Operand) -> &[usize] {
        match operand {
            Operand::Value(value) => self.rest(value),
            Operand::Parameter(k) => &self.parameters[k].data.shape,
            Operand::Constant(k) => &self.constants[k].shape,
        }
    }

    /// Outputs per sample, C (times positions).
    pub fn outputs(&self) -> usize {
        self.rest(self.output).iter().product()
    }

    /// Positions of a sample on the output's axis of samples: more than 1 where it holds both, [N·T, C].
    pub fn output_positions(&self) -> usize {
        let rest = self.rest(self.output);
        rest.get(self.output_sample_axis).copied().unwrap_or(1)
    }

    /// The layers, in the order of their first parameter.
    pub fn layers(&self) -> Vec<Layer> {
        let mut layers: Vec<Layer> = Vec::new();
        let mut places: HashMap<&str, usize> = HashMap::new();
        for (k, parameter) in self.parameters.iter().enumerate() {
            let place = *places.entry(&parameter.layer).or_insert(layers.len());
            match layers.get_mut(place) {
                Some(layer) => layer.parameters.push(k),
                None => layers.push(Layer {
                    name: parameter.layer.clone(),
                    parameters: vec![k],
                }),
            }
        }
        layers
    }

    /// The index of the parameter of that name.
    ///
    /// # Errors
    /// [`Error::Request`] with the nearest names.
    pub fn parameter(&self, name: &str) -> Result<usize> {
        self.parameters
            .iter()
            .position(|p| p.name == name)
            .ok_or_else(|| {
                unknown(
                    "parameter",
                    name,
                    self.parameters.iter().map(|p| p.name.as_str()),
                )
            })
    }

    /// The layer of that name.
    ///
    /// # Errors
    /// [`Error::Request`] with the nearest names.
    pub fn layer(&self, name: &str) -> Result<Layer> {
        let layers = self.layers();
        layers
            .iter()
            .find(|l| l.name == name)
            .cloned()
            .ok_or_else(|| unknown("layer", name, layers.iter().map(|l| l.name.as_str())))
    }
}

/// "no layer fc: did you mean fc1, fc2?"
fn unknown<'a>(kind: &str, name: &str, known: impl Iterator<Item = &'a str>) -> Error {
    let mut near: Vec<(usize, &str)> = known
        .map(|k| {
            (
                strsim::damerau_levenshtein(&name.to_lowercase(), &k.to_lowercase()),
                k,
            )
        })
        .collect();
    near.sort();
    let names: Vec<&str> = near.iter().take(3).map(|(_, k)| *k).collect();
    Error::Request(if names.is_empty() {
        format!("no {kind} {name:?}: the network has no parameters")
    } else {
        format!(
            "no {kind} {name:?} in the network; the nearest: {}",
            names.join(", ")
        )
    })
}
