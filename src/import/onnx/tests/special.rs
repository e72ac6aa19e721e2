//! Infinities and NaN that a file means: masks, softmax of what they cover, and guards.

use super::run::{gives, run};
use super::*;
use crate::network::MINUS_INFINITY;

const NONE: f32 = f32::NEG_INFINITY;

/// Scores of two queries and three keys; the second query may attend to nothing.
fn masked() -> Sketch {
    Sketch::new(&[-1, 2, 3])
        .values("val_0", &[], &[0.0])
        .values("mask", &[2, 3], &[0.0, NONE, 0.0, NONE, NONE, NONE])
        .node("Add", &["x", "mask"], "scores")
        .node("Softmax axis=-1", &["scores"], "weights")
}

const X: [f64; 6] = [0.5, 3.0, 0.5, 1.0, 2.0, 3.0];

#[test]
fn a_guard_makes_0_of_the_softmax_of_a_row_that_is_hidden() {
    let network = masked()
        .node("IsNaN", &["weights"], "bad")
        .node("Where", &["bad", "val_0", "weights"], "y")
        .load("y")
        .unwrap();
    gives(&network, 1, &X, &[0.5, 0.0, 0.5, 0.0, 0.0, 0.0]);
    let written_out = masked()
        .node("IsNaN", &["weights"], "bad")
        .node("Not", &["bad"], "good")
        .node("Where", &["good", "weights", "val_0"], "kept")
        .node("IsInf", &["kept"], "large")
        .node("Where", &["large", "val_0", "kept"], "y")
        .load("y")
        .unwrap();
    gives(&written_out, 1, &X, &[0.5, 0.0, 0.5, 0.0, 0.0, 0.0]);
}

