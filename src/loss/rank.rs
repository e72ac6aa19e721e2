//! S cut to the columns that matter, sample by sample, with a bound on what is left out.

use super::{Loss, Sample};
use crate::error::{Error, Result};
use crate::random::Draws;
use crate::setting::RANK_TOLERANCE;
use serde::Serialize;
use std::ops::Range;
use std::sync::Arc;

/// How much of [`RankCut`]'s tolerance the directions counted beforehand use: outputs in single precision may differ in
/// their last digits from pass to pass, and what they ask for must still fit in.
const COUNTED: f64 = 0.99;

/// A loss whose ∇²ℓ_n is cut to the columns of S_n that matter: `∇²ℓ_n = Σ_r s_r S_r S_rᵀ` loses the columns of the least
/// ‖S_r‖², as many as together hold no more than τ of `T_n = Σ_r ‖S_r‖²`.
///
/// `T_n` is tr ∇²ℓ_n for a convex loss, and Σ|λ| for one whose S comes from an eigendecomposition. With G_τ the matrix that
/// is left and `cut_n = Σ_{r cut} ‖S_r‖² ≤ τ·T_n`, for every vector v:
///
/// ```text
/// |vᵀ(G − G_τ)v| = |Σ_n Σ_{r cut} s_r (S_rᵀ J_n v)²| ≤ Σ_n λ_n ‖J_n v‖² ≤ Σ_n cut_n ‖J_n v‖² ≤ τ Σ_n T_n ‖J_n v‖²,
/// ```
///
/// λ_n the greatest eigenvalue of Σ_{r cut} S_r S_rᵀ, which is at most its trace cut_n. (For an eigendecomposition λ_n is
/// the greatest |eigenvalue| cut.) Without signs what is cut is a sum of squares: 0 ≤ G_τ ≤ G in the order of positive
/// semi-definite matrices, so that no diagonal entry, trace or eigenvalue grows; an entry obeys
/// |(G − G_τ)_ij| ≤ √((G − G_τ)_ii (G − G_τ)_jj).
///
/// No loss needs an eigendecomposition for it that has not one already. The columns of softmax are
/// `√(ωπ_r)·(e_r − π)`, of square `ωπ_r(1 − 2π_r + ‖π‖²)`: an O(C) rule. It keeps little more than
/// eigenvectors would: by interlacing, those of the k greatest eigenvalues of diag(π) − ππᵀ leave at least the sum of π over
/// all but its k + 1 greatest entries, the k greatest columns at most (1 + ‖π‖²) times that over all but the k greatest.
#[derive(Debug)]
pub struct RankCut {
    loss: Arc<dyn Loss>,
    tolerance: f64,
    directions: usize,
}

/// What was cut off the loss factors.
///
/// ```
/// # use hessblock::data::Dataset;
/// # use hessblock::loss::CrossEntropy;
/// # use hessblock::network::builder::Builder;
/// # use hessblock::{Device, Output, Part, Precision, Session};
/// # use ndarray::{arr1, arr2};
/// # let network = Builder::new(&[3]).linear("fc1", 100).initialize(0).build()?;
/// # let data = Dataset::from_arrays(arr2(&[[90.0, 2.0, -30.0], [-50.0, 40.0, 8.0]]), arr1(&[0i64, 1]));
/// # let session = Session::builder(network).data(data).loss(CrossEntropy::mean())
/// #     .device(Device::cpu(Precision::F32)).build()?;
/// let g = session.ggn().with_rank_tolerance(1e-3)?;
/// let rank = g.rank().expect("a tolerance was given");
/// println!("{} of {} directions are kept", rank.directions, rank.all_directions);
/// assert!(rank.mean_directions <= rank.directions as f64);
/// assert!(rank.cut <= rank.tolerance * rank.whole);
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RankReport {
    /// τ, as asked for.
    pub tolerance: f64,
    /// R: the most directions that a sample keeps.
    pub directions: usize,
    /// Directions of the loss.
    pub all_directions: usize,
    /// Directions that a sample keeps, on average.
    pub mean_directions: f64,
    /// The greatest share of Σ_r ‖S_r‖² that a sample has lost: τ at most.
    pub worst_share: f64,
    /// Σ_n Σ_{r cut} ‖S_r‖², of Σ_n Σ_r ‖S_r‖².
    pub cut: f64,
    /// Σ_n Σ_r ‖S_r‖².
    pub whole: f64,
}

/// What one sample keeps.
pub(crate) struct Kept {
    /// Directions, ascending.
    pub directions: Vec<usize>,
    /// Σ ‖S_r‖² of those cut.
    pub cut: f64,
    /// Σ ‖S_r‖² of all.
    pub whole: f64,
}

/// The fewest directions of the greatest squares, the first of equal ones first, that leave no more than `tolerance` of
/// all out; `most` at most.
fn keep(squares: &[f64], tolerance: f64, most: usize) -> Kept {
    let mut order: Vec<usize> = (0..squares.len()).collect();
    order.sort_by(|&a, &b| squares[b].total_cmp(&squares[a]).then(a.cmp(&b)));
    let whole: f64 = order.iter().rev().map(|&r| squares[r]).sum();
    let (mut cut, mut kept) = (0.0, order.len());
    while let Some(&least) = order[..kept].last() {
        // A NaN is kept: the factor's readers find it.
        let fits = cut + squares[least] <= tolerance * whole;
        if kept <= most && !fits {
            break;
        }
        cut += squares[least];
        kept -= 1;
    }
    order.truncate(kept);
    order.sort_unstable();
    Kept {
        directions: order,
        cut,
        whole,
    }
}

