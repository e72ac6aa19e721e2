//! The sink that keeps parts in memory.

use super::Sink;
use super::layout::{PartLayout, Written, transpose};
use crate::error::{Error, Remedy, Result};

use crate::tensor::Real;
use ndarray::{Array2, ArrayView2};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Keeps every part as an array; see [`Sink`] for an example.
///
/// Begun again, it uses the memory of the parts before where their sizes are the same: pages that a process has for the
/// first time cost as much as the numbers in them.
#[derive(Debug, Default)]
pub struct Memory<R> {
    parts: Vec<Stored<R>>,
}

#[derive(Debug)]
struct Stored<R> {
    layout: PartLayout,
    values: Mutex<Vec<R>>,
    written: Written,
}

impl<R> Stored<R> {
    fn into_values(self) -> Vec<R> {
        self.values
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R: Real> Memory<R> {
    /// An empty sink.
    pub fn new() -> Self {
        Self { parts: Vec::new() }
    }

    /// The parts, in the order of the request: `[rows, columns]`, and `[rows, 1]` for a vector.
    ///
    /// Call it after [`Sink::finish`]: entries not written hold anything.
    pub fn into_parts(self) -> Vec<(PartLayout, Array2<R>)> {
        let array = |stored: Stored<R>| {
            let shape = (stored.layout.row_count(), stored.layout.column_count());
            let layout = stored.layout.clone();
            let mut values = stored.into_values();
            // What was lent to a run that failed is gone.
            values.resize(shape.0 * shape.1, R::default());
            let array = Array2::from_shape_vec(shape, values);
            (
                layout,
                array.expect("a part holds as many values as its shape says"),
            )
        };
        self.parts.into_iter().map(array).collect()
    }

    /// Calls `look` with the entries of a part: `[rows, columns]`, `[rows, 1]` for a vector.
    ///
    /// # Errors
    /// [`Error::Shape`] for a part that did not begin, or whose memory is lent.
    pub fn look<T>(&self, part: usize, look: impl FnOnce(ArrayView2<'_, R>) -> T) -> Result<T> {
        let stored = self.part(part)?;
        let shape = (stored.layout.row_count(), stored.layout.column_count());
        let values = stored.values.lock().unwrap_or_else(PoisonError::into_inner);
        let view = ArrayView2::from_shape(shape, &values);
        let view = view.map_err(|_| {
            Error::Shape(format!(
                "the memory of part {part} is lent to a run, or was to one that failed"
            ))
        })?;
        Ok(look(view))
    }

    fn part(&self, part: usize) -> Result<&Stored<R>> {
        self.parts.get(part).ok_or_else(|| {
            Error::Shape(format!(
                "there is no part {part}: {} began",
                self.parts.len()
            ))
        })
    }
}

impl<R: Real> Sink<R> for Memory<R> {
    fn begin(&mut self, parts: &[PartLayout]) -> Result<()> {
        let mut earlier: Vec<Vec<R>> = self.parts.drain(..).map(Stored::into_values).collect();
        let sizes: Vec<u64> = parts.iter().flat_map(PartLayout::entries).collect();
        earlier.retain(|values| sizes.contains(&(values.len() as u64)));
        for layout in parts {
            let entries = layout.entries()?;
            // Memory that was written before: its pages are there already.
            let fits = |values: &Vec<R>| values.len() as u64 == entries;
            let values = match earlier.iter().position(fits) {
                Some(at) => earlier.swap_remove(at),
                None => zeros(layout)?,
            };
            self.parts.push(Stored {
                values: Mutex::new(values),
                layout: layout.clone(),
                written: Written::default(),
            });
        }
        Ok(())
    }

    fn tile(
        &self,
        part: usize,
        rows: Range<usize>,
        columns: Range<usize>,
        values: &[R],
        mirror: bool,
    ) -> Result<()> {
        let stored = self.part(part)?;
        let mirror = stored
            .layout
            .check_tile(&rows, &columns, values.len(), mirror)?;
        if values.is_empty() {
            return Ok(());
        }
        let width = stored.layout.column_count();
        let mut array = stored.values.lock().unwrap_or_else(PoisonError::into_inner);
        if array.len() < stored.layout.row_count() * width {
            return Err(Error::Shape(format!("the memory of part {part} is lent")));
        }
        for (row, from) in rows.clone().zip(values.chunks_exact(columns.len())) {
            let at = row * width;
            array[at + columns.start..at + columns.end].copy_from_slice(from);
        }
        stored.written.add(values.len());
        if mirror {
            let at = columns.start * width + rows.start;
            transpose(
                values,
                columns.len(),
                0..columns.len(),
                &mut array[at..],
                width,
            );
            stored.written.add(values.len());
        }
        Ok(())
    }

    fn vector(&self, part: usize, values: &[R]) -> Result<()> {
        let stored = self.part(part)?;
        stored.layout.check_vector(values.len())?;
        let mut array = stored.values.lock().unwrap_or_else(PoisonError::into_inner);
        array.copy_from_slice(values);
        stored.written.add(values.len());
        Ok(())
    }

    fn take(&self, part: usize) -> Option<Vec<R>> {
        let stored = self
            .parts
            .get(part)
            .filter(|stored| stored.layout.columns.is_some())?;
        let mut values = stored.values.lock().unwrap_or_else(PoisonError::into_inner);
        Some(std::mem::take(&mut values))
    }

    fn put_back(&self, part: usize, values: Vec<R>) -> Result<()> {
        let stored = self.part(part)?;
        let (rows, columns) = (
            0..stored.layout.row_count(),
            0..stored.layout.column_count(),
        );
        stored
            .layout
            .check_tile(&rows, &columns, values.len(), false)?;
        stored.written.add(values.len());
        *stored.values.lock().unwrap_or_else(PoisonError::into_inner) = values;
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        for stored in &self.parts {
            stored.written.check(&stored.layout)?;
        }
        Ok(())
    }
}

/// Zeroed memory for a part, or an error instead of an abort where the system gives none.
fn zeros<R: Real>(layout: &PartLayout) -> Result<Vec<R>> {
    let refused = || {
        let entries = layout.entries().unwrap_or(u64::MAX);
        let needed = entries.saturating_mul(size_of::<R>() as u64);
        let message = format!(
            "part {:?} of shape {:?} in {} does not fit in memory: write it to a file instead",
            layout.name,
            layout.shape(),
            R::NAME
        );
        Error::budget((needed, 0), vec![Remedy::WriteToFiles], message)
    };
    let entries = usize::try_from(layout.entries()?).map_err(|_| refused())?;
    // A trial, which touches nothing: `vec!` aborts where there is no memory, but it alone gets zeroed pages
    // from the system without writing them.
    crate::memory::try_reserve(&mut Vec::<R>::new(), entries).map_err(|_| refused())?;
    Ok(crate::memory::zeros(entries))
}
