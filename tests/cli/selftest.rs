//! `selftest`: its table, its report, its exit codes.

use crate::workplace::*;

#[test]
fn a_device_is_tested_and_reported_with_the_machine() {
    let place = Workplace::new();
    let few = [
        "selftest",
        "--device",
        "cpu",
        "--case",
        "contraction/dense",
        "--case",
        "einsum",
    ];
    let text = place.done(&few);
    for part in ["contraction", "operation", "einsum", "2.0e-6", " 0 failed"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("softmax"), "{text}");
    let report = json(&place.done(&[&few[..], &["--json"]].concat()));
    assert_eq!(report["format"], "hessblock selftest");
    assert_eq!(report["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(
        (&report["failed"], &report["device"]["kind"]),
        (&0.into(), &"cpu".into())
    );
    assert!(
        report["system"]["os"]
            .as_str()
            .is_some_and(|os| !os.is_empty())
    );
    let cases = report["cases"].as_array().expect("cases");
    assert_eq!(report["passed"], cases.len());
    for case in cases {
        assert_eq!(
            (&case["pass"], &case["allowed"]),
            (&true.into(), &2e-6.into())
        );
        assert!(case["error"].as_f64().is_some_and(|e| e < 2e-6), "{case}");
        assert!(case["seconds"].is_f64() && case["group"].is_string());
    }
}

#[test]
fn cases_are_listed_and_unknown_ones_refused() {
    let place = Workplace::new();
    let names = place.done(&["selftest", "--list"]);
    for group in ["primitive", "operation", "contraction", "network"] {
        assert!(names.lines().any(|name| name.starts_with(group)), "{names}");
    }
    let listed = json(&place.done(&["selftest", "--list", "--json"]));
    assert_eq!(listed.as_array().map(Vec::len), Some(names.lines().count()));
    place.refused(
        2,
        &["selftest", "--case", "einsun"],
        &["einsun", "primitive/einsum"],
    );
    place.refused(
        1,
        &["selftest", "--device", "no such thing"],
        &["no such thing"],
    );
}
