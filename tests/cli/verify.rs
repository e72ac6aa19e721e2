//! `verify` on results that are right, wrong, damaged, or made from other files.

use crate::workplace::*;

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
fn verify_finds_a_part_that_holds_no_numbers() {
    let place = Workplace::new();
    place.done(&on_digits(
        "blocks",
        &["--part", "param=head.bias", "--out", "out.npy"],
    ));
    place.write_f32("out.npy", &[10, 10], vec![f64::NAN; 100]);
    let output = place.run(&["verify", "out.npy"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(errors(&output).contains("NaN"), "{}", errors(&output));
}

#[test]
fn verify_refuses_results_that_are_damaged() {
    let place = Workplace::new();
    place.done(&on_digits(
        "blocks",
        &["--part", "layer=head", "--out", "out"],
    ));
    place.refused(1, &["verify", "nowhere"], &["nowhere"]);
    place.refused(
        1,
        &["verify", "out", "--model", "nowhere.onnx"],
        &["nowhere.onnx"],
    );
    let change = |name: &str, to: &[u8], culprit: &str| {
        let kept = std::fs::read(place.path(name)).expect("a file of the result");
        std::fs::write(place.path(name), to).expect("the result is ours");
        place.refused(1, &["verify", "out"], &[culprit]);
        std::fs::write(place.path(name), kept).expect("the result is ours");
    };
    let array = std::fs::read(place.path("out/0000.npy")).expect("the array");
    change("out/0000.npy", &array[..array.len() - 1], "0000.npy");
    change("out/0000.npy", &array[..5], "0000.npy");
    change("out/index.json", b"{", "index.json");
    let index = std::fs::read_to_string(place.path("out/index.json")).expect("the index");
    change(
        "out/index.json",
        index.replace("0000.npy", "../0000.npy").as_bytes(),
        "../0000.npy",
    );
    change(
        "out/index.json",
        index.replace("0000.npy", "0009.npy").as_bytes(),
        "0009.npy",
    );
    place.done(&["verify", "out"]);
}

#[test]
fn verify_refuses_a_gradient() {
    let place = Workplace::new();
    place.done(&on_digits("gradient", &["--out", "g.npy"]));
    place.refused(1, &["verify", "g.npy"], &["gradient"]);
}

#[test]
fn verify_refuses_weights_that_the_result_was_not_made_with() {
    let place = Workplace::new();
    place.done(&on_digits("blocks", &["--part", "diag", "--out", "out"]));
    place.write_weights("other.safetensors", &PARAMETERS);
    let arguments = ["verify", "out", "--weights", "other.safetensors"];
    place.refused(1, &arguments, &["other.safetensors"]);
}
