//! The header of a `.safetensors` file, as it is read.

use super::layout::PartLayout;
use super::place::{is_there, not_ours};
use super::reader::Run;
use crate::error::{Error, Result};
use crate::files::npy::{self, Dtype};
use crate::files::{self, read_exact_at};
use ::safetensors::tensor::{Dtype as TensorDtype, Metadata};
use serde_json::Value;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Bytes of a header at most, as the format has it.
pub(super) const LARGEST_HEADER: u64 = 100_000_000;
/// The manifest's name among a file's metadata.
pub(super) const MANIFEST: &str = "hessblock";

/// Refuses a file under the partial name that is not the leftover of a run that was killed while it wrote.
pub(super) fn check_partial(partial: &Path) -> Result<()> {
    if !is_there(partial) {
        return Ok(());
    }
    let (file, length) = files::open(partial)?;
    let mut start = vec![0; length.min(8 + 28) as usize];
    read_exact_at(&file, &mut start, 0).map_err(Error::io(partial))?;
    // A header begins so, and one that was never written with zeros; its length is below 2^32.
    let known = br#"{"__metadata__":{"hessblock":"#;
    let ours = match start.split_at_checked(8) {
        _ if start.iter().all(|byte| *byte == 0) => true,
        Some((length, json)) => {
            length[4..] == [0; 4] && (known.starts_with(json) || json.iter().all(|byte| *byte == 0))
        }
        None => false,
    };
    match ours {
        true => Ok(()),
        false => Err(not_ours(partial)),
    }
}

/// The manifest of a file that hessblock wrote.
pub(super) fn manifest_of(path: &Path) -> Option<Value> {
    serde_json::from_str(TensorFile::open(path).ok()?.manifest()?).ok()
}

/// A file whose header was read.
#[derive(Debug)]
pub(super) struct TensorFile {
    path: PathBuf,
    file: File,
    length: u64,
    /// Where the tensors begin.
    data: u64,
    header: Metadata,
}

impl TensorFile {
    pub(super) fn open(path: &Path) -> Result<TensorFile> {
        let (file, length) = files::open(path)?;
        let refused = |what: String| Error::file(path, format!("is no safetensors file: {what}"));
        let mut size = [0; 8];
        read_exact_at(&file, &mut size, 0).map_err(|e| refused(e.to_string()))?;
        let size = u64::from_le_bytes(size);
        if size > LARGEST_HEADER || size > length - 8 {
            return Err(refused(format!("its header would have {size} bytes")));
        }
        let mut text = vec![0; size as usize];
        read_exact_at(&file, &mut text, 8).map_err(Error::io(path))?;
        let header = serde_json::from_slice(&text).map_err(|e| refused(e.to_string()))?;
        Ok(TensorFile {
            path: path.to_path_buf(),
            file,
            length,
            data: 8 + size,
            header,
        })
    }

    /// The text of the manifest.
    pub(super) fn manifest(&self) -> Option<&str> {
        let metadata = self.header.metadata().as_ref()?;
        metadata.get(MANIFEST).map(String::as_str)
    }

    /// The tensor of a part.
    pub(super) fn part(&self, layout: &PartLayout) -> Result<Run> {
        let refused = |what: String| Error::file(&self.path, what);
        let info = self
            .header
            .info(&layout.name)
            .ok_or_else(|| refused(format!("has no tensor for part {:?}", layout.name)))?;
        let size = match info.dtype {
            TensorDtype::F32 => 4,
            TensorDtype::F64 => 8,
            other => {
                return Err(refused(format!(
                    "{:?} holds {other:?}, not f32 or f64",
                    layout.name
                )));
            }
        };
        if info.shape != layout.shape() {
            return Err(refused(format!(
                "has shape {:?}, and its manifest says {:?} for part {:?}",
                info.shape,
                layout.shape(),
                layout.name
            )));
        }
        let dtype = Dtype {
            kind: npy::Kind::Float,
            size,
            big_endian: false,
        };
        let offset = self.data.checked_add(info.data_offsets.0 as u64);
        let offset = offset.ok_or_else(|| refused("has offsets beyond 2^64".into()))?;
        let file = self.file.try_clone().map_err(Error::io(&self.path))?;
        Run::new(&self.path, file, self.length, dtype, offset, layout)
    }
}
