//! Which entry of a result is whose: the network's parameters, as they are written beside it.

use serde::{Deserialize, Serialize};
use std::ops::Range;

/// A parameter's place in the flat order.
///
/// ```
/// use hessblock::results::ParameterPlace;
/// let place = ParameterPlace { offset: 10, count: 6, ..ParameterPlace::default() };
/// assert_eq!(place.range(), 10..16);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParameterPlace {
    /// Its name in the network's file.
    pub name: String,
    /// The layer it belongs to.
    pub layer: String,
    /// Index of its first entry in the flat order.
    pub offset: usize,
    /// Its entries.
    pub count: usize,
    /// Its shape, row-major.
    pub shape: Vec<usize>,
}

impl ParameterPlace {
    /// Its entries in the flat order.
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset.saturating_add(self.count)
    }
}
