//! The one pass over a part: statistics of its blocks and its picture, a bounded number of entries at a time.

use super::axis::{Axis, By, Span};
use super::grid::{Grid, take};
use super::select::View;
use super::statistics::{Largest, Statistics, Sums};
use crate::error::Result;
use crate::sink::{Blocks, ParameterPlace};
use rayon::prelude::*;
use std::ops::Range;

/// Entries read at a time: 64 MiB.
const ENTRIES: usize = 1 << 23;
/// Rows, and a divisor of the columns, of what is read at a time. Chunks of a result are of about that size, so that
/// none is read many times over.
const SIDE: usize = 2048;

/// What one pass finds.
pub(super) struct Scanned {
    pub(super) whole: Statistics,
    /// In the order of the matrix; none where layers are not known.
    pub(super) blocks: Vec<Block>,
    pub(super) grid: Grid,
}

/// The entries between two layers; of a vector, those of a layer.
pub(super) struct Block {
    pub(super) row_layer: String,
    pub(super) column_layer: String,
    pub(super) shape: (usize, usize),
    pub(super) statistics: Statistics,
}

/// Reads a view once. `advance` is told of entries that were read and may stop the pass.
///
/// # Errors
/// What reading reports, and what `advance` does.
pub(super) fn scan(
    blocks: &Blocks,
    view: &View,
    places: &[ParameterPlace],
    most: (usize, usize),
    advance: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<Scanned> {
    let (rows, columns) = match view.vector {
        true => (1, view.rows.len()),
        false => (view.rows.len(), view.columns.len()),
    };
    scan_by(blocks, view, places, most, extents(rows, columns), advance)
}

/// The same, with at most that many rows and columns read at a time.
pub(super) fn scan_by(
    blocks: &Blocks,
    view: &View,
    places: &[ParameterPlace],
    most: (usize, usize),
    (tall, wide): (usize, usize),
    advance: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<Scanned> {
    // A vector is taken as one row: its entries lie one behind the other.
    let (rows, columns) = match view.vector {
        true => (&Axis::one(), &view.rows),
        false => (&view.rows, &view.columns),
    };
    let sides = [
        Side::new(rows, if view.vector { &[] } else { places }),
        Side::new(columns, places),
    ];
    let mut grid = Grid::new((rows.len(), columns.len()), most);
    let pass = Pass {
        rows: &sides[0],
        columns: &sides[1],
        vector: view.vector,
        factor: grid.factor,
    };
    let mut found = vec![Sums::default(); sides[0].names.len() * sides[1].names.len()];
    for (row, row_places) in rows.pieces(tall) {
        for (column, column_places) in columns.pieces(wide) {
            advance(0)?;
            let entries = (row_places.len() * column_places.len()) as u64;
            let tile = match view.vector {
                true => blocks.block(view.part, column_places, 0..1)?,
                false => blocks.block(view.part, row_places.clone(), column_places)?,
            };
            let width = match view.vector {
                true => tile.nrows(),
                false => tile.ncols(),
            };
            let (values, _) = tile.into_raw_vec_and_offset();
            pass.tile(&values, width, (row, column), &mut grid, &mut found);
            advance(entries)?;
        }
    }
    Ok(finished(view, sides, found, grid))
}

/// Rows and columns that are read at a time.
fn extents(rows: usize, columns: usize) -> (usize, usize) {
    let tall = match columns < ENTRIES / SIDE {
        true => ENTRIES / columns.max(1),
        false => SIDE,
    };
    let wide = ENTRIES / rows.clamp(1, SIDE);
    (tall.max(1), (wide / SIDE * SIDE).max(SIDE))
}

/// A side with its layers by number.
struct Side<'a> {
    axis: &'a Axis,
    spans: Vec<(Range<usize>, usize)>,
    /// Layers, each once; one without a name where they are not known.
    names: Vec<String>,
    /// How many entries each has.
    counts: Vec<usize>,
}

impl<'a> Side<'a> {
    fn new(axis: &'a Axis, places: &[ParameterPlace]) -> Side<'a> {
        let mut spans = axis.spans(places, By::Layer);
        if spans.is_empty() {
            spans.push(Span {
                name: String::new(),
                range: 0..axis.len(),
            });
        }
        let mut numbers = std::collections::HashMap::new();
        let (mut names, mut counts): (Vec<String>, Vec<usize>) = Default::default();
        let mut numbered = Vec::new();
        for span in spans {
            let number = *numbers.entry(span.name.clone()).or_insert(names.len());
            numbered.push((span.range.clone(), number));
            if number == names.len() {
                names.push(span.name);
                counts.push(0);
            }
            counts[number] += span.range.len();
        }
        Side {
            axis,
            spans: numbered,
            names,
            counts,
        }
    }

    /// The spans that hold part of a range, cut to it.
    fn within(&self, range: Range<usize>) -> impl Iterator<Item = (Range<usize>, usize)> + '_ {
        let first = self.spans.partition_point(|(s, _)| s.end <= range.start);
        let spans = self.spans[first..].iter();
        spans
            .map(move |(s, k)| (s.start.max(range.start)..s.end.min(range.end), *k))
            .take_while(|(s, _)| !s.is_empty())
    }
}

struct Pass<'a> {
    rows: &'a Side<'a>,
    columns: &'a Side<'a>,
    vector: bool,
    factor: (usize, usize),
}

