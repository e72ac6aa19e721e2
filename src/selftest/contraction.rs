//! The contraction kernels: dense × dense, outer × outer and outer × dense, added to a tile once and again.

use super::case::{Draft, SUMS, Work};
use super::compare::Part;
use crate::error::Result;
use crate::random::Draws;
use crate::tensor::{Contract, Fill, HostSlice, How, OuterAxes, OuterTerm, Real, Scaled, Shape};

/// A product that is added to a tile.
#[derive(Clone, Debug)]
pub(super) struct Product {
    kind: Kind,
    samples: usize,
    directions: usize,
    /// How often it is added, each time of other numbers.
    times: u64,
    /// The place where it fills a tile that held anything; otherwise it is added to a larger tile of zeros.
    fills: Option<Fill>,
}

#[derive(Clone, Debug)]
enum Kind {
    /// Rows, columns, and where they start.
    Dense([usize; 2], [usize; 2]),
    Outer {
        sides: [Side; 2],
        scaled: Scaled,
        /// Whether the inputs are those of all samples.
        shared: bool,
    },
}

/// Rows or columns of an outer product.
#[derive(Clone, Debug)]
struct Side {
    outputs: usize,
    /// `None` is a bias.
    inputs: Option<usize>,
    axes: OuterAxes,
}

impl Side {
    fn new(outputs: usize, inputs: Option<usize>, origin: usize, strides: [usize; 2]) -> Side {
        let axes = OuterAxes {
            origin,
            output_stride: strides[0],
            input_stride: strides[1],
        };
        Side {
            outputs,
            inputs,
            axes,
        }
    }

    /// Outputs first, without gaps: a weight `[outputs, inputs]`.
    fn outputs_first(outputs: usize, inputs: usize, origin: usize) -> Side {
        Side::new(outputs, Some(inputs), origin, [inputs, 1])
    }

    /// A weight `[inputs, outputs]`.
    fn inputs_first(outputs: usize, inputs: usize, origin: usize) -> Side {
        Side::new(outputs, Some(inputs), origin, [1, outputs])
    }

    /// A bias, or rows of a dense factor.
    fn bias(outputs: usize, origin: usize) -> Side {
        Side::new(outputs, None, origin, [1, 1])
    }

    /// One past its last row.
    fn extent(&self) -> usize {
        let inputs = self.inputs.unwrap_or(1);
        let last =
            (self.outputs - 1) * self.axes.output_stride + (inputs - 1) * self.axes.input_stride;
        self.axes.origin + last + 1
    }
}

impl Product {
    /// The tile with all that was added.
    pub fn run<B: Contract>(&self, backend: &B) -> Result<Vec<Part>> {
        let [rows, columns] = match &self.kind {
            Kind::Dense(extents, origin) => [0, 1].map(|k| origin[k] + extents[k]),
            Kind::Outer { sides, .. } => [0, 1].map(|k| sides[k].extent()),
        };
        // A row and a column more stay 0.
        let mut tile = match self.fills {
            Some(_) => {
                let nan = B::Real::from_f64(f64::NAN);
                backend.accumulator_in(rows, columns, vec![nan; rows * columns])
            }
            None => backend.accumulator(rows + 1, columns + 1),
        };
        for turn in 0..self.times {
            let how = match self.fills {
                Some(fill) => How {
                    fill,
                    begin: turn == 0,
                },
                None => How::ADD,
            };
            self.add(backend, &mut tile, how, 8 * turn);
        }
        let values = backend.collect(backend.finish(tile))?;
        let values = values.into_iter().map(Real::to_f64).collect();
        Ok(vec![Part::new("tile", values)])
    }

