//! The sink that writes to disk, and goes on where an earlier run of the same plan stopped.

use super::journal::{Contents, Entry};
use super::layout::{PartLayout, Written};
use super::open_store::open_store;
use super::options::{FilesOptions, StorageOptions};
use super::partial::{Partial, tidy};
use super::place::Kind;
use super::record::{Record, device_of, rounds_alike};
use super::shard::shares;
use super::spec::ResultSpec;
use super::store::{self, Store, lock};
use super::tile::Tile;
use super::{Left, ParameterPlace, Provenance, Sink};
use crate::bytes::Bytes;
use crate::error::{Error, Result};
use crate::files::watch::Watch;
use crate::files::writes::Writes;
use crate::files::writing::{NEVER, Underway};
use crate::files::{free_bytes, npy::write_header, parent};
use crate::setting::RESTART;
use crate::tensor::Real;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Writes parts tile by tile under `NAME.partial` until the result is whole and synced.
///
/// `FILE.npy` takes one part and puts `FILE.npy.json` beside it; a folder takes any number, as `0000.npy`,
/// `0001.npy`… with an `index.json`; `NAME.zarr` is a Zarr of version 3. [`super::Blocks`] reads them all.
///
/// From its beginning a result has `plan.json` beside it, and a list of its tiles with a checksum of each. A sink of the
/// same plan and place goes on with what an earlier one left, whatever ended it: tiles whose numbers are on disk are not
/// wanted again ([`Sink::has`]). A sink that is dropped leaves what it wrote where a tile was done, and nothing otherwise.
///
/// ```
/// use hessblock::internals::sink::{Blocks, Files, PartLayout, Sink};
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("hessian.npy");
/// let mut sink = Files::<f64>::create(&path)?;
/// sink.begin(&[PartLayout::vector("diagonal", vec![0..3])])?;
/// sink.vector(0, &[1.0, 2.0, 3.0])?;
/// sink.finish()?;
/// assert_eq!(Blocks::open(&path)?.vector(0)?.to_vec(), [1.0, 2.0, 3.0]);
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Debug)]
pub struct Files<R: Real> {
    spec: ResultSpec,
    watch: Arc<Watch>,
    open: Option<Open<R>>,
    /// Whether the watched files were compared once all work was done.
    settled: bool,
}

#[derive(Debug)]
struct Open<R: Real> {
    layouts: Vec<PartLayout>,
    record: Record,
    store: Box<dyn Store<R>>,
    /// What is done, by this process and those before it.
    done: Mutex<HashMap<Tile, Entry>>,
    written: Vec<Written>,
    unsynced: Mutex<Unsynced>,
    /// After the store: on Windows open files cannot be removed.
    partial: Mutex<Partial>,
    /// What changed on the way, and the device.
    notes: Mutex<Vec<Value>>,
}

/// What was written since all was last made durable.
#[derive(Debug)]
struct Unsynced {
    bytes: u64,
    since: Instant,
}

/// A power failure takes no more than what was written in that time, or so many bytes of it.
const SYNC_AFTER: Duration = Duration::from_secs(10);
const SYNC_BYTES: u64 = 2 << 30;

