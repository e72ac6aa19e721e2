//! Values that depend on the data alone, never on parameters, computed on the host where devices cannot.
//!
//! Such a value has no derivative to give, so whatever folds of constants may be done with it: integer division,
//! remainders, positions by value. It becomes a derived input of the network ([`crate::network::Derive`]): the
//! nodes that lead to it are evaluated on the data of a few samples at a time, by the same code as constants, and
//! what the device reads of them is uploaded as inputs are. Integers stay exact on the way.
//!
//! Which axis holds the samples follows from the rules of `lower`, run for their shapes alone. Numbers that
//! depend on a sample's place in its batch (`arange(batch)`) may only name entries of the samples themselves,
//! `h[arange(batch), last]`; [`super::select`] says how, and [`Derivation`] checks it.

use super::super::fold::{self, FOLDED};
use super::super::graph::Node;
use super::super::parameters::Roots;
use super::super::samples::Sample;
use super::super::tensor::Array;
use super::logic::makes_integers;
use super::rules::{RULES, why_not};
use super::select::{Selection, selects};
use super::{Graph, Lowering, Tensor, Value, describe, refuse};
use crate::error::{Error, Result};
use crate::network::{Derive, Derived, Input, Network, Operand, ValueId};
use crate::tensor::Expr;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

/// Elements that the nodes on the host may make of one group of samples.
const MOST_ELEMENTS: usize = 1 << 26;

