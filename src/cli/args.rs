//! The arguments.

use super::parts::PartText;
use crate::bytes::Bytes;
use crate::plan::budget::{ALLOWANCE, anonymous_resident};
use crate::plan::tiles::Tiling;
use crate::sink::{FilesOptions, Shard, StorageOptions};
use crate::study::initialise::Initialiser;
use crate::{Curvature, InputFile, Precision, Source};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Hessians of a neural network's loss, block by block, on any GPU and on the CPU.
#[derive(Debug, Parser)]
#[command(
    name = "hessblock",
    version,
    long_version = super::version::text(),
    about,
    max_term_width = 100,
    after_help = "\
Example:
  hessblock blocks examples/digits/model.onnx --inputs examples/digits/images.npy \\
      --targets examples/digits/labels.npy --loss cross-entropy --part layers --out blocks

Exit codes: 0 done, 1 failed, 2 invalid arguments, 130 interrupted.
RUST_LOG=hessblock=debug says what happens on the way, NO_COLOR=1 leaves colours out.
`hessblock COMMAND --help` has an example of each command."
)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List a network's operations, parameters and layers.
    Inspect(Inspect),
    /// Write parts of the Hessian: of the generalized Gauss-Newton matrix, or the exact one.
    #[command(mut_arg("out", |argument| argument.required(true)))]
    Blocks(Blocks),
    /// Finish a result whose tiles several processes made (`blocks --shard`).
    Merge(Merge),
    /// Print what `blocks` would run, without running it.
    #[command(after_help = "\
Example:
  hessblock plan examples/digits/model.onnx --inputs examples/digits/images.npy \\
      --targets examples/digits/labels.npy --loss cross-entropy --part full")]
    Plan(Blocks),
    /// List the devices and say which would be picked.
    Info(Info),
    /// Write the gradient; print loss and accuracy.
    Gradient(Gradient),
    /// Multiply G, H or H − G with vectors.
    Product(Product),
    /// Print the trace, layer by layer.
    Trace(Trace),
    /// Print vᵀGv and vᵀHv, for vectors or along every layer's gradient.
    Form(Form),
    /// Measure how far G is from the Hessian: along gradients over initialisations, and in every block.
    Error(StudyError),
    /// Print a table of a result's blocks; draw them as heat maps.
    Show(Show),
    /// Recompute random entries of a result straight from the definition and compare.
    Verify(Verify),
    /// Check and time a fixed set of cases on the CPU and on GPUs; put several machines side by side.
    Bench(Bench),
    /// Test this machine's device: everything it computes against CPU double precision, in under a minute.
    Selftest(Selftest),
    /// Print the Python script that exports a torch.nn.Module to ONNX with its parameters' names.
    #[command(after_help = "Example: hessblock export-script > export.py")]
    ExportScript,
    /// Print what a shell needs to complete commands, options and values.
    Completions(Completions),
    /// Print the manual page, or write one for every command.
    Man(Man),
}

/// Options of `inspect`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hessblock inspect examples/digits/model.onnx
  hessblock inspect examples/digits/model.onnx --inputs examples/digits/images.npy \\
      --targets examples/digits/labels.npy")]
pub struct Inspect {
    #[command(flatten)]
    pub model: Model,
    /// Check that these inputs fit the network; list the shards of a folder in the order in which they are joined.
    #[arg(long, value_name = "[NAME=]FILE", help_heading = "Data")]
    pub inputs: Vec<InputFile>,
    /// Check that these targets fit too.
    #[arg(long, value_name = "FILE", help_heading = "Data")]
    pub targets: Option<PathBuf>,
    /// Print JSON.
    #[arg(long, help_heading = "Output")]
    pub json: bool,
}

/// The heading of positional arguments: that of the command itself.
const NO_HEADING: Option<&str> = None;
/// The place of options that end their group in the help.
const LAST: usize = 900;

