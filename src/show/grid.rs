//! A matrix down-sampled: least and largest entry of every cell.

/// Cells of `factor` rows × columns each, fewer at the right and lower end.
#[derive(Clone, Debug)]
pub(super) struct Grid {
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Rows and columns of entries in a cell.
    pub(super) factor: (usize, usize),
    /// The least finite entry of every cell, row by row; +∞ where there is none.
    pub(super) low: Vec<f64>,
    /// The largest one; −∞ where there is none.
    pub(super) high: Vec<f64>,
    /// Whether a cell has an entry that is NaN or infinite.
    pub(super) broken: Vec<bool>,
}

/// What a cell shows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Cell {
    /// The entry of largest magnitude, with its sign.
    Value(f64),
    /// NaN or infinite is among the entries.
    Broken,
}

impl Grid {
    /// Cells for `shape` entries, at most as many as `most` says, each way.
    pub(super) fn new(shape: (usize, usize), most: (usize, usize)) -> Grid {
        let factor = (
            shape.0.div_ceil(most.0.max(1)).max(1),
            shape.1.div_ceil(most.1.max(1)).max(1),
        );
        let (rows, columns) = (shape.0.div_ceil(factor.0), shape.1.div_ceil(factor.1));
        Grid {
            rows,
            columns,
            factor,
            low: vec![f64::INFINITY; rows * columns],
            high: vec![f64::NEG_INFINITY; rows * columns],
            broken: vec![false; rows * columns],
        }
    }

    /// What a cell shows. A lone entry of either sign is not lost among many small ones.
    pub(super) fn cell(&self, at: usize) -> Cell {
        let (low, high) = (self.low[at], self.high[at]);
        match (self.broken[at], low > high) {
            (true, _) => Cell::Broken,
            (_, true) => Cell::Value(0.0),
            _ if -low > high => Cell::Value(low),
            _ => Cell::Value(high),
        }
    }

    /// The largest magnitude of any finite entry.
    pub(super) fn most(&self) -> f64 {
        let all = self.low.iter().chain(&self.high);
        let finite = all.map(|v| v.abs()).filter(|v| v.is_finite());
        finite.fold(0.0, f64::max)
    }
}

/// Takes neighbours of one row into the cells of that row: `column` is the first one's.
pub(super) fn take(
    (low, high, broken): (&mut [f64], &mut [f64], &mut [bool]),
    values: &[f64],
    column: usize,
    factor: usize,
) {
    let mut rest = values;
    let mut cell = column / factor;
    let mut room = factor - column % factor;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(room.min(rest.len()));
        let (mut least, mut most, mut bad) = (f64::INFINITY, f64::NEG_INFINITY, false);
        for &value in now {
            if value.abs() <= f64::MAX {
                least = if value < least { value } else { least };
                most = if value > most { value } else { most };
            } else {
                bad = true;
            }
        }
        low[cell] = low[cell].min(least);
        high[cell] = high[cell].max(most);
        broken[cell] |= bad;
        (rest, room, cell) = (later, factor, cell + 1);
    }
}
