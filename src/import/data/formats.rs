//! Finds out what a file of data is, and where its array lies: `.npy`, `.npz`, IDX, each plain or gzipped.

use super::store::{Compression, Front, Store};
use crate::error::{Error, Result};
use crate::files::npy::{self, Dtype, Kind};
use crate::import::pytorch;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// An array in one file.
#[derive(Debug)]
pub(super) struct Stored {
    /// For messages: the file, with its key in an archive.
    pub(super) path: PathBuf,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    /// Where the numbers begin in the store.
    pub(super) offset: u64,
    pub(super) store: Store,
}

/// Splits `FILE.npz:KEY`; a path that exists is taken as it is.
pub fn split_key(path: &Path) -> (PathBuf, Option<String>) {
    let text = path.to_string_lossy();
    if let Some(at) = text.rfind(".npz:").filter(|_| !path.exists()) {
        let (file, key) = text.split_at(at + 4);
        return (PathBuf::from(file), Some(key[1..].to_string()));
    }
    (path.to_path_buf(), None)
}

/// Opens the array in a file, by what the file's first bytes say.
pub(super) fn open(path: &Path) -> Result<Stored> {
    let (file_path, key) = split_key(path);
    let (mut file, length) = crate::files::open(&file_path)?;
    let mut magic = Vec::new();
    file.by_ref()
        .take(pytorch::LOOKED_AT as u64)
        .read_to_end(&mut magic)
        .map_err(Error::io(&file_path))?;
    pytorch::refuse(
        &file_path,
        &magic,
        "save arrays with numpy.save(\"FILE.npy\", tensor.numpy()), or several with numpy.savez",
    )?;
    if let Some(key) = &key
        && !magic.starts_with(b"PK")
    {
        return Err(Error::file(
            &file_path,
            format!("is no .npz archive, so the key {key:?} cannot be looked up in it"),
        ));
    }
    if magic.starts_with(b"PK") {
        return archive_member(&file_path, length, key.as_deref());
    }
    let store = match magic.starts_with(&[0x1f, 0x8b]) {
        true => Store::stream(&file_path, length, Compression::Gzip),
        false => Store::Plain {
            file,
            start: 0,
            length,
        },
    };
    array_in(file_path, store)
}

/// Reads the header of an array at the front of a store.
fn array_in(path: PathBuf, store: Store) -> Result<Stored> {
    let mut magic = [0; 4];
    let mut front = Front {
        store: &store,
        path: &path,
        position: 0,
    };
    front.read_exact(&mut magic).map_err(|_| {
        Error::file(
            &path,
            "is too short (or too damaged) to hold an array: .npy, .npz, IDX and gzipped ones are read",
        )
    })?;
    front.position = 0;
    let (dtype, shape, offset) = match magic {
        [0x93, b'N', b'U', b'M'] => {
            let header = npy::read_header(&path, &mut front)?;
            // With one axis longer than 1, first axis fastest and last axis fastest are the same.
            if header.fortran && header.shape.iter().filter(|extent| **extent > 1).count() > 1 {
                return Err(Error::file(
                    &path,
                    "is in Fortran order (first axis fastest), in which samples lie scattered: save \
                     numpy.ascontiguousarray(x)",
                ));
            }
            (header.dtype, header.shape, header.offset)
        }
        [0, 0, kind, axes] => idx_header(&path, &mut front, kind, axes)?,
        _ => {
            return Err(Error::file(
                &path,
                format!(
                    "is of no known format (first bytes {magic:02x?}): .npy, .npz, IDX and gzipped ones are read"
                ),
            ));
        }
    };
    let stored = Stored {
        path,
        dtype,
        shape,
        offset,
        store,
    };
    stored.check_length()?;
    Ok(stored)
}

impl Stored {
    /// Number of numbers.
    pub(super) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Refuses an array that claims more than its file can hold, before anything is allocated for it, or less than it holds.
    fn check_length(&self) -> Result<()> {
        let longest = self.store.longest();
        let size = self.dtype.size as u64;
        let product = |factor: u64, extent: &usize| factor.checked_mul(*extent as u64);
        // Without the extents of 0 as well, so that no stride overflows.
        let positive = self.shape.iter().filter(|e| **e > 0);
        let strides = positive.clone().try_fold(size, product);
        let data = self.shape.iter().try_fold(size, product);
        let expected = data.and_then(|data| data.checked_add(self.offset));
        // What comes out of a stream is known at its end.
        let length = self.store.length();
        if let (Some(expected), Some(length)) = (expected, length)
            && expected < length
        {
            return Err(too_long(&self.path, length - expected));
        }
        let fits = |expected: u64| expected <= length.unwrap_or(longest).min(longest);
        if strides.is_some() && expected.is_some_and(fits) {
            return Ok(());
        }
        let expected = expected.map_or("more than 2^64".into(), |e| e.to_string());
        let found = match self.store {
            Store::Stream(_) if length.is_some() => {
                format!("its archive says that {} are there", length.unwrap_or(0))
            }
            Store::Stream(_) => format!("at most {longest} can come out of the compressed file"),
            _ => format!("{longest} are found"),
        };
        Err(Error::file(
            &self.path,
            format!(
                "is truncated: its shape {:?} of {} needs {expected} bytes with the header, and {found}",
                self.shape, self.dtype
            ),
        ))
    }
}

/// An array that is followed by what its header does not tell of.
pub(super) fn too_long(path: &Path, more: u64) -> Error {
    let s = if more == 1 { "" } else { "s" };
    Error::file(
        path,
        format!(
            "is longer than its shape says, by {more} byte{s} or more: it was written over another, or several arrays lie in it; \
             save the array again"
        ),
    )
}

