//! Reading parts of an array by zarrs, by the chunks that are touched alone.

use super::super::layout::{PartLayout, transpose};
use super::super::reader::Reader;
use super::chunk::Codecs;
use super::metadata::{self, Form};
use super::storage::Chunks;
use crate::error::{Error, Result};
use crate::files::npy::{Dtype, Kind};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use zarrs::array::chunk_cache::{
    ChunkCache, ChunkCacheDecodedLruChunkLimit, ChunkCachePartialDecoderLruChunkLimit,
    ChunkCacheTypeDecoded,
};
use zarrs::array::{Array, ArrayBytes, ArraySubset, CodecOptions};
use zarrs::storage::ReadableStorageTraits;

/// An array of a finished result.
pub(in super::super) struct ZarrReader {
    folder: PathBuf,
    number: usize,
    form: Form,
    /// Each chunk as one of zarrs' own, wherever it lies ([`Chunks`]).
    array: Arc<Array<dyn ReadableStorageTraits>>,
    cache: Arc<Cache>,
}

/// Bytes of decoded chunks that are kept, of a result.
const KEPT: usize = 64 << 20;
/// The same where a row of the array meets more chunks: with all of them kept, reading row by row decodes each once.
const KEPT_OF_ROW: usize = 512 << 20;
/// How many chunks, however small.
const KEPT_COUNT: usize = 512;

/// The chunks that were read last, of the array that was: its number, and zarrs' cache of them.
#[derive(Default)]
pub(in super::super) struct Cache(Mutex<Option<(usize, Arc<dyn ChunkCache>)>>);

/// An empty cache.
pub(in super::super) fn cache() -> Arc<Cache> {
    Arc::default()
}

impl ZarrReader {
    /// Opens the array of the part of that number.
    ///
    /// # Errors
    /// [`Error::File`] where it is not what hessblock writes.
    pub(in super::super) fn open(
        folder: &Path,
        number: usize,
        layout: &PartLayout,
        cache: Arc<Cache>,
    ) -> Result<ZarrReader> {
        let form = metadata::read(&folder.join("zarr.json"), layout)?;
        let refused = |what: String| Error::file(folder, format!("cannot be read: {what}"));
        let codecs = Codecs::new(&form).map_err(refused)?;
        let chunks = Chunks::open(folder, form.grid.clone(), codecs, form.level.is_some())
            .map_err(|e| refused(e.to_string()))?;
        let storage: Arc<dyn ReadableStorageTraits> = Arc::new(chunks);
        let array = form.builder(false).map_err(refused)?;
        let array = array.build_arc(storage, "/");
        Ok(ZarrReader {
            folder: folder.to_path_buf(),
            number,
            form,
            array: array.map_err(|e| refused(e.to_string()))?,
            cache,
        })
    }

    /// The cache, which is this array's from now on.
    fn chunks(&self) -> Arc<dyn ChunkCache> {
        let mut kept = self.cache.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((number, chunks)) = &*kept
            && *number == self.number
        {
            return chunks.clone();
        }
        let array = self.array.clone();
        let chunks: Arc<dyn ChunkCache> = match self.form.level {
            Some(_) => {
                let grid = &self.form.grid;
                let chunk = grid.chunk_bytes().unwrap_or(KEPT).max(1);
                let row = grid.shape[1].div_ceil(grid.chunk[1]);
                let count = (KEPT / chunk).max(row.min(KEPT_OF_ROW / chunk));
                let count = count.clamp(1, KEPT_COUNT) as u64;
                Arc::new(ChunkCacheDecodedLruChunkLimit::new(array, count))
            }
            // Of these the rows that are asked for are read alone, and only how is kept.
            None => {
                let count = KEPT_COUNT as u64;
                Arc::new(ChunkCachePartialDecoderLruChunkLimit::new(array, count))
            }
        };
        *kept = Some((self.number, chunks.clone()));
        chunks
    }

