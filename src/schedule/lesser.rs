//! What would fit where the memory budget is too small for a request.

use super::plan::{Limits, Sizes, has_room};
use super::request::ResolvedPart;
use super::room::{candidates, listed};
use crate::bytes::Bytes;
use crate::error::Error;
use crate::network::Network;

/// Candidates that are tried: of each a unit is measured.
const TRIED: usize = 24;

/// `bytes` as an option takes them, rounded up to a tenth of their unit: read again, they are no less.
pub(super) fn at_least(bytes: u128) -> String {
    let mut unit = 1u128;
    while bytes >= 1024 * unit && unit < 1 << 60 {
        unit <<= 10;
    }
    if unit == 1 {
        return bytes.to_string();
    }
    let tenths = (bytes * 10).div_ceil(unit);
    Bytes((tenths * unit).div_ceil(10))
        .to_string()
        .replace(' ', "")
}

/// The words of a message on a budget that is too small.
pub(crate) struct Short {
    /// The budget that is too small.
    pub(crate) budget: Bytes,
    /// The clause that names what is in use of it ([`Limits::held_text`]).
    pub(crate) held: String,
    /// The options that would do.
    pub(crate) would_do: String,
}

impl Short {
    /// For work that takes `peak` bytes on the device and `host` bytes of host buffers, which do not fit the limits.
    pub(crate) fn of(limits: Limits, peak: u64, host: u64) -> Short {
        let short_of_host = limits.unified || host > limits.host_left();
        let mut options = Vec::new();
        if limits.unified {
            let least = limits.held + peak + host;
            options.push(format!("--host-memory {}", at_least(least.into())));
        } else {
            if peak > limits.device {
                options.push(format!("--memory {}", at_least(peak.into())));
            }
            if host > limits.host_left() {
                let least = limits.held + limits.sharing * host;
                options.push(format!("--host-memory {}", at_least(least.into())));
            }
        }
        let budget = match (short_of_host, limits.unified) {
            (true, true) => limits.device.min(limits.host),
            (true, false) => limits.host,
            (false, _) => limits.device,
        };
        Short {
            budget: Bytes(budget.into()),
            held: match short_of_host {
                true => limits.held_text(),
                false => String::new(),
            },
            would_do: options.join(" with "),
        }
    }
}

