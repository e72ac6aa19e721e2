//! `--curvature`, `product`, `trace` and `form`, on good and on bad input.

use crate::workplace::*;
use hessblock::data::ArraySource;

/// p of the digits network.
const P: usize = 1374;

fn vector(place: &Workplace, name: &str, columns: usize) {
    let values = (0..P * columns).map(|k| ((k * 37 % 101) as f64 - 50.0) / 50.0);
    let shape: &[usize] = if columns == 1 { &[P] } else { &[P, columns] };
    place.write_f32(name, shape, values);
}

#[test]
fn blocks_of_h_and_its_residual_add_up_and_verify() {
    let place = Workplace::new();
    for curvature in ["ggn", "exact", "residual", "empirical-fisher", "mc-ggn"] {
        let out = format!("{curvature}.npy");
        let part = ["--part", "layer=dense1,head", "--out", &out];
        let text = place.done(&on_digits(
            "blocks",
            &[&part[..], &["--curvature", curvature]].concat(),
        ));
        let symbol = match curvature {
            "ggn" => "1 part of G over",
            "exact" => "1 part of H over",
            "residual" => "1 part of H − G over",
            _ => "1 part of ",
        };
        assert!(text.contains(symbol), "{text}");
        let manifest = read_json(&place.path(&format!("{out}.json")));
        assert_eq!(manifest["provenance"]["curvature"], curvature);
        let verdict = json(&place.done(&["verify", &out, "--json"]));
        assert_eq!(verdict["passed"], true, "{curvature}: {verdict}");
    }
    let [ggn, exact, residual] =
        ["ggn.npy", "exact.npy", "residual.npy"].map(|name| entries(&place.path(name)));
    let most = largest(&exact).max(largest(&ggn));
    let off = ggn
        .iter()
        .zip(&residual)
        .zip(&exact)
        .map(|((g, r), h)| g + r - h);
    assert!(largest(&off.collect::<Vec<_>>()) < 1e-6 * most);
    assert!(
        largest(&residual) > 1e-3 * most,
        "between layers G is not H"
    );
}

#[test]
fn a_cut_factor_is_counted_recorded_and_verified() {
    let place = Workplace::new();
    let cut = ["--rank-tolerance", "0.05"];
    let part = ["--part", "layer=head", "--part", "diag", "--out", "cut"];
    let summary = json(&place.done(&on_digits(
        "blocks",
        &[&part[..], &cut[..], &["--json"]].concat(),
    )));
    let rank = &summary["rank"];
    assert_eq!(
        (&rank["all_directions"], &rank["tolerance"]),
        (&10.into(), &0.05.into())
    );
    assert!(rank["directions"].as_u64() < Some(10), "{rank}");
    assert!(rank["worst_share"].as_f64() <= Some(0.05), "{rank}");
    let index = read_json(&place.path("cut/index.json"));
    assert_eq!(index["provenance"]["options"]["rank"], *rank);
    let verdict = json(&place.done(&["verify", "cut", "--json"]));
    assert_eq!(verdict["passed"], true, "{verdict}");
    assert_eq!(verdict["rank"]["tolerance"], 0.05);
    let text = place.done(&["verify", "cut"]);
    assert!(text.contains("of 10 directions at most"), "{text}");
    let plan = place.done(&on_digits("plan", &[&part[..], &cut[..]].concat()));
    assert!(plan.contains("of 10 directions at most"), "{plan}");
    let trace = |options: &[&str]| {
        let all = [options, &["--json"]].concat();
        let found = json(&place.done(&on_digits("trace", &all)));
        found["trace"]["value"].as_f64().expect("a number")
    };
    let (whole, left) = (trace(&[]), trace(&cut));
    assert!(left < whole && left > 0.5 * whole, "{left} of {whole}");
    for bad in ["1", "-0.1", "NaN", "much"] {
        let all = [&part[..], &["--rank-tolerance", bad]].concat();
        place.refused(2, &on_digits("plan", &all), &["rank-tolerance"]);
    }
    let all = [&part[..], &cut[..], &["--curvature", "exact"]].concat();
    place.refused(2, &on_digits("plan", &all), &["take ggn"]);
}

