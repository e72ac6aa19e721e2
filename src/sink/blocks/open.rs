//! Opening a result of any kind, whose manifest may come from anywhere.

use super::{Blocks, ResultPart};
use crate::error::{Error, Result};
use crate::files::{self, allow_open_files, with_suffix};
use crate::memory::SharedBytes;
use crate::sink::reader::{Held, Reader, Run};
use crate::sink::record::PartRecord;
use crate::sink::tensor_file::TensorFile;
use crate::sink::{ParameterPlace, PartLayout};
use crate::text::escape;
use serde::Deserialize;
use std::path::{Component, Path, PathBuf};

#[derive(Deserialize)]
struct Manifest {
    parts: Vec<PartRecord>,
    #[serde(default)]
    parameters: Vec<ParameterPlace>,
    #[serde(default)]
    provenance: serde_json::Value,
}

impl Blocks {
    /// A result whose parts are in memory.
    ///
    /// # Errors
    /// [`Error::Shape`] where bytes and layout do not fit, [`Error::Value`] for a type of numbers that is not read.
    pub(crate) fn in_memory(
        parts: Vec<(PartLayout, &str, SharedBytes)>,
        parameters: Vec<ParameterPlace>,
        provenance: serde_json::Value,
    ) -> Result<Blocks> {
        let part = |(layout, dtype, bytes): (PartLayout, &str, SharedBytes)| {
            let reader = Box::new(Held::new(&layout, dtype, bytes)?);
            Ok(ResultPart { layout, reader })
        };
        Ok(Blocks {
            parts: parts.into_iter().map(part).collect::<Result<_>>()?,
            parameters,
            provenance,
        })
    }

    /// Opens a result by the path it was written to.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::File`] where it is absent, still `.partial`, or its arrays do not fit its
    /// manifest.
    pub fn open(path: impl AsRef<Path>) -> Result<Blocks> {
        let path = path.as_ref();
        let partial = with_suffix(&path.components().collect::<PathBuf>(), ".partial");
        if !path.exists() && partial.exists() {
            return Err(Error::file(
                path,
                format!(
                    "is not there, only {}: the run is still going or was stopped",
                    partial.display()
                ),
            ));
        }
        let group = path.join("zarr.json");
        let tensors = path
            .extension()
            .is_some_and(|e| e.eq_ignore_ascii_case("safetensors"));
        match path.is_dir() {
            true if group.is_file() => open_zarr(path, &group),
            true => {
                let index = path.join("index.json");
                let manifest = parse(&index, &read(&index)?)?;
                // A name alone: a manifest from elsewhere must not reach out of its folder.
                manifest.blocks(&index, |_, part| {
                    Run::npy(&path.join(&part.file), &part.layout(&index)?)
                })
            }
            false if tensors => {
                let file = TensorFile::open(path)?;
                let text = file.manifest().ok_or_else(|| {
                    Error::file(
                        path,
                        "has no list of parts in its metadata: hessblock did not write it",
                    )
                })?;
                let manifest = parse(path, text)?;
                manifest.blocks(path, |_, part| file.part(&part.layout(path)?))
            }
            false
                if path
                    .extension()
                    .is_some_and(|e| e.eq_ignore_ascii_case("onnx")) =>
            {
                Err(Error::file(
                    path,
                    "is a network, not a result: `hessblock inspect` lists its operations and parameters, `hessblock blocks` \
                     makes a result of it",
                ))
            }
            false => {
                let index = with_suffix(path, ".json");
                let manifest = parse(&index, &read(&index)?)?;
                // A single file may have been renamed together with its manifest.
                manifest.blocks(&index, |_, part| Run::npy(path, &part.layout(&index)?))
            }
        }
    }
}

#[cfg(feature = "zarr")]
fn open_zarr(path: &Path, group: &Path) -> Result<Blocks> {
    let text = read(group)?;
    let value: serde_json::Value =
        serde_json::from_str(&text).map_err(|e| Error::file(group, format!("is no JSON: {e}")))?;
    let own = &value["attributes"]["hessblock"];
    if own.is_null() {
        return Err(Error::file(
            group,
            "has no attribute \"hessblock\": the Zarr was not written by hessblock; read it with a library for Zarr",
        ));
    }
    let manifest = parse(group, &own.to_string())?;
    let cache = super::super::zarr::cache();
    manifest.blocks(group, |number, part| {
        let (folder, layout) = (path.join(&part.file), part.layout(group)?);
        super::super::zarr::ZarrReader::open(&folder, number, &layout, cache.clone())
    })
}

#[cfg(not(feature = "zarr"))]
fn open_zarr(path: &Path, _: &Path) -> Result<Blocks> {
    Err(Error::file(path, super::super::store::NO_ZARR))
}

fn read(path: &Path) -> Result<String> {
    files::read_text(path)
}

fn parse(path: &Path, text: &str) -> Result<Manifest> {
    serde_json::from_str(text).map_err(|e| Error::file(path, format!("is no list of parts: {e}")))
}

impl Manifest {
    /// Opens all parts; `path` is the file that lists them. Names are as they are printed from here on.
    fn blocks<T: Reader + 'static>(
        mut self,
        path: &Path,
        open: impl Fn(usize, &PartRecord) -> Result<T>,
    ) -> Result<Blocks> {
        let mut parts = Vec::new();
        allow_open_files(self.parts.len());
        for (number, record) in self.parts.iter().enumerate() {
            let file = record.file.as_str();
            let mut names = Path::new(file).components();
            let alone =
                matches!(names.next(), Some(Component::Normal(_))) && names.next().is_none();
            if !alone || file.contains(['/', '\\']) {
                return Err(Error::file(
                    path,
                    format!("names the file {file:?} outside its folder"),
                ));
            }
            let mut layout = record.layout(path)?;
            let reader = Box::new(open(number, record)?);
            escape(&mut layout.name);
            parts.push(ResultPart { layout, reader });
        }
        for parameter in &mut self.parameters {
            escape(&mut parameter.name);
            escape(&mut parameter.layer);
        }
        Ok(Blocks {
            parts,
            parameters: self.parameters,
            provenance: self.provenance,
        })
    }
}
