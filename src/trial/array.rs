//! Arrays in host memory.

use crate::tensor::Shape;

/// An array in double precision.
#[derive(Debug)]
pub struct Array {
    /// Its shape.
    pub shape: Shape,
    /// Its numbers, row by row.
    pub values: Vec<f64>,
}

impl Array {
    /// Returns an array of these numbers.
    pub fn new(shape: Shape, values: Vec<f64>) -> Array {
        Array { shape, values }
    }

    /// The value at a position; an axis of extent 1 is the same everywhere.
    pub(super) fn at(&self, position: &[usize]) -> f64 {
        let axes = self.shape.axes();
        let index = axes.iter().zip(position).fold(0, |index, (&extent, &at)| {
            index * extent + if extent == 1 { 0 } else { at }
        });
        self.values[index]
    }

    /// The value at the last axes of a position of more axes: rests are aligned at their last axis.
    pub(super) fn aligned(&self, position: &[usize]) -> f64 {
        let skip = position.len() - 2 - self.shape.rest.len();
        self.at(&[&position[..2], &position[2 + skip..]].concat())
    }
}
