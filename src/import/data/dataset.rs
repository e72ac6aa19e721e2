//! Inputs and targets, joined, selected, preprocessed and fitted to the network's inputs.

use super::{ArraySource, Preprocess};
use crate::error::{Error, Result};
use crate::loss::TargetBatch;
use crate::network::masked;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Samples: inputs, and targets where the loss needs them.
///
/// It is built, bound to a network (which checks everything that can be known before work), and then read
/// by ranges of samples, `0..len()`.
///
/// ```
/// use hessblock::data::Dataset;
/// use hessblock::loss::TargetBatch;
/// use hessblock::network::builder::Builder;
/// use ndarray::array;
/// let network = Builder::new(&[2]).linear("fc", 2).initialize(0).build()?;
/// let mut data = Dataset::from_arrays(array![[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], array![0i64, 1, 1])
///     .with_samples(1..3)?;
/// data.bind(&network)?;
/// assert_eq!(data.inputs(0..1)?, [[3.0, 4.0]]); // One list for each input of the network.
/// assert_eq!(data.targets(0..2)?, TargetBatch::Classes { first: 1, shape: vec![], values: vec![1, 1] });
/// # Ok::<(), hessblock::Error>(())
/// ```
///
/// A network of several inputs takes an array for each, by the names that `inspect` lists:
///
/// ```
/// # use hessblock::data::Dataset;
/// # use ndarray::array;
/// let data = Dataset::new()
///     .with_input("tokens", array![[5i64, 6], [7, 8]])
///     .with_input("lengths", array![2i64, 1])
///     .with_target_array(array![0i64, 1]);
/// assert_eq!(data.len(), 2);
/// ```
#[derive(Debug, Default)]
pub struct Dataset {
    pub(super) inputs: Vec<Given>,
    pub(super) targets: Option<ArraySource>,
    /// As asked for; `None` is all.
    pub(super) selected: Option<Range<usize>>,
    pub(super) preprocess: Preprocess,
    pub(super) bound: Option<Bound>,
}

/// An array for an input of the network.
#[derive(Debug)]
pub(super) struct Given {
    /// The input; `None` where the network has only one.
    pub(super) name: Option<String>,
    pub(super) source: ArraySource,
}

/// What [`Dataset::bind`] settled.
#[derive(Debug)]
pub(super) struct Bound {
    /// The selected samples.
    pub(super) samples: Range<usize>,
    /// One for each input of the network, in its order.
    pub(super) inputs: Vec<BoundInput>,
    /// Rows of the targets' array for each sample, where it has several.
    pub(super) rows: Option<usize>,
}

/// An input of the network with the array given for it.
#[derive(Debug)]
pub(super) struct BoundInput {
    /// Its name in the network.
    pub(super) name: String,
    /// Which of the given arrays.
    pub(super) given: usize,
    /// Whether it may hold −∞, for which the network takes another number ([`masked`]).
    pub(super) mask: bool,
    /// Axis of the array that carries the samples.
    pub(super) axis: usize,
    /// Shape of a sample, without the axis of samples.
    pub(super) shape: Vec<usize>,
    /// The network takes integers.
    pub(super) integer: bool,
    /// Rows of the table that they look up.
    pub(super) limit: Option<usize>,
    /// Whether it is preprocessed.
    pub(super) preprocessed: bool,
    /// The mean image, empty for none.
    pub(super) image: Vec<f64>,
}

/// The largest integer up to which all are exact in single precision.
const EXACT: f64 = (1 << 24) as f64;

impl Dataset {
    /// No inputs yet, and no targets.
    pub fn new() -> Dataset {
        Self::default()
    }

    /// Opens a file or folder of inputs for a network of one input; what [`ArraySource::open`] reads.
    /// Samples are the first axis, or that which carries them in the network's input.
    ///
    /// # Errors
    /// As [`ArraySource::open`].
    pub fn open(inputs: impl AsRef<Path>) -> Result<Dataset> {
        Ok(Self::from_inputs(ArraySource::open(inputs)?))
    }

    /// Inputs alone for a network of one input, such as an `ndarray` array.
    pub fn from_inputs(inputs: impl Into<ArraySource>) -> Dataset {
        Self::new().with(None, inputs.into())
    }

    /// Inputs for a network of one input, and targets, in memory.
    pub fn from_arrays(inputs: impl Into<ArraySource>, targets: impl Into<ArraySource>) -> Dataset {
        Self::from_inputs(inputs).with_target_array(targets)
    }

    /// Adds the array for the network's input of that name; an array in memory, or [`ArraySource::open`]'s.
    pub fn with_input(self, name: impl Into<String>, source: impl Into<ArraySource>) -> Dataset {
        self.with(Some(name.into()), source.into())
    }

    /// Adds an array, without a name where the network has one input.
    pub(crate) fn with(mut self, name: Option<String>, source: ArraySource) -> Dataset {
        self.inputs.push(Given { name, source });
        self.bound = None;
        self
    }

    /// Opens a file or folder of targets: integers are class indices, other numbers are taken as they are.
    ///
    /// # Errors
    /// As [`ArraySource::open`].
    pub fn with_targets(self, targets: impl AsRef<Path>) -> Result<Dataset> {
        Ok(self.with_target_array(ArraySource::open(targets)?))
    }

