//! Strided axes, as launches describe tensors.

/// An axis of a launch: its extent, and its stride in each of `N` tensors (0 where it repeats).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Axis<const N: usize> {
    pub extent: usize,
    pub strides: [i64; N],
}

impl<const N: usize> Axis<N> {
    pub fn new(extent: usize, strides: [i64; N]) -> Self {
        Self { extent, strides }
    }
}

/// Extent of an axis that two tensors share, where one of them may repeat along it.
pub(super) fn broadcast(a: usize, b: usize) -> usize {
    if a == 1 { b } else { a }
}

/// Stride of an axis of `extent`, 0 where it repeats.
pub(super) fn stride(extent: usize, own: usize) -> usize {
    if extent == 1 { 0 } else { own }
}

/// Drops axes of extent 1 and joins neighbours that are one axis in every tensor.
pub(super) fn merge<const N: usize>(axes: &[Axis<N>]) -> Vec<Axis<N>> {
    let mut merged: Vec<Axis<N>> = Vec::new();
    for axis in axes.iter().filter(|axis| axis.extent != 1) {
        if let Some(outer) = merged.last_mut() {
            let joined = (0..N)
                .all(|k| outer.strides[k] == axis.strides[k].wrapping_mul(axis.extent as i64));
            if joined {
                *outer = Axis::new(outer.extent * axis.extent, axis.strides);
                continue;
            }
        }
        merged.push(*axis);
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_merge_only_where_all_tensors_agree() {
        let axes = [
            Axis::new(2, [12, 12]),
            Axis::new(3, [4, 4]),
            Axis::new(1, [9, 9]),
            Axis::new(4, [1, 1]),
        ];
        assert_eq!(merge(&axes), [Axis::new(24, [1, 1])]);
        let repeated = [Axis::new(2, [4, 0]), Axis::new(4, [1, 1])];
        assert_eq!(merge(&repeated).len(), 2);
        let both = [Axis::new(2, [0, 8]), Axis::new(8, [0, 1])];
        assert_eq!(merge(&both), [Axis::new(16, [0, 1])]);
    }
}
