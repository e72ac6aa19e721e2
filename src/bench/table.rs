//! Reports as tables of text.

use super::compare::Comparison;
use super::report::{BenchReport, BenchedCase, BenchedDevice, Outcome};
use std::fmt::Write as _;

/// `1.23 ms`.
pub(super) fn duration(seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s < 1e-6 => (s * 1e9, "ns"),
        s if s < 1e-3 => (s * 1e6, "µs"),
        s if s < 1.0 => (s * 1e3, "ms"),
        s => (s, "s"),
    };
    format!("{} {unit}", digits(value))
}

/// Three digits, or all before the point.
pub(super) fn digits(value: f64) -> String {
    match value {
        v if v >= 99.95 => format!("{v:.0}"),
        v if v >= 9.995 => format!("{v:.1}"),
        v if v >= 0.1 => format!("{v:.2}"),
        0.0 => "0".into(),
        v if v >= 0.001 => format!("{v:.3}"),
        v => format!("{v:.0e}"),
    }
}

fn or_dash(value: Option<f64>, text: impl Fn(f64) -> String) -> String {
    value.map_or("-".into(), text)
}

/// What a device is and can do at most.
pub fn device_heading(device: &BenchedDevice, report: &BenchReport) -> String {
    let mut text = format!("{} ({}", device.name, device.precision);
    match device.threads {
        Some(threads) => {
            let plural = if threads == 1 { "" } else { "s" };
            let _ = write!(text, ", {threads} thread{plural})");
        }
        None => {
            let driver = device.driver.as_deref().unwrap_or("driver unknown");
            let _ = write!(text, ", {}, {}, {driver})", device.backend, device.kind);
        }
    }
    let _ = write!(text, "; {}; hessblock {}", report.system.os, report.version);
    let peak = &device.peak;
    let giga = |rate: Option<f64>| or_dash(rate, |r| digits(r * 1e-9));
    let _ = write!(text, "\npeak  {} Gflop/s", giga(peak.flops));
    if let (Some(one), Some(scaling)) = (peak.one_thread_flops, peak.scaling()) {
        let one = digits(one * 1e-9);
        let _ = write!(text, " (one thread {one}; all over one {scaling:.2})");
    }
    let _ = write!(
        text,
        ", write {} GB/s, copy {} GB/s",
        giga(peak.write),
        giga(peak.copy)
    );
    text
}

/// A row per case.
pub fn device_table(device: &BenchedDevice) -> String {
    let heads = [
        "median", "least", "runs", "Gflop/s", "GB/s", "of peak", "error",
    ];
    let rows: Vec<(String, Vec<String>)> = device
        .cases
        .iter()
        .map(|c| (c.name.clone(), row(c)))
        .collect();
    let mut text = laid_out("case", &heads, &rows);
    if device
        .cases
        .iter()
        .any(|c| c.of_peak.is_some_and(|share| share > 1.0))
    {
        text.push_str(
            "\nof peak: above 100 % where symmetry saves operations that are counted, or caches hold the numbers",
        );
    }
    text
}

fn row(case: &BenchedCase) -> Vec<String> {
    let reason = || case.reason.clone().unwrap_or_default();
    let Some(timing) = case.timing else {
        let word = match case.outcome {
            Outcome::Skipped => "skipped",
            _ => "FAILED",
        };
        return vec![format!("{word}: {}", reason())];
    };
    let peak = case.of_peak.map_or("-".into(), |share| {
        let bound = case.bound.as_deref().unwrap_or("");
        format!("{} % {bound}", digits(100.0 * share))
    });
    let runs = match timing.batch {
        1 => timing.runs.to_string(),
        batch => format!("{}×{batch}", timing.runs),
    };
    vec![
        duration(timing.median_seconds),
        duration(timing.least_seconds),
        runs,
        or_dash(case.gflops, digits),
        or_dash(case.gigabytes, digits),
        peak,
        or_dash(case.error, |e| {
            if e == 0.0 {
                "0".into()
            } else {
                format!("{e:.0e}")
            }
        }),
    ]
}

/// Columns as wide as they must be, texts at the right but the first and those of rows that have no other.
fn laid_out(first: &str, heads: &[&str], rows: &[(String, Vec<String>)]) -> String {
    let count = |text: &str| text.chars().count();
    let name = rows
        .iter()
        .map(|(name, _)| count(name))
        .max()
        .unwrap_or(0)
        .max(count(first));
    let widths: Vec<usize> = (0..heads.len())
        .map(|k| {
            let cells = rows.iter().filter(|(_, cells)| cells.len() == heads.len());
            cells
                .map(|(_, cells)| count(&cells[k]))
                .max()
                .unwrap_or(0)
                .max(count(heads[k]))
        })
        .collect();
    let mut text = format!("{first:<name$}");
    for (head, width) in heads.iter().zip(&widths) {
        let _ = write!(text, "  {head:>width$}");
    }
    for (case, cells) in rows {
        let _ = write!(text, "\n{case:<name$}");
        if cells.len() != heads.len() {
            let _ = write!(text, "  {}", cells.concat());
            continue;
        }
        for (cell, width) in cells.iter().zip(&widths) {
            let _ = write!(text, "  {cell:>width$}");
        }
    }
    text
}

