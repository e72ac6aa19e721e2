//! Results as Zarr of version 3: a group with an array per part, whose chunks are the tiles.
//!
//! `NAME.zarr/zarr.json` has the manifest as attribute `hessblock`; `NAME.zarr/ARRAY/zarr.json` tells shape, chunks, codecs and
//! whose entries the rows and columns are; `NAME.zarr/ARRAY/c/ROW/COLUMN` is a chunk, or a file of several ([`shards`]). All
//! of it is plain Zarr of the specification: `bytes` little endian, `blosc` (zstd with byte shuffle) where compressed,
//! `sharding_indexed` with its index at the start where several chunks lie in one file.
//!
//! The crate `zarrs` makes the metadata, encodes and decodes chunks and indices, and reads finished arrays. Where bytes are
//! written is decided here: tiles come one by one and in any order and a file may be torn at any byte, while zarrs would
//! read, change and rewrite a file of several chunks for each of them.
//!
//! May use `files`; must not know how tiles were made.

mod chunk;
mod grid;
mod metadata;
mod reader;
mod shards;
mod storage;
mod store;

pub(super) use reader::{ZarrReader, cache};
pub(super) use store::ZarrStore;

/// Rows and columns of a chunk unless told otherwise ([`super::Files::chunk_side`]).
pub(super) const SIDE: usize = 2048;
