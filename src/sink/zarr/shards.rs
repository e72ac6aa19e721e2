//! Files of several chunks (Zarr's codec `sharding_indexed`): an index of fixed size at the start, then the chunks in
//! whatever order they came.
//!
//! Chunks are appended, each once; where each lies is in the journal until the end, when the index is written. So what a
//! failure tears is a chunk that no line vouches for, and nothing that was written is ever moved or written over.

use super::blosc::Fault;
use crate::files::read_exact_at;
use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// An index's entry: where a chunk starts and its bytes; both are all ones where it is absent.
pub(super) const ABSENT: [u64; 2] = [u64::MAX; 2];

/// Bytes of an index of so many chunks.
pub(super) fn index_bytes(chunks: usize) -> u64 {
    16 * chunks as u64 + 4
}

/// Hands out room at the ends of files.
#[derive(Debug, Default)]
pub(super) struct Ends(Mutex<HashMap<PathBuf, u64>>);

impl Ends {
    /// Room for so many bytes at the end of an open file, behind the index; the file is made as long as that takes.
    pub(super) fn take(
        &self,
        path: &Path,
        file: &File,
        chunks: usize,
        bytes: u64,
    ) -> std::io::Result<u64> {
        // Held while the file grows, so that it never gets shorter.
        let mut ends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = match ends.get(path) {
            Some(end) => *end,
            None => file.metadata()?.len().max(index_bytes(chunks)),
        };
        file.set_len(at + bytes)?;
        ends.insert(path.to_path_buf(), at + bytes);
        Ok(at)
    }
}

/// The bytes of an index.
pub(super) fn encode(entries: &[[u64; 2]]) -> Vec<u8> {
    let mut bytes: Vec<u8> = entries
        .iter()
        .flatten()
        .flat_map(|number| number.to_le_bytes())
        .collect();
    bytes.extend(crc32c(&bytes).to_le_bytes());
    bytes
}

/// Reads the index of a file.
pub(super) fn read(file: &File, chunks: usize) -> Result<Vec<[u64; 2]>, Fault> {
    let length = index_bytes(chunks);
    // Looked at before there is memory for it: the number of chunks comes from a file.
    if file.metadata()?.len() < length {
        return Err(Fault::Damaged("is cut off"));
    }
    let mut bytes = vec![0; length as usize];
    read_exact_at(file, &mut bytes, 0)?;
    let (entries, sum) = bytes.split_at(bytes.len() - 4);
    if sum != crc32c(entries).to_le_bytes() {
        return Err(Fault::Damaged(
            "has an index that does not match its checksum",
        ));
    }
    let (numbers, _) = entries.as_chunks::<8>();
    let (pairs, _) = numbers.as_chunks::<2>();
    let pair = |pair: &[[u8; 8]; 2]| pair.map(u64::from_le_bytes);
    Ok(pairs.iter().map(pair).collect())
}

/// CRC-32C (Castagnoli), bit by bit: an index is short.
fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (POLYNOMIAL & (crc & 1).wrapping_neg())
        })
    };
    !bytes.iter().fold(u32::MAX, step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn the_checksum_is_that_of_rfc_3720() {
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn an_index_is_read_as_written_and_damage_is_found() {
        let entries = [[36, 7], ABSENT];
        let bytes = encode(&entries);
        assert_eq!(bytes.len() as u64, index_bytes(2));
        let file = |bytes: &[u8]| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(bytes).unwrap();
            file
        };
        assert_eq!(read(&file(&bytes), 2).unwrap(), entries);
        assert!(read(&file(&bytes[..30]), 2).is_err());
        assert!(read(&file(&bytes), usize::MAX / 32).is_err());
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 4;
            assert!(read(&file(&changed), 2).is_err(), "{at}");
        }
    }
}
