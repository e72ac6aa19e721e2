//! A loss factor cut to its rank: what is left, against the whole matrix and the bounds that the documentation states.

use hessblock::data::{ArraySource, Dataset};
use hessblock::internals::random::Draws;
use hessblock::internals::tensor::cpu::Cpu;
use hessblock::loss::{BinaryCrossEntropy, CrossEntropy, GivenHessian, Loss, SquaredError};
use hessblock::network::Network;
use hessblock::network::builder::{Builder, Window2d};
use hessblock::{Curvature, Device, Operator, Part, Precision, Session};
use ndarray::{Array2, ArrayD, ArrayView1, IxDyn};

const SAMPLES: usize = 7;

fn numbers(seed: u64, count: usize, scale: f64) -> Vec<f64> {
    let mut draws = Draws::new(seed, 0, 0);
    (0..count)
        .map(|_| scale * (2.0 * draws.uniform() - 1.0))
        .collect()
}

fn array(shape: &[usize], values: Vec<f64>) -> ArraySource {
    ArraySource::from(ArrayD::from_shape_vec(IxDyn(shape), values).expect("the count fits"))
}

fn mlp(outputs: usize) -> Network {
    let network = Builder::new(&[5])
        .linear("fc1", 6)
        .tanh()
        .linear("fc2", outputs)
        .initialize(3)
        .build();
    network.expect("a network")
}

/// A session in double precision that takes several chunks to pass over all samples.
fn session(network: Network, data: Dataset, loss: Box<dyn Loss>) -> Session {
    Session::builder(network)
        .data(data)
        .boxed_loss(loss)
        .device(Device::cpu(Precision::F64))
        .batch(3)
        .build()
        .expect("a session")
}

/// Seven samples; of 12 outputs, or of 6 classes at each of 4 positions.
fn cases() -> Vec<(&'static str, Session)> {
    let inputs = || array(&[SAMPLES, 5], numbers(1, 5 * SAMPLES, 6.0));
    let labels = |each: &[usize], classes: i64| {
        let shape: Vec<usize> = std::iter::once(SAMPLES)
            .chain(each.iter().copied())
            .collect();
        let count = shape.iter().product::<usize>() as i64;
        let values = (0..count).map(|k| k % classes).collect();
        ArraySource::from(ArrayD::from_shape_vec(IxDyn(&shape), values).expect("the count fits"))
    };
    let with = |data, loss: Box<dyn Loss>| session(mlp(12), data, loss);
    // Symmetric, of both signs, and of falling eigenvalues.
    let mut hessians = vec![0.0; SAMPLES * 144];
    for n in 0..SAMPLES {
        for r in 0..12 {
            let v = numbers((100 * n + r) as u64, 12, 1.0);
            let weight = (-0.9 * r as f64).exp() * if r % 3 == 1 { -1.0 } else { 1.0 };
            for i in 0..12 {
                for j in 0..12 {
                    hessians[n * 144 + i * 12 + j] += weight * v[i] * v[j];
                }
            }
        }
    }
    let convolution = Builder::new(&[1, 3, 3])
        .conv2d("conv", 6, Window2d::new(2))
        .initialize(5)
        .build()
        .expect("a network");
    let images = array(&[SAMPLES, 1, 3, 3], numbers(9, 9 * SAMPLES, 9.0));
    let positions = Dataset::from_arrays(images, labels(&[2, 2], 6));
    vec![
        (
            "cross-entropy",
            with(
                Dataset::from_arrays(inputs(), labels(&[], 12)),
                Box::new(CrossEntropy::mean()),
            ),
        ),
        (
            "positions",
            session(convolution, positions, Box::new(CrossEntropy::sum())),
        ),
        (
            "bce",
            with(
                Dataset::from_arrays(inputs(), array(&[SAMPLES, 12], vec![1.0; 12 * SAMPLES])),
                Box::new(BinaryCrossEntropy::mean()),
            ),
        ),
        (
            "mse",
            with(
                Dataset::from_arrays(inputs(), array(&[SAMPLES, 12], vec![0.0; 12 * SAMPLES])),
                Box::new(SquaredError::mean()),
            ),
        ),
        (
            "given",
            with(
                Dataset::from_arrays(inputs(), array(&[SAMPLES, 12, 12], hessians)),
                Box::<GivenHessian>::default(),
            ),
        ),
    ]
}