/// The network.
#[derive(Debug, Args)]
#[command(next_help_heading = "Network")]
pub struct Model {
    /// The network, an ONNX file.
    #[arg(value_name = "MODEL", help_heading = NO_HEADING)]
    pub model: PathBuf,
    /// Replace the file's weights by name.
    #[arg(long, value_name = "FILE.safetensors")]
    pub weights: Option<PathBuf>,
    /// Treat initializers whose names match as constants; repeatable.
    #[arg(long, value_name = "GLOB")]
    pub constant: Vec<String>,
    /// Treat initializers whose names match as parameters; repeatable.
    #[arg(long, value_name = "GLOB")]
    pub trainable: Vec<String>,
    /// Split a shared initializer into one parameter per use.
    #[arg(long, value_name = "NAME")]
    pub untie: Vec<String>,
    /// Make one parameter of a weight and its copy, COPY=SOURCE or COPY=SOURCE[T] for a transpose, or of all (auto).
    #[arg(long, value_name = "COPY=SOURCE|auto")]
    pub tie: Vec<String>,
    /// The output that the loss is taken of, where the network has several.
    #[arg(long, value_name = "NAME")]
    pub output: Option<String>,
    /// Extent of a symbolic dimension other than the batch.
    #[arg(long, value_name = "NAME=N", value_parser = dimension)]
    pub dimension: Vec<(String, usize)>,
}

/// `NAME=N`.
fn dimension(text: &str) -> Result<(String, usize), String> {
    let parts = text.rsplit_once('=');
    let parts =
        parts.and_then(|(name, extent)| Some((name.to_string(), extent.trim().parse().ok()?)));
    parts.ok_or_else(|| format!("{text:?} is not NAME=N"))
}

impl Model {
    /// The part of a source that names the network.
    pub fn source(&self) -> Source {
        Source {
            model: self.model.clone(),
            weights: self.weights.clone(),
            constant: self.constant.clone(),
            trainable: self.trainable.clone(),
            untie: self.untie.clone(),
            tie: self.tie.clone(),
            output: self.output.clone(),
            dimensions: self.dimension.iter().cloned().collect(),
            ..Source::default()
        }
    }
}

/// The data.
#[derive(Debug, Args)]
#[command(next_help_heading = "Data")]
pub struct Data {
    /// Inputs: .npy, .npz (FILE.npz:KEY), IDX (gzipped or not), or a folder of .npy shards. NAME=FILE,
    /// repeated, for a network of several inputs (`inspect` lists their names); an existing path that
    /// contains '=' is still treated as a path.
    #[arg(long, value_name = "[NAME=]FILE", required = true)]
    pub inputs: Vec<InputFile>,
    /// Targets: class indices or dense values, in the same formats.
    #[arg(long, value_name = "FILE")]
    pub targets: Option<PathBuf>,
    /// Take these samples only, half-open and zero-based.
    #[arg(long, value_name = "A..B", value_parser = range)]
    pub samples: Option<(usize, usize)>,
    /// Input = (x·scale − mean) / std, for the network's one input of real numbers.
    #[arg(long, allow_hyphen_values = true)]
    pub scale: Option<f64>,
    /// One number, or one per channel, separated by commas.
    #[arg(long, value_delimiter = ',', allow_hyphen_values = true)]
    pub mean: Vec<f64>,
    /// One number, or one per channel, separated by commas.
    #[arg(long, value_delimiter = ',', allow_hyphen_values = true)]
    pub std: Vec<f64>,
    /// Subtract a mean per pixel, in the units of the input file, before all else: from a file, or of the
    /// samples taken. Input = ((x − image)·scale − mean) / std.
    #[arg(long, value_name = "FILE|self")]
    pub mean_image: Option<String>,
}

