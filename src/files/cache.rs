//! What is measured once and kept: small JSON files in one folder, each with the words that it depends on.
//!
//! Nothing depends on these files but time: one that cannot be read, or is of something else, is as if it were not there, and one
//! that cannot be written is measured again at the next start.

use crate::error::{Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The folder of what is measured once: `HESSBLOCK_CACHE` where that is set (nothing is kept where it is empty), else the
/// system's place for caches.
pub fn cache_folder() -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("HESSBLOCK_CACHE") {
        return (!folder.is_empty()).then(|| PathBuf::from(folder));
    }
    let variable = |name: &str| {
        let value = std::env::var_os(name).filter(|value| !value.is_empty());
        value.map(PathBuf::from)
    };
    let base = if cfg!(windows) {
        variable("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        variable("HOME").map(|home| home.join("Library/Caches"))
    } else {
        let own = variable("XDG_CACHE_HOME").filter(|path| path.is_absolute());
        own.or_else(|| Some(variable("HOME")?.join(".cache")))
    };
    Some(base?.join("hessblock"))
}

/// FNV-1a, to keep names of files short: nothing depends on collisions but a measurement.
pub(crate) fn hash<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let texts = texts.into_iter();
    let bytes = texts.flat_map(|text| text.bytes().chain([0]));
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", bytes.fold(0xcbf2_9ce4_8422_2325, step))
}

/// What a file holds.
#[derive(Serialize, Deserialize)]
struct Stored<T> {
    /// What names the file: a device, a driver.
    of: Vec<String>,
    /// What it is valid for: a version.
    version: String,
    #[serde(flatten)]
    found: T,
}

/// A place in the cache: what is kept of `of`, valid for `version`.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    of: Vec<String>,
    version: String,
    path: Option<PathBuf>,
}

impl Slot {
    /// The place of `kind` (the start of the file's name) in the cache's folder.
    pub fn new(kind: &str, of: &[&str], version: &str) -> Slot {
        Self::within(cache_folder().as_deref(), kind, of, version)
    }

    /// The same in a folder of choice; nowhere without one.
    fn within(folder: Option<&Path>, kind: &str, of: &[&str], version: &str) -> Slot {
        let name = format!("{kind}-{}.json", hash(of.iter().copied()));
        Slot {
            of: of.iter().map(|word| word.to_string()).collect(),
            version: version.into(),
            path: folder.map(|folder| folder.join(name)),
        }
    }

    /// What is there, where it is of the same words.
    pub fn load<T: DeserializeOwned>(&self) -> Option<T> {
        let text = super::read_text(self.path.as_ref()?).ok()?;
        let stored: Stored<T> = serde_json::from_str(&text).ok()?;
        (stored.of == self.of && stored.version == self.version).then_some(stored.found)
    }

    /// Keeps it, and says whether that could be; where it could not, `lost` says what becomes of it.
    pub fn store<T: Serialize>(&self, found: T, lost: &str) -> bool {
        let Some(path) = &self.path else {
            return false;
        };
        let stored = Stored {
            of: self.of.clone(),
            version: self.version.clone(),
            found,
        };
        let write = || -> Result<()> {
            let folder = path.parent().unwrap_or(path);
            std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
            let text = serde_json::to_string_pretty(&stored)
                .map_err(|error| Error::io(path)(error.into()))?;
            // Another process may read it, or measure too.
            super::whole::write(path, text.as_bytes())
        };
        let written = write();
        if let Err(error) = &written {
            tracing::warn!("{error}; {lost}");
        }
        written.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Found {
        rate: f64,
    }

    #[test]
    fn what_was_kept_is_found_again_and_what_is_damaged_or_of_another_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let at =
            |of: &[&str], version: &str| Slot::within(Some(folder.path()), "rates", of, version);
        let slot = at(&["cpu", "2"], "1");
        assert_eq!(slot.load::<Found>(), None);
        assert!(slot.store(Found { rate: 0.1 }, "lost"));
        assert_eq!(slot.load(), Some(Found { rate: 0.1 }));
        assert_eq!(at(&["cpu", "2"], "2").load::<Found>(), None);
        assert_eq!(at(&["cpu", "4"], "1").load::<Found>(), None);
        let path = slot.path.clone().unwrap();
        for damaged in ["", "{", "{\"of\":[],\"version\":\"1\"}", "[1]", "\u{0}"] {
            std::fs::write(&path, damaged).unwrap();
            assert_eq!(slot.load::<Found>(), None, "{damaged:?}");
        }
        slot.store(Found { rate: 0.2 }, "lost");
        assert_eq!(slot.load(), Some(Found { rate: 0.2 }));
        let files = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(files, 1);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "no folder").unwrap();
        for folder in [Some(file.as_path()), None] {
            let slot = Slot::within(folder, "rates", &["cpu"], "1");
            assert!(!slot.store(Found { rate: 0.1 }, "lost"));
            assert_eq!(slot.load::<Found>(), None);
        }
    }
}
