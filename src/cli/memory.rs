//! The end of a process that gets no more memory: one message and exit code 1, where Rust would abort it with a core dump.

use std::alloc::{GlobalAlloc, Layout, System};

/// The system's allocator; where it gives nothing to who cannot do without, it ends the process.
///
/// Tiles that were written by then stay, as after any other sudden end: the same command resumes the run.
pub struct Memory;

// SAFETY: every call is the system allocator's own, with the same arguments; what it returns is passed on, or nothing is.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        given(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        given(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        given(unsafe { System.realloc(at, layout, size) }, size)
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }
}

#[inline]
fn given(at: *mut u8, bytes: usize) -> *mut u8 {
    if at.is_null() && !crate::memory::may_fail() {
        end(bytes);
    }
    at
}

/// Says so without memory of its own, and ends.
#[cold]
fn end(bytes: usize) {
    let mut text = [0_u8; 256];
    let mut length = 0;
    let mut put = |part: &[u8]| {
        let end = (length + part.len()).min(text.len());
        text[length..end].copy_from_slice(&part[..end - length]);
        length = end;
    };
    let (mut digits, mut first, mut left) = ([b'0'; 20], 20, bytes);
    while left > 0 || first == 20 {
        first -= 1;
        digits[first] = b'0' + (left % 10) as u8;
        left /= 10;
    }
    put(b"hessblock: the system gives no more memory, and ");
    put(&digits[first..]);
    put(b" bytes more are needed: give a smaller --host-memory or --batch, or raise the limit (ulimit -v)\n");
    leave(&text[..length]);
}

#[cfg(unix)]
fn leave(text: &[u8]) {
    // SAFETY: the bytes are `text`'s own. Nothing that runs at an ordinary exit could run here: it may ask for memory.
    unsafe {
        libc::write(2, text.as_ptr().cast(), text.len());
        libc::_exit(1)
    }
}

#[cfg(not(unix))]
fn leave(text: &[u8]) {
    use std::io::Write;
    let _ = std::io::stderr().write_all(text);
    std::process::exit(1)
}
