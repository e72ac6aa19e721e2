//! Entries taken or written over by number, where the numbers name the samples' own entries.
//!
//! Gather, GatherND and GatherElements give each element of the result one entry of their operand; ScatterND and
//! ScatterElements give each element of their updates one place in it. With the indices known, or known of the
//! data, both are a list of places per sample: each sample's elements must lie in that sample, as those of
//! `h[arange(batch), last]` or of `h[:, 0] = u` do. Then the operand is one axis of entries, and
//!
//! - a Gather takes the listed entries;
//! - a Scatter takes, for every place, the last update that is written there, else the entry that stood there:
//!   entries of the operand and the updates joined;
//! - a Scatter that adds puts the updates at their places and adds what stood there.

use super::super::fold;
use super::super::graph::Node;
use super::super::samples::Sample;
use super::{Array, Lowering, Tensor, Value, refuse};
use crate::error::{Error, Result};
use crate::network::Operand;
use crate::ops::{Concat, Lookup, Put};
use crate::tensor::Expr;

/// Entries of a sample above which their numbers are no longer exact in single precision.
const MOST_ENTRIES: usize = 1 << 24;

/// Whether a node takes or writes entries by number.
pub(super) fn selects(node: &Node) -> bool {
    let operation = node.op_type();
    let takes = matches!(operation, "Gather" | "GatherElements" | "GatherND");
    node.standard() && (takes || scatters(node))
}

fn scatters(node: &Node) -> bool {
    matches!(node.op_type(), "Scatter" | "ScatterElements" | "ScatterND")
}

/// A tensor of the file: its shape at batch 1, and where its samples sit.
#[derive(Clone, Debug, PartialEq)]
struct Part {
    rest: Vec<usize>,
    sample: Option<Sample>,
}

impl Part {
    fn of(tensor: &Tensor) -> Part {
        Part {
            rest: tensor.rest.clone(),
            sample: tensor.sample,
        }
    }

    fn shape(&self, batch: usize) -> Vec<usize> {
        match self.sample {
            Some(sample) => sample.shape(&self.rest, batch),
            None => self.rest.clone(),
        }
    }

    fn len(&self) -> usize {
        self.rest.iter().product()
    }

    /// The sample of an element and its position in it; `None` where all samples share it.
    fn split(&self, flat: usize, batch: usize) -> (Option<usize>, usize) {
        match self.sample {
            Some(sample) => {
                let (of, own) = sample.split(flat, &self.rest, batch);
                (Some(of), own)
            }
            None => (None, flat),
        }
    }
}

/// How a node takes or writes entries.
#[derive(Clone, Debug)]
pub(super) struct Selection {
    /// The operand of which entries are taken or written over.
    whole: Part,
    /// The elements that have a place in it: the result of a Gather, the updates of a Scatter.
    elements: Part,
    /// Elements that lie side by side in both and move together.
    run: usize,
    /// Whether the list says of each place what stands there in the end, the elements being numbered behind the
    /// entries of the operand; else it says of each element where its place is.
    written: bool,
}

impl Selection {
    fn new(node: &Node, whole: Part, elements: Part, indices: &[usize]) -> Selection {
        // The trailing axes that no index names and that do not hold the samples.
        let rank = whole.rest.len();
        let depth = indices.last().copied().unwrap_or(0);
        let named = match node.op_type() {
            "Gather" => fold::axis_of(node.int("axis", 0), rank).map_or(rank, |axis| axis + 1),
            "GatherND" => depth.saturating_add(node.int("batch_dims", 0).max(0) as usize),
            "ScatterND" => depth,
            _ => rank,
        };
        let after = |part: &Part| {
            let samples = part.sample.map_or(0, |s| s.axis + 1);
            part.rest.len() - samples.min(part.rest.len())
        };
        let trailing = rank.saturating_sub(named);
        let trailing = trailing.min(after(&whole)).min(after(&elements));
        Selection {
            run: whole.rest[rank - trailing..].iter().product(),
            whole,
            elements,
            written: scatters(node) && !adds(node),
        }
    }

    /// Entries of the list of a sample.
    pub fn count(&self) -> usize {
        let listed = if self.written {
            &self.whole
        } else {
            &self.elements
        };
        listed.len() / self.run
    }