/// The header of an IDX file (MNIST's format): two zeros, type, number of axes, extents as big-endian u32.
///
/// Source: Y. LeCun, "The MNIST database", file format.
fn idx_header(
    path: &Path,
    reader: &mut impl Read,
    kind: u8,
    axes: u8,
) -> Result<(Dtype, Vec<usize>, u64)> {
    let (kind, size) = match kind {
        0x08 => (Kind::Unsigned, 1),
        0x09 => (Kind::Signed, 1),
        0x0b => (Kind::Signed, 2),
        0x0c => (Kind::Signed, 4),
        0x0d => (Kind::Float, 4),
        0x0e => (Kind::Float, 8),
        _ => {
            return Err(Error::file(
                path,
                format!(
                    "is of no known format (as IDX its number type 0x{kind:02x} does not exist): .npy, .npz, IDX \
                     and gzipped ones are read"
                ),
            ));
        }
    };
    let mut header = vec![0; 4 + 4 * usize::from(axes)];
    reader.read_exact(&mut header).map_err(|_| {
        Error::file(
            path,
            format!("ends within its IDX header of {axes} axes: the file is truncated"),
        )
    })?;
    let extent = |b: &[u8]| u32::from_be_bytes([b[0], b[1], b[2], b[3]]) as usize;
    let shape = header[4..].chunks_exact(4).map(extent).collect();
    let dtype = Dtype {
        kind,
        size,
        big_endian: true,
    };
    Ok((dtype, shape, header.len() as u64))
}

/// Names of an archive that a message lists.
const MOST_NAMES: usize = 40;

/// Compares the bytes of a member that is not compressed with its checksum: numbers are read from anywhere in it later.
fn check_stored(file: &std::fs::File, shown: &Path, bytes: Range<u64>, crc: u32) -> Result<()> {
    const PIECE: usize = 1 << 20;
    let mut hasher = crc32fast::Hasher::new();
    let mut piece = vec![0; PIECE];
    let mut at = bytes.start;
    while at < bytes.end {
        let count = (bytes.end - at).min(PIECE as u64) as usize;
        let piece = &mut piece[..count];
        crate::files::read_exact_at(file, piece, at).map_err(Error::io(shown))?;
        hasher.update(piece);
        at += count as u64;
    }
    match hasher.finalize() == crc {
        true => Ok(()),
        false => Err(Error::file(
            shown,
            "does not match its checksum in the archive: the file is damaged",
        )),
    }
}

/// The key of a member of an archive.
fn bare(name: &str) -> &str {
    name.strip_suffix(".npy").unwrap_or(name)
}

/// Which member of an archive has that key; the key may be left out where there is one array.
fn member_of(path: &Path, keys: &[String], key: Option<&str>) -> Result<usize> {
    let mut seen = std::collections::HashSet::new();
    if let Some(twice) = keys.iter().find(|name| !seen.insert(bare(name))) {
        return Err(Error::file(
            path,
            format!(
                "holds two arrays of the name {:?}: which is meant is not known",
                bare(twice)
            ),
        ));
    }
    let listed = || {
        let mut names: Vec<String> = keys
            .iter()
            .take(MOST_NAMES)
            .map(|k| bare(k).into())
            .collect();
        if keys.len() > names.len() {
            names.push(format!("and {} more", keys.len() - names.len()));
        }
        names.join(", ")
    };
    match key {
        Some(key) => keys
            .iter()
            .position(|name| name == key || bare(name) == key)
            .ok_or_else(|| Error::file(path, format!("has no array {key:?}; it has {}", listed()))),
        None if keys.len() == 1 => Ok(0),
        None if keys.is_empty() => Err(Error::file(path, "is an archive without arrays")),
        None => Err(Error::file(
            path,
            format!(
                "holds several arrays: {}; name one as {}:KEY",
                listed(),
                path.display()
            ),
        )),
    }
}

/// The array of that key in a `.npz` archive; the key may be left out where there is one array.
fn archive_member(path: &Path, length: u64, key: Option<&str>) -> Result<Stored> {
    let bad = |error: zip::result::ZipError| {
        Error::file(path, format!("cannot be read as a .npz archive: {error}"))
    };
    let (file, _) = crate::files::open(path)?;
    let mut archive = zip::ZipArchive::new(std::io::BufReader::new(file)).map_err(bad)?;
    let mut keys = Vec::new();
    for name in archive.file_names() {
        keys.push(name.map_err(bad)?.into_owned());
    }
    let index = member_of(path, &keys, key)?;
    let member = archive.by_index(index).map_err(bad)?;
    let start = member
        .data_start()
        .ok_or_else(|| Error::file(path, "is a damaged archive"))?;
    let (compressed, compression) = (member.compressed_size(), member.compression());
    let (crc, size) = (member.crc32(), member.size());
    let shown = PathBuf::from(format!("{}:{}", path.display(), bare(&keys[index])));
    if start.checked_add(compressed).is_none_or(|end| end > length) {
        return Err(Error::file(
            &shown,
            format!(
                "is truncated: {compressed} bytes are expected from {start} on, and the file has {length}"
            ),
        ));
    }
    let store = match compression {
        zip::CompressionMethod::Stored => {
            let (file, _) = crate::files::open(path)?;
            check_stored(&file, &shown, start..start + compressed, crc)?;
            Store::Plain {
                file,
                start,
                length: compressed,
            }
        }
        zip::CompressionMethod::Deflated => Store::stream(
            path,
            length,
            Compression::Deflate {
                start,
                length: compressed,
                crc,
                size,
            },
        ),
        other => {
            return Err(Error::file(
                &shown,
                format!(
                    "is compressed by {other:?}: numpy.savez and savez_compressed write what is read"
                ),
            ));
        }
    };
    array_in(shown, store)
}
