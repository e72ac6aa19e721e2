//! Every pair of factors, contracted by whichever rule the cost model takes, against Σ_n Σ_r s_r V V'.
//!
//! The rows V are written out here straight from the definition of each site, with nested loops in f64.

#[macro_use]
mod common;

use common::{Array, Conformance, Numbers, random, random_in, reference};
use hessblock::internals::contraction::{
    Contraction, FactorPair, Segment, accumulate, contraction,
};
use hessblock::internals::jacobian::Factor;
use hessblock::internals::ops::{Site, SiteKind, Step};
use hessblock::internals::tensor::{Contract, Einsum, Placement, Window, cpu::Cpu};
use hessblock::internals::trial::window;
use std::collections::BTreeSet;

const SAMPLES: usize = 11;
const DIRECTIONS: usize = 3;

/// A factor on the backend, and its rows V `[samples, directions, count]` by definition.
struct Case<T> {
    name: &'static str,
    factor: Factor<T>,
    rows: Array,
}

/// Rows of a linear site: V[o, i] = Σ_t Δ[t, o] a[t, i], laid out O×I or I×O.
fn linear_rows(cotangents: &Array, inputs: &Array, outputs_first: bool) -> Array {
    let (positions, o) = (cotangents.shape.rest[0], cotangents.shape.rest[1]);
    let i = inputs.shape.rest[1];
    rows(o * i, |n, r, q| {
        let (output, input) = if outputs_first {
            (q / i, q % i)
        } else {
            (q % o, q / o)
        };
        (0..positions)
            .map(|t| cotangents.at(&[n, r, t, output]) * inputs.at(&[n, 0, t, input]))
            .sum()
    })
}

fn rows(count: usize, entry: impl Fn(usize, usize, usize) -> f64) -> Array {
    let mut out = Array::zeros(hessblock::internals::tensor::Shape::new(
        SAMPLES,
        DIRECTIONS,
        &[count],
    ));
    for n in 0..SAMPLES {
        for r in 0..DIRECTIONS {
            for q in 0..count {
                let at = out.index(&[n, r, q]);
                out.values[at] = entry(n, r, q);
            }
        }
    }
    out
}

/// Rows of a convolution's weight O × C/g × k over one axis.
fn conv_rows(cotangents: &Array, inputs: &Array, w: &Window, groups: usize) -> Array {
    let (outputs, channels) = (cotangents.shape.rest[1], inputs.shape.rest[1] / groups);
    let kernel = w.kernel[0];
    rows(outputs * channels * kernel, |n, r, q| {
        let (o, c, k) = (q / (channels * kernel), q / kernel % channels, q % kernel);
        let channel = o / (outputs / groups) * channels + c;
        (0..w.output[0])
            .filter_map(|t| {
                let at = (t * w.stride[0] + k * w.dilation[0]).checked_sub(w.padding[0])?;
                (at < w.input[0])
                    .then(|| cotangents.at(&[n, r, 0, o, t]) * inputs.at(&[n, 0, 0, channel, at]))
            })
            .sum()
    })
}

