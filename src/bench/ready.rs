//! A case that is placed on a device and ready to run.

use super::check::Check;
use crate::error::Result;

/// A case on a device.
pub(super) trait Ready {
    /// Runs it and compares its numbers.
    fn check(&self, reference: &[f64], tolerance: f64) -> Result<Check>;
    /// Starts it; a GPU may still be at work when this returns.
    fn start(&self) -> Result<()>;
    /// Waits for all that was started.
    fn wait(&self) -> Result<()>;
}
