//! What stands between a run and its sink: finished tiles and vectors, and the threads that hand them over.

use crate::error::{Error, Result};
use crate::plan::{Plan, TileJob};
use crate::sink::Sink;
use crate::tensor::Real;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// What goes to the writer.
pub(super) enum Item<R> {
    Tile {
        job: TileJob,
        values: Vec<R>,
        /// Whether they are known to be finite.
        finite: bool,
    },
    Vector {
        part: usize,
        values: Vec<R>,
    },
}

/// What a writer works on.
pub(super) struct Writer<'a, R> {
    pub(super) plan: &'a Plan,
    pub(super) sink: &'a dyn Sink<R>,
    pub(super) items: &'a Mutex<Receiver<Item<R>>>,
    /// Buffers of tiles that were written, for the next ones.
    pub(super) written: &'a Mutex<Vec<Vec<R>>>,
    /// Whether these are wanted.
    pub(super) keep: bool,
    /// Whether entries that are not finite are no error.
    pub(super) lenient: bool,
    /// Set where writing failed: no more items are wanted.
    pub(super) failed: &'a AtomicBool,
}

/// Takes what is still sent, unread, when a writer stops early: nobody is to wait for it.
struct Drain<'a, R>(Writer<'a, R>);

impl<R> Drop for Drain<'_, R> {
    fn drop(&mut self) {
        self.0.failed.store(true, Ordering::Relaxed);
        let items = self.0.items.lock().unwrap_or_else(PoisonError::into_inner);
        while items.recv().is_ok() {}
    }
}

impl<R> Clone for Writer<'_, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for Writer<'_, R> {}

impl<R: Real> Writer<'_, R> {
    /// Gives items to the sink until there are no more; returns the seconds it was busy and the entries that are not
    /// finite.
    pub(super) fn run(self) -> Result<(f64, u64)> {
        let (mut busy, mut non_finite) = (0.0, 0);
        loop {
            // A writer that panicked has its own error.
            let item = self
                .items
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .recv();
            let Ok(item) = item else {
                return Ok((busy, non_finite));
            };
            let start = Instant::now();
            // Also where a sink of the user's panics.
            let drain = Drain(self);
            non_finite += self.write(item)?;
            std::mem::forget(drain);
            busy += start.elapsed().as_secs_f64();
        }
    }

    /// Writes an item; returns the entries that are not finite.
    fn write(&self, item: Item<R>) -> Result<u64> {
        match item {
            Item::Vector { part, values } => {
                let non_finite = checked(&values, self.lenient)?;
                self.sink.vector(part, &values)?;
                Ok(non_finite)
            }
            Item::Tile {
                job,
                mut values,
                finite,
            } => {
                let (part, tile) = (&self.plan.parts[job.part], self.plan.tile(&job));
                let mirrored = self.plan.mirrored(&job);
                if self.plan.grid.above_the_diagonal() && part.on_diagonal(&job) {
                    mirror(tile.rows.len(), &mut values);
                }
                // What is not finite is not written: a run that goes on from here would take it for done.
                let non_finite = if finite {
                    0
                } else {
                    checked(&values, self.lenient)?
                };
                self.sink
                    .tile(tile.part, tile.rows, tile.columns, &values, mirrored)?;
                if self.keep {
                    let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
                    written.push(values);
                }
                Ok(non_finite * if mirrored { 2 } else { 1 })
            }
        }
    }
}

/// Counts the entries that are not finite.
///
/// # Errors
/// [`Error::NotFinite`] where there are any, unless `lenient`.
pub(super) fn checked<R: Real>(values: &[R], lenient: bool) -> Result<u64> {
    let count = values.iter().filter(|v| !v.to_f64().is_finite()).count();
    if count > 0 && !lenient {
        return Err(Error::not_finite(format!(
            "{count} of {} entries of a tile are NaN or infinite",
            values.len()
        )));
    }
    Ok(count as u64)
}

/// Fills a diagonal tile below its diagonal from above it, so that it is symmetric to the bit.
fn mirror<R: Copy>(width: usize, values: &mut [R]) {
    /// Rows and columns that stay in cache while they are transposed.
    const BLOCK: usize = 32;
    for top in (0..width).step_by(BLOCK) {
        for left in (0..=top).step_by(BLOCK) {
            for row in top..(top + BLOCK).min(width) {
                for column in left..(left + BLOCK).min(row) {
                    values[row * width + column] = values[column * width + row];
                }
            }
        }
    }
}
