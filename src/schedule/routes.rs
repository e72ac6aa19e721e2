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
use crate::ops::{Op, Operation};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
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

/// The choice for every pair of parameters, one byte each: a network of thousands of parameters has millions of pairs.
///
/// `rows[a][b - a]` is that of a and b, with a ≤ b.
#[derive(Clone, Debug, Default)]
struct Choices {
    rows: Vec<Vec<Choice>>,
}

/// What is moved for a pair of parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Choice {
    /// Nothing was asked of the pair.
    #[default]
    Nothing,
    /// Something was, and nothing is chosen yet.
    Open,
    /// Entries of the first.
    First,
    /// Entries of the second.
    Second,
    /// The pre-activation that stands for the first.
    ThroughFirst,
    /// The pre-activation that stands for the second.
    ThroughSecond,
}

impl Choices {
    fn get(&self, a: usize, b: usize) -> Choice {
        let row = self.rows.get(a.min(b));
        let choice = row.and_then(|row| row.get(a.abs_diff(b)));
        choice.copied().unwrap_or_default()
    }

    fn set(&mut self, a: usize, b: usize, choice: Choice) {
        let row = &mut self.rows[a.min(b)];
        let at = a.abs_diff(b);
        if row.len() <= at {
            row.resize(at + 1, Choice::Nothing);
        }
        row[at] = choice;
    }
}

/// The entries and ranges that a request has of a pair of parameters, smaller index first.
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

/// What parts ask of parameters.
struct Request<'a> {
    parts: &'a [PartPlan],
    /// By parameter: what each part has of it, parts ascending.
    of_parts: Vec<Vec<Share>>,
}

/// The ranges of a parameter that a part has.
struct Share {
    part: usize,
    rows: Vec<Range<usize>>,
    columns: Vec<Range<usize>>,
}

impl<'a> Request<'a> {
    fn new(network: &Network, parts: &'a [PartPlan]) -> Self {
        let mut of_parts: Vec<Vec<Share>> = Vec::new();
        of_parts.resize_with(network.parameters.len(), Vec::new);
        for (part, PartPlan { part: own, .. }) in parts.iter().enumerate() {
            let columns = own.columns.as_deref().unwrap_or_default();
            for (rows, ranges) in [(true, &own.rows[..]), (false, columns)] {
                for (k, range) in pieces(network, ranges) {
                    let shares = &mut of_parts[k];
                    if shares.last().is_none_or(|last| last.part != part) {
                        shares.push(Share {
                            part,
                            rows: Vec::new(),
                            columns: Vec::new(),
                        });
                    }
                    let last = shares.last_mut().expect("one was put there");
                    match rows {
                        true => last.rows.push(range),
                        false => last.columns.push(range),
                    }
                }
            }
        }
        Request { parts, of_parts }
    }

    /// Marks the pairs that something is asked of.
    fn open(&self, parameters: usize) -> Choices {
        let mut choices = Choices {
            rows: vec![Vec::new(); parameters],
        };
        let mut of_part: Vec<(Vec<usize>, Vec<usize>)> = Vec::new();
        of_part.resize_with(self.parts.len(), Default::default);
        for (k, shares) in self.of_parts.iter().enumerate() {
            for share in shares {
                let (rows, columns) = &mut of_part[share.part];
                if !share.rows.is_empty() {
                    rows.push(k);
                }
                if !share.columns.is_empty() {
                    columns.push(k);
                }
            }
        }
        for (PartPlan { part, .. }, (rows, columns)) in self.parts.iter().zip(&of_part) {
            for (at, &a) in rows.iter().enumerate() {
                let others = match (&part.columns, part.symmetric()) {
                    (None, _) => &rows[at..=at],
                    (Some(_), true) => &columns[at..],
                    (Some(_), false) => &columns[..],
                };
                // The largest first, so that a row grows once.
                for &b in others.iter().rev() {
                    choices.set(a, b, Choice::Open);
                }
            }
        }
        choices
    }

