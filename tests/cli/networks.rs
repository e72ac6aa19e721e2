//! Networks beyond one input, one output and one class axis, from the command line.

use crate::onnx::{FLOAT, INT64, Model, numbers};
use crate::workplace::*;

const SAMPLES: usize = 6;

fn doubles(name: &str, count: usize) -> Vec<f64> {
    numbers(name, count).into_iter().map(f64::from).collect()
}

/// The block that a run made, in double precision.
fn block(place: &Workplace, arguments: &[&str], part: &str) -> Vec<f64> {
    let more = [
        "--device",
        "cpu",
        "--precision",
        "f64",
        "--part",
        part,
        "--out",
        "block.npy",
        "--force",
    ];
    place.done(&[arguments, &more].concat());
    entries(&place.path("block.npy"))
}

#[track_caller]
fn same(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    let most = largest(expected);
    assert!(most > 0.0, "a block of zeros shows nothing");
    for (k, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= 1e-13 * most, "entry {k}: {a} and {b}");
    }
}

/// tanh(W x + V tokens + b) into three classes; the same with x and tokens in one input; and the files.
fn two_inputs(place: &Workplace) {
    let head = |model: Model| {
        model
            .weight("fc.bias", &[4])
            .weight("head.weight", &[3, 4])
            .weight("head.bias", &[3])
    };
    let tail = |model: Model| {
        model
            .node("Tanh", &["h"], "a", &[])
            .linear("head", "a", "y")
            .output("y")
    };
    let model = head(
        Model::new()
            .input("x", FLOAT, &[3])
            .input("tokens", INT64, &[2]),
    )
    .weight("fc.weight", &[4, 3])
    .weight("token.weight", &[4, 2])
    .node("Cast", &["tokens"], "t", &[("to", &[1])])
    .node("Gemm", &["t", "token.weight"], "u", &[("transB", &[1])])
    .linear("fc", "x", "v")
    .node("Add", &["u", "v"], "h", &[]);
    tail(model).write(place.path("two.onnx"));
    let (w, v) = (numbers("fc.weight", 12), numbers("token.weight", 8));
    let joined: Vec<f32> = (0..4)
        .flat_map(|o| [&w[o * 3..][..3], &v[o * 2..][..2]].concat())
        .collect();
    let model = head(Model::new().input("xt", FLOAT, &[5])).values("fc.weight", &[4, 5], &joined);
    tail(model.linear("fc", "xt", "h")).write(place.path("one.onnx"));

    let x = doubles("x", SAMPLES * 3);
    let tokens: Vec<i64> = (0..SAMPLES as i64 * 2).map(|k| k * 5 % 7 - 2).collect();
    let joined = (0..SAMPLES).flat_map(|n| {
        let tokens = tokens[n * 2..][..2].iter().map(|&t| t as f64);
        x[n * 3..][..3]
            .iter()
            .copied()
            .chain(tokens)
            .collect::<Vec<_>>()
    });
    place.write_f32("xt.npy", &[SAMPLES, 5], joined.collect::<Vec<_>>());
    place.write_f32("x.npy", &[SAMPLES, 3], x.clone());
    place.write_f32("twice.npy", &[SAMPLES, 3], x.iter().map(|x| 2.0 * x));
    place.write_i64("tokens.npy", &[SAMPLES, 2], &tokens);
    place.write_i64("labels.npy", &[SAMPLES], &[0, 2, 1, 1, 0, 2]);
}

const LABELS: [&str; 4] = ["--targets", "labels.npy", "--loss", "cross-entropy"];

