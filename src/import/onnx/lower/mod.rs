//! Nodes of the file into operations of ours, one file per family.
//!
//! A value of the file is either known on the host (at both batch sizes at which shapes are inferred) or a
//! tensor of the network with the place of its samples.

mod activation;
mod affine;
mod attention;
mod blocks;
mod conv;
mod derived;
mod einsum;
mod index;
mod inputs;
mod layout;
mod logic;
mod norm;
mod pad;
mod pointwise;
mod pool;
mod reduce;
mod resize;
mod room;
mod rules;
mod select;
mod triangle;

use super::OnnxOptions;
use super::fold::{self, FOLDED};
use super::graph::{Graph, Node, is_float};
use super::parameters::Roots;
use super::samples::Sample;
use super::tensor::Array;
use crate::error::{Error, Result};
use crate::network::{MOST_ELEMENTS, Network, Operand, Parameter, ValueId};
use crate::ops::Op;
use crate::tensor::{HostArray, HostData, broadcast_rest};
use derived::DataOnly;
use inputs::{Batch, inputs};
use room::{Room, bytes, elements_walked};
pub(super) use rules::RULES;
use rules::why_not;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// A value of the file.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Known: at the two batch sizes of [`Batch::sizes`].
    Host([Array; 2]),
    /// Computed by the network, or one of its parameters.
    Tensor(Tensor),
    /// The parts of a SplitToSequence.
    Sequence(Vec<Value>),
    /// The result of a node that could not be taken: what follows is not looked at.
    Unknown,
}

/// A tensor of the network.
#[derive(Clone, Debug)]
pub(super) struct Tensor {
    pub operand: Operand,
    /// Shape at batch 1.
    pub rest: Vec<usize>,
    /// Where the samples sit; `None` for what all samples share.
    pub sample: Option<Sample>,
    /// Whether it holds integers or truth values (as reals: there is no other kind of tensor), which have no
    /// derivative.
    pub integer: bool,
}

/// The state of lowering.
pub(super) struct Lowering<'g> {
    pub graph: &'g Graph,
    pub network: Network,
    batch: Batch,
    values: HashMap<String, Value>,
    roots: Roots,
    parameter_of_root: Vec<Option<usize>>,
    room: Room,
    /// Addresses of the network's constants.
    placed: HashSet<usize>,
    /// Which node reads a value last.
    last_use: HashMap<&'g str, usize>,
    /// What depends on the data alone.
    data_only: DataOnly<'g>,
}

/// What a rule says of a node it cannot take.
pub(super) fn refuse<T>(why: impl Into<String>) -> Result<T> {
    Err(Error::Unsupported(vec![why.into()]))
}

/// What an infinite constant becomes: large enough that its softmax is 0 in single precision, and far enough
/// from overflow that a few masks may be added.
pub(super) const INFINITE: f64 = 1e38;

/// A constant with its infinities made finite: attention masks hold −∞, and kernels need not keep infinities
/// (shading languages leave them undefined). NaN stays.
pub(super) fn finite(value: f64) -> f64 {
    if value.is_infinite() {
        INFINITE.copysign(value)
    } else {
        value
    }
}

/// Lowers the whole graph.
///
/// # Errors
/// As [`super::load`].
pub(super) fn lower<'g>(graph: &'g Graph, roots: Roots, options: &OnnxOptions) -> Result<Network> {
    let (inputs, batch) = inputs(graph, options)?;
    let reads = |(k, node): (usize, &'g Node)| {
        let names = node.proto.input.iter();
        names.map(move |name| (name.as_str(), k))
    };
    let mut lowering = Lowering {
        graph,
        room: Room::beside(graph),
        placed: HashSet::new(),
        last_use: graph.nodes.iter().enumerate().flat_map(reads).collect(),
        data_only: DataOnly::default(),
        network: Network {
            warnings: roots.warnings.clone(),
            ..Network::default()
        },
        batch,
        values: HashMap::new(),
        parameter_of_root: vec![None; roots.entries.len()],
        roots,
    };
    for (k, input) in inputs.into_iter().enumerate() {
        lowering.values.insert(
            input.name.clone(),
            Value::Tensor(Tensor {
                operand: Operand::Value(k),
                rest: input.rest.clone(),
                sample: Some(Sample::alone(input.sample_axis)),
                integer: input.integer,
            }),
        );
        lowering.network.inputs.push(input);
    }
    lowering.data_only = DataOnly::new(graph, &lowering.roots, &mut lowering.network);
    lowering.parameters()?;
    let mut problems = Vec::new();
    for (k, node) in graph.nodes.iter().enumerate() {
        lowering.note(k)?;
        lowering.node(node, &mut problems)?;
        lowering.count(k);
        lowering.drop_read(k);
    }
    if !problems.is_empty() {
        return Err(Error::Unsupported(problems));
    }
    lowering.finish()
}

