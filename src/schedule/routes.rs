//! Ways to the exact Hessian: which parameters are moved to get the block of each pair.
//!
//! A block H[a, b] is the derivative along a of the gradient in b. Moving a parameter entry by entry gives columns of
//! H, one forward-over-reverse pass each. A linear layer used once at one position moves the output through its
//! pre-activation u = W·a + b alone, so that moving the O entries of u, sample by sample, stands for all O·I entries
//! of W: `H[(o, i), q] = Σ_n a_n[i] ∂²ℓ_n/∂u[o]∂w_q` wherever a does not depend on w_q; within the layer that is
//! `Σ_n P_n[o, o'] a_n[i] a_n[i']` with P_n the exact Hessian of ℓ_n in the pre-activation (DESIGN §2).

use super::plan::{PartPlan, TileJob, meetings};
use crate::jacobian::passes::Reach;
use crate::network::{Network, Operand, ValueId};
use crate::ops::Op;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// A pre-activation, whose entries are moved in place of the parameters behind it.
#[derive(Clone, Debug)]
pub struct Moved {
    /// The value.
    pub value: ValueId,
    /// O, its entries.
    pub outputs: usize,
    /// The parameters that it stands for: those of the linear layer whose sum it is.
    pub behind: Vec<usize>,
}

/// How the block of a pair of parameters is had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The parameter of the pair that is moved.
    pub parameter: usize,
    /// The pre-activation that is moved in its place; `None` where its own entries are.
    pub moved: Option<usize>,
}

/// The ways of a request.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    /// The pre-activations that are moved.
    pub moved: Vec<Moved>,
    routes: BTreeMap<(usize, usize), Route>,
}

/// What a request asks of a pair of parameters, smaller index first.
#[derive(Clone, Debug, Default)]
struct Asked {
    /// Entries of the block.
    entries: u64,
    /// Ranges of either parameter.
    ranges: [BTreeSet<(usize, usize)>; 2],
}

/// What moving one entry costs in operations, and what a contraction's multiply-add.
#[derive(Clone, Copy, Debug)]
pub struct Costs {
    /// One direction of a forward-over-reverse pass over all samples.
    pub direction: u64,
    /// Samples.
    pub samples: u64,
}

impl Routes {
    /// The cheapest way for every pair that the tiles (and the diagonal) meet; pairs that share what is moved pay
    /// for it once, the largest block first.
    ///
    /// `outer` says of each parameter whether its factor is an outer one.
    pub fn new(
        network: &Network,
        parts: &[PartPlan],
        tiles: &[TileJob],
        outer: &[bool],
        costs: Costs,
    ) -> Routes {
        let reach = Reach::forward_only(network);
        let find = |k: usize| {
            let candidate = Candidate::find(network, k);
            candidate.filter(|c| outer[k] && reach.is_sampled(c.value))
        };
        let candidates: Vec<Option<Candidate>> = (0..outer.len()).map(find).collect();
        let depends = Dependence::new(network, &candidates);
        let mut pairs: Vec<((usize, usize), Asked)> =
            asked(network, parts, tiles).into_iter().collect();
        pairs.sort_by_key(|(_, asked)| std::cmp::Reverse(asked.entries));
        let mut routes = Routes::default();
        let mut moved_columns: BTreeSet<(usize, (usize, usize))> = BTreeSet::new();
        for ((a, b), asked) in pairs {
            let mut best: Option<(u64, usize, bool)> = None;
            for (side, parameter, other) in [(0, a, b), (1, b, a)] {
                let new = asked.ranges[side].iter();
                let new = new.filter(|range| !moved_columns.contains(&(parameter, **range)));
                let columns: usize = new.map(|(start, end)| end - start).sum();
                let cost = columns as u64 * costs.direction;
                if best.is_none_or(|(least, ..)| cost < least) {
                    best = Some((cost, parameter, false));
                }
                let Some(candidate) = &candidates[parameter] else {
                    continue;
                };
                if depends.on(candidate, other) {
                    continue;
                }
                let known = routes.moved.iter().any(|m| m.value == candidate.value);
                let outputs = candidate.outputs as u64;
                let passes = if known { 0 } else { outputs * costs.direction };
                let contraction = 2 * costs.samples * asked.entries;
                let cost = passes + contraction;
                if best.is_none_or(|(least, ..)| cost < least) {
                    best = Some((cost, parameter, true));
                }
            }
            let Some((_, parameter, through)) = best else {
                continue;
            };
            let moved = match (&candidates[parameter], through) {
                (Some(candidate), true) => Some(routes.add(parameter, candidate)),
                _ => {
                    let side = usize::from(parameter != a);
                    moved_columns.extend(asked.ranges[side].iter().map(|&r| (parameter, r)));
                    None
                }
            };
            routes.routes.insert((a, b), Route { parameter, moved });
        }
        routes
    }

    fn add(&mut self, parameter: usize, candidate: &Candidate) -> usize {
        let known = self.moved.iter().position(|m| m.value == candidate.value);
        let at = known.unwrap_or_else(|| {
            self.moved.push(Moved {
                value: candidate.value,
                outputs: candidate.outputs,
                behind: Vec::new(),
            });
            self.moved.len() - 1
        });
        if !self.moved[at].behind.contains(&parameter) {
            self.moved[at].behind.push(parameter);
        }
        at
    }

