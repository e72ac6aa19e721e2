//! How a part is cut into chunks, and which file each lies in.

use super::super::layout::PartLayout;
use super::super::tile::Tile;
use crate::error::{Error, Result};
use std::num::NonZeroU64;
use std::ops::Range;
use std::path::{Path, PathBuf};
use zarrs::array::{ChunkShape, DataType, FillValue, data_type};

/// Numbers of a vector's chunk: 4 or 8 MiB.
const VECTOR: usize = 1 << 20;

/// The chunks of one array. A vector is a matrix of one column here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Grid {
    /// Rows and columns of the array.
    pub(super) shape: [usize; 2],
    pub(super) vector: bool,
    /// Rows and columns of a chunk; the last ones reach over the edge, as Zarr has it.
    pub(super) chunk: [usize; 2],
    /// Chunks of a file, by rows and columns, where several lie in one.
    pub(super) per_file: Option<[usize; 2]>,
    pub(super) number_bytes: usize,
}

impl Grid {
    pub(super) fn new(
        layout: &PartLayout,
        side: usize,
        chunks_per_file: Option<usize>,
        number_bytes: usize,
    ) -> Grid {
        let shape = [layout.row_count(), layout.column_count()];
        let vector = layout.columns.is_none();
        let side = if vector { VECTOR } else { side.max(1) };
        let chunk = shape.map(|extent| side.min(extent).max(1));
        let count = |axis: usize| shape[axis].div_ceil(chunk[axis]).max(1);
        let per_file = chunks_per_file.filter(|_| !vector);
        Grid {
            shape,
            vector,
            chunk,
            per_file: per_file.map(|most| [most.clamp(1, count(0)), most.clamp(1, count(1))]),
            number_bytes,
        }
    }

    /// Rows and columns, or those of a vector alone, as Zarr has them.
    pub(super) fn axes(&self, of: [usize; 2]) -> Vec<u64> {
        let axes = if self.vector { &of[..1] } else { &of[..] };
        axes.iter().map(|extent| *extent as u64).collect()
    }

    /// The shape of a chunk; `None` where it is empty.
    pub(super) fn chunk_shape(&self) -> Option<ChunkShape> {
        let axes = self.axes(self.chunk);
        axes.into_iter().map(NonZeroU64::new).collect()
    }

    /// The type of a number.
    pub(super) fn number(&self) -> DataType {
        match self.number_bytes {
            4 => data_type::float32(),
            _ => data_type::float64(),
        }
    }

    /// NaN: what is absent is not to be taken for zero.
    pub(super) fn fill(&self) -> FillValue {
        match self.number_bytes {
            4 => FillValue::from(f32::NAN),
            _ => FillValue::from(f64::NAN),
        }
    }

    /// Bytes of a chunk's numbers.
    pub(super) fn chunk_bytes(&self) -> Option<usize> {
        let entries = self.chunk[0].checked_mul(self.chunk[1])?;
        let bytes = entries.checked_mul(self.number_bytes)?;
        (bytes <= isize::MAX as usize).then_some(bytes)
    }

    /// The chunk that a matrix's tile is.
    ///
    /// # Errors
    /// [`Error::Request`] for a tile that is none.
    pub(super) fn chunk_of(&self, tile: &Tile, name: &str) -> Result<[usize; 2]> {
        let at = [
            tile.rows.start / self.chunk[0],
            tile.columns.start / self.chunk[1],
        ];
        let [rows, columns] = self.extent(at);
        if tile.rows == rows && tile.columns == columns {
            return Ok(at);
        }
        Err(Error::Request(format!(
            "rows {:?}, columns {:?} of {name:?} are no chunk of {} × {}: plan with tiles of equal sides \
             (`Output` plans so), and tell their side (Files::chunk_side)",
            tile.rows, tile.columns, self.chunk[0], self.chunk[1]
        )))
    }

    /// Rows and columns of the array that a chunk holds.
    pub(super) fn extent(&self, at: [usize; 2]) -> [Range<usize>; 2] {
        [0, 1].map(|axis| {
            let start = at[axis].saturating_mul(self.chunk[axis]);
            let end = start.saturating_add(self.chunk[axis]);
            start.min(self.shape[axis])..end.min(self.shape[axis])
        })
    }

    /// The file of a chunk by its numbers, and the chunk's number within it.
    pub(super) fn file_of(&self, at: [usize; 2]) -> ([usize; 2], usize) {
        match self.per_file {
            None => (at, 0),
            Some(per) => (
                [at[0] / per[0], at[1] / per[1]],
                at[0] % per[0] * per[1] + at[1] % per[1],
            ),
        }
    }

    /// Chunks that one file may hold.
    pub(super) fn chunks_of_file(&self) -> usize {
        self.per_file.map_or(1, |[rows, columns]| rows * columns)
    }

    /// The key of a chunk, or of a file of several, by its numbers.
    pub(super) fn key(&self, at: [usize; 2]) -> String {
        match self.vector {
            true => format!("c/{}", at[0]),
            false => format!("c/{}/{}", at[0], at[1]),
        }
    }

    /// The numbers of a key.
    pub(super) fn at(&self, key: &str) -> Option<[usize; 2]> {
        let numbers = key.strip_prefix("c/")?;
        let (row, column) = match self.vector {
            true => (numbers, "0"),
            false => numbers.split_once('/')?,
        };
        Some([row.parse().ok()?, column.parse().ok()?])
    }

    /// The path of the file of those numbers.
    pub(super) fn path(&self, array: &Path, file: [usize; 2]) -> PathBuf {
        array.join(self.key(file))
    }
}
