//! What the paper does with Hessians: how far the approximate chain rule is from the Hessian, over initialisations.
//!
//! [`crate::network::initialise`] draws parameters, [`error`] measures gᵀ(H − G)g along the gradients of the layers, [`pairs`] the
//! Frobenius and spectral error of every block, [`report`] writes both, `figure` draws them. May use a
//! [`crate::Session`] as a user does; must not know of kernels.

pub mod error;
#[cfg(feature = "plot")]
pub mod figure;
pub mod pairs;
pub mod quantiles;
pub mod report;
mod spectral;
