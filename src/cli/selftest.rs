//! `selftest`.

use super::args::Selftest;
use super::progress::Reporter;
use super::{CANCEL, note, print, print_json};
use crate::selftest::{TestCase, TestProgress, TestReport, heading, run as test, select, table};
use crate::{Device, Error, Precision, Result};

/// `hessblock selftest`.
pub fn run(command: &Selftest) -> Result<()> {
    let cases = select(&command.case)?;
    if command.list {
        let names: Vec<String> = cases.iter().map(TestCase::name).collect();
        return match command.json {
            true => print_json(&names),
            false => print(&names.join("\n")),
        };
    }
    let device = Device::open(&command.device, Precision::F32)?;
    if let Some(text) = device.note() {
        note(command.quiet, text);
    }
    let reporter = Reporter::new(command.quiet, "cases");
    let progress = |p: TestProgress<'_>| reporter.step(p.done, p.total, p.case);
    let report = test(&device, &cases, &progress, &CANCEL);
    reporter.finish();
    let report = report?;
    if command.json {
        print_json(&report)?;
    } else {
        print(&heading(&report))?;
        print(&table(&report))?;
    }
    verdict(&report)
}

/// An error where a case failed.
fn verdict(report: &TestReport) -> Result<()> {
    if report.failed == 0 {
        return Ok(());
    }
    Err(Error::Value(format!(
        "{} of {} cases FAILED on {}: its results are not to be trusted; please report it with what `hessblock selftest \
         --json` prints",
        report.failed,
        report.cases.len(),
        report.device.name
    )))
}
