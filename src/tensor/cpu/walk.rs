//! Walking tensors of several layouts in step: shared axes, collapsed where they are contiguous.

use crate::tensor::Real;

/// An axis of a row-major output, with the stride of each of `K` operands along it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shared {
    /// Extent.
    pub extent: usize,
    /// Stride of each operand; 0 where it is repeated.
    pub strides: Vec<usize>,
}

/// The axes of `extents` with each operand's strides, in order, axes of extent 1 dropped and neighbours
/// joined where every operand walks them as one.
pub(super) fn collapse(extents: &[usize], strides: &[Vec<usize>]) -> Vec<Shared> {
    let mut axes: Vec<Shared> = Vec::new();
    for (axis, &extent) in extents.iter().enumerate() {
        if extent == 1 {
            continue;
        }
        let next = Shared {
            extent,
            strides: strides.iter().map(|s| s[axis]).collect(),
        };
        match axes.last_mut() {
            Some(last)
                if last
                    .strides
                    .iter()
                    .zip(&next.strides)
                    .all(|(outer, inner)| *outer == inner * extent) =>
            {
                last.extent *= extent;
                last.strides = next.strides;
            }
            _ => axes.push(next),
        }
    }
    axes
}

/// Copies the elements of one operand that belong to the flat output positions `start..start + block.len()`.
pub(super) fn expand<R: Real>(
    data: &[R],
    axes: &[Shared],
    operand: usize,
    start: usize,
    block: &mut [R],
) {
    let Some((last, outer)) = axes.split_last() else {
        block.fill(data[0]);
        return;
    };
    let stride = last.strides[operand];
    let mut filled = 0;
    while filled < block.len() {
        let position = start + filled;
        let inner = position % last.extent;
        let run = (last.extent - inner).min(block.len() - filled);
        let offset = super::matrix::offsets(position / last.extent, outer, |axis| {
            (axis.extent, [axis.strides[operand]])
        })[0]
            + inner * stride;
        let part = &mut block[filled..filled + run];
        match stride {
            0 => part.fill(data[offset]),
            1 => part.copy_from_slice(&data[offset..offset + run]),
            _ => {
                let from = data[offset..].iter().step_by(stride);
                for (to, from) in part.iter_mut().zip(from) {
                    *to = *from;
                }
            }
        }
        filled += run;
    }
}
