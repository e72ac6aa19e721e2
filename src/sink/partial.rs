//! A result under way: the names of its files under `NAME.partial`, the lock on them, and their end.
//!
//! A single file `x.npy` grows as `x.npy.partial`, with `x.npy.partial.plan.json` and `x.npy.partial.done`
//! beside it, and ends as `x.npy` and `x.npy.json`. A folder `x` grows as `x.partial`, which holds
//! `0000.npy`…, `plan.json` and `done`, and ends as `x` with `0000.npy`… and `index.json`.

use crate::error::{Error, Result};
use crate::files::{is_writable, parent, sync_folder, with_suffix};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Where a result goes, and what is there already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Final name.
    pub(super) target: PathBuf,
    /// One `.npy` file, not a folder.
    pub(super) single: bool,
    /// Replace an older result.
    pub(super) force: bool,
}

impl Place {
    /// Reads a path: `.npy` is a file, no extension or a `/` at the end a folder.
    pub(super) fn new(path: &Path) -> Result<Place> {
        let slash = path.as_os_str().to_string_lossy().ends_with(['/', '\\']);
        // Collecting the components drops the slash, to which no suffix could be added.
        let target: PathBuf = path.components().collect();
        let Some(name) = target.file_name() else {
            return Err(Error::file(
                path,
                "is no name for a result: give FILE.npy or the name of a new folder",
            ));
        };
        let extension = Path::new(name).extension();
        let single = !slash && extension.is_some_and(|e| e.eq_ignore_ascii_case("npy"));
        if let Some(extension) = extension.filter(|_| !single && !slash) {
            return Err(Error::file(
                path,
                format!(
                    "results of type .{} are not written: name a FILE.npy (one part), or a folder without \
                     extension (or with / at its end)",
                    extension.display()
                ),
            ));
        }
        Ok(Place {
            target,
            single,
            force: false,
        })
    }

    /// Refuses what can be known before work starts.
    pub(super) fn check(&self) -> Result<()> {
        let folder = parent(&self.target);
        match std::fs::metadata(&folder) {
            Ok(meta) if meta.is_dir() => {}
            Ok(_) => return Err(Error::file(&folder, "is not a folder")),
            Err(_) => {
                return Err(Error::file(
                    &folder,
                    format!(
                        "there is no such folder to write {} in: make it first",
                        self.target.display()
                    ),
                ));
            }
        }
        if !is_writable(&folder) {
            return Err(Error::file(
                &folder,
                format!(
                    "the folder cannot be written, so {} cannot be made there: choose another",
                    self.target.display()
                ),
            ));
        }
        self.check_target()
    }

    /// Refuses a target that may not be replaced.
    fn check_target(&self) -> Result<()> {
        let present = |path: &Path| std::fs::symlink_metadata(path).is_ok();
        if self.single {
            let index = with_suffix(&self.target, ".json");
            // A file of the user's may have the name that the result or its JSON takes.
            if present(&index) && !is_index(&index) {
                return Err(not_ours(&index));
            }
            if present(&self.partial()) && !present(&self.beside("done")) {
                return Err(not_ours(&self.partial()));
            }
        }
        let Ok(meta) = std::fs::symlink_metadata(&self.target) else {
            return Ok(());
        };
        if !self.force {
            return Err(Error::file(
                &self.target,
                "exists already: choose another name, remove it, or replace it with --force",
            ));
        }
        let ours = match (self.single, meta.is_dir()) {
            (true, directory) => !directory && is_index(&with_suffix(&self.target, ".json")),
            (false, true) => {
                let empty = std::fs::read_dir(&self.target).is_ok_and(|mut d| d.next().is_none());
                empty
                    || (is_index(&self.target.join("index.json"))
                        && check_leftover(&self.target).is_ok())
            }
            (false, false) => false,
        };
        if ours {
            Ok(())
        } else {
            Err(not_ours(&self.target))
        }
    }

    fn partial(&self) -> PathBuf {
        with_suffix(&self.target, ".partial")
    }

    /// A file beside the data, by its name in a folder.
    fn beside(&self, name: &str) -> PathBuf {
        match self.single {
            true => with_suffix(&self.target, &format!(".partial.{name}")),
            false => self.partial().join(name),
        }
    }

    /// Where the numbers of a part are written.
    pub(super) fn data(&self, part: usize) -> PathBuf {
        match self.single {
            true => self.partial(),
            false => self.partial().join(file_name(part)),
        }
    }

    /// The name of a part's file in the finished result.
    pub(super) fn data_name(&self, part: usize) -> String {
        match (self.single, self.target.file_name()) {
            (true, Some(name)) => name.to_string_lossy().into_owned(),
            _ => file_name(part),
        }
    }

    fn manifest(&self) -> PathBuf {
        match self.single {
            true => with_suffix(&self.target, ".json.partial"),
            false => self.partial().join("index.json"),
        }
    }

