//! Where samples, classes and positions lie in a network's outputs.

use super::reduction::same_shape;
use crate::error::{Error, Result};
use crate::setting::CLASS_AXIS;
use std::fmt;

/// The shape of a network's outputs: of one sample, and with the axis of samples as in the file.
///
/// ```
/// use hessblock::loss::OutputShape;
/// assert_eq!(OutputShape::new(&[10, 7]).to_string(), "[N, 10, 7]");
/// let merged = OutputShape { sample: vec![7, 10], sample_axis: 0, merged: true };
/// assert_eq!(merged.to_string(), "[N·7, 10]");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputShape {
    /// Shape of a sample's outputs, from which z is flattened, row-major.
    pub sample: Vec<usize>,
    /// The axis that holds the samples in the file.
    pub sample_axis: usize,
    /// Whether that axis holds positions of every sample too, as in [N·T, C]; it is then one of `sample`.
    pub merged: bool,
}

impl OutputShape {
    /// Samples first, on an axis of their own.
    pub fn new(sample: &[usize]) -> Self {
        Self {
            sample: sample.to_vec(),
            sample_axis: 0,
            merged: false,
        }
    }

    /// Outputs per sample.
    pub fn count(&self) -> usize {
        self.sample.iter().product()
    }

    /// Axes in the file.
    fn rank(&self) -> usize {
        self.sample.len() + usize::from(!self.merged)
    }

    /// The file's number of an axis of `sample`, the last as −1.
    pub(super) fn in_file(&self, axis: usize) -> isize {
        let passed = usize::from(!self.merged && axis >= self.sample_axis);
        let axis = axis + passed;
        if axis + 1 == self.rank() {
            -1
        } else {
            axis as isize
        }
    }

    /// The axis of `sample` that holds the classes: the file's axis `asked`, from the end where negative;
    /// `None` is PyTorch's, axis 1.
    ///
    /// # Errors
    /// [`Error::Request`] for an axis that is not there or holds the samples.
    pub(super) fn class_axis(&self, asked: Option<isize>) -> Result<usize> {
        let rank = self.rank();
        let axis = match asked {
            // Only one axis is left for the classes.
            None if self.sample.len() == 1 && !self.merged => return Ok(0),
            asked => asked.unwrap_or(1),
        };
        let from_start = if axis < 0 {
            axis.checked_add_unsigned(rank)
        } else {
            Some(axis)
        };
        let found = from_start
            .and_then(|axis| usize::try_from(axis).ok())
            .filter(|axis| *axis < rank);
        let Some(found) = found else {
            return Err(Error::Request(format!(
                "the classes cannot lie on axis {axis} of the network's outputs {self}: they have {rank} \
                 axes{}",
                if rank > 1 {
                    format!("; {CLASS_AXIS} takes 1..{} or -1", rank - 1)
                } else {
                    ", that of the samples".into()
                }
            )));
        };
        if found == self.sample_axis {
            return Err(Error::Request(format!(
                "axis {axis} of the network's outputs {self} holds the samples, not the classes; say which \
                 axis holds the classes by {CLASS_AXIS}, such as -1 for the last"
            )));
        }
        Ok(found - usize::from(!self.merged && found > self.sample_axis))
    }

    /// The shape of a sample's outputs without one axis.
    pub(super) fn without(&self, axis: usize) -> Vec<usize> {
        let mut shape = self.sample.clone();
        shape.remove(axis);
        shape
    }

    /// Says that class indices of this shape per sample fit another axis of classes than `axis`, if so.
    pub(super) fn hint(&self, axis: usize, targets: &[usize]) -> String {
        let others = (0..self.sample.len())
            .filter(|&other| other != axis && same_shape(&self.without(other), targets))
            .filter(|&other| !(self.merged && other == self.sample_axis))
            .map(|other| format!("{CLASS_AXIS} {}", self.in_file(other)));
        let others: Vec<String> = others.collect();
        if others.is_empty() {
            return String::new();
        }
        format!(
            "; their shape fits {} of the outputs {self}",
            others.join(" or ")
        )
    }
}

impl fmt::Display for OutputShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut axes: Vec<String> = self.sample.iter().map(usize::to_string).collect();
        match axes.get_mut(self.sample_axis) {
            Some(axis) if self.merged => *axis = format!("N·{axis}"),
            _ => axes.insert(self.sample_axis.min(axes.len()), "N".into()),
        }
        write!(f, "[{}]", axes.join(", "))
    }
}

