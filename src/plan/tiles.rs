//! The tile grid: rows and columns of a part cut into tiles, by the request and where it goes alone.

use crate::network::Network;
use std::ops::Range;

/// How parts are cut into tiles, and on which side of the diagonal of a symmetric part they lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grid {
    /// Squares on and above the diagonal; whoever writes one writes its mirror. For what is read back from a device, and for
    /// second derivatives, where a tile costs more to compute than to write.
    Squares,
    /// Wide tiles on both sides of the diagonal, whose rows are long runs of a file: on a CPU an entry is computed again
    /// in less time than a short run takes to write (DESIGN §7).
    Panels,
    /// The part as a whole, in the memory where it stays; its rows are taken strip by strip.
    Whole,
}

/// How large tiles are, and where they may be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiling {
    /// Rows and columns of a square tile at most; 2048 of them are 16 MiB of f32.
    pub side: usize,
    /// Cut at multiples of the side alone, as the chunks of an array are; otherwise where rows of a parameter end.
    pub regular: bool,
}

impl Tiling {
    /// Sides that are taken.
    pub const SIDES: std::ops::RangeInclusive<usize> = 16..=32_768;
}

impl Default for Tiling {
    fn default() -> Self {
        Tiling {
            side: 2048,
            regular: false,
        }
    }
}

impl Grid {
    /// Rows and columns of a tile at most; but for strips of a whole part its entries are those of a square.
    pub fn tile(self, tiling: Tiling) -> (usize, usize) {
        let side = tiling.side.max(2);
        match self {
            Grid::Squares => (side, side),
            Grid::Panels => (side / 2, 2 * side),
            Grid::Whole => (side, usize::MAX),
        }
    }

    /// Whether tiles lie on and above the diagonal alone.
    pub fn above_the_diagonal(self) -> bool {
        matches!(self, Grid::Squares)
    }
}

/// The rows of a tile that follow each other and belong to one parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
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
    pub spans: Vec<Span>,
}

/// Cuts ascending flat ranges into strips of at most `tile` rows.
///
/// Unless they are to be `regular`, a parameter larger than what is left of a strip is cut at whole rows of its own layout
/// where those are shorter than a strip, so that most tiles meet whole rows of an outer factor. The grid depends on
/// the ranges, the parameters' shapes and the side alone (DESIGN §4).
pub fn strips(
    network: &Network,
    ranges: &[Range<usize>],
    tile: usize,
    regular: bool,
) -> Vec<Strip> {
    let mut strips = Vec::new();
    let mut open = Strip {
        positions: 0..0,
        spans: Vec::new(),
    };
    let mut close = |open: &mut Strip| {
        let end = open.positions.end;
        let done = std::mem::replace(
            open,
            Strip {
                positions: end..end,
                spans: Vec::new(),
            },
        );
        if !done.spans.is_empty() {
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
                let room = tile.saturating_sub(open.positions.len());
                let mut to = end;
                if regular && room == 0 {
                    close(&mut open);
                    continue;
                }
                if regular {
                    to = end.min(at + room);
                } else if end - at > room {
                    if !open.positions.is_empty() {
                        close(&mut open);
                    }
                    let limit = (at - own.start).saturating_add(tile);
                    let aligned = own.start + limit / row * row;
                    to = if aligned > at { aligned } else { at + tile }.min(end);
                }
                open.spans.push(Span {
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
