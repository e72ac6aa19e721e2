//! The groups of tangents that tiles need, and what a group's factors give to a tile.

use super::pairs::{span_pairs, span_pairs_with};
use super::parts::{PartPlan, TileJob};
use super::routes::{Routes, union};
use super::sizes::DIAGONAL_ROWS;
use super::tiles::Span;
use crate::contraction::{Contraction, FactorPair, Segment, accumulate, accumulate_columns};
use crate::jacobian::Factor;
use crate::jacobian::hessian::{Entries, GroupFactors, ParameterSet, Piece, TangentGroup};
use crate::network::Network;
use crate::tensor::{Backend, Contract, Placement};
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

/// Lists the groups of tangents that tiles (and the diagonal) need, at most `chunk` directions each.
pub(crate) fn tangent_groups(
    network: &Network,
    routes: &Routes,
    parts: &[PartPlan],
    jobs: &[TileJob],
    diagonal: bool,
    chunk: usize,
) -> Vec<TangentGroup> {
    let mut needed = Needed::new(network.parameters.len());
    for job in jobs {
        for (row, column) in span_pairs(&parts[job.part], job) {
            needed.add(
                routes,
                (row.parameter, &row.range),
                (column.parameter, &column.range),
            );
        }
    }
    if diagonal {
        for (k, parameter) in network.parameters.iter().enumerate() {
            let all = 0..parameter.data.len();
            needed.add(routes, (k, &all), (k, &all));
        }
    }
    needed.groups(routes, chunk)
}

/// The entries that need tangents, each with the parameters whose gradient is followed.
struct Needed {
    /// The number of all parameters.
    count: usize,
    /// By number of the pre-activation.
    pre_activations: BTreeMap<usize, ParameterSet>,
    /// By parameter: ranges of its entries.
    entries: BTreeMap<usize, (Vec<Range<usize>>, ParameterSet)>,
}

impl Needed {
    fn new(count: usize) -> Needed {
        Needed {
            count,
            pre_activations: BTreeMap::new(),
            entries: BTreeMap::new(),
        }
    }

    /// Adds a pair of ranges of parameters.
    fn add(&mut self, routes: &Routes, a: (usize, &Range<usize>), b: (usize, &Range<usize>)) {
        let none = || ParameterSet::new(self.count);
        let route = routes.of(a.0, b.0);
        let (own, other) = if route.parameter == a.0 {
            (a, b)
        } else {
            (b, a)
        };
        match route.through {
            // The parameter itself: its site says how an offset of the pre-activation is one to it.
            Some(number) => {
                let wanted = self.pre_activations.entry(number).or_insert_with(none);
                wanted.insert(own.0);
                wanted.insert(other.0);
            }
            None => {
                let none = || (Vec::new(), none());
                let (ranges, wanted) = self.entries.entry(own.0).or_insert_with(none);
                // Most parameters meet many others with all of their entries.
                if !ranges.contains(own.1) {
                    ranges.push(own.1.clone());
                }
                wanted.insert(other.0);
            }
        }
    }

    /// The groups: those of pre-activations, then those of parameters.
    fn groups(self, routes: &Routes, chunk: usize) -> Vec<TangentGroup> {
        let mut groups = Vec::new();
        for (number, wanted) in self.pre_activations {
            let outputs = routes.pre_activations[number].outputs;
            let wanted: Rc<[usize]> = wanted.iter().collect();
            let group = |start: usize| TangentGroup {
                entries: Entries::PreActivation {
                    number,
                    range: start..(start + chunk).min(outputs),
                },
                wanted: Rc::clone(&wanted),
            };
            groups.extend((0..outputs).step_by(chunk).map(group));
        }
        let mut open = OpenGroup {
            count: self.count,
            pieces: Vec::new(),
            directions: 0,
            wanted: ParameterSet::new(self.count),
        };
        for (parameter, (ranges, wanted)) in self.entries {
            for mut range in union(ranges) {
                while !range.is_empty() {
                    let end = range.end.min(range.start + chunk - open.directions);
                    open.add(parameter, range.start..end, &wanted);
                    range.start = end;
                    if open.directions == chunk {
                        open.close(&mut groups);
                    }
                }
            }
        }
        if !open.pieces.is_empty() {
            open.close(&mut groups);
        }
        groups
    }
}

/// A group of entries of parameters that is being filled.
struct OpenGroup {
    /// The number of all parameters.
    count: usize,
    pieces: Vec<Piece>,
    directions: usize,
    wanted: ParameterSet,
}

impl OpenGroup {
    /// Adds entries of a parameter, whose pass goes back to `wanted`.
    fn add(&mut self, parameter: usize, range: Range<usize>, wanted: &ParameterSet) {
        let direction = self.directions;
        self.directions += range.len();
        self.pieces.push(Piece {
            parameter,
            range,
            direction,
        });
        self.wanted.add(wanted);
    }

