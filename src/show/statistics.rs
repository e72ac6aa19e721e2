//! What is known of a block after one pass over its entries.

use serde::{Serialize, Serializer};

/// The numbers of a block; norm, trace, and what is largest, are those of its finite entries.
///
/// As JSON, a norm beyond the largest double is the text `"Infinity"`, and a trace whose sum leaves their range on the way
/// `"Infinity"`, `"-Infinity"` or `"NaN"`; `null` is none.
///
/// ```
/// use hessblock::results::Blocks;
/// use hessblock::show::{ShowOptions, show};
/// # use hessblock::data::Dataset;
/// # use hessblock::loss::CrossEntropy;
/// # use hessblock::network::builder::Builder;
/// # use hessblock::{Device, Output, Part, Precision, Session};
/// # use ndarray::{arr1, arr2};
/// # let network = Builder::new(&[3]).linear("fc1", 4).tanh().linear("fc2", 2).initialize(0).build()?;
/// # let data = Dataset::from_arrays(arr2(&[[0.1, 0.2, 0.3], [0.5, -0.4, 0.0]]), arr1(&[0i64, 1]));
/// # let session = Session::builder(network).data(data).loss(CrossEntropy::mean())
/// #     .device(Device::cpu(Precision::F32)).build()?;
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("blocks");
/// # session.ggn().parts([Part::Layers, Part::Full])?.write(Output::folder(&path))?;
/// let shown = show(&Blocks::open(&path)?, "blocks", &ShowOptions::default())?;
/// let statistics = &shown.parts[1].statistics;
/// assert_eq!((statistics.entries, statistics.non_finite), (100, 0));
/// // The Frobenius norm of a positive semi-definite matrix is at most its trace.
/// assert!(statistics.trace.is_some_and(|trace| statistics.norm <= trace * (1.0 + 1e-6)));
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Statistics {
    /// All entries.
    pub entries: u64,
    /// The Frobenius norm; of a vector, the Euclidean one.
    #[serde(serialize_with = "number")]
    pub norm: f64,
    /// The trace, of a block that has one; of a vector (a diagonal), its sum.
    #[serde(serialize_with = "number_or_none")]
    pub trace: Option<f64>,
    /// The first of the entries of largest magnitude; none where none is finite.
    pub largest: Option<Largest>,
    /// Entries that are exactly 0.
    pub zeros: u64,
    /// Entries that are NaN or infinite.
    pub non_finite: u64,
}

/// An entry and its flat indices.
///
/// ```
/// use hessblock::results::Blocks;
/// use hessblock::show::{ShowOptions, show};
/// # use hessblock::data::Dataset;
/// # use hessblock::loss::CrossEntropy;
/// # use hessblock::network::builder::Builder;
/// # use hessblock::{Device, Output, Part, Precision, Session};
/// # use ndarray::{arr1, arr2};
/// # let network = Builder::new(&[3]).linear("fc1", 4).tanh().linear("fc2", 2).initialize(0).build()?;
/// # let data = Dataset::from_arrays(arr2(&[[0.1, 0.2, 0.3], [0.5, -0.4, 0.0]]), arr1(&[0i64, 1]));
/// # let session = Session::builder(network).data(data).loss(CrossEntropy::mean())
/// #     .device(Device::cpu(Precision::F32)).build()?;
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("blocks");
/// # session.ggn().parts([Part::Layers, Part::Full])?.write(Output::folder(&path))?;
/// let shown = show(&Blocks::open(&path)?, "blocks", &ShowOptions::default())?;
/// let largest = shown.parts[1].statistics.largest.expect("an entry is finite");
/// println!("{:.3} at ({}, {})", largest.value, largest.row, largest.column);
/// assert!((16..26).contains(&largest.row)); // flat indices, where fc2 has 16..26
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Largest {
    /// With its sign.
    pub value: f64,
    /// Flat index of its row.
    pub row: usize,
    /// Flat index of its column; that of its row in a vector.
    pub column: usize,
}

/// JSON has no infinite numbers, and `null` would say that there is none.
fn number<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    match *value {
        v if v.is_finite() => serializer.serialize_f64(v),
        v if v.is_nan() => serializer.serialize_str("NaN"),
        v if v > 0.0 => serializer.serialize_str("Infinity"),
        _ => serializer.serialize_str("-Infinity"),
    }
}

fn number_or_none<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => number(value, serializer),
        None => serializer.serialize_none(),
    }
}

impl Statistics {
    /// The share of exact zeros; 0 where there is no entry.
    pub fn zero_share(&self) -> f64 {
        self.zeros as f64 / self.entries.max(1) as f64
    }
}

