//! Strided matrices over slices: the one door to faer's products, and the only unsafe code of the backend.
//!
//! [`View`] reads, [`Tiles`] writes many disjoint matrices of one buffer, in parallel where it pays. Both
//! check at construction that every element they can reach lies in their slice; `Tiles` also that no two of
//! its positions are the same element. faer takes pointers with strides of both axes, which no safe
//! constructor of it does, and disjoint strided parts cannot be had from `chunks_mut`.

use crate::tensor::Real;
use faer::{MatMut, MatRef, Par};
use rayon::prelude::*;
use std::marker::PhantomData;

/// Work (multiply-adds) below which a second thread costs more than it brings.
#[cfg(not(miri))]
pub(super) const PARALLEL_WORK: usize = 1 << 16;
/// Small, so that Miri sees threads.
#[cfg(miri)]
pub(super) const PARALLEL_WORK: usize = 1 << 6;

/// Inner dimension from which products with a vector are cut, so that f32 sums stay short.
const VECTOR_CHUNK: usize = 512;

/// A number of positions at a common distance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Axis {
    /// Number of positions.
    pub extent: usize,
    /// Distance in elements; 0 repeats.
    pub stride: usize,
}

impl Axis {
    /// `extent` positions `stride` apart.
    pub fn new(extent: usize, stride: usize) -> Self {
        Self { extent, stride }
    }
}

/// Index of the last element that `axes` reach; `None` where there is no element.
fn last_index(axes: impl IntoIterator<Item = Axis>) -> Option<usize> {
    axes.into_iter().try_fold(0, |sum, axis| {
        Some(sum + axis.extent.checked_sub(1)? * axis.stride)
    })
}

/// A matrix read from a slice, whose first element is entry (0, 0).
#[derive(Clone, Copy)]
pub(super) struct View<'a, R> {
    data: &'a [R],
    rows: Axis,
    columns: Axis,
}

impl<'a, R: Real> View<'a, R> {
    /// Entry (r, c) is `data[r·rows.stride + c·columns.stride]`.
    ///
    /// # Panics
    /// Where an entry lies outside `data`.
    pub fn new(data: &'a [R], rows: Axis, columns: Axis) -> Self {
        assert!(last_index([rows, columns]).is_none_or(|last| last < data.len()));
        Self {
            data,
            rows,
            columns,
        }
    }

    /// Entry (c, r).
    pub fn transpose(self) -> Self {
        Self {
            data: self.data,
            rows: self.columns,
            columns: self.rows,
        }
    }

    /// The part `start..stop` of the columns.
    pub fn columns(self, start: usize, stop: usize) -> Self {
        let offset = (start * self.columns.stride).min(self.data.len());
        let columns = Axis::new(stop - start, self.columns.stride);
        Self::new(&self.data[offset..], self.rows, columns)
    }

    fn faer(self) -> MatRef<'a, R> {
        // SAFETY: `new` has checked that every entry lies in `data`, which is borrowed for 'a.
        unsafe {
            MatRef::from_raw_parts(
                self.data.as_ptr(),
                self.rows.extent,
                self.columns.extent,
                self.rows.stride as isize,
                self.columns.stride as isize,
            )
        }
    }
}

/// Disjoint matrices of one buffer: one per position of the batch axes and per block of columns.
pub(super) struct Tiles<'a, R> {
    data: *mut R,
    batch: Vec<Axis>,
    rows: Axis,
    columns: Axis,
    column_block: usize,
    borrow: PhantomData<&'a mut [R]>,
}

// SAFETY: a `Tiles` is an exclusive borrow of a slice of `R: Send + Sync`, like the slice itself.
unsafe impl<R: Real> Sync for Tiles<'_, R> {}

impl<'a, R: Real> Tiles<'a, R> {
    /// All matrices `rows × columns`, one per position of `batch`, the first starting at `data[0]`.
    ///
    /// # Panics
    /// Where an element lies outside `data`, or where two positions might be the same element
    /// (see [`disjoint`]).
    pub fn new(data: &'a mut [R], batch: &[Axis], rows: Axis, columns: Axis) -> Self {
        let axes = || batch.iter().copied().chain([rows, columns]);
        assert!(last_index(axes()).is_none_or(|last| last < data.len()));
        assert!(disjoint(axes()), "overlapping output axes");
        Self {
            data: data.as_mut_ptr(),
            batch: batch.to_vec(),
            rows,
            columns,
            column_block: columns.extent.max(1),
            borrow: PhantomData,
        }
    }

    /// Cuts the columns into blocks of this many, the last one shorter.
    pub fn column_blocks(mut self, block: usize) -> Self {
        self.column_block = block.clamp(1, self.columns.extent.max(1));
        self
    }

