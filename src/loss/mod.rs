//! Losses: value, gradient, Hessian and the factor S of it, per sample, on the host in double precision.
//!
//! A loss sees one sample's outputs z (flattened, row-major) and target. It never forms S whole: it is
//! asked for ranges of directions. This folder must not know of networks or devices.

mod axes;
mod bce;
mod cross_entropy;
mod curvature;
mod eigen;
mod given;
mod parse;
mod rank;
mod reduction;
mod squared_error;
#[cfg(test)]
mod tests;

pub use axes::OutputShape;
pub use bce::BinaryCrossEntropy;
pub use cross_entropy::CrossEntropy;
#[doc(hidden)]
pub use curvature::Curved;
pub use curvature::{CURVATURES, Curvature};
pub use given::GivenHessian;
pub use parse::{LossOptions, NAMES, canonical, parse};
pub use rank::{RankCut, RankReport};
pub(crate) use rank::{check_tolerance, count_kept};
pub use reduction::Reduction;
pub use squared_error::SquaredError;

pub use crate::random::Draws;

use crate::error::Result;
use std::ops::Range;

/// The target of one sample.
///
/// ```
/// use hessblock::loss::{CrossEntropy, Loss, Sample, Target};
/// let label = Sample { index: 0, outputs: &[1.0, 0.5], target: Target::Classes(&[1]) };
/// let probabilities = Sample { target: Target::Dense(&[0.0, 1.0]), ..label };
/// let loss = CrossEntropy::sum();
/// assert!((loss.value(&label) - loss.value(&probabilities)).abs() < 1e-15);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target<'a> {
    /// Class indices, one per position.
    Classes(&'a [i64]),
    /// Dense values: class probabilities, labels or regression targets, shaped as the outputs; or the
    /// sample's Hessian for [`GivenHessian`].
    Dense(&'a [f64]),
    /// None.
    None,
}

/// One sample as a loss sees it.
///
/// ```
/// use hessblock::loss::{CrossEntropy, Loss, Sample, Target};
/// let sample = Sample { index: 0, outputs: &[0.0, 0.0], target: Target::Classes(&[1]) };
/// assert!((CrossEntropy::sum().value(&sample) - 2f64.ln()).abs() < 1e-15);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// Absolute index in the data.
    pub index: usize,
    /// Outputs z, flattened: `[outputs]`.
    pub outputs: &'a [f64],
    /// Target.
    pub target: Target<'a>,
}

/// A loss ℓ(z, y), summed over samples; the reduction's weight of a sample is part of ℓ.
///
/// ```
/// use hessblock::loss::{Loss, Sample};
/// /// ℓ = Σ_c cosh(z_c)
/// #[derive(Debug)]
/// struct Cosh;
/// impl Loss for Cosh {
///     fn name(&self) -> String { "cosh".into() }
///     fn value(&self, s: &Sample<'_>) -> f64 { s.outputs.iter().map(|z| z.cosh()).sum() }
///     fn gradient(&self, s: &Sample<'_>, gradient: &mut [f64]) {
///         for (g, z) in gradient.iter_mut().zip(s.outputs) { *g = z.sinh() }
///     }
///     fn hessian_product(&self, s: &Sample<'_>, v: &[f64], product: &mut [f64]) {
///         for ((p, z), v) in product.iter_mut().zip(s.outputs).zip(v) { *p = z.cosh() * v }
///     }
/// }
/// ```
pub trait Loss: Send + Sync + std::fmt::Debug {
    /// Name and options, for messages and provenance.
    fn name(&self) -> String;

    /// Looks at the shape of the network's outputs and all targets once, before any work: checks them and
    /// finds the divisor of a mean.
    ///
    /// `targets` gives the targets of consecutive ranges of samples.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] where the targets do not fit the outputs, [`crate::Error::Value`] for a label
    /// out of range, naming the sample.
    fn prepare(
        &mut self,
        _outputs: &OutputShape,
        _targets: &mut dyn FnMut() -> Result<Option<TargetBatch>>,
    ) -> Result<()> {
        Ok(())
    }

