//! Fits a data set to a network: which array is for which input, how many samples there are, what is taken off.

use super::dataset::{Bound, BoundInput, Dataset, Given, check_finite};
use super::{ArraySource, MeanImage};
use crate::error::{Error, Result};
use crate::network::{Input, Network};
use crate::setting::INPUTS;
use std::ops::Range;

/// Samples read at a time when the mean over all is taken, by the bytes of them in double precision.
const PASS_BYTES: usize = 16 << 20;

impl Dataset {
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
        let taken = network.data_inputs();
        let mut inputs = Vec::with_capacity(taken.len());
        let matched = self.matched(taken)?;
        for (k, (input, given)) in taken.iter().zip(matched).enumerate() {
            let shape = input.sample_shape();
            inputs.push(BoundInput {
                name: input.name.clone(),
                given,
                axis: fit(&self.inputs[given].source, &shape, input.sample_axis)?,
                shape,
                integer: input.integer,
                mask: network.masks.contains(&k),
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
            "the network takes {}; {}: give each as {INPUTS} NAME=FILE",
            listed.join(" and "),
            faults.join("; ")
        )))
    }

    pub(super) fn source(&self, input: &BoundInput) -> &ArraySource {
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
