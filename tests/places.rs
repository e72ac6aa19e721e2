//! Where a product goes in its tile: its own place, the mirror, both, or a square on the diagonal, from several units of
//! samples at once, into memory that held NaN; against VᵀV' by definition.

#[macro_use]
mod common;

use common::{Array, Conformance, Numbers, random};
use hessblock::internals::contraction::{FactorPair, Segment, accumulate};
use hessblock::internals::jacobian::Factor;
use hessblock::internals::ops::{Site, SiteKind};
use hessblock::internals::tensor::{Contract, MirrorRule, Placement, Real, cpu::Cpu};
use ndarray::Array2;
use std::ops::Range;

const DIRECTIONS: usize = 2;
/// Samples of the units: more than are added up in registers together, and few.
const UNITS: [usize; 3] = [5, 259, 1];

/// What a parameter is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// Outputs × inputs at one position, outputs first or not.
    Linear(usize, usize, bool),
    /// A bias.
    Bias(usize),
    /// Rows as they are.
    Rows(usize),
}

/// A parameter's factors, one per unit, and its rows V, samples × directions of all units by entries.
struct Parameter<T> {
    kind: Kind,
    factors: Vec<Factor<T>>,
    rows: Array2<f64>,
}

/// Numbers of which many are exactly zero, as those behind a ReLU.
fn sparse(seed: u64, samples: usize, rest: &[usize]) -> Array {
    let mut array = random(seed, samples, DIRECTIONS, rest);
    let mut numbers = Numbers(seed + 1);
    let each = array.values.len() / samples.max(1);
    for values in array.values.chunks_mut(each.max(1)) {
        for at in 0..each / DIRECTIONS {
            if numbers.next().is_multiple_of(3) {
                (0..DIRECTIONS).for_each(|r| values[r * each / DIRECTIONS + at] = 0.0);
            }
        }
    }
    array
}

fn parameter<B: Contract>(c: &Conformance<B>, seed: u64, kind: Kind) -> Parameter<B::Tensor> {
    let (mut factors, mut rows, mut count) = (Vec::new(), Vec::new(), 0);
    for (unit, samples) in UNITS.into_iter().enumerate() {
        let seed = seed * 1000 + unit as u64 * 100;
        let (kind, shape, values) = match kind {
            Kind::Linear(o, i, outputs_first) => {
                let delta = sparse(seed, samples, &[1, o]);
                let a = random(seed + 50, samples, 1, &[1, i]);
                let mut values = Vec::new();
                for n in 0..samples {
                    for r in 0..DIRECTIONS {
                        values.extend((0..o * i).map(|q| {
                            let (o, i) = if outputs_first {
                                (q / i, q % i)
                            } else {
                                (q % o, q / o)
                            };
                            delta.at(&[n, r, 0, o]) * a.at(&[n, 0, 0, i])
                        }));
                    }
                }
                let kind = SiteKind::Linear {
                    cotangents: c.upload(&delta),
                    inputs: c.upload(&a),
                    outputs_first,
                };
                (
                    kind,
                    if outputs_first {
                        vec![o, i]
                    } else {
                        vec![i, o]
                    },
                    values,
                )
            }
            Kind::Bias(o) => {
                let delta = sparse(seed, samples, &[1, o]);
                let kind = SiteKind::Elementwise {
                    cotangents: c.upload(&delta),
                    derivative: None,
                };
                (kind, vec![o], delta.values)
            }
            Kind::Rows(q) => {
                let v = random(seed, samples, DIRECTIONS, &[q]);
                (SiteKind::Rows(c.upload(&v)), vec![q], v.values)
            }
        };
        count = shape.iter().product();
        factors.push(Factor::new(
            vec![Site::new(kind, &shape)],
            count,
            samples,
            DIRECTIONS,
        ));
        rows.extend(values);
    }
    let samples: usize = UNITS.iter().sum();
    let rows = Array2::from_shape_vec((samples * DIRECTIONS, count), rows).expect("rows");
    Parameter {
        kind,
        factors,
        rows,
    }
}

fn segments<T>(
    parameter: &Parameter<T>,
    range: Range<usize>,
    origin: usize,
) -> Vec<Segment<'_, T>> {
    let segment = |factor| Segment {
        factor,
        range: range.clone(),
        origin,
    };
    parameter.factors.iter().map(segment).collect()
}

