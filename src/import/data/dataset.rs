//! Inputs and targets, joined, selected, preprocessed and fitted to the network's input.

use super::{ArraySource, MeanImage, Preprocess};
use crate::error::{Error, Result};
use crate::loss::TargetBatch;
use crate::network::Input;
use std::ops::Range;
use std::path::Path;

/// Samples: inputs, and targets where the loss needs them.
///
/// It is built, bound to a network's input (which checks everything that can be known before work), and
/// then read by ranges of samples, `0..len()`.
///
/// ```
/// use hessblock::import::data::Dataset;
/// use hessblock::loss::TargetBatch;
/// use ndarray::array;
/// let mut data = Dataset::from_arrays(array![[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], array![0i64, 1, 1])
///     .with_samples(1..3)?;
/// data.bind(&[1, 2], 0)?; // The network's input at batch 1, whose axis 0 carries the samples.
/// assert_eq!(data.inputs(0..1)?, [3.0, 4.0]);
/// assert_eq!(data.targets(0..2)?, TargetBatch::Classes { first: 1, positions: 1, values: vec![1, 1] });
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Debug)]
pub struct Dataset {
    inputs: ArraySource,
    targets: Option<ArraySource>,
    /// As asked for; `None` is all.
    selected: Option<Range<usize>>,
    preprocess: Preprocess,
    bound: Option<Bound>,
}

/// What [`Dataset::bind`] settled.
#[derive(Debug)]
struct Bound {
    /// The selected samples.
    samples: Range<usize>,
    /// Axis of the input file that carries the samples.
    axis: usize,
    /// Shape of a sample, without the axis of samples.
    shape: Vec<usize>,
    /// The network takes integers.
    integer: bool,
    /// The mean image, empty for none.
    image: Vec<f64>,
}

/// Samples read at a time when the mean over all is taken, by the bytes of them in double precision.
const PASS_BYTES: usize = 16 << 20;

impl Dataset {
    /// Opens a file or folder of inputs; what [`ArraySource::open`] reads. Samples are the first axis, or
    /// that which carries them in the network's input.
    ///
    /// # Errors
    /// As [`ArraySource::open`].
    pub fn open(inputs: impl AsRef<Path>) -> Result<Dataset> {
        Ok(Self::from_inputs(ArraySource::open(inputs)?))
    }

    /// Inputs alone, such as an `ndarray` array.
    pub fn from_inputs(inputs: impl Into<ArraySource>) -> Dataset {
        Dataset {
            inputs: inputs.into(),
            targets: None,
            selected: None,
            preprocess: Preprocess::default(),
            bound: None,
        }
    }

    /// Inputs and targets in memory.
    pub fn from_arrays(inputs: impl Into<ArraySource>, targets: impl Into<ArraySource>) -> Dataset {
        let mut data = Self::from_inputs(inputs);
        data.targets = Some(targets.into());
        data
    }

    /// Opens a file or folder of targets: integers are class indices, other numbers are taken as they are.
    ///
    /// # Errors
    /// As [`ArraySource::open`].
    pub fn with_targets(mut self, targets: impl AsRef<Path>) -> Result<Dataset> {
        self.targets = Some(ArraySource::open(targets)?);
        self.bound = None;
        Ok(self)
    }

    /// Takes only these samples.
    ///
    /// # Errors
    /// [`Error::Request`] for an empty range; one that reaches past the end is refused by
    /// [`Dataset::bind`].
    pub fn with_samples(mut self, samples: Range<usize>) -> Result<Dataset> {
        if samples.is_empty() {
            return Err(Error::Request(format!(
                "the samples {}..{} are none: the range is half-open, first..last+1",
                samples.start, samples.end
            )));
        }
        self.selected = Some(samples);
        self.bound = None;
        Ok(self)
    }

    /// Sets what is done to inputs.
    pub fn with_preprocess(mut self, preprocess: Preprocess) -> Dataset {
        self.preprocess = preprocess;
        self.bound = None;
        self
    }

    /// Fits the data to an input of the network: its shape at batch 1 (`rest`) and the axis of that which
    /// carries the samples.
    ///
    /// Axes of extent 1 are added or left out as needed; nothing else is reshaped. Where the samples are
    /// not on axis 0, files of the network's own shape are read as such, else samples-first ones. A mean
    /// image of the samples themselves is computed here, in one pass.
    ///
    /// # Errors
    /// [`Error::Shape`] with both shapes where they do not fit, or with both counts where inputs and targets
    /// differ; [`Error::Request`] for samples that are not there; errors of reading.
    pub fn bind(&mut self, rest: &[usize], sample_axis: usize) -> Result<()> {
        self.bind_as(rest, sample_axis, false)
    }