    /// Reads `rows` × `columns` of a chunk, positions within it: row-major, without gaps.
    fn read_chunk(
        &self,
        chunks: &dyn ChunkCache,
        at: [usize; 2],
        [rows, columns]: &[Range<usize>; 2],
    ) -> Result<ChunkCacheTypeDecoded> {
        let grid = &self.form.grid;
        let subset = ArraySubset::new_with_ranges(&match grid.vector {
            true => vec![wide(rows)],
            false => vec![wide(rows), wide(columns)],
        });
        let refused = |what: String| {
            Error::file(
                grid.path(&self.folder, grid.file_of(at).0),
                format!("{what}: the result is damaged, or was not copied whole"),
            )
        };
        let found =
            chunks.retrieve_chunk_subset_bytes(&grid.axes(at), &subset, &CodecOptions::default());
        let found = found.map_err(|e| refused(e.to_string()))?;
        match found.size() == rows.len() * columns.len() * grid.number_bytes {
            true => Ok(found),
            false => Err(refused("holds chunks of another shape".into())),
        }
    }
}

fn wide(range: &Range<usize>) -> Range<u64> {
    range.start as u64..range.end as u64
}

impl std::fmt::Debug for ZarrReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ZarrReader")
            .field("folder", &self.folder)
            .field("form", &self.form)
            .finish_non_exhaustive()
    }
}

impl Reader for ZarrReader {
    fn dtype(&self) -> Dtype {
        Dtype {
            kind: Kind::Float,
            size: self.form.grid.number_bytes,
            big_endian: false,
        }
    }

    fn piece(&self) -> [usize; 2] {
        match self.form.level {
            Some(_) => self.form.grid.chunk,
            None => [1, usize::MAX],
        }
    }

    fn read(&self, rows: Range<usize>, columns: Range<usize>, into: &mut [u8]) -> Result<()> {
        let grid = &self.form.grid;
        let size = grid.number_bytes;
        let stride = columns.len() * size;
        if rows.is_empty() || columns.is_empty() {
            return Ok(());
        }
        let chunks = self.chunks();
        let numbers =
            |range: &Range<usize>, side: usize| range.start / side..range.end.div_ceil(side);
        for row in numbers(&rows, grid.chunk[0]) {
            for column in numbers(&columns, grid.chunk[1]) {
                let own = grid.extent([row, column]);
                let met = [
                    rows.start.max(own[0].start)..rows.end.min(own[0].end),
                    columns.start.max(own[1].start)..columns.end.min(own[1].end),
                ];
                let within = [0, 1].map(|k| met[k].start - own[k].start..met[k].end - own[k].start);
                let at =
                    (met[0].start - rows.start) * stride + (met[1].start - columns.start) * size;
                let into = &mut into[at..];
                let mirror = self.form.triangle && row > column;
                let (at, within) = match (mirror, within) {
                    (true, [rows, columns]) => ([column, row], [columns, rows]),
                    (false, within) => ([row, column], within),
                };
                let found = self.read_chunk(&*chunks, at, &within)?;
                let ArrayBytes::Fixed(found) = &*found else {
                    continue; // Numbers have a fixed size, and their size was checked.
                };
                let width = within[1].len();
                match (mirror, size) {
                    (true, 4) => mirrored::<4>(found, width, into, stride),
                    (true, _) => mirrored::<8>(found, width, into, stride),
                    (false, _) => {
                        let found = found.chunks(width * size);
                        for (into, found) in into.chunks_mut(stride).zip(found) {
                            into[..found.len()].copy_from_slice(found);
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// Puts the transpose of numbers of N bytes into rows of `stride` bytes.
fn mirrored<const N: usize>(bytes: &[u8], width: usize, into: &mut [u8], stride: usize)
where
    [u8; N]: Default,
{
    let (numbers, into) = (bytes.as_chunks::<N>().0, into.as_chunks_mut::<N>().0);
    transpose(numbers, width, 0..width, into, stride / N);
}
