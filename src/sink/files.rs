//! The sink that writes `.npy`: one file for one part, a folder for several.

use super::layout::{BLOCK, PartLayout, Written, transpose};
use super::partial::{Partial, Place};
use super::{ParameterPlace, Provenance, Sink};
use crate::bytes::Bytes;
use crate::error::{Error, Result};
use crate::files::{free_bytes, npy::write_header, parent, write_all_at};
use crate::tensor::Real;
use serde_json::json;
use std::fs::{File, OpenOptions};
use std::marker::PhantomData;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Writes parts as `.npy` by positioned writes, under `NAME.partial` until the result is whole and synced.
///
/// `FILE.npy` takes one part and puts `FILE.npy.json` beside it; a folder takes any number, as `0000.npy`,
/// `0001.npy`… with an `index.json`. [`super::Blocks`] reads both.
///
/// ```
/// use hessblock::sink::{Blocks, Files, PartLayout, Sink};
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("hessian.npy");
/// let mut sink = Files::<f64>::create(&path)?.plan("{}");
/// sink.begin(&[PartLayout::vector("diagonal", vec![0..3])])?;
/// sink.vector(0, &[1.0, 2.0, 3.0])?;
/// sink.finish()?;
/// assert_eq!(Blocks::open(&path)?.vector(0)?.to_vec(), [1.0, 2.0, 3.0]);
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Debug)]
pub struct Files<R> {
    place: Place,
    plan: String,
    parameters: Vec<ParameterPlace>,
    provenance: Provenance,
    open: Option<Open>,
    real: PhantomData<fn() -> R>,
}

#[derive(Debug)]
struct Open {
    parts: Vec<OpenPart>,
    /// After the files: on Windows open files cannot be removed.
    partial: Partial,
}

#[derive(Debug)]
struct OpenPart {
    layout: PartLayout,
    path: PathBuf,
    /// Kept open for the first [`KEPT_OPEN`] parts: a process may have as few as 256 files.
    file: Option<File>,
    /// Bytes of the header.
    offset: u64,
    written: Written,
}

/// Parts whose files stay open.
const KEPT_OPEN: usize = 64;