#[test]
fn two_inputs_give_what_they_give_joined() {
    let place = Workplace::new();
    two_inputs(&place);
    let inputs = ["--inputs", "tokens=tokens.npy", "--inputs", "x=x.npy"];
    let two = [&["blocks", "two.onnx"], &inputs[..], &LABELS].concat();
    let one = [&["blocks", "one.onnx", "--inputs", "xt.npy"], &LABELS[..]].concat();
    for part in ["layer=head", "param=fc.bias", "param=fc.bias,head.weight"] {
        let expected = block(&place, &one, part);
        same(&block(&place, &two, part), &expected);
        place.done(&["verify", "block.npy"]);
    }
    let text = place.done(
        &["plan", "two.onnx", "--part", "full"]
            .iter()
            .chain(&inputs)
            .chain(&LABELS)
            .copied()
            .collect::<Vec<_>>(),
    );
    assert!(text.contains("token.weight"), "{text}");
    let gradient = |arguments: &[&str]| {
        let gradient = json(
            &place.done(
                &[
                    arguments,
                    &["--precision", "f64", "--device", "cpu", "--json"],
                ]
                .concat(),
            ),
        );
        (gradient["loss"].clone(), gradient["accuracy"].clone())
    };
    let (mut a, mut b) = (two.clone(), one.clone());
    (a[0], b[0]) = ("gradient", "gradient");
    assert_eq!(gradient(&a), gradient(&b));
    // Preprocessing is for the real numbers alone.
    let halved = [
        "--inputs",
        "x=twice.npy",
        "--inputs",
        "tokens=tokens.npy",
        "--scale",
        "0.5",
    ];
    let halved = [&["blocks", "two.onnx"], &halved[..], &LABELS].concat();
    same(
        &block(&place, &halved, "full"),
        &block(&place, &two, "full"),
    );
}

#[test]
fn inputs_that_are_not_the_networks_are_refused_with_its_names() {
    let place = Workplace::new();
    two_inputs(&place);
    let run = |inputs: &[&'static str]| {
        let more = ["--part", "diag", "--out", "out", "--device", "cpu"];
        [&["blocks", "two.onnx"], inputs, &LABELS, &more].concat()
    };
    let listed = ["\"x\" [3]", "\"tokens\" [2] (integers)"];
    let refused = |inputs: &[&'static str], why: &[&'static str]| {
        place.refused(2, &run(inputs), &[&listed[..], why].concat());
    };
    refused(&["--inputs", "x=x.npy"], &["no array for tokens"]);
    refused(&["--inputs", "x.npy"], &["without a name", "x.npy"]);
    let both = ["--inputs", "x=x.npy", "--inputs", "tokens=tokens.npy"];
    refused(
        &[&both[..], &["--inputs", "mask=x.npy"]].concat(),
        &["no input \"mask\""],
    );
    place.refused(2, &run(&["--inputs", "=x.npy"]), &["NAME=FILE"]);
    place.refused(1, &run(&["--inputs", "x=none.npy"]), &["none.npy"]);
    place.write_i64("few.npy", &[4, 2], &[1; 8]);
    let few = ["--inputs", "x=x.npy", "--inputs", "tokens=few.npy"];
    place.refused(1, &run(&few), &["x.npy", "6", "few.npy", "4"]);
    place.write_f32("fractions.npy", &[SAMPLES, 2], vec![0.5; 12]);
    let fractions = ["--inputs", "x=x.npy", "--inputs", "tokens=fractions.npy"];
    place.refused(1, &run(&fractions), &["fractions.npy", "sample 0", "0.5"]);
    place.write_i64("large.npy", &[SAMPLES, 2], &[1 << 25; 12]);
    let large = ["--inputs", "x=x.npy", "--inputs", "tokens=large.npy"];
    place.refused(1, &run(&large), &["large.npy", "33554432", "16777216"]);
}

#[test]
fn verify_takes_moved_inputs_by_name() {
    let place = Workplace::new();
    two_inputs(&place);
    let inputs = ["--inputs", "x=x.npy", "--inputs", "tokens=tokens.npy"];
    let run = [&["blocks", "two.onnx"], &inputs[..], &LABELS].concat();
    block(&place, &run, "full");
    let provenance = &read_json(&place.path("block.npy.json"))["provenance"];
    assert_eq!(provenance["data"].as_array().map(Vec::len), Some(3));
    std::fs::rename(place.path("tokens.npy"), place.path("moved.npy")).expect("a file");
    place.refused(1, &["verify", "block.npy"], &["tokens.npy"]);
    place.done(&["verify", "block.npy", "--inputs", "tokens=moved.npy"]);
    let refused = |code, input, why: &[&str]| {
        place.refused(code, &["verify", "block.npy", "--inputs", input], why);
    };
    refused(2, "ids=moved.npy", &["moved.npy", "x, tokens"]);
    refused(2, "moved.npy", &["x, tokens", "NAME=FILE"]);
    place.write_i64("other.npy", &[SAMPLES, 2], &[1; 12]);
    refused(1, "tokens=other.npy", &["other.npy", "SHA-256"]);
}

