//! Squared error, PyTorch's `MSELoss`.

use super::reduction::{not_finite, number, walk_dense};
use super::{Loss, OutputShape, Reduction, Sample, TargetBatch, diagonal_factor};
use crate::error::Result;
use crate::random::Draws;
use std::ops::Range;

/// ℓ = ω Σ_c (z_c − y_c)², so ∇²ℓ = 2ω·I and S = √(2ω)·I.
///
/// ω is 1 for a sum; for a mean 1/(N·C), with C all outputs of a sample.
///
/// ```
/// use hessblock::loss::{Reduction, SquaredError};
/// let loss = SquaredError::new(Reduction::Sum);
/// ```
#[derive(Clone, Debug)]
pub struct SquaredError {
    /// Mean over samples and outputs, or sum.
    pub reduction: Reduction,
    /// ω; NaN for a mean whose divisor [`Loss::prepare`] has not found yet.
    weight: f64,
}

impl SquaredError {
    /// The mean over samples, with all else as in [`SquaredError::new`].
    pub fn mean() -> Self {
        Self::new(Reduction::Mean)
    }

    /// The sum over samples, with all else as in [`SquaredError::new`].
    pub fn sum() -> Self {
        Self::new(Reduction::Sum)
    }

    /// With that reduction.
    pub fn new(reduction: Reduction) -> Self {
        Self {
            reduction,
            weight: match reduction {
                Reduction::Sum => 1.0,
                Reduction::Mean => f64::NAN,
            },
        }
    }
}

impl Default for SquaredError {
    fn default() -> Self {
        Self::new(Reduction::Mean)
    }
}

impl Loss for SquaredError {
    fn name(&self) -> String {
        format!("mse({})", self.reduction)
    }

    fn prepare(
        &mut self,
        outputs: &OutputShape,
        targets: &mut dyn FnMut() -> Result<Option<TargetBatch>>,
    ) -> Result<()> {
        let samples = walk_dense("mse", outputs, targets, &mut |n, _, value| {
            if value.is_finite() {
                Ok(())
            } else {
                Err(not_finite(n, value))
            }
        })?;
        let each = outputs.count();
        self.weight = match self.reduction {
            Reduction::Sum => 1.0,
            Reduction::Mean => 1.0 / (samples as f64 * each as f64),
        };
        Ok(())
    }

    fn value(&self, sample: &Sample<'_>) -> f64 {
        let residual = |(c, z): (usize, &f64)| z - number(&sample.target, c);
        let squares = sample.outputs.iter().enumerate().map(residual);
        self.weight * squares.map(|d| d * d).sum::<f64>()
    }

    fn gradient(&self, sample: &Sample<'_>, gradient: &mut [f64]) {
        for (c, (g, z)) in gradient.iter_mut().zip(sample.outputs).enumerate() {
            *g = 2.0 * self.weight * (z - number(&sample.target, c));
        }
    }

    fn hessian_product(&self, _sample: &Sample<'_>, vector: &[f64], product: &mut [f64]) {
        for (p, v) in product.iter_mut().zip(vector) {
            *p = 2.0 * self.weight * v;
        }
    }

    fn weight(&self, _sample: &Sample<'_>) -> f64 {
        self.weight
    }

    fn draws(&self) -> bool {
        true
    }

    /// (z − y)² is, but for constants, the negative logarithm of a normal density of variance 1/2.
    fn draw(&self, _sample: &Sample<'_>, draws: &mut Draws, column: &mut [f64]) {
        let scale = (2.0 * self.weight).sqrt();
        column.iter_mut().for_each(|c| *c = scale * draws.normal());
    }

    fn signed(&self) -> bool {
        false
    }

    fn direction_squares(&self, _sample: &Sample<'_>, squares: &mut [f64]) {
        squares.fill(2.0 * self.weight);
    }

    fn factor_columns(
        &self,
        sample: &Sample<'_>,
        directions: &[usize],
        factor: &mut [f64],
        signs: &mut [f64],
    ) {
        let (outputs, directions) = (sample.outputs.len(), directions.iter().copied());
        diagonal_factor(outputs, directions, factor, signs, |_| {
            (2.0 * self.weight).sqrt()
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
        diagonal_factor(outputs, directions, factor, signs, |_| {
            (2.0 * self.weight).sqrt()
        });
    }
}
