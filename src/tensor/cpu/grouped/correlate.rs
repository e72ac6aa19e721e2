//! The kernels: sums of shifted planes, and sums of products of shifted planes with runs.

use super::BLOCK;
use crate::tensor::Real;

/// Positions whose products are added up in registers, 256 in each of single precision: sums stay short.
const CHUNK: usize = 64 * BLOCK;

/// Bytes of the widest registers that the tiles below are made for.
const REGISTER: usize = 32;

/// How many of `left` rows are computed together: those that share a load best, in as many registers as there are.
fn together(left: usize) -> usize {
    match left {
        0..=4 => left,
        5 => 3,
        7 => 4,
        _ if left.is_multiple_of(4) => 4,
        _ => 6,
    }
}

/// Appends the weights `of(row, tap)` in the order in which [`Correlate`] reads them: the rows computed together
/// side by side.
pub(super) fn pack<R>(rows: usize, taps: usize, of: impl Fn(usize, usize) -> R, into: &mut Vec<R>) {
    let mut first = 0;
    while first < rows {
        let count = together(rows - first);
        for tap in 0..taps {
            into.extend((first..first + count).map(|row| of(row, tap)));
        }
        first += count;
    }
}

/// `runs[m, p] = Σ_k weights[k, m]·planes[p + offsets[k]]`, N positions at a time.
///
/// A kernel of its own for each M and N: of several in one function the compiler leaves the sums in memory, and it
/// does so with 2 × 32 in any (20 times as slow).
struct Correlate<'a, R, const M: usize, const N: usize> {
    planes: &'a [R],
    weights: &'a [R],
    offsets: &'a [usize],
    runs: &'a mut [R],
}

impl<R: Real, const M: usize, const N: usize> pulp::NullaryFnOnce for Correlate<'_, R, M, N> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let weights = self.weights.as_chunks::<M>().0;
        let run = self.runs.len() / M;
        for start in (0..run).step_by(N) {
            let planes = &self.planes[start..];
            let mut sums = [[R::default(); N]; M];
            for (weights, &offset) in weights.iter().zip(self.offsets) {
                let from: [R; N] = array(&planes[offset..]);
                for m in 0..M {
                    for n in 0..N {
                        sums[m][n] += weights[m] * from[n];
                    }
                }
            }
            for (m, sums) in sums.iter().enumerate() {
                self.runs[m * run + start..][..N].copy_from_slice(sums);
            }
        }
    }
}

/// The first N numbers.
#[inline(always)]
fn array<R: Copy, const N: usize>(values: &[R]) -> [R; N] {
    *values.first_chunk().expect("runs are in whole blocks")
}

/// `runs[row, p] = Σ_k weights[row, k]·planes[p + offsets[k]]`, with weights from [`pack`].
pub(super) fn correlate<R: Real>(
    arch: pulp::Arch,
    planes: &[R],
    weights: &[R],
    offsets: &[usize],
    rows: usize,
    runs: &mut [R],
) {
    let run = runs.len() / rows;
    let taps = offsets.len();
    let mut first = 0;
    while first < rows {
        let count = together(rows - first);
        let weights = &weights[first * taps..][..count * taps];
        let runs = &mut runs[first * run..][..count * run];
        macro_rules! kernel {
            ($m:literal, $n:literal) => {
                arch.dispatch(Correlate::<R, $m, $n> {
                    planes,
                    weights,
                    offsets,
                    runs,
                })
            };
        }
        // Two registers of positions a row; four where no other row's sums fill the time until an addition is done.
        match (count, lanes::<R>()) {
            (6, 8) => kernel!(6, 16),
            (6, _) => kernel!(6, 8),
            (4, 8) => kernel!(4, 16),
            (4, _) => kernel!(4, 8),
            (3, 8) => kernel!(3, 16),
            (3, _) => kernel!(3, 8),
            (2, 8) => kernel!(2, 16),
            (2, _) => kernel!(2, 8),
            (_, 8) => kernel!(1, 32),
            (_, _) => kernel!(1, 16),
        }
        first += count;
    }
}

