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
mod finish;
mod index;
mod inputs;
mod layout;
mod logic;
mod node;
mod norm;
mod operand;
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
use super::graph::{Graph, Links, Node, is_float};
use super::parameters::Roots;
use super::samples::Sample;
use super::tensor::Array;
use crate::error::{Error, Result};
use crate::network::{Network, Operand, Parameter, masked};
use crate::ops::Reshape;
use crate::tensor::{HostArray, HostData};
use derived::DataOnly;
use extended::Extended;
use inputs::{Batch, Entry, Inputs, inputs};
use room::{Placed, Room, bytes};
pub(super) use rules::RULES;
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
    Err(Error::Unsupported {
        nodes: vec![why.into()],
    })
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
        Err(Error::Unsupported { nodes: problems })
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

    /// Whether a value is read by a node or is the output.
    pub(super) fn is_used(&self, name: &str) -> bool {
        name == self.graph.output || self.last_use.contains_key(name)
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

fn describe(node: &Node, why: &str) -> String {
    let of = match node.module() {
        Some(module) => format!(" of module {module:?}"),
        None => String::new(),
    };
    format!("node {:?} ({}){of}: {why}", node.name(), node.op_type())
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
