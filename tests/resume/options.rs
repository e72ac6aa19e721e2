//! A run goes on with the same inputs and options only.

use crate::place::{Place, kill_at, refused, run, success, text};
use std::process::Command;
use std::time::Duration;

#[test]
fn a_run_goes_on_with_the_same_inputs_and_options_only() {
    let place = Place::new();
    let example = format!("{}/examples/digits", env!("CARGO_MANIFEST_DIR"));
    for name in ["model.onnx", "images.npy", "labels.npy"] {
        std::fs::copy(format!("{example}/{name}"), place.path(name)).expect("copied");
    }
    let base = [
        "blocks",
        "model.onnx",
        "--inputs",
        "images.npy",
        "--targets",
        "labels.npy",
        "--loss",
        "cross-entropy",
        "--device",
        "cpu",
        "--out",
        "h",
    ];
    let ours = ["--part", "full", "--tile", "32", "--samples", "0..1000"];
    let with = |more: &[&str]| place.command(&[&base[..], more].concat());
    let stop = || {
        let child = with(&ours).spawn().expect("the binary starts");
        let ended = kill_at(&place, child, "h.partial/done", 1);
        assert!(ended.is_none(), "too quick to be stopped");
    };
    stop();
    let done = place.done("h.partial/done");
    let others: [(&[&str], &[&str]); 7] = [
        (
            &["--part", "full", "--tile", "48", "--samples", "0..1000"],
            &["--tile was 32 and is 48"],
        ),
        (
            &["--part", "full", "--tile", "32", "--samples", "0..999"],
            &["--samples was 0..1000 and is 0..999"],
        ),
        (
            &["--part", "layers", "--tile", "32", "--samples", "0..1000"],
            &["--part was full and is layer="],
        ),
        (
            &[
                "--part",
                "full",
                "--tile",
                "32",
                "--samples",
                "0..1000",
                "--precision",
                "f64",
            ],
            &["--precision was f32 and is f64"],
        ),
        (
            &[
                "--part",
                "full",
                "--tile",
                "32",
                "--samples",
                "0..1000",
                "--batch",
                "7",
            ],
            &["--batch was none and is 7"],
        ),
        (
            &[
                "--part",
                "full",
                "--tile",
                "32",
                "--samples",
                "0..1000",
                "--curvature",
                "exact",
            ],
            &["--curvature was ggn and is exact"],
        ),
        (
            &[
                "--part",
                "full",
                "--tile",
                "32",
                "--samples",
                "0..1000",
                "--shard",
                "1/2",
            ],
            &["N of --shard K/N was 1 and is 2"],
        ),
    ];
    for (options, words) in others {
        let message = refused(with(options));
        for word in words
            .iter()
            .chain(&["h.partial was begun by another command", "--restart"])
        {
            let sharded = options.contains(&"--shard") && *word == "--restart";
            assert!(message.contains(word) || sharded, "{options:?}: {message}");
        }
        assert_eq!(place.done("h.partial/done"), done, "{options:?}");
    }
    // A label changed: the file is named.
    let labels = std::fs::read(place.path("labels.npy")).expect("labels");
    let mut other = labels.clone();
    let last = other.len() - 8;
    other[last] ^= 1;
    std::fs::write(place.path("labels.npy"), &other).expect("written");
    let message = refused(with(&ours));
    assert!(
        message.contains("labels.npy holds something else"),
        "{message}"
    );
    // Begun again, with what there is now.
    success(with(&[&ours[..], &["--restart"]].concat()));
    place.remove("h");
    // The same file under the same name elsewhere is the same file.
    std::fs::write(place.path("labels.npy"), &labels).expect("written");
    stop();
    std::fs::create_dir(place.path("moved")).expect("a folder");
    std::fs::rename(place.path("labels.npy"), place.path("moved/labels.npy")).expect("moved");
    let moved = base.map(|word| {
        if word == "labels.npy" {
            "moved/labels.npy"
        } else {
            word
        }
    });
    let output = run(place.command(&[&moved[..], &ours[..]].concat()));
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(
        text(&output.stderr).contains("went on from"),
        "{}",
        text(&output.stderr)
    );
    // Again: it is whole, and nobody computes anything.
    let output = run(place.command(&[&moved[..], &ours[..]].concat()));
    assert!(output.status.success() && output.stdout.is_empty());
    assert!(
        text(&output.stderr).contains("is there already"),
        "{}",
        text(&output.stderr)
    );
    // Another request is no reason to replace it.
    let message = refused(place.command(&[&moved[..], others[1].0].concat()));
    assert!(message.contains("exists already"), "{message}");
}

#[test]
fn an_interrupted_run_says_what_it_keeps() {
    let place = Place::new();
    let options = ["--part", "full", "--tile", "32", "--out", "h"];
    let mut child = place.digits(&options).spawn().expect("the binary starts");
    while place.done("h.partial/done") < 3 {
        assert!(child.try_wait().expect("a status").is_none(), "too quick");
        std::thread::sleep(Duration::from_millis(1));
    }
    let interrupt = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(interrupt.expect("kill is there").success());
    let output = child.wait_with_output().expect("its output");
    assert_eq!(output.status.code(), Some(130));
    let message = text(&output.stderr);
    assert!(message.contains("are kept in h.partial"), "{message}");
    success(place.digits(&options));
}