    /// Whether the loss has a value and a gradient; without them (a Hessian given by the user) there is G
    /// but no exact Hessian.
    fn has_gradient(&self) -> bool {
        true
    }

    /// ℓ_n.
    fn value(&self, sample: &Sample<'_>) -> f64;

    /// ∇_z ℓ_n: `[outputs]`.
    fn gradient(&self, sample: &Sample<'_>, gradient: &mut [f64]);

    /// ∇²_z ℓ_n · v: `[outputs]`.
    fn hessian_product(&self, sample: &Sample<'_>, vector: &[f64], product: &mut [f64]);

    /// ∇²_z ℓ_n · v for several v: `[vectors, outputs]`, the products alike.
    fn hessian_products(&self, sample: &Sample<'_>, vectors: &[f64], products: &mut [f64]) {
        let each = sample.outputs.len().max(1);
        let vectors = vectors.chunks_exact(each);
        for (vector, product) in vectors.zip(products.chunks_exact_mut(each)) {
            self.hessian_product(sample, vector, product);
        }
    }

    /// R, the number of directions of S for that many outputs.
    fn directions(&self, outputs: usize) -> usize {
        outputs
    }

    /// Whether directions carry signs: ∇²ℓ = S·diag(±1)·Sᵀ. The default factor does.
    fn signed(&self) -> bool {
        true
    }

    /// Columns `directions` of S, direction-major (`factor[r·outputs + c]` = S[c, r]), and their signs.
    ///
    /// The default takes the eigendecomposition of the Hessian.
    fn factor(
        &self,
        sample: &Sample<'_>,
        directions: Range<usize>,
        factor: &mut [f64],
        signs: &mut [f64],
    ) {
        eigen::eigen_factor(
            self.dense_hessian(sample),
            sample.outputs.len(),
            directions,
            factor,
            signs,
        );
    }

    /// ‖S_r‖² of every direction r: `[directions]`. What a rank is cut by ([`RankCut`]).
    ///
    /// The default makes S; a loss of many outputs knows better.
    fn direction_squares(&self, sample: &Sample<'_>, squares: &mut [f64]) {
        let (outputs, directions) = (sample.outputs.len(), squares.len());
        let mut factor = vec![0.0; directions * outputs];
        let mut signs = vec![1.0; directions];
        self.factor(sample, 0..directions, &mut factor, &mut signs);
        for (square, column) in squares.iter_mut().zip(factor.chunks(outputs.max(1))) {
            *square = column.iter().map(|entry| entry * entry).sum();
        }
    }

    /// The columns of S of some directions, ascending, as [`Loss::factor`] gives them for a range.
    ///
    /// The default makes all from the first to the last.
    fn factor_columns(
        &self,
        sample: &Sample<'_>,
        directions: &[usize],
        factor: &mut [f64],
        signs: &mut [f64],
    ) {
        let (Some(&first), Some(&last)) = (directions.first(), directions.last()) else {
            return;
        };
        let (outputs, all) = (sample.outputs.len(), first..last + 1);
        if all.len() == directions.len() {
            return self.factor(sample, all, factor, signs);
        }
        let mut columns = vec![0.0; all.len() * outputs];
        let mut own = vec![1.0; all.len()];
        self.factor(sample, all, &mut columns, &mut own);
        for (k, r) in directions.iter().map(|r| r - first).enumerate() {
            factor[k * outputs..(k + 1) * outputs]
                .copy_from_slice(&columns[r * outputs..(r + 1) * outputs]);
            signs[k] = own[r];
        }
    }

    /// ∇²_z ℓ_n, row-major `[outputs, outputs]`.
    fn dense_hessian(&self, sample: &Sample<'_>) -> Vec<f64> {
        let outputs = sample.outputs.len();
        let mut hessian = vec![0.0; outputs * outputs];
        let mut unit = vec![0.0; outputs];
        for (c, row) in hessian.chunks_exact_mut(outputs.max(1)).enumerate() {
            unit[c] = 1.0;
            self.hessian_product(sample, &unit, row);
            unit[c] = 0.0;
        }
        hessian
    }

    /// ω_n, the weight that the reduction (and the target's class) gives the sample: ∇ℓ_n is that of the sample's
    /// own loss times ω_n. The mean over the positions that count where there are several.
    fn weight(&self, _sample: &Sample<'_>) -> f64 {
        1.0
    }

    /// Whether the loss is the negative logarithm of a distribution that [`Loss::draw`] draws from.
    fn draws(&self) -> bool {
        false
    }

    /// Draws a target ỹ from the distribution that the outputs stand for, and gives what has, over all draws,
    /// the mean of squares `E[column·columnᵀ] = ∇²_z ℓ_n`: √ω times the gradient for ỹ of the sample's loss without
    /// its weight. Called where [`Loss::draws`] alone.
    fn draw(&self, _sample: &Sample<'_>, _draws: &mut Draws, column: &mut [f64]) {
        column.fill(f64::NAN);
    }

    /// Whether the prediction is right, for losses with classes: the count of right and of all kept positions.
    fn accuracy(&self, _sample: &Sample<'_>) -> Option<(usize, usize)> {
        None
    }
}

/// The targets of a range of samples.
///
/// ```
/// use hessblock::loss::{Target, TargetBatch};
/// // The labels of samples 10 and 11, of one position each.
/// let batch = TargetBatch::Classes { first: 10, shape: vec![], values: vec![3, 1] };
/// assert_eq!(batch.samples(), 2);
/// assert_eq!(batch.get(1), Target::Classes(&[1]));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum TargetBatch {
    /// Integers: class indices, one per position.
    Classes {
        /// Index of the first sample.
        first: usize,
        /// Shape per sample, `[positions…]`.
        shape: Vec<usize>,
        /// `[samples, shape…]`.
        values: Vec<i64>,
    },
    /// Dense values.
    Dense {
        /// Index of the first sample.
        first: usize,
        /// Shape per sample.
        shape: Vec<usize>,
        /// `[samples, shape…]`.
        values: Vec<f64>,
    },
    /// No targets, for that many samples.
    None(usize),
}

impl TargetBatch {
    /// Number of samples.
    pub fn samples(&self) -> usize {
        match self {
            TargetBatch::Classes { shape, values, .. } => values.len() / each(shape).max(1),
            TargetBatch::Dense { shape, values, .. } => values.len() / each(shape).max(1),
            TargetBatch::None(samples) => *samples,
        }
    }

    /// The target of the `k`-th sample of the batch.
    pub fn get(&self, k: usize) -> Target<'_> {
        match self {
            TargetBatch::Classes { shape, values, .. } => {
                Target::Classes(&values[k * each(shape)..(k + 1) * each(shape)])
            }
            TargetBatch::Dense { shape, values, .. } => {
                Target::Dense(&values[k * each(shape)..(k + 1) * each(shape)])
            }
            TargetBatch::None(_) => Target::None,
        }
    }
}

/// Numbers in an array of that shape.
fn each(shape: &[usize]) -> usize {
    shape.iter().product()
}

/// Columns of a diagonal S, `entry(r)` at (r, r), as [`Loss::factor`] gives them; all signs are +1.
fn diagonal_factor(
    outputs: usize,
    directions: impl Iterator<Item = usize>,
    factor: &mut [f64],
    signs: &mut [f64],
    entry: impl Fn(usize) -> f64,
) {
    factor.fill(0.0);
    signs.fill(1.0);
    for (column, r) in factor.chunks_exact_mut(outputs.max(1)).zip(directions) {
        column[r] = entry(r);
    }
}