/// Computes the product of two ranges at their places in a tile that held NaN, begun and, where `again`, added once more;
/// compares every entry, those beside it included.
fn check<B: Contract>(
    c: &Conformance<B>,
    mirror: MirrorRule,
    (left, rows): (&Parameter<B::Tensor>, Range<usize>),
    (right, columns): (&Parameter<B::Tensor>, Range<usize>),
    again: bool,
) -> Vec<B::Real> {
    let what = format!(
        "{:?} {rows:?} × {:?} {columns:?}, {mirror:?}",
        left.kind, right.kind
    );
    let (r, q) = (rows.len(), columns.len());
    // The product's own place, and the tile around all of it.
    let (origin, height, width) = match mirror {
        MirrorRule::Own => ((2, 3), r + 3, q + 5),
        MirrorRule::Transposed => ((3, 2), q + 5, r + 4),
        MirrorRule::Both => ((1, r + 2), r + q + 3, r + q + 3),
        MirrorRule::Symmetric => ((2, 5), r + 3, r + 6),
    };
    let nan = B::Real::from_f64(f64::NAN);
    let mut tile = c
        .backend
        .accumulator_in(height, width, vec![nan; height * width]);
    let units = segments(left, rows.clone(), origin.0).into_iter();
    let units = units.zip(segments(right, columns.clone(), origin.1));
    let pairs: Vec<_> = units
        .map(|(rows, columns)| FactorPair {
            rows,
            columns,
            signs: None,
        })
        .collect();
    let times = if again { 2 } else { 1 };
    for turn in 0..times {
        for (unit, pair) in pairs.iter().enumerate() {
            let begin = turn == 0 && unit == 0;
            accumulate(&c.backend, &mut tile, Placement { mirror, begin }, pair);
        }
    }
    let pending = c.backend.finish(tile);
    let on_host = c.backend.accumulates_in_host_memory();
    assert!(c.backend.is_finite(&pending) || !on_host, "{what}");
    let found = c.backend.collect(pending).expect("a tile");
    let times = f64::from(times);
    let product = left
        .rows
        .slice(ndarray::s![.., rows])
        .t()
        .dot(&right.rows.slice(ndarray::s![.., columns]))
        * times;
    let mut expected = vec![f64::NAN; height * width];
    for ((i, j), value) in product.indexed_iter() {
        let own = (origin.0 + i) * width + origin.1 + j;
        let mirrored = (origin.1 + j) * width + origin.0 + i;
        match mirror {
            MirrorRule::Own | MirrorRule::Symmetric => expected[own] = *value,
            MirrorRule::Transposed => expected[mirrored] = *value,
            MirrorRule::Both => (expected[own], expected[mirrored]) = (*value, *value),
        }
    }
    // Sums of many terms: the scale is the largest.
    c.compare(&found, &expected, &what);
    // What a device has accumulated is mirrored when it is written.
    if mirror == MirrorRule::Symmetric && on_host {
        for i in 0..r {
            for j in 0..i {
                let (a, b) = (
                    found[(2 + i) * width + 5 + j],
                    found[(2 + j) * width + 5 + i],
                );
                assert_eq!(a.to_f64(), b.to_f64(), "{what}: ({i}, {j}) and its mirror");
            }
        }
    }
    found
}

const KINDS: [Kind; 9] = [
    Kind::Linear(3, 67, true),
    Kind::Linear(2, 300, true),
    Kind::Linear(17, 5, true),
    Kind::Linear(6, 13, false),
    Kind::Linear(3, 60, false),
    Kind::Linear(1, 48, true),
    Kind::Bias(23),
    Kind::Rows(70),
    Kind::Rows(301),
];

fn every_pair_goes_to_every_place<B: Contract>(c: &Conformance<B>) {
    // On a software device most of the time is its compiler's: some of each kind are enough there.
    let kinds = match c.backend.accumulates_in_host_memory() {
        true => KINDS.to_vec(),
        false => [0, 3, 6, 7].map(|k| KINDS[k]).to_vec(),
    };
    let parameters: Vec<_> = (kinds.into_iter().enumerate())
        .map(|(k, kind)| parameter(c, k as u64 + 1, kind))
        .collect();
    for (k, left) in parameters.iter().enumerate() {
        let all = 0..left.rows.ncols();
        let part = all.end / 3..all.end - 1;
        for range in [&all, &part] {
            check(
                c,
                MirrorRule::Symmetric,
                (left, range.clone()),
                (left, range.clone()),
                k % 2 == 0,
            );
        }
        for (j, right) in parameters.iter().enumerate() {
            let others = 0..right.rows.ncols();
            for mirror in [MirrorRule::Own, MirrorRule::Transposed, MirrorRule::Both] {
                let again = (k + j) % 2 == 1;
                check(
                    c,
                    mirror,
                    (left, all.clone()),
                    (right, others.clone()),
                    again,
                );
                let piece = others.end / 4..others.end / 2 + 1;
                check(c, mirror, (left, part.clone()), (right, piece), !again);
            }
        }
    }
}

