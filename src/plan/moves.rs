//! The exact Hessian, its residual, and G forward, a group of directions at a time: what is moved, and what it does to the
//! gradient.
//!
//! A group of directions gives two factors, L of what is moved and R of what the gradient does then, with
//! `H[a, b] = Σ_n Σ_r L_n[r, a] R_n[r, b]`: the same bilinear form as that of G from the directions of S, so that the
//! contractions of DESIGN §2 serve both. For G, R_n = J_nᵀ ∇²ℓ_n ż with ż the tangents of the outputs.

use super::candidates::Bits;
use super::pairs::{meetings, meetings_with};
use super::parts::{PartPlan, TileJob};
use super::routes::{Routes, union};
use super::sizes::DIAGONAL_ROWS;
use super::tiles::Run;
use crate::cache::Cache;
use crate::contraction::{Contraction, Meeting, Segment, accumulate};
use crate::error::Result;
use crate::jacobian::passes::{Reach, Weights, backward, forward_with};
use crate::jacobian::{Factor, slice};
use crate::network::{Network, Parameter};
use crate::ops::{Site, SiteKind};
use crate::tensor::dual::{Dual, DualTensor};
use crate::tensor::{Backend, Contract, HostSlice, How, Shape};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

/// One pass: what it moves, and how far back it goes.
#[derive(Clone, Debug)]
pub struct Move {
    /// The entries that are moved.
    pub moved: Entries,
    /// The parameters that the reverse pass goes back to, ascending; passes that go back to the same share them.
    pub wanted: Rc<[usize]>,
}

/// The entries that one pass moves, a direction for each.
#[derive(Clone, Debug)]
pub enum Entries {
    /// Entries of a pre-activation, sample by sample.
    PreActivation {
        /// Index in [`Routes::moved`].
        moved: usize,
        /// The entries.
        range: Range<usize>,
    },
    /// Entries of parameters, for all samples at once: columns of the matrix.
    Parameters(Vec<Piece>),
}

/// A range of a parameter's entries, moved by consecutive directions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The parameter.
    pub parameter: usize,
    /// Its entries.
    pub range: Range<usize>,
    /// The direction of the first.
    pub direction: usize,
}

impl Move {
    /// Bytes of this pass in a list after `before`, whose `wanted` it may share.
    pub fn bytes(&self, before: Option<&Move>) -> u64 {
        let pieces = match &self.moved {
            Entries::PreActivation { .. } => 0,
            Entries::Parameters(pieces) => size_of_val(&pieces[..]),
        };
        let shared = before.is_some_and(|before| Rc::ptr_eq(&before.wanted, &self.wanted));
        let wanted = if shared {
            0
        } else {
            size_of_val(&*self.wanted)
        };
        (size_of::<Move>() + pieces + wanted) as u64
    }

    /// How many directions it takes.
    pub fn directions(&self) -> usize {
        match &self.moved {
            Entries::PreActivation { range, .. } => range.len(),
            Entries::Parameters(pieces) => pieces.iter().map(|piece| piece.range.len()).sum(),
        }
    }
}

