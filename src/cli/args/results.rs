//! The options of the commands that make results, and of those that read them.

use super::shared::{Data, Loss, Matrix, Model, Run};
use crate::InputFile;
use crate::bytes::Bytes;
use crate::cli::parts::PartText;
use crate::plan::tiles::Tiling;
use crate::sink::{FilesOptions, Shard, StorageOptions};
use clap::Args;
use std::path::PathBuf;

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
