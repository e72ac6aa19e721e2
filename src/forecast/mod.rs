//! What a plan will take: seconds from the rates of the device, and the peak of memory.
//!
//! A plan's work is counted by kind on shapes alone ([`crate::plan::PlanTally`]); a device's rates are measured for every
//! kind once and kept ([`Rates`]). May use plans and the backends; must not know of reports or the command line.

mod disk;
mod law;
mod probes;
mod rates;

pub use disk::write_rate;
pub use rates::Rates;

use crate::bytes::Bytes;
use crate::error::Result;
use crate::network::Network;
use crate::plan::PlanTally;
use crate::plan::{Plan, WRITING};
use std::fmt;

/// How much longer a call takes in a pass on the CPU, among others that take the caches and leave fresh pages, than alone again
/// and again, as rates are measured. Of the passes of [`crate::bench`]'s networks it is between 0.96 and 1.9 times (measured on
/// two cores; the most where tensors are largest, or smallest).
const AMONG: f64 = 1.3;

/// Seconds between two looks of a run at its own memory: it ends with the next one.
const LOOK: f64 = 5e-3;

/// What a plan is expected to take.
///
/// ```text
/// busy    = passes (on the CPU 1.3 times) + contractions (+ tiles where these are accumulated in host memory)
/// beside  = the longer of writing and, from a device, of tiles' way to the host
/// seconds = the longer of busy and beside + the shorter of them / number of tiles
/// ```
///
/// as what is computed waits for what is written, or the other way round, but for one tile; up to the next 5 ms, at which a run
/// looks at its memory. Samples that a zero takes out of an outer product (ReLU) are counted as if they stayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Forecast {
    /// The share of the result that it is for: 1 of the whole.
    pub share: f64,
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
    /// Bytes of anonymous host memory at the peak, beside what the process has before the run.
    pub peak_host_bytes: u64,
    /// Bytes of device memory at the peak, where the device has its own.
    pub peak_device_bytes: Option<u64>,
}

impl Forecast {
    /// What a share of the plan, made for this network, takes at these rates on so many devices, and on a disk that is written at
    /// so many bytes per second. Factors that are kept are made whole for any share ([`Plan::share_of_passes`]).
    ///
    /// # Errors
    /// As [`Plan::tally`].
    pub fn new(
        plan: &Plan,
        network: &Network,
        rates: &Rates,
        devices: usize,
        share: f64,
        write_rate: Option<f64>,
    ) -> Result<Forecast> {
        let stage = |stage| Self::of_stage(stage, network, rates, devices, share, write_rate);
        let mut all = stage(plan)?;
        for rest in plan.stages().skip(1) {
            all = all.then(stage(rest)?);
        }
        Ok(all)
    }

    /// The forecast of this plan followed by `later`.
    fn then(self, later: Forecast) -> Forecast {
        let sum = |a: Option<f64>, b: Option<f64>| a.zip(b).map(|(a, b)| a + b);
        Forecast {
            share: self.share,
            seconds: self.seconds + later.seconds,
            pass_seconds: self.pass_seconds + later.pass_seconds,
            contraction_seconds: self.contraction_seconds + later.contraction_seconds,
            tile_seconds: self.tile_seconds + later.tile_seconds,
            write_seconds: sum(self.write_seconds, later.write_seconds),
            peak_host_bytes: self.peak_host_bytes.max(later.peak_host_bytes),
            peak_device_bytes: self.peak_device_bytes.max(later.peak_device_bytes),
        }
    }

    /// The forecast of a share of a plan's own parts, without those of `Plan::rest`.
    fn of_stage(
        plan: &Plan,
        network: &Network,
        rates: &Rates,
        devices: usize,
        share: f64,
        write_rate: Option<f64>,
    ) -> Result<Forecast> {
        let PlanTally {
            passes,
            contractions,
            tiles,
        } = plan.own_tally(network)?;
        let share = share.clamp(0.0, 1.0);
        let shared = devices.max(1) as f64;
        let among = if plan.is_unified() { AMONG } else { 1.0 };
        let all_passes = among * rates.seconds(&passes) * plan.share_of_passes(share);
        // Factors that are kept are made by every device.
        let pass_seconds = match plan.passes() {
            1 => all_passes,
            _ => all_passes / shared,
        };
        let (contraction_seconds, tile_seconds) = (
            rates.seconds(&contractions) * share / shared,
            rates.seconds(&tiles) * share / shared,
        );
        let result = share * plan.own_entries() as f64 * plan.number_bytes() as f64;
        let write_seconds = write_rate.map(|rate| result / rate.max(1.0));
        let own_memory = !plan.is_unified();
        let (mut busy, mut beside) = (
            pass_seconds + contraction_seconds,
            write_seconds.unwrap_or(0.0),
        );
        match own_memory {
            true => beside = beside.max(tile_seconds),
            false => busy += tile_seconds,
        }
        // A disk that is slower than the device has all tiles waiting that may.
        let waiting = match write_seconds {
            Some(seconds) if seconds > busy => usize::MAX,
            Some(seconds) if seconds > busy / 2.0 => WRITING,
            _ => 1,
        };
        let tiles = (share * plan.tiles.len() as f64).max(1.0);
        let seconds = busy.max(beside) + busy.min(beside) / tiles;
        Ok(Forecast {
            share,
            seconds: (seconds / LOOK).ceil().max(1.0) * LOOK,
            pass_seconds,
            contraction_seconds,
            tile_seconds,
            write_seconds,
            peak_host_bytes: plan.likely_host_bytes(waiting),
            peak_device_bytes: own_memory.then_some(plan.likely_device_bytes()),
        })
    }
}

