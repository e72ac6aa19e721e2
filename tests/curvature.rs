//! Products, forms, traces and Fisher matrices against PyTorch's whole matrices (`tests/golden/make_curvature.py`),
//! and what theory says of H − G.

mod common;

use common::golden::{builder, cases, folder, text, words};
use common::pytorch::{array, greatest, values, worst};
use common::runs::run_plan;
use hessblock::data::{ArraySource, Dataset};
use hessblock::internals::plan::RunOptions;
use hessblock::internals::plan::request::resolve;
use hessblock::internals::tensor::cpu::Cpu;
use hessblock::loss::{CrossEntropy, GivenHessian, Loss, SquaredError};
use hessblock::network::Network;
use hessblock::network::builder::{Builder, Window2d};
use hessblock::onnx::{self, OnnxOptions};
use hessblock::{Curvature, Device, Operator, Part, Precision, Session};
use ndarray::{Array1, Array2, Array3, ArrayD, Axis, IxDyn};
use serde_json::Value;
use std::path::PathBuf;

const DRAWS: Curvature = Curvature::McGgn {
    samples: 3,
    seed: 5,
};

/// A case of `curvature.json`.
struct Known {
    name: String,
    session: Session,
    /// The same in small chunks, so that sums over several are taken too.
    chunked: Session,
    /// Its numbers.
    file: PathBuf,
}

/// The cases of `curvature.json` on a device.
fn known(device: &Device) -> Vec<Known> {
    let index = std::fs::read_to_string(folder().join("curvature.json")).expect("the index");
    let index: Value = serde_json::from_str(&index).expect("JSON");
    let all = cases();
    let found = index["cases"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|case| {
            let name = text(&case["name"]).to_string();
            let golden = all
                .iter()
                .find(|c| c["name"] == case["name"])
                .expect("a golden case");
            let builder = || builder(golden).map(|builder| builder.device(device.clone()));
            let session = builder().and_then(|b| b.build());
            let session = session.unwrap_or_else(|e| panic!("{name}: {e}"));
            let chunked = builder().and_then(|b| b.batch(4).build());
            let chunked = chunked.expect("a session");
            let layers: Vec<String> = session
                .network()
                .layers()
                .into_iter()
                .map(|l| l.name)
                .collect();
            assert_eq!(layers, words(&case["layers"]), "{name}");
            let file = folder().join(text(&case["data"]));
            Known {
                name,
                session,
                chunked,
                file,
            }
        });
    found.collect()
}

fn rows(values: Vec<f64>, columns: usize) -> Array2<f64> {
    Array2::from_shape_vec((values.len() / columns, columns), values).expect("rows")
}

fn flat(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    values.into_iter().collect()
}

/// A case, and what of it is further off than the tolerance.
struct Check<'a> {
    case: &'a Known,
    tolerance: f64,
    faults: Vec<String>,
}

