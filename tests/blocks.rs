//! Blocks as a user asks for them, against the definition entry by entry, on every backend.

mod common;

use common::runs::{Parts, run_plan};
use hessblock::data::{ArraySource, Dataset};
use hessblock::internals::files::free_bytes;
use hessblock::internals::ops::{Einsum, Elementwise, Linear, Lookup, Op, ReduceSum, Softmax};
use hessblock::internals::plan::RunOptions;
use hessblock::internals::plan::request::resolve;
use hessblock::internals::plan::tiles::Grid;
use hessblock::internals::plan::{Keep, Limits, Plan, shortage};
use hessblock::internals::tensor::cpu::Cpu;
use hessblock::internals::tensor::expression::Unary;
use hessblock::internals::tensor::{Contract, Expr, HostArray, Real};
use hessblock::loss::{BinaryCrossEntropy, CrossEntropy, Loss, Sample, SquaredError};
use hessblock::network::builder::{Builder, Window2d};
use hessblock::network::{Input, Network, Operand, Parameter};
use hessblock::{Device, Output, Part, Precision, Session};
use ndarray::{Array2, ArrayD, ArrayView2, IxDyn};

/// Numbers in −1..1, reproducible and exact in single precision.
fn numbers(seed: u64, count: usize) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            f64::from((state >> 40) as f32 / 8_388_608.0 - 1.0)
        })
        .collect()
}

fn inputs(samples: usize, shape: &[usize]) -> ArrayD<f64> {
    let mut axes = vec![samples];
    axes.extend_from_slice(shape);
    let count = axes.iter().product();
    ArrayD::from_shape_vec(IxDyn(&axes), numbers(3, count)).expect("the count fits")
}

fn classes(samples: usize, count: i64) -> ArrayD<i64> {
    let values = (0..samples as i64).map(|k| (k * 7 + 2) % count).collect();
    ArrayD::from_shape_vec(IxDyn(&[samples]), values).expect("the count fits")
}

fn mlp() -> Network {
    Builder::new(&[5])
        .linear("one", 7)
        .tanh()
        .linear_without_bias("two", 6)
        .relu()
        .linear("three", 4)
        .initialize(1)
        .build()
        .expect("a network")
}

/// Convolutions with stride, padding and groups, both pools, a skip, and a linear head.
fn small_cnn() -> Network {
    Builder::new(&[2, 9, 9])
        .conv2d("conv1", 4, Window2d::new(3).padding(1))
        .softplus()
        .mark("skip")
        .conv2d("conv2", 4, Window2d::new(3).padding(1).groups(2))
        .add("skip")
        .max_pool2d(Window2d::new(3).stride(2))
        .conv2d("conv3", 3, Window2d::new(2).dilation(2))
        .sigmoid()
        .avg_pool2d(Window2d::new(2).stride(1))
        .flatten()
        .linear("head", 3)
        .initialize(2)
        .build()
        .expect("a network")
}

/// One weight and bias used twice, at one position each.
fn tied() -> Network {
    let mut network = Builder::new(&[4])
        .linear("fc", 4)
        .tanh()
        .linear("again", 4)
        .sigmoid()
        .linear("head", 3)
        .initialize(3)
        .build()
        .expect("a network");
    // The second layer takes the first one's parameters in place of its own.
    let place = |network: &Network, name: &str| network.parameter(name).expect("known");
    for suffix in ["weight", "bias"] {
        let kept = place(&network, &format!("fc.{suffix}"));
        let gone = place(&network, &format!("again.{suffix}"));
        network.parameters.remove(gone);
        for operand in network.nodes.iter_mut().flat_map(|n| &mut n.inputs) {
            if let Operand::Parameter(k) = operand {
                *k = if *k == gone {
                    kept
                } else {
                    *k - usize::from(*k > gone)
                };
            }
        }
    }
    let mut offset = 0;
    for parameter in &mut network.parameters {
        parameter.offset = offset;
        offset += parameter.data.len();
    }
    network
}