    /// Puts the group behind others and begins an empty one.
    fn close(&mut self, groups: &mut Vec<TangentGroup>) {
        let wanted = std::mem::replace(&mut self.wanted, ParameterSet::new(self.count));
        let before = groups.last().map(|before| &before.wanted);
        let wanted = match before {
            Some(before) if before.iter().copied().eq(wanted.iter()) => Rc::clone(before),
            _ => wanted.iter().collect(),
        };
        let mut pieces = std::mem::take(&mut self.pieces);
        pieces.shrink_to_fit();
        groups.push(TangentGroup {
            entries: Entries::Parameters(pieces),
            wanted,
        });
        self.directions = 0;
    }
}

/// A contraction that was made: parameters of rows and columns, rule, operations.
pub(crate) type Contracted = (usize, usize, Contraction, u64);

/// Adds what the directions of a group give to a tile; `made` is told of each contraction.
pub(crate) fn contract<B: Contract>(
    backend: &B,
    factors: &GroupFactors<'_, B::Tensor>,
    routes: &Routes,
    (part, job): (&PartPlan, &TileJob),
    tile: &mut B::Accumulator,
    mut made: impl FnMut(Contracted),
) {
    let has_tangents =
        |span: &Span| factors.has_tangents_of(&routes.pre_activations, span.parameter);
    for (row, column) in span_pairs_with(part, job, has_tangents) {
        let route = routes.of(row.parameter, column.parameter);
        let by_row = route.parameter == row.parameter;
        let (own, other) = if by_row { (row, column) } else { (column, row) };
        let Some(right) = factors.right(other.parameter) else {
            continue;
        };
        let mut made =
            |(rule, operations)| made((row.parameter, column.parameter, rule, operations));
        match (&factors.group.entries, route.through) {
            (Entries::PreActivation { number, range }, Some(through)) if *number == through => {
                let Some(left) = factors.left(own.parameter) else {
                    continue;
                };
                let Some(own) = covered(backend, left, own, range) else {
                    continue;
                };
                let (own, other) = (segment(left, &own), segment(right, other));
                let (rows, columns) = if by_row { (own, other) } else { (other, own) };
                let pair = FactorPair {
                    rows,
                    columns,
                    signs: None,
                };
                made(accumulate(backend, tile, Placement::ADD, &pair));
            }
            (Entries::Parameters(pieces), None) => {
                let pieces = pieces.iter().filter(|p| p.parameter == own.parameter);
                for (piece, entries) in pieces.filter_map(|p| Some((p, overlap(p, own)?))) {
                    let rows = factors.entry_rows(backend, right, piece, &entries, &other.range);
                    let at = own.origin + entries.start - own.range.start;
                    let origin = if by_row {
                        (at, other.origin)
                    } else {
                        (other.origin, at)
                    };
                    made(accumulate_columns(backend, tile, origin, &rows, by_row));
                }
            }
            _ => {}
        }
    }
}

/// The part of the diagonal that the directions of a group give: ranges of parameters and their values, `[1, 1, range]`.
pub(crate) fn diagonal<B: Backend>(
    backend: &B,
    factors: &GroupFactors<'_, B::Tensor>,
    routes: &Routes,
) -> Vec<(usize, Range<usize>, B::Tensor)> {
    let mut found = Vec::new();
    for k in factors.parameters() {
        let Some(route) = routes.get(k, k) else {
            continue;
        };
        let own = factors.diagonal(backend, k, route.through, DIAGONAL_ROWS);
        found.extend(own.into_iter().map(|(range, values)| (k, range, values)));
    }
    found
}

fn segment<'a, T>(factor: &'a Factor<T>, span: &Span) -> Segment<'a, T> {
    Segment {
        factor,
        range: span.range.clone(),
        origin: span.origin,
    }
}

/// The entries of a piece that lie in a span.
fn overlap(piece: &Piece, span: &Span) -> Option<Range<usize>> {
    let start = piece.range.start.max(span.range.start);
    let end = piece.range.end.min(span.range.end);
    (start < end).then_some(start..end)
}

/// The part of a span that tangents of the outputs `range` reach; all of it where they do not lie together.
fn covered<B: Backend>(
    backend: &B,
    left: &Factor<B::Tensor>,
    span: &Span,
    range: &Range<usize>,
) -> Option<Span> {
    let outer = left.outer(backend)?;
    if !outer.outputs_first {
        return Some(span.clone());
    }
    let inputs = outer.input_count(backend);
    let start = span.range.start.max(range.start * inputs);
    let end = span.range.end.min(range.end * inputs);
    (start < end).then(|| Span {
        parameter: span.parameter,
        range: start..end,
        origin: span.origin + start - span.range.start,
    })
}
