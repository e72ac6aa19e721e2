//! A folder for the files that are tried, in memory where the system has such a place.

use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

/// A folder that goes with the process's interest in it.
pub struct Scratch(tempfile::TempDir);

impl Scratch {
    pub fn new() -> Scratch {
        let memory = Path::new("/dev/shm");
        let folder = match memory.is_dir() {
            true => tempfile::tempdir_in(memory),
            false => tempfile::tempdir(),
        };
        Scratch(folder.expect("a folder for the files that are tried"))
    }

    /// The path of a file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file in it.
    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).expect("room for a small file");
        path
    }

    /// Removes what is in it.
    pub fn clear(&self) {
        for entry in std::fs::read_dir(self.0.path()).expect("the folder is there") {
            let path = entry.expect("an entry").path();
            let removed = match path.is_dir() {
                true => std::fs::remove_dir_all(&path),
                false => std::fs::remove_file(&path),
            };
            removed.expect("what is there is our own");
        }
    }
}

thread_local! {
    /// One for each thread: tests run side by side.
    static OWN: Scratch = Scratch::new();
}

/// Held by all, or by one that opens as many files as may be open.
static FILES: RwLock<()> = RwLock::new(());

/// Runs something with an empty folder.
pub fn with<T>(run: impl FnOnce(&Scratch) -> T) -> T {
    let _shared = FILES.read().unwrap_or_else(PoisonError::into_inner);
    empty(run)
}

/// The same for what may use up all files that can be open, for which others are then waiting.
pub fn alone<T>(run: impl FnOnce(&Scratch) -> T) -> T {
    let _all = FILES.write().unwrap_or_else(PoisonError::into_inner);
    empty(run)
}

fn empty<T>(run: impl FnOnce(&Scratch) -> T) -> T {
    OWN.with(|scratch| {
        scratch.clear();
        run(scratch)
    })
}
