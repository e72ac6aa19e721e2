//! Every primitive at the size that it has in a LeNet-5 (128 samples, 10 directions) or, depthwise, in a MobileNet.

use super::primitive::{Primitive, Setting};
use crate::tensor::expression::Unary;
use crate::tensor::{Expr, Shape, Window};
use Primitive as P;

const SAMPLES: usize = 128;
const DIRECTIONS: usize = 10;

/// The name of a case, a word on it, and its setting.
pub type Typical = (&'static str, &'static str, Setting);

/// Returns all of them, in order.
pub fn typical() -> Vec<Typical> {
    let groups = [
        linear(),
        convolutions(),
        pools(),
        elementwise(),
        layouts(),
        lookups(),
        joins(),
    ];
    groups.into_iter().flatten().collect()
}

/// The shape of all samples and directions.
fn many(rest: &[usize]) -> Shape {
    Shape::new(SAMPLES, DIRECTIONS, rest)
}

/// The shape of all samples in one direction.
fn primal(rest: &[usize]) -> Shape {
    Shape::new(SAMPLES, 1, rest)
}

/// The shape of what all samples share.
fn weights(rest: &[usize]) -> Shape {
    Shape::new(1, 1, rest)
}

/// Cotangents of the second convolution.
fn delta() -> Shape {
    many(&[1, 16, 8, 8])
}

/// Outputs of the second convolution.
fn value() -> Shape {
    primal(&[1, 16, 8, 8])
}

fn case(
    name: &'static str,
    about: &'static str,
    primitive: Primitive,
    shapes: &[Shape],
) -> Typical {
    let shapes = shapes.to_vec();
    (name, about, Setting { primitive, shapes })
}

fn linear() -> Vec<Typical> {
    let dense = weights(&[120, 256]);
    vec![
        case(
            "einsum-forward",
            "a linear layer 256 → 120, 10 directions",
            P::Einsum("sdti,sdoi->sdto"),
            &[many(&[1, 256]), dense.clone()],
        ),
        case(
            "einsum-reverse",
            "its transpose",
            P::Einsum("sdto,sdoi->sdti"),
            &[many(&[1, 120]), dense],
        ),
    ]
}

fn convolutions() -> Vec<Typical> {
    let conv = Window::square(12, 8, 5, 1, 0);
    let (x, w) = (primal(&[1, 6, 12, 12]), weights(&[16, 6, 5, 5]));
    let depthwise = Window::square(28, 28, 5, 1, 2);
    let plane = Shape::new(8, 1, &[1, 144, 28, 28]);
    let planes = Shape::new(8, 2, &[1, 144, 28, 28]);
    let taps = weights(&[144, 1, 5, 5]);
    vec![
        case(
            "conv",
            "6 → 16 channels, 5×5",
            P::Conv(conv.clone(), 1),
            &[x.clone(), w.clone()],
        ),
        case(
            "conv-inputs",
            "its transpose in the inputs, 10 directions",
            P::ConvInputs(conv.clone(), 1),
            &[delta(), w],
        ),
        case(
            "conv-weights-rows",
            "its transpose in the weights, a row per sample and direction",
            P::ConvWeights(conv.clone(), 1, false),
            &[delta(), x.clone()],
        ),
        case(
            "conv-weights-sum",
            "the same, summed over samples",
            P::ConvWeights(conv, 1, true),
            &[delta(), x],
        ),
        case(
            "depthwise-conv",
            "144 channels of 28×28, 5×5, 8 samples",
            P::Conv(depthwise.clone(), 144),
            &[plane.clone(), taps.clone()],
        ),
        case(
            "depthwise-inputs",
            "its transpose in the inputs, 2 directions",
            P::ConvInputs(depthwise.clone(), 144),
            &[planes.clone(), taps],
        ),
        case(
            "depthwise-weights-rows",
            "its transpose in the weights, 2 directions",
            P::ConvWeights(depthwise, 144, false),
            &[planes, plane],
        ),
    ]
}

fn pools() -> Vec<Typical> {
    let pool = Window::square(8, 4, 2, 2, 0);
    let pooled = many(&[1, 16, 4, 4]);
    vec![
        case(
            "window-sum",
            "2×2 of 8×8",
            P::WindowSum(pool.clone()),
            &[delta()],
        ),
        case(
            "window-spread",
            "its transpose",
            P::WindowSpread(pool.clone()),
            std::slice::from_ref(&pooled),
        ),
        case(
            "gather",
            "10 directions at the maxima of 2×2",
            P::Gather(pool.clone()),
            &[delta(), value()],
        ),
        case(
            "scatter",
            "its transpose",
            P::Scatter(pool),
            &[pooled, value()],
        ),
    ]
}

fn elementwise() -> Vec<Typical> {
    let a = Expr::input(0);
    vec![
        case(
            "map-tanh",
            "tanh at 1.3 million positions",
            P::Map(a.clone().unary(Unary::Tanh)),
            &[delta()],
        ),
        case(
            "map-product",
            "10 directions times a value",
            P::Map(a * Expr::input(1)),
            &[delta(), value()],
        ),
        case(
            "reduce-positions",
            "sums over 8×8",
            P::ReduceSum(vec![4, 5]),
            &[delta()],
        ),
        case(
            "reduce-samples",
            "sums over 128 samples",
            P::ReduceSum(vec![0]),
            &[delta()],
        ),
    ]
}

fn layouts() -> Vec<Typical> {
    vec![
        case(
            "permute",
            "channels last",
            P::Permute(vec![0, 2, 3, 1]),
            &[delta()],
        ),
        case("slice", "8 of 16 channels", P::Slice(3, 3, 11), &[delta()]),
        case(
            "embed",
            "8 channels among 16",
            P::Embed(3, 3, 16),
            &[many(&[1, 8, 8, 8])],
        ),
    ]
}

fn lookups() -> Vec<Typical> {
    let indices = primal(&[32]);
    vec![
        case(
            "take",
            "32 of 64 rows of a table for each sample",
            P::Take(3),
            &[weights(&[1, 64, 48]), indices.clone()],
        ),
        case(
            "put",
            "its transpose, 10 directions, summed over samples",
            P::Put(3, 0..64, true),
            &[many(&[1, 32, 48]), indices],
        ),
    ]
}

fn joins() -> Vec<Typical> {
    vec![
        case(
            "concat",
            "16 and 16 channels",
            P::Concat(3),
            &[delta(), delta()],
        ),
        case(
            "broadcast",
            "3 times",
            P::Broadcast(vec![3, 16, 8, 8]),
            &[value()],
        ),
    ]
}
