//! Statistics from one pass over a part, compared with plain loops.

use super::{places, result};
use crate::show::{grid, scan, select};
use crate::sink::{ParameterPlace, PartLayout};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use std::ops::Range;

/// Ranges from gaps and lengths.
fn ranges(list: &[(usize, usize)]) -> Vec<Range<usize>> {
    let mut next = 0;
    list.iter()
        .map(|(gap, length)| {
            let start = next + gap;
            next = start + length;
            start..next
        })
        .collect()
}

/// Numbers of all sizes, of which some are 0, NaN and −∞.
fn numbers(seed: u64, count: usize) -> Vec<f64> {
    let mut state = seed | 1;
    let next = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        match state >> 60 {
            0..4 => 0.0,
            4 => f64::NAN,
            5 => f64::NEG_INFINITY,
            k => ((state >> 20) as i32) as f64 * 10.0_f64.powi(-(k as i32)),
        }
    };
    (0..count).map(next).collect()
}

/// A part whose numbers are all in memory.
struct Part<'a> {
    places: &'a [ParameterPlace],
    /// Flat indices of the parameters along the rows and the columns.
    rows: Vec<usize>,
    columns: Vec<usize>,
    values: &'a [f64],
}

impl Part<'_> {
    fn layer(&self, flat: usize) -> &str {
        let place = self.places.iter().find(|p| p.range().contains(&flat));
        place.map_or("(no parameter)", |p| p.layer.as_str())
    }

    /// Asserts that every cell of the grid holds what is inside it.
    fn check_grid(&self, grid: &grid::Grid) -> TestCaseResult {
        let (height, width) = (self.rows.len(), self.columns.len());
        for cell in 0..grid.rows * grid.columns {
            let (r, c) = (cell / grid.columns, cell % grid.columns);
            let mut inside = Vec::new();
            for row in (0..height).filter(|row| row / grid.factor.0 == r) {
                for column in (0..width).filter(|column| column / grid.factor.1 == c) {
                    inside.push(self.values[row * width + column]);
                }
            }
            let finite = || inside.iter().copied().filter(|v| v.is_finite());
            prop_assert_eq!(grid.low[cell], finite().fold(f64::INFINITY, f64::min));
            prop_assert_eq!(grid.high[cell], finite().fold(f64::NEG_INFINITY, f64::max));
            match grid.cell(cell) {
                grid::Cell::Broken => prop_assert!(finite().count() < inside.len()),
                grid::Cell::Value(value) => {
                    prop_assert_eq!(finite().count(), inside.len());
                    prop_assert!(inside.contains(&value));
                    prop_assert!(inside.iter().all(|v| v.abs() <= value.abs()));
                }
            }
        }
        Ok(())
    }

    /// Asserts that the statistics of a block are those of its entries.
    fn check_block(&self, block: &scan::Block) -> TestCaseResult {
        let all = block.row_layer == "*";
        let layer = |flat| self.layer(flat);
        let mut own = Vec::new();
        for (r, &row) in self.rows.iter().enumerate() {
            for (c, &column) in self.columns.iter().enumerate() {
                if all || (layer(row) == block.row_layer && layer(column) == block.column_layer) {
                    own.push((self.values[r * self.columns.len() + c], row, column));
                }
            }
        }
        let finite: Vec<_> = own.iter().filter(|e| e.0.is_finite()).collect();
        let s = &block.statistics;
        prop_assert_eq!(s.entries as usize, own.len());
        prop_assert_eq!(block.shape.0 * block.shape.1, own.len());
        prop_assert_eq!(s.zeros as usize, own.iter().filter(|e| e.0 == 0.0).count());
        prop_assert_eq!(s.non_finite as usize, own.len() - finite.len());
        let norm = finite.iter().map(|e| e.0 * e.0).sum::<f64>().sqrt();
        prop_assert!((s.norm - norm).abs() <= 1e-12 * norm);
        let most = finite.iter().map(|e| e.0.abs()).reduce(f64::max);
        prop_assert_eq!(s.largest.map(|l| l.value.abs()), most);
        if let Some(largest) = s.largest {
            let first = finite.iter().find(|e| Some(e.0.abs()) == most).unwrap();
            prop_assert_eq!((largest.row, largest.column), (first.1, first.2));
        }
        let side = |flats: &[usize], name: &str| -> Vec<usize> {
            let own = flats.iter().copied().filter(|f| all || layer(*f) == name);
            own.collect()
        };
        let same = side(&self.rows, &block.row_layer) == side(&self.columns, &block.column_layer);
        prop_assert_eq!(s.trace.is_some(), same);
        if let Some(trace) = s.trace {
            let own = finite
                .iter()
                .filter(|e| e.1 == e.2)
                .map(|e| e.0)
                .sum::<f64>();
            prop_assert!((trace - own).abs() <= 1e-12 * norm * 100.0);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever the shape, the number of cells and the pieces that are read: all that a pass finds is what plain loops find.
    #[test]
    fn one_pass_finds_what_plain_loops_find(
        (rows, columns, square) in (
            prop::collection::vec((0usize..3, 1usize..12), 1..4),
            prop::collection::vec((0usize..3, 1usize..12), 1..4),
            any::<bool>(),
        ),
        layers in prop::collection::vec((0usize..3, 1usize..9), 1..12),
        (most, pieces) in ((1usize..9, 1usize..9), (1usize..7, 1usize..7)),
        seed: u64,
    ) {
        let rows = ranges(&rows);
        let columns = if square { rows.clone() } else { ranges(&columns) };
        let names = ["a", "b", "c"];
        let list: Vec<_> = layers.iter().map(|(k, n)| (names[*k], "w", *n)).collect();
        let places = places(&list);
        let flat = |ranges: &[Range<usize>]| -> Vec<usize> {
            ranges.iter().cloned().flatten().collect()
        };
        let (row_flat, column_flat) = (flat(&rows), flat(&columns));
        let values = numbers(seed, row_flat.len() * column_flat.len());
        let layout = PartLayout::matrix("m", rows, columns);
        let (_folder, blocks) = result(&[(layout, values.clone())], places.clone());
        let view = select::views(&blocks, &places, &[], None).unwrap().remove(0);
        let found = scan::scan_by(&blocks, &view, &places, most, pieces, &mut |_| Ok(())).unwrap();

        let part = Part {
            places: &places,
            rows: row_flat,
            columns: column_flat,
            values: &values,
        };
        prop_assert!(found.grid.rows <= most.0 && found.grid.columns <= most.1);
        part.check_grid(&found.grid)?;
        let whole = scan::Block {
            row_layer: "*".into(),
            column_layer: "*".into(),
            shape: (part.rows.len(), part.columns.len()),
            statistics: found.whole.clone(),
        };
        for block in found.blocks.iter().chain([&whole]) {
            part.check_block(block)?;
        }
    }
}
