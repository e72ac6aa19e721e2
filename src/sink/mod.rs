//! Where finished tiles go: arrays in memory ([`Memory`]), one small file ([`Tensors`]), or files on disk ([`Files`]), which
//! go on where an earlier run stopped and may be made by several processes ([`merge()`]); and [`Blocks`], which reads such a
//! result back.
//!
//! May use `files` and ndarray; must not know how tiles were made.

mod begun;
mod blocks;
mod differences;
mod files;
mod journal;
mod layout;
mod memory;
mod merge;
mod npy;
mod open_store;
mod options;
mod parameters;
mod partial;
mod place;
mod provenance;
mod reader;
mod record;
mod safetensors;
mod shard;
mod spec;
mod store;
mod target;
mod tensor_file;
#[cfg(test)]
mod tests;
mod tile;
#[cfg(feature = "zarr")]
mod zarr;

pub use crate::files::hash::hash_file;
pub use begun::{Begun, Left};
pub use blocks::{Blocks, ResultPart, View};
pub use files::Files;
pub use layout::PartLayout;
pub use memory::Memory;
pub use merge::{Merged, merge};
pub use options::{FilesOptions, StorageOptions};
pub use parameters::ParameterPlace;
pub use place::{allocated, ending, takes_chunks};
pub use provenance::{HashedFile, Provenance};
pub use safetensors::{Tensors, takes_tensors};
pub use shard::Shard;
pub use tile::Tile;

use crate::error::Result;
use crate::tensor::Real;
use std::ops::Range;

/// Takes the parts of a request tile by tile.
///
/// The order is `begin`, any number of `tile`, `vector`, and `take` with `put_back` calls (from several threads, in any
/// order, each entry once), `finish`. A sink dropped before `finish` leaves nothing under its final name.
///
/// ```
/// use hessblock::internals::sink::{Memory, PartLayout, Sink};
/// let mut sink = Memory::<f32>::new();
/// sink.begin(&[PartLayout::matrix("fc", vec![0..2], vec![0..2])])?;
/// sink.tile(0, 0..1, 0..2, &[1.0, 2.0], false)?;
/// sink.tile(0, 1..2, 0..2, &[2.0, 3.0], false)?;
/// sink.finish()?;
/// assert_eq!(sink.into_parts()[0].1[[1, 0]], 2.0);
/// # Ok::<(), hessblock::Error>(())
/// ```
pub trait Sink<R: Real>: Send + Sync {
    /// Makes room for these parts, which later calls name by their index.
    ///
    /// # Errors
    /// Where there is no room, or the place cannot be written.
    fn begin(&mut self, parts: &[PartLayout]) -> Result<()>;

    /// Which of a plan's tiles, and vectors, are this process's to make; all of them unless it is one of several.
    fn share(&self, tiles: &[Tile]) -> Vec<bool> {
        vec![true; tiles.len()]
    }

    /// Whether a tile, or a vector, is there already, from a run that this one resumes.
    ///
    /// # Errors
    /// [`crate::Error::Io`] where what is there cannot be read.
    fn has(&self, _tile: &Tile) -> Result<bool> {
        Ok(false)
    }

    /// Takes note of what decides the numbers from here on.
    ///
    /// # Errors
    /// [`crate::Error::Io`] where it cannot be written.
    fn note(&self, _name: &str, _value: serde_json::Value) -> Result<()> {
        Ok(())
    }

    /// The last note under that name, of this run or of the run that it resumes.
    fn noted(&self, _name: &str) -> Option<serde_json::Value> {
        None
    }

    /// Takes the entries `rows` × `columns` (positions within the part, not flat indices) of a matrix part.
    ///
    /// `values` is row-major `[rows, columns]`. With `mirror` the transpose is also written, at
    /// `columns` × `rows`; the part must then be square, and a tile on the diagonal (`rows` = `columns`)
    /// must be whole and is written once.
    ///
    /// # Errors
    /// [`crate::Error::Io`] where writing fails, [`crate::Error::Shape`] for a tile outside the part.
    fn tile(
        &self,
        part: usize,
        rows: Range<usize>,
        columns: Range<usize>,
        values: &[R],
        mirror: bool,
    ) -> Result<()>;

    /// Takes a vector part (a diagonal, a product, a spectrum) whole.
    ///
    /// # Errors
    /// As for [`Sink::tile`].
    fn vector(&self, part: usize, values: &[R]) -> Result<()>;

    /// The memory of a matrix part, row-major, where it is the part's final place: a caller writes all of it and gives it
    /// back. What it holds until then may be anything.
    fn take(&self, _part: usize) -> Option<Vec<R>> {
        None
    }

    /// Takes a matrix part whole, in the memory that was lent where there was any.
    ///
    /// # Errors
    /// As for [`Sink::tile`].
    fn put_back(&self, part: usize, values: Vec<R>) -> Result<()>;

    /// Puts the result under its final name.
    ///
    /// # Errors
    /// [`crate::Error::Io`] where that fails, [`crate::Error::Shape`] where entries are missing.
    fn finish(&mut self) -> Result<()>;
}