    /// [`Dataset::bind`] to an input as the network knows it, integers included.
    ///
    /// # Errors
    /// As [`Dataset::bind`]; [`Error::Request`] where inputs of integers are to be preprocessed.
    pub fn bind_input(&mut self, input: &Input) -> Result<()> {
        self.bind_as(&input.rest, input.sample_axis, input.integer)
    }

    fn bind_as(&mut self, rest: &[usize], sample_axis: usize, integer: bool) -> Result<()> {
        self.bound = None;
        let mut shape = rest.to_vec();
        if sample_axis < shape.len() {
            shape.remove(sample_axis);
        }
        let axis = self.fit(&shape, sample_axis)?;
        let samples = self.settle_samples(axis)?;
        if integer && !self.preprocess.is_identity() {
            return Err(Error::Request(format!(
                "the network takes integers (tokens), which cannot be scaled: leave out scale, mean and std for {}",
                self.inputs.path().display()
            )));
        }
        self.preprocess.check(&shape)?;
        let mut bound = Bound {
            samples,
            axis,
            shape,
            integer,
            image: Vec::new(),
        };
        bound.image = self.mean_image(&bound)?;
        self.bound = Some(bound);
        Ok(())
    }

    /// The axis of samples in the input file, where its shape fits that of a sample.
    fn fit(&self, shape: &[usize], sample_axis: usize) -> Result<usize> {
        let file = self.inputs.shape();
        let fits = |axis: usize| {
            axis < file.len()
                && without_ones(&file[..axis], &file[axis + 1..]) == without_ones(shape, &[])
        };
        if let Some(axis) = [sample_axis, 0].into_iter().find(|axis| fits(*axis)) {
            return Ok(axis);
        }
        let each = file.get(1..).unwrap_or(&[]);
        let hint = if each.iter().product::<usize>() != shape.iter().product::<usize>() {
            "they hold different counts of numbers: this is not the network's data, or it was exported for \
             another size"
        } else if sorted(each) == sorted(shape) {
            "the axes are in another order: save numpy.transpose(x, …) of it"
        } else {
            "the counts agree, so reshape the file (numpy.reshape) if its order is the network's"
        };
        Err(Error::Shape(format!(
            "{} of shape {file:?} has samples of shape {each:?}, and the network takes {shape:?} per sample; \
             {hint}",
            self.inputs.path().display()
        )))
    }

    /// The range of selected samples, checked against inputs and targets.
    fn settle_samples(&self, axis: usize) -> Result<Range<usize>> {
        let inputs = &self.inputs;
        let count = inputs.shape()[axis];
        if let Some(targets) = &self.targets {
            let labels = targets.shape().first().copied().ok_or_else(|| {
                Error::Shape(format!(
                    "{} is a single number: targets need a first axis of samples",
                    targets.path().display()
                ))
            })?;
            if labels != count {
                return Err(Error::Shape(format!(
                    "{} holds {count} samples and {} holds {labels} targets: they must agree",
                    inputs.path().display(),
                    targets.path().display()
                )));
            }
        }
        if count == 0 {
            return Err(Error::Request(format!(
                "{} of shape {:?} holds no samples",
                inputs.path().display(),
                inputs.shape()
            )));
        }
        match &self.selected {
            None => Ok(0..count),
            Some(range) if range.end <= count => Ok(range.clone()),
            Some(range) => Err(Error::Request(format!(
                "the samples {}..{} are asked for, and {} holds {count} (0..{count})",
                range.start,
                range.end,
                inputs.path().display()
            ))),
        }
    }

    /// The image that is taken off, in the units of the file.
    fn mean_image(&self, bound: &Bound) -> Result<Vec<f64>> {
        let each: usize = bound.shape.iter().product();
        match &self.preprocess.mean_image {
            MeanImage::None => Ok(Vec::new()),
            MeanImage::File(path) => {
                let source = ArraySource::open(path)?;
                let shape = source.shape();
                if without_ones(shape, &[]) != without_ones(&bound.shape, &[]) {
                    return Err(Error::Shape(format!(
                        "the mean image {} has shape {shape:?}, and a sample has {:?}",
                        path.display(),
                        bound.shape
                    )));
                }
                let image = match shape.first() {
                    Some(first) => source.read_f64(0..*first)?,
                    None => source.read_f64_along(0, 0..1)?,
                };
                match image.iter().position(|v| !v.is_finite()) {
                    None => Ok(image),
                    Some(at) => Err(Error::Value(format!(
                        "the mean image {} holds {} at entry {at}",
                        path.display(),
                        image[at]
                    ))),
                }
            }
            MeanImage::SelfMean => {
                let mut sum = vec![0.0; each];
                let step = (PASS_BYTES / (8 * each.max(1))).max(1);
                for start in bound.samples.clone().step_by(step) {
                    let range = start..(start + step).min(bound.samples.end);
                    let values = self.inputs.read_f64_along(bound.axis, range.clone())?;
                    self.check_finite(&values, each, range.start)?;
                    for sample in values.chunks_exact(each.max(1)) {
                        for (sum, x) in sum.iter_mut().zip(sample) {
                            *sum += x;
                        }
                    }
                }
                let count = bound.samples.len() as f64;
                Ok(sum.into_iter().map(|s| s / count).collect())
            }
        }
    }