/// What tiles (and the diagonal) need moved, at most `chunk` entries at a time.
pub fn moves(
    network: &Network,
    routes: &Routes,
    parts: &[PartPlan],
    jobs: &[TileJob],
    diagonal: bool,
    chunk: usize,
) -> Vec<Move> {
    // What is moved, each with the parameters whose gradient is followed.
    let count = network.parameters.len();
    let mut moved: BTreeMap<usize, Bits> = BTreeMap::new();
    let mut entries: BTreeMap<usize, (Vec<Range<usize>>, Bits)> = BTreeMap::new();
    let mut need = |a: (usize, &Range<usize>), b: (usize, &Range<usize>)| {
        let route = routes.of(a.0, b.0);
        let (own, other) = if route.parameter == a.0 {
            (a, b)
        } else {
            (b, a)
        };
        match route.moved {
            // The parameter itself: its site says how an offset of the pre-activation is one to it.
            Some(group) => {
                let wanted = moved.entry(group).or_insert_with(|| Bits::new(count));
                wanted.insert(own.0);
                wanted.insert(other.0);
            }
            None => {
                let none = || (Vec::new(), Bits::new(count));
                let (ranges, wanted) = entries.entry(own.0).or_insert_with(none);
                // Most parameters meet many others with all of their entries.
                if !ranges.contains(own.1) {
                    ranges.push(own.1.clone());
                }
                wanted.insert(other.0);
            }
        }
    };
    for job in jobs {
        for (row, column) in meetings(&parts[job.part], job) {
            need(
                (row.parameter, &row.range),
                (column.parameter, &column.range),
            );
        }
    }
    if diagonal {
        for (k, parameter) in network.parameters.iter().enumerate() {
            let all = 0..parameter.data.len();
            need((k, &all), (k, &all));
        }
    }
    let mut all = Vec::new();
    for (group, wanted) in moved {
        let outputs = routes.moved[group].outputs;
        let wanted: Rc<[usize]> = wanted.iter().collect();
        let moving = |start: usize| Move {
            moved: Entries::PreActivation {
                moved: group,
                range: start..(start + chunk).min(outputs),
            },
            wanted: Rc::clone(&wanted),
        };
        all.extend((0..outputs).step_by(chunk).map(moving));
    }
    let (mut pieces, mut reached) = (Vec::new(), Bits::new(count));
    let mut close = |pieces: &mut Vec<Piece>, reached: &mut Bits| {
        let reached = std::mem::replace(reached, Bits::new(count));
        let before = all.last().map(|before: &Move| &before.wanted);
        let wanted = match before {
            Some(before) if before.iter().copied().eq(reached.iter()) => Rc::clone(before),
            _ => reached.iter().collect(),
        };
        pieces.shrink_to_fit();
        all.push(Move {
            moved: Entries::Parameters(std::mem::take(pieces)),
            wanted,
        });
    };
    let mut direction = 0;
    for (parameter, (ranges, wanted)) in entries {
        for mut range in union(ranges) {
            while !range.is_empty() {
                let end = range.end.min(range.start + chunk - direction);
                pieces.push(Piece {
                    parameter,
                    range: range.start..end,
                    direction,
                });
                reached.add(&wanted);
                direction += end - range.start;
                range.start = end;
                if direction == chunk {
                    close(&mut pieces, &mut reached);
                    direction = 0;
                }
            }
        }
    }
    if !pieces.is_empty() {
        close(&mut pieces, &mut reached);
    }
    all
}

/// The two factors of a group of directions.
pub struct Factors<T> {
    /// L of the parameters behind a pre-activation.
    left: BTreeMap<usize, Factor<T>>,
    /// R of every parameter that is wanted and reached.
    right: BTreeMap<usize, Factor<T>>,
}

impl<T> Factors<T> {
    /// The number of factors on both sides.
    pub fn count(&self) -> usize {
        self.left.len() + self.right.len()
    }
}

/// The factors of a group of directions, and what they are of.
pub struct Moving<'a, T> {
    made_by: &'a Move,
    factors: Rc<Factors<T>>,
}

/// The seed of the reverse pass from outputs and their tangents: (∇ℓ, ∇²ℓ·ż) for H, (∇ℓ, 0) for H − G; for G ∇²ℓ·ż, as the
/// tangent.
pub type SeedOf<'a, B> = dyn FnMut(&B, &DualTensor<<B as Backend>::Tensor>) -> Result<DualTensor<<B as Backend>::Tensor>>
    + 'a;

/// What the passes of a unit of samples share.
pub struct Passes<'a, B: Backend> {
    /// Where they run.
    pub backend: &'a B,
    /// The network.
    pub network: &'a Network,
    /// Parameters and constants there.
    pub weights: &'a Weights<B::Tensor>,
    /// How far back reverse passes go.
    pub reaches: &'a Reaches<'a>,
    /// What is moved for which pair.
    pub routes: &'a Routes,
    /// Whether second derivatives of the network are part of the matrix.
    pub second: bool,
}

/// The maximum number of cached reaches.
pub(super) const REACHES: usize = 64;

/// The reach of reverse passes by the parameters that they go back to: one for all passes that go back to the same.
pub struct Reaches<'a> {
    network: &'a Network,
    all: &'a Reach,
    known: RefCell<Cache<Vec<usize>, Rc<Reach>>>,
}

