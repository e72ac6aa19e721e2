//! What the commands write and print when all is well.

use crate::workplace::*;
use hessblock::internals::sink::Blocks;
use serde_json::Value;

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
        text.contains("4 parts of G over 16 samples") && text.contains("flop/s"),
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
fn plan_forecasts_what_the_process_has_to_make_and_refuses_what_blocks_refuses() {
    let place = Workplace::new();
    let full = ["--part", "full", "--shard", "2/8"];
    let text = place.done(&on_digits("plan", &full));
    assert!(text.contains(" for 12.5 % of the result: passes"), "{text}");
    let share = |more: &[&str]| {
        let all = [&["--part", "full", "--tile", "256", "--json"][..], more].concat();
        let plan = json(&place.done(&on_digits("plan", &all)));
        (
            plan["predicted"]["share"].clone(),
            plan["unit_samples"].clone(),
        )
    };
    assert_eq!(share(&[]).0, 1.0);
    assert_eq!(share(&["--shard", "1/4", "--out", "out"]).0, 0.25);
    // Two of four shares are done, in units of their own: what is left is no more than the other half.
    for shard in ["1/4", "2/4"] {
        let run = [
            "--part", "full", "--tile", "256", "--shard", shard, "--out", "out", "--batch", "5",
            "-q",
        ];
        place.done(&on_digits("blocks", &run));
    }
    let (left, unit) = share(&["--shard", "3/4", "--out", "out", "--batch", "5"]);
    assert_eq!((left, unit), (0.25.into(), 5.into()));
    let (left, unit) = share(&["--out", "out", "--batch", "5"]);
    assert!(
        left.as_f64().is_some_and(|left| 0.3 < left && left < 0.7),
        "{left}"
    );
    assert_eq!(unit, 5);
    // Others are refused with one voice.
    for command in ["blocks", "plan"] {
        let layers = on_digits(command, &["--part", "layers", "--out", "a.npy"]);
        place.refused(2, &layers, &["3 parts go to a folder"]);
        let other = on_digits(command, &["--part", "diag", "--out", "a.txt"]);
        place.refused(1, &other, &["a.txt"]);
    }
    // What is made in memory is part of its peak.
    let peak = |out: &str| {
        let arguments = ["--part", "full", "--out", out, "--json"];
        let plan = json(&place.done(&on_digits("plan", &arguments)));
        plan["predicted"]["peak_host_bytes"]
            .as_u64()
            .expect("bytes")
    };
    assert_eq!(peak("a.safetensors") - peak("a.npy"), 4 * 1374 * 1374);
}

#[test]
fn a_device_is_measured_once_where_that_can_be_kept_and_plan_says_which() {
    let place = Workplace::new();
    let plan = |cache: &str| {
        let mut command = place.command(&on_digits("plan", &["--part", "layer=head"]));
        let output = command.env("HESSBLOCK_CACHE", cache).output();
        errors(&output.expect("the binary starts"))
    };
    let first = plan("cache");
    let before = first.find("measuring how long").expect(&first);
    let after = first.find("was measured, once, in ").expect(&first);
    assert!(before < after);
    assert!(!plan("cache").contains("measur"));
    for cache in ["", "cache/rates/under/a/file"] {
        if !cache.is_empty() {
            std::fs::write(place.path("cache/rates"), "no folder").expect("a file");
        }
        let text = plan(cache);
        assert!(
            text.contains("for this plan alone") && !text.contains("once"),
            "{text}"
        );
    }
}

#[cfg(unix)]
#[test]
fn measuring_stops_when_asked_to() {
    use std::io::{BufRead, BufReader};
    let place = Workplace::new();
    let mut run = place
        .command(&on_digits("plan", &["--part", "layer=head"]))
        .env("HESSBLOCK_CACHE", "")
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut lines = BufReader::new(run.stderr.take().expect("a pipe")).lines();
    let begun = lines.any(|line| line.is_ok_and(|line| line.contains("measuring how long")));
    assert!(begun);
    let kill = std::process::Command::new("kill")
        .args(["-INT", &run.id().to_string()])
        .status();
    assert!(kill.expect("kill").success());
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    let output = run.wait_with_output().expect("a child");
    assert_eq!(output.status.code(), Some(130), "{rest:?}");
    assert!(output.stdout.is_empty());
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
