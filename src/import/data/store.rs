//! Bytes of an array wherever they lie: in a file, in a compressed stream, or in memory.

use super::formats::too_long;
use crate::error::{Error, Result};
use crate::files::read_exact_at;
use crate::memory::SharedBytes;
use flate2::Crc;
use flate2::read::{DeflateDecoder, MultiGzDecoder};
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Deflate shrinks at most 1032-fold (zlib's technical details): more than that cannot come out.
const LARGEST_RATIO: u64 = 1032;

/// Where bytes are read from, by position.
pub(super) enum Store {
    /// A file, whose array lies plainly from `start` on.
    Plain {
        file: File,
        start: u64,
        /// Bytes from `start` to the end.
        length: u64,
    },
    /// A stream that can only be read forward.
    Stream(Mutex<Stream>),
    /// Memory.
    Memory(SharedBytes),
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Store::Plain {
                file,
                start,
                length,
            } => write!(f, "Plain({file:?} from {start}, {length} bytes)"),
            Store::Stream(stream) => stream.fmt(f),
            Store::Memory(bytes) => write!(f, "Memory({} bytes)", (**bytes).as_ref().len()),
        }
    }
}

/// A compressed stream: read forward, and started again when going back.
pub(super) struct Stream {
    path: PathBuf,
    compression: Compression,
    reader: Option<Box<dyn Read + Send>>,
    position: u64,
    /// CRC-32 of everything before `position`.
    crc: Crc,
    longest: u64,
}

/// How a stream is compressed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Compression {
    /// The whole file is gzipped.
    Gzip,
    /// A deflated member of a zip archive.
    Deflate {
        /// Where its compressed bytes begin.
        start: u64,
        /// How many there are.
        length: u64,
        /// CRC-32 of what they decompress to.
        crc: u32,
        /// How many bytes that is.
        size: u64,
    },
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Stream({:?}, {:?} at {})",
            self.path, self.compression, self.position
        )
    }
}

impl Store {
    /// A compressed stream in `path`, a file of `file_length` bytes.
    pub(super) fn stream(path: &Path, file_length: u64, compression: Compression) -> Store {
        let compressed = match compression {
            Compression::Gzip => file_length,
            Compression::Deflate { length, .. } => length.min(file_length),
        };
        Store::Stream(Mutex::new(Stream {
            path: path.to_path_buf(),
            compression,
            reader: None,
            position: 0,
            crc: Crc::new(),
            longest: compressed.saturating_mul(LARGEST_RATIO),
        }))
    }

    /// The most bytes that can be there: exact but for compressed streams.
    pub(super) fn longest(&self) -> u64 {
        match self {
            Store::Plain { length, .. } => *length,
            Store::Stream(stream) => {
                stream
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .longest
            }
            Store::Memory(bytes) => (**bytes).as_ref().len() as u64,
        }
    }

    /// How many bytes there are, where that is known without reading them.
    pub(super) fn length(&self) -> Option<u64> {
        match self {
            Store::Plain { length, .. } => Some(*length),
            Store::Stream(stream) => {
                let stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
                match stream.compression {
                    Compression::Deflate { size, .. } => Some(size),
                    Compression::Gzip => None,
                }
            }
            Store::Memory(bytes) => Some((**bytes).as_ref().len() as u64),
        }
    }

    /// Reads `buffer.len()` bytes at `offset`; `path` is for messages.
    pub(super) fn read_exact_at(&self, path: &Path, buffer: &mut [u8], offset: u64) -> Result<()> {
        match self {
            Store::Plain { file, start, .. } => {
                read_exact_at(file, buffer, start + offset).map_err(Error::io(path))
            }
            Store::Stream(stream) => {
                let mut stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
                let expected = offset + buffer.len() as u64;
                // A failed stream has lost its reader, and is started again by the next read.
                stream
                    .read_exact_at(buffer, offset)
                    .map_err(|error| stream.explain(path, expected, error))
            }
            Store::Memory(bytes) => {
                let bytes = (**bytes).as_ref();
                let end = offset as usize + buffer.len();
                let from = bytes.get(offset as usize..end);
                buffer.copy_from_slice(from.ok_or_else(|| {
                    Error::file(
                        path,
                        format!("ends before byte {end}: {} are there", bytes.len()),
                    )
                })?);
                Ok(())
            }
        }
    }

