//! `blocks` and `plan`.

use super::args::{self, Blocks};
use super::progress::{Reporter, engineering};
use super::{
    CANCEL, note, open_source, print, print_json, rank_line, shards_json, shards_text, show, tell,
};
use hessblock::bytes::Bytes;
use hessblock::forecast::Rates;
use hessblock::loss::RankReport;
use hessblock::plan::Plan;
use hessblock::plan::request::ResolvedPart;
use hessblock::run::{Control, RunReport};
use hessblock::text;
use hessblock::{Device, Error, Result, Session, Source, Target};
use serde::Serialize;

/// What `blocks --json` prints.
#[derive(Serialize)]
struct Summary<'a> {
    /// Where the result is.
    out: String,
    device: String,
    precision: &'static str,
    curvature: hessblock::Curvature,
    /// The parts written.
    parts: Vec<&'a str>,
    /// The parts left out by `--skip-larger`.
    skipped: Vec<Skipped>,
    samples: usize,
    /// What `--rank-tolerance` cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    rank: Option<&'a RankReport>,
    #[serde(flatten)]
    report: &'a RunReport,
    gflops: f64,
}

/// A part left out for its size.
#[derive(Serialize)]
struct Skipped {
    part: String,
    bytes: u128,
}

/// A request that is planned.
struct Planned {
    session: Session,
    device: Device,
    /// The parts left out by `--skip-larger`.
    skipped: Vec<Skipped>,
    plan: Plan,
    /// The share of the result that this process has yet to make.
    left: f64,
}

/// Opens and plans a request, and refuses what has no place where it is to go.
fn planned(command: &Blocks, target: Option<&Target>) -> Result<Planned> {
    let (session, device) = open(command)?;
    let (parts, skipped) = parts(command, &session, &device)?;
    report_skipped(command, &skipped);
    let mut options = command.options();
    if let Some(target) = target {
        session.check_target(&parts, number_bytes(&device), target)?;
        options = session.target_options(&parts, number_bytes(&device), target, options)?;
    }
    let plan = session.plan(parts, &device, options)?;
    let left = match target {
        Some(target) => target.left_of(&plan)?,
        None => 1.0 / command.shard.of as f64,
    };
    Ok(Planned {
        session,
        device,
        skipped,
        plan,
        left,
    })
}

/// Refuses a picture that cannot be drawn.
fn check_picture(command: &Blocks) -> Result<()> {
    let Some(png) = &command.png else {
        return Ok(());
    };
    if command.shard.of > 1 {
        return Err(Error::Request(
            "--png draws a whole result, and --shard makes a share of one: after `hessblock merge`, \
             `hessblock show OUT --png FILE` draws it"
                .into(),
        ));
    }
    // Where there is a result already, it is this one, and its picture stays; or the run refuses or replaces it.
    let whole = command.out.as_ref().is_some_and(|out| out.exists());
    show::check(png, "png", command.force || whole)
}

/// `hessblock plan`.
pub fn plan(command: &Blocks) -> Result<()> {
    check_picture(command)?;
    let out = command.out.as_deref();
    let target = out.map(|out| Target::with_options(out, command.files()));
    let target = target.transpose()?;
    let Planned {
        session,
        device,
        plan,
        left,
        ..
    } = planned(command, target.as_ref())?;
    let description = plan.describe(number_bytes(&device));
    let forecast = rates(command, &device)
        .and_then(|rates| session.forecast(&plan, &device, &rates, left, out));
    // What cannot be measured is no reason to keep the plan back.
    if let Err(Error::Interrupted) = forecast {
        return Err(Error::Interrupted);
    }
    if command.run.json {
        let mut description = serde_json::json!(description);
        description["predicted"] = match &forecast {
            Ok(forecast) => serde_json::json!(forecast),
            Err(error) => serde_json::json!({ "unknown": error.to_string() }),
        };
        description["warnings"] = serde_json::json!(session.network().warnings);
        if let Some(rank) = session.rank() {
            description["rank"] = serde_json::json!(rank);
        }
        description["shards"] = shards_json(session.dataset());
        return print_json(&description);
    }
    let rank = session.rank().map_or(String::new(), |rank| {
        format!("rank          {}\n", rank_line(rank))
    });
    let forecast = match forecast {
        Ok(forecast) => forecast.to_string(),
        Err(error) => format!("time          unknown: {error}"),
    };
    print(&format!(
        "device        {} ({})\n{rank}{}\n{description}\n{forecast}",
        device.name(),
        device.precision(),
        shards_text(session.dataset()),
    ))
}

