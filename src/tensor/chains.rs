//! Links between equal indices, for a `put` without atomics: how much of the list a device handles at a time.
//!
//! The GPU does as written here, and the meter counts it.

use super::Shape;

/// Entries that one invocation goes through at most: bounds its loops, as software adapters ask.
const MOST_ENTRIES: usize = 4096;
/// Links made at a time, unless one sample has more: 16 MiB.
const MOST_LINKS: usize = 1 << 22;

/// A portion of the samples and of their lists `[s, 1, K]`, each with a link per entry and per row of the
/// result. It depends on the sizes alone, as the order of sums does with it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Chains {
    /// Samples at a time.
    pub samples: usize,
    /// Entries of the list at a time.
    pub entries: usize,
    /// Links of a sample: its entries and the rows.
    pub per_sample: usize,
    /// Links at a time.
    pub numbers: usize,
}

impl Chains {
    /// The portions for lists `indices` that name `rows` rows, in a sum over `samples` samples.
    pub fn new(indices: &Shape, samples: usize, rows: usize) -> Chains {
        let entries = indices.rest_len().clamp(1, MOST_ENTRIES);
        let per_sample = entries + rows;
        let fitting = (MOST_ENTRIES / entries).min(MOST_LINKS / per_sample);
        let samples = fitting.clamp(1, samples.max(1));
        Chains {
            samples,
            entries,
            per_sample,
            numbers: samples.min(indices.samples) * per_sample,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portions_bound_loops_and_memory() {
        let chains =
            |samples, count, rows| Chains::new(&Shape::new(samples, 1, &[count]), samples, rows);
        assert_eq!(chains(3, 7, 100).numbers, 3 * 107);
        for (samples, count, rows) in [
            (5000, 1, 3),
            (5000, 1, 1 << 20),
            (9, 10_000, 5),
            (1, 1, 1 << 23),
        ] {
            let found = chains(samples, count, rows);
            assert!(found.samples * found.entries <= MOST_ENTRIES);
            assert!(
                found.numbers <= MOST_LINKS || found.samples == 1,
                "{found:?}"
            );
        }
        // One list for all samples is linked once.
        assert_eq!(Chains::new(&Shape::new(1, 1, &[4]), 900, 5).numbers, 9);
    }
}
