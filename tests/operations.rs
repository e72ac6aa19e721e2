//! Every operation through one generic test: CPU f64 against finite differences, and every backend against
//! CPU f64.
//!
//! For an operation f with operands x, cotangent c and direction v: ⟨c, ∂f/∂x_k·v⟩ by central differences, by
//! the vjp (or the site's rows), and by the dual numbers' tangent are the same number.

#[macro_use]
mod common;

use common::{Array, Conformance, Share, random, random_in, reference};
use hessblock::internals::ops::{
    Broadcast, Concat, Conv, ConvTranspose, Einsum, Elementwise, Linear, Lookup, MaxPool, Op,
    Operation, Permute, Pullback, Put, ReduceSum, Reshape, Site, Slice, Softmax, Take, WindowSum,
};
use hessblock::internals::tensor::dual::{Dual, DualTensor};
use hessblock::internals::tensor::expression::Unary;
use hessblock::internals::tensor::{Contract, Expr, Real, cpu::Cpu};
use hessblock::internals::trial::windows::{THREE_AXES, window};

const SAMPLES: usize = 3;
const DIRECTIONS: usize = 2;

/// An operation with operands; a parameter has one sample.
struct Case {
    name: &'static str,
    op: Op,
    operands: Vec<Array>,
}

fn activation(seed: u64, rest: &[usize]) -> Array {
    random(seed, SAMPLES, 1, rest)
}

fn parameter(seed: u64, rest: &[usize]) -> Array {
    random(seed, 1, 1, rest)
}

/// Numbers of entries of an axis of extent `extent`, and one that names none.
fn numbers(seed: u64, samples: usize, rest: &[usize], extent: usize) -> Array {
    let mut list = random_in(seed, samples, 1, rest, -0.5, extent as f64 - 0.5);
    list.values.iter_mut().for_each(|v| *v = v.round());
    list.values[1] = extent as f64;
    list
}

/// A product of operands labelled as in `"ab,bc->ac"`.
fn einsum(formula: &str) -> Op {
    let (operands, output) = formula.split_once("->").expect("an arrow");
    let (left, right) = operands.split_once(',').expect("a comma");
    let labels = |text: &str| text.as_bytes().to_vec();
    Einsum {
        left: labels(left),
        right: labels(right),
        output: labels(output),
    }
    .into()
}