/// The largest integer up to which all are exact in single precision.
const EXACT: f64 = (1 << 24) as f64;

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

    /// The results of a node that depends on the data alone as derived inputs of the network; `None` where they
    /// cannot be. `refused` is what its rule says of it.
    ///
    /// # Errors
    /// What the rules of its shape report; [`Error::Unsupported`] where it is refused all the same.
    pub(super) fn on_host(
        &mut self,
        node: &Node,
        inputs: &[Option<Value>],
        refused: &[String],
    ) -> Result<Option<Vec<Value>>> {
        let outputs = node.proto.output.iter();
        let slots = outputs.map(|name| self.data_only.slots.get(name.as_str()).copied());
        let slots: Vec<Option<ValueId>> = slots.collect();
        let first = node.proto.output.first();
        let made = first.and_then(|name| self.data_only.made.get(name.as_str()));
        let Some(&(k, _)) = made else {
            return Ok(None);
        };
        match self.data_only.steps.get(&k).map(|step| step.blocked) {
            Some(None) => {}
            Some(Some(before)) if before != k => {
                let other = &self.graph.nodes[before];
                return refuse(format!(
                    "of the data it is computed on the host, where node {:?} ({}) before it is not",
                    other.name(),
                    other.op_type()
                ));
            }
            _ => return Ok(None),
        }
        let before = inputs
            .iter()
            .flatten()
            .find_map(|value| self.dependence_on_place(value));
        let before = before.cloned();
        let mark = self.mark();
        self.data_only.differs.set(Some(false));
        let outlines = self.outlines(node, inputs);
        let differs = self.data_only.differs.take() == Some(true);
        let placed = before.or_else(|| differs.then(|| describe(node, &refused.join("; "))));
        self.back_to(&mark);
        let outlines = outlines?;
        let mut results = Vec::with_capacity(outlines.len());
        for (output, outline) in outlines.into_iter().enumerate() {
            let name = &node.proto.output[output];
            let (Some(Some(slot)), Some(sample)) = (slots.get(output), outline.sample) else {
                if name.is_empty() {
                    results.push(Value::Unknown);
                    continue;
                }
                return Ok(None);
            };
            let source = Source::Made(k, output);
            let tensor = self.derived_input(*slot, name, outline, Wanted::Value { source, sample });
            if let Some(why) = &placed {
                self.data_only.placed.insert(tensor.operand, why.clone());
            }
            results.push(Value::Tensor(tensor));
        }
        Ok(Some(results))
    }

    fn derived_input(
        &mut self,
        slot: ValueId,
        name: &str,
        outline: Tensor,
        wanted: Wanted,
    ) -> Tensor {
        self.network.inputs[slot] = Input {
            integer: outline.integer,
            sample_axis: outline.sample.map_or(0, |s| s.axis),
            ..Input::new(name, &outline.rest)
        };
        self.data_only.wanted.insert(slot, wanted);
        Tensor {
            operand: Operand::Value(slot),
            ..outline
        }
    }

    /// The results of a node that is computed on the host: their shapes and samples, and no more.
    fn outlines(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Vec<Tensor>> {
        let integer = makes_integers(node, inputs);
        let mut outlines = match node.op_type() {
            "ArgMax" | "ArgMin" => {
                let x = self.tensor(node, inputs, 0)?;
                let rank = x.rest.len();
                let axis = fold::axis_of(node.int("axis", 0), rank).map_err(Error::Shape)?;
                self.not_over_samples(&x, axis)?;
                let mut outline = x;
                if node.int("keepdims", 1) != 0 {
                    outline.rest[axis] = 1;
                } else {
                    outline.rest.remove(axis);
                    outline.sample = outline
                        .sample
                        .map(|s| if s.axis > axis { s.on(s.axis - 1) } else { s });
                }
                vec![outline]
            }
            "TopK" => {
                let mut outline = self.tensor(node, inputs, 0)?;
                let count = self.host(inputs, 1)?;
                let top = fold::top(node, &outline.rest, count.as_ref());
                let (axis, count) = top.map_err(Error::Shape)?;
                self.not_over_samples(&outline, axis)?;
                outline.rest[axis] = count;
                vec![outline.clone(), outline]
            }
            "BitShift" | "BitwiseAnd" | "BitwiseNot" | "BitwiseOr" | "BitwiseXor" | "Cast"
            | "Ceil" | "Div" | "Floor" | "Mod" | "Pow" | "Round" => {
                let given: Vec<Value> = inputs.iter().flatten().cloned().collect();
                let inputs = (0..given.len()).map(Expr::input);
                let all = inputs.reduce(|sum, x| sum + x);
                let all = all.ok_or_else(|| Error::Shape("it has no operands".into()))?;
                vec![self.pointwise(node, all, &given)?]
            }
            operation if !RULES.contains(&operation) => return refuse(why_not(node)),
            _ => {
                let values = self.lowered(node, inputs)?;
                let tensor = |value| match value {
                    Value::Tensor(tensor) => Ok(tensor),
                    _ => refuse("its result is no tensor"),
                };
                values.into_iter().map(tensor).collect::<Result<_>>()?
            }
        };
        for (k, outline) in outlines.iter_mut().enumerate() {
            outline.integer = integer || node.op_type() == "TopK" && k == 1;
        }
        Ok(outlines)
    }

    /// A list per sample of the entries that a node takes or of the places it puts them, by indices that depend on
    /// the data alone; `None` where they do not, or are not computed on the host.
    pub(super) fn places_of_data(&mut self, node: &Node, selection: &Selection) -> Option<Operand> {
        let slot = *self.data_only.slots.get(node.proto.output[0].as_str())?;
        let indices = self.source(node.input(1)?)?;
        match indices {
            Source::Known(_) => return None,
            Source::Made(before, _) => {
                let step = self.data_only.steps.get(&before)?;
                if step.blocked.is_some() {
                    return None;
                }
            }
            Source::Given(_) => {}
        }
        let wanted = Wanted::Places {
            node: *self.links.maker.get(node.proto.output[0].as_str())?,
            indices,
            selection: selection.clone(),
        };
        let outline = Tensor {
            operand: Operand::Value(slot),
            rest: vec![selection.count()],
            sample: None,
            integer: true,
        };
        Some(
            self.derived_input(slot, node.name(), outline, wanted)
                .operand,
        )
    }

    /// Drops the inputs that were set aside and are not read, and what leads to nothing since; the others are
    /// computed by a [`Derivation`].
    ///
    /// # Errors
    /// [`Error::Unsupported`] where that were too much work.
    pub(super) fn derive(&mut self) -> Result<()> {
        let given = self.data_only.given.len();
        let (network, wanted) = (&mut self.network, &self.data_only.wanted);
        // Nodes that only led to what the host computes are left out; without derived inputs all stay.
        let prunes = !wanted.is_empty();
        let first = network.inputs.len();
        let mut live = vec![false; first + network.nodes.len()];
        live[network.output] = true;
        for k in (0..network.nodes.len()).rev() {
            if live[first + k] || !prunes {
                for operand in &network.nodes[k].inputs {
                    if let Operand::Value(value) = operand {
                        live[*value] = true;
                    }
                }
            }
        }
        let kept: Vec<(ValueId, &Wanted)> = wanted
            .iter()
            .filter(|(slot, _)| live[**slot])
            .map(|(slot, wanted)| (*slot, wanted))
            .collect();
        let mut renamed = vec![0; live.len()];
        let mut next = 0;
        for value in 0..live.len() {
            let stays = match value {
                _ if value < given => true,
                _ if value < first => live[value],
                _ => live[value] || !prunes,
            };
            renamed[value] = next;
            next += usize::from(stays);
        }
        let mut k = 0;
        network.nodes.retain(|_| {
            k += 1;
            live[first + k - 1] || !prunes
        });
        for node in &mut network.nodes {
            for operand in &mut node.inputs {
                if let Operand::Value(value) = operand {
                    *value = renamed[*value];
                }
            }
        }
        network.output = renamed[network.output];
        let mut inputs = std::mem::take(&mut network.inputs).into_iter();
        network.inputs.extend(inputs.by_ref().take(given));
        network.inputs.extend(
            inputs
                .enumerate()
                .filter(|(k, _)| live[given + k])
                .map(|(_, input)| input),
        );
        if kept.is_empty() {
            return Ok(());
        }
        let kept: Vec<Wanted> = kept.into_iter().map(|(_, wanted)| wanted.clone()).collect();
        let derivation = self.derivation(given, &kept)?;
        self.network.derived = Some(Derived {
            count: kept.len(),
            compute: Arc::new(derivation),
        });
        Ok(())
    }

    /// The nodes that lead to what is wanted, in the file's order.
    fn derivation(&self, given: usize, wanted: &[Wanted]) -> Result<Derivation> {
        let mut needed = BTreeSet::new();
        let mut open = Vec::new();
        for wanted in wanted {
            let (Wanted::Value { source, .. }
            | Wanted::Places {
                indices: source, ..
            }) = wanted;
            open.push(source);
        }
        while let Some(source) = open.pop() {
            if let Source::Made(k, _) = source
                && needed.insert(*k)
            {
                open.extend(self.data_only.steps[k].inputs.iter().flatten());
            }
        }
        let places = wanted.iter().any(|w| matches!(w, Wanted::Places { .. }));
        let elements = needed.iter().map(|k| self.data_only.steps[k].elements);
        let elements = elements.fold(0, usize::saturating_add);
        if elements > MOST_ELEMENTS {
            return refuse(format!(
                "what is computed of the data on the host is {elements} numbers for {} samples, more than can be; export with a smaller batch or shorter sequences",
                self.batch.sizes[1]
            ));
        }
        // Whose entries are taken shows where there are several samples.
        let size = usize::from(places);
        let at = |arrays: &[Array; 2]| arrays[size].clone();
        let mut numbers = HashMap::new();
        let mut steps = Vec::with_capacity(needed.len());
        let read = |source: &Source, numbers: &HashMap<usize, usize>| match source {
            Source::Given(k) => Read::Given(*k),
            Source::Made(k, output) => Read::Made(numbers[k], *output),
            Source::Known(arrays) => Read::Known(at(arrays)),
        };
        for k in needed {
            let inputs = self.data_only.steps[&k].inputs.iter();
            let inputs = inputs.map(|i| i.as_ref().map(|source| read(source, &numbers)));
            steps.push((self.graph.nodes[k].clone(), inputs.collect()));
            numbers.insert(k, numbers.len());
        }
        let inputs = &self.network.inputs;
        let outputs = wanted.iter().zip(&inputs[given..]).map(|(wanted, input)| {
            let (source, what) = match wanted {
                Wanted::Value { source, sample } => (source, What::Value(*sample)),
                Wanted::Places {
                    node,
                    indices,
                    selection,
                } => {
                    let node = self.graph.nodes[*node].clone();
                    (indices, What::Places(Box::new((node, selection.clone()))))
                }
            };
            Output {
                read: read(source, &numbers),
                what,
                input: input.clone(),
            }
        });
        Ok(Derivation {
            path: self.graph.path.clone(),
            batch: self.batch.sizes[size],
            inputs: inputs[..given].to_vec(),
            outputs: outputs.collect(),
            steps,
        })
    }
}

