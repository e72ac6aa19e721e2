//! Files that appear under their name once they are whole: written under a temporary name beside it, made durable, renamed.
//!
//! The temporary name, `.NAME.PROCESS-NUMBER.partial`, is one that nothing has: the file is created anew and nothing is
//! written through a link or over another's file. It is locked while it is written, so that one which a killed process left
//! is known by its name and by being nobody's, and is removed by whoever writes the same file next.
//!
//! Folders above the file that are missing are made with it, and removed with it.

use super::folders::{self, Made};
use super::writing::Underway;
use super::{parent, sync_folder};
use crate::error::{Error, Result};
use std::ffi::OsStr;
use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A file that is written and has no final name yet; dropped before [`Whole::place`] it is removed.
#[derive(Debug)]
pub struct Whole {
    path: PathBuf,
    temporary: PathBuf,
    /// Open, and with it locked, until it has its name.
    file: Option<File>,
    /// The folders that were made for it; after the file is removed, they are empty and go too.
    folders: Made,
    _writing: Underway,
}

impl Whole {
    /// Writes a file that is to be called `path`, and makes it durable.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be written; nothing is left of it then.
    pub fn new(path: &Path, bytes: &[u8]) -> Result<Whole> {
        Whole::with(path, |file| file.write_all(bytes))
    }

    /// The same of what `write` writes.
    ///
    /// # Errors
    /// As [`Whole::new`].
    pub fn with(
        path: &Path,
        write: impl FnOnce(&mut File) -> std::io::Result<()>,
    ) -> Result<Whole> {
        let (_writing, _finishing) = (Underway::writing(), Underway::finishing());
        remove_leftovers(path);
        let folders = folders::make(&parent(path))?;
        let mut whole = Whole::create(path)?;
        whole.folders = folders;
        let written = match &mut whole.file {
            Some(file) => write(file).and_then(|()| file.sync_all()),
            None => Ok(()),
        };
        // The user knows the file by its own name.
        written.map_err(Error::io(path))?;
        Ok(whole)
    }

