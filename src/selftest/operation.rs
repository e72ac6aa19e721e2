//! Every operation: its result, the cotangents of its activations, and the rows and sums of its parameters' sites.

use super::compare::Part;
use super::draft::{Draft, SUMS, read};
use crate::error::{Error, Result};
use crate::ops::{
    Broadcast, Concat, Conv, ConvTranspose, Einsum, Elementwise, Linear, Lookup, MaxPool, Op,
    Operation, Permute, Pullback, Put, ReduceSum, Reshape, Site, Slice, Softmax, Take, WindowSum,
};
use crate::random::Draws;
use crate::tensor::expression::Unary;
use crate::tensor::{Contract, Expr, HostSlice, Shape};
use crate::trial::window;

const SAMPLES: usize = 3;
const DIRECTIONS: usize = 2;

/// An operand: a parameter has one sample.
#[derive(Clone, Debug)]
struct Operand {
    shape: Shape,
    low: f64,
    high: f64,
    /// Whole numbers, as lookups take them.
    whole: bool,
}

impl Operand {
    fn of(samples: usize, rest: &[usize]) -> Operand {
        Operand {
            shape: Shape::new(samples, 1, rest),
            low: -1.0,
            high: 1.0,
            whole: false,
        }
    }

    fn within(self, low: f64, high: f64) -> Operand {
        Operand { low, high, ..self }
    }

    /// Numbers of entries of an axis, and some that name none.
    fn numbers(self, extent: usize) -> Operand {
        Operand {
            low: 0.0,
            high: extent as f64 + 1.0,
            whole: true,
            ..self
        }
    }

    fn values(&self, stream: u64) -> Vec<f64> {
        let mut draws = Draws::new(0, stream, 0);
        let draw = |_| {
            let value = self.low + (self.high - self.low) * draws.uniform();
            match self.whole {
                true => value.floor(),
                false => f64::from(value as f32),
            }
        };
        (0..self.shape.len()).map(draw).collect()
    }
}

fn activation(rest: &[usize]) -> Operand {
    Operand::of(SAMPLES, rest)
}

fn parameter(rest: &[usize]) -> Operand {
    Operand::of(1, rest)
}

/// An operation with its operands.
#[derive(Clone, Debug)]
pub(super) struct Trial {
    op: Op,
    operands: Vec<Operand>,
}

impl Trial {
    /// Runs it forward and back.
    pub fn run<B: Contract>(&self, backend: &B) -> Result<Vec<Part>> {
        let upload = |operand: &Operand, stream: u64| {
            backend.upload(&operand.shape, HostSlice::F64(&operand.values(stream)))
        };
        let inputs: Vec<B::Tensor> = (self.operands.iter().zip(200..))
            .map(|(operand, stream)| upload(operand, stream))
            .collect();
        let rests: Vec<&[usize]> = self.operands.iter().map(|x| &x.shape.rest[..]).collect();
        let cotangent = Operand {
            shape: Shape::new(SAMPLES, DIRECTIONS, &self.op.shape(&rests)?),
            ..activation(&[])
        };
        let cotangent = upload(&cotangent, 300);
        let forward = self.op.forward(backend, &inputs);
        let mut parts = vec![read(backend, "result", &forward.output)?];
        let pullback = Pullback {
            inputs: &inputs,
            indices: forward.indices.as_ref(),
            cotangent: &cotangent,
        };
        for (k, operand) in self.operands.iter().enumerate() {
            if !self.op.differentiates(k) {
                continue;
            }
            if operand.shape.samples > 1 {
                let found = self.op.vjp(backend, &pullback, k);
                parts.push(read(backend, &format!("cotangent of operand {k}"), &found)?);
                continue;
            }
            let site = Site::new(self.op.site(backend, &pullback, k), &operand.shape.rest);
            let rows = site.rows(backend);
            parts.push(read(backend, &format!("rows of parameter {k}"), &rows)?);
            let sum = site.sum(backend);
            parts.push(read(backend, &format!("gradient of parameter {k}"), &sum)?);
        }
        match parts.iter().any(|part| part.values.is_empty()) {
            true => Err(Error::Value(format!("{:?} gave nothing", self.op))),
            false => Ok(parts),
        }
    }
}

/// A product of operands labelled as in `"ab,bc->ac"`.
fn einsum(left: &str, right: &str, output: &str) -> Op {
    let labels = |text: &str| text.as_bytes().to_vec();
    Einsum {
        left: labels(left),
        right: labels(right),
        output: labels(output),
    }
    .into()
}

