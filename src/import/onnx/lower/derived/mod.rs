//! Values that depend on the data alone, never on parameters, computed on the host where devices cannot.
//!
//! Such a value has no derivative to give, so whatever folds of constants may be done with it: integer division,
//! remainders, positions by value. It becomes a derived input of the network ([`crate::network::Derive`]): the
//! nodes that lead to it are evaluated on the data of a few samples at a time, by the same code as constants, and
//! what the device reads of them is uploaded as inputs are. Integers stay exact on the way.
//!
//! Which axis holds the samples follows from the rules of `lower`, run for their shapes alone. Numbers that
//! depend on a sample's place in its batch (`arange(batch)`) may only name entries of the samples themselves,
//! `h[arange(batch), last]`; [`super::select`] says how, and [`derivation`] checks it.

mod derivation;
mod host;
mod plan;

use super::super::fold::FOLDED;
use super::super::parameters::Roots;
use super::super::samples::Sample;
use super::super::tensor::Array;
use super::select::{Selection, selects};
use super::{Graph, Lowering, Value};
use crate::error::Result;
use crate::network::{Input, Network, Operand, ValueId};
use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Where an operand of a node that depends on the data alone comes from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// An input of the file.
    Given(usize),
    /// A result of another such node: its index in the file and which of its outputs.
    Made(usize, usize),
    /// Known at the two batch sizes.
    Known([Array; 2]),
}

/// A node of the file that depends on the data alone.
#[derive(Clone, Debug)]
struct Step {
    inputs: Vec<Option<Source>>,
    /// The node that is not evaluated on the host, among this one and those before it.
    blocked: Option<usize>,
    /// Elements of its results at the second batch size.
    elements: usize,
}

/// The content of a derived input.
#[derive(Clone, Debug)]
enum Wanted {
    /// A value of the file.
    Value { source: Source, sample: Sample },
    /// Where a node takes entries from or puts them, by indices that depend on the data.
    Places {
        node: usize,
        indices: Source,
        selection: Selection,
    },
}

/// What depends on the data alone, as far as the graph is lowered.
#[derive(Debug, Default)]
pub(super) struct DataOnly<'g> {
    /// Inputs of the network set aside, by the name of the value of the file that they may hold.
    slots: HashMap<&'g str, ValueId>,
    given: HashMap<&'g str, usize>,
    made: HashMap<&'g str, (usize, usize)>,
    steps: BTreeMap<usize, Step>,
    wanted: BTreeMap<ValueId, Wanted>,
    /// Derived inputs whose values depend on the place of the sample in its batch, and why.
    placed: HashMap<Operand, String>,
    /// While a node is lowered for its shape alone: whether a constant differed between samples.
    differs: Cell<Option<bool>>,
}

impl<'g> DataOnly<'g> {
    /// Sets an input of the network aside for each value that depends on the data alone, and for each choice of
    /// entries by one; those that are not needed are dropped in [`Lowering::derive`].
    ///
    /// None where there are no `batches`: a sample is an input as a whole.
    pub fn new(graph: &'g Graph, roots: &Roots, network: &mut Network, batches: bool) -> Self {
        let trained = |name: &str| {
            let root = roots.by_name.get(name);
            root.is_some_and(|&root| roots.entries[root].layer.is_some())
        };
        let names = graph.initializers.iter().map(|i| i.name.as_str());
        let mut known: HashSet<&str> = names.filter(|name| !trained(name)).collect();
        let inputs = graph.inputs.iter().map(|i| i.name.as_str());
        let mut data: HashSet<&str> = inputs.clone().collect();
        let mut only = DataOnly {
            given: inputs.enumerate().map(|(k, name)| (name, k)).collect(),
            ..DataOnly::default()
        };
        for node in graph.nodes.iter().filter(|_| batches) {
            let read = || node.proto.input.iter().filter(|name| !name.is_empty());
            let depends = |name: &String| data.contains(name.as_str());
            let alone = read().all(|name| depends(name) || known.contains(name.as_str()));
            // Shapes are known at import, whatever they are of.
            let shape = matches!(node.op_type(), "Shape" | "Size");
            let alone = alone && !node.proto.output.iter().any(|name| trained(name));
            let depends_on_data = read().any(depends);
            let chooses = selects(node) && node.input(1).is_some_and(|i| data.contains(i));
            for (k, name) in node.proto.output.iter().enumerate() {
                if name.is_empty() {
                    continue;
                }
                if shape {
                    known.insert(name);
                    continue;
                }
                if alone && depends_on_data || chooses && k == 0 {
                    only.slots.insert(name, network.inputs.len());
                    network.inputs.push(Input::new("", &[1]));
                }
                if alone && depends_on_data {
                    data.insert(name);
                } else if alone {
                    known.insert(name);
                }
            }
        }
        only
    }
}