#[test]
fn a_path_may_hold_an_equals_sign() {
    let place = Workplace::new();
    two_inputs(&place);
    std::fs::rename(place.path("xt.npy"), place.path("run=3.npy")).expect("a file");
    for inputs in ["run=3.npy", "xt=run=3.npy"] {
        let run = [&["blocks", "one.onnx", "--inputs", inputs], &LABELS[..]].concat();
        block(&place, &run, "diag");
        place.done(&["verify", "block.npy"]);
        place.done(&["verify", "block.npy", "--inputs", "run=3.npy"]);
    }
}

#[test]
fn one_of_several_outputs_is_chosen_by_name() {
    let place = Workplace::new();
    two_inputs(&place);
    Model::new()
        .input("xt", FLOAT, &[5])
        .weight("fc.weight", &[4, 5])
        .weight("fc.bias", &[4])
        .weight("head.weight", &[3, 4])
        .weight("head.bias", &[3])
        .linear("fc", "xt", "features")
        .linear("head", "features", "logits")
        .output("features")
        .output("logits")
        .write(place.path("outputs.onnx"));
    let run = [
        &["blocks", "outputs.onnx", "--inputs", "xt.npy"],
        &LABELS[..],
    ]
    .concat();
    let more = ["--part", "layers", "--out", "out"];
    place.refused(
        1,
        &[&run[..], &more].concat(),
        &["features, logits", "--output"],
    );
    place.refused(1, &["inspect", "outputs.onnx"], &["--output"]);
    let unknown = [&run[..], &more, &["--output", "nothing"]].concat();
    place.refused(1, &unknown, &["\"nothing\"", "features, logits"]);
    let logits = [&run[..], &["--output", "logits"]].concat();
    assert_eq!(block(&place, &logits, "layer=head").len(), 15 * 15);
    place.done(&["verify", "block.npy"]);
    let features = [&run[..], &["--output", "features"]].concat();
    assert_eq!(block(&place, &features, "full").len(), 24 * 24);
    place.done(&["verify", "block.npy"]);
    let text = place.done(&["inspect", "two.onnx"]);
    assert!(text.contains("tokens  1×2 per sample, integers"), "{text}");
    let text = place.done(&["inspect", "outputs.onnx", "--output", "features"]);
    assert!(!text.contains("head"), "{text}");
}

/// Four positions of five numbers into three classes at each, with the output laid out in several ways.
fn positions(place: &Workplace) {
    let model = |output: &str| {
        Model::new()
            .input("x", FLOAT, &[4, 5])
            .weight("fc.weight", &[5, 6])
            .weight("head.weight", &[6, 3])
            .node("MatMul", &["x", "fc.weight"], "h", &[])
            .node("Tanh", &["h"], "a", &[])
            .node("MatMul", &["a", "head.weight"], "last", &[])
            .node("Transpose", &["last"], "first", &[("perm", &[0, 2, 1])])
            .node("Transpose", &["last"], "sequence", &[("perm", &[1, 0, 2])])
            .integers("flat", &[-1, 3])
            .node("Reshape", &["last", "flat"], "merged", &[])
            .node("Reshape", &["sequence", "flat"], "scattered", &[])
            .output(output)
    };
    for output in ["last", "first", "sequence", "merged", "scattered"] {
        model(output).write(place.path(&format!("{output}.onnx")));
    }
    place.write_f32("x.npy", &[SAMPLES, 4, 5], doubles("x", SAMPLES * 20));
    let labels: Vec<i64> = (0..SAMPLES as i64 * 4).map(|k| k * 5 % 3).collect();
    place.write_i64("labels.npy", &[SAMPLES, 4], &labels);
    place.write_i64("flat.npy", &[SAMPLES * 4], &labels);
    place.write_i64("short.npy", &[SAMPLES * 4 - 1], &labels[1..]);
    let soft = doubles("soft", SAMPLES * 12);
    let soft: Vec<f64> = soft.into_iter().map(|v| v + 0.9).collect();
    let turned = (0..SAMPLES * 12).map(|k| soft[k / 12 * 12 + k % 4 * 3 + k / 4 % 3]);
    place.write_f32("turned.npy", &[SAMPLES, 3, 4], turned);
    place.write_f32("soft-flat.npy", &[SAMPLES * 4, 3], soft.clone());
    place.write_f32("soft.npy", &[SAMPLES, 4, 3], soft);
}