    /// Sets the array of targets.
    pub fn with_target_array(mut self, targets: impl Into<ArraySource>) -> Dataset {
        self.targets = Some(targets.into());
        self.bound = None;
        self
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

    /// Sets what is done to the network's one input of real numbers.
    pub fn with_preprocess(mut self, preprocess: Preprocess) -> Dataset {
        self.preprocess = preprocess;
        self.bound = None;
        self
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
            (None, None) => {
                let first = self.inputs.first().and_then(|i| i.source.shape().first());
                first.copied().unwrap_or(0)
            }
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

    /// The arrays of inputs, with the names they were given for.
    pub fn input_sources(&self) -> impl Iterator<Item = (Option<&str>, &ArraySource)> {
        self.inputs.iter().map(|i| (i.name.as_deref(), &i.source))
    }

    /// The array of targets.
    pub fn target_source(&self) -> Option<&ArraySource> {
        self.targets.as_ref()
    }

    /// The folders of shards among the arrays, with the names of their shards in the order in which they are joined.
    pub fn shards(&self) -> Vec<(PathBuf, Vec<String>)> {
        let inputs = self.inputs.iter().map(|input| &input.source);
        inputs
            .chain(&self.targets)
            .map(|source| (source.path().to_path_buf(), source.shards()))
            .filter(|(_, shards)| !shards.is_empty())
            .collect()
    }

    /// What is done to inputs.
    pub fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    /// Shape of a sample's target; `None` without targets.
    pub fn target_shape(&self) -> Option<Vec<usize>> {
        let each = self.targets.as_ref()?.shape().get(1..).unwrap_or(&[]);
        let rows = self.bound.as_ref().and_then(|bound| bound.rows);
        Some(rows.into_iter().chain(each.iter().copied()).collect())
    }

    /// Inputs of the selected samples `range` (of `0..len()`), preprocessed: for each input of the network,
    /// in its order, `[samples, rest…]`.
    ///
    /// # Errors
    /// [`Error::Value`] for NaN or infinity, or where the network takes integers for a fraction or a number
    /// out of their range, naming the file and the sample; errors of reading.
    pub fn inputs(&self, range: Range<usize>) -> Result<Vec<Vec<f64>>> {
        let bound = self.bound()?;
        let absolute = bound.absolute(&range)?;
        let read = |input| self.read(input, absolute.clone());
        bound.inputs.iter().map(read).collect()
    }

    /// One input of the samples `range` of the file.
    fn read(&self, input: &BoundInput, range: Range<usize>) -> Result<Vec<f64>> {
        let source = self.source(input);
        let each: usize = input.shape.iter().product();
        let mut values = source.read_f64_along(input.axis, range.clone())?;
        if input.integer {
            check_integers(source, input, &values, range.start)?;
            return Ok(values);
        }
        if input.preprocessed {
            let channels = input.shape.first().copied().unwrap_or(1);
            self.preprocess
                .apply(&mut values, each, channels, &input.image);
        }
        if input.mask {
            values.iter_mut().for_each(|value| *value = masked(*value));
        }
        check_finite(source, &values, each, range.start)?;
        Ok(values)
    }

    /// Targets of the selected samples `range` (of `0..len()`).
    ///
    /// # Errors
    /// Errors of reading.
    pub fn targets(&self, range: Range<usize>) -> Result<TargetBatch> {
        let bound = self.bound()?;
        let absolute = bound.absolute(&range)?;
        let (Some(targets), Some(shape)) = (&self.targets, self.target_shape()) else {
            return Ok(TargetBatch::None(range.len()));
        };
        let (first, rows) = (absolute.start, bound.rows.unwrap_or(1));
        let read = absolute.start * rows..absolute.end * rows;
        Ok(if targets.integer() {
            TargetBatch::Classes {
                first,
                shape,
                values: targets.read_i64(read)?,
            }
        } else {
            TargetBatch::Dense {
                first,
                shape,
                values: targets.read_f64(read)?,
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

/// Refuses NaN and infinity; `first` is the sample that `values` begin with.
pub(super) fn check_finite(
    source: &ArraySource,
    values: &[f64],
    each: usize,
    first: usize,
) -> Result<()> {
    match values.iter().position(|v| !v.is_finite()) {
        None => Ok(()),
        Some(at) => Err(Error::Value(format!(
            "{}: sample {} holds {}: inputs must be finite; mend the file or leave the sample out",
            source.path().display(),
            first + at / each.max(1),
            values[at]
        ))),
    }
}

/// Refuses fractions, and integers that the input's table does not have or that no precision holds exactly.
fn check_integers(
    source: &ArraySource,
    input: &BoundInput,
    values: &[f64],
    first: usize,
) -> Result<()> {
    let rows = input.limit.map_or(f64::INFINITY, |limit| limit as f64);
    let taken = |v: f64| v.fract() == 0.0 && -rows <= v && v < rows && v.abs() <= EXACT;
    let Some(at) = values.iter().position(|&v| !taken(v)) else {
        return Ok(());
    };
    let each: usize = input.shape.iter().product();
    let value = values[at];
    let why = match input.limit {
        _ if value.fract() != 0.0 => "takes integers".into(),
        Some(limit) if !(-rows <= value && value < rows) => {
            format!(
                "looks up a table of {limit} rows, 0 to {}, or -{limit} to -1 from its end",
                limit - 1
            )
        }
        _ => format!("takes integers up to {EXACT}, which are exact in single precision"),
    };
    Err(Error::Value(format!(
        "{}: sample {} holds {value}, and the network's input {:?} {why}; mend the file or leave the sample out",
        source.path().display(),
        first + at / each.max(1),
        input.name
    )))
}
