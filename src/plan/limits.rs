//! The memory that a device and its host may take.

use crate::bytes::Bytes;

/// The memory limits of a device and its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes that tensors and tiles on the device may take together.
    pub device: u64,
    /// Bytes of the host's budget.
    pub host: u64,
    /// Bytes of [`Limits::host`] that are in use already. Host buffers may use the rest.
    pub held: u64,
    /// Devices that share the host's budget; 1 for a single one.
    pub sharing: u64,
    /// Bytes of the largest single tensor.
    pub tensor: u64,
    /// Whether the device's memory is the host's.
    pub unified: bool,
}

impl Limits {
    /// Memory without end, which device and host share.
    pub const ENDLESS: Limits = Limits {
        device: u64::MAX,
        host: u64::MAX,
        held: 0,
        sharing: 1,
        tensor: u64::MAX,
        unified: true,
    };

    /// Bytes that the host buffers of one device may take.
    pub fn host_left(&self) -> u64 {
        self.host.saturating_sub(self.held) / self.sharing.max(1)
    }

    /// The clause of a budget message that names the memory in use; empty if there is none.
    pub(crate) fn held_text(&self) -> String {
        match self.held {
            0 => String::new(),
            held => format!("{} of it are in use already, ", Bytes(held.into())),
        }
    }

    /// Bytes that tensors and tiles may take beside so many of host buffers: on the CPU these lie in the same memory.
    pub fn device_beside(&self, host: u64) -> u64 {
        if self.unified {
            self.device.min(self.host_left()).saturating_sub(host)
        } else {
            self.device
        }
    }
}
