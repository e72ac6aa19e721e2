//! Which matrix is meant: G, H, their difference, or one of the Fisher matrices.

use super::{Loss, Sample};
use crate::error::{Error, Result};
use crate::random::Draws;
use crate::setting::{CURVATURE, LOSS_GRADIENT, MC_SAMPLES};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Range;

/// A matrix of the shape of the Hessian.
///
/// ```
/// # use hessblock::data::Dataset;
/// # use hessblock::loss::CrossEntropy;
/// # use hessblock::network::builder::Builder;
/// use hessblock::{Curvature, Device, Precision, Session};
/// # use ndarray::{arr1, arr2};
/// # let network = Builder::new(&[3]).linear("fc1", 4).tanh().linear("fc2", 2).initialize(0).build()?;
/// # let data = Dataset::from_arrays(arr2(&[[0.1, 0.2, 0.3], [0.5, -0.4, 0.0]]), arr1(&[0i64, 1]));
/// # let session = Session::builder(network).data(data).loss(CrossEntropy::mean())
/// #     .device(Device::cpu(Precision::F64)).build()?;
/// for curvature in [Curvature::Ggn, Curvature::Exact, Curvature::McGgn { samples: 10, seed: 1 }] {
///     println!("trace of {curvature}: {:.3}", session.operator(curvature).trace()?);
/// }
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Curvature {
    /// G = Σ_n J_nᵀ ∇²ℓ_n J_n, the generalized Gauss-Newton matrix (Skorski 2021: the approximate chain rule).
    #[default]
    Ggn,
    /// H, the Hessian.
    Exact,
    /// H − G = Σ_n Σ_c (∂ℓ_n/∂z_c) ∇²_w z_{n,c}, computed as itself.
    Residual,
    /// Σ_n ω_n g_n g_nᵀ, with g_n the gradient of the sample's loss without its weight ω_n ([`Loss::weight`]).
    EmpiricalFisher,
    /// G with ∇²ℓ_n estimated by draws from the model's own distribution ([`Loss::draw`]).
    McGgn {
        /// Draws per sample.
        samples: u32,
        /// Key of the draws; with the sample's index and the draw's number it decides each of them.
        seed: u64,
    },
}

/// The names that people give.
pub const CURVATURES: [&str; 5] = ["ggn", "exact", "residual", "empirical-fisher", "mc-ggn"];

impl fmt::Display for Curvature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Curvature::Ggn => "ggn",
            Curvature::Exact => "exact",
            Curvature::Residual => "residual",
            Curvature::EmpiricalFisher => "empirical-fisher",
            Curvature::McGgn { .. } => "mc-ggn",
        })
    }
}

impl Curvature {
    /// From its name, or another name that is in use: `gn` and `gauss-newton` for `ggn`, `hessian` for `exact`. Draws and
    /// seed count for `mc-ggn` alone.
    ///
    /// # Errors
    /// [`Error::Request`] for an unknown name, with the nearest.
    pub fn parse(name: &str, samples: u32, seed: u64) -> Result<Curvature> {
        Ok(match name {
            "ggn" | "gn" | "gauss-newton" => Curvature::Ggn,
            "exact" | "hessian" => Curvature::Exact,
            "residual" => Curvature::Residual,
            "empirical-fisher" => Curvature::EmpiricalFisher,
            "mc-ggn" => Curvature::McGgn { samples, seed },
            _ => return Err(Error::unknown("curvature", name, &CURVATURES)),
        })
    }

    /// How people write the matrix: G, H, H − G, F.
    pub fn symbol(self) -> &'static str {
        match self {
            Curvature::Ggn => "G",
            Curvature::Exact => "H",
            Curvature::Residual => "H − G",
            Curvature::EmpiricalFisher => "F (empirical)",
            Curvature::McGgn { .. } => "G (Monte Carlo)",
        }
    }

    /// Whether second derivatives of the network are part of it.
    pub fn needs_second_derivatives(self) -> bool {
        matches!(self, Curvature::Exact | Curvature::Residual)
    }

    /// Whether a loss gives what this matrix needs.
    ///
    /// # Errors
    /// [`Error::Request`] saying what is missing.
    pub fn check(self, loss: &dyn Loss) -> Result<()> {
        let needs_gradient = self.needs_second_derivatives() || self == Curvature::EmpiricalFisher;
        if needs_gradient && !loss.has_gradient() {
            return Err(Error::Request(format!(
                "{CURVATURE} {self} needs the gradient of the loss in the outputs beside its Hessian: give it by \
                 {LOSS_GRADIENT} FILE, [samples, outputs]"
            )));
        }
        if let Curvature::McGgn { samples, .. } = self {
            if samples == 0 {
                return Err(Error::Request(format!(
                    "{MC_SAMPLES} 0: a Monte-Carlo estimate needs one draw at least"
                )));
            }
            if !loss.draws() {
                return Err(Error::Request(format!(
                    "{CURVATURE} mc-ggn: the loss {} is that of no distribution to draw targets from; take ggn",
                    loss.name()
                )));
            }
        }
        Ok(())
    }
}