    /// Checks that a compressed stream ends where the array does, and what it says of itself there, once the array has been
    /// read.
    pub(super) fn check_end(&self, path: &Path) -> Result<()> {
        if let Store::Stream(stream) = self {
            let mut stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
            let expected = stream.position;
            let more = stream
                .check_end()
                .map_err(|error| stream.explain(path, expected, error))?;
            if more {
                return Err(too_long(path, 1));
            }
        }
        Ok(())
    }
}

impl Stream {
    fn explain(&self, path: &Path, expected: u64, error: std::io::Error) -> Error {
        match error.kind() {
            ErrorKind::UnexpectedEof => Error::file(
                path,
                format!(
                    "is truncated: {expected} bytes or more are expected after decompression, and {} are found",
                    self.position
                ),
            ),
            ErrorKind::InvalidInput | ErrorKind::InvalidData => {
                Error::file(path, format!("cannot be decompressed: {error}"))
            }
            _ => Error::io(path)(error),
        }
    }

    fn open(&self) -> std::io::Result<Box<dyn Read + Send>> {
        let opened = crate::files::open(&self.path).map_err(|error| match error {
            Error::Io { source, .. } => source,
            other => std::io::Error::other(other),
        });
        let (mut file, _) = opened?;
        Ok(match self.compression {
            Compression::Gzip => {
                Box::new(MultiGzDecoder::new(BufReader::with_capacity(1 << 16, file)))
            }
            Compression::Deflate { start, length, .. } => {
                file.seek(SeekFrom::Start(start))?;
                Box::new(DeflateDecoder::new(file.take(length)))
            }
        })
    }

    /// Reads as much as there is into `buffer`, from `position` on.
    fn fill(&mut self, reader: &mut dyn Read, buffer: &mut [u8]) -> std::io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match reader.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.crc.update(&buffer[..filled]);
        self.position += filled as u64;
        Ok(filled)
    }

    fn read_exact_at(&mut self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
        let mut reader = match self.reader.take() {
            Some(reader) if self.position <= offset => reader,
            _ => {
                self.position = 0;
                self.crc.reset();
                self.open()?
            }
        };
        let mut skipped = [0; 1 << 13];
        while self.position < offset {
            let left = usize::try_from(offset - self.position).unwrap_or(usize::MAX);
            let piece = left.min(skipped.len());
            if self.fill(&mut reader, &mut skipped[..piece])? < piece {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        if self.fill(&mut reader, buffer)? < buffer.len() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.reader = Some(reader);
        Ok(())
    }

    /// Reads past the array's end, where the checksum is; whether anything is there.
    fn check_end(&mut self) -> std::io::Result<bool> {
        let Some(mut reader) = self.reader.take() else {
            return Ok(false);
        };
        // A gzip reader checks its checksum itself when it meets the end.
        if self.fill(&mut reader, &mut [0])? > 0 {
            return Ok(true);
        }
        match self.compression {
            Compression::Deflate { crc, .. } if crc != self.crc.sum() => Err(std::io::Error::new(
                ErrorKind::InvalidData,
                "the checksum does not agree, so the file is damaged",
            )),
            _ => {
                self.reader = Some(reader);
                Ok(false)
            }
        }
    }
}

/// Reads a store from its front on, as the header parsers want it.
pub(super) struct Front<'a> {
    pub(super) store: &'a Store,
    pub(super) path: &'a Path,
    pub(super) position: u64,
}

impl Read for Front<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let left = self.store.longest().saturating_sub(self.position);
        let count = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        if count == 0 {
            return Ok(0);
        }
        self.store
            .read_exact_at(self.path, &mut buffer[..count], self.position)
            .map_err(|error| match error {
                Error::Io { source, .. } => source,
                // Header parsers say that the file is truncated.
                Error::File { .. } => ErrorKind::UnexpectedEof.into(),
                error => std::io::Error::other(error),
            })?;
        self.position += count as u64;
        Ok(count)
    }
}
