//! What would fit where the memory budget is too small for a request.

use super::{as_remedies, candidates, listed};
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
    if !matches!(error, Error::Budget { .. }) {
        return error;
    }
    let Ok(mut smaller) = candidates(network, parts) else {
        return error;
    };
    smaller.retain(|part| parts.len() > 1 || !parts.contains(part));
    let fitting: Vec<ResolvedPart> = smaller.into_iter().take(TRIED).filter(fits).collect();
    let mut error = error;
    if let Error::Budget {
        message, remedies, ..
    } = &mut error
    {
        *message += &match fitting.is_empty() {
            true => "; no smaller part of the request fits either".to_string(),
            false => format!(
                "; each of these would fit: {}",
                listed(&fitting, number_bytes)
            ),
        };
        remedies.append(&mut as_remedies(&fitting, number_bytes));
    }
    error
}

#[cfg(test)]
mod tests {
    use crate::error::{Error, Remedy};
    use crate::import::data::Dataset;
    use crate::loss::CrossEntropy;
    use crate::network::builder::Builder;
    use crate::plan::RunOptions;
    use crate::plan::make::has_room;
    use crate::plan::request::resolve;
    use crate::plan::tiles::Grid;
    use crate::plan::{Limits, Sizes};
    use crate::{Device, Part, Precision, Session};
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

    fn refused(parts: &[Part], limits: Limits) -> Option<Error> {
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
        planned.err()
    }

    /// The budget of host memory that an error asks for.
    fn of_host(error: &Error) -> Option<u64> {
        remedies(error).find_map(|remedy| match remedy {
            Remedy::HostMemory(least) => Some(least.0 as u64),
            _ => None,
        })
    }

    /// The budget of device memory that an error asks for.
    fn of_device(error: &Error) -> Option<u64> {
        remedies(error).find_map(|remedy| match remedy {
            Remedy::DeviceMemory(least) => Some(least.0 as u64),
            _ => None,
        })
    }

    fn remedies(error: &Error) -> impl Iterator<Item = &Remedy> {
        let Error::Budget { remedies, .. } = error else {
            panic!("{error} is of no budget")
        };
        remedies.iter()
    }

    /// The parts that an error says would fit.
    fn fitting(error: &Error) -> Vec<&str> {
        let name = |remedy: &'_ Remedy| matches!(remedy, Remedy::Part { .. });
        let parts = remedies(error).filter(|remedy| name(remedy));
        let parts = parts.map(|remedy| match remedy {
            Remedy::Part { name, .. } => name.as_str(),
            _ => "",
        });
        parts.collect()
    }

    #[test]
    fn a_budget_that_is_too_small_is_answered_with_the_least_that_would_do() {
        let full = [Part::Full];
        let unified = |bytes: u64| Limits {
            device: bytes,
            host: bytes,
            ..Limits::ENDLESS
        };
        let error = refused(&full, unified(4 << 20)).unwrap();
        let message = error.to_string();
        let least = of_host(&error).unwrap();
        assert!(
            message.contains("would do; each of these would fit: "),
            "{message}"
        );
        assert!(
            message.contains("diag (") && message.contains("layer=b ("),
            "{message}"
        );
        assert_eq!(fitting(&error), ["diag", "layer=b"]);
        assert!(refused(&full, unified(least)).is_none());
        assert!(refused(&full, unified(least / 10 * 8)).is_some());
        let nothing = refused(&full, unified(1 << 10)).unwrap().to_string();
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
        let error = refused(&full, own(1 << 20, 1 << 20)).unwrap();
        let (device, host) = (of_device(&error).unwrap(), of_host(&error).unwrap());
        assert!(refused(&full, own(device, host)).is_none(), "{error}");
        let error = refused(&full, own(device / 10 * 8, host)).unwrap();
        assert!(
            of_device(&error).is_some() && of_host(&error).is_none(),
            "{error}"
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
            session
                .with_device(Device::cpu(Precision::F32))
                .ggn()
                .plan_with(parts, options)
        };
        let message = plan(16, 0).unwrap_err().to_string();
        for word in [" tiles, of 8 × 32 entries each", "(tile)", "256.0 MiB"] {
            assert!(message.contains(word), "{word}: {message}");
        }
        assert!(!message.contains("in use"), "{message}");
        assert!(plan(2048, 0).is_ok());
        // What is held already counts, and is said.
        let error = plan(2048, 250 << 20).unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains("250.0 MiB of it are in use already"),
            "{message}"
        );
        let least = of_host(&error).unwrap();
        assert!(least > 256 << 20, "{message}");
    }

    #[test]
    fn a_run_that_is_gone_on_with_is_offered_no_other_parts() {
        use crate::plan::Units;
        let session = session();
        let options = |units: Option<Units>| RunOptions {
            host_memory: Some(1 << 20),
            units,
            ..RunOptions::default()
        };
        let refused = |units: Option<Units>| {
            let parts = resolve(session.network(), &[Part::Full]).unwrap();
            let plan = session
                .with_device(Device::cpu(Precision::F32))
                .ggn()
                .plan_with(parts, options(units));
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
                    ..Limits::ENDLESS
                };
                for part in [Part::Full, Part::layer("b"), Part::Diagonal] {
                    let parts = resolve(session.network(), std::slice::from_ref(&part)).unwrap();
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
        let session = Session::builder(network)
            .data(data)
            .loss(CrossEntropy::mean())
            .device(Device::cpu(Precision::F64))
            .build()
            .unwrap();
        let parts = resolve(session.network(), &[Part::Full]).unwrap();
        let limits = Limits::ENDLESS;
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
}
