//! The names of a result: of its files under `NAME.partial`, and in the end.
//!
//! A single file `x.npy` grows as `x.npy.partial`, with `x.npy.partial.plan.json` and `x.npy.partial.done` beside it, and
//! ends as `x.npy` and `x.npy.json`. A folder `x` (or `x.zarr`) grows as `x.partial`, which holds the numbers, `plan.json`
//! and `done`, and ends as `x` with its numbers and `index.json` (a Zarr's attributes). Where K of N processes share the
//! tiles, the list of each is `done-K-of-N`.

use super::layout::PartLayout;
use crate::error::{Error, Result};
pub(super) use crate::files::is_there;
use crate::files::{parent, with_suffix};
use crate::setting::FORCE;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// How a result lies on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One `.npy` file.
    File,
    /// A folder of `.npy` files.
    Folder,
    /// A Zarr.
    Zarr,
    /// One `.safetensors` file.
    Tensors,
}

/// What the copy of an array's file ends in until it takes its file's name.
pub(super) const COPY: &str = ".new";

/// Where a result goes, and what is there already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Final name.
    pub(super) target: PathBuf,
    pub(super) kind: Kind,
    /// Replace an older result.
    pub(super) force: bool,
}

impl Place {
    /// Reads a path: `.npy` and `.safetensors` are files, `.zarr` is a Zarr, no extension or a `/` at the end a folder.
    pub(super) fn new(path: &Path) -> Result<Place> {
        let slash = path.as_os_str().to_string_lossy().ends_with(['/', '\\']);
        // Collecting the components drops the slash, to which no suffix could be added.
        let target: PathBuf = path.components().collect();
        let Some(name) = target.file_name() else {
            return Err(Error::file(
                path,
                "is no name for a result: give FILE.npy, NAME.zarr or the name of a new folder",
            ));
        };
        let text = name.to_string_lossy();
        let bare = text.trim_start_matches('.').to_lowercase();
        let hidden = text.starts_with('.') && !bare.contains('.');
        if hidden && (!slash || ["npy", "zarr", "safetensors"].contains(&&*bare)) {
            return Err(Error::file(
                path,
                "is an ending without a name: give NAME.npy, NAME.zarr, or the name of a new folder (with / at its end where \
                 it is to be hidden)",
            ));
        }
        let extension = Path::new(name).extension();
        let is = |name: &str| extension.is_some_and(|e| e.eq_ignore_ascii_case(name));
        let kind = match extension {
            _ if is("zarr") => Kind::Zarr,
            _ if slash => Kind::Folder,
            None => Kind::Folder,
            Some(_) if is("npy") => Kind::File,
            Some(_) if is("safetensors") => Kind::Tensors,
            Some(extension) => {
                return Err(Error::file(
                    path,
                    format!(
                        "results of type .{} are not written: name a FILE.npy (one part), a NAME.zarr, a \
                         FILE.safetensors (small parts), or a folder without extension (or with / at its end)",
                        extension.display()
                    ),
                ));
            }
        };
        Ok(Place {
            target,
            kind,
            force: false,
        })
    }

    /// Whether it is one file, not a folder.
    pub(super) fn single(&self) -> bool {
        matches!(self.kind, Kind::File | Kind::Tensors)
    }

    /// The name it grows under.
    pub(super) fn partial(&self) -> PathBuf {
        with_suffix(&self.target, ".partial")
    }

    /// Where an older result steps aside until the one that replaces it stands.
    pub(super) fn aside(&self) -> PathBuf {
        with_suffix(&self.target, ".partial.old")
    }

    /// A file beside the data, by its name in a folder.
    pub(super) fn beside(&self, name: &str) -> PathBuf {
        match self.single() {
            true => with_suffix(&self.target, &format!(".partial.{name}")),
            false => self.partial().join(name),
        }
    }

    /// The list of what one of `of` processes has done, counted from 1.
    pub(super) fn journal(&self, shard: usize, of: usize) -> PathBuf {
        match of {
            1 => self.beside("done"),
            _ => self.beside(&format!("done-{shard}-of-{of}")),
        }
    }

    /// The lists that are there.
    pub(super) fn journals(&self) -> Result<Vec<PathBuf>> {
        self.besides(|name| name.strip_prefix("done").is_some_and(is_journal_suffix))
    }

    /// The files beside the data ([`Place::beside`]) whose names in a folder are such.
    pub(super) fn besides(&self, such: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>> {
        let nameless = self.beside("");
        let prefix = match self.single() {
            true => nameless.file_name().unwrap_or_default().to_string_lossy(),
            false => "".into(),
        };
        let folder = match self.single() {
            true => parent(&nameless),
            false => nameless.clone(),
        };
        let entries = match std::fs::read_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(Error::io(&folder))?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(Error::io(&folder))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            // Named as `beside` names them: a bare name has no folder.
            found.extend(
                name.strip_prefix(&*prefix)
                    .filter(|name| such(name))
                    .map(|name| self.beside(name)),
            );
        }
        found.sort();
        Ok(found)
    }

    /// Where the numbers of a part are written.
    pub(super) fn data(&self, part: usize) -> PathBuf {
        match self.single() {
            true => self.partial(),
            false => self.partial().join(file_name(part)),
        }
    }

