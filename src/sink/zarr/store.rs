//! Chunks on their way to disk.

use super::super::journal::Entry;
use super::super::place::Place;
use super::super::record::{Manifest, Record};
use super::super::store::{Store, lock};
use super::super::tile::Tile;
use super::SIDE;
use super::chunk::{Codecs, Fault, Numbers};
use super::grid::Grid;
use super::metadata::{self, Form};
use super::shards::{self, Ends};
use crate::bytes::Bytes;
use crate::error::{Error, Result};
use crate::files::whole::Whole;
use crate::files::writes::Writes;
use crate::files::{self, open_to_write, parent, read_exact_at, sync_folder};
use crate::setting::{TILE, TRIANGLE};
use crate::sink::layout::PartLayout;
use crate::tensor::Real;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// A part, and a chunk's or file's place in its grid.
type At = (usize, [usize; 2]);

/// Writes a group of arrays, one per part.
#[derive(Debug)]
pub(in super::super) struct ZarrStore {
    folder: PathBuf,
    arrays: Vec<Target>,
    writes: Writes,
    ends: Ends,
    /// Chunks that lie where their file's own index says, not where the journal has them: a run that was stopped at its very end
    /// had packed the file.
    packed: Mutex<HashMap<At, [u64; 2]>>,
    /// Files and folders that changed since all was last made durable.
    unsynced: Mutex<BTreeSet<PathBuf>>,
}

#[derive(Debug)]
struct Target {
    layout: PartLayout,
    folder: PathBuf,
    form: Form,
    codecs: Codecs,
    symmetric: bool,
}

impl Target {
    /// The chunks that a tile is written as, its mirror's last, each with the tile's entries that it takes.
    fn chunks(&self, tile: &Tile, mirror: bool) -> Result<Vec<Written>> {
        let grid = &self.form.grid;
        if grid.vector {
            let count = grid.shape[0].div_ceil(grid.chunk[0]).max(1);
            return Ok((0..count)
                .map(|k| Written {
                    at: [k, 0],
                    transposed: false,
                })
                .collect());
        }
        let at = grid.chunk_of(tile, &self.layout.name)?;
        let own = Written {
            at,
            transposed: false,
        };
        if self.form.triangle {
            if at[0] > at[1] || (at[0] < at[1] && !mirror) {
                return Err(Error::Request(format!(
                    "rows {:?}, columns {:?} of {:?} are not on or above the diagonal with their mirror, so that its \
                     triangle cannot be kept alone: leave {TRIANGLE} out",
                    tile.rows, tile.columns, self.layout.name
                )));
            }
            return Ok(vec![own]);
        }
        let other = Written {
            at: [at[1], at[0]],
            transposed: true,
        };
        Ok(std::iter::once(own)
            .chain(mirror.then_some(other))
            .collect())
    }
}

/// A chunk that a tile, or its transpose, is written as.
#[derive(Clone, Copy, Debug)]
struct Written {
    at: [usize; 2],
    transposed: bool,
}

impl ZarrStore {
    /// Makes the folders of a result under way, or takes those that are there.
    pub(in super::super) fn open<R: Real>(
        place: &Place,
        record: &Record,
        writes: &Writes,
    ) -> Result<ZarrStore> {
        let folder = place.partial();
        let side = record.chunk_side.unwrap_or(SIDE);
        let storage = record.storage;
        let mut arrays = Vec::new();
        let mut unsynced = BTreeSet::from([folder.clone()]);
        for (layout, part) in record.layouts().into_iter().zip(&record.parts) {
            let grid = Grid::new(&layout, side, storage.chunks_per_file, size_of::<R>());
            check_size(&grid, storage.compression, &layout, &place.target)?;
            let form = Form {
                grid,
                level: storage.compression.map(metadata::blosc_level),
                triangle: storage.triangle && layout.columns.as_ref() == Some(&layout.rows),
            };
            let codecs = Codecs::new(&form).map_err(|e| Error::file(&place.target, e))?;
            let symmetric = layout.columns.as_ref() == Some(&layout.rows);
            let own = folder.join(&part.file);
            let chunks = own.join("c");
            std::fs::create_dir_all(&chunks).map_err(Error::io(&chunks))?;
            unsynced.extend([own.clone(), chunks]);
            arrays.push(Target {
                layout,
                folder: own,
                form,
                codecs,
                symmetric,
            });
        }
        Ok(ZarrStore {
            folder,
            arrays,
            writes: writes.clone(),
            ends: Ends::default(),
            packed: Mutex::default(),
            unsynced: Mutex::new(unsynced),
        })
    }

