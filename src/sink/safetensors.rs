//! Parts as tensors of one `.safetensors` file: for vectors and small blocks, which are made in memory and written at once.

use super::journal::open_locked;
use super::layout::PartLayout;
use super::place::{Kind, Place};
use super::record::device_of;
use super::spec::ResultSpec;
use super::tensor_file::{LARGEST_HEADER, MANIFEST};
use super::{FilesOptions, Memory, ParameterPlace, Provenance, Sink};
use crate::bytes::Bytes;
use crate::error::{Error, Result};
use crate::files::writes::Writes;
use crate::files::writing::Underway;
use crate::files::{folders, parent, sync_folder};
use crate::setting::SHARD;
use crate::tensor::Real;
use ::safetensors::tensor::{Dtype as TensorDtype, Metadata, TensorInfo};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::path::Path;

/// Bytes of a result at most: it is held in memory, and a run that stops has nothing to go on with.
const LARGEST: u64 = 2 << 30;
/// Keeps parts in memory, and writes them as tensors of one `.safetensors` file: named as the parts, with the manifest (parts,
/// parameters, provenance) as JSON under `hessblock` in the file's metadata.
///
/// ```
/// use hessblock::internals::sink::{Blocks, PartLayout, Sink, Tensors};
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("diagonal.safetensors");
/// let mut sink = Tensors::<f64>::create(&path)?;
/// sink.begin(&[PartLayout::vector("diag", vec![0..3])])?;
/// sink.vector(0, &[1.0, 2.0, 3.0])?;
/// sink.finish()?;
/// assert_eq!(Blocks::open(&path)?.vector(0)?.to_vec(), [1.0, 2.0, 3.0]);
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Debug)]
pub struct Tensors<R> {
    spec: ResultSpec,
    memory: Memory<R>,
    parts: Vec<PartLayout>,
}

/// Whether the result of that name is one `.safetensors` file.
pub fn takes_tensors(path: &Path) -> bool {
    Place::new(path).is_ok_and(|place| place.kind == Kind::Tensors)
}

impl<R: Real> Tensors<R> {
    /// A sink that will write to `path`, which ends in `.safetensors`.
    ///
    /// # Errors
    /// [`Error::File`] where the folder to write in can be neither written nor made, or the name is another's or taken.
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        Self::with_options(path, FilesOptions::default())
    }

    /// As [`Tensors::create`], with options.
    ///
    /// # Errors
    /// As [`Tensors::create`]; [`Error::Request`] for options that this kind of result has no use for.
    pub fn with_options(path: impl AsRef<Path>, options: FilesOptions) -> Result<Self> {
        let spec = ResultSpec::new(path.as_ref(), options)?;
        if spec.place.kind != Kind::Tensors {
            return Err(Error::file(path.as_ref(), "is not named FILE.safetensors"));
        }
        if options.shard.of > 1 {
            return Err(Error::Request(format!(
                "{SHARD}: {} is made in memory by one process, so that no others share it; name a folder or a NAME.zarr",
                spec.place.target.display()
            )));
        }
        spec.check()?;
        Ok(Self {
            spec,
            memory: Memory::new(),
            parts: Vec::new(),
        })
    }

    /// Sets what decides the order of accumulation, and so the bits.
    pub fn order(mut self, order: Value) -> Self {
        self.spec.order = order;
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

    /// Whether the result of these parts, made from the same things, is whole under its name.
    ///
    /// # Errors
    /// [`Error::File`] where another result has that name, and is not to be replaced.
    pub fn is_finished(&self, parts: &[PartLayout]) -> Result<bool> {
        self.spec.is_finished::<R>(parts)
    }

    /// The header: lengths and places of the tensors, and the manifest.
    fn header(&self) -> Result<Vec<u8>> {
        let note =
            json!({"begun": self.spec.provenance.date, "device": device_of(&self.spec.provenance)});
        let manifest = self
            .spec
            .record::<R>(&self.parts)
            .manifest(&[(1, &[note])])?;
        let failed = |what: String| Error::file(&self.spec.place.target, what);
        let text = serde_json::to_string(&manifest).map_err(|e| failed(e.to_string()))?;
        let dtype = match R::NAME {
            "f64" => TensorDtype::F64,
            _ => TensorDtype::F32,
        };
        let mut at = 0;
        let tensor = |layout: &PartLayout| {
            let start = at;
            at += layout.row_count() * layout.column_count() * size_of::<R>();
            let info = TensorInfo {
                dtype,
                shape: layout.shape(),
                data_offsets: (start, at),
            };
            (layout.name.clone(), info)
        };
        let tensors = self.parts.iter().map(tensor).collect();
        let metadata = HashMap::from([(MANIFEST.to_string(), text)]);
        let header = Metadata::new(Some(metadata), tensors).map_err(|e| failed(e.to_string()))?;
        let mut text = serde_json::to_vec(&header).map_err(|e| failed(e.to_string()))?;
        text.resize(text.len().next_multiple_of(8), b' ');
        if text.len() as u64 > LARGEST_HEADER {
            return Err(failed(
                "has so many parts and parameters that no header of safetensors holds them: name a folder".into(),
            ));
        }
        let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
        bytes.extend(text);
        Ok(bytes)
    }

    fn write(&self, file: &File) -> Result<()> {
        let path = self.spec.place.partial();
        let writes = Writes::new(self.spec.options.faults);
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            let written = writes.write_all_at(file, bytes, at);
            at += bytes.len() as u64;
            written.map_err(Error::io(&path))
        };
        put(&self.header()?)?;
        for part in 0..self.parts.len() {
            self.memory.look(part, |values| match values.as_slice() {
                Some(values) => put(&R::bytes(values)),
                None => values
                    .rows()
                    .into_iter()
                    .try_for_each(|row| put(&R::bytes(&row.to_vec()))),
            })??;
        }
        file.sync_all().map_err(Error::io(&path))
    }
}

