//! The report as text: a row for every primitive, operation, contraction and network, and what failed in full.

use super::compare::Measure;
use super::report::{TestReport, TestedCase};

/// What was tested, in two lines.
pub fn heading(report: &TestReport) -> String {
    let device = &report.device;
    let driver = device.driver.as_deref().map(|d| format!(", {d}"));
    let probe = device.probe.as_deref().map(|p| format!("\nprobed: {p}"));
    format!(
        "{} ({}, {}{}) against CPU f64\nhessblock {}, {}{}",
        device.name,
        device.backend,
        device.kind,
        driver.unwrap_or_default(),
        report.version,
        report.system.os,
        probe.unwrap_or_default()
    )
}

/// A row per subject with the case that is nearest to what is allowed, or furthest beyond; then the cases that failed.
pub fn table(report: &TestReport) -> String {
    let mut rows = vec![["", "cases", "error", "allowed", "seconds", ""].map(String::from)];
    let mut group = None;
    let same = |a: &TestedCase, b: &TestedCase| a.group == b.group && a.subject == b.subject;
    for cases in report.cases.chunk_by(same) {
        let first = &cases[0];
        if group != Some(first.group) {
            group = Some(first.group);
            let empty = String::new;
            let name = first.group.name().to_string();
            rows.push([name, empty(), empty(), empty(), empty(), empty()]);
        }
        let worst = cases.iter().max_by(|a, b| a.share().total_cmp(&b.share()));
        let worst = worst.unwrap_or(first);
        let failed = cases.iter().filter(|case| !case.pass).count();
        rows.push([
            format!("  {}", first.subject),
            cases.len().to_string(),
            worst.error.map_or("-".into(), |e| number(e, worst.measure)),
            number(worst.measure.allowed(), worst.measure),
            format!("{:.2}", cases.iter().map(|c| c.seconds).sum::<f64>()),
            match failed {
                0 => "ok".into(),
                failed => format!("{failed} FAILED"),
            },
        ]);
    }
    let wide = |column: usize| rows.iter().map(|r| r[column].chars().count()).max();
    let widths = [0, 1, 2, 3, 4].map(|column| wide(column).unwrap_or(0));
    let mut text = String::new();
    for [name, cases, error, allowed, seconds, verdict] in &rows {
        let [a, b, c, d, e] = widths;
        let line = format!(
            "{name:<a$}  {cases:>b$}  {error:>c$}  {allowed:>d$}  {seconds:>e$}  {verdict}"
        );
        text += line.trim_end();
        text.push('\n');
    }
    for case in report.failures() {
        let fault = case.fault.as_deref().unwrap_or("no result");
        text += &format!("FAILED {}: {fault}\n", case.name);
    }
    let seconds = report.seconds;
    text + &format!(
        "{} passed, {} failed, {seconds:.1} s",
        report.passed, report.failed
    )
}

fn number(value: f64, measure: Measure) -> String {
    match measure {
        _ if value == 0.0 => "0".into(),
        Measure::OfLargest(_) => format!("{value:.1e}"),
        Measure::Ulps(_) => format!("{value:.2} ulp"),
    }
}