#[test]
fn a_row_that_is_hidden_and_not_guarded_spoils_the_output() {
    let network = masked()
        .values("w", &[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
        .node("MatMul", &["weights", "w"], "y")
        .load("y")
        .unwrap();
    assert!(run(&network, 1, &X).iter().all(|v| v.is_nan()));
    let last = network.nodes.last().unwrap();
    assert_eq!((&*last.name, &*last.operation), ("node_weights", "Softmax"));
}

#[test]
fn a_mask_that_leaves_something_of_each_row_costs_nothing() {
    let network = Sketch::new(&[-1, 2, 2])
        .values("w", &[2, 2], &[1.0, 0.0, 0.0, 1.0])
        .values("mask", &[2, 2], &[0.0, NONE, 0.0, 0.0])
        .values("val_0", &[], &[0.0])
        .node("MatMul", &["x", "w"], "z")
        .node("Add", &["z", "mask"], "scores")
        .node("Softmax axis=-1", &["scores"], "weights")
        .node("IsNaN", &["weights"], "bad")
        .node("Where", &["bad", "val_0", "weights"], "y")
        .load("y")
        .unwrap();
    let operations: Vec<&str> = network.nodes.iter().map(|n| &*n.operation).collect();
    assert_eq!(operations, ["MatMul", "Add", "Softmax"]);
    gives(&network, 1, &[1.0, 9.0, 2.0, 2.0], &[1.0, 0.0, 0.5, 0.5]);
}

#[test]
fn an_input_that_is_added_to_scores_may_hold_minus_infinity() {
    let network = Sketch::new(&[-1, 3])
        .values("val_0", &[], &[0.0])
        .values("scores", &[3], &[1.0, 1.0, 1.0])
        .node("Add", &["scores", "x"], "masked")
        .node("Softmax axis=-1", &["masked"], "weights")
        .node("IsNaN", &["weights"], "bad")
        .node("Where", &["bad", "val_0", "weights"], "y")
        .load("y")
        .unwrap();
    assert_eq!(network.masks, [0]);
    let low = MINUS_INFINITY;
    let x = [0.0, low, 0.0, low, low, low];
    gives(&network, 2, &x, &[0.5, 0.0, 0.5, 0.0, 0.0, 0.0]);
    let image = Sketch::new(&[-1, 3])
        .weight("w", &[3, 2])
        .node("MatMul", &["x", "w"], "z")
        .node("Softmax axis=-1", &["z"], "y")
        .load("y")
        .unwrap();
    assert!(image.masks.is_empty());
}

#[test]
fn infinities_are_seen_by_comparisons_maxima_and_logarithms() {
    let of = |x: &[f64], sketch: Sketch, expected: &[f64]| {
        gives(&sketch.load("y").unwrap(), 1, x, expected);
    };
    // The greatest of what is hidden throughout is −∞, and e^−∞ is 0.
    let greatest = masked()
        .node("ReduceMax axes=2 keepdims=0", &["scores"], "most")
        .node("Exp", &["most"], "y");
    of(&X, greatest, &[f64::exp(0.5), 0.0]);
    let count = masked()
        .values("low", &[], &[NONE])
        .values("one", &[], &[1.0])
        .node("Equal", &["scores", "low"], "hidden")
        .node("Where", &["hidden", "one", "val_0"], "y");
    of(&X, count, &[0.0, 1.0, 0.0, 1.0, 1.0, 1.0]);
    let logarithm = masked()
        .node("ReduceLogSumExp axes=2 keepdims=0", &["scores"], "sum")
        .node("IsInf", &["sum"], "none")
        .node("Where", &["none", "val_0", "sum"], "y");
    of(&X, logarithm, &[0.5 + f64::ln(2.0), 0.0]);
    let negated = masked()
        .node("Neg", &["scores"], "high")
        .node("IsInf detect_negative=0", &["high"], "none")
        .node("Where", &["none", "val_0", "high"], "y");
    of(&X, negated, &[-0.5, 0.0, -0.5, 0.0, 0.0, 0.0]);
}

#[test]
fn finite_masks_as_large_as_can_be_average_what_they_hide() {
    let low = f32::MIN;
    let network = Sketch::new(&[-1, 2])
        .values("mask", &[2], &[low, low])
        .node("Add", &["x", "mask"], "scores")
        .node("Softmax axis=-1", &["scores"], "y")
        .load("y")
        .unwrap();
    gives(&network, 1, &[1.0, 2.0], &[0.5, 0.5]);
    let both = Sketch::new(&[-1, 3])
        .values("large", &[3], &[low, low, low])
        .values("mask", &[3], &[0.0, 0.0, NONE])
        .node("Add", &["x", "large"], "a")
        .node("Add", &["a", "mask"], "scores")
        .node("Softmax axis=-1", &["scores"], "y")
        .load("y")
        .unwrap();
    gives(&both, 1, &[1.0, 1.0, 1.0], &[0.5, 0.5, 0.0]);
}

#[test]
fn outputs_that_losses_take_without_their_last_operation_are_warned_of() {
    for (operation, loss) in [("Softmax", "cross-entropy"), ("Sigmoid", "bce")] {
        let network = Sketch::new(&[-1, 3])
            .weight("w", &[3, 2])
            .ints("shape", &[-1, 2, 1])
            .node("MatMul", &["x", "w"], "z")
            .node(operation, &["z"], "p")
            .node("Reshape", &["p", "shape"], "y")
            .load("y")
            .unwrap();
        let found = |w: &String| w.contains(operation) && w.contains(loss) && w.contains("node_p");
        assert!(network.warnings.iter().any(found), "{:?}", network.warnings);
    }
}

#[test]
fn what_is_smooth_of_a_norm_reads_its_sum_of_squares() {
    for (operation, smooth) in [("Mul", true), ("Exp", false)] {
        let inputs: &[&str] = if smooth { &["m", "m"] } else { &["m"] };
        let network = Sketch::new(&[-1, 2])
            .node("ReduceL2 axes=1 keepdims=0", &["x"], "n")
            .ints("axis", &[1])
            .node("Neg", &["n"], "o")
            .ints("shape", &[-1, 1])
            .node("Reshape", &["o", "shape"], "m")
            .node(operation, inputs, "y")
            .load("y")
            .unwrap();
        let value = if smooth { 25.0 } else { f64::exp(-5.0) };
        gives(&network, 1, &[3.0, 4.0], &[value]);
        let Op::Elementwise(last) = &network.nodes.last().unwrap().op else {
            panic!("it ends in a formula");
        };
        assert_eq!(last.expr == crate::tensor::Expr::input(0), smooth);
    }
}
