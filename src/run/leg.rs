//! One stage of a run: the parts of a plan that go one way, their devices, and the writers beside these.

use super::Problem;
use super::attempts::Attempts;
use super::collector::Shared;
use super::ledger::Ledger;
use super::left::Left;
use super::report::{DeviceShare, RunReport};
use super::writer::{Item, Writer};
use crate::control::Control;
use crate::error::{Error, Result};
use crate::plan::budget::anonymous_resident;
use crate::plan::{Plan, WRITING};
use crate::sink::Sink;
use crate::tensor::{Contract, DeviceCounters};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread::Thread;

/// The parts of a plan that go one way, under way.
pub(super) struct Leg<'a, B: Contract> {
    pub(super) backends: &'a [&'a B],
    /// Which devices are lost.
    pub(super) lost: Vec<bool>,
    pub(super) work: &'a Problem<'a>,
    pub(super) plan: &'a Plan,
    /// The name under which a plan for less memory is noted.
    pub(super) note: &'static str,
    pub(super) sink: &'a dyn Sink<B::Real>,
    pub(super) control: &'a Control<'a>,
}

impl<B: Contract> Leg<'_, B> {
    /// Makes what is left of the stage.
    pub(super) fn run(&self, left: Left) -> Result<RunReport> {
        let (backends, plan, sink) = (self.backends, self.plan, self.sink);
        let host = backends.iter().all(|b| b.accumulates_in_host_memory());
        let before: Vec<_> = backends.iter().map(|b| b.device_counters()).collect();
        let (peak, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        // What the collectors hold is enough; a CPU has none.
        let (send, receive) = sync_channel::<Item<B::Real>>(usize::from(host));
        let (receive, written) = (Mutex::new(receive), Mutex::new(Vec::new()));
        let (failed, operations) = (AtomicBool::new(false), AtomicU64::new(0));
        let (made, fraction, found) = (left.entries, left.fraction(plan), left.found);
        let ledger = Ledger::new(left.tiles, left.vectors, found);
        let mut report = std::thread::scope(|scope| {
            let watcher = scope.spawn(|| watch_memory(&peak, &stop));
            // Also when the driver panics, as a user's loss may: the scope waits for the watcher.
            let _stop = StopOnDrop(&stop, watcher.thread().clone());
            let writer = Writer {
                plan,
                sink,
                items: &receive,
                written: &written,
                // Parts that go forward start from tiles of zeros, a device from its own.
                keep: host && plan.routes.is_none(),
                lenient: self.work.lenient,
                failed: &failed,
            };
            let writers: Vec<_> = (0..WRITING)
                .map(|_| scope.spawn(move || writer.run()))
                .collect();
            let mut attempts = Attempts {
                backends,
                alive: (0..backends.len()).filter(|&k| !self.lost[k]).collect(),
                shared: Shared {
                    work: self.work,
                    plan,
                    ledger: &ledger,
                    sink,
                    cancel: self.control.cancel,
                    failed: &failed,
                    written: &written,
                    operations: &operations,
                    fraction,
                    devices: backends.len(),
                },
                note: self.note,
                control: self.control,
                report: RunReport {
                    devices: backends
                        .iter()
                        .map(|b| DeviceShare::named(b.device_name()))
                        .collect(),
                    ..RunReport::default()
                },
            };
            let driven = attempts.run(&send);
            let mut report = attempts.report;
            drop(send);
            for writer in writers {
                let stopped = || Err(Error::Device("the writer stopped unexpectedly".into()));
                // A writer that failed makes sending fail: its error is the cause.
                let (busy, non_finite) = writer.join().unwrap_or_else(|_| stopped())?;
                report.write_seconds = report.write_seconds.max(busy);
                report.non_finite += non_finite;
            }
            driven.map(|()| report)
        })?;
        let (passes, contractions) = plan.operations_of(fraction);
        report.operations = passes + contractions;
        report.factor_operations = passes;
        report.entries = made;
        report.bytes = report.entries * size_of::<B::Real>() as u64;
        report.tiles = ledger.tiles_done();
        report.found_tiles = found;
        self.add_counters(&mut report, before);
        report.peak_anonymous_bytes = Some(peak.into_inner()).filter(|&bytes| bytes > 0);
        Ok(report)
    }

    /// Adds what the devices counted since `before`.
    fn add_counters(&self, report: &mut RunReport, before: Vec<Option<DeviceCounters>>) {
        let devices = self.backends.iter().zip(before);
        for ((backend, before), share) in devices.zip(&mut report.devices) {
            let (Some(before), Some(after)) = (before, backend.device_counters()) else {
                continue;
            };
            let busy = after.busy_seconds - before.busy_seconds;
            share.busy_seconds = Some(busy);
            let most = report
                .device_busy_seconds
                .map_or(busy, |most| most.max(busy));
            report.device_busy_seconds = Some(most);
            report.read_back_bytes += after.read_back_bytes - before.read_back_bytes;
            report.read_back_seconds += after.read_back_seconds - before.read_back_seconds;
        }
    }
}

/// Sets its flag when it goes out of scope, and wakes the thread that waits for it.
struct StopOnDrop<'a>(&'a AtomicBool, Thread);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        self.1.unpark();
    }
}

/// Samples the process's anonymous memory until told to stop.
fn watch_memory(peak: &AtomicU64, stop: &AtomicBool) {
    // At least once, however short the run.
    while let Some(bytes) = anonymous_resident() {
        peak.fetch_max(bytes, Ordering::Relaxed);
        if stop.load(Ordering::Relaxed) {
            return;
        }
        // A short run does not wait for the end of a nap.
        std::thread::park_timeout(std::time::Duration::from_millis(5));
    }
}
