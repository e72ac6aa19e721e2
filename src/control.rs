//! Progress and cancellation of work under way.

use crate::error::Result;
use crate::files::writing;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The progress of a run.
///
/// ```
/// use hessblock::Progress;
/// let percent = |p: Progress| 100 * p.done / p.total.max(1);
/// assert_eq!(percent(Progress { done: 1, total: 4, tiles: 0, tile_count: 9 }), 25);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Work done, in operations of the plan.
    pub done: u64,
    /// All work.
    pub total: u64,
    /// Tiles handed to the writer.
    pub tiles: usize,
    /// All tiles.
    pub tile_count: usize,
}

/// Stops work from another thread. Clones are one token.
///
/// ```
/// use hessblock::CancelToken;
/// let token = CancelToken::new();
/// let other = token.clone();
/// std::thread::spawn(move || other.cancel()).join().expect("the thread ends");
/// assert!(token.is_cancelled());
/// ```
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// A token that is not cancelled.
    pub fn new() -> CancelToken {
        CancelToken::default()
    }

    /// Asks all work that holds this token to stop: it ends with [`crate::Error::Interrupted`] after the piece of work that it is at.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// The flag itself, as work under way looks at it.
    pub(crate) fn flag(&self) -> &AtomicBool {
        &self.0
    }
}

/// The work's view of its caller: whom it tells of progress, and the flag that stops it.
pub struct Control<'a> {
    /// Called after each piece of work.
    pub progress: &'a dyn Fn(Progress),
    /// Set to stop the run at the next piece of work.
    pub cancel: &'a AtomicBool,
}

impl Control<'static> {
    /// No progress, no way to stop.
    pub fn none() -> Self {
        Control::stopped_by(&writing::NEVER)
    }
}

impl<'a> Control<'a> {
    /// No progress; the flag stops it.
    pub fn stopped_by(cancel: &'a AtomicBool) -> Self {
        Control {
            progress: &|_| {},
            cancel,
        }
    }

    /// # Errors
    /// [`crate::Error::Interrupted`] once the run was asked to stop.
    pub fn check(&self) -> Result<()> {
        writing::check(self.cancel)
    }
}

/// A function that is told how far work has come.
type Watch = Arc<dyn Fn(Progress) + Send + Sync>;

/// The caller's side of a [`Control`], owned, so that it goes with a session to any thread.
#[derive(Clone, Default)]
pub(crate) struct Watcher {
    progress: Option<Watch>,
    cancel: CancelToken,
}

impl Watcher {
    pub(crate) fn set_progress(&mut self, progress: impl Fn(Progress) + Send + Sync + 'static) {
        self.progress = Some(Arc::new(progress));
    }

    pub(crate) fn set_cancel(&mut self, token: &CancelToken) {
        self.cancel = token.clone();
    }

    /// Calls `work` with the control of this watcher.
    pub(crate) fn control<T>(&self, work: impl FnOnce(&Control<'_>) -> T) -> T {
        let tell = |progress: Progress| {
            if let Some(watch) = &self.progress {
                watch(progress);
            }
        };
        work(&Control {
            progress: &tell,
            cancel: self.cancel.flag(),
        })
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher")
            .field("progress", &self.progress.is_some())
            .field("cancel", &self.cancel)
            .finish()
    }
}
