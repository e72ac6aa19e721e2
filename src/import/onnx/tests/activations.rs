//! Formulas of one operand: values, kinks as in PyTorch, exponents and bounds that are refused.

use super::run::gives;
use super::*;
use crate::tensor::Expr;

/// The formula of a network of one elementwise node.
fn formula(network: &Network) -> Expr {
    match &network.nodes[..] {
        [node] => match &node.op {
            Op::Elementwise(op) => op.expr.clone(),
            other => panic!("{other:?} is no elementwise operation"),
        },
        nodes => panic!("{} nodes", nodes.len()),
    }
}

fn activation(operation: &str) -> Expr {
    let sketch = Sketch::new(&[-1, 3]).node(operation, &["x"], "y");
    formula(&sketch.load("y").unwrap())
}

#[track_caller]
fn close(found: f64, expected: f64) {
    assert!(
        (found - expected).abs() < 1e-6,
        "{found} instead of {expected}"
    );
}

#[test]
fn activations_have_the_values_that_onnx_defines() {
    // At x = 0.7.
    for (operation, expected) in [
        ("Erf", 0.677_801_193_8),
        ("Gelu", 0.530_625_438_4),
        ("Gelu approximate=none", 0.530_625_438_4),
        ("Gelu approximate=tanh", 0.530_570_134_7),
        ("Mish", 0.7 * (1.0f64 + 0.7f64.exp()).ln().tanh()),
        ("Swish", 0.7 / (1.0 + (-0.7f64).exp())),
        ("Swish alpha=1.5", 0.7 / (1.0 + (-1.05f64).exp())),
        ("ThresholdedRelu", 0.0),
        ("ThresholdedRelu alpha=0.5", 0.7),
        ("Shrink", 0.7),
        ("Shrink lambd=0.25 bias=0.5", 0.2),
        ("Sign", 1.0),
        ("Tan", 0.842_288_380_5),
        ("Asin", 0.775_397_496_6),
        ("Acos", 0.795_398_830_2),
        ("Atan", 0.610_725_964_4),
        ("Sinh", 0.758_583_701_8),
        ("Cosh", 1.255_169_005_6),
        ("Asinh", 0.652_666_566_1),
        ("Atanh", 0.867_300_527_7),
        ("Floor", 0.0),
        ("Ceil", 1.0),
        ("Round", 1.0),
    ] {
        close(activation(operation).evaluate(&[0.7]), expected);
    }
    let shrink = activation("Shrink lambd=0.25 bias=0.5");
    close(shrink.evaluate(&[-0.7]), -0.2);
    close(shrink.evaluate(&[-0.2]), 0.0);
    let message = Sketch::new(&[-1, 3])
        .node("Gelu approximate=fast", &["x"], "y")
        .refused("y");
    assert!(
        message.contains("node_y") && message.contains("fast"),
        "{message}"
    );
}

#[test]
fn derivatives_at_kinks_are_those_of_pytorch() {
    let at = |operation: &str, x: f64| activation(operation).derivative(0).evaluate(&[x]);
    assert_eq!(at("Shrink lambd=0.5", 0.5), 0.0);
    assert_eq!(at("Shrink lambd=0.5", -0.5), 0.0);
    assert_eq!(at("Shrink lambd=0.5", -0.75), 1.0);
    assert_eq!(at("ThresholdedRelu alpha=0.5", 0.5), 0.0);
    assert_eq!(at("ThresholdedRelu alpha=0.5", 0.75), 1.0);
    assert_eq!(
        [-1.0, 0.0, 1.0].map(|x| activation("Sign").evaluate(&[x])),
        [-1.0, 0.0, 1.0]
    );
    assert_eq!(activation("Sign").derivative(0), Expr::constant(0.0));
    for operation in ["Floor", "Ceil", "Round"] {
        assert_eq!(activation(operation).derivative(0), Expr::constant(0.0));
    }
    close(activation("Acosh").evaluate(&[1.5]), 0.962_423_650_1);
    assert_eq!(activation("Round").evaluate(&[2.5]), 2.0);
    assert_eq!(activation("Round").evaluate(&[-3.5]), -4.0);
}

#[test]
fn a_rounded_activation_is_said_to_stop_derivatives() {
    let network = Sketch::new(&[-1, 2])
        .weight("b", &[2])
        .node("Ceil", &["x"], "c")
        .node("Add", &["c", "b"], "h")
        .node("Round", &["h"], "r")
        .node("Floor", &["h"], "f")
        .node("Round", &["f"], "g")
        .node("Sum", &["g", "h", "r"], "y")
        .load("y")
        .unwrap();
    // Not of the data alone, and once for each function.
    let said: Vec<&String> = network
        .warnings
        .iter()
        .filter(|w| w.contains("straight-through"))
        .collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        said[0].contains("node_r") && said[1].contains("node_f"),
        "{said:?}"
    );
}

