//! The frame of the codec `blosc`, version 2 of its format, with zstd and byte shuffle: what Zarr has for "zstd with shuffled
//! bytes" in its specification, so that every reader takes it.
//!
//! A header of 16 bytes, where each block starts (`i32`), and per block its length (`i32`) and a zstd frame of its
//! shuffled bytes, or these bytes themselves where zstd does not make them fewer. The C library is not used: it comes with
//! C++, and reads no less than a whole chunk; a block alone is what a row of it needs.
//!
//! Source: c-blosc, README_CHUNK_FORMAT.rst.

use crate::files::read_exact_at;
use rayon::prelude::*;
use std::fs::File;

/// Bytes of the header.
const HEADER: usize = 16;
/// Version of the format, and of how zstd is used in it.
const VERSIONS: [u8; 2] = [2, 1];
/// Flags: bytes shuffled; the bytes as they are, in place of blocks; blocks in one stream each; zstd.
const SHUFFLED: u8 = 0x1;
const COPIED: u8 = 0x2;
const ONE_STREAM: u8 = 0x10;
const ZSTD: u8 = 4 << 5;
/// The longest frame's content: lengths are `i32`.
pub(super) const MOST: usize = i32::MAX as usize - HEADER;
/// Bytes of a block about: two of them, shuffled and not, stay in a core's L2.
pub(super) const BLOCK: usize = 512 << 10;
/// The largest block that is read: a file from elsewhere is not to take all memory.
const LARGEST_BLOCK: usize = 64 << 20;

/// Why something that was written cannot be read.
#[derive(Debug)]
pub(super) enum Fault {
    /// What is there is not what was written.
    Damaged(&'static str),
    /// The system refused.
    Io(std::io::Error),
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Fault {
        match error.kind() {
            std::io::ErrorKind::UnexpectedEof => Fault::Damaged("is cut off"),
            std::io::ErrorKind::NotFound => Fault::Damaged("is missing"),
            _ => Fault::Io(error),
        }
    }
}

/// Compresses `bytes` bytes of numbers of `number_bytes` in blocks of `block` bytes. `fill` puts the bytes from an offset on
/// into a buffer of zeros.
pub(super) fn encode(
    level: i32,
    number_bytes: usize,
    bytes: usize,
    block: usize,
    fill: impl Fn(usize, &mut [u8]) + Sync,
) -> std::io::Result<Vec<u8>> {
    let starts: Vec<usize> = (0..bytes).step_by(block).collect();
    let compressed: std::io::Result<Vec<Vec<u8>>> = starts
        .par_iter()
        .map(|&start| {
            let mut plain = vec![0; block.min(bytes - start)];
            fill(start, &mut plain);
            let shuffled = shuffle(number_bytes, &plain);
            let small = zstd::bulk::compress(&shuffled, level)?;
            // A block as long as its content is its content.
            Ok(if small.len() < shuffled.len() {
                small
            } else {
                shuffled
            })
        })
        .collect();
    let compressed = compressed?;
    let table = HEADER + 4 * starts.len();
    let length = table
        + compressed
            .iter()
            .map(|block| 4 + block.len())
            .sum::<usize>();
    let copied = length > HEADER + bytes;
    let mut frame = Vec::with_capacity(length.min(HEADER + bytes));
    frame.extend(VERSIONS);
    let flags = if copied { COPIED } else { 0 };
    frame.extend([ZSTD | ONE_STREAM | SHUFFLED | flags, number_bytes as u8]);
    let total = length.min(HEADER + bytes);
    for number in [bytes, block, total] {
        frame.extend((number as u32).to_le_bytes());
    }
    if copied {
        frame.resize(total, 0);
        for start in starts {
            let end = bytes.min(start + block);
            fill(start, &mut frame[HEADER + start..HEADER + end]);
        }
        return Ok(frame);
    }
    let mut at = table;
    for block in &compressed {
        frame.extend((at as u32).to_le_bytes());
        at += 4 + block.len();
    }
    for block in &compressed {
        frame.extend((block.len() as u32).to_le_bytes());
        frame.extend(block);
    }
    Ok(frame)
}

/// A frame in a file.
#[derive(Debug)]
pub(super) struct Frame<'a> {
    file: &'a File,
    at: u64,
    bytes: usize,
    pub(super) block: usize,
    number_bytes: usize,
    length: usize,
    flags: u8,
}

