//! The seam between a result's sink and how its numbers lie on disk.

use super::journal::Entry;
use super::record::Manifest;
use super::tile::Tile;
use crate::error::Result;
use crate::tensor::Real;
use std::sync::{Mutex, MutexGuard, PoisonError};

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

/// CRC-32 of numbers, little endian.
pub(super) fn checksum<R: Real>(values: &[R]) -> u32 {
    crc32fast::hash(&R::bytes(values))
}

/// What a build without the feature says.
#[cfg(not(feature = "zarr"))]
pub(super) const NO_ZARR: &str =
    "this build neither reads nor writes Zarr: build with the feature `zarr`, or name a folder";

/// Locks a mutex whose changes are single statements: whoever panicked left nothing half done.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
