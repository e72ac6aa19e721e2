//! The golden cases: networks, data and losses that `tests/golden/make_goldens.py` wrote.

use super::pytorch::array;
use hessblock::data::Dataset;
use hessblock::loss::{self, LossOptions, Reduction};
use hessblock::onnx::{self, OnnxOptions};
use hessblock::{Device, Precision, Session, SessionBuilder};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Where the golden files are.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The index.
pub fn index() -> Value {
    let text = std::fs::read_to_string(folder().join("index.json")).expect("the index");
    serde_json::from_str(&text).expect("JSON")
}

/// All cases.
pub fn cases() -> Vec<Value> {
    let index = index();
    index["cases"].as_array().expect("a list of cases").clone()
}

/// A string of it.
pub fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

/// A list of strings; empty where there is none.
pub fn words(value: &Value) -> Vec<String> {
    let list = value.as_array().into_iter().flatten();
    list.map(|word| text(word).to_string()).collect()
}

/// A list of numbers.
pub fn numbers(value: &Value) -> Option<Vec<f64>> {
    Some(value.as_array()?.iter().filter_map(Value::as_f64).collect())
}

/// The case's data file.
pub fn archive(case: &Value) -> PathBuf {
    folder().join(text(&case["data"]))
}

/// The case's network, data and loss, in double precision on the CPU.
pub fn session(case: &Value) -> hessblock::Result<Session> {
    builder(case)?.device(Device::cpu(Precision::F64)).build()
}

/// The case's network, data and loss.
pub fn builder(case: &Value) -> hessblock::Result<SessionBuilder> {
    let options = OnnxOptions {
        output: case["output"].as_str().map(str::to_string),
        constant: words(&case["constant"]),
        trainable: words(&case["trainable"]),
        tie: words(&case["tie"]),
        ..OnnxOptions::default()
    };
    let network = onnx::load(folder().join(text(&case["model"])), &options)?;
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
        class_axis: spec["class_axis"].as_i64().map(|axis| axis as isize),
    };
    let loss = loss::parse(&text(&spec["name"]).replace('_', "-"), &options).expect("a loss");
    let archive = archive(case);
    let data = match case["inputs"].as_array() {
        None => Dataset::from_inputs(array(&archive, "inputs")),
        Some(names) => names.iter().map(text).fold(Dataset::new(), |data, name| {
            data.with_input(name, array(&archive, &format!("inputs.{name}")))
        }),
    };
    let data = data.with_target_array(array(&archive, "targets"));
    Ok(Session::builder(network).data(data).boxed_loss(loss))
}
