//! Blocks of the Hessian by layer or flat range, wherever in a result they lie.

use super::{Blocks, total};
use crate::error::{Error, Result};
use crate::tensor::Real;
use ndarray::{Array2, s};
use std::ops::Range;

/// A block of the Hessian that lies in a part of a result; nothing of it is read until asked for.
///
/// ```
/// use hessblock::internals::sink::{Blocks, Files, ParameterPlace, PartLayout, Sink};
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("hessian.npy");
/// let parameter = |name: &str, layer: &str, offset, count| ParameterPlace {
///     name: name.into(), layer: layer.into(), offset, count, shape: vec![count],
/// };
/// let mut sink = Files::<f32>::create(&path)?
///     .parameters(vec![parameter("a.weight", "a", 0, 2), parameter("b.weight", "b", 2, 1)]);
/// sink.begin(&[PartLayout::matrix("full", vec![0..3], vec![0..3])])?;
/// sink.tile(0, 0..3, 0..3, &[1.0, 2.0, 3.0, 2.0, 4.0, 5.0, 3.0, 5.0, 6.0], false)?;
/// sink.finish()?;
///
/// let blocks = Blocks::open(&path)?;
/// let view = blocks.between("a", "b")?;
/// assert_eq!((view.part(), view.dim(), view.flat_columns()), ("full", (2, 1), &[2..3][..]));
/// assert_eq!(view.to_array()?, ndarray::arr2(&[[3.0], [5.0]]));
/// for band in blocks.layer("a")?.bands(1) {
///     println!("{:?}: {}", band.flat_rows(), band.read::<f32>()?);
/// }
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct View<'a> {
    blocks: &'a Blocks,
    part: usize,
    /// Whether the part holds its transpose.
    transposed: bool,
    rows: Side,
    columns: Side,
}

/// The rows or the columns of a view.
#[derive(Clone, Debug)]
struct Side {
    flat: Vec<Range<usize>>,
    /// The same as positions within the part.
    at: Vec<Range<usize>>,
}

impl Side {
    /// Those among these; `None` where some are not.
    fn among(flat: &[Range<usize>], own: &[Range<usize>]) -> Option<Side> {
        let mut at: Vec<Range<usize>> = Vec::new();
        for wanted in flat {
            let (mut next, mut position) = (wanted.start, 0);
            for range in own {
                if range.contains(&next) {
                    let end = range.end.min(wanted.end);
                    let start = position + next - range.start;
                    let found = start..start + end - next;
                    match at.last_mut() {
                        Some(last) if last.end == found.start => last.end = found.end,
                        _ => at.push(found),
                    }
                    next = end;
                }
                position += range.len();
                if next >= wanted.end {
                    break;
                }
            }
            if next < wanted.end {
                return None;
            }
        }
        let flat = flat.to_vec();
        Some(Side { flat, at })
    }

    /// Some of them, by positions among them.
    fn cut(&self, positions: &Range<usize>) -> Side {
        let cut = |ranges: &[Range<usize>]| {
            let mut before = 0;
            let mut kept = Vec::new();
            for range in ranges {
                let start = positions.start.clamp(before, before + range.len()) - before;
                let end = positions.end.clamp(before, before + range.len()) - before;
                if start < end {
                    kept.push(range.start + start..range.start + end);
                }
                before += range.len();
            }
            kept
        };
        Side {
            flat: cut(&self.flat),
            at: cut(&self.at),
        }
    }

    fn count(&self) -> usize {
        total(&self.at)
    }
}

impl Blocks {
    /// The block of a layer with itself. A parameter's name does for a layer's.
    ///
    /// # Errors
    /// [`Error::Request`] with the layers there are, and the parts where none holds the block.
    pub fn layer(&self, name: &str) -> Result<View<'_>> {
        self.between(name, name)
    }

    /// The block of two layers (or parameters): rows are those of the first.
    ///
    /// # Errors
    /// As [`Blocks::layer`].
    pub fn between(&self, rows: &str, columns: &str) -> Result<View<'_>> {
        let what = match rows == columns {
            true => format!("layer {rows:?}"),
            false => format!("layers {rows:?} and {columns:?}"),
        };
        self.view(&self.flat_of(rows)?, &self.flat_of(columns)?, &what)
    }

    /// The block of flat parameter indices.
    ///
    /// # Errors
    /// [`Error::Request`] with the parts, where none holds all of it.
    pub fn range(&self, rows: Range<usize>, columns: Range<usize>) -> Result<View<'_>> {
        let what = format!("range {rows:?} × {columns:?}");
        for range in [&rows, &columns] {
            if range.start >= range.end {
                return Err(Error::Request(format!("{range:?} is empty")));
            }
        }
        self.view(&[rows], &[columns], &what)
    }

    /// The flat ranges of a layer's, or one parameter's, entries.
    fn flat_of(&self, name: &str) -> Result<Vec<Range<usize>>> {
        if self.parameters().is_empty() {
            return Err(Error::Request(format!(
                "the result does not say whose its entries are (it was made by version 0.1, or not by `blocks`), so {name:?} is \
                 not known: ask by range"
            )));
        }
        let own = |of: &dyn Fn(&super::ParameterPlace) -> bool| {
            let mut ranges: Vec<Range<usize>> = Vec::new();
            let mut places: Vec<_> = self.parameters().iter().filter(|p| of(p)).collect();
            places.sort_by_key(|place| place.offset);
            for range in places.into_iter().map(|place| place.range()) {
                match ranges.last_mut() {
                    Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
                    _ => ranges.push(range),
                }
            }
            ranges.retain(|range| !range.is_empty());
            ranges
        };
        let layer = own(&|place| place.layer == name);
        let found = match layer.is_empty() {
            true => own(&|place| place.name == name),
            false => layer,
        };
        if found.is_empty() {
            let mut layers: Vec<&str> =
                self.parameters().iter().map(|p| p.layer.as_str()).collect();
            layers.dedup();
            return Err(Error::unknown("layer", name, &layers));
        }
        Ok(found)
    }

    /// The block in the smallest part that holds it, or its transpose: all matrices here are symmetric.
    fn view(
        &self,
        rows: &[Range<usize>],
        columns: &[Range<usize>],
        what: &str,
    ) -> Result<View<'_>> {
        let mut found: Option<(u128, View<'_>)> = None;
        for (number, part) in self.parts().iter().enumerate() {
            let layout = &part.layout;
            let Some(own) = &layout.columns else {
                continue;
            };
            let size = layout.row_count() as u128 * layout.column_count() as u128;
            for transposed in [false, true] {
                let (over, under) = match transposed {
                    false => (&layout.rows, own),
                    true => (own, &layout.rows),
                };
                let sides = (Side::among(rows, over), Side::among(columns, under));
                if let (Some(rows), Some(columns)) = sides
                    && found.as_ref().is_none_or(|(least, _)| size < *least)
                {
                    let view = View {
                        blocks: self,
                        part: number,
                        transposed,
                        rows,
                        columns,
                    };
                    found = Some((size, view));
                }
            }
        }
        found.map(|(_, view)| view).ok_or_else(|| {
            let names: Vec<&str> = self
                .parts()
                .iter()
                .map(|p| p.layout.name.as_str())
                .collect();
            Error::Request(format!(
                "no part of the result holds {what}; there are {}",
                names.join(", ")
            ))
        })
    }
}

