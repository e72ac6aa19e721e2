//! A result on disk, read back piece by piece.

use super::record::PartRecord;
use super::{ParameterPlace, PartLayout};
use crate::error::{Error, Result};
use crate::files::{self, npy, npy::Dtype, read_exact_at, with_suffix};
use ndarray::{Array1, Array2};
use serde::Deserialize;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A finished result: a `.npy` file with its `.json`, or a folder with its `index.json`.
///
/// Nothing is loaded until it is asked for, and then only that; see [`super::Files`] for an example.
#[derive(Debug)]
pub struct Blocks {
    parts: Vec<Part>,
    parameters: Vec<ParameterPlace>,
    provenance: serde_json::Value,
}

/// One part of a result on disk.
#[derive(Debug)]
pub struct Part {
    /// Name and place in the whole Hessian.
    pub layout: PartLayout,
    path: PathBuf,
    file: File,
    dtype: Dtype,
    offset: u64,
}

#[derive(Deserialize)]
struct Manifest {
    parts: Vec<PartRecord>,
    #[serde(default)]
    parameters: Vec<ParameterPlace>,
    #[serde(default)]
    provenance: serde_json::Value,
}

impl Blocks {
    /// Opens a result by the path it was written to.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::File`] where it is absent, still `.partial`, or its arrays do not fit its
    /// manifest.
    pub fn open(path: impl AsRef<Path>) -> Result<Blocks> {
        let path = path.as_ref();
        let partial = with_suffix(&path.components().collect::<PathBuf>(), ".partial");
        if !path.exists() && partial.exists() {
            return Err(Error::file(
                path,
                format!(
                    "is not there, only {}: the run is still going or was stopped",
                    partial.display()
                ),
            ));
        }
        let folder = path.is_dir();
        let manifest_path = match folder {
            true => path.join("index.json"),
            false => with_suffix(path, ".json"),
        };
        let text = std::fs::read_to_string(&manifest_path).map_err(Error::io(&manifest_path))?;
        let manifest: Manifest = serde_json::from_str(&text)
            .map_err(|e| Error::file(&manifest_path, format!("is no list of parts: {e}")))?;
        let mut parts = Vec::new();
        for entry in manifest.parts {
            // A name alone: a manifest from elsewhere must not reach out of its folder.
            if entry.file.contains(['/', '\\']) || entry.file == ".." {
                return Err(Error::file(
                    &manifest_path,
                    format!("names the file {:?} outside its folder", entry.file),
                ));
            }
            // A single file may have been renamed together with its manifest.
            let file = match folder {
                true => path.join(&entry.file),
                false => path.to_path_buf(),
            };
            parts.push(Part::open(entry.layout(&manifest_path)?, file)?);
        }
        Ok(Blocks {
            parts,
            parameters: manifest.parameters,
            provenance: manifest.provenance,
        })
    }

    /// The parts, in the order of the request.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The network's parameters in the flat order; none in results of version 0.1 and of other sinks.
    pub fn parameters(&self) -> &[ParameterPlace] {
        &self.parameters
    }

    /// What the result was computed from, as JSON ([`super::Provenance`] reads it).
    pub fn provenance(&self) -> &serde_json::Value {
        &self.provenance
    }

    /// The index of the part of that name.
    ///
    /// # Errors
    /// [`Error::Request`] with the names there are.
    pub fn find(&self, name: &str) -> Result<usize> {
        let names = || self.parts.iter().map(|p| p.layout.name.as_str());
        names().position(|n| n == name).ok_or_else(|| {
            Error::Request(format!(
                "no part {name:?} in the result; there are {}",
                names().collect::<Vec<_>>().join(", ")
            ))
        })
    }

