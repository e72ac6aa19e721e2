//! hessblock computes the Hessian of a neural network's loss, block by block, on any GPU and on the CPU.
#![warn(missing_docs)]

pub mod bench;
pub mod bytes;
mod cache;
pub mod contraction;
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
pub mod random;
pub mod run;
pub mod selftest;
mod session;
#[cfg(feature = "plot")]
pub mod show;
pub mod sink;
mod source;
pub mod study;
pub mod tensor;
pub mod text;
mod trial;
pub mod verify;

pub use device::{Device, Precision};
pub use error::{Error, Result};
pub use loss::Curvature;
pub use plan::RunOptions;
pub use plan::request::Part;
pub use session::{Session, Target};
pub use source::{InputFile, Source};