impl Pass<'_> {
    /// Takes a tile, `width` entries a row, its first entry at `corner` of the view.
    fn tile(
        &self,
        values: &[f64],
        width: usize,
        corner: (usize, usize),
        grid: &mut Grid,
        found: &mut [Sums],
    ) {
        let height = values.len() / width.max(1);
        if height == 0 {
            return;
        }
        let (first, last) = (
            corner.0 / self.factor.0,
            (corner.0 + height - 1) / self.factor.0,
        );
        let cells = first * grid.columns..(last + 1) * grid.columns;
        let columns = grid.columns;
        // Rows of cells side by side; what they find is put together in their order, so that it is always the same.
        let bands: Vec<Vec<(usize, Sums)>> = (
            grid.low[cells.clone()].par_chunks_mut(columns),
            grid.high[cells.clone()].par_chunks_mut(columns),
            grid.broken[cells].par_chunks_mut(columns),
        )
            .into_par_iter()
            .enumerate()
            .map(|(band, (low, high, broken))| {
                let start = ((first + band) * self.factor.0).max(corner.0);
                let end = ((first + band + 1) * self.factor.0).min(corner.0 + height);
                let mut found = Vec::new();
                for (rows, layer) in self.rows.within(start..end) {
                    let mut sums = vec![Sums::default(); self.columns.names.len()];
                    for row in rows {
                        let at = (row - corner.0) * width;
                        let values = &values[at..at + width];
                        let cells = (&mut *low, &mut *high, &mut *broken);
                        take(cells, values, corner.1, self.factor.1);
                        self.row(values, row, corner.1, &mut sums);
                    }
                    let base = layer * self.columns.names.len();
                    let sums = sums.into_iter().enumerate();
                    found.extend(
                        sums.filter(|(_, s)| s.entries > 0)
                            .map(|(k, s)| (base + k, s)),
                    );
                }
                found
            })
            .collect();
        for (place, sums) in bands.into_iter().flatten() {
            found[place].merge(&sums);
        }
    }

    /// Takes a row's entries from `column` on, by the layer of their column.
    fn row(&self, values: &[f64], row: usize, column: usize, sums: &mut [Sums]) {
        for (range, layer) in self.columns.within(column..column + values.len()) {
            let values = &values[range.start - column..range.end - column];
            sums[layer].take(values, row, range.start);
            if self.vector {
                sums[layer].trace += values.iter().sum::<f64>();
            }
        }
        if self.vector {
            return;
        }
        if let Some(at) = self.columns.axis.find(self.rows.axis.flat(row))
            && let Some(value) = at.checked_sub(column).and_then(|k| values.get(k))
            && let Some((_, layer)) = self.columns.within(at..at + 1).next()
        {
            sums[layer].trace += value;
            sums[layer].diagonal += 1;
        }
    }
}

/// Statistics with the names of their layers.
fn finished(view: &View, sides: [Side<'_>; 2], found: Vec<Sums>, grid: Grid) -> Scanned {
    let [rows, columns] = &sides;
    // A trace is that of a block with the same flat indices on both sides.
    let named = |sums: &Sums, shape: (usize, usize)| Statistics {
        entries: sums.entries,
        norm: sums.norm,
        trace: (view.vector || (sums.diagonal == shape.0 && shape.0 == shape.1))
            .then_some(sums.trace),
        largest: sums.largest.map(|(value, row, column)| Largest {
            value,
            row: match view.vector {
                true => columns.axis.flat(column),
                false => rows.axis.flat(row),
            },
            column: columns.axis.flat(column),
        }),
        zeros: sums.zeros,
        non_finite: sums.non_finite,
    };
    let mut whole = Sums::default();
    for sums in &found {
        whole.merge(sums);
    }
    let mut blocks = Vec::new();
    let known = columns.names.iter().any(|n| !n.is_empty());
    for (a, row) in rows.names.iter().enumerate().filter(|_| known) {
        for (b, column) in columns.names.iter().enumerate() {
            let shape = (rows.counts[a], columns.counts[b]);
            blocks.push(Block {
                row_layer: if view.vector { column } else { row }.clone(),
                column_layer: column.clone(),
                shape: if view.vector { (shape.1, 1) } else { shape },
                statistics: named(&found[a * columns.names.len() + b], shape),
            });
        }
    }
    Scanned {
        whole: named(&whole, (rows.axis.len(), columns.axis.len())),
        blocks,
        grid,
    }
}