/// Refuses a tolerance that is no share.
pub(crate) fn check_tolerance(tolerance: f64) -> Result<()> {
    if (0.0..1.0).contains(&tolerance) {
        return Ok(());
    }
    Err(Error::Request(format!(
        "{RANK_TOLERANCE} {tolerance}: it is the share of every sample's Σ|λ(∇²ℓ)| that may be cut off, from 0 up to, but \
         not, 1"
    )))
}

impl RankCut {
    /// The loss, prepared, cut by τ to no more than so many directions.
    pub fn new(loss: Arc<dyn Loss>, tolerance: f64, directions: usize) -> Self {
        Self {
            loss,
            tolerance,
            directions,
        }
    }

    fn kept(&self, sample: &Sample<'_>) -> Vec<usize> {
        let squares = squares(self.loss.as_ref(), sample);
        keep(&squares, self.tolerance, self.directions).directions
    }
}

/// How many directions a sample needs, counted with a little of the tolerance to spare, and what it keeps of them in a
/// run.
pub(crate) fn count_kept(loss: &dyn Loss, sample: &Sample<'_>, tolerance: f64) -> (usize, Kept) {
    let squares = squares(loss, sample);
    let counted = keep(&squares, COUNTED * tolerance, usize::MAX);
    let counted = counted.directions.len();
    (counted, keep(&squares, tolerance, counted))
}

fn squares(loss: &dyn Loss, sample: &Sample<'_>) -> Vec<f64> {
    let mut squares = vec![0.0; loss.directions(sample.outputs.len())];
    loss.direction_squares(sample, &mut squares);
    squares
}

/// Columns of S made at once for products.
const TOGETHER: usize = 64;

impl Loss for RankCut {
    fn name(&self) -> String {
        format!("{}, rank tolerance {}", self.loss.name(), self.tolerance)
    }

    fn has_gradient(&self) -> bool {
        self.loss.has_gradient()
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

    /// Σ_r s_r S_r (S_rᵀ v) over the directions kept.
    fn hessian_products(&self, sample: &Sample<'_>, vectors: &[f64], products: &mut [f64]) {
        let outputs = sample.outputs.len().max(1);
        products.fill(0.0);
        for some in self.kept(sample).chunks(TOGETHER) {
            let mut columns = vec![0.0; some.len() * outputs];
            let mut signs = vec![1.0; some.len()];
            self.loss
                .factor_columns(sample, some, &mut columns, &mut signs);
            for (column, sign) in columns.chunks_exact(outputs).zip(&signs) {
                let vectors = vectors.chunks_exact(outputs);
                for (vector, product) in vectors.zip(products.chunks_exact_mut(outputs)) {
                    let along: f64 = column.iter().zip(vector).map(|(c, v)| c * v).sum();
                    for (sum, c) in product.iter_mut().zip(column) {
                        *sum += sign * along * c;
                    }
                }
            }
        }
    }

    fn dense_hessian(&self, sample: &Sample<'_>) -> Vec<f64> {
        let outputs = sample.outputs.len();
        let mut units = vec![0.0; outputs * outputs];
        units
            .iter_mut()
            .step_by(outputs + 1)
            .for_each(|one| *one = 1.0);
        let mut hessian = vec![0.0; outputs * outputs];
        self.hessian_products(sample, &units, &mut hessian);
        hessian
    }

    fn directions(&self, _outputs: usize) -> usize {
        self.directions
    }

    fn signed(&self) -> bool {
        self.loss.signed()
    }

    /// The columns kept, in their order; zeros behind those of a sample that keeps fewer than others.
    fn factor(
        &self,
        sample: &Sample<'_>,
        directions: Range<usize>,
        factor: &mut [f64],
        signs: &mut [f64],
    ) {
        factor.fill(0.0);
        signs.fill(1.0);
        let kept = self.kept(sample);
        let asked = directions.start.min(kept.len())..directions.end.min(kept.len());
        let (count, outputs) = (asked.len(), sample.outputs.len());
        if count > 0 {
            let (factor, signs) = (&mut factor[..count * outputs], &mut signs[..count]);
            self.loss
                .factor_columns(sample, &kept[asked], factor, signs);
        }
    }

    fn weight(&self, sample: &Sample<'_>) -> f64 {
        self.loss.weight(sample)
    }

    fn draws(&self) -> bool {
        self.loss.draws()
    }

    fn draw(&self, sample: &Sample<'_>, draws: &mut Draws, column: &mut [f64]) {
        self.loss.draw(sample, draws, column);
    }

    fn accuracy(&self, sample: &Sample<'_>) -> Option<(usize, usize)> {
        self.loss.accuracy(sample)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_columns_go_until_the_tolerance_is_used_up() {
        let squares = [0.1, 0.5, 0.0, 0.1, 0.3];
        let kept = |tolerance, most| keep(&squares, tolerance, most).directions;
        assert_eq!(kept(0.0, 9), [0, 1, 3, 4]);
        // Of equal ones the last goes first.
        assert_eq!(kept(0.11, 9), [0, 1, 4]);
        assert_eq!(kept(0.21, 9), [1, 4]);
        assert_eq!(kept(0.0, 1), [1]);
        let cut = keep(&squares, 0.21, 9);
        assert!((cut.cut - 0.2).abs() < 1e-15 && (cut.whole - 1.0).abs() < 1e-15);
        assert_eq!(keep(&[0.0; 3], 0.0, 9).directions, [0usize; 0]);
        assert_eq!(keep(&[f64::NAN, 1.0], 0.5, 9).directions, [0, 1]);
    }

    #[test]
    fn a_tolerance_is_a_share() {
        for bad in [-0.1, 1.0, f64::NAN, f64::INFINITY] {
            assert!(check_tolerance(bad).is_err(), "{bad}");
        }
        assert!(check_tolerance(0.0).is_ok() && check_tolerance(0.999).is_ok());
    }
}
