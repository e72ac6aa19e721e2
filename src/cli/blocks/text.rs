//! The summary that `blocks` prints after a run.

use super::super::progress::engineering;
use super::super::{args, print, rank_line};
use super::Planned;
use crate::Output;
use crate::Result;
use crate::bytes::Bytes;
use crate::run::RunReport;
use crate::text;

/// Prints what was made, in what time, and what it took.
pub fn print_report(
    command: &args::Blocks,
    planned: &Planned,
    output: &Output,
    report: &RunReport,
) -> Result<()> {
    if command.shard.of > 1 {
        print(&format!(
            "{}: shard {} is done, {} of {} tiles; when all are, `hessblock merge {0}` finishes the result",
            text::path(output.path()),
            command.shard,
            report.tiles + report.found_tiles,
            planned.plan.tiles().tile_count()
        ))?;
    }
    print(&made(planned, output, report))?;
    print(&times(report))?;
    if let Some(found) = report.bottleneck {
        let limit = found.limit.map_or(String::new(), |limit| {
            format!(", {:.0} % of the most measured", 100.0 * found.rate / limit)
        });
        print(&format!(
            "bottleneck  {}: busy {:.0} % of the time, {}{limit}",
            found.stage,
            100.0 * found.busy_fraction,
            engineering(found.rate, found.unit),
        ))?;
    }
    if report.devices.len() > 1 {
        for device in &report.devices {
            let busy = device.busy_seconds.unwrap_or(0.0);
            print(&format!(
                "device      {}: {} tile{}, busy {busy:.2} s{}",
                device.name,
                device.tiles,
                if device.tiles == 1 { "" } else { "s" },
                if device.lost { ", lost on the way" } else { "" }
            ))?;
        }
    }
    if let Some(rank) = planned.operator().rank() {
        print(&format!("rank        {}", rank_line(rank)))?;
    }
    print(&work(report))
}

/// The result's parts and size.
fn made(planned: &Planned, output: &Output, report: &RunReport) -> String {
    let (operator, device) = (planned.operator(), planned.device());
    let tiles = planned.plan.tiles();
    let count = tiles.all_parts().len();
    let all = (tiles.entries() * tiles.number_bytes() as u128) as u64;
    format!(
        "{}: {count} part{} of {} over {} samples, {}{} on {} ({})",
        text::path(output.path()),
        if count == 1 { "" } else { "s" },
        operator.curvature().symbol(),
        tiles.samples,
        Bytes(report.bytes.into()),
        match report.bytes == all {
            true => String::new(),
            false => format!(" of {}", Bytes(all.into())),
        },
        device.name(),
        device.precision(),
    )
}

/// Where the time went.
fn times(report: &RunReport) -> String {
    let device_time = report.device_busy_seconds.map_or(String::new(), |busy| {
        format!(
            "device {busy:.2}, read-back {:.2}, ",
            report.read_back_seconds
        )
    });
    format!(
        "time        {:.2} s: factors {:.2}, contraction {:.2}, waiting for the writer {:.2}, sync {:.2} (beside these: \
         {device_time}writer {:.2})",
        report.seconds,
        report.factor_seconds,
        report.contraction_seconds,
        report.wait_seconds,
        report.sync_seconds,
        report.write_seconds,
    )
}

/// Operations and memory.
fn work(report: &RunReport) -> String {
    let size = |bytes: u64| Bytes(bytes.into()).to_string();
    let host = report.peak_anonymous_bytes.map_or("unknown".into(), size);
    let device = report
        .peak_device_bytes
        .map_or(String::new(), |b| format!(", device {}", size(b)));
    format!(
        "work        {}, {}; {} tile{}; peak memory: anonymous {host}{device}",
        engineering(report.operations as f64, "flop"),
        engineering(report.gflops() * 1e9, "flop/s"),
        report.tiles,
        if report.tiles == 1 { "" } else { "s" },
    )
}
