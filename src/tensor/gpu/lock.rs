//! Mutexes that a panic elsewhere does not poison.

use std::sync::{Mutex, MutexGuard};

/// Locks a mutex. What the mutexes here guard stays consistent between statements, so that a panic elsewhere must not spread.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}
