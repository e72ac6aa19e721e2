//! Networks from ONNX files: what both PyTorch exporters write is read, what cannot be is refused by name.

use hessblock::Error;
use hessblock::network::{Network, inspect::inspect};
use hessblock::onnx::{OnnxOptions, load};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn model(name: &str) -> PathBuf {
    golden().join(format!("models/{name}.onnx"))
}

fn read(name: &str) -> Network {
    load(model(name), &OnnxOptions::default()).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn cases() -> Vec<Value> {
    let text = std::fs::read_to_string(golden().join("index.json")).unwrap();
    let index: Value = serde_json::from_str(&text).unwrap();
    index["cases"].as_array().unwrap().clone()
}

#[test]
fn every_golden_model_has_the_parameters_layers_and_offsets_of_its_file() {
    let mut faults = Vec::new();
    for case in cases() {
        let name = case["name"].as_str().unwrap();
        let words = |key: &str| -> Vec<String> {
            let list = case[key].as_array().into_iter().flatten();
            list.map(|name| name.as_str().unwrap().to_string())
                .collect()
        };
        let options = OnnxOptions {
            output: case["output"].as_str().map(String::from),
            constant: words("constant"),
            trainable: words("trainable"),
            tie: words("tie"),
            ..OnnxOptions::default()
        };
        let network = match load(golden().join(case["model"].as_str().unwrap()), &options) {
            Ok(network) => network,
            Err(error) => {
                faults.push(format!("{name}: {error}"));
                continue;
            }
        };
        let mut offset = 0;
        let wanted: Vec<_> = case["parameters"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| {
                let text = |key: &str| p[key].as_str().unwrap().to_string();
                let shape: Vec<usize> = p["shape"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|e| e.as_u64().unwrap() as usize)
                    .collect();
                offset += shape.iter().product::<usize>();
                let start = offset - shape.iter().product::<usize>();
                (text("name"), text("layer"), shape, start)
            })
            .collect();
        let found: Vec<_> = network
            .parameters
            .iter()
            .map(|p| {
                (
                    p.name.clone(),
                    p.layer.clone(),
                    p.data.shape.clone(),
                    p.offset,
                )
            })
            .collect();
        if found != wanted {
            faults.push(format!("{name}:\n  found {found:?}\n  wanted {wanted:?}"));
        }
        assert_eq!(
            network.parameter_count() as u64,
            case["p"].as_u64().unwrap(),
            "{name}"
        );
        let table = inspect(&network);
        assert_eq!(table.parameters.len(), network.parameters.len());
        assert!(
            table.parameters.iter().all(|p| p.factor != "none"),
            "{name}: {table}"
        );
        assert!(table.to_string().contains("parameters; the whole Hessian"));
        assert_eq!(table.to_json()["parameters"][0]["offset"], 0);
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn both_exporters_give_the_same_network() {
    let shapes = |name: &str| -> Vec<Vec<usize>> {
        read(name)
            .parameters
            .iter()
            .map(|p| p.data.shape.clone())
            .collect()
    };
    assert_eq!(shapes("lenet_tanh.new"), shapes("lenet_tanh.old"));
    let (new, old) = (read("lenet_tanh.new"), read("lenet_tanh.old_external"));
    assert_eq!(new.parameters[0].data, old.parameters[0].data);
    assert_eq!(new.layers().len(), 5);
    assert_eq!(new.rest(new.output), [1, 4]);
}

#[test]
fn the_table_says_which_factors_are_outer() {
    let table = inspect(&read("lenet_relu.new"));
    let kinds: Vec<_> = table
        .layers
        .iter()
        .map(|l| (l.layer.as_str(), l.factor))
        .collect();
    assert_eq!(
        kinds,
        [
            ("conv1", "dense"),
            ("conv2", "dense"),
            ("fc1", "outer"),
            ("fc2", "outer"),
            ("fc3", "outer")
        ]
    );
    let count = table.layers[2].count as u128;
    assert_eq!(table.layers[2].block_bytes, 4 * count * count);
}

/// A copy of a model in a folder of its own, changed on the way.
fn changed(name: &str, change: impl FnOnce(&mut Vec<u8>)) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("changed.onnx");
    let mut bytes = std::fs::read(model(name)).unwrap();
    change(&mut bytes);
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

/// Replaces every occurrence of a text by another of the same length.
fn replace(bytes: &mut [u8], from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    let mut found = false;
    for at in 0..=bytes.len() - from.len() {
        if &bytes[at..at + from.len()] == from.as_bytes() {
            bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
            found = true;
        }
    }
    assert!(found, "{from:?} is not in the file");
}

fn refusal(path: &Path) -> String {
    load(path, &OnnxOptions::default())
        .expect_err("it should be refused")
        .to_string()
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = load("nowhere.onnx", &OnnxOptions::default()).unwrap_err();
    assert!(matches!(error, Error::Io { .. }) && error.to_string().contains("nowhere.onnx"));
}

#[test]
fn a_file_that_is_no_onnx_is_refused() {
    for content in [
        &b""[..],
        b"# a text",
        b"\x89PNG\r\n\x1a\n",
        &[0u8; 64],
        &[0xff; 64],
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("other.onnx");
        std::fs::write(&path, content).unwrap();
        let message = refusal(&path);
        assert!(
            message.contains("other.onnx") && message.contains("ONNX"),
            "{message}"
        );
    }
}

#[test]
fn a_file_cut_off_anywhere_is_refused_without_a_panic() {
    for name in ["mlp_tanh.old_folded", "mlp_tanh.new"] {
        let whole = std::fs::read(model(name)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cut.onnx");
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            // What follows the operations' version may be missing unnoticed; anything else is refused.
            if let Ok(network) = load(&path, &OnnxOptions::default()) {
                assert_eq!(
                    network.parameter_count(),
                    39,
                    "{length} of {} bytes",
                    whole.len()
                );
            }
        }
    }
}

#[test]
fn external_data_must_be_there_whole_and_inside_the_folder() {
    let (folder, path) = changed("mlp_tanh.old_external", |_| {});
    assert!(refusal(&path).contains("mlp_tanh.old_external.onnx.data"));
    let data = folder.path().join("mlp_tanh.old_external.onnx.data");
    let whole = std::fs::read(golden().join("models/mlp_tanh.old_external.onnx.data")).unwrap();
    std::fs::write(&data, &whole[..whole.len() - 1]).unwrap();
    assert!(refusal(&path).contains("cut off"));
    std::fs::write(&data, &whole).unwrap();
    assert_eq!(
        load(&path, &OnnxOptions::default())
            .unwrap()
            .parameter_count(),
        39
    );

    let name = "mlp_tanh.old_external.onnx.data";
    for escape in [
        "../secret/passwords/everything",
        "/etc/secret/passwords/all.data",
    ] {
        let mut to = escape.to_string();
        to.extend(std::iter::repeat_n('x', name.len() - to.len()));
        let (_folder, path) = changed("mlp_tanh.old_external", |bytes| replace(bytes, name, &to));
        let message = refusal(&path);
        assert!(message.contains("outside the folder"), "{message}");
    }
}

#[cfg(unix)]
#[test]
fn a_link_out_of_the_folder_is_an_escape_too() {
    let (folder, path) = changed("mlp_tanh.old_external", |_| {});
    let name = "mlp_tanh.old_external.onnx.data";
    std::os::unix::fs::symlink(golden().join("models").join(name), folder.path().join(name))
        .unwrap();
    assert!(refusal(&path).contains("outside the folder"));
}

#[test]
fn weights_that_are_not_numbers_are_refused_by_name() {
    let network = read("mlp_tanh.old");
    let weight = &network.parameters[0];
    let first = (weight.data.to_f64()[0] as f32).to_le_bytes();
    let (_folder, path) = changed("mlp_tanh.old", |bytes| {
        let at = bytes.windows(4).position(|w| w == first).unwrap();
        bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    let message = refusal(&path);
    assert!(
        message.contains(&weight.name) && message.contains("changed.onnx"),
        "{message}"
    );
}

#[test]
fn an_unsupported_node_is_named_with_where_the_others_are_listed() {
    let (_folder, path) = changed("mlp_tanh.old", |bytes| replace(bytes, "Tanh", "STFT"));
    let message = refusal(&path);
    assert!(
        message.contains("STFT") && message.contains("hessblock info"),
        "{message}"
    );
}

/// A safetensors file of single-precision values.
fn safetensors(path: &Path, tensors: &[(String, Vec<usize>, Vec<f32>)]) {
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, _, v)| v.iter().flat_map(|x| x.to_le_bytes()).collect())
        .collect();
    let views = tensors.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
        let view =
            safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes);
        (name.clone(), view.unwrap())
    });
    let file = safetensors::serialize(views, None).unwrap();
    std::fs::write(path, file).unwrap();
}