/// Attention over tokens whose table, `vocabulary` rows of `width`, is the head's weight too.
fn tokens(vocabulary: usize, width: usize) -> Network {
    let mut network = Network {
        inputs: vec![Input {
            name: "tokens".into(),
            rest: vec![1, TOKENS],
            sample_axis: 0,
            integer: true,
            limit: None,
        }],
        ..Network::default()
    };
    let mut offset = 0;
    for (k, (name, shape)) in [
        ("embedding.weight", [vocabulary, width]),
        ("positions.weight", [TOKENS, width]),
        ("mix.weight", [width, width]),
    ]
    .into_iter()
    .enumerate()
    {
        let scale = 2.0 / (width as f64).sqrt();
        let values = numbers(20 + k as u64, shape.iter().product());
        let values = values.iter().map(|&v| (v * scale) as f32).collect();
        let data = HostArray::f32(&shape, values);
        network.parameters.push(Parameter {
            name: name.into(),
            layer: name.trim_end_matches(".weight").into(),
            offset,
            data,
        });
        offset = network.parameters[k].range().end;
    }
    let labels = |text: &str| text.as_bytes().to_vec();
    let product = |left, right, output| Einsum {
        left: labels(left),
        right: labels(right),
        output: labels(output),
    };
    let linear = Linear {
        outputs_first: true,
    };
    let x = Expr::input;
    let nodes: Vec<(Op, Vec<Operand>)> = vec![
        (
            Lookup { axis: 0 }.into(),
            vec![Operand::Parameter(0), Operand::Value(0)],
        ),
        (
            Elementwise::new(x(0) + x(1)).into(),
            vec![Operand::Value(1), Operand::Parameter(1)],
        ),
        // Every place looks at all, itself included: softmax(x xᵀ) x.
        (
            product("bik", "bjk", "bij").into(),
            vec![Operand::Value(2), Operand::Value(2)],
        ),
        (
            Softmax {
                axis: 2,
                log: false,
            }
            .into(),
            vec![Operand::Value(3)],
        ),
        (
            product("bij", "bjk", "bik").into(),
            vec![Operand::Value(4), Operand::Value(2)],
        ),
        (
            linear.clone().into(),
            vec![Operand::Value(5), Operand::Parameter(2)],
        ),
        (
            Elementwise::new(x(0) * x(0).unary(Unary::Erf)).into(),
            vec![Operand::Value(6)],
        ),
        (
            ReduceSum {
                axes: vec![1],
                keep: false,
            }
            .into(),
            vec![Operand::Value(7)],
        ),
        (
            linear.into(),
            vec![Operand::Value(8), Operand::Parameter(0)],
        ),
    ];
    for (op, inputs) in nodes {
        network.output = network
            .append("node", "Op", op, &inputs)
            .expect("operands that fit");
    }
    network
}

/// Whole numbers below `count`, `TOKENS` per sample.
fn token_data(samples: usize, count: usize) -> Dataset {
    let values = numbers(5, samples * TOKENS);
    let values = values
        .iter()
        .map(|v| ((v + 1.0) / 2.0 * count as f64).floor());
    let tokens = ArrayD::from_shape_vec(IxDyn(&[samples, TOKENS]), values.collect());
    Dataset::from_arrays(
        ArraySource::from(tokens.expect("the count fits")),
        ArraySource::from(classes(samples, count as i64)),
    )
}

const TOKENS: usize = 5;

fn session(network: Network, data: Dataset, loss: Box<dyn Loss>) -> Session {
    Session::builder(network)
        .data(data)
        .boxed_loss(loss)
        .device(Device::cpu(Precision::F64))
        .build()
        .expect("a session")
}

