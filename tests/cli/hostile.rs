//! Files that change, lie, block or lead elsewhere, and systems that give little: refused by name, in one message, and nothing
//! of anybody's is harmed.

use crate::onnx::{FLOAT, Model, numbers};
use crate::workplace::*;
use hessblock::internals::files::npy::write_header;
use std::process::Stdio;

const LOSS: [&str; 6] = [
    "--targets",
    "labels.npy",
    "--loss",
    "cross-entropy",
    "--device",
    "cpu",
];

/// A command on `model.onnx`, `images.npy` and `labels.npy`, which lie in the place.
fn on_copies<'a>(command: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    on_inputs(command, "images.npy", more)
}

fn on_inputs<'a>(command: &'a str, inputs: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let head = [command, "model.onnx", "--inputs", inputs];
    [&head[..], &LOSS, more].concat()
}

/// Inputs of the network, its hidden units, and all its parameters.
const INPUTS: usize = 8;
const HIDDEN: usize = 24;
const ALL: usize = HIDDEN * INPUTS + HIDDEN + 3 * HIDDEN + 3;

/// A small network with so many samples.
fn copies(samples: usize) -> Workplace {
    let place = Workplace::new();
    Model::new()
        .input("x", FLOAT, &[INPUTS])
        .weight("fc.weight", &[HIDDEN, INPUTS])
        .weight("fc.bias", &[HIDDEN])
        .weight("head.weight", &[3, HIDDEN])
        .weight("head.bias", &[3])
        .linear("fc", "x", "h")
        .node("Tanh", &["h"], "a", &[])
        .linear("head", "a", "y")
        .output("y")
        .write(place.path("model.onnx"));
    let values = numbers("x", samples * INPUTS).into_iter().map(f64::from);
    place.write_f32("images.npy", &[samples, INPUTS], values);
    let labels: Vec<i64> = (0..samples as i64).map(|k| k * 5 % 3).collect();
    place.write_i64("labels.npy", &[samples], &labels);
    place
}

