//! From a network and a chunk of samples to its Jacobian factors, one set of sites per parameter.
//!
//! May use `network`, `ops`, `loss` and the tensor seam; must not know of tiles.

mod factor;
pub mod passes;
pub mod unit;

pub(crate) use factor::slice;
pub use factor::{Factor, Rectangle, rectangles};
