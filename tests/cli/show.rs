//! `show` and `blocks --png` on results of the digits network.

use crate::workplace::*;

/// Width and height of a PNG, decoded whole.
fn decoded(file: &[u8]) -> (u32, u32) {
    let mut decoder = png::Decoder::new(std::io::Cursor::new(file));
    decoder.set_transformations(png::Transformations::EXPAND);
    let mut reader = decoder.read_info().expect("a PNG");
    let mut pixels = vec![0; reader.output_buffer_size().expect("a small image")];
    let info = reader.next_frame(&mut pixels).expect("an image");
    // A picture is not of one colour.
    assert!(pixels.iter().any(|p| *p != pixels[0]));
    (info.width, info.height)
}

#[test]
fn a_result_is_drawn_by_blocks_as_by_show() {
    let place = Workplace::new();
    let arguments =
        "--part full --part layers --part diag --curvature exact --json --out out --png first.png";
    place.done(&on_digits(
        "blocks",
        &arguments.split(' ').collect::<Vec<_>>(),
    ));
    place.done(&["show", "out", "--png", "second.png"]);
    let read = |name: &str| std::fs::read(place.path(name)).expect("a picture");
    assert_eq!(read("first.png"), read("second.png"));
    let (width, height) = decoded(&read("first.png"));
    assert!(width > 900 && height > 600, "{width} × {height}");
}

#[test]
fn the_same_command_again_leaves_a_picture_and_draws_a_missing_one() {
    let place = Workplace::new();
    let command = |part: &'static str, more: &[&'static str]| {
        let all = [&["--part", part, "--out", "out", "--png", "p.png"], more];
        on_digits("blocks", &all.concat())
    };
    let read = || std::fs::read(place.path("p.png")).expect("a picture");
    place.done(&command("diag", &[]));
    let first = read();
    std::fs::write(place.path("p.png"), "mine").expect("the folder takes a file");
    place.done(&command("diag", &[]));
    assert_eq!(read(), b"mine");
    std::fs::remove_file(place.path("p.png")).expect("it is there");
    place.done(&command("diag", &[]));
    assert_eq!(read(), first);
    place.refused(1, &command("layers", &[]), &["out", "--force"]);
    place.done(&command("layers", &["--force"]));
    assert_ne!(read(), first);
    // Of a result that is yet to be made it may be another's.
    std::fs::remove_dir_all(place.path("out")).expect("it is there");
    place.refused(1, &command("diag", &[]), &["p.png", "--force"]);
}

#[test]
fn show_prints_statistics_that_are_those_of_the_entries() {
    let place = Workplace::new();
    place.done(&on_digits(
        "blocks",
        &["--part", "full", "--part", "diag", "--out", "out"],
    ));
    let text = place.done(&["show", "out"]);
    for word in [
        "full",
        "dense1 × dense2",
        "1,374 × 1,374",
        "diag",
        "trace",
        "zeros",
    ] {
        assert!(text.contains(word), "no {word} in {text}");
    }
    let found = json(&place.done(&["show", "out", "--json"]));
    let part = &found["parts"][0];
    let values = entries(&place.path("out"));
    let norm = values.iter().map(|v| v * v).sum::<f64>().sqrt();
    let number = |name: &str| part[name].as_f64().expect("a number");
    assert!((number("norm") - norm).abs() < 1e-9 * norm);
    let trace: f64 = (0..1374).map(|k| values[k * 1375]).sum();
    assert!((number("trace") - trace).abs() < 1e-9 * trace);
    assert_eq!(
        part["largest"]["value"].as_f64().map(f64::abs),
        Some(largest(&values))
    );
    let zeros = values.iter().filter(|v| **v == 0.0).count();
    assert_eq!(part["zeros"], zeros);
    assert_eq!(part["blocks"].as_array().map(Vec::len), Some(9));
    // The diagonal's sum is the trace, layer by layer.
    for (full, diagonal) in [(0, 0), (4, 1), (8, 2)] {
        let full = part["blocks"][full]["trace"].as_f64().expect("a trace");
        let sum = found["parts"][1]["blocks"][diagonal]["trace"]
            .as_f64()
            .expect("a sum");
        assert!((full - sum).abs() < 1e-5 * full, "{full} {sum}");
    }
}

