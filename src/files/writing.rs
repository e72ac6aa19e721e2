//! Whether this process is writing a result, so that ending it at once would lose work.
//!
//! The command line asks when the user presses Ctrl-C: while nothing is being written the process ends at once; otherwise it is
//! asked to stop, so that what is done is made durable and what is of no use is removed.

use crate::error::{Error, Result};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The results that are being written.
static WRITING: AtomicUsize = AtomicUsize::new(0);

/// The results that are being made durable and given their names.
static FINISHING: AtomicUsize = AtomicUsize::new(0);

/// Whether work under way has seen that it is to stop.
static STOPPING: AtomicBool = AtomicBool::new(false);

/// A cancel flag that is never set.
pub(crate) static NEVER: AtomicBool = AtomicBool::new(false);

/// Checks a cancel flag between two pieces of work. The process then knows that the work is stopping ([`is_stopping`]).
///
/// # Errors
/// [`Error::Interrupted`] once the flag is set.
pub(crate) fn check(cancel: &AtomicBool) -> Result<()> {
    if cancel.load(Ordering::Relaxed) {
        STOPPING.store(true, Ordering::SeqCst);
        return Err(Error::Interrupted);
    }
    Ok(())
}

/// Counts a result as being written, or as being finished, for as long as this value lives.
#[derive(Debug)]
#[must_use = "dropped, it counts no more"]
pub(crate) struct Underway(&'static AtomicUsize);

impl Underway {
    /// Counts a result as being written. To be called before the first file or folder is made.
    pub(crate) fn writing() -> Underway {
        Underway::of(&WRITING)
    }

    /// Counts a result as being finished, or left to be resumed. To be called before the first step that must not be cut short.
    pub(crate) fn finishing() -> Underway {
        Underway::of(&FINISHING)
    }

    fn of(count: &'static AtomicUsize) -> Underway {
        count.fetch_add(1, Ordering::SeqCst);
        Underway(count)
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Whether a result is being written, by any thread of this process.
pub fn is_writing() -> bool {
    WRITING.load(Ordering::SeqCst) > 0
}

/// Whether work under way has seen that it is to stop, or a result is being finished. Otherwise the work is in the middle of a
/// long piece, of which nothing would be kept.
pub fn is_stopping() -> bool {
    STOPPING.load(Ordering::SeqCst) || FINISHING.load(Ordering::SeqCst) > 0
}
