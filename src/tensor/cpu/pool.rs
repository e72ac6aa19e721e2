//! Buffers used again: passes over a network ask for the same lengths over and over.
//!
//! The allocator gives buffers of these sizes back to the system, and their next pages are faulted in anew, which
//! costs more than writing the numbers: half the time of a LeNet-5's gradient. Larger buffers are left alone: they
//! lie on huge pages, see [`crate::memory`].

use crate::memory::zeros;
use crate::tensor::Real;
use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes of a buffer that is kept.
const KEPT: RangeInclusive<usize> = 16 << 10..=4 << 20;
/// Bytes of all buffers that wait; what is given back beyond clears the others away, which may be of a network
/// that is gone.
const MOST: usize = 64 << 20;

/// Buffers of one type and length.
struct Shelf {
    waiting: Vec<Box<dyn Any + Send>>,
    /// Buffers handed out and not back yet. Others (read from a file, say) are not kept: nobody would ask for them.
    lent: usize,
}

struct Shelves {
    bytes: usize,
    by_length: BTreeMap<(TypeId, usize), Shelf>,
}

static SHELVES: Mutex<Shelves> = Mutex::new(Shelves {
    bytes: 0,
    by_length: BTreeMap::new(),
});

fn shelves() -> MutexGuard<'static, Shelves> {
    // A thread that panicked left at most a buffer unaccounted for.
    SHELVES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_kept<R>(len: usize) -> bool {
    KEPT.contains(&(len * size_of::<R>()))
}

/// A buffer that waited.
fn waiting<R: Real>(len: usize) -> Option<Vec<R>> {
    if !is_kept::<R>(len) {
        return None;
    }
    let mut shelves = shelves();
    let key = (TypeId::of::<R>(), len);
    let shelf = shelves.by_length.entry(key).or_insert(Shelf {
        waiting: Vec::new(),
        lent: 0,
    });
    shelf.lent += 1;
    let buffer = shelf.waiting.pop()?;
    shelves.bytes -= len * size_of::<R>();
    let buffer = buffer.downcast::<Vec<R>>();
    Some(*buffer.expect("a shelf's key has its type"))
}

/// A buffer whose every element the caller writes: it holds anything (NaN in debug builds).
pub(super) fn unwritten<R: Real>(len: usize) -> Vec<R> {
    let mut buffer = waiting(len).unwrap_or_else(|| zeros(len));
    if cfg!(debug_assertions) {
        buffer.fill(R::from_f64(f64::NAN));
    }
    buffer
}

/// A buffer of zeros.
pub(super) fn zeroed<R: Real>(len: usize) -> Vec<R> {
    match waiting(len) {
        Some(mut buffer) => {
            buffer.fill(R::default());
            buffer
        }
        None => zeros(len),
    }
}

/// Numbers of a tensor; their memory goes back when the last tensor that shares it goes.
#[derive(Debug)]
pub(super) struct Buffer<R: Real>(Vec<R>);

impl<R: Real> Buffer<R> {
    pub fn new(values: Vec<R>) -> Self {
        Self(values)
    }
}

impl<R: Real> std::ops::Deref for Buffer<R> {
    type Target = [R];

    fn deref(&self) -> &[R] {
        &self.0
    }
}

impl<R: Real> Drop for Buffer<R> {
    fn drop(&mut self) {
        let len = self.0.len();
        if !is_kept::<R>(len) {
            return;
        }
        let mut shelves = shelves();
        let Some(shelf) = shelves.by_length.get_mut(&(TypeId::of::<R>(), len)) else {
            return;
        };
        if shelf.lent == 0 {
            return;
        }
        shelf.lent -= 1;
        shelf.waiting.push(Box::new(std::mem::take(&mut self.0)));
        shelves.bytes += len * size_of::<R>();
        if shelves.bytes > MOST {
            shelves.bytes = 0;
            for shelf in shelves.by_length.values_mut() {
                shelf.waiting.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_with_zeros_where_these_are_asked_for() {
        // A length of this test alone: others run beside it.
        const LEN: usize = 12_347;
        for _ in 0..3 {
            let mut values = unwritten::<f64>(LEN);
            values.fill(7.0);
            drop(Buffer::new(values));
            let values = zeroed::<f64>(LEN);
            assert_eq!(values, vec![0.0; LEN]);
            drop(Buffer::new(values));
        }
    }

    #[test]
    fn a_buffer_that_was_not_lent_is_not_kept() {
        const LEN: usize = 12_349;
        drop(Buffer::new(vec![1.0f32; LEN]));
        drop(Buffer::new(zeroed::<f32>(LEN)));
        drop(Buffer::new(vec![1.0f32; LEN]));
        let key = (TypeId::of::<f32>(), LEN);
        let waiting = shelves()
            .by_length
            .get(&key)
            .map_or(0, |shelf| shelf.waiting.len());
        assert!(waiting <= 1);
    }
}
