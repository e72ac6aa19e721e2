//! The pairs of parameters of a tile: its runs of rows and of columns, and the products that each pair takes.

use super::parts::{PartPlan, TileJob};
use super::tiles::{Grid, Run};
use crate::contraction::{FactorPair, Segment};
use crate::jacobian::unit::Unit;
use crate::tensor::Fill;
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
) -> impl Iterator<Item = (usize, usize, Fill, FactorPair<'a, T>)> + use<'a, T> {
    pairs_of(part, *job, grid).map(|(rows, columns, fill)| {
        let pair = factor_pair(unit, &rows, &columns);
        (rows.parameter, columns.parameter, fill, pair)
    })
}

/// Two runs with their factors in a unit.
pub(super) fn factor_pair<'a, T>(
    unit: &'a Unit<T>,
    rows: &Run,
    columns: &Run,
) -> FactorPair<'a, T> {
    let segment = |run: &Run| Segment {
        factor: unit.factors[run.parameter]
            .as_ref()
            .expect("every parameter of a tile is wanted"),
        range: run.range.clone(),
        origin: run.origin,
    };
    FactorPair {
        rows: segment(rows),
        columns: segment(columns),
        signs: unit.signs.as_ref(),
    }
}

/// Runs of rows and of columns that are multiplied for a tile, and how their product enters it.
pub(super) fn pairs_of<'a>(
    part: &'a PartPlan,
    job: TileJob,
    grid: Grid,
) -> impl Iterator<Item = (Run, Run, Fill)> + use<'a> {
    let diagonal = part.on_diagonal(&job);
    run_pairs_of(part, job, diagonal && grid == Grid::Squares)
        .flat_map(move |(row, column)| products(part, job, grid, row, column))
}

/// The products that a pair of a run of rows and one of columns takes.
fn products(
    part: &PartPlan,
    job: TileJob,
    grid: Grid,
    row: &Run,
    column: &Run,
) -> impl Iterator<Item = (Run, Run, Fill)> + use<> {
    let mut found = [const { None }; 9];
    if grid == Grid::Squares {
        let itself = part.on_diagonal(&job) && row == column;
        let fill = if itself { Fill::Symmetric } else { Fill::Own };
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

/// Lists the products for a run of rows and a run of columns of a tile that covers both sides of the diagonal. Each product is
/// computed once, with the earlier parameter as rows; below the diagonal it is added transposed, or, with [`Grid::Whole`], skipped,
/// since its mirror wrote it. There are nine at most: three pieces of the rows with three of the columns.
fn both_sides(
    part: &PartPlan,
    job: TileJob,
    grid: Grid,
    (row, column): (&Run, &Run),
    mut found: impl FnMut((Run, Run, Fill)),
) {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let whole = grid == Grid::Whole;
    // A strip of a whole part lies where its rows are.
    let first = match whole {
        true => part.rows[job.row].positions.start,
        false => 0,
    };
    let sub = |run: &Run, range: Range<usize>, first: usize| Run {
        parameter: run.parameter,
        origin: first + run.origin + range.start - run.range.start,
        range,
    };
    let (r, c) = (row.range.clone(), column.range.clone());
    if !part.part.symmetric() {
        found((sub(row, r, first), sub(column, c, 0), Fill::Own));
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
                (Equal, _) => found((rows, columns, Fill::Symmetric)),
                (Less, true) => found((rows, columns, Fill::Both)),
                (Less, false) => found((rows, columns, Fill::Own)),
                (Greater, true) => {}
                (Greater, false) => found((columns, rows, Fill::Transposed)),
            }
        }
    }
}

/// Pairs of runs where the rows and columns of a square meet; on the diagonal those on or above it.
pub(super) fn run_pairs<'a>(
    part: &'a PartPlan,
    job: &TileJob,
) -> impl Iterator<Item = (&'a Run, &'a Run)> {
    run_pairs_of(part, *job, part.on_diagonal(job))
}

/// The [`run_pairs`] for which `some` holds for the run of the rows or of the columns.
pub(super) fn run_pairs_with<'a>(
    part: &'a PartPlan,
    job: &TileJob,
    some: impl Fn(&Run) -> bool,
) -> impl Iterator<Item = (&'a Run, &'a Run)> {
    let halved = part.on_diagonal(job);
    let (rows, columns) = (&part.rows[job.row].runs, &part.columns[job.column].runs);
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

/// Pairs of runs of rows and columns; of a strip with itself those on or above the diagonal, where they are `halved`.
fn run_pairs_of(part: &PartPlan, job: TileJob, halved: bool) -> impl Iterator<Item = (&Run, &Run)> {
    let (rows, columns) = (&part.rows[job.row].runs, &part.columns[job.column].runs);
    rows.iter().enumerate().flat_map(move |(k, row)| {
        let first = if halved { k } else { 0 };
        columns[first..].iter().map(move |column| (row, column))
    })
}
