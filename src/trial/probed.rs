//! The sizes at which every kind of work is measured to find the rates of a device.

use super::primitive::Primitive;
use crate::tensor::expression::Unary;
use crate::tensor::{Expr, MirrorRule, Shape, Window};
use Primitive as P;

/// Samples, directions, rows and columns of products of dense rows, and what they mirror.
pub(crate) type Dense = (usize, usize, usize, usize, MirrorRule);

/// Products of dense rows.
pub(crate) const DENSE: [Dense; 6] = [
    // So small that what counts is the call: a network of many small layers has millions of them.
    (8, 3, 2, 4, MirrorRule::Own),
    (16, 4, 64, 64, MirrorRule::Own),
    (64, 10, 160, 160, MirrorRule::Symmetric),
    (32, 10, 512, 480, MirrorRule::Own),
    (64, 10, 700, 700, MirrorRule::Symmetric),
    (8, 4, 1024, 1024, MirrorRule::Own),
];

/// (samples, directions), (outputs, inputs) of rows and columns; `None` a site with itself.
pub(crate) type Outer = ((usize, usize), (usize, usize), Option<(usize, usize)>);

/// Outer products.
pub(crate) const OUTER: [Outer; 7] = [
    ((8, 3), (2, 2), Some((2, 1))),
    ((64, 10), (8, 120), None),
    ((128, 10), (4, 256), None),
    ((32, 10), (10, 64), None),
    ((64, 10), (8, 64), Some((600, 1))),
    ((128, 4), (4, 256), Some((4, 256))),
    ((32, 10), (40, 1), Some((10, 84))),
];

/// Samples, directions, channels, outputs, groups; and input, output, kernel, stride and padding of each axis.
type Convolution = (usize, usize, usize, usize, usize, [usize; 5]);

/// Convolutions of few channels, others, and grouped ones.
const CONVOLUTIONS: [Convolution; 14] = [
    (16, 1, 1, 6, 1, [28, 24, 5, 1, 0]),
    (16, 8, 16, 16, 1, [32, 32, 3, 1, 1]),
    (16, 1, 6, 16, 1, [12, 8, 5, 1, 0]),
    (4, 4, 16, 16, 1, [32, 32, 3, 1, 1]),
    (4, 2, 3, 16, 1, [32, 32, 3, 1, 1]),
    (1, 1, 3, 4, 1, [8, 8, 3, 1, 1]),
    (4, 4, 16, 32, 1, [32, 16, 3, 2, 1]),
    (4, 4, 32, 32, 1, [16, 16, 3, 1, 1]),
    (4, 2, 64, 64, 1, [8, 8, 3, 1, 1]),
    (8, 4, 16, 32, 1, [16, 8, 1, 2, 0]),
    (2, 1, 32, 64, 1, [8, 8, 1, 1, 0]),
    (2, 1, 48, 48, 48, [28, 28, 5, 1, 2]),
    (2, 2, 32, 32, 8, [14, 14, 3, 1, 1]),
    (1, 1, 8, 8, 8, [7, 7, 3, 1, 1]),
];

/// A primitive with the shapes of its tensors.
type Probed = (Primitive, Vec<Shape>);

/// Returns primitives with the shapes of their tensors: every kind small, where a call counts, and large, where numbers do.
pub(crate) fn probed() -> Vec<Probed> {
    let groups = [
        products(),
        convolutions(),
        pools(),
        elementwise(),
        layouts(),
        lookups(),
    ];
    groups.into_iter().flatten().collect()
}

fn of(samples: usize, directions: usize, rest: &[usize]) -> Shape {
    Shape::new(samples, directions, rest)
}

/// The shape of what all samples share.
fn weights(rest: &[usize]) -> Shape {
    Shape::new(1, 1, rest)
}

/// Cotangents of a convolution's outputs.
fn wide() -> Shape {
    of(32, 10, &[1, 16, 8, 8])
}

/// A convolution's outputs.
fn value() -> Shape {
    of(32, 1, &[1, 16, 8, 8])
}

/// Of so few numbers that a call counts.
fn small() -> Shape {
    of(2, 1, &[1, 4, 8, 8])
}

