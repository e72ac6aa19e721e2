//! The factor of a Hessian that has no closed form: its eigendecomposition.

use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::evd::{ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch};
use faer::{Mat, MatRef, Par};
use std::ops::Range;

/// ∇²ℓ = U Λ Uᵀ = S·diag(sign λ)·Sᵀ with S = U·√|Λ|: writes columns `directions` of S and their signs.
///
/// `hessian` is row-major `[outputs, outputs]` (its symmetric part is taken); directions are in the order
/// of ascending λ; `factor` is direction-major `[directions, outputs]`. A Hessian that is not finite gives
/// a factor of NaN, which the caller's checks of finite values find.
pub(super) fn eigen_factor(
    hessian: Vec<f64>,
    outputs: usize,
    directions: Range<usize>,
    factor: &mut [f64],
    signs: &mut [f64],
) {
    if outputs == 0 {
        return;
    }
    let mut vectors = Mat::<f64>::zeros(outputs, outputs);
    let Some(values) = eigenvalues(hessian, outputs, Some(&mut vectors)) else {
        factor.fill(f64::NAN);
        signs.fill(1.0);
        return;
    };
    let columns = factor.chunks_exact_mut(outputs).zip(signs.iter_mut());
    for (r, (column, sign)) in directions.zip(columns) {
        let value = values.column_vector()[r];
        let scale = value.abs().sqrt();
        *sign = if value < 0.0 { -1.0 } else { 1.0 };
        for (c, entry) in column.iter_mut().enumerate() {
            *entry = scale * vectors[(c, r)];
        }
    }
}

/// |λ| of every eigenvalue in ascending order of λ: the squares of the columns that [`eigen_factor`] gives. NaN for a
/// Hessian that is not finite.
pub(super) fn eigen_magnitudes(hessian: Vec<f64>, outputs: usize, magnitudes: &mut [f64]) {
    if outputs == 0 {
        return;
    }
    match eigenvalues(hessian, outputs, None) {
        Some(values) => {
            for (r, magnitude) in magnitudes.iter_mut().enumerate() {
                *magnitude = values.column_vector()[r].abs();
            }
        }
        None => magnitudes.fill(f64::NAN),
    }
}

/// The eigenvalues of the symmetric part of a row-major matrix in ascending order, their vectors as the columns of
/// `vectors`; `None` where they cannot be found, as for a matrix that is not finite.
fn eigenvalues(
    mut hessian: Vec<f64>,
    outputs: usize,
    vectors: Option<&mut Mat<f64>>,
) -> Option<Diag<f64>> {
    symmetrise(&mut hessian, outputs);
    if !hessian.iter().all(|h| h.is_finite()) {
        return None;
    }
    let compute = match vectors {
        Some(_) => ComputeEigenvectors::Yes,
        None => ComputeEigenvectors::No,
    };
    let mut values = Diag::<f64>::zeros(outputs);
    // Sequential: samples are what runs in parallel, and the bits must not depend on the thread count.
    let scratch = self_adjoint_evd_scratch::<f64>(outputs, compute, Par::Seq, Default::default());
    self_adjoint_evd(
        MatRef::from_row_major_slice(&hessian, outputs, outputs),
        values.as_mut(),
        vectors.map(|vectors| vectors.as_mut()),
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(scratch)),
        Default::default(),
    )
    .ok()?;
    Some(values)
}

/// The symmetric part of a row-major matrix.
fn symmetrise(hessian: &mut [f64], outputs: usize) {
    for i in 0..outputs {
        for j in 0..i {
            let mean = 0.5 * (hessian[i * outputs + j] + hessian[j * outputs + i]);
            hessian[i * outputs + j] = mean;
            hessian[j * outputs + i] = mean;
        }
    }
}
