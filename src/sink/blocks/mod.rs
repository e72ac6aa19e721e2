//! A result on disk, read back piece by piece: by part and position, or as a [`View`] by layer and flat range.

mod open;
mod view;

pub use view::View;

use super::reader::Reader;
use super::{ParameterPlace, PartLayout};
use crate::error::{Error, Remedy, Result};
use crate::tensor::Real;
use ndarray::{Array1, Array2};
use std::ops::Range;

/// A finished result: a `.npy` file with its `.json`, a folder with its `index.json`, a `.zarr` or a `.safetensors` file.
///
/// Nothing is loaded until it is asked for, and then only that; see [`View`] for layers and ranges.
///
/// ```
/// use hessblock::results::Blocks;
/// # use hessblock::data::Dataset;
/// # use hessblock::loss::CrossEntropy;
/// # use hessblock::network::builder::Builder;
/// # use hessblock::{Device, Output, Part, Precision, Session};
/// # use ndarray::{arr1, arr2};
/// # let network = Builder::new(&[3]).linear("fc1", 4).tanh().linear("fc2", 2).initialize(0).build()?;
/// # let data = Dataset::from_arrays(arr2(&[[0.1, 0.2, 0.3], [0.5, -0.4, 0.0]]), arr1(&[0i64, 1]));
/// # let session = Session::builder(network).data(data).loss(CrossEntropy::mean())
/// #     .device(Device::cpu(Precision::F64)).build()?;
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("blocks");
/// session.ggn().parts([Part::Layers, Part::Diagonal])?.write(Output::folder(&path))?;
/// let blocks = Blocks::open(&path)?;
/// let part = blocks.find("layer=fc2")?;
/// assert_eq!(blocks.parts()[part].layout.shape(), [10, 10]);
/// let rows = blocks.rows(part, 0..3)?; // [3, 10], and nothing else is read
/// assert_eq!(blocks.entry(part, 2, 0)?, rows[[2, 0]]);
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Debug)]
pub struct Blocks {
    parts: Vec<ResultPart>,
    parameters: Vec<ParameterPlace>,
    provenance: serde_json::Value,
}

/// One part of a result on disk.
///
/// ```
/// use hessblock::results::Blocks;
/// # use hessblock::data::Dataset;
/// # use hessblock::loss::CrossEntropy;
/// # use hessblock::network::builder::Builder;
/// # use hessblock::{Device, Output, Part, Precision, Session};
/// # use ndarray::{arr1, arr2};
/// # let network = Builder::new(&[3]).linear("fc1", 4).tanh().linear("fc2", 2).initialize(0).build()?;
/// # let data = Dataset::from_arrays(arr2(&[[0.1, 0.2, 0.3], [0.5, -0.4, 0.0]]), arr1(&[0i64, 1]));
/// # let session = Session::builder(network).data(data).loss(CrossEntropy::mean())
/// #     .device(Device::cpu(Precision::F32)).build()?;
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("blocks");
/// session.ggn().parts([Part::layer("fc2"), Part::Diagonal])?.write(Output::folder(&path))?;
/// let blocks = Blocks::open(&path)?;
/// for part in blocks.parts() {
///     println!("{}: {:?}", part.layout.name, part.layout.shape());
/// }
/// assert_eq!(blocks.parts()[0].layout.rows, [16..26]);
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Debug)]
pub struct ResultPart {
    /// Name and place in the whole Hessian.
    pub layout: PartLayout,
    reader: Box<dyn Reader>,
}

/// Bytes that are read before they are widened.
const BAND: usize = 16 << 20;

impl Blocks {
    /// The parts, in the order of the request.
    pub fn parts(&self) -> &[ResultPart] {
        &self.parts
    }

    /// The network's parameters in the flat order; none in results of version 0.1 and of other sinks.
    pub fn parameters(&self) -> &[ParameterPlace] {
        &self.parameters
    }

    /// What the result was computed from, as JSON ([`super::Provenance`] reads it).
    pub fn provenance(&self) -> &serde_json::Value {
        &self.provenance
    }

    /// The index of the part of that name.
    ///
    /// # Errors
    /// [`Error::Request`] with the names there are.
    pub fn find(&self, name: &str) -> Result<usize> {
        let names = || self.parts.iter().map(|p| p.layout.name.as_str());
        names().position(|n| n == name).ok_or_else(|| {
            Error::Request(format!(
                "no part {name:?} in the result; there are {}",
                names().collect::<Vec<_>>().join(", ")
            ))
        })
    }

    /// Rows and columns of a part that lie together, and are best read together.
    #[cfg(feature = "plot")] // pictures alone go through all of a part
    pub(crate) fn piece(&self, part: usize) -> [usize; 2] {
        self.parts.get(part).map_or([1, 1], |p| p.reader.piece())
    }

    /// The entries `rows` × `columns` (positions within the part): `[rows, columns]`.
    ///
    /// # Errors
    /// [`Error::Shape`] for a range outside the part, [`Error::Io`] where reading fails.
    pub fn block(
        &self,
        part: usize,
        rows: Range<usize>,
        columns: Range<usize>,
    ) -> Result<Array2<f64>> {
        self.read_block(part, rows, columns)
    }

