//! Inputs and targets, joined, selected, preprocessed and fitted to the network's inputs.

use super::{ArraySource, MeanImage, Preprocess};
use crate::error::{Error, Result};
use crate::loss::TargetBatch;
use crate::network::{Input, Network};
use std::ops::Range;
use std::path::Path;

/// Samples: inputs, and targets where the loss needs them.
///
/// It is built, bound to a network (which checks everything that can be known before work), and then read
/// by ranges of samples, `0..len()`.
///
/// ```
/// use hessblock::import::data::Dataset;
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
/// # use hessblock::import::data::Dataset;
/// # use ndarray::array;
/// let data = Dataset::new()
///     .with_input("tokens", array![[5i64, 6], [7, 8]])
///     .with_input("lengths", array![2i64, 1])
///     .with_target_array(array![0i64, 1]);
/// assert_eq!(data.len(), 2);
/// ```
#[derive(Debug, Default)]
pub struct Dataset {
    inputs: Vec<Given>,
    targets: Option<ArraySource>,
    /// As asked for; `None` is all.
    selected: Option<Range<usize>>,
    preprocess: Preprocess,
    bound: Option<Bound>,
}

/// An array for an input of the network.
#[derive(Debug)]
struct Given {
    /// The input; `None` where the network has only one.
    name: Option<String>,
    source: ArraySource,
}

/// What [`Dataset::bind`] settled.
#[derive(Debug)]
struct Bound {
    /// The selected samples.
    samples: Range<usize>,
    /// One for each input of the network, in its order.
    inputs: Vec<BoundInput>,
    /// Rows of the targets' array for each sample, where it has several.
    rows: Option<usize>,
}

/// An input of the network with the array given for it.
#[derive(Debug)]
struct BoundInput {
    /// Its name in the network.
    name: String,
    /// Which of the given arrays.
    given: usize,
    /// Axis of the array that carries the samples.
    axis: usize,
    /// Shape of a sample, without the axis of samples.
    shape: Vec<usize>,
    /// The network takes integers.
    integer: bool,
    /// Rows of the table that they look up.
    limit: Option<usize>,
    /// Whether it is preprocessed.
    preprocessed: bool,
    /// The mean image, empty for none.
    image: Vec<f64>,
}

