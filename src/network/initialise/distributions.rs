//! Numbers of the distributions that weights are drawn from.

use crate::random::Draws;
use faer::Mat;

/// Standard deviation of [`super::Initialiser::TruncatedNormal`] before it is cut.
const TRUNCATED_DEVIATION: f64 = 0.05;
/// Where it is cut, in standard deviations.
const CUT: f64 = 2.0;

pub(super) fn normals(count: usize, deviation: f64, draws: &mut Draws) -> Vec<f64> {
    (0..count).map(|_| deviation * draws.normal()).collect()
}

pub(super) fn truncated(count: usize, draws: &mut Draws) -> Vec<f64> {
    let mut one = || loop {
        let normal = draws.normal();
        if normal.abs() <= CUT {
            return TRUNCATED_DEVIATION * normal;
        }
    };
    (0..count).map(|_| one()).collect()
}

/// A `rows`×`columns` matrix, row-major, whose shorter side is orthonormal, uniform among all such.
///
/// Q of a normal matrix with the signs of R's diagonal, without which it would not be uniform (Mezzadri, "How to
/// generate random matrices from the classical compact groups", 2007).
pub(super) fn orthogonal(rows: usize, columns: usize, draws: &mut Draws) -> Vec<f64> {
    let (long, short) = (rows.max(columns), rows.min(columns));
    let normal = Mat::from_fn(long, short, |_, _| draws.normal());
    let factors = normal.qr();
    let (q, r) = (factors.compute_thin_Q(), factors.thin_R());
    let entry = |i: usize, j: usize| q[(i, j)] * r[(j, j)].signum();
    let mut values = Vec::with_capacity(rows * columns);
    for row in 0..rows {
        for column in 0..columns {
            values.push(match rows >= columns {
                true => entry(row, column),
                false => entry(column, row),
            });
        }
    }
    values
}
