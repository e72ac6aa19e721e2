//! The command line, nothing else: arguments, progress, summaries, exit codes.
//!
//! Exit codes: 0 done, 1 failed, 2 invalid arguments, 130 interrupted.

mod args;
mod bench;
mod blocks;
mod complete;
mod error;
mod form;
mod gradient;
mod info;
mod inspect;
mod interrupt;
mod memory;
mod merge;
mod parts;
mod product;
mod progress;
mod selftest;
mod show;
mod start;
mod trace;
mod verify;
mod version;

pub use memory::Memory;

use interrupt::CANCEL;

use crate::import::data::Dataset;
use crate::loss::RankReport;
use crate::network::Network;
use crate::{Device, Error, Operator, Precision, Result, Session, Source, text};
use clap::Parser;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

/// Parses the arguments, runs the command and turns its error into an exit code.
pub fn main() -> ExitCode {
    crate::setting::name_as_options();
    let arguments = args::Arguments::parse();
    if std::env::var_os("WAYLAND_DISPLAY").is_none() && std::env::var_os("DISPLAY").is_none() {
        // Mesa's layer that sorts devices complains on standard error where there is no display to ask.
        // SAFETY: no other thread runs yet that could read the environment.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
    tracing_subscriber::fmt()
        .with_env_filter(filter())
        .with_writer(std::io::stderr)
        // Of its own errors it would tell by a panic where nobody reads standard error.
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .init();
    interrupt::watch();
    let result = start::begin().and_then(|()| match &arguments.command {
        args::Command::Inspect(command) => inspect::run(command),
        args::Command::Blocks(command) => blocks::run(command),
        args::Command::Merge(command) => merge::run(command),
        args::Command::Plan(command) => blocks::plan(command),
        args::Command::Info(command) => info::run(command),
        args::Command::Gradient(command) => gradient::run(command),
        args::Command::Product(command) => product::run(command),
        args::Command::Trace(command) => trace::run(command),
        args::Command::Form(command) => form::run(command),
        args::Command::Show(command) => show::run(command),
        args::Command::Verify(command) => verify::run(command),
        args::Command::Error(command) => error::run(command),
        args::Command::Bench(command) => bench::run(command),
        args::Command::Selftest(command) => selftest::run(command),
        args::Command::ExportScript => print(include_str!("../../examples/export.py").trim_end()),
        args::Command::Completions(command) => complete::completions(command),
        args::Command::Man(command) => complete::man(command),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let code = match error {
                Error::Interrupted => interrupt::CODE,
                Error::Request(_) | Error::OtherRun { .. } => 2,
                _ => 1,
            };
            tell(&error.to_string());
            ExitCode::from(code)
        }
    }
}

/// The filter of the log: RUST_LOG, else errors, without those of the GPU's driver layers, which our own errors report.
fn filter() -> tracing_subscriber::EnvFilter {
    match std::env::var_os("RUST_LOG") {
        Some(_) => tracing_subscriber::EnvFilter::from_default_env(),
        None => tracing_subscriber::EnvFilter::new("error,wgpu_hal=off,wgpu_core=off,wgpu=off"),
    }
}

/// Prints a text to standard output, in which a terminal obeys nothing.
fn print(text: &str) -> Result<()> {
    print_plain(&text::lines(text))
}

/// Prints a line to standard output as it is; a reader that has gone away (`| head`) is no failure.
fn print_plain(text: &str) -> Result<()> {
    use std::io::Write;
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::Io {
            path: "standard output".into(),
            source: error,
        }),
        _ => Ok(()),
    }
}

/// Prints a value as JSON.
fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| Error::Value(format!("the summary cannot be written as JSON: {e}")))?;
    print_plain(&text::json(&text))
}

/// Opens what a source names, and then the device.
fn open_session(source: &Source, run: &args::Run) -> Result<Session> {
    let reference = Device::cpu(Precision::F64);
    let session = source.session()?.device(reference).build()?;
    source.curvature.check(session.loss())?;
    warn(run.quiet, session.network());
    let session = session.with_device(run.device()?).cancel(&CANCEL);
    Ok(session.with_options(run.options()))
}

/// Opens what a source names, with its matrix.
fn open_source(source: &Source, run: &args::Run) -> Result<Operator> {
    source.operator(&open_session(source, run)?)
}

/// Prints what a user should know of a network, a line for each.
fn warn(quiet: bool, network: &Network) {
    for warning in &network.warnings {
        note(quiet, &format!("warning: {warning}"));
    }
}

/// The shards of every folder of the data in the order in which they are joined, a line for each folder.
fn shards_text(dataset: &Dataset) -> String {
    /// Names that are printed of a longer list, before the last.
    const FIRST: usize = 4;
    let line_of = |(folder, names): (PathBuf, Vec<String>)| {
        let list = match &names[..] {
            [first @ .., last] if names.len() > FIRST + 1 => {
                format!("{}, …, {last}", first[..FIRST].join(", "))
            }
            all => all.join(", "),
        };
        let said = format!(
            "shards        {}: {}, joined in the order {list}",
            folder.display(),
            names.len()
        );
        format!("{}\n", text::line(&said))
    };
    dataset.shards().into_iter().map(line_of).collect()
}

/// The same for machines: the names by folder.
fn shards_json(dataset: &Dataset) -> serde_json::Value {
    let shards = dataset.shards().into_iter();
    let by_folder = shards.map(|(folder, names)| (folder.display().to_string(), names.into()));
    serde_json::Value::Object(by_folder.collect())
}

/// What a cut loss factor has left, in one line.
fn rank_line(rank: &RankReport) -> String {
    format!(
        "{} of {} directions at most, {:.1} on average; the worst sample loses {:.1e} of its Σ|λ| (asked for {:.1e}), all \
         {:.1e} of theirs",
        rank.directions,
        rank.all_directions,
        rank.mean_directions,
        rank.worst_share,
        rank.tolerance,
        rank.cut / rank.whole.max(f64::MIN_POSITIVE),
    )
}

/// Warns that a result that was asked for whatever its numbers are has such as are not finite.
fn warn_non_finite(what: &str, values: &[f64]) {
    let count = values.iter().filter(|v| !v.is_finite()).count();
    if count > 0 {
        let all = values.len();
        tell(&format!(
            "warning: {count} of {all} numbers of {what} are NaN or infinite"
        ));
    }
}

/// Prints a note to standard error unless told to be quiet.
fn note(quiet: bool, text: &str) {
    if !quiet {
        tell(text);
    }
}

/// Prints a line to standard error. That nobody reads it (`2>&1 | head`) is no reason to end a run.
fn tell(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "hessblock: {}", text::lines(text));
}