#[test]
fn weights_of_a_safetensors_file_replace_those_of_the_network() {
    let network = read("mlp_tanh.new");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    let options = OnnxOptions {
        weights: Some(path.clone()),
        ..Default::default()
    };
    let mut tensors: Vec<_> = network
        .parameters
        .iter()
        .map(|p| {
            (
                p.name.clone(),
                p.data.shape.clone(),
                vec![0.5; p.data.len()],
            )
        })
        .collect();
    safetensors(&path, &tensors);
    let loaded = load(model("mlp_tanh.new"), &options).unwrap();
    assert!(
        loaded
            .parameters
            .iter()
            .all(|p| p.data.to_f64().iter().all(|&v| v == 0.5))
    );

    let missing = tensors.remove(0).0;
    tensors[0].1 = vec![2, 2];
    tensors[0].2 = vec![0.0; 4];
    tensors.push(("extra.weight".into(), vec![1], vec![0.0]));
    safetensors(&path, &tensors);
    let message = load(model("mlp_tanh.new"), &options)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains(&format!("{missing} is missing")),
        "{message}"
    );
    assert!(
        message.contains(&format!("{} has shape [2, 2]", tensors[0].0)),
        "{message}"
    );
    assert!(message.contains("extra.weight has no place"), "{message}");
    std::fs::write(&path, b"not a file of weights").unwrap();
    assert!(
        load(model("mlp_tanh.new"), &options)
            .unwrap_err()
            .to_string()
            .contains("safetensors")
    );
}
