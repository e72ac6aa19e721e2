//! Reductions over axes: values, samples, and what is refused.

use super::run::gives;
use super::*;

#[test]
fn reductions_over_axes_have_the_values_that_onnx_defines() {
    let x = [1.0, -2.0, 3.0, -4.0, 0.0, 6.0];
    let exp = |v: [f64; 3]| v.iter().map(|x| x.exp()).sum::<f64>().ln();
    for (operation, expected) in [
        ("ReduceSum", [2.0, 2.0]),
        ("ReduceMean", [2.0 / 3.0, 2.0 / 3.0]),
        ("ReduceL1", [6.0, 10.0]),
        ("ReduceL2", [14f64.sqrt(), 52f64.sqrt()]),
        ("ReduceSumSquare", [14.0, 52.0]),
        ("ReduceMax", [3.0, 6.0]),
        ("ReduceMin", [-2.0, -4.0]),
        (
            "ReduceLogSumExp",
            [exp([1.0, -2.0, 3.0]), exp([-4.0, 0.0, 6.0])],
        ),
        ("ReduceLogSum", [2f64.ln(), 2f64.ln()]),
        ("ReduceProd", [-6.0, 0.0]),
        ("GlobalMaxPool", [3.0, 6.0]),
        ("GlobalLpPool", [14f64.sqrt(), 52f64.sqrt()]),
        ("GlobalLpPool p=1", [6.0, 10.0]),
    ] {
        let name = operation.split(' ').next().unwrap();
        for keep in [0, 1] {
            let (operation, inputs) = match name.starts_with("Reduce") {
                true => (format!("{operation} keepdims={keep}"), vec!["x", "axes"]),
                false => (operation.to_string(), vec!["x"]),
            };
            let network = Sketch::new(&[-1, 2, 3])
                .ints("axes", &[-1])
                .node(&operation, &inputs, "y")
                .load("y")
                .unwrap();
            gives(&network, 1, &x, &expected);
            let kept = keep == 1 || inputs.len() == 1;
            assert_eq!(network.rest(network.output).len(), if kept { 3 } else { 2 });
        }
    }
    // Large values do not overflow.
    let network = Sketch::new(&[-1, 2])
        .node("ReduceLogSumExp axes=1 keepdims=0", &["x"], "y")
        .load("y")
        .unwrap();
    gives(
        &network,
        1,
        &[1000.0, 1000.0],
        &[1000.0 + std::f64::consts::LN_2],
    );
}

#[test]
fn a_maximum_over_axes_before_the_samples_leaves_them_apart() {
    let network = Sketch::new(&[-1, 2, 3])
        .node("Transpose perm=1,0,2", &["x"], "t")
        .node("ReduceMax axes=0 keepdims=0", &["t"], "y")
        .load("y")
        .unwrap();
    assert_eq!(
        (network.output_sample_axis, network.rest(network.output)),
        (0, &[1, 3][..])
    );
    let x = [1.0, 5.0, 2.0, 4.0, 3.0, 6.0];
    gives(&network, 1, &x, &[4.0, 5.0, 6.0]);
}

#[test]
fn a_product_of_any_number_of_entries_is_taken() {
    for count in 1..8 {
        let network = Sketch::new(&[-1, count, 2])
            .node("ReduceProd axes=1 keepdims=0", &["x"], "y")
            .load("y")
            .unwrap();
        let x: Vec<f64> = (0..2 * count).map(|k| k as f64 - 1.5).collect();
        let product = |from: usize| x.iter().skip(from).step_by(2).product();
        gives(&network, 1, &x, &[product(0), product(1)]);
    }
}

#[test]
fn a_norm_at_zero_has_no_slope() {
    let network = Sketch::new(&[-1, 1])
        .node("ReduceL2 axes=1", &["x"], "y")
        .load("y")
        .unwrap();
    let Op::Elementwise(root) = &network.nodes.last().unwrap().op else {
        panic!("the root comes last");
    };
    assert_eq!(root.expr.derivative(0).evaluate(&[0.0]), 0.0);
    assert_eq!(root.expr.derivative(0).evaluate(&[4.0]), 0.25);
}

#[test]
fn reductions_over_samples_are_refused_by_name() {
    for operation in [
        "ReduceMax",
        "ReduceL2 axes=0",
        "ReduceLogSumExp axes=-3",
        "ReduceMin axes=0,1",
    ] {
        let message = Sketch::new(&[-1, 2, 3])
            .node(operation, &["x"], "y")
            .refused("y");
        assert!(
            message.contains("node_y") && message.contains("samples"),
            "{message}"
        );
    }
    let message = Sketch::new(&[-1, 2, 3])
        .node("GlobalLpPool p=3", &["x"], "y")
        .refused("y");
    assert!(message.contains("p = 3"), "{message}");
}