impl<'a> Frame<'a> {
    /// Reads the header of a frame that holds `bytes` bytes, within the `room` bytes from `at` on.
    pub(super) fn open(
        file: &'a File,
        at: u64,
        room: u64,
        bytes: usize,
        number_bytes: usize,
    ) -> Result<Frame<'a>, Fault> {
        let mut header = [0; HEADER];
        if room < HEADER as u64 {
            return Err(Fault::Damaged("is cut off"));
        }
        read_exact_at(file, &mut header, at)?;
        let number = |k: usize| {
            u32::from_le_bytes([header[k], header[k + 1], header[k + 2], header[k + 3]]) as usize
        };
        let (block, length, flags) = (number(8), number(12), header[2]);
        let blocks = bytes.div_ceil(block.max(1));
        let table = match flags & COPIED {
            0 => HEADER as u64 + 4 * blocks as u64,
            _ => HEADER as u64 + bytes as u64,
        };
        let ours = header[..2] == VERSIONS
            && flags & !COPIED == ZSTD | ONE_STREAM | SHUFFLED
            && usize::from(header[3]) == number_bytes
            && number(4) == bytes
            && (1..=LARGEST_BLOCK).contains(&block)
            && block.is_multiple_of(number_bytes)
            && table <= length as u64
            && length as u64 <= room;
        if !ours {
            return Err(Fault::Damaged(
                "holds no frame of blosc as hessblock writes it",
            ));
        }
        Ok(Frame {
            file,
            at,
            bytes,
            block,
            number_bytes,
            length,
            flags,
        })
    }

    /// The content of the block of that number.
    pub(super) fn block(&self, number: usize) -> Result<Vec<u8>, Fault> {
        let start = number * self.block;
        let count = self.block.min(self.bytes - start);
        let mut plain = vec![0; count];
        if self.flags & COPIED != 0 {
            read_exact_at(self.file, &mut plain, self.at + (HEADER + start) as u64)?;
            return Ok(plain);
        }
        let at = self.number(HEADER + 4 * number)?;
        let table = HEADER + 4 * self.bytes.div_ceil(self.block);
        if at < table || at > self.length - 4 {
            return Err(Fault::Damaged("has a block outside its frame"));
        }
        let length = self.number(at)?;
        if length > count || length > self.length - 4 - at {
            return Err(Fault::Damaged("has a block outside its frame"));
        }
        let mut small = vec![0; length];
        read_exact_at(self.file, &mut small, self.at + at as u64 + 4)?;
        if length == count {
            return Ok(unshuffle(self.number_bytes, &small));
        }
        match zstd::bulk::decompress_to_buffer(&small, &mut plain) {
            Ok(found) if found == count => Ok(unshuffle(self.number_bytes, &plain)),
            _ => Err(Fault::Damaged("has a block that zstd cannot read")),
        }
    }

    fn number(&self, at: usize) -> Result<usize, Fault> {
        let mut bytes = [0; 4];
        read_exact_at(self.file, &mut bytes, self.at + at as u64)?;
        Ok(u32::from_le_bytes(bytes) as usize)
    }
}

/// First bytes of all numbers, then the second ones…: those of the exponents lie together.
fn shuffle(number_bytes: usize, plain: &[u8]) -> Vec<u8> {
    let mut shuffled = vec![0; plain.len()];
    let count = plain.len() / number_bytes;
    for (byte, target) in shuffled.chunks_exact_mut(count.max(1)).enumerate() {
        let own = plain[byte..].iter().step_by(number_bytes);
        target
            .iter_mut()
            .zip(own)
            .for_each(|(to, from)| *to = *from);
    }
    shuffled
}

fn unshuffle(number_bytes: usize, shuffled: &[u8]) -> Vec<u8> {
    let mut plain = vec![0; shuffled.len()];
    let count = shuffled.len() / number_bytes;
    for (byte, source) in shuffled.chunks_exact(count.max(1)).enumerate() {
        let own = plain[byte..].iter_mut().step_by(number_bytes);
        own.zip(source).for_each(|(to, from)| *to = *from);
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    fn frame_of(bytes: &[u8], number_bytes: usize, block: usize) -> Vec<u8> {
        encode(3, number_bytes, bytes.len(), block, |at, into| {
            into.copy_from_slice(&bytes[at..at + into.len()])
        })
        .unwrap()
    }

    fn read(frame: &[u8], bytes: usize, number_bytes: usize) -> Result<Vec<u8>, Fault> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"---").unwrap();
        file.write_all(frame).unwrap();
        let frame = Frame::open(&file, 3, frame.len() as u64, bytes, number_bytes)?;
        let blocks = bytes.div_ceil(frame.block);
        (0..blocks).try_fold(Vec::new(), |mut all, k| {
            all.extend(frame.block(k)?);
            Ok(all)
        })
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_and_damage_is_no_panic(
            words in proptest::collection::vec(any::<u64>(), 1..90), wide in any::<bool>(), even in any::<bool>(),
            block in 1usize..40, change in any::<(usize, u8)>(),
        ) {
            let number_bytes = if wide { 8 } else { 4 };
            let bytes: Vec<u8> = words.iter().flat_map(|word| match even {
                true => [7; 8],
                false => word.to_le_bytes(),
            }).collect();
            let mut frame = frame_of(&bytes, number_bytes, number_bytes * block);
            prop_assert!(frame.len() <= bytes.len() + HEADER);
            prop_assert_eq!(&read(&frame, bytes.len(), number_bytes).unwrap(), &bytes);
            let at = change.0 % frame.len();
            frame[at] ^= change.1;
            let _ = read(&frame, bytes.len(), number_bytes);
            let _ = read(&frame[..at], bytes.len(), number_bytes);
        }
    }
}
