//! Parts as `.npy` files, written in place by positioned writes.

use super::journal::Entry;
use super::layout::{BLOCK, PartLayout, transpose};
use super::place::Place;
use super::record::Manifest;
use super::store::Store;
use super::tile::Tile;
use crate::error::{Error, Result};
use crate::files::npy::write_header;
use crate::files::writes::Writes;
use crate::files::{open_to_write, parent, read_exact_at, sync_folder};
use crate::tensor::Real;
use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// A file per part.
#[derive(Debug)]
pub(super) struct NpyStore {
    parts: Vec<Part>,
    writes: Writes,
}

#[derive(Debug)]
struct Part {
    layout: PartLayout,
    path: PathBuf,
    /// Kept open for the first [`KEPT_OPEN`] parts: a process may have as few as 256 files.
    file: Option<File>,
    /// Bytes of the header.
    offset: u64,
    number_bytes: usize,
    /// Whether it was written to since it was last made durable.
    unsynced: AtomicBool,
}

/// Marks a part as written to once all of a tile is: a sync before that would have taken the mark off.
struct Wrote<'a>(&'a Part);

impl Drop for Wrote<'_> {
    fn drop(&mut self) {
        self.0.unsynced.store(true, Ordering::Relaxed);
    }
}

/// Parts whose files stay open.
const KEPT_OPEN: usize = 64;

impl NpyStore {
    /// Makes the files of a result under way, or opens those that are there.
    pub(super) fn open<R: Real>(
        place: &Place,
        layouts: &[PartLayout],
        writes: &Writes,
    ) -> Result<NpyStore> {
        let mut parts = Vec::new();
        for (k, layout) in layouts.iter().enumerate() {
            let path = place.data(k);
            let header = write_header(R::NUMPY, &layout.shape());
            let file = open_file(&path)?;
            // The same in every process, and the same as what may be there.
            let size = header.len() as u64 + layout.entries()? * size_of::<R>() as u64;
            file.set_len(size).map_err(Error::io(&path))?;
            writes
                .write_all_at(&file, &header, 0)
                .map_err(Error::io(&path))?;
            parts.push(Part {
                layout: layout.clone(),
                file: (k < KEPT_OPEN).then_some(file),
                path,
                offset: header.len() as u64,
                number_bytes: size_of::<R>(),
                unsynced: AtomicBool::new(true),
            });
        }
        // Nor are the files themselves to be missing after a power failure.
        sync_folder(&parent(&place.data(0)))?;
        let writes = writes.clone();
        Ok(NpyStore { parts, writes })
    }

    fn part(&self, part: usize) -> Result<&Part> {
        self.parts
            .get(part)
            .ok_or_else(|| Error::Shape(format!("there is no part {part} being written")))
    }
}

fn open_file(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).read(true).write(true);
    open_to_write(path, &options)
}

impl Part {
    /// Calls `work` with the part's file, opened for it unless it is kept open.
    fn with_file<T>(&self, work: impl FnOnce(&File) -> Result<T>) -> Result<T> {
        match &self.file {
            Some(file) => work(file),
            None => work(&open_file(&self.path)?),
        }
    }

    /// Calls `work` with the place in the file, and the range among the tile's numbers, of every run that lies together.
    fn runs(
        &self,
        tile: &Tile,
        mut work: impl FnMut(u64, Range<usize>) -> Result<()>,
    ) -> Result<()> {
        let (total, width) = (self.layout.column_count(), tile.columns.len());
        // A full row is followed by the next one.
        let rows = if width == total { tile.rows.len() } else { 1 };
        for start in (0..tile.rows.len()).step_by(rows.max(1)) {
            let row = (tile.rows.start + start) as u64;
            let entry = row * total as u64 + tile.columns.start as u64;
            work(
                self.offset + entry * self.number_bytes as u64,
                start * width..(start + rows) * width,
            )?;
        }
        Ok(())
    }

    fn write<R: Real>(
        &self,
        writes: &Writes,
        file: &File,
        tile: &Tile,
        values: &[R],
    ) -> Result<()> {
        self.runs(tile, |at, range| {
            let bytes = R::bytes(&values[range]);
            writes
                .write_all_at(file, &bytes, at)
                .map_err(Error::io(&self.path))
        })
    }

    /// The bytes of a tile; `None` where the file ends before.
    fn read(&self, file: &File, tile: &Tile) -> Result<Option<Vec<u8>>> {
        let mut bytes = vec![0; tile.entries() * self.number_bytes];
        let mut whole = true;
        self.runs(tile, |at, range| {
            let own = &mut bytes[range.start * self.number_bytes..range.end * self.number_bytes];
            match read_exact_at(file, own, at) {
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => whole = false,
                read => read.map_err(Error::io(&self.path))?,
            }
            Ok(())
        })?;
        Ok(whole.then_some(bytes))
    }
}

