//! What is done to inputs before the network sees them.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// input = ((x − image)·scale − mean)/std, with x as the file holds it.
///
/// ```
/// use hessblock::data::Preprocess;
/// let mnist = Preprocess { scale: 1.0 / 255.0, mean: vec![0.1307], std: vec![0.3081], ..Default::default() };
/// assert_eq!(mnist.std.len(), 1);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Preprocess {
    /// Factor on the file's numbers, such as 1/255.
    pub scale: f64,
    /// Taken off after scaling: none, one number, or one per channel (first axis of a sample).
    pub mean: Vec<f64>,
    /// Divided by at the end: none, one number, or one per channel.
    pub std: Vec<f64>,
    /// An image in the units of the file, taken off first.
    pub mean_image: MeanImage,
}

/// Whose mean is taken off, pixel by pixel.
///
/// ```
/// use hessblock::data::{MeanImage, Preprocess};
/// let preprocess = Preprocess { mean_image: MeanImage::SelfMean, ..Preprocess::default() };
/// assert_eq!(preprocess.scale, 1.0);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MeanImage {
    /// None.
    #[default]
    None,
    /// That of the selected samples themselves.
    SelfMean,
    /// One in a file, shaped as a sample.
    File(PathBuf),
}

impl Default for Preprocess {
    fn default() -> Self {
        Self {
            scale: 1.0,
            mean: Vec::new(),
            std: Vec::new(),
            mean_image: MeanImage::None,
        }
    }
}

impl Preprocess {
    /// Whether inputs are left as they are.
    pub fn is_identity(&self) -> bool {
        *self == Self::default()
    }

    /// Refuses numbers that cannot be meant; `shape` is that of a sample.
    pub(super) fn check(&self, shape: &[usize]) -> Result<()> {
        let channels = shape.first().copied().unwrap_or(1);
        for (name, values) in [("mean", &self.mean), ("std", &self.std)] {
            if ![0, 1, channels].contains(&values.len()) {
                return Err(Error::Request(format!(
                    "{name} has {} numbers, and a sample of shape {shape:?} has {channels} channel(s): give one \
                     number, or one per channel",
                    values.len()
                )));
            }
        }
        let finite = |values: &[f64]| values.iter().all(|v| v.is_finite());
        if !(self.scale.is_finite() && finite(&self.mean) && finite(&self.std))
            || self.std.contains(&0.0)
        {
            return Err(Error::Value(format!(
                "inputs cannot be brought to (x·{} − {:?})/{:?}: scale, mean and std must be finite, and std not 0",
                self.scale, self.mean, self.std
            )));
        }
        Ok(())
    }

    /// Applies it in place to samples of `each` numbers; `image` is the mean image.
    pub(super) fn apply(&self, values: &mut [f64], each: usize, channels: usize, image: &[f64]) {
        // Entry k of a sample belongs to channel k / (each / channels).
        let per_channel = (each / channels.max(1)).max(1);
        let of = |values: &[f64], k: usize, absent: f64| match values {
            [] => absent,
            [one] => *one,
            many => many[k / per_channel],
        };
        for sample in values.chunks_exact_mut(each.max(1)) {
            for (k, x) in sample.iter_mut().enumerate() {
                let centred = *x - image.get(k).copied().unwrap_or(0.0);
                *x = (centred * self.scale - of(&self.mean, k, 0.0)) / of(&self.std, k, 1.0);
            }
        }
    }
}