    /// The list of each sample of a batch; one for all where the elements have no samples.
    ///
    /// # Errors
    /// Where an index has no entry, or an element's place is in another sample.
    pub fn lists(
        &self,
        node: &Node,
        indices: &Array,
        batch: usize,
    ) -> Result<Vec<Vec<usize>>, String> {
        let (places, shape) = fold::places(node, &self.whole.shape(batch), indices)?;
        if shape != self.elements.shape(batch) {
            return Err(format!(
                "indices of shape {:?} where the samples' own do not fit",
                indices.shape
            ));
        }
        let entries = self.whole.len() / self.run;
        let samples = if self.elements.sample.is_some() {
            batch
        } else {
            1
        };
        let unset = vec![0; self.elements.len() / self.run];
        let mut lists = vec![unset; samples];
        for (flat, place) in places.into_iter().enumerate() {
            let (of, element) = self.elements.split(flat, batch);
            let (home, place) = self.whole.split(place, batch);
            if home.is_some() && home != of {
                return Err(match (of, home) {
                    (Some(of), Some(home)) => format!(
                        "of the samples put through together, number {of} names entries of number {home}, and so they mix"
                    ),
                    _ => "it names entries of single samples for all of them".into(),
                });
            }
            if element % self.run == 0 {
                lists[of.unwrap_or(0)][element / self.run] = place / self.run;
            }
        }
        if self.written {
            for list in &mut lists {
                let mut stands: Vec<usize> = (0..entries).collect();
                for (element, place) in list.iter().enumerate() {
                    stands[*place] = entries + element;
                }
                *list = stands;
            }
        }
        Ok(lists)
    }
}

fn adds(node: &Node) -> bool {
    node.text("reduction").as_deref() == Some("add")
}

/// A list of entries: the same for all samples, or one that each has of its own.
enum List {
    Known(Vec<usize>),
    OfData(Operand),
}

