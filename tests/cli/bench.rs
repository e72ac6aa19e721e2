//! `bench`: its table, its file, comparisons, and what it refuses.

use crate::workplace::*;
use serde_json::Value;

/// A quick measurement of one small case.
fn quick<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let few = [
        "bench",
        "--device",
        "cpu",
        "--only",
        "primitive/slice",
        "--seconds",
        "0.02",
    ];
    [&few[..], more].concat()
}

#[test]
fn a_case_is_checked_timed_and_written_with_the_machine_it_ran_on() {
    let place = Workplace::new();
    let text = place.done(&quick(&["--out", "a.json"]));
    assert!(
        text.contains("peak ") && text.contains("all over one"),
        "{text}"
    );
    let row = text
        .lines()
        .find(|line| line.starts_with("primitive/slice"));
    assert!(row.is_some_and(|row| row.contains(" % byte")), "{text}");
    let report = read_json(&place.path("a.json"));
    assert_eq!(report["format"], "hessblock bench");
    assert_eq!(report["version"], env!("CARGO_PKG_VERSION"));
    for field in ["processor", "os", "architecture"] {
        assert!(
            report["system"][field]
                .as_str()
                .is_some_and(|t| !t.is_empty()),
            "{report}"
        );
    }
    let device = &report["devices"][0];
    assert_eq!(
        (&device["backend"], &device["precision"]),
        (&"cpu".into(), &"f32".into())
    );
    let peak = |name: &str| device["peak"][name].as_f64().is_some_and(|rate| rate > 1e6);
    assert!(
        ["flops", "one_thread_flops", "write", "copy"]
            .iter()
            .all(|name| peak(name))
    );
    let case = &device["cases"][0];
    assert_eq!(
        (&case["outcome"], &case["error"]),
        (&"passed".into(), &0.0.into())
    );
    assert!(
        case["timing"]["median_seconds"]
            .as_f64()
            .is_some_and(|s| s > 0.0)
    );
    place.refused(1, &quick(&["--out", "a.json"]), &["a.json", "--force"]);
    let double = json(&place.done(&quick(&[
        "--precision",
        "f64",
        "--json",
        "--out",
        "a.json",
        "--force",
    ])));
    assert_eq!(double, read_json(&place.path("a.json")));
    assert_eq!(double["devices"][0]["precision"], "f64");
}

#[test]
fn cases_are_listed_and_chosen() {
    let place = Workplace::new();
    let all = place.done(&["bench", "--list"]);
    for name in [
        "contraction/outer-dense",
        "lenet5/hessian-product",
        "resnet20/diagonal",
    ] {
        assert!(
            all.lines().any(|line| line.starts_with(name)),
            "{name} in {all}"
        );
    }
    let some = place.done(&[
        "bench",
        "--list",
        "--only",
        "contraction",
        "--only",
        "lenet5/d*",
    ]);
    assert!(some.lines().count() == 3 + 4, "{some}");
    let some = json(&place.done(&["bench", "--list", "--json", "--only", "gradient"]));
    assert_eq!(some.as_array().map(Vec::len), Some(2));
}

#[test]
fn two_measurements_are_put_side_by_side() {
    let place = Workplace::new();
    place.done(&quick(&["--out", "a.json"]));
    place.done(&quick(&["--precision", "f64", "--out", "b.json"]));
    let more = [
        "--png",
        "both.png",
        "--svg",
        "both.svg",
        "--out",
        "both.json",
    ];
    let compare = [&["bench", "--compare", "a.json", "b.json"][..], &more].concat();
    let text = place.done(&compare);
    assert!(
        text.starts_with("A  ") && text.contains("\nB  ") && text.contains('×'),
        "{text}"
    );
    let comparison = read_json(&place.path("both.json"));
    assert_eq!(comparison["machines"].as_array().map(Vec::len), Some(2));
    assert_eq!(comparison["cases"][0]["name"], "primitive/slice");
    assert_eq!(comparison["cases"][0]["speeds"][0], 1.0);
    let svg = std::fs::read_to_string(place.path("both.svg")).expect("a plot");
    assert!(svg.starts_with("<svg") && svg.contains("slice"));
    let png = std::fs::read(place.path("both.png")).expect("a plot");
    assert_eq!(png[1..4], *b"PNG");
    place.refused(1, &compare, &["exists already"]);
    place.refused(
        1,
        &["bench", "--compare", "a.json", "--out", "a.json/plot.png"],
        &["a.json", "not a folder"],
    );
    place.refused(
        2,
        &["bench", "--compare", "a.json", "--out", "plot.pdf"],
        &["plot.pdf", ".png"],
    );
}

#[test]
fn what_cannot_be_measured_or_compared_is_refused() {
    let place = Workplace::new();
    place.refused(
        2,
        &["bench", "--only", "lenet6"],
        &["lenet6", "lenet5/gradient"],
    );
    place.refused(2, &["bench", "--only", ""], &["lenet5/gradient"]);
    place.refused(1, &["bench", "--device", "no such adapter"], &["device"]);
    place.refused(2, &["bench", "--precision", "f16"], &["f16"]);
    place.refused(2, &["bench", "--seconds", "-1"], &["seconds"]);
    place.refused(
        2,
        &["bench", "--out", "plot.png"],
        &["plot.png", "--compare"],
    );
    std::fs::write(place.path("file"), "").expect("a file");
    place.refused(
        1,
        &["bench", "--out", "file/a.json"],
        &["file", "not a folder"],
    );
    place.refused(2, &["bench", "--png", "a.png"], &["--compare"]);
    place.refused(
        2,
        &["bench", "--compare", "a.json", "--only", "conv"],
        &["--only"],
    );
    place.refused(
        1,
        &["bench", "--compare", "nowhere.json"],
        &["nowhere.json"],
    );
    std::fs::write(place.path("bad.json"), "{ \"format\": ").expect("a file");
    place.refused(
        1,
        &["bench", "--compare", "bad.json"],
        &["bad.json", "not JSON"],
    );
    std::fs::write(place.path("other.json"), "{ \"a\": 1 }").expect("a file");
    place.refused(
        1,
        &["bench", "--compare", "other.json"],
        &["other.json", "hessblock bench"],
    );
    place.done(&quick(&["--out", "a.json"]));
    let mut newer = read_json(&place.path("a.json"));
    newer["format_version"] = 2.into();
    newer["version"] = "9.0.0".into();
    std::fs::write(place.path("newer.json"), newer.to_string()).expect("a file");
    let compare = ["bench", "--compare", "a.json", "newer.json"];
    place.refused(1, &compare, &["newer.json", "version 2", "9.0.0"]);
    let mut cut = read_json(&place.path("a.json"));
    cut["devices"][0]["cases"] = Value::Null;
    std::fs::write(place.path("cut.json"), cut.to_string()).expect("a file");
    place.refused(
        1,
        &["bench", "--compare", "cut.json"],
        &["cut.json", "not a whole report"],
    );
    cut["devices"] = serde_json::json!([]);
    std::fs::write(place.path("none.json"), cut.to_string()).expect("a file");
    place.refused(
        2,
        &["bench", "--compare", "none.json"],
        &["none.json", "nothing to compare"],
    );
}
