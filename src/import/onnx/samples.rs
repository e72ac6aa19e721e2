//! Where the samples sit in a tensor of the file, and which reshapes keep them apart.
//!
//! In row-major order a tensor of the file is `[before, samples, after]`: `before` and `after` elements
//! per sample. An axis of the file may hold the samples alone (`[N, C]`) or merged with positions
//! (`[N·T, D]`); at batch 1 its extent is that of the positions. A reshape keeps `before` and `after`; it
//! keeps samples apart exactly where one axis of the new shape contains the whole factor.

/// The axis that holds the samples: in the file its extent is `before · samples · after`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    /// The axis.
    pub axis: usize,
    /// Positions merged into the axis that vary slower than the samples.
    pub before: usize,
    /// Positions merged into the axis that vary faster than the samples.
    pub after: usize,
}

impl Sample {
    /// An axis that holds nothing but samples.
    pub fn alone(axis: usize) -> Self {
        Self {
            axis,
            before: 1,
            after: 1,
        }
    }

    /// Elements per sample before the sample factor, in row-major order.
    pub fn elements_before(&self, rest: &[usize]) -> usize {
        rest[..self.axis].iter().product::<usize>() * self.before
    }

    /// The shape in the file at a batch size. Lowering makes no value whose elements overflow with the batch.
    pub fn shape(&self, rest: &[usize], batch: usize) -> Vec<usize> {
        let mut shape = rest.to_vec();
        shape[self.axis] *= batch;
        shape
    }

    /// The same on another axis.
    pub fn on(&self, axis: usize) -> Self {
        Self { axis, ..*self }
    }
}

/// Finds the samples in the shape a reshape makes of `[before, batch, …]`; `shape` is that at the batch size.
///
/// Returns the axis and the shape at batch 1, or `None` where the factor does not lie in one axis: such a
/// reshape mixes samples. Where extents of 1 leave a choice (batch 1), the first axis is taken.
pub(crate) fn locate(
    shape: &[usize],
    elements_before: usize,
    batch: usize,
) -> Option<(Sample, Vec<usize>)> {
    let mut slower = 1usize;
    for (axis, &extent) in shape.iter().enumerate() {
        if slower != 0 && elements_before.is_multiple_of(slower) {
            let before = elements_before / slower;
            let run = before.checked_mul(batch)?;
            if before != 0 && extent.is_multiple_of(run) {
                let after = extent / run;
                let mut rest = shape.to_vec();
                rest[axis] = before * after;
                let sample = Sample {
                    axis,
                    before,
                    after,
                };
                return Some((sample, rest));
            }
        }
        slower = slower.checked_mul(extent)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flattened_image_keeps_its_samples_on_the_first_axis() {
        assert_eq!(
            locate(&[7, 400], 1, 7),
            Some((Sample::alone(0), vec![1, 400]))
        );
    }

    #[test]
    fn positions_merge_into_the_axis_of_the_samples() {
        let (sample, rest) = locate(&[21, 4], 1, 7).unwrap();
        assert_eq!(
            (sample.axis, sample.before, sample.after, rest),
            (0, 1, 3, vec![3, 4])
        );
        // [T, N, D] → [T·N, D]
        let (sample, rest) = locate(&[21, 4], 3, 7).unwrap();
        assert_eq!((sample.before, sample.after, rest), (3, 1, vec![3, 4]));
    }

    #[test]
    fn reading_channels_by_samples_as_samples_by_channels_mixes() {
        assert_eq!(locate(&[7, 5], 5, 7), None);
    }

    #[test]
    fn samples_split_off_again() {
        assert_eq!(
            locate(&[3, 7, 4], 3, 7),
            Some((Sample::alone(1), vec![3, 1, 4]))
        );
    }
}
