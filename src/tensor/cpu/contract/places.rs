//! Where blocks of a product go: disjoint places of one buffer, written by several threads, past the caches where
//! the buffer is large. All that is unsafe in the contraction stands here.

use crate::tensor::Real;
use std::marker::PhantomData;

/// Bytes from which a buffer is written past the caches: what is written would push out what is being read, and
/// each line would be fetched before it is overwritten (DESIGN §7).
#[cfg(not(miri))]
const STREAMED: usize = 12 << 20;
/// Small, so that Miri takes the same path.
#[cfg(miri)]
const STREAMED: usize = 8 << 10;
/// Bytes of a cache line.
#[cfg(target_arch = "x86_64")]
const LINE: usize = 64;
/// Bytes of a run below which a plain copy is as good.
#[cfg(target_arch = "x86_64")]
const SHORT: usize = 4 * LINE;

/// A block's place: entry (r, c) at `offset + r·row_step + c·column_step` of the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub offset: usize,
    pub row_step: usize,
    pub column_step: usize,
}

impl Place {
    /// The place of the transposed block.
    pub fn transposed(self) -> Place {
        Place {
            row_step: self.column_step,
            column_step: self.row_step,
            ..self
        }
    }
}

/// A buffer that threads write at disjoint places.
pub(super) struct Shared<'a, R> {
    data: *mut R,
    len: usize,
    streamed: bool,
    borrow: PhantomData<&'a mut [R]>,
}

// SAFETY: a `Shared` is an exclusive borrow of a slice of `R: Send + Sync`; that no two threads meet at an element is
// what its unsafe methods ask for.
unsafe impl<R: Real> Sync for Shared<'_, R> {}

impl<'a, R: Real> Shared<'a, R> {
    /// The buffer, for as long as it is borrowed.
    pub fn new(values: &'a mut [R]) -> Self {
        Self {
            data: values.as_mut_ptr(),
            len: values.len(),
            streamed: size_of_val(values) >= STREAMED && can_stream(),
            borrow: PhantomData,
        }
    }

    /// Writes a run of entries from `at` on.
    ///
    /// # Panics
    /// Where the run reaches beyond the buffer.
    ///
    /// # Safety
    /// Nothing else may read or write the run meanwhile; what was written is seen by other threads after [`fence`].
    pub unsafe fn write(&self, at: usize, values: &[R]) {
        assert!(at <= self.len && values.len() <= self.len - at);
        // SAFETY: the run lies in the buffer, borrowed for 'a; the caller sees to it that nothing else touches it.
        unsafe {
            let to = self.data.add(at);
            #[cfg(target_arch = "x86_64")]
            if self.streamed && size_of_val(values) >= SHORT {
                let bytes = size_of_val(values);
                return stream(to.cast(), values.as_ptr().cast(), bytes);
            }
            std::ptr::copy_nonoverlapping(values.as_ptr(), to, values.len());
        }
    }