/// A median with half of what the runs differ by, in per cent: `20.0 ms ±5 %`; of a single run `20.0 ms ±?`.
fn spread(median: f64, range: Option<(f64, f64)>, runs: usize) -> String {
    if runs == 1 {
        return format!("{} ±?", duration(median));
    }
    let Some((least, most)) = range.filter(|_| median > 0.0) else {
        return duration(median);
    };
    let share = 100.0 * (most - least) / (2.0 * median);
    format!("{} ±{share:.0} %", duration(median))
}

/// Cases by machines: medians, and how many times the first machine's speed each has.
pub fn comparison_table(comparison: &Comparison) -> String {
    let mut text = String::new();
    for machine in &comparison.machines {
        let _ = writeln!(
            text,
            "{}  {}; {}; {}",
            machine.letter, machine.device, machine.system, machine.file
        );
    }
    let letters: Vec<&str> = comparison
        .machines
        .iter()
        .map(|m| m.letter.as_str())
        .collect();
    let rows: Vec<(String, Vec<String>)> = comparison
        .cases
        .iter()
        .map(|case| {
            let cell = |(k, seconds): (usize, &Option<f64>)| match seconds {
                None => "-".into(),
                Some(seconds) if k == 0 => spread(*seconds, case.spreads[k], case.runs[k]),
                Some(seconds) => match case.speeds[k] {
                    Some(speed) => {
                        let chance = if case.within_spread[k] { "~" } else { "×" };
                        let time = spread(*seconds, case.spreads[k], case.runs[k]);
                        format!("{time} {chance}{}", digits(speed))
                    }
                    None => spread(*seconds, case.spreads[k], case.runs[k]),
                },
            };
            (
                case.name.clone(),
                case.seconds.iter().enumerate().map(cell).collect(),
            )
        })
        .collect();
    let mut rows = rows;
    let mean = |(k, speed): (usize, &Option<f64>)| match speed {
        Some(speed) if k > 0 => format!("×{}", digits(*speed)),
        _ => String::new(),
    };
    rows.push((
        "geometric mean".into(),
        comparison.means.iter().enumerate().map(mean).collect(),
    ));
    text.push_str(&laid_out("case", &letters, &rows));
    text.push_str(
        "\n× is the speed over that of A: above 1 is faster; ~ where it may be chance: the runs of the two overlap, or one \
         of them has a single run (±?; more --seconds make more); ± is half of what the runs differ by",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::tests::example;

    #[test]
    fn numbers_are_written_short() {
        let times = [2e-9, 4.5e-6, 0.1234, 12.0, 250.0].map(duration);
        assert_eq!(times, ["2.00 ns", "4.50 µs", "123 ms", "12.0 s", "250 s"]);
        assert_eq!(
            [0.0, 0.012, 0.5, 15.04, 1234.5].map(digits),
            ["0", "0.012", "0.50", "15.0", "1234"]
        );
    }

    #[test]
    fn a_table_has_a_row_per_case_and_says_what_failed() {
        let report = example("CPU of a test", 1.0);
        let heading = device_heading(&report.devices[0], &report);
        assert!(
            heading.contains("CPU of a test (f32, 2 threads)")
                && heading.contains("all over one 2.00"),
            "{heading}"
        );
        let text = device_table(&report.devices[0]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(
            lines[1].contains("20.0 ms") && lines[1].contains("25.0 % flop"),
            "{text}"
        );
        assert!(lines[3].contains("FAILED: number 3"), "{text}");
    }

    #[test]
    fn machines_stand_side_by_side() {
        let comparison =
            Comparison::new(&[("a", example("slow", 1.0)), ("b", example("fast", 0.25))]).unwrap();
        let text = comparison_table(&comparison);
        assert!(
            text.contains("A  slow") && text.contains("B  fast"),
            "{text}"
        );
        assert!(
            text.contains("20.0 ms ±10 %  5.00 ms ±10 % ×4.00"),
            "{text}"
        );
        assert!(text.contains("geometric mean"), "{text}");
        let mut once = example("once", 0.25);
        once.devices[0].cases[0].timing.as_mut().unwrap().runs = 1;
        let comparison = Comparison::new(&[("a", example("slow", 1.0)), ("b", once)]).unwrap();
        let text = comparison_table(&comparison);
        assert!(text.contains("5.00 ms ±? ~4.00"), "{text}");
    }
}
