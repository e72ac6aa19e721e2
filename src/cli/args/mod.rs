//! The arguments.

mod measure;
mod results;
mod shared;

pub use measure::{Bench, Info, Selftest, StudyError};
pub use results::{Blocks, Form, Gradient, Merge, Product, Show, Trace, Verify};
pub use shared::{Model, Run, source};

use crate::InputFile;
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

/// The command.
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