/// The loss.
#[derive(Debug, Args)]
#[command(next_help_heading = "Loss")]
#[command(group = clap::ArgGroup::new("which_loss").required(true).multiple(true))]
pub struct Loss {
    /// cross-entropy, mse or bce (with logits).
    #[arg(long, value_name = "NAME", group = "which_loss")]
    pub loss: Option<String>,
    /// Reduction over samples, as in PyTorch: mean (the default) or sum.
    #[arg(long, value_name = "mean|sum")]
    pub reduction: Option<String>,
    /// Cross-entropy: one weight per class.
    #[arg(long, value_name = "FILE")]
    pub class_weights: Option<PathBuf>,
    /// Cross-entropy: share of the target spread over all classes.
    #[arg(long, value_name = "X", allow_hyphen_values = true)]
    pub label_smoothing: Option<f64>,
    /// Cross-entropy: the label that does not count, -100 unless given, as in PyTorch.
    #[arg(long, value_name = "K", allow_hyphen_values = true)]
    pub ignore_index: Option<i64>,
    /// The axis of the network's outputs that holds the classes, the axis of samples included: 1 as in
    /// PyTorch unless given, -1 for the last, as in [N, T, C]. Cross-entropy; for BCE, the classes that
    /// --positive-weight has numbers for.
    #[arg(long, value_name = "K", allow_hyphen_values = true)]
    pub class_axis: Option<isize>,
    /// BCE: weight of positive labels.
    #[arg(long, value_name = "FILE")]
    pub positive_weight: Option<PathBuf>,
    /// The loss's Hessian, [samples, outputs, outputs], in place of --loss and --targets.
    #[arg(long, value_name = "FILE", group = "which_loss")]
    pub loss_hessian: Option<PathBuf>,
    /// The loss's gradient, [samples, outputs], beside --loss-hessian: exact and residual curvature need it.
    #[arg(long, value_name = "FILE")]
    pub loss_gradient: Option<PathBuf>,
}

/// The matrix.
#[derive(Debug, Args)]
#[command(next_help_heading = "Matrix")]
pub struct Matrix {
    /// ggn (G), exact (H), residual (H − G, computed as itself), empirical-fisher (Σ ω g gᵀ) or mc-ggn (G by draws).
    #[arg(long, value_name = "NAME", default_value = "ggn")]
    pub curvature: String,
    /// mc-ggn: draws per sample.
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub mc_samples: u32,
    /// mc-ggn: seed of the draws.
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,
    /// ggn: keep only each sample's leading directions of ∇²ℓ, dropping at most the share TAU of Σ|λ| (the trace, if the
    /// loss is convex). Then |vᵀ(G − G_τ)v| ≤ τ·Σ_n Σ|λ_n| ‖J_n v‖² for every v. The summary says how many directions are
    /// left, and the largest share that a sample lost.
    #[arg(long, value_name = "TAU", allow_hyphen_values = true)]
    pub rank_tolerance: Option<f64>,
}

/// The device, and what is printed.
#[derive(Debug, Args)]
#[command(next_help_heading = "Device")]
pub struct Run {
    /// auto, cpu, gpu, an adapter's index, or a unique part of its name; for blocks also several (0,1) that share the tiles,
    /// or all hardware adapters (all).
    #[arg(long, default_value = "auto", allow_hyphen_values = true)]
    pub device: String,
    /// f32, or f64 on the CPU.
    #[arg(long, default_value = "f32", value_parser = precision)]
    pub precision: Precision,
    /// Memory on the device (on each of several), such as 4GiB.
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub memory: Option<Bytes>,
    /// Host memory that the process may use, such as 1GiB; mapped files do not count. Without it a run takes a share of what is
    /// free.
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub host_memory: Option<Bytes>,
    /// Samples per unit; otherwise planned.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub batch: Option<u64>,
    /// Write and print results that hold NaN or infinities, with a warning, instead of failing with the operation and the
    /// sample that made the first.
    #[arg(long, help_heading = "Output", display_order = LAST)]
    pub allow_non_finite: bool,
    /// Say nothing on standard error but errors.
    #[arg(short, long, help_heading = "Output", display_order = LAST)]
    pub quiet: bool,
    /// Print the summary as JSON.
    #[arg(long, help_heading = "Output", display_order = LAST)]
    pub json: bool,
}

/// Options of `blocks` and `plan`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hessblock blocks examples/digits/model.onnx --inputs examples/digits/images.npy \\
      --targets examples/digits/labels.npy --loss cross-entropy --part layers --out blocks

