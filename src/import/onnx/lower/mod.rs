//! Nodes of the file into operations of ours, one file per family.
//!
//! A value of the file is either known on the host (at both batch sizes at which shapes are inferred) or a
//! tensor of the network with the place of its samples.

mod activation;
mod affine;
mod attention;
mod bags;
mod blocks;
mod choices;
mod columns;
mod conv;
mod derived;
mod einsum;
mod extended;
mod index;
mod inputs;
mod layout;
mod logic;
mod norm;
mod pad;
mod pointwise;
mod pool;
mod recurrent;
mod reduce;
mod resize;
mod room;
mod root;
mod rules;
mod select;
mod triangle;

use super::OnnxOptions;
use super::fold::{self, FOLDED};
use super::graph::{Graph, Links, Node, is_float};
use super::names::list;
use super::parameters::Roots;
use super::samples::Sample;
use super::subgraphs;
use super::tensor::Array;
use crate::error::{Error, Result};
use crate::network::{MOST_ELEMENTS, Network, Operand, Parameter, ValueId, masked};
use crate::ops::{Op, Reshape};
use crate::tensor::expression::Unary;
use crate::tensor::{Expr, HostArray, HostData, broadcast_rest};
use derived::DataOnly;
use extended::Extended;
use inputs::{Batch, Entry, Inputs, inputs};
use room::{Placed, Room, bytes, elements_walked};
pub(super) use rules::RULES;
use rules::why_not;
use std::cell::Cell;
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
    Sequence(Arc<Vec<Value>>),
    /// The result of a node that could not be taken: what follows is not looked at.
    Unknown,
}

/// A tensor of the network.
#[derive(Clone, Debug)]
pub(super) struct Tensor {
    pub operand: Operand,
    /// Shape at batch 1.
    pub rest: Vec<usize>,
    /// Where the samples sit; `None` for what all samples share, and for what belongs to one sample as a whole (see
    /// [`Lowering::depends`]): each sample has its own, without an axis of the file for it.
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
    /// Every place that the samples of a value may have, where a file of batch 1 leaves several (see `choices`).
    places: HashMap<String, Vec<Option<Sample>>>,
    /// Whether a value of the network depends on an input.
    of_data: Vec<bool>,
    /// Whether, at the present node, a parameter has an entry for each entry of an axis that was taken for that of
    /// the samples, so that it cannot be.
    weighted: Cell<bool>,
    /// Whether all nodes that were refused are so for that reason; `None` where none was.
    all_weighted: Option<bool>,
    roots: Roots,
    parameter_of_root: Vec<Option<usize>>,
    room: Room,
    /// Addresses of the network's constants.
    placed: Placed,
    /// Nodes of dropout in training mode.
    dropouts: Vec<String>,
    /// The makers and readers of every value.
    links: Links<'g>,
    /// The values that get to a softmax ([`extended::scores`]).
    scores: HashSet<&'g str>,
    /// Which node reads a value last.
    last_use: HashMap<&'g str, usize>,
    /// What depends on the data alone.
    data_only: DataOnly<'g>,
    /// Which tensors may be infinite or NaN.
    extended: Extended,
    /// Which tensors are functions of the root of a sum.
    roots_of_sums: root::Roots,
}

/// What a rule says of a node it cannot take.
pub(super) fn refuse<T>(why: impl Into<String>) -> Result<T> {
    Err(Error::Unsupported(vec![why.into()]))
}

/// A constant with its infinities replaced by what stands for them ([`extended`]). NaN stays.
pub(super) fn finite(value: f64) -> f64 {
    if value == f64::INFINITY {
        extended::INFINITE
    } else {
        masked(value)
    }
}