impl<'a> View<'a> {
    /// The part that it lies in.
    pub fn part(&self) -> &'a str {
        &self.blocks.parts()[self.part].layout.name
    }

    /// Rows and columns.
    pub fn dim(&self) -> (usize, usize) {
        (self.rows.count(), self.columns.count())
    }

    /// The flat parameter indices of its rows.
    pub fn flat_rows(&self) -> &[Range<usize>] {
        &self.rows.flat
    }

    /// The flat parameter indices of its columns.
    pub fn flat_columns(&self) -> &[Range<usize>] {
        &self.columns.flat
    }

    /// Some of its rows, counted from its first.
    ///
    /// # Errors
    /// [`Error::Shape`] for a range outside.
    pub fn rows(&self, rows: Range<usize>) -> Result<View<'a>> {
        self.check(&rows, self.rows.count(), "rows")?;
        Ok(View {
            rows: self.rows.cut(&rows),
            ..self.clone()
        })
    }

    /// Some of its columns, counted from its first.
    ///
    /// # Errors
    /// [`Error::Shape`] for a range outside.
    pub fn columns(&self, columns: Range<usize>) -> Result<View<'a>> {
        self.check(&columns, self.columns.count(), "columns")?;
        Ok(View {
            columns: self.columns.cut(&columns),
            ..self.clone()
        })
    }

    fn check(&self, range: &Range<usize>, count: usize, what: &str) -> Result<()> {
        if range.start <= range.end && range.end <= count {
            return Ok(());
        }
        Err(Error::Shape(format!(
            "{what} {range:?} are not in a block of shape {:?}",
            self.dim()
        )))
    }

    /// Bands of at most so many rows, from the first to the last.
    pub fn bands(&self, rows: usize) -> impl Iterator<Item = View<'a>> + use<'a> {
        let (view, rows) = (self.clone(), rows.max(1));
        (0..self.rows.count()).step_by(rows).map(move |start| View {
            rows: view.rows.cut(&(start..start.saturating_add(rows))),
            ..view.clone()
        })
    }

    /// Reads it: `[rows, columns]`.
    ///
    /// # Errors
    /// As [`Blocks::block`].
    pub fn to_array(&self) -> Result<Array2<f64>> {
        self.read()
    }

    /// Reads it in the precision asked for, which rounds where it is stored in a higher one.
    ///
    /// # Errors
    /// As [`Blocks::block`].
    pub fn read<R: Real>(&self) -> Result<Array2<R>> {
        let (over, under) = match self.transposed {
            false => (&self.rows, &self.columns),
            true => (&self.columns, &self.rows),
        };
        // One run of rows and columns is read to where it stays.
        if let ([rows], [columns]) = (&over.at[..], &under.at[..]) {
            let block = self
                .blocks
                .read_block(self.part, rows.clone(), columns.clone())?;
            return Ok(self.turned(block));
        }
        let mut block = super::zeros(over.count(), under.count())?;
        let mut row = 0;
        for rows in &over.at {
            let mut column = 0;
            for columns in &under.at {
                let piece = self
                    .blocks
                    .read_block(self.part, rows.clone(), columns.clone())?;
                let (height, width) = piece.dim();
                block
                    .slice_mut(s![row..row + height, column..column + width])
                    .assign(&piece);
                column += width;
            }
            row += rows.len();
        }
        Ok(self.turned(block))
    }

    fn turned<R: Real>(&self, block: Array2<R>) -> Array2<R> {
        match self.transposed {
            true => block.reversed_axes().as_standard_layout().into_owned(),
            false => block,
        }
    }
}