/// What whole networks need beside layers and activations.
fn further_cases() -> Vec<Case> {
    let case = |name, op: Op, operands| Case { name, op, operands };
    let x = |k| Expr::input(k);
    let positive = |seed, rest: &[usize]| random_in(seed, SAMPLES, 1, rest, 0.3, 2.0);
    let taken = vec![Some(2), None, Some(0), Some(2), Some(2)];
    let take = |axis| Take {
        axis,
        indices: taken.clone(),
    };
    let transposed = |axes: &[[usize; 6]], groups| ConvTranspose {
        window: window(axes),
        groups,
    };
    // Columns of [input, output, kernel, stride, dilation, padding]; of a transposed convolution the output
    // is what it reads, and the input reaches further than that needs (output padding).
    let spread_3d = [[5, 3, 2, 2, 1, 1], [4, 3, 2, 1, 1, 0], [6, 2, 3, 3, 1, 0]];
    let power = |exponent: f64| Elementwise::new(x(0).power(Expr::constant(exponent)));
    let mut cases = vec![
        case(
            "slice",
            Slice {
                axis: 1,
                range: 1..3,
            }
            .into(),
            vec![activation(40, &[2, 5, 3])],
        ),
        case(
            "slice of a parameter",
            Slice {
                axis: 0,
                range: 3..4,
            }
            .into(),
            vec![parameter(41, &[5, 3])],
        ),
        case("take", take(1).into(), vec![activation(42, &[2, 4, 3])]),
        case(
            "take of a parameter",
            take(0).into(),
            vec![parameter(43, &[3, 2])],
        ),
        case(
            "take of nothing",
            Take {
                axis: 0,
                indices: vec![None, None],
            }
            .into(),
            vec![activation(44, &[3, 2])],
        ),
        case(
            "lookup in a table",
            Lookup { axis: 0 }.into(),
            vec![parameter(45, &[7, 5]), numbers(46, SAMPLES, &[4, 2], 7)],
        ),
        case(
            "lookup in a table, the same for all samples",
            Lookup { axis: 0 }.into(),
            vec![parameter(47, &[7, 2, 3]), numbers(48, 1, &[6], 7)],
        ),
        case(
            "lookup along the second axis of a parameter",
            Lookup { axis: 1 }.into(),
            vec![parameter(49, &[2, 6, 3]), numbers(50, SAMPLES, &[5], 6)],
        ),
        case(
            "lookup in an activation",
            Lookup { axis: 1 }.into(),
            vec![activation(51, &[2, 6, 3]), numbers(52, SAMPLES, &[5], 6)],
        ),
        case(
            "lookup of one entry of an activation",
            Lookup { axis: 0 }.into(),
            vec![activation(53, &[6, 3]), {
                let mut one = numbers(54, SAMPLES, &[], 6);
                one.values[1] = 4.0;
                one
            }],
        ),
        case(
            "put of an activation",
            Put { axis: 1, extent: 4 }.into(),
            vec![activation(157, &[2, 6, 3]), numbers(158, SAMPLES, &[6], 4)],
        ),
        case(
            "put of an activation, the same places for all samples",
            Put { axis: 0, extent: 3 }.into(),
            vec![activation(159, &[7, 2]), numbers(160, 1, &[7], 3)],
        ),
        case(
            "put of a parameter",
            Put { axis: 0, extent: 3 }.into(),
            vec![parameter(161, &[5, 2]), numbers(162, SAMPLES, &[5], 3)],
        ),
        case(
            "transposed convolution, 1-D, grouped, output padding",
            transposed(&[[10, 5, 3, 2, 1, 1]], 2).into(),
            vec![activation(55, &[1, 4, 5]), parameter(56, &[4, 3, 3])],
        ),
        case(
            "transposed convolution, 2-D, dilated",
            transposed(&[[12, 4, 2, 3, 2, 0], [7, 5, 3, 1, 2, 1]], 1).into(),
            vec![activation(57, &[2, 3, 4, 5]), parameter(58, &[3, 2, 2, 3])],
        ),
        case(
            "transposed convolution, 3-D",
            transposed(&spread_3d, 1).into(),
            vec![
                activation(59, &[1, 2, 3, 3, 2]),
                parameter(60, &[2, 3, 2, 2, 3]),
            ],
        ),
        case(
            "transposed convolution to a whole window",
            transposed(&[[3, 1, 3, 1, 1, 0], [2, 1, 2, 1, 1, 0]], 1).into(),
            vec![activation(61, &[1, 4, 1, 1]), parameter(62, &[4, 2, 3, 2])],
        ),
        case(
            "convolution, 3-D",
            Conv {
                window: window(&THREE_AXES),
                groups: 1,
            }
            .into(),
            vec![
                activation(63, &[1, 2, 4, 5, 3]),
                parameter(64, &[3, 2, 3, 2, 3]),
            ],
        ),
        case(
            "depthwise convolution, two outputs per channel",
            Conv {
                window: window(&[[7, 4, 3, 2, 1, 1], [6, 6, 5, 1, 1, 2]]),
                groups: 3,
            }
            .into(),
            vec![activation(65, &[1, 3, 7, 6]), parameter(66, &[6, 1, 3, 5])],
        ),
        case(
            "window sum, 3-D",
            WindowSum {
                window: window(&THREE_AXES),
            }
            .into(),
            vec![activation(67, &[1, 2, 4, 5, 3])],
        ),
        case(
            "max-pool, 3-D",
            MaxPool {
                window: window(&THREE_AXES),
            }
            .into(),
            vec![activation(68, &[1, 2, 4, 5, 3])],
        ),
        case("x^2.5", power(2.5).into(), vec![positive(69, &[1, 17])]),
        case("x^3", power(3.0).into(), vec![activation(70, &[1, 17])]),
        case("x^-1.5", power(-1.5).into(), vec![positive(71, &[1, 17])]),
        case(
            "x^y",
            Elementwise::new(x(0).power(x(1))).into(),
            vec![positive(72, &[2, 17]), parameter(73, &[17])],
        ),
    ];
    for axis in [0, 1, 2] {
        for log in [false, true] {
            let op = Softmax { axis, log };
            cases.push(case(
                "softmax",
                op.clone().into(),
                vec![activation(74, &[4, 3, 5])],
            ));
            let large = random_in(75, SAMPLES, 1, &[4, 3, 5], -200.0, 200.0);
            cases.push(case("softmax of large logits", op.into(), vec![large]));
        }
    }
    for (name, formula, left, right) in [
        (
            "queries by keys",
            "hqk,hmk->hqm",
            &[2, 3, 4][..],
            &[2, 5, 4][..],
        ),
        ("shared keys", "hqk,amk->hqam", &[2, 3, 4], &[1, 5, 4]),
        ("heads of extent 1", "hqk,hmk->hqm", &[1, 3, 4], &[3, 5, 4]),
        ("transposed result", "ab,bc->ca", &[3, 4], &[4, 5]),
        ("outer product", "a,b->ba", &[3], &[5]),
        ("product of entries", "ab,ba->ab", &[3, 1], &[4, 3]),
        ("inner product", "ab,ab->", &[3, 4], &[3, 4]),
        ("scaled", ",ab->ab", &[], &[3, 4]),
    ] {
        let operands =
            |weights: fn(u64, &[usize]) -> Array| vec![activation(76, left), weights(77, right)];
        cases.push(case(name, einsum(formula), operands(activation)));
        cases.push(case(name, einsum(formula), operands(parameter)));
    }
    // The same tensor twice.
    for formula in ["ab,cb->ac", "ab,ab->b", "ab,cb->ca"] {
        let x = activation(78, &[5, 4]);
        cases.push(case("twice the same", einsum(formula), vec![x.clone(), x]));
    }
    cases
}