impl<'a> Reaches<'a> {
    /// Those of a network, of which one is known.
    pub fn new(network: &'a Network, all: &'a Reach) -> Self {
        Self {
            network,
            all,
            known: RefCell::new(Cache::new(REACHES)),
        }
    }

    /// The reach of a pass back to `wanted`, ascending.
    fn of(&self, wanted: &[usize]) -> Rc<Reach> {
        if let Some(known) = self.known.borrow().get(wanted) {
            return Rc::clone(known);
        }
        let mut all = vec![false; self.network.parameters.len()];
        wanted.iter().for_each(|&k| all[k] = true);
        let reach = Rc::new(self.all.of_others(self.network, all));
        let mut known = self.known.borrow_mut();
        known.insert(wanted.to_vec(), Rc::clone(&reach), 1);
        reach
    }
}

impl<B: Backend> Passes<'_, B> {
    /// Moves one group of directions: forward over reverse where second derivatives are part of the matrix, else forward
    /// and then back, without tangents on the way back.
    ///
    /// # Errors
    /// What the seed reports.
    pub fn run<'m>(
        &self,
        made_by: &'m Move,
        inputs: &[B::Tensor],
        seed: &mut SeedOf<'_, B>,
    ) -> Result<Moving<'m, B::Tensor>> {
        let (backend, network) = (self.backend, self.network);
        let dual = Dual { inner: backend };
        let directions = made_by.directions();
        let tangents = self.tangents(made_by);
        let weights = self.weights.with_tangents(tangents.into_iter());
        let (at, units) = match &made_by.moved {
            Entries::PreActivation { moved, range } => {
                let moved = &self.routes.moved[*moved];
                (Some(moved.value), Some(self.units(range, moved.outputs)))
            }
            Entries::Parameters(_) => (None, None),
        };
        let reach = self.reaches.of(&made_by.wanted);
        let samples = inputs.first().map_or(1, |x| backend.shape(x).samples);
        let inputs = inputs.iter().cloned().map(DualTensor::constant).collect();
        let trace = forward_with(
            &dual,
            network,
            &weights,
            inputs,
            &reach,
            |value, mut tensor| {
                if let (true, Some(units)) = (at == Some(value), &units) {
                    let rest = backend.shape(&tensor.primal).rest;
                    let zeros = backend.fill(&Shape::new(samples, 1, &vec![1; rest.len()]), 0.0);
                    tensor.tangent = Some(backend.add(&backend.reshape(units, &rest), &zeros));
                }
                tensor
            },
            |mut kept| {
                // A reverse pass without tangents reads none.
                kept.tangent = kept.tangent.filter(|_| self.second);
                kept
            },
        );
        let seed = seed(backend, &trace.output)?;
        let mut factors = Factors {
            left: BTreeMap::new(),
            right: BTreeMap::new(),
        };
        let mut sites: Vec<Vec<Site<B::Tensor>>> = vec![Vec::new(); network.parameters.len()];
        // `own` is the site without tangents, `changes` what the directions do to it.
        let mut visit = |k: usize, own: &Site<B::Tensor>, changes: Vec<Site<B::Tensor>>| {
            let Parameter { data, .. } = &network.parameters[k];
            match (&units, &made_by.moved) {
                (Some(units), Entries::PreActivation { moved, .. }) => {
                    sites[k].extend(changes);
                    let behind = self.routes.behind(*moved, k);
                    if let Some(site) = behind.then(|| own.moving(backend, units)).flatten() {
                        let factor = Factor::new(vec![site], data.len(), samples, directions);
                        factors.left.insert(k, factor);
                    }
                }
                _ => {
                    let sum = |site: Site<B::Tensor>| SiteKind::Rows(site.sum(backend));
                    let sums = changes.into_iter().map(sum);
                    sites[k].extend(sums.map(|kind| Site::new(kind, &data.shape)));
                }
            }
        };
        if self.second {
            backward(&dual, network, &weights, &trace, &reach, seed, |k, site| {
                visit(k, &site.primal(), site.tangents());
            });
        } else if let Some(products) = seed.tangent {
            let (weights, trace) = (self.weights, trace.primal());
            backward(
                backend,
                network,
                weights,
                &trace,
                &reach,
                products,
                |k, site| {
                    visit(k, &site, vec![site.clone()]);
                },
            );
        }
        let samples = if units.is_some() { samples } else { 1 };
        for (k, sites) in sites.into_iter().enumerate() {
            let count = network.parameters[k].data.len();
            if !sites.is_empty() {
                let factor = Factor::new(sites, count, samples, directions);
                factors.right.insert(k, factor);
            }
        }
        Ok(Moving::new(made_by, Rc::new(factors)))
    }

    /// Unit rows `range` of the identity of that many entries: `[1, range, entries]`.
    fn units(&self, range: &Range<usize>, entries: usize) -> B::Tensor {
        identity(self.backend, range.len(), range.start, range.len(), entries)
    }

    /// The tangents of the parameters: those that a pass moves.
    fn tangents(&self, made_by: &Move) -> Vec<Option<B::Tensor>> {
        let mut tangents = vec![None; self.network.parameters.len()];
        let Entries::Parameters(pieces) = &made_by.moved else {
            return tangents;
        };
        let directions = made_by.directions();
        for piece in pieces {
            let shape = &self.network.parameters[piece.parameter].data.shape;
            let count = self.network.parameters[piece.parameter].data.len();
            let mut values = vec![0.0f32; directions * piece.range.len()];
            for entry in 0..piece.range.len() {
                values[(piece.direction + entry) * piece.range.len() + entry] = 1.0;
            }
            let ones = Shape::new(1, directions, &[piece.range.len()]);
            let ones = self.backend.upload(&ones, HostSlice::F32(&values));
            let all = self.backend.embed(&ones, 2, piece.range.start, count);
            let all = self.backend.reshape(&all, shape);
            let tangent: &mut Option<B::Tensor> = &mut tangents[piece.parameter];
            *tangent = Some(match tangent.take() {
                Some(sum) => self.backend.add(&sum, &all),
                None => all,
            });
        }
        tangents
    }
}

