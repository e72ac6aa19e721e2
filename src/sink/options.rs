//! Options of a result on disk.

use super::place::{Kind, Place};
use super::shard::Shard;
use crate::error::{Error, Result};
use crate::files::WriteFaults;
use crate::setting::{CHUNKS_PER_FILE, COMPRESS, TRIANGLE};
use serde::{Deserialize, Serialize};

/// How a result is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FilesOptions {
    /// Replace an older result of that name once the new one is whole.
    pub force: bool,
    /// Begin again where an earlier run left something.
    pub restart: bool,
    /// Make a share of the tiles only; [`super::merge`] finishes the result when all are made.
    pub shard: Shard,
    /// How it lies on disk.
    pub storage: StorageOptions,
    /// Let a result of that name pass until its parts are known: it may be this very one ([`super::Files::is_finished`]).
    pub may_be_whole: bool,
    /// Failures to put into writes, for tests.
    pub faults: WriteFaults,
}

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

/// Levels of zstd.
const LEVELS: std::ops::RangeInclusive<i32> = 1..=22;

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

/// Refuses options that are out of their range, and those that a kind of storage has no use for.
pub(super) fn check_options(place: &Place, options: StorageOptions) -> Result<()> {
    if let Some(level) = options.compression.filter(|level| !LEVELS.contains(level)) {
        return Err(Error::Request(format!(
            "{COMPRESS} {level}: levels go from {} to {}",
            LEVELS.start(),
            LEVELS.end()
        )));
    }
    let per_file = 1..=StorageOptions::MOST_PER_FILE;
    if let Some(chunks) = options.chunks_per_file.filter(|n| !per_file.contains(n)) {
        return Err(Error::Request(format!(
            "{CHUNKS_PER_FILE} {chunks}: a file holds 1 to {} chunks by as many",
            per_file.end()
        )));
    }
    let zarr = place.kind == Kind::Zarr;
    let given = [
        (COMPRESS, options.compression.is_some()),
        (CHUNKS_PER_FILE, options.chunks_per_file.is_some()),
        (TRIANGLE, options.triangle),
    ];
    match given.into_iter().find(|(_, given)| *given && !zarr) {
        Some((option, _)) => Err(Error::Request(format!(
            "{option} is for results in Zarr, and {} is none: name it NAME.zarr, or leave the option out",
            place.target.display()
        ))),
        None => Ok(()),
    }
}