/// A sample's outputs as `[before, classes, after]`, row-major; its positions are `[before, after]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Axes {
    pub classes: usize,
    pub before: usize,
    pub after: usize,
}

impl Axes {
    /// With the classes on that axis of a sample's shape.
    pub fn new(shape: &[usize], axis: usize) -> Self {
        Self {
            classes: shape[axis],
            before: shape[..axis].iter().product(),
            after: shape[axis + 1..].iter().product(),
        }
    }

    /// Number of positions.
    pub fn positions(&self) -> usize {
        self.before * self.after
    }

    /// The `index`-th position.
    pub fn position(&self, index: usize) -> Position {
        let after = self.after.max(1);
        Position {
            index,
            first: index / after * self.classes * after + index % after,
            stride: after,
        }
    }

    /// The class that an output belongs to.
    pub fn class_of(&self, output: usize) -> usize {
        output / self.after.max(1) % self.classes.max(1)
    }
}

/// Where the outputs of one position lie: class `c` at `first + c·stride`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position {
    /// Its index among the positions, row-major.
    pub index: usize,
    pub first: usize,
    pub stride: usize,
}

impl Position {
    /// The output of a class here.
    pub fn at(&self, class: usize) -> usize {
        self.first + class * self.stride
    }

    /// How many classes have their output before `output`.
    pub fn classes_before(&self, output: usize) -> usize {
        output.saturating_sub(self.first).div_ceil(self.stride)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_count_as_in_the_file() {
        let first = OutputShape::new(&[10, 7]);
        assert_eq!(first.class_axis(None).unwrap(), 0);
        assert_eq!(first.class_axis(Some(1)).unwrap(), 0);
        assert_eq!(first.class_axis(Some(-1)).unwrap(), 1);
        assert_eq!(first.class_axis(Some(-2)).unwrap(), 0);
        for (axis, why) in [
            (0, "holds the samples"),
            (-3, "holds the samples"),
            (3, "1..2"),
            (-4, "3 axes"),
        ] {
            let text = first.class_axis(Some(axis)).unwrap_err().to_string();
            assert!(text.contains(why) && text.contains("[N, 10, 7]"), "{text}");
        }
        assert!(
            first.class_axis(Some(isize::MIN)).is_err()
                && first.class_axis(Some(isize::MAX)).is_err()
        );
        // [T, N, C]: PyTorch's axis holds the samples.
        let second = OutputShape {
            sample: vec![7, 10],
            sample_axis: 1,
            merged: false,
        };
        assert!(second.class_axis(None).is_err());
        assert_eq!(second.class_axis(Some(2)).unwrap(), 1);
        assert_eq!(second.class_axis(Some(0)).unwrap(), 0);
        let merged = OutputShape {
            sample: vec![7, 10],
            sample_axis: 0,
            merged: true,
        };
        assert_eq!(merged.class_axis(None).unwrap(), 1);
        assert!(merged.class_axis(Some(-2)).is_err() && merged.class_axis(Some(2)).is_err());
        // [C, N]: only one axis is left.
        let turned = OutputShape {
            sample: vec![10],
            sample_axis: 1,
            merged: false,
        };
        assert_eq!(turned.class_axis(None).unwrap(), 0);
        assert_eq!(
            (turned.to_string(), second.to_string()),
            ("[10, N]".into(), "[7, N, 10]".into())
        );
        let text = OutputShape::new(&[])
            .class_axis(None)
            .unwrap_err()
            .to_string();
        assert!(text.contains("that of the samples"), "{text}");
    }

    #[test]
    fn a_hint_names_the_axis_that_fits() {
        let outputs = OutputShape::new(&[7, 10, 3]);
        let hint = |shape: &[usize]| outputs.hint(0, shape);
        assert!(hint(&[7, 10]).contains("class_axis -1"));
        assert!(hint(&[7, 3]).contains("class_axis 2 "));
        assert_eq!(outputs.hint(0, &[10, 3]), "");
        assert_eq!(outputs.hint(0, &[4]), "");
    }

    #[test]
    fn positions_and_classes_cover_every_output_once() {
        let axes = Axes::new(&[2, 3, 4], 1);
        let mut seen = [0; 24];
        for t in 0..axes.positions() {
            let position = axes.position(t);
            for c in 0..axes.classes {
                seen[position.at(c)] += 1;
                assert_eq!(axes.class_of(position.at(c)), c);
                assert_eq!(position.classes_before(position.at(c)), c);
                assert_eq!(position.classes_before(position.at(c) + 1), c + 1);
            }
        }
        assert!(seen.iter().all(|count| *count == 1));
    }
}
