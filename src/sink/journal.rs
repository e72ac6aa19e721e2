//! The list of what is done: append-only, a line per tile, each with its own checksum.
//!
//! A line is `part rows.start rows.end columns.start columns.end mirrored checksum [places…] =crc`, or a JSON object
//! `{…} =crc`: the first says which shard on which device writes the list, later ones what changed on the way. It is
//! appended once the tile's numbers are written. A line that a failure tore or emptied does not match its own CRC and
//! counts for nothing; one whose numbers a power failure took is found by the tile's checksum. So a tile is done if, and
//! only if, its line is whole and its numbers are what the line says.

use super::layout::PartLayout;
use super::place::{begins_as, not_ours};
use super::tile::Tile;
use crate::error::{Error, Result};
use crate::files::open_to_write;
use crate::files::writes::Writes;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The header of a list, as far as it was written.
const BEGINNING: &str = "{\"shard\":";

/// A tile that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) tile: Tile,
    /// Whether its transpose was written too.
    pub(super) mirrored: bool,
    /// CRC-32 of its numbers, row-major and little endian.
    pub(super) checksum: u32,
    /// Where it lies, for a store that chooses ([`super::store::Store::write`]).
    pub(super) places: Vec<u64>,
}

impl Entry {
    /// Entries of the part that it stands for.
    pub(super) fn entries(&self) -> usize {
        self.tile.entries() * if self.mirrored { 2 } else { 1 }
    }

    /// Whether it can be a tile of that part: a line may come from elsewhere, and what is read for it goes by its ranges.
    pub(super) fn fits(&self, layout: &PartLayout) -> bool {
        let Tile { rows, columns, .. } = &self.tile;
        let within =
            |range: &Range<usize>, extent: usize| range.start < range.end && range.end <= extent;
        within(rows, layout.row_count())
            && within(columns, layout.column_count())
            && (!self.mirrored || layout.columns.as_ref() == Some(&layout.rows))
    }

    fn line(&self) -> String {
        let Tile {
            part,
            rows,
            columns,
        } = &self.tile;
        let mut line = format!(
            "{part} {} {} {} {} {} {:08x}",
            rows.start,
            rows.end,
            columns.start,
            columns.end,
            u8::from(self.mirrored),
            self.checksum
        );
        for place in &self.places {
            line += &format!(" {place}");
        }
        line
    }

    fn parse(line: &str) -> Option<Entry> {
        let mut words = line.split(' ');
        let mut number = || words.next()?.parse::<usize>().ok();
        let part = number()?;
        let rows = number()?..number()?;
        let columns = number()?..number()?;
        let mirrored = number()? == 1;
        let checksum = u32::from_str_radix(words.next()?, 16).ok()?;
        let places = words.map(|word| word.parse().ok()).collect::<Option<_>>()?;
        Some(Entry {
            tile: Tile {
                part,
                rows,
                columns,
            },
            mirrored,
            checksum,
            places,
        })
    }
}

/// What a list says.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Its JSON lines, in order; the first is the header.
    pub(super) notes: Vec<serde_json::Value>,
    /// Its tiles; of two of the same place the later holds.
    pub(super) entries: Vec<Entry>,
}

/// A list that is being written; locked against other processes while it lives.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: Mutex<File>,
    writes: Writes,
}

impl Journal {
    /// Opens or makes a list, and reads it.
    ///
    /// # Errors
    /// [`Error::File`] where another process has it, naming `under_way`.
    pub(super) fn open(
        path: &Path,
        under_way: &Path,
        writes: Writes,
    ) -> Result<(Journal, Contents)> {
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true);
        // Windows empties no file that is opened to append.
        match cfg!(windows) {
            true => options.write(true),
            false => options.append(true),
        };
        let mut file = open_locked(path, &options, under_way)?;
        let text = read(&mut file).map_err(Error::io(path))?;
        // A line that a failure tore was ended by the next process.
        let first = text.split('\n').next().unwrap_or_default();
        if !begins_as(first.as_bytes(), BEGINNING) {
            return Err(not_ours(path));
        }
        if !text.is_empty() && !text.ends_with('\n') {
            // What follows is not to be taken for the rest of a torn line.
            file.write_all(b"\n").map_err(Error::io(path))?;
        }
        let journal = Journal {
            path: path.to_path_buf(),
            file: Mutex::new(file),
            writes,
        };
        Ok((journal, parse(&text)))
    }

    /// Reads a list that may be in use.
    pub(super) fn read(path: &Path) -> Result<Contents> {
        let (mut file, _) = crate::files::open(path)?;
        Ok(parse(&read(&mut file).map_err(Error::io(path))?))
    }

    /// Appends a tile whose numbers are written.
    pub(super) fn done(&self, entry: &Entry) -> Result<()> {
        self.append(&entry.line())
    }

    /// Appends a JSON line.
    pub(super) fn note(&self, note: &serde_json::Value) -> Result<()> {
        self.append(&note.to_string())
    }

    fn append(&self, text: &str) -> Result<()> {
        let line = format!("{text} ={:08x}\n", crc32fast::hash(text.as_bytes()));
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // One write, so that of two writers' lines neither is torn by the other.
        file.seek(SeekFrom::End(0))
            .and_then(|_| self.writes.append(&mut file, line.as_bytes()))
            .map_err(Error::io(&self.path))
    }

    /// Makes the list durable.
    pub(super) fn sync(&self) -> Result<()> {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.sync_all().map_err(Error::io(&self.path))
    }

    /// Empties the list.
    pub(super) fn clear(&self) -> Result<()> {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.set_len(0)
            .and_then(|()| file.sync_all())
            .map_err(Error::io(&self.path))
    }
}

