//! Cases before they have a group, and what all groups share.

use super::compare::{Measure, Part};
use crate::error::Result;
use crate::tensor::{Backend, Real};

/// What sums of products may be off by (DESIGN §5).
pub(super) const SUMS: Measure = Measure::OfLargest(2e-6);
/// What is copied is the same.
pub(super) const COPIES: Measure = Measure::OfLargest(0.0);

/// A case before it has a group.
pub(super) struct Draft<W> {
    pub subject: String,
    pub about: String,
    pub measure: Measure,
    pub work: W,
}

impl<W> Draft<W> {
    pub fn new(
        subject: impl Into<String>,
        about: impl Into<String>,
        measure: Measure,
        work: W,
    ) -> Draft<W> {
        Draft {
            subject: subject.into(),
            about: about.into(),
            measure,
            work,
        }
    }
}

/// Waits for a tensor: a part of that name.
pub(super) fn read<B: Backend>(backend: &B, name: &str, tensor: &B::Tensor) -> Result<Part> {
    let values = backend.read(tensor)?;
    Ok(Part::new(
        name,
        values.into_iter().map(Real::to_f64).collect(),
    ))
}