    /// The entries `rows` × `columns` (positions within the part): `[rows, columns]`.
    ///
    /// # Errors
    /// [`Error::Shape`] for a range outside the part, [`Error::Io`] where reading fails.
    pub fn block(
        &self,
        part: usize,
        rows: Range<usize>,
        columns: Range<usize>,
    ) -> Result<Array2<f64>> {
        let part = self.part(part)?;
        part.check(&rows, part.layout.row_count(), "rows")?;
        part.check(&columns, part.layout.column_count(), "columns")?;
        let shape = (rows.len(), columns.len());
        // No array has such a shape, though it may have no entries at all (0 × 2^63).
        let impossible = |_| {
            Error::Shape(format!(
                "{} × {} entries are more than memory holds: read fewer at a time",
                shape.0, shape.1
            ))
        };
        let mut values = crate::memory::room(shape.0.saturating_mul(shape.1))?;
        if columns.is_empty() {
            // As many empty rows as there are.
        } else if columns.len() == part.layout.column_count() {
            part.read(
                rows.start as u64 * shape.1 as u64,
                shape.0 * shape.1,
                &mut values,
            )?;
        } else {
            for row in rows {
                let first = row as u64 * part.layout.column_count() as u64 + columns.start as u64;
                part.read(first, shape.1, &mut values)?;
            }
        }
        Array2::from_shape_vec(shape, values).map_err(impossible)
    }

    /// Whole rows of a part: `[rows, all columns]`.
    ///
    /// # Errors
    /// As [`Blocks::block`].
    pub fn rows(&self, part: usize, rows: Range<usize>) -> Result<Array2<f64>> {
        let columns = 0..self.part(part)?.layout.column_count();
        self.block(part, rows, columns)
    }

    /// One entry, by positions within the part.
    ///
    /// # Errors
    /// As [`Blocks::block`].
    pub fn entry(&self, part: usize, row: usize, column: usize) -> Result<f64> {
        let end = |at: usize| at.saturating_add(1);
        Ok(self.block(part, row..end(row), column..end(column))?[[0, 0]])
    }

    /// A vector part, or the only column of a matrix: `[rows]`.
    ///
    /// # Errors
    /// As [`Blocks::block`]; [`Error::Shape`] for a matrix of several columns.
    pub fn vector(&self, part: usize) -> Result<Array1<f64>> {
        let layout = &self.part(part)?.layout;
        if layout.column_count() != 1 {
            return Err(Error::Shape(format!(
                "part {:?} is a matrix of shape {:?}, not a vector",
                layout.name,
                layout.shape()
            )));
        }
        let column = self.block(part, 0..layout.row_count(), 0..1)?;
        Ok(Array1::from_vec(column.into_raw_vec_and_offset().0))
    }

    fn part(&self, part: usize) -> Result<&Part> {
        self.parts.get(part).ok_or_else(|| {
            Error::Request(format!(
                "no part {part} in the result, which has {}",
                self.parts.len()
            ))
        })
    }
}

impl Part {
    fn open(layout: PartLayout, path: PathBuf) -> Result<Part> {
        let (mut file, length) = files::open(&path)?;
        let header = npy::read_header(&path, &mut file)?;
        if header.shape != layout.shape() || header.fortran {
            return Err(Error::file(
                &path,
                format!(
                    "has shape {:?}, and its manifest says {:?} for part {:?}",
                    header.shape,
                    layout.shape(),
                    layout.name
                ),
            ));
        }
        let expected = header
            .data_bytes()
            .and_then(|bytes| bytes.checked_add(header.offset));
        if expected.is_none_or(|expected| expected > length) {
            return Err(Error::file(
                &path,
                format!(
                    "is truncated: {} bytes are there and its shape {:?} needs {}",
                    length,
                    header.shape,
                    expected.map_or("more than 2^64".into(), |e| e.to_string())
                ),
            ));
        }
        Ok(Part {
            layout,
            path,
            file,
            dtype: header.dtype,
            offset: header.offset,
        })
    }

    fn check(&self, range: &Range<usize>, count: usize, what: &str) -> Result<()> {
        if range.start <= range.end && range.end <= count {
            return Ok(());
        }
        Err(Error::Shape(format!(
            "{what} {range:?} are not in part {:?} of shape {:?}",
            self.layout.name,
            self.layout.shape()
        )))
    }

    /// Appends `count` entries from the `first` on.
    fn read(&self, first: u64, count: usize, values: &mut Vec<f64>) -> Result<()> {
        const CHUNK: usize = 1 << 16;
        let mut buffer = vec![0; CHUNK.min(count) * self.dtype.size];
        for start in (0..count).step_by(CHUNK) {
            let bytes = &mut buffer[..CHUNK.min(count - start) * self.dtype.size];
            let at = self.offset + (first + start as u64) * self.dtype.size as u64;
            read_exact_at(&self.file, bytes, at).map_err(Error::io(&self.path))?;
            self.dtype.decode_f64(bytes, values);
        }
        Ok(())
    }
}
