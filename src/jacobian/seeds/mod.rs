//! The seeds of reverse passes: derivatives of the loss at a chunk's outputs, formed on the host in double precision.

mod dual;
mod factor;
mod outputs;

pub use dual::{Seeded, blank_dual_seed, dual_seed};
pub use factor::{BlankSeeds, LossSeeds};
pub use outputs::{per_sample, read_f64, read_outputs, read_tangents};

use crate::error::Result;
use crate::tensor::meter::Meter;
use crate::tensor::{Backend, Kind, Shape, Work};
use std::ops::Range;

/// Columns of the loss factor on the device.
pub struct Seed<T> {
    /// Sᵀ: `[samples, directions, output rest…]`.
    pub cotangents: T,
    /// `[samples, directions, 1]`, where directions carry signs.
    pub signs: Option<T>,
}

/// Where the reverse pass's directions come from: the loss, or zeros when planning.
pub trait Seeds<B: Backend> {
    /// Columns `directions` of S for the samples of `output`.
    ///
    /// # Errors
    /// What reading the output reports; [`crate::Error::NotFinite`] where the loss's Hessian is not finite.
    fn seed(
        &mut self,
        backend: &B,
        output: &B::Tensor,
        directions: Range<usize>,
    ) -> Result<Seed<B::Tensor>>;
}

/// Enters that `directions` seeds were formed on the host of outputs of that shape: of S, or of a gradient and products.
fn enter_seeds(meter: &Meter, outputs: &Shape, directions: usize) {
    let numbers = outputs.len() * (1 + directions);
    meter.enter(Kind::Seeds, Work::call(0, 0, numbers as u64, 0));
}