fn sessions() -> Vec<(&'static str, Session)> {
    let labelled = |network: Network, samples, shape: &[usize], count| {
        let data = Dataset::from_arrays(
            ArraySource::from(inputs(samples, shape)),
            ArraySource::from(classes(samples, count)),
        );
        session(network, data, Box::new(CrossEntropy::mean()))
    };
    let dense = |loss: Box<dyn Loss>, low: f64| {
        let targets = ArrayD::from_shape_vec(
            IxDyn(&[13, 4]),
            numbers(9, 52).into_iter().map(|v| v * 0.5 + low).collect(),
        );
        let targets = ArraySource::from(targets.expect("the count fits"));
        session(
            mlp(),
            Dataset::from_arrays(ArraySource::from(inputs(13, &[5])), targets),
            loss,
        )
    };
    vec![
        ("mlp, cross-entropy", labelled(mlp(), 17, &[5], 4)),
        (
            "mlp, squared error",
            dense(Box::new(SquaredError::sum()), 0.0),
        ),
        ("mlp, bce", dense(Box::new(BinaryCrossEntropy::mean()), 0.5)),
        (
            "mlp, a user's indefinite loss",
            dense(Box::new(Saddle), 0.0),
        ),
        ("tied, cross-entropy", labelled(tied(), 9, &[4], 3)),
        (
            "cnn, cross-entropy",
            labelled(small_cnn(), 11, &[2, 9, 9], 3),
        ),
        (
            "tokens with a tied table, cross-entropy",
            session(
                tokens(9, 4),
                token_data(13, 9),
                Box::new(CrossEntropy::mean()),
            ),
        ),
    ]
}

/// ℓ = z₀z₁ + Σ_c sin(z_c)/2: its Hessian has eigenvalues of both signs.
#[derive(Debug)]
struct Saddle;

impl Loss for Saddle {
    fn name(&self) -> String {
        "saddle".into()
    }
    fn value(&self, sample: &Sample<'_>) -> f64 {
        let z = sample.outputs;
        z[0] * z[1] + z.iter().map(|z| z.sin() / 2.0).sum::<f64>()
    }
    fn gradient(&self, sample: &Sample<'_>, gradient: &mut [f64]) {
        let z = sample.outputs;
        for (g, z) in gradient.iter_mut().zip(z) {
            *g = z.cos() / 2.0;
        }
        gradient[0] += z[1];
        gradient[1] += z[0];
    }
    fn hessian_product(&self, sample: &Sample<'_>, v: &[f64], product: &mut [f64]) {
        for ((p, z), v) in product.iter_mut().zip(sample.outputs).zip(v) {
            *p = -z.sin() / 2.0 * v;
        }
        product[0] += v[1];
        product[1] += v[0];
    }
}

/// The whole of G by the definition: forward mode, no factors, no contraction.
fn by_definition(session: &Session) -> Array2<f64> {
    let p = session.network().parameter_count();
    let pairs: Vec<(usize, usize)> = (0..p).flat_map(|i| (0..p).map(move |j| (i, j))).collect();
    let values = session.ggn().entries(&pairs).expect("entries");
    Array2::from_shape_vec((p, p), values).expect("p² entries")
}

fn largest(values: &ArrayView2<'_, f64>) -> f64 {
    values.iter().fold(0.0f64, |m, v| m.max(v.abs()))
}

/// DESIGN §5: 2·10⁻⁶ of max|block|, and entry by entry 10⁻⁵ of √(G_ii G_jj).
fn check<R: Real>(
    found: &ArrayView2<'_, R>,
    expected: &Array2<f64>,
    diagonal: &[f64],
    tolerance: f64,
    what: &str,
) {
    let most = largest(&expected.view());
    for ((i, j), value) in found.indexed_iter() {
        let error = (value.to_f64() - expected[[i, j]]).abs();
        assert!(
            error <= tolerance * most,
            "{what}: entry ({i}, {j}) is {value:?}, not {}",
            expected[[i, j]]
        );
        let scale = (diagonal[i].abs() * diagonal[j].abs()).sqrt();
        assert!(
            error <= 5.0 * tolerance * scale || error <= 1e-3 * tolerance * most,
            "{what}: entry ({i}, {j}) is {value:?}, not {}, at scale {scale:e}",
            expected[[i, j]]
        );
    }
}

