//! Whole networks against PyTorch in double precision: gradient, diagonal and rows of G.
//!
//! The models are large, so they are made where they are wanted and not kept with the sources:
//!
//! ```sh
//! python tests/whole/make.py FOLDER                         # needs torch, torchvision, onnx
//! HESSBLOCK_WHOLE=FOLDER cargo test --release --test whole -- --ignored --nocapture
//! ```
//!
//! `FOLDER/index.json` lists the `cases`: `name`; `model`; `inputs`, a file or an object of names and files;
//! `targets`; `loss` (`cross-entropy`, …), `reduction`, and, where they are wanted, `class_axis`, `output`,
//! `ignore_index`, `label_smoothing`, `constant` (a list); `p`; and `data`, an archive of `gradient` [p], `rows` [k], `G_rows`
//! [k, p] and `G_diagonal` [p]; `single`, what PyTorch's own gradient in single precision is off by. Paths are relative to the folder.
//!
//! Each case prints a line per precision: seconds of gradient and of blocks, the peak of anonymous memory while
//! blocks were computed, and the errors. They must be within 1e-9 in f64, and in f32 within DESIGN §5's bounds.
//!
//! - `HESSBLOCK_WHOLE_ONLY=NAME` takes the cases whose name contains NAME.
//! - `HESSBLOCK_WHOLE_PRECISION=f32` (or `f64`) takes one precision.
//! - `HESSBLOCK_WHOLE_DEVICE=gpu` takes another device than the CPU, in f32 unless it is the CPU.
//! - `HESSBLOCK_WHOLE_MEMORY=2GiB` bounds the host's memory.

mod common;

use common::pytorch::{Numbers, compare, values};
use hessblock::internals::bytes::Bytes;
use hessblock::internals::sink::Blocks;
use hessblock::{Device, InputFile, Memory, Output, Part, Precision, Session, Source};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The share of entries that may be off by more than their own scale allows.
const FEW: f64 = 1e-2;

fn variable(name: &str) -> Option<String> {
    std::env::var(format!("HESSBLOCK_WHOLE{name}")).ok()
}

fn text<'a>(case: &'a Value, key: &str) -> &'a str {
    let value = case[key].as_str();
    value.unwrap_or_else(|| panic!("{key} of {case} is no text"))
}

/// The files and options of a case.
fn source(folder: &Path, case: &Value) -> Source {
    let file = |value: &Value| folder.join(value.as_str().expect("the name of a file"));
    let inputs = match &case["inputs"] {
        Value::Object(files) => files
            .iter()
            .map(|(name, path)| InputFile {
                name: Some(name.clone()),
                path: file(path),
            })
            .collect(),
        path => vec![file(path).into()],
    };
    let optional = |key: &str| case[key].as_str().map(str::to_string);
    let constant = case["constant"].as_array().into_iter().flatten();
    Source {
        model: file(&case["model"]),
        constant: constant
            .map(|glob| glob.as_str().expect("a pattern").to_string())
            .collect(),
        output: optional("output"),
        inputs,
        targets: Some(file(&case["targets"])),
        loss: Some(text(case, "loss").replace('_', "-")),
        reduction: optional("reduction"),
        class_axis: case["class_axis"].as_i64().map(|axis| axis as isize),
        ignore_index: case["ignore_index"].as_i64(),
        label_smoothing: case["label_smoothing"].as_f64(),
        ..Source::default()
    }
}

/// DESIGN §5: single precision by the number of rows of V, N·R, or some times what PyTorch's own single precision
/// is off by.
fn tolerance(session: &Session, case: &Value) -> f64 {
    let own = 5.0 * case["single"].as_f64().unwrap_or(0.0);
    let directions = session.loss().directions(session.network().outputs());
    match session.device().precision() {
        Precision::F64 => 1e-9,
        _ if session.dataset().len() * directions <= 10_000 => own.max(2e-6),
        _ => own.max(1e-5),
    }
}