fn a_product_and_its_mirror_are_the_same_bits<B: Contract>(c: &Conformance<B>) {
    let parameters: Vec<_> = (KINDS.into_iter().enumerate())
        .map(|(k, kind)| parameter(c, k as u64 + 1, kind))
        .collect();
    for (k, left) in parameters.iter().enumerate() {
        for (j, right) in parameters.iter().enumerate().skip(k) {
            let count = right.rows.ncols();
            let inner = match right.kind {
                Kind::Linear(_, i, true) => i,
                Kind::Linear(o, _, false) => o,
                Kind::Bias(_) | Kind::Rows(_) => 1,
            };
            // Of one parameter, rows and columns that do not meet, cut where tiles are: at whole rows of it.
            let (rows, columns) = match j == k {
                true if inner == count => continue,
                true => (0..inner, inner..count),
                false => (0..left.rows.ncols(), 0..count),
            };
            let half = columns.start + columns.len() / inner / 2 * inner;
            let (r, q) = (rows.len(), columns.len());
            let own = check(
                c,
                MirrorRule::Own,
                (left, rows.clone()),
                (right, columns.clone()),
                false,
            );
            let both = check(
                c,
                MirrorRule::Both,
                (left, rows.clone()),
                (right, columns.clone()),
                false,
            );
            // The mirror alone, of a part of the columns as a tile of a file has it.
            let later = half..columns.end;
            let mirror = check(
                c,
                MirrorRule::Transposed,
                (left, rows),
                (right, later),
                false,
            );
            for i in 0..r {
                for j in 0..q {
                    let at = own[(2 + i) * (q + 5) + 3 + j].to_f64();
                    let width = r + q + 3;
                    assert_eq!(at, both[(1 + i) * width + r + 2 + j].to_f64());
                    assert_eq!(at, both[(r + 2 + j) * width + 1 + i].to_f64());
                    if let Some(j) = (columns.start + j).checked_sub(half) {
                        let mirrored = mirror[(2 + j) * (r + 4) + 3 + i].to_f64();
                        let what = format!("{:?} × {:?} at ({i}, {j})", left.kind, right.kind);
                        assert_eq!(at, mirrored, "{what}");
                    }
                }
            }
        }
    }
}

fn numbers_that_are_not_finite_come_out_as_the_definition_says<B: Contract>(c: &Conformance<B>) {
    // Δ of the first sample is zero for the first output, and a is infinite there: 0·∞ is no number.
    let (o, i) = (3, 50);
    let mut delta = random(1, 4, 1, &[1, o]);
    let mut a = random(2, 4, 1, &[1, i]);
    delta.values[0] = 0.0;
    a.values[7] = f64::INFINITY;
    let kind = SiteKind::Linear {
        cotangents: c.upload(&delta),
        inputs: c.upload(&a),
        outputs_first: true,
    };
    let factor = Factor::new(vec![Site::new(kind, &[o, i])], o * i, 4, 1);
    let segment = || Segment {
        factor: &factor,
        range: 0..o * i,
        origin: 0,
    };
    let pair = FactorPair {
        rows: segment(),
        columns: segment(),
        signs: None,
    };
    let mut tile = c.backend.accumulator(o * i, o * i);
    let how = Placement {
        mirror: MirrorRule::Symmetric,
        begin: true,
    };
    accumulate(&c.backend, &mut tile, how, &pair);
    let pending = c.backend.finish(tile);
    assert!(!c.backend.is_finite(&pending));
    let found = c.backend.collect(pending).expect("a tile");
    let at = |row: usize, column: usize| found[row * o * i + column].to_f64();
    for other in 0..i {
        // Weights of zero at the infinite input; of others the sign decides.
        assert!(at(7, other).is_nan(), "{other}");
        assert!(at(other, i + 7).is_nan());
        assert!(!at(i + 7, i + other).is_finite(), "{other}");
    }
    assert!(
        (0..i)
            .filter(|k| *k != 7)
            .all(|k| at(i + k, 2 * i + 8).is_finite())
    );
}

#[cfg(feature = "gpu")]
conformance_tests!(
    gpu,
    common::gpu::open(false),
    2e-6,
    [
        every_pair_goes_to_every_place,
        numbers_that_are_not_finite_come_out_as_the_definition_says,
    ]
);
conformance_tests!(
    cpu_f32,
    Some(Cpu::<f32>::new()),
    2e-6,
    [
        every_pair_goes_to_every_place,
        a_product_and_its_mirror_are_the_same_bits,
        numbers_that_are_not_finite_come_out_as_the_definition_says,
    ]
);
conformance_tests!(
    cpu_f64,
    Some(Cpu::<f64>::new()),
    1e-13,
    [
        every_pair_goes_to_every_place,
        a_product_and_its_mirror_are_the_same_bits,
        numbers_that_are_not_finite_come_out_as_the_definition_says,
    ]
);