fn cases<B: Contract>(c: &Conformance<B>) -> Vec<Case<B::Tensor>> {
    let cotangents = |seed, rest: &[usize]| random(seed, SAMPLES, DIRECTIONS, rest);
    let inputs = |seed, rest: &[usize]| random(seed, SAMPLES, 1, rest);
    let factor = |sites: Vec<Site<B::Tensor>>, rows: &Array| {
        Factor::new(sites, rows.shape.rest[0], SAMPLES, DIRECTIONS)
    };
    let mut cases = Vec::new();
    let mut linear = |name, seed, positions, o, i, outputs_first: bool, steps: Vec<Step>| {
        let (delta, a) = (
            cotangents(seed, &[positions, o]),
            inputs(seed + 1, &[positions, i]),
        );
        // A weight behind a Transpose node lies the other way round in the file.
        let rows = linear_rows(&delta, &a, outputs_first == steps.is_empty());
        let kind = SiteKind::Linear {
            cotangents: c.upload(&delta),
            inputs: c.upload(&a),
            outputs_first,
        };
        let mut site = Site::new(kind, &if outputs_first { [o, i] } else { [i, o] });
        site.steps = steps;
        let factor = factor(vec![site], &rows);
        cases.push(Case { name, factor, rows });
    };
    linear("linear O×I", 1, 1, 5, 17, true, vec![]);
    linear("linear I×O", 3, 1, 6, 13, false, vec![]);
    linear(
        "linear behind a transpose",
        5,
        1,
        4,
        9,
        true,
        vec![Step::Permute(vec![1, 0])],
    );
    linear("linear over positions", 7, 4, 5, 7, true, vec![]);
    linear("linear over positions, I×O", 9, 2, 7, 5, false, vec![]);

    let delta = cotangents(20, &[1, 23]);
    let bias = rows(23, |n, r, q| delta.at(&[n, r, 0, q]));
    let kind = SiteKind::Elementwise {
        cotangents: c.upload(&delta),
        derivative: None,
    };
    cases.push(Case {
        name: "bias",
        factor: factor(vec![Site::new(kind, &[23])], &bias),
        rows: bias,
    });

    let (delta, x) = (cotangents(30, &[1, 6, 5]), inputs(31, &[1, 4, 9]));
    // [input, output, kernel, stride, dilation, padding] per axis.
    let w = window(&[[9, 5, 3, 2, 1, 1]]);
    let conv = conv_rows(&delta, &x, &w, 2);
    let kind = SiteKind::Conv {
        cotangents: c.upload(&delta),
        inputs: c.upload(&x),
        window: w,
        groups: 2,
    };
    cases.push(Case {
        name: "grouped convolution",
        factor: factor(vec![Site::new(kind, &[6, 2, 3])], &conv),
        rows: conv,
    });

    // One window over all of the input; transposed, it is the input that carries the directions.
    let whole = window(&[[7, 1, 7, 1, 1, 0]]);
    let (delta, x) = (cotangents(32, &[1, 5, 1]), inputs(33, &[1, 3, 7]));
    let conv = conv_rows(&delta, &x, &whole, 1);
    let kind = SiteKind::Conv {
        cotangents: c.upload(&delta),
        inputs: c.upload(&x),
        window: whole.clone(),
        groups: 1,
    };
    cases.push(Case {
        name: "convolution of a whole window",
        factor: factor(vec![Site::new(kind, &[5, 3, 7])], &conv),
        rows: conv,
    });
    let (x, delta) = (inputs(34, &[1, 5, 1]), cotangents(35, &[1, 3, 7]));
    let conv = rows(5 * 21, |n, r, q| {
        x.at(&[n, 0, 0, q / 21, 0]) * delta.at(&[n, r, 0, q / 7 % 3, q % 7])
    });
    let kind = SiteKind::Conv {
        cotangents: c.upload(&x),
        inputs: c.upload(&delta),
        window: whole,
        groups: 1,
    };
    cases.push(Case {
        name: "transposed convolution of a whole window",
        factor: factor(vec![Site::new(kind, &[5, 3, 7])], &conv),
        rows: conv,
    });

    // As wide as its input, but its taps reach past it.
    let dilated = window(&[[3, 1, 3, 1, 2, 0]]);
    let (delta, x) = (cotangents(42, &[1, 4, 1]), inputs(43, &[1, 2, 3]));
    let conv = conv_rows(&delta, &x, &dilated, 1);
    let kind = SiteKind::Conv {
        cotangents: c.upload(&delta),
        inputs: c.upload(&x),
        window: dilated,
        groups: 1,
    };
    cases.push(Case {
        name: "dilated convolution",
        factor: factor(vec![Site::new(kind, &[4, 2, 3])], &conv),
        rows: conv,
    });

    // A table of 9 rows of 2 × 2, looked up six times; one number is no row's.
    let delta = cotangents(36, &[6, 4]);
    let mut indices = random_in(37, SAMPLES, 1, &[6], -0.5, 8.5);
    indices.values.iter_mut().for_each(|v| *v = v.round());
    indices.values[1] = 9.0;
    let table = rows(36, |n, r, q| {
        (0..6)
            .filter(|&t| indices.at(&[n, 0, t]) == (q / 4) as f64)
            .map(|t| delta.at(&[n, r, t, q % 4]))
            .sum()
    });
    let kind = SiteKind::Lookup {
        cotangents: c.upload(&delta),
        indices: c.upload(&indices),
        range: 0..9,
    };
    cases.push(Case {
        name: "table",
        factor: factor(vec![Site::new(kind.clone(), &[9, 2, 2])], &table),
        rows: table.clone(),
    });
    // The same table read the other way round by a linear head (I×O in the file), as tied embeddings are.
    let (head, a) = (cotangents(38, &[3, 9]), inputs(39, &[3, 4]));
    let head_rows = linear_rows(&head, &a, true);
    let tied = rows(36, |n, r, q| {
        table.at(&[n, r, q]) + head_rows.at(&[n, r, q])
    });
    let mut linear = Site::new(
        SiteKind::Linear {
            cotangents: c.upload(&head),
            inputs: c.upload(&a),
            outputs_first: true,
        },
        &[9, 4],
    );
    linear.steps = vec![Step::Reshape(vec![9, 2, 2])];
    cases.push(Case {
        name: "table tied to the head",
        factor: factor(vec![linear, Site::new(kind, &[9, 2, 2])], &tied),
        rows: tied,
    });

    let (delta, slope) = (cotangents(40, &[1, 3, 8]), inputs(41, &[1, 3, 8]));
    let scale = rows(3, |n, r, q| {
        (0..8)
            .map(|t| delta.at(&[n, r, 0, q, t]) * slope.at(&[n, 0, 0, q, t]))
            .sum()
    });
    let kind = SiteKind::Elementwise {
        cotangents: c.upload(&delta),
        derivative: Some(c.upload(&slope)),
    };
    cases.push(Case {
        name: "norm scale",
        factor: factor(vec![Site::new(kind, &[1, 3, 1])], &scale),
        rows: scale,
    });

    // One parameter used twice: its rows are the sum of its sites'.
    let parts: Vec<(Array, Array)> = [50, 60]
        .map(|seed| (cotangents(seed, &[1, 5]), inputs(seed + 1, &[1, 7])))
        .into();
    let sites = parts.iter().map(|(delta, a)| {
        let kind = SiteKind::Linear {
            cotangents: c.upload(delta),
            inputs: c.upload(a),
            outputs_first: true,
        };
        Site::new(kind, &[5, 7])
    });
    let each: Vec<Array> = parts
        .iter()
        .map(|(delta, a)| linear_rows(delta, a, true))
        .collect();
    let tied = rows(35, |n, r, q| {
        each.iter().map(|rows| rows.at(&[n, r, q])).sum()
    });
    cases.push(Case {
        name: "tied weight",
        factor: factor(sites.collect(), &tied),
        rows: tied,
    });
    // The same with its rows formed once and kept, as the scheduler does where they fit.
    let last = cases.last().expect("the case above");
    let (mut factor, rows) = (last.factor.clone(), last.rows.clone());
    factor.keep_rows(&c.backend, false);
    cases.push(Case {
        name: "tied weight with rows kept",
        factor,
        rows,
    });
    cases
}

