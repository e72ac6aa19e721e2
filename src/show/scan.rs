//! The one pass over a part: statistics of its blocks and its picture, a bounded number of entries at a time.

use super::axis::{Axis, By, Span, cut};
use super::grid::{Grid, take};
use super::select::View;
use super::statistics::{Largest, Statistics, Sums};
use crate::error::Result;
use crate::sink::{Blocks, ParameterPlace};
use rayon::prelude::*;
use std::collections::HashMap;
use std::ops::Range;

/// Entries read at a time: 64 MiB.
const ENTRIES: usize = 1 << 23;
/// Rows, and a divisor of the columns, of what is read at a time, unless the result's own pieces are larger.
const SIDE: usize = 2048;
/// Pairs of layers that are told apart: with names and sums some 100 MiB. A list of layers could ask for the square of what
/// it is.
const PAIRS: usize = 1 << 18;

/// What one pass finds.
pub(super) struct Scanned {
    pub(super) whole: Statistics,
    /// In the order of the matrix; none where layers are not known.
    pub(super) blocks: Vec<Block>,
    pub(super) grid: Grid,
    /// Whether only blocks of a layer with itself are among the blocks: there are more than [`PAIRS`] others.
    pub(super) same_only: bool,
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
        pairs: Pairs::new(&sides[0], &sides[1]),
        rows: &sides[0],
        columns: &sides[1],
        vector: view.vector,
        factor: grid.factor,
    };
    let mut found = vec![Sums::default(); sides[0].names.len() * pass.pairs.width];
    let walk = Walk {
        most: (tall, wide),
        piece: match (view.vector, blocks.piece(view.part)) {
            (true, [rows, _]) => [1, rows],
            (false, piece) => piece,
        },
    };
    for [(row, row_places), (column, column_places)] in walk.pieces([rows, columns]) {
        advance(0)?;
        let entries = (row_places.len() * column_places.len()) as u64;
        let tile = match view.vector {
            true => blocks.block(view.part, column_places, 0..1)?,
            false => blocks.block(view.part, row_places, column_places)?,
        };
        let width = match view.vector {
            true => tile.nrows(),
            false => tile.ncols(),
        };
        let (values, _) = tile.into_raw_vec_and_offset();
        pass.tile(&values, width, (row, column), &mut grid, &mut found);
        advance(entries)?;
    }
    Ok(finished(view, &pass, found, grid))
}

/// The order in which a part is read.
struct Walk {
    /// Rows and columns that are read at a time, at most.
    most: (usize, usize),
    /// Those that the result has together: a chunk that is decoded as a whole is larger at times than what is read of it.
    piece: [usize; 2],
}

/// Neighbours of a side: the first one's place in the view, and the places in the part.
type Places = (usize, Range<usize>);

impl Walk {
    /// What is read: all of a piece, or of as many pieces as are read at a time, before the next.
    fn pieces(&self, sides: [&Axis; 2]) -> impl Iterator<Item = [Places; 2]> {
        let around = |most: usize, piece: usize| (most / piece.max(1)).max(1) * piece.max(1);
        let [rows, columns] = sides;
        let high = around(self.most.0, self.piece[0]);
        let broad = around(self.most.1, self.piece[1]);
        let (tall, wide) = (self.most.0.min(high), self.most.1.min(broad));
        // Beside an empty side the other may be without end.
        let rows = rows.pieces(high).take_while(|_| columns.len() > 0);
        rows.flat_map(move |rows| {
            columns.pieces(broad).flat_map(move |columns| {
                cut(rows.clone(), tall)
                    .flat_map(move |row| cut(columns.clone(), wide).map(move |c| [row.clone(), c]))
            })
        })
    }
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
        let mut numbers = HashMap::new();
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

/// Which pairs of layers have sums of their own.
struct Pairs {
    /// Sums that each layer of the rows has.
    width: usize,
    /// Where there are too many pairs: of each layer of the rows, its number among the columns. Its first sums are those
    /// with all other layers, the second those with itself.
    twins: Option<Vec<Option<usize>>>,
}

impl Pairs {
    fn new(rows: &Side<'_>, columns: &Side<'_>) -> Pairs {
        let (down, across) = (rows.names.len(), columns.names.len());
        if down.saturating_mul(across) <= PAIRS.max(down + across) {
            return Pairs {
                width: across,
                twins: None,
            };
        }
        let names = columns.names.iter().enumerate();
        let numbers: HashMap<&str, usize> = names.map(|(k, n)| (n.as_str(), k)).collect();
        let twins = rows.names.iter().map(|n| numbers.get(n.as_str()).copied());
        Pairs {
            width: 2,
            twins: Some(twins.collect()),
        }
    }

