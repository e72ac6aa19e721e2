//! The seam between a result's sink and how its numbers lie on disk.

use super::journal::Entry;
use super::place::{Kind, Place};
use super::record::{Manifest, Record};
use super::tile::Tile;
use crate::error::{Error, Result};
use crate::files::writes::Writes;
use crate::tensor::Real;
use serde::{Deserialize, Serialize};

/// What is asked for of the storage, beyond what the result's name says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StorageOptions {
    /// Zarr: chunks are compressed by zstd of this level, their bytes shuffled. Blosc has the odd levels up to 15, and 22:
    /// even levels are the one below, those above 16 are 22.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression: Option<i32>,
    /// Zarr: that many chunks by as many lie in one file, a shard of the array.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chunks_per_file: Option<usize>,
    /// Zarr: of symmetric parts the tiles on and above the diagonal alone.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub triangle: bool,
}

impl StorageOptions {
    /// Chunks by as many that lie in one file at most.
    pub const MOST_PER_FILE: usize = 256;

    /// Bytes that compression takes beside the chunks, all writers together: what zstd keeps at a level. Measured on chunks of 256 KiB
    /// to 16 MiB.
    pub(crate) fn compression_bytes(&self) -> u64 {
        match self.compression {
            None => 0,
            Some(..=6) => 4 << 20,
            Some(7..=12) => 10 << 20,
            Some(_) => 20 << 20,
        }
    }
}

/// How tiles lie on disk. A store is opened by every process that writes into it, whether it is new or not; each tile is
/// written by one of them.
pub(super) trait Store<R: Real>: Send + Sync + std::fmt::Debug {
    /// Writes a tile, row-major, and with `mirror` its transpose. What is returned is kept in the journal, for a store
    /// that chooses where things lie.
    fn write(&self, tile: &Tile, values: &[R], mirror: bool) -> Result<Vec<u64>>;

    /// Whether the numbers of a tile, and of its transpose, are there as they were written.
    fn holds(&self, entry: &Entry) -> Result<bool>;

    /// Tiles of the same group are written by the same process; `None` where each is its own.
    fn group(&self, _tile: &Tile) -> Option<[usize; 3]> {
        None
    }

    /// Makes what was written so far durable.
    fn sync(&self) -> Result<()>;

    /// Ends the result: all its tiles are in `entries`, those of other processes too. What it writes is synced.
    fn finish(&self, entries: &[Entry], manifest: &Manifest) -> Result<()>;
}

/// Opens the store that a place is for.
pub(super) fn open<R: Real>(
    place: &Place,
    record: &Record,
    writes: &Writes,
) -> Result<Box<dyn Store<R>>> {
    match place.kind {
        Kind::File | Kind::Folder => Ok(Box::new(super::npy::NpyStore::open::<R>(
            place,
            &record.layouts(),
            writes,
        )?)),
        #[cfg(feature = "zarr")]
        Kind::Zarr => Ok(Box::new(super::zarr::ZarrStore::open::<R>(
            place, record, writes,
        )?)),
        #[cfg(not(feature = "zarr"))]
        Kind::Zarr => Err(Error::file(&place.target, NO_ZARR)),
        Kind::Tensors => Err(Error::file(
            &place.target,
            "is made in memory (sink::Tensors), not tile by tile",
        )),
    }
}

/// What a build without the feature says.
#[cfg(not(feature = "zarr"))]
pub(super) const NO_ZARR: &str =
    "this build neither reads nor writes Zarr: build with the feature `zarr`, or name a folder";

/// CRC-32 of numbers, little endian.
pub(super) fn checksum<R: Real>(values: &[R]) -> u32 {
    crc32fast::hash(&R::bytes(values))
}

/// Refuses options that a kind of storage has no use for.
pub(super) fn check_options(place: &Place, options: StorageOptions) -> Result<()> {
    let zarr = place.kind == Kind::Zarr;
    let given = [
        ("--compress", options.compression.is_some()),
        ("--chunks-per-file", options.chunks_per_file.is_some()),
        ("--triangle", options.triangle),
    ];
    match given.into_iter().find(|(_, given)| *given && !zarr) {
        Some((option, _)) => Err(Error::Request(format!(
            "{option} is for results in Zarr, and {} is none: name it NAME.zarr, or leave the option out",
            place.target.display()
        ))),
        None => Ok(()),
    }
}