/// `rows` rows of the identity of `entries` entries, from `start` on: `[1, directions, entries]`.
fn identity<B: Backend>(
    backend: &B,
    rows: usize,
    start: usize,
    directions: usize,
    entries: usize,
) -> B::Tensor {
    let mut values = vec![0.0f32; directions * entries];
    for row in 0..rows {
        values[row * entries + start + row] = 1.0;
    }
    backend.upload(
        &Shape::new(1, directions, &[entries]),
        HostSlice::F32(&values),
    )
}

/// A contraction that was made: parameters of rows and columns, rule, operations.
pub type Contracted = (usize, usize, Contraction, u64);

impl<'a, T: Clone> Moving<'a, T> {
    /// The factors that a pass made, or another that is alike in everything that their shapes depend on.
    pub fn new(made_by: &'a Move, factors: Rc<Factors<T>>) -> Self {
        Moving { made_by, factors }
    }

    /// The factors.
    pub fn factors(&self) -> &Rc<Factors<T>> {
        &self.factors
    }

    /// Whether the pass moves a parameter, or a pre-activation in its place.
    fn moves(&self, routes: &Routes, parameter: usize) -> bool {
        match &self.made_by.moved {
            Entries::PreActivation { moved, .. } => routes.behind(*moved, parameter),
            Entries::Parameters(pieces) => pieces.iter().any(|p| p.parameter == parameter),
        }
    }