/// Opens a file that no other process has, and keeps it from them while it is open.
///
/// # Errors
/// [`Error::File`] where another process has it, naming `under_way`.
pub(super) fn open_locked(path: &Path, options: &OpenOptions, under_way: &Path) -> Result<File> {
    /// How long a lock is waited for: a process that another thread starts holds what this one has open, until it runs its own
    /// program.
    const PATIENCE: Duration = Duration::from_millis(300);
    let begun = Instant::now();
    loop {
        let file = open_to_write(path, options)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if begun.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(10));
                continue;
            }
            Err(TryLockError::WouldBlock) => {
                return Err(Error::file(
                    under_way,
                    "is being written by another run: wait for it or choose another name",
                ));
            }
            // File systems without locks: the check is a courtesy.
            Err(TryLockError::Error(_)) | Ok(()) => {}
        }
        // Who had it may have removed it, or given it its final name, before it let go.
        if is_named(&file, path) {
            return Ok(file);
        }
    }
}

/// Whether an open file is the one of that name still.
fn is_named(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let of = |meta: std::io::Result<std::fs::Metadata>| meta.map(|m| (m.dev(), m.ino())).ok();
        of(file.metadata()) == of(std::fs::metadata(path))
    }
    #[cfg(not(unix))]
    {
        let _ = (file, path);
        true
    }
}

fn read(file: &mut File) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn parse(text: &str) -> Contents {
    let mut contents = Contents::default();
    for line in text.lines() {
        let Some((text, crc)) = line.rsplit_once(" =") else {
            continue;
        };
        if u32::from_str_radix(crc, 16) != Ok(crc32fast::hash(text.as_bytes())) {
            continue;
        }
        if let Some(entry) = Entry::parse(text) {
            contents.entries.push(entry);
        } else if let Ok(note) = serde_json::from_str(text) {
            contents.notes.push(note);
        }
    }
    contents
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(row: usize, places: Vec<u64>) -> Entry {
        Entry {
            tile: Tile {
                part: 3,
                rows: row..row + 2,
                columns: 5..9,
            },
            mirrored: row == 0,
            checksum: 0xdead_beef,
            places,
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_was_removed_while_it_was_waited_for_is_opened_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("done");
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true);
        let open = || open_locked(&path, &options, folder.path());
        let first = open().unwrap();
        assert!(is_named(&first, &path));
        assert!(open().unwrap_err().to_string().contains("another run"));
        std::fs::rename(&path, folder.path().join("finished")).unwrap();
        assert!(!is_named(&first, &path));
        let second = open().unwrap();
        assert!(is_named(&second, &path) && !is_named(&first, &path));
    }

    #[test]
    fn whole_lines_are_read_and_torn_ones_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("done");
        let open = || Journal::open(&path, folder.path(), Writes::default()).unwrap();
        let header = serde_json::json!({"shard": 1, "of": 1});
        let (journal, contents) = open();
        assert!(contents.entries.is_empty() && contents.notes.is_empty());
        journal.note(&header).unwrap();
        journal.done(&entry(0, vec![7, 8])).unwrap();
        journal.done(&entry(2, vec![])).unwrap();
        assert!(Journal::open(&path, folder.path(), Writes::default()).is_err());
        drop(journal);
        // At whatever byte the last line ends, those before it hold and those after it are read again.
        let whole = std::fs::read(&path).unwrap();
        let last = whole[..whole.len() - 1]
            .iter()
            .rposition(|b| *b == b'\n')
            .unwrap();
        for end in last + 1..=whole.len() {
            std::fs::write(&path, &whole[..end]).unwrap();
            let (journal, contents) = open();
            assert_eq!(contents.notes, std::slice::from_ref(&header));
            assert_eq!(contents.entries[0], entry(0, vec![7, 8]));
            assert_eq!(contents.entries.len() == 2, end + 1 >= whole.len());
            journal.done(&entry(4, vec![])).unwrap();
            drop(journal);
            assert_eq!(open().1.entries.last(), Some(&entry(4, vec![])));
        }
        // Nor do bytes that were changed, or zeros of blocks that were never written.
        for at in 0..whole.len() - 1 {
            let mut changed = whole.clone();
            changed[at] = 0;
            std::fs::write(&path, &changed).unwrap();
            let contents = open().1;
            assert!(contents.entries.len() + contents.notes.len() < 3, "{at}");
        }
    }
}
