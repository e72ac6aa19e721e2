//! The layout of every tensor: `[samples, directions, rest…]`.

use std::fmt;

/// Shape of a tensor: samples × directions × rest.
///
/// `rest` is the ONNX shape at batch 1. A tensor without a sample axis (a parameter, a constant)
/// has one sample; a primal value has one direction; both broadcast.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Samples, or 1 where all samples share the tensor.
    pub samples: usize,
    /// Directions (columns of S, tangents, vector batches), or 1 for a primal value.
    pub directions: usize,
    /// The axes that operations see.
    pub rest: Vec<usize>,
}

impl Shape {
    /// A shape from its three parts.
    pub fn new(samples: usize, directions: usize, rest: &[usize]) -> Self {
        Self {
            samples,
            directions,
            rest: rest.to_vec(),
        }
    }

    /// A shape from all axes, samples and directions first.
    pub fn from_axes(axes: &[usize]) -> Self {
        Self::new(axes[0], axes[1], &axes[2..])
    }

    /// All axes: samples, directions, rest.
    pub fn axes(&self) -> Vec<usize> {
        // Plans ask for millions of them: no growing.
        let mut axes = Vec::with_capacity(2 + self.rest.len());
        axes.extend([self.samples, self.directions]);
        axes.extend_from_slice(&self.rest);
        axes
    }

    /// Elements per sample and direction.
    pub fn rest_len(&self) -> usize {
        self.rest.iter().product()
    }

    /// All elements.
    pub fn len(&self) -> usize {
        self.samples * self.directions * self.rest_len()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The shape that two operands broadcast to: samples and directions each on their own, the rest
    /// aligned at its last axis as in NumPy and ONNX. `None` where they do not fit.
    pub fn broadcast(&self, other: &Shape) -> Option<Shape> {
        Some(Shape {
            samples: broadcast_axis(self.samples, other.samples)?,
            directions: broadcast_axis(self.directions, other.directions)?,
            rest: broadcast_rest(&self.rest, &other.rest)?,
        })
    }
}

fn broadcast_axis(a: usize, b: usize) -> Option<usize> {
    match (a, b) {
        _ if a == b => Some(a),
        (1, _) => Some(b),
        (_, 1) => Some(a),
        _ => None,
    }
}

/// NumPy's broadcasting of two shapes aligned at their last axes.
pub fn broadcast_rest(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let at = |s: &[usize], axis: usize| {
        let missing = rank - s.len();
        if axis < missing { 1 } else { s[axis - missing] }
    };
    (0..rank)
        .map(|axis| broadcast_axis(at(a, axis), at(b, axis)))
        .collect()
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "[{}; {}; {:?}]",
            self.samples, self.directions, self.rest
        )
    }
}

/// Row-major strides of `axes`, in elements.
pub fn strides(axes: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; axes.len()];
    for axis in (1..axes.len()).rev() {
        strides[axis - 1] = strides[axis] * axes[axis];
    }
    strides
}

/// Strides for reading a tensor of `axes` as if it were broadcast to `into`: 0 along repeated axes.
///
/// The first two axes (samples, directions) align at the front, the rest at the back.
pub fn broadcast_strides(shape: &Shape, into: &Shape) -> Vec<usize> {
    let axes = shape.axes();
    let own = strides(&axes);
    let stride_of = |axis: usize| if axes[axis] == 1 { 0 } else { own[axis] };
    let missing = into.rest.len() - shape.rest.len();
    let mut result = vec![stride_of(0), stride_of(1)];
    result.extend(std::iter::repeat_n(0, missing));
    result.extend((2..axes.len()).map(stride_of));
    result
}
