//! Networks from ONNX files: what both PyTorch exporters write is read, what cannot be is refused by name.

use hessblock::Error;
use hessblock::import::onnx::{OnnxOptions, load};
use hessblock::network::{Network, inspect::inspect};
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
        let network = match load(
            golden().join(case["model"].as_str().unwrap()),
            &OnnxOptions::default(),
        ) {
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