    fn check_finite(&self, values: &[f64], each: usize, first: usize) -> Result<()> {
        match values.iter().position(|v| !v.is_finite()) {
            None => Ok(()),
            Some(at) => Err(Error::Value(format!(
                "{}: sample {} holds {}: inputs must be finite; mend the file or leave the sample out",
                self.inputs.path().display(),
                first + at / each.max(1),
                values[at]
            ))),
        }
    }

    fn bound(&self) -> Result<&Bound> {
        self.bound.as_ref().ok_or_else(|| {
            Error::Request("the data set was not bound to a network's input before reading".into())
        })
    }

    /// Number of selected samples; before [`Dataset::bind`], of those asked for or on the first axis.
    #[allow(clippy::len_without_is_empty)] // Never empty once bound: none is an error there.
    pub fn len(&self) -> usize {
        match (&self.bound, &self.selected) {
            (Some(bound), _) => bound.samples.len(),
            (None, Some(range)) => range.len(),
            (None, None) => self.inputs.shape().first().copied().unwrap_or(0),
        }
    }

    /// The selected samples' absolute range in the files; before [`Dataset::bind`] as for
    /// [`Dataset::len`].
    pub fn sample_range(&self) -> Range<usize> {
        match (&self.bound, &self.selected) {
            (Some(bound), _) => bound.samples.clone(),
            (None, Some(range)) => range.clone(),
            (None, None) => 0..self.len(),
        }
    }

    /// The array of inputs: its shape, and whether it holds integers.
    pub fn input_source(&self) -> &ArraySource {
        &self.inputs
    }

    /// The array of targets.
    pub fn target_source(&self) -> Option<&ArraySource> {
        self.targets.as_ref()
    }

    /// What is done to inputs.
    pub fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    /// Inputs of the selected samples `range` (of `0..len()`), preprocessed: `[samples, rest…]`.
    ///
    /// # Errors
    /// [`Error::Value`] for NaN or infinity, or a fraction where the network takes integers, naming the
    /// sample; errors of reading.
    pub fn inputs(&self, range: Range<usize>) -> Result<Vec<f64>> {
        let bound = self.bound()?;
        let absolute = bound.absolute(&range)?;
        let mut values = self.inputs.read_f64_along(bound.axis, absolute.clone())?;
        let each: usize = bound.shape.iter().product();
        if bound.integer {
            if let Some(at) = values.iter().position(|v| v.fract() != 0.0) {
                return Err(Error::Value(format!(
                    "{}: sample {} holds {}, and the network takes integers",
                    self.inputs.path().display(),
                    absolute.start + at / each.max(1),
                    values[at]
                )));
            }
            return Ok(values);
        }
        if !self.preprocess.is_identity() {
            let channels = bound.shape.first().copied().unwrap_or(1);
            self.preprocess
                .apply(&mut values, each, channels, &bound.image);
        }
        self.check_finite(&values, each, absolute.start)?;
        Ok(values)
    }

    /// Targets of the selected samples `range` (of `0..len()`).
    ///
    /// # Errors
    /// Errors of reading.
    pub fn targets(&self, range: Range<usize>) -> Result<TargetBatch> {
        let bound = self.bound()?;
        let absolute = bound.absolute(&range)?;
        let Some(targets) = &self.targets else {
            return Ok(TargetBatch::None(range.len()));
        };
        let shape = targets.shape()[1..].to_vec();
        let first = absolute.start;
        Ok(if targets.integer() {
            TargetBatch::Classes {
                first,
                positions: shape.iter().product(),
                values: targets.read_i64(absolute)?,
            }
        } else {
            TargetBatch::Dense {
                first,
                shape,
                values: targets.read_f64(absolute)?,
            }
        })
    }
}

impl Bound {
    fn absolute(&self, range: &Range<usize>) -> Result<Range<usize>> {
        if range.start > range.end || range.end > self.samples.len() {
            return Err(Error::Request(format!(
                "the samples {range:?} are not among the {} selected",
                self.samples.len()
            )));
        }
        Ok(self.samples.start + range.start..self.samples.start + range.end)
    }
}

/// The axes longer than 1 of two parts of a shape, joined.
fn without_ones(left: &[usize], right: &[usize]) -> Vec<usize> {
    let axes = left.iter().chain(right);
    axes.copied().filter(|extent| *extent != 1).collect()
}

fn sorted(shape: &[usize]) -> Vec<usize> {
    let mut axes = without_ones(shape, &[]);
    axes.sort_unstable();
    axes
}
