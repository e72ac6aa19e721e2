//! Ctrl-C, and the other signals that ask a process to end.
//!
//! - While no result is being written, the process ends at once: reading, importing, planning and computing in memory leave
//!   nothing behind and hold nothing to save, and need not look whether they were asked to stop.
//! - While a result is being written, the first signal asks the run to stop: what is done becomes durable, so that the same
//!   command goes on from there, and what is of no use is removed. Once nothing is being written any more, the process has a
//!   moment to say so, and then ends. Where the run does not see within a second that it is to stop, it is in the middle of a
//!   piece of work of which nothing would be kept: the process ends then, as at a second signal.
//! - A second signal ends the process at once. Nothing is half there under a final name then, as after `kill -9`.

use super::tell;
use crate::control::CancelToken;
use crate::files::writing::{is_stopping, is_writing};
use std::sync::LazyLock;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// Set by the first signal; runs look at it between pieces of work.
pub static CANCEL: LazyLock<CancelToken> = LazyLock::new(CancelToken::new);

/// The exit code of a process that was interrupted.
pub const CODE: u8 = 130;

/// The time that a message may take: whoever reads standard error may have stopped reading.
const MESSAGE: Duration = Duration::from_millis(200);
/// The time that the command has to print its message after the last file was closed.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// The time in which a run sees that it is to stop.
const SEEN: Duration = Duration::from_secs(1);
/// The time between two looks at whether something is being written.
const LOOK: Duration = Duration::from_millis(20);

/// Lets signals stop the command from here on.
pub fn watch() {
    if let Err(error) = ctrlc::set_handler(on_signal) {
        tracing::warn!("Ctrl-C will leave .partial files: {error}");
    }
}

/// The handler of a signal, which runs in a thread of its own.
fn on_signal() {
    // The flag before the question: what begins to be written after it sees the flag.
    if CANCEL.flag().swap(true, Ordering::SeqCst) || !is_writing() {
        end();
    }
    say(
        "stopping: what is done is kept, so that the same command goes on from there; press Ctrl-C again to stop at once",
    );
    // Where no thread can be started, only the next signal ends what does not look at the flag.
    let _ = std::thread::Builder::new().spawn(end_when_written);
}

/// Ends the process some time after the last result was written, or left, or where the work does not see that it is to stop.
fn end_when_written() {
    let asked = Instant::now();
    let mut idle = asked;
    while idle.elapsed() < LAST_WORDS {
        std::thread::sleep(LOOK);
        if is_writing() {
            idle = Instant::now();
            if !is_stopping() && asked.elapsed() > SEEN {
                end();
            }
        }
    }
    end();
}

/// Ends the process, whatever its other threads do.
fn end() -> ! {
    say("interrupted");
    #[cfg(unix)]
    // SAFETY: it ends the process without running any more of its code. Handlers that run at an ordinary exit (drivers have such)
    // would meet threads at work.
    unsafe {
        libc::_exit(CODE.into())
    }
    #[cfg(not(unix))]
    std::process::exit(CODE.into())
}

/// Prints a line to standard error, unless that takes too long.
fn say(text: &'static str) {
    let (done, said) = channel();
    let print = move || {
        tell(text);
        // Nobody waits for it any more where it took too long.
        let _ = done.send(());
    };
    if std::thread::Builder::new().spawn(print).is_ok() {
        let _ = said.recv_timeout(MESSAGE);
    }
}
