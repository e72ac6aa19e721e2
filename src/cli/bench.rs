//! `bench`.

use super::args::Bench;
use super::progress::Reporter;
use super::{CANCEL, note, print, print_json};
use crate::bench::{
    BenchOptions, BenchProgress, BenchReport, Comparison, cases, check_target, comparison_table,
    device_heading, device_table, devices, figure, measure, select,
};
use crate::files::whole;
use crate::{Error, Result};
use std::path::{Path, PathBuf};

/// `hessblock bench`.
pub fn run(command: &Bench) -> Result<()> {
    if command.list {
        return list(command);
    }
    if !command.compare.is_empty() {
        return compare(command);
    }
    if command.png.is_some() || command.svg.is_some() {
        let text = "--png and --svg draw results side by side: measure with --out FILE.json, then bench --compare FILE.json … --png FILE";
        return Err(Error::Request(text.into()));
    }
    if let Some(out) = &command.out {
        if ending(out) != "json" {
            let text = format!(
                "--out {}: what is measured goes into FILE.json; plots are made by --compare",
                out.display()
            );
            return Err(Error::Request(text));
        }
        check_target(out, command.force)?;
    }
    let chosen = select(&command.only)?;
    let (devices, notes) = devices(&command.device, command.precision)?;
    for text in &notes {
        note(command.quiet, text);
    }
    let reporter = Reporter::new(command.quiet, "cases");
    let progress = |p: BenchProgress<'_>| {
        reporter.step(p.done, p.total, &format!("{} on {}", p.what, p.device));
    };
    let options = BenchOptions {
        seconds: command.seconds,
    };
    let report = measure(&chosen, &devices, options, &progress, &CANCEL);
    reporter.finish();
    let report = report?;
    if let Some(out) = &command.out {
        whole::write(out, report.json()?.as_bytes())?;
    }
    if command.json {
        print_json(&report)?;
    } else {
        tables(&report)?;
    }
    verdict(&report)
}

/// The names of the cases.
fn list(command: &Bench) -> Result<()> {
    let chosen = match command.only.as_slice() {
        [] => cases(),
        only => select(only)?,
    };
    if command.json {
        let case = |case: &crate::bench::BenchCase| serde_json::json!({"name": case.name(), "about": case.about()});
        return print_json(&chosen.iter().map(case).collect::<Vec<_>>());
    }
    let wide = chosen
        .iter()
        .map(|case| case.name().len())
        .max()
        .unwrap_or(0);
    for case in &chosen {
        print(&format!("{:<wide$}  {}", case.name(), case.about()))?;
    }
    Ok(())
}

fn tables(report: &BenchReport) -> Result<()> {
    for (k, device) in report.devices.iter().enumerate() {
        let gap = if k > 0 { "\n" } else { "" };
        print(&format!("{gap}{}", device_heading(device, report)))?;
        print(&device_table(device))?;
    }
    Ok(())
}

/// An error where numbers were wrong.
fn verdict(report: &BenchReport) -> Result<()> {
    let failed: Vec<String> = report
        .failures()
        .map(|(device, case)| format!("{} on {}", case.name, device.name))
        .collect();
    match failed.as_slice() {
        [] => Ok(()),
        failed => Err(Error::Value(format!(
            "{} cases FAILED their check and were not timed: {}",
            failed.len(),
            failed.join(", ")
        ))),
    }
}

/// Files of earlier runs side by side.
fn compare(command: &Bench) -> Result<()> {
    let files = targets(command)?;
    let comparison = Comparison::read(&command.compare)?;
    for (path, kind) in &files {
        let bytes = match *kind {
            "png" => figure(&comparison).png()?,
            "svg" => figure(&comparison).svg()?.into_bytes(),
            _ => {
                let text = serde_json::to_string_pretty(&comparison);
                let text = text
                    .map_err(|e| Error::Value(format!("the comparison cannot be written: {e}")))?;
                (text + "\n").into_bytes()
            }
        };
        whole::write(path, &bytes)?;
    }
    if command.json {
        return print_json(&comparison);
    }
    print(&comparison_table(&comparison))
}

/// The files that a comparison is written to, by their kind, checked before any work starts.
fn targets(command: &Bench) -> Result<Vec<(&PathBuf, &'static str)>> {
    let mut files = Vec::new();
    for (option, path, kinds) in [
        ("--out", &command.out, &["png", "svg", "json"][..]),
        ("--png", &command.png, &["png"]),
        ("--svg", &command.svg, &["svg"]),
    ] {
        let Some(path) = path else { continue };
        let ending = ending(path);
        let Some(kind) = kinds.iter().find(|kind| **kind == ending) else {
            return Err(Error::Request(format!(
                "{option} {}: the name must end in .{}",
                path.display(),
                kinds.join(" or .")
            )));
        };
        check_target(path, command.force)?;
        files.push((path, *kind));
    }
    Ok(files)
}

/// The end of a name, in small letters.
fn ending(path: &Path) -> String {
    let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    ending.unwrap_or_default()
}
