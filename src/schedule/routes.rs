//! Routes to the exact Hessian, and to G forward: which parameters are moved to get the block of each pair.
//!
//! A block H[a, b] is the derivative along a of the gradient in b. Moving a parameter entry by entry gives columns of
//! H, one forward-over-reverse pass each. A linear layer used once at one position moves the output through its
//! pre-activation u = W·a + b alone, so that moving the O entries of u, sample by sample, stands for all O·I entries
//! of W: `H[(o, i), q] = Σ_n a_n[i] ∂²ℓ_n/∂u[o]∂w_q` wherever a does not depend on w_q; within the layer that is
//! `Σ_n P_n[o, o'] a_n[i] a_n[i']` with P_n the exact Hessian of ℓ_n in the pre-activation (DESIGN §2).
//!
//! For G the same moves are followed by a plain reverse pass, `G[a, b] = Σ_n (J_n e_a)ᵀ ∇²ℓ_n (J_n e_b)`: J_n e_a forward,
//! ∇²ℓ_n applied to it, and J_nᵀ. As J_n of (o, i) is `a_n[i]` times that of `u[o]`, a may depend on w_q there.

use super::plan::PartPlan;
use crate::jacobian::passes::Reach;
use crate::network::{Network, Operand, ValueId};
use crate::ops::Op;
use std::collections::BTreeMap;
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

/// The routes of a request.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    /// The pre-activations that are moved.
    pub moved: Vec<Moved>,
    /// Operations of all moves and of what is contracted after them, as they were counted for the choice.
    pub operations: u64,
    routes: BTreeMap<(usize, usize), Route>,
}

/// What a request asks of a pair of parameters, smaller index first.
#[derive(Clone, Debug, Default)]
struct Asked {
    /// Entries of the block.
    entries: u64,
    /// Ranges of either parameter.
    ranges: [Vec<Range<usize>>; 2],
}

/// What moving one entry costs in operations, and what a contraction's multiply-add.
#[derive(Clone, Copy, Debug)]
pub struct Costs {
    /// One direction of a pass over all samples, forward and back.
    pub direction: u64,
    /// Samples.
    pub samples: u64,
    /// Whether second derivatives of the network are part of the matrix: H or H − G.
    pub second: bool,
}

