//! What a run did.

use super::plan::Keep;

/// What a run did, by stage.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Report {
    /// Seconds from start to end.
    pub seconds: f64,
    /// Seconds of reading data, forward and reverse passes (enqueued only, on a GPU).
    pub factor_seconds: f64,
    /// Seconds of contractions (enqueued only, on a GPU).
    pub contraction_seconds: f64,
    /// Seconds of waiting for tiles.
    pub read_back_seconds: f64,
    /// Seconds that the busiest writer was busy, beside the rest.
    pub write_seconds: f64,
    /// Seconds of making the result durable at the end.
    pub sync_seconds: f64,
    /// Seconds of waiting for the writer.
    pub wait_seconds: f64,
    /// Floating-point operations, as planned.
    pub operations: u64,
    /// Entries of the parts.
    pub entries: u64,
    /// Bytes of the parts.
    pub bytes: u64,
    /// Tiles computed.
    pub tiles: usize,
    /// Most anonymous resident memory seen during the run, where the system tells.
    pub peak_anonymous_bytes: Option<u64>,
    /// Entries that are NaN or infinite.
    pub non_finite: u64,
    /// Most device memory in use at a time, on a GPU.
    pub peak_device_bytes: Option<u64>,
    /// What went wrong on the way and was got over.
    pub warnings: Vec<String>,
    /// The plans that the run went on with where a device had less memory than the plan before counted on.
    pub replanned: Vec<Replanned>,
}

/// A plan that a run went on with.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Replanned {
    /// Tiles that were made by then.
    pub tiles_done: usize,
    /// Samples per unit from there on.
    pub unit_samples: usize,
    /// Directions per reverse pass from there on.
    pub unit_directions: usize,
    /// What becomes of the factors from there on.
    pub keep: Keep,
    /// Predicted peak on the device from there on.
    pub device_bytes: u64,
}

impl Report {
    /// Operations per second over the whole run, in 10⁹.
    pub fn gflops(&self) -> f64 {
        self.operations as f64 / self.seconds.max(1e-9) / 1e9
    }
}
