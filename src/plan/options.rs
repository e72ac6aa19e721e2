//! Options of a run.

use super::sizes::Units;
use super::tiles::Tiling;
use super::way::Way;

/// Budgets and sizes of a run; `None` is found.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunOptions {
    /// Bytes on the device.
    pub memory: Option<u64>,
    /// Bytes of anonymous host memory.
    pub host_memory: Option<u64>,
    /// Bytes of [`RunOptions::host_memory`] that the process uses already and that the run may not use. By default 0: the budget is
    /// then the run's, beside the network and the data, which are the caller's.
    pub held: u64,
    /// Samples per unit.
    pub batch: Option<usize>,
    /// The units of an earlier run that this one resumes ([`crate::Output`]); `None` for a new run.
    pub units: Option<Units>,
    /// How large tiles are.
    pub tiling: Tiling,
    /// Whether blocks of G are made forward from the parameters or backwards from the loss; `None` chooses for every part by
    /// counted operations.
    pub way: Option<Way>,
}
