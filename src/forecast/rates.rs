//! The rates of a device: measured once, kept on disk.

use super::law::{Law, fit, seconds};
use super::probes;
use crate::device::Device;
use crate::error::Result;
use crate::files::cache::Slot;
use crate::tensor::{Contract, Kind, Tally};
use crate::trial::System;
use std::collections::BTreeMap;
use std::time::Instant;

/// How long a device takes for each kind of work.
///
/// ```text
/// seconds = Σ_kinds (per call · calls + per piece · pieces + per operation · operations
///                    + per number · numbers + per number beside · beside)
/// ```
///
/// with the terms of [`crate::tensor::Work`]. The rates of a kind are those of least Σ (predicted / measured − 1)² over some
/// sizes of it, none of them negative. What is enqueued on a GPU is waited for in the end, so that calls cost what a stream of
/// them does; compiling kernels, once for each device, is not counted.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Rates {
    /// Seconds per call, piece, operation, number and what is beside, of each kind.
    laws: BTreeMap<Kind, Law>,
    /// Seconds that measuring took.
    pub seconds: f64,
}

/// Where a device's rates are kept.
fn slot(device: &Device) -> Slot {
    let system = System::here();
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    let threads = system.threads.to_string();
    let driver = device.driver().unwrap_or_default();
    let of = [
        &*device.name(),
        &*driver,
        device.precision(),
        &*system.processor,
        &*threads,
        profile,
    ];
    Slot::new("rates", &of, env!("CARGO_PKG_VERSION"))
}

impl Rates {
    /// The rates that were measured before, if any.
    pub fn stored(device: &Device) -> Option<Rates> {
        let rates: Rates = slot(device).load()?;
        rates.is_sound().then_some(rates)
    }

    /// The rates from the disk where they are there; otherwise measured, in one to two seconds, and stored.
    ///
    /// # Errors
    /// As [`Rates::measure`].
    pub fn of(device: &Device) -> Result<Rates> {
        match Self::stored(device) {
            Some(rates) => Ok(rates),
            None => Self::anew(device),
        }
    }

    /// Measured now, and stored.
    ///
    /// # Errors
    /// As [`Rates::measure`].
    pub fn anew(device: &Device) -> Result<Rates> {
        let rates = Self::measure(device)?;
        slot(device).store(&rates, "rates are measured anew for every plan");
        Ok(rates)
    }

    /// Measured now, on the first of several devices.
    ///
    /// # Errors
    /// What the device reports.
    pub fn measure(device: &Device) -> Result<Rates> {
        crate::device::with_backend!(device, backend => Self::measure_on(backend))
    }

    /// Measured now on a backend.
    ///
    /// # Errors
    /// What the device reports.
    pub fn measure_on<B: Contract>(backend: &B) -> Result<Rates> {
        let clock = Instant::now();
        let measured = probes::measure(backend)?;
        let law = |kind: Kind| {
            let own = measured.iter().filter(|(of, ..)| *of == kind);
            let own: Vec<_> = own.map(|(_, work, seconds)| (*work, *seconds)).collect();
            let law = fit(&own);
            for (work, taken) in &own {
                let said = seconds(&law, work);
                if std::env::var("DBG").is_ok() { eprintln!("{kind:?} {:?} {:.1}us ratio {:.2}", work.0, taken*1e6, said/taken); }
            }
            if std::env::var("DBG").is_ok() { eprintln!("   {kind:?} {law:?}"); }
            (kind, law)
        };
        let laws = Kind::ALL.into_iter().map(law).collect();
        let seconds = clock.elapsed().as_secs_f64();
        tracing::info!(seconds, "rates were measured");
        Ok(Rates { laws, seconds })
    }

    /// The seconds that work takes.
    pub fn seconds(&self, tally: &Tally) -> f64 {
        let of = |(kind, law): (&Kind, &Law)| seconds(law, &tally.of(*kind));
        self.laws.iter().map(of).sum()
    }

    /// Kinds of work with the seconds that each takes, the longest first.
    pub fn by_kind(&self, tally: &Tally) -> Vec<(Kind, f64)> {
        let of = |(kind, law): (&Kind, &Law)| (*kind, seconds(law, &tally.of(*kind)));
        let mut kinds: Vec<(Kind, f64)> = self.laws.iter().map(of).collect();
        kinds.sort_by(|a, b| b.1.total_cmp(&a.1));
        kinds
    }

    /// Whether every kind has rates, and all are numbers that time can be counted in.
    fn is_sound(&self) -> bool {
        let sound = |rate: &f64| rate.is_finite() && *rate >= 0.0;
        Kind::ALL.iter().all(|kind| self.laws.contains_key(kind))
            && self.laws.values().flatten().all(sound)
    }
}