fn whole(operator: &Operator) -> Array2<f64> {
    let request = operator.parts([Part::Full]).expect("a part");
    let blocks = request.to_arrays().expect("the whole matrix");
    blocks.into_iter().next().expect("a block").into_matrix()
}

fn cut(session: &Session, tolerance: f64) -> hessblock::Result<Operator> {
    session.ggn().with_rank_tolerance(tolerance)
}

fn form(matrix: &Array2<f64>, v: ArrayView1<'_, f64>) -> f64 {
    v.dot(&matrix.dot(&v))
}

#[test]
fn what_is_cut_is_within_the_bound_and_below_g() {
    for tolerance in [1e-6, 1e-2, 0.2] {
        for (name, session) in cases() {
            let g = whole(&session.ggn());
            let p = g.nrows();
            let operator = cut(&session, tolerance).expect("a cut factor");
            let rank = operator.rank().expect("a report").clone();
            let left = whole(&operator);
            let lost = &g - &left;
            let scale = g.diag().fold(0.0f64, |m, v| m.max(v.abs()));
            assert!(rank.worst_share <= tolerance, "{name}: {rank:?}");
            assert!(rank.directions <= rank.all_directions, "{name}: {rank:?}");
            let signed = session.loss().signed();
            // τ Σ_n T_n ‖J_n v‖² of random vectors; T_n = Σ_r ‖S_r‖² from the loss's own factor.
            let vectors = Array2::from_shape_vec((20, p), numbers(7, 20 * p, 1.0)).expect("p·20");
            let vectors = vectors.reversed_axes();
            let along = session.jacobian_product(&vectors).expect("J·v");
            let traces = traces(&session);
            for (k, v) in vectors.columns().into_iter().enumerate() {
                let off = form(&lost, v);
                let squares = (0..SAMPLES).map(|n| {
                    let row = along.slice(ndarray::s![n, k, ..]);
                    traces[n] * row.dot(&row)
                });
                let bound = tolerance * squares.sum::<f64>() + 1e-12 * scale * p as f64;
                assert!(off.abs() <= bound, "{name} {tolerance}: {off} > {bound}");
                assert!(signed || off >= -1e-12 * scale * p as f64, "{name}: {off}");
            }
            let all: f64 = traces.iter().sum();
            assert!((rank.whole - all).abs() <= 1e-12 * all, "{name}: {rank:?}");
            // Products and entries are those of what is left.
            let product = operator.apply(vectors.view()).expect("a product");
            let expected = left.dot(&vectors);
            let off = (&product - &expected).fold(0.0f64, |m, v| m.max(v.abs()));
            assert!(off <= 1e-11 * scale * p as f64, "{name}: product {off}");
            let pairs = [(0, 0), (1, p - 1), (p / 2, p / 3)];
            let entries = operator.entries(&pairs).expect("entries");
            for ((i, j), entry) in pairs.into_iter().zip(entries) {
                assert!((entry - left[(i, j)]).abs() <= 1e-12 * scale, "{name}");
            }
            let diagonal = operator.diagonal();
            for (i, value) in diagonal.expect("a diagonal").into_iter().enumerate() {
                assert!((value - left[(i, i)]).abs() <= 1e-12 * scale, "{name}");
            }
        }
    }
}

/// Σ_r ‖S_r‖² per sample, S from the loss's own factor.
fn traces(session: &Session) -> Vec<f64> {
    let outputs = session.network().outputs();
    let targets = session.dataset().targets(0..SAMPLES).expect("targets");
    let z = outputs_of(session);
    (0..SAMPLES)
        .map(|n| {
            let sample = hessblock::loss::Sample {
                index: n,
                outputs: &z[n * outputs..(n + 1) * outputs],
                target: targets.get(n),
            };
            let directions = session.loss().directions(outputs);
            let (mut factor, mut signs) = (vec![0.0; directions * outputs], vec![0.0; directions]);
            session
                .loss()
                .factor(&sample, 0..directions, &mut factor, &mut signs);
            factor.iter().map(|s| s * s).sum()
        })
        .collect()
}