    fn array(&self, part: usize) -> Result<&Target> {
        self.arrays
            .get(part)
            .ok_or_else(|| Error::Shape(format!("there is no part {part} being written")))
    }

    fn changed(&self, paths: impl IntoIterator<Item = PathBuf>) {
        lock(&self.unsynced).extend(paths);
    }

    /// Writes a chunk of a part; where it lies, for files of several.
    fn write_chunk<R: Real>(
        &self,
        part: usize,
        at: [usize; 2],
        numbers: &Numbers<'_, R>,
    ) -> Result<Option<[u64; 2]>> {
        let array = self.array(part)?;
        let grid = &array.form.grid;
        let (file_at, _) = grid.file_of(at);
        let path = grid.path(&array.folder, file_at);
        let folder = parent(&path);
        if !folder.exists() {
            std::fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
            self.changed([parent(&folder)]);
        }
        let padded = numbers.padded(grid);
        let plain = R::bytes(&padded);
        let encoded = array.codecs.encode(&plain);
        let encoded =
            encoded.map_err(|e| Error::file(&path, format!("cannot be compressed: {e}")))?;
        let bytes = encoded.len() as u64;
        let sharded = grid.per_file.is_some();
        let mut options = OpenOptions::new();
        options.create(true).truncate(!sharded).write(true);
        let file = open_to_write(&path, &options)?;
        let start = match sharded {
            true => self
                .ends
                .take(&path, &file, grid.chunks_of_file(), bytes)
                .map_err(Error::io(&path))?,
            false => {
                file.set_len(bytes).map_err(Error::io(&path))?;
                0
            }
        };
        self.writes
            .write_all_at(&file, &encoded, start)
            .map_err(Error::io(&path))?;
        // Once all of it is there: a sync before that would have taken the file off the list.
        self.changed([path, folder]);
        lock(&self.packed).remove(&(part, at));
        Ok(sharded.then_some([start, bytes]))
    }

    /// Reads back the part of a tile that a chunk holds, row-major as the chunk has it.
    fn read_chunk(
        &self,
        array: &Target,
        at: [usize; 2],
        place: Option<[u64; 2]>,
    ) -> Result<Vec<u8>, Fault> {
        let grid = &array.form.grid;
        let [rows, columns] = grid.extent(at).map(|range| range.len());
        let path = grid.path(&array.folder, grid.file_of(at).0);
        let (file, length) = files::open(&path)?;
        let [start, bytes] = place.unwrap_or([0, length]);
        if start.checked_add(bytes).is_none_or(|end| end > length) {
            return Err(Fault::damaged("is cut off"));
        }
        array.codecs.check_length(bytes)?;
        let mut encoded = vec![0; bytes as usize];
        read_exact_at(&file, &mut encoded, start)?;
        let mut chunk = array.codecs.decode(encoded)?;
        // Without what lies over the array's edge.
        let [stride, own] = [grid.chunk[1], columns].map(|count| count * grid.number_bytes);
        for row in 1..rows {
            chunk.copy_within(row * stride..row * stride + own, row * own);
        }
        chunk.truncate(rows * own);
        Ok(chunk)
    }