impl<R: Real> Sink<R> for Tensors<R> {
    fn begin(&mut self, parts: &[PartLayout]) -> Result<()> {
        let mut bytes = 0_u128;
        for layout in parts {
            bytes += u128::from(layout.entries()?) * size_of::<R>() as u128;
        }
        if bytes > u128::from(LARGEST) {
            let largest = parts.iter().max_by_key(|p| p.entries().unwrap_or(u64::MAX));
            let largest = largest.map_or(String::new(), |part| {
                format!(
                    " (the largest, {:?}, of shape {:?})",
                    part.name,
                    part.shape()
                )
            });
            return Err(Error::file(
                &self.spec.place.target,
                format!(
                    "needs {} for {} parts{largest}, and a .safetensors file, which is made in memory, holds {} at most: name \
                     a folder (.npy files) or a NAME.zarr, which take any size and go on after a stop",
                    Bytes(bytes),
                    parts.len(),
                    Bytes(LARGEST.into())
                ),
            ));
        }
        let mut names = std::collections::HashSet::new();
        if let Some(twice) = parts.iter().find(|part| !names.insert(&part.name)) {
            return Err(Error::Request(format!(
                "two parts are named {:?}, and the tensors of a file have names of their own",
                twice.name
            )));
        }
        self.spec.place.check()?;
        self.parts = parts.to_vec();
        self.memory.begin(parts)
    }

    fn tile(
        &self,
        part: usize,
        rows: Range<usize>,
        columns: Range<usize>,
        values: &[R],
        mirror: bool,
    ) -> Result<()> {
        self.memory.tile(part, rows, columns, values, mirror)
    }

    fn vector(&self, part: usize, values: &[R]) -> Result<()> {
        self.memory.vector(part, values)
    }

    fn take(&self, part: usize) -> Option<Vec<R>> {
        self.memory.take(part)
    }

    fn put_back(&self, part: usize, values: Vec<R>) -> Result<()> {
        self.memory.put_back(part, values)
    }

    fn finish(&mut self) -> Result<()> {
        let (_writing, _finishing) = (Underway::writing(), Underway::finishing());
        self.memory.finish()?;
        self.spec.place.check_target()?;
        let partial = self.spec.place.partial();
        // Where the file cannot be written, those that are empty are removed again.
        let _above = folders::make(&parent(&partial))?;
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true);
        // Locked until it has its final name.
        let file = open_locked(&partial, &options, &partial)?;
        file.set_len(0).map_err(Error::io(&partial))?;
        if let Err(error) = self.write(&file) {
            drop(file);
            // It holds nothing to go on with.
            let _ = std::fs::remove_file(&partial);
            return Err(error);
        }
        std::fs::rename(&partial, &self.spec.place.target)
            .map_err(Error::io(&self.spec.place.target))?;
        sync_folder(&parent(&self.spec.place.target))
    }
}