Exit codes: 0 done, 1 failed, 2 invalid arguments, 130 interrupted.")]
pub struct Blocks {
    #[command(flatten)]
    pub model: Model,
    #[command(flatten)]
    pub data: Data,
    #[command(flatten)]
    pub loss: Loss,
    /// full, layers, diag, layer=NAME[,NAME], param=NAME[,NAME] or range=R0..R1,C0..C1; repeatable.
    #[arg(long, value_name = "PART", required = true, help_heading = "Matrix")]
    pub part: Vec<PartText>,
    #[command(flatten)]
    pub matrix: Matrix,
    #[command(flatten)]
    pub run: Run,
    /// FILE.npy for a single part, a folder, NAME.zarr, or FILE.safetensors for what fits in memory. A run that was stopped goes
    /// on with the same command (but for .safetensors).
    #[arg(long, value_name = "PATH", help_heading = "Output")]
    pub out: Option<PathBuf>,
    /// Draw the finished result, as `show PATH --png FILE.png` does. If both result and picture exist, the picture is kept.
    #[arg(long, value_name = "FILE.png", help_heading = "Output")]
    pub png: Option<PathBuf>,
    /// Replace an existing output.
    #[arg(long, help_heading = "Output")]
    pub force: bool,
    /// Discard the tiles of an earlier run that was stopped, and begin again.
    #[arg(long, help_heading = "Output")]
    pub restart: bool,
    /// Make the K-th of N shares of the tiles, counted from 1; `hessblock merge` finishes the result when all are made.
    #[arg(
        long,
        value_name = "K/N",
        default_value = "1/1",
        hide_default_value = true,
        help_heading = "Output"
    )]
    pub shard: Shard,
    /// Rows and columns of a tile at most; a Zarr's chunks are tiles.
    #[arg(long, value_name = "N", default_value_t = Tiling::default().side, help_heading = "Output")]
    pub tile: usize,
    /// Zarr: compress chunks by zstd of this level (1 to 22), their bytes shuffled.
    #[arg(long, value_name = "LEVEL", num_args = 0..=1, default_missing_value = "3", require_equals = true,
          value_parser = clap::value_parser!(i32).range(1..=22), help_heading = "Output")]
    pub compress: Option<i32>,
    /// Zarr: put N × N chunks into one file, a shard of the array; for results of very many chunks.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(2..=256), help_heading = "Output")]
    pub chunks_per_file: Option<u16>,
    /// Zarr: store the tiles on and above the diagonal of symmetric parts only.
    #[arg(long, help_heading = "Output")]
    pub triangle: bool,
    /// Leave out parts larger than this.
    #[arg(long, value_name = "SIZE", help_heading = "Output")]
    pub skip_larger: Option<Bytes>,
}

impl Blocks {
    /// How the result is written.
    pub fn files(&self) -> FilesOptions {
        FilesOptions {
            force: self.force,
            restart: self.restart,
            shard: self.shard,
            storage: StorageOptions {
                compression: self.compress,
                chunks_per_file: self.chunks_per_file.map(usize::from),
                triangle: self.triangle,
            },
            may_be_whole: true,
            ..FilesOptions::default()
        }
    }
}

/// Options of `merge`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  for k in 1 2 3; do hessblock blocks … --part full --out h.zarr --shard $k/3 & done; wait
  hessblock merge h.zarr")]