    /// The name of a part's file, or array, in the finished result.
    pub(super) fn data_name(&self, part: usize, layout: &PartLayout) -> String {
        match (self.kind, self.target.file_name()) {
            (Kind::File | Kind::Tensors, Some(name)) => name.to_string_lossy().into_owned(),
            (Kind::Zarr, _) => array_name(part, layout),
            _ => file_name(part),
        }
    }

    /// The names of all parts' files, or arrays, in the finished result: no two alike but for capitals, which many file systems
    /// do not tell apart. One file is all parts'.
    pub(super) fn data_names(&self, layouts: &[PartLayout]) -> Vec<String> {
        let mut taken = HashSet::new();
        let names = layouts.iter().enumerate().map(|(k, layout)| {
            let mut name = self.data_name(k, layout);
            while !self.single() && !taken.insert(name.to_lowercase()) {
                name = format!("{k:04}-{name}");
            }
            name
        });
        names.collect()
    }

    /// The manifest's name, for results that have one in a file of its own.
    pub(super) fn manifest(&self) -> Option<PathBuf> {
        match self.kind {
            Kind::File => Some(with_suffix(&self.target, ".json")),
            Kind::Folder => Some(self.partial().join("index.json")),
            Kind::Zarr | Kind::Tensors => None,
        }
    }

    /// Bytes that the numbers of a result under way have on disk.
    pub(super) fn allocated(&self) -> u64 {
        match self.single() {
            true => allocated_bytes(&self.partial()),
            false => allocated_below(&self.partial()),
        }
    }
}

/// Whether the result of that name is cut into chunks of equal sides.
pub fn takes_chunks(path: &Path) -> bool {
    Place::new(path).is_ok_and(|place| place.kind == Kind::Zarr)
}

/// The ending of a result's name that says how it is stored; empty for a folder, `None` for a name that no result can have.
pub fn ending(path: &Path) -> Option<&'static str> {
    Some(match Place::new(path).ok()?.kind {
        Kind::File => "npy",
        Kind::Folder => "",
        Kind::Zarr => "zarr",
        Kind::Tensors => "safetensors",
    })
}

/// Bytes on disk of what is left of a run that was to write `path`; 0 where there is none.
pub fn allocated(path: &Path) -> u64 {
    Place::new(path).map_or(0, |place| place.allocated())
}

#[cfg(unix)]
fn allocated_bytes(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    // A sparse file has fewer than its length.
    std::fs::symlink_metadata(path).map_or(0, |meta| 512 * meta.blocks())
}

#[cfg(not(unix))]
fn allocated_bytes(path: &Path) -> u64 {
    std::fs::symlink_metadata(path).map_or(0, |meta| meta.len())
}

fn allocated_below(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    let bytes = |entry: std::fs::DirEntry| match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
        true => allocated_below(&entry.path()),
        false => allocated_bytes(&entry.path()),
    };
    entries.flatten().map(bytes).sum()
}

pub(super) fn is_hidden(name: &str) -> bool {
    name.starts_with('.')
}

pub(super) fn is_number(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_digit())
}

/// Whether a name is that of a plan, one on its way (`plan.json.SHARD-PROCESS`), or a list.
pub(super) fn is_beside(name: &str) -> bool {
    let on_its_way = name
        .strip_prefix("plan.json.")
        .and_then(|rest| rest.split_once('-'));
    name == "plan.json"
        || on_its_way.is_some_and(|(shard, process)| is_number(shard) && is_number(process))
        || name.strip_prefix("done").is_some_and(is_journal_suffix)
}

/// What may follow `done` in the name of a list: nothing, or `-K-of-N`.
fn is_journal_suffix(suffix: &str) -> bool {
    let shard = suffix
        .strip_prefix('-')
        .and_then(|rest| rest.split_once("-of-"));
    suffix.is_empty() || shard.is_some_and(|(k, n)| is_number(k) && is_number(n))
}

/// `0003.npy`.
fn file_name(part: usize) -> String {
    format!("{part:04}.npy")
}

/// A part's name as that of an array: what other characters than these mean differs between readers and file systems.
fn array_name(part: usize, layout: &PartLayout) -> String {
    let plain = |c: char| match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' | '=' | ',' => c,
        _ => '_',
    };
    let name: String = layout.name.chars().map(plain).collect();
    // Names that Zarr reserves, or that files beside it have, and those that some file systems change.
    let usual = name.starts_with(|c: char| c.is_ascii_alphanumeric()) && !name.ends_with('.');
    let taken = ["zarr.json", "plan.json", "done"]
        .iter()
        .any(|own| name.to_lowercase().starts_with(own));
    match name.chars().count() {
        1..=120 if name == layout.name && usual && !taken => name,
        // Two names may have become one.
        _ => format!("{part:04}-{}", name.chars().take(120).collect::<String>()),
    }
}

/// Whether a file begins as all of a kind do, as far as it was written: a failure may leave zeros in the place of bytes.
pub(super) fn begins_as(bytes: &[u8], beginning: &str) -> bool {
    let end = bytes.iter().position(|byte| *byte == 0);
    let written = &bytes[..end.unwrap_or(bytes.len())];
    let beginning = beginning.as_bytes();
    written.starts_with(beginning) || beginning.starts_with(written)
}

/// The refusal of a file that is not of hessblock.
pub(super) fn not_ours(path: &Path) -> Error {
    Error::file(
        path,
        format!(
            "exists and is not a result of hessblock, so it is not replaced even by {FORCE}: choose another name"
        ),
    )
}
