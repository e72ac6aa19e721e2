//! What is computed without forming blocks: the gradient, products with vectors, forms, and single entries straight
//! from the definition.
//!
//! May use `jacobian`, `loss` and the limits of `plan`; must not know of files.

mod entries;
mod form;
mod gradient;
mod locate;
mod outputs;
mod product;
mod ranks;
mod steps;
mod stream;
mod trace;

pub use entries::entries;
pub use form::{Form, Pairs, forms};
pub use gradient::{Gradient, gradient};
pub use locate::{NonFinite, Order, locate};
pub use outputs::outputs;
pub use product::{jacobian_product, jacobian_transpose_product, product};
pub use ranks::ranks;
pub(crate) use steps::Steps;
pub use trace::{Probes, Trace, probed_trace, trace_of};
