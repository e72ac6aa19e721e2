//! What is computed without forming blocks: the gradient, and single entries straight from the definition.
//!
//! May use `jacobian`, `loss` and `schedule`'s units; must not know of files.

mod entries;
mod gradient;

pub use entries::entries;
pub use gradient::{Gradient, gradient};