fn full_matrix_and_diagonal_are_those_of_the_definition<B: Contract>(backend: &B, tolerance: f64) {
    for (name, session) in sessions() {
        let expected = by_definition(&session);
        let diagonal: Vec<f64> = expected.diag().to_vec();
        let request = session.ggn().parts([Part::Full, Part::Diagonal]);
        let request = request.expect("parts");
        let found = request.arrays_on::<B, B::Real>(&[backend]).expect("parts");
        // A sign-indefinite G has no bound on its entries by the diagonal's.
        let scales = if session.loss().signed() {
            vec![largest(&expected.view()); diagonal.len()]
        } else {
            diagonal.clone()
        };
        check(&found[0].matrix(), &expected, &scales, tolerance, name);
        for (k, value) in found[1].array.iter().enumerate() {
            let error = (value.to_f64() - diagonal[k]).abs();
            assert!(
                error <= tolerance * 5.0 * scales[k].abs().max(1e-6),
                "{name}: diagonal {k}"
            );
        }
    }
}

#[test]
fn cpu_f64_gives_the_definition() {
    full_matrix_and_diagonal_are_those_of_the_definition(&Cpu::<f64>::new(), 1e-12);
}

#[test]
fn cpu_f32_gives_the_definition() {
    full_matrix_and_diagonal_are_those_of_the_definition(&Cpu::<f32>::new(), 2e-6);
}

#[cfg(feature = "gpu")]
#[test]
fn gpu_gives_the_definition() {
    if let Some(gpu) = common::gpu::open(false) {
        full_matrix_and_diagonal_are_those_of_the_definition(&gpu, 2e-6);
    }
}

#[test]
fn every_part_is_its_piece_of_the_full_matrix() {
    for (name, session) in sessions() {
        let network = session.network();
        let layers = network.layers();
        let (first, last) = (&layers[0], &layers[layers.len() - 1]);
        let range =
            |name: &str| network.parameters[network.parameter(name).expect("known")].range();
        let p = network.parameter_count();
        let parts = [
            Part::Full,
            Part::Layers,
            Part::layer(&last.name),
            Part::between(&first.name, &last.name),
            Part::between(&last.name, &first.name),
            Part::parameter(&network.parameters[0].name),
            Part::between_parameters(&network.parameters[1].name, &network.parameters[0].name),
            Part::range(3..p / 2, p / 3..p - 1),
            Part::range(7..8, 0..1),
        ];
        let request = session.ggn().parts(parts.clone()).expect("parts");
        let found = request.to_arrays::<f64>().expect("parts");
        // The last layer's block, which is asked for twice, is one.
        assert_eq!(found.len(), parts.len() - 2 + layers.len());
        let full = found[0].matrix();
        let indices = |ranges: &[std::ops::Range<usize>]| {
            ranges.iter().cloned().flatten().collect::<Vec<_>>()
        };
        for part in &found {
            let (block, columns) = (part.matrix(), part.columns.as_ref().expect("a matrix"));
            for (i, row) in indices(&part.rows).into_iter().enumerate() {
                for (j, column) in indices(columns).into_iter().enumerate() {
                    let (value, expected) = (block[[i, j]], full[[row, column]]);
                    assert!(
                        (value - expected).abs() <= 1e-13 * largest(&full),
                        "{name}, {}: ({i}, {j})",
                        part.name
                    );
                }
            }
        }
        assert_eq!(
            found[1].rows[0].start,
            range(&network.parameters[0].name).start
        );
    }
}

#[test]
fn the_whole_matrix_is_symmetric_to_the_bit() {
    for (name, session) in sessions() {
        let single = session.with_device(Device::cpu(Precision::F32));
        let request = single.ggn().parts([Part::Full]).expect("parts");
        let found = request.to_arrays::<f32>().expect("parts");
        assert_eq!(found[0].matrix(), found[0].matrix().t(), "{name}");
    }
}

/// A network wide enough for several tiles.
fn wide() -> Session {
    let network = Builder::new(&[40])
        .linear("one", 60)
        .tanh()
        .linear("two", 30)
        .initialize(4)
        .build();
    let data = Dataset::from_arrays(
        ArraySource::from(inputs(23, &[40])),
        ArraySource::from(classes(23, 30)),
    );
    session(
        network.expect("a network"),
        data,
        Box::new(CrossEntropy::mean()),
    )
}

