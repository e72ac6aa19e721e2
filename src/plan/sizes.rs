//! The numbers that a plan is made of, apart from the network and the parts.

use super::tiles::{Grid, Tiling};
use super::way::Way;
use crate::loss::Curvature;

/// Rows of V (samples × directions) in a unit at most, but for [`UNIT_SAMPLES`]: partial sums are cut there (DESIGN §4, §5).
pub const UNIT_ROWS: usize = 4096;

/// Samples in a unit where there are many directions, while its rows are no more than four times [`UNIT_ROWS`]: of less, sums
/// of outer products would be too short to be fast.
pub const UNIT_SAMPLES: usize = 32;

/// Finished tiles of a device on their way to the host at once.
pub const RING: usize = 3;

/// Finished tiles that wait for the writer, or are being written.
pub const WRITING: usize = 2;

/// Entries of all parts at most: a million tiles. What is larger has no disk to go to.
pub const MOST_ENTRIES: u128 = 1 << 42;

/// Numbers that the rows of a diagonal's piece may hold.
pub const DIAGONAL_ROWS: usize = 1 << 22;

/// Directions of a pass at most: beyond, nothing is left to share.
pub(super) const MOST_DIRECTIONS: usize = 32;

/// Operations that take as long as a number of a seed does, which is made on the host in double precision, and moved there
/// and back.
pub(super) const SEED: u64 = 8;

/// The numbers that a plan is made of, apart from the network.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Number of samples.
    pub samples: usize,
    /// Directions R of the loss.
    pub directions: usize,
    /// Whether directions carry signs.
    pub signed: bool,
    /// The matrix that is meant.
    pub curvature: Curvature,
    /// Bytes of a number.
    pub number_bytes: usize,
    /// Numbers in a sample's target.
    pub target: usize,
    /// Samples per unit where the user sets it.
    pub batch: Option<usize>,
    /// The units of an earlier run that this plan resumes; `None` for a new run.
    pub units: Option<Units>,
    /// How parts are cut; squares where second derivatives are asked for.
    pub grid: Grid,
    /// How large tiles are.
    pub tiling: Tiling,
    /// The way of all parts; `None` chooses by counted operations.
    pub way: Option<Way>,
}

/// What is taken at a time: partial sums are cut there, so that it decides how they are rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Units {
    /// Samples of a unit.
    pub samples: usize,
    /// Directions of a pass.
    pub directions: usize,
    /// Samples and directions of the parts that go the other way, where a request has such (`Plan::rest`).
    pub rest: Option<(usize, usize)>,
}

impl Units {
    /// Those of the rest.
    pub(super) fn of_rest(self) -> Option<Units> {
        self.rest.map(|(samples, directions)| Units {
            samples,
            directions,
            rest: None,
        })
    }
}

impl Sizes {
    /// Sizes for G in single precision, in squares.
    #[cfg(test)]
    pub(super) fn of_test(samples: usize, directions: usize) -> Sizes {
        Sizes {
            samples,
            directions,
            signed: false,
            curvature: Curvature::Ggn,
            number_bytes: 4,
            target: 1,
            batch: None,
            units: None,
            grid: Grid::Squares,
            tiling: Tiling::default(),
            way: None,
        }
    }

    /// Units of `unit` samples and `chunk` directions.
    pub(super) fn units(&self, unit: usize, chunk: usize) -> u64 {
        (self.samples.div_ceil(unit.max(1)) * self.directions.div_ceil(chunk.max(1))) as u64
    }
}