/// Samples read at a time when the mean over all is taken, by the bytes of them in double precision.
const PASS_BYTES: usize = 16 << 20;

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

    /// Fits the data to the inputs of a network, and the count of targets to its output.
    ///
    /// Axes of extent 1 are added or left out as needed; nothing else is reshaped. Where the samples are
    /// not on axis 0, files of the network's own shape are read as such, else samples-first ones. Where the
    /// output holds T positions of each sample on the axis of samples, [N·T, C], targets of N·T rows are
    /// read as [N, T]. A mean image of the samples themselves is computed here, in one pass.
    ///
    /// # Errors
    /// [`Error::Request`] where arrays are missing for inputs of the network or left over, for samples that
    /// are not there, and where it is not one input of real numbers that is to be preprocessed;
    /// [`Error::Shape`] with both shapes where they do not fit, or with both counts where those of samples
    /// differ; errors of reading.
    pub fn bind(&mut self, network: &Network) -> Result<()> {
        self.bound = None;
        let mut inputs = Vec::with_capacity(network.inputs.len());
        for (input, given) in network.inputs.iter().zip(self.matched(&network.inputs)?) {
            let shape = input.sample_shape();
            inputs.push(BoundInput {
                name: input.name.clone(),
                given,
                axis: fit(&self.inputs[given].source, &shape, input.sample_axis)?,
                shape,
                integer: input.integer,
                limit: input.limit,
                preprocessed: false,
                image: Vec::new(),
            });
        }
        let count = self.sample_count(&inputs)?;
        let rows = self.target_rows(&inputs, count, network.output_positions())?;
        let samples = self.settle_samples(&inputs, count)?;
        if !self.preprocess.is_identity() {
            let k = self.preprocessed(&inputs)?;
            self.preprocess.check(&inputs[k].shape)?;
            inputs[k].preprocessed = true;
            inputs[k].image = self.mean_image(&inputs[k], &samples)?;
        }
        self.bound = Some(Bound {
            samples,
            inputs,
            rows,
        });
        Ok(())
    }

    /// For each input of the network, which of the given arrays is its.
    fn matched(&self, inputs: &[Input]) -> Result<Vec<usize>> {
        if let ([_], [Given { name: None, .. }]) = (inputs, &self.inputs[..]) {
            return Ok(vec![0]);
        }
        let known = |given: &Given| inputs.iter().any(|i| given.name.as_ref() == Some(&i.name));
        let first = |name: &str| {
            let named = |given: &Given| given.name.as_deref() == Some(name);
            self.inputs.iter().position(named)
        };
        let mut faults = Vec::new();
        let mut fault = |what: &str, names: Vec<String>| {
            if !names.is_empty() {
                faults.push(format!("{what} {}", names.join(", ")));
            }
        };
        let missing = inputs.iter().filter(|i| first(&i.name).is_none());
        fault("no array for", missing.map(|i| i.name.clone()).collect());
        let (mut unknown, mut unnamed, mut twice) = (Vec::new(), Vec::new(), Vec::new());
        for (k, given) in self.inputs.iter().enumerate() {
            let path = given.source.path().display();
            match &given.name {
                None => unnamed.push(path.to_string()),
                Some(name) if !known(given) => unknown.push(format!("{name:?} ({path})")),
                Some(name) if first(name) != Some(k) => twice.push(format!("{name:?} ({path})")),
                Some(_) => {}
            }
        }
        fault("there is no input", unknown);
        fault("without a name:", unnamed);
        fault("given once more:", twice);
        if faults.is_empty() {
            return Ok(inputs.iter().filter_map(|i| first(&i.name)).collect());
        }
        let listed: Vec<String> = inputs.iter().map(describe).collect();
        Err(Error::Request(format!(
            "the network takes {}; {}: give each as --inputs NAME=FILE",
            listed.join(" and "),
            faults.join("; ")
        )))
    }

    fn source(&self, input: &BoundInput) -> &ArraySource {
        &self.inputs[input.given].source
    }

    /// The number of samples in all arrays of inputs.
    fn sample_count(&self, inputs: &[BoundInput]) -> Result<usize> {
        let count = |input: &BoundInput| self.source(input).shape()[input.axis];
        let Some(first) = inputs.first() else {
            return Err(Error::Request(
                "the network has no inputs, so there are no samples".into(),
            ));
        };
        if let Some(other) = inputs.iter().find(|other| count(other) != count(first)) {
            return Err(Error::Shape(format!(
                "{} holds {} samples (input {:?}) and {} holds {} (input {:?}): they must agree",
                self.source(first).path().display(),
                count(first),
                first.name,
                self.source(other).path().display(),
                count(other),
                other.name
            )));
        }
        if count(first) == 0 {
            return Err(Error::Request(format!(
                "{} of shape {:?} holds no samples",
                self.source(first).path().display(),
                self.source(first).shape()
            )));
        }
        Ok(count(first))
    }

    /// Checks the count of targets; how many rows of their array a sample has, where it has several.
    fn target_rows(
        &self,
        inputs: &[BoundInput],
        count: usize,
        positions: usize,
    ) -> Result<Option<usize>> {
        let Some(targets) = &self.targets else {
            return Ok(None);
        };
        let path = targets.path().display();
        let labels = *targets.shape().first().ok_or_else(|| {
            Error::Shape(format!(
                "{path} is a single number: targets need a first axis of samples"
            ))
        })?;
        let all = count.checked_mul(positions);
        if labels == count {
            Ok(None)
        } else if positions > 1 && all == Some(labels) {
            Ok(Some(positions))
        } else {
            let cure = match all {
                Some(all) if positions > 1 => format!(
                    "; the network gives {positions} outputs for each sample on one axis, so targets are \
                     [{count}, {positions}, …] or have {all} rows: numpy.reshape makes the one of the other"
                ),
                _ => String::new(),
            };
            Err(Error::Shape(format!(
                "{} holds {count} samples and {path} holds {labels} targets: they must agree{cure}",
                self.source(&inputs[0]).path().display(),
            )))
        }
    }

    /// The range of selected samples.
    fn settle_samples(&self, inputs: &[BoundInput], count: usize) -> Result<Range<usize>> {
        match &self.selected {
            None => Ok(0..count),
            Some(range) if range.end <= count => Ok(range.clone()),
            Some(range) => Err(Error::Request(format!(
                "the samples {}..{} are asked for, and {} holds {count} (0..{count})",
                range.start,
                range.end,
                self.source(&inputs[0]).path().display()
            ))),
        }
    }

    /// The one input of real numbers, which scale, mean, std and mean image are for.
    fn preprocessed(&self, inputs: &[BoundInput]) -> Result<usize> {
        let names = |integer: bool| {
            let of_kind = inputs.iter().filter(|i| i.integer == integer);
            let names: Vec<&str> = of_kind.map(|i| i.name.as_str()).collect();
            names.join(", ")
        };
        let mut reals = (0..inputs.len()).filter(|&k| !inputs[k].integer);
        match (reals.next(), reals.next()) {
            (Some(real), None) => Ok(real),
            (None, _) => Err(Error::Request(format!(
                "the network takes integers (tokens: {}), which cannot be scaled: leave out scale, mean, std \
                 and mean image for {}",
                names(true),
                self.source(&inputs[0]).path().display()
            ))),
            (Some(_), Some(_)) => Err(Error::Request(format!(
                "scale, mean, std and mean image are for a network's one input of real numbers, and this one \
                 has several ({}): leave them out, and store these inputs as the network takes them",
                names(false)
            ))),
        }
    }

    /// The image that is taken off, in the units of the file.
    fn mean_image(&self, input: &BoundInput, samples: &Range<usize>) -> Result<Vec<f64>> {
        let each: usize = input.shape.iter().product();
        match &self.preprocess.mean_image {
            MeanImage::None => Ok(Vec::new()),
            MeanImage::File(path) => {
                let source = ArraySource::open(path)?;
                let shape = source.shape();
                if without_ones(shape, &[]) != without_ones(&input.shape, &[]) {
                    return Err(Error::Shape(format!(
                        "the mean image {} has shape {shape:?}, and a sample has {:?}",
                        path.display(),
                        input.shape
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
                let source = self.source(input);
                let mut sum = vec![0.0; each];
                let step = (PASS_BYTES / (8 * each.max(1))).max(1);
                for start in samples.clone().step_by(step) {
                    let range = start..(start + step).min(samples.end);
                    let values = source.read_f64_along(input.axis, range.clone())?;
                    check_finite(source, &values, each, range.start)?;
                    for sample in values.chunks_exact(each.max(1)) {
                        for (sum, x) in sum.iter_mut().zip(sample) {
                            *sum += x;
                        }
                    }
                }
                let count = samples.len() as f64;
                Ok(sum.into_iter().map(|s| s / count).collect())
            }
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

/// `"tokens" [16] (integers)`.
fn describe(input: &Input) -> String {
    let kind = if input.integer { " (integers)" } else { "" };
    format!("{:?} {:?}{kind}", input.name, input.sample_shape())
}

/// The axis of samples in an array, where its shape fits that of a sample.
fn fit(source: &ArraySource, shape: &[usize], sample_axis: usize) -> Result<usize> {
    let file = source.shape();
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
        source.path().display()
    )))
}

/// Refuses NaN and infinity; `first` is the sample that `values` begin with.
fn check_finite(source: &ArraySource, values: &[f64], each: usize, first: usize) -> Result<()> {
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
                "looks up a table of {limit} rows: it takes 0..{limit}, or from the end -{limit}..0"
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
