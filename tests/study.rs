//! Studies of the approximation error on small networks: against products, against each other, and where H − G is 0.

use hessblock::data::Dataset;
use hessblock::internals::bytes::Bytes;
use hessblock::internals::random::Draws;
use hessblock::loss::CrossEntropy;
use hessblock::network::Network;
use hessblock::network::builder::Builder;
use hessblock::network::initialise::Initialiser;
use hessblock::study::error::{Draw, GradientError, choose_layers, gradient_error};
use hessblock::study::pairs::{PairErrors, PairOptions, pair_errors};
use hessblock::{Device, Error, Memory, Operator, Precision, Session};
use ndarray::{Array1, Array2};

fn network(relu: bool) -> Network {
    let layer = |builder: Builder, name, outputs| {
        let linear = builder.linear(name, outputs);
        if relu { linear.relu() } else { linear.tanh() }
    };
    let first = layer(Builder::new(&[6]), "first", 9);
    let second = layer(first, "second", 7);
    second
        .linear("last", 4)
        .initialize(3)
        .build()
        .expect("a network")
}

fn session(relu: bool) -> Session {
    let mut draws = Draws::new(1, 0, 0);
    let inputs = Array2::from_shape_fn((11, 6), |_| draws.normal());
    let targets = Array1::from_shape_fn(11, |n| (n % 4) as i64);
    let data = Dataset::from_arrays(inputs, targets);
    let loss = CrossEntropy::mean();
    Session::builder(network(relu))
        .data(data)
        .loss(loss)
        .device(Device::cpu(Precision::F64))
        .build()
        .expect("all fits")
}

fn along(session: &Session, initialiser: Initialiser, count: u32) -> GradientError {
    let draw = Draw {
        initialiser,
        count,
        seed: 5,
    };
    gradient_error(session, &session.network().layers(), draw).expect("a study")
}

fn blocks(session: &Session, options: PairOptions) -> PairErrors {
    pair_errors(session, &session.network().layers(), options).expect("a study")
}

#[test]
fn errors_along_gradients_are_those_of_products_and_of_differences_of_the_gradient() {
    let session = session(false);
    let error = along(&session, Initialiser::File, 100);
    assert_eq!((error.draws, error.layers.len()), (1, 3));
    let weights = session.network().parameter_values();
    let gradient = session.gradient().expect("a gradient").values;
    for (layer, own) in error.layers.iter().zip(session.network().layers()) {
        let found = layer.draws[0].expect("a gradient that is not 0");
        let mut part = Array1::<f64>::zeros(gradient.len());
        for k in own.parameters {
            for entry in session.network().parameters[k].range() {
                part[entry] = gradient[entry];
            }
        }
        let norm = part.iter().map(|g| g * g).sum::<f64>().sqrt();
        assert!((norm / found.gradient_norm - 1.0).abs() < 1e-12);
        part /= norm;
        let product = session.residual().apply(part.view()).expect("a product");
        let residual = (&part * &product).sum();
        assert!((residual - found.residual).abs() < 1e-13, "{}", layer.layer);
        // gᵀHg by central differences of the gradient.
        let step = 1e-5;
        let side = |sign: f64| {
            let moved = weights.iter().zip(&part).map(|(w, v)| w + sign * step * v);
            let moved = session.with_parameters(&moved.collect::<Vec<_>>());
            let gradient = moved.expect("as many").gradient();
            gradient.expect("a gradient").values
        };
        let (up, down) = (side(1.0), side(-1.0));
        let change = up.iter().zip(&down).zip(&part);
        let hessian: f64 = change.map(|((u, d), v)| (u - d) / (2.0 * step) * v).sum();
        assert!(
            (hessian - found.hessian()).abs() < 1e-8,
            "{}: {hessian}",
            layer.layer
        );
    }
}

#[test]
fn draws_do_not_depend_on_how_many_there_are_and_leave_the_session_as_it_was() {
    let session = session(false);
    let weights = session.network().parameter_values();
    let (few, many) = (
        along(&session, Initialiser::He, 3),
        along(&session, Initialiser::He, 8),
    );
    assert_eq!(few.losses, many.losses[..3]);
    assert_eq!(few.layers[0].draws, many.layers[0].draws[..3]);
    assert_eq!(session.network().parameter_values(), weights);
    let quantiles = many.layers[0].error.expect("draws");
    assert!(quantiles.low < quantiles.median && quantiles.median < quantiles.high);
}

#[test]
fn the_residual_is_zero_in_the_last_layer_and_on_a_relu_networks_diagonal() {
    for relu in [false, true] {
        let session = session(relu);
        let error = along(&session, Initialiser::Glorot, 4);
        let pairs = blocks(&session, PairOptions::default());
        for (k, layer) in error.layers.iter().enumerate() {
            let diagonal = pairs.pair(k, k).expect("a pair");
            let (frobenius, spectral) = (diagonal.frobenius, diagonal.spectral.expect("asked for"));
            if relu || k == 2 {
                assert_eq!(layer.error.expect("draws").high, 0.0);
                assert_eq!((frobenius.error, spectral.error), (Some(0.0), Some(0.0)));
            } else {
                assert!(layer.error.expect("draws").low > 0.0);
                assert!(frobenius.error > Some(1e-3) && spectral.error > Some(1e-3));
            }
        }
        let between = pairs.pair(2, 0).expect("a pair").frobenius;
        assert!(between.error > Some(1e-3), "{between:?}");
    }
}

