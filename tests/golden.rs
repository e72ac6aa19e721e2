//! PyTorch's own numbers, in double precision, for every network, exporter and loss of `tests/golden`.
//!
//! `tests/golden/make_goldens.py` made models and arrays; `index.json` lists the cases.

mod common;

use hessblock::import::data::{ArraySource, Dataset};
use hessblock::import::onnx::{self, OnnxOptions};
use hessblock::loss::{self, LossOptions, Reduction};
use hessblock::schedule::run::Control;
use hessblock::tensor::Real;
use hessblock::{Device, Part, Precision, RunOptions, Session};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn cases() -> Vec<Value> {
    let text = std::fs::read_to_string(folder().join("index.json")).expect("the index");
    let index: Value = serde_json::from_str(&text).expect("JSON");
    index["cases"].as_array().expect("a list of cases").clone()
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

fn numbers(value: &Value) -> Option<Vec<f64>> {
    Some(value.as_array()?.iter().filter_map(Value::as_f64).collect())
}

/// An array of the case's data file.
fn array(case: &Value, key: &str) -> ArraySource {
    let file = folder().join(text(&case["data"]));
    ArraySource::open(format!("{}:{key}", file.display())).expect(key)
}

fn values(case: &Value, key: &str) -> Vec<f64> {
    let source = array(case, key);
    let count = source.shape().first().copied().unwrap_or(1);
    source.read_f64(0..count).expect(key)
}

fn session(case: &Value) -> Session {
    let name = text(&case["name"]);
    let network = onnx::load(folder().join(text(&case["model"])), &OnnxOptions::default())
        .unwrap_or_else(|e| panic!("{name}: {e}"));
    let spec = &case["loss"];
    let options = LossOptions {
        reduction: Some(if spec["reduction"] == "sum" {
            Reduction::Sum
        } else {
            Reduction::Mean
        }),
        class_weights: numbers(&spec["options"]["class_weights"]),
        label_smoothing: spec["options"]["label_smoothing"].as_f64(),
        ignore_index: spec["options"]["ignore_index"].as_i64(),
        positive_weight: numbers(&spec["options"]["pos_weight"]),
        class_axis: spec["class_axis"].as_i64(),
    };
    let loss = loss::parse(&text(&spec["name"]).replace('_', "-"), &options).expect("a loss");
    let data = Dataset::from_arrays(array(case, "inputs"), array(case, "targets"));
    Session::new(network, data, loss).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// The greatest |found − expected| over the greatest |expected|.
fn error(found: impl Iterator<Item = f64>, expected: &[f64]) -> f64 {
    let most = expected
        .iter()
        .fold(f64::MIN_POSITIVE, |m, v| m.max(v.abs()));
    let mut count = 0;
    let worst = found.zip(expected).fold(0.0f64, |worst, (a, b)| {
        count += 1;
        let error = (a - b).abs();
        if error.is_nan() {
            f64::INFINITY
        } else {
            worst.max(error)
        }
    });
    assert_eq!(count, expected.len());
    worst / most
}

/// Loss, gradient, rows and diagonal of G of each case, and DESIGN §5's entry-by-entry bound.
fn agree_with_pytorch(device: &Device, tolerance: f64, chosen: impl Fn(&str) -> bool) {
    let mut tried = 0;
    let mut faults = Vec::new();
    for case in cases() {
        let name = text(&case["name"]);
        if !chosen(name) {
            continue;
        }
        tried += 1;
        let session = session(&case);
        let p = session.network().parameter_count();
        assert_eq!(p as u64, case["p"].as_u64().expect("p"), "{name}");
        let gradient = session.gradient(device, RunOptions::default(), &Control::none());
        let gradient = gradient.unwrap_or_else(|e| panic!("{name}: {e}"));
        let found = session.blocks(device, &[Part::Full, Part::Diagonal]);
        let found = found.unwrap_or_else(|e| panic!("{name}: {e}"));
        let (full, diagonal) = (&found[0].1, &found[1].1);
        let rows: Vec<usize> = values(&case, "rows")
            .into_iter()
            .map(|r| r as usize)
            .collect();
        let expected_rows = values(&case, "G_rows");
        let expected_diagonal = values(&case, "G_diagonal");
        // Rows are measured against the greatest entry of G, which lies on its diagonal.
        let most = expected_diagonal.iter().fold(0.0f64, |m, v| m.max(*v));
        let entries = rows.iter().flat_map(|&i| (0..p).map(move |j| (i, j)));
        // The batch norms of this network take off means that are near their inputs: single precision itself
        // loses two digits there, on the CPU as on the GPU.
        let slack = if name.starts_with("fused_norm") {
            3.0
        } else {
            1.0
        };
        let mut worst = 0.0f64;
        for ((i, j), expected) in entries.zip(&expected_rows) {
            let error = (full[[i, j]] - expected).abs();
            worst = worst.max(error / most);
            let scale = (expected_diagonal[i] * expected_diagonal[j])
                .max(0.0)
                .sqrt();
            if error > 5.0 * slack * tolerance * scale && error > 1e-3 * tolerance * most
                || error.is_nan()
            {
                faults.push(format!(
                    "{name}: G[{i}, {j}] is {}, not {expected} (scale {scale:e})",
                    full[[i, j]]
                ));
                break;
            }
        }
        let measures = [
            (
                "loss",
                error(std::iter::once(gradient.loss), &values(&case, "loss")),
            ),
            (
                "gradient",
                error(gradient.values.iter().copied(), &values(&case, "gradient")),
            ),
            ("rows of G", worst),
            (
                "diagonal of G",
                error(diagonal.iter().copied(), &expected_diagonal),
            ),
        ];
        for (what, error) in measures {
            if error > tolerance || error.is_nan() {
                faults.push(format!("{name}: {what} is off by {error:.1e}"));
            }
        }
    }
    assert!(tried > 10, "only {tried} cases");
    assert!(
        faults.is_empty(),
        "{} of {tried} cases:\n{}",
        faults.len(),
        faults.join("\n")
    );
}

#[test]
fn cpu_f64_agrees_with_pytorch_to_1e_11() {
    agree_with_pytorch(&Device::cpu(Precision::F64), 1e-11, |_| true);
}

#[test]
fn cpu_f32_agrees_with_pytorch() {
    agree_with_pytorch(&Device::cpu(Precision::F32), 2e-6, |_| true);
}

/// The software device is slow: one file of each exporter for every network.
#[cfg(feature = "gpu")]
#[test]
fn gpu_agrees_with_pytorch() {
    if let Some(gpu) = common::gpu::open(false) {
        let chosen = |name: &str| name.ends_with(".new") || name.ends_with(".old");
        agree_with_pytorch(&Device::Gpu(gpu), 2e-6, chosen);
    }
}

#[test]
fn f32_rounds_where_f64_does_not() {
    // Guards the two tests above against comparing a device with itself.
    let case = &cases()[0];
    let session = session(case);
    let row = |precision| {
        session
            .blocks(&Device::cpu(precision), &[Part::Full])
            .expect("a block")[0]
            .1
            .clone()
    };
    assert_ne!(row(Precision::F32), row(Precision::F64));
    assert_eq!(f32::NAME, "f32");
}
