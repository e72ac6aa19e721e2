//! Files that exist under the names of a result: they may be replaced or resumed only if hessblock made them.

use super::place::{COPY, Kind, Place, is_beside, is_hidden, is_number, is_there, not_ours};
use super::record::Record;
use super::tensor_file::{check_partial, manifest_of};
use crate::error::{Error, Result};
use crate::files::whole::is_temporary;
use crate::files::{folders, read_exact_at, with_suffix};
use crate::setting::FORCE;
use std::collections::HashSet;
use std::path::Path;

impl Place {
    /// Refuses what can be known before work starts.
    pub(super) fn check(&self) -> Result<()> {
        folders::check(&self.target)?;
        self.check_target()
    }

    /// Refuses a target that may not be replaced.
    pub(super) fn check_target(&self) -> Result<()> {
        if self.kind == Kind::Tensors {
            check_partial(&self.partial())?;
        } else if self.single() {
            let index = with_suffix(&self.target, ".json");
            // A file of the user's may have the name that the result or its JSON takes.
            if is_there(&index) && index_of(&index).is_none() {
                return Err(not_ours(&index));
            }
            let partial = self.partial();
            // Its plan or its list says whose it is; one of them may be lost.
            let begun = || -> Result<bool> {
                let plan = Record::read(&self.beside("plan.json"));
                Ok(!self.journals()?.is_empty() || plan.is_ok_and(|plan| plan.is_some()))
            };
            if is_there(&partial) && !(begun()? && is_array_begun(&partial)) {
                return Err(not_ours(&partial));
            }
        } else if is_there(&self.partial()) && !self.partial().is_dir() {
            return Err(not_ours(&self.partial()));
        }
        if !is_there(&self.target) {
            return Ok(());
        }
        match (self.is_ours(), self.force) {
            (true, true) => Ok(()),
            (true, false) => Err(Error::file(
                &self.target,
                format!(
                    "exists already: choose another name, remove it, or replace it with {FORCE}"
                ),
            )),
            (false, _) => Err(not_ours(&self.target)),
        }
    }

    /// Whether what stands under the final name is a result and nothing else, or an empty folder.
    fn is_ours(&self) -> bool {
        let folder = std::fs::symlink_metadata(&self.target).is_ok_and(|meta| meta.is_dir());
        if self.single() || !folder {
            return self.single() && !folder && self.index().is_some();
        }
        let entries =
            std::fs::read_dir(&self.target).map(|d| d.collect::<std::io::Result<Vec<_>>>());
        let Ok(Ok(entries)) = entries else {
            return false;
        };
        let Some(index) = self.index() else {
            return entries.is_empty();
        };
        let files = index["parts"].as_array().into_iter().flatten();
        let files: HashSet<&str> = files.flat_map(|part| part["file"].as_str()).collect();
        let known = |entry: &std::fs::DirEntry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            files.contains(&*name)
                || ["index.json", "zarr.json"].contains(&&*name)
                || is_beside(&name)
        };
        // An array that somebody put beside ours is not.
        entries.iter().all(known) && self.check_leftover(&self.target).is_ok()
    }

    /// The manifest of a finished result under the final name.
    fn index(&self) -> Option<serde_json::Value> {
        match self.kind {
            Kind::File => index_of(&with_suffix(&self.target, ".json")),
            Kind::Folder => index_of(&self.target.join("index.json")),
            Kind::Zarr => {
                let group = json_of(&self.target.join("zarr.json"))?;
                Some(group["attributes"]["hessblock"].clone()).filter(is_manifest)
            }
            Kind::Tensors => manifest_of(&self.target).filter(is_manifest),
        }
    }

    /// What decided the numbers of the finished result under the final name ([`super::record::Record::key`]).
    pub(super) fn finished_key(&self) -> Option<String> {
        if !is_there(&self.target) {
            return None;
        }
        Some(self.index()?["key"].as_str()?.to_string())
    }

    /// Refuses a folder that holds anything but what a result consists of.
    pub(super) fn check_leftover(&self, folder: &Path) -> Result<()> {
        self.check_contents(folder, false)
    }

    /// The same of a result under way, in which hidden files may lie: file systems put them there (`.nfs…`, `.DS_Store`).
    pub(super) fn check_under_way(&self, folder: &Path) -> Result<()> {
        self.check_contents(folder, true)
    }

    fn check_contents(&self, folder: &Path, hidden: bool) -> Result<()> {
        for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
            let entry = entry.map_err(Error::io(folder))?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if hidden && is_hidden(&name) {
                continue;
            }
            // What is written through a link lies elsewhere.
            let link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
            let own = match self.kind {
                _ if link => false,
                _ if is_beside(&name) || is_temporary(&name) => true,
                Kind::Zarr => name == "zarr.json" || is_array(&entry.path(), hidden)?,
                _ => {
                    let array = name.strip_suffix(".npy");
                    name == "index.json"
                        || array.is_some_and(|stem| stem.chars().all(|c| c.is_ascii_digit()))
                }
            };
            if !own {
                return Err(Error::file(
                    folder,
                    format!(
                        "holds {name:?}, which is not what a run leaves there: move that away, and what was done is gone on with"
                    ),
                ));
            }
        }
        Ok(())
    }
}

