//! `blocks` and `plan`.

mod text;

use super::args::{self, Blocks};
use super::progress::Reporter;
use super::{
    CANCEL, note, open_source, print, print_json, rank_line, shards_json, shards_text, show, tell,
};
use crate::bytes::Bytes;
use crate::control::Control;
use crate::forecast::Rates;
use crate::loss::RankReport;
use crate::run::RunReport;
use crate::{
    Curvature, Device, Error, Operator, Output, Plan, Precision, Request, Result, Session, Source,
};
use serde::Serialize;

/// The JSON object that `blocks --json` prints.
#[derive(Serialize)]
struct Summary<'a> {
    /// Where the result is.
    out: String,
    device: String,
    precision: Precision,
    curvature: Curvature,
    /// The parts written.
    parts: Vec<&'a str>,
    /// The parts left out by `--skip-larger`.
    skipped: &'a [Skipped],
    samples: usize,
    /// The directions that `--rank-tolerance` cut.
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
    source: Source,
    request: Request,
    /// The parts left out by `--skip-larger`.
    skipped: Vec<Skipped>,
    plan: Plan,
}

impl Planned {
    fn operator(&self) -> &Operator {
        self.request.operator()
    }

    fn session(&self) -> &Session {
        self.request.operator().session()
    }

    fn device(&self) -> &Device {
        self.session().device()
    }
}

/// Opens and plans a request, and refuses what has no place where it is to go.
fn planned(command: &Blocks, output: Option<&Output>) -> Result<Planned> {
    let source = source(command)?;
    let operator = open_source(&source, &command.run)?;
    let (request, skipped) = request(command, &operator)?;
    report_skipped(command, &skipped);
    let plan = match output {
        Some(output) => request.plan_for(output)?,
        None => request.plan_on_disk(command.shard.of)?,
    };
    Ok(Planned {
        source,
        request,
        skipped,
        plan,
    })
}

