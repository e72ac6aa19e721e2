//! `trace`.

use super::args::{self, Trace};
use super::progress::Reporter;
use super::{open_source, print, print_json, rank_line, warn_non_finite};
use crate::Result;

/// `hessblock trace`.
pub fn run(command: &Trace) -> Result<()> {
    let source = args::source(&command.model, &command.data, &command.loss, &command.run);
    let operator = open_source(&command.matrix.of(source)?, &command.run)?;
    let (session, device) = (operator.session(), operator.session().device());
    let unit = if command.probes.is_some() {
        "samples"
    } else {
        "flop"
    };
    let reporter = Reporter::new(command.run.quiet, unit);
    let watched = operator.clone().progress(reporter.watch());
    let traces = match command.probes {
        None => watched.traces(),
        Some(probes) => watched.estimated_traces(probes as usize, command.matrix.seed),
    };
    reporter.finish();
    let traces = traces?;
    let values: Vec<f64> = traces.iter().map(|trace| trace.value).collect();
    warn_non_finite("the traces", &values);
    if command.run.json {
        return print_json(&serde_json::json!({
            "curvature": operator.curvature(),
            "rank": operator.rank(),
            "probes": command.probes,
            "samples": session.dataset().len(),
            "layers": &traces[..traces.len() - 1],
            "trace": traces.last(),
            "device": device.name(),
            "precision": device.precision(),
            "warnings": session.network().warnings,
        }));
    }
    let width = traces
        .iter()
        .filter_map(|t| t.layer.as_ref())
        .map(|l| l.len())
        .max();
    let width = width.unwrap_or(0).max("layer".len());
    print(&format!(
        "{:<width$} {:>12} {:>16} {:>12}",
        "layer",
        "parameters",
        format!("tr {}", operator.curvature().symbol()),
        if command.probes.is_some() {
            "± error"
        } else {
            "mean"
        },
    ))?;
    for trace in &traces {
        let name = trace.layer.as_deref().unwrap_or("whole");
        let last = match (command.probes, trace.error) {
            (None, _) => format!("{:>12.4e}", trace.value / trace.parameters as f64),
            (Some(_), Some(error)) => format!("{error:>12.4e}"),
            (Some(_), None) => format!("{:>12}", "unknown"),
        };
        print(&format!(
            "{name:<width$} {:>12} {:>16.9e} {last}",
            trace.parameters, trace.value
        ))?;
    }
    match operator.rank() {
        Some(rank) => print(&format!("rank: {}", rank_line(rank))),
        None => Ok(()),
    }
}
