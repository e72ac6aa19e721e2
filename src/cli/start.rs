//! Settles two things before any command: whether there is memory to start, and how many threads share the work.

use super::tell;
use crate::bytes::Bytes;
use crate::plan::budget::{address_space, space_of};
use crate::{Error, Result};

/// Threads for each that the machine runs at once, at most: more only take memory, and turns from each other.
const PER_PROCESSOR: usize = 4;
/// Up to this many threads are always started, if asked for.
const ALWAYS: usize = 16;
/// Bytes of address space that the process takes without what its threads take, for the least work.
const SPACE: u64 = 128 << 20;

/// Checks the limits that the system sets, and starts the threads.
///
/// # Errors
/// [`Error::Budget`] where there is no room for the least work, or for the threads.
pub fn begin() -> Result<()> {
    let_writes_fail();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let asked = std::env::var("RAYON_NUM_THREADS").ok();
    let asked = asked.and_then(|text| text.trim().parse::<usize>().ok());
    let asked = asked.filter(|threads| *threads > 0);
    let most = (PER_PROCESSOR * processors).max(ALWAYS);
    let threads = asked.unwrap_or(processors).min(most);
    if let Some(asked) = asked.filter(|asked| *asked > threads) {
        tell(&format!(
            "warning: RAYON_NUM_THREADS={asked} is more than this machine has a use for, which runs {processors} at once: \
             {threads} threads are started"
        ));
    }
    if let Some(limit) = address_space() {
        share_one_heap();
        let least = SPACE + space_of(threads);
        if limit < least {
            let message = format!(
                "the limit on this process's memory (ulimit -v) is {}, and {} are needed to begin with {threads} threads: \
                 raise it, or set RAYON_NUM_THREADS to fewer",
                Bytes(limit.into()),
                Bytes(least.into())
            );
            return Err(Error::budget((least, limit), Vec::new(), message));
        }
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
    pool.build_global().map_err(|error| {
        let message = format!(
            "{threads} threads cannot be started ({error}): raise the limits on processes and memory (ulimit -u, ulimit -v), or set \
             RAYON_NUM_THREADS to fewer"
        );
        Error::budget((space_of(threads), 0), Vec::new(), message)
    })
}

/// Lets a write beyond the limit on the size of files (`ulimit -f`) fail as one to a full disk does, in place of ending the process.
fn let_writes_fail() {
    #[cfg(unix)]
    // SAFETY: no code runs at a signal that is ignored.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}

/// Lets all threads take memory from one heap: glibc would set 64 MiB of address space aside for each, and that is limited.
fn share_one_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it sets a number that the allocator looks at when a thread first asks for memory.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}