    fn add<B: Contract>(&self, backend: &B, tile: &mut B::Accumulator, how: How, stream: u64) {
        let upload = |stream: u64, samples: usize, directions: usize, each: usize| {
            let mut draws = Draws::new(0, 400 + stream, 0);
            let shape = Shape::new(samples, directions, &[each]);
            let draw = |_| f64::from((2.0 * draws.uniform() - 1.0) as f32);
            let values: Vec<f64> = (0..shape.len()).map(draw).collect();
            backend.upload(&shape, HostSlice::F64(&values))
        };
        let (samples, directions) = (self.samples, self.directions);
        match &self.kind {
            Kind::Dense(extents, origin) => {
                // A product that is its own mirror is one factor's with itself.
                let own = |k: u64| match how.fill {
                    Fill::Symmetric => stream,
                    _ => stream + k,
                };
                let [left, right] =
                    [0, 1].map(|k| upload(own(k as u64), samples, directions, extents[k]));
                let origin = (origin[0], origin[1]);
                backend.accumulate_dense(tile, how, origin, (&left, &right));
            }
            Kind::Outer {
                sides,
                scaled,
                shared,
            } => {
                // Where the inputs are alike, they are one tensor.
                let alike = *scaled == Scaled::Alike;
                let own = |k: usize| stream + if alike { 0 } else { k as u64 };
                let of = if *shared { 1 } else { samples };
                let cotangents =
                    [0, 1].map(|k| upload(own(k), samples, directions, sides[k].outputs));
                let inputs = [0, 1].map(|k| {
                    let each = sides[k].inputs?;
                    Some(upload(own(k) + 2, of, 1, each))
                });
                let term = OuterTerm {
                    row_cotangents: &cotangents[0],
                    column_cotangents: &cotangents[1],
                    row_inputs: inputs[0].as_ref(),
                    column_inputs: inputs[1].as_ref(),
                };
                let axes = (sides[0].axes, sides[1].axes);
                backend.accumulate_outer(tile, how, axes, term, *scaled);
            }
        }
    }
}

pub(super) fn drafts() -> Vec<Draft> {
    let mut drafts = dense();
    drafts.extend(outer());
    drafts
}

fn dense() -> Vec<Draft> {
    /// Rows and columns, where they start, samples, directions, and how often it is added.
    type Dense = ([usize; 2], [usize; 2], usize, usize, u64, Option<Fill>);
    let list: [Dense; 11] = [
        ([1, 1], [0, 0], 1, 1, 1, None),
        ([17, 67], [5, 3], 11, 3, 1, None),
        ([127, 65], [1, 31], 37, 2, 3, None),
        ([259, 131], [63, 0], 13, 2, 1, None),
        ([3, 301], [0, 7], 67, 10, 2, None),
        ([31, 33], [2, 2], 257, 1, 1, None),
        ([7, 13], [1, 1], 4099, 2, 2, None),
        ([3, 5], [1, 0], 7001, 10, 1, None),
        // Sizes whose rows are read and stored four at a time.
        ([64, 128], [0, 0], 64, 4, 2, Some(Fill::Own)),
        ([132, 132], [0, 0], 33, 10, 3, Some(Fill::Symmetric)),
        ([128, 64], [4, 3], 40, 1, 1, None),
    ];
    let draft = |(extents, origin, samples, directions, times, fills): Dense| {
        let [rows, columns] = extents;
        let about = format!(
            "{rows}x{columns} at {origin:?}, {} terms{}{}",
            samples * directions,
            again(times),
            filling(fills)
        );
        let product = Product {
            kind: Kind::Dense([rows, columns], origin),
            samples,
            directions,
            times,
            fills,
        };
        Draft::new("dense", about, SUMS, Work::Contraction(product))
    };
    list.into_iter().map(draft).collect()
}

fn filling(fills: Option<Fill>) -> &'static str {
    match fills {
        Some(Fill::Symmetric) => ", its own mirror, filling the tile",
        Some(_) => ", filling the tile",
        None => "",
    }
}

fn again(times: u64) -> String {
    match times {
        1 => String::new(),
        times => format!(", added {times} times"),
    }
}