#[test]
fn formed_blocks_are_those_of_the_whole_matrix() {
    let session = session(false);
    let pairs = blocks(&session, PairOptions::default());
    let squares = |operator: &Operator| {
        let units = Array2::<f64>::eye(operator.size());
        let matrix = operator.apply(units.view()).expect("a product");
        matrix.mapv(|v| v * v)
    };
    let (hessian, residual) = (squares(&session.hessian()), squares(&session.residual()));
    let ranges = [0..63, 63..133, 133..165];
    let part = |squares: &Array2<f64>, a: usize, b: usize| -> f64 {
        let of = |k: usize| ndarray::Slice::from(ranges[k].clone());
        let rows = squares.slice_axis(ndarray::Axis(0), of(a));
        rows.slice_axis(ndarray::Axis(1), of(b)).sum().sqrt()
    };
    for pair in &pairs.pairs {
        let (a, b) = (pair.rows, pair.columns);
        assert!(pair.exact && pair.frobenius.uncertainty == 0.0);
        assert!((pair.frobenius.hessian / part(&hessian, a, b) - 1.0).abs() < 1e-12);
        assert!((pair.frobenius.residual - part(&residual, a, b)).abs() < 1e-12);
    }
    let whole = (residual.sum() / hessian.sum()).sqrt();
    assert!((pairs.whole.expect("H is not 0") - whole).abs() < 1e-12);
}

#[test]
fn estimates_agree_with_formed_blocks_within_their_error_bars() {
    let session = session(false);
    let formed = blocks(&session, PairOptions::default());
    let options = PairOptions {
        exact_entries: 0,
        probes: 400,
        ..PairOptions::default()
    };
    let estimated = blocks(&session, options);
    for (formed, estimated) in formed.pairs.iter().zip(&estimated.pairs) {
        assert!(formed.exact && !estimated.exact);
        let (exact, found) = (formed.frobenius, estimated.frobenius);
        let off = (exact.error.expect("not 0") - found.error.expect("not 0")).abs();
        assert!(
            off <= 4.0 * found.uncertainty,
            "{off} is over 4·{}",
            found.uncertainty
        );
        assert!((found.hessian / exact.hessian - 1.0).abs() < 0.2);
        let (exact, found) = (
            formed.spectral.expect("asked"),
            estimated.spectral.expect("asked"),
        );
        assert!(found.hessian <= exact.hessian * (1.0 + 1e-9));
        assert!(
            found.hessian >= exact.hessian * (1.0 - 1e-3),
            "{found:?} for {exact:?}"
        );
        assert!((found.error.expect("not 0") - exact.error.expect("not 0")).abs() < 2e-3);
    }
    // A mixture of both, and no spectral norms.
    let options = PairOptions {
        exact_entries: 63 * 32,
        spectral: false,
        ..PairOptions::default()
    };
    let mixed = blocks(&session, options);
    assert!(mixed.pairs.iter().all(|p| p.spectral.is_none()));
    let exact: Vec<bool> = mixed.pairs.iter().map(|p| p.exact).collect();
    assert_eq!(exact, [false, false, true, false, false, true]);
}

#[test]
fn layers_are_chosen_by_pattern_and_bad_wishes_are_refused() {
    let session = session(false);
    let names = |patterns: &[&str]| {
        let patterns: Vec<String> = patterns.iter().map(|p| p.to_string()).collect();
        let layers = choose_layers(session.network(), &patterns)?;
        Ok::<_, Error>(layers.into_iter().map(|l| l.name).collect::<Vec<_>>())
    };
    assert_eq!(
        names(&["*st", "sec*"]).expect("layers"),
        ["first", "second", "last"]
    );
    assert_eq!(names(&["l*"]).expect("layers"), ["last"]);
    assert!(
        names(&["dense*"])
            .unwrap_err()
            .to_string()
            .contains("first, second, last")
    );
    assert!(names(&["["]).is_err());
    let layers = session.network().layers();
    let mut draw = Draw {
        initialiser: Initialiser::He,
        count: 0,
        seed: 0,
    };
    let none = gradient_error(&session, &layers, draw);
    assert!(none.unwrap_err().to_string().contains("draws 0"));
    draw.count = 1;
    let none = gradient_error(&session, &[], draw);
    assert!(none.unwrap_err().to_string().contains("no parameters"));
}

#[test]
fn error_refuses_a_host_memory_that_does_not_hold_the_vectors_of_a_block() {
    let network = Builder::new(&[300])
        .linear("wide", 300)
        .tanh()
        .linear("head", 2);
    let network = network.initialize(0).build().unwrap();
    let inputs = Array2::from_shape_fn((4, 300), |(i, j)| ((i * 7 + j) % 5) as f64 - 2.0);
    let data = Dataset::from_arrays(inputs, Array1::from_vec(vec![0i64, 1, 1, 0]));
    let loss = CrossEntropy::mean();
    let session = Session::builder(network)
        .data(data)
        .loss(loss)
        .device(Device::cpu(Precision::F32))
        .build()
        .unwrap();
    let pairs = PairOptions {
        exact_entries: 0,
        probes: 2,
        ..PairOptions::default()
    };
    let layers = session.network().layers();
    let within = |host: u128| {
        let budget = Memory::default().host(Bytes(host));
        pair_errors(&session.with_memory(budget), &layers, pairs)
    };
    // 20 steps of two vectors of 90,300 numbers, and vectors of all parameters.
    let error = within(20 << 20).unwrap_err().to_string();
    assert!(
        error.contains("host_memory") && error.contains("90300 × 90300"),
        "{error}"
    );
    assert!(within(128 << 20).is_ok());
}