    /// Adds what the directions give to a tile.
    pub fn contract<B: Contract<Tensor = T>>(
        &self,
        backend: &B,
        routes: &Routes,
        part: &PartPlan,
        job: &TileJob,
        tile: &mut B::Accumulator,
        mut made: impl FnMut(Contracted),
    ) {
        let Factors { left, right } = &*self.factors;
        for (row, column) in meetings_with(part, job, |run| self.moves(routes, run.parameter)) {
            let route = routes.of(row.parameter, column.parameter);
            let by_row = route.parameter == row.parameter;
            let (own, other) = if by_row { (row, column) } else { (column, row) };
            let Some(right) = right.get(&other.parameter) else {
                continue;
            };
            match (&self.made_by.moved, route.moved) {
                (Entries::PreActivation { moved, range }, Some(group)) if *moved == group => {
                    // None where the loss does not depend on the parameter.
                    let Some(left) = left.get(&own.parameter) else {
                        continue;
                    };
                    let Some(own) = covered(backend, left, own, range) else {
                        continue;
                    };
                    let (own, other) = (segment(left, &own), segment(right, other));
                    let (rows, columns) = if by_row { (own, other) } else { (other, own) };
                    let meeting = Meeting {
                        rows,
                        columns,
                        signs: None,
                    };
                    let (rule, operations) = accumulate(backend, tile, How::ADD, &meeting);
                    made((row.parameter, column.parameter, rule, operations));
                }
                (Entries::Parameters(pieces), None) => {
                    let pieces = pieces.iter().filter(|p| p.parameter == own.parameter);
                    for (piece, entries) in pieces.filter_map(|p| Some((p, overlap(p, own)?))) {
                        let rows = self.entry_rows(backend, right, piece, &entries, &other.range);
                        let count = entries.len();
                        let units = identity(backend, count, 0, count, count);
                        let at = own.origin + entries.start - own.range.start;
                        let (origin, left, right) = if by_row {
                            ((at, other.origin), &units, &rows)
                        } else {
                            ((other.origin, at), &rows, &units)
                        };
                        backend.accumulate_dense(tile, How::ADD, origin, (left, right));
                        let operations = 2 * (count * count * other.range.len()) as u64;
                        let rule = Contraction::HessianColumns;
                        made((row.parameter, column.parameter, rule, operations));
                    }
                }
                _ => {}
            }
        }
    }

    /// What moving `entries` of a piece does to a range of another parameter's gradient: `[1, entries, range]`.
    fn entry_rows<B: Backend<Tensor = T>>(
        &self,
        backend: &B,
        right: &Factor<T>,
        piece: &Piece,
        entries: &Range<usize>,
        range: &Range<usize>,
    ) -> T {
        let first = piece.direction + entries.start - piece.range.start;
        let rows = right.rows(backend, range.clone());
        slice(backend, &rows, 1, &(first..first + entries.len()))
    }

    /// The part of the diagonal that the directions give: ranges of parameters and their values, `[1, 1, range]`.
    pub fn diagonal<B: Backend<Tensor = T>>(
        &self,
        backend: &B,
        routes: &Routes,
    ) -> Vec<(usize, Range<usize>, T)> {
        let mut found = Vec::new();
        for (&k, right) in &self.factors.right {
            let Some(route) = routes.get(k, k) else {
                continue;
            };
            match (&self.made_by.moved, route.moved) {
                (Entries::PreActivation { moved, .. }, Some(group)) if *moved == group => {
                    if let Some(left) = self.factors.left.get(&k) {
                        let values = left.inner(backend, right, None, DIAGONAL_ROWS);
                        found.push((k, 0..right.count, values));
                    }
                }
                (Entries::Parameters(pieces), None) => {
                    for piece in pieces.iter().filter(|p| p.parameter == k) {
                        let (all, count) = (piece.range.clone(), piece.range.len());
                        let rows = self.entry_rows(backend, right, piece, &all, &all);
                        let units = identity(backend, count, 0, count, count);
                        let values = backend.reduce_sum(&backend.multiply(&rows, &units), &[1]);
                        found.push((k, all, values));
                    }
                }
                _ => {}
            }
        }
        found
    }
}

fn segment<'a, T>(factor: &'a Factor<T>, run: &Run) -> Segment<'a, T> {
    Segment {
        factor,
        range: run.range.clone(),
        origin: run.origin,
    }
}

/// The entries of a piece that lie in a run.
fn overlap(piece: &Piece, run: &Run) -> Option<Range<usize>> {
    let start = piece.range.start.max(run.range.start);
    let end = piece.range.end.min(run.range.end);
    (start < end).then_some(start..end)
}

/// The part of a run that moving the outputs `range` reaches; all of it where they do not lie together.
fn covered<B: Backend>(
    backend: &B,
    left: &Factor<B::Tensor>,
    run: &Run,
    range: &Range<usize>,
) -> Option<Run> {
    let outer = left.outer(backend)?;
    if !outer.outputs_first {
        return Some(run.clone());
    }
    let inputs = outer.input_count(backend);
    let start = run.range.start.max(range.start * inputs);
    let end = run.range.end.min(range.end * inputs);
    (start < end).then(|| Run {
        parameter: run.parameter,
        range: start..end,
        origin: run.origin + start - run.range.start,
    })
}