    /// Fetches the lines that a run will share with its neighbours: what is written past the caches waits for the stores
    /// before it, and those to such lines for the line.
    pub fn expect(&self, at: usize, len: usize) {
        #[cfg(target_arch = "x86_64")]
        if self.streamed && len > 0 && at < self.len && len <= self.len - at {
            use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
            // SAFETY: both entries lie in the buffer; a prefetch changes nothing that a program sees.
            unsafe {
                let first = self.data.add(at);
                _mm_prefetch::<_MM_HINT_ET0>(first.cast());
                _mm_prefetch::<_MM_HINT_ET0>(first.add(len - 1).cast());
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (at, len);
    }

    /// Writes one entry.
    ///
    /// # Panics
    /// Where it lies beyond the buffer.
    ///
    /// # Safety
    /// As [`Shared::write`].
    pub unsafe fn set(&self, at: usize, value: R) {
        assert!(at < self.len);
        // SAFETY: the entry lies in the buffer; the caller sees to it that nothing else touches it.
        unsafe { self.data.add(at).write(value) };
    }

    /// Reads one entry.
    ///
    /// # Panics
    /// Where it lies beyond the buffer.
    ///
    /// # Safety
    /// As [`Shared::write`].
    pub unsafe fn get(&self, at: usize) -> R {
        assert!(at < self.len);
        // SAFETY: the entry lies in the buffer and is initialised; the caller sees to it that nothing else writes it.
        unsafe { self.data.add(at).read() }
    }

    /// Reads a run of entries from `at` on.
    ///
    /// # Panics
    /// Where the run reaches beyond the buffer.
    ///
    /// # Safety
    /// As [`Shared::write`].
    pub unsafe fn read(&self, at: usize, into: &mut [R]) {
        assert!(at <= self.len && into.len() <= self.len - at);
        // SAFETY: as in `write`.
        unsafe { std::ptr::copy_nonoverlapping(self.data.add(at), into.as_mut_ptr(), into.len()) };
    }
}

/// Whether this machine has the instructions that write past the caches.
fn can_stream() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Copies past the caches: whole lines, plain copies before the first and after the last.
///
/// # Safety
/// As [`std::ptr::copy_nonoverlapping`] of so many bytes, a multiple of four, on a machine that has AVX.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx")]
unsafe fn stream(to: *mut u8, from: *const u8, bytes: usize) {
    // Past the caches is written by assembly, which Miri does not run: an aligned store asks for the same.
    use std::arch::x86_64::_mm256_loadu_ps;
    #[cfg(miri)]
    use std::arch::x86_64::_mm256_store_ps as _mm256_stream_ps;
    #[cfg(not(miri))]
    use std::arch::x86_64::_mm256_stream_ps;
    let head = to.align_offset(LINE).min(bytes);
    let lines = (bytes - head) / LINE;
    // SAFETY: head, lines and tail are parts of the caller's range; `to + head` is aligned to a line.
    unsafe {
        copy_less_than_a_line(to, from, head);
        for line in 0..lines {
            let at = head + line * LINE;
            let (first, second) = (from.add(at).cast(), from.add(at + LINE / 2).cast());
            let (first, second) = (_mm256_loadu_ps(first), _mm256_loadu_ps(second));
            _mm256_stream_ps(to.add(at).cast(), first);
            _mm256_stream_ps(to.add(at + LINE / 2).cast(), second);
        }
        let done = head + lines * LINE;
        copy_less_than_a_line(to.add(done), from.add(done), bytes - done);
    }
}

/// Copies fewer bytes than a line, a multiple of four: without a call, which would take longer than the copy.
///
/// # Safety
/// As [`std::ptr::copy_nonoverlapping`], on a machine that has AVX.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx")]
unsafe fn copy_less_than_a_line(mut to: *mut u8, mut from: *const u8, bytes: usize) {
    use std::arch::x86_64::{_mm_loadu_ps, _mm_storeu_ps, _mm256_loadu_ps, _mm256_storeu_ps};
    // SAFETY: the steps add up to `bytes`.
    unsafe {
        if bytes & 32 != 0 {
            _mm256_storeu_ps(to.cast(), _mm256_loadu_ps(from.cast()));
            (to, from) = (to.add(32), from.add(32));
        }
        if bytes & 16 != 0 {
            _mm_storeu_ps(to.cast(), _mm_loadu_ps(from.cast()));
            (to, from) = (to.add(16), from.add(16));
        }
        if bytes & 8 != 0 {
            to.cast::<u64>()
                .write_unaligned(from.cast::<u64>().read_unaligned());
            (to, from) = (to.add(8), from.add(8));
        }
        if bytes & 4 != 0 {
            to.cast::<u32>()
                .write_unaligned(from.cast::<u32>().read_unaligned());
        }
    }
}

/// Orders what this thread wrote past the caches before what it does next.
pub(super) fn fence() {
    // Miri knows neither these writes nor the instruction that orders them; it checks races by what orders threads.
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: every x86-64 processor has SSE.
    unsafe {
        std::arch::x86_64::_mm_sfence();
    }
}

/// Transposes `from` (rows of `stride`, entry (0, 0) first) to `into`: `into[c·into_stride + r] = from[r·stride + c]`
/// for r < `rows`, c < `columns`.
///
/// # Panics
/// Where an entry lies beyond its slice.
pub(super) fn transpose<R: Real>(
    (from, stride): (&[R], usize),
    (into, into_stride): (&mut [R], usize),
    rows: usize,
    columns: usize,
) {
    if rows == 0 || columns == 0 {
        return;
    }
    assert!((rows - 1) * stride + columns <= from.len());
    assert!((columns - 1) * into_stride + rows <= into.len());
    let mut done = 0;
    #[cfg(target_arch = "x86_64")]
    if size_of::<R>() == 4 && std::arch::is_x86_feature_detected!("avx") {
        done = rows / 8 * 8;
        for row in (0..done).step_by(8) {
            for column in (0..columns / 8 * 8).step_by(8) {
                // SAFETY: numbers of 4 bytes; both squares of 8 × 8 lie in their slices, as asserted.
                unsafe {
                    let from = from.as_ptr().add(row * stride + column);
                    let into = into.as_mut_ptr().add(column * into_stride + row);
                    transpose_eight(from.cast(), stride, into.cast(), into_stride);
                }
            }
            for column in columns / 8 * 8..columns {
                for r in row..row + 8 {
                    into[column * into_stride + r] = from[r * stride + column];
                }
            }
        }
    }
    for column in 0..columns {
        for r in done..rows {
            into[column * into_stride + r] = from[r * stride + column];
        }
    }
}

/// Fills a square block below its diagonal from above it.
///
/// # Panics
/// Where an entry lies beyond the block.
pub(super) fn mirror<R: Real>(block: &mut [R], stride: usize, extent: usize) {
    if extent == 0 {
        return;
    }
    assert!((extent - 1) * stride + extent <= block.len() && extent <= stride);
    #[cfg(target_arch = "x86_64")]
    let eights = size_of::<R>() == 4 && std::arch::is_x86_feature_detected!("avx");
    /// Side of the squares that are mirrored at once.
    const SIDE: usize = 8;
    for row in (0..extent).step_by(SIDE) {
        for column in (0..=row).step_by(SIDE) {
            #[cfg(target_arch = "x86_64")]
            if eights && column < row && row + SIDE <= extent {
                // SAFETY: numbers of 4 bytes; both squares lie in the block, as asserted, and are apart.
                unsafe {
                    let block = block.as_mut_ptr();
                    let from = block.add(column * stride + row).cast();
                    let into = block.add(row * stride + column).cast();
                    transpose_eight(from, stride, into, stride);
                }
                continue;
            }
            for r in row..extent.min(row + SIDE) {
                for c in column..r.min(column + SIDE) {
                    block[r * stride + c] = block[c * stride + r];
                }
            }
        }
    }
}

/// Transposes 8 × 8 numbers of 4 bytes.
///
/// # Safety
/// Both squares must be valid for reads and writes, on a machine that has AVX.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx")]
unsafe fn transpose_eight(from: *const f32, stride: usize, into: *mut f32, into_stride: usize) {
    use std::arch::x86_64::*;
    // Written out: closures would keep the compiler from holding all of it in registers.
    // SAFETY: rows and columns of the squares, by the caller.
    unsafe {
        let row = |k: usize| from.add(k * stride);
        let (r0, r1) = (_mm256_loadu_ps(row(0)), _mm256_loadu_ps(row(1)));
        let (r2, r3) = (_mm256_loadu_ps(row(2)), _mm256_loadu_ps(row(3)));
        let (r4, r5) = (_mm256_loadu_ps(row(4)), _mm256_loadu_ps(row(5)));
        let (r6, r7) = (_mm256_loadu_ps(row(6)), _mm256_loadu_ps(row(7)));
        // Pairs of rows, then fours, then all eight.
        let (p0, p1) = (_mm256_unpacklo_ps(r0, r1), _mm256_unpackhi_ps(r0, r1));
        let (p2, p3) = (_mm256_unpacklo_ps(r2, r3), _mm256_unpackhi_ps(r2, r3));
        let (p4, p5) = (_mm256_unpacklo_ps(r4, r5), _mm256_unpackhi_ps(r4, r5));
        let (p6, p7) = (_mm256_unpacklo_ps(r6, r7), _mm256_unpackhi_ps(r6, r7));
        let f0 = _mm256_shuffle_ps::<0x44>(p0, p2);
        let f1 = _mm256_shuffle_ps::<0xee>(p0, p2);
        let f2 = _mm256_shuffle_ps::<0x44>(p1, p3);
        let f3 = _mm256_shuffle_ps::<0xee>(p1, p3);
        let f4 = _mm256_shuffle_ps::<0x44>(p4, p6);
        let f5 = _mm256_shuffle_ps::<0xee>(p4, p6);
        let f6 = _mm256_shuffle_ps::<0x44>(p5, p7);
        let f7 = _mm256_shuffle_ps::<0xee>(p5, p7);
        let column = |k: usize| into.add(k * into_stride);
        _mm256_storeu_ps(column(0), _mm256_permute2f128_ps::<0x20>(f0, f4));
        _mm256_storeu_ps(column(1), _mm256_permute2f128_ps::<0x20>(f1, f5));
        _mm256_storeu_ps(column(2), _mm256_permute2f128_ps::<0x20>(f2, f6));
        _mm256_storeu_ps(column(3), _mm256_permute2f128_ps::<0x20>(f3, f7));
        _mm256_storeu_ps(column(4), _mm256_permute2f128_ps::<0x31>(f0, f4));
        _mm256_storeu_ps(column(5), _mm256_permute2f128_ps::<0x31>(f1, f5));
        _mm256_storeu_ps(column(6), _mm256_permute2f128_ps::<0x31>(f2, f6));
        _mm256_storeu_ps(column(7), _mm256_permute2f128_ps::<0x31>(f3, f7));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_every_length_and_alignment_arrive_and_touch_nothing_else() {
        let values: Vec<f32> = (0..700).map(|k| k as f32).collect();
        // Large enough to be written past the caches.
        let mut buffer = vec![-1.0f32; STREAMED / 4 + 1000];
        for at in [0, 1, 5, 16, 31] {
            for len in [0, 1, 7, 63, 64, 65, 130, 700] {
                let shared = Shared::new(&mut buffer);
                // SAFETY: one thread.
                unsafe { shared.write(at + 3, &values[..len]) };
                fence();
                assert!(buffer[..at + 3].iter().all(|v| *v == -1.0));
                assert_eq!(buffer[at + 3..at + 3 + len], values[..len]);
                assert!(buffer[at + 3 + len..][..900].iter().all(|v| *v == -1.0));
                buffer[..2000].fill(-1.0);
            }
        }
    }

    fn transposes<R: Real>() {
        for (rows, columns) in [(1, 1), (8, 8), (9, 7), (16, 16), (17, 31), (3, 40)] {
            let (stride, into_stride) = (columns + 3, rows + 2);
            let from: Vec<R> = (0..rows * stride).map(|k| R::from_f64(k as f64)).collect();
            let mut into = vec![R::from_f64(f64::NAN); columns * into_stride];
            transpose((&from, stride), (&mut into, into_stride), rows, columns);
            for row in 0..rows {
                for column in 0..columns {
                    let value = into[column * into_stride + row].to_f64();
                    assert_eq!(value, from[row * stride + column].to_f64());
                }
            }
        }
    }

    #[test]
    fn blocks_of_every_shape_are_transposed() {
        transposes::<f32>();
        transposes::<f64>();
    }

    fn mirrors<R: Real>() {
        for extent in [1, 5, 8, 16, 23, 40] {
            let stride = extent + 3;
            let value = |r: usize, c: usize| R::from_f64((r.min(c) * 100 + r.max(c)) as f64);
            let mut block = vec![R::from_f64(-1.0); extent * stride];
            for r in 0..extent {
                for c in r..extent {
                    block[r * stride + c] = value(r, c);
                }
            }
            mirror(&mut block, stride, extent);
            for r in 0..extent {
                for c in 0..extent {
                    assert_eq!(block[r * stride + c].to_f64(), value(r, c).to_f64());
                }
            }
        }
    }

    #[test]
    fn what_lies_below_the_diagonal_is_what_lies_above_it() {
        mirrors::<f32>();
        mirrors::<f64>();
    }
}