/// Lowers the whole graph.
///
/// Where a file has no open batch, the first axis of its inputs holds the samples, unless a parameter has an entry for
/// each entry of it: a vector `[14]` that meets a weight of 14 rows is one sample. Then a sample is an input as a whole.
///
/// # Errors
/// As [`super::load`].
pub(super) fn lower(graph: &Graph, roots: Roots, options: &OnnxOptions) -> Result<Network> {
    let given = inputs(graph, options)?;
    let mut lowering = Lowering::new(graph, roots.clone(), &given)?;
    let fault = match lowering.run() {
        Ok(()) => return lowering.finish(),
        Err(fault) => fault,
    };
    if given.batch.open || lowering.all_weighted != Some(true) {
        return Err(fault);
    }
    // Another axis that can hold the samples would be as good a reading as inputs without one.
    for axis in given.other_axes() {
        let moved = given.with_samples_on(axis);
        let mut lowering = Lowering::new(graph, roots.clone(), &moved)?;
        if lowering.run().is_ok() && lowering.finish().is_ok() {
            return Err(Error::file(
                &graph.path,
                format!(
                    "the first axis of its inputs meets a weight, so it cannot hold the samples, and axis {axis} may or may not; export it with an open batch (dynamic_axes or dynamic_shapes, the axis named \"batch\")"
                ),
            ));
        }
    }
    let whole = given.whole();
    let mut lowering = Lowering::new(graph, roots, &whole)?;
    match lowering.run() {
        Ok(()) => {}
        Err(Error::Value(why)) => return Err(Error::Value(why)),
        Err(_) => return Err(fault),
    }
    for entry in &whole.entries {
        let shape = &entry.shape;
        lowering.network.warnings.push(format!(
            "input {:?} of shape {shape:?} has no axis for the samples, as its first axis meets a weight: each sample is an input of that shape, and data have the samples on an axis before it",
            entry.input.name
        ));
    }
    lowering.finish()
}

impl<'g> Lowering<'g> {
    /// The state before the first node: inputs and initializers entered.
    fn new(graph: &'g Graph, roots: Roots, given: &Inputs) -> Result<Self> {
        let reads = |(k, node): (usize, &'g Node)| {
            let names = node.proto.input.iter();
            names.map(move |name| (name.as_str(), k))
        };
        let mut lowering = Lowering {
            graph,
            links: graph.links(),
            scores: extended::scores(graph),
            room: Room::beside(graph),
            placed: Placed::default(),
            dropouts: Vec::new(),
            last_use: graph.nodes.iter().enumerate().flat_map(reads).collect(),
            network: Network {
                warnings: roots.warnings.clone(),
                ..Network::default()
            },
            batch: given.batch,
            values: HashMap::new(),
            places: HashMap::new(),
            data_only: DataOnly::default(),
            extended: Extended::default(),
            roots_of_sums: root::Roots::default(),
            of_data: Vec::new(),
            weighted: Cell::new(false),
            all_weighted: None,
            parameter_of_root: vec![None; roots.entries.len()],
            roots,
        };
        lowering.network.inputs = given.entries.iter().map(|e| e.input.clone()).collect();
        // What is computed on the host comes from batches of samples, which inputs without an axis for them have not.
        let batches = given.entries.iter().all(|entry| !entry.whole);
        lowering.data_only = DataOnly::new(graph, &lowering.roots, &mut lowering.network, batches);
        lowering.of_data = vec![true; lowering.network.inputs.len()];
        for (k, entry) in given.entries.iter().enumerate() {
            let tensor = lowering.entered(k, entry)?;
            let name = entry.input.name.clone();
            if !tensor.integer && lowering.scores.contains(name.as_str()) {
                lowering.note_mask(k, tensor.operand, &name);
            }
            lowering.values.insert(name, Value::Tensor(tensor));
        }
        lowering.parameters()?;
        Ok(lowering)
    }

    /// An input as the file sees it: without the axis that data have for the samples, where it has none.
    fn entered(&mut self, k: usize, entry: &Entry) -> Result<Tensor> {
        let mut operand = Operand::Value(k);
        if entry.shape != entry.input.rest {
            let rest = entry.shape.clone();
            let name = &entry.input.name;
            let value = self.push(name, "Reshape", Reshape { rest }, &[operand])?;
            operand = Operand::Value(value);
        }
        Ok(Tensor {
            operand,
            rest: entry.shape.clone(),
            sample: (!entry.whole).then(|| Sample::alone(entry.input.sample_axis)),
            integer: entry.input.integer,
        })
    }

