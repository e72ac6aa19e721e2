//! Logistic loss, PyTorch's `BCEWithLogitsLoss`.

use super::axes::Axes;
use super::reduction::{not_finite, number, walk_dense};
use super::{Loss, OutputShape, Reduction, Sample, TargetBatch, diagonal_factor};
use crate::error::{Error, Result};
use crate::random::Draws;
use crate::setting::CLASS_AXIS;
use std::ops::Range;

/// ℓ = ω Σ_c [(1−y)·z + (1+(k−1)y)·softplus(−z)] with k the positive weight, so
/// ∇²ℓ = diag(ω(1+(k−1)y)·σ(1−σ)) and S its root.
///
/// Targets are shaped as the outputs and may be soft (0..1) or integers. ω is 1 for a sum; for a mean
/// 1/(N·C), with C all outputs of a sample.
///
/// ```
/// use hessblock::loss::{BinaryCrossEntropy, Reduction};
/// let loss = BinaryCrossEntropy::new(Reduction::Mean).positive_weight(vec![3.0]);
/// ```
#[derive(Clone, Debug)]
pub struct BinaryCrossEntropy {
    /// Mean over samples and outputs, or sum.
    pub reduction: Reduction,
    /// k: one number, one per class or one per output.
    pub positive_weight: Option<Vec<f64>>,
    /// The axis of the classes that k has numbers for, as in the file, the axis of samples included;
    /// `None` is the first axis of a sample's outputs. (PyTorch broadcasts k from the last axis on: one per
    /// class is written `[C, 1]` there for outputs `[N, C, T]`, and `[C]` for `[N, T, C]`, which is −1 here.)
    pub class_axis: Option<isize>,
    /// Where the classes lie, where an axis was given; found by [`Loss::prepare`].
    axes: Option<Axes>,
    /// ω; NaN for a mean whose divisor [`Loss::prepare`] has not found yet.
    weight: f64,
}

impl BinaryCrossEntropy {
    /// The mean over samples, with all else as in [`BinaryCrossEntropy::new`].
    pub fn mean() -> Self {
        Self::new(Reduction::Mean)
    }

    /// The sum over samples, with all else as in [`BinaryCrossEntropy::new`].
    pub fn sum() -> Self {
        Self::new(Reduction::Sum)
    }

    /// With that reduction and no positive weight.
    pub fn new(reduction: Reduction) -> Self {
        Self {
            reduction,
            positive_weight: None,
            class_axis: None,
            axes: None,
            weight: match reduction {
                Reduction::Sum => 1.0,
                Reduction::Mean => f64::NAN,
            },
        }
    }

    /// Sets k.
    pub fn positive_weight(mut self, weights: Vec<f64>) -> Self {
        self.positive_weight = Some(weights);
        self
    }

    /// Sets the axis of the classes that k has numbers for.
    pub fn class_axis(mut self, axis: isize) -> Self {
        self.class_axis = Some(axis);
        self
    }

    /// 1 + (k−1)·y, the factor of softplus(−z) for output `c` of `outputs`.
    fn curvature(&self, c: usize, outputs: usize, y: f64) -> f64 {
        match &self.positive_weight {
            None => 1.0,
            Some(k) => {
                let entry = match &self.axes {
                    Some(axes) if k.len() == axes.classes => axes.class_of(c),
                    // One number serves all outputs, one per class its positions, one per output itself.
                    _ => c * k.len() / outputs,
                };
                1.0 + (k[entry] - 1.0) * y
            }
        }
    }

    /// The diagonal entry of the Hessian for output `c`: ω(1+(k−1)y)·σ(1−σ).
    fn diagonal(&self, sample: &Sample<'_>, c: usize) -> f64 {
        let y = number(&sample.target, c);
        // σ(1−σ) = e^{−|z|}/(1+e^{−|z|})²: neither factor cancels for large |z|.
        let e = (-sample.outputs[c].abs()).exp();
        self.weight * self.curvature(c, sample.outputs.len(), y) * e / ((1.0 + e) * (1.0 + e))
    }
}

impl Default for BinaryCrossEntropy {
    fn default() -> Self {
        Self::new(Reduction::Mean)
    }
}

impl Loss for BinaryCrossEntropy {
    fn name(&self) -> String {
        match &self.positive_weight {
            None => format!("bce({})", self.reduction),
            Some(k) => {
                let axis = self.class_axis.map(|axis| format!(", class axis {axis}"));
                format!(
                    "bce({}, positive weight {k:?}{})",
                    self.reduction,
                    axis.unwrap_or_default()
                )
            }
        }
    }

