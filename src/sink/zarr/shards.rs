//! Files of several chunks (Zarr's codec `sharding_indexed`): an index of fixed size at the start, then the chunks in
//! whatever order they came.
//!
//! Chunks are appended, each once; where each lies is in the journal until the end, when the index is written. So what a
//! failure tears is a chunk that no line vouches for, and nothing that was written is ever moved or written over.

use std::collections::HashMap;
use std::fs::File;
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
}
