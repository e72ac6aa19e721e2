//! The comparison of gradient, rows and diagonal of G with PyTorch's numbers.

use hessblock::data::ArraySource;
use std::path::Path;

/// Numbers of a network, its data and a loss, found or expected.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    /// The loss; `None` where it is not kept.
    pub loss: Option<f64>,
    /// `[p]`.
    pub gradient: Vec<f64>,
    /// `[rows, p]`, some rows of G.
    pub rows: Vec<f64>,
    /// `[p]`, of G.
    pub diagonal: Vec<f64>,
}

/// How far numbers are from what they should be.
#[derive(Clone, Debug, Default)]
pub struct Errors {
    /// What was compared, and its greatest error relative to the greatest number expected.
    pub measures: Vec<(&'static str, f64)>,
    /// The first entry of G that is off by its own scale √(G_ii·G_jj).
    pub entry: Option<String>,
    /// The share of entries that are.
    pub share: f64,
}

/// An array of an archive.
pub fn array(archive: &Path, key: &str) -> ArraySource {
    ArraySource::open(format!("{}:{key}", archive.display())).unwrap_or_else(|e| panic!("{e}"))
}

/// All numbers of an array of an archive.
pub fn values(archive: &Path, key: &str) -> Vec<f64> {
    let source = array(archive, key);
    let count = source.shape().first().copied().unwrap_or(1);
    source.read_f64(0..count).unwrap_or_else(|e| panic!("{e}"))
}

/// The greatest |found − expected|, NaN counting as infinite.
pub fn worst(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).fold(0.0f64, |worst, (a, b)| {
        let error = (a - b).abs();
        if error.is_nan() {
            f64::INFINITY
        } else {
            worst.max(error)
        }
    })
}

/// The greatest magnitude.
pub fn greatest(values: &[f64]) -> f64 {
    values
        .iter()
        .fold(f64::MIN_POSITIVE, |most, v| most.max(v.abs()))
}

/// Compares, by DESIGN §5's bounds for G: relative to its greatest entry, and entry by entry with 5·`tolerance`.
///
/// `indices` says which rows of G are there.
pub fn compare(found: &Numbers, expected: &Numbers, indices: &[usize], tolerance: f64) -> Errors {
    let mut errors = Errors::default();
    let relative = |found: &[f64], expected: &[f64]| worst(found, expected) / greatest(expected);
    if let (Some(found), Some(expected)) = (found.loss, expected.loss) {
        errors
            .measures
            .push(("loss", relative(&[found], &[expected])));
    }
    // Rows are measured against the greatest entry of G, which lies on its diagonal.
    let most = greatest(&expected.diagonal);
    errors.measures.extend([
        ("gradient", relative(&found.gradient, &expected.gradient)),
        ("rows of G", worst(&found.rows, &expected.rows) / most),
        (
            "diagonal of G",
            relative(&found.diagonal, &expected.diagonal),
        ),
    ]);
    let p = expected.diagonal.len();
    let entries = indices.iter().flat_map(|&i| (0..p).map(move |j| (i, j)));
    let pairs = entries.zip(found.rows.iter().zip(&expected.rows));
    // A row that is zero but for rounding (a bias before a norm that takes it off, a bias of attention's keys) has
    // no scale of its own: it is measured against the greatest entry alone.
    let vanishes = |k: usize| expected.diagonal[k].abs() < 1e-24 * most;
    let mut off = pairs.filter_map(|((i, j), (found, expected_value))| {
        if vanishes(i) || vanishes(j) {
            return found.is_nan().then(|| format!("G[{i}, {j}] is NaN"));
        }
        let error = (found - expected_value).abs();
        let scale = (expected.diagonal[i] * expected.diagonal[j])
            .max(0.0)
            .sqrt();
        let off = error > 5.0 * tolerance * scale && error > 1e-3 * tolerance * most;
        (off || error.is_nan())
            .then(|| format!("G[{i}, {j}] is {found}, not {expected_value} (scale {scale:e})"))
    });
    errors.entry = off.next();
    let count = usize::from(errors.entry.is_some()) + off.count();
    errors.share = count as f64 / expected.rows.len().max(1) as f64;
    errors
}

impl Errors {
    /// What is off by more than `tolerance`, in words.
    pub fn faults(&self, tolerance: f64) -> Vec<String> {
        let off = |(_, error): &&(&str, f64)| *error > tolerance || error.is_nan();
        let measures = self.measures.iter().filter(off);
        let mut faults: Vec<String> = measures
            .map(|(what, error)| format!("{what} is off by {error:.1e}"))
            .collect();
        faults.extend(self.entry.clone());
        faults
    }
}
