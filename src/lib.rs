//! hessblock computes the Hessian of a neural network's loss, block by block, on any GPU and on the CPU.
#![warn(missing_docs)]

pub mod bench;
pub mod bytes;
mod cache;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
pub mod contraction;
mod control;
pub mod device;
mod error;
#[cfg(feature = "plot")]
pub mod figure;
pub mod files;
pub mod forecast;
pub mod import;
pub mod jacobian;
pub mod loss;
pub mod memory;
pub mod network;
pub mod operator;
pub mod ops;
pub mod plan;
mod precision;
pub mod random;
pub mod run;
pub mod selftest;
mod session;
mod setting;
#[cfg(feature = "plot")]
pub mod show;
pub mod sink;
mod source;
pub mod study;
pub mod tensor;
pub mod text;
#[doc(hidden)] // for tests and benches
pub mod trial;
pub mod verify;

pub use control::{CancelToken, Progress};
pub use device::Device;
pub use error::{Error, Remedy, Result};
pub use import::{data, onnx};
pub use loss::Curvature;
pub use plan::RunOptions;
pub use plan::request::Part;
pub use precision::Precision;
pub use session::{
    Block, Memory, Number, Operator, Output, Plan, Request, Session, SessionBuilder, Vectors,
};
pub use source::{InputFile, Source};
