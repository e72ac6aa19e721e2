//! From a network and a chunk of samples to its Jacobian factors, one set of sites per parameter; in [`hessian`] the two
//! factors of H.
//!
//! May use `network`, `ops`, `loss` and the tensor seam; must not know of tiles.

mod factor;
pub mod hessian;
pub mod passes;
pub mod seeds;
pub mod unit;

pub(crate) use factor::slice;
pub use factor::{Factor, Rectangle, rectangles};