fn cases() -> Vec<Case> {
    let case = |name, op: Op, operands| Case { name, op, operands };
    // Columns of [input, output, kernel, stride, dilation, padding] per axis; the last window reaches outside.
    let plane = window(&[[7, 4, 3, 2, 1, 1], [6, 5, 2, 1, 2, 1]]);
    let line = window(&[[9, 4, 3, 2, 2, 1]]);
    let ceil = window(&[[8, 4, 3, 2, 1, 0]]);
    let x = |k| Expr::input(k);
    let apply = |function| x(0).unary(function);
    let kink = Expr::if_less_equal(x(0), Expr::constant(0.0), Expr::constant(0.1) * x(0), x(0));
    // (x − m)·√v⁻¹·γ + β, as an evaluated batch norm.
    let norm = (x(0) - x(1)) / (x(2) + Expr::constant(1e-3)).unary(Unary::Sqrt) * x(3) + x(4);
    let mut cases = vec![
        case(
            "linear O×I",
            Linear {
                outputs_first: true,
            }
            .into(),
            vec![activation(1, &[1, 5]), parameter(2, &[7, 5])],
        ),
        case(
            "linear I×O over positions",
            Linear {
                outputs_first: false,
            }
            .into(),
            vec![activation(3, &[2, 3, 5]), parameter(4, &[5, 4])],
        ),
        case(
            "product of activations",
            Einsum::matmul(3, 3).into(),
            vec![activation(5, &[2, 3, 4]), activation(6, &[2, 4, 5])],
        ),
        case(
            "product with a broadcast parameter",
            Einsum::matmul(3, 2).into(),
            vec![activation(7, &[2, 3, 4]), parameter(8, &[4, 3])],
        ),
        case(
            "convolution",
            Conv {
                window: plane.clone(),
                groups: 1,
            }
            .into(),
            vec![activation(9, &[2, 3, 7, 6]), parameter(10, &[4, 3, 3, 2])],
        ),
        case(
            "grouped convolution",
            Conv {
                window: line.clone(),
                groups: 2,
            }
            .into(),
            vec![activation(11, &[1, 4, 9]), parameter(12, &[6, 2, 3])],
        ),
        case(
            "window sum",
            WindowSum {
                window: ceil.clone(),
            }
            .into(),
            vec![activation(13, &[1, 3, 8])],
        ),
        case(
            "max-pool",
            MaxPool { window: plane }.into(),
            vec![activation(14, &[1, 3, 7, 6])],
        ),
        case(
            "permutation",
            Permute {
                order: vec![2, 0, 1],
            }
            .into(),
            vec![activation(15, &[2, 3, 4])],
        ),
        case(
            "reshape",
            Reshape { rest: vec![6, 4] }.into(),
            vec![activation(16, &[2, 3, 4])],
        ),
        case(
            "broadcast",
            Broadcast {
                rest: vec![2, 3, 4],
            }
            .into(),
            vec![activation(17, &[3, 1])],
        ),
        case(
            "sum, kept",
            ReduceSum {
                axes: vec![0, 2],
                keep: true,
            }
            .into(),
            vec![activation(18, &[2, 3, 4])],
        ),
        case(
            "sum, dropped",
            ReduceSum {
                axes: vec![1],
                keep: false,
            }
            .into(),
            vec![activation(19, &[2, 3, 4])],
        ),
        case(
            "concatenation with a parameter",
            Concat { axis: 1 }.into(),
            vec![activation(20, &[2, 3]), parameter(21, &[2, 2])],
        ),
        case(
            "bias",
            Elementwise::new(x(0) + x(1)).into(),
            vec![activation(22, &[1, 4, 3]), parameter(23, &[4, 1])],
        ),
        case(
            "scale",
            Elementwise::new(x(0) * x(1)).into(),
            vec![activation(24, &[1, 4, 3]), parameter(25, &[4, 1])],
        ),
        case(
            "difference",
            Elementwise::new(x(0) - x(1)).into(),
            vec![activation(26, &[2, 5]), activation(27, &[1, 5])],
        ),
        case(
            "leaky",
            Elementwise::new(kink).into(),
            vec![activation(28, &[1, 31])],
        ),
        case(
            "batch norm",
            Elementwise::new(norm).into(),
            vec![
                activation(29, &[1, 3, 4]),
                parameter(30, &[3, 1]),
                random_in(31, 1, 1, &[3, 1], 0.5, 2.0),
                parameter(32, &[3, 1]),
                parameter(33, &[3, 1]),
            ],
        ),
    ];
    for function in [
        Unary::Tanh,
        Unary::Sigmoid,
        Unary::Softplus,
        Unary::ExpM1,
        Unary::Erf,
    ] {
        cases.push(case(
            "activation",
            Elementwise::new(apply(function)).into(),
            vec![activation(34, &[1, 17])],
        ));
    }
    cases.extend(further_cases());
    cases
}

