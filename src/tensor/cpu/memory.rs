//! Memory for results.

use crate::tensor::Real;

/// From this size on, the kernel is asked for huge pages.
#[cfg(target_os = "linux")]
const HUGE: usize = 4 << 20;

/// A buffer of zeros.
///
/// Large ones ask for huge pages: faulting in 4 KiB pages costs more than writing the numbers (the rows of a
/// LeNet layer, 157 MB, took 66 ms to fault and fill with small pages).
pub(super) fn zeros<R: Real>(len: usize) -> Vec<R> {
    let buffer = vec![R::default(); len];
    #[cfg(target_os = "linux")]
    if size_of_val(buffer.as_slice()) >= HUGE {
        ask_for_huge_pages(&buffer);
    }
    buffer
}

#[cfg(target_os = "linux")]
fn ask_for_huge_pages<R>(buffer: &[R]) {
    const PAGE: usize = 2 << 20;
    let bytes = buffer.as_ptr().cast::<u8>();
    let skipped = bytes.align_offset(PAGE);
    let len = size_of_val(buffer).saturating_sub(skipped) / PAGE * PAGE;
    let start = bytes.wrapping_add(skipped).cast_mut().cast();
    // SAFETY: the range lies in `buffer`, and this advice changes how its pages are backed, not what they
    // hold. A refusal leaves small pages, which are only slower.
    let _ = unsafe { rustix::mm::madvise(start, len, rustix::mm::Advice::LinuxHugepage) };
}
