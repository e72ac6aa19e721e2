//! What depends on the data alone is computed on the host; entries are taken and written by number.

use super::run::gives;
use super::*;

/// The integers that the input holds.
fn integers(extent: i64) -> Sketch {
    Sketch::new(&[-1, extent]).node("Cast to=7", &["x"], "n")
}

#[test]
fn integers_of_the_data_are_cut_divided_and_shifted_as_onnx_says() {
    let x = [-3.0, 3.0, 5.7, -0.5];
    for (operation, with, expected) in [
        ("Div", 2, [-1.0, 1.0, 2.0, 0.0]),
        ("Mod", 4, [1.0, 3.0, 1.0, 0.0]),
        ("Mod fmod=1", 4, [-3.0, 3.0, 1.0, 0.0]),
        ("Pow", 3, [-27.0, 27.0, 125.0, 0.0]),
        ("BitwiseAnd", 1, [1.0, 1.0, 1.0, 0.0]),
        ("BitShift direction=RIGHT", 1, [-2.0, 1.0, 2.0, 0.0]),
    ] {
        let network = integers(4)
            .ints("with", &[with])
            .node(operation, &["n", "with"], "y")
            .load("y")
            .unwrap();
        gives(&network, 1, &x, &expected);
        gives(
            &network,
            2,
            &[0.0, 0.0, 0.0, 0.0, -3.0, 3.0, 5.7, -0.5],
            &[[0.0; 4], expected].concat(),
        );
    }
}

#[test]
fn integers_larger_than_single_precision_holds_stay_exact() {
    let network = integers(2)
        .ints("factor", &[2_654_435_761])
        .ints("modulus", &[1000])
        .node("Mul", &["n", "factor"], "large")
        .node("Mod", &["large", "modulus"], "y")
        .load("y")
        .unwrap();
    gives(&network, 1, &[3.0, 12_345.0], &[283.0, 545.0]);
}

#[test]
fn positions_by_value_are_found_per_sample() {
    let x = [2.0, 7.0, 7.0, 1.0, 5.0, -4.0, 0.0, -4.0];
    for (operation, expected) in [
        ("ArgMax axis=1 keepdims=0", vec![1.0, 0.0]),
        (
            "ArgMax axis=-1 keepdims=0 select_last_index=1",
            vec![2.0, 0.0],
        ),
        ("ArgMin axis=1", vec![3.0, 1.0]),
    ] {
        let network = Sketch::new(&[-1, 4])
            .node(operation, &["x"], "y")
            .load("y")
            .unwrap();
        gives(&network, 2, &x, &expected);
    }
    let top = |output: &str| {
        let sketch = Sketch::new(&[-1, 4]).ints("k", &[3]);
        sketch
            .node("TopK", &["x", "k"], "v i")
            .load(output)
            .unwrap()
    };
    gives(&top("v"), 2, &x, &[7.0, 7.0, 2.0, 5.0, 0.0, -4.0]);
    gives(&top("i"), 2, &x, &[1.0, 2.0, 0.0, 0.0, 2.0, 1.0]);
    let message = Sketch::new(&[-1, 4])
        .node("ArgMax axis=0", &["x"], "y")
        .refused("y");
    assert!(
        message.contains("node_y") && message.contains("samples"),
        "{message}"
    );
}

#[test]
fn a_number_without_an_entry_is_reported_with_its_sample() {
    let network = integers(1)
        .weight("table", &[3, 2])
        .ints("two", &[2])
        .node("Mul", &["n", "two"], "i")
        .node("Gather", &["table", "i"], "y")
        .load("y")
        .unwrap();
    let derived = |x: &[f64]| network.with_derived(vec![x.to_vec()], x.len(), 10);
    assert_eq!(derived(&[1.0, -1.0]).unwrap()[1], [2.0, -2.0]);
    let message = derived(&[1.0, 2.0]).unwrap_err().to_string();
    assert!(
        message.contains("sample 11") && message.contains("3 entries"),
        "{message}"
    );
    let divided = integers(1)
        .ints("hundred", &[100])
        .node("Div", &["hundred", "n"], "y")
        .load("y")
        .unwrap();
    let message = divided
        .with_derived(vec![vec![1.0, 0.0]], 2, 10)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("node_y") && message.contains("sample 11"),
        "{message}"
    );
}

/// `x[arange(batch), numbers]`, numbers a row of the sketch.
fn own(sketch: Sketch, numbers: &str) -> Sketch {
    sketch
        .node("Shape end=1", &["x"], "batch")
        .ints("squeezed", &[0])
        .node("Squeeze", &["batch", "squeezed"], "count")
        .values("zero", &[], &[0.0])
        .values("one", &[], &[1.0])
        .node("Cast to=7", &["zero"], "from")
        .node("Cast to=7", &["one"], "by")
        .node("Range", &["from", "count", "by"], "own")
        .ints("last", &[-1])
        .node("Unsqueeze", &["own", "last"], "own1")
        .node("Unsqueeze", &[numbers, "last"], "numbers1")
        .node("Concat axis=-1", &["own1", "numbers1"], "pairs")
}

