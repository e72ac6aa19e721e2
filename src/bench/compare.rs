//! Reports put side by side.

use super::report::{BenchReport, BenchedCase, BenchedDevice};
use crate::error::{Error, Result};
use serde::Serialize;
use std::path::Path;

/// Machines by cases.
///
/// ```
/// use hessblock::bench::{BenchReport, Comparison};
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("bench.json");
/// # let text = r#"{"format": "hessblock bench", "format_version": 1, "set": 1, "version": "0.1.0",
/// #     "system": {"processor": "Example CPU", "architecture": "x86_64", "os": "Debian 12", "threads": 8},
/// #     "devices": [{"name": "Example CPU", "kind": "cpu", "precision": "f32", "backend": "cpu", "threads": 8,
/// #         "peak": {"flops": 4e11}, "cases": [{"name": "lenet5/gradient", "outcome": "passed", "error": 2e-7,
/// #             "tolerance": 1e-5, "operations": 200000000, "gflops": 100.0, "timing": {"median_seconds": 2e-3,
/// #             "least_seconds": 1.9e-3, "most_seconds": 2.2e-3, "runs": 51, "batch": 3}}]}]}"#;
/// # std::fs::write(&path, text).map_err(hessblock::Error::io(&path))?;
/// let report = BenchReport::read(&path)?;
/// let comparison = Comparison::new(&[("old.json", report.clone()), ("new.json", report)])?;
/// assert_eq!(comparison.cases[0].name, "lenet5/gradient");
/// assert_eq!(comparison.means, [Some(1.0), Some(1.0)]); // as fast as itself
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Every device of every report, in order.
    pub machines: Vec<Machine>,
    /// Every case that any of them has.
    pub cases: Vec<ComparedCase>,
    /// The geometric mean of the speeds over the first machine's, over the cases that both have.
    pub means: Vec<Option<f64>>,
}

/// A device of a report.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// `A`, `B`, …
    pub letter: String,
    /// The report.
    pub file: String,
    /// The device's name.
    pub name: String,
    /// Its name with precision, and threads or backend.
    pub device: String,
    /// Operating system and release.
    pub system: String,
}

/// A case on every machine.
#[derive(Clone, Debug, Serialize)]
pub struct ComparedCase {
    /// Its name.
    pub name: String,
    /// Seconds; `None` where it is not there or did not pass.
    pub seconds: Vec<Option<f64>>,
    /// The least and the most of the runs' seconds.
    pub spreads: Vec<Option<(f64, f64)>>,
    /// How many times as fast as on the first machine.
    pub speeds: Vec<Option<f64>>,
    /// The number of runs; 0 where there is no time.
    pub runs: Vec<usize>,
    /// Whether the difference to the first machine may be chance: it is within what the runs of either differ by among
    /// themselves, or that is not known, since one of the two has a single run.
    pub within_spread: Vec<bool>,
}

impl Comparison {
    /// Reads reports that [`BenchReport::json`] made.
    ///
    /// # Errors
    /// As [`BenchReport::read`] and [`Comparison::new`].
    pub fn read(paths: &[impl AsRef<Path>]) -> Result<Comparison> {
        let reports = paths.iter().map(|path| {
            Ok((
                path.as_ref().display().to_string(),
                BenchReport::read(path.as_ref())?,
            ))
        });
        Comparison::new(&reports.collect::<Result<Vec<_>>>()?)
    }

    /// Puts reports, each with the name of its file, side by side.
    ///
    /// # Errors
    /// [`Error::Request`] where there is nothing to compare.
    pub fn new(reports: &[(impl AsRef<str>, BenchReport)]) -> Result<Comparison> {
        let of = |(file, report): &(_, BenchReport)| {
            let machine = |device| Machine::new(AsRef::as_ref(file), report, device);
            report.devices.iter().map(machine).collect::<Vec<_>>()
        };
        let mut machines: Vec<Machine> = reports.iter().flat_map(of).collect();
        for (k, machine) in machines.iter_mut().enumerate() {
            machine.letter = letter(k);
        }
        let devices: Vec<&BenchedDevice> = reports.iter().flat_map(|(_, r)| &r.devices).collect();
        let cases: Vec<ComparedCase> = names(&devices)
            .into_iter()
            .map(|name| ComparedCase::new(name, &devices))
            .filter(|case| case.seconds.iter().any(Option::is_some))
            .collect();
        if machines.is_empty() || cases.is_empty() {
            let files: Vec<&str> = reports.iter().map(|(file, _)| file.as_ref()).collect();
            return Err(Error::Request(format!(
                "no case was timed in {}: there is nothing to compare",
                files.join(", ")
            )));
        }
        let mean = |k: usize| {
            let speeds: Vec<f64> = cases.iter().filter_map(|case| case.speeds[k]).collect();
            let sum: f64 = speeds.iter().map(|s| s.ln()).sum();
            (!speeds.is_empty()).then(|| (sum / speeds.len() as f64).exp())
        };
        let means = (0..machines.len()).map(mean).collect();
        Ok(Comparison {
            machines,
            cases,
            means,
        })
    }
}

