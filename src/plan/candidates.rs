//! The parameters that may be moved through a pre-activation, and what these depend on.

use crate::jacobian::passes::Reach;
use crate::network::{Network, Operand, ValueId};
use crate::ops::{Op, Operation};
use std::collections::HashMap;

/// The parameters that may be moved through a pre-activation.
#[derive(Default)]
pub(super) struct Candidates {
    /// By parameter.
    pub(super) all: Vec<Option<Candidate>>,
    pub(super) depends: Dependence,
}

impl Candidates {
    /// Finds the candidates of a network; `outer` says of each parameter whether its factor is an outer one.
    pub(super) fn new(network: &Network, outer: &[bool]) -> Candidates {
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
    pub(super) fn second(self, network: &Network) -> Candidates {
        let depends = Dependence::new(network, &self.all);
        Candidates { depends, ..self }
    }
}

/// A parameter that may be moved through a pre-activation.
pub(super) struct Candidate {
    /// The pre-activation.
    pub(super) value: ValueId,
    /// Its entries.
    pub(super) outputs: usize,
    /// The other operands of the node that uses the parameter: `a` is made of them.
    inputs: Vec<Operand>,
}

impl Candidate {
    /// The pre-activation of a parameter of an outer factor, whose one site makes nothing but outputs: a linear layer
    /// at one position, or the bias of one.
    pub(super) fn find(network: &Network, users: &Users, parameter: usize) -> Option<Candidate> {
        let (node, operand) = single_use(network, users, Operand::Parameter(parameter))?;
        let own = first(network) + node;
        let op = &network.nodes[node].op;
        let moves_alone = match op {
            Op::Linear(_) | Op::Conv(_) => operand == 1,
            Op::Elementwise(op) => op.expr.derivative(operand).as_constant() == Some(1.0),
            _ => false,
        };
        if !moves_alone {
            return None;
        }
        let read = network.nodes[node].inputs.iter().enumerate();
        let beside =
            |(j, _): &(usize, &Operand)| *j != operand && !matches!(op, Op::Elementwise(_));
        Some(Candidate {
            inputs: read.filter(beside).map(|(_, input)| *input).collect(),
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
        let keeps = match &network.nodes[node].op {
            Op::Elementwise(op) => op.expr.derivative(operand).as_constant() == Some(1.0),
            Op::Reshape(_) => true,
            _ => false,
        };
        if !keeps || count(next) != count(value) {
            break;
        }
        value = next;
    }
    value
}

/// The only reader of each operand; `None` if there are several.
pub(super) struct Users(HashMap<Operand, Option<(usize, usize)>>);

impl Users {
    /// Finds the readers of a network's operands.
    pub(super) fn new(network: &Network) -> Users {
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
    pub(super) fn sole(&self, operand: Operand) -> Option<(usize, usize)> {
        self.0.get(&operand).copied().flatten()
    }
}

/// The only place where a parameter meets the samples, through transpositions and reshapes of it.
fn single_use(network: &Network, users: &Users, mut wanted: Operand) -> Option<(usize, usize)> {
    loop {
        let (node, operand) = users.sole(wanted)?;
        let made_of_it_alone = network.nodes[node].inputs.len() == 1;
        match &network.nodes[node].op {
            Op::Permute(_) | Op::Reshape(_) if made_of_it_alone => {
                wanted = Operand::Value(first(network) + node);
                if wanted == Operand::Value(network.output) {
                    return None;
                }
            }
            _ => return Some((node, operand)),
        }
    }
}

/// For each candidate, the parameters that the inputs of its site depend on; empty for G, where that does not matter.
#[derive(Default)]
pub(super) struct Dependence {
    of_candidates: Vec<Option<Bits>>,
}

impl Dependence {
    pub(super) fn new(network: &Network, candidates: &[Option<Candidate>]) -> Dependence {
        if candidates.iter().all(Option::is_none) {
            return Dependence::default();
        }
        let (first, parameters) = (first(network), network.parameters.len());
        let mut values = vec![Bits::new(parameters); first];
        let add = |bits: &mut Bits, values: &[Bits], operand: Operand| match operand {
            Operand::Value(value) => bits.add(&values[value]),
            Operand::Parameter(parameter) => bits.insert(parameter),
            Operand::Constant(_) => {}
        };
        for node in &network.nodes {
            let mut own = Bits::new(parameters);
            for (j, operand) in node.inputs.iter().enumerate() {
                if node.op.differentiates(j) {
                    add(&mut own, &values, *operand);
                }
            }
            values.push(own);
        }
        let of_candidate = |candidate: &Candidate| {
            let mut bits = Bits::new(parameters);
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
    pub(super) fn on(&self, own: usize, parameter: usize) -> bool {
        let bits = self.of_candidates.get(own).and_then(Option::as_ref);
        bits.is_some_and(|bits| bits.contains(parameter))
    }
}

/// A set of small numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    /// Nothing of `count` numbers.
    pub(super) fn new(count: usize) -> Bits {
        Bits(vec![0; count.div_ceil(64)])
    }

    /// Puts a number in.
    pub(super) fn insert(&mut self, number: usize) {
        self.0[number / 64] |= 1 << (number % 64);
    }

    /// Puts all numbers of another set in.
    pub(super) fn add(&mut self, other: &Bits) {
        self.0
            .iter_mut()
            .zip(&other.0)
            .for_each(|(own, o)| *own |= o);
    }

    /// Whether a number is in.
    pub(super) fn contains(&self, number: usize) -> bool {
        self.0[number / 64] >> (number % 64) & 1 == 1
    }

    /// The numbers, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        let all = 0..64 * self.0.len();
        all.filter(|&number| self.contains(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bit_set_returns_inserted_numbers() {
        let (mut few, mut more) = (Bits::new(130), Bits::new(130));
        [0, 63, 64, 129].into_iter().for_each(|k| few.insert(k));
        more.insert(5);
        more.add(&few);
        assert_eq!(more.iter().collect::<Vec<_>>(), [0, 5, 63, 64, 129]);
        assert!(!few.contains(5) && few.contains(129));
    }
}