#[test]
fn each_sample_picks_its_own_entries_by_numbers_of_the_data() {
    let x = [4.0, 1.0, 9.0, 3.0, 2.0, 8.0];
    let network = own(
        Sketch::new(&[-1, 3]).node("ArgMin axis=1 keepdims=0", &["x"], "i"),
        "i",
    )
    .node("GatherND", &["x", "pairs"], "y")
    .load("y")
    .unwrap();
    gives(&network, 2, &x, &[1.0, 2.0]);
    // One sample more than the probe of the shapes has.
    let many: Vec<f64> = (0..32)
        .flat_map(|k| [1.0, f64::from(k) - 16.0, 2.0])
        .collect();
    let least: Vec<f64> = (0..32).map(|k| (f64::from(k) - 16.0).min(1.0)).collect();
    gives(&network, 32, &many, &least);
}

#[test]
fn numbers_of_samples_may_only_pick_their_own_entries() {
    let sketch = || Sketch::new(&[-1, 3]).node("ArgMin axis=1 keepdims=0", &["x"], "i");
    let message = own(sketch(), "i")
        .node("Cast to=1", &["pairs"], "p")
        .weight("w", &[2, 2])
        .node("MatMul", &["p", "w"], "y")
        .refused("y");
    assert!(
        message.contains("node_y") && message.contains("node_pairs"),
        "{message}"
    );
    // Every sample picks from the first.
    let network = sketch()
        .ints("last", &[-1])
        .node("Unsqueeze", &["i", "last"], "i1")
        .ints("none", &[0])
        .node("Mul", &["i1", "none"], "first")
        .node("Concat axis=-1", &["first", "i1"], "pairs")
        .node("GatherND", &["x", "pairs"], "y")
        .load("y")
        .unwrap();
    let message = network
        .with_derived(vec![vec![1.0; 6]], 2, 0)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("mix") && message.contains("node_y"),
        "{message}"
    );
}

#[test]
fn entries_are_written_over_by_known_numbers_from_either_end() {
    let network = Sketch::new(&[-1, 4])
        .ints("zero", &[0])
        .ints("two", &[2])
        .ints("last", &[-1])
        .node("Slice", &["x", "zero", "two", "last"], "u")
        .node("Shape", &["u"], "shape")
        .ints("listed", &[3, -3])
        .node("Expand", &["listed", "shape"], "i")
        .node("ScatterElements axis=1", &["x", "i", "u"], "y")
        .load("y")
        .unwrap();
    let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
    gives(&network, 2, &x, &[1.0, 2.0, 3.0, 1.0, 5.0, 6.0, 7.0, 5.0]);
}

#[test]
fn updates_at_one_place_are_summed_or_the_last_one_stands() {
    let x = [1.0, 2.0, 3.0, 10.0, 20.0, 30.0];
    let sketch = || {
        Sketch::new(&[-1, 3])
            .node("Cast to=7", &["x"], "n")
            .ints("three", &[3])
            .node("Mod", &["n", "three"], "i")
            .ints("none", &[0])
            .node("Mul", &["i", "none"], "first")
    };
    for (operation, indices, expected) in [
        (
            "ScatterElements axis=1",
            "first",
            [3.0, 2.0, 3.0, 30.0, 20.0, 30.0],
        ),
        (
            "ScatterElements axis=1 reduction=add",
            "first",
            [7.0, 2.0, 3.0, 70.0, 20.0, 30.0],
        ),
        (
            "ScatterElements axis=1 reduction=add",
            "i",
            [4.0, 3.0, 5.0, 40.0, 30.0, 50.0],
        ),
    ] {
        let network = sketch()
            .node(operation, &["x", indices, "x"], "y")
            .load("y")
            .unwrap();
        gives(&network, 2, &x, &expected);
    }
    let message = sketch()
        .node(
            "ScatterElements axis=1 reduction=mul",
            &["x", "i", "x"],
            "y",
        )
        .refused("y");
    assert!(message.contains("none and add are supported"), "{message}");
}

#[test]
fn a_diagonal_is_taken_where_a_label_stands_twice() {
    let network = Sketch::new(&[-1, 2, 2])
        .node("Einsum equation=bii->b", &["x"], "y")
        .load("y")
        .unwrap();
    let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
    gives(&network, 2, &x, &[5.0, 13.0]);
    let message = Sketch::new(&[-1, 31])
        .node("Einsum equation=bb->b", &["x"], "y")
        .refused("y");
    assert!(
        message.contains("node_y") && message.contains("samples"),
        "{message}"
    );
}
