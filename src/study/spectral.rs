//! The largest singular value of a block: of one that was formed, and of one that only gives products.

use crate::error::Result;
use faer::{Mat, MatRef};

/// Steps of a bidiagonalisation at most.
pub(super) const STEPS: usize = 20;
/// Ritz residual, relative to the Ritz value, that ends one sooner.
const CLOSE: f64 = 1e-3;
/// A vector this much shorter than the Ritz value is rounding: the block has no further directions.
const NOTHING: f64 = 1e-7;

/// The largest singular value of a row-major block of `rows` rows, no more than it has columns.
///
/// It is the root of the largest eigenvalue of B Bᵀ, to working precision: the largest is the one that squaring does
/// not harm.
pub(super) fn largest(block: &[f64], rows: usize) -> f64 {
    let columns = block.len() / rows.max(1);
    let block = MatRef::from_row_major_slice(block, rows, columns);
    let gram: Mat<f64> = block * block.transpose();
    // Of a finite symmetric matrix the eigenvalues are found.
    let values = gram
        .self_adjoint_eigenvalues(faer::Side::Lower)
        .unwrap_or_default();
    values.last().map_or(0.0, |&value| value.max(0.0).sqrt())
}

/// On which side of a block B a vector stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// v, and Bv is asked for.
    Columns,
    /// u, and Bᵀu is asked for.
    Rows,
}

/// A spectral norm, found from below.
#[derive(Clone, Copy, Debug)]
pub(super) struct Norm {
    /// The largest Ritz value θ ≤ ‖B‖.
    pub value: f64,
    /// ‖Bᵀu − θv‖: a singular value of B lies within it of θ.
    pub residual: f64,
}

/// A bidiagonalisation under way: B V = U R, Bᵀ U = V Rᵀ + β v eᵀ, with R upper bidiagonal.
struct Bidiagonal {
    /// R's diagonal.
    alphas: Vec<f64>,
    /// R's entries above it, and the last β.
    betas: Vec<f64>,
    rows: Vec<Vec<f64>>,
    columns: Vec<Vec<f64>>,
    norm: Norm,
    done: bool,
}

/// Removes from `vector` what lies along `basis`, normalises it and returns what its length was.
///
/// Once with what the recurrence leaves out, twice for what rounding left (Giraud and others 2005).
fn orthonormalise(vector: &mut [f64], basis: &[Vec<f64>]) -> f64 {
    for other in basis.iter().chain(basis) {
        let along = dot(vector, other);
        vector
            .iter_mut()
            .zip(other)
            .for_each(|(v, o)| *v -= along * o);
    }
    let length = dot(vector, vector).sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|v| *v /= length);
    }
    length
}

fn dot(left: &[f64], right: &[f64]) -> f64 {
    left.iter().zip(right).map(|(l, r)| l * r).sum()
}

impl Bidiagonal {
    fn new(mut start: Vec<f64>) -> Bidiagonal {
        orthonormalise(&mut start, &[]);
        Bidiagonal {
            alphas: Vec::new(),
            betas: Vec::new(),
            rows: Vec::new(),
            columns: vec![start],
            norm: Norm {
                value: 0.0,
                residual: 0.0,
            },
            done: false,
        }
    }

    /// Takes B v of the last column.
    fn forward(&mut self, mut product: Vec<f64>) {
        let alpha = orthonormalise(&mut product, &self.rows);
        if alpha > NOTHING * self.norm.value {
            self.alphas.push(alpha);
            self.rows.push(product);
            return;
        }
        // U spans all that B reaches: with the last β, R is B itself.
        let (value, _) = self.ritz(self.betas.last().copied().unwrap_or(0.0));
        let residual = 0.0;
        self.norm = Norm { value, residual };
        self.done = true;
    }

    /// Takes Bᵀ u of the last row, and finds the Ritz value.
    fn back(&mut self, mut product: Vec<f64>) {
        let beta = orthonormalise(&mut product, &self.columns);
        let (value, share) = self.ritz(0.0);
        let residual = beta * share;
        self.norm = Norm { value, residual };
        self.done = residual <= CLOSE * value || self.alphas.len() == STEPS;
        self.betas.push(beta);
        self.columns.push(product);
    }

    /// The largest singular value of R, with one more column that ends in `beta`, and the last entry of its left vector.
    fn ritz(&self, beta: f64) -> (f64, f64) {
        let size = self.alphas.len();
        if size == 0 {
            return (0.0, 0.0);
        }
        // R Rᵀ, tridiagonal: its eigenvectors are the left vectors of R.
        let gram = Mat::from_fn(size, size, |i, j| {
            let above = |k: usize| if k + 1 < size { self.betas[k] } else { beta };
            match i.abs_diff(j) {
                0 => self.alphas[i].powi(2) + above(i).powi(2),
                1 => above(i.min(j)) * self.alphas[i.max(j)],
                _ => 0.0,
            }
        });
        match gram.self_adjoint_eigen(faer::Side::Lower) {
            Ok(eigen) => {
                let value = eigen.S().column_vector()[size - 1].max(0.0).sqrt();
                (value, eigen.U()[(size - 1, size - 1)].abs())
            }
            // Of a finite symmetric matrix the eigenvalues are found.
            Err(_) => (f64::NAN, f64::NAN),
        }
    }
}

