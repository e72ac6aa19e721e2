//! Routes to the exact Hessian, and to G forward: which parameters have tangents to get the block of each pair.
//!
//! A block H[a, b] is the derivative along a of the gradient in b. Tangents of the single entries of a parameter give
//! columns of H, one forward-over-reverse pass each. A linear layer used once at one position changes the output through its
//! pre-activation u = W·a + b alone, so that tangents of the O entries of u, sample by sample, stand for those of all O·I
//! entries of W: `H[(o, i), q] = Σ_n a_n[i] ∂²ℓ_n/∂u[o]∂w_q` wherever a does not depend on w_q; within the layer that is
//! `Σ_n P_n[o, o'] a_n[i] a_n[i']` with P_n the exact Hessian of ℓ_n in the pre-activation (DESIGN §2).
//!
//! For G the same tangents are followed by a plain reverse pass, `G[a, b] = Σ_n (J_n e_a)ᵀ ∇²ℓ_n (J_n e_b)`: J_n e_a forward,
//! ∇²ℓ_n applied to it, and J_nᵀ. As J_n of (o, i) is `a_n[i]` times that of `u[o]`, a may depend on w_q there.

use super::pair_requests::{Choice, Choices, LargestFirst, PairRequests};
use super::parts::PartPlan;
use crate::jacobian::hessian::{Candidate, Candidates, PreActivation};
use crate::network::{Network, ValueId};
use std::collections::BTreeMap;
use std::ops::Range;

/// How the block of a pair of parameters is had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The parameter of the pair that has tangents.
    pub parameter: usize,
    /// The pre-activation whose entries stand for its own, a number of [`Routes::pre_activations`]; `None` where its own entries
    /// have tangents.
    pub through: Option<usize>,
}

/// The routes of a request.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    /// The pre-activations that have tangents.
    pub pre_activations: Vec<PreActivation>,
    /// Operations of all passes and of what is contracted after them, as they were counted for the choice.
    pub operations: u64,
    /// By parameter: the pre-activation that stands for it.
    groups: Vec<Option<usize>>,
    choices: Choices,
}

/// The operations of one direction, and the number of samples that a contraction sums over.
#[derive(Clone, Copy, Debug)]
pub struct Costs {
    /// One direction of a pass over all samples, forward and back.
    pub direction: u64,
    /// Samples.
    pub samples: u64,
}

impl Routes {
    /// The cheapest route for every pair of parameters that the parts (and the diagonal) meet; pairs that share
    /// tangents pay for them once, those of the largest parameters first.
    pub(super) fn new(
        network: &Network,
        parts: &[PartPlan],
        candidates: &Candidates,
        costs: Costs,
    ) -> Routes {
        let count = network.parameters.len();
        let request = PairRequests::new(network, parts);
        let mut routes = Routes {
            groups: vec![None; count],
            choices: request.open(count),
            ..Routes::default()
        };
        let mut groups: BTreeMap<ValueId, usize> = BTreeMap::new();
        let mut own_tangents: Vec<Vec<Range<usize>>> = vec![Vec::new(); count];
        let mut pairs = LargestFirst::new(&request, &routes.choices);
        while let Some((a, b)) = pairs.next(&routes.choices) {
            let requested = request.of(a, b);
            let mut best: Option<(u64, Choice)> = None;
            let mut consider = |cost: u64, choice: Choice| {
                if best.is_none_or(|(least, _)| cost < least) {
                    best = Some((cost, choice));
                }
            };
            for (side, parameter, other) in [(0, a, b), (1, b, a)] {
                let columns = beyond(&requested.ranges[side], &own_tangents[parameter]);
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
                let contraction = costs.samples.saturating_mul(2 * requested.entries);
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
                    let own = &mut own_tangents[parameter];
                    if beyond(&requested.ranges[side], own) > 0 {
                        own.extend(requested.ranges[side].iter().cloned());
                        *own = union(std::mem::take(own));
                    }
                }
            }
        }
        routes
    }

    /// Takes the pre-activation of a candidate for a parameter.
    fn add(
        &mut self,
        parameter: usize,
        candidate: &Candidate,
        groups: &mut BTreeMap<ValueId, usize>,
    ) {
        let all = &mut self.pre_activations;
        let at = *groups.entry(candidate.value).or_insert_with(|| {
            all.push(PreActivation {
                value: candidate.value,
                outputs: candidate.outputs,
                behind: Vec::new(),
            });
            all.len() - 1
        });
        if self.groups[parameter].replace(at).is_none() {
            all[at].behind.push(parameter);
        }
    }

    /// The route for a pair of parameters, in either order; `None` for one that nothing was asked of.
    pub fn get(&self, a: usize, b: usize) -> Option<Route> {
        let (first, second) = (a.min(b), a.max(b));
        let own = |parameter| Route {
            parameter,
            through: None,
        };
        let through = |parameter: usize| Route {
            parameter,
            through: self.groups[parameter],
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