/// The device's rates, measured where that was not done before.
fn rates(command: &Blocks, device: &Device) -> Result<Rates> {
    if let Some(rates) = Rates::stored(device) {
        return Ok(rates);
    }
    let name = device.name();
    let text = format!("measuring how long each kind of work takes on {name}");
    note(command.run.quiet, &text);
    let control = Control {
        progress: &|_| {},
        cancel: &CANCEL,
    };
    let rates = Rates::anew(device, &control)?;
    let text = match rates.kept {
        true => format!("{name} was measured, once, in {:.1} s", rates.seconds),
        false => format!(
            "{name} was measured in {:.1} s, for this plan alone: what was found cannot be kept (HESSBLOCK_CACHE names a folder \
             that it is kept in)",
            rates.seconds
        ),
    };
    note(command.run.quiet, &text);
    Ok(rates)
}

/// Runs that take longer than this, in seconds, are announced.
const LONG: f64 = 10.0;

/// Says how long a long run will take, where the device's rates are known already.
fn announce(command: &Blocks, planned: &Planned) {
    let Planned {
        session,
        device,
        plan,
        left,
        ..
    } = planned;
    let Some(rates) = Rates::stored(device).filter(|_| !command.run.quiet) else {
        return;
    };
    // The disk is not measured: nothing is written before the run itself. And nothing depends on it: the run says what is wrong.
    if let Ok(forecast) = session.forecast(plan, device, &rates, *left, None)
        && forecast.seconds > LONG
    {
        let lines = forecast.to_string();
        let line = lines.lines().next().unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        note(command.run.quiet, &words.join(" "));
    }
}

