//! Reading parts of an array, by the chunks that are touched alone.

use super::super::blocks::Reader;
use super::super::layout::{PartLayout, transpose};
use super::blosc::{Fault, Frame};
use super::chunk::{Keep, Stored, block_rows};
use super::metadata::{self, Form};
use super::shards;
use crate::error::{Error, Result};
use crate::files::npy::{Dtype, Kind};
use std::collections::VecDeque;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// An array of a finished result.
#[derive(Debug)]
pub(in super::super) struct ZarrReader {
    folder: PathBuf,
    number: usize,
    form: Form,
    cache: Arc<Cache>,
}

/// Bytes of blocks and indices that are kept.
const KEPT: usize = 64 << 20;
/// How many of them, however small.
const KEPT_COUNT: usize = 512;

/// What is kept: a block of a chunk, or the index of a file (its numbers as bytes).
type Key = (usize, [usize; 2], Option<usize>);

/// The blocks that were read last, of all arrays of a result: reading row by row takes each out of its chunk once.
#[derive(Debug, Default)]
pub(in super::super) struct Cache(Mutex<VecDeque<(Key, Arc<Vec<u8>>)>>);

/// An empty cache.
pub(in super::super) fn cache() -> Arc<Cache> {
    Arc::default()
}

impl Cache {
    fn get(
        &self,
        key: Key,
        read: impl FnOnce() -> Result<Vec<u8>, Fault>,
    ) -> Result<Arc<Vec<u8>>, Fault> {
        let kept = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut kept = kept();
            if let Some(at) = kept.iter().rposition(|(known, _)| *known == key)
                && let Some(found) = kept.remove(at)
            {
                let block = found.1.clone();
                kept.push_back(found);
                return Ok(block);
            }
        }
        // Read without the lock: two threads may read the same, and neither waits.
        let block = Arc::new(read()?);
        let mut kept = kept();
        kept.push_back((key, block.clone()));
        let mut bytes: usize = kept.iter().map(|(_, block)| block.len()).sum();
        while bytes > KEPT || kept.len() > KEPT_COUNT {
            bytes -= kept.pop_front().map_or(bytes, |(_, block)| block.len());
        }
        Ok(block)
    }
}

/// The blocks of one chunk, in the cache.
struct InCache<'a> {
    cache: &'a Cache,
    array: usize,
    at: [usize; 2],
}

impl Keep for InCache<'_> {
    fn block(&mut self, number: usize, frame: &Frame<'_>) -> Result<Arc<Vec<u8>>, Fault> {
        let key = (self.array, self.at, Some(number));
        self.cache.get(key, || frame.block(number))
    }
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
        Ok(ZarrReader {
            folder: folder.to_path_buf(),
            number,
            form,
            cache,
        })
    }

    /// Reads `rows` × `columns` of a chunk, positions within it.
    fn read_chunk(
        &self,
        at: [usize; 2],
        within: [Range<usize>; 2],
        into: &mut [u8],
        stride: usize,
    ) -> Result<()> {
        let grid = &self.form.grid;
        let (file_at, number) = grid.file_of(at);
        let path = grid.path(&self.folder, file_at);
        let read = || -> Result<(), Fault> {
            let file = File::open(&path)?;
            let [start, room] = match grid.per_file {
                None => [0, file.metadata()?.len()],
                Some(_) => self.place(&file, file_at, number)?,
            };
            let stored = Stored {
                file: &file,
                at: start,
                room,
                compressed: self.form.compression.is_some(),
            };
            let mut keep = InCache {
                cache: &self.cache,
                array: self.number,
                at,
            };
            stored.read(grid, within, into, stride, &mut keep)
        };
        read().map_err(|fault| match fault {
            Fault::Io(error) => Error::io(&path)(error),
            Fault::Damaged(what) => Error::file(
                &path,
                format!("{what}: the result is damaged, or was not copied whole"),
            ),
        })
    }

    /// Where a chunk lies in a file of several.
    fn place(&self, file: &File, file_at: [usize; 2], number: usize) -> Result<[u64; 2], Fault> {
        let chunks = self.form.grid.chunks_of_file();
        let index = self.cache.get((self.number, file_at, None), || {
            let entries = shards::read(file, chunks)?;
            Ok(entries
                .iter()
                .flatten()
                .flat_map(|n| n.to_le_bytes())
                .collect())
        })?;
        let pairs = index.as_chunks::<16>().0;
        let pair = pairs.get(number).map(|pair| {
            let half = |half: &[u8]| {
                half.iter()
                    .rev()
                    .fold(0, |n, byte| n << 8 | u64::from(*byte))
            };
            [half(&pair[..8]), half(&pair[8..])]
        });
        let length = file.metadata()?.len();
        match pair {
            Some([at, bytes]) if at.checked_add(bytes).is_some_and(|end| end <= length) => {
                Ok([at, bytes])
            }
            _ => Err(Fault::Damaged("lacks a chunk")),
        }
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

    fn band(&self) -> usize {
        match self.form.compression {
            Some(_) => block_rows(&self.form.grid),
            None => 1,
        }
    }

    fn read(&self, rows: Range<usize>, columns: Range<usize>, into: &mut [u8]) -> Result<()> {
        let grid = &self.form.grid;
        let size = grid.number_bytes;
        let stride = columns.len() * size;
        if rows.is_empty() || columns.is_empty() {
            return Ok(());
        }
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
                if self.form.triangle && row > column {
                    let [rows, columns] = within;
                    self.read_mirror([column, row], [columns, rows], into, stride)?;
                } else {
                    self.read_chunk([row, column], within, into, stride)?;
                }
            }
        }
        Ok(())
    }
}

impl ZarrReader {
    /// Reads `rows` × `columns` of a chunk, and puts its transpose into rows of `stride` bytes.
    fn read_mirror(
        &self,
        at: [usize; 2],
        [rows, columns]: [Range<usize>; 2],
        into: &mut [u8],
        stride: usize,
    ) -> Result<()> {
        fn of<const N: usize>(bytes: &[u8], width: usize, into: &mut [u8], stride: usize)
        where
            [u8; N]: Default,
        {
            let (numbers, into) = (bytes.as_chunks::<N>().0, into.as_chunks_mut::<N>().0);
            transpose(numbers, width, 0..width, into, stride / N);
        }
        let size = self.form.grid.number_bytes;
        let width = columns.len();
        let mut bytes = vec![0; rows.len() * width * size];
        self.read_chunk(at, [rows, columns], &mut bytes, width * size)?;
        match size {
            4 => of::<4>(&bytes, width, into, stride),
            _ => of::<8>(&bytes, width, into, stride),
        }
        Ok(())
    }
}
