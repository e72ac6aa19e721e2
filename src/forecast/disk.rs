//! How fast a folder's disk takes what is written.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Bytes of the first piece, each one twice the last; bytes written at most, and seconds after which no more is begun.
const PIECE: u64 = 1 << 20;
const MOST: u64 = 64 << 20;
const SECONDS: f64 = 0.25;

/// Removes a file when it goes.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        // What cannot be removed is left: the forecast is no reason to fail.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Bytes per second that the disk of a folder takes, durable at the end, for a result of so many bytes: from a short write of no
/// more than these, and of 64 MiB at most, removed at once; `None` where nothing can be written there, or is not to be: less than
/// ten times as much is free.
pub fn write_rate(folder: &Path, bytes: u64) -> Option<f64> {
    let bytes = bytes.clamp(1, MOST);
    let free = crate::files::free_bytes(folder);
    if free.is_some_and(|free| free < 10 * bytes) {
        return None;
    }
    let path = folder.join(format!(".hessblock-{}.probe", std::process::id()));
    let mut file = File::create_new(&path).ok()?;
    let removed = Removed(path);
    // Where a file lives on without a name, nothing is left of it however this process ends.
    let _removed = (!cfg!(unix)).then_some(removed);
    rate_of(bytes, &mut |piece| {
        file.write_all(piece)?;
        file.sync_data()
    })
}

/// Bytes per second of the quickest piece: of those that are made durable one by one, the largest waits the least beside
/// writing. One piece is written whatever it takes.
fn rate_of(bytes: u64, write: &mut dyn FnMut(&[u8]) -> std::io::Result<()>) -> Option<f64> {
    let (clock, mut left, mut size) = (Instant::now(), bytes, PIECE);
    let mut best = None;
    while left > 0 && (best.is_none() || clock.elapsed().as_secs_f64() < SECONDS) {
        let own = size.min(left);
        let piece: Vec<u8> = (0..own).map(|k| (k % 251) as u8).collect();
        let start = Instant::now();
        write(&piece).ok()?;
        let rate = own as f64 / start.elapsed().as_secs_f64().max(1e-9);
        best = Some(best.map_or(rate, |best: f64| best.max(rate)));
        (left, size) = (left - own, 2 * size);
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_tried_and_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        assert!(write_rate(folder.path(), 3 << 20).is_none_or(|rate| rate > 0.0));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert_eq!(write_rate(&folder.path().join("missing"), 3 << 20), None);
    }

    #[test]
    fn no_more_is_written_than_the_result_has_and_a_slow_disk_is_tried_once() {
        let pieces = |bytes: u64, pause: u64| {
            let mut pieces = Vec::new();
            let rate = rate_of(bytes, &mut |piece| {
                std::thread::sleep(std::time::Duration::from_millis(pause));
                pieces.push(piece.len());
                Ok(())
            });
            assert!(rate.is_some_and(|rate| rate > 0.0));
            pieces
        };
        assert_eq!(pieces(700, 0), [700]);
        assert_eq!(pieces((3 << 20) + 5, 0), [1 << 20, 2 << 20, 5]);
        assert_eq!(pieces(64 << 20, 260), [1 << 20]);
        let refused = rate_of(1, &mut |_| Err(std::io::ErrorKind::StorageFull.into()));
        assert_eq!(refused, None);
    }
}
