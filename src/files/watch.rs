//! Files that a computation reads, watched so that none changes meanwhile: a result is of what they held at the beginning,
//! or there is none.
//!
//! Before anything is read each file's size and times of change are taken down ([`Watch::new`]). They are compared whenever
//! something is to be kept ([`Watch::check_times`], a few microseconds a file) and at the end. The time of the last change of
//! the file's record (`ctime`) is among them: no program sets that back. What changes a file without them, such as a memory
//! map that is not synced yet, is found by the hash, which is taken at the beginning and the end ([`Watch::check`]).

use super::hash::hash_noting;
use super::writing::NEVER;
use crate::error::{Error, Result};
use crate::setting::RESTART;
use std::collections::BTreeMap;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// Files that are read, and what they were when it began.
#[derive(Debug, Default)]
pub struct Watch {
    files: BTreeMap<PathBuf, Option<Stamp>>,
    /// SHA-256 of those that were hashed.
    hashes: Mutex<BTreeMap<PathBuf, String>>,
}

/// The size and times of a file: they change with its content and cost nothing to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    length: u64,
    modified: Option<SystemTime>,
    /// Seconds and nanoseconds of the last change of the file's record, where the system has it.
    changed: Option<(i64, i64)>,
}

impl Stamp {
    fn of(meta: &Metadata) -> Stamp {
        #[cfg(unix)]
        let changed = {
            use std::os::unix::fs::MetadataExt;
            Some((meta.ctime(), meta.ctime_nsec()))
        };
        #[cfg(not(unix))]
        let changed = None;
        Stamp {
            length: meta.len(),
            modified: meta.modified().ok(),
            changed,
        }
    }

    /// `None` where nothing is there: whoever opens it says so.
    fn at(path: &Path) -> Option<Stamp> {
        std::fs::metadata(path).ok().map(|meta| Stamp::of(&meta))
    }
}

impl Watch {
    /// Takes down what files are before they are read; of a folder, the `.npy` files in it.
    pub fn new(paths: impl IntoIterator<Item = PathBuf>) -> Watch {
        let mut watch = Watch::default();
        paths.into_iter().for_each(|path| watch.add(path));
        watch
    }

    fn add(&mut self, path: PathBuf) {
        if !path.is_dir() {
            let stamp = Stamp::at(&path);
            self.files.insert(path, stamp);
            return;
        }
        // One that cannot be read is refused by whoever reads it.
        for entry in std::fs::read_dir(&path).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|e| e == "npy") && path.is_file() {
                let stamp = Stamp::at(&path);
                self.files.insert(path, stamp);
            }
        }
    }

    /// The hash of a file or folder ([`super::hash::hash_file`]), which [`Watch::check`] then compares.
    ///
    /// # Errors
    /// [`Error::Io`] with the path.
    pub fn hash(&self, path: &Path) -> Result<String> {
        let mut note = |file: &Path, hash: &str| {
            if self.files.contains_key(file) {
                self.hashes().insert(file.to_path_buf(), hash.to_string());
            }
        };
        hash_noting(path, &mut note, &NEVER)
    }

    fn hashes(&self) -> MutexGuard<'_, BTreeMap<PathBuf, String>> {
        self.hashes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Compares sizes and times with those of the beginning.
    ///
    /// # Errors
    /// [`Error::File`] with the file that was changed.
    pub fn check_times(&self) -> Result<()> {
        for (path, then) in &self.files {
            if Stamp::at(path) != *then {
                return Err(changed(path));
            }
        }
        Ok(())
    }

    /// Compares the hashes of the files that were hashed.
    ///
    /// # Errors
    /// [`Error::File`] with the file that was changed; [`Error::Io`] where one cannot be read any more;
    /// [`Error::Interrupted`] once `cancel` is set.
    pub fn check_hashes(&self, cancel: &AtomicBool) -> Result<()> {
        let hashed = self.hashes().clone();
        for (path, then) in hashed {
            if hash_noting(&path, &mut |_, _| {}, cancel)? != then {
                return Err(changed(&path));
            }
        }
        Ok(())
    }

    /// Takes the present times for those of the beginning, as a change that has none leaves them.
    #[cfg(test)]
    pub(crate) fn forget_times(&mut self) {
        for (path, stamp) in &mut self.files {
            *stamp = Stamp::at(path);
        }
    }

    /// As [`Watch::check_times`], then [`Watch::check_hashes`].
    ///
    /// # Errors
    /// As [`Watch::check_times`] and [`Watch::check_hashes`].
    pub fn check(&self) -> Result<()> {
        self.check_times()?;
        self.check_hashes(&NEVER)
    }
}

fn changed(path: &Path) -> Error {
    Error::file(
        path,
        format!(
            "was changed while it was being read, so that what was computed is of no one state of it: leave it alone, and run again, with {RESTART} where tiles were kept"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::time::Duration;

    #[test]
    fn every_change_of_a_file_is_found_and_reading_it_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npy");
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let age = |path: &Path| {
            let file = File::options().write(true).open(path).unwrap();
            file.set_modified(old).unwrap();
        };
        let changes: [(&str, &dyn Fn()); 5] = [
            ("other bytes", &|| write("other")),
            ("more bytes", &|| write("more bytes")),
            ("other bytes of the old time", &|| {
                write("other");
                age(&path);
            }),
            ("it is gone", &|| std::fs::remove_file(&path).unwrap()),
            ("another of that name", &|| {
                let other = folder.path().join("other");
                std::fs::write(&other, "other").unwrap();
                age(&other);
                std::fs::rename(&other, &path).unwrap();
            }),
        ];
        for (what, change) in changes {
            write("bytes");
            age(&path);
            let watch = Watch::new([path.clone()]);
            std::fs::read(&path).unwrap();
            watch.check().unwrap();
            // Times of change have the resolution of the kernel's clock.
            std::thread::sleep(Duration::from_millis(30));
            change();
            let error = watch.check_times().expect_err(what).to_string();
            assert!(
                error.contains("x.npy") && error.contains("changed while"),
                "{what}: {error}"
            );
        }
    }

    #[test]
    fn hashes_find_what_times_do_not_tell() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npy");
        std::fs::write(&path, "bytes").unwrap();
        let mut watch = Watch::new([path.clone()]);
        watch.hash(&path).unwrap();
        watch.check().unwrap();
        std::fs::write(&path, "other").unwrap();
        watch.forget_times();
        watch.check_times().unwrap();
        assert!(watch.check().unwrap_err().to_string().contains("x.npy"));
    }

    #[test]
    fn of_a_folder_the_arrays_are_watched_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["0.npy", "1.npy", "notes"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        let watch = Watch::new([folder.path().to_path_buf()]);
        watch.hash(folder.path()).unwrap();
        // Such as a result that is written there.
        std::fs::create_dir(folder.path().join("h.partial")).unwrap();
        std::fs::write(folder.path().join("notes"), "more").unwrap();
        std::fs::write(folder.path().join("2.npy"), "more").unwrap();
        watch.check().unwrap();
        std::thread::sleep(Duration::from_millis(30));
        std::fs::write(folder.path().join("1.npy"), "2.npy").unwrap();
        assert!(watch.check().unwrap_err().to_string().contains("1.npy"));
        let names = watch.files.keys().map(|path| path.file_name().unwrap());
        assert_eq!(names.collect::<Vec<_>>(), ["0.npy", "1.npy"]);
    }
}
