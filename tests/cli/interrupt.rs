//! Networks of many nodes are read in seconds, and Ctrl-C ends a command at once wherever it is.

use crate::onnx::{FLOAT, Model, numbers};
use crate::workplace::*;
#[cfg(target_os = "linux")]
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A network of `nodes` nodes: affine layers, each with its own parameters, softmaxes and sums, on inputs of two numbers.
fn deep(nodes: usize) -> Model {
    let mut model = Model::new().input("x", FLOAT, &[2]);
    let mut last = String::from("x");
    for k in 0..nodes / 4 {
        let name = |part: &str| format!("layer{k}.{part}");
        let (h, s, sum, floor) = (name("h"), name("s"), name("sum"), name("floor"));
        model = model
            .values(&name("weight"), &[2, 2], &numbers(&h, 4))
            .weight(&name("bias"), &[2])
            .linear(&format!("layer{k}"), &last, &h)
            .node("Softmax", &[&h], &s, &[("axis", &[-1])])
            .node("Floor", &["x"], &floor, &[])
            .node("Sum", &[&last, &s, &floor], &sum, &[]);
        last = sum;
    }
    model = model
        .weight("head.weight", &[3, 2])
        .weight("head.bias", &[3]);
    model.linear("head", &last, "y").output("y")
}

#[test]
fn a_network_of_20000_nodes_is_inspected_in_seconds() {
    /// Far above the time that a slow machine takes, and far below that of a search of all nodes for each.
    const MOST: Duration = Duration::from_secs(60);
    let place = Workplace::new();
    deep(20_000).write(place.path("deep.onnx"));
    let start = Instant::now();
    let text = place.done(&["inspect", "deep.onnx"]);
    let taken = start.elapsed();
    assert!(
        text.contains("layer4999.weight"),
        "the last layer is listed"
    );
    assert!(taken < MOST, "{taken:?}");
}

/// Waits until the process handles Ctrl-C itself: the second bit of the signals that it catches.
#[cfg(target_os = "linux")]
fn wait_for_handler(run: &mut Child) {
    loop {
        let ended = run.try_wait().expect("a child");
        assert!(
            ended.is_none(),
            "it ended before it was interrupted: {ended:?}"
        );
        let status = std::fs::read_to_string(format!("/proc/{}/status", run.id()));
        let caught = status.iter().flat_map(|text| text.lines());
        let caught = caught.filter_map(|line| line.strip_prefix("SigCgt:"));
        let mut caught = caught.filter_map(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        if caught.any(|mask| mask & 0b10 != 0) {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Starts a command, interrupts it once it handles Ctrl-C and `after` has passed, and returns what came of it and how long it
/// took to end.
#[cfg(target_os = "linux")]
fn interrupted(place: &Workplace, arguments: &[&str], after: Duration) -> (Output, Duration) {
    let mut run = place
        .command(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    wait_for_handler(&mut run);
    std::thread::sleep(after);
    let start = Instant::now();
    let kill = Command::new("kill")
        .args(["-INT", &run.id().to_string()])
        .status();
    assert!(kill.expect("kill").success());
    let output = run.wait_with_output().expect("a child");
    (output, start.elapsed())
}

#[cfg(target_os = "linux")]
#[track_caller]
fn ended_at_once(output: &Output, taken: Duration) {
    /// Far above what it takes on a machine that does other things too, and below what the work would have taken.
    const MOST: Duration = Duration::from_secs(10);
    assert_eq!(output.status.code(), Some(130), "{}", errors(output));
    assert!(errors(output).contains("interrupted"), "{}", errors(output));
    assert!(output.stdout.is_empty(), "it printed a result");
    assert!(taken < MOST, "{taken:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_long_inspection_ends_at_once_with_130() {
    let place = Workplace::new();
    deep(60_000).write(place.path("deep.onnx"));
    for after in [0, 50] {
        let after = Duration::from_millis(after);
        let (output, taken) = interrupted(&place, &["inspect", "deep.onnx"], after);
        ended_at_once(&output, taken);
    }
    assert_eq!(place.names(), ["deep.onnx"]);
}

#[cfg(target_os = "linux")]
#[test]
fn hashing_of_large_data_ends_at_once_with_130() {
    let place = Workplace::new();
    // 16 GiB of zeros that take no room on disk.
    let samples = 1 << 26;
    place.write_f32("images.npy", &[samples, 1, 8, 8], []);
    place.write_i64("labels.npy", &[samples], &[]);
    for (name, bytes) in [("images.npy", 4 * 64), ("labels.npy", 8)] {
        let file = std::fs::File::options().write(true).open(place.path(name));
        let file = file.expect("the file that was written");
        let header = file.metadata().expect("metadata").len();
        let length = header + bytes * samples as u64;
        file.set_len(length).expect("a sparse file");
    }
    let model: &'static str = digits("model.onnx").leak();
    let gradient = [
        "gradient",
        model,
        "--inputs",
        "images.npy",
        "--targets",
        "labels.npy",
        "--samples",
        "0..16",
        "--loss",
        "cross-entropy",
        "--device",
        "cpu",
        "--out",
        "new/gradient.npy",
    ];
    let (output, taken) = interrupted(&place, &gradient, Duration::from_millis(300));
    ended_at_once(&output, taken);
    assert_eq!(place.names(), ["images.npy", "labels.npy"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_second_interrupt_ends_a_run_at_once_and_leaves_no_final_name() {
    let place = Workplace::new();
    // A single unit of all samples: the first interrupt waits for it.
    let slow = ["--precision", "f64", "--part", "full", "--out", "out"];
    let mut run = place
        .command(&on_all_digits("blocks", &slow))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    while !place.path("out.partial").exists() {
        let ended = run.try_wait().expect("a child");
        assert!(ended.is_none(), "it ended before it wrote: {ended:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
    let start = Instant::now();
    while run.try_wait().expect("a child").is_none() {
        let kill = Command::new("kill")
            .args(["-INT", &run.id().to_string()])
            .stderr(Stdio::null())
            .status();
        kill.expect("kill");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(start.elapsed() < Duration::from_secs(10));
    let output = run.wait_with_output().expect("a child");
    assert_eq!(output.status.code(), Some(130), "{}", errors(&output));
    assert!(!place.path("out").exists());
}