impl Lowering<'_> {
    /// Gather and Scatter in all their forms, of each sample's own entries.
    pub(super) fn select(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Tensor> {
        let (Some(Some(x)), Some(Some(indices))) = (inputs.first(), inputs.get(1)) else {
            return Err(Error::Shape("an input is missing".into()));
        };
        let updates = match inputs.get(2) {
            Some(Some(updates)) => Some(updates),
            _ if scatters(node) => return Err(Error::Shape("input 2 is missing".into())),
            _ => None,
        };
        let reduction = node.text("reduction").unwrap_or_else(|| "none".into());
        if scatters(node) && !matches!(reduction.as_str(), "none" | "add") {
            return refuse(format!(
                "its reduction is {reduction:?}; none and add are supported"
            ));
        }
        let wholes = self.parts(x)?;
        let elements = match updates {
            Some(Value::Tensor(updates)) => vec![Part::of(updates)],
            _ => self.elements(node, x, indices, updates)?,
        };
        let rank = self.shapes(indices)?.swap_remove(1);
        let first = |mut parts: Vec<Part>| (!parts.is_empty()).then(|| parts.remove(0));
        let found = match indices {
            Value::Host(arrays) => self.known_selection(node, arrays, &wholes, &elements)?,
            _ => match (first(wholes), first(elements)) {
                (Some(whole), Some(elements)) => {
                    let selection = Selection::new(node, whole, elements, &rank);
                    let list = self.places_of_data(node, &selection);
                    list.map(|list| (selection, List::OfData(list)))
                }
                _ => None,
            },
        };
        let Some((selection, list)) = found else {
            return match indices {
                Value::Host(_) => refuse(
                    "its indices name entries of other samples, or of single ones for all, and so mix samples",
                ),
                _ => refuse(
                    "its indices depend on parameters, or on the data in a way that is not computed on the host; indices made of the inputs alone are supported",
                ),
            };
        };
        let entries = selection.whole.len() + selection.elements.len();
        if entries / selection.run > MOST_ENTRIES {
            return refuse(format!(
                "it chooses among {entries} entries, more than can be"
            ));
        }
        let x = self.own_part(node, x, &selection.whole)?;
        let x = self.runs(node, &x, selection.run)?;
        let (result, part) = match updates {
            None => (self.listed(node, &x, list)?, &selection.elements),
            Some(updates) => {
                let updates = self.own_part(node, updates, &selection.elements)?;
                let updates = self.runs(node, &updates, selection.run)?;
                let result = if selection.written {
                    let operands = [x.operand, updates.operand];
                    let joined = self.append(node, Concat { axis: 0 }, &operands, None)?;
                    self.listed(node, &joined, list)?
                } else {
                    let places = match list {
                        List::OfData(places) => places,
                        List::Known(places) => {
                            let places: Vec<i64> = places.iter().map(|&k| k as i64).collect();
                            let places = Array::ints(&[places.len()], places);
                            self.constant(node, &places)?.operand
                        }
                    };
                    let extent = x.rest[0];
                    let operands = [updates.operand, places];
                    let put = self.append(node, Put { axis: 0, extent }, &operands, None)?;
                    let sum = Expr::input(0) + Expr::input(1);
                    self.elementwise(node, sum, &[x, put], None)?
                };
                (result, &selection.whole)
            }
        };
        self.reshape_to(node, &result, part.rest.clone(), part.sample)
    }

    /// A tensor as runs of elements, the axis of the samples left out: operations see the samples on one of their
    /// own.
    fn runs(&mut self, node: &Node, x: &Tensor, run: usize) -> Result<Tensor> {
        let rest = vec![x.rest.iter().product::<usize>() / run, run];
        self.reshape_to(node, x, rest, None)
    }

    fn listed(&mut self, node: &Node, x: &Tensor, list: List) -> Result<Tensor> {
        match list {
            List::Known(list) => self.entries(node, x, 0, list.into_iter().map(Some).collect()),
            List::OfData(list) => self.append(node, Lookup { axis: 0 }, &[x.operand, list], None),
        }
    }

    /// A known operand cut to one sample, or a tensor as it is.
    fn own_part(&mut self, node: &Node, value: &Value, part: &Part) -> Result<Tensor> {
        match value {
            Value::Host(arrays) => {
                let rank = part.rest.len();
                let place = part.sample.map(|s| (rank - s.axis, s));
                let array = self.per_sample(arrays, place)?;
                let array = fold::expand(&array, &part.rest).map_err(Error::Shape)?;
                self.constant(node, &array)
            }
            Value::Tensor(tensor) => Ok(tensor.clone()),
            Value::Sequence(_) | Value::Unknown => refuse("an operand is no tensor"),
        }
    }

    /// The shapes of a value at the two batch sizes.
    fn shapes(&self, value: &Value) -> Result<Vec<Vec<usize>>> {
        match value {
            Value::Host(arrays) => Ok(arrays.iter().map(|a| a.shape.clone()).collect()),
            Value::Tensor(tensor) => Ok(self.batch.sizes.map(|n| tensor.shape(n)).to_vec()),
            Value::Sequence(_) | Value::Unknown => refuse("an operand is no tensor"),
        }
    }

    /// Where the samples of an operand may sit.
    fn parts(&self, value: &Value) -> Result<Vec<Part>> {
        match value {
            Value::Tensor(tensor) => Ok(vec![Part::of(tensor)]),
            _ => Ok(self.parts_of_shape(&self.shapes(value)?)),
        }
    }

    /// Where the samples may sit in a value of these shapes at the two batch sizes: on an axis that grows with the
    /// batch, alone or merged with positions.
    fn parts_of_shape(&self, shapes: &[Vec<usize>]) -> Vec<Part> {
        let [few, many] = self.batch.sizes;
        let (one, all) = (&shapes[0], &shapes[1]);
        let mut parts = Vec::new();
        if one.len() != all.len() {
            return parts;
        }
        for axis in 0..all.len() {
            let positions = all[axis] / many;
            let grows = positions * many == all[axis] && positions * few == one[axis];
            let alone = (0..all.len()).all(|k| k == axis || one[k] == all[k]);
            if !grows || !alone || positions == 0 {
                continue;
            }
            for (before, after) in [(1, positions), (positions, 1)] {
                let sample = Sample {
                    axis,
                    before,
                    after,
                };
                let mut rest = all.clone();
                rest[axis] = positions;
                let part = Part {
                    rest,
                    sample: Some(sample),
                };
                if !parts.contains(&part) {
                    parts.push(part);
                }
            }
        }
        if one == all {
            parts.push(Part {
                rest: all.clone(),
                sample: None,
            });
        }
        parts
    }

    /// Where the samples of a Gather's result or of a Scatter's known updates may sit: where those of the indices or
    /// of the operand are, as far as they are known.
    fn elements(
        &self,
        node: &Node,
        x: &Value,
        indices: &Value,
        updates: Option<&Value>,
    ) -> Result<Vec<Part>> {
        let (wholes, numbers) = (self.shapes(x)?, self.shapes(indices)?);
        let rank = wholes[1].len();
        let axis = fold::axis_of(node.int("axis", 0), rank);
        let depth = numbers[1].last().copied().unwrap_or(0);
        let shared = match node.op_type() {
            "GatherND" => usize::try_from(node.int("batch_dims", 0)).unwrap_or(usize::MAX),
            _ => 0,
        };
        let by_tuples = matches!(node.op_type(), "GatherND" | "ScatterND");
        if by_tuples && (numbers[1].is_empty() || shared.saturating_add(depth) > rank) {
            return Err(Error::Shape(format!(
                "indices of shape {:?} for {:?}",
                numbers[1], wholes[1]
            )));
        }
        let behind = shared.saturating_add(depth);
        let mut shapes = Vec::with_capacity(2);
        for (whole, numbers) in wholes.iter().zip(&numbers) {
            shapes.push(match node.op_type() {
                "Gather" => {
                    let axis = axis.clone().map_err(Error::Shape)?;
                    [&whole[..axis], numbers, &whole[axis + 1..]].concat()
                }
                _ if by_tuples => [&numbers[..numbers.len() - 1], &whole[behind..]].concat(),
                _ => numbers.clone(),
            });
        }
        if let Some(updates) = updates {
            let given = self.shapes(updates)?;
            if given != shapes {
                return Err(Error::Shape(format!(
                    "updates of shape {:?} where {:?} is meant",
                    given[1], shapes[1]
                )));
            }
        }
        let of = |value: &Value| match value {
            Value::Tensor(tensor) => tensor.sample,
            _ => None,
        };
        let by_indices = of(indices).and_then(|s| match (node.op_type(), &axis) {
            ("Gather", Ok(axis)) => Some(s.on(s.axis + axis)),
            _ if by_tuples => (s.axis + 1 < numbers[1].len()).then_some(s),
            _ => Some(s),
        });
        let by_operand = of(x).and_then(|s| match (node.op_type(), &axis) {
            ("Gather", Ok(axis)) if s.axis < *axis => Some(s),
            ("Gather", Ok(axis)) if s.axis > *axis => Some(s.on(s.axis + numbers[1].len() - 1)),
            ("Gather", _) => None,
            _ if by_tuples && s.axis < shared => Some(s),
            _ if by_tuples && s.axis >= behind => {
                Some(s.on(s.axis + numbers[1].len() - 1 - behind))
            }
            _ if by_tuples => None,
            (_, Ok(axis)) => (s.axis != *axis).then_some(s),
            _ => None,
        });
        let mut parts = self.parts_of_shape(&shapes);
        let known = by_indices.or(by_operand);
        // What is known comes first.
        parts.sort_by_key(|part| part.sample != known);
        if !matches!(indices, Value::Host(_)) {
            parts.truncate(usize::from(
                parts.first().is_some_and(|part| part.sample == known),
            ));
        }
        Ok(parts)
    }

    /// The first way of placing the samples by which known indices name each sample's own entries, and the list of
    /// them.
    fn known_selection(
        &mut self,
        node: &Node,
        arrays: &[Array; 2],
        wholes: &[Part],
        elements: &[Part],
    ) -> Result<Option<(Selection, List)>> {
        let mut checked = false;
        for whole in wholes {
            for elements in elements {
                let shape = &arrays[1].shape;
                let selection = Selection::new(node, whole.clone(), elements.clone(), shape);
                let mut list: Option<Vec<usize>> = None;
                let mut same = true;
                for (array, batch) in arrays.iter().zip(self.batch.sizes).rev() {
                    let shape = whole.shape(batch);
                    let all = shape.iter().product::<usize>();
                    let worked = all.saturating_add(array.len().saturating_mul(selection.run));
                    self.room.work(worked)?;
                    if !checked {
                        fold::places(node, &shape, array).map_err(Error::Shape)?;
                        checked = true;
                    }
                    let lists = selection.lists(node, array, batch).unwrap_or_default();
                    same &= !lists.is_empty();
                    for own in lists {
                        same &= list.as_ref().is_none_or(|list| *list == own);
                        list = Some(own);
                    }
                    if !same {
                        break;
                    }
                }
                if let Some(list) = list.filter(|_| same) {
                    return Ok(Some((selection, List::Known(list))));
                }
            }
        }
        Ok(None)
    }
}