pub struct Merge {
    /// The name that was given to `blocks --out`.
    #[arg(value_name = "OUT")]
    pub out: PathBuf,
    /// Replace an older result of that name.
    #[arg(long)]
    pub force: bool,
    /// Say nothing on standard error but errors.
    #[arg(short, long)]
    pub quiet: bool,
    /// Print the summary as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Options of `completions`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hessblock completions bash > ~/.local/share/bash-completion/completions/hessblock
  hessblock completions zsh > ~/.zfunc/_hessblock
  hessblock completions fish > ~/.config/fish/completions/hessblock.fish")]
pub struct Completions {
    /// The shell.
    pub shell: clap_complete::Shell,
}

/// Options of `man`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hessblock man | man -l -
  hessblock man --out ~/.local/share/man/man1")]
pub struct Man {
    /// Write hessblock.1, hessblock-blocks.1 and so on into this folder.
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
}

/// Options of `gradient`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hessblock gradient examples/digits/model.onnx --inputs examples/digits/images.npy \\
      --targets examples/digits/labels.npy --loss cross-entropy --out g.npy")]
pub struct Gradient {
    #[command(flatten)]
    pub model: Model,
    #[command(flatten)]
    pub data: Data,
    #[command(flatten)]
    pub loss: Loss,
    #[command(flatten)]
    pub run: Run,
    /// FILE.npy for the gradient.
    #[arg(long, value_name = "FILE.npy", help_heading = "Output")]
    pub out: Option<PathBuf>,
    /// Replace an existing output.
    #[arg(long, help_heading = "Output")]
    pub force: bool,
}

/// Options of `product`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hessblock product examples/digits/model.onnx --inputs examples/digits/images.npy \\
      --targets examples/digits/labels.npy --loss cross-entropy --curvature exact --vector v.npy --out hv.npy")]
pub struct Product {
    #[command(flatten)]
    pub model: Model,
    #[command(flatten)]
    pub data: Data,
    #[command(flatten)]
    pub loss: Loss,
    #[command(flatten)]
    pub matrix: Matrix,
    #[command(flatten)]
    pub run: Run,
    /// The vector, [p], or vectors, [p, k], in the flat order (`inspect` lists it).
    #[arg(long, value_name = "FILE", help_heading = "Data")]
    pub vector: PathBuf,
    /// FILE.npy for the product, of the vector's shape.
    #[arg(long, value_name = "FILE.npy", help_heading = "Output")]
    pub out: PathBuf,
    /// Replace an existing output.
    #[arg(long, help_heading = "Output")]
    pub force: bool,
}

/// Options of `trace`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hessblock trace examples/digits/model.onnx --inputs examples/digits/images.npy \\
      --targets examples/digits/labels.npy --loss cross-entropy --curvature exact")]
pub struct Trace {
    #[command(flatten)]
    pub model: Model,
    #[command(flatten)]
    pub data: Data,
    #[command(flatten)]
    pub loss: Loss,
    #[command(flatten)]
    pub matrix: Matrix,
    #[command(flatten)]
    pub run: Run,
    /// Estimate by that many random vectors of ±1 (which --seed chooses) in place of the exact diagonal, which
    /// for exact and residual takes a product for every parameter that is not behind a linear layer.
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=1_000_000), help_heading = "Matrix")]
    pub probes: Option<u32>,
}

/// Options of `form`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hessblock form examples/digits/model.onnx --inputs examples/digits/images.npy \\
      --targets examples/digits/labels.npy --loss cross-entropy")]
pub struct Form {
    #[command(flatten)]
    pub model: Model,
    #[command(flatten)]
    pub data: Data,
    #[command(flatten)]
    pub loss: Loss,
    #[command(flatten)]
    pub run: Run,
    /// The vector, [p], or vectors, [p, k], in the flat order; otherwise every layer's gradient is taken.
    #[arg(long, value_name = "FILE", help_heading = "Data")]
    pub vector: Option<PathBuf>,
}

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

/// Options of `show`.
#[derive(Debug, Args)]
#[command(after_help = "\
For every part, and every pair of layers in it: the Frobenius norm, the trace where there is one,
the entry of largest magnitude with its flat indices, and the share of exact zeros; of a vector,
the norm and the sum.

A picture shows magnitudes on a logarithmic scale of six decades, red for positive entries and blue
for negative ones. A pixel of a large part shows the entry of largest magnitude of all that it
covers, so that no lone entry is lost. Results of any size are read once, a little at a time.