/// `parts[m, k, lane] += Σ_p runs[m, p]·planes[p + offsets[k]]` over every p of the lane, for M rows, K taps at a
/// time and N lanes.
struct Correlations<'a, R, const M: usize, const K: usize, const N: usize> {
    planes: &'a [R],
    runs: &'a [R],
    offsets: &'a [usize],
    /// The first offset's tap: `parts` are of all.
    first: usize,
    parts: &'a mut [R],
}

impl<R: Real, const M: usize, const K: usize, const N: usize> pulp::NullaryFnOnce
    for Correlations<'_, R, M, K, N>
{
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let run = self.runs.len() / M;
        let row = self.parts.len() / M;
        for (tap, offsets) in self.offsets.as_chunks::<K>().0.iter().enumerate() {
            for chunk in (0..run).step_by(CHUNK) {
                let length = CHUNK.min(run - chunk);
                let runs: [&[R]; M] =
                    std::array::from_fn(|m| &self.runs[m * run + chunk..][..length]);
                let planes: [&[R]; K] =
                    std::array::from_fn(|k| &self.planes[offsets[k] + chunk..][..length]);
                let mut sums = [[[R::default(); N]; K]; M];
                for start in (0..length).step_by(N) {
                    let runs: [[R; N]; M] = std::array::from_fn(|m| array(&runs[m][start..]));
                    let planes: [[R; N]; K] = std::array::from_fn(|k| array(&planes[k][start..]));
                    for m in 0..M {
                        for k in 0..K {
                            for n in 0..N {
                                sums[m][k][n] += runs[m][n] * planes[k][n];
                            }
                        }
                    }
                }
                for (m, sums) in sums.iter().enumerate() {
                    let parts = &mut self.parts[m * row + (self.first + tap * K) * N..][..K * N];
                    for (part, sum) in parts.iter_mut().zip(sums.as_flattened()) {
                        *part += *sum;
                    }
                }
            }
        }
    }
}

/// `parts[row, k, lane] += Σ_p runs[row, p]·planes[p + offsets[k]]` over every p of the lane, a register's.
pub(super) fn correlations<R: Real>(
    arch: pulp::Arch,
    planes: &[R],
    offsets: &[usize],
    rows: usize,
    runs: &[R],
    parts: &mut [R],
) {
    let run = runs.len() / rows;
    let row = parts.len() / rows;
    let (fours, ones) = offsets.split_at(offsets.len() - offsets.len() % 4);
    for (runs, parts) in runs.chunks(2 * run).zip(parts.chunks_mut(2 * row)) {
        macro_rules! kernels {
            ($m:literal, $n:literal) => {{
                arch.dispatch(Correlations::<R, $m, 4, $n> {
                    planes,
                    runs,
                    offsets: fours,
                    first: 0,
                    parts,
                });
                arch.dispatch(Correlations::<R, $m, 1, $n> {
                    planes,
                    runs,
                    offsets: ones,
                    first: fours.len(),
                    parts,
                });
            }};
        }
        match (parts.len() > row, lanes::<R>()) {
            (true, 8) => kernels!(2, 8),
            (true, _) => kernels!(2, 4),
            (false, 8) => kernels!(1, 8),
            (false, _) => kernels!(1, 4),
        }
    }
}

/// Numbers in a register.
pub(super) fn lanes<R>() -> usize {
    REGISTER / size_of::<R>()
}

/// Adds up the lanes that [`Correlations`] left. Not inlined there: with the sums in sight the compiler orders the
/// products for them, at a third of the speed.
#[inline(never)]
pub(super) fn add_lanes<R: Real>(parts: &mut [R], into: &mut [R]) {
    for (into, parts) in into.iter_mut().zip(parts.chunks_mut(lanes::<R>())) {
        let mut width = parts.len();
        while width > 1 {
            width /= 2;
            for k in 0..width {
                parts[k] += parts[k + width];
            }
        }
        *into += parts[0];
    }
}
