//! Progress over many operator calls, as one.

use crate::control::{Control, Progress};
use crate::error::Result;
use std::cell::Cell;

/// Counts samples pushed through the network, each along one direction, over all calls.
pub(crate) struct Steps<'a> {
    control: &'a Control<'a>,
    samples: usize,
    done: Cell<u64>,
    total: Cell<u64>,
}

impl<'a> Steps<'a> {
    /// Steps of `directions` directions in all over `samples` samples.
    pub(crate) fn new(control: &'a Control<'a>, samples: usize, directions: u64) -> Steps<'a> {
        Steps {
            control,
            samples,
            done: Cell::new(0),
            total: Cell::new(directions * samples as u64),
        }
    }

    /// Runs a call that takes `directions` directions.
    ///
    /// # Errors
    /// What the call reports; [`crate::Error::Interrupted`].
    pub(crate) fn step<T>(
        &self,
        directions: usize,
        call: impl FnOnce(&Control<'_>) -> Result<T>,
    ) -> Result<T> {
        self.control.check()?;
        let weight = (directions * self.samples) as u64;
        let progress = |inner: Progress| {
            let share = inner.done as f64 / inner.total.max(1) as f64;
            (self.control.progress)(Progress {
                done: self.done.get() + (share * weight as f64) as u64,
                total: self.total.get(),
                ..inner
            });
        };
        let result = call(&Control {
            progress: &progress,
            cancel: self.control.cancel,
        })?;
        self.done.set(self.done.get() + weight);
        Ok(result)
    }

    /// Takes directions off the total that turned out not to be needed.
    pub(crate) fn spare(&self, directions: usize) {
        let spared = (directions * self.samples) as u64;
        self.total.set(self.total.get().saturating_sub(spared));
    }
}
