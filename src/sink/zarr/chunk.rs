//! The numbers of a chunk, through the codecs of zarrs: on their way into a file, and out of it.

use super::super::layout::transpose;
use super::grid::Grid;
use super::metadata::Form;
use crate::error::Error;
use crate::tensor::Real;
use std::borrow::Cow;
use std::sync::Arc;
use zarrs::array::codec::{BytesCodec, CodecChain};
use zarrs::array::{
    ArrayBytes, ArrayToBytesCodecTraits, BytesToBytesCodecTraits, ChunkShape, CodecError,
    CodecOptions, DataType, FillValue,
};

/// A tile as it comes, `[rows, width]`, or its transpose.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbers<'a, R> {
    pub(super) values: &'a [R],
    pub(super) width: usize,
    pub(super) transposed: bool,
}

impl<'a, R: Real> Numbers<'a, R> {
    /// All numbers of the chunk, of which those over the array's edge are zeros.
    pub(super) fn padded(&self, grid: &Grid) -> Cow<'a, [R]> {
        let [height, stride] = grid.chunk;
        if !self.transposed && self.values.len() == height * stride {
            return self.values.into();
        }
        let mut padded = vec![R::default(); height * stride];
        if self.transposed {
            transpose(self.values, self.width, 0..self.width, &mut padded, stride);
        } else {
            let rows = self.values.chunks(self.width.max(1));
            for (into, row) in padded.chunks_mut(stride).zip(rows) {
                into[..row.len()].copy_from_slice(row);
            }
        }
        padded.into()
    }
}

/// Why something that was written cannot be read.
#[derive(Debug)]
pub(super) enum Fault {
    /// What is there is not what was written.
    Damaged(String),
    /// The system refused.
    Io(std::io::Error),
}

impl Fault {
    pub(super) fn damaged(what: impl Into<String>) -> Fault {
        Fault::Damaged(what.into())
    }
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Fault {
        match error.kind() {
            std::io::ErrorKind::UnexpectedEof => Fault::damaged("is cut off"),
            std::io::ErrorKind::NotFound => Fault::damaged("is missing"),
            _ => Fault::Io(error),
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        match error {
            Error::Io { source, .. } => source.into(),
            _ => Fault::damaged("is no file"),
        }
    }
}

impl From<CodecError> for Fault {
    fn from(error: CodecError) -> Fault {
        Fault::damaged(format!("cannot be decoded ({error})"))
    }
}

/// How the chunks of an array become bytes.
#[derive(Clone, Debug)]
pub(super) struct Codecs {
    chain: Arc<CodecChain>,
    shape: ChunkShape,
    number: DataType,
    fill: FillValue,
    /// Bytes of a chunk's numbers.
    bytes: usize,
    compressed: bool,
}

/// Bytes of a frame's header, which are what blosc adds at most (`BLOSC_MAX_OVERHEAD`).
const HEADER: usize = 16;

impl Codecs {
    pub(super) fn new(form: &Form) -> Result<Codecs, String> {
        let grid = &form.grid;
        // What comes and goes is little endian already.
        let native = Arc::new(BytesCodec::default());
        let compression = form.blosc()?;
        let compression: Vec<Arc<dyn BytesToBytesCodecTraits>> = match compression {
            Some(blosc) => vec![blosc],
            None => Vec::new(),
        };
        Ok(Codecs {
            chain: Arc::new(CodecChain::new(Vec::new(), native, compression)),
            shape: grid.chunk_shape().ok_or("chunks without rows or columns")?,
            number: grid.number(),
            fill: grid.fill(),
            bytes: grid.chunk_bytes().ok_or("chunks that no memory holds")?,
            compressed: form.level.is_some(),
        })
    }

    /// What is written of a chunk whose numbers are these bytes.
    pub(super) fn encode<'a>(&self, bytes: &'a [u8]) -> Result<Cow<'a, [u8]>, CodecError> {
        let bytes = ArrayBytes::from(Cow::Borrowed(bytes));
        let options = CodecOptions::default();
        let (number, fill) = (&self.number, &self.fill);
        self.chain
            .encode(bytes, &self.shape, number, fill, &options)
    }

    /// Refuses what cannot be a chunk by its length, before there is memory for it.
    pub(super) fn check_length(&self, length: u64) -> Result<(), Fault> {
        let bytes = self.bytes as u64;
        let right = match self.compressed {
            true => (HEADER as u64..=bytes + HEADER as u64).contains(&length),
            false => length == bytes,
        };
        match right {
            true => Ok(()),
            false => Err(Fault::damaged("is cut off or of another length")),
        }
    }

    /// Refuses a frame of blosc that says it holds more or fewer bytes than a chunk, before there is memory for them.
    pub(super) fn check(&self, encoded: &[u8]) -> Result<(), Fault> {
        self.check_length(encoded.len() as u64)?;
        let says = encoded.get(4..8).map(|bytes| bytes.iter().rev());
        let says = says.map(|bytes| bytes.fold(0, |number, byte| number << 8 | usize::from(*byte)));
        match self.compressed && says != Some(self.bytes) {
            true => Err(Fault::damaged("holds no chunk of this array")),
            false => Ok(()),
        }
    }

    /// The bytes of a chunk's numbers.
    pub(super) fn decode(&self, encoded: Vec<u8>) -> Result<Vec<u8>, Fault> {
        self.check(&encoded)?;
        let options = CodecOptions::default();
        let (number, fill) = (&self.number, &self.fill);
        let bytes = self
            .chain
            .decode(Cow::Owned(encoded), &self.shape, number, fill, &options)?;
        let bytes = bytes.into_fixed().map_err(CodecError::from)?;
        Ok(bytes.into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_and_damage_is_no_panic(
            words in proptest::collection::vec(any::<u64>(), 1..600), level in proptest::option::of(1u8..=9), wide in any::<bool>(),
            even in any::<bool>(), change in any::<(usize, u8)>(),
        ) {
            let bytes: Vec<u8> = words.iter().flat_map(|word| match even {
                true => [7; 8],
                false => (word % 999).to_le_bytes(),
            }).collect();
            let number_bytes = if wide { 8 } else { 4 };
            let shape = [bytes.len() / number_bytes, 1];
            let grid = Grid { shape, vector: true, chunk: shape, per_file: None, number_bytes };
            let codecs = Codecs::new(&Form { grid, level, triangle: false }).unwrap();
            let mut encoded = codecs.encode(&bytes).unwrap().into_owned();
            prop_assert!(encoded.len() <= bytes.len() + HEADER);
            prop_assert_eq!(&codecs.decode(encoded.clone()).unwrap(), &bytes);
            let at = change.0 % encoded.len();
            prop_assert!(codecs.decode(encoded[..at].to_vec()).is_err());
            // In the header of a frame as often as in all that follows it.
            let at = if wide { at % encoded.len().min(32) } else { at };
            encoded[at] ^= change.1;
            if let Ok(decoded) = codecs.decode(encoded) {
                prop_assert_eq!(decoded.len(), bytes.len());
            }
        }
    }
}