impl<'g> Lowering<'g> {
    /// Where a value of the file that depends on the data alone comes from; `None` for other ones.
    fn source(&self, name: &str) -> Option<Source> {
        match self.values.get(name)? {
            Value::Host(arrays) => Some(Source::Known(arrays.clone())),
            Value::Tensor(_) => match self.data_only.given.get(name) {
                Some(&k) => Some(Source::Given(k)),
                None => {
                    let &(node, output) = self.data_only.made.get(name)?;
                    Some(Source::Made(node, output))
                }
            },
            Value::Sequence(_) | Value::Unknown => None,
        }
    }

    /// Keeps in mind what node `k` reads, where that depends on the data alone.
    ///
    /// # Errors
    /// As [`super::room::Room::hold`].
    pub(super) fn note_sources(&mut self, k: usize) -> Result<()> {
        let node = &self.graph.nodes[k];
        let mut inputs = Vec::with_capacity(node.proto.input.len());
        let mut data = false;
        let mut blocked = (!node.standard() || !FOLDED.contains(&node.op_type())).then_some(k);
        for at in 0..node.proto.input.len() {
            let Some(name) = node.input(at) else {
                inputs.push(None);
                continue;
            };
            let Some(source) = self.source(name) else {
                return Ok(());
            };
            data |= !matches!(source, Source::Known(_));
            if let Source::Made(before, _) = source {
                let before = self.data_only.steps.get(&before).and_then(|s| s.blocked);
                blocked = before.or(blocked);
            }
            inputs.push(Some(source));
        }
        if !data {
            return Ok(());
        }
        for source in inputs.iter().flatten() {
            if let Source::Known(arrays) = source {
                for array in arrays {
                    if self.placed.insert(array.address()) {
                        self.room.hold(array.bytes())?;
                    }
                }
            }
        }
        let step = Step {
            inputs,
            blocked,
            elements: 0,
        };
        self.data_only.steps.insert(k, step);
        for (output, name) in node.proto.output.iter().enumerate() {
            self.data_only.made.insert(name, (k, output));
        }
        Ok(())
    }

    /// Counts what node `k` made, once it is lowered.
    pub(super) fn count(&mut self, k: usize) {
        let batch = self.batch.sizes[1];
        let outputs = self.graph.nodes[k].proto.output.iter();
        let made = outputs.filter_map(|name| match self.values.get(name) {
            Some(Value::Tensor(tensor)) => Some(tensor.shape(batch).iter().product::<usize>()),
            _ => None,
        });
        let elements = made.fold(0, usize::saturating_add);
        if let Some(step) = self.data_only.steps.get_mut(&k) {
            step.elements = elements;
        }
    }

    /// Why a value depends on the place of the sample in its batch, where it does.
    pub(super) fn dependence_on_place(&self, value: &Value) -> Option<&String> {
        match value {
            Value::Tensor(tensor) => self.data_only.placed.get(&tensor.operand),
            _ => None,
        }
    }

    /// Lets a constant differ between samples where a node is lowered for its shape alone; `false` elsewhere.
    pub(super) fn may_differ(&self) -> bool {
        let allowed = self.data_only.differs.get().is_some();
        if allowed {
            self.data_only.differs.set(Some(true));
        }
        allowed
    }
}
