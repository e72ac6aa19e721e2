//! A Hessian that the user gives, sample by sample.

use super::eigen::eigen_magnitudes;
use super::reduction::missing;
use super::{Loss, OutputShape, Sample, Target, TargetBatch};
use crate::error::{Error, Result};

/// ∇²_z ℓ_n is the target itself: C×C numbers per sample, symmetric, indefinite allowed.
///
/// It has no value (NaN) and no gradient unless they are given too ([`GivenHessian::with_gradient`],
/// [`GivenHessian::with_values`]); without a gradient, only G and what follows from it can be computed. Factors come from the eigendecomposition and carry signs.
///
/// ```
/// use hessblock::loss::{GivenHessian, Loss, Sample, Target};
/// let sample = Sample { index: 0, outputs: &[0.0, 0.0], target: Target::Dense(&[0.0, 1.0, 1.0, 0.0]) };
/// let (mut factor, mut signs) = ([0.0; 4], [0.0; 2]);
/// GivenHessian::default().factor(&sample, 0..2, &mut factor, &mut signs);
/// assert_eq!(signs, [-1.0, 1.0]);
/// ```
#[derive(Clone, Debug, Default)]
pub struct GivenHessian {
    gradient: Option<Vec<f64>>,
    values: Option<Vec<f64>>,
    weight: Option<f64>,
}

impl GivenHessian {
    /// The same, where value, gradient and Hessian of every sample hold this weight of the reduction, such as 1/N of a mean
    /// ([`Loss::weight`]).
    #[must_use]
    pub fn with_weight(self, weight: f64) -> Self {
        Self {
            weight: Some(weight),
            ..self
        }
    }

    /// The same with ℓ_n too: `[samples]`, a number for every sample of the data.
    #[must_use]
    pub fn with_values(self, values: Vec<f64>) -> Self {
        Self {
            values: Some(values),
            ..self
        }
    }

    /// With ∇_z ℓ_n too: `[samples, outputs]`, row-major, a row for every sample of the data.
    pub fn with_gradient(gradient: Vec<f64>) -> Self {
        Self {
            gradient: Some(gradient),
            ..Self::default()
        }
    }

    /// Refuses values that are not one finite number for each sample.
    fn check_values(&self, samples: usize) -> Result<()> {
        let Some(values) = &self.values else {
            return Ok(());
        };
        if values.len() < samples {
            return Err(Error::Shape(format!(
                "{} values of the loss are given for {samples} samples",
                values.len()
            )));
        }
        match values.iter().position(|v| !v.is_finite()) {
            None => Ok(()),
            Some(at) => Err(Error::Value(format!(
                "the value of the loss given for sample {at} is {}",
                values[at]
            ))),
        }
    }

    /// Refuses a gradient that has not one finite row for each sample.
    fn check_gradient(&self, outputs: usize, samples: usize) -> Result<()> {
        let Some(gradient) = &self.gradient else {
            return Ok(());
        };
        if gradient.len() < samples * outputs || !gradient.len().is_multiple_of(outputs.max(1)) {
            return Err(Error::Shape(format!(
                "the gradient of the loss holds {} numbers, and [{samples}, {outputs}] are needed: a row of the \
                 network's {outputs} outputs for each of {samples} samples",
                gradient.len()
            )));
        }
        match gradient.iter().position(|g| !g.is_finite()) {
            None => Ok(()),
            Some(at) => Err(Error::Value(format!(
                "the gradient of the loss given for sample {} holds {}: mend the file",
                at / outputs.max(1),
                gradient[at]
            ))),
        }
    }
}

/// How far from symmetric a given Hessian may be, relative to its largest entry: some rounding in f32.
const ASYMMETRY: f64 = 1e-5;

impl Loss for GivenHessian {
    fn name(&self) -> String {
        "given-hessian".into()
    }

    fn prepare(
        &mut self,
        outputs: &OutputShape,
        targets: &mut dyn FnMut() -> Result<Option<TargetBatch>>,
    ) -> Result<()> {
        let c = outputs.count();
        let (mut samples, mut last) = (0, 0);
        while let Some(batch) = targets()? {
            let TargetBatch::Dense { first, shape, .. } = &batch else {
                return Err(match batch {
                    TargetBatch::None(_) => missing("given-hessian"),
                    _ => Error::Shape(
                        "given-hessian needs floating-point targets, and the file holds integers: \
                         convert it"
                            .into(),
                    ),
                });
            };
            if shape.iter().product::<usize>() != c * c {
                return Err(Error::Shape(format!(
                    "given-hessian needs targets of shape [{c}, {c}] per sample for the network's outputs \
                     {:?}, but the targets have shape {shape:?} per sample",
                    outputs.sample
                )));
            }
            for k in 0..batch.samples() {
                let Target::Dense(hessian) = batch.get(k) else {
                    continue;
                };
                check(first + k, c, hessian)?;
            }
            samples += batch.samples();
            last = last.max(first + batch.samples());
        }
        if samples == 0 {
            return Err(missing("given-hessian"));
        }
        self.check_values(last)?;
        self.check_gradient(c, last)
    }

    fn has_gradient(&self) -> bool {
        self.gradient.is_some()
    }

    fn value(&self, sample: &Sample<'_>) -> f64 {
        let given = self.values.as_ref().and_then(|v| v.get(sample.index));
        given.copied().unwrap_or(f64::NAN)
    }

    fn gradient(&self, sample: &Sample<'_>, gradient: &mut [f64]) {
        let start = sample.index * gradient.len();
        let given = self.gradient.as_ref();
        match given.and_then(|g| g.get(start..start + gradient.len())) {
            Some(row) => gradient.copy_from_slice(row),
            None => gradient.fill(f64::NAN),
        }
    }

    fn weight(&self, _sample: &Sample<'_>) -> f64 {
        self.weight.unwrap_or(1.0)
    }

    fn direction_squares(&self, sample: &Sample<'_>, squares: &mut [f64]) {
        let outputs = sample.outputs.len();
        eigen_magnitudes(self.dense_hessian(sample), outputs, squares);
    }

    fn hessian_product(&self, sample: &Sample<'_>, vector: &[f64], product: &mut [f64]) {
        let Target::Dense(hessian) = sample.target else {
            product.fill(f64::NAN);
            return;
        };
        let c = vector.len();
        // The symmetric part, as in the factor.
        for (i, p) in product.iter_mut().enumerate() {
            let entry = |j: usize| 0.5 * (hessian[i * c + j] + hessian[j * c + i]);
            *p = vector.iter().enumerate().map(|(j, v)| entry(j) * v).sum();
        }
    }
}

/// Refuses a Hessian that is not finite or not symmetric.
fn check(sample: usize, c: usize, hessian: &[f64]) -> Result<()> {
    if let Some(bad) = hessian.iter().find(|h| !h.is_finite()) {
        return Err(super::reduction::not_finite(sample, *bad));
    }
    let largest = hessian.iter().fold(0.0_f64, |m, h| m.max(h.abs()));
    for i in 0..c {
        for j in 0..i {
            let (lower, upper) = (hessian[i * c + j], hessian[j * c + i]);
            if (lower - upper).abs() > ASYMMETRY * largest {
                return Err(Error::Value(format!(
                    "the Hessian given for sample {sample} is not symmetric: entry ({i}, {j}) is {lower} and \
                     ({j}, {i}) is {upper}"
                )));
            }
        }
    }
    Ok(())
}
