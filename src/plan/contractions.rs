//! Measures contractions on shapes alone. Contractions that do the same work are measured once.
//!
//! A network of thousands of parameters has millions of pairs of them, most of which take the same work as others: the work of
//! a pair depends on the outlines of the two factors, the ranges taken of them, and how the product enters its tile.

use super::pairs::{factor_pair, pairs_of};
use super::parts::{PairPlan, PartPlan, TileJob};
use super::tiles::{Grid, Span, Strip};
use crate::cache::Cache;
use crate::contraction::{Contraction, Segment, accumulate, contraction};
use crate::jacobian::Factor;
use crate::jacobian::unit::Unit;
use crate::network::Network;
use crate::tensor::meter::{Meter, MeterTensor};
use crate::tensor::{Contract, MirrorRule, Placement, Shape, Tally};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

/// The maximum number of cached contractions.
const CACHED: usize = 1 << 15;

/// Pairs of parameters that are listed one by one at most; the operations of more are summed up.
const LISTED: usize = 20_000;

/// The work of a contraction on one unit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Made {
    /// The rule taken.
    pub(super) rule: Contraction,
    /// Operations.
    pub(super) operations: u64,
    /// Peak of temporary memory in bytes, without the tile.
    pub(super) temporary: u64,
    /// Work by kind.
    pub(super) tally: Tally,
}

/// The cache key of a contraction: for each side the outline's number and the range; whether both sides are one factor; how the
/// product is added to the tile.
type Key = ([(usize, Range<usize>); 2], bool, MirrorRule);

/// For each parameter, the number of its factor's outline. Equal outlines share a number.
struct Outlines(Vec<Option<usize>>);

impl Outlines {
    fn new(meter: &Meter, factors: &[Option<Factor<MeterTensor>>]) -> Self {
        let mut known: HashMap<Factor<Shape>, usize> = HashMap::new();
        let mut number = |factor: &Factor<MeterTensor>| {
            let next = known.len();
            *known.entry(factor.outline(meter)).or_insert(next)
        };
        let numbers = factors
            .iter()
            .map(|factor| factor.as_ref().map(&mut number));
        Outlines(numbers.collect())
    }

    fn key(&self, (rows, columns): (&Span, &Span), mirror: MirrorRule) -> Key {
        let side = |span: &Span| {
            let number = self.0[span.parameter].unwrap_or(usize::MAX);
            (number, span.range.clone())
        };
        let one = rows.parameter == columns.parameter;
        ([side(rows), side(columns)], one, mirror)
    }
}

/// The contractions of one unit.
pub(super) struct Contractions<'a> {
    meter: &'a Meter,
    unit: &'a Unit<MeterTensor>,
    outlines: Outlines,
    known: Cache<Key, Made>,
}

impl<'a> Contractions<'a> {
    /// Creates an empty cache for a unit. The unit's factors must not change while it is in use.
    pub(super) fn new(meter: &'a Meter, unit: &'a Unit<MeterTensor>) -> Self {
        Contractions {
            meter,
            unit,
            outlines: Outlines::new(meter, &unit.factors),
            known: Cache::new(CACHED),
        }
    }

    /// Gives `visit` the parameters and the work of each contraction of a tile.
    pub(super) fn tile(
        &mut self,
        part: &PartPlan,
        job: &TileJob,
        grid: Grid,
        mut visit: impl FnMut((usize, usize), &Made),
    ) {
        for (rows, columns, mirror) in pairs_of(part, *job, grid) {
            let made = self.made((&rows, &columns), mirror);
            visit((rows.parameter, columns.parameter), &made);
        }
    }

    fn made(&mut self, (rows, columns): (&Span, &Span), mirror: MirrorRule) -> Made {
        let key = self.outlines.key((rows, columns), mirror);
        if let Some(known) = self.known.get(&key) {
            return *known;
        }
        let meter = self.meter;
        // Tiles are counted apart.
        let mut tile = meter.accumulator(0, 0);
        let (live, operations, tally) = (meter.live(), meter.operations(), meter.tally());
        meter.reset_peak();
        let pair = factor_pair(self.unit, rows, columns);
        let how = Placement {
            mirror,
            ..Placement::ADD
        };
        let (rule, _) = accumulate(meter, &mut tile, how, &pair);
        let made = Made {
            rule,
            operations: meter.operations() - operations,
            temporary: meter.peak() - live,
            tally: meter.tally() - tally,
        };
        self.known.insert(key, made, 1);
        made
    }
}

/// A range of a parameter's entries.
type Piece = (usize, Range<usize>);

