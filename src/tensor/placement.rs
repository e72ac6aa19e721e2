//! The copies behind a GPU convolution: a tensor behind its padding, or spread to the stride.
//!
//! In such a copy the reads of a convolution are linear in position and tap. It is made of a portion of the
//! samples and directions at a time, so that its size is bounded; the meter counts what it takes. Convolutions
//! of few channels per group are summed without one.

use super::{Shape, Window};

/// Numbers of a copy at most, unless one direction of one sample has more: those of the tensor, but within
/// these. Below the first, cutting costs more than it saves; the second is 64 MiB.
const COPY_NUMBERS: [usize; 2] = [1 << 18, 1 << 24];

/// Inputs times outputs of a group up to which a convolution is summed directly (measured on lavapipe at 28×28, 3×3 taps:
/// at 1 × 1 three to ten times faster than the product, at 2 × 2 twice, at 3 × 3 as fast, at 4 × 4 slower).
const DIRECT_CHANNELS: usize = 9;

/// Whether a convolution and its transposes are summed output by output, without a copy: of so few channels per
/// group that a tile of a product would be mostly empty. `weights` is `[O, C/g, k…]`.
pub(super) fn is_direct(window: &Window, groups: usize, weights: &[usize]) -> bool {
    let window = window.three_dimensional();
    // The kernel counts positions in 32 bits, and multiplies two numbers below the stride.
    let fits = |k: usize| {
        let last = |extent: usize, step: usize| extent.saturating_sub(1).saturating_mul(step);
        let reach = last(window.output[k], window.stride[k])
            .saturating_add(last(window.kernel[k], window.dilation[k]))
            .saturating_add(window.padding[k]);
        reach < 1 << 30 && window.stride[k] < 1 << 15
    };
    groups > 1 && weights[0] / groups * weights[1] <= DIRECT_CHANNELS && (0..3).all(fits)
}

/// A place for a tensor's last three axes within larger ones: element `t` goes to `start + t·step`, those
/// that fall outside are dropped, the rest is zero.
#[derive(Clone, Copy, Debug)]
pub(super) struct CopyLayout {
    pub from: [usize; 3],
    pub extents: [usize; 3],
    pub start: [usize; 3],
    pub step: [usize; 3],
}

fn three(extents: &[usize]) -> [usize; 3] {
    [0, 1, 2].map(|k| extents[k])
}

impl CopyLayout {
    /// What the windows read: the input behind its padding, as far as they reach.
    pub fn of_inputs(window: &Window) -> CopyLayout {
        let window = window.three_dimensional();
        let reach = |k: usize| {
            window.output[k].saturating_sub(1) * window.stride[k]
                + window.kernel[k].saturating_sub(1) * window.dilation[k]
                + 1
        };
        CopyLayout {
            from: three(&window.input),
            extents: [0, 1, 2].map(reach),
            start: [0, 1, 2].map(|k| window.padding[k]),
            step: [1; 3],
        }
    }

    /// Cotangents spread to the stride, before them room for the taps that reach back. Input position p
    /// and tap k meet at p + padding + lead − k·dilation.
    pub fn of_cotangents(window: &Window) -> CopyLayout {
        let window = window.three_dimensional();
        let lead = |k: usize| {
            (window.kernel[k].saturating_sub(1) * window.dilation[k])
                .saturating_sub(window.padding[k])
        };
        CopyLayout {
            from: three(&window.output),
            extents: [0, 1, 2].map(|k| window.input[k] + window.padding[k] + lead(k)),
            start: [0, 1, 2].map(lead),
            step: three(&window.stride),
        }
    }

    /// Whether the tensor lies where it should already, so that nothing is copied.
    pub fn is_identity(&self) -> bool {
        self.extents == self.from && self.start == [0; 3] && self.step == [1; 3]
    }

    /// Numbers of the copy of one direction of one sample of a tensor `[s, d, B, C, from…]`.
    pub fn numbers(&self, tensor: &Shape) -> usize {
        tensor.rest[0] * tensor.rest[1] * self.extents.iter().product::<usize>()
    }

    /// Samples and directions of a tensor `[s, d, B, C, from…]` that are copied at a time; several samples
    /// only with all their directions. It depends on the sizes alone, as the order of sums does with it.
    pub fn portion(&self, tensor: &Shape) -> [usize; 2] {
        if self.is_identity() {
            return [tensor.samples, tensor.directions];
        }
        let most = tensor.len().clamp(COPY_NUMBERS[0], COPY_NUMBERS[1]);
        let fitting = most / self.numbers(tensor).max(1);
        match fitting / tensor.directions.max(1) {
            0 => [1, fitting.clamp(1, tensor.directions.max(1))],
            samples => [samples.min(tensor.samples), tensor.directions],
        }
    }

    /// Numbers of the copy of one portion: what a convolution takes beside its operands and its result.
    pub fn copied(&self, tensor: &Shape) -> usize {
        match self.is_identity() {
            true => 0,
            false => self.portion(tensor).iter().product::<usize>() * self.numbers(tensor),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(padding: usize, stride: usize) -> Window {
        let output = (64 + 2 * padding - 3) / stride + 1;
        Window {
            input: vec![64, 64],
            output: vec![output; 2],
            kernel: vec![3; 2],
            stride: vec![stride; 2],
            dilation: vec![1; 2],
            padding: vec![padding; 2],
        }
    }

    #[test]
    fn copies_are_bounded_however_many_samples_and_directions() {
        let shape = |samples, directions| Shape::new(samples, directions, &[1, 16, 64, 64]);
        let padded = CopyLayout::of_inputs(&window(1, 1));
        assert_eq!(padded.extents, [1, 66, 66]);
        let tensor = shape(12, 1);
        assert!(padded.copied(&tensor) <= tensor.len());
        assert_eq!(padded.portion(&tensor), [11, 1]);
        assert!(padded.copied(&shape(5000, 1)) <= COPY_NUMBERS[1]);
        // More directions than fit: parts of a sample.
        let [samples, directions] = padded.portion(&shape(3, 1000));
        assert!(samples == 1 && (1..1000).contains(&directions));
        // Small tensors stay whole; one direction of one sample is the least.
        assert_eq!(padded.portion(&shape(3, 1)), [3, 1]);
        let huge = Shape::new(4, 2, &[1, 1 << 14, 64, 64]);
        assert_eq!(padded.portion(&huge), [1, 1]);
    }

    #[test]
    fn without_padding_and_stride_nothing_is_copied() {
        let tensor = Shape::new(12, 1, &[1, 16, 64, 64]);
        assert_eq!(CopyLayout::of_inputs(&window(0, 1)).copied(&tensor), 0);
    }
}