/// Where the result goes, checked before any work starts.
fn output(command: &Blocks) -> Result<Option<Output>> {
    let out = command.out.as_ref();
    let output = out.map(|out| Output::new(out).with_options(command.files()));
    if let Some(output) = &output {
        output.check()?;
    }
    Ok(output)
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
    let output = output(command)?;
    let planned = planned(command, output.as_ref())?;
    let plan = &planned.plan;
    let forecast =
        rates(command, planned.device()).and_then(|rates| plan.forecast_at(&rates, true));
    // What cannot be measured is no reason to keep the plan back.
    if let Err(Error::Interrupted) = forecast {
        return Err(Error::Interrupted);
    }
    let (session, rank) = (planned.session(), planned.operator().rank());
    if command.run.json {
        let mut description = serde_json::json!(plan);
        description["predicted"] = match &forecast {
            Ok(forecast) => serde_json::json!(forecast),
            Err(error) => serde_json::json!({ "unknown": error.to_string() }),
        };
        description["warnings"] = serde_json::json!(session.network().warnings);
        if let Some(rank) = rank {
            description["rank"] = serde_json::json!(rank);
        }
        description["shards"] = shards_json(session.dataset());
        return print_json(&description);
    }
    let rank = rank.map_or(String::new(), |rank| {
        format!("rank          {}\n", rank_line(rank))
    });
    let forecast = match forecast {
        Ok(forecast) => forecast.to_string(),
        Err(error) => format!("time          unknown: {error}"),
    };
    let device = session.device();
    print(&format!(
        "device        {} ({})\n{rank}{}\n{plan}\n{forecast}",
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
    let control = Control::stopped_by(CANCEL.flag());
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
    let rates = Rates::stored(planned.device()).filter(|_| !command.run.quiet);
    let Some(rates) = rates else {
        return;
    };
    // The disk is not measured: nothing is written before the run itself. And nothing depends on it: the run says what is wrong.
    if let Ok(forecast) = planned.plan.forecast_at(&rates, false)
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
    if command.out.is_none() {
        return Err(Error::Request(
            "--out PATH is missing: FILE.npy for a single part, otherwise a folder".into(),
        ));
    }
    check_picture(command)?;
    let Some(output) = output(command)? else {
        return Ok(());
    };
    let planned = planned(command, Some(&output))?;
    announce(command, &planned);
    let mut provenance = planned.source.provenance(planned.operator())?;
    if !planned.skipped.is_empty() {
        let list = serde_json::json!(planned.skipped);
        provenance.options.insert("skipped".into(), list);
    }
    let output = output.provenance(provenance);
    let mut report = written(command, &planned, &output)?;
    remark(command, &output, &report);
    draw(command, &output, &report)?;
    if command.run.json {
        let warnings = planned.session().network().warnings.iter().cloned();
        report.warnings.splice(0..0, warnings);
        return print_json(&summary(&planned, &output, &report));
    }
    match command.run.quiet || report.was_whole {
        true => Ok(()),
        false => text::print_report(command, &planned, &output, &report),
    }
}

/// Writes the result with progress, and says what is kept of a run that stopped.
fn written(command: &Blocks, planned: &Planned, output: &Output) -> Result<RunReport> {
    let reporter = Reporter::new(command.run.quiet, "flop");
    let watched = planned.request.clone().progress(reporter.watch());
    let report = watched.write_planned(&planned.plan, output);
    reporter.finish();
    report.inspect_err(|error| {
        // What was refused had not begun.
        let began = !matches!(
            error,
            Error::Request(_)
                | Error::File { .. }
                | Error::Disk { .. }
                | Error::OtherRun { .. }
        );
        if let Some(left) = output.left().filter(|_| began) {
            let (tiles, path) = (left.tiles, left.path.display());
            let kept = if tiles == 1 { "tile is" } else { "tiles are" };
            let text = format!(
                "{tiles} {kept} kept in {path}: the same command goes on from there, with --restart from the beginning"
            );
            note(command.run.quiet, &text);
        }
    })
}

/// Prints notes and warnings about a run.
fn remark(command: &Blocks, output: &Output, report: &RunReport) {
    let quiet = command.run.quiet;
    if report.was_whole {
        let text = format!(
            "{} is there already, made by this command from the same files: nothing was computed (--force makes it anew)",
            crate::text::path(output.path())
        );
        note(quiet, &text);
    } else if report.found_tiles > 0 {
        let text = format!(
            "went on from {} tiles of an earlier run",
            report.found_tiles
        );
        note(quiet, &text);
    }
    for warning in &report.warnings {
        note(quiet, &format!("warning: {warning}"));
    }
    if report.non_finite > 0 {
        let text = format!(
            "warning: {} of {} entries are NaN or infinite",
            report.non_finite, report.entries
        );
        tell(&text);
    }
}

/// Draws the picture that was asked for.
fn draw(command: &Blocks, output: &Output, report: &RunReport) -> Result<()> {
    match &command.png {
        Some(png) if report.was_whole && png.exists() => {
            let text = format!("{} stays as it is (--force draws it anew)", png.display());
            note(command.run.quiet, &text);
            Ok(())
        }
        Some(png) => show::picture(output.path(), png, command.run.quiet),
        None => Ok(()),
    }
}

fn summary<'a>(planned: &'a Planned, output: &Output, report: &'a RunReport) -> Summary<'a> {
    let (operator, device) = (planned.operator(), planned.device());
    let tiles = planned.plan.tiles();
    let parts = tiles.all_parts().into_iter();
    Summary {
        out: output.path().display().to_string(),
        device: device.name(),
        precision: device.precision(),
        curvature: operator.curvature(),
        parts: parts.map(|p| p.part.name.as_str()).collect(),
        skipped: &planned.skipped,
        samples: tiles.samples,
        rank: operator.rank(),
        report,
        gflops: report.gflops(),
    }
}

fn source(command: &Blocks) -> Result<Source> {
    let source = args::source(&command.model, &command.data, &command.loss, &command.run);
    command.matrix.of(source)
}

/// The parts asked for, without those that `--skip-larger` leaves out.
fn request(command: &Blocks, operator: &Operator) -> Result<(Request, Vec<Skipped>)> {
    let network = operator.session().network();
    let parts = command.part.iter().map(|text| text.part(network));
    let request = operator.parts(parts.collect::<Result<Vec<_>>>()?)?;
    let request = request.tile_rows(command.tile);
    let Some(limit) = command.skip_larger else {
        return Ok((request, Vec::new()));
    };
    let (request, larger) = request.without_larger(limit);
    if request.names().next().is_none() {
        let sizes = larger.iter().map(|(part, size)| format!("{part} ({size})"));
        return Err(Error::Request(format!(
            "every part is larger than --skip-larger: {}",
            sizes.collect::<Vec<_>>().join(", ")
        )));
    }
    let skipped = larger.into_iter().map(|(part, size)| Skipped {
        part,
        bytes: size.0,
    });
    Ok((request, skipped.collect()))
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
