//! The first errors of a device: what drivers report, and what comes of it.

use crate::setting::{BATCH, MEMORY};
use std::sync::{Arc, Mutex};

use super::lock::lock;
use crate::error::Error;

/// First errors: one that nothing works after, and one that spoilt some tensors.
#[derive(Default)]
pub(super) struct Failure {
    pub fatal: Option<Trouble>,
    pub passing: Option<Trouble>,
}

/// What went wrong.
#[derive(Clone, Debug)]
pub(super) enum Trouble {
    /// There was no memory.
    Memory(String),
    /// The device is gone.
    Lost(String),
    /// Anything else: a fault of this crate's, or of a driver.
    Other(String),
}

impl Trouble {
    /// The error that a caller sees.
    pub fn error(self, name: &str) -> Error {
        match self {
            Trouble::Memory(message) => Error::DeviceMemory(format!(
                "{name}: {message}; {MEMORY} and {BATCH} make the work smaller"
            )),
            Trouble::Lost(message) => Error::DeviceLost(format!("{name}: {message}")),
            Trouble::Other(message) => Error::Device(format!("{name}: {message}")),
        }
    }
}

/// Notes what the driver reports of a device from now on.
pub(super) fn watch(device: &wgpu::Device) -> Arc<Mutex<Failure>> {
    let failure = Arc::new(Mutex::new(Failure::default()));
    let seen = failure.clone();
    device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
        let mut seen = lock(&seen);
        match error {
            // What it was for is not there, so that the next read fails; the device lives on.
            wgpu::Error::OutOfMemory { .. } => {
                let trouble = || Trouble::Memory(format!("out of memory: {error}"));
                seen.passing.get_or_insert_with(trouble);
            }
            _ => {
                let message = error.to_string();
                // wgpu says so of every call on a lost device; the callback below comes with a later poll.
                let lost = message.to_lowercase().contains("device is lost");
                seen.fatal.get_or_insert(match lost {
                    true => Trouble::Lost(message),
                    false => Trouble::Other(message),
                });
            }
        }
    }));
    let seen = failure.clone();
    device.set_device_lost_callback(move |reason, message| {
        if reason != wgpu::DeviceLostReason::Destroyed {
            // Whatever was reported before came of it.
            let lost = Trouble::Lost(format!("the driver says: {message}"));
            lock(&seen).fatal = Some(lost);
        }
    });
    failure
}
