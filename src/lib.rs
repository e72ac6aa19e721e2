//! hessblock computes the Hessian of a neural network's loss, block by block, on any GPU and on the CPU.
//!
//! By the chain rule the Hessian H of a loss is G + (H − G): G = Σ_n J_nᵀ ∇²ℓ_n J_n needs only first derivatives of the
//! network, H − G needs its second ones (Skorski, *Approximating Hessians for Neural Networks*, 2021). hessblock computes
//! G, H and H − G, and Fisher matrices: the whole matrix, the block of a layer or between two, any rectangle, the diagonal,
//! products with vectors.
//!
//! ```
//! use hessblock::data::Dataset;
//! use hessblock::loss::CrossEntropy;
//! use hessblock::{Device, Output, Part, Session, onnx};
//!
//! let network = onnx::load("examples/digits/model.onnx", &Default::default())?;
//! let data = Dataset::open("examples/digits/images.npy")?
//!     .with_targets("examples/digits/labels.npy")?
//!     .with_samples(0..50)?;
//! let session = Session::builder(network)
//!     .data(data)
//!     .loss(CrossEntropy::mean())
//!     .device(Device::auto()?)
//!     .build()?;
//!
//! let g = session.ggn();
//! println!("tr G = {:.3}, tr H = {:.3}", g.trace()?, session.hessian().trace()?);
//!
//! let request = g.parts([Part::layer("head"), Part::between("dense1", "head")])?;
//! println!("{}", request.plan()?);
//! let blocks = request.to_arrays::<f32>()?;
//! assert_eq!(blocks[0].matrix().nrows(), blocks[0].matrix().ncols());
//! # let out = std::env::temp_dir().join(format!("hessblock-front-{}", std::process::id()));
//! request.write(Output::folder(&out).overwrite(true))?;
//! # std::fs::remove_dir_all(&out).map_err(hessblock::Error::io(&out))?;
//! # Ok::<(), hessblock::Error>(())
//! ```
//!
//! # The map
//!
//! | what | where |
//! |---|---|
//! | a network | [`onnx::load`] for a file, [`network::builder`] for one that is made here |
//! | its data | [`data::Dataset`]: arrays in memory, `.npy`, `.npz`, IDX, folders of shards |
//! | the loss | [`loss`]: cross-entropy, squared error, binary cross-entropy, a given Hessian, or one of your own |
//! | where it runs | [`Device`], within [`Memory`] |
//! | all of these together | [`Session`], from [`Session::builder`], or from files by [`Source`] |
//! | a matrix | [`Operator`]: [`Session::ggn`], [`Session::hessian`], [`Session::residual`], [`Session::empirical_fisher`], [`Session::mc_ggn`] |
//! | products, forms, diagonal, trace | [`Operator::apply`], [`Operator::quadratic_form`], [`Operator::diagonal`], [`Operator::trace`] |
//! | blocks of it | [`Operator::parts`] gives a [`Request`]: [`Request::plan`], [`Request::to_arrays`], [`Request::write`] |
//! | watching and stopping | `progress` and `cancel` of [`Session`], [`Operator`] and [`Request`], with [`Progress`] and [`CancelToken`] |
//! | results on disk | [`results`]; pictures of them by `show` |
//! | how far G is from H | [`study`] |
//! | is this machine right, and how fast | [`selftest`], [`mod@bench`] |
//! | what went wrong, and what would help | [`Error`], [`Remedy`] |
#![warn(missing_docs)]

pub mod bench;
mod bytes;
mod cache;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
mod contraction;
mod control;
mod device;
mod error;
#[cfg(feature = "plot")]
mod figure;
mod files;
mod forecast;
mod import;
#[doc(hidden)]
pub mod internals;
mod jacobian;
pub mod loss;
mod memory;
pub mod network;
mod operator;
mod ops;
mod plan;
mod precision;
mod random;
pub mod results;
mod run;
pub mod selftest;
mod session;
mod setting;
#[cfg(feature = "plot")]
pub mod show;
mod sink;
mod source;
pub mod study;
mod tensor;
mod text;
mod trial;
mod verify;

pub use bytes::Bytes;
pub use control::{CancelToken, Progress};
pub use device::{AvailableDevice, Device};
pub use error::{Error, Remedy, Result};
pub use forecast::Forecast;
pub use import::{data, onnx};
pub use loss::Curvature;
pub use operator::{Form, Gradient, Trace};
pub use plan::Way;
pub use plan::request::Part;
pub use precision::Precision;
pub use run::{Bottleneck, DeviceShare, Replanned, RunReport, Stage};
pub use session::{
    Block, Memory, Number, Operator, Output, Plan, Request, Session, SessionBuilder, Vectors,
};
pub use source::{InputFile, Source};