/// Operations of the contractions of whole ranges of parameters with one another, as the cost model counts them; pairs that
/// are `symmetric` are taken once.
pub(super) fn contraction_operations(
    meter: &Meter,
    unit: &Unit<MeterTensor>,
    (rows, columns): (&[Piece], &[Piece]),
    symmetric: bool,
) -> u64 {
    let outlines = Outlines::new(meter, &unit.factors);
    let mut known: Cache<[Piece; 2], u64> = Cache::new(CACHED);
    let segment = |(k, range): &Piece| {
        let factor = unit.factors[*k].as_ref()?;
        let segment = Segment {
            factor,
            range: range.clone(),
            origin: 0,
        };
        Some((outlines.0[*k]?, segment))
    };
    let mut operations = 0u64;
    for (at, row) in rows.iter().enumerate() {
        let Some((of_row, left)) = segment(row) else {
            continue;
        };
        let first = if symmetric { at } else { 0 };
        for (k, column) in columns.iter().enumerate().skip(first) {
            let Some((of_column, right)) = segment(column) else {
                continue;
            };
            let key = [(of_row, row.1.clone()), (of_column, column.1.clone())];
            let own = known.get(&key).copied().unwrap_or_else(|| {
                let own = contraction(meter, &left, &right).1;
                known.insert(key, own, 1);
                own
            });
            let half = symmetric && k == at;
            operations = operations.saturating_add(if half { own / 2 } else { own });
        }
    }
    operations
}

/// Operations by pair of parameters and rule; of very many pairs by rule alone.
pub(super) struct PairSums {
    by_pair: bool,
    operations: BTreeMap<(usize, usize, Contraction), u64>,
}

impl PairSums {
    /// For the pairs of parameters that parts have.
    pub(super) fn new(parts: &[PartPlan]) -> Self {
        let parameters = |strips: &[Strip]| {
            let spans = strips.iter().flat_map(|strip| &strip.spans);
            spans
                .map(|span| span.parameter)
                .collect::<BTreeSet<_>>()
                .len()
        };
        let count = |part: &PartPlan| {
            let (rows, columns) = (parameters(&part.rows), parameters(&part.columns));
            match part.part.symmetric() {
                true => rows * (rows + 1) / 2,
                false => rows * columns,
            }
        };
        PairSums {
            by_pair: parts.iter().map(count).sum::<usize>() <= LISTED,
            operations: BTreeMap::new(),
        }
    }

    /// Adds the operations of a contraction.
    pub(super) fn enter(&mut self, (rows, columns): (usize, usize), rule: Contraction, own: u64) {
        let key = match self.by_pair {
            true => (rows, columns, rule),
            false => (0, 0, rule),
        };
        *self.operations.entry(key).or_default() += own;
    }

    /// Returns the sums with the names of the parameters, for display.
    pub(super) fn pair_plans(self, network: &Network) -> Vec<PairPlan> {
        let by_pair = self.by_pair;
        let name = |k: usize| match by_pair {
            true => network.parameters[k].name.clone(),
            false => PairPlan::ALL.to_owned(),
        };
        let plan = |((rows, columns, contraction), operations)| PairPlan {
            rows: name(rows),
            columns: name(columns),
            contraction,
            operations,
        };
        self.operations.into_iter().map(plan).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jacobian::passes::{Reach, Weights};
    use crate::network::builder::Builder;
    use crate::plan::Sizes;
    use crate::plan::footprint::Planner;
    use crate::plan::request::resolve;
    use crate::plan::tiles::{Tiling, strips};

    #[test]
    fn cached_contractions_equal_fresh_measurements() {
        // Layers that are alike, and cut in the same places and in others.
        let mut builder = Builder::new(&[5]);
        for k in 0..6 {
            builder = builder.linear(&format!("l{k}"), 5).tanh();
        }
        let network = builder.linear("head", 3).initialize(0).build().unwrap();
        let part = resolve(&network, &[crate::Part::Full]).unwrap();
        let reach = Reach::new(&network, vec![true; network.parameters.len()]);
        for grid in [Grid::Squares, Grid::Panels, Grid::Whole] {
            let tiling = Tiling {
                side: 32,
                regular: false,
            };
            let (height, width) = grid.tile(tiling);
            let part = PartPlan {
                rows: strips(&network, &part[0].rows, height, false),
                columns: strips(&network, &part[0].rows, width, false),
                part: part[0].clone(),
                number: 0,
                counted: None,
            };
            let planner = Planner::of_passes(&network, &reach, Sizes::of_test(2, 3));
            let meter = Meter::new(4);
            let weights = Weights::upload(&meter, &network);
            let visit = |unit: Unit<MeterTensor>| {
                let mut contractions = Contractions::new(&meter, &unit);
                let (mut pairs, mut entries) = (0, 0);
                for row in 0..part.rows.len() {
                    for column in 0..part.columns.len() {
                        let job = TileJob {
                            part: 0,
                            row,
                            column,
                        };
                        for (rows, columns, mirror) in pairs_of(&part, job, grid) {
                            let known = contractions.made((&rows, &columns), mirror);
                            let anew =
                                Contractions::new(&meter, &unit).made((&rows, &columns), mirror);
                            assert_eq!(format!("{known:?}"), format!("{anew:?}"));
                            pairs += 1;
                            let both = if mirror == MirrorRule::Both { 2 } else { 1 };
                            entries += both * rows.range.len() * columns.range.len();
                        }
                    }
                }
                assert!(
                    contractions.known.len() < pairs / 2,
                    "{} {pairs}",
                    contractions.known.len()
                );
                if grid != Grid::Squares {
                    assert_eq!(entries, network.parameter_count().pow(2));
                }
                Ok(())
            };
            planner.unit(&meter, &weights, 2, 3, visit).unwrap();
        }
    }
}