    /// Clears a leftover and starts anew.
    pub(super) fn start(&self, plan: &str) -> Result<Partial> {
        self.check()?;
        if !self.single {
            let folder = self.partial();
            match std::fs::create_dir(&folder) {
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => check_leftover(&folder)?,
                made => made.map_err(Error::io(&folder))?,
            }
        }
        let done = self.beside("done");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .append(true)
            .open(&done)
            .map_err(Error::io(&done))?;
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => {
                return Err(Error::file(
                    self.partial(),
                    "is being written by another run: wait for it or choose another name",
                ));
            }
            // File systems without locks: the check is a courtesy.
            Err(TryLockError::Error(_)) | Ok(()) => {}
        }
        lock.set_len(0).map_err(Error::io(&done))?;
        let partial = Partial {
            place: self.clone(),
            done: Some(Mutex::new(lock)),
            lines: AtomicUsize::new(0),
            keep: false,
        };
        if self.single {
            for leftover in [self.partial(), self.manifest()] {
                remove_if_there(&leftover)?;
            }
        } else {
            let folder = self.partial();
            for entry in std::fs::read_dir(&folder).map_err(Error::io(&folder))? {
                let path = entry.map_err(Error::io(&folder))?.path();
                if path != done {
                    remove_if_there(&path)?;
                }
            }
        }
        write_synced(&self.beside("plan.json"), plan.as_bytes())?;
        Ok(partial)
    }
}

/// `0003.npy`.
fn file_name(part: usize) -> String {
    format!("{part:04}.npy")
}

fn not_ours(path: &Path) -> Error {
    Error::file(
        path,
        "exists and is not a result of hessblock, so it is not replaced even by --force: choose another name",
    )
}

/// Whether a file is the index of a result: JSON with parts and their provenance.
fn is_index(path: &Path) -> bool {
    let value: Option<serde_json::Value> = std::fs::read(path)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok());
    value.is_some_and(|v| v["parts"].is_array() && v["provenance"].is_object())
}

/// Refuses a folder `NAME.partial` that holds anything but what this module writes.
fn check_leftover(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
        let name = entry.map_err(Error::io(folder))?.file_name();
        let name = name.to_string_lossy();
        let array = name
            .strip_suffix(".npy")
            .is_some_and(|stem| stem.chars().all(|c| c.is_ascii_digit()));
        if !array && !["index.json", "plan.json", "done"].contains(&name.as_ref()) {
            return Err(Error::file(
                folder,
                format!("holds {name:?}, so it is not the leftover of a run: move it away"),
            ));
        }
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path)(e)),
        _ => Ok(()),
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    File::create(path)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .map_err(Error::io(path))
}

/// A result under way; dropped before [`Partial::finish`] it removes its files.
#[derive(Debug)]
pub(super) struct Partial {
    place: Place,
    done: Option<Mutex<File>>,
    /// Lines in the list of done tiles.
    lines: AtomicUsize,
    keep: bool,
}

impl Partial {
    /// Appends a line to the list of done tiles.
    pub(super) fn done(&self, line: &str) -> Result<()> {
        if let Some(done) = &self.done {
            let mut file = done.lock().unwrap_or_else(PoisonError::into_inner);
            // One write, so that a line is whole or absent.
            file.write_all(format!("{line}\n").as_bytes())
                .map_err(Error::io(self.place.beside("done")))?;
            self.lines.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Tiles and vectors in the list of what is done.
    pub(super) fn lines(&self) -> usize {
        self.lines.load(Ordering::Relaxed)
    }

    /// Leaves everything where it is, durably, and says where; the data must be synced already.
    pub(super) fn keep(mut self) -> Result<PathBuf> {
        let list = self.place.beside("done");
        if let Some(done) = self.done.take() {
            let file = done.into_inner().unwrap_or_else(PoisonError::into_inner);
            file.sync_all().map_err(Error::io(&list))?;
        }
        sync_folder(&parent(&list))?;
        sync_folder(&parent(&self.place.target))?;
        self.keep = true;
        Ok(self.place.partial())
    }

    /// Writes the manifest and gives everything its final name; the data must be synced already.
    pub(super) fn finish(mut self, manifest: &str) -> Result<()> {
        let place = self.place.clone();
        if let Err(error) = place.check_target() {
            // Someone made the target meanwhile: hours of work are not thrown away for that.
            self.keep = true;
            return Err(error);
        }
        write_synced(&place.manifest(), manifest.as_bytes())?;
        self.done = None;
        remove_if_there(&place.beside("plan.json"))?;
        remove_if_there(&place.beside("done"))?;
        let rename =
            |from: &Path, to: &Path| std::fs::rename(from, to).map_err(Error::io(to.to_path_buf()));
        if place.single {
            // The array last: where it is, the manifest is too.
            rename(&place.manifest(), &with_suffix(&place.target, ".json"))?;
            rename(&place.partial(), &place.target)?;
        } else {
            sync_folder(&place.partial())?;
            // A folder is not renamed over another: the older result steps aside until the new one stands.
            let old = with_suffix(&place.target, ".old.partial");
            let replaced = place.target.exists();
            if replaced {
                if old.exists() {
                    std::fs::remove_dir_all(&old).map_err(Error::io(&old))?;
                }
                rename(&place.target, &old)?;
            }
            if let Err(error) = rename(&place.partial(), &place.target) {
                if replaced {
                    rename(&old, &place.target)?;
                }
                return Err(error);
            }
            if replaced {
                std::fs::remove_dir_all(&old).map_err(Error::io(&old))?;
            }
        }
        self.keep = true;
        sync_folder(&parent(&place.target))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        self.done = None;
        let place = &self.place;
        // Nothing can be done about a failure here; the next run clears what is left.
        if place.single {
            for path in [
                place.partial(),
                place.manifest(),
                place.beside("plan.json"),
                place.beside("done"),
            ] {
                let _ = std::fs::remove_file(path);
            }
        } else {
            let _ = std::fs::remove_dir_all(place.partial());
        }
    }
}