/// Statistics that grow; places are those of the view.
#[derive(Clone, Debug, Default)]
pub(super) struct Sums {
    pub(super) entries: u64,
    pub(super) zeros: u64,
    pub(super) non_finite: u64,
    pub(super) norm: f64,
    pub(super) trace: f64,
    /// Entries of the diagonal, whose finite ones are in the trace.
    pub(super) diagonal: usize,
    pub(super) largest: Option<(f64, usize, usize)>,
}

impl Sums {
    /// Takes neighbours of one row, the first of them in `column`.
    pub(super) fn take(&mut self, values: &[f64], row: usize, column: usize) {
        let (mut zeros, mut non_finite, mut most) = (0, 0, 0.0_f64);
        for value in values {
            let magnitude = value.abs();
            let finite = magnitude <= f64::MAX;
            zeros += u64::from(magnitude == 0.0);
            non_finite += u64::from(!finite);
            most = if finite { most.max(magnitude) } else { most };
        }
        self.entries += values.len() as u64;
        self.zeros += zeros;
        self.non_finite += non_finite;
        let known = self.largest.map_or(-1.0, |(value, ..)| value.abs());
        if most > known
            && let Some(at) = values.iter().position(|v| v.abs() == most)
        {
            self.largest = Some((values[at], row, column + at));
        }
        if most > 0.0 {
            self.norm = self.norm.hypot(norm(values, most, non_finite == 0));
        }
    }

    /// Takes entries of the diagonal, of which finite ones are in the trace.
    pub(super) fn trace(&mut self, values: &[f64]) {
        self.diagonal += values.len();
        self.trace += values.iter().filter(|v| v.is_finite()).sum::<f64>();
    }

    /// Takes what was found elsewhere, behind all that was taken so far.
    pub(super) fn merge(&mut self, other: &Sums) {
        self.entries += other.entries;
        self.zeros += other.zeros;
        self.non_finite += other.non_finite;
        self.norm = self.norm.hypot(other.norm);
        self.trace += other.trace;
        self.diagonal += other.diagonal;
        self.largest = match (self.largest, other.largest) {
            (Some(own), Some(found)) if first(found, own) => Some(found),
            (None, found) => found,
            (own, _) => own,
        };
    }
}

/// Whether an entry comes before another: by magnitude, then as one reads.
fn first(a: (f64, usize, usize), b: (f64, usize, usize)) -> bool {
    let key = |(value, row, column): (f64, usize, usize)| (-value.abs(), row, column);
    key(a).partial_cmp(&key(b)) == Some(std::cmp::Ordering::Less)
}

/// √Σx² over finite entries, of which `most` is the largest magnitude: without overflow or underflow on the way.
fn norm(values: &[f64], most: f64, all_finite: bool) -> f64 {
    const SAFE: std::ops::Range<f64> = 1e-130..1e130;
    if all_finite && SAFE.contains(&most) {
        // Four sums, so that the additions do not wait for each other.
        let mut sums = [0.0; 4];
        let (fours, rest) = values.as_chunks::<4>();
        for four in fours {
            for (sum, value) in sums.iter_mut().zip(four) {
                *sum += value * value;
            }
        }
        let rest: f64 = rest.iter().map(|v| v * v).sum();
        return ((sums[0] + sums[1]) + (sums[2] + sums[3]) + rest).sqrt();
    }
    let finite = values.iter().filter(|v| v.is_finite());
    let sum: f64 = finite.map(|v| (v / most) * (v / most)).sum();
    most * sum.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_norm_neither_overflows_nor_vanishes() {
        for scale in [1e-300, 1e-5, 1.0, 1e200] {
            let mut sums = Sums::default();
            sums.take(&[3.0 * scale, f64::NAN, 0.0], 0, 0);
            sums.take(&[-4.0 * scale, f64::INFINITY], 1, 7);
            assert!((sums.norm / scale - 5.0).abs() < 1e-12, "{}", sums.norm);
            assert_eq!(sums.largest, Some((-4.0 * scale, 1, 7)));
            assert_eq!((sums.zeros, sums.non_finite, sums.entries), (1, 2, 5));
        }
    }

    #[test]
    fn of_equal_entries_the_first_is_the_largest_in_any_order_of_merging() {
        let found = |row, column| Sums {
            largest: Some((-2.0, row, column)),
            ..Sums::default()
        };
        let mut sums = found(3, 1);
        sums.merge(&found(1, 9));
        sums.merge(&found(1, 8));
        sums.merge(&Sums::default());
        assert_eq!(sums.largest, Some((-2.0, 1, 8)));
        let mut nothing = Sums::default();
        nothing.take(&[f64::NAN], 0, 0);
        assert_eq!(nothing.largest, None);
        nothing.take(&[0.0], 0, 1);
        assert_eq!(nothing.largest, Some((0.0, 0, 1)));
    }
}
