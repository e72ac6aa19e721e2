//! SHA-256 of files and folders, for provenance.

use super::writing::NEVER;
use crate::error::{Error, Result};
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

/// SHA-256 of a file's bytes, or of a folder, as lower-case hexadecimal.
///
/// A folder's hash is that of one line `hash  name\n` per file below it, sorted by name (with `/` between
/// folders): what `sha256sum $(find * -type f | LC_ALL=C sort) | sha256sum` prints. Memory stays below 1 MiB
/// whatever the size.
///
/// # Errors
/// [`Error::Io`] with the path.
pub fn hash_file(path: &Path) -> Result<String> {
    hash_noting(path, &mut |_, _| {}, &NEVER)
}

/// As [`hash_file`]; `note` is called with each file that is read, and its hash.
///
/// # Errors
/// [`Error::Io`] with the path; [`Error::Interrupted`] once `cancel` is set.
pub(crate) fn hash_noting(
    path: &Path,
    note: &mut dyn FnMut(&Path, &str),
    cancel: &AtomicBool,
) -> Result<String> {
    let meta = std::fs::metadata(path).map_err(Error::io(path))?;
    let mut hasher = Sha256::new();
    if meta.is_dir() {
        for name in files_below(path)? {
            let text = name
                .iter()
                .map(|part| part.to_string_lossy())
                .collect::<Vec<_>>()
                .join("/");
            hasher.update(format!(
                "{}  {text}\n",
                hash_noting(&path.join(&name), note, cancel)?
            ));
        }
    } else {
        let (mut file, _) = super::open(path)?;
        let mut buffer = vec![0; 1 << 18];
        loop {
            super::writing::check(cancel)?;
            let read = file.read(&mut buffer).map_err(Error::io(path))?;
            if read == 0 {
                break;
            }
            hasher.update(&buffer[..read]);
        }
        let hash = hexadecimal(hasher);
        note(path, &hash);
        return Ok(hash);
    }
    Ok(hexadecimal(hasher))
}

/// What a hasher has come to, as lower-case hexadecimal.
pub(crate) fn hexadecimal(hasher: Sha256) -> String {
    let digest = hasher.finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Names of all files below a folder, relative to it, sorted.
fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut names = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(below) = open.pop() {
        let here = folder.join(&below);
        for entry in std::fs::read_dir(&here).map_err(Error::io(&here))? {
            let entry = entry.map_err(Error::io(&here))?;
            let name = below.join(entry.file_name());
            // The entry's own type: links to folders are not followed, so there are no cycles.
            let kind = entry.file_type().map_err(Error::io(entry.path()))?;
            if kind.is_dir() {
                open.push(name);
            } else if entry.path().is_file() {
                names.push(name);
            }
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashing_stops_when_it_is_cancelled() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), "abc").unwrap();
        let stopped = hash_noting(folder.path(), &mut |_, _| {}, &AtomicBool::new(true));
        assert!(matches!(stopped, Err(Error::Interrupted)));
    }

    #[test]
    fn hashes_are_those_of_sha256sum() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), "abc").unwrap();
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash_file(&folder.path().join("a")).unwrap(), abc);
        std::fs::create_dir(folder.path().join("b")).unwrap();
        std::fs::write(folder.path().join("b/c"), "abc").unwrap();
        let mut lines = Sha256::new();
        lines.update(format!("{abc}  a\n{abc}  b/c\n"));
        let expected: String = lines
            .finalize()
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        assert_eq!(hash_file(folder.path()).unwrap(), expected);
        assert!(matches!(
            hash_file(Path::new("/no/such")),
            Err(Error::Io { .. })
        ));
    }
}
