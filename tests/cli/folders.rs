//! Missing folders above an output are made when it is written, and not before.

use crate::workplace::*;

/// `blocks` of the diagonal on the digits.
fn blocks<'a>(more: &[&'a str]) -> Vec<&'a str> {
    on_digits("blocks", &[&["--part", "diag"][..], more].concat())
}

#[test]
fn every_output_makes_the_folders_above_it() {
    let place = Workplace::new();
    for out in ["a/b/h.npy", "c/d/h.safetensors", "e/f/h", "g/i/h.zarr"] {
        place.done(&blocks(&["--out", out]));
        assert!(place.path(out).exists(), "{out}");
        place.done(&["verify", out, "--entries", "3"]);
    }
    let pictures = [
        "--png",
        "j/k/h.png",
        "--svg",
        "l/m/h.svg",
        "--html",
        "n/o/h.html",
    ];
    place.done(&[&["show", "e/f/h"][..], &pictures].concat());
    place.done(&blocks(&["--out", "p/h.npy", "--png", "q/h.png"]));
    place.done(&on_digits("gradient", &["--out", "r/s/g.npy"]));
    let product = ["--vector", "r/s/g.npy", "--out", "t/u/v.npy"];
    place.done(&on_digits("product", &product));
    let study = ["--draws", "1", "--no-pairs", "--out", "v/w/study"];
    place.done(&on_digits("error", &study));
    let bench = [
        "--device",
        "cpu",
        "--only",
        "primitive/slice",
        "--seconds",
        "0.02",
    ];
    place.done(&[&["bench", "--out", "x/y/b.json"][..], &bench].concat());
    let compare = ["--compare", "x/y/b.json", "x/y/b.json", "--svg", "z/b.svg"];
    place.done(&[&["bench"][..], &compare].concat());
    for file in [
        "j/k/h.png",
        "l/m/h.svg",
        "n/o/h.html",
        "p/h.npy",
        "q/h.png",
        "t/u/v.npy",
        "v/w/study/error.json",
        "z/b.svg",
    ] {
        assert!(place.path(file).is_file(), "{file}");
    }
}

#[test]
fn a_plan_and_a_refused_command_make_no_folder() {
    let place = Workplace::new();
    for out in ["a/b/h", "a/b/h.npy", "a/b/h.zarr", "a/b/h.safetensors"] {
        let plan = ["--part", "diag", "--out", out, "--png", "c/h.png"];
        place.done(&on_digits("plan", &plan));
        assert!(place.names().is_empty(), "{out}: {:?}", place.names());
        let part = ["--part", "layer=none", "--out", out];
        place.refused(2, &on_digits("blocks", &part), &["none"]);
        let missing = ["--targets", "labels.npy", "--loss", "cross-entropy"];
        let missing = [&["--part", "diag", "--out", out][..], &missing].concat();
        place.refused(1, &blocks_of("images.npy", &missing), &["images.npy"]);
    }
    let study = ["--layers", "none", "--out", "a/study"];
    place.refused(2, &on_digits("error", &study), &["none"]);
    place.refused(
        2,
        &["bench", "--only", "none", "--out", "a/b.json"],
        &["none"],
    );
    place.refused(1, &["show", "none", "--png", "a/b.png"], &["none"]);
    let product = ["--vector", "none.npy", "--out", "a/v.npy"];
    place.refused(1, &on_digits("product", &product), &["none.npy"]);
}

#[cfg(unix)]
#[test]
fn a_link_that_leads_nowhere_is_refused() {
    let place = Workplace::new();
    std::os::unix::fs::symlink("nowhere", place.path("link")).expect("a link");
    let why = ["link", "leads to no folder"];
    place.refused(1, &blocks(&["--out", "link/h"]), &why);
    place.refused(1, &blocks(&["--out", "h.npy", "--png", "link/h.png"]), &why);
    place.refused(1, &on_digits("error", &["--out", "link/study"]), &why);
    place.refused(1, &["bench", "--out", "link/b.json"], &why);
}
