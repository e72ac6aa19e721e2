//! What a part is, and the checks and the transposition that all sinks share.

use crate::error::{Error, Result};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// One part of a request: a matrix of rows × columns, or a vector of rows.
///
/// ```
/// use hessblock::results::PartLayout;
/// let layout = PartLayout::matrix("layer=fc1,fc2", vec![0..16], vec![16..26]);
/// assert_eq!(layout.shape(), [16, 10]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartLayout {
    /// Name, unique in the request, such as `fc1` or `fc1,fc2`.
    pub name: String,
    /// Flat parameter indices of the rows: ascending half-open ranges.
    pub rows: Vec<Range<usize>>,
    /// Flat parameter indices of the columns; `None` for a vector.
    pub columns: Option<Vec<Range<usize>>>,
}

impl PartLayout {
    /// A matrix part.
    pub fn matrix(
        name: impl Into<String>,
        rows: Vec<Range<usize>>,
        columns: Vec<Range<usize>>,
    ) -> Self {
        Self {
            name: name.into(),
            rows,
            columns: Some(columns),
        }
    }

    /// A vector part.
    pub fn vector(name: impl Into<String>, rows: Vec<Range<usize>>) -> Self {
        Self {
            name: name.into(),
            rows,
            columns: None,
        }
    }

    /// Number of rows.
    pub fn row_count(&self) -> usize {
        count(&self.rows)
    }

    /// Number of columns; 1 for a vector.
    pub fn column_count(&self) -> usize {
        self.columns.as_deref().map_or(1, count)
    }

    /// `[rows, columns]`, or `[rows]` for a vector.
    pub fn shape(&self) -> Vec<usize> {
        match self.columns {
            Some(_) => vec![self.row_count(), self.column_count()],
            None => vec![self.row_count()],
        }
    }

    /// Number of entries, or an error with the arithmetic where it is beyond 64 bits.
    pub(super) fn entries(&self) -> Result<u64> {
        (self.row_count() as u64)
            .checked_mul(self.column_count() as u64)
            .ok_or_else(|| {
                Error::Request(format!(
                    "part {:?} has {} × {} entries, which no file holds",
                    self.name,
                    self.row_count(),
                    self.column_count()
                ))
            })
    }

    /// Checks a tile against the part; returns whether its mirror is to be written.
    pub(super) fn check_tile(
        &self,
        rows: &Range<usize>,
        columns: &Range<usize>,
        values: usize,
        mirror: bool,
    ) -> Result<bool> {
        let (height, width) = (self.row_count(), self.column_count());
        let fits = rows.start <= rows.end
            && rows.end <= height
            && columns.start <= columns.end
            && columns.end <= width
            && rows.len() * columns.len() == values;
        if self.columns.is_none() || !fits || (mirror && self.columns.as_ref() != Some(&self.rows))
        {
            return Err(Error::Shape(format!(
                "a tile of rows {rows:?}, columns {columns:?} and {values} values (mirror: {mirror}) does not fit \
                 part {:?} of shape {:?}",
                self.name,
                self.shape()
            )));
        }
        Ok(mirror && rows != columns)
    }

    /// Checks a vector against the part.
    pub(super) fn check_vector(&self, values: usize) -> Result<()> {
        if self.columns.is_some() || values != self.row_count() {
            return Err(Error::Shape(format!(
                "a vector of {values} values does not fit part {:?} of shape {:?}",
                self.name,
                self.shape()
            )));
        }
        Ok(())
    }
}

fn count(ranges: &[Range<usize>]) -> usize {
    ranges.iter().map(|r| r.end.saturating_sub(r.start)).sum()
}

/// Counts the entries written, so that a result with holes is not taken for whole.
#[derive(Debug, Default)]
pub(super) struct Written(AtomicU64);

impl Written {
    pub(super) fn add(&self, entries: usize) {
        self.0.fetch_add(entries as u64, Ordering::Relaxed);
    }

    pub(super) fn check(&self, layout: &PartLayout) -> Result<()> {
        let (written, entries) = (self.0.load(Ordering::Relaxed), layout.entries()?);
        if written == entries {
            return Ok(());
        }
        Err(Error::Shape(format!(
            "part {:?} has {entries} entries, but {written} were written",
            layout.name
        )))
    }
}

/// Side of the blocks in which tiles are transposed: one in f64 fills 32 KiB, a core's L1.
pub(super) const BLOCK: usize = 64;

/// Transposes `columns` of a tile: `transposed[c, r] = tile[r, columns.start + c]`.
///
/// `tile` is `[rows, width]` and `transposed` `[columns, stride]`, of which the first `rows` of each row are
/// written.
pub(super) fn transpose<R: Copy + Default>(
    tile: &[R],
    width: usize,
    columns: Range<usize>,
    transposed: &mut [R],
    stride: usize,
) {
    let rows = tile.len() / width.max(1);
    // A tile of 2048 columns has all entries of a column in the same few cache sets, so columns are not read
    // from it but from a copied block: 8 ms instead of 24 for 2048 × 2048 in f32.
    let mut block = [R::default(); BLOCK * BLOCK];
    for first in (0..rows).step_by(BLOCK) {
        let last = (first + BLOCK).min(rows);
        for start in columns.clone().step_by(BLOCK) {
            let end = (start + BLOCK).min(columns.end);
            for (r, row) in (first..last).zip(block.chunks_exact_mut(BLOCK)) {
                let at = r * width;
                row[..end - start].copy_from_slice(&tile[at + start..at + end]);
            }
            for column in start..end {
                let at = (column - columns.start) * stride;
                let entries = &mut transposed[at + first..at + last];
                let column = block[column - start..].iter().step_by(BLOCK);
                for (entry, value) in entries.iter_mut().zip(column) {
                    *entry = *value;
                }
            }
        }
    }
}
