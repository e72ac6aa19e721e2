//! Parts cut into strips, their tiles, and the pairs of parameters that they have.

use super::request::ResolvedPart;
use super::tiles::Strip;
use super::way::Counted;
use crate::contraction::Contraction;
use crate::network::Network;
use std::ops::Range;

/// A part with its grid.
#[derive(Clone, Debug)]
pub struct PartPlan {
    /// The part.
    pub part: ResolvedPart,
    /// Its place in the request.
    pub number: usize,
    /// Operations of either way to it, where they were counted for the choice.
    pub counted: Option<Counted>,
    /// Strips of rows; empty for a vector.
    pub rows: Vec<Strip>,
    /// Strips of columns; empty for a vector.
    pub columns: Vec<Strip>,
}

/// One tile: a strip of rows against a strip of columns of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TileJob {
    /// Index of the part.
    pub part: usize,
    /// Index of its strip of rows.
    pub row: usize,
    /// Index of its strip of columns.
    pub column: usize,
}

/// How a pair of parameters is contracted, over all tiles.
///
/// If there are more than 20,000 pairs, there is one entry per contraction rule, and `rows` and `columns` are [`PairPlan::ALL`].
#[derive(Clone, Debug, serde::Serialize)]
pub struct PairPlan {
    /// Parameter of the rows.
    pub rows: String,
    /// Parameter of the columns.
    pub columns: String,
    /// The rule taken.
    pub contraction: Contraction,
    /// Floating-point operations, all samples.
    pub operations: u64,
}

impl PairPlan {
    /// The name that stands for all parameters, where pairs are summed up.
    pub const ALL: &'static str = "(all)";
}

impl PartPlan {
    /// A part that is not cut yet.
    pub(super) fn uncut(part: ResolvedPart) -> Self {
        PartPlan {
            part,
            number: 0,
            counted: None,
            rows: Vec::new(),
            columns: Vec::new(),
        }
    }

    /// Whether the tile, of a grid of squares, is its own mirror.
    pub fn on_diagonal(&self, job: &TileJob) -> bool {
        self.part.symmetric() && job.row == job.column
    }

    /// Rows and columns of the part.
    pub fn extents(&self) -> (usize, usize) {
        let end = |strips: &[Strip]| strips.last().map_or(0, |strip| strip.positions.end);
        (end(&self.rows), end(&self.columns))
    }
}

/// The parameters that any part touches.
pub fn wanted<'a>(
    network: &Network,
    parts: impl Iterator<Item = &'a ResolvedPart> + Clone,
) -> Vec<bool> {
    let touches = |ranges: &[Range<usize>], own: &Range<usize>| {
        ranges
            .iter()
            .any(|r| r.start < own.end && own.start < r.end)
    };
    network
        .parameters
        .iter()
        .map(|parameter| {
            let own = parameter.range();
            parts.clone().any(|part| {
                touches(&part.rows, &own) || part.columns.as_ref().is_some_and(|c| touches(c, &own))
            })
        })
        .collect()
}
