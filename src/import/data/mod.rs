//! Data sets: inputs and targets, read as they are needed.
//!
//! [`ArraySource`] is one array (`.npy`, `.npz`, IDX, gzipped ones, folders of shards, memory); a
//! [`Dataset`] joins inputs and targets, selects samples, preprocesses, and fits the network's inputs.
//! Must not know of Hessians.

mod bind;
mod dataset;
mod formats;
mod order;
mod preprocess;
mod source;
mod store;
#[cfg(test)]
mod tests;

pub use crate::memory::SharedBytes;
pub use dataset::Dataset;
pub use formats::split_key;
pub use preprocess::{MeanImage, Preprocess};
pub use source::ArraySource;