/// Seconds as people say them.
fn spoken(seconds: f64) -> String {
    match seconds {
        s if s < 0.0995 => format!("{:.1} ms", 1e3 * s),
        s if s < 9.95 => format!("{s:.2} s"),
        s if s < 600.0 => format!("{s:.0} s"),
        s if s < 36_000.0 => format!("{:.0} min", s / 60.0),
        s if s < 360_000.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} days", s / 86_400.0),
    }
}

impl fmt::Display for Forecast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "time          about {}{}: passes {}, contractions {}, tiles {}",
            spoken(self.seconds),
            match self.share < 1.0 {
                true => format!(" for {:.1} % of the result", 100.0 * self.share),
                false => String::new(),
            },
            spoken(self.pass_seconds),
            spoken(self.contraction_seconds),
            spoken(self.tile_seconds),
        )?;
        if let Some(seconds) = self.write_seconds {
            write!(f, ", writing {}", spoken(seconds))?;
        }
        let bytes = |b: u64| Bytes(b.into());
        write!(f, "\npeak memory   about ")?;
        if let Some(device) = self.peak_device_bytes {
            write!(f, "{} on the device, ", bytes(device))?;
        }
        write!(
            f,
            "{} of the host beside model and data",
            bytes(self.peak_host_bytes)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Control;
    use crate::import::data::Dataset;
    use crate::loss::CrossEntropy;
    use crate::network::builder::Builder;
    use crate::plan::Keep;
    use crate::plan::RunOptions;
    use crate::tensor::cpu::Cpu;
    use crate::{Device, Precision, Session};
    use ndarray::{Array1, Array2};

    #[test]
    fn what_is_left_is_forecast_with_the_factors_that_are_kept_whole() {
        let network = Builder::new(&[40]).linear("a", 30).tanh().linear("b", 10);
        let network = network.initialize(0).build().unwrap();
        let data = Dataset::from_arrays(Array2::<f64>::ones((64, 40)), Array1::<i64>::zeros(64));
        let session = Session::builder(network)
            .data(data)
            .loss(CrossEntropy::mean())
            .device(Device::cpu(Precision::F32))
            .build()
            .unwrap();
        let parts = crate::plan::request::resolve(session.network(), &[crate::Part::Full]).unwrap();
        let mut plan = session
            .ggn()
            .plan_with(parts, RunOptions::default())
            .unwrap();
        let rates = Rates::measure_on(&Cpu::<f32>::new(), &Control::none()).unwrap();
        let of = |plan: &Plan, share: f64| {
            let network = session.network();
            Forecast::new(plan, network, &rates, 1, share, Some(1e9)).unwrap()
        };
        let near = |a: f64, b: f64| (a - b).abs() <= 1e-9 * b.max(1e-12);
        for keep in [Keep::Rows, Keep::Recompute] {
            plan.keep = keep;
            let (all, some) = (of(&plan, 1.0), of(&plan, 0.25));
            assert_eq!(some.share, 0.25);
            assert!(near(
                some.contraction_seconds,
                0.25 * all.contraction_seconds
            ));
            assert!(near(some.tile_seconds, 0.25 * all.tile_seconds));
            let written = [some, all].map(|f| f.write_seconds.unwrap());
            assert!(near(written[0], 0.25 * written[1]));
            let passes = if keep == Keep::Rows { 1.0 } else { 0.25 };
            assert!(
                near(some.pass_seconds, passes * all.pass_seconds),
                "{keep:?}"
            );
            // Nothing is made where nothing is left.
            assert_eq!(of(&plan, 0.0).pass_seconds, 0.0);
        }
    }

    #[test]
    fn a_forecast_says_its_terms_in_units_that_people_use() {
        let forecast = Forecast {
            share: 1.0,
            seconds: 12.2,
            pass_seconds: 3.1,
            contraction_seconds: 8.2,
            write_seconds: Some(7000.0),
            peak_host_bytes: 310 << 20,
            ..Forecast::default()
        };
        let said = "time          about 12 s: passes 3.10 s, contractions 8.20 s, tiles 0.0 ms, writing 117 min\n\
                    peak memory   about 310.0 MiB of the host beside model and data";
        assert_eq!(forecast.to_string(), said);
        let on_device = Forecast {
            peak_device_bytes: Some(1 << 30),
            ..forecast
        };
        assert!(
            on_device
                .to_string()
                .contains("about 1.0 GiB on the device, 310.0 MiB of the host")
        );
        let shard = Forecast {
            share: 0.125,
            ..forecast
        };
        let said = "time          about 12 s for 12.5 % of the result: passes";
        assert!(shard.to_string().starts_with(said), "{shard}");
        assert_eq!(spoken(40_000.0), "11.1 h");
        assert_eq!(spoken(864_000.0), "10.0 days");
    }
}
