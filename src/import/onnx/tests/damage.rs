//! Sizes that no network has: refused with the culprit's name, before anything overflows or is allocated.

use super::*;
use proptest::prelude::*;
use std::path::Path;

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

/// Every integer of a graph that says a size, an axis or the like.
fn integers(model: &mut proto::Model) -> Vec<&mut i64> {
    fn of(tensor: &mut proto::Tensor) -> impl Iterator<Item = &mut i64> {
        tensor.dims.iter_mut().chain(&mut tensor.int64_data)
    }
    let graph = model.graph.as_mut().unwrap();
    let mut all = Vec::new();
    for input in &mut graph.input {
        let shape = input.r#type.as_mut().and_then(|t| t.tensor_type.as_mut());
        for dim in &mut shape.unwrap().shape.as_mut().unwrap().dim {
            if let Some(dimension::Value::Extent(extent)) = &mut dim.value {
                all.push(extent);
            }
        }
    }
    all.extend(graph.initializer.iter_mut().flat_map(of));
    for attribute in graph.node.iter_mut().flat_map(|n| &mut n.attribute) {
        all.push(&mut attribute.i);
        all.extend(&mut attribute.ints);
        all.extend(attribute.t.iter_mut().flat_map(of));
    }
    all
}

/// Shape arithmetic kept as bytes becomes integers, so that these change too; an open batch may be fixed.
fn open_up(model: &mut proto::Model, batch: Option<i64>) {
    let graph = model.graph.as_mut().unwrap();
    let kept = graph.node.iter_mut().flat_map(|n| &mut n.attribute);
    let kept = kept.filter_map(|a| a.t.as_mut());
    for tensor in graph.initializer.iter_mut().chain(kept) {
        if tensor.data_type == data_type::INT64 && !tensor.raw_data.is_empty() {
            let words = tensor.raw_data.chunks_exact(8);
            tensor.int64_data = words
                .map(|b| i64::from_le_bytes(b.try_into().unwrap()))
                .collect();
            tensor.raw_data = Default::default();
        }
    }
    let Some(batch) = batch else { return };
    for input in &mut graph.input {
        let shape = input.r#type.as_mut().and_then(|t| t.tensor_type.as_mut());
        for dim in &mut shape.unwrap().shape.as_mut().unwrap().dim {
            if matches!(dim.value, Some(dimension::Value::Name(_))) {
                dim.value = Some(dimension::Value::Extent(batch));
            }
        }
    }
}

fn sizes() -> impl Strategy<Value = i64> {
    prop_oneof![
        -4i64..9,
        (0u32..63, -1i64..2).prop_map(|(power, more)| (1i64 << power) + more),
        prop::sample::select(vec![i64::MIN, i64::MIN + 1, i64::MAX, -(1 << 32)]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]
    #[test]
    fn changed_sizes_never_panic(
        which in any::<prop::sample::Index>(),
        batch in prop::option::of(sizes()),
        changes in prop::collection::vec((any::<prop::sample::Index>(), sizes()), 0..4),
    ) {
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/models");
        let mut files: Vec<_> = std::fs::read_dir(models)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|e| e == "onnx"))
            .collect();
        files.sort();
        let bytes = std::fs::read(which.get(&files)).unwrap();
        let mut model = proto::Model::decode(bytes.as_slice()).unwrap();
        open_up(&mut model, batch);
        let mut all = integers(&mut model);
        for (at, size) in changes {
            if !all.is_empty() {
                let at = at.index(all.len());
                *all[at] = size;
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("changed.onnx");
        std::fs::write(&path, model.encode_to_vec()).unwrap();
        let _ = load(&path, &OnnxOptions::default());
    }
}
