//! Inputs that are computed from the data on the host, before samples go to a device.
//!
//! What depends on the data alone and never on a parameter needs no derivative, so it may be anything:
//! positions by value, integer division, remainders. Such a value enters the network as a further input.

use crate::error::Result;
use std::fmt;
use std::sync::Arc;

/// Computes the derived inputs of a network from its inputs.
///
/// ```
/// use hessblock::network::Derive;
/// # #[derive(Debug)]
/// struct Squares;
/// impl Derive for Squares {
///     fn derive(&self, inputs: &[Vec<f64>], _: usize, _: usize) -> hessblock::Result<Vec<Vec<f64>>> {
///         Ok(vec![inputs[0].iter().map(|x| x * x).collect()])
///     }
/// }
/// assert_eq!(Squares.derive(&[vec![1.0, -3.0]], 1, 0)?, [[1.0, 9.0]]);
/// # Ok::<(), hessblock::Error>(())
/// ```
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
///
/// ```
/// use hessblock::network::{Derived, Input, Network};
/// # use std::sync::Arc;
/// # use hessblock::network::Derive;
/// # #[derive(Debug)]
/// # struct Squares;
/// # impl Derive for Squares {
/// #     fn derive(&self, inputs: &[Vec<f64>], _: usize, _: usize) -> hessblock::Result<Vec<Vec<f64>>> {
/// #         Ok(vec![inputs[0].iter().map(|x| x * x).collect()])
/// #     }
/// # }
/// let network = Network {
///     inputs: vec![Input::new("x", &[1, 2]), Input::new("squares", &[1, 2])],
///     derived: Some(Derived { count: 1, compute: Arc::new(Squares) }),
///     ..Network::default()
/// };
/// assert_eq!(network.data_inputs().len(), 1); // data are given for x alone
/// assert_eq!(network.with_derived(vec![vec![1.0, -3.0]], 1, 0)?[1], [1.0, 9.0]);
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Derived {
    /// How many there are.
    pub count: usize,
    /// Computes them.
    pub compute: Arc<dyn Derive>,
}