    fn create(path: &Path) -> Result<Whole> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let name = path.file_name().unwrap_or(OsStr::new("result"));
            let mut temporary = std::ffi::OsString::from(".");
            temporary.push(name);
            temporary.push(format!(".{}-{number}.partial", std::process::id()));
            let temporary = parent(path).join(temporary);
            let file = match File::create_new(&temporary) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => continue,
                file => file.map_err(Error::io(path))?,
            };
            // Where there are no locks, nothing is ever taken for a leftover.
            let taken = matches!(file.try_lock(), Err(TryLockError::WouldBlock));
            let whole = Whole {
                path: path.to_path_buf(),
                temporary,
                file: Some(file),
                folders: Made::default(),
                _writing: Underway::writing(),
            };
            // Whoever looked before it was locked took it for a leftover.
            if !taken && std::fs::symlink_metadata(&whole.temporary).is_ok() {
                return Ok(whole);
            }
        }
    }

    /// Gives it its name, in the place of what has that.
    ///
    /// # Errors
    /// [`Error::Io`] with the name.
    pub fn place(mut self) -> Result<()> {
        if cfg!(windows) {
            // It renames no file that is open.
            self.file = None;
        }
        std::fs::rename(&self.temporary, &self.path).map_err(Error::io(&self.path))?;
        // Dropped, it removes nothing.
        self.temporary = PathBuf::new();
        sync_folder(&parent(&self.path))
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        if !self.temporary.as_os_str().is_empty() {
            if cfg!(windows) {
                self.file = None;
            }
            // Nothing can be done about a failure here; the next run removes it.
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

/// Writes a file whole or not at all.
///
/// # Errors
/// [`Error::Io`] with the file.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    Whole::new(path, bytes)?.place()
}

/// Whether a name is one of a file that is being written, or was left by a process that was killed.
pub fn is_temporary(name: &str) -> bool {
    let numbers = name
        .strip_prefix('.')
        .and_then(|name| name.strip_suffix(".partial"));
    let numbers = numbers.and_then(|name| name.rsplit_once('.'));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    numbers
        .and_then(|(name, numbers)| Some((name, numbers.split_once('-')?)))
        .is_some_and(|(name, (process, number))| {
            !name.is_empty() && is_number(process) && is_number(number)
        })
}

/// Removes what killed processes left of a file of that name.
fn remove_leftovers(path: &Path) {
    let Some(name) = path.file_name().map(OsStr::to_string_lossy) else {
        return;
    };
    let Ok(entries) = std::fs::read_dir(parent(path)) else {
        return;
    };
    for entry in entries.flatten() {
        let own = entry.file_name();
        let own = own.to_string_lossy();
        let of_name = own
            .strip_prefix('.')
            .and_then(|own| own.strip_prefix(&*name));
        if !of_name.is_some_and(|rest| rest.starts_with('.')) || !is_temporary(&own) {
            continue;
        }
        let options = std::fs::OpenOptions::new().write(true).clone();
        let Ok(file) = super::open_to_write(&entry.path(), &options) else {
            continue;
        };
        match file.try_lock() {
            Ok(()) => _ = std::fs::remove_file(entry.path()),
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_appears_whole_and_a_dropped_one_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        write(&path, b"first").unwrap();
        let second = Whole::new(&path, b"second").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        assert!(names(folder.path()).iter().any(|name| is_temporary(name)));
        drop(second);
        assert_eq!(names(folder.path()), ["a.png"]);
        write(&path, b"third").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"third");
        assert_eq!(names(folder.path()), ["a.png"]);
        assert!(matches!(
            write(&path.join("below/a.png"), b""),
            Err(Error::Io { .. })
        ));
    }

    #[test]
    fn missing_folders_are_made_with_a_file_and_removed_with_one_that_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/c.png");
        drop(Whole::new(&path, b"dropped").unwrap());
        assert!(names(folder.path()).is_empty());
        let failed = Whole::with(&path, |_| Err(std::io::ErrorKind::StorageFull.into()));
        assert!(matches!(failed, Err(Error::Io { .. })));
        assert!(names(folder.path()).is_empty());
        write(&path, b"whole").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
    }

    #[test]
    fn leftovers_are_removed_and_what_is_being_written_or_is_the_users_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        let others = [
            ".a.png.partial",
            ".a.png.1-x.partial",
            ".ab.png.1-0.partial",
            "a.png.partial",
        ];
        for name in others.iter().chain(&[".a.png.1-0.partial"]) {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        let under_way = Whole::new(&path, b"under way").unwrap();
        write(&path, b"whole").unwrap();
        under_way.place().unwrap();
        let mut expected: Vec<&str> = others.into_iter().chain(["a.png"]).collect();
        expected.sort();
        assert_eq!(names(folder.path()), expected);
        for name in others {
            assert_eq!(
                std::fs::read(folder.path().join(name)).unwrap(),
                name.as_bytes()
            );
        }
        assert_eq!(std::fs::read(&path).unwrap(), b"under way");
    }

    #[cfg(unix)]
    #[test]
    fn nothing_is_written_through_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let precious = folder.path().join("precious");
        std::fs::write(&precious, "precious").unwrap();
        let link = |name: &str| {
            let path = folder.path().join(name);
            std::os::unix::fs::symlink(&precious, &path).unwrap();
            path
        };
        let process = std::process::id();
        for number in 0..2000 {
            link(&format!(".a.png.{process}-{number}.partial"));
        }
        link("a.png.partial");
        // The name itself is given to the new file: the link is replaced, not what it leads to.
        let path = link("a.png");
        write(&path, b"whole").unwrap();
        assert_eq!(std::fs::read(&precious).unwrap(), b"precious");
        assert!(std::fs::symlink_metadata(&path).unwrap().is_file());
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
    }
}