/// Far, and of so much (32 MiB and more) that an allocator has fresh pages for it each time, as it has in a run for less.
fn large() -> Shape {
    of(64, 10, &[13_200])
}

/// Linear layers forward and back, rows of V, batches of small ones; and products without matrices.
fn products() -> Vec<Probed> {
    vec![
        // Products: linear layers forward and back, rows of V, batches of small ones.
        (
            P::Einsum("sdti,sdoi->sdto"),
            vec![of(32, 10, &[1, 256]), weights(&[120, 256])],
        ),
        (
            P::Einsum("sdti,sdoi->sdto"),
            vec![of(64, 1, &[1, 64]), weights(&[10, 64])],
        ),
        (
            P::Einsum("sdto,sdoi->sdti"),
            vec![of(64, 10, &[1, 10]), weights(&[10, 84])],
        ),
        (
            P::Einsum("sdto,sdoi->sdti"),
            vec![of(32, 10, &[1, 120]), weights(&[120, 400])],
        ),
        (
            P::Einsum("sdto,sdti->sdoi"),
            vec![of(16, 10, &[1, 24]), of(16, 1, &[1, 84])],
        ),
        (
            P::Einsum("sdto,sdti->1doi"),
            vec![of(64, 1, &[16, 64]), of(64, 1, &[16, 64])],
        ),
        (
            P::Einsum("sdatk,sdauk->sdatu"),
            vec![of(16, 2, &[4, 16, 8]), of(16, 1, &[4, 16, 8])],
        ),
        (
            P::Einsum("sdatk,sdauk->sdatu"),
            vec![of(40, 16, &[2, 16, 8]), of(40, 1, &[2, 16, 8])],
        ),
        (
            P::Einsum("sdto,sdti->sdoi"),
            vec![of(128, 16, &[1, 12]), of(128, 1, &[1, 12])],
        ),
        // Without matrices.
        (
            P::Einsum("sdq,sdq->11q"),
            vec![of(16, 10, &[400]), of(16, 10, &[400])],
        ),
        (
            P::Einsum("sdq,sdq->11q"),
            vec![of(32, 10, &[2400]), of(32, 10, &[2400])],
        ),
        // Beyond the caches, as rows of V are of which a diagonal is made.
        (
            P::Einsum("sdq,sdq->11q"),
            vec![of(16, 10, &[16_384]), of(16, 10, &[16_384])],
        ),
        (
            P::Einsum("sdq,sdq->11q"),
            vec![of(16, 10, &[52_000]), of(16, 10, &[52_000])],
        ),
        (
            P::Einsum("sdq,sdq->sd1"),
            vec![of(64, 10, &[256]), of(64, 1, &[256])],
        ),
        (
            P::Einsum("sdti,sdoi->sdto"),
            vec![of(2, 1, &[1, 4]), weights(&[4, 4])],
        ),
    ]
}

/// Convolutions with their transposes.
fn convolutions() -> Vec<Probed> {
    let mut list = Vec::new();
    for case in CONVOLUTIONS {
        let (samples, directions, channels, outputs, groups, extents) = case;
        let [input, output, kernel, stride, padding] = extents;
        let window = Window::square(input, output, kernel, stride, padding);
        let plane = |directions: usize, channels: usize, extents: &[usize]| {
            of(samples, directions, &[1, channels, extents[0], extents[1]])
        };
        let taps = [
            outputs,
            channels / groups,
            window.kernel[0],
            window.kernel[1],
        ];
        let inputs = |directions| plane(directions, channels, &window.input);
        let cotangents = plane(directions, outputs, &window.output);
        let w = window.clone();
        list.push((P::Conv(w.clone(), groups), vec![inputs(1), weights(&taps)]));
        list.push((
            P::ConvInputs(w.clone(), groups),
            vec![cotangents.clone(), weights(&taps)],
        ));
        list.push((
            P::ConvWeights(w.clone(), groups, false),
            vec![cotangents.clone(), inputs(1)],
        ));
        if groups == 1 && channels == 64 {
            let many = of(8, 8, &cotangents.rest);
            let inputs = of(8, 1, &inputs(1).rest);
            list.push((P::ConvWeights(w.clone(), groups, false), vec![many, inputs]));
        }
        if groups == 1 && channels.max(outputs) <= 16 {
            let one = plane(1, outputs, &window.output);
            list.push((P::ConvWeights(w, groups, true), vec![one, inputs(1)]));
        }
    }
    list
}