/// The largest singular values of several blocks at once, by Golub–Kahan bidiagonalisation from random vectors.
///
/// `starts` are normal vectors, one as long as each block is wide; `apply(side, vectors)` gives the products of
/// blocks, named by their number, with one vector each. What comes out is a lower bound that rises with every step:
/// from a random vector its expected relative error is below 0.103·(ln n / (k − 1))² of ‖B‖² after k steps, whatever the
/// spectrum, and far less where the largest singular value stands out.
///
/// Source: Golub and Kahan 1965; bounds: Kuczyński and Woźniakowski 1992, theorem 3.2.
///
/// # Errors
/// What `apply` reports.
pub(super) fn largest_by_products(
    starts: Vec<Vec<f64>>,
    mut apply: impl FnMut(Side, &[(usize, &[f64])]) -> Result<Vec<Vec<f64>>>,
) -> Result<Vec<Norm>> {
    let mut blocks: Vec<Bidiagonal> = starts.into_iter().map(Bidiagonal::new).collect();
    for side in [Side::Columns, Side::Rows].into_iter().cycle() {
        let open: Vec<usize> = (0..blocks.len()).filter(|&k| !blocks[k].done).collect();
        if open.is_empty() {
            break;
        }
        let last = |k: usize| match side {
            Side::Columns => blocks[k].columns.last(),
            Side::Rows => blocks[k].rows.last(),
        };
        let vectors = open.iter().filter_map(|&k| Some((k, last(k)?.as_slice())));
        let products = apply(side, &vectors.collect::<Vec<_>>())?;
        for (&k, product) in open.iter().zip(products) {
            match side {
                Side::Columns => blocks[k].forward(product),
                Side::Rows => blocks[k].back(product),
            }
        }
    }
    Ok(blocks.into_iter().map(|b| b.norm).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Draws;

    /// A block of singular values 1, decay, decay²…, in random directions; row-major.
    fn block(rows: usize, columns: usize, decay: f64) -> Vec<f64> {
        let mut draws = Draws::new(1, 0, 0);
        let mut basis = |length: usize| {
            let mut found: Vec<Vec<f64>> = Vec::new();
            for _ in 0..rows.min(columns) {
                let mut vector: Vec<f64> = (0..length).map(|_| draws.normal()).collect();
                orthonormalise(&mut vector, &found);
                found.push(vector);
            }
            found
        };
        let (left, right) = (basis(rows), basis(columns));
        let mut block = vec![0.0; rows * columns];
        for (k, (l, r)) in left.iter().zip(&right).enumerate() {
            for (i, row) in block.chunks_exact_mut(columns).enumerate() {
                let scale = decay.powi(k as i32) * l[i];
                row.iter_mut().zip(r).for_each(|(b, r)| *b += scale * r);
            }
        }
        block
    }

    fn by_products(block: &[f64], columns: usize) -> Norm {
        let mut draws = Draws::new(2, 0, 0);
        let start = (0..columns).map(|_| draws.normal()).collect();
        let norms = largest_by_products(vec![start], |side, vectors| {
            let product = |&(_, vector): &(usize, &[f64])| match side {
                Side::Columns => block
                    .chunks_exact(columns)
                    .map(|row| dot(row, vector))
                    .collect(),
                Side::Rows => {
                    let mut sum = vec![0.0; columns];
                    for (row, u) in block.chunks_exact(columns).zip(vector) {
                        sum.iter_mut().zip(row).for_each(|(s, r)| *s += u * r);
                    }
                    sum
                }
            };
            Ok(vectors.iter().map(product).collect())
        });
        norms.expect("nothing fails")[0]
    }

    #[test]
    fn both_ways_find_the_largest_singular_value() {
        for (rows, columns) in [(1, 1), (1, 7), (7, 1), (30, 47), (47, 30)] {
            for decay in [0.5, 0.9] {
                let block = block(rows, columns, decay);
                let norm = by_products(&block, columns);
                assert!((norm.value - 1.0).abs() <= norm.residual + 1e-9, "{norm:?}");
                assert!(
                    norm.residual <= 2.0 * CLOSE && norm.value <= 1.0 + 1e-12,
                    "{norm:?}"
                );
                if rows <= columns {
                    assert!((largest(&block, rows) - 1.0).abs() < 1e-12);
                }
            }
        }
    }

    #[test]
    fn a_block_of_zeros_has_norm_zero() {
        let norm = by_products(&[0.0; 12], 4);
        assert_eq!((norm.value, norm.residual), (0.0, 0.0));
        assert_eq!(largest(&[0.0; 12], 3), 0.0);
    }
}
