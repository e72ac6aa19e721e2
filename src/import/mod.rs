//! What comes from files: networks (ONNX), weights (safetensors) and data (.npy, .npz, IDX, folders).
//!
//! May use `network`, `ops` and `tensor`'s host arrays; must not know of devices or Hessians.

pub mod data;
pub mod onnx;
mod pytorch;
pub mod weights;
