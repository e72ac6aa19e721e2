//! What a plan will take: seconds from the rates of the device, and the peak of memory.
//!
//! A plan's work is counted by kind on shapes alone ([`crate::schedule::PlanTally`]); a device's rates are measured at every
//! kind once and kept ([`Rates`]). May use the schedule and the backends; must not know of reports or the command line.

mod law;
mod probes;
mod rates;

pub use rates::Rates;

use crate::network::Network;
use crate::schedule::PlanTally;
use crate::schedule::plan::Plan;

/// What a plan is expected to take.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Forecast {
    /// Seconds from start to end.
    pub seconds: f64,
    /// Seconds of uploads, loss factors, forward and reverse passes, and rows of V that are kept.
    pub pass_seconds: f64,
    /// Seconds of contractions and diagonals.
    pub contraction_seconds: f64,
    /// Seconds of memory for tiles and, from a device, of their way to the host.
    pub tile_seconds: f64,
    /// Seconds of writing, where the result goes to a disk whose rate is known.
    pub write_seconds: Option<f64>,
}

impl Forecast {
    /// What the plan, made for this network, takes at these rates.
    ///
    /// # Errors
    /// As [`Plan::tally`].
    pub fn new(plan: &Plan, network: &Network, rates: &Rates) -> crate::Result<Forecast> {
        let PlanTally {
            passes,
            contractions,
            tiles,
        } = plan.tally(network)?;
        let (pass_seconds, contraction_seconds, tile_seconds) = (
            rates.seconds(&passes),
            rates.seconds(&contractions),
            rates.seconds(&tiles),
        );
        Ok(Forecast {
            seconds: pass_seconds + contraction_seconds + tile_seconds,
            pass_seconds,
            contraction_seconds,
            tile_seconds,
            write_seconds: None,
        })
    }
}
