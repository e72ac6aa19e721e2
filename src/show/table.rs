//! The table of a result's blocks.

use super::panel::number;
use super::{Shown, ShownBlock, ShownPart, Statistics};
use crate::figure::{ends, grouped, percent, shortened};
use std::collections::HashMap;

/// Pairs of different layers in the table in text; there may be more in other forms.
const PAIRS: usize = 40;

/// Letters of a part's and of a block's name in text.
const PART: usize = 40;
const BLOCK: usize = 51;

/// A line of a table.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) part: String,
    /// Which layers; `all` of a part that has several.
    pub(super) block: String,
    /// The same in [`BLOCK`] letters.
    short: String,
    pub(super) shape: String,
    pub(super) norm: String,
    pub(super) trace: String,
    pub(super) largest: String,
    pub(super) at: String,
    pub(super) zeros: String,
    pub(super) broken: u64,
    weight: f64,
    /// Whether it is of two layers.
    pair: bool,
}

/// The heads of the columns.
pub(super) const HEADS: [&str; 7] = ["block", "shape", "norm", "trace", "largest", "at", "zeros"];

impl Line {
    fn new(part: &ShownPart, block: String, shape: &[usize], found: &Statistics) -> Line {
        let extents: Vec<String> = shape.iter().map(|&n| grouped(n)).collect();
        let (largest, at) = match found.largest {
            None => ("–".into(), String::new()),
            Some(largest) if largest.value == 0.0 => ("0".into(), String::new()),
            Some(largest) => (
                number(largest.value),
                match part.columns {
                    Some(_) => format!("({}, {})", largest.row, largest.column),
                    None => largest.row.to_string(),
                },
            ),
        };
        Line {
            part: heading(part),
            short: shortened(&block, BLOCK),
            block,
            shape: extents.join(" × "),
            norm: number(found.norm),
            trace: found.trace.map_or(String::new(), number),
            largest,
            at,
            zeros: percent(found.zero_share()),
            broken: found.non_finite,
            weight: found.norm,
            pair: false,
        }
    }

    /// The cells, as [`HEADS`] has them.
    pub(super) fn cells(&self) -> [&str; 7] {
        [
            &self.block,
            &self.shape,
            &self.norm,
            &self.trace,
            &self.largest,
            &self.at,
            &self.zeros,
        ]
    }
}

/// A part's name, with what is shown of it.
pub(super) fn heading(part: &ShownPart) -> String {
    match &part.zoom {
        Some(zoom) => format!("{}: {zoom}", part.part),
        None => part.part.clone(),
    }
}

/// The lines of a part: all of it, then every pair of layers that is not all zeros. Of a symmetric part, the pairs below the
/// diagonal are left out.
pub(super) fn lines(part: &ShownPart) -> Vec<Line> {
    let mut lines = Vec::new();
    if part.blocks.len() != 1 {
        lines.push(Line::new(part, "all".into(), &part.shape, &part.statistics));
    }
    let several = part.blocks.len() > 1;
    let places: Places = match part.columns.as_ref() == Some(&part.rows) {
        true => part
            .blocks
            .iter()
            .enumerate()
            .map(|(k, b)| (names(b), k))
            .collect(),
        false => Places::new(),
    };
    for block in &part.blocks {
        let zeros = block.statistics.zeros == block.statistics.entries;
        if several && (zeros || mirrored(part, &places, block)) {
            continue;
        }
        let (row, column) = names(block);
        let mut line = Line::new(part, row.into(), &block.shape, &block.statistics);
        if row != column {
            line.pair = true;
            line.block = format!("{row} × {column}");
            // Each of the two is told from others.
            let [row, column] = [row, column].map(|name| shortened(name, (BLOCK - 3) / 2));
            line.short = format!("{row} × {column}");
        }
        lines.push(line);
    }
    lines
}

/// The place of every pair of layers among the blocks of a symmetric part.
type Places<'a> = HashMap<(&'a str, &'a str), usize>;

fn names(block: &ShownBlock) -> (&str, &str) {
    (&block.row_layer, &block.column_layer)
}

/// Whether a block lies below the diagonal and its transpose, above it, says the same.
fn mirrored(part: &ShownPart, places: &Places<'_>, block: &ShownBlock) -> bool {
    let (row, column) = names(block);
    let (Some(&own), Some(&twin)) = (places.get(&(row, column)), places.get(&(column, row))) else {
        return false;
    };
    let (below, above) = (&block.statistics, &part.blocks[twin].statistics);
    twin < own
        && below.zeros == above.zeros
        && below.non_finite == above.non_finite
        && (below.norm - above.norm).abs() <= 1e-9 * below.norm
}

pub(super) fn table(shown: &Shown) -> String {
    let mut lines: Vec<Line> = shown.parts.iter().flat_map(lines).collect();
    let left_out = largest(&mut lines, PAIRS);
    let broken = lines.iter().any(|l| l.broken > 0);
    let mut rows = vec![row("part", HEADS, broken.then_some("NaN, ∞"))];
    let mut last = None;
    for line in &lines {
        let repeated = last == Some(&line.part);
        let part = if repeated {
            String::new()
        } else {
            ends(&line.part, PART)
        };
        last = Some(&line.part);
        let count = line.broken.to_string();
        let mut cells = line.cells();
        cells[0] = &line.short;
        rows.push(row(&part, cells, broken.then_some(&count)));
    }
    let mut text = aligned(&rows);
    if left_out > 0 {
        text += &format!(
            "\n{} more pairs of layers, of smaller norm, are left out; --json has all of them",
            grouped(left_out)
        );
    }
    text
}

/// Keeps as many pairs of layers, those of the largest norm, and every other line; says how many pairs it leaves out. There are
/// as many pairs as the square of the layers, of which each has its own line.
pub(super) fn largest(lines: &mut Vec<Line>, most: usize) -> usize {
    let mut pairs: Vec<usize> = (0..lines.len()).filter(|&k| lines[k].pair).collect();
    pairs.sort_by(|&a, &b| lines[b].weight.total_cmp(&lines[a].weight));
    let small = pairs.split_off(most.min(pairs.len()));
    let mut kept = vec![true; lines.len()];
    for &k in &small {
        kept[k] = false;
    }
    let mut kept = kept.into_iter();
    lines.retain(|_| kept.next().unwrap_or(true));
    small.len()
}

fn row(part: &str, cells: [&str; 7], broken: Option<&str>) -> Vec<String> {
    let mut row = vec![part.to_string()];
    row.extend(cells.map(str::to_string));
    row.extend(broken.map(str::to_string));
    row
}

/// Rows in columns: names to the left, numbers to the right.
fn aligned(rows: &[Vec<String>]) -> String {
    let count = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..count)
        .map(|k| rows.iter().map(|r| r[k].chars().count()).max().unwrap_or(0))
        .collect();
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(&widths).enumerate();
        let cells: Vec<String> = cells
            .map(|(k, (cell, &width))| match k {
                0 | 1 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            })
            .collect();
        cells.join("  ").trim_end().to_string()
    });
    lines.collect::<Vec<_>>().join("\n")
}
