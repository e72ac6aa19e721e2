//! Sizes that no network has: refused with the culprit's name, before anything overflows or is allocated.

use super::*;

#[test]
fn a_claimed_size_is_checked_before_anything_is_allocated() {
    let mut sketch = Sketch::new(&[-1, 4]);
    sketch.graph().initializer.push(proto::Tensor {
        name: "w".into(),
        dims: vec![1 << 40, 1 << 20],
        data_type: data_type::FLOAT,
        ..Default::default()
    });
    assert!(
        sketch
            .node("MatMul", &["x", "w"], "y")
            .refused("y")
            .contains("\"w\"")
    );
    let sketch = Sketch::new(&[-1, 4])
        .ints("shape", &[1 << 31, 1 << 31])
        .node("ConstantOfShape", &["shape"], "c")
        .node("Add", &["x", "c"], "y");
    assert!(sketch.refused("y").contains("node_c"));
    let sketch = Sketch::new(&[-1, 4])
        .ints("shape", &[1 << 40, 1 << 20, 4])
        .node("Expand", &["x", "shape"], "y");
    sketch.refused("y");
}

#[test]
fn a_fill_of_a_shape_takes_one_value() {
    for count in [0, 2] {
        let mut sketch = Sketch::new(&[-1, 4]).ints("shape", &[4]).node(
            "ConstantOfShape value=0",
            &["shape"],
            "c",
        );
        sketch.graph().node[0].attribute[0].t = Some(proto::Tensor {
            dims: vec![count],
            data_type: data_type::FLOAT,
            float_data: vec![1.0; count as usize],
            ..Default::default()
        });
        let message = sketch.node("Add", &["x", "c"], "y").refused("y");
        assert!(
            message.contains("node_c") && message.contains("elements"),
            "{message}"
        );
    }
}

#[test]
fn a_batch_larger_than_can_be_is_refused() {
    for operation in ["Relu", "Flatten axis=1", "Flatten axis=2"] {
        let sketch = Sketch::new(&[1 << 62, 4, 4]).node(operation, &["x"], "y");
        let message = sketch.refused("y");
        assert!(
            message.contains("\"x\"") && message.contains("smaller batch"),
            "{message}"
        );
    }
    // The input is within bounds, the result is not.
    let message = Sketch::new(&[1 << 32, 1])
        .weight("w", &[1, 4])
        .node("MatMul", &["x", "w"], "y")
        .refused("y");
    assert!(
        message.contains("node_y") && message.contains("smaller batch"),
        "{message}"
    );
}

#[test]
fn steps_and_pads_of_windows_are_bounded() {
    for attribute in [
        "strides=1,4294967296",
        "dilations=4294967296,1",
        "pads=0,0,1048577,0",
        "dilations=1048577,1",
    ] {
        let make = |operation: &str, inputs: &[&str]| {
            Sketch::new(&[-1, 1, 8, 8])
                .weight("w", &[2, 1, 3, 3])
                .node(&format!("{operation} {attribute}"), inputs, "y")
                .refused("y")
        };
        let name = attribute.split('=').next().unwrap();
        let message = make("Conv", &["x", "w"]);
        assert!(
            message.contains("node_y") && message.contains(name),
            "{message}"
        );
        let message = make("MaxPool kernel_shape=3,3", &["x"]);
        assert!(
            message.contains("node_y") && message.contains(name),
            "{message}"
        );
    }
}

#[test]
fn entries_of_an_axis_longer_than_can_be_are_not_listed() {
    for (operation, inputs) in [
        ("Pad", &["x", "pads"][..]),
        ("Slice", &["x", "start", "end", "last"]),
        ("Split axis=1", &["x"]),
        ("Tile", &["x", "twice"]),
        ("Upsample scales=1,1", &["x"]),
        ("ReduceMax axes=1", &["x"]),
        ("ReduceProd axes=1", &["x"]),
    ] {
        let message = Sketch::new(&[-1, 1 << 31])
            .ints("pads", &[0, 1, 0, 1])
            .ints("start", &[1])
            .ints("end", &[1 << 30])
            .ints("last", &[-1])
            .ints("twice", &[1, 2])
            .node(operation, inputs, "y")
            .refused("y");
        assert!(message.contains("node_y"), "{message}");
    }
}

#[test]
fn an_output_of_parameters_alone_is_refused() {
    // token.expand(N, 3)
    let message = Sketch::new(&[-1, 3])
        .weight("token", &[1, 3])
        .node("Shape", &["x"], "shape")
        .node("Expand", &["token", "shape"], "y")
        .refused("y");
    assert!(
        message.contains("\"y\" does not depend on the input"),
        "{message}"
    );
    let network = Sketch::new(&[-1, 3])
        .weight("token", &[1, 3])
        .node("Shape", &["x"], "shape")
        .node("Expand", &["token", "shape"], "t")
        .node("Add", &["x", "t"], "y")
        .load("y");
    assert!(network.is_ok());
}

#[test]
fn a_sum_of_many_operands_is_one_addition_after_another() {
    let names: Vec<String> = (0..9).map(|k| format!("fc{k}.bias")).collect();
    let mut sketch = Sketch::new(&[2, 3]);
    for name in &names {
        sketch = sketch.weight(name, &[3]);
    }
    // A constant baked for the batch, which only the samples of x can cut.
    sketch = sketch.values("onnx::Sum_7", &[2, 3], &[1.0, 2.0, 3.0, 1.0, 2.0, 3.0]);
    let mut operands = vec!["onnx::Sum_7"];
    operands.extend(names.iter().map(|s| s.as_str()));
    operands.push("x");
    let network = sketch.node("Sum", &operands, "y").load("y").unwrap();
    assert_eq!(network.nodes.len(), 10);
    assert!(network.nodes.iter().all(|n| n.inputs.len() == 2));
    assert_eq!(network.rest(network.output), [1, 3]);
}

#[test]
fn empty_constants_have_no_place() {
    for axis in [0, 1] {
        let mut dims = [3, 3];
        dims[axis] = 0;
        let sketch = Sketch::new(&[-1, 3])
            .values("onnx::Add_7", &dims, &[])
            .node("Add", &["x", "onnx::Add_7"], "y");
        assert!(sketch.refused("y").contains("empty"));
    }
    // Nothing else bounds the other extents of an empty tensor.
    let sketch = Sketch::new(&[-1, 3])
        .ints("shape", &[1 << 60, 0])
        .node("ConstantOfShape", &["shape"], "c")
        .node("Add", &["x", "c"], "y");
    assert!(sketch.refused("y").contains("node_c"));
}