    /// Lowers all nodes.
    fn run(&mut self) -> Result<()> {
        let mut problems = Vec::new();
        for (k, node) in self.graph.nodes.iter().enumerate() {
            self.note_sources(k)?;
            self.node(node, &mut problems)?;
            self.count(k);
            self.drop_read(k);
        }
        if problems.is_empty() {
            return Ok(());
        }
        Err(Error::Unsupported(problems))
    }
}

impl Lowering<'_> {
    /// Enters the initializers: parameters in the flat order, the others as known values.
    fn parameters(&mut self) -> Result<()> {
        let mut offset = 0usize;
        for (k, root) in self.roots.entries.iter().enumerate() {
            let array = root.array.to_host();
            if let Some(layer) = &root.layer {
                check_finite(self.graph, &root.name, &array)?;
                self.extended.note_size(&root.array);
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
            Err(Error::Unsupported(why)) => {
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
    fn truth(&self, name: &str) -> Option<bool> {
        match self.values.get(name) {
            Some(Value::Host([one, many])) if one == many => Some(many.scalar()? != 0.0),
            _ => None,
        }
    }

    /// The name of the value that an If gives, where its condition is known.
    fn branch_taken<'n>(&self, node: &'n Node) -> Option<&'n str> {
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
    fn computed(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Vec<Value>> {
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
            Err(Error::Unsupported(why)) => why,
            Err(other) => return Err(other),
        };
        self.back_to(&mark);
        match self.on_host(node, inputs, &why) {
            Ok(Some(results)) => return Ok(results),
            Ok(None) => {}
            Err(Error::Unsupported(reason)) if !known => why = reason,
            Err(Error::Unsupported(_)) => {}
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
                Err(Error::Unsupported(_)) => self.back_to(&mark),
                Err(other) => return Err(other),
            }
        }
        Err(Error::Unsupported(why))
    }

    /// Whether a value is read by a node or is the output.
    pub(super) fn is_used(&self, name: &str) -> bool {
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

    /// Appends an operation of ours, infinities and NaN among its operands as it needs them ([`extended`]).
    pub(super) fn append(
        &mut self,
        node: &Node,
        op: impl Into<Op>,
        inputs: &[Operand],
        sample: Option<Sample>,
    ) -> Result<Tensor> {
        let op = op.into();
        let (inputs, kinds) = self.carried(&op, inputs)?;
        let result = self.append_as_is(node, op.clone(), &inputs, sample)?;
        if extended::moves(&op) {
            self.note_moved(&inputs, result.operand, kinds);
            self.note_root_moved(&op, &inputs, &result);
        }
        Ok(result)
    }

    /// Appends an operation of ours on what its operands store.
    fn append_as_is(
        &mut self,
        node: &Node,
        op: Op,
        inputs: &[Operand],
        sample: Option<Sample>,
    ) -> Result<Tensor> {
        let value = self.push(node.name(), node.op_type(), op, inputs)?;
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

    /// Adds an operation to the network, and notes whether it reads the data.
    fn push(
        &mut self,
        name: &str,
        operation: &str,
        op: impl Into<Op>,
        inputs: &[Operand],
    ) -> Result<ValueId> {
        let value = self.network.append(name, operation, op, inputs)?;
        let of_data = inputs.iter().any(|&operand| self.reads_data(operand));
        self.of_data.push(of_data);
        Ok(value)
    }

    fn reads_data(&self, operand: Operand) -> bool {
        matches!(operand, Operand::Value(value) if self.of_data[value])
    }

    /// Whether a tensor differs between samples.
    pub(super) fn depends(&self, tensor: &Tensor) -> bool {
        tensor.sample.is_some() || self.reads_data(tensor.operand)
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
        let operand = Operand::Constant(self.network.constants.len());
        self.note_constant(node, array, operand);
        // Read by several nodes, it has one memory, unless it is made of integers.
        let held = Array::from_host(&host);
        if self.placed.insert(held.address()) {
            self.room.hold(held.bytes())?;
        }
        self.network.constants.push(host);
        Ok(Tensor {
            operand,
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
                    return refuse(format!(
                        "its input {k} depends on the number of samples, so they do not stand each on its own; make it in the module of what does not (x.shape[0])"
                    ));
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
            Some(Some(Value::Host(arrays))) if arrays[0] != arrays[1] => refuse(format!(
                "its input {k} depends on the number of samples, so they do not stand each on its own; make it in the module of what does not (x.shape[0])"
            )),
            Some(Some(Value::Host(arrays))) => Ok(Some(arrays[1].clone())),
            Some(Some(Value::Tensor(Tensor {
                operand: Operand::Parameter(p),
                ..
            }))) => Ok(Some(Array::from_host(&self.network.parameters[*p].data))),
            Some(Some(_)) => refuse(format!("its input {k} should be a constant")),
            _ => Ok(None),
        }
    }

    /// Warns where the output is that of a softmax or a sigmoid, moved or not: losses take what comes before it.
    fn warn_of_output(&mut self, value: ValueId) {
        let first = self.network.inputs.len();
        let mut at = value;
        while let Some(node) = at.checked_sub(first).map(|k| &self.network.nodes[k]) {
            let loss = match &node.op {
                Op::Reshape(_) | Op::Permute(_) => match node.inputs[0] {
                    Operand::Value(before) => {
                        at = before;
                        continue;
                    }
                    _ => return,
                },
                Op::Softmax(_) => "cross-entropy",
                Op::Elementwise(op) if op.expr == Expr::input(0).unary(Unary::Sigmoid) => "bce",
                _ => return,
            };
            let warning = format!(
                "the output is that of a {} (node {:?}): {loss} takes logits, so export the network without it for that loss",
                node.operation, node.name
            );
            self.network.warnings.push(warning);
            return;
        }
    }

    fn finish(mut self) -> Result<Network> {
        let output = self.graph.output.as_str();
        let fault = |message: String| Error::file(&self.graph.path, message);
        // A parameter repeated for every sample has samples, but not of the input.
        let (value, sample, rest) = match self.values.get(output) {
            Some(Value::Tensor(Tensor {
                operand: Operand::Value(value),
                sample,
                rest,
                ..
            })) if self.of_data[*value] => (*value, *sample, rest.clone()),
            _ => {
                return Err(fault(format!(
                    "the output {output:?} does not depend on the input"
                )));
            }
        };
        if let Some(why) = self.dependence_on_place(&self.values[output]) {
            return Err(Error::Unsupported(vec![why.clone()]));
        }
        self.warn_of_output(value);
        let value = match self.exposed(Operand::Value(value))? {
            Operand::Value(exposed) => exposed,
            _ => value,
        };
        let (value, sample) = match sample {
            Some(sample) => (value, sample),
            // A whole output gets an axis for the samples, unless its first can serve.
            None if rest.len() > 1 && rest[0] == 1 => (value, Sample::alone(0)),
            None => {
                let rest = [&[1], &rest[..]].concat();
                let operand = [Operand::Value(value)];
                let op = Reshape { rest };
                let value = self.push(output, "Reshape", op, &operand)?;
                (value, Sample::alone(0))
            }
        };
        self.network.output = value;
        self.network.output_name = output.to_string();
        self.network.output_sample_axis = sample.axis;
        self.network.output_positions_first = sample.before > 1;
        self.derive()?;
        let read = self.network.nodes.iter().flat_map(|n| &n.inputs);
        let read: HashSet<Operand> = read.copied().collect();
        let unread = |(k, _): &(usize, &Parameter)| !read.contains(&Operand::Parameter(*k));
        let parameters = self.network.parameters.iter().enumerate();
        let idle: Vec<&str> = (parameters.filter(unread))
            .map(|(_, p)| p.name.as_str())
            .collect();
        let mut warnings = Vec::new();
        if !idle.is_empty() {
            warnings.push(format!(
                "parameters do not enter the output, so that their rows of the Hessian are zero: {}",
                list(idle)
            ));
        }
        if !self.dropouts.is_empty() {
            warnings.push(format!(
                "dropout was exported in training mode and is left out, as at inference: {}",
                list(self.dropouts.iter().map(|s| s.as_str()))
            ));
        }
        self.network.warnings.extend(warnings);
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