/// Whether a folder holds nothing but an array's chunks and metadata, as far as it was written.
fn is_array(folder: &Path, hidden: bool) -> Result<bool> {
    /// Whether all in a folder of chunks is named by a number; files lie in folders of folders at most.
    fn is_chunks(folder: &Path, depth: usize, hidden: bool) -> Result<bool> {
        for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
            let entry = entry.map_err(Error::io(folder))?;
            let name = entry.file_name();
            let kind = entry.file_type().map_err(Error::io(folder))?;
            let name = name.to_string_lossy();
            if hidden && is_hidden(&name) {
                continue;
            }
            // A file that is being packed is copied.
            let number = is_number(name.strip_suffix(COPY).unwrap_or(&name));
            let below = || match kind.is_dir() {
                true => Ok(depth > 0 && is_chunks(&entry.path(), depth - 1, hidden)?),
                false => Ok(kind.is_file()),
            };
            if !number || !below()? {
                return Ok(false);
            }
        }
        Ok(true)
    }
    if !std::fs::symlink_metadata(folder).is_ok_and(|meta| meta.is_dir()) {
        return Ok(false);
    }
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
        let entry = entry.map_err(Error::io(folder))?;
        let kind = entry.file_type().map_err(Error::io(folder))?;
        let own = match entry.file_name().to_string_lossy().as_ref() {
            "zarr.json" => kind.is_file(),
            "c" => kind.is_dir() && is_chunks(&entry.path(), 1, hidden)?,
            name if is_temporary(name) => kind.is_file(),
            name if hidden && is_hidden(name) => true,
            _ => false,
        };
        if !own {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a regular file is an array's, or none yet.
fn is_array_begun(path: &Path) -> bool {
    let regular = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file());
    let mut start = [0; 6];
    let mut read = || -> Result<usize> {
        let (file, length) = crate::files::open(path)?;
        let count = start
            .len()
            .min(usize::try_from(length).unwrap_or(usize::MAX));
        read_exact_at(&file, &mut start[..count], 0).map_err(Error::io(path))?;
        Ok(count)
    };
    if !regular {
        return false;
    }
    let Ok(count) = read() else {
        return false;
    };
    start[..count].iter().all(|byte| *byte == 0) || start[..count] == b"\x93NUMPY"[..count]
}

fn json_of(path: &Path) -> Option<serde_json::Value> {
    serde_json::from_slice(&crate::files::read(path).ok()?).ok()
}

/// The index of a result: JSON with parts and their provenance.
fn index_of(path: &Path) -> Option<serde_json::Value> {
    json_of(path).filter(is_manifest)
}

fn is_manifest(value: &serde_json::Value) -> bool {
    value["parts"].is_array() && value["provenance"].is_object()
}