fn every_pair_of_factors_contracts_to_its_block<B: Contract>(c: &Conformance<B>) {
    let cases = cases(c);
    let mut numbers = Numbers(99);
    let signs = Array::new(
        hessblock::internals::tensor::Shape::new(SAMPLES, DIRECTIONS, &[1]),
        (0..SAMPLES * DIRECTIONS)
            .map(|_| {
                if numbers.next().is_multiple_of(2) {
                    1.0
                } else {
                    -1.0
                }
            })
            .collect(),
    );
    let device_signs = c.upload(&signs);
    let mut taken: BTreeSet<Contraction> = BTreeSet::new();
    for left in &cases {
        for right in &cases {
            for signed in [false, true] {
                for _ in 0..2 {
                    let mut pick = |count: usize| {
                        let start = numbers.next() as usize % count;
                        start..start + 1 + numbers.next() as usize % (count - start)
                    };
                    let whole = signed == (left.name < right.name);
                    let (r, q) = if whole {
                        (0..left.factor.count, 0..right.factor.count)
                    } else {
                        (pick(left.factor.count), pick(right.factor.count))
                    };
                    let origin = (numbers.next() as usize % 5, numbers.next() as usize % 5);
                    let (height, width) = (r.len() + origin.0 + 2, q.len() + origin.1 + 1);
                    let mut tile = c.backend.accumulator(height, width);
                    let rows = Segment {
                        factor: &left.factor,
                        range: r.clone(),
                        origin: origin.0,
                    };
                    let columns = Segment {
                        factor: &right.factor,
                        range: q.clone(),
                        origin: origin.1,
                    };
                    taken.insert(contraction(&c.backend, &rows, &columns).0);
                    let chosen = signed.then_some(&device_signs);
                    let pair = FactorPair {
                        rows,
                        columns,
                        signs: chosen,
                    };
                    accumulate(&c.backend, &mut tile, Placement::ADD, &pair);
                    let found = c.backend.collect(c.backend.finish(tile)).expect("a tile");
                    let mut expected = vec![0.0; height * width];
                    // Signed sums may cancel to almost nothing: their scale is the root of the sum of the
                    // terms' squares, as √(G_ii G_jj) is in DESIGN §5.
                    let mut greatest = 0.0f64;
                    for (i, row) in r.clone().enumerate() {
                        for (j, column) in q.clone().enumerate() {
                            let (mut sum, mut size) = (0.0, 0.0);
                            for n in 0..SAMPLES {
                                for d in 0..DIRECTIONS {
                                    let sign = if signed { signs.at(&[n, d, 0]) } else { 1.0 };
                                    let term = sign
                                        * left.rows.at(&[n, d, row])
                                        * right.rows.at(&[n, d, column]);
                                    sum += term;
                                    size += term * term;
                                }
                            }
                            greatest = greatest.max(sum.abs()).max(size.sqrt());
                            expected[(origin.0 + i) * width + origin.1 + j] = sum;
                        }
                    }
                    c.compare_at(
                        &found,
                        &expected,
                        greatest,
                        &format!(
                            "{} {r:?} × {} {q:?}, signed {signed}",
                            left.name, right.name
                        ),
                    );
                }
            }
        }
    }
    assert_eq!(
        taken.len(),
        4,
        "some contraction was never taken: {taken:?}"
    );
}

