//! Files of batch 1, where the samples of a value may lie on one of several axes (see `samples`).
//!
//! The operations of ours are the same whichever it is, as the rest of a value is its shape at batch 1: each sample is
//! computed as the file computes its one. The places only say which nodes would mix samples, and on which
//! axis of the output they lie. So a node's rule is tried with every place that its operands may have; those that
//! mix samples drop out, and the node is refused where none is left.

use super::super::graph::Node;
use super::super::samples::{Sample, places};
use super::room::Room;
use super::{Lowering, Value};
use crate::error::{Error, Result};
use crate::network::Operand;

/// Places of one operand: `None` where the whole operand belongs to one sample, or to all.
type Places = Vec<Option<Sample>>;

/// Combinations of places that are tried one by one; above, only those in which all operands agree.
const MOST_COMBINATIONS: usize = 64;

/// The state of a network before a rule is tried.
pub(super) struct Mark {
    nodes: usize,
    constants: usize,
    warnings: usize,
    room: Room,
    placed: usize,
}

impl Lowering<'_> {
    /// Applies a node's rule under every choice of places that its operands leave, and keeps the places of its
    /// results.
    ///
    /// # Errors
    /// Those of the rule under the first choice, where it fails under all.
    pub(super) fn under_choices(
        &mut self,
        node: &Node,
        inputs: &[Option<Value>],
    ) -> Result<Vec<Value>> {
        if self.batch.sizes != [1, 1] {
            return self.computed(node, inputs);
        }
        let open: Vec<Places> = (0..inputs.len())
            .map(|k| self.places_of(node, inputs, k))
            .collect();
        let combinations = combinations(inputs, &open);
        let several = combinations.len() > 1;
        let mut made: Option<Vec<Value>> = None;
        let mut fault: Option<Error> = None;
        let mut found: Vec<Places> = Vec::new();
        for combination in combinations {
            let mut inputs = inputs.to_vec();
            for (input, place) in inputs.iter_mut().zip(&combination) {
                if let (Some(Value::Tensor(tensor)), Some(place)) = (input, place) {
                    tensor.sample = *place;
                }
            }
            let mark = several.then(|| self.mark());
            match self.computed(node, &inputs) {
                Ok(results) => {
                    found.resize(results.len(), Vec::new());
                    for (places, result) in found.iter_mut().zip(&results) {
                        self.add_places(node, result, places);
                    }
                    if made.is_none() {
                        made = Some(results);
                        continue;
                    }
                }
                Err(error @ (Error::Unsupported { .. } | Error::Shape(_))) => {
                    fault.get_or_insert(error);
                }
                Err(other) => return Err(other),
            }
            if let Some(mark) = mark {
                self.back_to(&mark);
            }
        }
        let Some(mut made) = made else {
            return Err(fault.unwrap_or_else(|| {
                Error::Unsupported { nodes: vec![
                    "the samples of its operands lie on different axes, so it combines samples with each other"
                        .into(),
                ] }
            }));
        };
        for ((result, places), name) in made.iter_mut().zip(found).zip(&node.proto.output) {
            if let Value::Tensor(tensor) = result {
                tensor.sample = places.first().copied().flatten();
            }
            if places.len() > 1 {
                self.places.insert(name.clone(), places);
            }
        }
        Ok(made)
    }

    /// The places that operand `k` of a node may have; none listed where it has but one.
    fn places_of(&self, node: &Node, inputs: &[Option<Value>], k: usize) -> Places {
        match (node.input(k), inputs.get(k)) {
            (Some(name), Some(Some(Value::Tensor(_)))) => {
                self.places.get(name).cloned().unwrap_or_default()
            }
            _ => Vec::new(),
        }
    }

    /// Adds the places of a result to those found before. A reshape to a list of extents keeps what lies before
    /// the samples, and leaves open which axis has them.
    fn add_places(&self, node: &Node, result: &Value, found: &mut Places) {
        let Value::Tensor(tensor) = result else {
            return;
        };
        let reshapes = matches!(node.op_type(), "Reshape" | "Flatten");
        let new: Places = match tensor.sample {
            Some(sample) if reshapes => {
                let before = sample.elements_before(&tensor.rest);
                places(&tensor.rest, before, 1)
                    .into_iter()
                    .map(Some)
                    .collect()
            }
            other => vec![other],
        };
        for place in new {
            if !found.contains(&place) {
                found.push(place);
            }
        }
    }

    pub(super) fn mark(&self) -> Mark {
        Mark {
            nodes: self.network.nodes.len(),
            constants: self.network.constants.len(),
            warnings: self.network.warnings.len(),
            room: self.room.clone(),
            placed: self.placed.len(),
        }
    }

    /// Undoes what a rule did since the mark.
    pub(super) fn back_to(&mut self, mark: &Mark) {
        self.network.nodes.truncate(mark.nodes);
        self.of_data
            .truncate(self.network.inputs.len() + mark.nodes);
        self.network.constants.truncate(mark.constants);
        self.network.warnings.truncate(mark.warnings);
        let values = self.network.inputs.len() + mark.nodes;
        let gone = |operand: &Operand| match *operand {
            Operand::Value(value) => value >= values,
            Operand::Constant(constant) => constant >= mark.constants,
            Operand::Parameter(_) => false,
        };
        self.extended.forget(gone, values);
        self.roots_of_sums.forget(gone);
        self.room = mark.room.clone();
        self.placed.truncate(mark.placed);
    }
}

/// The combinations of places to try, one place per operand: all of them, or, where they are too many, those in which
/// the operands that leave a choice have theirs on the same axis, counted from the last.
fn combinations(inputs: &[Option<Value>], open: &[Places]) -> Vec<Vec<Option<Option<Sample>>>> {
    let count = open
        .iter()
        .try_fold(1usize, |all, places| all.checked_mul(places.len().max(1)));
    if count.is_some_and(|count| count <= MOST_COMBINATIONS) {
        let mut all = vec![Vec::with_capacity(open.len())];
        for places in open {
            let choices: Vec<Option<Option<Sample>>> = match places.len() {
                0 => vec![None],
                _ => places.iter().copied().map(Some).collect(),
            };
            all = all
                .iter()
                .flat_map(|start: &Vec<_>| {
                    choices.iter().map(move |&choice| {
                        let mut longer = start.clone();
                        longer.push(choice);
                        longer
                    })
                })
                .collect();
        }
        return all;
    }
    let rank = |k: usize| match &inputs[k] {
        Some(Value::Tensor(tensor)) => tensor.rest.len(),
        _ => 0,
    };
    let key = |k: usize, place: &Option<Sample>| {
        place.map(|s| (rank(k).wrapping_sub(s.axis), s.before, s.after))
    };
    let Some(first) = (0..open.len()).find(|&k| !open[k].is_empty()) else {
        return vec![vec![None; open.len()]];
    };
    let agreed = open[first].iter().filter_map(|place| {
        let wanted = key(first, place);
        let same = |k: usize| {
            if open[k].is_empty() {
                return Some(None);
            }
            let found = open[k].iter().find(|place| key(k, place) == wanted);
            found.map(|place| Some(*place))
        };
        (0..open.len()).map(same).collect::<Option<Vec<_>>>()
    });
    agreed.collect()
}
