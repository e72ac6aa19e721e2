//! Which initializers are parameters, which outputs are taken, and what they must hold.

use super::*;

#[test]
fn made_up_names_are_parameters_by_role_only() {
    let network = Sketch::new(&[-1, 4])
        .weight("onnx::MatMul_3", &[4, 3])
        .weight("fc.bias", &[3])
        .weight("onnx::Mul_9", &[3])
        .weight("onnx::MatMul_12", &[3, 2])
        .node("MatMul", &["x", "onnx::MatMul_3"], "a")
        .node("Add", &["fc.bias", "a"], "b")
        .node("Mul", &["b", "onnx::Mul_9"], "c")
        .node("MatMul", &["c", "onnx::MatMul_12"], "y")
        .load("y")
        .unwrap();
    let found: Vec<_> = network
        .parameters
        .iter()
        .map(|p| (p.name.as_str(), p.layer.as_str()))
        .collect();
    assert_eq!(
        found,
        [
            ("onnx::MatMul_3", "fc"),
            ("fc.bias", "fc"),
            ("onnx::MatMul_12", "node_y")
        ]
    );
    assert_eq!(network.constants.len(), 1);
}

#[test]
fn patterns_override_what_is_a_parameter() {
    let make = || {
        Sketch::new(&[-1, 4])
            .weight("fc.weight", &[3, 4])
            .weight("mask", &[3])
            .weight("val_4", &[3])
            .node("Gemm transB=1", &["x", "fc.weight"], "a")
            .node("Mul", &["a", "mask"], "b")
            .node("Add", &["b", "val_4"], "y")
    };
    let names = |options: &OnnxOptions| -> Vec<String> {
        let network = make().load_with("y", options).unwrap();
        network.parameters.iter().map(|p| p.name.clone()).collect()
    };
    assert_eq!(names(&OnnxOptions::default()), ["fc.weight", "mask"]);
    let options = OnnxOptions {
        constant: vec!["ma*".into()],
        trainable: vec!["val_4".into()],
        ..Default::default()
    };
    assert_eq!(names(&options), ["fc.weight", "val_4"]);
    let options = OnnxOptions {
        constant: vec!["nothing*".into()],
        ..Default::default()
    };
    let error = make().load_with("y", &options).unwrap_err().to_string();
    assert!(
        error.contains("nothing*") && error.contains("mask"),
        "{error}"
    );
}

#[test]
fn an_identity_named_like_a_parameter_is_one_of_its_own() {
    let network = Sketch::new(&[-1, 3])
        .weight("a.bias", &[3])
        .weight("a.weight", &[3, 3])
        .node("Identity", &["a.bias"], "b.bias")
        .node("Gemm", &["x", "a.weight", "a.bias"], "h")
        .node("Add", &["h", "b.bias"], "y")
        .load("y")
        .unwrap();
    let names: Vec<_> = network
        .parameters
        .iter()
        .map(|p| (p.name.as_str(), p.offset))
        .collect();
    assert_eq!(names, [("a.bias", 0), ("a.weight", 3), ("b.bias", 12)]);
}

#[test]
fn older_files_that_list_initializers_as_inputs_are_read() {
    let mut sketch = Sketch::new(&[-1, 4])
        .weight("w", &[4, 2])
        .node("MatMul", &["x", "w"], "y");
    sketch.graph().input.push(proto::ValueInfo {
        name: "w".into(),
        r#type: None,
    });
    assert_eq!(sketch.load("y").unwrap().inputs.len(), 1);
}

#[test]
fn an_output_must_be_named_where_there_are_several() {
    let make = || {
        let mut sketch = Sketch::new(&[-1, 4])
            .node("Relu", &["x"], "a")
            .node("Tanh", &["x"], "b");
        sketch.graph().output.push(proto::ValueInfo {
            name: "a".into(),
            r#type: None,
        });
        sketch
    };
    assert!(make().refused("b").contains("a, b"));
    let options = OnnxOptions {
        output: Some("a".into()),
        ..Default::default()
    };
    assert_eq!(
        make().load_with("b", &options).unwrap().nodes[0].operation,
        "Relu"
    );
}

#[test]
fn weights_that_are_not_finite_are_refused_by_name() {
    let sketch = Sketch::new(&[-1, 1])
        .values("w", &[1, 1], &[f32::NAN])
        .node("MatMul", &["x", "w"], "y");
    assert!(matches!(sketch.load("y"), Err(Error::Value(message)) if message.contains("\"w\"")));
}