/// Runs a command while a file of its is written to, in place and with bytes that are as good.
fn while_it_changes(place: &Workplace, arguments: &[&str], file: &str) -> std::process::Output {
    let bytes = std::fs::read(place.path(file)).expect("a file");
    let mut command = place.command(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut run = command.spawn().expect("the binary starts");
    while run.try_wait().expect("a child").is_none() {
        let file = std::fs::File::options().write(true).open(place.path(file));
        hessblock::internals::files::write_all_at(&file.expect("a file"), &bytes, 0)
            .expect("written");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    run.wait_with_output().expect("a child")
}

#[test]
fn a_run_whose_files_change_meanwhile_is_refused_with_the_file() {
    let place = copies(200);
    place.done(&on_copies("blocks", &["--part", "layers", "--out", "made"]));
    place.write_f32("v.npy", &[ALL], (0..ALL).map(|k| (k % 5) as f64 - 2.0));
    let before = place.names();
    let slow = ["--batch", "1"];
    let commands: [(&str, &[&str]); 10] = [
        ("blocks", &["--part", "full", "--out", "h"]),
        ("blocks", &["--part", "diag", "--out", "h.npy"]),
        ("blocks", &["--part", "layers", "--out", "h.safetensors"]),
        #[cfg(feature = "zarr")]
        ("blocks", &["--part", "layers", "--out", "h.zarr"]),
        ("product", &["--vector", "v.npy", "--out", "p.npy"]),
        ("gradient", &["--out", "g.npy"]),
        ("gradient", &[]),
        ("trace", &[]),
        ("form", &["--vector", "v.npy"]),
        ("error", &["--draws", "2", "--no-pairs", "--out", "study"]),
        #[cfg(not(feature = "zarr"))]
        ("trace", &["--probes", "2"]),
    ];
    for (k, (command, more)) in commands.into_iter().enumerate() {
        let file = ["images.npy", "labels.npy", "model.onnx"][k % 3];
        let file = if more.contains(&"--vector") {
            "v.npy"
        } else {
            file
        };
        let arguments = on_copies(command, &[&slow, more].concat());
        let output = while_it_changes(&place, &arguments, file);
        let text = errors(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {text}");
        assert!(
            text.contains(&format!("{file}: was changed while")),
            "{arguments:?}: {text}"
        );
        assert!(output.stdout.is_empty(), "{arguments:?} prints something");
        for name in place.names() {
            // Tiles that were made before are kept.
            assert!(
                before.contains(&name) || name.contains(".partial"),
                "{arguments:?} leaves {name}"
            );
        }
    }
    let verify = ["verify", "made", "--entries", "60"];
    let output = while_it_changes(&place, &verify, "images.npy");
    let text = errors(&output);
    assert!(
        output.status.code() == Some(1) && text.contains("images.npy: was changed while"),
        "{text}"
    );
    // Left alone, all is well.
    place.done(&on_copies("blocks", &["--part", "full", "--out", "h"]));
    place.done(&verify);
}

#[test]
fn a_run_that_goes_on_has_no_tile_of_data_that_changed_meanwhile() {
    let place = copies(400);
    let arguments = |out| {
        let more = [
            "--part",
            "full",
            "--tile",
            "32",
            "--precision",
            "f64",
            "--batch",
            "50",
            "--out",
            out,
        ];
        on_copies("blocks", &more)
    };
    place.done(&arguments("whole"));
    let images = std::fs::read(place.path("images.npy")).expect("images");
    let mut command = place.command(&arguments("h"));
    let mut run = command
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let tiles = || {
        let list = std::fs::read_to_string(place.path("h.partial/done")).unwrap_or_default();
        list.lines().filter(|line| !line.starts_with('{')).count()
    };
    while tiles() < 3 {
        assert!(
            run.try_wait().expect("a child").is_none(),
            "too quick to be changed"
        );
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let file = std::fs::File::options()
        .write(true)
        .open(place.path("images.npy"))
        .expect("images");
    let other: Vec<u8> = (0..images.len() - 128)
        .map(|k| [0, 0, 0x80, 0x3f][k % 4])
        .collect();
    hessblock::internals::files::write_all_at(&file, &other, 128).expect("written");
    let output = run.wait_with_output().expect("a child");
    let text = errors(&output);
    assert!(
        output.status.code() == Some(1) && text.contains("images.npy: was changed"),
        "{text}"
    );
    assert!(!place.path("h").exists());
    // With the data as they are now another run is meant, and with those of before the same one.
    let text = place.refused(2, &arguments("h"), &["images.npy holds something else"]);
    assert!(text.contains("--restart"), "{text}");
    hessblock::internals::files::write_all_at(&file, &images, 0).expect("written");
    let output = place.run(&arguments("h"));
    assert!(
        output.status.success() && errors(&output).contains("went on from"),
        "{}",
        errors(&output)
    );
    let read = |name: &str| std::fs::read(place.path(name)).expect("a result");
    assert!(
        read("h/0000.npy") == read("whole/0000.npy"),
        "a tile of other data is in it"
    );
}

#[cfg(unix)]
#[test]
fn nothing_is_written_through_a_link_or_over_a_file_of_the_users() {
    use std::os::unix::fs::symlink;
    let place = copies(4);
    place.done(&on_copies("blocks", &["--part", "full", "--out", "h"]));
    std::fs::write(place.path("precious"), "precious").expect("a file");
    std::fs::create_dir(place.path("elsewhere")).expect("a folder");
    let link = |name: &str| symlink(place.path("precious"), place.path(name)).expect("a link");
    let untouched = || {
        let precious = std::fs::read(place.path("precious")).expect("it is there");
        assert_eq!(precious, b"precious");
        let entries = std::fs::read_dir(place.path("elsewhere")).expect("it is there");
        assert_eq!(entries.count(), 0);
    };
    let is_link =
        |name: &str| std::fs::symlink_metadata(place.path(name)).is_ok_and(|m| m.is_symlink());
    // Files that are written at once are never under a name that somebody has.
    for (option, name) in [("--png", "a.png"), ("--svg", "a.svg"), ("--html", "a.html")] {
        link(&format!("{name}.partial"));
        place.done(&["show", "h", option, name]);
        assert!(!is_link(name) && is_link(&format!("{name}.partial")));
        untouched();
    }
    std::fs::create_dir(place.path("study")).expect("a folder");
    for name in ["error.json", "error.csv", "error.png"] {
        link(&format!("study/{name}.partial"));
    }
    let error = ["--draws", "2", "--no-pairs", "--out", "study", "--force"];
    place.done(&on_copies("error", &error));
    untouched();
    // One that is there is not followed: it is refused, and replaced by force.
    link("b.png");
    place.refused(
        1,
        &["show", "h", "--png", "b.png"],
        &["b.png", "exists already"],
    );
    symlink(place.path("nowhere"), place.path("c.png")).expect("a link");
    place.refused(
        1,
        &["show", "h", "--png", "c.png"],
        &["c.png", "exists already"],
    );
    place.done(&["show", "h", "--png", "b.png", "--force"]);
    assert!(!is_link("b.png") && !place.path("nowhere").exists());
    untouched();
    // Results under way have names that are known, so that they are looked at first.
    for name in [
        "d.npy.partial",
        "d.npy.partial.done",
        "d.npy.partial.plan.json",
    ] {
        for begun in [false, true] {
            if begun {
                std::fs::write(place.path("d.npy.partial.done"), "").expect("a file");
                std::fs::remove_file(place.path(name)).ok();
            }
            link(name);
            place.refused(
                1,
                &on_copies("blocks", &["--part", "diag", "--out", "d.npy"]),
                &[name],
            );
            place.refused(1, &on_copies("gradient", &["--out", "d.npy"]), &[name]);
            untouched();
            for name in ["d.npy.partial.done", name] {
                std::fs::remove_file(place.path(name)).ok();
            }
        }
    }
    link("e.safetensors.partial");
    place.refused(
        1,
        &on_copies("blocks", &["--part", "diag", "--out", "e.safetensors"]),
        &["e.safetensors.partial"],
    );
    symlink(place.path("elsewhere"), place.path("f.partial")).expect("a link");
    symlink(place.path("elsewhere"), place.path("f.zarr.partial")).expect("a link");
    for out in ["f", "f.zarr"] {
        if out == "f" || cfg!(feature = "zarr") {
            let partial = format!("{out}.partial");
            place.refused(
                1,
                &on_copies("blocks", &["--part", "diag", "--out", out]),
                &[&partial],
            );
        }
    }
    untouched();
    // Files of these names that are the user's stay as they are, whatever is asked.
    for name in [
        "g.npy.partial",
        "g.npy.partial.done",
        "g.npy.partial.plan.json",
        "g.safetensors.partial",
    ] {
        std::fs::write(place.path(name), "mine").expect("a file");
        let out = if name.contains("npy") {
            "g.npy"
        } else {
            "g.safetensors"
        };
        for force in [&[][..], &["--force"], &["--restart"]] {
            let more = [&["--part", "diag", "--out", out][..], force].concat();
            let output = place.run(&on_copies("blocks", &more));
            // A plan's name alone is refused where the plan is read.
            assert!(!output.status.success(), "{name}, {force:?}");
            assert_eq!(
                std::fs::read(place.path(name)).expect("it is there"),
                b"mine"
            );
        }
        std::fs::remove_file(place.path(name)).expect("it is there");
    }
}

#[cfg(unix)]
#[test]
fn what_is_no_regular_file_is_refused_at_once() {
    let place = copies(4);
    place.write_f32("v.npy", &[ALL], vec![1.0; ALL]);
    place.done(&on_copies("blocks", &["--part", "diag", "--out", "h"]));
    let pipe = |name: &str| {
        let made = std::process::Command::new("mkfifo")
            .arg(place.path(name))
            .status();
        assert!(made.expect("mkfifo is there").success());
    };
    pipe("pipe.npy");
    pipe("pipe.onnx");
    let _socket =
        std::os::unix::net::UnixListener::bind(place.path("socket.npy")).expect("a socket");
    let diag = ["--part", "diag", "--out", "out"];
    let replaced = |from: &str, to: &'static str| -> Vec<&'static str> {
        let arguments = on_copies("blocks", &diag);
        arguments
            .into_iter()
            .map(|word| if word == from { to } else { word })
            .collect()
    };
    let is_refused = |arguments: &[&str], culprit: &str, kind: &str| {
        let mut run = place
            .command(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let start = std::time::Instant::now();
        while run.try_wait().expect("a child").is_none() {
            if start.elapsed().as_secs() > 60 {
                run.kill().expect("killed");
                panic!("{arguments:?} waits");
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let output = run.wait_with_output().expect("a child");
        let text = errors(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {text}");
        assert!(
            text.contains(culprit) && text.contains(kind),
            "{arguments:?}: {text}"
        );
    };
    is_refused(&replaced("model.onnx", "pipe.onnx"), "pipe.onnx", "a pipe");
    is_refused(&["inspect", "pipe.onnx"], "pipe.onnx", "a pipe");
    is_refused(&replaced("images.npy", "pipe.npy"), "pipe.npy", "a pipe");
    is_refused(
        &replaced("images.npy", "socket.npy"),
        "socket.npy",
        "a socket",
    );
    is_refused(
        &replaced("images.npy", "/dev/zero"),
        "/dev/zero",
        "a device",
    );
    is_refused(&replaced("labels.npy", "pipe.npy"), "pipe.npy", "a pipe");
    for option in ["--weights", "--mean-image", "--class-weights"] {
        is_refused(
            &on_copies("blocks", &[&diag[..], &[option, "pipe.npy"]].concat()),
            "pipe.npy",
            "a pipe",
        );
    }
    is_refused(
        &on_copies("product", &["--vector", "pipe.npy", "--out", "p.npy"]),
        "pipe.npy",
        "a pipe",
    );
    is_refused(
        &on_copies("form", &["--vector", "pipe.npy"]),
        "pipe.npy",
        "a pipe",
    );
    is_refused(&["bench", "--compare", "pipe.npy"], "pipe.npy", "a pipe");
    for file in ["0000.npy", "index.json"] {
        std::fs::rename(place.path("h").join(file), place.path("kept")).expect("it is there");
        pipe(&format!("h/{file}"));
        is_refused(&["show", "h"], file, "a pipe");
        std::fs::remove_file(place.path("h").join(file)).expect("it is there");
        std::fs::rename(place.path("kept"), place.path("h").join(file)).expect("it is there");
    }
}

#[test]
fn names_in_files_command_no_terminal() {
    let place = Workplace::new();
    let evil = "fc\u{1b}]0;owned\u{7}\r\nhessblock: all is well\u{202e}\u{9b}31m";
    let (weight, bias) = (format!("{evil}.weight"), format!("{evil}.bias"));
    let model = |operation| {
        Model::new()
            .input("x", FLOAT, &[3])
            .weight(&weight, &[2, 3])
            .weight(&bias, &[2])
            .linear(evil, "x", "y")
            .node(operation, &["y"], "z", &[])
            .output("z")
    };
    model("Tanh").write(place.path("m.onnx"));
    model("Ev\u{1b}il\nLine").write(place.path("bad.onnx"));
    place.write_f32("x.npy", &[5, 3], (0..15).map(|k| f64::from(k) / 7.0 - 1.0));
    place.write_i64("t.npy", &[5], &[0, 1, 1, 0, 1]);
    std::fs::write(place.path("w.safetensors"), {
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1], &[0; 4]);
        let entries = [("w\u{1b}[2J\n", view.expect("a tensor"))];
        safetensors::serialize(entries, None).expect("weights")
    })
    .expect("a file");
    let on = |command: &'static str, more: &[&'static str]| {
        let files = [
            "m.onnx",
            "--inputs",
            "x.npy",
            "--targets",
            "t.npy",
            "--loss",
            "cross-entropy",
        ];
        [&[command][..], &files, &["--device", "cpu"], more].concat()
    };
    let safe = |what: &str, text: &[u8]| {
        let text = std::str::from_utf8(text).expect("text");
        let obeyed =
            |c: char| (c.is_control() && c != '\n') || ('\u{202a}'..='\u{202e}').contains(&c);
        assert!(!text.contains(obeyed), "{what}: {text:?}");
        assert!(
            !text.lines().any(|line| line.starts_with("hessblock: all")),
            "{what}: {text}"
        );
    };
    let name = "layer=fc\\u{1b}]0;owned\\u{7}\\u{d}\\u{a}hessblock: all is well\\u{202e}\\u{9b}31m";
    let commands: [Vec<&str>; 13] = [
        vec!["inspect", "m.onnx"],
        vec!["inspect", "m.onnx", "--json"],
        on("plan", &["--part", "layers"]),
        on("blocks", &["--part", "layers", "--out", "h"]),
        on(
            "blocks",
            &["--part", "layers", "--out", "h.safetensors", "--json"],
        ),
        // What is printed is what chooses a layer.
        on("blocks", &["--part", name, "--out", "one.npy"]),
        vec!["show", "h"],
        vec![
            "show", "h", "--json", "--svg", "h.svg", "--html", "h.html", "--png", "h.png",
        ],
        on("trace", &[]),
        on("form", &[]),
        on("error", &["--draws", "2", "--out", "study"]),
        vec!["verify", "h"],
        vec!["verify", "h.safetensors"],
    ];
    for arguments in commands {
        let output = place.run(&arguments);
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            errors(&output)
        );
        safe(&format!("{arguments:?}"), &output.stdout);
        safe(&format!("{arguments:?}"), &output.stderr);
    }
    for file in ["h.svg", "h.html", "study/error.svg"] {
        safe(file, &std::fs::read(place.path(file)).expect("a figure"));
    }
    let refused: [Vec<&str>; 4] = [
        vec!["inspect", "bad.onnx"],
        on("blocks", &["--part", "layer=nothing", "--out", "r"]),
        on(
            "blocks",
            &["--part", "diag", "--weights", "w.safetensors", "--out", "r"],
        ),
        on(
            "blocks",
            &["--part", "diag", "--inputs", "x\u{1b}\n.npy", "--out", "r"],
        ),
    ];
    for arguments in refused {
        let output = place.run(&arguments);
        assert!(!output.status.success(), "{arguments:?}");
        safe(&format!("{arguments:?}"), &output.stderr);
        assert!(errors(&output).contains("\\u{1b}"), "{}", errors(&output));
    }
}

#[test]
fn an_ending_is_no_name_for_a_result() {
    let place = copies(4);
    for out in [".npy", ".zarr", ".safetensors", "..npy", ".npy/", ".h"] {
        let arguments = on_copies("blocks", &["--part", "diag", "--out", out]);
        place.refused(1, &arguments, &["without a name"]);
    }
    place.done(&on_copies("blocks", &["--part", "diag", "--out", ".h/"]));
    place.done(&["verify", ".h/"]);
}

#[test]
fn an_array_that_is_longer_than_its_shape_says_is_refused() {
    let place = copies(8);
    let images = std::fs::read(place.path("images.npy")).expect("images");
    let longer = [&images[..], &[0; 5]].concat();
    std::fs::write(place.path("long.npy"), &longer).expect("a file");
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, bytes).expect("memory");
        encoder.finish().expect("memory")
    };
    std::fs::write(place.path("long.npy.gz"), gzip(&longer)).expect("a file");
    std::fs::write(place.path("right.npy.gz"), gzip(&images)).expect("a file");
    for (method, file) in [
        (zip::CompressionMethod::Stored, "stored.npz"),
        (zip::CompressionMethod::Deflated, "deflated.npz"),
    ] {
        let mut archive =
            zip::ZipWriter::new(std::fs::File::create(place.path(file)).expect("a file"));
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        for (name, bytes) in [("right.npy", &images), ("long.npy", &longer)] {
            archive.start_file(name, options).expect("an entry");
            std::io::Write::write_all(&mut archive, bytes).expect("written");
        }
        archive.finish().expect("written");
    }
    let rest = ["--part", "diag", "--force", "--out", "out.npy"];
    for file in [
        "long.npy",
        "long.npy.gz",
        "stored.npz:long",
        "deflated.npz:long",
    ] {
        let text = place.refused(
            1,
            &on_inputs("blocks", file, &rest),
            &["longer than its shape says"],
        );
        assert!(text.contains(file) && !text.contains("truncated"), "{text}");
    }
    for file in [
        "images.npy",
        "right.npy.gz",
        "stored.npz:right",
        "deflated.npz:right",
    ] {
        place.done(&on_inputs("blocks", file, &rest));
    }
    // Of a result too.
    let mut array = std::fs::read(place.path("out.npy")).expect("a result");
    array.push(0);
    std::fs::write(place.path("out.npy"), array).expect("written");
    place.refused(
        1,
        &["show", "out.npy"],
        &["out.npy", "longer than its shape says"],
    );
    // A header may say less than there is by any amount.
    let mut sparse = write_header("<f4", &[8, INPUTS]);
    sparse.resize(images.len(), 0);
    std::fs::write(place.path("sparse.npy"), sparse).expect("a file");
    let file = std::fs::File::options()
        .write(true)
        .open(place.path("sparse.npy"));
    file.expect("a file")
        .set_len(1 << 30)
        .expect("a sparse file");
    place.refused(
        1,
        &on_inputs("blocks", "sparse.npy", &rest),
        &["sparse.npy", "longer"],
    );
}

#[test]
fn more_threads_than_the_machine_has_a_use_for_are_not_started() {
    let place = copies(4);
    let arguments = on_copies("trace", &[]);
    let mut command = place.command(&arguments);
    let output = command
        .env("RAYON_NUM_THREADS", "100000")
        .output()
        .expect("the binary starts");
    let text = errors(&output);
    assert!(
        output.status.success() && text.contains("RAYON_NUM_THREADS=100000"),
        "{text}"
    );
    assert_eq!(text.lines().count(), 1, "{text}");
    // Few are what is asked for, and change nothing.
    let mut command = place.command(&arguments);
    let alone = command
        .env("RAYON_NUM_THREADS", "1")
        .output()
        .expect("the binary starts");
    assert!(
        alone.status.success() && alone.stderr.is_empty(),
        "{}",
        errors(&alone)
    );
    assert_eq!(alone.stdout, output.stdout);
}

#[cfg(target_os = "linux")]
#[test]
fn little_memory_ends_with_one_message_and_1() {
    let place = copies(64);
    let blocks = on_copies("blocks", &["--part", "full", "--force", "--out", "h"]);
    let mut done = false;
    for kib in [
        60_000, 200_000, 300_000, 420_000, 500_000, 700_000, 1_500_000,
    ] {
        let limited = format!("ulimit -v {kib} && exec \"$0\" \"$@\"");
        let mut command = std::process::Command::new("sh");
        let folder = place.path("");
        command
            .args(["-c", &limited, env!("CARGO_BIN_EXE_hessblock")])
            .args(&blocks);
        command
            .current_dir(folder)
            .env("RAYON_NUM_THREADS", "2")
            .env_remove("RUST_LOG");
        let output = command.output().expect("a shell");
        let text = errors(&output);
        if output.status.success() {
            done = true;
            assert!(text.is_empty(), "{kib}: {text}");
            continue;
        }
        assert_eq!(output.status.code(), Some(1), "{kib}: {text}");
        assert_eq!(text.lines().count(), 1, "{kib}: {text}");
        assert!(text.contains("memory"), "{kib}: {text}");
    }
    assert!(done, "no limit was large enough");
}

#[test]
fn a_folder_of_shards_holds_nothing_that_is_left_out_without_a_word() {
    let place = copies(4);
    let folder = place.path("shards");
    std::fs::create_dir(&folder).expect("a folder");
    place.write_f32("shards/1.npy", &[2, INPUTS], vec![0.5; 2 * INPUTS]);
    place.write_f32("shards/2.npy", &[2, INPUTS], vec![0.25; 2 * INPUTS]);
    // What tools put beside files is none of them.
    std::fs::write(folder.join("._1.npy"), "metadata").expect("a file");
    let gradient = |out: &'static str| on_inputs("gradient", "shards", &["--out", out]);
    let output = place.run(&gradient("g.npy"));
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    for (name, what) in [
        ("3.npy", "a folder"),
        ("3.NPY", "a folder of other capitals"),
    ] {
        std::fs::create_dir(folder.join(name)).expect(what);
        place.refused(1, &gradient("h.npy"), &[name, "no file"]);
        std::fs::remove_dir(folder.join(name)).expect(what);
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("nowhere.npy", folder.join("3.npy")).expect("a link");
        place.refused(1, &gradient("h.npy"), &["3.npy", "leads nowhere"]);
    }
    assert!(!place.path("h.npy").exists());
}

#[test]
fn an_archive_that_is_damaged_or_has_a_name_twice_is_refused() {
    use std::io::Write;
    let place = copies(4);
    let array = std::fs::read(place.path("images.npy")).expect("the images");
    let archive = |names: &[&str]| {
        let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let stored = zip::CompressionMethod::Stored;
        let options = zip::write::SimpleFileOptions::default().compression_method(stored);
        for name in names {
            writer.start_file(*name, options).expect("a member");
            writer.write_all(&array).expect("its bytes");
        }
        writer.finish().expect("an archive").into_inner()
    };
    let gradient =
        |inputs: &'static str, out: &'static str| on_inputs("gradient", inputs, &["--out", out]);
    let mut bytes = archive(&["x.npy"]);
    std::fs::write(place.path("x.npz"), &bytes).expect("an archive");
    let output = place.run(&gradient("x.npz", "g.npy"));
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    // A bit of the last number but one.
    let at = bytes
        .windows(4)
        .rposition(|w| w == &array[array.len() - 8..][..4]);
    bytes[at.expect("the number")] ^= 1;
    std::fs::write(place.path("x.npz"), &bytes).expect("an archive");
    place.refused(1, &gradient("x.npz", "h.npy"), &["x.npz", "checksum"]);
    let twice = archive(&["x.npy", "x"]);
    std::fs::write(place.path("x.npz"), twice).expect("an archive");
    place.refused(
        1,
        &gradient("x.npz:x", "h.npy"),
        &["x.npz", "two arrays", "x"],
    );
}

#[test]
fn what_a_stopped_run_left_is_known_by_its_plan_or_by_its_list() {
    let place = copies(6);
    let blocks = |more: &[&'static str]| {
        let all = ["--part", "full", "--out", "a.npy"];
        on_copies("blocks", &[&all[..], more].concat())
    };
    let whole = place.run(&blocks(&[]));
    assert_eq!(whole.status.code(), Some(0), "{}", errors(&whole));
    let expected = std::fs::read(place.path("a.npy")).expect("a result");
    // As a run leaves it that is killed before its first tile: an empty array, a list, a plan.
    let left = |plan: &str, list: Option<&str>| {
        for name in ["a.npy", "a.npy.json", "a.npy.partial.done"] {
            let _ = std::fs::remove_file(place.path(name));
        }
        std::fs::write(place.path("a.npy.partial"), vec![0u8; expected.len()]).expect("an array");
        std::fs::write(place.path("a.npy.partial.plan.json"), plan).expect("a plan");
        if let Some(list) = list {
            std::fs::write(place.path("a.npy.partial.done"), list).expect("a list");
        }
    };
    left("{\"a\":1}", Some(""));
    place.refused(1, &blocks(&[]), &["plan.json", "--restart"]);
    let output = place.run(&blocks(&["--restart"]));
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    assert_eq!(
        std::fs::read(place.path("a.npy")).expect("a result"),
        expected
    );
    // The user's link under the plan's name stays.
    #[cfg(unix)]
    {
        std::fs::remove_file(place.path("a.npy")).expect("a result");
        std::fs::remove_file(place.path("a.npy.json")).expect("its manifest");
        let link = place.path("a.npy.partial.plan.json");
        std::os::unix::fs::symlink("nowhere", &link).expect("a link");
        place.refused(
            1,
            &blocks(&[]),
            &["a.npy.partial.plan.json", "not a result"],
        );
        assert!(std::fs::symlink_metadata(&link).is_ok());
        std::fs::remove_file(&link).expect("the link");
    }
}

#[cfg(unix)]
#[test]
fn a_limit_on_the_size_of_files_is_an_error_and_no_signal() {
    let place = copies(6);
    let mut command = std::process::Command::new("sh");
    let arguments = on_copies("blocks", &["--part", "full", "--out", "a.npy"]).join(" ");
    let binary = env!("CARGO_BIN_EXE_hessblock");
    command
        .arg("-c")
        .arg(format!("ulimit -f 20; exec {binary} {arguments}"))
        .current_dir(place.path("."));
    let output = command.output().expect("a shell");
    assert_eq!(output.status.code(), Some(1), "{}", errors(&output));
    assert!(errors(&output).contains("a.npy"), "{}", errors(&output));
    assert!(!place.path("a.npy").exists());
}

#[cfg(unix)]
#[test]
fn a_study_writes_through_no_link() {
    let place = copies(6);
    std::fs::create_dir(place.path("real")).expect("a folder");
    std::os::unix::fs::symlink("real", place.path("link")).expect("a link");
    let more = ["--draws", "1", "--no-pairs", "--out", "link", "--force"];
    place.refused(1, &on_copies("error", &more), &["link", "is a link"]);
    assert!(
        std::fs::read_dir(place.path("real"))
            .expect("a folder")
            .next()
            .is_none()
    );
}