fn on(model: &'static str, targets: &'static str, more: &[&'static str]) -> Vec<&'static str> {
    let files = ["blocks", model, "--inputs", "x.npy", "--targets", targets];
    [&files[..], &["--loss", "cross-entropy"], more].concat()
}

#[test]
fn the_axis_of_the_classes_may_be_any() {
    let place = Workplace::new();
    positions(&place);
    let last = ["--class-axis", "-1"];
    for smoothing in [&[][..], &["--label-smoothing", "0.2"]] {
        let with = |more: &[&'static str]| [smoothing, more].concat();
        let expected = block(&place, &on("first.onnx", "labels.npy", smoothing), "full");
        let ways = [
            on("last.onnx", "labels.npy", &with(&last)),
            on("last.onnx", "labels.npy", &with(&["--class-axis", "2"])),
            on("sequence.onnx", "labels.npy", &with(&last)),
            on("merged.onnx", "labels.npy", smoothing),
            on("merged.onnx", "flat.npy", smoothing),
            on("merged.onnx", "flat.npy", &with(&["--class-axis", "1"])),
        ];
        for way in ways {
            same(&block(&place, &way, "full"), &expected);
            place.done(&["verify", "block.npy"]);
        }
    }
    let expected = block(&place, &on("first.onnx", "turned.npy", &[]), "full");
    let ways = [
        on("last.onnx", "soft.npy", &last),
        on("merged.onnx", "soft.npy", &[]),
        on("merged.onnx", "soft-flat.npy", &[]),
    ];
    for way in ways {
        same(&block(&place, &way, "full"), &expected);
    }
    // A range of samples of a flat file is that of their rows.
    let some = ["--samples", "2..5"];
    let expected = block(&place, &on("merged.onnx", "labels.npy", &some), "full");
    same(
        &block(&place, &on("merged.onnx", "flat.npy", &some), "full"),
        &expected,
    );
    place.done(&["verify", "block.npy"]);
}

#[test]
fn targets_that_fit_another_axis_are_answered_with_it() {
    let place = Workplace::new();
    positions(&place);
    let refused = |code, arguments: Vec<&str>, parts: &[&str]| {
        let more = ["--part", "diag", "--out", "out", "--device", "cpu"];
        place.refused(code, &[&arguments[..], &more].concat(), parts);
    };
    let hint = ["--class-axis -1", "[N, 4, 3]"];
    refused(1, on("last.onnx", "labels.npy", &[]), &hint);
    let turned = ["--class-axis 1 ", "[N, 3, 4]"];
    refused(
        1,
        on("first.onnx", "labels.npy", &["--class-axis", "-1"]),
        &turned,
    );
    refused(
        1,
        on("merged.onnx", "short.npy", &[]),
        &["23", "[6, 4, …]", "24 rows"],
    );
    refused(
        2,
        on("sequence.onnx", "labels.npy", &[]),
        &["[4, N, 3]", "holds the samples"],
    );
    refused(
        2,
        on("last.onnx", "labels.npy", &["--class-axis", "3"]),
        &["axis 3", "1..2"],
    );
    refused(
        2,
        on("scattered.onnx", "labels.npy", &[]),
        &["transpose", "4·N"],
    );
}

#[test]
fn a_positive_weight_per_class_follows_the_axis_of_the_classes() {
    let place = Workplace::new();
    positions(&place);
    place.write_f32("weights.npy", &[3], [0.5, 2.0, 3.0]);
    let bce = |model, targets, more: &[&'static str]| {
        let files = ["blocks", model, "--inputs", "x.npy", "--targets", targets];
        let loss = ["--loss", "bce", "--positive-weight", "weights.npy"];
        [&files[..], &loss, more].concat()
    };
    let expected = block(&place, &bce("first.onnx", "turned.npy", &[]), "full");
    let last = bce("last.onnx", "soft.npy", &["--class-axis", "-1"]);
    same(&block(&place, &last, "full"), &expected);
    let more = ["--part", "diag", "--out", "out", "--device", "cpu"];
    let arguments = [&bce("last.onnx", "soft.npy", &[])[..], &more].concat();
    place.refused(1, &arguments, &["3 positive weights", "--class-axis"]);
    let plain = [
        "blocks",
        "last.onnx",
        "--inputs",
        "x.npy",
        "--targets",
        "soft.npy",
    ];
    for loss in ["bce", "mse"] {
        let arguments = [&plain[..], &["--loss", loss, "--class-axis", "-1"], &more].concat();
        place.refused(2, &arguments, &["no class axis"]);
    }
}

#[test]
fn shared_weights_sum_the_blocks_of_their_uses() {
    let place = Workplace::new();
    Model::new()
        .input("x", FLOAT, &[4])
        .weight("tied.weight", &[4, 4])
        .weight("tied.bias", &[4])
        .weight("head.weight", &[3, 4])
        .weight("head.bias", &[3])
        .linear("tied", "x", "h1")
        .node("Tanh", &["h1"], "a1", &[])
        .linear("tied", "a1", "h2")
        .node("Sigmoid", &["h2"], "a2", &[])
        .linear("head", "a2", "y")
        .output("y")
        .write(place.path("tied.onnx"));
    place.write_f32("x.npy", &[SAMPLES, 4], doubles("x", SAMPLES * 4));
    place.write_i64("labels.npy", &[SAMPLES], &[0, 2, 1, 1, 0, 2]);
    let run = [&["blocks", "tied.onnx", "--inputs", "x.npy"], &LABELS[..]].concat();
    let untied = ["--untie", "tied.weight", "--untie", "tied.bias"];
    let untied = [&run[..], &untied].concat();
    let uses = ["tied.weight@node_h1", "tied.weight@node_h2"];
    // Between the tied layer and another, and within it.
    let tied = block(&place, &run, "param=tied.weight,head.weight");
    place.done(&["verify", "block.npy"]);
    let mut sum = vec![0.0; tied.len()];
    let mut add = |part: String| {
        for (sum, value) in sum.iter_mut().zip(block(&place, &untied, &part)) {
            *sum += value;
        }
        place.done(&["verify", "block.npy"]);
    };
    uses.iter()
        .for_each(|first| add(format!("param={first},head.weight")));
    same(&sum, &tied);
    let tied = block(&place, &run, "param=tied.weight");
    let mut sum = vec![0.0; tied.len()];
    for first in uses {
        for second in uses {
            let part = format!("param={first},{second}");
            for (sum, value) in sum.iter_mut().zip(block(&place, &untied, &part)) {
                *sum += value;
            }
        }
    }
    same(&sum, &tied);
    let layers = block(&place, &run, "layer=tied,head");
    assert_eq!(layers.len(), 20 * 15);
    let more = ["--untie", "nothing", "--part", "diag", "--out", "out"];
    place.refused(
        1,
        &[&run[..], &more].concat(),
        &["--untie nothing", "tied.onnx"],
    );
}

#[test]
fn a_request_of_many_terabytes_is_refused_with_what_would_fit() {
    let place = Workplace::new();
    Model::new()
        .input("x", FLOAT, &[2000])
        .weight("big.weight", &[1500, 2000])
        .weight("big.bias", &[1500])
        .weight("head.weight", &[3, 1500])
        .weight("head.bias", &[3])
        .linear("big", "x", "h")
        .node("Tanh", &["h"], "a", &[])
        .linear("head", "a", "y")
        .output("y")
        .write(place.path("big.onnx"));
    place.write_f32("x.npy", &[2, 2000], doubles("x", 4000));
    place.write_i64("labels.npy", &[2], &[0, 2]);
    let run = |command: &'static str, part: &'static str| {
        let files = [command, "big.onnx", "--inputs", "x.npy", "--device", "cpu"];
        [&files[..], &LABELS, &["--part", part, "--out", "out"]].concat()
    };
    for command in ["blocks", "plan"] {
        let full = ["3006003 × 3006003 entries of 4 bytes, 32.9 TiB", "has only"];
        let fits = ["each of these would fit: diag (11.5 MiB), layer=head (77.4 MiB)"];
        let not = [
            "too large alone: layer=big (32.8 TiB)",
            "of full fit at a time",
        ];
        place.refused(1, &run(command, "full"), &[&full[..], &fits, &not].concat());
        let layer = [
            "3001500 × 3001500",
            "diag",
            "param=big.bias (8.6 MiB)",
            "rows of layer=big fit",
        ];
        place.refused(1, &run(command, "layer=big"), &layer);
        let layers = ["the 2 parts take 32.8 TiB", "layer=head", "--skip-larger"];
        place.refused(1, &run(command, "layers"), &layers);
    }
    // Without a place to write to, nothing is asked of the disk.
    let plan = run("plan", "full");
    let plan = &plan[..plan.len() - 2];
    place.refused(2, plan, &["32.9 TiB", "can be planned", "layer=head"]);
    let some = run("plan", "layer=head");
    place.done(&some);
}

/// The path of a golden model.
fn golden(name: &str) -> String {
    format!(
        "{}/tests/golden/models/{name}.onnx",
        env!("CARGO_MANIFEST_DIR")
    )
}

#[test]
fn every_command_warns_of_a_file_once() {
    let place = Workplace::new();
    let model = golden("folded_group_norm.old");
    place.write_f32("x.npy", &[SAMPLES, 2, 4, 4], doubles("x", SAMPLES * 32));
    place.write_i64("labels.npy", &[SAMPLES], &[0, 1, 1, 0, 1, 0]);
    place.write_f32("v.npy", &[118], doubles("v", 118));
    place.write_f32("short.npy", &[110], doubles("v", 110));
    let data = [
        &[&model, "--inputs", "x.npy", "--device", "cpu"],
        &LABELS[..],
    ]
    .concat();
    let warning = "hessblock: warning: constants";
    for command in [
        &["gradient"][..],
        &[
            "product",
            "--vector",
            "short.npy",
            "--out",
            "p.npy",
            "--force",
        ],
        &["trace"],
        &["form"],
        &["plan", "--part", "diag"],
        &["blocks", "--part", "diag", "--out", "d.npy", "--force"],
        &["error", "--draws", "1", "--no-pairs"],
    ] {
        let own = [&command[..1], &data, &command[1..]].concat();
        let text = place.run(&[&own[..], &["--json"]].concat());
        let summary = json(&String::from_utf8_lossy(&text.stdout));
        let said = summary["warnings"].as_array().map_or(0, |list| list.len());
        assert_eq!(said, 1, "{command:?}: {summary}");
        assert!(
            summary["warnings"][0]
                .as_str()
                .unwrap()
                .contains("onnx::Mul_24")
        );
        let lines = errors(&text);
        let count = lines.matches(warning).count();
        assert_eq!(count, 1, "{command:?}: {lines}");
        assert!(lines.contains("--trainable 'onnx::Mul_24'"), "{lines}");
        let quiet = place.run(&[&own[..], &["--quiet"]].concat());
        assert_eq!(errors(&quiet), "", "{command:?}");
    }
    let text = place.run(&["verify", "d.npy"]);
    assert_eq!(
        errors(&text).matches(warning).count(),
        1,
        "{}",
        errors(&text)
    );
    // With the flags that it names, nothing is left to say.
    let flags = ["--trainable", "onnx::Mul_24", "--trainable", "onnx::Add_25"];
    let more = ["--vector", "v.npy", "--out", "p.npy", "--force"];
    let text = place.run(&[&["product"], &data[..], &flags, &more].concat());
    assert_eq!(text.status.code(), Some(0), "{}", errors(&text));
    assert!(!errors(&text).contains("warning"), "{}", errors(&text));
}

#[test]
fn a_tie_is_kept_with_the_result() {
    let place = Workplace::new();
    let model = golden("folded_tie.old");
    let count = |flags: &[&str]| {
        let text = place.done(&[&["inspect", &model, "--json"], flags].concat());
        json(&text)["parameter_count"].as_u64()
    };
    assert_eq!(count(&[]), Some(142));
    assert_eq!(count(&["--tie", "auto"]), Some(114));
    let tokens: Vec<i64> = (0..SAMPLES as i64 * 5).map(|k| k * k % 7).collect();
    place.write_i64("x.npy", &[SAMPLES, 5], &tokens);
    let data = [&model, "--inputs", "x.npy", "--targets", "x.npy"];
    let loss = [
        "--loss",
        "cross-entropy",
        "--class-axis",
        "-1",
        "--device",
        "cpu",
    ];
    let more = ["--tie", "auto", "--part", "diag", "--out", "d.npy"];
    place.done(&[&["blocks"], &data[..], &loss, &more].concat());
    place.done(&["verify", "d.npy"]);
    let wrong = [
        "--tie",
        "up.bias=down.bias",
        "--part",
        "diag",
        "--out",
        "e.npy",
    ];
    place.refused(
        2,
        &[&["blocks"], &data[..], &loss, &wrong].concat(),
        &["--tie up.bias=down.bias", "values"],
    );
}