    fn check(&self, entry: &Entry) -> Result<bool> {
        let array = self.array(entry.tile.part)?;
        let grid = &array.form.grid;
        // A line from elsewhere may name what is no chunk.
        let Ok(chunks) = array.chunks(&entry.tile, entry.mirrored) else {
            return Ok(false);
        };
        let mut places = entry.places.as_chunks::<2>().0.iter().copied();
        let mut all = crc32fast::Hasher::new();
        let mut read = Vec::new();
        for written in chunks {
            let path = grid.path(&array.folder, grid.file_of(written.at).0);
            let folder = parent(&path);
            read.extend([parent(&folder), folder, path.clone()]);
            let bytes = |place: Option<[u64; 2]>| match self.read_chunk(array, written.at, place) {
                Err(Fault::Damaged(_)) => Ok(None),
                Err(Fault::Io(error)) => Err(Error::io(&path)(error)),
                Ok(bytes) => Ok(Some(bytes)),
            };
            let holds = |place: Option<[u64; 2]>| {
                let width = entry.tile.rows.len();
                let checksum = |bytes: Vec<u8>| match written.transposed {
                    true => crc32fast::hash(&super::super::npy::transposed(
                        &bytes,
                        grid.number_bytes,
                        width,
                    )),
                    false => crc32fast::hash(&bytes),
                };
                Ok::<bool, Error>(bytes(place)?.map(checksum) == Some(entry.checksum))
            };
            if grid.vector {
                match bytes(None)? {
                    Some(bytes) => all.update(&bytes),
                    None => return Ok(false),
                }
                continue;
            }
            if grid.per_file.is_none() {
                if !holds(None)? {
                    return Ok(false);
                }
                continue;
            }
            // There is none in a line from before the options were these.
            let Some(place) = places.next() else {
                return Ok(false);
            };
            if holds(Some(place))? {
                continue;
            }
            match self.indexed(array, written.at)? {
                Some(place) if holds(Some(place))? => {
                    lock(&self.packed).insert((entry.tile.part, written.at), place);
                }
                _ => return Ok(false),
            }
        }
        let holds = !grid.vector || all.finalize() == entry.checksum;
        if holds {
            // Whoever wrote them may have been killed before they were durable: what was read may lie in memory alone.
            self.changed(read);
        }
        Ok(holds)
    }

    /// Where a chunk lies by the index of its file, where that has one.
    fn indexed(&self, array: &Target, at: [usize; 2]) -> Result<Option<[u64; 2]>> {
        let grid = &array.form.grid;
        let (file, number) = grid.file_of(at);
        let path = grid.path(&array.folder, file);
        let (file, _) = files::open(&path)?;
        let index = shards::read(&file, grid.chunks_of_file()).map_err(Error::io(&path))?;
        Ok(index
            .map(|index| index[number])
            .filter(|place| *place != shards::ABSENT))
    }

    /// Gives files of several chunks their final form ([`shards::pack`]).
    fn pack(&self, entries: &[Entry]) -> Result<()> {
        let mut files: BTreeMap<At, Vec<[u64; 2]>> = BTreeMap::new();
        for entry in entries {
            let part = entry.tile.part;
            let array = self.array(part)?;
            let grid = &array.form.grid;
            if grid.per_file.is_none() {
                continue;
            }
            let places = entry.places.as_chunks::<2>().0;
            let chunks = array.chunks(&entry.tile, entry.mirrored)?;
            for (written, place) in chunks.iter().zip(places) {
                let (file, number) = grid.file_of(written.at);
                let index = files
                    .entry((part, file))
                    .or_insert_with(|| vec![shards::ABSENT; grid.chunks_of_file()]);
                let packed = lock(&self.packed).get(&(part, written.at)).copied();
                index[number] = packed.unwrap_or(*place);
            }
        }
        files.par_iter().try_for_each(|((part, at), places)| {
            let array = self.array(*part)?;
            let path = array.form.grid.path(&array.folder, *at);
            shards::pack(&path, places, &self.writes).map_err(Error::io(&path))?;
            self.changed([parent(&path), path]);
            Ok(())
        })
    }

