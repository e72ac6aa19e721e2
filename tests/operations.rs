//! Every operation through one generic test: CPU f64 against finite differences, and every backend against
//! CPU f64.
//!
//! For an operation f with operands x, cotangent c and direction v: ⟨c, ∂f/∂x_k·v⟩ by central differences, by
//! the vjp (or the site's rows), and by the dual numbers' tangent are the same number.

#[macro_use]
mod common;

use common::{Array, Conformance, random, random_in, window};
use hessblock::ops::{
    Broadcast, Concat, Conv, Einsum, Elementwise, Linear, MaxPool, Op, Operation, Permute,
    Pullback, ReduceSum, Reshape, Site, WindowSum,
};
use hessblock::tensor::dual::{Dual, DualTensor};
use hessblock::tensor::expression::Unary;
use hessblock::tensor::{Contract, Expr, Real, cpu::Cpu};

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
    for function in [Unary::Tanh, Unary::Sigmoid, Unary::Softplus, Unary::ExpM1] {
        cases.push(case(
            "activation",
            Elementwise::new(apply(function)).into(),
            vec![activation(34, &[1, 17])],
        ));
    }
    cases
}

fn forward<B: Contract>(c: &Conformance<B>, case: &Case, operands: &[Array]) -> Array {
    let operands: Vec<B::Tensor> = operands.iter().map(|x| c.upload(x)).collect();
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
    let inputs: Vec<B::Tensor> = case.operands.iter().map(|x| c.upload(x)).collect();
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
    };
    for case in cases() {
        let cotangent = cotangent_of(&case);
        for k in 0..case.operands.len() {
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
    };
    for case in cases() {
        let found = forward(c, &case, &case.operands);
        c.compare(
            &found.values,
            &forward(&reference, &case, &case.operands).values,
            case.name,
        );
        let cotangent = cotangent_of(&case);
        for k in 0..case.operands.len() {
            let found = pulled(c, &case, &cotangent, k);
            let expected = pulled(&reference, &case, &cotangent, k);
            assert_eq!(found.shape, expected.shape, "{}", case.name);
            c.compare(
                &found.values,
                &expected.values,
                &format!("{}, cotangent of operand {k}", case.name),
            );
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
