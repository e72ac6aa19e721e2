//! The seam between a result that is read and how its numbers lie on disk; and the simplest of them, one run of numbers.

use super::layout::PartLayout;
use crate::error::{Error, Result};
use crate::files::{self, npy, npy::Dtype, read_exact_at};
use crate::memory::SharedBytes;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Reads the numbers of one part.
pub(super) trait Reader: Send + Sync + std::fmt::Debug {
    /// How a number lies in what [`Reader::read`] gives.
    fn dtype(&self) -> Dtype;

    /// Rows and columns that are best read together.
    fn piece(&self) -> [usize; 2] {
        [1, usize::MAX]
    }

    /// Reads `rows` × `columns`, which lie within the part, row-major into a buffer of as many bytes.
    ///
    /// # Errors
    /// [`Error::Io`] where reading fails, [`Error::File`] where what is there is damaged.
    fn read(&self, rows: Range<usize>, columns: Range<usize>, into: &mut [u8]) -> Result<()>;
}

/// Numbers that lie row-major in memory.
pub(super) struct Held {
    bytes: SharedBytes,
    dtype: Dtype,
    columns: usize,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Held({} bytes of {})",
            (*self.bytes).as_ref().len(),
            self.dtype
        )
    }
}

impl Held {
    /// The numbers of a part.
    ///
    /// # Errors
    /// [`Error::Shape`] where they do not fill it, [`Error::Value`] for a type that is not read.
    pub(super) fn new(layout: &PartLayout, dtype: &str, bytes: SharedBytes) -> Result<Held> {
        let kind = Dtype::parse(dtype).ok_or_else(|| {
            Error::Value(format!(
                "part {:?} of {dtype}: real numbers are read",
                layout.name
            ))
        })?;
        let (found, expected) = (
            (*bytes).as_ref().len(),
            layout.entries()?.checked_mul(kind.size as u64),
        );
        if expected != Some(found as u64) {
            return Err(Error::Shape(format!(
                "part {:?} of shape {:?} in {dtype} does not hold {found} bytes",
                layout.name,
                layout.shape()
            )));
        }
        Ok(Held {
            bytes,
            dtype: kind,
            columns: layout.column_count(),
        })
    }
}

impl Reader for Held {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn read(&self, rows: Range<usize>, columns: Range<usize>, into: &mut [u8]) -> Result<()> {
        let (bytes, size) = ((*self.bytes).as_ref(), self.dtype.size);
        let width = columns.len() * size;
        for (row, to) in rows.zip(into.chunks_exact_mut(width.max(1))) {
            let at = (row * self.columns + columns.start) * size;
            to.copy_from_slice(&bytes[at..at + width]);
        }
        Ok(())
    }
}

/// Numbers that lie row-major in a file: a `.npy` file, a tensor.
#[derive(Debug)]
pub(super) struct Run {
    path: PathBuf,
    file: File,
    dtype: Dtype,
    offset: u64,
    columns: usize,
}

impl Run {
    /// The numbers of a part, from `offset` on in a file of `length` bytes.
    ///
    /// # Errors
    /// [`Error::File`] where the file ends before they do.
    pub(super) fn new(
        path: &Path,
        file: File,
        length: u64,
        dtype: Dtype,
        offset: u64,
        layout: &PartLayout,
    ) -> Result<Run> {
        let bytes = layout.entries()?.checked_mul(dtype.size as u64);
        let expected = bytes.and_then(|bytes| bytes.checked_add(offset));
        if expected.is_none_or(|expected| expected > length) {
            return Err(Error::file(
                path,
                format!(
                    "is truncated: {} bytes are there and its shape {:?} needs {}",
                    length,
                    layout.shape(),
                    expected.map_or("more than 2^64".into(), |e| e.to_string())
                ),
            ));
        }
        Ok(Run {
            path: path.to_path_buf(),
            file,
            dtype,
            offset,
            columns: layout.column_count(),
        })
    }

    /// The array of a `.npy` file.
    ///
    /// # Errors
    /// [`Error::File`] where it is not the part's.
    pub(super) fn npy(path: &Path, layout: &PartLayout) -> Result<Run> {
        let (mut file, length) = files::open(path)?;
        let header = npy::read_header(path, &mut file)?;
        if header.shape != layout.shape() || header.fortran {
            return Err(Error::file(
                path,
                format!(
                    "has shape {:?}, and its manifest says {:?} for part {:?}",
                    header.shape,
                    layout.shape(),
                    layout.name
                ),
            ));
        }
        let run = Run::new(path, file, length, header.dtype, header.offset, layout)?;
        let end = header
            .data_bytes()
            .and_then(|b| b.checked_add(header.offset));
        match end {
            Some(end) if end < length => Err(Error::file(
                path,
                format!(
                    "is longer than its shape says, by {} bytes: it is damaged, so make the result again",
                    length - end
                ),
            )),
            _ => Ok(run),
        }
    }
}

impl Reader for Run {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn read(&self, rows: Range<usize>, columns: Range<usize>, into: &mut [u8]) -> Result<()> {
        let (size, width) = (self.dtype.size, columns.len());
        // Whole rows follow each other.
        let run = if width == self.columns { rows.len() } else { 1 };
        let runs = into.chunks_mut((run * width * size).max(1));
        for (row, into) in rows.step_by(run.max(1)).zip(runs) {
            let first = row as u64 * self.columns as u64 + columns.start as u64;
            read_exact_at(&self.file, into, self.offset + first * size as u64)
                .map_err(Error::io(&self.path))?;
        }
        Ok(())
    }
}
