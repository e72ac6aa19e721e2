//! Blocks of a product that stay in a core's cache: one is computed while the one before it is written out.
//!
//! A thread has two blocks. Between the panels of the product in one, rows of the other go to their places: memory takes
//! them while the registers multiply (DESIGN §7: 0.59 s become 0.33 s). An entry is written once to each of its places.

use super::panels::{Geometry, Product};
use super::places::{Place, Shared, fence, mirror, transpose};
use crate::tensor::Real;
use crate::tensor::cpu::pool;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Rows and columns of a block at most: two of f32 take 560 KiB, of which the one being written need not stay in a second-level cache.
#[cfg(not(miri))]
pub(super) const BLOCK: usize = 256;
/// Small, so that Miri sees several.
#[cfg(miri)]
pub(super) const BLOCK: usize = 32;
/// Summands that are added up in registers: more would lose digits, and their panels the first-level cache.
pub(super) const DEPTH: usize = 256;
/// Numbers between a block's rows beside its columns, so that columns do not meet in the same sets of the cache.
const APART: usize = 16;
/// Columns of a block that are transposed together.
const BAND: usize = 16;
/// Rows before a row is written when its first and last lines are fetched.
const AHEAD: usize = 8;
/// Parts of a run that are counted when runs are spread over the panels of a product.
const RUN: usize = 256;
/// Places of a block at most.
const PLACES: usize = 4;

/// Cuts an extent into blocks of one size, a multiple of `step`, of at most [`BLOCK`]; a single block is the extent.
pub(super) fn blocks(
    extent: usize,
    step: usize,
) -> impl Iterator<Item = std::ops::Range<usize>> + Clone {
    let count = extent.div_ceil(BLOCK).max(1);
    let size = extent.div_ceil(count).next_multiple_of(step);
    // A multiple may reach beyond the buffers.
    let size = if count > 1 && size > BLOCK {
        BLOCK / step * step
    } else {
        size
    };
    (0..extent)
        .step_by(size.max(1))
        .map(move |start| start..(start + size).min(extent))
}

/// Cuts so many summands into what is added up in registers.
pub(super) fn depths(summands: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    (0..summands)
        .step_by(DEPTH)
        .map(move |start| start..(start + DEPTH).min(summands))
}

/// A block that is computed, and where it goes.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub rows: usize,
    pub columns: usize,
    /// Whether it is symmetric, so that its upper half is computed alone.
    pub symmetric: bool,
    places: [Option<Place>; PLACES],
}

impl Shape {
    pub fn new(rows: usize, columns: usize, symmetric: bool) -> Self {
        Self {
            rows,
            columns,
            symmetric,
            places: [None; PLACES],
        }
    }

    /// Adds a place. A symmetric block is its own transpose, and takes the order in which its rows are contiguous.
    pub fn at(mut self, place: Place) -> Self {
        let turned = self.symmetric && place.column_step != 1;
        let free = self.places.iter_mut().find(|place| place.is_none());
        *free.expect("a block has four places at most") =
            Some(if turned { place.transposed() } else { place });
        self
    }

    fn places(&self) -> impl Iterator<Item = Place> {
        self.places.into_iter().flatten()
    }

    /// Rows and columns of all places: what there is to write.
    fn runs(&self) -> usize {
        let of = |place: Place| {
            if place.column_step != 1 && place.row_step == 1 {
                self.columns
            } else {
                self.rows
            }
        };
        self.places().map(of).sum()
    }
}

/// What of a finished block is still to be written.
struct Pending {
    shape: Shape,
    /// Index of the place, and of its next row (or column).
    place: usize,
    next: usize,
    /// Runs that may be written before it is the others' turn, in parts of [`RUN`].
    credit: isize,
    /// The same, per panel.
    rate: isize,
}

/// A thread's buffers.
pub(super) struct Worker<'a, R: Real> {
    shared: &'a Shared<'a, R>,
    pub geometry: Geometry,
    blocks: [Vec<R>; 2],
    band: Vec<R>,
    /// Distance between a block's rows.
    stride: usize,
    current: usize,
    shape: Shape,
    /// Whether the current block holds sums.
    filled: bool,
    pending: Option<Pending>,
    finite: bool,
    packs: Packs<R>,
}

