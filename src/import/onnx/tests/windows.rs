//! Windows of transposed convolutions and pools: extents and values as ONNX defines them.

use super::run::gives;
use super::*;

fn transposed(attributes: &str, weight: &[i64]) -> Sketch {
    let values: Vec<f32> = (1..=weight.iter().product()).map(|k| k as f32).collect();
    Sketch::new(&[-1, 1, 3]).values("w", weight, &values).node(
        &format!("ConvTranspose{attributes}"),
        &["x", "w"],
        "y",
    )
}

#[test]
fn a_transposed_convolution_spreads_its_input() {
    let x = [1.0, 10.0, 100.0];
    for (attributes, expected) in [
        ("", &[1.0, 12.0, 123.0, 230.0, 300.0][..]),
        (" strides=2", &[1.0, 2.0, 13.0, 20.0, 130.0, 200.0, 300.0]),
        (
            " strides=2 output_padding=1",
            &[1.0, 2.0, 13.0, 20.0, 130.0, 200.0, 300.0, 0.0],
        ),
        (
            " dilations=2",
            &[1.0, 10.0, 102.0, 20.0, 203.0, 30.0, 300.0],
        ),
        (" strides=2 pads=1,2", &[2.0, 13.0, 20.0, 130.0]),
        // 7 entries to 5: one off at either end; to 6: the odd one off the start, or the end.
        (
            " strides=2 output_shape=5",
            &[2.0, 13.0, 20.0, 130.0, 200.0],
        ),
        (
            " strides=2 output_shape=6",
            &[2.0, 13.0, 20.0, 130.0, 200.0, 300.0],
        ),
        (
            " strides=2 auto_pad=SAME_LOWER",
            &[2.0, 13.0, 20.0, 130.0, 200.0, 300.0],
        ),
        (
            " strides=2 auto_pad=SAME_UPPER",
            &[1.0, 2.0, 13.0, 20.0, 130.0, 200.0],
        ),
        (
            " strides=2 auto_pad=VALID",
            &[1.0, 2.0, 13.0, 20.0, 130.0, 200.0, 300.0],
        ),
    ] {
        let network = transposed(attributes, &[1, 1, 3]).load("y").unwrap();
        gives(&network, 1, &x, expected);
    }
}

#[test]
fn a_transposed_convolution_has_groups_and_a_bias() {
    let network = Sketch::new(&[-1, 2, 1])
        .values(
            "up.weight",
            &[2, 2, 2],
            &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0],
        )
        .values("up.bias", &[4], &[100.0, 200.0, 300.0, 400.0])
        .node("ConvTranspose group=2", &["x", "up.weight", "up.bias"], "y")
        .load("y")
        .unwrap();
    let layers: Vec<_> = network
        .parameters
        .iter()
        .map(|p| p.layer.as_str())
        .collect();
    assert_eq!(layers, ["up", "up"]);
    let expected = [101.0, 102.0, 203.0, 204.0, 350.0, 360.0, 470.0, 480.0];
    gives(&network, 1, &[1.0, 10.0], &expected);
}

#[test]
fn a_transposed_convolution_that_cannot_be_is_refused_by_name() {
    for attributes in [
        " pads=4,4",
        " output_shape=9",
        " strides=0",
        " pads=-1,0",
        " output_padding=4294967296",
        " group=2",
        " strides=1048577",
        " strides=4 auto_pad=SAME_UPPER",
        " auto_pad=SOMEHOW",
    ] {
        let message = transposed(attributes, &[1, 1, 3]).refused("y");
        assert!(message.contains("node_y"), "{message}");
    }
    let message = transposed("", &[2, 1, 3]).refused("y");
    assert!(message.contains("[2, 1, 3]"), "{message}");
}

#[test]
fn a_window_of_ceil_mode_may_be_wider_than_its_input() {
    let pool = |attributes: &str| {
        Sketch::new(&[-1, 1, 2]).node(&format!("MaxPool {attributes}"), &["x"], "y")
    };
    let network = pool("kernel_shape=3 strides=2 ceil_mode=1")
        .load("y")
        .unwrap();
    gives(&network, 1, &[1.0, 2.0], &[2.0]);
    for attributes in [
        "kernel_shape=3 strides=2",
        "kernel_shape=4 strides=2 ceil_mode=1",
    ] {
        let message = pool(attributes).refused("y");
        assert!(
            message.contains("node_y") && message.contains("window"),
            "{message}"
        );
    }
}