fn outer() -> Vec<Draft> {
    let (first, last, bias) = (Side::outputs_first, Side::inputs_first, Side::bias);
    let gaps = |outputs, inputs, origin, strides| Side::new(outputs, Some(inputs), origin, strides);
    let (rows, columns, alike) = (Scaled::Rows, Scaled::Columns, Scaled::Alike);
    let list = [
        (
            "weight by weight",
            [first(5, 67, 0), first(3, 31, 0)],
            rows,
            11,
            3,
            1,
        ),
        (
            "weight by weight, origins",
            [first(7, 19, 13), first(3, 67, 5)],
            columns,
            37,
            2,
            2,
        ),
        (
            "weight by itself",
            [first(5, 33, 3), first(5, 33, 3)],
            alike,
            67,
            3,
            1,
        ),
        (
            "weight by itself, inputs first",
            [last(4, 17, 1), last(4, 17, 1)],
            alike,
            257,
            2,
            2,
        ),
        (
            "inputs first by outputs first",
            [last(6, 13, 2), first(3, 65, 1)],
            rows,
            31,
            2,
            1,
        ),
        (
            "inputs first",
            [last(3, 31, 0), last(5, 17, 7)],
            columns,
            13,
            5,
            3,
        ),
        (
            "weight by bias",
            [first(5, 67, 1), bias(23, 4)],
            columns,
            131,
            3,
            1,
        ),
        (
            "bias by weight",
            [bias(17, 0), last(3, 61, 2)],
            rows,
            131,
            3,
            1,
        ),
        ("bias by bias", [bias(31, 3), bias(67, 1)], rows, 61, 2, 2),
        (
            "gaps",
            [gaps(5, 7, 3, [17, 2]), gaps(3, 11, 2, [2, 7])],
            rows,
            19,
            2,
            1,
        ),
        (
            "4099 samples",
            [first(3, 13, 0), first(2, 17, 1)],
            rows,
            4099,
            1,
            1,
        ),
        (
            "66,003 samples",
            [first(2, 5, 1), last(2, 3, 0)],
            columns,
            66_003,
            1,
            1,
        ),
        (
            "a tile of many",
            [first(13, 29, 0), first(11, 31, 0)],
            rows,
            7,
            10,
            1,
        ),
    ];
    let mut drafts = Vec::new();
    let mut add = |about: String,
                   sides: [Side; 2],
                   scaled,
                   (samples, directions, times): (usize, usize, u64),
                   shared,
                   fills| {
        let product = Product {
            kind: Kind::Outer {
                sides,
                scaled,
                shared,
            },
            samples,
            directions,
            times,
            fills,
        };
        drafts.push(Draft::new("outer", about, SUMS, Work::Contraction(product)));
    };
    for (about, sides, scaled, samples, directions, times) in list {
        let about = format!("{about}{}", again(times));
        let sizes = (samples, directions, times);
        add(about, sides, scaled, sizes, false, None);
    }
    // Sizes whose rows are read and stored four at a time.
    for (about, sides, scaled, fill) in [
        (
            "aligned weight by itself",
            [first(4, 64, 0), first(4, 64, 0)],
            alike,
            Fill::Symmetric,
        ),
        (
            "aligned outputs of a weight",
            [first(4, 64, 0), first(8, 64, 0)],
            alike,
            Fill::Own,
        ),
        (
            "aligned weight by another",
            [first(4, 32, 0), first(2, 128, 0)],
            columns,
            Fill::Own,
        ),
        (
            "aligned weight by bias",
            [first(4, 64, 0), bias(32, 0)],
            columns,
            Fill::Own,
        ),
        (
            "aligned bias by weight",
            [bias(32, 0), first(4, 64, 0)],
            rows,
            Fill::Own,
        ),
        (
            "aligned weight of few inputs",
            [first(16, 4, 0), first(8, 4, 0)],
            rows,
            Fill::Own,
        ),
    ] {
        let about = format!("{about}{}{}", filling(Some(fill)), again(2));
        add(about, sides, scaled, (48, 3, 2), false, Some(fill));
    }
    let sides = [first(3, 17, 0), first(5, 7, 2)];
    add(
        "inputs shared by all samples".into(),
        sides,
        rows,
        (9, 2, 1),
        true,
        None,
    );
    drafts
}