/// Packed operands of a task, and what they are packed from; they hold anything, and are kept for the next task.
#[derive(Default)]
pub(super) struct Packs<R> {
    pub left: Vec<R>,
    pub right: Vec<R>,
    /// P of an output of the fixed side and those of the task, of each sample: `[outputs, samples]`.
    pub pairs: Vec<R>,
    pub sums: Vec<R>,
    pub weights: Vec<R>,
    pub row: Vec<R>,
    /// Samples that are not left out.
    pub kept: Vec<u32>,
}

/// At least so many numbers of a buffer, which hold anything.
pub(super) fn room<R: Real>(buffer: &mut Vec<R>, numbers: usize) -> &mut [R] {
    if buffer.len() < numbers {
        buffer.resize(numbers, R::default());
    }
    &mut buffer[..numbers]
}

impl<'a, R: Real> Worker<'a, R> {
    fn new(shared: &'a Shared<'a, R>) -> Self {
        let geometry = Geometry::of::<R>();
        let stride = BLOCK.next_multiple_of(geometry.columns) + APART;
        let rows = BLOCK.next_multiple_of(geometry.rows);
        Self {
            shared,
            geometry,
            blocks: [
                pool::unwritten(rows * stride),
                pool::unwritten(rows * stride),
            ],
            band: pool::unwritten(BAND * rows),
            stride,
            current: 0,
            shape: Shape::new(0, 0, false),
            filled: false,
            pending: None,
            finite: true,
            packs: Packs::default(),
        }
    }

    /// The buffers of a task.
    pub fn packs(&mut self) -> Packs<R> {
        std::mem::take(&mut self.packs)
    }

    /// The buffers for the next task.
    pub fn put_back(&mut self, packs: Packs<R>) {
        self.packs = packs;
    }

    /// Starts a block; where `add`, from what its places hold.
    pub fn begin(&mut self, shape: Shape, add: bool) {
        debug_assert!(shape.rows <= BLOCK && shape.columns <= BLOCK);
        self.shape = shape;
        self.filled = add;
        if add {
            self.load();
        }
    }

    /// Adds `Σ_k left[k, r]·right[k, c]` of packed operands (see [`Product`]), while the block before goes out.
    pub fn add(
        &mut self,
        left: &[R],
        (right, right_depth): (&[R], usize),
        kept: Option<&[u32]>,
        depth: usize,
    ) {
        let (front, back) = self.blocks.split_at_mut(1);
        let (block, written) = match self.current {
            0 => (&mut front[0], &back[0]),
            _ => (&mut back[0], &front[0]),
        };
        let (rows, columns, upper) = (self.shape.rows, self.shape.columns, self.shape.symmetric);
        if let Some(pending) = &mut self.pending {
            let count = Product::<R, fn()>::count(rows, columns, upper, self.geometry).max(1);
            pending.rate = (pending.left() * RUN).div_ceil(count) as isize;
        }
        let (pending, shared, stride, band) =
            (&mut self.pending, self.shared, self.stride, &mut self.band);
        let product = Product {
            left,
            right,
            right_depth,
            kept,
            depth,
            block,
            stride,
            rows,
            columns,
            upper,
            add: self.filled,
            between: || {
                if let Some(pending) = pending {
                    pending.credit += pending.rate;
                    pending.write(shared, written, stride, band);
                }
            },
        };
        self.finite &= product.run();
        self.filled = true;
    }

    /// The block is whole: it goes out while the next one is computed.
    pub fn end(&mut self) {
        if !self.filled {
            // No summand at all: the sum is zero.
            for row in self.blocks[self.current]
                .chunks_mut(self.stride)
                .take(self.shape.rows)
            {
                row[..self.shape.columns].fill(R::default());
            }
        } else if self.shape.symmetric {
            mirror(&mut self.blocks[self.current], self.stride, self.shape.rows);
        }
        self.write_out();
        self.pending = Some(Pending {
            shape: self.shape.clone(),
            place: 0,
            next: 0,
            credit: 0,
            rate: 0,
        });
        self.current = 1 - self.current;
    }

    /// Writes all that is pending.
    fn write_out(&mut self) {
        if let Some(mut pending) = self.pending.take() {
            pending.credit = isize::MAX;
            let written = &self.blocks[1 - self.current];
            pending.write(self.shared, written, self.stride, &mut self.band);
        }
    }

