//! Computations on a thread of their own, while the thread that asked for them waits, asks for signals, and tells of progress.

use crate::errors::raise;
use hessblock::{CancelToken, Progress};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// How long the waiting thread sleeps between two looks at signals and progress.
const SLICE: Duration = Duration::from_millis(20);

/// The progress of a computation: units done, and units in total.
#[derive(Clone, Default)]
pub struct ProgressState(Arc<(AtomicU64, AtomicU64)>);

impl ProgressState {
    /// Notes how far the computation has come.
    pub fn step(&self, done: u64, total: u64) {
        self.0.1.store(total, Ordering::Relaxed);
        self.0.0.store(done, Ordering::Relaxed);
    }

    /// A function that notes the library's progress.
    pub fn watch(&self) -> impl Fn(Progress) + Send + Sync + 'static {
        let told = self.clone();
        move |progress| told.step(progress.done, progress.total)
    }

    fn read(&self) -> (u64, u64) {
        let total = self.0.1.load(Ordering::Relaxed);
        (self.0.0.load(Ordering::Relaxed).min(total), total)
    }
}

/// The process that this module computed in first.
static PROCESS: OnceLock<u32> = OnceLock::new();

/// Refuses a process that was forked off one that computed: its threads are gone, and whatever waits for them waits for ever.
fn check_process() -> PyResult<()> {
    let own = std::process::id();
    match *PROCESS.get_or_init(|| own) == own {
        true => Ok(()),
        false => Err(PyRuntimeError::new_err(
            "this process was forked from one in which hessblock had begun to compute, and its threads were not: start processes \
             with the method \"spawn\" or \"forkserver\" (multiprocessing.get_context)",
        )),
    }
}

/// Runs `work` on another thread without the GIL. It is given the token that a signal, or an exception of `progress`, cancels,
/// and the place to note its progress.
///
/// `progress` is called from the waiting thread with what is done and what there is to do, at most once a slice.
///
/// # Errors
/// The exception of a signal's handler (KeyboardInterrupt) or of `progress`, once the work has stopped; the library's errors.
pub fn run<T: Send>(
    py: Python<'_>,
    progress: Option<&Bound<'_, PyAny>>,
    work: impl FnOnce(&CancelToken, &ProgressState) -> hessblock::Result<T> + Send,
) -> PyResult<T> {
    check_process()?;
    let (token, told) = (CancelToken::new(), ProgressState::default());
    let (result, stopped) = std::thread::scope(|scope| {
        let (send, mut receive) = sync_channel(1);
        let (own_token, own_told) = (token.clone(), told.clone());
        scope.spawn(move || {
            let result = catch_unwind(AssertUnwindSafe(|| work(&own_token, &own_told)));
            // The other side waits until this comes.
            let _ = send.send(result);
        });
        let mut stopped: Option<PyErr> = None;
        let mut last = (0, 0);
        loop {
            let waiting = &mut receive;
            match py.detach(move || waiting.recv_timeout(SLICE)) {
                Ok(result) => break (Some(result), stopped),
                Err(RecvTimeoutError::Disconnected) => break (None, stopped),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if stopped.is_some() {
                continue;
            }
            let looked = py.check_signals().and_then(|()| {
                let now = told.read();
                if now != last && now.1 > 0 {
                    last = now;
                    progress.map_or(Ok(()), |p| p.call1(now).map(drop))
                } else {
                    Ok(())
                }
            });
            if let Err(error) = looked {
                token.cancel();
                stopped = Some(error);
            }
        }
    });
    if let Some(error) = stopped {
        return Err(error);
    }
    match result {
        Some(Ok(Ok(value))) => {
            let (_, total) = told.read();
            if let Some(progress) = progress.filter(|_| total > 0) {
                progress.call1((total, total))?;
            }
            Ok(value)
        }
        Some(Ok(Err(error))) => Err(raise(py, error)),
        Some(Err(panic)) => std::panic::resume_unwind(panic),
        None => Err(PyRuntimeError::new_err(
            "the thread of the computation ended without a result: please report this",
        )),
    }
}
