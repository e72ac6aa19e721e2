//! Recurrent nodes: which operands are parameters, what is refused; values are those of `tests/golden`.

use super::*;

/// A GRU of 2 units over 3 steps of 2 numbers, the samples on axis 1.
fn gru(attributes: &str) -> Sketch {
    Sketch::new(&[3, -1, 2])
        .weight("onnx::GRU_10", &[1, 6, 2])
        .weight("onnx::GRU_11", &[1, 6, 2])
        .weight("onnx::GRU_12", &[1, 12])
        .node(
            &format!("GRU{attributes}"),
            &["x", "onnx::GRU_10", "onnx::GRU_11", "onnx::GRU_12"],
            "y h",
        )
}

#[test]
fn weights_and_biases_of_a_recurrent_node_are_one_layer_whatever_their_names() {
    let network = gru(" linear_before_reset=1 hidden_size=2")
        .load("h")
        .unwrap();
    let found: Vec<(&str, &str, usize)> = network
        .parameters
        .iter()
        .map(|p| (p.name.as_str(), p.layer.as_str(), p.data.len()))
        .collect();
    let layer = "node_y h";
    assert_eq!(
        found,
        [
            ("onnx::GRU_10", layer, 12),
            ("onnx::GRU_11", layer, 12),
            ("onnx::GRU_12", layer, 12)
        ]
    );
    assert!(network.warnings.is_empty(), "{:?}", network.warnings);
    assert_eq!(network.rest(network.output), [1, 1, 2]);
}

#[test]
fn a_state_of_zeros_needs_no_products() {
    let products = |network: &Network| {
        let linear = |node: &&crate::network::Node| matches!(node.op, Op::Linear(_));
        network.nodes.iter().filter(linear).count()
    };
    // One of x for all steps, and the recurrence from the second step on.
    assert_eq!(
        products(&gru(" linear_before_reset=1").load("h").unwrap()),
        3
    );
    // Before it multiplies, a GRU that resets has two of them.
    assert_eq!(products(&gru("").load("h").unwrap()), 5);
}

#[test]
fn steps_on_the_axis_of_the_samples_are_refused() {
    let message = Sketch::new(&[-1, 3, 2])
        .weight("w", &[1, 2, 2])
        .weight("r", &[1, 2, 2])
        .node("RNN", &["x", "w", "r"], "y h")
        .refused("h");
    assert!(
        message.contains("steps lie on axis 0") && message.contains("batch_first"),
        "{message}"
    );
}

#[test]
fn recurrent_nodes_that_cannot_be_are_refused_with_the_reason() {
    for (attributes, reason) in [
        (" direction=sideways", "sideways"),
        (" direction=bidirectional", "weights"),
        (" hidden_size=3", "hidden_size is 3"),
    ] {
        let message = gru(attributes).refused("y");
        assert!(
            message.contains("node_y") && message.contains(reason),
            "{message}"
        );
    }
    let mut named = gru("");
    named.graph().node[0].attribute.push(proto::Attribute {
        name: "activations".into(),
        strings: vec!["Sigmoid".into(), "Swish".into()],
        ..Default::default()
    });
    let message = named.refused("y");
    assert!(message.contains("\"Swish\""), "{message}");
    // The lengths of the samples of an example.
    let message = Sketch::new(&[2, 3, 2])
        .weight("w", &[1, 2, 2])
        .weight("r", &[1, 2, 2])
        .ints("lengths", &[3, 2])
        .node("RNN layout=1", &["x", "w", "r", "", "lengths"], "y h")
        .refused("h");
    assert!(message.contains("lengths as an input"), "{message}");
}

#[test]
fn more_steps_than_can_be_unrolled_are_refused() {
    let message = Sketch::new(&[1 << 24, -1, 2])
        .weight("w", &[1, 2, 2])
        .weight("r", &[1, 2, 2])
        .node("RNN", &["x", "w", "r"], "y h")
        .refused("h");
    assert!(
        message.contains("node_y") && message.contains("shorter sequence"),
        "{message}"
    );
}
