//! The command line as a user meets it: the built binary on the digits that ship with the project.
#![cfg(feature = "cli")]

use hessblock::files::npy::write_header;
use hessblock::import::data::ArraySource;
use hessblock::sink::Blocks;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Parameters of the digits network.
const PARAMETERS: [(&str, &[usize]); 6] = [
    ("dense1.weight", &[16, 64]),
    ("dense1.bias", &[16]),
    ("dense2.weight", &[12, 16]),
    ("dense2.bias", &[12]),
    ("head.weight", &[10, 12]),
    ("head.bias", &[10]),
];

fn digits(name: &str) -> String {
    format!("{}/examples/digits/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A folder of its own for a test; commands run in it and name files relative to it.
struct Workplace(tempfile::TempDir);

impl Workplace {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hessblock"));
        command.args(arguments).current_dir(self.0.path());
        command.env_remove("RUST_LOG");
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the binary starts")
    }

    /// Runs what must end well; its standard output.
    fn done(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{arguments:?}: {}",
            errors(&output)
        );
        String::from_utf8(output.stdout).expect("standard output is text")
    }

    /// Runs what must end with this exit code, name each culprit and leave nothing behind; its message.
    fn refused(&self, code: i32, arguments: &[&str], culprits: &[&str]) -> String {
        let before = self.names();
        let output = self.run(arguments);
        let text = errors(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        assert!(!text.contains("panicked"), "{arguments:?}: {text}");
        for culprit in culprits {
            assert!(
                text.contains(culprit),
                "{arguments:?}: no {culprit:?} in {text}"
            );
        }
        assert!(output.stdout.is_empty(), "{arguments:?} prints something");
        assert_eq!(self.names(), before, "{arguments:?} leaves something");
        text
    }

    /// Names of all files there are, in order.
    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).expect("the folder is there");
        let mut names: Vec<String> = entries
            .map(|e| {
                e.expect("an entry")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        names.sort();
        names
    }

    /// Writes an array in single precision.
    fn write_f32(&self, name: &str, shape: &[usize], values: impl IntoIterator<Item = f64>) {
        let mut bytes = write_header("<f4", shape);
        bytes.extend(
            values
                .into_iter()
                .flat_map(|value| (value as f32).to_le_bytes()),
        );
        std::fs::write(self.path(name), bytes).expect("the folder takes a file");
    }

    fn write_i64(&self, name: &str, shape: &[usize], values: &[i64]) {
        let mut bytes = write_header("<i8", shape);
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        std::fs::write(self.path(name), bytes).expect("the folder takes a file");
    }

    /// The first digits as files of their own: `images.npy` and `labels.npy`.
    fn small(&self, samples: usize) {
        self.write_f32("images.npy", &[samples, 1, 8, 8], pixels(samples));
        let labels = ArraySource::open(digits("labels.npy")).expect("labels");
        let labels = labels.read_i64(0..samples).expect("labels");
        self.write_i64("labels.npy", &[samples], &labels);
    }

    /// Weights for the digits network.
    fn write_weights(&self, name: &str, parameters: &[(&str, &[usize])]) {
        let data: Vec<Vec<u8>> = parameters
            .iter()
            .map(|(_, shape)| {
                let count: usize = shape.iter().product();
                (0..count)
                    .flat_map(|k| ((k % 7) as f32 * 0.1 - 0.3).to_le_bytes())
                    .collect()
            })
            .collect();
        let views = parameters.iter().zip(&data).map(|((name, shape), data)| {
            let view = TensorView::new(Dtype::F32, shape.to_vec(), data);
            (*name, view.expect("as many bytes as the shape says"))
        });
        let file = safetensors::serialize(views, None).expect("weights");
        std::fs::write(self.path(name), file).expect("the folder takes a file");
    }
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn pixels(samples: usize) -> Vec<f64> {
    let images = ArraySource::open(digits("images.npy")).expect("images");
    images.read_f64(0..samples).expect("images")
}

/// A command on the digits, 16 of them, with more arguments.
fn on_digits<'a>(command: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = on_all_digits(command, &["--samples", "0..16"]);
    arguments.extend(more);
    arguments
}

fn on_all_digits<'a>(command: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    // Leaked once per test, so that arguments stay a list of plain texts.
    let file = |name| -> &'static str { digits(name).leak() };
    let mut arguments = vec![command, file("model.onnx")];
    arguments.extend(["--inputs", file("images.npy")]);
    arguments.extend(["--targets", file("labels.npy")]);
    arguments.extend(["--loss", "cross-entropy", "--device", "cpu"]);
    arguments.extend(more);
    arguments
}

