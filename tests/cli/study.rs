//! `error`: its files, its table, and what it refuses.

use crate::workplace::*;
use serde_json::Value;

const FILES: [&str; 6] = [
    "error.csv",
    "error.json",
    "error.png",
    "error.svg",
    "pairs.png",
    "pairs.svg",
];

fn names(folder: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry
            .expect("an entry")
            .file_name()
            .to_string_lossy()
            .into_owned()
    };
    let mut names: Vec<String> = entries.map(name).collect();
    names.sort();
    names
}

/// Width and height of a PNG that decodes, and how many of its pixels are not white.
fn decoded(path: &std::path::Path) -> (u32, u32, usize) {
    let file = std::io::BufReader::new(std::fs::File::open(path).expect("a figure"));
    let mut reader = png::Decoder::new(file).read_info().expect("a PNG");
    let mut pixels = vec![0; reader.output_buffer_size().expect("a size")];
    let frame = reader.next_frame(&mut pixels).expect("a PNG");
    let inked = pixels.chunks_exact(3).filter(|p| **p != [255; 3]).count();
    (frame.width, frame.height, inked)
}

#[test]
fn a_study_leaves_table_json_and_figures() {
    let place = Workplace::new();
    let arguments = on_all_digits("error", &["--draws", "5", "--out", "study"]);
    let text = place.done(&arguments);
    assert!(text.contains("5 draws of glorot, 64 samples"), "{text}");
    assert!(
        text.lines()
            .any(|l| l.starts_with("head") && l.contains(" 0 ")),
        "{text}"
    );
    assert_eq!(place.names(), ["study"]);
    assert_eq!(names(&place.path("study")), FILES);
    let whole = read_json(&place.path("study/error.json"));
    let layers = whole["gradient"]["layers"].as_array().expect("layers");
    let named: Vec<&Value> = layers.iter().map(|l| &l["layer"]).collect();
    assert_eq!(named, ["dense1", "dense2", "head"]);
    assert_eq!(layers[0]["draws"].as_array().map(Vec::len), Some(5));
    assert_eq!(whole["pairs"]["pairs"].as_array().map(Vec::len), Some(6));
    assert_eq!(whole["provenance"]["samples"], serde_json::json!([0, 64]));
    let csv = std::fs::read_to_string(place.path("study/error.csv")).expect("a table");
    assert!(csv.starts_with("layer,parameters,draws,error_05,error_median,error_95,"));
    assert_eq!(csv.lines().count(), 4);
    for name in ["error", "pairs"] {
        let (width, height, inked) = decoded(&place.path(&format!("study/{name}.png")));
        assert!(
            width == 900 && height > 200 && inked > 10_000,
            "{width}×{height}: {inked}"
        );
        let svg =
            std::fs::read_to_string(place.path(&format!("study/{name}.svg"))).expect("an SVG");
        assert!(
            svg.starts_with("<svg") && svg.contains("dense1") && svg.trim_end().ends_with("</svg>")
        );
    }
    place.refused(1, &arguments, &["study", "--force"]);
    let fewer = [
        "--draws",
        "2",
        "--no-pairs",
        "--out",
        "study",
        "--force",
        "--json",
    ];
    let json = json(&place.done(&on_digits("error", &fewer)));
    assert_eq!(
        (&json["pairs"], &json["gradient"]["samples"]),
        (&Value::Null, &16.into())
    );
    assert_eq!(names(&place.path("study")), FILES[..4]);
}

#[test]
fn the_files_own_weights_are_one_draw_and_a_seed_repeats() {
    let place = Workplace::new();
    let run = |more: &[&'static str]| {
        let all = [&["--no-pairs", "--json", "--precision", "f64"][..], more].concat();
        let mut json = json(&place.done(&on_digits("error", &all)));
        json["gradient"].take()
    };
    let own = run(&["--initialiser", "file"]);
    assert_eq!(
        (&own["draws"], &own["initialiser"]),
        (&1.into(), &"file".into())
    );
    let gradient = json(&place.done(&on_digits("gradient", &["--json", "--precision", "f64"])));
    let loss = |value: &Value| value.as_f64().expect("a number");
    assert!((loss(&own["losses"][0]) - loss(&gradient["loss"])).abs() < 1e-12);
    let he = ["--initialiser", "he", "--draws", "2", "--seed", "8"];
    assert_eq!(run(&he), run(&he));
    let other = run(&["--initialiser", "he", "--draws", "2", "--seed", "9"]);
    assert_ne!(run(&he)["losses"], other["losses"]);
}

#[test]
fn a_gradient_of_zero_gives_no_number() {
    let place = Workplace::new();
    // Without biases images of zeros become outputs of zeros, which are the targets.
    place.write_f32("images.npy", &[4, 1, 8, 8], vec![0.0; 256]);
    place.write_f32("targets.npy", &[4, 10], vec![0.0; 40]);
    let model: &str = digits("model.onnx").leak();
    let data = [
        "--inputs",
        "images.npy",
        "--targets",
        "targets.npy",
        "--loss",
        "mse",
    ];
    let more = ["--device", "cpu", "--draws", "2", "--out", "study"];
    let text = place.done(&[&["error", model][..], &data, &more].concat());
    assert!(text.contains("no number: the gradient is 0"), "{text}");
    let json = read_json(&place.path("study/error.json"));
    let draws = &json["gradient"]["layers"][0]["draws"];
    assert_eq!(*draws, serde_json::json!([null, null]));
    assert_eq!(json["pairs"]["pairs"][0]["frobenius"]["error"], 0.0);
    assert_eq!(names(&place.path("study")), FILES);
}

#[test]
fn what_a_study_cannot_do_is_refused_before_any_work() {
    let place = Workplace::new();
    place.refused(
        2,
        &on_digits("error", &["--initialiser", "xavier"]),
        &["xavier", "glorot"],
    );
    place.refused(2, &on_digits("error", &["--draws", "0"]), &["--draws"]);
    place.refused(2, &on_digits("error", &["--probes", "1"]), &["--probes"]);
    place.refused(
        2,
        &on_digits("error", &["--layers", "fc*"]),
        &["fc*", "dense1"],
    );
    std::fs::write(place.path("file"), "").expect("a file");
    place.refused(
        1,
        &on_digits("error", &["--out", "file/study"]),
        &["file", "not a folder"],
    );
    place.refused(
        2,
        &on_all_digits("error", &["--samples", "0..5000"]),
        &["5000"],
    );
    std::fs::write(place.path("taken"), "").expect("a file");
    place.refused(
        1,
        &on_digits("error", &["--out", "taken", "--force"]),
        &["taken", "not a folder"],
    );
    place.write_f32(
        "hessian.npy",
        &[4, 10, 10],
        (0..400).map(|k| f64::from(u8::from(k % 100 % 11 == 0))),
    );
    place.small(4);
    let model: &str = digits("model.onnx").leak();
    place.refused(
        2,
        &[
            "error",
            model,
            "--inputs",
            "images.npy",
            "--loss-hessian",
            "hessian.npy",
            "--device",
            "cpu",
        ],
        &["gradient"],
    );
}
