//! How long the device was busy, and what was read back from it.
//!
//! The driver tells of the end of a submission when it is asked: a thread asks often enough while any is under way.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::lock::lock;
use crate::tensor::DeviceCounters;

/// Between two questions while work is under way: a submission takes some sixty times as long.
const INTERVAL: Duration = Duration::from_millis(1);

/// When a submission ended, once it has.
pub(super) type Ended = Arc<OnceLock<Instant>>;

#[derive(Default)]
struct State {
    under_way: AtomicUsize,
    closed: AtomicBool,
    totals: Mutex<Totals>,
}

#[derive(Default)]
struct Totals {
    /// The union of the times from a submission to its end.
    busy: Duration,
    /// When the last one ended.
    ended: Option<Instant>,
    read_back: Duration,
    read_back_bytes: u64,
    uploaded_bytes: u64,
}

/// Counts the device's work, and sees to it that ends are noticed soon.
pub(super) struct Busy {
    state: Arc<State>,
    poller: Option<JoinHandle<()>>,
}

impl Busy {
    pub fn new(device: wgpu::Device) -> Busy {
        let state = Arc::new(State::default());
        let shared = state.clone();
        let poll = move || {
            while !shared.closed.load(Ordering::Acquire) {
                if shared.under_way.load(Ordering::Acquire) == 0 {
                    std::thread::park();
                    continue;
                }
                // Without a wait there is nothing to time out; an error reaches the device's callbacks, then wgpu panics.
                let polled = catch_unwind(AssertUnwindSafe(|| device.poll(wgpu::PollType::Poll)));
                if polled.is_err() {
                    return;
                }
                std::thread::sleep(INTERVAL);
            }
        };
        let thread = std::thread::Builder::new().name("hessblock device".into());
        Busy {
            state,
            // Without it ends are noticed at the next submission or read, and count as later than they were.
            poller: thread.spawn(poll).ok(),
        }
    }

    /// Takes note of a submission made at `submitted`: what to call when it is over, and where it is noted.
    pub fn submitted(&self, submitted: Instant) -> (impl FnOnce() + Send + 'static, Ended) {
        let (state, ended) = (self.state.clone(), Ended::default());
        state.under_way.fetch_add(1, Ordering::AcqRel);
        if let Some(poller) = &self.poller {
            poller.thread().unpark();
        }
        let note = ended.clone();
        let done = move || {
            let now = Instant::now();
            note.get_or_init(|| now);
            {
                let mut totals = lock(&state.totals);
                let start = totals.ended.map_or(submitted, |ended| ended.max(submitted));
                totals.busy += now.saturating_duration_since(start);
                totals.ended = Some(now);
            }
            state.under_way.fetch_sub(1, Ordering::AcqRel);
        };
        (done, ended)
    }

    /// Takes note of bytes copied to the device.
    pub fn uploaded(&self, bytes: u64) {
        lock(&self.state.totals).uploaded_bytes += bytes;
    }

    /// Takes note of bytes copied to host memory.
    pub fn read_back(&self, bytes: u64, took: Duration) {
        let mut totals = lock(&self.state.totals);
        totals.read_back_bytes += bytes;
        totals.read_back += took;
    }

    pub fn counters(&self) -> DeviceCounters {
        let totals = lock(&self.state.totals);
        DeviceCounters {
            busy_seconds: totals.busy.as_secs_f64(),
            uploaded_bytes: totals.uploaded_bytes,
            read_back_bytes: totals.read_back_bytes,
            read_back_seconds: totals.read_back.as_secs_f64(),
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.state.closed.store(true, Ordering::Release);
        let Some(poller) = self.poller.take() else {
            return;
        };
        poller.thread().unpark();
        // It holds the driver's device, which is to be gone before the process is; a callback may be what drops this.
        if poller.thread().id() != std::thread::current().id() {
            let _ = poller.join();
        }
    }
}
