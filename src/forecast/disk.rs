//! How fast a folder's disk takes what is written.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Bytes of a piece, bytes written at most, and seconds after which no more is begun.
const PIECE: usize = 4 << 20;
const MOST: usize = 64 << 20;
const SECONDS: f64 = 0.25;

/// Removes a file when it goes.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        // What cannot be removed is left: the forecast is no reason to fail.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Bytes per second that the disk of a folder takes, durable at the end, from a short write of 4 to 64 MiB, removed at once;
/// `None` where nothing can be written there, or is not to be: less than ten times as much is free.
pub fn write_rate(folder: &Path) -> Option<f64> {
    let free = crate::files::free_bytes(folder);
    if free.is_some_and(|free| free < 10 * MOST as u64) {
        return None;
    }
    let path = folder.join(format!(".hessblock-{}.probe", std::process::id()));
    let mut file = File::create_new(&path).ok()?;
    let removed = Removed(path);
    // Where a file lives on without a name, nothing is left of it however this process ends.
    let _removed = (!cfg!(unix)).then_some(removed);
    let piece: Vec<u8> = (0..PIECE).map(|k| (k % 251) as u8).collect();
    let clock = Instant::now();
    let mut written = 0;
    while written < MOST && clock.elapsed().as_secs_f64() < SECONDS {
        file.write_all(&piece).ok()?;
        written += PIECE;
    }
    file.sync_data().ok()?;
    Some(written as f64 / clock.elapsed().as_secs_f64().max(1e-9))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_tried_and_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        assert!(write_rate(folder.path()).is_none_or(|rate| rate > 0.0));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert_eq!(write_rate(&folder.path().join("missing")), None);
    }
}