    /// Which of a row layer's sums those with a column's layer are.
    fn place(&self, row: usize, column: usize) -> usize {
        match &self.twins {
            None => column,
            Some(twins) => usize::from(twins[row] == Some(column)),
        }
    }

    /// The column's layers with which a row's layer is told apart from the others.
    fn known(&self, row: usize) -> Range<usize> {
        match &self.twins {
            None => 0..self.width,
            Some(twins) => twins[row].map_or(0..0, |twin| twin..twin + 1),
        }
    }
}

struct Pass<'a> {
    pairs: Pairs,
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
                    let mut sums = vec![Sums::default(); self.pairs.width];
                    for row in rows {
                        let at = (row - corner.0) * width;
                        let values = &values[at..at + width];
                        let cells = (&mut *low, &mut *high, &mut *broken);
                        take(cells, values, corner.1, self.factor.1);
                        self.row(values, (row, layer), corner.1, &mut sums);
                    }
                    let base = layer * self.pairs.width;
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

    /// Takes entries from `column` on of a row, which is of that layer, by the layer of their column.
    fn row(&self, values: &[f64], (row, own): (usize, usize), column: usize, sums: &mut [Sums]) {
        for (range, layer) in self.columns.within(column..column + values.len()) {
            let values = &values[range.start - column..range.end - column];
            let sums = &mut sums[self.pairs.place(own, layer)];
            sums.take(values, row, range.start);
            if self.vector {
                sums.trace(values);
            }
        }
        if self.vector {
            return;
        }
        if let Some(at) = self.columns.axis.find(self.rows.axis.flat(row))
            && let Some(value) = at.checked_sub(column).and_then(|k| values.get(k..=k))
            && let Some((_, layer)) = self.columns.within(at..at + 1).next()
        {
            sums[self.pairs.place(own, layer)].trace(value);
        }
    }
}

/// Statistics with the names of their layers.
fn finished(view: &View, pass: &Pass<'_>, found: Vec<Sums>, grid: Grid) -> Scanned {
    let (rows, columns, pairs) = (pass.rows, pass.columns, &pass.pairs);
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
        for b in pairs.known(a) {
            let column = &columns.names[b];
            let shape = (rows.counts[a], columns.counts[b]);
            blocks.push(Block {
                row_layer: if view.vector { column } else { row }.clone(),
                column_layer: column.clone(),
                shape: if view.vector { (shape.1, 1) } else { shape },
                statistics: named(&found[a * pairs.width + pairs.place(a, b)], shape),
            });
        }
    }
    Scanned {
        whole: named(&whole, (rows.axis.len(), columns.axis.len())),
        blocks,
        grid,
        same_only: pairs.twins.is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// However large chunks are beside what is read at a time: each is left for good when the next is begun, or read with
        /// its neighbours at once.
        #[test]
        fn every_chunk_is_read_in_a_row(
            sizes in (1usize..40, 1usize..40), most in (1usize..12, 1usize..12), piece in [1usize..17, 1usize..17], all_columns: bool,
        ) {
            let piece = [piece[0], if all_columns { usize::MAX } else { piece[1] }];
            let sides = [sizes.0, sizes.1].map(|n| Axis::whole(std::slice::from_ref(&(0..n))));
            let walk = Walk { most, piece };
            let mut left = std::collections::HashSet::new();
            let mut begun = std::collections::HashSet::new();
            let mut entries = 0;
            for [(_, rows), (_, columns)] in walk.pieces([&sides[0], &sides[1]]) {
                prop_assert!(rows.len() <= most.0 && columns.len() <= most.1);
                entries += rows.len() * columns.len();
                let numbers = |range: &Range<usize>, side: usize| range.start / side..range.end.div_ceil(side);
                let mut now = std::collections::HashSet::new();
                for row in numbers(&rows, piece[0]) {
                    now.extend(numbers(&columns, piece[1]).map(|column| (row, column)));
                }
                prop_assert!(now.is_disjoint(&left));
                left.extend(begun.difference(&now));
                begun = now;
            }
            prop_assert_eq!(entries, sizes.0 * sizes.1);
        }
    }
}
