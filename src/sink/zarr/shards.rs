//! Files of several chunks (Zarr's codec `sharding_indexed`): an index of fixed size at the start, then the chunks.
//!
//! Chunks are appended in whatever order they come, each once; where each lies is in the journal. At the end the file is packed:
//! the index is written, and the chunks are in its order. So what a failure tears is a chunk that no line vouches for, or a
//! copy that has not taken its file's name.

use super::super::place::COPY;
use crate::files::writes::Writes;
use crate::files::{open_to_write, read_exact_at, with_suffix};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use zarrs::array::codec::{BytesCodec, CodecChain, Crc32cCodec};
use zarrs::array::data_type::uint64;
use zarrs::array::{
    ArrayBytes, ArrayToBytesCodecTraits, BytesToBytesCodecTraits, CodecError, CodecOptions,
    FillValue,
};

/// An index's entry: where a chunk starts and its bytes; both are all ones where it is absent.
pub(super) const ABSENT: [u64; 2] = [u64::MAX; 2];

/// Bytes of an index of so many chunks.
pub(super) fn index_bytes(chunks: usize) -> u64 {
    (chunks as u64).saturating_mul(16).saturating_add(4)
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

/// The index at the start of a file of so many chunks; `None` where none was written there.
pub(super) fn read(file: &File, chunks: usize) -> std::io::Result<Option<Vec<[u64; 2]>>> {
    let mut bytes = vec![0; index_bytes(chunks) as usize];
    match read_exact_at(file, &mut bytes, 0) {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
        read => read.map(|()| decode(&bytes, chunks).ok()),
    }
}

/// Gives a file its final form: the index, then the chunks in its order, without gaps and what none of them is. It is so the
/// same whatever order the chunks came in, and however often one was written.
///
/// `places` are the chunks' starts and bytes, [`ABSENT`] where there is none.
pub(super) fn pack(path: &Path, places: &[[u64; 2]], writes: &Writes) -> std::io::Result<()> {
    /// Bytes that are copied at a time.
    const PIECE: usize = 1 << 20;
    let mut end = index_bytes(places.len());
    let packed = places.iter().map(|&[start, bytes]| {
        let at = [end, bytes];
        match [start, bytes] {
            ABSENT => ABSENT,
            _ => {
                end += bytes;
                at
            }
        }
    });
    let packed: Vec<[u64; 2]> = packed.collect();
    let index = encode(&packed).map_err(std::io::Error::other)?;
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    let file = open_to_write(path, &options).map_err(std::io::Error::other)?;
    let copy = with_suffix(path, COPY);
    // One may be left of a run that was stopped here.
    let _ = std::fs::remove_file(&copy);
    if packed == places && file.metadata()?.len() == end {
        return writes.write_all_at(&file, &index, 0);
    }
    let into = File::create_new(&copy)?;
    writes.write_all_at(&into, &index, 0)?;
    let mut buffer = Vec::new();
    for (&[from, bytes], &[to, _]) in places
        .iter()
        .zip(&packed)
        .filter(|(from, _)| **from != ABSENT)
    {
        for start in (0..bytes).step_by(PIECE) {
            buffer.resize(PIECE.min((bytes - start) as usize), 0);
            read_exact_at(&file, &mut buffer, from + start)?;
            writes.write_all_at(&into, &buffer, to + start)?;
        }
    }
    into.sync_all()?;
    drop((file, into));
    std::fs::rename(&copy, path)
}

/// The codecs of an index, as [`super::metadata`] names them.
pub(super) fn codecs() -> (Arc<BytesCodec>, Vec<Arc<dyn BytesToBytesCodecTraits>>) {
    let checksum = Arc::new(Crc32cCodec::new());
    (Arc::new(BytesCodec::little()), vec![checksum])
}

/// The chain of them, and the shape of an index of so many chunks: each with where it starts and its bytes.
fn chain(chunks: usize) -> Result<(CodecChain, [NonZeroU64; 2]), CodecError> {
    const PAIR: NonZeroU64 = NonZeroU64::new(2).expect("two is not zero");
    let chunks = NonZeroU64::new(chunks as u64)
        .ok_or_else(|| CodecError::Other("an index of no chunks".into()))?;
    let (numbers, checksum) = codecs();
    let chain = CodecChain::new(Vec::new(), numbers, checksum);
    Ok((chain, [chunks, PAIR]))
}

/// The bytes of an index.
pub(super) fn encode(entries: &[[u64; 2]]) -> Result<Vec<u8>, CodecError> {
    let numbers = entries.as_flattened().iter();
    let bytes: Vec<u8> = numbers.flat_map(|number| number.to_ne_bytes()).collect();
    let (chain, shape) = chain(entries.len())?;
    let bytes = chain.encode(
        ArrayBytes::from(bytes),
        &shape,
        &uint64(),
        &FillValue::from(u64::MAX),
        &CodecOptions::default(),
    )?;
    Ok(bytes.into_owned())
}

/// Reads the bytes of an index.
pub(super) fn decode(bytes: &[u8], chunks: usize) -> Result<Vec<[u64; 2]>, CodecError> {
    let (chain, shape) = chain(chunks)?;
    let entries = chain.decode(
        bytes.into(),
        &shape,
        &uint64(),
        &FillValue::from(u64::MAX),
        &CodecOptions::default(),
    )?;
    let entries = entries.into_fixed()?;
    let (numbers, _) = entries.as_chunks::<8>();
    let (pairs, _) = numbers.as_chunks::<2>();
    let pair = |pair: &[[u8; 8]; 2]| pair.map(u64::from_ne_bytes);
    Ok(pairs.iter().map(pair).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_read_as_written_and_damage_is_found() {
        let entries = [[36, 7], ABSENT];
        let bytes = encode(&entries).unwrap();
        assert_eq!(bytes.len() as u64, index_bytes(2));
        assert_eq!(decode(&bytes, 2).unwrap(), entries);
        assert!(decode(&bytes[..30], 2).is_err() && decode(&bytes, 3).is_err());
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 4;
            assert!(decode(&changed, 2).is_err(), "{at}");
        }
    }

    #[test]
    fn a_file_is_packed_to_the_same_bytes_whatever_order_its_chunks_came_in() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0");
        let chunks: [&[u8]; 4] = [b"first", b"second", b"", b"fourth"];
        let start = index_bytes(5);
        let packed = |order: &[usize]| {
            let (mut bytes, mut places) = (vec![0; start as usize], vec![ABSENT; 5]);
            for &k in order {
                places[k] = [bytes.len() as u64, chunks[k].len() as u64];
                bytes.extend(chunks[k]);
            }
            std::fs::write(&path, bytes).unwrap();
            pack(&path, &places, &Writes::default()).unwrap();
            let file = File::open(&path).unwrap();
            let index = read(&file, 5).unwrap().unwrap();
            // Once more it stays as it is.
            pack(&path, &index, &Writes::default()).unwrap();
            let bytes = std::fs::read(&path).unwrap();
            for (chunk, [at, count]) in chunks.iter().zip(&index) {
                assert_eq!(bytes[*at as usize..][..*count as usize], **chunk);
            }
            assert_eq!(index[4], ABSENT);
            bytes
        };
        let expected = packed(&[0, 1, 2, 3]);
        assert_eq!(packed(&[3, 1, 0, 2]), expected);
        // One that was written twice, as a damaged one is, lies there once.
        assert_eq!(packed(&[1, 0, 2, 3, 1]), expected);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