impl Check<'_> {
    /// PyTorch's numbers of that name.
    fn expect(&self, key: &str) -> Vec<f64> {
        values(&self.case.file, key)
    }

    /// The greatest of the numbers of two names.
    fn scale(&self, keys: [&str; 2]) -> f64 {
        keys.map(|key| greatest(&self.expect(key)))
            .into_iter()
            .fold(0.0, f64::max)
    }

    /// `[p, k]`.
    fn vectors(&self) -> Array2<f64> {
        rows(self.expect("V"), self.case.session.ggn().size()).reversed_axes()
    }

    /// Compares with the numbers of that name.
    fn check(&mut self, what: &str, found: Vec<f64>, key: &str, scale: f64) {
        let off = worst(&found, &self.expect(key)) / scale.max(f64::MIN_POSITIVE);
        if off.is_nan() || off > self.tolerance {
            let name = &self.case.name;
            self.faults
                .push(format!("{name}: {what} is off by {off:.1e}"));
        }
    }

    fn products(&mut self) {
        let (vectors, scale) = (self.vectors(), self.scale(["GV", "HV"]));
        for (curvature, key) in [
            (Curvature::Ggn, "GV"),
            (Curvature::Exact, "HV"),
            (Curvature::Residual, "RV"),
        ] {
            let operator = self.case.chunked.operator(curvature);
            let found = operator.apply(vectors.view()).expect("a product");
            let found = flat(found.reversed_axes());
            self.check(&format!("{curvature} product"), found, key, scale);
        }
    }

    fn forms(&mut self) {
        let (case, vectors) = (self.case, self.vectors());
        let forms = case.chunked.ggn().forms(vectors.view()).expect("forms");
        let scale = self.scale(["form_G", "form_H"]);
        let found = forms.iter().map(|f| f.ggn).collect();
        self.check("vᵀGv", found, "form_G", scale);
        let found = forms.iter().map(|f| f.exact()).collect();
        self.check("vᵀHv", found, "form_H", scale);
        let gradients = case.chunked.layer_gradients().expect("gradients");
        let forms = case.chunked.ggn().forms(gradients.view()).expect("forms");
        let scale = self.scale(["layer_form_G", "layer_form_H"]);
        let found = forms.iter().map(|f| f.ggn).collect();
        self.check("gᵀGg of layers", found, "layer_form_G", scale);
        let found = forms.iter().map(|f| f.exact()).collect();
        self.check("gᵀHg of layers", found, "layer_form_H", scale);
    }

    fn traces(&mut self) {
        let scale = self.scale(["trace_G", "trace_H"]);
        for (curvature, key) in [(Curvature::Ggn, "trace_G"), (Curvature::Exact, "trace_H")] {
            let traces = self.case.session.operator(curvature).traces();
            let traces = traces.expect("a trace");
            let whole = traces.last().expect("the whole").value;
            self.check(key, vec![whole], key, scale);
        }
    }

    fn jacobian(&mut self) {
        let session = &self.case.chunked;
        let pushed = session.jacobian_product(&self.vectors()).expect("J·v");
        self.check("J·v", flat(pushed), "JV", greatest(&self.expect("JV")));
        let (samples, outputs) = (session.dataset().len(), session.network().outputs());
        let cotangents = self.expect("U");
        let shape = (samples, cotangents.len() / samples / outputs, outputs);
        let cotangents = Array3::from_shape_vec(shape, cotangents).expect("cotangents");
        let pulled = session.jacobian_transpose_product(&cotangents);
        let pulled = flat(pulled.expect("Jᵀ·u").reversed_axes());
        self.check("Jᵀ·u", pulled, "JTU", greatest(&self.expect("JTU")));
    }

    fn fisher(&mut self) {
        let fisher = self.case.session.empirical_fisher();
        let rows = self.expect("rows").into_iter().map(|i| i as usize);
        let rows = rows.map(|i| Part::range(i..i + 1, 0..fisher.size()));
        let parts = std::iter::once(Part::Diagonal).chain(rows);
        let request = fisher.parts(parts).expect("a gradient");
        let blocks = request.to_arrays::<f64>().expect("blocks");
        let scale = greatest(&self.expect("EF_diagonal"));
        let diagonal = flat(blocks[0].array.clone());
        let what = "diagonal of the empirical Fisher";
        self.check(what, diagonal, "EF_diagonal", scale);
        let found = blocks[1..].iter().flat_map(|row| row.array.iter().copied());
        let what = "rows of the empirical Fisher";
        self.check(what, found.collect(), "EF_rows", scale);
    }
}