#[test]
fn sums_and_means_take_any_number_of_operands() {
    for (operation, expected) in [("Sum", [4.0, 5.0]), ("Mean", [4.0 / 3.0, 5.0 / 3.0])] {
        let network = Sketch::new(&[-1, 2])
            .values("onnx::Sum_1", &[2], &[2.0, 1.0])
            .node(operation, &["x", "onnx::Sum_1", "x"], "y")
            .load("y")
            .unwrap();
        gives(&network, 1, &[1.0, 2.0], &expected);
    }
}

#[test]
fn the_logarithm_of_a_sigmoid_stays_finite() {
    let network = Sketch::new(&[-1, 2])
        .node("Sigmoid", &["x"], "s")
        .node("Log", &["s"], "y")
        .load("y")
        .unwrap();
    gives(
        &network,
        1,
        &[-2000.0, 0.0],
        &[-2000.0, -std::f64::consts::LN_2],
    );
    // What else reads the sigmoid still does.
    let network = Sketch::new(&[-1, 1])
        .node("Sigmoid", &["x"], "s")
        .node("Log", &["s"], "l")
        .node("Add", &["s", "l"], "y")
        .load("y")
        .unwrap();
    gives(&network, 1, &[0.0], &[0.5 - std::f64::consts::LN_2]);
}

#[test]
fn the_larger_of_equals_gives_each_half_the_derivative() {
    for (operation, at_tie, above) in [("Max", 0.5, 1.0), ("Min", 0.5, 0.0)] {
        let network = Sketch::new(&[-1, 2])
            .values("onnx::Max_1", &[2], &[1.0, 1.0])
            .node(operation, &["onnx::Max_1", "x"], "y")
            .load("y")
            .unwrap();
        let slope = formula(&network).derivative(0);
        assert_eq!(slope.evaluate(&[1.0, 1.0]), at_tie);
        assert_eq!(slope.evaluate(&[1.5, 1.0]), above);
    }
    let network = Sketch::new(&[-1, 2])
        .values("onnx::Max_1", &[2], &[1.0, 4.0])
        .values("onnx::Max_2", &[1], &[2.0])
        .node("Max", &["onnx::Max_1", "x", "onnx::Max_2"], "y")
        .load("y")
        .unwrap();
    gives(&network, 2, &[1.0, 3.0, 5.0, 5.0], &[2.0, 4.0, 5.0, 5.0]);
    let alone = Sketch::new(&[-1, 2])
        .node("Min", &["x"], "m")
        .node("Neg", &["m"], "y");
    gives(&alone.load("y").unwrap(), 1, &[1.0, 2.0], &[-1.0, -2.0]);
}

#[test]
fn powers_take_any_constant_exponent() {
    let power = |exponent: f32| {
        let sketch = Sketch::new(&[-1, 1])
            .values("val_9", &[], &[exponent])
            .node("Pow", &["x", "val_9"], "y");
        formula(&sketch.load("y").unwrap())
    };
    for (exponent, x, value, slope) in [
        (2.0, -3.0, 9.0, -6.0),
        (3.0, 0.0, 0.0, 0.0),
        (8.0, -1.5, 1.5f64.powi(8), -8.0 * 1.5f64.powi(7)),
        (9.0, -1.5, -1.5f64.powi(9), 9.0 * 1.5f64.powi(8)),
        (-2.0, -2.0, 0.25, 0.25),
        (0.5, 4.0, 2.0, 0.25),
        (-0.5, 4.0, 0.5, -0.0625),
        (1.5, 4.0, 8.0, 3.0),
        (0.0, 0.0, 1.0, 0.0),
    ] {
        let expr = power(exponent);
        close(expr.evaluate(&[x]), value);
        close(expr.derivative(0).evaluate(&[x]), slope);
    }
    let square = power(2.0).derivative(0).derivative(0);
    assert_eq!(square.evaluate(&[0.0]), 2.0);
}

#[test]
fn an_exponent_for_each_position_is_a_power_of_two_operands() {
    let network = Sketch::new(&[-1, 4])
        .values("val_9", &[4], &[0.0, 1.0, 2.0, 0.5])
        .node("Pow", &["x", "val_9"], "y")
        .load("y")
        .unwrap();
    gives(&network, 1, &[3.0, 3.0, 3.0, 9.0], &[1.0, 3.0, 9.0, 3.0]);
    let slope = formula(&network).derivative(0);
    assert_eq!(
        [0.0, 1.0, 2.0].map(|y| slope.evaluate(&[0.0, y])),
        [0.0, 1.0, 0.0]
    );
    assert_eq!(slope.derivative(0).evaluate(&[0.0, 1.0]), 0.0);
    let network = Sketch::new(&[-1, 2])
        .values("val_0", &[], &[2.0])
        .node("Pow", &["val_0", "x"], "y")
        .load("y")
        .unwrap();
    gives(&network, 1, &[3.0, -1.0], &[8.0, 0.5]);
    let slope = formula(&network).derivative(0).evaluate(&[3.0]);
    close(slope, 8.0 * std::f64::consts::LN_2);
    let network = Sketch::new(&[-1, 2])
        .node("Pow", &["x", "x"], "y")
        .load("y")
        .unwrap();
    gives(&network, 1, &[3.0, 0.5], &[27.0, 0.5f64.sqrt()]);
    let slope = formula(&network).derivative(0).evaluate(&[3.0]);
    close(slope, 27.0 * (1.0 + 3.0f64.ln()));
}