/// `blocks` on the digits network with these files, all else given by the caller.
fn blocks_of<'a>(inputs: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let model: &'static str = digits("model.onnx").leak();
    let mut arguments = vec!["blocks", model, "--inputs", inputs, "--device", "cpu"];
    arguments.extend(more);
    arguments
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn read_json(path: &Path) -> Value {
    json(&std::fs::read_to_string(path).expect("a JSON file"))
}

/// All entries of the first part of a result.
fn entries(path: &Path) -> Vec<f64> {
    let blocks = Blocks::open(path).expect("a result");
    let rows = blocks.parts()[0].layout.row_count();
    let values = blocks.rows(0, 0..rows).expect("rows");
    values.iter().copied().collect()
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |most, value| value.abs().max(most))
}

fn check_provenance(provenance: &Value) {
    assert_eq!(provenance["crate_version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(provenance["samples"], serde_json::json!([0, 16]));
    assert_eq!(provenance["loss"], "cross-entropy(mean)");
    assert_eq!(provenance["curvature"], "ggn");
    assert_eq!(provenance["device"], "CPU");
    assert_eq!(provenance["precision"], "f32");
    let hashed = |key: &str| -> Vec<&Value> {
        let files = provenance[key].as_array().expect("a list of files");
        for file in files {
            assert_eq!(file["sha256"].as_str().map(str::len), Some(64), "{file}");
        }
        files.iter().map(|file| &file["path"]).collect()
    };
    assert_eq!(hashed("model"), [&digits("model.onnx")]);
    assert_eq!(
        hashed("data"),
        [&digits("images.npy"), &digits("labels.npy")]
    );
}

#[test]
fn several_parts_go_to_a_folder_with_an_index() {
    let place = Workplace::new();
    let parts = ["--part", "layers", "--part", "diag"];
    let text = place.done(&on_digits(
        "blocks",
        &[&parts[..], &["--out", "out"]].concat(),
    ));
    assert!(
        text.contains("4 parts of G over 16 samples") && text.contains("Gflop/s"),
        "{text}"
    );
    assert_eq!(place.names(), ["out"]);
    let index = read_json(&place.path("out/index.json"));
    check_provenance(&index["provenance"]);
    let expected = serde_json::json!([
        {"part": "layer=dense1", "file": "0000.npy", "rows": [[0, 1040]], "columns": [[0, 1040]], "shape": [1040, 1040]},
        {"part": "layer=dense2", "file": "0001.npy", "rows": [[1040, 1244]], "columns": [[1040, 1244]], "shape": [204, 204]},
        {"part": "layer=head", "file": "0002.npy", "rows": [[1244, 1374]], "columns": [[1244, 1374]], "shape": [130, 130]},
        {"part": "diag", "file": "0003.npy", "rows": [[0, 1374]], "shape": [1374]},
    ]);
    assert_eq!(index["parts"], expected);
    let blocks = Blocks::open(place.path("out")).expect("a result");
    let diagonal = blocks.vector(3).expect("a vector");
    for k in [0, 77, 129] {
        let (entry, other) = (blocks.entry(2, k, k).expect("an entry"), diagonal[1244 + k]);
        assert!(
            (entry - other).abs() <= 1e-5 * entry.abs(),
            "{k}: {entry} and {other}"
        );
    }
}

#[test]
fn a_single_part_goes_to_one_file_with_its_json_beside_it() {
    let place = Workplace::new();
    place.done(&on_digits(
        "blocks",
        &["--part", "layer=dense2,head", "--out", "block.npy"],
    ));
    assert_eq!(place.names(), ["block.npy", "block.npy.json"]);
    let manifest = read_json(&place.path("block.npy.json"));
    check_provenance(&manifest["provenance"]);
    let expected = serde_json::json!([
        {"part": "layer=dense2,head", "file": "block.npy", "rows": [[1040, 1244]], "columns": [[1244, 1374]], "shape": [204, 130]},
    ]);
    assert_eq!(manifest["parts"], expected);
    assert_eq!(entries(&place.path("block.npy")).len(), 204 * 130);
}

#[test]
fn the_json_summary_is_all_that_standard_output_holds() {
    let place = Workplace::new();
    let text = place.done(&on_digits(
        "blocks",
        &["--part", "layer=head", "--out", "out", "--json"],
    ));
    let summary = json(&text);
    for key in [
        "out",
        "device",
        "precision",
        "parts",
        "skipped",
        "samples",
        "seconds",
        "factor_seconds",
        "contraction_seconds",
        "read_back_seconds",
        "write_seconds",
        "sync_seconds",
        "wait_seconds",
        "operations",
        "entries",
        "bytes",
        "tiles",
        "peak_anonymous_bytes",
        "peak_device_bytes",
        "gflops",
    ] {
        assert!(summary.get(key).is_some(), "no {key} in {text}");
    }
    assert_eq!(summary["parts"], serde_json::json!(["layer=head"]));
    assert_eq!(
        (&summary["samples"], &summary["out"]),
        (&16.into(), &"out".into())
    );
    assert_eq!(summary["bytes"], 4 * 130 * 130);
}

#[test]
fn quiet_says_nothing() {
    let place = Workplace::new();
    // --memory does not count on the CPU, which is otherwise worth a note.
    let noisy = ["--part", "diag", "--memory", "1GiB", "--out"];
    let output = place.run(&on_digits("blocks", &[&noisy[..], &["a"]].concat()));
    assert!(errors(&output).contains("--host-memory"));
    let output = place.run(&on_digits("blocks", &[&noisy[..], &["b", "-q"]].concat()));
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty(), "{}", errors(&output));
}

#[test]
fn plan_prints_and_writes_nothing() {
    let place = Workplace::new();
    let text = place.done(&on_digits("plan", &["--part", "full", "--out", "out"]));
    for word in ["outer-outer", "dense1.weight", "Gflop", "memory"] {
        assert!(text.contains(word), "no {word} in {text}");
    }
    let plan = json(&place.done(&on_digits("plan", &["--part", "layers", "--json"])));
    assert_eq!(plan["parts"].as_array().map(Vec::len), Some(3));
    assert_eq!(plan["samples"], 16);
    assert!(place.names().is_empty());
}

#[test]
fn inspect_lists_parameters_and_layers() {
    let place = Workplace::new();
    let model = digits("model.onnx");
    let table = json(&place.done(&["inspect", &model, "--json"]));
    let mut offset = 0;
    let parameters = table["parameters"].as_array().expect("a list");
    assert_eq!(parameters.len(), PARAMETERS.len());
    for (parameter, (name, shape)) in parameters.iter().zip(PARAMETERS) {
        let count: usize = shape.iter().product();
        assert_eq!(parameter["name"], name);
        assert_eq!(parameter["shape"], serde_json::json!(shape));
        assert_eq!(parameter["offset"], offset);
        assert_eq!(parameter["count"], count);
        assert_eq!(parameter["layer"].as_str(), name.split('.').next());
        offset += count;
    }
    assert_eq!(table["parameter_count"], offset);
    let layers = table["layers"].as_array().expect("a list");
    let names: Vec<&Value> = layers.iter().map(|layer| &layer["layer"]).collect();
    assert_eq!(names, ["dense1", "dense2", "head"]);
    assert!(place.done(&["inspect", &model]).contains("1374 parameters"));
}

#[test]
fn gradient_writes_it_and_prints_loss_and_accuracy() {
    let place = Workplace::new();
    let text = place.done(&on_digits("gradient", &["--out", "g.npy"]));
    assert!(
        text.contains("loss ") && text.contains("accuracy "),
        "{text}"
    );
    assert_eq!(place.names(), ["g.npy", "g.npy.json"]);
    let gradient = entries(&place.path("g.npy"));
    assert_eq!(gradient.len(), 1374);
    let norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
    let summary = json(&place.done(&on_digits("gradient", &["--json"])));
    let number = |key: &str| summary[key].as_f64().expect("a number");
    assert!((number("gradient_norm") - norm).abs() <= 1e-6 * norm);
    assert!(number("accuracy") > 0.9 && number("loss") > 0.0);
}

#[test]
fn verify_passes_and_finds_a_number_that_was_overwritten() {
    let place = Workplace::new();
    let part = ["--part", "range=1364..1370,1364..1370", "--out", "head.npy"];
    place.done(&on_digits("blocks", &part));
    let text = place.done(&["verify", "head.npy"]);
    assert!(text.contains("64 random entries"), "{text}");
    let verdict = json(&place.done(&["verify", "head.npy", "--json"]));
    assert_eq!(verdict["passed"], true);

    let path = place.path("head.npy");
    let mut bytes = std::fs::read(&path).expect("the result");
    let last = bytes.len() - 4;
    bytes[last..].copy_from_slice(&7.5f32.to_le_bytes());
    std::fs::write(&path, bytes).expect("the result is ours");
    let output = place.run(&["verify", "head.npy", "--entries", "1000"]);
    assert_eq!(output.status.code(), Some(1));
    let text = errors(&output);
    assert!(
        text.contains("(1369, 1369)") && text.contains("7.5"),
        "{text}"
    );
}

#[test]
fn verify_refuses_data_that_changed() {
    let place = Workplace::new();
    place.small(8);
    let more = [
        "--targets",
        "labels.npy",
        "--loss",
        "cross-entropy",
        "--part",
        "diag",
    ];
    place.done(&blocks_of(
        "images.npy",
        &[&more[..], &["--out", "out"]].concat(),
    ));
    place.done(&["verify", "out"]);
    place.write_f32("images.npy", &[8, 1, 8, 8], vec![0.25; 512]);
    place.refused(1, &["verify", "out"], &["images.npy", "SHA-256"]);
}

#[test]
fn what_is_asked_wrongly_ends_with_2() {
    let place = Workplace::new();
    let blocks = |more: &[&'static str]| on_digits("blocks", &[more, &["--out", "out"]].concat());
    place.refused(
        2,
        &blocks(&["--part", "everything"]),
        &["everything", "layers"],
    );
    place.refused(
        2,
        &blocks(&["--part", "diag", "--nonsense"]),
        &["--nonsense"],
    );
    place.refused(2, &blocks(&[]), &["--part"]);
    place.refused(2, &on_digits("blocks", &["--part", "diag"]), &["--out"]);
    place.refused(
        2,
        &blocks(&["--part", "layer=dense3"]),
        &["dense3", "dense1"],
    );
    place.refused(
        2,
        &blocks(&["--part", "param=head.wieght"]),
        &["head.wieght", "head.weight"],
    );
    place.refused(2, &blocks(&["--part", "range=5..5,0..3"]), &["5..5"]);
    place.refused(
        2,
        &blocks(&["--part", "range=0..3,0..1375"]),
        &["1375", "1374"],
    );
    place.refused(
        2,
        &blocks(&["--part", "diag", "--batch", "0"]),
        &["--batch"],
    );
    place.refused(
        2,
        &on_digits("blocks", &["--part", "layers", "--out", "out.npy"]),
        &["out.npy", "folder"],
    );
    place.refused(
        2,
        &on_all_digits(
            "blocks",
            &["--samples", "3..3", "--part", "diag", "--out", "out"],
        ),
        &["3..3"],
    );
    place.refused(
        2,
        &on_all_digits(
            "blocks",
            &["--samples", "0..1798", "--part", "diag", "--out", "out"],
        ),
        &["0..1798", "1797"],
    );
}

#[test]
fn an_existing_output_needs_force() {
    let place = Workplace::new();
    for (out, part) in [("out", "layer=head"), ("out.npy", "diag")] {
        let arguments = on_digits("blocks", &["--out", out, "--part", part]);
        place.done(&arguments);
        place.refused(1, &arguments, &[out, "exists already"]);
        let fewer = ["--samples", "0..4", "--force", "--out", out, "--part", part];
        place.done(&on_all_digits("blocks", &fewer));
        let blocks = Blocks::open(place.path(out)).expect("the newer result");
        assert_eq!(blocks.provenance()["samples"], serde_json::json!([0, 4]));
    }
    // What is no result is not replaced even so.
    std::fs::create_dir(place.path("mine")).expect("a folder");
    std::fs::write(place.path("mine/thesis.tex"), "text").expect("a file");
    let arguments = on_digits("blocks", &["--out", "mine", "--part", "diag", "--force"]);
    place.refused(1, &arguments, &["mine", "not a result"]);
    assert!(place.path("mine/thesis.tex").exists());
}

#[test]
fn parts_too_large_are_left_out_and_named() {
    let place = Workplace::new();
    let arguments = on_digits(
        "blocks",
        &[
            "--part",
            "layers",
            "--skip-larger",
            "200KiB",
            "--out",
            "out",
            "--json",
        ],
    );
    let output = place.run(&arguments);
    assert_eq!(output.status.code(), Some(0));
    let text = errors(&output);
    assert!(text.contains("left out layer=dense1: 4.1 MiB"), "{text}");
    let summary = json(&String::from_utf8_lossy(&output.stdout));
    assert_eq!(
        summary["parts"],
        serde_json::json!(["layer=dense2", "layer=head"])
    );
    assert_eq!(summary["skipped"][0]["part"], "layer=dense1");
    let nothing = ["--part", "layers", "--skip-larger", "1KiB", "--out", "none"];
    place.refused(2, &on_digits("blocks", &nothing), &["--skip-larger"]);
}

#[test]
fn a_budget_too_small_is_refused_with_the_arithmetic() {
    let place = Workplace::new();
    let more = ["--part", "full", "--host-memory", "64KiB", "--out", "out"];
    place.refused(
        1,
        &on_digits("blocks", &more),
        &["64.0 KiB", "weights", "tile", "--host-memory"],
    );
}

#[test]
fn files_that_are_missing_or_damaged_are_refused() {
    let place = Workplace::new();
    place.small(8);
    let rest = [
        "--targets",
        "labels.npy",
        "--loss",
        "cross-entropy",
        "--part",
        "diag",
        "--out",
        "out",
    ];
    place.refused(1, &blocks_of("nowhere.npy", &rest), &["nowhere.npy"]);
    let mut arguments = blocks_of("images.npy", &rest);
    arguments[1] = "nowhere.onnx";
    place.refused(1, &arguments, &["nowhere.onnx"]);
    let model = std::fs::read(digits("model.onnx")).expect("the network");
    for length in [0, 1, 100, model.len() / 2, model.len() - 1] {
        std::fs::write(place.path("cut.onnx"), &model[..length]).expect("a file");
        arguments[1] = "cut.onnx";
        place.refused(1, &arguments, &["cut.onnx"]);
    }
    let images = std::fs::read(place.path("images.npy")).expect("images");
    std::fs::write(place.path("cut.npy"), &images[..images.len() - 1]).expect("a file");
    place.refused(1, &blocks_of("cut.npy", &rest), &["cut.npy"]);
}

#[test]
fn data_that_do_not_fit_are_refused() {
    let place = Workplace::new();
    place.small(4);
    let rest = [
        "--loss",
        "cross-entropy",
        "--part",
        "diag",
        "--out",
        "out",
        "--targets",
    ];
    let blocks = |inputs, targets| blocks_of(inputs, &[&rest[..], &[targets]].concat());
    place.write_i64("outlying.npy", &[4], &[1, 2, 10, 3]);
    place.refused(
        1,
        &blocks("images.npy", "outlying.npy"),
        &["10", "sample 2"],
    );
    place.write_i64("few.npy", &[3], &[1, 2, 3]);
    place.refused(1, &blocks("images.npy", "few.npy"), &["few.npy", "3", "4"]);
    let mut values = pixels(4);
    values[130] = f64::NAN;
    place.write_f32("nan.npy", &[4, 1, 8, 8], values.clone());
    place.refused(1, &blocks("nan.npy", "labels.npy"), &["nan.npy", "NaN"]);
    place.write_f32("wide.npy", &[4, 1, 8, 9], vec![0.5; 288]);
    place.refused(
        1,
        &blocks("wide.npy", "labels.npy"),
        &["wide.npy", "[1, 8, 9]", "[1, 8, 8]"],
    );
}

#[test]
fn places_that_take_no_result_are_refused() {
    let place = Workplace::new();
    let blocks = |out| on_digits("blocks", &["--part", "diag", "--out", out]);
    place.refused(1, &blocks("out.csv"), &["out.csv", "FILE.npy"]);
    place.refused(1, &blocks("nofolder/out"), &["nofolder", "no such folder"]);
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_ends_with_130_and_leaves_nothing() {
    for (out, grows) in [("out", "out.partial"), ("out.npy", "out.npy.partial")] {
        let place = Workplace::new();
        let slow = [
            "--precision",
            "f64",
            "--batch",
            "1",
            "--part",
            "full",
            "--out",
            out,
        ];
        let mut run = place
            .command(&on_all_digits("blocks", &slow))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        while !place.path(grows).exists() {
            let ended = run.try_wait().expect("a child");
            assert!(ended.is_none(), "it ended before it wrote: {ended:?}");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let kill = Command::new("kill")
            .args(["-INT", &run.id().to_string()])
            .status();
        assert!(kill.expect("kill").success());
        let output = run.wait_with_output().expect("a child");
        assert_eq!(output.status.code(), Some(130), "{}", errors(&output));
        assert!(errors(&output).contains("interrupted"));
        assert!(place.names().is_empty(), "{:?}", place.names());
    }
}

/// A Hessian of the loss for each of `samples` samples, 10 × 10, by its entries.
fn hessians(samples: usize, entry: impl Fn(usize, usize) -> f64) -> Vec<f64> {
    (0..samples * 100)
        .map(|k| entry(k / 10 % 10, k % 10))
        .collect()
}

#[test]
fn a_loss_hessian_of_the_user_takes_the_place_of_a_loss() {
    let place = Workplace::new();
    place.small(6);
    let identity = |i: usize, j: usize| f64::from(u8::from(i == j));
    // Exchanges neighbouring outputs: eigenvalues 1 and −1.
    let exchange = |i: usize, j: usize| f64::from(u8::from(i ^ 1 == j));
    place.write_f32("identity.npy", &[6, 10, 10], hessians(6, identity));
    place.write_f32("exchange.npy", &[6, 10, 10], hessians(6, exchange));
    let sum = |i, j| identity(i, j) + exchange(i, j);
    place.write_f32("sum.npy", &[6, 10, 10], hessians(6, sum));
    place.write_f32("zeros.npy", &[6, 10], vec![0.0; 60]);

    let part = ["--part", "layer=dense2", "--precision", "f64", "--out"];
    let squared = [
        "--loss",
        "mse",
        "--reduction",
        "sum",
        "--targets",
        "zeros.npy",
    ];
    place.done(&blocks_of(
        "images.npy",
        &[&squared[..], &part, &["mse.npy"]].concat(),
    ));
    let given = |hessian, out| {
        let more = [&["--loss-hessian", hessian][..], &part, &[out]].concat();
        place.done(&blocks_of("images.npy", &more));
        entries(&place.path(out))
    };
    let squared = entries(&place.path("mse.npy"));
    let (one, other, both) = (
        given("identity.npy", "identity-out.npy"),
        given("exchange.npy", "exchange-out.npy"),
        given("sum.npy", "sum-out.npy"),
    );
    let tolerance = 1e-12 * largest(&squared);
    assert!(tolerance > 0.0 && largest(&other) > 0.0);
    for k in 0..squared.len() {
        assert!((squared[k] - 2.0 * one[k]).abs() <= tolerance, "entry {k}");
        assert!(
            (both[k] - one[k] - other[k]).abs() <= tolerance,
            "entry {k}"
        );
    }
    place.done(&["verify", "exchange-out.npy"]);

    let skewed = |i, j| identity(i, j) + 0.1 * f64::from(u8::from((i, j) == (2, 5)));
    place.write_f32("skewed.npy", &[6, 10, 10], hessians(6, skewed));
    let more = [
        "--loss-hessian",
        "skewed.npy",
        "--part",
        "diag",
        "--out",
        "out",
    ];
    place.refused(
        1,
        &blocks_of("images.npy", &more),
        &["not symmetric", "(5, 2)"],
    );
    let both = [
        "--loss",
        "mse",
        "--loss-hessian",
        "identity.npy",
        "--part",
        "diag",
        "--out",
        "out",
    ];
    place.refused(
        2,
        &blocks_of("images.npy", &both),
        &["--loss-hessian", "--loss"],
    );
}

#[test]
fn weights_of_another_file_change_the_result() {
    let place = Workplace::new();
    place.write_weights("other.safetensors", &PARAMETERS);
    let part = ["--part", "layer=head", "--out"];
    place.done(&on_digits("blocks", &[&part[..], &["own.npy"]].concat()));
    let more = [&part[..], &["other.npy", "--weights", "other.safetensors"]].concat();
    place.done(&on_digits("blocks", &more));
    assert_ne!(
        entries(&place.path("own.npy")),
        entries(&place.path("other.npy"))
    );
    place.done(&["verify", "other.npy"]);

    let mut turned = PARAMETERS;
    turned[2] = ("dense2.weight", &[16, 12]);
    place.write_weights("turned.safetensors", &turned);
    let more = [&part[..], &["out.npy", "--weights", "turned.safetensors"]].concat();
    place.refused(
        1,
        &on_digits("blocks", &more),
        &[
            "turned.safetensors",
            "dense2.weight",
            "[16, 12]",
            "[12, 16]",
        ],
    );
    place.write_weights("few.safetensors", &PARAMETERS[..5]);
    let more = [&part[..], &["out.npy", "--weights", "few.safetensors"]].concat();
    place.refused(
        1,
        &on_digits("blocks", &more),
        &["few.safetensors", "head.bias"],
    );
}
