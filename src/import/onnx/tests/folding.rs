//! Nodes of constants alone are computed at import: values, types, and operands that cannot be.

use super::run::gives;
use super::*;
use std::f64::consts::LN_2;

/// A graph of constants a = [[1, −2, 3], [4, 5, −6]], whole numbers w = [[0, 2, 1]], and one node.
fn constants(operation: &str, inputs: &[&str]) -> Sketch {
    Sketch::new(&[-1, 1])
        .values("val_1", &[2, 3], &[1.0, -2.0, 3.0, 4.0, 5.0, -6.0])
        .values("val_2", &[2], &[0.5, 0.25])
        .values("val_3", &[], &[9.0])
        .ints("zero", &[0])
        .ints("one", &[1])
        .ints("three", &[3])
        .ints("last", &[-1])
        .ints("list", &[0, 2, -1])
        .ints("pads", &[0, 1, 1, 0])
        .ints("huge", &[1 << 62])
        .node("Unsqueeze axes=0", &["list"], "pair")
        .node("Unsqueeze axes=0", &["last"], "row")
        .node(operation, inputs, "c")
}

#[track_caller]
fn folded(operation: &str, inputs: &[&str], shape: &[usize], expected: &[f64]) {
    let network = constants(operation, inputs)
        .ints("flat", &[1, -1])
        .node("CastLike", &["c", "val_3"], "r")
        .node("Reshape", &["r", "flat"], "f")
        .node("Add", &["x", "f"], "y")
        .load("y")
        .unwrap_or_else(|error| panic!("{operation}: {error}"));
    // One addition and nothing else is left.
    assert_eq!(network.nodes.len(), 1, "{operation}");
    gives(&network, 1, &[0.0], expected);
    let network = constants(operation, inputs)
        .node("Shape", &["c"], "s")
        .node("Add", &["x", "s"], "y")
        .load("y")
        .unwrap();
    let shape: Vec<f64> = shape.iter().map(|&d| d as f64).collect();
    gives(&network, 1, &[0.0], &shape);
}

#[test]
fn reductions_and_running_sums_of_constants_are_computed() {
    folded(
        "ReduceSum keepdims=0",
        &["val_1", "zero"],
        &[3],
        &[5.0, 3.0, -3.0],
    );
    folded("ReduceSum", &["val_1", "last"], &[2, 1], &[2.0, 3.0]);
    folded("ReduceMax axes=1 keepdims=0", &["val_1"], &[2], &[3.0, 5.0]);
    folded("ReduceMin axes=-1", &["val_1"], &[2, 1], &[-2.0, -6.0]);
    folded(
        "ReduceMean axes=1 keepdims=0",
        &["val_1"],
        &[2],
        &[2.0 / 3.0, 1.0],
    );
    folded(
        "ReduceProd axes=0,1 keepdims=1",
        &["val_1"],
        &[1, 1],
        &[720.0],
    );
    folded("ReduceMax axes=0", &["list"], &[1], &[2.0]);
    folded("ReduceProd axes=0", &["three"], &[1], &[3.0]);
    folded(
        "CumSum",
        &["val_1", "one"],
        &[2, 3],
        &[1.0, -1.0, 2.0, 4.0, 9.0, 3.0],
    );
    folded(
        "CumSum exclusive=1",
        &["val_1", "zero"],
        &[2, 3],
        &[0.0, 0.0, 0.0, 1.0, -2.0, 3.0],
    );
    folded(
        "CumSum reverse=1",
        &["list", "zero"],
        &[3],
        &[1.0, 1.0, -1.0],
    );
    folded(
        "CumSum reverse=1 exclusive=1",
        &["list", "last"],
        &[3],
        &[1.0, -1.0, 0.0],
    );
}

#[test]
fn parts_of_constants_are_taken_and_written_over() {
    folded(
        "GatherElements axis=1",
        &["val_1", "pair"],
        &[1, 3],
        &[1.0, 3.0, 3.0],
    );
    folded("GatherND", &["val_1", "row"], &[1, 3], &[4.0, 5.0, -6.0]);
    folded("GatherND", &["val_1", "zero"], &[3], &[1.0, -2.0, 3.0]);
    folded(
        "ScatterElements axis=0",
        &["list", "one", "three"],
        &[3],
        &[0.0, 3.0, -1.0],
    );
    folded(
        "ScatterElements reduction=add",
        &["list", "last", "three"],
        &[3],
        &[0.0, 2.0, 2.0],
    );
    folded(
        "ScatterND",
        &["list", "row", "three"],
        &[3],
        &[0.0, 2.0, 3.0],
    );
    folded(
        "ScatterND reduction=mul",
        &["list", "row", "three"],
        &[3],
        &[0.0, 2.0, -3.0],
    );
    folded(
        "Pad",
        &["val_1", "pads"],
        &[3, 4],
        &[0.0, 1.0, -2.0, 3.0, 0.0, 4.0, 5.0, -6.0, 0.0, 0.0, 0.0, 0.0],
    );
    folded(
        "Pad mode=edge",
        &["val_1", "pads"],
        &[3, 4],
        &[
            1.0, 1.0, -2.0, 3.0, 4.0, 4.0, 5.0, -6.0, 4.0, 4.0, 5.0, -6.0,
        ],
    );
    folded("NonZero", &["list"], &[1, 2], &[1.0, 2.0]);
    folded(
        "Clip min=-1.0 max=4.0",
        &["val_1"],
        &[2, 3],
        &[1.0, -1.0, 3.0, 4.0, 4.0, -1.0],
    );
}

