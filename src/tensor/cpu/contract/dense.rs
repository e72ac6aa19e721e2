//! Dense × dense: `Σ_n Σ_r V_n[r, q] V'_n[r, q']`, inner dimension N·R (DESIGN §2).
//!
//! Of a factor with itself the blocks on and above the diagonal are computed, and those on it but half.

use super::block::{Shape, Worker, blocks, depths, room, work};
use super::panels::{Geometry, pack};
use super::places::Place;
use crate::tensor::cpu::{Tensor, common};
use crate::tensor::{MirrorRule, Placement, Real};
use std::ops::Range;

/// Rows of V, and the entries in each.
struct Rows<'a, R> {
    rows: Vec<&'a [R]>,
    extent: usize,
}

impl<'a, R: Real> Rows<'a, R> {
    /// Those of `samples` × `directions`, some of which the tensor may repeat.
    fn new(tensor: &'a Tensor<R>, samples: usize, directions: usize) -> Self {
        let extent = tensor.shape.rest_len();
        let all = (0..samples).flat_map(|n| (0..directions).map(move |r| (n, r)));
        let row = |(n, r)| &tensor.values()[tensor.unit(n, r) * extent..][..extent];
        Self {
            rows: all.map(row).collect(),
            extent,
        }
    }

    /// Entries `range` of the rows `depth` in panels.
    fn pack(&self, into: &mut Vec<R>, width: usize, range: &Range<usize>, depth: &Range<usize>) {
        let into = room(into, range.len().next_multiple_of(width) * depth.len());
        let rows = self.rows[depth.clone()]
            .iter()
            .map(|row| &row[range.clone()]);
        pack(into, width, range.len(), rows);
    }
}

/// The part of a tile that a product goes to.
struct Target {
    /// Rows of the tile.
    height: usize,
    /// Columns of the tile.
    width: usize,
    /// The row and the column of the product's first entry.
    origin: (usize, usize),
    mirror: MirrorRule,
}

impl Target {
    /// Whether a product of `rows` × `columns` lies within the tile, and does not meet its mirror.
    fn fits(&self, rows: usize, columns: usize) -> bool {
        let (row, column) = self.origin;
        let inside = |row: usize, column: usize, rows: usize, columns: usize| {
            row + rows <= self.height && column + columns <= self.width
        };
        let (own, transposed) = (
            inside(row, column, rows, columns),
            inside(column, row, columns, rows),
        );
        let apart = row + rows <= column || column + columns <= row;
        match self.mirror {
            MirrorRule::Own => own,
            MirrorRule::Transposed => transposed,
            MirrorRule::Both => own && transposed && apart,
            MirrorRule::Symmetric => own && rows == columns,
        }
    }

    /// The block of rows `r` and columns `c` of the product, with the places of its entries.
    fn shape(&self, r: &Range<usize>, c: &Range<usize>) -> Shape {
        let (row, column) = self.origin;
        let symmetric = self.mirror == MirrorRule::Symmetric;
        let own = Place {
            offset: (row + r.start) * self.width + column + c.start,
            row_step: self.width,
            column_step: 1,
        };
        // A square's mirror lies in the square, another product's at columns × rows.
        let (first_row, first_column) = if symmetric {
            (row, column)
        } else {
            (column, row)
        };
        let mirrored = Place {
            offset: (first_row + c.start) * self.width + first_column + r.start,
            row_step: 1,
            column_step: self.width,
        };
        let on_diagonal = symmetric && r == c;
        let mut shape = Shape::new(r.len(), c.len(), on_diagonal);
        if self.mirror != MirrorRule::Transposed {
            shape = shape.at(own);
        }
        if self.mirror != MirrorRule::Own && !on_diagonal {
            shape = shape.at(mirrored);
        }
        shape
    }
}

/// Adds `Σ_n Σ_r left[n, r, q]·right[n, r, q']` to a tile of rows `width` apart, at `(row, column)`; whether all results are finite.
///
/// # Panics
/// Where it reaches beyond the tile.
pub(super) fn accumulate<R: Real>(
    tile: &mut [R],
    width: usize,
    how: Placement,
    (row, column): (usize, usize),
    (left, right): (&Tensor<R>, &Tensor<R>),
) -> bool {
    let samples = common(left.shape.samples, right.shape.samples);
    let directions = common(left.shape.directions, right.shape.directions);
    let (left, right) = (
        Rows::new(left, samples, directions),
        Rows::new(right, samples, directions),
    );
    if left.extent == 0 || right.extent == 0 {
        return true;
    }
    let target = Target {
        height: tile.len() / width.max(1),
        width,
        origin: (row, column),
        mirror: how.mirror,
    };
    assert!(
        target.fits(left.extent, right.extent),
        "a dense product beyond its tile"
    );
    let geometry = Geometry::of::<R>();
    let step = geometry.columns;
    let (rows, columns): (Vec<_>, Vec<_>) = (
        blocks(left.extent, step).collect(),
        blocks(right.extent, step).collect(),
    );
    let symmetric = how.mirror == MirrorRule::Symmetric;
    let wanted = |r: &Range<usize>, c: &Range<usize>| !symmetric || r.start <= c.start;
    let all: Vec<_> = rows
        .iter()
        .flat_map(|r| columns.iter().map(move |c| (r, c)))
        .filter(|(r, c)| wanted(r, c))
        .collect();
    let task = |worker: &mut Worker<'_, R>, number: usize| {
        let (r, c) = all[number];
        worker.begin(target.shape(r, c), !how.begin);
        let mut packs = worker.packs();
        for chunk in depths(left.rows.len()) {
            left.pack(&mut packs.left, geometry.rows, r, &chunk);
            right.pack(&mut packs.right, geometry.columns, c, &chunk);
            let depth = chunk.len();
            worker.add(&packs.left, (&packs.right, depth), None, depth);
        }
        worker.put_back(packs);
        worker.end();
    };
    let operations = left
        .extent
        .saturating_mul(right.extent)
        .saturating_mul(left.rows.len());
    // SAFETY: different tasks have different ranges of rows or columns, and of a symmetric product one of the two orders;
    // [`Target::fits`] has seen that a product and its mirror do not meet.
    unsafe { work(tile, all.len(), operations, task) }
}
