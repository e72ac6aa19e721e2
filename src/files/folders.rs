//! The folders above an output: checked before any work starts, made when the output begins.

use super::{is_there, is_writable, parent, sync_folder};
use crate::error::{Error, Result};
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

/// Folders that were made for an output, outermost first. Dropped, it removes those that hold nothing.
///
/// A folder that holds the output, or anything else, is not empty and stays; so nothing has to be told that the output was
/// written, and a command that fails before it writes leaves no folder.
#[derive(Debug, Default)]
#[must_use = "dropped, it removes the folders that are empty"]
pub struct Made(Vec<PathBuf>);

impl Drop for Made {
    fn drop(&mut self) {
        for folder in self.0.iter().rev() {
            // Nothing can be done about a failure here: the folder is empty.
            let _ = std::fs::remove_dir(folder);
        }
    }
}

/// The nearest path at or above `folder` that exists, if only as a link that leads nowhere.
pub fn nearest(folder: &Path) -> PathBuf {
    folder
        .ancestors()
        .map(|ancestor| match ancestor.as_os_str().is_empty() {
            true => Path::new("."),
            false => ancestor,
        })
        .find(|ancestor| is_there(ancestor))
        .unwrap_or(Path::new("."))
        .to_path_buf()
}

/// Checks that the folder that holds `target` is there and can be written, or can be made.
///
/// # Errors
/// [`Error::File`] if the nearest path above `target` that exists is not a folder, or is one that cannot be written.
pub fn check(target: &Path) -> Result<()> {
    let folder = parent(target);
    let nearest = nearest(&folder);
    match std::fs::metadata(&nearest) {
        Ok(meta) if meta.is_dir() => {}
        Ok(_) => {
            return Err(Error::file(
                &nearest,
                format!(
                    "is not a folder, so {} cannot be written below it: choose another name",
                    target.display()
                ),
            ));
        }
        Err(_) => {
            return Err(Error::file(
                &nearest,
                format!(
                    "is a link that leads to no folder, so {} cannot be written below it: mend the link or choose another \
                     name",
                    target.display()
                ),
            ));
        }
    }
    if !is_writable(&nearest) {
        return Err(Error::file(
            &nearest,
            format!(
                "the folder cannot be written, so {} cannot be made there: choose another",
                target.display()
            ),
        ));
    }
    Ok(())
}

/// Makes `folder` and those above it that are missing, and makes them durable.
///
/// # Errors
/// [`Error::Io`] with the folder that cannot be made; those that were made before it are removed.
pub fn make(folder: &Path) -> Result<Made> {
    /// The number of attempts at most.
    const TRIES: usize = 8;
    let mut made = make_once(folder);
    for _ in 1..TRIES {
        match &made {
            // Another process made a folder above it, had no use for it, and removed it meanwhile.
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                made = make_once(folder);
            }
            _ => break,
        }
    }
    made
}

fn make_once(folder: &Path) -> Result<Made> {
    let mut missing: Vec<&Path> = folder
        .ancestors()
        .take_while(|ancestor| !ancestor.as_os_str().is_empty() && !is_there(ancestor))
        .collect();
    missing.reverse();
    let mut made = Made::default();
    let target = folder;
    for folder in missing {
        match std::fs::create_dir(folder) {
            Ok(()) => {
                // Without it a path that goes up from it leads nowhere.
                if !goes_up_from(target, folder) {
                    made.0.push(folder.to_path_buf());
                }
                sync_folder(&parent(folder))?;
            }
            // Another process made it meanwhile; or the path goes on from here with `..`.
            Err(_) if folder.is_dir() => {}
            Err(error) => return Err(Error::io(folder)(error)),
        }
    }
    Ok(made)
}

/// Whether a path goes on with `..` from one of its folders.
fn goes_up_from(path: &Path, folder: &Path) -> bool {
    let rest = path.strip_prefix(folder);
    let next = rest.ok().and_then(|rest| rest.components().next());
    next == Some(Component::ParentDir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_folders_are_made_and_empty_ones_are_removed_again() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        assert_eq!(nearest(&at("a/b/c")), folder.path());
        assert_eq!(nearest(Path::new("no-such-folder/b")), Path::new("."));
        check(&at("a/b/c/out.npy")).unwrap();
        assert!(!is_there(&at("a")));
        drop(make(&at("a/b/c")).unwrap());
        assert!(!is_there(&at("a")));
        let made = make(&at("a/b/c")).unwrap();
        std::fs::write(at("a/b/kept"), "").unwrap();
        drop(made);
        assert!(is_there(&at("a/b/kept")) && !is_there(&at("a/b/c")));
        // A folder that was there before is not removed, though it is empty.
        std::fs::create_dir(at("own")).unwrap();
        drop(make(&at("own/a")).unwrap());
        drop(make(&at("own")).unwrap());
        assert!(is_there(&at("own")) && !is_there(&at("own/a")));
        // A path that goes up again leads through a folder that stays for as long as the path is used.
        #[cfg(unix)]
        {
            let made = make(&at("x/../y")).unwrap();
            assert!(at("x").is_dir() && at("y").is_dir());
            drop(made);
            assert!(at("x").is_dir() && !is_there(&at("y")));
        }
    }

    #[test]
    fn a_file_above_the_output_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "precious").unwrap();
        let text = check(&file.join("a/out.npy")).unwrap_err().to_string();
        assert!(text.contains("not a folder"), "{text}");
        assert!(matches!(make(&file.join("a")), Err(Error::Io { .. })));
        assert_eq!(std::fs::read(&file).unwrap(), b"precious");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_followed_to_a_folder_and_refused_where_it_leads_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::os::unix::fs::symlink(at("real"), at("link")).unwrap();
        let text = check(&at("link/a/out.npy")).unwrap_err().to_string();
        assert!(text.contains("leads to no folder"), "{text}");
        assert!(make(&at("link/a")).is_err() && !is_there(&at("real")));
        std::fs::create_dir(at("real")).unwrap();
        check(&at("link/a/out.npy")).unwrap();
        let made = make(&at("link/a")).unwrap();
        assert!(at("real/a").is_dir());
        drop(made);
        assert!(!is_there(&at("real/a")));
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_cannot_be_written_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let locked = folder.path().join("locked");
        std::fs::create_dir(&locked).unwrap();
        std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o555)).unwrap();
        // The superuser writes anywhere.
        let refused = check(&locked.join("a/out.npy"));
        match std::fs::write(locked.join("probe"), "") {
            Ok(()) => refused.unwrap(),
            Err(_) => {
                let text = refused.unwrap_err().to_string();
                assert!(text.contains("cannot be written"), "{text}");
                assert!(make(&locked.join("a")).is_err());
            }
        }
    }
}
