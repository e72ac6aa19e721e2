//! The options of the commands that measure: the study, the machine, the benchmark, the self-test.

use super::shared::{Data, Loss, Model, Run, precision};
use crate::Precision;
use crate::network::initialise::Initialiser;
use clap::Args;
use std::path::PathBuf;

/// Options of `error`.
#[derive(Debug, Args)]
#[command(after_help = "\
Uses the first 64 samples unless --samples is given. Writes error.json, error.csv (a row per layer),
error.png and .svg (the errors along gradients), pairs.png and .svg (a heat map of all blocks).

Example:
  hessblock error examples/digits/model.onnx --inputs examples/digits/images.npy \\
      --targets examples/digits/labels.npy --loss cross-entropy --out error

Source: Skorski 2021, figure 3.")]
pub struct StudyError {
    #[command(flatten)]
    pub model: Model,
    #[command(flatten)]
    pub data: Data,
    #[command(flatten)]
    pub loss: Loss,
    #[command(flatten)]
    pub run: Run,
    /// glorot (uniform), he (normal), lecun (normal), orthogonal, truncated-normal (0.05, cut at 2σ), or file: the
    /// file's own weights, once.
    #[arg(
        long,
        value_name = "NAME",
        default_value = "glorot",
        help_heading = "Study"
    )]
    pub initialiser: Initialiser,
    /// How many initialisations.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000), help_heading = "Study")]
    pub draws: u32,
    /// Seed of all random numbers.
    #[arg(long, value_name = "K", default_value_t = 0, help_heading = "Study")]
    pub seed: u64,
    /// Only layers whose names match; repeatable.
    #[arg(long, value_name = "GLOB", help_heading = "Study")]
    pub layers: Vec<String>,
    /// Leave out the errors of the blocks.
    #[arg(long, help_heading = "Study")]
    pub no_pairs: bool,
    /// Skip the spectral norms of the blocks.
    #[arg(long, help_heading = "Study")]
    pub no_spectral: bool,
    /// Form blocks of up to this many entries; estimate the errors of others.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 4_000_000,
        help_heading = "Study"
    )]
    pub exact_entries: u64,
    /// Random vectors per layer for estimates.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(2..=1_000_000), help_heading = "Study")]
    pub probes: u32,
    /// The folder for the files; without it only the table is printed.
    #[arg(long, value_name = "FOLDER", help_heading = "Output")]
    pub out: Option<PathBuf>,
    /// Write into an existing folder.
    #[arg(long, help_heading = "Output")]
    pub force: bool,
}

/// Options of `info`.
#[derive(Debug, Args)]
#[command(after_help = "Example: hessblock info --json")]
pub struct Info {
    /// Measure again: the CPU and every hardware adapter, or the device that --device names. Measured are kernels, and the
    /// rates that `plan` predicts times from.
    #[arg(long)]
    pub retune: bool,
    /// With --retune: cpu, an adapter's index, or a unique part of its name.
    #[arg(long, requires = "retune", allow_hyphen_values = true)]
    pub device: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Options of `bench`.
#[derive(Debug, Args)]
#[command(after_help = "\
Every case is checked against CPU f64 (CPU f64 itself against the definition) and only then timed.
Peak flop/s uses multiply-adds in registers; peak bandwidth is the faster of write and copy of a
large buffer. Other work on the machine slows everything down.

Examples:
  hessblock bench --out here.json
  hessblock bench --only contraction --only 'lenet5/*product'
  hessblock bench --compare here.json there.json --png both.png

Exit codes: 0 done, 1 failed (also if a case's numbers are wrong), 2 invalid arguments, 130
interrupted.")]
pub struct Bench {
    /// all (the CPU and every hardware adapter), auto, cpu, gpu, an adapter's index, or a unique part of its name;
    /// repeatable. A software adapter is measured by name or index alone.
    #[arg(
        long,
        default_value = "all",
        allow_hyphen_values = true,
        help_heading = "Device"
    )]
    pub device: Vec<String>,
    /// f32, or f64 on the CPU.
    #[arg(long, default_value = "f32", value_parser = precision, help_heading = "Device")]
    pub precision: Precision,
    /// Only this case: a name, a part of names, or a glob; repeatable.
    #[arg(long, value_name = "CASE", help_heading = "Cases")]
    pub only: Vec<String>,
    /// List the cases and stop.
    #[arg(long, conflicts_with_all = ["compare", "out"], help_heading = "Cases")]
    pub list: bool,
    /// Seconds to time each case for on each device.
    #[arg(long, value_name = "S", default_value_t = 0.5, value_parser = seconds, allow_hyphen_values = true, help_heading = "Cases")]
    pub seconds: f64,
    /// Put the files of earlier runs side by side in place of measuring; more than one file, or one of several devices.
    #[arg(long, value_name = "FILE.json", num_args = 1.., conflicts_with_all = ["device", "precision", "only", "seconds"], help_heading = "Cases")]
    pub compare: Vec<PathBuf>,
    /// The file for what was measured; with --compare, for the plot (.png or .svg) or the comparison (.json).
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub out: Option<PathBuf>,
    /// With --compare: the plot.
    #[arg(
        long,
        value_name = "FILE.png",
        requires = "compare",
        help_heading = "Output"
    )]
    pub png: Option<PathBuf>,
    /// With --compare: the plot.
    #[arg(
        long,
        value_name = "FILE.svg",
        requires = "compare",
        help_heading = "Output"
    )]
    pub svg: Option<PathBuf>,
    /// Replace existing files.
    #[arg(long, help_heading = "Output")]
    pub force: bool,
    /// Say nothing on standard error but errors.
    #[arg(short, long, help_heading = "Output")]
    pub quiet: bool,
    /// Print JSON in place of tables.
    #[arg(long, help_heading = "Output")]
    pub json: bool,
}

/// Options of `selftest`.
#[derive(Debug, Args)]
#[command(after_help = "\
Every primitive, operation and contraction, and whole networks, on ragged sizes. A GPU runs all of it
twice, with shader checks and without. Error = largest deviation ÷ largest entry; for elementwise
functions (ulp), in units of the entry's last place. Attach the --json output to bug reports.

Examples:
  hessblock selftest
  hessblock selftest --device llvmpipe --case contraction/ --case einsum
  hessblock selftest --json > selftest.json

Exit codes: 0 all passed, 1 a case failed, 2 invalid arguments, 130 interrupted.")]
pub struct Selftest {
    /// auto, cpu, gpu, an adapter's index, or a unique part of its name.
    #[arg(long, default_value = "auto", allow_hyphen_values = true)]
    pub device: String,
    /// Only cases whose name contains this; repeatable.
    #[arg(long, value_name = "TEXT")]
    pub case: Vec<String>,
    /// List the cases and stop.
    #[arg(long)]
    pub list: bool,
    /// Say nothing on standard error but errors.
    #[arg(short, long)]
    pub quiet: bool,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// A time to measure for.
fn seconds(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|s| (0.0..=3600.0).contains(s));
    value.ok_or_else(|| format!("{text:?} is not a number of seconds from 0 to 3600"))
}
