//! The product in registers: `block += Σ_k left[k, r]·right[k, c]` of operands packed in panels.
//!
//! The left operand lies in panels of as many rows, the right one in panels of as many columns, as the machine's
//! registers hold sums of; within a panel one k follows another, so that the inner loop reads both in order. Operands are
//! scaled, gathered or transposed while they are packed. Samples whose weight is zero can be left out: the right
//! operand stays packed once for all, and `kept` names the k that remain (DESIGN §7).

use crate::tensor::Real;
use pulp::{Simd, WithSimd};
use std::marker::PhantomData;

/// Registers of the right operand that a panel is wide.
const REGISTERS: usize = 2;
/// Rows of a left panel: with them the sums fill three quarters of the registers.
const PANEL_ROWS: [usize; 2] = [6, 12];

/// Rows of a left panel and columns of a right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    pub rows: usize,
    pub columns: usize,
}

impl Geometry {
    /// That of this machine.
    pub fn of<R: Real>() -> Geometry {
        pulp::Arch::new().dispatch(Ask::<R>(PhantomData))
    }
}

struct Ask<R>(PhantomData<R>);

impl<R: Real> WithSimd for Ask<R> {
    type Output = Geometry;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Geometry {
        Geometry {
            rows: PANEL_ROWS[usize::from(S::REGISTER_COUNT >= 32)],
            columns: REGISTERS * R::lanes::<S>(),
        }
    }
}

/// One product of packed operands.
pub(super) struct Product<'a, R, F> {
    /// Panels of rows, `[panels, depth, rows]`.
    pub left: &'a [R],
    /// Panels of columns, each `[right_depth, columns]`.
    pub right: &'a [R],
    pub right_depth: usize,
    /// The k of the right operand that the left one has, where not all.
    pub kept: Option<&'a [u32]>,
    /// Number of k.
    pub depth: usize,
    /// The block, its rows `stride` apart; whole panels of it are written.
    pub block: &'a mut [R],
    pub stride: usize,
    /// Rows and columns of the block, rounded up to panels.
    pub rows: usize,
    pub columns: usize,
    /// Whether only what lies on or above the diagonal is wanted.
    pub upper: bool,
    /// Whether the block holds sums already.
    pub add: bool,
    /// Called again and again: other work to be done meanwhile.
    pub between: F,
}

impl<R: Real, F: FnMut()> Product<'_, R, F> {
    /// Computes it with the machine's vector instructions; whether all numbers of the block are finite.
    pub fn run(self) -> bool {
        pulp::Arch::new().dispatch(self)
    }

    /// Number of calls of `between`.
    pub fn count(rows: usize, columns: usize, upper: bool, geometry: Geometry) -> usize {
        let panels = rows.div_ceil(geometry.rows);
        (0..columns.div_ceil(geometry.columns))
            .map(|column| match upper {
                true => panels.min(((column + 1) * geometry.columns - 1) / geometry.rows + 1),
                false => panels,
            })
            .sum()
    }
}

impl<R: Real, F: FnMut()> WithSimd for Product<'_, R, F> {
    type Output = bool;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> bool {
        if S::REGISTER_COUNT >= 32 {
            self.panels::<S, { PANEL_ROWS[1] }>(simd)
        } else {
            self.panels::<S, { PANEL_ROWS[0] }>(simd)
        }
    }
}

impl<R: Real, F: FnMut()> Product<'_, R, F> {
    #[inline(always)]
    fn panels<S: Simd, const ROWS: usize>(mut self, simd: S) -> bool {
        // x·0 is 0 for finite x alone, so that this stays 0 for finite sums alone.
        let zero = R::splat(simd, R::default());
        let mut finite = zero;
        let width = REGISTERS * R::lanes::<S>();
        let all = self.rows.div_ceil(ROWS);
        for column in 0..self.columns.div_ceil(width) {
            let right = self.right_depth * width;
            let right = R::registers::<S>(&self.right[column * right..][..right]);
            let right = pulp::as_arrays::<REGISTERS, _>(right).0;
            let reached = ((column + 1) * width - 1) / ROWS + 1;
            for row in 0..if self.upper { reached.min(all) } else { all } {
                let left = &self.left[row * self.depth * ROWS..][..self.depth * ROWS];
                let left = pulp::as_arrays::<ROWS, R>(left).0;
                let at = row * ROWS * self.stride + column * width;
                let sums = match self.kept {
                    None => sums::<R, S, ROWS>(simd, left, right.iter()),
                    Some(kept) => {
                        let right = kept.iter().map(|&k| &right[k as usize]);
                        sums::<R, S, ROWS>(simd, left, right)
                    }
                };
                for (row, sums) in self.block[at..].chunks_mut(self.stride).zip(&sums) {
                    let to = R::registers_mut::<S>(&mut row[..width]);
                    for (to, sum) in to.iter_mut().zip(sums) {
                        *to = match self.add {
                            true => R::sum(simd, *to, *sum),
                            false => *sum,
                        };
                        finite = R::multiply_add(simd, *to, zero, finite);
                    }
                }
                (self.between)();
            }
        }
        R::total(simd, finite) == R::default()
    }
}