    fn prepare(
        &mut self,
        outputs: &OutputShape,
        targets: &mut dyn FnMut() -> Result<Option<TargetBatch>>,
    ) -> Result<()> {
        let each = outputs.count();
        if let Some(k) = &self.positive_weight {
            self.axes = match self.class_axis {
                Some(_) => Some(Axes::new(
                    &outputs.sample,
                    outputs.class_axis(self.class_axis)?,
                )),
                None => None,
            };
            let first = outputs.sample.first().copied().unwrap_or(1);
            let classes = self.axes.map_or(first, |axes| axes.classes);
            if ![1, classes, each].contains(&k.len()) {
                return Err(Error::Shape(format!(
                    "bce has {} positive weights for outputs of shape {:?} per sample: give one, or one \
                     per class ({classes}); {CLASS_AXIS} says on which axis the classes lie",
                    k.len(),
                    outputs.sample
                )));
            }
            if let Some(bad) = k.iter().find(|k| !(k.is_finite() && **k >= 0.0)) {
                return Err(Error::Value(format!(
                    "bce has the positive weight {bad}: it must be finite and not negative"
                )));
            }
        }
        let samples = walk_dense("bce", outputs, targets, &mut |n, c, value| {
            if !value.is_finite() {
                return Err(not_finite(n, value));
            }
            if self.curvature(c, each, value) < 0.0 {
                return Err(Error::Value(format!(
                    "bce: the target {value} of sample {n} makes its weight 1+(k-1)y negative: labels are \
                     between 0 and 1"
                )));
            }
            Ok(())
        })?;
        self.weight = match self.reduction {
            Reduction::Sum => 1.0,
            Reduction::Mean => 1.0 / (samples as f64 * each as f64),
        };
        Ok(())
    }

    fn value(&self, sample: &Sample<'_>) -> f64 {
        let mut sum = 0.0;
        for (c, &z) in sample.outputs.iter().enumerate() {
            let y = number(&sample.target, c);
            let softplus = (-z.abs()).exp().ln_1p() + (-z).max(0.0);
            sum += (1.0 - y) * z + self.curvature(c, sample.outputs.len(), y) * softplus;
        }
        self.weight * sum
    }

    fn gradient(&self, sample: &Sample<'_>, gradient: &mut [f64]) {
        for (c, (g, &z)) in gradient.iter_mut().zip(sample.outputs).enumerate() {
            let y = number(&sample.target, c);
            let sigma_of_minus = 1.0 / (1.0 + z.exp());
            let curvature = self.curvature(c, sample.outputs.len(), y);
            *g = self.weight * ((1.0 - y) - curvature * sigma_of_minus);
        }
    }

    fn hessian_product(&self, sample: &Sample<'_>, vector: &[f64], product: &mut [f64]) {
        for (c, (p, v)) in product.iter_mut().zip(vector).enumerate() {
            *p = self.diagonal(sample, c) * v;
        }
    }

    fn weight(&self, _sample: &Sample<'_>) -> f64 {
        self.weight
    }

    fn draws(&self) -> bool {
        true
    }

    /// Labels of the logistic distribution, output by output; a positive weight scales what they give as it scales
    /// the Hessian.
    fn draw(&self, sample: &Sample<'_>, draws: &mut Draws, column: &mut [f64]) {
        let outputs = sample.outputs.len();
        for (c, (column, &z)) in column.iter_mut().zip(sample.outputs).enumerate() {
            let y = number(&sample.target, c);
            let root = (self.weight * self.curvature(c, outputs, y)).sqrt();
            // Where the label is 1, with probability σ(z), the gradient is σ(z) − 1 = −σ(−z).
            *column = root
                * if draws.uniform() < 1.0 / (1.0 + (-z).exp()) {
                    -1.0 / (1.0 + z.exp())
                } else {
                    1.0 / (1.0 + (-z).exp())
                };
        }
    }

    fn signed(&self) -> bool {
        false
    }

    fn direction_squares(&self, sample: &Sample<'_>, squares: &mut [f64]) {
        for (r, square) in squares.iter_mut().enumerate() {
            *square = self.diagonal(sample, r);
        }
    }

    fn factor_columns(
        &self,
        sample: &Sample<'_>,
        directions: &[usize],
        factor: &mut [f64],
        signs: &mut [f64],
    ) {
        let (outputs, directions) = (sample.outputs.len(), directions.iter().copied());
        diagonal_factor(outputs, directions, factor, signs, |r| {
            self.diagonal(sample, r).sqrt()
        });
    }

    fn factor(
        &self,
        sample: &Sample<'_>,
        directions: Range<usize>,
        factor: &mut [f64],
        signs: &mut [f64],
    ) {
        let outputs = sample.outputs.len();
        diagonal_factor(outputs, directions, factor, signs, |r| {
            self.diagonal(sample, r).sqrt()
        });
    }

    fn accuracy(&self, sample: &Sample<'_>) -> Option<(usize, usize)> {
        let right = |(c, z): (usize, &f64)| (*z > 0.0) == (number(&sample.target, c) > 0.5);
        let count = sample.outputs.iter().enumerate().filter(|&e| right(e));
        Some((count.count(), sample.outputs.len()))
    }
}
