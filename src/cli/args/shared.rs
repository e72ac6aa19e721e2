//! Groups of options that several commands have: network, data, loss, matrix, and how it is run.

use crate::bytes::Bytes;
use crate::plan::budget::{ALLOWANCE, anonymous_resident};
use crate::{Curvature, InputFile, Precision, Source};
use clap::Args;
use std::path::PathBuf;

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

/// Bytes of `--host-memory` in use: this process's resident memory now, and an allowance for threads and the allocator. Whole MiB:
/// the same command is to plan the same.
fn held() -> u64 {
    let resident = anonymous_resident().unwrap_or(0);
    resident.next_multiple_of(1 << 20) + ALLOWANCE
}

impl Run {
    /// Budgets and sizes for the library, as they are once the network is read: what it takes counts against `--host-memory`.
    pub fn options(&self) -> crate::plan::RunOptions {
        let bytes = |size: Option<Bytes>| size.map(Bytes::saturated);
        crate::plan::RunOptions {
            memory: bytes(self.memory),
            host_memory: bytes(self.host_memory),
            held: self.host_memory.map_or(0, |_| held()),
            batch: self.batch.map(|n| usize::try_from(n).unwrap_or(usize::MAX)),
            ..crate::plan::RunOptions::default()
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
            crate::cli::note(self.quiet, text);
        }
        if let Some(text) = device.budget_note(self.memory) {
            crate::cli::note(self.quiet, &text);
        }
        Ok(device)
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

/// `A..B`.
pub(super) fn range(text: &str) -> Result<(usize, usize), String> {
    let numbers = text
        .split_once("..")
        .and_then(|(a, b)| Some((a.trim().parse().ok()?, b.trim().parse().ok()?)));
    numbers.ok_or_else(|| format!("{text:?} is not a range such as 0..128"))
}

pub(super) fn precision(text: &str) -> Result<Precision, String> {
    match text {
        "f32" => Ok(Precision::F32),
        "f64" => Ok(Precision::F64),
        _ => Err(format!("no precision {text:?}: there are f32 and f64")),
    }
}