/// The operands on the backend; equal ones are one tensor.
fn upload<B: Contract>(c: &Conformance<B>, operands: &[Array]) -> Vec<B::Tensor> {
    let mut tensors: Vec<B::Tensor> = Vec::new();
    for (k, x) in operands.iter().enumerate() {
        let same = |y: &Array| y.shape == x.shape && y.values == x.values;
        let tensor = match operands[..k].iter().position(same) {
            Some(j) => tensors[j].clone(),
            None => c.upload(x),
        };
        tensors.push(tensor);
    }
    tensors
}

fn forward<B: Contract>(c: &Conformance<B>, case: &Case, operands: &[Array]) -> Array {
    let operands = upload(c, operands);
    download(c, &case.op.forward(&c.backend, &operands).output)
}

fn download<B: Contract>(c: &Conformance<B>, tensor: &B::Tensor) -> Array {
    let values = c.backend.read(tensor).expect("the device works");
    Array::new(
        c.backend.shape(tensor),
        values.into_iter().map(Real::to_f64).collect(),
    )
}

/// The cotangent of one operand: the vjp of an activation, the rows of a parameter's site.
fn pulled<B: Contract>(c: &Conformance<B>, case: &Case, cotangent: &Array, k: usize) -> Array {
    let inputs = upload(c, &case.operands);
    let result = case.op.forward(&c.backend, &inputs);
    let cotangent = c.upload(cotangent);
    let pullback = Pullback {
        inputs: &inputs,
        indices: result.indices.as_ref(),
        cotangent: &cotangent,
    };
    let operand = &case.operands[k];
    let tensor = if operand.shape.samples == 1 {
        let kind = case.op.site(&c.backend, &pullback, k);
        Site::new(kind, &operand.shape.rest).rows(&c.backend)
    } else {
        case.op.vjp(&c.backend, &pullback, k)
    };
    download(c, &tensor)
}

/// The cotangent of a parameter, summed over samples as its site sums it.
fn summed<B: Contract>(c: &Conformance<B>, case: &Case, cotangent: &Array, k: usize) -> Array {
    let inputs = upload(c, &case.operands);
    let result = case.op.forward(&c.backend, &inputs);
    let pullback = Pullback {
        inputs: &inputs,
        indices: result.indices.as_ref(),
        cotangent: &c.upload(cotangent),
    };
    let kind = case.op.site(&c.backend, &pullback, k);
    let site = Site::new(kind, &case.operands[k].shape.rest);
    download(c, &site.sum(&c.backend))
}

fn cotangent_of(case: &Case) -> Array {
    let rests: Vec<&[usize]> = case.operands.iter().map(|x| &x.shape.rest[..]).collect();
    let rest = case
        .op
        .shape(&rests)
        .unwrap_or_else(|e| panic!("{}: {e}", case.name));
    random(77, SAMPLES, DIRECTIONS, &rest)
}

fn dot(a: impl Iterator<Item = f64>, b: impl Iterator<Item = f64>) -> f64 {
    a.zip(b).map(|(a, b)| a * b).sum()
}

