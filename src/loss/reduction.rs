//! How samples' losses are summed, and the checks of targets that several losses share.

use super::{OutputShape, Target, TargetBatch};
use crate::error::{Error, Result};

/// How the losses of samples (and positions) become one number, as in PyTorch.
///
/// ```
/// use hessblock::loss::{CrossEntropy, Loss, Reduction};
/// let reduction: Reduction = "sum".parse()?;
/// assert_eq!(CrossEntropy::new(reduction).name(), CrossEntropy::sum().name());
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reduction {
    /// The mean; each loss says what its divisor is.
    #[default]
    Mean,
    /// The sum.
    Sum,
}

impl std::fmt::Display for Reduction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Reduction::Mean => "mean",
            Reduction::Sum => "sum",
        })
    }
}

impl std::str::FromStr for Reduction {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "mean" => Ok(Reduction::Mean),
            "sum" => Ok(Reduction::Sum),
            _ => Err(Error::Request(format!(
                "no reduction {text:?}: mean and sum are there"
            ))),
        }
    }
}

/// Entry `c` of a target that is shaped as the outputs; integers count as numbers.
pub(super) fn number(target: &Target<'_>, c: usize) -> f64 {
    match target {
        Target::Classes(values) => values[c] as f64,
        Target::Dense(values) => values[c],
        Target::None => f64::NAN,
    }
}

/// Whether two shapes are the same but for axes of extent 1.
pub(super) fn same_shape(left: &[usize], right: &[usize]) -> bool {
    left.iter()
        .filter(|e| **e != 1)
        .eq(right.iter().filter(|e| **e != 1))
}

/// Walks all targets that must be shaped as the outputs, checks shape and values, and counts samples.
///
/// `check` sees (sample, entry within the sample, value).
pub(super) fn walk_dense(
    loss: &str,
    outputs: &OutputShape,
    targets: &mut dyn FnMut() -> Result<Option<TargetBatch>>,
    check: &mut dyn FnMut(usize, usize, f64) -> Result<()>,
) -> Result<usize> {
    let each = outputs.count();
    let wanted = &outputs.sample;
    let mut samples = 0;
    while let Some(batch) = targets()? {
        let first = match &batch {
            TargetBatch::Classes { first, shape, .. } | TargetBatch::Dense { first, shape, .. }
                if same_shape(shape, wanted) =>
            {
                *first
            }
            TargetBatch::Classes { shape, .. } => {
                return Err(Error::Shape(format!(
                    "{loss} needs targets shaped as the network's outputs {wanted:?} (per sample), but the \
                     targets are integers of shape {shape:?} per sample; class indices are for cross-entropy"
                )));
            }
            TargetBatch::Dense { shape, .. } => {
                return Err(Error::Shape(format!(
                    "{loss} needs targets shaped as the network's outputs {wanted:?} (per sample), but the \
                     targets have shape {shape:?} per sample"
                )));
            }
            TargetBatch::None(_) => return Err(missing(loss)),
        };
        for k in 0..batch.samples() {
            let target = batch.get(k);
            for c in 0..each {
                check(first + k, c, number(&target, c))?;
            }
        }
        samples += batch.samples();
    }
    if samples == 0 {
        return Err(missing(loss));
    }
    Ok(samples)
}

/// The error for a loss without targets.
pub(super) fn missing(loss: &str) -> Error {
    Error::Request(format!(
        "{loss} needs targets, and none are given: name the file of targets"
    ))
}

/// The error for a target that is NaN or infinite.
pub(super) fn not_finite(sample: usize, value: f64) -> Error {
    Error::Value(format!(
        "the target of sample {sample} holds {value}: targets must be finite; mend the file or leave the sample out"
    ))
}