    /// Reads the block from its first place.
    fn load(&mut self) {
        let block = &mut self.blocks[self.current];
        let place = self.shape.places().next().expect("a block has a place");
        // What panels have beyond the block is added to as well.
        let rows = self.shape.rows.next_multiple_of(self.geometry.rows);
        let columns = self.shape.columns.next_multiple_of(self.geometry.columns);
        for (row, values) in block.chunks_mut(self.stride).take(rows).enumerate() {
            let inside = if row < self.shape.rows {
                self.shape.columns
            } else {
                0
            };
            values[inside..columns].fill(R::default());
        }
        for row in 0..self.shape.rows {
            let into = &mut block[row * self.stride..][..self.shape.columns];
            let at = place.offset + row * place.row_step;
            // SAFETY: the place is this task's alone (see `work`).
            unsafe {
                if place.column_step == 1 {
                    self.shared.read(at, into);
                } else {
                    for (column, into) in into.iter_mut().enumerate() {
                        *into = self.shared.get(at + column * place.column_step);
                    }
                }
            }
        }
    }
}

impl Pending {
    /// Runs that are left.
    fn left(&self) -> usize {
        let mut rest = self.shape.clone();
        rest.places
            .iter_mut()
            .take(self.place)
            .for_each(|place| *place = None);
        rest.runs().saturating_sub(self.next)
    }

    /// Writes while there is credit.
    fn write<R: Real>(
        &mut self,
        shared: &Shared<'_, R>,
        block: &[R],
        stride: usize,
        band: &mut [R],
    ) {
        let (rows, columns) = (self.shape.rows, self.shape.columns);
        while self.credit > 0
            && let Some(place) = self.shape.places.get(self.place).copied().flatten()
        {
            let by_columns = place.column_step != 1 && place.row_step == 1;
            // SAFETY: the place is this task's alone (see `work`).
            unsafe {
                if by_columns {
                    let last = (self.next + BAND).min(columns);
                    let from = (&block[self.next..], stride);
                    transpose(from, (band, rows), rows, last - self.next);
                    for (column, run) in (self.next..last).zip(band.chunks(rows)) {
                        shared.write(place.offset + column * place.column_step, run);
                    }
                    self.credit -= ((last - self.next) * RUN) as isize;
                    self.next = last;
                } else {
                    let row = &block[self.next * stride..][..columns];
                    let at = place.offset + self.next * place.row_step;
                    if place.column_step == 1 {
                        shared.expect(at + AHEAD * place.row_step, columns);
                        shared.write(at, row);
                    } else {
                        for (column, value) in row.iter().enumerate() {
                            shared.set(at + column * place.column_step, *value);
                        }
                    }
                    self.credit -= RUN as isize;
                    self.next += 1;
                }
            }
            if self.next >= if by_columns { columns } else { rows } {
                (self.place, self.next) = (self.place + 1, 0);
            }
        }
    }
}

impl<R: Real> Drop for Worker<'_, R> {
    fn drop(&mut self) {
        let [first, second] = &mut self.blocks;
        for buffer in [first, second, &mut self.band] {
            drop(pool::Buffer::new(std::mem::take(buffer)));
        }
    }
}

/// Runs `task(worker, number)` for every number below `count`, on several threads where `operations` (multiply-adds of all)
/// are worth it; returns whether all results are finite.
///
/// # Safety
/// The places of blocks of different tasks must be disjoint.
pub(super) unsafe fn work<R: Real>(
    values: &mut [R],
    count: usize,
    operations: usize,
    task: impl Fn(&mut Worker<'_, R>, usize) + Sync,
) -> bool {
    let shared = Shared::new(values);
    let (next, finite) = (AtomicUsize::new(0), AtomicBool::new(true));
    let run = || {
        let mut worker = Worker::new(&shared);
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                break;
            }
            task(&mut worker, number);
        }
        worker.write_out();
        fence();
        finite.fetch_and(worker.finite, Ordering::Relaxed);
    };
    let threads = rayon::current_num_threads().min(count);
    if threads > 1 && operations >= super::super::matrix::PARALLEL_WORK {
        rayon::scope(|scope| (0..threads).for_each(|_| scope.spawn(|_| run())));
    } else {
        run();
    }
    finite.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_an_extent_and_start_at_multiples() {
        for step in [1, 24, 48, 96] {
            for extent in [0, 1, 47, 48, 255, 256, 257, 300, 511, 513, 1000, 4097] {
                let mut end = 0;
                for block in blocks(extent, step) {
                    assert_eq!(block.start, end);
                    assert!(block.len() <= BLOCK && !block.is_empty());
                    assert_eq!(block.start % step, 0);
                    end = block.end;
                }
                assert_eq!(end, extent);
            }
        }
    }
}