/// Limits that only the device's memory bounds.
fn device_limit(device: u64) -> Limits {
    Limits {
        device,
        host: u64::MAX,
        held: 0,
        sharing: 1,
        tensor: u64::MAX,
        unified: false,
    }
}

#[test]
fn tiles_and_budgets_change_nothing_but_the_order_of_work() {
    let session = wide();
    let plan = |device: u64, batch: usize| {
        let parts = resolve(session.network(), &[Part::Full, Part::Diagonal]).expect("parts");
        session.ggn().plan_within(
            parts,
            Precision::F32,
            device_limit(device),
            RunOptions {
                batch: Some(batch),
                ..RunOptions::default()
            },
            Grid::Panels,
        )
    };
    let run = |plan: &Plan| {
        let run = run_plan(&session.ggn(), &[&Cpu::<f32>::new()], plan);
        run.expect("a run").1
    };
    let same = |a: &Parts<f32>, b: &Parts<f32>| a.iter().zip(b).all(|(a, b)| a.1 == b.1);
    let plenty = plan(u64::MAX, 8).expect("a plan");
    assert!(plenty.tiles.len() > 2, "one tile shows nothing");
    assert_eq!(
        (plenty.keep, plenty.unit, plenty.chunk),
        (Keep::Rows, 8, 30)
    );
    let expected = run(&plenty);
    assert!(
        same(&expected, &run(&plenty)),
        "the same plan gives the same bits"
    );
    // Ever smaller budgets: kept factors, then waves of tiles, then fewer samples.
    let (mut kept, mut waves, mut smaller) = (false, false, false);
    let most = expected[0].1.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let mut budget = plenty.device_bytes;
    while let Ok(plan) = plan(budget, 8) {
        assert!(plan.device_bytes <= budget);
        let new = (plan.keep == Keep::Factors && !kept)
            || (plan.passes() > 1 && !waves)
            || (plan.unit < 8 && !smaller);
        if new {
            kept |= plan.keep == Keep::Factors;
            waves |= plan.passes() > 1;
            smaller |= plan.unit < 8;
            let found = run(&plan);
            if plan.unit == 8 && plan.chunk == 30 && plan.keep == Keep::Recompute {
                assert!(same(&expected, &found), "waves change no bit");
            }
            for (a, b) in expected.iter().zip(&found) {
                for (a, b) in a.1.iter().zip(&b.1) {
                    assert!(
                        (a - b).abs() <= 2e-6 * most,
                        "{:?} {} {}",
                        plan.keep,
                        plan.unit,
                        plan.chunk
                    );
                }
            }
        }
        budget -= budget / 200 + 1;
    }
    assert!(
        waves && smaller,
        "some way was never taken: {waves} {smaller}"
    );
}