Examples:
  hessblock show blocks
  hessblock show blocks --png blocks.png --html blocks.html
  hessblock show full.npy --layer dense1,head --svg dense1-head.svg
  hessblock show full.npy --range 0..100,0..100 --png corner.png

Exit codes: 0 done, 1 failed, 2 invalid arguments, 130 interrupted.")]
pub struct Show {
    /// A file or folder made by `blocks`.
    #[arg(value_name = "OUT")]
    pub out: PathBuf,
    /// Only this part of the result, by the name that the table has for it; repeatable.
    #[arg(long, value_name = "NAME", help_heading = "Matrix")]
    pub part: Vec<String>,
    /// Zoom to the block of this layer, or between two, in the smallest part that has it.
    #[arg(
        long,
        value_name = "NAME[,NAME]",
        conflicts_with = "range",
        help_heading = "Matrix"
    )]
    pub layer: Option<String>,
    /// Zoom to these rows and columns by flat index, half-open, in the smallest part that has them.
    #[arg(long, value_name = "R0..R1,C0..C1", help_heading = "Matrix")]
    pub range: Option<String>,
    /// The picture as PNG.
    #[arg(long, value_name = "FILE.png", help_heading = "Output")]
    pub png: Option<PathBuf>,
    /// The picture as SVG.
    #[arg(long, value_name = "FILE.svg", help_heading = "Output")]
    pub svg: Option<PathBuf>,
    /// A page with pictures that say what is under the pointer, and the tables; it needs no other file.
    #[arg(long, value_name = "FILE.html", help_heading = "Output")]
    pub html: Option<PathBuf>,
    /// Pixels of the longer side of a part's picture, where it is the only one.
    #[arg(long, value_name = "PIXELS", default_value_t = 800, value_parser = clap::value_parser!(u16).range(64..=4096), help_heading = "Output")]
    pub size: u16,
    /// Replace existing files.
    #[arg(long, help_heading = "Output")]
    pub force: bool,
    /// Say nothing on standard error but errors.
    #[arg(short, long, help_heading = "Output")]
    pub quiet: bool,
    /// Print JSON in place of the table; a number beyond the largest double is the text "Infinity" or "-Infinity" there.
    #[arg(long, help_heading = "Output")]
    pub json: bool,
}