#[test]
fn verify_finds_a_wrong_number_in_a_block_of_h() {
    let place = Workplace::new();
    let part = ["--part", "range=1364..1370,1000..1006", "--out", "h.npy"];
    place.done(&on_digits(
        "blocks",
        &[&part[..], &["--curvature", "exact"]].concat(),
    ));
    let mut values = entries(&place.path("h.npy"));
    values[35] += 0.01 * largest(&values);
    place.write_f32("h.npy", &[6, 6], values);
    let output = place.run(&["verify", "h.npy", "--entries", "1000"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        errors(&output).contains("(1369, 1005)"),
        "{}",
        errors(&output)
    );
}

#[test]
fn the_plan_of_h_says_what_is_moved() {
    let place = Workplace::new();
    let part = ["--part", "full", "--curvature", "exact"];
    let text = place.done(&on_digits("plan", &part));
    assert!(
        text.contains("pre-activations") && text.contains("outer-outer"),
        "{text}"
    );
    let plan = json(&place.done(&on_digits("plan", &[&part[..], &["--json"]].concat())));
    assert_eq!(plan["moved"]["pre_activations"], 3);
    assert_eq!(plan["moved"]["pre_activation_entries"], 38);
    // Three rows are three columns of H, cheaper than 16 entries of a pre-activation.
    let few = [
        "--part",
        "range=0..3,0..1040",
        "--curvature",
        "exact",
        "--json",
    ];
    let plan = json(&place.done(&on_digits("plan", &few)));
    assert_eq!(plan["moved"]["pre_activations"], 0);
}

#[test]
fn a_product_has_the_shape_of_its_vectors() {
    let place = Workplace::new();
    vector(&place, "v.npy", 1);
    vector(&place, "v3.npy", 3);
    let one = [
        "--vector",
        "v.npy",
        "--out",
        "one.npy",
        "--curvature",
        "exact",
    ];
    let text = place.done(&on_digits("product", &one));
    assert!(text.contains("H times 1 vector of 1374"), "{text}");
    let three = ["--vector", "v3.npy", "--out", "three.npy", "--json"];
    let summary = json(&place.done(&on_digits("product", &three)));
    assert_eq!(summary["vectors"], 3);
    let manifest = read_json(&place.path("three.npy.json"));
    assert_eq!(manifest["parts"][0]["shape"], serde_json::json!([P, 3]));
    assert_eq!(manifest["provenance"]["curvature"], "ggn");
    let manifest = read_json(&place.path("one.npy.json"));
    assert_eq!(manifest["parts"][0]["shape"], serde_json::json!([P]));
    // A product is no part of a matrix.
    place.refused(1, &["verify", "one.npy"], &["product", "verify takes"]);
    // The product is the block times the vector.
    let part = ["--part", "full", "--out", "g.npy"];
    place.done(&on_digits("blocks", &part));
    let (full, product) = (
        entries(&place.path("g.npy")),
        entries(&place.path("three.npy")),
    );
    let vectors = ArraySource::open(place.path("v3.npy")).and_then(|v| v.read_f64(0..P));
    let vectors = vectors.expect("vectors");
    let most = largest(&product);
    for row in (0..P).step_by(97) {
        for k in 0..3 {
            let terms = (0..P).map(|q| full[row * P + q] * vectors[q * 3 + k]);
            let off = (terms.sum::<f64>() - product[row * 3 + k]).abs();
            assert!(off < 1e-5 * most, "({row}, {k}) is off by {off:e}");
        }
    }
}

#[test]
fn trace_and_form_print_a_line_per_layer() {
    let place = Workplace::new();
    let text = place.done(&on_digits("trace", &["--curvature", "exact"]));
    assert!(text.contains("dense1") && text.contains("whole"), "{text}");
    let exact = json(&place.done(&on_digits("trace", &["--json"])));
    let probed = json(&place.done(&on_digits("trace", &["--json", "--probes", "64"])));
    let (value, estimate) = (&exact["trace"]["value"], &probed["trace"]["value"]);
    let (value, estimate) = (
        value.as_f64().expect("a trace"),
        estimate.as_f64().expect("one"),
    );
    let error = probed["trace"]["error"].as_f64().expect("an error");
    assert!(
        (value - estimate).abs() < 5.0 * error && error < value,
        "{value} and {estimate} ± {error}"
    );
    let forms = json(&place.done(&on_digits("form", &["--json"])));
    let last = &forms["forms"][2];
    assert_eq!(
        (&last["vector"], &last["residual"]),
        (&"head".into(), &0.0.into())
    );
    vector(&place, "v.npy", 2);
    let text = place.done(&on_digits("form", &["--vector", "v.npy"]));
    assert_eq!(text.lines().count(), 3, "{text}");
}

#[test]
fn a_part_of_rounding_alone_verifies() {
    let place = Workplace::new();
    // The last layer has no residual at all.
    let part = [
        "--part",
        "layer=head",
        "--curvature",
        "residual",
        "--out",
        "zero.npy",
    ];
    place.done(&on_digits("blocks", &part));
    assert_eq!(largest(&entries(&place.path("zero.npy"))), 0.0);
    place.done(&["verify", "zero.npy"]);
}

#[test]
fn bad_vectors_curvatures_and_gradients_are_refused() {
    let place = Workplace::new();
    vector(&place, "v.npy", 1);
    place.write_f32("short.npy", &[7], vec![1.0; 7]);
    place.write_f32("flat.npy", &[1, P], vec![1.0; P]);
    place.write_f32("nan.npy", &[P], vec![f64::NAN; P]);
    let product = |vector: &'static str, more: &[&'static str]| {
        let all = [&["--vector", vector, "--out", "p.npy"], more].concat();
        on_digits("product", &all)
    };
    place.refused(
        1,
        &product("short.npy", &[]),
        &["short.npy", "[7]", "[1374]"],
    );
    place.refused(1, &product("flat.npy", &[]), &["flat.npy", "[1, 1374]"]);
    place.refused(1, &product("nan.npy", &[]), &["nan.npy", "entry 0", "NaN"]);
    place.refused(1, &product("none.npy", &[]), &["none.npy"]);
    place.refused(
        2,
        &product("v.npy", &["--curvature", "exakt"]),
        &["exakt", "did you mean exact"],
    );
    place.refused(
        2,
        &product("v.npy", &["--curvature", "mc-ggn", "--mc-samples", "0"]),
        &["--mc-samples"],
    );
    place.refused(
        1,
        &product("v.npy", &["--host-memory", "10KiB"]),
        &["v.npy", "--host-memory"],
    );
    let part = ["--part", "full", "--out", "o.npy"];
    place.refused(
        2,
        &on_digits(
            "blocks",
            &[&part[..], &["--loss-gradient", "v.npy"]].concat(),
        ),
        &["--loss-gradient", "--loss-hessian"],
    );
    place.refused(
        1,
        &on_digits(
            "blocks",
            &[
                &part[..],
                &["--curvature", "exact", "--host-memory", "100KiB"],
            ]
            .concat(),
        ),
        &["too small"],
    );
    let given = |more: &[&'static str]| {
        let all = [
            "--loss-hessian",
            "h.npy",
            "--curvature",
            "exact",
            "--part",
            "diag",
            "--out",
            "o.npy",
        ];
        blocks_of("images.npy", &[&all[..], more].concat())
    };
    place.small(2);
    place.write_f32(
        "h.npy",
        &[2, 10, 10],
        (0..200).map(|k| f64::from(u8::from(k % 100 % 11 == 0))),
    );
    place.write_f32("g.npy", &[2, 10], vec![0.5; 20]);
    place.write_f32("g1.npy", &[1, 10], vec![0.5; 10]);
    place.refused(2, &given(&[]), &["--loss-gradient"]);
    place.write_f32("turned.npy", &[10, 2], vec![0.5; 20]);
    for wrong in ["g1.npy", "turned.npy"] {
        place.refused(
            1,
            &given(&["--loss-gradient", wrong]),
            &[wrong, "[2, 10, 10]"],
        );
    }
    place.done(&given(&["--loss-gradient", "g.npy"]));
}