    /// Number of matrices.
    pub fn count(&self) -> usize {
        self.batch.iter().map(|axis| axis.extent).product::<usize>()
            * self.columns.extent.div_ceil(self.column_block)
    }

    /// Calls `task(scratch, batch position, first column, matrix)` for every matrix.
    ///
    /// In parallel where `work` (multiply-adds per matrix) times their number is worth it; what a task
    /// computes must depend on its position alone, so that threads do not change bits.
    pub fn for_each<S>(
        self,
        work: usize,
        scratch: impl Fn() -> S + Sync + Send,
        task: impl Fn(&mut S, usize, usize, MatMut<'_, R>) + Sync + Send,
    ) {
        let count = self.count();
        if count.saturating_mul(work) < PARALLEL_WORK {
            let mut scratch = scratch();
            for number in 0..count {
                self.visit(number, &mut scratch, &task);
            }
        } else {
            (0..count)
                .into_par_iter()
                .with_min_len((PARALLEL_WORK / 4 / work.max(1)).max(1))
                .for_each_init(scratch, |scratch, number| {
                    self.visit(number, scratch, &task)
                });
        }
    }

    fn visit<S>(
        &self,
        number: usize,
        scratch: &mut S,
        task: &impl Fn(&mut S, usize, usize, MatMut<'_, R>),
    ) {
        // SAFETY: `for_each` visits each number once.
        let ((position, column), matrix) = unsafe { self.matrix(number) };
        task(scratch, position, column, matrix);
    }

    /// Batch position and first column of matrix `number`, and the matrix.
    ///
    /// # Safety
    /// No two matrices of one number may be alive at once.
    unsafe fn matrix(&self, number: usize) -> ((usize, usize), MatMut<'a, R>) {
        let blocks = self.columns.extent.div_ceil(self.column_block);
        let (position, block) = (number / blocks, number % blocks);
        let column = block * self.column_block;
        let columns = self.column_block.min(self.columns.extent - column);
        let offset = offsets(position, &self.batch, |axis| (axis.extent, [axis.stride]))[0]
            + column * self.columns.stride;
        // SAFETY: `new` has checked that all elements lie in the slice borrowed for 'a and that no two
        // positions share one, so matrices of different numbers are disjoint; the caller sees to equal
        // ones. An empty matrix is never dereferenced.
        let matrix = unsafe {
            MatMut::from_raw_parts_mut(
                self.data.wrapping_add(offset),
                self.rows.extent,
                columns,
                self.rows.stride as isize,
                self.columns.stride as isize,
            )
        };
        ((position, column), matrix)
    }
}

/// Whether the axes nest: each one's step is beyond all that the finer ones reach.
///
/// That is enough for no two positions to be one element. Strides that interleave without
/// colliding are refused as well; no layout of a parameter has them.
pub(super) fn disjoint(axes: impl IntoIterator<Item = Axis>) -> bool {
    let mut axes: Vec<Axis> = axes.into_iter().collect();
    if axes.iter().any(|axis| axis.extent == 0) {
        return true;
    }
    axes.retain(|axis| axis.extent > 1);
    axes.sort_by_key(|axis| axis.stride);
    let mut reach = 0;
    axes.iter().all(|axis| {
        let beyond = axis.stride > reach;
        reach += (axis.extent - 1) * axis.stride;
        beyond
    })
}

/// Offsets of a flat row-major position over `axes`, one per stride that `of` names.
pub(super) fn offsets<A, const K: usize>(
    position: usize,
    axes: &[A],
    of: impl Fn(&A) -> (usize, [usize; K]),
) -> [usize; K] {
    let mut rest = position;
    let mut offsets = [0; K];
    for axis in axes.iter().rev() {
        let (extent, strides) = of(axis);
        let index = rest % extent;
        rest /= extent;
        for (offset, stride) in offsets.iter_mut().zip(strides) {
            *offset += index * stride;
        }
    }
    offsets
}

/// `output (+)= left · right`, with both summands of the inner dimension in order.
///
/// # Panics
/// Where the dimensions differ.
pub(super) fn multiply<R: Real>(
    mut output: MatMut<'_, R>,
    accumulate: bool,
    left: View<'_, R>,
    right: View<'_, R>,
    parallel: bool,
) {
    let (rows, columns, inner) = (left.rows.extent, right.columns.extent, left.columns.extent);
    assert_eq!((output.nrows(), output.ncols()), (rows, columns));
    assert_eq!(inner, right.rows.extent);
    if rows == 0 || columns == 0 {
        return;
    }
    // With a vector faer may share the inner dimension between threads: other bits on other machines.
    let worthwhile = rows > 1 && columns > 1 && rows * columns * inner >= PARALLEL_WORK;
    let par = if parallel && worthwhile {
        Par::rayon(0)
    } else {
        Par::Seq
    };
    let one = R::from_f64(1.0);
    if (rows > 1 && columns > 1) || inner <= VECTOR_CHUNK {
        if inner == 0 {
            if !accumulate {
                output.fill(R::default());
            }
            return;
        }
        R::matmul(output, accumulate, left.faer(), right.faer(), one, par);
        return;
    }
    // faer adds the terms of a product with a vector one after another; in f32 a long sum loses digits.
    let half = (inner / 2).next_multiple_of(VECTOR_CHUNK).min(inner - 1);
    multiply(
        output.as_mut(),
        accumulate,
        left.columns(0, half),
        right.transpose().columns(0, half).transpose(),
        parallel,
    );
    let mut second = vec![R::default(); rows * columns];
    multiply(
        MatMut::from_column_major_slice_mut(&mut second, rows, columns),
        false,
        left.columns(half, inner),
        right.transpose().columns(half, inner).transpose(),
        parallel,
    );
    for column in 0..columns {
        for row in 0..rows {
            output[(row, column)] += second[column * rows + row];
        }
    }
}

/// One column or row of a matrix as a slice, where it is contiguous.
pub(super) fn column_slice<R: Real>(matrix: MatMut<'_, R>) -> Option<&mut [R]> {
    assert_eq!(matrix.ncols(), 1);
    Some(matrix.col_mut(0).try_as_col_major_mut()?.as_slice_mut())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matrices_of_one_buffer_are_filled_side_by_side_and_nothing_else_is() {
        for work in [1, PARALLEL_WORK] {
            // Two matrices 3 × 5, whose rows are 6 apart; three blocks of columns each.
            let mut data = vec![-1.0f32; 40];
            let tiles = Tiles::new(
                &mut data,
                &[Axis::new(2, 20)],
                Axis::new(3, 6),
                Axis::new(5, 1),
            );
            let tiles = tiles.column_blocks(2);
            assert_eq!(tiles.count(), 6);
            let number = |position, row, column| (100 * position + 10 * row + column) as f32;
            tiles.for_each(
                work,
                || 0,
                |seen, position, column, mut matrix| {
                    *seen += 1;
                    for c in 0..matrix.ncols() {
                        for r in 0..matrix.nrows() {
                            matrix[(r, c)] = number(position, r, column + c);
                        }
                    }
                },
            );
            for (at, value) in data.iter().enumerate() {
                let (position, row, column) = (at / 20, at % 20 / 6, at % 20 % 6);
                let inside = row < 3 && column < 5;
                let expected = if inside {
                    number(position, row, column)
                } else {
                    -1.0
                };
                assert_eq!(*value, expected, "{at}");
            }
        }
    }

    #[test]
    fn views_reach_their_entries_and_a_column_is_a_slice() {
        let data: Vec<f64> = (0..12).map(f64::from).collect();
        // Entry (r, c) is data[r + 4c].
        let view = View::new(&data, Axis::new(3, 1), Axis::new(3, 4));
        let part = view.columns(1, 3).transpose().faer();
        assert_eq!((part.nrows(), part.ncols()), (2, 3));
        assert_eq!((part[(0, 0)], part[(1, 2)]), (4.0, 10.0));
        let mut into = vec![0.0f64; 6];
        let tiles = Tiles::new(&mut into, &[], Axis::new(6, 1), Axis::new(1, 6));
        tiles.for_each(
            1,
            || (),
            |(), _, _, matrix| {
                let column = column_slice(matrix).expect("its rows are together");
                column.fill(7.0);
            },
        );
        assert_eq!(into, [7.0; 6]);
    }

    #[test]
    fn a_product_of_strided_views_is_that_of_the_matrices() {
        let (left, right): (Vec<f64>, Vec<f64>) = (
            (0..20).map(|k| f64::from(k) - 5.0).collect(),
            (0..20).map(|k| f64::from(k) * 0.5).collect(),
        );
        let (rows, inner, columns) = (3, 4, 2);
        let mut into = vec![1.0; rows * columns];
        let tiles = Tiles::new(&mut into, &[], Axis::new(rows, 2), Axis::new(columns, 1));
        let views = (
            View::new(&left, Axis::new(rows, 5), Axis::new(inner, 1)),
            View::new(&right, Axis::new(inner, 2), Axis::new(columns, 9)),
        );
        tiles.for_each(
            1,
            || (),
            |(), _, _, matrix| multiply(matrix, true, views.0, views.1, false),
        );
        for r in 0..rows {
            for c in 0..columns {
                let terms = (0..inner).map(|k| left[5 * r + k] * right[2 * k + 9 * c]);
                assert_eq!(into[2 * r + c], 1.0 + terms.sum::<f64>());
            }
        }
    }
}
