//! Inputs that are computed from the data on the host, before samples go to a device.
//!
//! What depends on the data alone and never on a parameter needs no derivative, so it may be anything:
//! positions by value, integer division, remainders. Such a value enters the network as a further input.

use crate::error::Result;
use std::fmt;
use std::sync::Arc;

/// Computes the derived inputs of a network from its inputs.
pub trait Derive: fmt::Debug + Send + Sync {
    /// The derived inputs of some samples, in the network's order: `[samples, rest…]` each, as the lists of
    /// `inputs` are. `first` is the number of the first sample, for messages.
    ///
    /// # Errors
    /// [`crate::Error::Value`] naming the node and the sample, where the data cannot be computed with: an
    /// index outside of its axis, a division by 0.
    fn derive(&self, inputs: &[Vec<f64>], samples: usize, first: usize) -> Result<Vec<Vec<f64>>>;
}

/// The derived inputs of a network: the last `count` of [`super::Network::inputs`].
#[derive(Clone, Debug)]
pub struct Derived {
    /// How many there are.
    pub count: usize,
    /// Computes them.
    pub compute: Arc<dyn Derive>,
}