/// Computes gradient, diagonal and rows of G, the latter by way of files; says what it took and what is off.
fn check(case: &Value, session: &Session, archive: &Path) -> Vec<String> {
    let name = text(case, "name");
    let rows = values(archive, "rows");
    let rows: Vec<usize> = rows.into_iter().map(|r| r as usize).collect();
    let expected = Numbers {
        loss: None,
        gradient: values(archive, "gradient"),
        rows: values(archive, "G_rows"),
        diagonal: values(archive, "G_diagonal"),
    };
    let p = session.network().parameter_count();
    let start = Instant::now();
    let gradient = session.gradient();
    let gradient_seconds = start.elapsed().as_secs_f64();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut parts = vec![Part::Diagonal];
    parts.extend(rows.iter().map(|&i| Part::range(i..i + 1, 0..p)));
    let run = || {
        let output = Output::folder(folder.path().join("out"));
        let report = session.ggn().parts(parts)?.write(&output)?;
        let blocks = Blocks::open(output.path())?;
        let diagonal = blocks.vector(0)?.to_vec();
        let mut found = Vec::with_capacity(rows.len() * p);
        for k in 0..rows.len() {
            found.extend(blocks.rows(k + 1, 0..1)?);
        }
        Ok::<_, hessblock::Error>((report, diagonal, found))
    };
    let (gradient, (report, diagonal, found)) = match (gradient, run()) {
        (Ok(gradient), Ok(run)) => (gradient, run),
        (Err(error), _) | (_, Err(error)) => return vec![error.to_string()],
    };
    let found = Numbers {
        loss: None,
        gradient: gradient.values,
        rows: found,
        diagonal,
    };
    let tolerance = tolerance(session, case);
    let mut errors = compare(&found, &expected, &rows, tolerance);
    let measures: Vec<String> = errors
        .measures
        .iter()
        .map(|(what, error)| format!("{what} {error:.1e}"))
        .chain([format!("{:.1e} of the entries off", errors.share)])
        .collect();
    let peak = report.peak_anonymous_bytes;
    println!(
        "{name:<24} {:<4} {:<4} p = {p:<9} N = {:<4} gradient {gradient_seconds:>7.2} s, {} rows and the diagonal {:>8.2} s, peak {:>10}; {}",
        session.device(),
        session.device().precision(),
        session.dataset().len(),
        rows.len(),
        report.seconds,
        peak.map_or("unknown".into(), |bytes| Bytes(bytes.into()).to_string()),
        measures.join(", ")
    );
    // In a deep network some cotangents nearly cancel, and with them an entry's own scale: in single precision a
    // few entries are off by it.
    if errors.share < FEW {
        errors.entry = None;
    }
    errors.faults(tolerance)
}

fn devices() -> Vec<Device> {
    let precisions = match variable("_PRECISION").as_deref() {
        None => vec![Precision::F64, Precision::F32],
        Some("f64") => vec![Precision::F64],
        Some("f32") => vec![Precision::F32],
        Some(other) => panic!("no precision {other:?}: there are f32 and f64"),
    };
    match variable("_DEVICE") {
        None => precisions.into_iter().map(Device::cpu).collect(),
        Some(name) => {
            let precision = if name == "cpu" {
                precisions[0]
            } else {
                Precision::F32
            };
            vec![Device::open(&name, precision).expect("the device")]
        }
    }
}

#[test]
#[ignore = "needs the folder that tests/whole/make.py writes, in HESSBLOCK_WHOLE"]
fn whole_networks_agree_with_pytorch() {
    let Some(folder) = variable("").map(PathBuf::from) else {
        panic!("HESSBLOCK_WHOLE names no folder; tests/whole/make.py FOLDER makes one");
    };
    let index = std::fs::read_to_string(folder.join("index.json")).expect("index.json");
    let index: Value = serde_json::from_str(&index).expect("JSON");
    let only = variable("_ONLY").unwrap_or_default();
    let cases = index["cases"].as_array().expect("a list of cases");
    let mut faults = Vec::new();
    let mut tried = 0;
    for case in cases
        .iter()
        .filter(|case| text(case, "name").contains(&only))
    {
        let name = text(case, "name");
        tried += 1;
        let memory = variable("_MEMORY").map(|size| size.parse().expect("a size"));
        let memory = memory.map_or(Memory::default(), |size| Memory::default().host(size));
        let opened = source(&folder, case).session();
        let session = match opened.and_then(|s| s.memory(memory).build()) {
            Ok(session) => session,
            Err(error) => {
                faults.push(format!("{name}: {error}"));
                continue;
            }
        };
        let p = session.network().parameter_count();
        if case["p"].as_u64() != Some(p as u64) {
            faults.push(format!("{name}: p is {p}, not {}", case["p"]));
            continue;
        }
        let archive = folder.join(text(case, "data"));
        for device in devices() {
            let precision = device.precision();
            let found = check(case, &session.with_device(device), &archive);
            faults.extend(
                found
                    .into_iter()
                    .map(|f| format!("{name} in {precision}: {f}")),
            );
        }
    }
    assert!(tried > 0, "no case is named like {only:?}");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
