//! A rectangle of a part's entries.

use super::PartLayout;
use std::ops::Range;

/// Entries of a part: positions within it, not flat indices. A vector is one column.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tile {
    /// Index of the part.
    pub part: usize,
    /// Its rows.
    pub rows: Range<usize>,
    /// Its columns.
    pub columns: Range<usize>,
}

impl Tile {
    /// The whole of a part.
    pub fn whole(part: usize, layout: &PartLayout) -> Tile {
        Tile {
            part,
            rows: 0..layout.row_count(),
            columns: 0..layout.column_count(),
        }
    }

    /// Number of entries.
    pub fn entries(&self) -> usize {
        self.rows.len() * self.columns.len()
    }

    /// The rectangle on the other side of the diagonal.
    pub fn mirror(&self) -> Tile {
        Tile {
            part: self.part,
            rows: self.columns.clone(),
            columns: self.rows.clone(),
        }
    }
}
