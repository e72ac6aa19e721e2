//! What is refused, with which exit code, and that nothing is left on disk then.

use crate::workplace::*;
use hessblock::internals::sink::Blocks;
#[cfg(unix)]
use std::process::{Command, Stdio};

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
        // The same again is there already; another is refused.
        let again = place.run(&arguments);
        assert!(again.status.success() && errors(&again).contains("there already"));
        let other = on_all_digits(
            "blocks",
            &["--samples", "0..4", "--out", out, "--part", part],
        );
        place.refused(1, &other, &[out, "exists already"]);
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
fn a_budget_too_small_is_refused_with_the_arithmetic() {
    let place = Workplace::new();
    let more = ["--part", "full", "--host-memory", "64KiB", "--out", "out"];
    place.refused(
        1,
        &on_digits("blocks", &more),
        &[
            "64.0 KiB",
            "weights",
            "tile",
            "--host-memory",
            "in use already",
        ],
    );
    // A result that is made in memory counts.
    let more = [
        "--part",
        "full",
        "--host-memory",
        "12MiB",
        "--out",
        "o.safetensors",
    ];
    place.refused(
        1,
        &on_digits("blocks", &more),
        &[
            "o.safetensors: a .safetensors result is held in memory",
            "7.2 MiB",
            "--host-memory",
        ],
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
    std::fs::write(place.path("file"), "").expect("a file");
    place.refused(1, &blocks("file/out"), &["file", "not a folder"]);
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

#[test]
fn options_out_of_range_are_refused() {
    let place = Workplace::new();
    place.small(4);
    let labels = ["--targets", "labels.npy", "--part", "diag", "--out", "out"];
    let blocks = |more: &[&'static str]| blocks_of("images.npy", &[&labels[..], more].concat());
    let entropy =
        |more: &[&'static str]| blocks(&[&["--loss", "cross-entropy"][..], more].concat());
    place.refused(2, &blocks(&["--loss", "crossentropy"]), &["cross-entropy"]);
    place.refused(2, &blocks(&[]), &["--loss"]);
    place.refused(1, &blocks(&["--loss", "mse"]), &["mse", "cross-entropy"]);
    place.refused(2, &entropy(&["--reduction", "none"]), &["none", "mean"]);
    place.refused(
        2,
        &entropy(&["--positive-weight", "labels.npy"]),
        &["positive weight"],
    );
    place.refused(
        1,
        &entropy(&["--class-weights", "labels.npy"]),
        &["4 class weights"],
    );
    place.refused(
        1,
        &entropy(&["--label-smoothing", "2"]),
        &["label smoothing"],
    );
    place.refused(1, &entropy(&["--std", "0"]), &["std"]);
    place.refused(
        2,
        &entropy(&["--mean", "1,2,3"]),
        &["3 numbers", "1 channel"],
    );
    place.refused(
        1,
        &entropy(&["--weights", "images.npy"]),
        &["images.npy", "safetensors"],
    );
    place.refused(
        2,
        &entropy(&["--constant", "nothing*"]),
        &["nothing*", "head.bias"],
    );
    place.refused(2, &entropy(&["--constant", "*"]), &["no parameters"]);
    place.refused(2, &entropy(&["--host-memory", "0"]), &["512MiB"]);
}

#[test]
fn force_replaces_no_array_of_the_user() {
    let place = Workplace::new();
    place.small(4);
    let more = [
        "--targets",
        "labels.npy",
        "--loss",
        "cross-entropy",
        "--part",
        "diag",
    ];
    let arguments = blocks_of(
        "images.npy",
        &[&more[..], &["--out", "labels.npy", "--force"]].concat(),
    );
    place.refused(1, &arguments, &["labels.npy", "not a result"]);
}
