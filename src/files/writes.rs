//! Writing, with the failures that disks have, for tests.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Failures that are put into writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteFaults {
    /// Every write takes half of what it is given, as a signal makes it.
    pub short_writes: bool,
    /// Bytes after which the disk is full: the write that reaches them takes what there is room for, and fails.
    pub full_after: Option<u64>,
}

/// How a result is written; counts what it writes where that is to fail.
#[derive(Clone, Debug, Default)]
pub(crate) struct Writes {
    faults: WriteFaults,
    written: Arc<AtomicU64>,
}

impl Writes {
    pub(crate) fn new(faults: WriteFaults) -> Writes {
        Writes {
            faults,
            written: Arc::default(),
        }
    }

    /// Writes all bytes at an offset.
    pub(crate) fn write_all_at(
        &self,
        file: &File,
        bytes: &[u8],
        offset: u64,
    ) -> std::io::Result<()> {
        if self.faults == WriteFaults::default() {
            return super::write_all_at(file, bytes, offset);
        }
        self.by_pieces(bytes, |piece, done| {
            super::write_all_at(file, piece, offset + done)
        })
    }

    /// Appends all bytes.
    pub(crate) fn append(&self, file: &mut File, bytes: &[u8]) -> std::io::Result<()> {
        if self.faults == WriteFaults::default() {
            return file.write_all(bytes);
        }
        self.by_pieces(bytes, |piece, _| file.write_all(piece))
    }

    fn by_pieces(
        &self,
        bytes: &[u8],
        mut write: impl FnMut(&[u8], u64) -> std::io::Result<()>,
    ) -> std::io::Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            let left = bytes.len() - done;
            let piece = match self.faults.short_writes {
                true => left.div_ceil(2),
                false => left,
            };
            let before = self.written.fetch_add(piece as u64, Ordering::Relaxed);
            let room = self
                .faults
                .full_after
                .map_or(u64::MAX, |full| full.saturating_sub(before));
            let taken = piece.min(usize::try_from(room).unwrap_or(usize::MAX));
            write(&bytes[done..done + taken], done as u64)?;
            if taken < piece {
                return Err(std::io::ErrorKind::StorageFull.into());
            }
            done += taken;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_writes_are_completed_and_a_full_disk_takes_what_it_can() {
        let mut file = tempfile::tempfile().unwrap();
        let read = |file: &File, count: usize| {
            let mut bytes = vec![0; count];
            crate::files::read_exact_at(file, &mut bytes, 0).map(|()| bytes)
        };
        let short = Writes::new(WriteFaults {
            short_writes: true,
            full_after: Some(18),
        });
        short.write_all_at(&file, b"0123456789", 3).unwrap();
        assert_eq!(read(&file, 13).unwrap()[3..], *b"0123456789");
        short.append(&mut file, b"0").unwrap_or_default();
        let error = short.write_all_at(&file, b"abcdefghijkl", 0).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
        assert_eq!(read(&file, 8).unwrap(), *b"abcdefg4");
    }
}
