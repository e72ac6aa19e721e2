//! The tile grid: rows and columns of a part cut into tiles, by the request alone.

use crate::network::Network;
use std::ops::Range;

/// Rows (and columns) of a tile at most: 16 MiB of f32.
pub const TILE: usize = 2048;

/// A run of a tile's rows that belong to one parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The parameter.
    pub parameter: usize,
    /// Flat range within the parameter.
    pub range: Range<usize>,
    /// The tile's row of its first entry.
    pub origin: usize,
}

/// The rows (or columns) of one line of tiles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strip {
    /// Positions within the part.
    pub positions: Range<usize>,
    /// What lies there, in order.
    pub runs: Vec<Run>,
}

/// Cuts ascending flat ranges into strips of at most `tile` rows.
///
/// A parameter larger than what is left of a strip is cut at whole rows of its own layout where those
/// are shorter than a strip, so that most tiles meet whole rows of an outer factor. The grid depends on
/// the ranges and the parameters' shapes alone (DESIGN §4).
pub fn strips(network: &Network, ranges: &[Range<usize>], tile: usize) -> Vec<Strip> {
    let mut strips = Vec::new();
    let mut open = Strip {
        positions: 0..0,
        runs: Vec::new(),
    };
    let mut close = |open: &mut Strip| {
        let end = open.positions.end;
        let done = std::mem::replace(
            open,
            Strip {
                positions: end..end,
                runs: Vec::new(),
            },
        );
        if !done.runs.is_empty() {
            strips.push(done);
        }
    };
    for range in ranges {
        for (k, parameter) in network.parameters.iter().enumerate() {
            let (own, shape) = (parameter.range(), &parameter.data.shape);
            let mut at = range.start.max(own.start);
            let end = range.end.min(own.end);
            let row = shape
                .get(1..)
                .map_or(1, |rest| rest.iter().product::<usize>())
                .max(1);
            while at < end {
                let room = tile - open.positions.len();
                let mut to = end;
                if end - at > room {
                    if !open.positions.is_empty() {
                        close(&mut open);
                    }
                    let limit = at - own.start + tile;
                    let aligned = own.start + limit / row * row;
                    to = if aligned > at { aligned } else { at + tile }.min(end);
                }
                open.runs.push(Run {
                    parameter: k,
                    range: at - own.start..to - own.start,
                    origin: open.positions.len(),
                });
                open.positions.end += to - at;
                at = to;
            }
        }
    }
    close(&mut open);
    strips
}
