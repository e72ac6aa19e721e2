//! Buffers of zeros on huge pages, and room for what a file says it holds.

use crate::bytes::Bytes;
use crate::error::{Error, Result};
use std::cell::Cell;
use std::collections::TryReserveError;
use std::sync::Arc;

/// Bytes in memory, whoever owns them.
pub type SharedBytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

thread_local! {
    static MAY_FAIL: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is asking for memory that it can do without: for an allocator that otherwise ends the process, with a
/// message, where there is no more.
pub fn may_fail() -> bool {
    MAY_FAIL.with(Cell::get)
}

/// Makes room in a vector for so many more entries, and no more.
///
/// # Errors
/// Where there is not as much memory.
pub(crate) fn try_reserve<T>(values: &mut Vec<T>, count: usize) -> Result<(), TryReserveError> {
    let before = MAY_FAIL.replace(true);
    let reserved = values.try_reserve_exact(count);
    MAY_FAIL.set(before);
    reserved
}

/// An empty vector with room for `count` numbers that are to be read from a file.
///
/// # Errors
/// [`Error::Request`] where memory does not hold them: the file may say more than it is.
pub(crate) fn room<T>(count: usize) -> Result<Vec<T>> {
    let mut values = Vec::new();
    try_reserve(&mut values, count).map_err(|_| {
        let bytes = count as u128 * size_of::<T>() as u128;
        Error::Request(format!(
            "{} are asked for at once, more than memory holds: read fewer numbers at a time",
            Bytes(bytes)
        ))
    })?;
    Ok(values)
}

/// From this size on, the kernel is asked for huge pages.
#[cfg(all(target_os = "linux", not(miri)))]
const HUGE: usize = 4 << 20;

/// A buffer of zeros, untouched: the system gives its pages when they are first written.
///
/// Large ones ask for pages of 2 MiB: faulting in small ones costs more than writing the numbers (1.2-2.5 s
/// for 3.8 GB where huge pages take 0.2 s, DESIGN §7; 66 ms for the 157 MB of a LeNet layer's rows).
pub(crate) fn zeros<T: Clone + Default>(len: usize) -> Vec<T> {
    let buffer = vec![T::default(); len];
    // Advice to the kernel, which Miri has none of.
    #[cfg(all(target_os = "linux", not(miri)))]
    if size_of_val(buffer.as_slice()) >= HUGE {
        ask_for_huge_pages(&buffer);
    }
    buffer
}

#[cfg(all(target_os = "linux", not(miri)))]
fn ask_for_huge_pages<T>(buffer: &[T]) {
    const PAGE: usize = 2 << 20;
    let bytes = buffer.as_ptr().cast::<u8>();
    let skipped = bytes.align_offset(PAGE);
    let len = size_of_val(buffer).saturating_sub(skipped) / PAGE * PAGE;
    let start = bytes.wrapping_add(skipped).cast_mut().cast();
    // SAFETY: the range lies in `buffer`, and this advice changes how its pages are backed, not what they
    // hold. A refusal leaves small pages, which are only slower.
    let _ = unsafe { rustix::mm::madvise(start, len, rustix::mm::Advice::LinuxHugepage) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_zeros_whatever_their_pages() {
        let large = if cfg!(miri) { 1 << 10 } else { 3 << 20 };
        for count in [0, 1, large] {
            assert!(zeros::<f32>(count) == vec![0.0; count]);
        }
    }

    #[test]
    fn what_memory_does_not_hold_is_refused() {
        assert!(room::<f64>(1000).unwrap().capacity() >= 1000);
        let error = room::<f64>(usize::MAX).unwrap_err().to_string();
        assert!(error.contains("EiB") && error.contains("fewer"), "{error}");
    }
}
