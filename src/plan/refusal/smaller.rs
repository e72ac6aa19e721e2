//! What would fit where the memory budget is too small for a request.

use super::{candidates, listed};
use crate::error::Error;
use crate::network::Network;
use crate::plan::request::ResolvedPart;

/// Candidates that are tried: of each a unit is measured.
const TRIED: usize = 24;

/// The error of a plan that has no room, with the parts within those requested that have, as `fits` finds them.
pub(in crate::plan) fn with_what_fits(
    error: Error,
    network: &Network,
    parts: &[ResolvedPart],
    number_bytes: usize,
    fits: impl Fn(&ResolvedPart) -> bool,
) -> Error {
    let Error::Budget(message) = error else {
        return error;
    };
    let Ok(mut smaller) = candidates(network, parts) else {
        return Error::Budget(message);
    };
    smaller.retain(|part| parts.len() > 1 || !parts.contains(part));
    let fitting: Vec<ResolvedPart> = smaller.into_iter().take(TRIED).filter(fits).collect();
    Error::Budget(match fitting.is_empty() {
        true => format!("{message}; no smaller part of the request fits either"),
        false => format!(
            "{message}; each of these would fit: {}",
            listed(&fitting, number_bytes)
        ),
    })
}

#[cfg(test)]
mod tests {
    use crate::bytes::Bytes;
    use crate::import::data::Dataset;
    use crate::loss::{CrossEntropy, Reduction};
    use crate::network::builder::Builder;
    use crate::plan::make::has_room;
    use crate::plan::tiles::Grid;
    use crate::plan::{Limits, Sizes};
    use crate::{Part, Session};
    use ndarray::{Array1, Array2};

    fn session() -> Session {
        let network = Builder::new(&[40]).linear("a", 30).tanh().linear("b", 10);
        let network = network.initialize(0).build().unwrap();
        let data = Dataset::from_arrays(Array2::<f64>::ones((6, 40)), Array1::<i64>::zeros(6));
        Session::new(network, data, Box::new(CrossEntropy::new(Reduction::Mean))).unwrap()
    }

    fn refused(parts: &[Part], limits: Limits) -> Option<String> {
        let session = session();
        let parts = session.resolve(parts).unwrap();
        let grid = if limits.unified {
            Grid::Panels
        } else {
            Grid::Squares
        };
        let planned = session.plan_for(parts, 4, limits, None, grid);
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
        use crate::{Device, Precision, RunOptions};
        let network = Builder::new(&[300]).linear("a", 300).linear("b", 10);
        let network = network.initialize(0).build().unwrap();
        let data = Dataset::from_arrays(Array2::<f64>::ones((1, 300)), Array1::<i64>::zeros(1));
        let loss = Box::new(CrossEntropy::new(Reduction::Mean));
        let session = Session::new(network, data, loss).unwrap();
        let plan = |side: usize, held: u64| {
            let parts = session.resolve(&[Part::Full]).unwrap();
            let mut options = RunOptions {
                host_memory: Some(256 << 20),
                held,
                ..RunOptions::default()
            };
            options.tiling.side = side;
            session.plan(parts, &Device::cpu(Precision::F32), options)
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
        use crate::plan::Units;
        use crate::{Device, Precision, RunOptions};
        let session = session();
        let options = |units: Option<Units>| RunOptions {
            host_memory: Some(1 << 20),
            units,
            ..RunOptions::default()
        };
        let refused = |units: Option<Units>| {
            let parts = session.resolve(&[Part::Full]).unwrap();
            let plan = session.plan(parts, &Device::cpu(Precision::F32), options(units));
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
                for part in ["full", "layer=b", "diag"] {
                    let parts = session.resolve(&[part.parse().unwrap()]).unwrap();
                    let room = has_room(session.network(), parts.clone(), sizes, limits);
                    let plan = crate::plan::plan(session.network(), parts, sizes, limits);
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
        let loss = Box::new(CrossEntropy::new(Reduction::Mean));
        let session = Session::new(network, data, loss).unwrap();
        let parts = session.resolve(&[Part::Full]).unwrap();
        let limits = Limits {
            device: u64::MAX,
            host: u64::MAX,
            held: 0,
            sharing: 1,
            tensor: u64::MAX,
            unified: true,
        };
        let error = session
            .plan_for(parts, 4, limits, None, Grid::Panels)
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
}