#[test]
fn a_table_larger_than_a_tile_is_formed_range_by_range() {
    let session = session(
        tokens(70, 32),
        token_data(8, 70),
        Box::new(CrossEntropy::mean()),
    );
    let table = session.network().parameters[0].range();
    let plan = |precision: Precision, device: u64, grid: Grid| {
        let asked = [
            Part::layer("embedding"),
            Part::between("positions", "embedding"),
            Part::Diagonal,
        ];
        let parts = resolve(session.network(), &asked).expect("parts");
        session.ggn().plan_within(
            parts,
            precision,
            device_limit(device),
            RunOptions {
                batch: Some(4),
                ..RunOptions::default()
            },
            grid,
        )
    };
    fn run<B: Contract>(session: &Session, backend: &B, plan: &Plan) -> Vec<Array2<f64>> {
        let run = run_plan(&session.ggn(), &[backend], plan);
        let parts = run.expect("a run").1.into_iter();
        parts.map(|(_, block)| block.mapv(Real::to_f64)).collect()
    }
    let plenty = plan(Precision::F64, u64::MAX, Grid::Panels).expect("a plan");
    assert!(table.len() > 2048 && plenty.tiles.len() > 3);
    let expected = run(&session, &Cpu::<f64>::new(), &plenty);
    // Some entries of the table's block by definition: rows that were looked up and rows that were not.
    let mut pairs = Vec::new();
    for k in 0..40 {
        pairs.push((k * 61 % table.len(), (k * 977 + 5) % table.len()));
    }
    let exact = session.ggn().entries(&pairs).expect("entries");
    let most = largest(&expected[0].view());
    for (&(i, j), exact) in pairs.iter().zip(exact) {
        let found = expected[0][[i, j]];
        assert!(
            (found - exact).abs() <= 1e-12 * most,
            "({i}, {j}): {found}, not {exact}"
        );
    }
    let check = |found: &[Array2<f64>], tolerance: f64, what: &str| {
        for (found, expected) in found.iter().zip(&expected) {
            let most = largest(&expected.view());
            let error = largest(&(found - expected).view());
            assert!(error <= tolerance * most, "{what}: {error:e} of {most:e}");
        }
    };
    for keep in [Keep::Factors, Keep::Recompute] {
        let mut budget = plenty.device_bytes;
        let tight = loop {
            let tight = plan(Precision::F64, budget, Grid::Panels).expect("such a way fits");
            if tight.keep == keep {
                break tight;
            }
            budget -= budget / 50 + 1;
        };
        let found = run(&session, &Cpu::<f64>::new(), &tight);
        check(&found, 1e-12, &format!("{keep:?}"));
    }
    #[cfg(feature = "gpu")]
    if let Some(gpu) = common::gpu::open(false) {
        let mut budget = plan(Precision::F32, u64::MAX, Grid::Squares)
            .expect("a plan")
            .device_bytes;
        let tight = loop {
            let tight = plan(Precision::F32, budget, Grid::Squares).expect("such a way fits");
            if tight.keep == Keep::Factors {
                break tight;
            }
            budget -= budget / 50 + 1;
        };
        check(&run(&session, &gpu, &tight), 2e-6, "GPU");
    }
}

#[test]
fn chunks_of_directions_add_up() {
    let session = wide();
    let plan = |device: u64| {
        let parts = resolve(session.network(), &[Part::Diagonal]).expect("parts");
        session.ggn().plan_within(
            parts,
            Precision::F64,
            device_limit(device),
            RunOptions {
                batch: Some(1),
                ..RunOptions::default()
            },
            Grid::Panels,
        )
    };
    let run = |plan: &Plan| {
        let run = run_plan(&session.ggn(), &[&Cpu::<f64>::new()], plan);
        run.expect("a run").1.remove(0).1
    };
    let whole = plan(u64::MAX).expect("a plan");
    let mut budget = whole.device_bytes;
    let chunked = loop {
        budget -= 64;
        let plan = plan(budget).expect("directions can be cut");
        if plan.chunk < whole.chunk {
            break plan;
        }
    };
    let (expected, found) = (run(&whole), run(&chunked));
    let most = largest(&expected.view());
    assert!(
        expected
            .iter()
            .zip(&found)
            .all(|(a, b)| (a - b).abs() <= 1e-13 * most)
    );
}

#[test]
fn a_budget_too_small_is_refused_with_the_arithmetic() {
    let session = wide();
    let parts = resolve(session.network(), &[Part::Full]).expect("parts");
    let limits = Limits {
        device: 1 << 16,
        host: 1 << 16,
        held: 0,
        sharing: 1,
        tensor: u64::MAX,
        unified: true,
    };
    let error = session
        .ggn()
        .plan_within(
            parts,
            Precision::F32,
            limits,
            RunOptions::default(),
            Grid::Panels,
        )
        .expect_err("64 KiB are too little");
    let text = error.to_string();
    assert!(
        text.contains("64.0 KiB") && text.contains("host_memory"),
        "{text}"
    );
}

