//! The contraction kernels: dense × dense, outer × outer and outer × dense, added to a tile once and again.

use super::compare::Part;
use super::draft::{Draft, SUMS};
use crate::error::Result;
use crate::random::Draws;
use crate::tensor::{Contract, HostSlice, MirrorRule, OuterTerm, Placement, Real, Scaled, Shape};
use crate::trial::contractions::{DENSE, Dense, OUTER, Outer, Side};

/// A product that is added to a tile.
#[derive(Clone, Debug)]
pub(super) struct Product {
    kind: Kind,
    samples: usize,
    directions: usize,
    /// How often it is added, each time of other numbers.
    times: u64,
    /// The place where it fills a tile that held anything; otherwise it is added to a larger tile of zeros.
    fills: Option<MirrorRule>,
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
                Some(mirror) => Placement {
                    mirror,
                    begin: turn == 0,
                },
                None => Placement::ADD,
            };
            self.add(backend, &mut tile, how, 8 * turn);
        }
        let values = backend.collect(backend.finish(tile))?;
        let values = values.into_iter().map(Real::to_f64).collect();
        Ok(vec![Part::new("tile", values)])
    }

    fn add<B: Contract>(
        &self,
        backend: &B,
        tile: &mut B::Accumulator,
        how: Placement,
        stream: u64,
    ) {
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
                let own = |k: u64| match how.mirror {
                    MirrorRule::Symmetric => stream,
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

pub(super) fn drafts() -> Vec<Draft<Product>> {
    DENSE
        .iter()
        .map(dense)
        .chain(OUTER.iter().map(outer))
        .collect()
}

fn dense(case: &Dense) -> Draft<Product> {
    let [rows, columns] = case.extents;
    let about = format!(
        "{rows}x{columns} at {:?}, {} terms{}{}",
        case.origin,
        case.samples * case.directions,
        again(case.times),
        filling(case.fills)
    );
    let product = Product {
        kind: Kind::Dense(case.extents, case.origin),
        samples: case.samples,
        directions: case.directions,
        times: case.times,
        fills: case.fills,
    };
    Draft::new("dense", about, SUMS, product)
}

fn outer(case: &Outer) -> Draft<Product> {
    let about = format!("{}{}{}", case.about, filling(case.fills), again(case.times));
    let product = Product {
        kind: Kind::Outer {
            sides: case.sides,
            scaled: case.scaled,
            shared: case.shared,
        },
        samples: case.samples,
        directions: case.directions,
        times: case.times,
        fills: case.fills,
    };
    Draft::new("outer", about, SUMS, product)
}

fn filling(fills: Option<MirrorRule>) -> &'static str {
    match fills {
        Some(MirrorRule::Symmetric) => ", its own mirror, filling the tile",
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
