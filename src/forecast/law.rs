//! The law of a kind of work: seconds as a sum over its terms, fitted to what was measured.

use crate::tensor::{TERMS, Work};

/// What one more term must better the fit by: laws of few terms say more of sizes that were not tried.
const BETTER: f64 = 0.85;

/// `seconds = Σ_k law_k · work_k`: per call, piece, operation, number, what is beside, and number that is far.
pub(super) type Law = [f64; TERMS];

/// What a law says of work.
pub(super) fn seconds(law: &Law, work: &Work) -> f64 {
    let terms = law.iter().zip(work.0);
    terms.map(|(rate, count)| rate * count as f64).sum()
}

/// The law of least Σ (predicted / measured − 1)² over what was measured, with no negative term.
///
/// Every choice of terms is tried, 2⁶ of them, and the best of the fewest terms taken.
pub(super) fn fit(measured: &[(Work, f64)]) -> Law {
    let mut best: Option<(f64, Law)> = None;
    for count in 1..=TERMS as u32 {
        let mut of_count: Option<(f64, Law)> = None;
        for chosen in (1u32..1 << TERMS).filter(|chosen| chosen.count_ones() == count) {
            let Some(law) = least_squares(measured, chosen) else {
                continue;
            };
            let error = error(measured, &law);
            if of_count.is_none_or(|(least, _)| error < least) {
                of_count = Some((error, law));
            }
        }
        if let Some((error, law)) = of_count
            && best.is_none_or(|(least, _)| error < BETTER * least)
        {
            best = Some((error, law));
        }
    }
    best.map_or([0.0; TERMS], |(_, law)| law)
}

/// Σ (predicted / measured − 1)².
fn error(measured: &[(Work, f64)], law: &Law) -> f64 {
    let of = |(work, taken): &(Work, f64)| (seconds(law, work) / taken - 1.0).powi(2);
    measured.iter().map(of).sum()
}

/// The law of the chosen terms by the normal equations; `None` where a term would be negative, or cannot be told from others.
fn least_squares(measured: &[(Work, f64)], chosen: u32) -> Option<Law> {
    let terms: Vec<usize> = (0..TERMS).filter(|k| chosen & 1 << k != 0).collect();
    let size = terms.len();
    // Terms are of sizes far apart: each by its own largest.
    let entry = |(work, taken): &(Work, f64), k: usize| work.0[terms[k]] as f64 / taken;
    let scale: Vec<f64> = (0..size)
        .map(|k| measured.iter().map(|m| entry(m, k)).fold(0.0, f64::max))
        .collect();
    if measured.len() < size || scale.contains(&0.0) {
        return None;
    }
    let mut rows = vec![vec![0.0; size + 1]; size];
    for m in measured {
        for i in 0..size {
            let own = entry(m, i) / scale[i];
            for j in 0..size {
                rows[i][j] += own * entry(m, j) / scale[j];
            }
            rows[i][size] += own;
        }
    }
    let solved = solve(rows)?;
    let mut law = [0.0; TERMS];
    for (k, &term) in terms.iter().enumerate() {
        law[term] = solved[k] / scale[k];
    }
    law.iter().all(|rate| *rate >= 0.0).then_some(law)
}

/// Gaussian elimination with pivots of `[A | b]`; `None` of a singular one.
fn solve(mut rows: Vec<Vec<f64>>) -> Option<Vec<f64>> {
    let size = rows.len();
    for at in 0..size {
        let pivot = (at..size).max_by(|&a, &b| rows[a][at].abs().total_cmp(&rows[b][at].abs()))?;
        rows.swap(at, pivot);
        if rows[at][at].abs() < 1e-10 {
            return None;
        }
        let (done, rest) = rows.split_at_mut(at + 1);
        let own = &done[at];
        for row in rest {
            let factor = row[at] / own[at];
            for (value, of_own) in row.iter_mut().zip(own).skip(at) {
                *value -= factor * of_own;
            }
        }
    }
    let mut solved = vec![0.0; size];
    for at in (0..size).rev() {
        let known: f64 = (at + 1..size).map(|k| rows[at][k] * solved[k]).sum();
        solved[at] = (rows[at][size] - known) / rows[at][at];
    }
    Some(solved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_law_is_found_again_from_what_it_says() {
        let law = [2e-6, 0.0, 1e-10, 3e-9, 0.0, 0.0];
        let sizes = [
            [1, 3, 1000, 50, 0, 0],
            [1, 2, 10_000_000, 5000, 7, 0],
            [1, 9, 1000, 900_000, 3, 0],
            [1, 1, 10, 10, 9, 0],
        ];
        let measured: Vec<(Work, f64)> = sizes
            .iter()
            .map(|size| (Work(*size), seconds(&law, &Work(*size))))
            .collect();
        for (found, rate) in fit(&measured).iter().zip(law) {
            assert!(
                (found - rate).abs() <= 1e-6 * rate.max(1e-12),
                "{found} {rate}"
            );
        }
    }

    #[test]
    fn no_term_is_negative_and_nothing_measured_takes_no_time() {
        // Less time for more: no law of positive terms says so, the nearest one is taken.
        let measured = [
            (Work([1, 0, 100, 0, 0, 0]), 2.0),
            (Work([1, 0, 200, 0, 0, 0]), 1.0),
        ];
        let law = fit(&measured);
        assert!(
            law.iter().all(|rate| *rate >= 0.0) && law[0] > 0.0,
            "{law:?}"
        );
        assert_eq!(fit(&[]), [0.0; TERMS]);
    }
}
