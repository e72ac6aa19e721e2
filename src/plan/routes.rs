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

use super::asked::{Choice, Choices, LargestFirst, Request};
use super::candidates::{Candidate, Candidates, Users};
use super::parts::PartPlan;
use crate::network::{Network, ValueId};
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
    /// By parameter: the pre-activation that stands for it.
    groups: Vec<Option<usize>>,
    choices: Choices,
}

/// What moving one entry costs in operations, and what a contraction's multiply-add.
#[derive(Clone, Copy, Debug)]
pub struct Costs {
    /// One direction of a pass over all samples, forward and back.
    pub direction: u64,
    /// Samples.
    pub samples: u64,
}

impl Routes {
    /// The cheapest route for every pair of parameters that the parts (and the diagonal) meet; pairs that share what is
    /// moved pay for it once, those of the largest parameters first.
    pub(super) fn new(
        network: &Network,
        parts: &[PartPlan],
        candidates: &Candidates,
        costs: Costs,
    ) -> Routes {
        let count = network.parameters.len();
        let request = Request::new(network, parts);
        let mut routes = Routes {
            groups: vec![None; count],
            choices: request.open(count),
            ..Routes::default()
        };
        let mut groups: BTreeMap<ValueId, usize> = BTreeMap::new();
        let mut moved_columns: Vec<Vec<Range<usize>>> = vec![Vec::new(); count];
        let mut pairs = LargestFirst::new(&request, &routes.choices);
        while let Some((a, b)) = pairs.next(&routes.choices) {
            let asked = request.of(a, b);
            let mut best: Option<(u64, Choice)> = None;
            let mut consider = |cost: u64, choice: Choice| {
                if best.is_none_or(|(least, _)| cost < least) {
                    best = Some((cost, choice));
                }
            };
            for (side, parameter, other) in [(0, a, b), (1, b, a)] {
                let columns = beyond(&asked.ranges[side], &moved_columns[parameter]);
                let cost = (columns as u64).saturating_mul(costs.direction);
                consider(cost, [Choice::First, Choice::Second][side]);
                let Some(candidate) = &candidates.all[parameter] else {
                    continue;
                };
                if candidates.depends.on(parameter, other) {
                    continue;
                }
                let passes = match groups.contains_key(&candidate.value) {
                    true => 0,
                    false => costs.direction.saturating_mul(candidate.outputs as u64),
                };
                let contraction = costs.samples.saturating_mul(2 * asked.entries);
                let through = [Choice::ThroughFirst, Choice::ThroughSecond][side];
                consider(passes.saturating_add(contraction), through);
            }
            let Some((cost, choice)) = best else {
                continue;
            };
            routes.operations = routes.operations.saturating_add(cost);
            routes.choices.set(a, b, choice);
            let (side, parameter) = match choice {
                Choice::First | Choice::ThroughFirst => (0, a),
                _ => (1, b),
            };
            match (&candidates.all[parameter], choice) {
                (Some(candidate), Choice::ThroughFirst | Choice::ThroughSecond) => {
                    routes.add(parameter, candidate, &mut groups);
                }
                _ => {
                    let own = &mut moved_columns[parameter];
                    if beyond(&asked.ranges[side], own) > 0 {
                        own.extend(asked.ranges[side].iter().cloned());
                        *own = union(std::mem::take(own));
                    }
                }
            }
        }
        routes
    }

    /// Moves the pre-activation of a candidate, for a parameter too.
    fn add(
        &mut self,
        parameter: usize,
        candidate: &Candidate,
        groups: &mut BTreeMap<ValueId, usize>,
    ) {
        let moved = &mut self.moved;
        let at = *groups.entry(candidate.value).or_insert_with(|| {
            moved.push(Moved {
                value: candidate.value,
                outputs: candidate.outputs,
                behind: Vec::new(),
            });
            moved.len() - 1
        });
        if self.groups[parameter].replace(at).is_none() {
            moved[at].behind.push(parameter);
        }
    }

    /// The route for a pair of parameters, in either order; `None` for one that nothing was asked of.
    pub fn get(&self, a: usize, b: usize) -> Option<Route> {
        let (first, second) = (a.min(b), a.max(b));
        let own = |parameter| Route {
            parameter,
            moved: None,
        };
        let through = |parameter: usize| Route {
            parameter,
            moved: self.groups[parameter],
        };
        match self.choices.get(a, b) {
            Choice::Nothing | Choice::Open => None,
            Choice::First => Some(own(first)),
            Choice::Second => Some(own(second)),
            Choice::ThroughFirst => Some(through(first)),
            Choice::ThroughSecond => Some(through(second)),
        }
    }

    /// As [`Routes::get`], for a pair that tiles meet.
    pub fn of(&self, a: usize, b: usize) -> Route {
        self.get(a, b).expect("every pair of a tile has a route")
    }

    /// Pairs of parameters that columns of the matrix are made for.
    pub fn column_pairs(&self) -> usize {
        let by_columns = |choice: &&Choice| matches!(choice, Choice::First | Choice::Second);
        let choices = self.choices.rows.iter().flatten();
        choices.filter(by_columns).count()
    }

    /// Whether moving a pre-activation is done for a parameter.
    pub fn behind(&self, moved: usize, parameter: usize) -> bool {
        self.moved[moved].behind.contains(&parameter)
    }

    /// Bytes of host memory that the routes take.
    pub(super) fn bytes(&self) -> u64 {
        let rows = self.choices.rows.iter();
        rows.map(|row| (row.capacity() + size_of::<Vec<Choice>>()) as u64)
            .sum()
    }
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
    let within = |r: &Range<usize>| others.iter().any(|o| o.start <= r.start && r.end <= o.end);
    match ranges {
        _ if ranges.iter().all(within) => return 0,
        [one] if others.is_empty() => return one.len(),
        _ => {}
    }
    let both = union(ranges.iter().chain(others).cloned().collect());
    let count = |ranges: &[Range<usize>]| ranges.iter().map(|range| range.len()).sum::<usize>();
    count(&both) - count(others)
}

/// How many entries have to be moved at least for ranges of parameters: their own, or those of a pre-activation.
pub(super) fn least_tangents(
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