    /// The same in the precision asked for.
    fn read_block<R: Real>(
        &self,
        part: usize,
        rows: Range<usize>,
        columns: Range<usize>,
    ) -> Result<Array2<R>> {
        let part = self.part(part)?;
        part.check(&rows, part.layout.row_count(), "rows")?;
        part.check(&columns, part.layout.column_count(), "columns")?;
        let mut block = zeros(rows.len(), columns.len())?;
        if rows.is_empty() || columns.is_empty() {
            return Ok(block);
        }
        let dtype = part.reader.dtype();
        let [tall, wide] = part.reader.piece().map(|extent| extent.max(1));
        let (mut buffer, mut values) = (Vec::new(), Vec::new());
        // Pieces end where the reader's do, which reads some of them anew otherwise.
        for columns_of_piece in pieces(&columns, wide) {
            // `zeros` had as many numbers of 4 bytes at least, so that these products are no more than twice 2^63.
            let row_bytes = columns_of_piece.len() * dtype.size;
            let height = (BAND / row_bytes / tall).max(1).saturating_mul(tall);
            for rows_of_piece in pieces(&rows, height) {
                buffer.resize(rows_of_piece.len() * row_bytes, 0);
                let (from, to) = (rows_of_piece.clone(), columns_of_piece.clone());
                part.reader.read(from, to, &mut buffer)?;
                values.clear();
                dtype.decode_f64(&buffer, &mut values);
                let [down, across] = [
                    (&rows_of_piece, rows.start),
                    (&columns_of_piece, columns.start),
                ]
                .map(|(range, first)| range.start - first..range.end - first);
                let mut own = block.slice_mut(ndarray::s![down, across]);
                own.iter_mut()
                    .zip(&values)
                    .for_each(|(to, from)| *to = R::from_f64(*from));
            }
        }
        Ok(block)
    }

    /// Whole rows of a part: `[rows, all columns]`.
    ///
    /// # Errors
    /// As [`Blocks::block`].
    pub fn rows(&self, part: usize, rows: Range<usize>) -> Result<Array2<f64>> {
        let columns = 0..self.part(part)?.layout.column_count();
        self.block(part, rows, columns)
    }

    /// One entry, by positions within the part.
    ///
    /// # Errors
    /// As [`Blocks::block`].
    pub fn entry(&self, part: usize, row: usize, column: usize) -> Result<f64> {
        let end = |at: usize| at.saturating_add(1);
        Ok(self.block(part, row..end(row), column..end(column))?[[0, 0]])
    }

    /// A vector part, or the only column of a matrix: `[rows]`.
    ///
    /// # Errors
    /// As [`Blocks::block`]; [`Error::Shape`] for a matrix of several columns.
    pub fn vector(&self, part: usize) -> Result<Array1<f64>> {
        let layout = &self.part(part)?.layout;
        if layout.column_count() != 1 {
            return Err(Error::Shape(format!(
                "part {:?} is a matrix of shape {:?}, not a vector",
                layout.name,
                layout.shape()
            )));
        }
        let column = self.block(part, 0..layout.row_count(), 0..1)?;
        Ok(Array1::from_vec(column.into_raw_vec_and_offset().0))
    }

    fn part(&self, part: usize) -> Result<&ResultPart> {
        self.parts.get(part).ok_or_else(|| {
            Error::Request(format!(
                "no part {part} in the result, which has {}",
                self.parts.len()
            ))
        })
    }
}

impl ResultPart {
    fn check(&self, range: &Range<usize>, count: usize, what: &str) -> Result<()> {
        if range.start <= range.end && range.end <= count {
            return Ok(());
        }
        Err(Error::Shape(format!(
            "{what} {range:?} are not in part {:?} of shape {:?}",
            self.layout.name,
            self.layout.shape()
        )))
    }
}

/// A block to read into, or an error where there is no memory for it: its size may come from a file.
fn zeros<R: Real>(rows: usize, columns: usize) -> Result<Array2<R>> {
    let refused = || {
        let needed = (rows as u64).saturating_mul(columns as u64);
        let needed = needed.saturating_mul(size_of::<R>() as u64);
        let message = format!(
            "a block of {rows} × {columns} does not fit in memory: read fewer rows at a time"
        );
        Error::budget((needed, 0), vec![Remedy::Fewer], message)
    };
    let count = rows.checked_mul(columns).ok_or_else(refused)?;
    // A trial, which touches nothing, since `vec!` aborts where there is no memory.
    crate::memory::try_reserve(&mut Vec::<R>::new(), count).map_err(|_| refused())?;
    Array2::from_shape_vec((rows, columns), crate::memory::zeros(count)).map_err(|_| refused())
}

/// A range in pieces, which end at multiples of `side`.
fn pieces(range: &Range<usize>, side: usize) -> impl Iterator<Item = Range<usize>> + use<> {
    let (mut start, end) = (range.start, range.end);
    std::iter::from_fn(move || {
        let next = (start / side).saturating_add(1).saturating_mul(side);
        let piece = start..next.min(end);
        start = piece.end;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Sum of their lengths.
fn total(ranges: &[Range<usize>]) -> usize {
    ranges.iter().map(|range| range.len()).sum()
}