impl Routes {
    /// The cheapest route for every pair of parameters that the parts (and the diagonal) meet; pairs that share what is
    /// moved pay for it once, the largest block first.
    ///
    /// `outer` says of each parameter whether its factor is an outer one.
    pub fn new(network: &Network, parts: &[PartPlan], outer: &[bool], costs: Costs) -> Routes {
        let reach = Reach::forward_only(network);
        let find = |k: usize| {
            let candidate = Candidate::find(network, k);
            candidate.filter(|c| outer[k] && reach.is_sampled(c.value))
        };
        let candidates: Vec<Option<Candidate>> = (0..outer.len()).map(find).collect();
        let depends = Dependence::new(network, &candidates, costs.second);
        let mut pairs: Vec<((usize, usize), Asked)> = asked(network, parts).into_iter().collect();
        pairs.sort_by_key(|(_, asked)| std::cmp::Reverse(asked.entries));
        let mut routes = Routes::default();
        let mut moved_columns: Vec<Vec<Range<usize>>> = vec![Vec::new(); outer.len()];
        for ((a, b), asked) in pairs {
            let mut best: Option<(u64, usize, bool)> = None;
            for (side, parameter, other) in [(0, a, b), (1, b, a)] {
                let columns = beyond(&asked.ranges[side], &moved_columns[parameter]);
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
            let Some((cost, parameter, through)) = best else {
                continue;
            };
            routes.operations = routes.operations.saturating_add(cost);
            let moved = match (&candidates[parameter], through) {
                (Some(candidate), true) => Some(routes.add(parameter, candidate)),
                _ => {
                    let side = usize::from(parameter != a);
                    let own = &mut moved_columns[parameter];
                    own.extend(asked.ranges[side].iter().cloned());
                    *own = union(std::mem::take(own));
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

    /// The route for a pair of parameters, in either order; `None` for one that nothing was asked of.
    pub fn get(&self, a: usize, b: usize) -> Option<Route> {
        self.routes.get(&(a.min(b), a.max(b))).copied()
    }

    /// As [`Routes::get`], for a pair that tiles meet.
    pub fn of(&self, a: usize, b: usize) -> Route {
        self.get(a, b).expect("every pair of a tile has a route")
    }

    /// Pairs of parameters that columns of the matrix are made for.
    pub fn column_pairs(&self) -> usize {
        self.routes.values().filter(|r| r.moved.is_none()).count()
    }

    /// Whether moving a pre-activation is done for a parameter.
    pub fn behind(&self, moved: usize, parameter: usize) -> bool {
        self.moved[moved].behind.contains(&parameter)
    }
}

/// Entries and ranges by pair of parameters: what lies above the diagonal of a symmetric part alone.
fn asked(network: &Network, parts: &[PartPlan]) -> BTreeMap<(usize, usize), Asked> {
    let mut pairs: BTreeMap<(usize, usize), Asked> = BTreeMap::new();
    for PartPlan { part, .. } in parts {
        let rows = pieces(network, &part.rows);
        let Some(columns) = &part.columns else {
            for (k, range) in rows {
                let pair = pairs.entry((k, k)).or_default();
                pair.entries += range.len() as u64;
                pair.ranges
                    .iter_mut()
                    .for_each(|own| own.push(range.clone()));
            }
            continue;
        };
        let columns = pieces(network, columns);
        for (at, (a, left)) in rows.iter().enumerate() {
            let first = if part.symmetric() { at } else { 0 };
            for (b, right) in &columns[first..] {
                let pair = pairs.entry((*a.min(b), *a.max(b))).or_default();
                pair.entries += left.len() as u64 * right.len() as u64;
                let (first, second) = if a <= b { (left, right) } else { (right, left) };
                pair.ranges[0].push(first.clone());
                pair.ranges[1].push(second.clone());
            }
        }
    }
    pairs
}

/// The parameters that ascending ranges of the flat order meet, in order, each with a range of its own entries.
pub(super) fn pieces(network: &Network, ranges: &[Range<usize>]) -> Vec<(usize, Range<usize>)> {
    let mut found = Vec::new();
    for range in ranges {
        for (k, parameter) in network.parameters.iter().enumerate() {
            let own = parameter.range();
            let (start, end) = (range.start.max(own.start), range.end.min(own.end));
            if start < end {
                found.push((k, start - own.start..end - own.start));
            }
        }
    }
    found
}

/// Ascending ranges that cover what any of them does, none overlapping.
pub(super) fn union(mut ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    ranges.sort_by_key(|range| (range.start, range.end));
    let mut out: Vec<Range<usize>> = Vec::new();
    for range in ranges {
        match out.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => out.push(range),
        }
    }
    out
}

/// How many entries of `ranges` lie in none of the ascending `others`.
fn beyond(ranges: &[Range<usize>], others: &[Range<usize>]) -> usize {
    let both = union(ranges.iter().chain(others).cloned().collect());
    let count = |ranges: &[Range<usize>]| ranges.iter().map(|range| range.len()).sum::<usize>();
    count(&both) - count(others)
}

/// How many entries have to be moved at least for ranges of parameters: their own, or those of a pre-activation.
pub(super) fn least_tangents(network: &Network, pieces: &[(usize, Range<usize>)]) -> usize {
    let mut count = 0;
    let mut through: BTreeMap<ValueId, (usize, usize)> = BTreeMap::new();
    for (parameter, range) in pieces {
        match Candidate::find(network, *parameter) {
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
    /// Looked at only where there are candidates, and where it matters: for second derivatives.
    fn new(network: &Network, candidates: &[Option<Candidate>], second: bool) -> Dependence {
        let some = second && candidates.iter().any(Option::is_some);
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

    /// Whether what the candidate's site reads depends on a parameter, and second derivatives are asked for.
    fn on(&self, candidate: &Candidate, parameter: usize) -> bool {
        let Some(reach) = self.reach[parameter].as_ref() else {
            return false;
        };
        candidate.inputs.iter().any(|input| match *input {
            Operand::Value(value) => reach.depends(value),
            Operand::Parameter(read) => read == parameter,
            Operand::Constant(_) => false,
        })
    }
}