/// Σ_k left[k, r]·right[k, c], one k after another.
#[inline(always)]
fn sums<'a, R: Real, S: Simd, const ROWS: usize>(
    simd: S,
    left: &[[R; ROWS]],
    right: impl Iterator<Item = &'a [R::Lanes<S>; REGISTERS]>,
) -> [[R::Lanes<S>; REGISTERS]; ROWS]
where
    R::Lanes<S>: 'a,
{
    let mut sums = [[R::splat(simd, R::default()); REGISTERS]; ROWS];
    for (left, right) in left.iter().zip(right) {
        let right = *right;
        for (sums, x) in sums.iter_mut().zip(left) {
            let x = R::splat(simd, *x);
            for (sum, y) in sums.iter_mut().zip(right) {
                *sum = R::multiply_add(simd, x, y, *sum);
            }
        }
    }
    sums
}

/// Packs rows into panels of `width`, zeros behind the last: entry `j` of row `k` to
/// `into[(j / width·depth + k)·width + j % width]`.
pub(super) fn pack<'a, R: Real>(
    into: &mut [R],
    width: usize,
    extent: usize,
    rows: impl ExactSizeIterator<Item = &'a [R]>,
) {
    match width {
        2 => pack_in::<R, 2>(into, extent, rows),
        4 => pack_in::<R, 4>(into, extent, rows),
        6 => pack_in::<R, 6>(into, extent, rows),
        8 => pack_in::<R, 8>(into, extent, rows),
        12 => pack_in::<R, 12>(into, extent, rows),
        16 => pack_in::<R, 16>(into, extent, rows),
        32 => pack_in::<R, 32>(into, extent, rows),
        _ => unreachable!("no geometry has panels of {width}"),
    }
}

fn pack_in<'a, R: Real, const WIDTH: usize>(
    into: &mut [R],
    extent: usize,
    rows: impl ExactSizeIterator<Item = &'a [R]>,
) {
    /// Rows taken together: their parts of a panel lie beside each other, and few pages are open at a time.
    const ROWS: usize = 16;
    let depth = rows.len();
    let into = pulp::as_arrays_mut::<WIDTH, R>(into).0;
    let whole = extent / WIDTH;
    let mut together: [&[R]; ROWS] = [&[]; ROWS];
    let (mut first, mut rows) = (0, rows);
    while first < depth {
        let count = ROWS.min(depth - first);
        for (row, next) in together.iter_mut().zip(rows.by_ref().take(count)) {
            *row = &next[..extent];
        }
        for panel in 0..whole {
            let into = &mut into[panel * depth + first..][..count];
            for (to, row) in into.iter_mut().zip(&together) {
                to.copy_from_slice(&row[panel * WIDTH..][..WIDTH]);
            }
        }
        if extent > whole * WIDTH {
            let into = &mut into[whole * depth + first..][..count];
            for (to, row) in into.iter_mut().zip(&together) {
                let rest = &row[whole * WIDTH..];
                *to = [R::default(); WIDTH];
                to[..rest.len()].copy_from_slice(rest);
            }
        }
        first += count;
    }
}

/// Scales panels of `width`: `into[panel, k, j] = weights[k]·from[panel, k', j]`, where panels of `from` are `from_depth` deep and
/// k' is the k-th of those `kept`, or k.
pub(super) fn scale<R: Real>(
    into: &mut [R],
    (from, from_depth): (&[R], usize),
    width: usize,
    weights: &[R],
    kept: Option<&[u32]>,
) {
    let work = Scale {
        into,
        from,
        from_depth,
        weights,
        kept,
    };
    let arch = pulp::Arch::new();
    match width {
        6 => arch.dispatch(ScaleIn::<R, 6>(work)),
        12 => arch.dispatch(ScaleIn::<R, 12>(work)),
        _ => unreachable!("no geometry has panels of {width} rows"),
    }
}

/// What [`scale`] works on.
struct Scale<'a, R> {
    into: &'a mut [R],
    from: &'a [R],
    from_depth: usize,
    weights: &'a [R],
    kept: Option<&'a [u32]>,
}

/// In panels of `WIDTH`.
struct ScaleIn<'a, R, const WIDTH: usize>(Scale<'a, R>);

impl<R: Real, const WIDTH: usize> pulp::NullaryFnOnce for ScaleIn<'_, R, WIDTH> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Scale {
            into,
            from,
            from_depth,
            weights,
            kept,
        } = self.0;
        let depth = weights.len();
        let from = pulp::as_arrays::<WIDTH, R>(from).0;
        let into = pulp::as_arrays_mut::<WIDTH, R>(into).0;
        if depth == 0 {
            return;
        }
        for (into, from) in into
            .chunks_exact_mut(depth)
            .zip(from.chunks_exact(from_depth))
        {
            match kept {
                None => {
                    for ((to, weight), x) in into.iter_mut().zip(weights).zip(from) {
                        *to = x.map(|x| *weight * x);
                    }
                }
                Some(kept) => {
                    for ((to, weight), k) in into.iter_mut().zip(weights).zip(kept) {
                        *to = from[*k as usize].map(|x| *weight * x);
                    }
                }
            }
        }
    }
}
