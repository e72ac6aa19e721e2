//! Whether this process is writing a result, so that ending it at once would lose work.
//!
//! The command line asks when the user presses Ctrl-C: while nothing is being written the process ends at once; otherwise it is
//! asked to stop, so that what is done is made durable and what is of no use is removed.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The results that are being written.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Whether work under way has seen that it is to stop.
static STOPPING: AtomicBool = AtomicBool::new(false);

/// To be called where work sees that it is to stop: what is done is being made durable from here on.
pub(crate) fn stops() {
    STOPPING.store(true, Ordering::SeqCst);
}

/// Whether work under way has seen that it is to stop, or a result is being finished. Otherwise the work is in the middle of a
/// long piece, of which nothing would be kept.
pub fn is_stopping() -> bool {
    STOPPING.load(Ordering::SeqCst) || FINISHING.load(Ordering::SeqCst) > 0
}

/// The results that are being made durable and given their names.
static FINISHING: AtomicUsize = AtomicUsize::new(0);

/// Marks a result as being finished, or left to be gone on with, for as long as this value lives.
#[derive(Debug)]
#[must_use = "dropped, it says that nothing is being finished"]
pub(crate) struct Finishing(());

impl Finishing {
    /// To be called before the first step that is not to be cut short.
    pub(crate) fn begin() -> Finishing {
        FINISHING.fetch_add(1, Ordering::SeqCst);
        Finishing(())
    }
}

impl Drop for Finishing {
    fn drop(&mut self) {
        FINISHING.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Marks a result as being written for as long as this value lives.
#[derive(Debug)]
#[must_use = "dropped, it says that nothing is being written"]
pub(crate) struct Writing(());

impl Writing {
    /// To be called before the first file or folder is made.
    pub(crate) fn begin() -> Writing {
        COUNT.fetch_add(1, Ordering::SeqCst);
        Writing(())
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        COUNT.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Whether a result is being written, by any thread of this process.
pub fn is_writing() -> bool {
    COUNT.load(Ordering::SeqCst) > 0
}