pub(super) fn drafts() -> Vec<Draft<Trial>> {
    let groups = [
        products(),
        convolutions(),
        windows(),
        layouts(),
        lookups(),
        pointwise(),
    ];
    groups.into_iter().flatten().collect()
}

fn draft(subject: &str, about: &str, op: impl Into<Op>, operands: Vec<Operand>) -> Draft<Trial> {
    let op = op.into();
    Draft::new(subject, about, SUMS, Trial { op, operands })
}

fn products() -> Vec<Draft<Trial>> {
    let linear = |outputs_first| Linear { outputs_first };
    let a = activation;
    let p = parameter;
    vec![
        draft(
            "linear",
            "17x31",
            linear(true),
            vec![a(&[1, 31]), p(&[17, 31])],
        ),
        draft(
            "linear",
            "inputs first, 6 positions",
            linear(false),
            vec![a(&[2, 3, 13]), p(&[13, 7])],
        ),
        draft(
            "einsum",
            "of activations",
            Einsum::matmul(3, 3),
            vec![a(&[2, 3, 13]), a(&[2, 13, 5])],
        ),
        draft(
            "einsum",
            "with a parameter",
            Einsum::matmul(3, 2),
            vec![a(&[2, 3, 13]), p(&[13, 7])],
        ),
        draft(
            "einsum",
            "queries by keys",
            einsum("hqk", "hmk", "hqm"),
            vec![a(&[2, 3, 4]), a(&[2, 5, 4])],
        ),
        draft(
            "einsum",
            "entries",
            einsum("ab", "ba", "ab"),
            vec![a(&[3, 4]), p(&[4, 3])],
        ),
    ]
}

fn convolutions() -> Vec<Draft<Trial>> {
    let conv = |axes: &[[usize; 6]], groups| Conv {
        window: window(axes),
        groups,
    };
    let transposed = |axes: &[[usize; 6]], groups| ConvTranspose {
        window: window(axes),
        groups,
    };
    let a = activation;
    let p = parameter;
    let (plane, line) = (
        [[7, 4, 3, 2, 1, 1], [6, 5, 2, 1, 2, 1]],
        [[9, 4, 3, 2, 2, 1]],
    );
    vec![
        draft(
            "conv",
            "two axes",
            conv(&plane, 1),
            vec![a(&[2, 3, 7, 6]), p(&[4, 3, 3, 2])],
        ),
        draft(
            "conv",
            "two groups",
            conv(&line, 2),
            vec![a(&[1, 4, 9]), p(&[6, 2, 3])],
        ),
        draft(
            "conv",
            "depthwise",
            conv(&[[7, 4, 3, 2, 1, 1], [6, 6, 5, 1, 1, 2]], 3),
            vec![a(&[1, 3, 7, 6]), p(&[6, 1, 3, 5])],
        ),
        draft(
            "conv_transpose",
            "two groups",
            transposed(&[[10, 5, 3, 2, 1, 1]], 2),
            vec![a(&[1, 4, 5]), p(&[4, 3, 3])],
        ),
        draft(
            "conv_transpose",
            "dilated",
            transposed(&[[12, 4, 2, 3, 2, 0], [7, 5, 3, 1, 2, 1]], 1),
            vec![a(&[2, 3, 4, 5]), p(&[3, 2, 2, 3])],
        ),
    ]
}

fn windows() -> Vec<Draft<Trial>> {
    let plane = window(&[[7, 4, 3, 2, 1, 1], [6, 5, 2, 1, 2, 1]]);
    let line = window(&[[8, 4, 3, 2, 1, 0]]);
    let (plane, line) = (MaxPool { window: plane }, WindowSum { window: line });
    vec![
        draft(
            "max_pool",
            "padded, dilated",
            plane,
            vec![activation(&[1, 3, 7, 6])],
        ),
        draft(
            "window_sum",
            "past the end",
            line,
            vec![activation(&[1, 3, 8])],
        ),
    ]
}

