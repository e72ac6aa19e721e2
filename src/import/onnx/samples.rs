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

    /// Which sample an element belongs to, and its position within that sample, by its position in the tensor of
    /// the file at a batch size; `rest` is the shape at batch 1.
    pub fn split(&self, flat: usize, rest: &[usize], batch: usize) -> (usize, usize) {
        let inner: usize = rest[self.axis + 1..].iter().product();
        let extent = rest[self.axis];
        let (outer, along) = (
            flat / inner / (extent * batch),
            flat / inner % (extent * batch),
        );
        let (before, after) = (along / self.after / batch, along % self.after);
        let own = (outer * extent + before * self.after + after) * inner + flat % inner;
        (along / self.after % batch, own)
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
    fn an_element_belongs_to_one_sample_and_has_one_position_in_it() {
        // [2, 3 before · 5 samples · 2 after, 4]
        let sample = Sample {
            axis: 1,
            before: 3,
            after: 2,
        };
        let rest = [2, 6, 4];
        // On the axis: before 2, sample 3, after 1.
        let flat = 30 + (2 * 5 + 3) * 2 + 1;
        assert_eq!(
            sample.split(flat * 4 + 3, &rest, 5),
            (3, (6 + 2 * 2 + 1) * 4 + 3)
        );
        let mut seen: Vec<_> = (0..240).map(|k| sample.split(k, &rest, 5)).collect();
        seen.sort_unstable();
        let all = (0..5).flat_map(|n| (0..48).map(move |own| (n, own)));
        assert!(seen.into_iter().eq(all));
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