impl Machine {
    /// A device of a report, without a letter as yet.
    fn new(file: &str, report: &BenchReport, device: &BenchedDevice) -> Machine {
        let how = match device.threads {
            Some(1) => "1 thread".into(),
            Some(threads) => format!("{threads} threads"),
            None => device.backend.clone(),
        };
        let system = &report.system;
        Machine {
            letter: String::new(),
            file: file.into(),
            name: device.name.clone(),
            device: format!("{} ({}, {how})", device.name, device.precision),
            system: format!("{}; hessblock {}", system.os, report.version),
        }
    }
}

/// Names of all cases: in the order of the set, and after it those that only other releases know.
fn names(devices: &[&BenchedDevice]) -> Vec<String> {
    let mut names: Vec<String> = super::cases()
        .iter()
        .map(|c| c.name().to_string())
        .collect();
    for case in devices.iter().flat_map(|device| &device.cases) {
        if !names.contains(&case.name) {
            names.push(case.name.clone());
        }
    }
    names
}

impl ComparedCase {
    fn new(name: String, devices: &[&BenchedDevice]) -> ComparedCase {
        let found = devices.iter().map(|device| {
            let mut cases = device.cases.iter();
            cases.find(|case| case.name == name)
        });
        let found: Vec<Option<&BenchedCase>> = found.collect();
        let seconds =
            |case: &Option<&BenchedCase>| case.and_then(BenchedCase::seconds).filter(|s| *s > 0.0);
        let seconds: Vec<Option<f64>> = found.iter().map(seconds).collect();
        let spreads: Vec<Option<(f64, f64)>> = found.iter().map(|case| spread((*case)?)).collect();
        let runs = |case: &Option<&BenchedCase>| {
            let timing = case.and_then(|case| case.timing);
            timing.map_or(0, |timing| timing.runs)
        };
        let runs: Vec<usize> = found.iter().map(runs).collect();
        let meets = |k: usize| match (spreads[0], spreads[k]) {
            (Some(_), Some(_)) if runs[0] == 1 || runs[k] == 1 => true,
            (Some((low, high)), Some((least, most))) => least <= high && low <= most,
            _ => false,
        };
        let within_spread = (0..devices.len()).map(meets).collect();
        let first = seconds.first().copied().flatten();
        let speeds = seconds.iter().map(|s| Some(first? / (*s)?)).collect();
        ComparedCase {
            name,
            seconds,
            spreads,
            speeds,
            runs,
            within_spread,
        }
    }
}

/// The least and the most of the runs' seconds.
fn spread(case: &BenchedCase) -> Option<(f64, f64)> {
    let timing = case.timing.filter(|t| t.median_seconds > 0.0)?;
    // Where the most was not kept, the median may be as far from it as from the least.
    let mirrored = 2.0 * timing.median_seconds - timing.least_seconds;
    Some((
        timing.least_seconds,
        timing.most_seconds.unwrap_or(mirrored),
    ))
}

/// A, B, … Z, AA, …
fn letter(k: usize) -> String {
    let last = char::from(b'A' + (k % 26) as u8);
    match k / 26 {
        0 => last.to_string(),
        more => letter(more - 1) + &last.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::tests::example;

    #[test]
    fn speeds_are_those_over_the_first_machine() {
        let mut fast = example("fast", 0.5);
        fast.devices[0].cases.remove(0);
        let reports = [("a", example("slow", 1.0)), ("b", fast)];
        let comparison = Comparison::new(&reports).unwrap();
        assert_eq!(comparison.cases.len(), 2);
        let [conv, gradient] = &comparison.cases[..] else {
            panic!("{comparison:?}")
        };
        assert_eq!(
            (conv.name.as_str(), conv.speeds[1]),
            ("primitive/conv", None)
        );
        assert_eq!(gradient.speeds, [Some(1.0), Some(2.0)]);
        assert!((comparison.means[1].unwrap() - 2.0).abs() < 1e-12);
        assert_eq!(gradient.within_spread, [true, false]);
        let close = [("a", example("slow", 1.0)), ("b", example("close", 1.1))];
        let comparison = Comparison::new(&close).unwrap();
        assert_eq!(comparison.cases[0].within_spread, [true, true]);
        // Of a single run nobody knows by how much the next one would differ.
        let mut once = example("once", 0.25);
        once.devices[0].cases[0].timing.as_mut().unwrap().runs = 1;
        let reports = [("a", example("slow", 1.0)), ("b", once)];
        let comparison = Comparison::new(&reports).unwrap();
        assert_eq!(comparison.cases[0].runs, [5, 1]);
        assert_eq!(comparison.cases[0].within_spread, [true, true]);
        assert_eq!(comparison.cases[1].within_spread, [true, false]);
        assert_eq!([0, 25, 26, 53].map(letter), ["A", "Z", "AA", "BB"]);
    }

    #[test]
    fn nothing_to_compare_is_said() {
        let mut empty = example("none", 1.0);
        empty.devices.clear();
        let error = Comparison::new(&[("none.json", empty)]).unwrap_err();
        assert!(error.to_string().contains("none.json"), "{error}");
    }
}