fn layouts() -> Vec<Draft<Trial>> {
    let (a, p) = (activation, parameter);
    let order = vec![2, 0, 1];
    let (whole, rest) = (vec![6, 4], vec![2, 3, 4]);
    let kept = |axes: &[usize], keep| ReduceSum {
        axes: axes.to_vec(),
        keep,
    };
    let slice = |axis, range| Slice { axis, range };
    vec![
        draft(
            "permute",
            "three axes",
            Permute { order },
            vec![a(&[2, 3, 4])],
        ),
        draft(
            "reshape",
            "24 to 6x4",
            Reshape { rest: whole },
            vec![a(&[2, 3, 4])],
        ),
        draft(
            "broadcast",
            "to three axes",
            Broadcast { rest },
            vec![a(&[3, 1])],
        ),
        draft(
            "reduce_sum",
            "kept",
            kept(&[0, 2], true),
            vec![a(&[2, 3, 4])],
        ),
        draft(
            "reduce_sum",
            "dropped",
            kept(&[1], false),
            vec![a(&[2, 3, 4])],
        ),
        draft(
            "concat",
            "with a parameter",
            Concat { axis: 1 },
            vec![a(&[2, 3]), p(&[2, 2])],
        ),
        draft(
            "slice",
            "an activation",
            slice(1, 1..3),
            vec![a(&[2, 5, 3])],
        ),
        draft("slice", "a parameter", slice(0, 3..4), vec![p(&[5, 3])]),
    ]
}

fn lookups() -> Vec<Draft<Trial>> {
    let (a, p) = (activation, parameter);
    let take = |axis| Take {
        axis,
        indices: vec![Some(2), None, Some(0), Some(2), Some(2)],
    };
    let table = |axis| Lookup { axis };
    let put = |axis, extent| Put { axis, extent };
    vec![
        draft("take", "an activation", take(1), vec![a(&[2, 4, 3])]),
        draft("take", "a parameter", take(0), vec![p(&[3, 2])]),
        draft(
            "lookup",
            "in a table",
            table(0),
            vec![p(&[7, 5]), a(&[4, 2]).numbers(7)],
        ),
        draft(
            "lookup",
            "in an activation",
            table(1),
            vec![a(&[2, 6, 3]), a(&[5]).numbers(6)],
        ),
        draft(
            "put",
            "an activation",
            put(1, 4),
            vec![a(&[2, 6, 3]), a(&[6]).numbers(4)],
        ),
        draft(
            "put",
            "a parameter",
            put(0, 3),
            vec![p(&[5, 2]), a(&[5]).numbers(3)],
        ),
    ]
}

fn pointwise() -> Vec<Draft<Trial>> {
    let (a, p, x) = (activation, parameter, Expr::input);
    let zero = || Expr::constant(0.0);
    let relu = Expr::if_less_equal(x(0), zero(), zero(), x(0));
    let half = |function| Expr::constant(0.5) * x(0) * (Expr::constant(1.0) + function);
    let gelu = half((Expr::constant(0.5f64.sqrt()) * x(0)).unary(Unary::Erf));
    let normal = (x(0) - x(1)) / (x(2) + Expr::constant(1e-3)).unary(Unary::Sqrt) * x(3) + x(4);
    let channel = || p(&[3, 1]);
    let of = |expr| Elementwise::new(expr);
    let mut drafts = vec![
        draft(
            "elementwise",
            "bias",
            of(x(0) + x(1)),
            vec![a(&[1, 4, 3]), p(&[4, 1])],
        ),
        draft(
            "elementwise",
            "difference",
            of(x(0) - x(1)),
            vec![a(&[2, 5]), a(&[1, 5])],
        ),
        draft("elementwise", "relu", of(relu), vec![a(&[1, 31])]),
        draft(
            "elementwise",
            "gelu",
            of(gelu),
            vec![a(&[1, 31]).within(-3.0, 3.0)],
        ),
        draft(
            "elementwise",
            "silu",
            of(x(0) * x(0).unary(Unary::Sigmoid)),
            vec![a(&[1, 31])],
        ),
        draft(
            "elementwise",
            "powers",
            of(x(0).power(x(1))),
            vec![a(&[2, 17]).within(0.25, 2.0), p(&[17])],
        ),
        draft(
            "elementwise",
            "batch norm",
            of(normal),
            vec![
                a(&[1, 3, 4]),
                channel(),
                channel().within(0.5, 2.0),
                channel(),
                channel(),
            ],
        ),
    ];
    for (axis, log) in [(0, false), (1, true), (2, false), (2, true)] {
        let about = format!("axis {axis}{}", if log { ", logarithm" } else { "" });
        let softmax = Softmax { axis, log };
        drafts.push(draft("softmax", &about, softmax, vec![a(&[4, 3, 5])]));
    }
    let large = vec![a(&[4, 37]).within(-200.0, 200.0)];
    let softmax = Softmax { axis: 1, log: true };
    drafts.push(draft("softmax", "large logits", softmax, large));
    drafts
}