/// Bytes of a tile that are read at a time to compare it with its checksum: it may be the whole of a part.
const PIECE: usize = 16 << 20;

/// Cuts a tile into pieces of at most `most` entries that follow each other row-major: bands of rows, or parts of one.
fn pieces(tile: &Tile, most: usize) -> impl Iterator<Item = Tile> {
    let (rows, columns) = (tile.rows.clone(), tile.columns.clone());
    let part = tile.part;
    let width = columns.len().clamp(1, most);
    let height = (most / width).max(1);
    let cut = move |range: &Range<usize>, start: usize, step: usize| {
        start..range.end.min(start.saturating_add(step))
    };
    rows.clone().step_by(height).flat_map(move |row| {
        let (rows, columns) = (rows.clone(), columns.clone());
        columns.clone().step_by(width).map(move |column| Tile {
            part,
            rows: cut(&rows, row, height),
            columns: cut(&columns, column, width),
        })
    })
}

/// The bytes of a tile's transpose, as the tile has them.
pub(super) fn transposed(bytes: &[u8], number_bytes: usize, width: usize) -> Vec<u8> {
    fn of<const N: usize>(bytes: &[u8], width: usize) -> Vec<u8>
    where
        [u8; N]: Default,
    {
        let (numbers, _) = bytes.as_chunks::<N>();
        let mut result = vec![<[u8; N]>::default(); numbers.len()];
        transpose(
            numbers,
            width,
            0..width,
            &mut result,
            numbers.len() / width.max(1),
        );
        result.into_flattened()
    }
    match number_bytes {
        4 => of::<4>(bytes, width),
        _ => of::<8>(bytes, width),
    }
}

impl<R: Real> Store<R> for NpyStore {
    fn write(&self, tile: &Tile, values: &[R], mirror: bool) -> Result<Vec<u64>> {
        let part = self.part(tile.part)?;
        part.with_file(|file| {
            let wrote = Wrote(part);
            part.write(&self.writes, file, tile, values)?;
            if mirror {
                // Bands of the transpose: a buffer of 64 rows, each written as one run.
                let (height, width) = (tile.rows.len(), tile.columns.len());
                let mut band = vec![R::default(); BLOCK.min(width) * height];
                for start in (0..width).step_by(BLOCK) {
                    let within = start..(start + BLOCK).min(width);
                    let band = &mut band[..within.len() * height];
                    transpose(values, width, within.clone(), band, height);
                    let rows = tile.columns.start + within.start..tile.columns.start + within.end;
                    let place = Tile {
                        part: tile.part,
                        rows,
                        columns: tile.rows.clone(),
                    };
                    part.write(&self.writes, file, &place, band)?;
                }
            }
            drop(wrote);
            Ok(Vec::new())
        })
    }

    fn holds(&self, entry: &Entry) -> Result<bool> {
        let part = self.part(entry.tile.part)?;
        part.with_file(|file| {
            let (mut own, mut mirror) = (crc32fast::Hasher::new(), crc32fast::Hasher::new());
            for piece in pieces(&entry.tile, PIECE / part.number_bytes) {
                let Some(bytes) = part.read(file, &piece)? else {
                    return Ok(false);
                };
                own.update(&bytes);
                if entry.mirrored {
                    let Some(bytes) = part.read(file, &piece.mirror())? else {
                        return Ok(false);
                    };
                    mirror.update(&transposed(&bytes, part.number_bytes, piece.rows.len()));
                }
            }
            let as_written = |found: crc32fast::Hasher| found.finalize() == entry.checksum;
            Ok(as_written(own) && (!entry.mirrored || as_written(mirror)))
        })
    }

    fn sync(&self) -> Result<()> {
        for part in &self.parts {
            if part.unsynced.swap(false, Ordering::Relaxed) {
                let synced = part.with_file(|file| file.sync_all().map_err(Error::io(&part.path)));
                synced.inspect_err(|_| part.unsynced.store(true, Ordering::Relaxed))?;
            }
        }
        Ok(())
    }

    fn finish(&self, _: &[Entry], _: &Manifest) -> Result<()> {
        // Other processes' writes too.
        for part in &self.parts {
            part.unsynced.store(true, Ordering::Relaxed);
        }
        Store::<R>::sync(self)
    }
}