#[test]
fn show_zooms_and_writes_every_kind_of_file() {
    let place = Workplace::new();
    place.done(&on_digits(
        "blocks",
        &["--part", "full", "--part", "layers", "--out", "out"],
    ));
    let files = [
        "--png", "z.png", "--svg", "z.svg", "--html", "z.html", "--size", "300",
    ];
    let show =
        |more: &[&'static str]| place.done(&[&["show", "out", "--force"], more, &files].concat());
    let text = show(&["--layer", "dense2,head"]);
    assert!(text.contains("204 × 130"), "{text}");
    let read = |name: &str| std::fs::read_to_string(place.path(name)).expect("a file");
    assert!(read("z.svg").contains("full: dense2 × head"));
    assert!(read("z.html").contains("cross-entropy"));
    let (width, _) = decoded(&std::fs::read(place.path("z.png")).expect("a picture"));
    assert!(width < 500, "{width}");
    // The smallest part that has a layer is its own.
    assert!(show(&["--layer", "dense2"]).contains("layer=dense2: dense2"));
    assert!(show(&["--layer", "dense2", "--part", "full"]).contains("full: dense2"));
    assert!(show(&["--range", "0..3,1040..1045"]).contains("3 × 5"));
    let text = show(&["--part", "layer=head", "--part", "layer=dense2", "-q"]);
    assert!(
        text.contains("130 × 130") && !text.contains("1,374"),
        "{text}"
    );
    let one = on_digits(
        "blocks",
        &[
            "--part",
            "layer=head",
            "--out",
            "one.npy",
            "--png",
            "one.png",
        ],
    );
    place.done(&one);
    assert!(place.done(&["show", "one.npy"]).contains("130 × 130"));
}

#[test]
fn what_cannot_be_shown_is_refused_before_anything_is_written() {
    let place = Workplace::new();
    place.done(&on_digits("blocks", &["--part", "layers", "--out", "out"]));
    std::fs::write(place.path("taken.png"), "mine").expect("the folder takes a file");
    place.refused(1, &["show", "nowhere"], &["nowhere"]);
    place.refused(
        2,
        &["show", "out", "--part", "full"],
        &["full", "layer=dense1"],
    );
    place.refused(
        2,
        &["show", "out", "--layer", "dense"],
        &["dense", "did you mean dense"],
    );
    place.refused(
        2,
        &["show", "out", "--layer", "dense1,head"],
        &["dense1 × head", "layer=head"],
    );
    place.refused(
        2,
        &["show", "out", "--range", "0..5,7"],
        &["0..5,7", "R0..R1"],
    );
    place.refused(
        2,
        &["show", "out", "--range", "0..9999,0..9999"],
        &["9999", "0..1040"],
    );
    place.refused(2, &["show", "out", "--png", "x.jpg"], &["x.jpg", ".png"]);
    place.refused(
        1,
        &["show", "out", "--png", "taken.png/x.png"],
        &["taken.png", "not a folder"],
    );
    place.refused(
        1,
        &["show", "out", "--png", "taken.png"],
        &["taken.png", "--force"],
    );
    place.refused(2, &["show", "out", "--size", "5"], &["5"]);
    place.refused(
        2,
        &["show", "out", "--range", "0..1,0..1", "--layer", "head"],
        &["--range"],
    );
    let blocks =
        |png: &'static str| on_digits("blocks", &["--part", "diag", "--out", "new", "--png", png]);
    place.refused(2, &blocks("x.jpg"), &["x.jpg", ".png"]);
    place.refused(
        1,
        &blocks("taken.png/x.png"),
        &["taken.png", "not a folder"],
    );
    place.refused(1, &blocks("taken.png"), &["taken.png", "--force"]);
    let damaged = std::fs::read(place.path("out/0000.npy")).expect("a part");
    std::fs::write(place.path("out/0000.npy"), &damaged[..1000]).expect("the result is ours");
    place.refused(1, &["show", "out"], &["0000.npy", "truncated"]);
}

#[test]
fn a_result_without_names_of_parameters_is_shown_without_layers() {
    let place = Workplace::new();
    place.done(&on_digits("blocks", &["--part", "layers", "--out", "out"]));
    let path = place.path("out/index.json");
    let mut index = read_json(&path);
    index
        .as_object_mut()
        .expect("an object")
        .remove("parameters");
    std::fs::write(&path, index.to_string()).expect("the result is ours");
    let output = place.run(&["show", "out", "--png", "old.png"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(errors(&output).contains("does not name its parameters"));
    place.refused(2, &["show", "out", "--layer", "head"], &["head", "--range"]);
}
