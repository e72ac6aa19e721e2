//! The rates of a device: measured once, kept on disk.

use super::law::{Law, fit, seconds};
use super::probes;
use crate::control::Control;
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
///                    + per number · numbers + per number beside · beside + per far number · far)
/// ```
///
/// with the terms of [`crate::tensor::Work`]. The rates of a kind are those of least Σ (predicted / measured − 1)² over some
/// sizes of it, none of them negative. What is enqueued on a GPU is waited for in the end, so that calls cost what a stream of
/// them does; compiling kernels, once for each device, is not counted.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Rates {
    /// Seconds per call, piece, operation, number, what is beside, and far number, of each kind.
    laws: BTreeMap<Kind, Law>,
    /// Seconds that measuring took.
    pub seconds: f64,
    /// Whether they are on the disk, for the next time.
    #[serde(skip)]
    pub kept: bool,
}

/// Where a device's rates are kept.
fn slot(device: &Device) -> Slot {
    let system = System::here();
    let profile = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    let threads = system.threads.to_string();
    let driver = device.driver().unwrap_or_default();
    let of = [
        &*device.name(),
        &*driver,
        device.precision().name(),
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
        let kept = Rates {
            kept: true,
            ..rates
        };
        kept.is_sound().then_some(kept)
    }

    /// The rates from the disk where they are there; otherwise measured, in one to three seconds (on a slow device in ten and
    /// more), and stored.
    ///
    /// # Errors
    /// As [`Rates::measure`].
    pub fn of(device: &Device, control: &Control<'_>) -> Result<Rates> {
        match Self::stored(device) {
            Some(rates) => Ok(rates),
            None => Self::anew(device, control),
        }
    }

    /// Measured now, and stored.
    ///
    /// # Errors
    /// As [`Rates::measure`].
    pub fn anew(device: &Device, control: &Control<'_>) -> Result<Rates> {
        let rates = Self::measure(device, control)?;
        let kept = slot(device).store(&rates, "rates are measured anew for every plan");
        Ok(Rates { kept, ..rates })
    }

    /// Measured now, on the first of several devices.
    ///
    /// # Errors
    /// What the device reports; [`crate::Error::Interrupted`] when asked to stop.
    pub fn measure(device: &Device, control: &Control<'_>) -> Result<Rates> {
        crate::device::with_backend!(device, backend => Self::measure_on(backend, control))
    }

    /// Measured now on a backend.
    ///
    /// # Errors
    /// As [`Rates::measure`].
    pub fn measure_on<B: Contract>(backend: &B, control: &Control<'_>) -> Result<Rates> {
        let clock = Instant::now();
        let measured = probes::measure(backend, control)?;
        let law = |kind: Kind| {
            let own = measured.iter().filter(|(of, ..)| *of == kind);
            let own: Vec<_> = own.map(|(_, work, seconds)| (*work, *seconds)).collect();
            let law = fit(&own);
            (kind, law)
        };
        let laws = Kind::ALL.into_iter().map(law).collect();
        let seconds = clock.elapsed().as_secs_f64();
        tracing::info!(seconds, "rates were measured");
        Ok(Rates {
            laws,
            seconds,
            kept: false,
        })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Work;

    #[test]
    fn rates_come_back_from_json_and_unsound_ones_are_refused() {
        let law = [1e-6, 0.0, 1.5e-11, 2e-10, 0.0, 0.0];
        let rates = Rates {
            laws: Kind::ALL.into_iter().map(|kind| (kind, law)).collect(),
            seconds: 1.5,
            kept: false,
        };
        let text = serde_json::to_string(&rates).unwrap();
        let read: Rates = serde_json::from_str(&text).unwrap();
        assert!(read == rates && read.is_sound());
        let mut tally = Tally::default();
        tally.enter(Kind::Map, Work([2, 9, 100, 1000, 5, 0]));
        let expected = 2e-6 + 1.5e-9 + 2e-7;
        assert!((rates.seconds(&tally) - expected).abs() < 1e-15);
        assert_eq!(rates.by_kind(&tally)[0].0, Kind::Map);
        for wrong in [-1e-9, f64::NAN, f64::INFINITY] {
            let mut rates = rates.clone();
            rates.laws.insert(Kind::Map, [wrong; 6]);
            assert!(!rates.is_sound());
        }
        let mut rates = rates;
        rates.laws.remove(&Kind::Tile);
        assert!(!rates.is_sound());
    }

    #[test]
    fn every_kind_of_work_is_measured() {
        let cpu = crate::tensor::cpu::Cpu::<f32>::new();
        let rates = Rates::measure_on(&cpu, &Control::none()).unwrap();
        assert!(rates.is_sound());
        for kind in Kind::ALL {
            let mut tally = Tally::default();
            tally.enter(kind, Work([1, 100, 1_000_000, 10_000, 10_000, 0]));
            let seconds = rates.seconds(&tally);
            assert!(seconds > 0.0 && seconds < 10.0, "{kind:?}: {seconds}");
        }
    }
}