/// Options of `verify`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: hessblock verify blocks --entries 1000\n\nExit code 1 where an entry is off by more than its tolerance."
)]
pub struct Verify {
    /// A file or folder made by `blocks`.
    #[arg(value_name = "OUT")]
    pub out: PathBuf,
    /// Path of the network, if moved since the result was written.
    #[arg(long, value_name = "MODEL", help_heading = "Network")]
    pub model: Option<PathBuf>,
    /// Path of the weights, if moved since the result was written.
    #[arg(long, value_name = "FILE", help_heading = "Network")]
    pub weights: Option<PathBuf>,
    /// Path of the inputs, if moved since the result was written; repeatable.
    #[arg(long, value_name = "[NAME=]FILE", help_heading = "Data")]
    pub inputs: Vec<InputFile>,
    /// Path of the targets, if moved since the result was written.
    #[arg(long, value_name = "FILE", help_heading = "Data")]
    pub targets: Option<PathBuf>,
    /// Path of the loss's Hessian, if moved since the result was written.
    #[arg(long, value_name = "FILE", group = "which_loss", help_heading = "Loss")]
    pub loss_hessian: Option<PathBuf>,
    /// Path of the loss's gradient, if moved since the result was written.
    #[arg(long, value_name = "FILE", help_heading = "Loss")]
    pub loss_gradient: Option<PathBuf>,
    /// Path of the class weights, if moved since the result was written.
    #[arg(long, value_name = "FILE", help_heading = "Loss")]
    pub class_weights: Option<PathBuf>,
    /// Path of the positive weight, if moved since the result was written.
    #[arg(long, value_name = "FILE", help_heading = "Loss")]
    pub positive_weight: Option<PathBuf>,
    /// Path of the mean image, if moved since the result was written.
    #[arg(long, value_name = "FILE", help_heading = "Data")]
    pub mean_image: Option<PathBuf>,
    /// Number of entries.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=100_000), help_heading = "Matrix")]
    pub entries: u64,
    /// Seed of the choice of entries.
    #[arg(long, default_value_t = 0, help_heading = "Matrix")]
    pub seed: u64,
    /// Say nothing on standard error but errors.
    #[arg(short, long, help_heading = "Output")]
    pub quiet: bool,
    /// Print JSON.
    #[arg(long, help_heading = "Output")]
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

/// `A..B`.
fn range(text: &str) -> Result<(usize, usize), String> {
    let numbers = text
        .split_once("..")
        .and_then(|(a, b)| Some((a.trim().parse().ok()?, b.trim().parse().ok()?)));
    numbers.ok_or_else(|| format!("{text:?} is not a range such as 0..128"))
}

fn precision(text: &str) -> Result<Precision, String> {
    match text {
        "f32" => Ok(Precision::F32),
        "f64" => Ok(Precision::F64),
        _ => Err(format!("no precision {text:?}: there are f32 and f64")),
    }
}

/// The source that the arguments name.
pub fn source(model: &Model, data: &Data, loss: &Loss, run: &Run) -> Source {
    Source {
        inputs: data.inputs.clone(),
        targets: data.targets.clone(),
        samples: data.samples,
        scale: data.scale,
        mean: data.mean.clone(),
        std: data.std.clone(),
        mean_image: data.mean_image.clone(),
        loss: loss.loss.clone(),
        reduction: loss.reduction.clone(),
        class_weights: loss.class_weights.clone(),
        label_smoothing: loss.label_smoothing,
        ignore_index: loss.ignore_index,
        positive_weight: loss.positive_weight.clone(),
        class_axis: loss.class_axis,
        loss_hessian: loss.loss_hessian.clone(),
        loss_gradient: loss.loss_gradient.clone(),
        allow_non_finite: run.allow_non_finite,
        ..model.source()
    }
}

impl Matrix {
    /// The source with this matrix.
    ///
    /// # Errors
    /// [`crate::Error::Request`] for an unknown name.
    pub fn of(&self, source: Source) -> crate::Result<Source> {
        Ok(Source {
            curvature: Curvature::parse(&self.curvature, self.mc_samples, self.seed)?,
            rank_tolerance: self.rank_tolerance,
            ..source
        })
    }
}

/// Bytes of `--host-memory` in use: this process's resident memory now, and an allowance for threads and the allocator. Whole MiB:
/// the same command is to plan the same.
fn held() -> u64 {
    let resident = anonymous_resident().unwrap_or(0);
    resident.next_multiple_of(1 << 20) + ALLOWANCE
}

impl Run {
    /// Budgets and sizes for the library, as they are once the network is read: what it takes counts against `--host-memory`.
    pub fn options(&self) -> crate::RunOptions {
        let bytes = |size: Option<Bytes>| size.map(|b| u64::try_from(b.0).unwrap_or(u64::MAX));
        crate::RunOptions {
            memory: bytes(self.memory),
            host_memory: bytes(self.host_memory),
            held: self.host_memory.map_or(0, |_| held()),
            batch: self.batch.map(|n| usize::try_from(n).unwrap_or(usize::MAX)),
            ..crate::RunOptions::default()
        }
    }

    /// The rest of `--host-memory` that is not in use, if the option was given.
    pub fn host_left(&self) -> Option<u64> {
        let options = self.options();
        let budget = options.host_memory;
        budget.map(|bytes| bytes.saturating_sub(options.held))
    }

    /// Opens the device and says what there is to say about it.
    pub fn device(&self) -> crate::Result<crate::Device> {
        let device = crate::Device::open(&self.device, self.precision)?;
        if let Some(bytes) = self.options().memory {
            device.set_memory(bytes);
        }
        if let Some(text) = device.note() {
            super::note(self.quiet, text);
        }
        if let Some(text) = device.budget_note(self.memory) {
            super::note(self.quiet, &text);
        }
        Ok(device)
    }
}