/// A loss whose Hessian in the outputs is that of a curvature: the rest of the house needs not know of Fisher
/// matrices.
#[derive(Debug)]
pub struct Curved<'a> {
    /// The loss.
    pub loss: &'a dyn Loss,
    /// The matrix.
    pub curvature: Curvature,
    /// Whether outputs that are not finite are no error.
    pub lenient: bool,
}

impl Curved<'_> {
    /// Column `r` of a factor S that the curvature brings; `None` where it is the loss's own.
    fn column(&self, sample: &Sample<'_>, r: usize, column: &mut [f64]) -> Option<()> {
        match self.curvature {
            Curvature::EmpiricalFisher => {
                // ω g gᵀ = (∇ℓ)(∇ℓ)ᵀ / ω, since ∇ℓ = ω g.
                let weight = self.loss.weight(sample);
                self.loss.gradient(sample, column);
                let scale = if weight > 0.0 {
                    weight.sqrt().recip()
                } else {
                    0.0
                };
                column.iter_mut().for_each(|c| *c *= scale);
            }
            Curvature::McGgn { samples, seed } => {
                let mut draws = Draws::new(seed, sample.index as u64, r as u32);
                self.loss.draw(sample, &mut draws, column);
                let scale = f64::from(samples).sqrt().recip();
                column.iter_mut().for_each(|c| *c *= scale);
            }
            _ => return None,
        }
        Some(())
    }
}

impl Loss for Curved<'_> {
    fn name(&self) -> String {
        self.loss.name()
    }

    fn has_gradient(&self) -> bool {
        self.loss.has_gradient()
    }

    fn weight(&self, sample: &Sample<'_>) -> f64 {
        self.loss.weight(sample)
    }

    fn value(&self, sample: &Sample<'_>) -> f64 {
        self.loss.value(sample)
    }

    fn gradient(&self, sample: &Sample<'_>, gradient: &mut [f64]) {
        self.loss.gradient(sample, gradient);
    }

    fn hessian_product(&self, sample: &Sample<'_>, vector: &[f64], product: &mut [f64]) {
        self.hessian_products(sample, vector, product);
    }

    /// Each column of S is made once for all vectors: draws cost more than products.
    fn hessian_products(&self, sample: &Sample<'_>, vectors: &[f64], products: &mut [f64]) {
        let each = sample.outputs.len().max(1);
        let mut column = vec![0.0; sample.outputs.len()];
        products.fill(0.0);
        for r in 0..self.directions(sample.outputs.len()) {
            if self.column(sample, r, &mut column).is_none() {
                return self.loss.hessian_products(sample, vectors, products);
            }
            let vectors = vectors.chunks_exact(each);
            for (vector, product) in vectors.zip(products.chunks_exact_mut(each)) {
                let along: f64 = column.iter().zip(vector).map(|(c, v)| c * v).sum();
                for (sum, c) in product.iter_mut().zip(&column) {
                    *sum += along * c;
                }
            }
        }
    }

    fn directions(&self, outputs: usize) -> usize {
        match self.curvature {
            Curvature::EmpiricalFisher => 1,
            Curvature::McGgn { samples, .. } => samples as usize,
            _ => self.loss.directions(outputs),
        }
    }

    fn signed(&self) -> bool {
        match self.curvature {
            Curvature::EmpiricalFisher | Curvature::McGgn { .. } => false,
            _ => self.loss.signed(),
        }
    }

    fn factor(
        &self,
        sample: &Sample<'_>,
        directions: Range<usize>,
        factor: &mut [f64],
        signs: &mut [f64],
    ) {
        signs.fill(1.0);
        let columns = factor.chunks_exact_mut(sample.outputs.len().max(1));
        for (r, column) in directions.clone().zip(columns) {
            if self.column(sample, r, column).is_none() {
                return self.loss.factor(sample, directions, factor, signs);
            }
        }
    }

    fn accuracy(&self, sample: &Sample<'_>) -> Option<(usize, usize)> {
        self.loss.accuracy(sample)
    }
}