impl<R: Real> Files<R> {
    /// A sink that will write to `path`: `FILE.npy`, `NAME.zarr`, or a folder (no extension, or `/` at its end).
    ///
    /// # Errors
    /// [`Error::File`] where the folder to write in can be neither written nor made, the name has another extension,
    /// or is taken (see [`FilesOptions::force`]).
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        Self::with_options(path, FilesOptions::default())
    }

    /// As [`Files::create`], but an older result of that name is replaced once the new one is whole.
    ///
    /// # Errors
    /// As [`Files::create`]; a folder that is no result of hessblock is never replaced.
    pub fn force(path: impl AsRef<Path>) -> Result<Self> {
        let options = FilesOptions {
            force: true,
            ..FilesOptions::default()
        };
        Self::with_options(path, options)
    }

    /// As [`Files::create`], with options.
    ///
    /// # Errors
    /// As [`Files::create`]; [`Error::Request`] for options that this kind of result has no use for.
    pub fn with_options(path: impl AsRef<Path>, options: FilesOptions) -> Result<Self> {
        let spec = ResultSpec::new(path.as_ref(), options)?;
        if spec.place.kind == Kind::Tensors {
            return Err(Error::file(
                path.as_ref(),
                "is made in memory (sink::Tensors), not tile by tile",
            ));
        }
        spec.check()?;
        Ok(Self {
            spec,
            watch: Arc::default(),
            open: None,
            settled: false,
        })
    }

    /// Sets what is to run, for people who read `plan.json`.
    pub fn plan(mut self, description: Value) -> Self {
        self.spec.plan = description;
        self
    }

    /// Sets what decides the order of accumulation, and so the bits: a run goes on with one of the same order only.
    pub fn order(mut self, order: Value) -> Self {
        self.spec.order = order;
        self
    }

    /// Sets the rows and columns of a Zarr's chunks, which its tiles have to be; 2048 unless told otherwise.
    pub fn chunk_side(mut self, side: usize) -> Self {
        self.spec.chunk_side = (self.spec.place.kind == Kind::Zarr).then_some(side);
        self
    }

    /// Sets the network's parameters, which are written with the result.
    pub fn parameters(mut self, parameters: Vec<ParameterPlace>) -> Self {
        self.spec.parameters = parameters;
        self
    }

    /// Sets what is written as the result's provenance.
    pub fn provenance(mut self, provenance: Provenance) -> Self {
        self.spec.provenance = provenance;
        self
    }

    /// Sets the files that the numbers are computed from: a tile that was made after one of them was changed is not taken, and
    /// no result is finished then.
    pub fn watch(mut self, watch: Arc<Watch>) -> Self {
        self.watch = watch;
        self
    }

    /// Whether the result of these parts, made from the same things, is whole under its final name.
    ///
    /// # Errors
    /// [`Error::File`] where another result has that name, and is not to be replaced.
    pub fn is_finished(&self, parts: &[PartLayout]) -> Result<bool> {
        let finished = self.spec.is_finished::<R>(parts)?;
        if finished {
            // It may have been stopped between its last steps.
            tidy(&self.spec.place)?;
        }
        Ok(finished)
    }

    /// Whether the disk has room for that many bytes beside those that are written already.
    ///
    /// # Errors
    /// [`Error::File`] with the bytes needed and free.
    fn check_room(&self, needed: u64) -> Result<()> {
        // How much of a part is left to this process, or how small it gets, nobody knows.
        if self.spec.options.shard.of > 1 || self.spec.options.storage != StorageOptions::default()
        {
            return Ok(());
        }
        let folder = parent(&self.spec.place.target);
        let needed = needed.saturating_sub(self.spec.place.allocated());
        match free_bytes(&folder) {
            Some(free) if free < needed => Err(Error::file(
                &self.spec.place.target,
                format!(
                    "needs {} and {} has only {} free: ask for fewer parts, or write to another disk",
                    Bytes(needed.into()),
                    folder.display(),
                    Bytes(free.into())
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Ends this process's part of the work, whatever came of it: what was written is made durable and stays under
    /// `NAME.partial`. `None` where nothing was written, so that nothing is left.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be synced.
    pub fn leave(&mut self) -> Result<Option<Left>> {
        let _finishing = Underway::finishing();
        let Some(open) = self.open.take() else {
            return Ok(None);
        };
        let tiles = lock(&open.done).len();
        if tiles == 0 && self.spec.options.shard.of == 1 {
            return Ok(None);
        }
        open.store.sync()?;
        let Open { store, partial, .. } = open;
        drop(store);
        let partial = partial.into_inner().unwrap_or_else(PoisonError::into_inner);
        let path = partial.leave()?;
        Ok(Some(Left { path, tiles }))
    }

    /// Checks at the end of the work that the files of [`Files::watch`] still hold what they held; where one does not, though its
    /// times did not change, any tile may be of what it held meanwhile, and none of this process stays.
    ///
    /// # Errors
    /// [`Error::File`] with the file; [`Error::Interrupted`] once `cancel` is set: the tiles stay then.
    pub fn settle(&mut self, cancel: &AtomicBool) -> Result<()> {
        self.watch.check_times()?;
        let checked = self.watch.check_hashes(cancel);
        if matches!(checked, Err(Error::Interrupted)) {
            return checked;
        }
        self.settled = checked.is_ok();
        if checked.is_err()
            && let Some(Open { store, partial, .. }) = self.open.take()
        {
            drop(store);
            let partial = partial.into_inner().unwrap_or_else(PoisonError::into_inner);
            partial.discard()?;
        }
        checked
    }

    /// Writes the header of a new list, which names the device; refuses to go on with a list of a device that rounds
    /// differently.
    fn check_device(
        &self,
        partial: &Partial,
        record: &Record,
        contents: &mut Contents,
    ) -> Result<()> {
        let (shard, device) = (self.spec.options.shard, device_of(&self.spec.provenance));
        match contents.notes.first() {
            Some(header) if !rounds_alike(&header["device"], &device) => {
                let name = |device: &Value| match device["device"].as_str() {
                    Some(name) => format!("{name} {}", device["kernels"]),
                    None => device.to_string(),
                };
                Err(Error::Request(format!(
                    "{} was begun on a device that rounds differently: {} then, {} now; go on with that one, or give \
                     {RESTART}",
                    self.spec.place.partial().display(),
                    name(&header["device"]),
                    name(&device)
                )))
            }
            Some(_) => Ok(()),
            None => {
                let header = json!({
                    "shard": shard.index,
                    "of": shard.of,
                    "plan": record.digest(),
                    "begun": self.spec.provenance.date,
                    "device": device,
                });
                partial.journal().note(&header)?;
                contents.notes.push(header);
                Ok(())
            }
        }
    }

    fn part(&self, part: usize) -> Result<(&Open<R>, &PartLayout)> {
        let open = self.open.as_ref();
        open.and_then(|open| Some((open, open.layouts.get(part)?)))
            .ok_or_else(|| Error::Shape(format!("there is no part {part} being written")))
    }

    fn store_tile(&self, open: &Open<R>, tile: Tile, values: &[R], mirror: bool) -> Result<()> {
        if lock(&open.done).contains_key(&tile) {
            // Vectors are made together: one of them may have been there.
            return Ok(());
        }
        let entry = Entry {
            places: open.store.write(&tile, values, mirror)?,
            checksum: store::checksum(values),
            mirrored: mirror,
            tile,
        };
        // A run that goes on takes the tiles on the list for those of the files that it finds.
        self.watch.check_times()?;
        {
            let mut partial = lock(&open.partial);
            partial.keep();
            partial.journal().done(&entry)?;
        }
        open.written[entry.tile.part].add(entry.entries());
        let bytes = (entry.entries() * size_of::<R>()) as u64;
        tracing::debug!(
            part = %open.layouts[entry.tile.part].name,
            rows = ?entry.tile.rows,
            columns = ?entry.tile.columns,
            bytes,
            "tile written"
        );
        lock(&open.done).insert(entry.tile.clone(), entry);
        self.sync_now_and_then(open, bytes)
    }

    /// Makes what was written durable when there is much of it.
    fn sync_now_and_then(&self, open: &Open<R>, bytes: u64) -> Result<()> {
        {
            let mut unsynced = lock(&open.unsynced);
            unsynced.bytes += bytes;
            if unsynced.bytes < SYNC_BYTES && unsynced.since.elapsed() < SYNC_AFTER {
                return Ok(());
            }
            *unsynced = Unsynced {
                bytes: 0,
                since: Instant::now(),
            };
        }
        let start = Instant::now();
        // The numbers before the lines that vouch for them.
        open.store.sync()?;
        tracing::debug!("what was written is durable after {:?}", start.elapsed());
        lock(&open.partial).journal().sync()
    }
}

/// The bytes of parts as arrays with their headers.
///
/// # Errors
/// [`Error::Request`] where they are more than can be counted.
fn needed_bytes<R: Real>(parts: &[PartLayout]) -> Result<u64> {
    let mut needed = 0_u64;
    for layout in parts {
        let header = write_header(R::NUMPY, &layout.shape());
        let size = layout
            .entries()?
            .checked_mul(size_of::<R>() as u64)
            .and_then(|bytes| bytes.checked_add(header.len() as u64));
        let sum = size.and_then(|size| needed.checked_add(size));
        needed = sum.ok_or_else(|| {
            Error::Request(format!(
                "the request reaches more than 2^64 bytes at part {:?} of shape {:?}: ask for less",
                layout.name,
                layout.shape()
            ))
        })?;
    }
    Ok(needed)
}

impl<R: Real> Sink<R> for Files<R> {
    fn begin(&mut self, parts: &[PartLayout]) -> Result<()> {
        if self.spec.place.kind == Kind::File && parts.len() != 1 {
            return Err(Error::file(
                &self.spec.place.target,
                format!(
                    "one .npy file holds one part, and the request has {}: name a folder instead",
                    parts.len()
                ),
            ));
        }
        let needed = needed_bytes::<R>(parts)?;
        // An older attempt lets go of its files before the new one takes them.
        self.open = None;
        self.settled = false;
        let record = self.spec.record::<R>(parts);
        let shard = self.spec.options.shard;
        let writes = Writes::new(self.spec.options.faults);
        let (partial, mut contents) = Partial::open(
            &self.spec.place,
            &record,
            shard,
            self.spec.options.restart,
            writes.clone(),
        )?;
        self.check_room(needed)?;
        self.check_device(&partial, &record, &mut contents)?;
        let store = open_store::<R>(&self.spec.place, &record, &writes)?;
        tracing::info!(
            under = %self.spec.place.partial().display(),
            %shard,
            done = contents.entries.len(),
            "result begun or resumed"
        );
        self.open = Some(Open {
            layouts: parts.to_vec(),
            written: parts.iter().map(|_| Written::default()).collect(),
            store,
            done: Mutex::new(
                contents
                    .entries
                    .into_iter()
                    .map(|entry| (entry.tile.clone(), entry))
                    .collect(),
            ),
            unsynced: Mutex::new(Unsynced {
                bytes: 0,
                since: Instant::now(),
            }),
            partial: Mutex::new(partial),
            notes: Mutex::new(contents.notes),
            record,
        });
        Ok(())
    }

    fn share(&self, tiles: &[Tile]) -> Vec<bool> {
        let (shard, open) = (self.spec.options.shard, self.open.as_ref());
        if shard.of == 1 {
            return vec![true; tiles.len()];
        }
        let group = |tile: &Tile| {
            let open = open?;
            match open.layouts.get(tile.part)?.columns {
                // Vectors are made together.
                None => Some([usize::MAX; 3]),
                Some(_) => open.store.group(tile),
            }
        };
        let shares = shares(tiles, shard.of, group);
        let own: Vec<bool> = shares.iter().map(|of| of + 1 == shard.index).collect();
        if let Some(open) = open {
            let count = own.iter().filter(|own| **own).count();
            // `merge` says how many of them are missing; a list that cannot be written shows at its first tile.
            let note = lock(&open.partial).journal().note(&json!({"share": count}));
            if let Err(error) = note {
                tracing::warn!("{error}");
            }
        }
        own
    }

    fn has(&self, tile: &Tile) -> Result<bool> {
        let (open, layout) = self.part(tile.part)?;
        let Some(entry) = lock(&open.done).get(tile).cloned() else {
            return Ok(false);
        };
        if entry.fits(layout) && open.store.holds(&entry)? {
            open.written[tile.part].add(entry.entries());
            return Ok(true);
        }
        tracing::warn!(
            "rows {:?}, columns {:?} of {:?} are not what was written there: they are made again",
            tile.rows,
            tile.columns,
            layout.name
        );
        lock(&open.done).remove(tile);
        Ok(false)
    }

    fn note(&self, name: &str, value: Value) -> Result<()> {
        let Some(open) = &self.open else {
            return Ok(());
        };
        let note = json!({ name: value });
        lock(&open.partial).journal().note(&note)?;
        lock(&open.notes).push(note);
        Ok(())
    }

    fn noted(&self, name: &str) -> Option<Value> {
        let notes = lock(&self.open.as_ref()?.notes);
        notes.iter().rev().find_map(|note| note.get(name).cloned())
    }

    fn tile(
        &self,
        part: usize,
        rows: Range<usize>,
        columns: Range<usize>,
        values: &[R],
        mirror: bool,
    ) -> Result<()> {
        let (open, layout) = self.part(part)?;
        let mirror = layout.check_tile(&rows, &columns, values.len(), mirror)?;
        let tile = Tile {
            part,
            rows,
            columns,
        };
        self.store_tile(open, tile, values, mirror)
    }

    fn vector(&self, part: usize, values: &[R]) -> Result<()> {
        let (open, layout) = self.part(part)?;
        layout.check_vector(values.len())?;
        self.store_tile(open, Tile::whole(part, layout), values, false)
    }

    fn put_back(&self, part: usize, values: Vec<R>) -> Result<()> {
        let layout = self.part(part)?.1;
        let (rows, columns) = (0..layout.row_count(), 0..layout.column_count());
        self.tile(part, rows, columns, &values, false)
    }

    fn finish(&mut self) -> Result<()> {
        match self.settled {
            true => self.watch.check_times()?,
            false => self.settle(&NEVER)?,
        }
        let _finishing = Underway::finishing();
        let Some(open) = self.open.take() else {
            return Err(Error::Request(
                "nothing was begun, so there is nothing to finish".into(),
            ));
        };
        for (layout, written) in open.layouts.iter().zip(&open.written) {
            written.check(layout)?;
        }
        let notes = lock(&open.notes).clone();
        let manifest = open
            .record
            .manifest(&[(self.spec.options.shard.index, &notes)])?;
        let entries: Vec<Entry> = lock(&open.done).values().cloned().collect();
        open.store.finish(&entries, &manifest)?;
        let Open { store, partial, .. } = open;
        drop(store);
        let partial = partial.into_inner().unwrap_or_else(PoisonError::into_inner);
        partial.finish(&manifest.text()?)
    }
}
