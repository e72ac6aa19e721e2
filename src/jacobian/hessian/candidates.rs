//! The parameters whose tangents those of a pre-activation may stand for, and what the inputs of their sites depend on.

use super::parameter_set::ParameterSet;
use crate::jacobian::passes::Reach;
use crate::network::{Network, Operand, ValueId};
use crate::ops::Operation;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::ops::Range;

/// The parameters whose tangents those of a pre-activation may stand for.
#[derive(Default)]
pub(crate) struct Candidates {
    /// By parameter.
    pub(crate) all: Vec<Option<Candidate>>,
    pub(crate) depends: Dependence,
}

impl Candidates {
    /// Finds the candidates of a network; `outer` says of each parameter whether its factor is an outer one.
    pub(crate) fn new(network: &Network, outer: &[bool]) -> Candidates {
        let reach = Reach::forward_only(network);
        let users = Users::new(network);
        let find = |k: usize| {
            let candidate = Candidate::find(network, &users, k);
            candidate.filter(|c| outer[k] && reach.is_sampled(c.value))
        };
        Candidates {
            all: (0..outer.len()).map(find).collect(),
            depends: Dependence::default(),
        }
    }

    /// Restricts the candidates for H and H − G, where second derivatives of the network are part of the matrix: a pre-activation
    /// then stands for its parameters only beside parameters that its inputs do not depend on.
    pub(crate) fn second(self, network: &Network) -> Candidates {
        let depends = Dependence::new(network, &self.all);
        Candidates { depends, ..self }
    }
}

/// A parameter whose tangents those of a pre-activation may stand for.
pub(crate) struct Candidate {
    /// The pre-activation.
    pub(crate) value: ValueId,
    /// Its entries.
    pub(crate) outputs: usize,
    /// The other operands of the node that uses the parameter: `a` is made of them.
    inputs: Vec<Operand>,
}

impl Candidate {
    /// The pre-activation of a parameter of an outer factor, whose one site makes nothing but outputs: a linear layer
    /// at one position, or the bias of one.
    pub(crate) fn find(network: &Network, users: &Users, parameter: usize) -> Option<Candidate> {
        let (node, operand) = single_use(network, users, Operand::Parameter(parameter))?;
        let own = first(network) + node;
        let node = &network.nodes[node];
        let beside = node.op.offset_inputs(operand)?;
        Some(Candidate {
            inputs: beside.iter().map(|&j| node.inputs[j]).collect(),
            value: last_of_sums(network, users, own),
            outputs: network.rest(own).iter().product(),
        })
    }
}

fn first(network: &Network) -> usize {
    network.inputs.len()
}

/// Follows a value as long as a sum (or another shape) is all that it goes into: an offset to the last is one to it.
fn last_of_sums(network: &Network, users: &Users, mut value: ValueId) -> ValueId {
    let count = |value: ValueId| network.rest(value).iter().product::<usize>();
    while value != network.output {
        let Some((node, operand)) = users.sole(Operand::Value(value)) else {
            break;
        };
        let next = first(network) + node;
        let passes = network.nodes[node].op.passes_offsets(operand);
        if !passes || count(next) != count(value) {
            break;
        }
        value = next;
    }
    value
}

/// The only reader of each operand; `None` if there are several.
pub(crate) struct Users(HashMap<Operand, Option<(usize, usize)>>);

impl Users {
    /// Finds the readers of a network's operands.
    pub(crate) fn new(network: &Network) -> Users {
        let mut users = HashMap::new();
        for (k, node) in network.nodes.iter().enumerate() {
            for (j, operand) in node.inputs.iter().enumerate() {
                let user = users.entry(*operand);
                user.and_modify(|only| *only = None).or_insert(Some((k, j)));
            }
        }
        Users(users)
    }

    /// The only node, and its operand, that reads an operand; `None` where there is none or several.
    pub(crate) fn sole(&self, operand: Operand) -> Option<(usize, usize)> {
        self.0.get(&operand).copied().flatten()
    }
}

/// The only place where a parameter meets the samples, through transpositions and reshapes of it.
fn single_use(network: &Network, users: &Users, mut wanted: Operand) -> Option<(usize, usize)> {
    loop {
        let (node, operand) = users.sole(wanted)?;
        if !network.nodes[node].op.relabels() {
            return Some((node, operand));
        }
        wanted = Operand::Value(first(network) + node);
        if wanted == Operand::Value(network.output) {
            return None;
        }
    }
}

/// For each candidate, the parameters that the inputs of its site depend on; empty for G, where that does not matter.
#[derive(Default)]
pub(crate) struct Dependence {
    of_candidates: Vec<Option<ParameterSet>>,
}

impl Dependence {
    pub(crate) fn new(network: &Network, candidates: &[Option<Candidate>]) -> Dependence {
        if candidates.iter().all(Option::is_none) {
            return Dependence::default();
        }
        let (first, parameters) = (first(network), network.parameters.len());
        let mut values = vec![ParameterSet::new(parameters); first];
        let add = |bits: &mut ParameterSet, values: &[ParameterSet], operand: Operand| match operand
        {
            Operand::Value(value) => bits.add(&values[value]),
            Operand::Parameter(parameter) => bits.insert(parameter),
            Operand::Constant(_) => {}
        };
        for node in &network.nodes {
            let mut own = ParameterSet::new(parameters);
            for (j, operand) in node.inputs.iter().enumerate() {
                if node.op.differentiates(j) {
                    add(&mut own, &values, *operand);
                }
            }
            values.push(own);
        }
        let of_candidate = |candidate: &Candidate| {
            let mut bits = ParameterSet::new(parameters);
            let inputs = candidate.inputs.iter();
            inputs.for_each(|input| add(&mut bits, &values, *input));
            bits
        };
        let candidates = candidates.iter();
        Dependence {
            of_candidates: candidates.map(|c| c.as_ref().map(of_candidate)).collect(),
        }
    }

    /// Whether what the site of a candidate, that of `own`, reads depends on a parameter, where that matters.
    pub(crate) fn on(&self, own: usize, parameter: usize) -> bool {
        let bits = self.of_candidates.get(own).and_then(Option::as_ref);
        bits.is_some_and(|bits| bits.contains(parameter))
    }
}

/// The least number of tangents for ranges of parameters: one for each of their own entries, or of those of a pre-activation.
pub(crate) fn least_tangents(
    network: &Network,
    users: &Users,
    pieces: &[(usize, Range<usize>)],
) -> usize {
    let mut count = 0;
    let mut through: BTreeMap<ValueId, (usize, usize)> = BTreeMap::new();
    for (parameter, range) in pieces {
        match Candidate::find(network, users, *parameter) {
            None => count += range.len(),
            Some(candidate) => {
                let own = through.entry(candidate.value);
                own.or_insert((candidate.outputs, 0)).1 += range.len();
            }
        }
    }
    let shared = through.values().map(|(outputs, own)| *outputs.min(own));
    count + shared.sum::<usize>()
}