impl Lowering<'_> {
    /// Enters the initializers: parameters in the flat order, the others as known values.
    fn parameters(&mut self) -> Result<()> {
        let mut offset = 0usize;
        for (k, root) in self.roots.entries.iter().enumerate() {
            let array = root.array.to_host();
            if let Some(layer) = &root.layer {
                check_finite(self.graph, &root.name, &array)?;
                if array.is_empty() {
                    return Err(Error::file(
                        &self.graph.path,
                        format!(
                            "parameter {:?} of shape {:?} is empty",
                            root.name, array.shape
                        ),
                    ));
                }
                self.parameter_of_root[k] = Some(self.network.parameters.len());
                let count = array.len();
                self.network.parameters.push(Parameter {
                    name: root.name.clone(),
                    layer: layer.clone(),
                    offset,
                    data: array,
                });
                offset += count;
            }
        }
        for initializer in &self.graph.initializers {
            let root = self.roots.by_name[&initializer.name];
            let value = self.root_value(root);
            self.insert(&initializer.name, value)?;
        }
        Ok(())
    }

    fn root_value(&self, root: usize) -> Value {
        let array = &self.roots.entries[root].array;
        match self.parameter_of_root[root] {
            Some(k) => Value::Tensor(Tensor {
                operand: Operand::Parameter(k),
                rest: array.shape.clone(),
                sample: None,
                integer: false,
            }),
            None => Value::Host([array.clone(), array.clone()]),
        }
    }

    fn insert(&mut self, name: &str, value: Value) -> Result<()> {
        self.room.hold(bytes(&value))?;
        self.values.insert(name.to_string(), value);
        Ok(())
    }

    /// Drops the constants that node `k` was the last to read.
    fn drop_read(&mut self, k: usize) {
        for name in &self.graph.nodes[k].proto.input {
            let last = self.last_use.get(name.as_str()) == Some(&k) && *name != self.graph.output;
            if last && let Some(value) = self.values.remove(name) {
                self.room.release(bytes(&value));
            }
        }
    }

    /// Lowers one node; what cannot be taken goes to `problems`.
    fn node(&mut self, node: &Node, problems: &mut Vec<String>) -> Result<()> {
        let inputs: Vec<Option<Value>> = (0..node.proto.input.len())
            .map(|k| node.input(k).map(|name| self.values[name].clone()))
            .collect();
        let unknown = inputs.iter().flatten().any(|i| matches!(i, Value::Unknown));
        let known = node.standard() && (RULES.contains(&node.op_type()) || folds(&inputs, node));
        // What is taken of constants alone may be one, were it not for what could not be taken before it.
        let blocked = unknown && node.standard() && FOLDED.contains(&node.op_type());
        let results = if unknown && (known || blocked) {
            Ok(vec![])
        } else {
            self.computed(node, &inputs, known)
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
            Err(Error::Unsupported(why)) => {
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

    /// The results of a node: by its rule, else on the host where it depends on the data alone, else as a choice of
    /// each sample's own entries.
    fn computed(
        &mut self,
        node: &Node,
        inputs: &[Option<Value>],
        known: bool,
    ) -> Result<Vec<Value>> {
        let mark = self.mark();
        let placed = inputs.iter().flatten().find_map(|value| self.placed(value));
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
                    self.rewind(&mark);
                    return Ok(exact);
                }
                return Ok(results);
            }
            Err(Error::Unsupported(why)) => why,
            Err(other) => return Err(other),
        };
        self.rewind(&mark);
        match self.on_host(node, inputs, &why) {
            Ok(Some(results)) => return Ok(results),
            Ok(None) => {}
            Err(Error::Unsupported(reason)) if !known => why = reason,
            Err(Error::Unsupported(_)) => {}
            Err(other) => return Err(other),
        }
        let chosen_from = inputs.first().and_then(|x| x.as_ref());
        if select::selects(node) && chosen_from.is_none_or(|x| self.placed(x).is_none()) {
            match self.select(node, inputs) {
                Ok(mut tensor) => {
                    tensor.integer = logic::makes_integers(node, inputs);
                    return Ok(vec![Value::Tensor(tensor)]);
                }
                Err(Error::Unsupported(_)) => self.rewind(&mark),
                Err(other) => return Err(other),
            }
        }
        Err(Error::Unsupported(why))
    }

    /// Whether a value is read by a node or is the output.
    fn is_used(&self, name: &str) -> bool {
        name == self.graph.output || self.last_use.contains_key(name)
    }

    fn rule(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Vec<Value>> {
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
    fn lowered(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Vec<Value>> {
        let one = |tensor: Tensor| vec![Value::Tensor(tensor)];
        Ok(match node.op_type() {
            "Gemm" => one(self.gemm(node, inputs)?),
            "MatMul" => one(self.matmul_node(node, inputs)?),
            "Conv" => one(self.conv(node, inputs)?),
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
            "Flatten" | "Reshape" | "Squeeze" | "Unsqueeze" => one(self.reshape(node, inputs)?),
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
            "SplitToSequence" => vec![Value::Sequence(self.split(node, inputs)?)],
            "SequenceAt" => vec![self.sequence_at(inputs)?],
            "CumSum" | "Trilu" => one(self.triangular(node, inputs)?),
            "Softmax" | "LogSoftmax" => one(self.softmax_node(node, inputs)?),
            "Attention" => one(self.attention(node, inputs)?),
            "Einsum" => one(self.einsum(node, inputs)?),
            "LayerNormalization" | "RMSNormalization" => one(self.layer_norm(node, inputs)?),
            "GroupNormalization" | "InstanceNormalization" => one(self.group_norm(node, inputs)?),
            "LpNormalization" => one(self.lp_norm(node, inputs)?),
            "LRN" => one(self.local_response(node, inputs)?),
            "Clip" => one(self.clip(node, inputs)?),
            "Pow" => one(self.power(node, inputs)?),
            _ => vec![self.pointwise_node(node, inputs)?],
        })
    }

    /// Computes a node whose inputs are all known.
    fn fold(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Vec<Value>> {
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

    /// Appends an operation of ours.
    pub(super) fn append(
        &mut self,
        node: &Node,
        op: impl Into<Op>,
        inputs: &[Operand],
        sample: Option<Sample>,
    ) -> Result<Tensor> {
        let value = self
            .network
            .append(node.name(), node.op_type(), op, inputs)?;
        // With a fixed batch, shapes are inferred at that batch.
        let rest = self.network.rest(value);
        let all = rest
            .iter()
            .try_fold(self.batch.sizes[1], |a, &d| a.checked_mul(d));
        let large = all.is_none_or(|all| all > MOST_ELEMENTS);
        if !self.batch.open && sample.is_some() && large {
            return Err(Error::Shape(format!(
                "a result of {} samples of shape {rest:?} is larger than can be; export with a smaller batch",
                self.batch.sizes[1]
            )));
        }
        Ok(Tensor {
            operand: Operand::Value(value),
            rest: self.network.rest(value).to_vec(),
            sample,
            integer: false,
        })
    }

    /// Adds a constant to the network, infinities made [`finite`].
    ///
    /// # Errors
    /// [`Error::Value`] where it holds a NaN, [`Error::Shape`] where it is empty.
    pub(super) fn constant(&mut self, node: &Node, array: &Array) -> Result<Tensor> {
        if array.len() == 0 {
            return Err(Error::Shape(format!(
                "a constant of shape {:?} is empty",
                array.shape
            )));
        }
        let mut host = array.to_host();
        match &mut host.data {
            HostData::F32(v) if v.iter().any(|x| x.is_infinite()) => {
                *v = Arc::new(v.iter().map(|&x| finite(x.into()) as f32).collect());
            }
            HostData::F64(v) if v.iter().any(|x| x.is_infinite()) => {
                *v = Arc::new(v.iter().map(|&x| finite(x)).collect());
            }
            _ => {}
        }
        check_finite(self.graph, node.name(), &host)?;
        // Read by several nodes, it has one memory, unless it is made of integers.
        let held = Array::from_host(&host);
        if self.placed.insert(held.address()) {
            self.room.hold(held.bytes())?;
        }
        self.network.constants.push(host);
        Ok(Tensor {
            operand: Operand::Constant(self.network.constants.len() - 1),
            rest: array.shape.clone(),
            sample: None,
            integer: !array.is_float(),
        })
    }

    /// An operand as a tensor that all samples share or not: constants are entered as they are.
    pub(super) fn tensor(
        &mut self,
        node: &Node,
        inputs: &[Option<Value>],
        k: usize,
    ) -> Result<Tensor> {
        match inputs.get(k) {
            Some(Some(Value::Tensor(tensor))) => Ok(tensor.clone()),
            Some(Some(Value::Host(arrays))) => {
                let axis = self.rows_of_samples(arrays);
                if axis.is_none() && arrays[0] != arrays[1] {
                    return refuse(format!("its input {k} depends on the number of samples"));
                }
                let sample = axis.map(Sample::alone);
                let tensor = self.constant(node, &arrays[0])?;
                Ok(Tensor { sample, ..tensor })
            }
            _ => Err(Error::Shape(describe(
                node,
                &format!("input {k} is missing"),
            ))),
        }
    }

    /// The axis along which a constant has one row per sample, all the same, where the file leaves the batch
    /// open: the first hidden state of a recurrence written out, zeros(x.shape[0], H).
    pub(super) fn rows_of_samples(&self, arrays: &[Array; 2]) -> Option<usize> {
        let [one, many] = arrays;
        let axis = (0..one.shape.len()).find(|&k| many.shape.get(k) != Some(&one.shape[k]))?;
        let [few, most] = self.batch.sizes;
        let rows = (one.shape[axis], many.shape[axis]) == (few, most) && few == 1;
        let rows = rows && one.shape.len() == many.shape.len();
        let alike = |repeated: Array| rows && repeated == *many;
        let fits = broadcast_rest(&one.shape, &many.shape).as_ref() == Some(&many.shape);
        (fits && fold::expand(one, &many.shape).is_ok_and(alike)).then_some(axis)
    }

    /// A known operand, or the values of a parameter used as a constant here.
    pub(super) fn host(&self, inputs: &[Option<Value>], k: usize) -> Result<Option<Array>> {
        match inputs.get(k) {
            Some(Some(Value::Host(arrays))) if arrays[0] != arrays[1] => {
                refuse(format!("its input {k} depends on the number of samples"))
            }
            Some(Some(Value::Host(arrays))) => Ok(Some(arrays[1].clone())),
            Some(Some(Value::Tensor(Tensor {
                operand: Operand::Parameter(p),
                ..
            }))) => Ok(Some(Array::from_host(&self.network.parameters[*p].data))),
            Some(Some(_)) => refuse(format!("its input {k} should be a constant")),
            _ => Ok(None),
        }
    }

    fn finish(mut self) -> Result<Network> {
        let output = self.graph.output.as_str();
        let fault = |message: String| Error::file(&self.graph.path, message);
        // A parameter repeated for every sample has samples, but not of the input.
        let (value, sample) = match self.values.get(output) {
            Some(Value::Tensor(Tensor {
                operand: Operand::Value(value),
                sample: Some(sample),
                ..
            })) if reads_input(&self.network, *value) => (*value, *sample),
            _ => {
                return Err(fault(format!(
                    "the output {output:?} does not depend on the input"
                )));
            }
        };
        if let Some(why) = self.placed(&self.values[output]) {
            return Err(Error::Unsupported(vec![why.clone()]));
        }
        self.network.output_name = output.to_string();
        self.network.output = value;
        self.network.output_sample_axis = sample.axis;
        self.network.output_positions_first = sample.before > 1;
        self.derive()?;
        let read = self.network.nodes.iter().flat_map(|n| &n.inputs);
        let read: HashSet<Operand> = read.copied().collect();
        for (k, parameter) in self.network.parameters.iter().enumerate() {
            if !read.contains(&Operand::Parameter(k)) {
                self.network.warnings.push(format!(
                    "parameter {} does not enter the output; its rows of the Hessian are zero",
                    parameter.name
                ));
            }
        }
        Ok(self.network)
    }
}

impl Tensor {
    /// The shape in the file at a batch size.
    pub fn shape(&self, batch: usize) -> Vec<usize> {
        match self.sample {
            Some(sample) => sample.shape(&self.rest, batch),
            None => self.rest.clone(),
        }
    }

    /// Whether the samples sit on that axis.
    pub fn samples_on(&self, axis: usize) -> bool {
        self.sample.is_some_and(|s| s.axis == axis)
    }
}

/// Whether a value is computed from an input of the network.
fn reads_input(network: &Network, value: ValueId) -> bool {
    let mut reads = vec![true; network.inputs.len()];
    for node in &network.nodes {
        let from_input = |i: &Operand| matches!(i, Operand::Value(v) if reads[*v]);
        reads.push(node.inputs.iter().any(from_input));
    }
    reads[value]
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

fn describe(node: &Node, why: &str) -> String {
    format!("node {:?} ({}): {why}", node.name(), node.op_type())
}

fn check_finite(graph: &Graph, name: &str, array: &HostArray) -> Result<()> {
    let bad = match &array.data {
        HostData::F32(v) => v.iter().position(|x| !x.is_finite()),
        HostData::F64(v) => v.iter().position(|x| !x.is_finite()),
    };
    match bad {
        None => Ok(()),
        Some(at) => Err(Error::Value(format!(
            "{}: {name:?} holds a value that is not finite at position {at}; train or export it again",
            graph.path.display()
        ))),
    }
}
