//! hessblock computes the Hessian of a neural network's loss, block by block, on any GPU and on the CPU.
#![warn(missing_docs)]

pub mod contraction;
mod error;
pub mod files;
pub mod import;
pub mod jacobian;
pub mod loss;
pub mod network;
pub mod ops;
pub mod schedule;
pub mod sink;
pub mod tensor;

pub use error::{Error, Result};
