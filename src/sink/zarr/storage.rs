//! Chunks as zarrs reads them: each by its own key, whether it has a file of its own or lies in one of several.
//!
//! So zarrs keeps decoded chunks and not whole files of them; what is absent is an error and no fill value; and no length
//! that a file tells is believed before the file has as many bytes.

use super::chunk::{Codecs, Fault};
use super::grid::Grid;
use super::shards;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use zarrs::filesystem::{FilesystemStore, FilesystemStoreCreateError};
use zarrs::storage::byte_range::{ByteRange, ByteRangeIterator, InvalidByteRangeError};
use zarrs::storage::{Bytes, MaybeBytesIterator, ReadableStorageTraits, StorageError, StoreKey};

/// The chunks of one array.
#[derive(Debug)]
pub(super) struct Chunks {
    folder: PathBuf,
    files: FilesystemStore,
    grid: Grid,
    codecs: Codecs,
    /// Whether all of a chunk is read at once.
    whole: bool,
    indices: Mutex<HashMap<[usize; 2], Arc<Index>>>,
}

type Index = Vec<[u64; 2]>;

/// Indices that are kept.
const INDICES: usize = 64;

impl From<Fault> for StorageError {
    fn from(fault: Fault) -> StorageError {
        match fault {
            Fault::Damaged(what) => StorageError::Other(what),
            Fault::Io(error) => error.into(),
        }
    }
}

/// A chunk's bytes: the key of their file, where they start, and how many they are.
type Place = (StoreKey, u64, u64);

impl Chunks {
    pub(super) fn open(
        folder: &Path,
        grid: Grid,
        codecs: Codecs,
        whole: bool,
    ) -> Result<Chunks, FilesystemStoreCreateError> {
        Ok(Chunks {
            folder: folder.to_path_buf(),
            files: FilesystemStore::new(folder)?,
            grid,
            codecs,
            whole,
            indices: Mutex::default(),
        })
    }

    fn place(&self, key: &StoreKey) -> Result<Place, StorageError> {
        let unknown = || StorageError::Other(format!("has no chunk {key}"));
        let at = self.grid.at(key.as_str()).ok_or_else(unknown)?;
        let (file_at, number) = self.grid.file_of(at);
        let file = StoreKey::new(self.grid.key(file_at))?;
        let missing = || Fault::damaged("is missing");
        // Reading a pipe would wait for whoever writes to it.
        if std::fs::metadata(self.folder.join(file.as_str())).is_ok_and(|meta| !meta.is_file()) {
            return Err(Fault::damaged("has a chunk that is no file").into());
        }
        let length = self.files.size_key(&file)?.ok_or_else(missing)?;
        let [start, bytes] = match self.grid.per_file {
            None => [0, length],
            Some(_) => {
                let index = self.index(file_at, &file, length)?;
                let place = index.get(number).copied();
                place.unwrap_or(shards::ABSENT)
            }
        };
        if start.checked_add(bytes).is_none_or(|end| end > length) {
            return Err(Fault::damaged("lacks a chunk").into());
        }
        self.codecs.check_length(bytes)?;
        Ok((file, start, bytes))
    }

    /// The index of a file of `length` bytes.
    fn index(
        &self,
        at: [usize; 2],
        file: &StoreKey,
        length: u64,
    ) -> Result<Arc<Index>, StorageError> {
        let kept = || self.indices.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = kept().get(&at) {
            return Ok(index.clone());
        }
        let chunks = self.grid.chunks_of_file();
        let bytes = shards::index_bytes(chunks);
        if bytes > length {
            return Err(Fault::damaged("is cut off").into());
        }
        let range = ByteRange::FromStart(0, Some(bytes));
        let bytes = self.files.get_partial(file, range)?;
        let bytes = bytes.ok_or_else(|| Fault::damaged("is missing"))?;
        let index = Arc::new(shards::decode(&bytes, chunks).map_err(Fault::from)?);
        let mut kept = kept();
        if kept.len() >= INDICES {
            kept.clear();
        }
        kept.insert(at, index.clone());
        Ok(index)
    }
}

impl ReadableStorageTraits for Chunks {
    fn get_partial_many<'a>(
        &'a self,
        key: &StoreKey,
        ranges: ByteRangeIterator<'a>,
    ) -> Result<MaybeBytesIterator<'a>, StorageError> {
        let (file, start, bytes) = self.place(key)?;
        // Positions in the chunk become those in its file.
        let within = |range: ByteRange| match range {
            ByteRange::FromStart(from, length) => {
                let rest = bytes.checked_sub(from);
                let length = rest.and_then(|rest| {
                    (length.unwrap_or(rest) <= rest).then_some(length.unwrap_or(rest))
                });
                length.map(|length| ByteRange::FromStart(start + from, Some(length)))
            }
            ByteRange::Suffix(length) => {
                let from = bytes.checked_sub(length);
                from.map(|from| ByteRange::FromStart(start + from, Some(length)))
            }
        };
        let mut own = Vec::new();
        for range in ranges {
            own.push(within(range).ok_or_else(|| InvalidByteRangeError::new(range, bytes))?);
        }
        let read = self
            .files
            .get_partial_many(&file, Box::new(own.into_iter()))?;
        let read = read.ok_or_else(|| Fault::damaged("is missing"))?;
        if !self.whole {
            return Ok(Some(read));
        }
        let checked = read.map(|found| -> Result<Bytes, StorageError> {
            let found = found?;
            self.codecs.check(&found)?;
            Ok(found)
        });
        Ok(Some(Box::new(checked)))
    }

    fn size_key(&self, key: &StoreKey) -> Result<Option<u64>, StorageError> {
        Ok(Some(self.place(key)?.2))
    }

    fn supports_get_partial(&self) -> bool {
        true
    }
}
