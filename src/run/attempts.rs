//! The devices at work, again and again until all tiles are made: what becomes of a run when one of them fails.

use super::collector::{Share, Shared};
use super::driver::drive;
use super::ledger::Ledger;
use super::report::{Replanned, RunReport};
use super::writer::Item;
use crate::bytes::Bytes;
use crate::control::{Control, Progress};
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::tensor::Contract;
use std::borrow::Cow;
use std::sync::mpsc::{SyncSender, channel};

/// The devices at work until all tiles are made, or nothing helps.
pub(super) struct Attempts<'a, B: Contract> {
    pub(super) backends: &'a [&'a B],
    /// Indices of the devices that are not lost.
    pub(super) alive: Vec<usize>,
    pub(super) shared: Shared<'a, B::Real>,
    pub(super) note: &'static str,
    pub(super) control: &'a Control<'a>,
    pub(super) report: RunReport,
}

impl<B: Contract> Attempts<'_, B> {
    /// Makes all tiles; returns once all are handed to the writers.
    pub(super) fn run(&mut self, send: &SyncSender<Item<B::Real>>) -> Result<()> {
        let ledger = self.shared.ledger;
        let mut plan = Cow::Borrowed(self.shared.plan);
        loop {
            let made = self.attempt(&plan, send);
            let (mut lost, mut memory, mut other) = (Vec::new(), None, None);
            for (device, share, result) in made {
                self.add(device, &share);
                match result {
                    Ok(()) => {}
                    Err(Error::DeviceLost(message)) => lost.push((device, message)),
                    Err(Error::DeviceMemory(message)) => memory = Some(message),
                    // Others are interrupted where one fails.
                    Err(Error::Interrupted) => {}
                    Err(error) => _ = other.get_or_insert(error),
                }
            }
            if let Some(error) = other {
                return Err(error);
            }
            self.control.check()?;
            for (device, _) in &lost {
                self.report.devices[*device].lost = true;
            }
            self.alive
                .retain(|&device| lost.iter().all(|(gone, _)| *gone != device));
            let messages: Vec<String> = lost.into_iter().map(|(_, message)| message).collect();
            if self.alive.is_empty() {
                let done = self.tiles_done();
                return Err(Error::DeviceLost(format!(
                    "{}; {done}",
                    messages.join("; ")
                )));
            }
            for message in &messages {
                self.warn(format!("{message}; the other devices make its tiles"));
            }
            match memory {
                Some(message) => plan = Cow::Owned(self.smaller(&plan, message)?),
                None if ledger.is_complete() => return Ok(()),
                None if messages.is_empty() => {
                    return Err(Error::Device("tiles were left out".into()));
                }
                None => {}
            }
            ledger.go_on();
        }
    }

    /// A plan for half the memory, after a device had none left.
    fn smaller(&mut self, plan: &Plan, message: String) -> Result<Plan> {
        let planned = Bytes(plan.device_bytes.into());
        let smaller = plan.halved(self.shared.work.network).map_err(|refused| {
            let done = self.tiles_done();
            Error::DeviceMemory(format!(
                "{message}; {planned} were planned with, and for half of them: {refused}; {done}"
            ))
        })?;
        self.warn(format!(
            "{message}; {planned} were planned with: going on with {}, {} samples and {} directions at a time",
            Bytes(smaller.device_bytes.into()),
            smaller.unit,
            smaller.chunk
        ));
        let replanned = Replanned {
            tiles_done: self.shared.ledger.tiles_done(),
            unit_samples: smaller.unit,
            unit_directions: smaller.chunk,
            keep: smaller.keep,
            device_bytes: smaller.device_bytes,
            device_budget: smaller.device_budget(),
        };
        // Rounding is another from here on.
        let note = serde_json::json!(replanned);
        self.shared.sink.note(self.note, note)?;
        self.report.replanned.push(replanned);
        for &device in &self.alive {
            self.backends[device].forget_failure();
        }
        Ok(smaller)
    }

    fn tiles_done(&self) -> String {
        let (done, all) = self.shared.ledger.there();
        format!("{done} of {all} tiles were made before")
    }

    fn warn(&mut self, message: String) {
        tracing::warn!("{message}");
        self.report.warnings.push(message);
    }

    fn add(&mut self, device: usize, share: &Share) {
        let report = &mut self.report;
        report.devices[device].tiles += share.tiles;
        report.factor_seconds += share.factor_seconds;
        report.contraction_seconds += share.contraction_seconds;
        report.wait_seconds += share.wait_seconds;
        report.non_finite += share.non_finite;
    }

    /// Lets all devices that are alive take tiles until none is left or one fails.
    fn attempt(
        &self,
        plan: &Plan,
        send: &SyncSender<Item<B::Real>>,
    ) -> Vec<(usize, Share, Result<()>)> {
        let shared = Shared {
            plan,
            devices: self.alive.len(),
            ..self.shared
        };
        if let [only] = self.alive[..] {
            let progress = self.control.progress;
            let (share, result) = drive(self.backends[only], &shared, progress, send.clone());
            return vec![(only, share, result)];
        }
        std::thread::scope(|scope| {
            let (tell, told) = channel::<Progress>();
            let devices: Vec<_> = self
                .alive
                .iter()
                .map(|&device| {
                    let (backend, send, tell) = (self.backends[device], send.clone(), tell.clone());
                    let shared = &shared;
                    scope.spawn(move || {
                        let progress = |progress| _ = tell.send(progress);
                        // Nor where this one panics, as a user's loss may, are they to go on.
                        let stop = StopOnPanic(shared.ledger);
                        let (share, result) = drive(backend, shared, &progress, send);
                        // The others go on without a lost device, and stop for anything else.
                        if !matches!(result, Ok(()) | Err(Error::DeviceLost(_))) {
                            shared.ledger.stop();
                        }
                        drop(stop);
                        (device, share, result)
                    })
                })
                .collect();
            drop(tell);
            // The caller's progress is the caller's thread's; where it panics, the devices are not to go on.
            let _stop = StopOnPanic(shared.ledger);
            for progress in told {
                (self.control.progress)(progress);
            }
            let join = |device: std::thread::ScopedJoinHandle<'_, _>| match device.join() {
                Ok(made) => made,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            devices.into_iter().map(join).collect()
        })
    }
}

/// Stops all devices when it goes out of scope in a panic.
struct StopOnPanic<'a>(&'a Ledger);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop();
        }
    }
}