    /// Entries that are asked of a parameter at most.
    fn size(&self, parameter: usize) -> u64 {
        let sizes = self.of_parts[parameter].iter().map(|share| {
            let count = |ranges: &[Range<usize>]| ranges.iter().map(|r| r.len() as u64).sum();
            let sides: [u64; 2] = [count(&share.rows), count(&share.columns)];
            sides[0].max(sides[1])
        });
        sizes.max().unwrap_or(0)
    }

    /// Returns the entries and ranges of the pair (a, b), a ≤ b. Of a symmetric part only the upper triangle counts.
    fn of(&self, a: usize, b: usize) -> Asked {
        let mut asked = Asked::default();
        let (first, second) = (&self.of_parts[a], &self.of_parts[b]);
        let (mut i, mut j) = (0, 0);
        while let (Some(of_a), Some(of_b)) = (first.get(i), second.get(j)) {
            match of_a.part.cmp(&of_b.part) {
                std::cmp::Ordering::Less => i += 1,
                std::cmp::Ordering::Greater => j += 1,
                std::cmp::Ordering::Equal => {
                    self.add(&mut asked, a == b, of_a, of_b);
                    (i, j) = (i + 1, j + 1);
                }
            }
        }
        asked
    }

    /// Adds what one part asks of a pair.
    fn add(&self, asked: &mut Asked, one: bool, of_a: &Share, of_b: &Share) {
        let part = &self.parts[of_a.part].part;
        let mut both = |left: &[Range<usize>], right: &[Range<usize>], entries: u64| {
            if !left.is_empty() && !right.is_empty() {
                asked.entries += entries;
                asked.ranges[0].extend(left.iter().cloned());
                asked.ranges[1].extend(right.iter().cloned());
            }
        };
        let count = |ranges: &[Range<usize>]| ranges.iter().map(|r| r.len() as u64).sum::<u64>();
        if part.columns.is_none() {
            if one {
                both(&of_a.rows, &of_a.rows, count(&of_a.rows));
            }
            return;
        }
        let product = |left: &Share, right: &Share| count(&left.rows) * count(&right.columns);
        if one && part.symmetric() {
            // Of several ranges each meets itself and those behind it.
            let lengths = of_a.rows.iter().map(|r| r.len() as u64);
            let squares: u64 = lengths.map(|length| length * length).sum();
            let all = product(of_a, of_a);
            both(&of_a.rows, &of_a.columns, (all + squares) / 2);
            return;
        }
        both(&of_a.rows, &of_b.columns, product(of_a, of_b));
        if !one && !part.symmetric() {
            both(&of_a.columns, &of_b.rows, product(of_b, of_a));
        }
    }
}

/// Gives the pairs of parameters that a request has entries of, those of the largest product of sizes first.
struct LargestFirst {
    /// Parameters and their sizes, the largest first.
    order: Vec<(u64, usize)>,
    /// For every parameter in `order`, its next requested pair, keyed by the product of sizes.
    next: BinaryHeap<(u64, Reverse<usize>, Reverse<usize>)>,
}

impl LargestFirst {
    fn new(request: &Request<'_>, choices: &Choices) -> Self {
        let size = |k: usize| (request.size(k), k);
        let mut order: Vec<(u64, usize)> = (0..request.of_parts.len()).map(size).collect();
        order.retain(|(size, _)| *size > 0);
        order.sort_by_key(|&(size, k)| (Reverse(size), k));
        let mut pairs = LargestFirst {
            order,
            next: BinaryHeap::new(),
        };
        for at in 0..pairs.order.len() {
            pairs.push(at, at, choices);
        }
        pairs
    }

    /// Puts in the first pair of a place that something is asked of, with places from `from` on.
    fn push(&mut self, at: usize, from: usize, choices: &Choices) {
        let (size, own) = self.order[at];
        let mut others = self.order.iter().enumerate().skip(from);
        let asked = others.find(|(_, (_, k))| choices.get(own, *k) != Choice::Nothing);
        if let Some((other, (others_size, _))) = asked {
            let product = size.saturating_mul(*others_size);
            self.next.push((product, Reverse(at), Reverse(other)));
        }
    }

