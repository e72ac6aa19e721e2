//! The numbers of a chunk: on their way into a file, and out of it.

use super::super::layout::{BLOCK, transpose};
use super::blosc::{self, Fault, Frame};
use super::grid::Grid;
use crate::files::read_exact_at;
use crate::files::writes::Writes;
use crate::tensor::Real;
use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

/// A tile as it comes, `[rows, width]`, or its transpose.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbers<'a, R> {
    pub(super) values: &'a [R],
    pub(super) width: usize,
    pub(super) transposed: bool,
}

/// Padding of a row from which on it is left out of the file, a hole where the file system has such.
const HOLE: usize = 4096;

impl<R: Real> Numbers<'_, R> {
    fn shape(&self) -> [usize; 2] {
        let (rows, columns) = (self.values.len() / self.width.max(1), self.width);
        match self.transposed {
            true => [columns, rows],
            false => [rows, columns],
        }
    }

    /// Rows of it.
    fn band(&self, rows: Range<usize>) -> std::borrow::Cow<'_, [R]> {
        if !self.transposed {
            return self.values[rows.start * self.width..rows.end * self.width].into();
        }
        let height = self.shape()[1];
        let mut band = vec![R::default(); rows.len() * height];
        transpose(self.values, self.width, rows, &mut band, height);
        band.into()
    }

    /// Rows of it as bytes, each of `row_bytes`, into a buffer of zeros.
    fn padded(&self, rows: Range<usize>, row_bytes: usize, into: &mut [u8]) {
        let band = self.band(rows);
        let own = self.shape()[1] * size_of::<R>();
        let bytes = R::bytes(&band);
        if own == row_bytes {
            into[..bytes.len()].copy_from_slice(&bytes);
            return;
        }
        let rows = into.chunks_mut(row_bytes).zip(bytes.chunks(own.max(1)));
        rows.for_each(|(into, from)| into[..own].copy_from_slice(from));
    }

    /// The chunk compressed.
    pub(super) fn compressed(&self, grid: &Grid, level: i32) -> std::io::Result<Vec<u8>> {
        let row_bytes = grid.row_bytes();
        let band = block_rows(grid);
        let [height, _] = self.shape();
        let bytes = grid.chunk[0] * row_bytes;
        blosc::encode(
            level,
            size_of::<R>(),
            bytes,
            band * row_bytes,
            |at, into| {
                let rows = at / row_bytes..((at + into.len()) / row_bytes).min(height);
                // Rows over the edge stay zeros.
                if rows.start < rows.end {
                    self.padded(rows, row_bytes, into);
                }
            },
        )
    }

    /// Writes the chunk as it is, from `at` on in a file that is as long as that takes.
    pub(super) fn write(
        &self,
        grid: &Grid,
        writes: &Writes,
        file: &File,
        at: u64,
    ) -> std::io::Result<()> {
        let row_bytes = grid.row_bytes();
        let [height, width] = self.shape();
        let own = width * size_of::<R>();
        if own == row_bytes && !self.transposed {
            return writes.write_all_at(file, &R::bytes(self.values), at);
        }
        for start in (0..height).step_by(BLOCK) {
            let rows = start..(start + BLOCK).min(height);
            if row_bytes - own >= HOLE {
                let band = self.band(rows.clone());
                let bytes = R::bytes(&band);
                for (row, bytes) in rows.zip(bytes.chunks(own.max(1))) {
                    writes.write_all_at(file, bytes, at + (row * row_bytes) as u64)?;
                }
                continue;
            }
            let mut band = vec![0; rows.len() * row_bytes];
            self.padded(rows, row_bytes, &mut band);
            writes.write_all_at(file, &band, at + (start * row_bytes) as u64)?;
        }
        Ok(())
    }
}

/// Rows of a chunk that are compressed together.
pub(super) fn block_rows(grid: &Grid) -> usize {
    (blosc::BLOCK / grid.row_bytes().max(1)).clamp(1, grid.chunk[0])
}

/// Where a chunk's bytes lie.
#[derive(Debug)]
pub(super) struct Stored<'a> {
    pub(super) file: &'a File,
    pub(super) at: u64,
    /// Bytes that it has there.
    pub(super) room: u64,
    pub(super) compressed: bool,
}

impl Stored<'_> {
    /// Reads `rows` × `columns` of the chunk, positions within it, into rows of `stride` bytes. `keep` gives the blocks
    /// of a compressed one.
    pub(super) fn read(
        &self,
        grid: &Grid,
        [rows, columns]: [Range<usize>; 2],
        into: &mut [u8],
        stride: usize,
        keep: &mut impl Keep,
    ) -> Result<(), Fault> {
        let (row_bytes, size) = (grid.row_bytes(), grid.number_bytes);
        let width = columns.len() * size;
        let bytes = grid
            .chunk_bytes()
            .ok_or(Fault::Damaged("has chunks that no memory holds"))?;
        if width == 0 {
            return Ok(());
        }
        // Whole rows that follow each other are one run.
        let (run, runs) = match width == row_bytes && stride == width {
            true => (rows.len() * width, 1),
            false => (width, rows.len()),
        };
        let places = into.chunks_mut(if runs == 1 { run.max(1) } else { stride });
        let places = places.take(runs).enumerate().map(|(row, into)| {
            let from = (rows.start + row) * row_bytes + columns.start * size;
            (from, &mut into[..run])
        });
        if !self.compressed {
            if self.room < bytes as u64 {
                return Err(Fault::Damaged("is cut off"));
            }
            for (from, into) in places {
                read_exact_at(self.file, into, self.at + from as u64)?;
            }
            return Ok(());
        }
        let frame = Frame::open(self.file, self.at, self.room, bytes, size)?;
        for (mut from, mut into) in places {
            while !into.is_empty() {
                let number = from / frame.block;
                let block = keep.block(number, &frame)?;
                let within = from - number * frame.block;
                let count = into.len().min(block.len().saturating_sub(within));
                if count == 0 {
                    return Err(Fault::Damaged("has a block that is too short"));
                }
                let (own, rest) = into.split_at_mut(count);
                own.copy_from_slice(&block[within..within + count]);
                (from, into) = (from + count, rest);
            }
        }
        Ok(())
    }
}

/// Gives blocks of a compressed chunk, from where they were kept or by reading them.
pub(super) trait Keep {
    fn block(&mut self, number: usize, frame: &Frame<'_>) -> Result<Arc<Vec<u8>>, Fault>;
}

/// Keeps the last block alone, for reading from beginning to end.
#[derive(Debug, Default)]
pub(super) struct LastBlock(Option<(usize, Arc<Vec<u8>>)>);

impl Keep for LastBlock {
    fn block(&mut self, number: usize, frame: &Frame<'_>) -> Result<Arc<Vec<u8>>, Fault> {
        if let Some((known, block)) = &self.0
            && *known == number
        {
            return Ok(block.clone());
        }
        let block = Arc::new(frame.block(number)?);
        self.0 = Some((number, block.clone()));
        Ok(block)
    }
}