fn agree(device: &Device, tolerance: f64, take: usize) {
    let mut faults = Vec::new();
    let known = known(device);
    assert!(known.len() >= 8);
    for case in known.iter().step_by(take) {
        let mut check = Check {
            case,
            tolerance,
            faults: Vec::new(),
        };
        check.products();
        check.forms();
        check.traces();
        check.jacobian();
        check.fisher();
        faults.extend(check.faults);
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn cpu_f64_agrees_with_pytorch_to_1e_11() {
    agree(&Device::cpu(Precision::F64), 1e-11, 1);
}

#[test]
fn cpu_f32_agrees_with_pytorch() {
    agree(&Device::cpu(Precision::F32), 5e-6, 1);
}

#[cfg(feature = "gpu")]
#[test]
fn gpu_agrees_with_pytorch() {
    if let Some(gpu) = common::gpu::open(false) {
        agree(&Device::from(gpu), 5e-6, 2);
    }
}

/// Whole matrices of networks that try which parameters may be moved through a pre-activation
/// (`tests/golden/make_routes.py`).
#[test]
fn every_way_to_the_exact_hessian_agrees_with_pytorch() {
    let models = std::fs::read_dir(folder().join("models")).expect("the models");
    let models = models.map(|entry| entry.expect("an entry").path());
    let name = |path: &std::path::Path| path.file_stem().map(|s| s.to_string_lossy().into_owned());
    let names = models
        .filter_map(|path| name(&path))
        .filter(|n| n.starts_with("routes_"));
    let names: Vec<String> = names.collect();
    assert!(names.len() >= 9, "{names:?}");
    for name in names {
        let model = folder().join(format!("models/{name}.onnx"));
        let network = onnx::load(model, &OnnxOptions::default()).unwrap_or_else(|e| panic!("{e}"));
        let file = folder().join(format!("data/{name}.npz"));
        let data = Dataset::from_inputs(array(&file, "inputs"));
        let data = data.with_target_array(array(&file, "targets"));
        let session = Session::builder(network)
            .data(data)
            .loss(CrossEntropy::mean())
            .device(Device::cpu(Precision::F64))
            .build();
        let session = session.unwrap_or_else(|e| panic!("{name}: {e}"));
        let expected = values(&file, "H");
        let p = session.network().parameter_count();
        assert_eq!(expected.len(), p * p, "{name}");
        let expected = rows(expected, p);
        // Both triangles as they are computed: a rectangle knows of no mirror.
        for part in [Part::Full, Part::range(0..p, 1..p), Part::range(1..p, 0..p)] {
            let found = block(&session.hessian(), part.clone());
            let (top, left) = (p - found.nrows(), p - found.ncols());
            let wanted = expected.slice(ndarray::s![top.., left..]).to_owned();
            let off = norm(&(&found - &wanted)) / norm(&expected);
            assert!(off < 1e-12, "{name}, {part}: off by {off:e}");
        }
    }
}

/// Reproducible numbers of mean 0.
fn numbers(shape: &[usize], seed: u64) -> ArrayD<f32> {
    let mut draws = hessblock::internals::random::Draws::new(seed, 0, 0);
    let count = shape.iter().product();
    let values = (0..count).map(|_| draws.normal() as f32).collect();
    ArrayD::from_shape_vec(IxDyn(shape), values).expect("the count fits")
}

const SAMPLES: usize = 11;

fn small(network: Network, input: &[usize], loss: Box<dyn Loss>) -> Session {
    let classes = network.outputs();
    let shape: Vec<usize> = std::iter::once(SAMPLES)
        .chain(input.iter().copied())
        .collect();
    let data = Dataset::from_inputs(ArraySource::from(numbers(&shape, 1)));
    let data = if loss.name().starts_with("mse") {
        data.with_target_array(ArraySource::from(numbers(&[SAMPLES, classes], 2)))
    } else {
        let labels = (0..SAMPLES).map(|n| (n % classes) as i64);
        data.with_target_array(ArraySource::from(Array1::from_iter(labels).into_dyn()))
    };
    Session::builder(network)
        .data(data)
        .boxed_loss(loss)
        .device(Device::cpu(Precision::F64))
        .build()
        .expect("a session")
}

fn mlp(relu: bool) -> Network {
    let mut builder = Builder::new(&[5]).linear("fc1", 7);
    builder = if relu { builder.relu() } else { builder.tanh() };
    builder = builder.linear("fc2", 6);
    builder = if relu { builder.relu() } else { builder.tanh() };
    builder
        .linear("fc3", 3)
        .initialize(3)
        .build()
        .expect("a network")
}

fn block(operator: &Operator, part: Part) -> Array2<f64> {
    let request = operator.parts([part]).expect("a gradient");
    let mut blocks = request.to_arrays().expect("a block");
    blocks.remove(0).into_matrix()
}

fn full(operator: &Operator) -> Array2<f64> {
    block(operator, Part::Full)
}

fn norm(block: &Array2<f64>) -> f64 {
    block.iter().map(|v| v * v).sum::<f64>().sqrt()
}

#[test]
fn the_residual_is_zero_where_theory_says_so_and_not_elsewhere() {
    let cross_entropy = || Box::new(CrossEntropy::mean());
    let tanh = small(mlp(false), &[5], cross_entropy());
    let relu = small(mlp(true), &[5], cross_entropy());
    for session in [&tanh, &relu] {
        let whole = norm(&full(&session.ggn()));
        let residual = session.residual();
        // The outputs are linear in the last layer.
        assert_eq!(norm(&block(&residual, Part::layer("fc3"))), 0.0);
        // Between layers they are not, whatever the activation.
        for (a, b) in [("fc1", "fc2"), ("fc2", "fc3"), ("fc1", "fc3")] {
            let between = norm(&block(&residual, Part::between(a, b)));
            assert!(between > 1e-3 * whole, "{a}, {b}");
        }
    }
    for layer in ["fc1", "fc2"] {
        let own = |session: &Session| norm(&block(&session.residual(), Part::layer(layer)));
        assert_eq!(own(&relu), 0.0, "{layer} of a ReLU network");
        assert!(own(&tanh) > 1e-4, "{layer} of a tanh network");
    }
}

#[test]
fn a_linear_network_has_no_residual_in_a_layer_and_one_between() {
    let network = Builder::new(&[4])
        .linear("a", 3)
        .linear("b", 2)
        .initialize(1)
        .build();
    let session = small(
        network.expect("a network"),
        &[4],
        Box::new(SquaredError::default()),
    );
    let of = |part: Part| norm(&block(&session.residual(), part));
    assert_eq!(of(Part::layer("a")), 0.0);
    assert_eq!(of(Part::layer("b")), 0.0);
    assert!(of(Part::between("a", "b")) > 0.0);
}

#[test]
fn matrices_are_symmetric_and_those_that_should_be_are_positive_semi_definite() {
    let session = small(mlp(false), &[5], Box::new(CrossEntropy::mean()));
    let p = session.network().parameter_count();
    let vectors = numbers(&[6, p], 9)
        .mapv(f64::from)
        .into_shape_with_order((6, p));
    let vectors = vectors.expect("vectors");
    for curvature in [
        Curvature::Ggn,
        Curvature::Exact,
        Curvature::EmpiricalFisher,
        DRAWS,
    ] {
        let operator = session.operator(curvature);
        let full = full(&operator);
        // Products know nothing of the mirror.
        let products = operator.apply(vectors.t()).expect("products");
        let products = products.reversed_axes();
        let forms = vectors.dot(&products.t());
        let skew = norm(&(&forms - &forms.t())) / norm(&forms);
        assert!(
            skew < 1e-13,
            "{curvature}: uᵀMv and vᵀMu differ by {skew:e}"
        );
        let off = norm(&(vectors.dot(&full) - &products)) / norm(&products);
        assert!(
            off < 1e-12,
            "{curvature}: blocks and products differ by {off:e}"
        );
        let eigenvalues = eigenvalues(&full);
        let (least, most) = (eigenvalues[0], eigenvalues[p - 1]);
        if curvature == Curvature::Exact {
            assert!(least < -1e-3 * most, "H of this network is indefinite");
        } else {
            assert!(least > -1e-13 * most, "{curvature}: {least:e} of {most:e}");
        }
    }
}

/// Ascending.
fn eigenvalues(matrix: &Array2<f64>) -> Vec<f64> {
    let p = matrix.nrows();
    let matrix = faer::Mat::from_fn(p, p, |i, j| matrix[[i, j]]);
    let values = matrix.self_adjoint_eigenvalues(faer::Side::Lower);
    let mut values = values.expect("they converge");
    values.sort_by(f64::total_cmp);
    values
}

#[test]
fn monte_carlo_draws_depend_on_seed_sample_and_draw_alone_and_converge_to_g() {
    let draws = |samples, seed| Curvature::McGgn { samples, seed };
    let losses: [fn() -> Box<dyn Loss>; 2] = [
        || Box::new(CrossEntropy::mean()),
        || Box::new(SquaredError::default()),
    ];
    for loss in losses {
        let session = small(mlp(false), &[5], loss());
        let ggn = full(&session.ggn());
        let with = |curvature| full(&session.operator(curvature));
        let one = with(draws(1, 7));
        assert_eq!(one, with(draws(1, 7)));
        assert_ne!(one, with(draws(1, 8)));
        // The error falls as the root of the draws: 64 times as many take off 7/8 of it.
        let error = |block: Array2<f64>| norm(&(block - &ggn)) / norm(&ggn);
        let (few, many) = (error(with(draws(16, 0))), error(with(draws(1024, 0))));
        assert!(
            many < few / 4.0 && many > few / 16.0,
            "{few:e} and {many:e}"
        );
        assert!(many < 0.1);
    }
}

#[test]
fn monte_carlo_draws_do_not_depend_on_the_range_of_samples() {
    let network = mlp(false);
    let take = |range: std::ops::Range<usize>| {
        let data = Dataset::from_inputs(ArraySource::from(numbers(&[SAMPLES, 5], 1)));
        let labels = Array1::from_iter((0..SAMPLES).map(|n| (n % 3) as i64));
        let data = data.with_target_array(ArraySource::from(labels.into_dyn()));
        let data = data.with_samples(range).expect("a range");
        let loss = Box::new(CrossEntropy::sum());
        let session = Session::builder(network.clone())
            .data(data)
            .boxed_loss(loss)
            .device(Device::cpu(Precision::F64))
            .build()
            .expect("a session");
        full(&session.operator(DRAWS))
    };
    let sum = take(0..4) + take(4..SAMPLES);
    let off = norm(&(&sum - &take(0..SAMPLES))) / norm(&sum);
    assert!(off < 1e-14, "{off:e}");
}

#[test]
fn a_given_hessian_and_gradient_do_what_the_loss_they_are_of_does() {
    let network = mlp(false);
    let loss = SquaredError::sum();
    let named = small(network.clone(), &[5], Box::new(loss));
    // ∇ℓ = 2(z − y), ∇²ℓ = 2I. The outputs follow from products with the Jacobian of a network that is linear in
    // its last layer: z = J·w of the last layer's own parameters.
    let mut own = network.parameter_values();
    let last = network.layer("fc3").expect("a layer").parameters;
    let last: Vec<_> = last
        .iter()
        .map(|&k| network.parameters[k].range())
        .collect();
    for (at, value) in own.iter_mut().enumerate() {
        if !last.iter().any(|range| range.contains(&at)) {
            *value = 0.0;
        }
    }
    let vectors = Array1::from_vec(own).insert_axis(Axis(1));
    let outputs = named.jacobian_product(&vectors);
    let outputs = flat(outputs.expect("outputs"));
    let targets = numbers(&[SAMPLES, 3], 2);
    let gradient: Vec<f64> = outputs
        .iter()
        .zip(&targets)
        .map(|(z, y)| 2.0 * (z - f64::from(*y)))
        .collect();
    let hessian =
        Array3::from_shape_fn((SAMPLES, 3, 3), |(_, i, j)| if i == j { 2.0 } else { 0.0 });
    let data = || {
        Dataset::from_inputs(ArraySource::from(numbers(&[SAMPLES, 5], 1)))
            .with_target_array(ArraySource::from(hessian.clone().into_dyn()))
    };
    let without = Session::builder(network.clone())
        .data(data())
        .boxed_loss(Box::<GivenHessian>::default())
        .device(Device::cpu(Precision::F64))
        .build();
    let without = without.expect("a session").hessian();
    let error = without.parts([Part::Full]).unwrap_err();
    assert!(error.to_string().contains("loss_gradient"), "{error}");
    let given = GivenHessian::with_gradient(gradient);
    let given = Session::builder(network)
        .data(data())
        .loss(given)
        .device(Device::cpu(Precision::F64))
        .build()
        .expect("a session");
    for curvature in [Curvature::Exact, Curvature::Residual, Curvature::Ggn] {
        let of = |session: &Session| full(&session.operator(curvature));
        let (named, given) = (of(&named), of(&given));
        let off = norm(&(&named - &given)) / norm(&named);
        assert!(off < 1e-13, "{curvature}: {off:e}");
    }
}

#[test]
fn a_small_budget_and_waves_change_blocks_of_h_by_rounding_alone() {
    let network = Builder::new(&[1, 8, 8])
        .conv2d("conv", 3, Window2d::new(3))
        .tanh()
        .flatten()
        .linear("fc1", 40)
        .tanh()
        .linear("fc2", 4)
        .initialize(2)
        .build();
    let network = network.expect("a network");
    let session = small(network, &[1, 8, 8], Box::new(CrossEntropy::mean()));
    let whole = full(&session.hessian());
    let parts = resolve(session.network(), &[Part::Full, Part::Diagonal]).expect("parts");
    let options = RunOptions {
        host_memory: Some(400 << 20),
        ..RunOptions::default()
    };
    let plan = session.hessian().plan_with(parts, options).expect("a plan");
    assert!(plan.passes() > 1, "{} tiles at once", plan.wave);
    assert!(plan.host_bytes <= 400 << 20);
    let run = run_plan(&session.hessian(), &[&Cpu::<f64>::new()], &plan);
    let parts = run.expect("a run").1;
    let off = norm(&(&parts[0].1 - &whole)) / norm(&whole);
    assert!(off < 1e-13, "{off:e}");
    let diagonal = whole.diag().insert_axis(ndarray::Axis(1)).to_owned();
    let off = norm(&(&parts[1].1 - &diagonal)) / norm(&diagonal);
    assert!(off < 1e-13, "{off:e}");
    // Rectangles by the cheapest side: the same numbers.
    let rectangle = block(&session.hessian(), Part::range(3..40, 20..1200));
    let part = whole.slice(ndarray::s![3..40, 20..1200]).to_owned();
    assert!(norm(&(&rectangle - &part)) / norm(&part) < 1e-13);
    let pairs: Vec<(usize, usize)> = (0..20).map(|k| (k * 37, 1500 - k * 51)).collect();
    let entries = session.residual().entries(&pairs).expect("entries");
    let residual = full(&session.residual());
    let most = residual.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    for (&(i, j), entry) in pairs.iter().zip(entries) {
        assert!(
            (residual[[i, j]] - entry).abs() < 1e-12 * most,
            "({i}, {j})"
        );
    }
}