/// The error of a plan that has no room, with parts within those asked for that have.
pub(super) fn with_what_fits(
    error: Error,
    network: &Network,
    parts: &[ResolvedPart],
    sizes: Sizes,
    limits: Limits,
) -> Error {
    let Error::Budget(message) = error else {
        return error;
    };
    let Ok(mut smaller) = candidates(network, parts) else {
        return Error::Budget(message);
    };
    smaller.retain(|part| parts.len() > 1 || !parts.contains(part));
    let fits = |part: &ResolvedPart| has_room(network, vec![part.clone()], sizes, limits);
    let fitting: Vec<ResolvedPart> = smaller.into_iter().take(TRIED).filter(fits).collect();
    Error::Budget(match fitting.is_empty() {
        true => format!("{message}; no smaller part of the request fits either"),
        false => format!(
            "{message}; each of these would fit: {}",
            listed(&fitting, sizes.number_bytes)
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::data::Dataset;
    use crate::loss::{CrossEntropy};
    use crate::network::builder::Builder;
    use crate::schedule::tiles::Grid;
    use crate::schedule::request::resolve;
    use crate::{Device, Part, Precision, RunOptions, Session};
    use ndarray::{Array1, Array2};

    fn session() -> Session {
        let network = Builder::new(&[40]).linear("a", 30).tanh().linear("b", 10);
        let network = network.initialize(0).build().unwrap();
        let data = Dataset::from_arrays(Array2::<f64>::ones((6, 40)), Array1::<i64>::zeros(6));
        Session::builder(network)
            .data(data)
            .loss(CrossEntropy::mean())
            .device(Device::cpu(Precision::F64))
            .build()
            .unwrap()
    }

    fn refused(parts: &[Part], limits: Limits) -> Option<String> {
        let session = session();
        let parts = resolve(session.network(), parts).unwrap();
        let grid = if limits.unified {
            Grid::Panels
        } else {
            Grid::Squares
        };
        let planned =
            session
                .ggn()
                .plan_within(parts, Precision::F32, limits, RunOptions::default(), grid);
        planned.err().map(|error| error.to_string())
    }

    /// The size that follows an option in a message.
    fn said(message: &str, option: &str) -> u64 {
        let (_, rest) = message.split_once(&format!("{option} ")).expect(message);
        let word = rest.split_whitespace().next().unwrap_or_default();
        word.parse::<Bytes>().unwrap().0 as u64
    }

    #[test]
    fn a_budget_that_is_too_small_is_answered_with_the_least_that_would_do() {
        let full = [Part::Full];
        let unified = |bytes: u64| Limits {
            device: bytes,
            host: bytes,
            held: 0,
            sharing: 1,
            tensor: u64::MAX,
            unified: true,
        };
        let message = refused(&full, unified(4 << 20)).unwrap();
        let least = said(&message, "--host-memory");
        assert!(
            message.contains("would do; each of these would fit: "),
            "{message}"
        );
        assert!(
            message.contains("diag (") && message.contains("layer=b ("),
            "{message}"
        );
        assert_eq!(refused(&full, unified(least)), None);
        assert!(refused(&full, unified(least / 10 * 8)).is_some());
        let nothing = refused(&full, unified(1 << 10)).unwrap();
        assert!(
            nothing.contains("no smaller part of the request fits either"),
            "{nothing}"
        );

        let own = |device: u64, host: u64| Limits {
            device,
            host,
            held: 0,
            sharing: 1,
            tensor: u64::MAX,
            unified: false,
        };
        let message = refused(&full, own(1 << 20, 1 << 20)).unwrap();
        let (device, host) = (said(&message, "--memory"), said(&message, "--host-memory"));
        assert_eq!(refused(&full, own(device, host)), None, "{message}");
        let message = refused(&full, own(device / 10 * 8, host)).unwrap();
        assert!(
            message.contains("--memory") && !message.contains("--host-memory"),
            "{message}"
        );
    }

    #[test]
    fn more_tiles_than_the_budget_lists_are_refused_before_they_are_listed() {
        let network = Builder::new(&[300]).linear("a", 300).linear("b", 10);
        let network = network.initialize(0).build().unwrap();
        let data = Dataset::from_arrays(Array2::<f64>::ones((1, 300)), Array1::<i64>::zeros(1));
        let session = Session::builder(network)
            .data(data)
            .loss(CrossEntropy::mean())
            .device(Device::cpu(Precision::F64))
            .build()
            .unwrap();
        let plan = |side: usize, held: u64| {
            let parts = resolve(session.network(), &[Part::Full]).unwrap();
            let mut options = RunOptions {
                host_memory: Some(256 << 20),
                held,
                ..RunOptions::default()
            };
            options.tiling.side = side;
            session.with_device(Device::cpu(Precision::F32)).ggn().plan_with(parts, options)
        };
        let message = plan(16, 0).unwrap_err().to_string();
        for word in [" tiles, of 8 × 32 entries each", "--tile", "256.0 MiB"] {
            assert!(message.contains(word), "{word}: {message}");
        }
        assert!(!message.contains("in use"), "{message}");
        assert!(plan(2048, 0).is_ok());
        // What is held already counts, and is said.
        let message = plan(2048, 250 << 20).unwrap_err().to_string();
        assert!(
            message.contains("250.0 MiB of it are in use already"),
            "{message}"
        );
        let least = said(&message, "--host-memory");
        assert!(least > 256 << 20, "{message}");
    }

    #[test]
    fn a_run_that_is_gone_on_with_is_offered_no_other_parts() {
        use crate::schedule::plan::Units;
        let session = session();
        let options = |units: Option<Units>| RunOptions {
            host_memory: Some(1 << 20),
            units,
            ..RunOptions::default()
        };
        let refused = |units: Option<Units>| {
            let parts = resolve(session.network(), &[Part::Full]).unwrap();
            let plan = session.with_device(Device::cpu(Precision::F32)).ggn().plan_with(parts, options(units));
            plan.unwrap_err().to_string()
        };
        let units = Units {
            samples: 6,
            directions: 10,
            rest: None,
        };
        let message = refused(Some(units));
        assert!(message.contains("goes on with took 6 samples"), "{message}");
        assert!(!message.contains("fit"), "{message}");
        assert!(refused(None).contains("fit"));
    }

    #[test]
    fn what_has_room_is_what_can_be_planned() {
        use crate::loss::Curvature;
        let session = session();
        for curvature in [Curvature::Ggn, Curvature::Exact] {
            let sizes = Sizes {
                curvature,
                grid: Grid::Panels,
                ..Sizes::of_test(6, 10)
            };
            let mut both = [0, 0];
            for bytes in (10..25).map(|power| 1 << power) {
                let limits = Limits {
                    device: bytes,
                    host: bytes,
                    held: 0,
                    sharing: 1,
                    tensor: u64::MAX,
                    unified: true,
                };
                for part in [Part::Full, Part::layer("b"), Part::Diagonal] {
                    let parts = resolve(session.network(), std::slice::from_ref(&part)).unwrap();
                    let room = has_room(session.network(), parts.clone(), sizes, limits);
                    let plan = crate::schedule::plan::plan(session.network(), parts, sizes, limits);
                    assert_eq!(room, plan.is_ok(), "{curvature} {part} {bytes}");
                    both[usize::from(room)] += 1;
                }
            }
            assert!(both[0] > 5 && both[1] > 5, "{both:?}");
        }
    }

    #[test]
    fn parts_beyond_any_disk_are_answered_with_those_that_could_be() {
        let network = Builder::new(&[1000]).linear("a", 3000).linear("b", 10);
        let network = network.initialize(0).build().unwrap();
        let data = Dataset::from_arrays(Array2::<f64>::ones((1, 1000)), Array1::<i64>::zeros(1));
        let session = Session::builder(network)
            .data(data)
            .loss(CrossEntropy::mean())
            .device(Device::cpu(Precision::F64))
            .build()
            .unwrap();
        let parts = resolve(session.network(), &[Part::Full]).unwrap();
        let limits = Limits {
            device: u64::MAX,
            host: u64::MAX,
            held: 0,
            sharing: 1,
            tensor: u64::MAX,
            unified: true,
        };
        let error = session
            .ggn()
            .plan_within(
                parts,
                Precision::F32,
                limits,
                RunOptions::default(),
                Grid::Panels,
            )
            .unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains("3033010 × 3033010 entries of 4 bytes, 33.5 TiB"),
            "{message}"
        );
        assert!(
            message.contains("layer=b (") && message.contains("diag ("),
            "{message}"
        );
        assert!(message.contains("rows of full fit at a time"), "{message}");
    }

    #[test]
    fn a_size_is_rounded_up_to_what_is_read_as_no_less() {
        for bytes in [
            1u128,
            1023,
            1024,
            1025,
            1_048_575,
            7_894_677_904,
            3 << 20,
            (3 << 20) + 1,
        ] {
            let said = at_least(bytes);
            let read = said.parse::<Bytes>().unwrap().0;
            assert!(
                read >= bytes && read <= bytes + bytes / 10 + 1,
                "{bytes}: {said} is {read}"
            );
        }
        assert_eq!(at_least(3 << 20), "3.0MiB");
        assert_eq!(at_least((3 << 20) + 1), "3.1MiB");
    }
}