    /// The next pair, the smaller parameter first.
    fn next(&mut self, choices: &Choices) -> Option<(usize, usize)> {
        let (_, Reverse(at), Reverse(other)) = self.next.pop()?;
        self.push(at, other + 1, choices);
        let (a, b) = (self.order[at].1, self.order[other].1);
        Some((a.min(b), a.max(b)))
    }
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

/// The parameters that may be moved through a pre-activation.
#[derive(Default)]
pub(super) struct Candidates {
    /// By parameter.
    all: Vec<Option<Candidate>>,
    depends: Dependence,
}

impl Candidates {
    /// Those of a network; `outer` says of each parameter whether its factor is an outer one.
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

    /// The same where second derivatives of the network are part of the matrix, H or H − G: a pre-activation stands for its
    /// parameters only for what its inputs do not depend on.
    pub(super) fn second(self, network: &Network) -> Candidates {
        let depends = Dependence::new(network, &self.all);
        Candidates { depends, ..self }
    }
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
    fn find(network: &Network, users: &Users, parameter: usize) -> Option<Candidate> {
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
    /// Those of a network.
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
    fn sole(&self, operand: Operand) -> Option<(usize, usize)> {
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
struct Dependence {
    of_candidates: Vec<Option<Bits>>,
}

impl Dependence {
    fn new(network: &Network, candidates: &[Option<Candidate>]) -> Dependence {
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
    fn on(&self, own: usize, parameter: usize) -> bool {
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
    use crate::network::builder::Builder;
    use crate::schedule::request::{Part, resolve};

    fn network() -> Network {
        Builder::new(&[3])
            .linear("a", 5)
            .tanh()
            .linear("b", 4)
            .tanh()
            .linear("c", 2)
            .initialize(1)
            .build()
            .unwrap()
    }

    fn parts(network: &Network, texts: &[&str]) -> Vec<PartPlan> {
        let parts: Vec<Part> = texts.iter().map(|text| text.parse().unwrap()).collect();
        let planned = |part| PartPlan {
            part,
            number: 0,
            counted: None,
            rows: Vec::new(),
            columns: Vec::new(),
        };
        let resolved = resolve(network, &parts).unwrap();
        resolved.into_iter().map(planned).collect()
    }

    /// Entries of every pair, from the parts' entries one by one.
    fn one_by_one(network: &Network, parts: &[PartPlan]) -> BTreeMap<(usize, usize), u64> {
        let mut found = BTreeMap::new();
        for PartPlan { part, .. } in parts {
            let flat = |ranges: &[Range<usize>]| -> Vec<(usize, usize)> {
                let pieces = pieces(network, ranges).into_iter().enumerate();
                pieces
                    .flat_map(|(piece, (k, range))| range.map(move |_| (piece, k)))
                    .collect()
            };
            let rows = flat(&part.rows);
            let Some(columns) = &part.columns else {
                for (_, k) in rows {
                    *found.entry((k, k)).or_default() += 1;
                }
                continue;
            };
            for (row_piece, a) in &rows {
                for (column_piece, b) in flat(columns) {
                    // Above the diagonal, piece by piece.
                    if !part.symmetric() || *row_piece <= column_piece {
                        *found.entry((*a.min(&b), *a.max(&b))).or_default() += 1;
                    }
                }
            }
        }
        found
    }

    #[test]
    fn request_counts_the_entries_of_every_pair() {
        let network = network();
        for texts in [
            &["full"][..],
            &["layers"],
            &["layer=a,c"],
            &["range=2..9,0..30", "diag", "layer=b"],
            &["range=7..30,3..12"],
        ] {
            let parts = parts(&network, texts);
            let request = Request::new(&network, &parts);
            let choices = request.open(network.parameters.len());
            let expected = one_by_one(&network, &parts);
            let mut order = LargestFirst::new(&request, &choices);
            let mut found = BTreeMap::new();
            let mut products = Vec::new();
            while let Some((a, b)) = order.next(&choices) {
                assert_eq!(found.insert((a, b), request.of(a, b).entries), None);
                products.push(request.size(a) * request.size(b));
            }
            assert_eq!(found, expected, "{texts:?}");
            assert!(products.is_sorted_by(|a, b| a >= b), "{texts:?}");
        }
    }

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
