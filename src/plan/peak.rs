//! The peak of host memory that is likely, beside the one that a plan keeps within.

use super::fit::tiles_on_their_way;
use super::parts::TileJob;
use super::planned::Plan;
use super::tiles::Grid;

/// What a run takes beyond what is counted: stacks of threads, packed operands, sizes rounded up. 10 % of the device's share, and
/// 4 MiB, measured on the cases of [`crate::bench`].
const BEYOND: (f64, u64) = (0.10, 4 << 20);

/// What a device holds beyond what is counted, likewise: measured on lavapipe.
const HELD: (f64, u64) = (0.25, 6 << 20);

impl Plan {
    /// Bytes of the largest tile.
    fn tile_bytes(&self) -> u64 {
        let entries = |job: &TileJob| {
            let part = &self.parts[job.part];
            let (rows, columns) = (&part.rows[job.row], &part.columns[job.column]);
            rows.positions.len() * columns.positions.len()
        };
        let largest = self.tiles.iter().map(entries).max().unwrap_or(0);
        (largest * self.number_bytes()) as u64
    }

    /// Bytes of a device's own memory that the run is likely to take at its peak, within the budget: where it makes one tile, none
    /// is on its way meanwhile; what was let go is held until the commands that read it are through.
    pub fn likely_device_bytes(&self) -> u64 {
        let counted = match self.tiles.len() {
            1 => self.device_bytes.saturating_sub(self.tile_bytes()),
            _ => self.device_bytes,
        };
        let (share, bytes) = HELD;
        let likely = counted + (counted as f64 * share) as u64 + bytes;
        likely.min(self.device_budget().max(self.device_bytes))
    }

    /// Bytes of anonymous host memory that the run is likely to add at its peak, while `waiting` finished tiles wait for the
    /// writers or are being written.
    ///
    /// [`Plan::host_bytes`] bounds the budget: it counts every tile that may wait. This is how many are likely to.
    pub fn likely_host_bytes(&self, waiting: usize) -> u64 {
        // A part that stays where it is computed is its own memory.
        let (tile, result) = match self.grid {
            Grid::Whole => (0, self.own_entries() as u64 * self.number_bytes() as u64),
            _ => (self.tile_bytes(), 0),
        };
        let own = if self.is_unified() {
            self.device_bytes
        } else {
            0
        };
        let most = tiles_on_their_way(self.is_unified(), self.tiles.len());
        let rest = self.host_bytes.saturating_sub(own + tile * most as u64);
        let others = self.tiles.len().saturating_sub(1);
        let likely = match self.is_unified() {
            true => waiting,
            // The ring of what is read back fills first.
            false => most,
        };
        let beyond = (own as f64 * BEYOND.0) as u64 + BEYOND.1;
        own + tile * likely.min(others).min(most) as u64 + rest + result + beyond
    }
}