impl<R: Real> Files<R> {
    /// A sink that will write to `path`: `FILE.npy`, or a folder (no extension, or `/` at its end).
    ///
    /// # Errors
    /// [`Error::File`] where the folder to write in is missing or read-only, the name has another extension,
    /// or is taken (see [`Files::force`]).
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        let sink = Self::unchecked(path.as_ref())?;
        sink.place.check()?;
        Ok(sink)
    }

    /// As [`Files::create`], but an older result of that name is replaced once the new one is whole.
    ///
    /// # Errors
    /// As [`Files::create`]; a folder that is no result of hessblock is never replaced.
    pub fn force(path: impl AsRef<Path>) -> Result<Self> {
        let mut sink = Self::unchecked(path.as_ref())?;
        sink.place.force = true;
        sink.place.check()?;
        Ok(sink)
    }

    fn unchecked(path: &Path) -> Result<Self> {
        Ok(Self {
            place: Place::new(path)?,
            plan: String::new(),
            parameters: Vec::new(),
            provenance: Provenance::now(),
            open: None,
            real: PhantomData,
        })
    }

    /// Sets the text of `plan.json`, which lies beside the output while it grows.
    pub fn plan(mut self, text: impl Into<String>) -> Self {
        self.plan = text.into();
        self
    }

    /// Sets the network's parameters, which are written with the result.
    pub fn parameters(mut self, parameters: Vec<ParameterPlace>) -> Self {
        self.parameters = parameters;
        self
    }

    /// Sets what is written as the result's provenance.
    pub fn provenance(mut self, provenance: Provenance) -> Self {
        self.provenance = provenance;
        self
    }

    /// Whether the disk has room for that many bytes.
    ///
    /// # Errors
    /// [`Error::File`] with the bytes needed and free.
    fn check_room(&self, needed: u64) -> Result<()> {
        let folder = parent(&self.place.target);
        match free_bytes(&folder) {
            Some(free) if free < needed => Err(Error::file(
                &self.place.target,
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

    /// Leaves what was written under `NAME.partial`, synced, with `plan.json` and the list of done tiles beside it, and
    /// says where; `None` where nothing was written, so that nothing is left.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be synced.
    pub fn keep(&mut self) -> Result<Option<PathBuf>> {
        let Some(open) = self.open.take().filter(|open| open.partial.lines() > 0) else {
            return Ok(None);
        };
        for part in &open.parts {
            part.with_file(|file| file.sync_all().map_err(Error::io(&part.path)))?;
        }
        let Open { parts, partial } = open;
        drop(parts);
        partial.keep().map(Some)
    }

    fn part(&self, part: usize) -> Result<(&Open, &OpenPart)> {
        let open = self.open.as_ref();
        open.and_then(|open| Some((open, open.parts.get(part)?)))
            .ok_or_else(|| Error::Shape(format!("there is no part {part} being written")))
    }

    fn manifest(&self, parts: &[OpenPart]) -> Result<String> {
        let pairs = |ranges: &[Range<usize>]| -> Vec<[usize; 2]> {
            ranges.iter().map(|r| [r.start, r.end]).collect()
        };
        let parts: Vec<_> = parts
            .iter()
            .enumerate()
            .map(|(k, part)| {
                let mut entry = json!({
                    "part": part.layout.name,
                    "file": self.place.data_name(k),
                    "rows": pairs(&part.layout.rows),
                });
                if let Some(columns) = &part.layout.columns {
                    entry["columns"] = json!(pairs(columns));
                }
                entry["shape"] = json!(part.layout.shape());
                entry
            })
            .collect();
        let manifest = json!({"parts": parts, "parameters": self.parameters, "provenance": self.provenance.to_value()?});
        Ok(format!("{manifest:#}\n"))
    }
}

impl OpenPart {
    /// Writes `height` rows of `values`, `[height, width]`, at (row, column) of the part.
    fn write<R: Real>(
        &self,
        file: &File,
        (row, column): (usize, usize),
        width: usize,
        values: &[R],
    ) -> Result<()> {
        let total = self.layout.column_count();
        // A full row is followed by the next one: one write for all.
        let each = if width == total { values.len() } else { width };
        for (k, segment) in values.chunks(each.max(1)).enumerate() {
            let entry = (row + k) as u64 * total as u64 + column as u64;
            let at = self.offset + entry * size_of::<R>() as u64;
            write_all_at(file, &R::bytes(segment), at).map_err(Error::io(&self.path))?;
        }
        self.written.add(values.len());
        Ok(())
    }

    /// Calls `work` with the part's file, opened for it unless it is kept open.
    fn with_file<T>(&self, work: impl FnOnce(&File) -> Result<T>) -> Result<T> {
        match &self.file {
            Some(file) => work(file),
            None => {
                let file = OpenOptions::new().write(true).open(&self.path);
                work(&file.map_err(Error::io(&self.path))?)
            }
        }
    }
}

impl<R: Real> Sink<R> for Files<R> {
    fn begin(&mut self, parts: &[PartLayout]) -> Result<()> {
        if self.place.single && parts.len() != 1 {
            return Err(Error::file(
                &self.place.target,
                format!(
                    "one .npy file holds one part, and the request has {}: name a folder instead",
                    parts.len()
                ),
            ));
        }
        let mut sizes = Vec::new();
        let mut needed = 0_u64;
        for layout in parts {
            let header = write_header(R::NUMPY, &layout.shape());
            let size = layout
                .entries()?
                .checked_mul(size_of::<R>() as u64)
                .and_then(|bytes| bytes.checked_add(header.len() as u64));
            let sum = size.and_then(|size| needed.checked_add(size));
            let (Some(size), Some(sum)) = (size, sum) else {
                return Err(Error::Request(format!(
                    "the request reaches more than 2^64 bytes at part {:?} of shape {:?}: ask for less",
                    layout.name,
                    layout.shape()
                )));
            };
            needed = sum;
            sizes.push((header, size));
        }
        // The older attempt removes its files before the new one makes its own of the same names.
        self.open = None;
        let partial = self.place.start(&self.plan)?;
        self.check_room(needed)?;
        let mut open = Open {
            parts: Vec::new(),
            partial,
        };
        for (k, (layout, (header, size))) in parts.iter().zip(sizes).enumerate() {
            let path = self.place.data(k);
            let file = File::create(&path).map_err(Error::io(&path))?;
            file.set_len(size).map_err(Error::io(&path))?;
            write_all_at(&file, &header, 0).map_err(Error::io(&path))?;
            open.parts.push(OpenPart {
                layout: layout.clone(),
                file: (k < KEPT_OPEN).then_some(file),
                path,
                offset: header.len() as u64,
                written: Written::default(),
            });
        }
        self.open = Some(open);
        Ok(())
    }

    fn tile(
        &self,
        part: usize,
        rows: Range<usize>,
        columns: Range<usize>,
        values: &[R],
        mirror: bool,
    ) -> Result<()> {
        let (open, this) = self.part(part)?;
        let mirror = this
            .layout
            .check_tile(&rows, &columns, values.len(), mirror)?;
        this.with_file(|file| {
            this.write(file, (rows.start, columns.start), columns.len(), values)?;
            if mirror {
                // Bands of the transpose: a buffer of 64 rows, each written as one segment.
                let height = rows.len();
                let mut band = vec![R::default(); BLOCK.min(columns.len()) * height];
                for start in (0..columns.len()).step_by(BLOCK) {
                    let within = start..(start + BLOCK).min(columns.len());
                    let band = &mut band[..within.len() * height];
                    transpose(values, columns.len(), within, band, height);
                    this.write(file, (columns.start + start, rows.start), height, band)?;
                }
            }
            Ok(())
        })?;
        open.partial.done(&format!(
            "{part} {} {} {} {} {mirror}",
            rows.start, rows.end, columns.start, columns.end
        ))
    }

    fn vector(&self, part: usize, values: &[R]) -> Result<()> {
        let (open, this) = self.part(part)?;
        this.layout.check_vector(values.len())?;
        this.with_file(|file| this.write(file, (0, 0), 1, values))?;
        open.partial.done(&format!("{part} 0 {}", values.len()))
    }

    fn give_back(&self, part: usize, values: Vec<R>) -> Result<()> {
        let layout = &self.part(part)?.1.layout;
        let (rows, columns) = (0..layout.row_count(), 0..layout.column_count());
        self.tile(part, rows, columns, &values, false)
    }

    fn finish(&mut self) -> Result<()> {
        let Some(open) = self.open.take() else {
            return Err(Error::Request(
                "nothing was begun, so there is nothing to finish".into(),
            ));
        };
        for part in &open.parts {
            part.written.check(&part.layout)?;
            part.with_file(|file| file.sync_all().map_err(Error::io(&part.path)))?;
        }
        let manifest = self.manifest(&open.parts)?;
        let Open { parts, partial } = open;
        // Closed before the rename, which Windows refuses for open files.
        drop(parts);
        partial.finish(&manifest)
    }
}