#[test]
fn a_request_that_has_no_room_is_refused_with_what_would_fit() {
    let network = Builder::new(&[2000])
        .linear("big", 1500)
        .relu()
        .linear("head", 10)
        .initialize(5)
        .build();
    let data = Dataset::from_arrays(
        ArraySource::from(inputs(2, &[2000])),
        ArraySource::from(classes(2, 10)),
    );
    let loss = Box::new(CrossEntropy::mean());
    let session = session(network.expect("a network"), data, loss);
    let refused = |error: hessblock::Error, parts: &[&str]| {
        let text = error.to_string();
        for part in parts {
            assert!(text.contains(part), "no {part:?} in {text}");
        }
    };
    let arithmetic = "3016510 × 3016510 entries of 8 bytes, 66.2 TiB";
    let fits = ["diag (23.0 MiB)", "too large alone: layer=big", "rows of"];
    let resolve = |part: Part| resolve(session.network(), &[part]).expect("a part");
    let g = session.ggn();
    // In memory: 1.7 GiB for the head's block may be there or not, 66 TiB are nowhere.
    let memory = g.parts([Part::Full]).expect("a part").to_arrays::<f64>();
    let error = memory.expect_err("66 TiB");
    assert!(matches!(error, hessblock::Error::Budget { .. }));
    refused(
        error,
        &[&[arithmetic, "of memory free"][..], &fits].concat(),
    );
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("out");
    let disk = g.check_disk(&resolve(Part::Full), Precision::F64, &path);
    let place = folder.path().display().to_string();
    refused(
        disk.expect_err("66 TiB"),
        &[&[arithmetic, place.as_str()][..], &fits].concat(),
    );
    let bias = || Part::parameter("head.bias");
    g.check_disk(&resolve(bias()), Precision::F64, &path)
        .expect("800 bytes");
    // Whatever the output, before anything is planned for it.
    let to = |part: Part, name: &str| {
        let output = Output::new(folder.path().join(name));
        g.parts([part]).expect("a part").plan_for(&output)
    };
    to(bias(), "a.safetensors").expect("800 bytes");
    let held = to(Part::layer("big"), "a.safetensors").expect_err("65 TiB");
    refused(held, &["a.safetensors", "made in memory", "name a folder"]);
    let several = to(Part::Layers, "a.npy").expect_err("two parts");
    refused(several, &["2 parts go to a folder"]);
    refused(to(Part::Full, "a").expect_err("66 TiB"), &[arithmetic]);
    let limits = device_limit(u64::MAX);
    let plan = |part: Part| {
        session.ggn().plan_within(
            resolve(part),
            Precision::F64,
            limits,
            RunOptions::default(),
            Grid::Panels,
        )
    };
    let planned = [arithmetic, "can be planned", "layer=head (1.7 GiB)"];
    refused(plan(Part::Full).expect_err("66 TiB"), &planned);
    // Of a layer, its parameters and pieces.
    let layer = plan(Part::layer("big")).expect_err("65 TiB");
    refused(layer, &["3001500 × 3001500", "param=big.bias (17.2 MiB)"]);
    // Between two layers there are pieces only: of 672 TiB a row is 235 MiB, for which a full disk has room too.
    let between = resolve(Part::between("big", "head"));
    let free = free_bytes(folder.path()).unwrap_or(1 << 40).into();
    let between = shortage(session.network(), &between, 1 << 14, free, "the disk");
    let message = between.expect("it is counted").expect("672 TiB").message;
    for part in ["3001500 × 15010", "diag", "range=R0..R1,C0..C1"] {
        assert!(message.contains(part), "no {part:?} in {message}");
    }
}

#[test]
fn unknown_names_are_answered_with_the_nearest() {
    let session = wide();
    for (asked, nearest) in [
        (Part::layer("on"), "one"),
        (Part::parameter("two.wieght"), "two.weight"),
        (Part::between("one", "tow"), "two"),
    ] {
        let asked = session.ggn().parts([asked.clone()]).expect_err("unknown");
        let text = asked.to_string();
        assert!(text.contains(nearest), "{text}");
    }
    for outlying in [Part::range(0..9_999_999, 0..1), Part::range(5..5, 0..1)] {
        assert!(
            session.ggn().parts([outlying.clone()]).is_err(),
            "{outlying}"
        );
    }
    assert!(session.ggn().parts([]).is_err());
}
