//! hessblock computes the Hessian of a neural network's loss, block by block, on any GPU and on the CPU.
#![warn(missing_docs)]

pub mod bench;
pub mod bytes;
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
pub mod random;
pub mod schedule;
pub mod selftest;
mod session;
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

pub use device::{Device, Precision};
pub use error::{Error, Result};
pub use loss::Curvature;
pub use schedule::RunOptions;
pub use schedule::request::Part;
pub use session::{Session, Target};
pub use source::{InputFile, Source};
