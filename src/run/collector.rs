//! The way of a device's tiles back to the host, beside its driver.

use super::Problem;
use super::ledger::Ledger;
use super::writer::Item;
use crate::error::{Error, Result};
use crate::plan::{Plan, TileJob};
use crate::sink::Sink;
use crate::tensor::Contract;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};

/// What the devices of a run share.
pub(super) struct Shared<'a, R> {
    pub(super) work: &'a Problem<'a>,
    pub(super) plan: &'a Plan,
    pub(super) ledger: &'a Ledger,
    pub(super) sink: &'a dyn Sink<R>,
    /// Set by the caller to stop the run.
    pub(super) cancel: &'a AtomicBool,
    /// Set where writing failed.
    pub(super) failed: &'a AtomicBool,
    /// Buffers of tiles that were written, for the next ones.
    pub(super) written: &'a Mutex<Vec<Vec<R>>>,
    /// Operations done.
    pub(super) operations: &'a AtomicU64,
    /// Share of the plan's work that is this run's to do.
    pub(super) fraction: f64,
    /// Devices that work at once.
    pub(super) devices: usize,
}

/// What one device did.
#[derive(Clone, Debug, Default)]
pub(super) struct Share {
    pub(super) factor_seconds: f64,
    pub(super) contraction_seconds: f64,
    /// The driver's waiting for the ring, and for the writer.
    pub(super) wait_seconds: f64,
    pub(super) tiles: usize,
    pub(super) non_finite: u64,
}

/// A tile on its way to the host.
pub(super) struct Returning<P> {
    pub(super) number: usize,
    pub(super) job: TileJob,
    pub(super) pending: P,
}

/// Waits for tiles on their way and hands them to the writers.
pub(super) fn collect<B: Contract>(
    backend: &B,
    shared: &Shared<'_, B::Real>,
    returning: Receiver<Returning<B::Pending>>,
    send: &SyncSender<Item<B::Real>>,
    broken: &AtomicBool,
) -> (Share, Result<()>) {
    let mut share = Share::default();
    let mut take = |tile: Returning<B::Pending>| {
        let finite = backend.is_finite(&tile.pending);
        let values = backend.collect(tile.pending);
        let handed = values.and_then(|values| {
            let job = tile.job;
            hand_over(
                shared,
                send,
                Item::Tile {
                    job,
                    values,
                    finite,
                },
            )
        });
        match &handed {
            Ok(()) => {
                share.tiles += 1;
                shared.ledger.done();
            }
            Err(_) => shared.ledger.put_back([tile.number]),
        }
        handed
    };
    while let Ok(tile) = returning.recv() {
        if let Err(error) = take(tile) {
            broken.store(true, Ordering::Relaxed);
            // Others may make what is still on its way here.
            for tile in returning {
                shared.ledger.put_back([tile.number]);
            }
            return (share, Err(error));
        }
    }
    (share, Ok(()))
}

/// Gives an item to the writers.
///
/// # Errors
/// [`Error::Request`] where they stopped; theirs is the cause.
pub(super) fn hand_over<R>(
    shared: &Shared<'_, R>,
    send: &SyncSender<Item<R>>,
    item: Item<R>,
) -> Result<()> {
    if send.send(item).is_err() || shared.failed.load(Ordering::Relaxed) {
        return Err(Error::Request("the writer stopped".into()));
    }
    Ok(())
}

/// Returns the one of two errors of a device that says what became of it.
pub(super) fn more_severe(own: Error, other: Error) -> Error {
    let weight = |error: &Error| match error {
        Error::DeviceLost(_) => 3,
        Error::DeviceMemory(_) => 2,
        Error::Interrupted | Error::Device(_) => 0,
        _ => 1,
    };
    if weight(&other) > weight(&own) || matches!(own, Error::Interrupted) {
        other
    } else {
        own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_that_says_what_became_of_the_device_goes_before_others() {
        let lost = || Error::DeviceLost("gone".into());
        let memory = || Error::DeviceMemory("full".into());
        let after = || Error::Device("the result depends on another".into());
        let is_lost = |e: Error| matches!(e, Error::DeviceLost(_));
        assert!(is_lost(more_severe(Error::Interrupted, lost())));
        assert!(is_lost(more_severe(lost(), Error::Interrupted)));
        assert!(is_lost(more_severe(after(), lost())) && is_lost(more_severe(lost(), memory())));
        assert!(matches!(
            more_severe(after(), memory()),
            Error::DeviceMemory(_)
        ));
        assert!(matches!(
            more_severe(Error::Interrupted, after()),
            Error::Device(_)
        ));
    }
}
