//! Convolutions and pools: strides, dilation, padding, groups, one to three axes.

use super::case::{COPIES, Draft, SUMS};
use super::primitive::{draft, shape};
use crate::tensor::{Shape, Window};
use crate::trial::Primitive;

/// Input, output, kernel, stride, dilation, padding of an axis of a window.
type Axis = [usize; 6];

/// A window over axes.
pub(super) fn window(axes: &[Axis]) -> Window {
    let column = |k: usize| axes.iter().map(|axis| axis[k]).collect();
    Window {
        input: column(0),
        output: column(1),
        kernel: column(2),
        stride: column(3),
        dilation: column(4),
        padding: column(5),
    }
}

/// A convolution with its two transposes, the second of each sample and summed over them.
pub(super) fn convolutions(drafts: &mut Vec<Draft>) {
    /// Name, axes of the window, batch B, groups, channels in, out.
    type Conv = (&'static str, &'static [Axis], usize, usize, usize, usize);
    let list: [Conv; 11] = [
        (
            "5x5",
            &[[13, 9, 5, 1, 1, 0], [12, 8, 5, 1, 1, 0]],
            1,
            1,
            3,
            17,
        ),
        (
            "3x3, stride 2, padded",
            &[[13, 7, 3, 2, 1, 1], [11, 6, 3, 2, 1, 1]],
            1,
            1,
            5,
            7,
        ),
        (
            "3x2, dilated",
            &[[15, 7, 3, 2, 2, 1], [9, 6, 2, 1, 3, 0]],
            2,
            1,
            3,
            5,
        ),
        (
            "1x1",
            &[[7, 7, 1, 1, 1, 0], [9, 9, 1, 1, 1, 0]],
            1,
            1,
            19,
            33,
        ),
        (
            "two groups",
            &[[9, 9, 3, 1, 1, 1], [8, 8, 3, 1, 1, 1]],
            1,
            2,
            8,
            10,
        ),
        (
            "depthwise",
            &[[13, 13, 5, 1, 1, 2], [11, 11, 5, 1, 1, 2]],
            1,
            7,
            7,
            7,
        ),
        (
            "depthwise, stride 2, two outputs",
            &[[14, 7, 3, 2, 1, 1], [13, 7, 3, 2, 1, 1]],
            1,
            5,
            5,
            10,
        ),
        (
            "one axis, stride past the end",
            &[[41, 14, 5, 3, 2, 4]],
            2,
            1,
            3,
            6,
        ),
        (
            "three axes",
            &[[4, 2, 3, 2, 1, 1], [5, 3, 2, 1, 2, 0], [3, 3, 3, 1, 1, 1]],
            1,
            1,
            2,
            3,
        ),
        (
            "the whole input",
            &[[5, 1, 5, 1, 1, 0], [4, 1, 4, 1, 1, 0]],
            1,
            1,
            3,
            11,
        ),
        (
            "4355 positions",
            &[[67, 67, 3, 1, 1, 1], [65, 65, 3, 1, 1, 1]],
            1,
            1,
            2,
            4,
        ),
    ];
    for (about, axes, batch, groups, from, to) in list {
        let window = window(axes);
        let rest = |channels: usize, plane: &[usize]| [&[batch, channels], plane].concat();
        let weights = [&[to, from / groups], &window.kernel[..]].concat();
        let x = shape(3, 1, &rest(from, &window.input));
        let delta = shape(3, 2, &rest(to, &window.output));
        let w = shape(1, 1, &weights);
        let mut add = |subject: &str, more: &str, primitive, of: [&Shape; 2]| {
            let of = of.map(Clone::clone);
            drafts.push(draft(
                subject,
                format!("{about}{more}"),
                SUMS,
                primitive,
                &of,
            ));
        };
        use Primitive as P;
        let of = |make: fn(Window, usize) -> P| make(window.clone(), groups);
        add("conv", "", of(P::Conv), [&x, &w]);
        add("conv_inputs", "", of(P::ConvInputs), [&delta, &w]);
        for (more, sum) in [("", false), (", summed", true)] {
            let weights = P::ConvWeights(window.clone(), groups, sum);
            add("conv_weights", more, weights, [&delta, &x]);
        }
    }
}

/// Sums and maxima over windows, with their transposes.
pub(super) fn pools(drafts: &mut Vec<Draft>) {
    /// Name, axes before the window's, and those.
    type Pool = (&'static str, &'static [usize], &'static [Axis]);
    let list: [Pool; 4] = [
        ("2x2", &[1, 5], &[[14, 7, 2, 2, 1, 0], [12, 6, 2, 2, 1, 0]]),
        (
            "3x3, overlapping, padded",
            &[1, 3],
            &[[13, 7, 3, 2, 1, 1], [11, 11, 3, 1, 1, 1]],
        ),
        (
            "one axis, dilated, past the end",
            &[2, 3],
            &[[40, 13, 4, 3, 2, 2]],
        ),
        (
            "three axes",
            &[1, 2],
            &[[4, 2, 3, 2, 1, 1], [5, 3, 2, 1, 2, 0], [3, 3, 3, 1, 1, 1]],
        ),
    ];
    for (about, lead, axes) in list {
        let window = window(axes);
        let of = |samples, directions, plane: &[usize]| {
            shape(samples, directions, &[lead, plane].concat())
        };
        let value = of(3, 1, &window.input);
        let (x, z) = (of(3, 2, &window.input), of(3, 2, &window.output));
        let mut add = |subject: &str, measure, make: fn(Window) -> Primitive, of: &[&Shape]| {
            let of: Vec<Shape> = of.iter().map(|&s| s.clone()).collect();
            drafts.push(draft(subject, about, measure, make(window.clone()), &of));
        };
        use Primitive as P;
        add("window_sum", SUMS, P::WindowSum, &[&x]);
        add("window_spread", SUMS, P::WindowSpread, &[&z]);
        add("max_pool_indices", COPIES, P::MaxPoolIndices, &[&value]);
        add("gather", COPIES, P::Gather, &[&x, &value]);
        add("scatter", SUMS, P::Scatter, &[&z, &value]);
    }
    let long = window(&[[9001, 1, 9001, 1, 1, 0]]);
    let of = [shape(1, 3, &[2, 9001])];
    let about = "9001 in one window";
    let sum = Primitive::WindowSum(long);
    drafts.push(draft("window_sum", about, SUMS, sum, &of));
}