fn rows_of_a_range_are_a_slice_of_all<B: Contract>(c: &Conformance<B>) {
    let mut numbers = Numbers(11);
    for case in cases(c) {
        let count = case.factor.count;
        for k in 0..12 {
            let start = numbers.next() as usize % count;
            let range = match k {
                0 => 0..count,
                1 => start..start,
                2 => start..start + 1,
                _ => start..start + 1 + numbers.next() as usize % (count - start),
            };
            let found = case.factor.rows(&c.backend, range.clone());
            let expected = reference::slice(&case.rows, 2, range.start, range.end);
            assert_eq!(c.backend.shape(&found), expected.shape, "{}", case.name);
            let found = c.backend.read(&found).expect("rows");
            // Beside entries of its own size a slice may hold only small ones.
            let greatest = case.rows.values.iter().fold(0.0f64, |m, v| m.max(v.abs()));
            let what = format!("{}, {range:?}", case.name);
            c.compare_at(&found, &expected.values, greatest, &what);
        }
    }
}

fn outer_factors_are_their_rows<B: Contract>(c: &Conformance<B>) {
    let mut outer = Vec::new();
    for case in cases(c) {
        let Some(factor) = case.factor.outer(&c.backend) else {
            continue;
        };
        outer.push(case.name);
        let rows = match &factor.inputs {
            None => factor.cotangents,
            Some(inputs) => {
                let order = if factor.outputs_first { "oi" } else { "io" };
                let formula = Einsum::new(&format!("sdo,sdi->sd{order}"));
                let product = c.backend.einsum(&formula, &factor.cotangents, inputs);
                c.backend.reshape(&product, &[case.factor.count])
            }
        };
        c.check(&rows, &case.rows, case.name);
    }
    let expected = [
        "linear O×I",
        "linear I×O",
        "linear behind a transpose",
        "bias",
        "convolution of a whole window",
        "transposed convolution of a whole window",
    ];
    assert_eq!(outer, expected);
}

fn squares_of_every_factor_are_those_of_its_rows<B: Contract>(c: &Conformance<B>) {
    let mut numbers = Numbers(7);
    let signs = Array::new(
        hessblock::internals::tensor::Shape::new(SAMPLES, DIRECTIONS, &[1]),
        (0..SAMPLES * DIRECTIONS)
            .map(|_| {
                if numbers.next().is_multiple_of(2) {
                    1.0
                } else {
                    -1.0
                }
            })
            .collect(),
    );
    let device_signs = c.upload(&signs);
    for case in cases(c) {
        for signed in [false, true] {
            let found = case.factor.squares(
                &c.backend,
                signed.then_some(&device_signs),
                4 * SAMPLES * DIRECTIONS,
            );
            let found = c.backend.read(&found).expect("squares");
            let expected: Vec<f64> = (0..case.factor.count)
                .map(|q| {
                    (0..SAMPLES * DIRECTIONS)
                        .map(|k| {
                            let (n, d) = (k / DIRECTIONS, k % DIRECTIONS);
                            let sign = if signed { signs.at(&[n, d, 0]) } else { 1.0 };
                            sign * case.rows.at(&[n, d, q]).powi(2)
                        })
                        .sum()
                })
                .collect();
            c.compare(&found, &expected, &format!("squares of {}", case.name));
        }
    }
}

conformance_tests!(
    cpu_f32,
    Some(Cpu::<f32>::new()),
    2e-6,
    [
        every_pair_of_factors_contracts_to_its_block,
        rows_of_a_range_are_a_slice_of_all,
        outer_factors_are_their_rows,
        squares_of_every_factor_are_those_of_its_rows,
    ]
);
conformance_tests!(
    cpu_f64,
    Some(Cpu::<f64>::new()),
    1e-12,
    [
        every_pair_of_factors_contracts_to_its_block,
        rows_of_a_range_are_a_slice_of_all,
        outer_factors_are_their_rows,
        squares_of_every_factor_are_those_of_its_rows,
    ]
);
#[cfg(feature = "gpu")]
conformance_tests!(
    gpu,
    common::gpu::open(true),
    2e-6,
    [
        every_pair_of_factors_contracts_to_its_block,
        rows_of_a_range_are_a_slice_of_all,
        outer_factors_are_their_rows,
        squares_of_every_factor_are_those_of_its_rows,
    ]
);
