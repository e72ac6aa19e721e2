//! Which tiles of a run are to be made, under way, and made; shared by its devices.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Tiles and vectors of a run, taken by its devices from one queue.
///
/// A tile's number is its place in the plan's list, which does not depend on the memory that is planned with: what was
/// made stays made when a run is planned anew.
pub(super) struct Ledger {
    state: Mutex<State>,
    stopped: AtomicBool,
}

struct State {
    /// Numbers of the tiles that nobody makes.
    waiting: BTreeSet<usize>,
    /// How many are made: handed to the writers.
    done: usize,
    all: usize,
    /// How many an earlier run made.
    found: usize,
    vectors: Vectors,
}

/// What is to be made beside tiles, by one of the devices.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Vectors {
    Waiting,
    UnderWay,
    Done,
}

impl Ledger {
    /// A run of these tiles, and of vectors, beside so many tiles that an earlier run made.
    pub(super) fn new(tiles: BTreeSet<usize>, vectors: bool, found: usize) -> Ledger {
        Ledger {
            state: Mutex::new(State {
                done: 0,
                all: tiles.len(),
                found,
                waiting: tiles,
                vectors: match vectors {
                    true => Vectors::Waiting,
                    false => Vectors::Done,
                },
            }),
            stopped: AtomicBool::new(false),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Counters stay consistent between statements, whoever panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next tiles that nobody makes, at most so many; none where all are made or under way.
    pub(super) fn take(&self, most: usize) -> Vec<usize> {
        let mut state = self.state();
        let taken: Vec<usize> = state.waiting.iter().copied().take(most).collect();
        for tile in &taken {
            state.waiting.remove(tile);
        }
        taken
    }

    /// Whether there are tiles that nobody makes.
    pub(super) fn has_waiting(&self) -> bool {
        !self.state().waiting.is_empty()
    }

    /// A tile was handed to the writers.
    pub(super) fn done(&self) {
        self.state().done += 1;
    }

    /// Tiles that were taken and will not be made by who took them.
    pub(super) fn put_back(&self, tiles: impl IntoIterator<Item = usize>) {
        self.state().waiting.extend(tiles);
    }

    /// Whether the caller is to make the vectors.
    pub(super) fn take_vectors(&self) -> bool {
        let mut state = self.state();
        let waiting = state.vectors == Vectors::Waiting;
        if waiting {
            state.vectors = Vectors::UnderWay;
        }
        waiting
    }

    /// The vectors were handed to the writers.
    pub(super) fn vectors_done(&self) {
        self.state().vectors = Vectors::Done;
    }

    /// Whoever took the vectors will not make them.
    pub(super) fn put_vectors_back(&self) {
        let mut state = self.state();
        if state.vectors == Vectors::UnderWay {
            state.vectors = Vectors::Waiting;
        }
    }

    /// How many tiles were handed to the writers.
    pub(super) fn tiles_done(&self) -> usize {
        self.state().done
    }

    /// Tiles that are there, those that an earlier run made included, and all that there are to be.
    pub(super) fn there(&self) -> (usize, usize) {
        let state = self.state();
        (state.found + state.done, state.found + state.all)
    }

    /// Whether nothing is left to make.
    pub(super) fn is_complete(&self) -> bool {
        let state = self.state();
        state.done == state.all && state.vectors == Vectors::Done
    }

    /// Asks all devices to stop at the next piece of work.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Takes the wish to stop back.
    pub(super) fn go_on(&self) {
        self.stopped.store(false, Ordering::Relaxed);
    }

    /// Whether devices are to stop.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tile_is_made_once_and_what_is_put_back_is_made_again() {
        let ledger = Ledger::new((0..5).collect(), true, 2);
        assert_eq!(ledger.take(2), [0, 1]);
        assert!(ledger.take_vectors() && !ledger.take_vectors());
        ledger.done();
        ledger.put_back([1]);
        ledger.put_vectors_back();
        assert_eq!(ledger.take(9), [1, 2, 3, 4]);
        assert!(ledger.take(1).is_empty() && !ledger.is_complete());
        (0..4).for_each(|_| ledger.done());
        assert!(!ledger.is_complete() && ledger.take_vectors());
        ledger.vectors_done();
        // What is made is not put back.
        ledger.put_vectors_back();
        assert!(ledger.is_complete() && !ledger.take_vectors());
        assert_eq!(ledger.tiles_done(), 5);
        assert_eq!(ledger.there(), (7, 7));
    }
}