#[test]
fn vjps_and_tangents_are_finite_differences() {
    let c = Conformance {
        backend: Cpu::<f64>::new(),
        tolerance: 1e-12,
        share: Share::All,
    };
    for case in cases() {
        let cotangent = cotangent_of(&case);
        for k in (0..case.operands.len()).filter(|&k| case.op.differentiates(k)) {
            let direction = random(
                99,
                case.operands[k].shape.samples,
                1,
                &case.operands[k].shape.rest,
            );
            let moved = |step: f64| {
                let mut operands = case.operands.clone();
                let moves = direction.values.iter().map(|v| step * v);
                operands[k]
                    .values
                    .iter_mut()
                    .zip(moves)
                    .for_each(|(x, v)| *x += v);
                forward(&c, &case, &operands)
            };
            let step = 1e-6;
            let (up, down) = (moved(step), moved(-step));
            let difference: Vec<f64> = up
                .values
                .iter()
                .zip(&down.values)
                .map(|(a, b)| (a - b) / (2.0 * step))
                .collect();
            let back = pulled(&c, &case, &cotangent, k);
            let operands = case.operands.iter().enumerate().map(|(j, x)| DualTensor {
                primal: c.upload(x),
                tangent: (j == k).then(|| c.upload(&direction)),
            });
            let dual = Dual { inner: &c.backend };
            let tangent = case
                .op
                .forward(&dual, &operands.collect::<Vec<_>>())
                .output
                .tangent
                .expect("a tangent");
            let tangent = download(&c, &tangent);
            let (each, own) = (up.shape.rest_len(), back.shape.rest_len());
            for n in 0..SAMPLES {
                // An operand that all samples share may give a result that they share.
                let at = |count: usize| if count == 1 { 0 } else { n };
                let here = at(up.shape.samples) * each;
                let expected_tangent = &difference[here..here + each];
                let found_tangent = &tangent.values[at(tangent.shape.samples) * each..][..each];
                for (a, b) in found_tangent.iter().zip(expected_tangent) {
                    assert!(
                        (a - b).abs() < 1e-7,
                        "{}: tangent of operand {k} is {a}, not {b}",
                        case.name
                    );
                }
                for r in 0..DIRECTIONS {
                    let c = &cotangent.values[(n * DIRECTIONS + r) * each..][..each];
                    let expected = dot(c.iter().copied(), expected_tangent.iter().copied());
                    let v = &direction.values[at(direction.shape.samples) * own..][..own];
                    let row = (at(back.shape.samples) * DIRECTIONS + r) * own;
                    let found = dot(
                        back.values[row..row + own].iter().copied(),
                        v.iter().copied(),
                    );
                    assert!(
                        (found - expected).abs() < 1e-6,
                        "{}: operand {k}: {found}, not {expected}",
                        case.name
                    );
                }
            }
        }
    }
}

fn operations_agree_with_cpu_f64<B: Contract>(c: &Conformance<B>) {
    let reference = Conformance {
        backend: Cpu::<f64>::new(),
        tolerance: 1e-12,
        share: Share::All,
    };
    for case in cases() {
        let found = forward(c, &case, &case.operands);
        c.compare(
            &found.values,
            &forward(&reference, &case, &case.operands).values,
            case.name,
        );
        let cotangent = cotangent_of(&case);
        for k in (0..case.operands.len()).filter(|&k| case.op.differentiates(k)) {
            let found = pulled(c, &case, &cotangent, k);
            let expected = pulled(&reference, &case, &cotangent, k);
            assert_eq!(found.shape, expected.shape, "{}", case.name);
            c.compare(
                &found.values,
                &expected.values,
                &format!("{}, cotangent of operand {k}", case.name),
            );
            if case.operands[k].shape.samples == 1 {
                let sum = reference::reduce_sum(&expected, &[0]);
                let found = summed(c, &case, &cotangent, k);
                assert_eq!(found.shape, sum.shape, "{}, summed", case.name);
                let what = format!("{}, sum of operand {k}", case.name);
                c.compare(&found.values, &sum.values, &what);
            }
        }
    }
}

conformance_tests!(
    cpu_f32,
    Some(Cpu::<f32>::new()),
    2e-6,
    [operations_agree_with_cpu_f64]
);
#[cfg(feature = "gpu")]
conformance_tests!(
    gpu,
    common::gpu::open(true),
    2e-6,
    [operations_agree_with_cpu_f64]
);