fn pools() -> Vec<Probed> {
    let pool = Window::square(8, 4, 2, 2, 0);
    let narrow = of(32, 10, &[1, 16, 4, 4]);
    vec![
        (P::WindowSum(pool.clone()), vec![wide()]),
        (P::WindowSum(pool.clone()), vec![small()]),
        (P::WindowSpread(pool.clone()), vec![narrow.clone()]),
        (P::Gather(pool.clone()), vec![wide(), value()]),
        (P::Gather(pool.clone()), vec![small(), small()]),
        (P::Scatter(pool), vec![narrow, value()]),
    ]
}

fn elementwise() -> Vec<Probed> {
    let a = || Expr::input(0);
    let tanh = || a().unary(Unary::Tanh);
    vec![
        (P::Map(tanh()), vec![value()]),
        (P::Map(tanh()), vec![of(2, 1, &[100])]),
        (P::Map(tanh()), vec![wide()]),
        (
            P::Map((Expr::constant(1.0) - tanh() * tanh()) * Expr::input(1)),
            vec![value(), wide()],
        ),
        (P::Map(a() * Expr::input(1)), vec![wide(), value()]),
        (P::Map(a() + Expr::input(1)), vec![large(), large()]),
        (
            P::Map(a() * Expr::input(1) + Expr::input(2)),
            vec![wide(), weights(&[1, 16, 1, 1]), weights(&[1, 16, 1, 1])],
        ),
        (P::Map(a() * Expr::input(1)), vec![small(), small()]),
        (
            P::Map(a() * Expr::input(1)),
            vec![large(), of(64, 1, &[13_200])],
        ),
        (P::Slice(2, 100, 13_200), vec![large()]),
        // Of attention and normalization: repeated along the last axis, and over directions in short runs.
        (
            P::Map(a() * Expr::input(1) + Expr::input(2)),
            vec![
                of(32, 16, &[16, 1]),
                of(32, 1, &[16, 16]),
                of(32, 16, &[16, 16]),
            ],
        ),
        (
            P::Map(a() * Expr::input(1)),
            vec![of(128, 16, &[12]), of(128, 1, &[12])],
        ),
        (P::ReduceSum(vec![3]), vec![of(32, 16, &[16, 16])]),
        (P::Broadcast(vec![16, 16]), vec![of(32, 16, &[16, 1])]),
    ]
}

fn layouts() -> Vec<Probed> {
    vec![
        (P::ReduceSum(vec![4, 5]), vec![wide()]),
        (P::ReduceSum(vec![0]), vec![wide()]),
        (P::ReduceSum(vec![4, 5]), vec![small()]),
        (P::ReduceSum(vec![0]), vec![of(64, 10, &[1400])]),
        (P::ReduceSum(vec![4, 5]), vec![of(32, 10, &[1, 16, 32, 32])]),
        (P::Permute(vec![0, 2, 3, 1]), vec![wide()]),
        (P::Permute(vec![0, 2, 3, 1]), vec![small()]),
        (P::Permute(vec![0]), vec![of(1, 1, &[10])]),
        (P::Slice(3, 3, 11), vec![wide()]),
        (P::Slice(3, 1, 3), vec![small()]),
        (P::Embed(3, 3, 32), vec![wide()]),
        (P::Concat(3), vec![wide(), wide()]),
        (P::Broadcast(vec![3, 16, 8, 8]), vec![value()]),
        (P::Fill(0.0), vec![large()]),
    ]
}

fn lookups() -> Vec<Probed> {
    let (table, indices) = (weights(&[1, 64, 48]), of(32, 1, &[32]));
    vec![
        (P::Take(3), vec![table.clone(), indices.clone()]),
        (P::Take(3), vec![weights(&[1, 8, 4]), of(2, 1, &[4])]),
        (
            P::Put(3, 0..64, true),
            vec![of(32, 10, &[1, 32, 48]), indices.clone()],
        ),
        (
            P::Put(3, 0..64, false),
            vec![of(32, 1, &[1, 32, 48]), indices],
        ),
    ]
}