/// `hessblock blocks`.
pub fn run(command: &Blocks) -> Result<()> {
    let out = command.out.as_ref().ok_or_else(|| {
        Error::Request(
            "--out PATH is missing: FILE.npy for a single part, otherwise a folder".into(),
        )
    })?;
    check_picture(command)?;
    let mut target = Target::with_options(out, command.files())?;
    let planned = planned(command, Some(&target))?;
    announce(command, &planned);
    let Planned {
        session,
        device,
        skipped,
        plan,
        ..
    } = planned;
    let source = source(command)?;
    target.provenance = source.provenance(&session, &device)?;
    if !skipped.is_empty() {
        let list = serde_json::json!(skipped);
        target.provenance.options.insert("skipped".into(), list);
    }
    let reporter = Reporter::new(command.run.quiet, "flop");
    let control = Control {
        progress: &|progress| reporter.update(progress),
        cancel: &CANCEL,
    };
    let report = session.run_to_files(&device, &plan, &target, &control);
    reporter.finish();
    let mut report = report.inspect_err(|error| {
        // What was refused had not begun.
        let began = !matches!(error, Error::Request(_) | Error::File { .. });
        if let Some(left) = target.left().filter(|_| began) {
            let (tiles, path) = (left.tiles, left.path.display());
            let kept = if tiles == 1 { "tile is" } else { "tiles are" };
            let text = format!(
                "{tiles} {kept} kept in {path}: the same command goes on from there, with --restart from the beginning"
            );
            note(command.run.quiet, &text);
        }
    })?;
    if report.was_whole {
        let text = format!(
            "{} is there already, made by this command from the same files: nothing was computed (--force makes it anew)",
            text::path(out)
        );
        note(command.run.quiet, &text);
    } else if report.found_tiles > 0 {
        let text = format!(
            "went on from {} tiles of an earlier run",
            report.found_tiles
        );
        note(command.run.quiet, &text);
    }
    for warning in &report.warnings {
        note(command.run.quiet, &format!("warning: {warning}"));
    }
    if report.non_finite > 0 {
        let text = format!(
            "warning: {} of {} entries are NaN or infinite",
            report.non_finite, report.entries
        );
        tell(&text);
    }
    match &command.png {
        Some(png) if report.was_whole && png.exists() => {
            let text = format!("{} stays as it is (--force draws it anew)", png.display());
            note(command.run.quiet, &text);
        }
        Some(png) => show::picture(out, png, command.run.quiet)?,
        None => {}
    }
    if command.run.json {
        let warnings = session.network().warnings.iter().cloned();
        report.warnings.splice(0..0, warnings);
        return print_json(&Summary {
            out: out.display().to_string(),
            device: device.name(),
            precision: device.precision(),
            curvature: session.curvature(),
            parts: plan
                .all_parts()
                .into_iter()
                .map(|p| p.part.name.as_str())
                .collect(),
            skipped,
            samples: plan.samples,
            rank: session.rank(),
            report: &report,
            gflops: report.gflops(),
        });
    }
    if command.run.quiet || report.was_whole {
        return Ok(());
    }
    if command.shard.of > 1 {
        print(&format!(
            "{}: shard {} is done, {} of {} tiles; when all are, `hessblock merge {0}` finishes the result",
            text::path(out),
            command.shard,
            report.tiles + report.found_tiles,
            plan.tile_count()
        ))?;
    }
    let count = plan.all_parts().len();
    let output = (plan.entries() * number_bytes(&device) as u128) as u64;
    print(&format!(
        "{}: {count} part{} of {} over {} samples, {}{} on {} ({})",
        text::path(out),
        if count == 1 { "" } else { "s" },
        session.curvature().symbol(),
        plan.samples,
        Bytes(report.bytes.into()),
        match report.bytes == output {
            true => String::new(),
            false => format!(" of {}", Bytes(output.into())),
        },
        device.name(),
        device.precision(),
    ))?;
    let device_time = report.device_busy_seconds.map_or(String::new(), |busy| {
        format!(
            "device {busy:.2}, read-back {:.2}, ",
            report.read_back_seconds
        )
    });
    print(&format!(
        "time        {:.2} s: factors {:.2}, contraction {:.2}, waiting for the writer {:.2}, sync {:.2} (beside these: \
         {device_time}writer {:.2})",
        report.seconds,
        report.factor_seconds,
        report.contraction_seconds,
        report.wait_seconds,
        report.sync_seconds,
        report.write_seconds,
    ))?;
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
    if let Some(rank) = session.rank() {
        print(&format!("rank        {}", rank_line(rank)))?;
    }
    let size = |bytes: u64| Bytes(bytes.into()).to_string();
    let host = report.peak_anonymous_bytes.map_or("unknown".into(), size);
    let device = report
        .peak_device_bytes
        .map_or(String::new(), |b| format!(", device {}", size(b)));
    print(&format!(
        "work        {}, {}; {} tile{}; peak memory: anonymous {host}{device}",
        engineering(report.operations as f64, "flop"),
        engineering(report.gflops() * 1e9, "flop/s"),
        report.tiles,
        if report.tiles == 1 { "" } else { "s" },
    ))
}

fn open(command: &Blocks) -> Result<(Session, Device)> {
    open_source(&source(command)?, &command.run)
}

fn source(command: &Blocks) -> Result<Source> {
    let source = args::source(&command.model, &command.data, &command.loss, &command.run);
    command.matrix.of(source)
}

fn number_bytes(device: &Device) -> usize {
    if device.precision() == "f64" { 8 } else { 4 }
}

/// The parts asked for, without those that `--skip-larger` leaves out.
fn parts(
    command: &Blocks,
    session: &Session,
    device: &Device,
) -> Result<(Vec<ResolvedPart>, Vec<Skipped>)> {
    let (mut kept, mut skipped) = (Vec::new(), Vec::new());
    for part in session.resolve(&command.part)? {
        let bytes = part.entries() * number_bytes(device) as u128;
        match command.skip_larger {
            Some(limit) if bytes > limit.0 => skipped.push(Skipped {
                part: part.name,
                bytes,
            }),
            _ => kept.push(part),
        }
    }
    if kept.is_empty() {
        let sizes: Vec<String> = skipped
            .iter()
            .map(|s| format!("{} ({})", s.part, Bytes(s.bytes)))
            .collect();
        return Err(Error::Request(format!(
            "every part is larger than --skip-larger: {}",
            sizes.join(", ")
        )));
    }
    Ok((kept, skipped))
}

fn report_skipped(command: &Blocks, skipped: &[Skipped]) {
    for part in skipped {
        note(
            command.run.quiet,
            &format!(
                "left out {}: {} is larger than --skip-larger",
                part.part,
                Bytes(part.bytes)
            ),
        );
    }
}