/// Where a step of a [`Derivation`] reads.
#[derive(Clone, Debug)]
enum Read {
    Given(usize),
    Made(usize, usize),
    Known(Array),
}

/// What an output of a [`Derivation`] is made of what it reads.
#[derive(Clone, Debug)]
enum What {
    /// Each sample's part of it.
    Value(Sample),
    /// The entries that the node takes or the places where it puts them, by these indices.
    Places(Box<(Node, Selection)>),
}

#[derive(Clone, Debug)]
struct Output {
    read: Read,
    what: What,
    input: Input,
}

/// The nodes of a file that depend on its data alone, evaluated for as many samples at a time as the file or the
/// probe of its shapes has.
#[derive(Clone, Debug)]
struct Derivation {
    path: PathBuf,
    batch: usize,
    inputs: Vec<Input>,
    steps: Vec<(Node, Vec<Option<Read>>)>,
    outputs: Vec<Output>,
}

impl Derivation {
    /// An input of the file for a batch of samples, `[samples, rest…]` with the samples moved to their axis.
    fn given(&self, k: usize, values: &[f64], samples: &[usize]) -> Array {
        let input = &self.inputs[k];
        let each: usize = input.rest.iter().product();
        let inner: usize = input.rest[input.sample_axis..].iter().product();
        let mut moved = Vec::with_capacity(each * samples.len());
        for outer in 0..each / inner.max(1) {
            for sample in samples {
                let start = sample * each + outer * inner;
                moved.extend_from_slice(&values[start..start + inner]);
            }
        }
        let shape = Sample::alone(input.sample_axis).shape(&input.rest, samples.len());
        if input.integer {
            Array::ints(&shape, moved.into_iter().map(|v| v as i64).collect())
        } else {
            Array::reals(&shape, moved, true)
        }
    }