    fn write_json(&self, folder: &Path, value: &serde_json::Value) -> Result<()> {
        let path = folder.join("zarr.json");
        let text = serde_json::to_string_pretty(value)
            .map_err(|e| Error::Request(format!("the metadata of {}: {e}", path.display())))?;
        let text = text + "\n";
        let write = |file: &mut File| self.writes.write_all_at(file, text.as_bytes(), 0);
        Whole::with(&path, write)?.place()
    }

    fn sync_all(&self) -> Result<()> {
        let changed = std::mem::take(&mut *lock(&self.unsynced));
        let sync = |path: &PathBuf| match path.is_dir() {
            true => sync_folder(path),
            // Windows flushes what may be written alone.
            false => OpenOptions::new()
                .write(true)
                .open(path)
                .and_then(|file| file.sync_all())
                .map_err(Error::io(path)),
        };
        let result = changed.iter().try_for_each(sync);
        if result.is_err() {
            // Whoever asks again is not to be told that all is well.
            self.changed(changed);
        }
        result
    }
}

/// Refuses chunks that no reader takes.
fn check_size(
    grid: &Grid,
    compression: Option<i32>,
    layout: &PartLayout,
    target: &Path,
) -> Result<()> {
    let [rows, columns] = grid.chunk;
    let bytes = rows as u128 * columns as u128 * grid.number_bytes as u128;
    if grid.chunk_bytes().is_none() || (compression.is_some() && bytes > metadata::MOST as u128) {
        return Err(Error::file(
            target,
            format!(
                "chunks of {rows} × {columns} are {} in part {:?}, and compressed ones hold 2 GiB at most: give a smaller \
                 {TILE}",
                Bytes(bytes),
                layout.name
            ),
        ));
    }
    Ok(())
}

impl<R: Real> Store<R> for ZarrStore {
    fn write(&self, tile: &Tile, values: &[R], mirror: bool) -> Result<Vec<u64>> {
        let array = self.array(tile.part)?;
        let grid = &array.form.grid;
        let mut places = Vec::new();
        for written in array.chunks(tile, mirror)? {
            let values = match grid.vector {
                true => &values[grid.extent(written.at)[0].clone()],
                false => values,
            };
            let numbers = Numbers {
                values,
                width: tile.columns.len(),
                transposed: written.transposed,
            };
            places.extend(
                self.write_chunk(tile.part, written.at, &numbers)?
                    .into_iter()
                    .flatten(),
            );
        }
        Ok(places)
    }

    fn holds(&self, entry: &Entry) -> Result<bool> {
        self.check(entry)
    }

    fn group(&self, tile: &Tile) -> Option<[usize; 3]> {
        let array = self.arrays.get(tile.part)?;
        let grid = &array.form.grid;
        grid.per_file?;
        let at = grid.chunk_of(tile, &array.layout.name).ok()?;
        let ([row, column], _) = grid.file_of(at);
        // A tile and its mirror lie in the two files of a pair.
        Some(match array.symmetric {
            true => [tile.part, row.min(column), row.max(column)],
            false => [tile.part, row, column],
        })
    }

    fn sync(&self) -> Result<()> {
        self.sync_all()
    }

    fn finish(&self, entries: &[Entry], manifest: &Manifest) -> Result<()> {
        self.pack(entries)?;
        for (number, array) in self.arrays.iter().enumerate() {
            let (layout, form) = (&array.layout, &array.form);
            let metadata = metadata::array(number, layout, form, &manifest.parameters)
                .map_err(|e| Error::file(&array.folder, format!("cannot be described: {e}")))?;
            self.write_json(&array.folder, &metadata)?;
        }
        // Last: where it is, the arrays are.
        self.sync_all()?;
        let metadata = metadata::group(manifest)
            .map_err(|e| Error::file(&self.folder, format!("cannot be described: {e}")))?;
        self.write_json(&self.folder, &metadata)?;
        self.sync_all()
    }
}