#[test]
fn bounds_of_a_clip_may_be_attributes_or_operands_and_may_cross() {
    let values = [-3.0, -0.5, 0.0, 2.0];
    let old = Sketch::new(&[-1, 4]).node("Clip min=-0.5 max=1.0", &["x"], "y");
    gives(&old.load("y").unwrap(), 1, &values, &[-0.5, -0.5, 0.0, 1.0]);
    let clip = |low: &str, high: &str| {
        Sketch::new(&[-1, 4])
            .values("low", &[], &[-0.5])
            .values("high", &[1], &[1.0])
            .node("Clip", &["x", low, high], "y")
            .load("y")
            .unwrap()
    };
    gives(&clip("low", "high"), 1, &values, &[-0.5, -0.5, 0.0, 1.0]);
    gives(&clip("", "high"), 1, &values, &[-3.0, -0.5, 0.0, 1.0]);
    gives(&clip("high", "low"), 1, &values, &[-0.5; 4]);
}

#[test]
fn infinite_constants_are_made_finite_and_others_refused() {
    for dims in [&[3][..], &[1]] {
        let values = vec![f32::NEG_INFINITY; dims[0] as usize];
        let network = Sketch::new(&[-1, 3])
            .values("val_1", dims, &values)
            .node("Add", &["x", "val_1"], "a")
            .node("Exp", &["a"], "y")
            .load("y")
            .unwrap();
        gives(&network, 1, &[1.0, 2.0, 3.0], &[0.0; 3]);
        let finite = network.constants.iter().flat_map(|c| c.to_f64());
        assert!(
            finite.clone().all(|v| v == f64::from(f32::MIN)),
            "{:?}",
            finite.collect::<Vec<_>>()
        );
        let nan = vec![f32::NAN; dims[0] as usize];
        let refused = Sketch::new(&[-1, 3])
            .values("val_1", dims, &nan)
            .node("Add", &["x", "val_1"], "y")
            .refused("y");
        assert!(
            refused.contains("node_y") && refused.contains("not"),
            "{refused}"
        );
    }
}

#[test]
fn what_is_added_and_holds_minus_infinity_is_a_mask() {
    let make = |operation: &str, worst: f32| {
        Sketch::new(&[-1, 2])
            .values("fc.weight", &[2, 2], &[1.0; 4])
            .values("mask", &[2], &[0.0, worst])
            .node("MatMul", &["x", "fc.weight"], "a")
            .node(operation, &["a", "mask"], "y")
    };
    let network = make("Add", f32::NEG_INFINITY).load("y").unwrap();
    assert_eq!(network.parameter_count(), 4);
    assert!(
        network.warnings[0].contains("mask"),
        "{:?}",
        network.warnings
    );
    for worst in [f32::INFINITY, f32::NAN] {
        assert!(make("Add", worst).refused("y").contains("\"mask\""));
    }
    let bias = Sketch::new(&[-1, 2])
        .values("fc.weight", &[2, 2], &[1.0; 4])
        .values("fc.bias", &[2], &[0.0, f32::NEG_INFINITY])
        .node("Gemm", &["x", "fc.weight", "fc.bias"], "y");
    assert!(bias.refused("y").contains("\"fc.bias\""));
}

#[test]
fn nothing_of_the_data_is_not_a_number() {
    let network = Sketch::new(&[-1, 2])
        .values("val_0", &[], &[0.0])
        .node("IsNaN", &["x"], "n")
        .node("Where", &["n", "val_0", "x"], "y")
        .load("y")
        .unwrap();
    gives(&network, 1, &[1.0, 2.0], &[1.0, 2.0]);
}

#[test]
fn what_has_no_derivative_or_is_out_of_scope_says_so() {
    for (operation, reason) in [
        ("Loop", "out of scope"),
        ("If", "out of scope"),
        ("SequenceConstruct", "out of scope"),
        ("ArgMax", "no derivative"),
        ("TopK", "no derivative"),
        ("NonZero", "use a mask"),
    ] {
        let message = Sketch::new(&[-1, 3])
            .weight("w", &[3, 3])
            .node("MatMul", &["x", "w"], "h")
            .node(operation, &["h"], "y")
            .refused("y");
        assert!(
            message.contains("node_y") && message.contains(reason),
            "{message}"
        );
    }
}