#[test]
fn masks_of_constants_are_made() {
    folded(
        "Trilu upper=0",
        &["val_1"],
        &[2, 3],
        &[1.0, 0.0, 0.0, 4.0, 5.0, 0.0],
    );
    folded(
        "Trilu",
        &["val_1", "one"],
        &[2, 3],
        &[0.0, -2.0, 3.0, 0.0, 0.0, -6.0],
    );
    folded(
        "EyeLike k=1",
        &["val_1"],
        &[2, 3],
        &[0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
    );
    folded(
        "OneHot axis=0",
        &["list", "three", "val_2"],
        &[3, 3],
        &[0.25, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25],
    );
    folded(
        "OneHot",
        &["one", "three", "val_2"],
        &[1, 3],
        &[0.5, 0.25, 0.5],
    );
    folded("IsNaN", &["val_2"], &[2], &[0.0, 0.0]);
    folded("Xor", &["list", "one"], &[3], &[1.0, 0.0, 0.0]);
    folded("MatMul", &["val_2", "val_1"], &[3], &[1.5, 0.25, 0.0]);
    folded("Sign", &["list"], &[3], &[0.0, 1.0, -1.0]);
    folded("Round", &["val_2"], &[2], &[0.0, 0.0]);
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    folded("Sigmoid", &["val_2"], &[2], &[sigmoid(0.5), sigmoid(0.25)]);
    folded("Mod fmod=1", &["list", "three"], &[3], &[0.0, 2.0, -1.0]);
    folded("Mod", &["list", "three"], &[3], &[0.0, 2.0, 2.0]);
}

#[test]
fn constants_that_cannot_be_computed_are_refused_by_name() {
    for (operation, inputs) in [
        ("ReduceSum", &["val_1", "three"][..]),
        ("ReduceMax axes=5", &["val_1"]),
        ("ReduceProd axes=0", &["huge", "one"]),
        ("CumSum", &["val_1", "three"]),
        ("CumSum", &["val_1"]),
        ("GatherElements axis=0", &["val_1", "pair"]),
        ("GatherElements", &["val_1", "list"]),
        ("GatherND", &["val_1", "list"]),
        ("GatherND batch_dims=1", &["val_1", "list"]),
        ("GatherND batch_dims=-9", &["val_1", "row"]),
        ("ScatterElements", &["list", "three", "three"]),
        ("ScatterElements reduction=some", &["list", "one", "three"]),
        ("ScatterElements", &["list", "one", "val_3"]),
        ("ScatterND", &["list", "row", "list"]),
        ("ScatterND reduction=mul", &["huge", "row", "huge"]),
        ("Pad", &["val_1", "list"]),
        ("Pad", &["val_1", "huge"]),
        ("Pad mode=edge", &["val_3", "pads"]),
        ("Trilu", &["list"]),
        ("Trilu", &["val_1", "list"]),
        ("EyeLike", &["list"]),
        ("OneHot", &["list", "huge", "val_2"]),
        ("OneHot", &["list", "last", "val_2"]),
        ("OneHot", &["list", "three", "list"]),
        ("OneHot axis=7", &["list", "three", "val_2"]),
        ("MatMul", &["val_1", "val_1"]),
        ("MatMul", &["val_3", "val_1"]),
        ("Clip", &["val_1", "val_2"]),
        ("Tanh", &[]),
    ] {
        let message = constants(operation, inputs)
            .node("Add", &["x", "c"], "y")
            .refused("y");
        let name = operation.split(' ').next().unwrap();
        assert!(
            message.contains("node_c") && message.contains(name),
            "{operation}: {message}"
        );
    }
}

#[test]
fn reals_are_rounded_only_where_they_become_whole() {
    // 10·0.7 in single precision is 7, though the 0.7 that the file holds is a little less.
    let network = Sketch::new(&[-1, 1])
        .values("val_1", &[1], &[10.0])
        .values("val_2", &[1], &[0.7])
        .node("Mul", &["val_1", "val_2"], "size")
        .node("Floor", &["size"], "floor")
        .node("Cast to=7", &["size"], "cast")
        .node("Add", &["x", "floor"], "a")
        .node("Add", &["a", "cast"], "y")
        .load("y")
        .unwrap();
    gives(&network, 1, &[0.0], &[14.0]);
    let network = Sketch::new(&[-1, 1])
        .values("val_1", &[1], &[2.0])
        .node("Log", &["val_1"], "log")
        .node("Add", &["x", "log"], "y")
        .load("y")
        .unwrap();
    assert!((run::run(&network, 1, &[0.0])[0] - LN_2).abs() < 1e-15);
}

#[test]
fn a_large_product_of_constants_is_left_to_the_device() {
    let network = Sketch::new(&[-1, 1])
        .ints("shape", &[512, 512])
        .node("ConstantOfShape", &["shape"], "a")
        .node("MatMul", &["a", "a"], "c")
        .ints("first", &[0])
        .node("Gather", &["c", "first"], "row")
        .node("Add", &["x", "row"], "y")
        .load("y")
        .unwrap();
    assert!(network.nodes.iter().any(|n| n.operation == "MatMul"));
}
