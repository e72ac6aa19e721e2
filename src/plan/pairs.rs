//! The pairs of parameters of a tile: its spans of rows and of columns, and the products that each pair takes.

use super::parts::{PartPlan, TileJob};
use super::tiles::{Grid, Span};
use crate::contraction::{FactorPair, Segment};
use crate::jacobian::unit::Unit;
use crate::tensor::MirrorRule;
use std::ops::Range;

/// The contractions of a tile: the parameters of rows and columns, how their product enters the tile, and their segments in a
/// unit.
///
/// The pairs are an iterator, since a network of thousands of parameters has millions of them.
pub fn factor_pairs<'a, T>(
    unit: &'a Unit<T>,
    part: &'a PartPlan,
    job: &TileJob,
    grid: Grid,
) -> impl Iterator<Item = (usize, usize, MirrorRule, FactorPair<'a, T>)> + use<'a, T> {
    pairs_of(part, *job, grid).map(|(rows, columns, fill)| {
        let pair = factor_pair(unit, &rows, &columns);
        (rows.parameter, columns.parameter, fill, pair)
    })
}

/// Two spans with their factors in a unit.
pub(super) fn factor_pair<'a, T>(
    unit: &'a Unit<T>,
    rows: &Span,
    columns: &Span,
) -> FactorPair<'a, T> {
    let segment = |span: &Span| Segment {
        factor: unit.factors[span.parameter]
            .as_ref()
            .expect("every parameter of a tile is wanted"),
        range: span.range.clone(),
        origin: span.origin,
    };
    FactorPair {
        rows: segment(rows),
        columns: segment(columns),
        signs: unit.signs.as_ref(),
    }
}

/// Spans of rows and of columns that are multiplied for a tile, and how their product enters it.
pub(super) fn pairs_of<'a>(
    part: &'a PartPlan,
    job: TileJob,
    grid: Grid,
) -> impl Iterator<Item = (Span, Span, MirrorRule)> + use<'a> {
    let diagonal = part.on_diagonal(&job);
    span_pairs_of(part, job, diagonal && grid == Grid::Squares)
        .flat_map(move |(row, column)| products(part, job, grid, row, column))
}

/// The products that a pair of a span of rows and one of columns takes.
fn products(
    part: &PartPlan,
    job: TileJob,
    grid: Grid,
    row: &Span,
    column: &Span,
) -> impl Iterator<Item = (Span, Span, MirrorRule)> + use<> {
    let mut found = [const { None }; 9];
    if grid == Grid::Squares {
        let itself = part.on_diagonal(&job) && row == column;
        let fill = if itself {
            MirrorRule::Symmetric
        } else {
            MirrorRule::Own
        };
        found[0] = Some((row.clone(), column.clone(), fill));
    } else {
        let mut next = found.iter_mut();
        both_sides(part, job, grid, (row, column), |product| {
            if let Some(place) = next.next() {
                *place = Some(product);
            }
        });
    }
    found.into_iter().flatten()
}

/// Lists the products for a span of rows and a span of columns of a tile that covers both sides of the diagonal. Each product is
/// computed once, with the earlier parameter as rows; below the diagonal it is added transposed, or, with [`Grid::Whole`], skipped,
/// since its mirror wrote it. There are nine at most: three pieces of the rows with three of the columns.
fn both_sides(
    part: &PartPlan,
    job: TileJob,
    grid: Grid,
    (row, column): (&Span, &Span),
    mut found: impl FnMut((Span, Span, MirrorRule)),
) {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let whole = grid == Grid::Whole;
    // A strip of a whole part lies where its rows are.
    let first = match whole {
        true => part.rows[job.row].positions.start,
        false => 0,
    };
    let sub = |span: &Span, range: Range<usize>, first: usize| Span {
        parameter: span.parameter,
        origin: first + span.origin + range.start - span.range.start,
        range,
    };
    let (r, c) = (row.range.clone(), column.range.clone());
    if !part.part.symmetric() {
        found((sub(row, r, first), sub(column, c, 0), MirrorRule::Own));
        return;
    }
    // What both have, and what lies before and behind it.
    let common = r.start.max(c.start)..r.end.min(c.end);
    let cut = |own: &Range<usize>| match row.parameter == column.parameter && !common.is_empty() {
        true => [own.start..common.start, common.clone(), common.end..own.end],
        false => [own.clone(), 0..0, 0..0],
    };
    for r in cut(&r).into_iter().filter(|r| !r.is_empty()) {
        for c in cut(&c).into_iter().filter(|c| !c.is_empty()) {
            let order = (row.parameter, r.start).cmp(&(column.parameter, c.start));
            let (rows, columns) = (sub(row, r.clone(), first), sub(column, c, 0));
            match (order, whole) {
                (Equal, _) => found((rows, columns, MirrorRule::Symmetric)),
                (Less, true) => found((rows, columns, MirrorRule::Both)),
                (Less, false) => found((rows, columns, MirrorRule::Own)),
                (Greater, true) => {}
                (Greater, false) => found((columns, rows, MirrorRule::Transposed)),
            }
        }
    }
}

/// Pairs of spans where the rows and columns of a square meet; on the diagonal those on or above it.
pub(super) fn span_pairs<'a>(
    part: &'a PartPlan,
    job: &TileJob,
) -> impl Iterator<Item = (&'a Span, &'a Span)> {
    span_pairs_of(part, *job, part.on_diagonal(job))
}

/// The [`span_pairs`] for which `some` holds for the span of the rows or of the columns.
pub(super) fn span_pairs_with<'a>(
    part: &'a PartPlan,
    job: &TileJob,
    some: impl Fn(&Span) -> bool,
) -> impl Iterator<Item = (&'a Span, &'a Span)> {
    let halved = part.on_diagonal(job);
    let (rows, columns) = (&part.rows[job.row].spans, &part.columns[job.column].spans);
    let own: Vec<usize> = (0..columns.len()).filter(|&c| some(&columns[c])).collect();
    rows.iter().enumerate().flat_map(move |(k, row)| {
        let first = if halved { k } else { 0 };
        let (all, few) = match some(row) {
            true => (first..columns.len(), &own[..0]),
            false => (0..0, &own[own.partition_point(|&c| c < first)..]),
        };
        let chosen: Vec<usize> = all.chain(few.iter().copied()).collect();
        chosen.into_iter().map(move |c| (row, &columns[c]))
    })
}

/// Pairs of spans of rows and columns; of a strip with itself those on or above the diagonal, where they are `halved`.
fn span_pairs_of(
    part: &PartPlan,
    job: TileJob,
    halved: bool,
) -> impl Iterator<Item = (&Span, &Span)> {
    let (rows, columns) = (&part.rows[job.row].spans, &part.columns[job.column].spans);
    rows.iter().enumerate().flat_map(move |(k, row)| {
        let first = if halved { k } else { 0 };
        columns[first..].iter().map(move |column| (row, column))
    })
}
