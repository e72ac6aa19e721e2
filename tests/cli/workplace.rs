//! A folder to run the binary in, the digits it runs on, and what it left there.

use hessblock::data::ArraySource;
use hessblock::internals::files::npy::write_header;
use hessblock::internals::sink::Blocks;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Parameters of the digits network.
pub const PARAMETERS: [(&str, &[usize]); 6] = [
    ("dense1.weight", &[16, 64]),
    ("dense1.bias", &[16]),
    ("dense2.weight", &[12, 16]),
    ("dense2.bias", &[12]),
    ("head.weight", &[10, 12]),
    ("head.bias", &[10]),
];

pub fn digits(name: &str) -> String {
    format!("{}/examples/digits/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A folder of its own for a test; commands run in it and name files relative to it.
pub struct Workplace(tempfile::TempDir);

impl Workplace {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hessblock"));
        command.args(arguments).current_dir(self.0.path());
        command.env_remove("RUST_LOG");
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the binary starts")
    }

    /// Runs what must end well; its standard output.
    pub fn done(&self, arguments: &[&str]) -> String {
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
    pub fn refused(&self, code: i32, arguments: &[&str], culprits: &[&str]) -> String {
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
    pub fn names(&self) -> Vec<String> {
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
    pub fn write_f32(&self, name: &str, shape: &[usize], values: impl IntoIterator<Item = f64>) {
        let mut bytes = write_header("<f4", shape);
        bytes.extend(
            values
                .into_iter()
                .flat_map(|value| (value as f32).to_le_bytes()),
        );
        std::fs::write(self.path(name), bytes).expect("the folder takes a file");
    }

    pub fn write_i64(&self, name: &str, shape: &[usize], values: &[i64]) {
        let mut bytes = write_header("<i8", shape);
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        std::fs::write(self.path(name), bytes).expect("the folder takes a file");
    }

    /// The first digits as files of their own: `images.npy` and `labels.npy`.
    pub fn small(&self, samples: usize) {
        self.write_f32("images.npy", &[samples, 1, 8, 8], pixels(samples));
        let labels = ArraySource::open(digits("labels.npy")).expect("labels");
        let labels = labels.read_i64(0..samples).expect("labels");
        self.write_i64("labels.npy", &[samples], &labels);
    }

    /// Weights for the digits network.
    pub fn write_weights(&self, name: &str, parameters: &[(&str, &[usize])]) {
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

pub fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn pixels(samples: usize) -> Vec<f64> {
    let images = ArraySource::open(digits("images.npy")).expect("images");
    images.read_f64(0..samples).expect("images")
}

/// A command on the digits, 16 of them, with more arguments.
pub fn on_digits<'a>(command: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = on_all_digits(command, &["--samples", "0..16"]);
    arguments.extend(more);
    arguments
}

pub fn on_all_digits<'a>(command: &'a str, more: &[&'a str]) -> Vec<&'a str> {
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
pub fn blocks_of<'a>(inputs: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let model: &'static str = digits("model.onnx").leak();
    let mut arguments = vec!["blocks", model, "--inputs", inputs, "--device", "cpu"];
    arguments.extend(more);
    arguments
}

pub fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

pub fn read_json(path: &Path) -> Value {
    json(&std::fs::read_to_string(path).expect("a JSON file"))
}

/// All entries of the first part of a result.
pub fn entries(path: &Path) -> Vec<f64> {
    let blocks = Blocks::open(path).expect("a result");
    let rows = blocks.parts()[0].layout.row_count();
    let values = blocks.rows(0, 0..rows).expect("rows");
    values.iter().copied().collect()
}

pub fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |most, value| value.abs().max(most))
}