/// The network's outputs, `[samples, outputs]`.
fn outputs_of(session: &Session) -> Vec<f64> {
    use hessblock::internals::jacobian::passes::{Passes, Reach, Weights};
    use hessblock::internals::tensor::{Backend, HostSlice, Shape};
    let (backend, network) = (Cpu::<f64>::new(), session.network());
    let weights = Weights::upload(&backend, network);
    let inputs = session.dataset().inputs(0..SAMPLES).expect("inputs");
    let shape = Shape::new(SAMPLES, 1, &network.inputs[0].rest);
    let inputs = vec![backend.upload(&shape, HostSlice::F64(&inputs[0]))];
    let reach = Reach::forward_only(network);
    let activations = Passes::new(&backend, network, &weights, &reach).forward(inputs);
    backend.read(&activations.output).expect("the outputs")
}

#[test]
fn nothing_but_zeros_is_cut_without_tolerance() {
    for (name, session) in cases() {
        let g = whole(&session.ggn());
        let scale = g.diag().fold(0.0f64, |m, v| m.max(v.abs()));
        let operator = cut(&session, 0.0).expect("a cut factor");
        assert_eq!(operator.rank().expect("a report").cut, 0.0, "{name}");
        let off = (&g - &whole(&operator)).fold(0.0f64, |m, v| m.max(v.abs()));
        assert!(off <= 1e-13 * scale, "{name}: {off}");
    }
}

#[test]
fn confident_samples_of_many_classes_have_few_directions() {
    let network = Builder::new(&[5]).linear("fc", 1000).initialize(3).build();
    let data = Dataset::from_arrays(
        array(&[SAMPLES, 5], numbers(1, 5 * SAMPLES, 400.0)),
        ArraySource::from(
            ArrayD::from_shape_vec(IxDyn(&[SAMPLES]), vec![0i64; SAMPLES]).expect("labels"),
        ),
    );
    let network = network.expect("a network");
    let session = session(network, data, Box::new(CrossEntropy::mean()));
    let operator = cut(&session, 1e-3).expect("a cut factor");
    let rank = operator.rank().expect("a report");
    assert_eq!(rank.all_directions, 1000);
    assert!(rank.directions < 200, "{rank:?}");
    assert!(
        rank.worst_share > 0.0 && rank.worst_share <= 1e-3,
        "{rank:?}"
    );
    // Fewer directions in single precision than are planned for: the same bound.
    let request = operator.parts([Part::Diagonal]).expect("a part");
    let single = request.arrays_on::<_, f64>(&[&Cpu::<f32>::new()]);
    let diagonal = single.expect("a diagonal").remove(0).array;
    let exact = operator.diagonal().expect("a diagonal");
    let scale = exact.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    for (a, b) in diagonal.iter().zip(&exact) {
        assert!((a - b).abs() <= 1e-5 * scale, "{a} {b}");
    }
    assert!(operator.loss().name().contains("rank tolerance 0.001"));
}

#[test]
fn bad_tolerances_and_matrices_without_the_factor_are_refused() {
    let session = || cases().remove(0).1;
    for bad in [-1e-3, 1.0, 2.0, f64::NAN, f64::INFINITY] {
        let text = cut(&session(), bad).expect_err("refused").to_string();
        assert!(text.contains("rank_tolerance"), "{text}");
    }
    for curvature in [
        Curvature::Exact,
        Curvature::Residual,
        Curvature::EmpiricalFisher,
        Curvature::McGgn {
            samples: 2,
            seed: 0,
        },
    ] {
        let other = session().operator(curvature);
        let refused = other.with_rank_tolerance(0.1).expect_err("refused");
        let text = refused.to_string();
        assert!(text.contains("take ggn"), "{text}");
    }
    let cut = cut(&session(), 0.1).expect("a cut factor");
    // Other matrices of its session are not cut.
    assert!(!cut.session().loss().name().contains("rank tolerance"));
    assert!(cut.with_rank_tolerance(0.1).is_err());
}
