//! Results as Zarr of version 3: a group with an array per part, whose chunks are the tiles.
//!
//! `NAME.zarr/zarr.json` has the manifest as attribute `hessblock`; `NAME.zarr/ARRAY/zarr.json` tells shape, chunks, codecs and
//! whose entries the rows and columns are; `NAME.zarr/ARRAY/c/ROW/COLUMN` is a chunk, or a file of several ([`shards`]). All
//! of it is plain Zarr of the specification: `bytes` little endian, `blosc` (zstd with byte shuffle) where compressed,
//! `sharding_indexed` with its index at the start where several chunks lie in one file. It is written and read here and not
//! by a library for Zarr, since tiles come one by one and in any order, a file may be torn at any byte, and reading takes
//! single rows out of compressed chunks; the tests read it by three such libraries.
//!
//! May use `files`; must not know how tiles were made.

mod blosc;
mod chunk;
mod grid;
mod metadata;
mod reader;
mod shards;
mod store;

pub(super) use reader::{ZarrReader, cache};
pub(super) use store::ZarrStore;

/// Rows and columns of a chunk unless told otherwise ([`super::Files::chunk_side`]).
pub(super) const SIDE: usize = 2048;