    /// The way for a pair of parameters, in either order; `None` for one that nothing was asked of.
    pub fn get(&self, a: usize, b: usize) -> Option<Route> {
        self.routes.get(&(a.min(b), a.max(b))).copied()
    }

    /// As [`Routes::get`], for a pair that tiles meet.
    pub fn of(&self, a: usize, b: usize) -> Route {
        self.get(a, b).expect("every pair of a tile has a way")
    }

    /// Pairs of parameters that columns of H are made for.
    pub fn column_pairs(&self) -> usize {
        self.routes.values().filter(|r| r.moved.is_none()).count()
    }

    /// Whether moving a pre-activation is done for a parameter.
    pub fn behind(&self, moved: usize, parameter: usize) -> bool {
        self.moved[moved].behind.contains(&parameter)
    }
}

/// Entries and ranges by pair of parameters.
fn asked(
    network: &Network,
    parts: &[PartPlan],
    tiles: &[TileJob],
) -> BTreeMap<(usize, usize), Asked> {
    let mut pairs: BTreeMap<(usize, usize), Asked> = BTreeMap::new();
    let mut ask =
        |a: usize, b: usize, left: &Range<usize>, right: &Range<usize>, entries: usize| {
            let pair = pairs.entry((a.min(b), a.max(b))).or_default();
            pair.entries += entries as u64;
            let (first, second) = if a <= b { (left, right) } else { (right, left) };
            pair.ranges[0].insert((first.start, first.end));
            pair.ranges[1].insert((second.start, second.end));
        };
    for job in tiles {
        for (row, column) in meetings(&parts[job.part], job) {
            let entries = row.range.len() * column.range.len();
            ask(
                row.parameter,
                column.parameter,
                &row.range,
                &column.range,
                entries,
            );
        }
    }
    if parts.iter().any(|p| p.part.columns.is_none()) {
        for (k, parameter) in network.parameters.iter().enumerate() {
            let all = 0..parameter.data.len();
            ask(k, k, &all, &all, all.len());
        }
    }
    pairs
}

/// A parameter that may be moved through a pre-activation.
struct Candidate {
    /// The pre-activation.
    value: ValueId,
    /// Its entries.
    outputs: usize,
    /// What its site reads beside it: what `a` is made of.
    inputs: Vec<Operand>,
}

impl Candidate {
    /// The pre-activation of a parameter of an outer factor, whose one site makes nothing but outputs: a linear layer
    /// at one position, or the bias of one.
    fn find(network: &Network, parameter: usize) -> Option<Candidate> {
        let (node, operand) = single_use(network, Operand::Parameter(parameter))?;
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
            value: last_of_sums(network, own),
            outputs: network.rest(own).iter().product(),
        })
    }
}

fn first(network: &Network) -> usize {
    network.inputs.len()
}

/// Follows a value as long as a sum (or another shape) is all that it goes into: an offset to the last is one to it.
fn last_of_sums(network: &Network, mut value: ValueId) -> ValueId {
    let count = |value: ValueId| network.rest(value).iter().product::<usize>();
    while value != network.output {
        let Some((node, operand)) = sole_user(network, Operand::Value(value)) else {
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

/// The only node, and its operand, that reads an operand; `None` where there is none or several.
fn sole_user(network: &Network, wanted: Operand) -> Option<(usize, usize)> {
    let uses = network.nodes.iter().enumerate().flat_map(|(k, node)| {
        let operands = node.inputs.iter().enumerate();
        operands
            .filter(move |(_, o)| **o == wanted)
            .map(move |(j, _)| (k, j))
    });
    let mut uses = uses;
    match (uses.next(), uses.next()) {
        (Some(only), None) => Some(only),
        _ => None,
    }
}

/// The only place where a parameter meets the samples, through transpositions and reshapes of it.
fn single_use(network: &Network, mut wanted: Operand) -> Option<(usize, usize)> {
    loop {
        let (node, operand) = sole_user(network, wanted)?;
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

/// Which values depend on which parameters.
struct Dependence {
    reach: Vec<Option<Reach>>,
}

impl Dependence {
    /// Looked at only where there are candidates.
    fn new(network: &Network, candidates: &[Option<Candidate>]) -> Dependence {
        let some = candidates.iter().any(Option::is_some);
        let alone = |k: usize| {
            some.then(|| {
                let mut wanted = vec![false; network.parameters.len()];
                wanted[k] = true;
                Reach::new(network, wanted)
            })
        };
        Dependence {
            reach: (0..network.parameters.len()).map(alone).collect(),
        }
    }

    /// Whether what the candidate's site reads depends on a parameter.
    fn on(&self, candidate: &Candidate, parameter: usize) -> bool {
        let reach = self.reach[parameter].as_ref();
        candidate.inputs.iter().any(|input| match *input {
            Operand::Value(value) => reach.is_some_and(|reach| reach.depends(value)),
            Operand::Parameter(read) => read == parameter,
            Operand::Constant(_) => false,
        })
    }
}