    /// Adds the derived inputs of some of the samples to `results`, the first `wanted` of them.
    fn group(
        &self,
        inputs: &[Vec<f64>],
        samples: &[usize],
        wanted: usize,
        results: &mut [Vec<f64>],
    ) -> Result<(), String> {
        let mut given: Vec<Option<Array>> = vec![None; self.inputs.len()];
        let mut made: Vec<Vec<Array>> = Vec::with_capacity(self.steps.len());
        let mut read = |read: &Read, made: &[Vec<Array>]| match read {
            Read::Known(array) => Ok(array.clone()),
            Read::Given(k) => Ok(given[*k]
                .get_or_insert_with(|| self.given(*k, &inputs[*k], samples))
                .clone()),
            Read::Made(step, output) => {
                let array = made[*step].get(*output).cloned();
                array.ok_or_else(|| format!("its output {output} is missing"))
            }
        };
        for (node, operands) in &self.steps {
            let operands: Vec<Option<Array>> = operands
                .iter()
                .map(|operand| operand.as_ref().map(|r| read(r, &made)).transpose())
                .collect::<Result<_, String>>()?;
            let results = fold::evaluate(node, &operands);
            made.push(results.map_err(|why| describe(node, &why))?);
        }
        for (output, result) in self.outputs.iter().zip(results) {
            let array = read(&output.read, &made)?;
            match &output.what {
                What::Value(sample) => {
                    let shape = sample.shape(&output.input.rest, self.batch);
                    if array.shape != shape {
                        return Err(format!(
                            "{:?} is of shape {:?} where {shape:?} was expected",
                            output.input.name, array.shape
                        ));
                    }
                    let values = array.to_f64();
                    let each = values.len() / self.batch;
                    let start = result.len();
                    result.resize(start + each * wanted, 0.0);
                    for (flat, value) in values.into_iter().enumerate() {
                        let (of, own) = sample.split(flat, &output.input.rest, self.batch);
                        if of < wanted {
                            result[start + of * each + own] = value;
                        }
                    }
                }
                What::Places(places) => {
                    let (node, selection) = &**places;
                    let lists = selection.lists(node, &array, self.batch);
                    let lists = lists.map_err(|why| describe(node, &why))?;
                    let lists = lists.into_iter().take(wanted).flatten();
                    result.extend(lists.map(|place| place as f64));
                }
            }
        }
        Ok(())
    }

    /// Refuses numbers that the table they look up has not, and integers that single precision does not hold.
    fn check(&self, output: &Output, values: &[f64], first: usize) -> Result<()> {
        let input = &output.input;
        if !input.integer {
            return Ok(());
        }
        let rows = input.limit.map_or(f64::INFINITY, |limit| limit as f64);
        let taken = |v: f64| -rows <= v && v < rows && v.abs() <= EXACT;
        let Some(at) = values.iter().position(|&v| !taken(v)) else {
            return Ok(());
        };
        let why = match input.limit {
            Some(limit) => format!("it looks up an axis of {limit} entries, 0 to {}", limit - 1),
            None => format!("integers up to {EXACT} are exact in single precision"),
        };
        let each: usize = input.rest.iter().product();
        Err(Error::Value(format!(
            "{}: {:?}, computed of the data, is {} for sample {}, and {why}; mend the data or leave the sample out",
            self.path.display(),
            input.name,
            values[at],
            first + at / each.max(1)
        )))
    }
}

impl Derive for Derivation {
    fn derive(&self, inputs: &[Vec<f64>], samples: usize, first: usize) -> Result<Vec<Vec<f64>>> {
        let mut results = vec![Vec::new(); self.outputs.len()];
        for start in (0..samples).step_by(self.batch) {
            let wanted = self.batch.min(samples - start);
            // The last sample stands in for those that a batch of the file has more.
            let last = samples - 1;
            let group: Vec<usize> = (start..start + self.batch).map(|n| n.min(last)).collect();
            let done = self.group(inputs, &group, wanted, &mut results);
            done.map_err(|why| {
                let range = match wanted {
                    1 => format!("sample {}", first + start),
                    _ => format!(
                        "samples {} to {}",
                        first + start,
                        first + start + wanted - 1
                    ),
                };
                Error::Value(format!("{}: {range}: {why}", self.path.display()))
            })?;
        }
        for (output, values) in self.outputs.iter().zip(&results) {
            self.check(output, values, first)?;
        }
        Ok(results)
    }
}
