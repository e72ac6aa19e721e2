//! Where the samples lie in files of batch 1, and in files without an axis for them.

use super::run::gives;
use super::{Sketch, data_type, proto};

/// x·xᵀ of two heads that are split off as the older exporter does it, the batch folded into the heads.
fn folded_heads(input: [i64; 3], heads: [i64; 3]) -> Sketch {
    Sketch::new(&input)
        .node("Transpose perm=1,0,2", &["x"], "t")
        .ints("split", &heads)
        .node("Reshape", &["t", "split"], "s")
        .node("Transpose perm=1,0,2", &["s"], "q")
        .node("Transpose perm=0,2,1", &["q"], "k")
        .node("MatMul", &["q", "k"], "scores")
        .node("MatMul", &["scores", "q"], "z")
        .node("Transpose perm=1,0,2", &["z"], "back")
}

#[test]
fn heads_folded_into_a_batch_of_one_are_no_samples() {
    for batch in [1, 2, 5] {
        let network = folded_heads([batch, 3, 4], [3, 2 * batch, 2])
            .ints("joined", &[3, batch, 4])
            .node("Reshape", &["back", "joined"], "j")
            .weight("w", &[4, 2])
            .node("MatMul", &["j", "w"], "z2")
            .node("Transpose perm=1,0,2", &["z2"], "y")
            .load("y")
            .unwrap();
        assert_eq!(network.output_sample_axis, 0, "batch {batch}");
        assert_eq!(network.rest(network.output), [1, 3, 2]);
    }
}

#[test]
fn a_sum_over_positions_and_samples_is_refused_at_batch_one() {
    // [T·N, D] summed over its rows, whichever way they came to lie together.
    let message = Sketch::new(&[1, 3, 4])
        .ints("flat", &[3, 4])
        .node("Reshape", &["x", "flat"], "m")
        .node("ReduceMean axes=0 keepdims=1", &["m"], "y")
        .refused("y");
    assert!(message.contains("mixes"), "{message}");
    let message = folded_heads([1, 3, 4], [3, 2, 2])
        .ints("flat", &[3, 4])
        .node("Reshape", &["back", "flat"], "m")
        .weight("w", &[4, 2])
        .node("MatMul", &["m", "w"], "z2")
        .node("Softmax axis=0", &["z2"], "y")
        .refused("y");
    assert!(message.contains("mixes"), "{message}");
}

#[test]
fn many_operands_with_a_choice_each_agree_on_one() {
    let mut sketch = Sketch::new(&[1, 4]).ints("wide", &[1, 1, 4]);
    let names: Vec<String> = (0..12).map(|k| format!("r{k}")).collect();
    for name in &names {
        sketch = sketch.node("Reshape", &["x", "wide"], name);
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let network = sketch.node("Concat axis=1", &names, "y").load("y").unwrap();
    assert_eq!(network.output_sample_axis, 0);
    assert_eq!(network.rest(network.output), [1, 12, 4]);
}

#[test]
fn squeezing_all_axes_leaves_the_samples_where_the_batch_is_open() {
    for batch in [-1, 3] {
        let network = Sketch::new(&[batch, 2])
            .weight("w", &[2, 1])
            .node("MatMul", &["x", "w"], "z")
            .node("Squeeze", &["z"], "y")
            .load("y")
            .unwrap();
        assert_eq!(network.rest(network.output), [1]);
        // w = −1, −0.75
        gives(&network, 2, &[1.0, 2.0, 4.0, 0.0], &[-2.5, -4.0]);
    }
}

#[test]
fn squeezing_all_axes_of_one_sample_leaves_a_number_for_each() {
    let network = Sketch::new(&[1, 2])
        .weight("w", &[2, 1])
        .node("MatMul", &["x", "w"], "z")
        .node("Squeeze", &["z"], "s")
        .node("Tanh", &["s"], "t")
        .node("Neg", &["t"], "y")
        .load("y")
        .unwrap();
    assert_eq!(network.rest(network.output), [1]);
    assert_eq!(network.output_sample_axis, 0);
    let expected = [2.5f64.tanh(), 4.0f64.tanh()];
    gives(&network, 2, &[1.0, 2.0, 4.0, 0.0], &expected);
}

#[test]
fn dropping_the_axis_of_an_open_batch_is_refused() {
    let message = Sketch::new(&[-1, 2])
        .ints("first", &[0])
        .node("Squeeze", &["x", "first"], "y")
        .refused("y");
    assert!(message.contains("batch of 1 only"), "{message}");
}

#[test]
fn a_vector_that_meets_a_weight_is_one_sample() {
    let network = Sketch::new(&[2])
        .weight("fc.weight", &[2, 2])
        .node("MatMul", &["x", "fc.weight"], "h")
        .node("Relu", &["h"], "y")
        .load("y")
        .unwrap();
    assert_eq!(network.inputs[0].rest, [1, 2]);
    assert_eq!(network.inputs[0].sample_axis, 0);
    assert_eq!(network.rest(network.output), [1, 2]);
    let said = "no axis for the samples";
    assert!(
        network.warnings.iter().any(|w| w.contains(said)),
        "{:?}",
        network.warnings
    );
    // W = [[−1, −0.75], [−0.5, −0.25]]
    gives(
        &network,
        2,
        &[-1.0, 0.0, 1.0, -4.0],
        &[1.0, 0.75, 1.0, 0.25],
    );
}

#[test]
fn a_vector_without_a_weight_holds_a_number_per_sample() {
    let network = Sketch::new(&[3])
        .node("Tanh", &["x"], "y")
        .load("y")
        .unwrap();
    assert_eq!(network.inputs[0].rest, [1]);
    assert_eq!(network.rest(network.output), [1]);
}

#[test]
fn an_image_without_a_batch_is_one_sample() {
    for channels in [1, 2] {
        let network = Sketch::new(&[channels, 3, 3])
            .ints("first", &[0])
            .weight("conv.weight", &[2, channels, 2, 2])
            .node("Unsqueeze", &["x", "first"], "u")
            .node("Conv kernel_shape=2,2", &["u", "conv.weight"], "c")
            .node("Squeeze", &["c", "first"], "s")
            .ints("flat", &[8])
            .node("Reshape", &["s", "flat"], "f")
            .weight("fc.weight", &[8, 2])
            .node("MatMul", &["f", "fc.weight"], "y")
            .load("y")
            .unwrap();
        assert_eq!(network.rest(network.output), [1, 2]);
        let shape = network.inputs[0].sample_shape();
        assert_eq!(shape.iter().product::<usize>(), 9 * channels as usize);
    }
}

#[test]
fn columns_of_samples_are_not_taken_for_one_sample() {
    let message = Sketch::new(&[4, 3])
        .weight("fc.weight", &[2, 4])
        .node("MatMul", &["fc.weight", "x"], "y")
        .refused("y");
    assert!(message.contains("axis 1 may or may not"), "{message}");
}

#[test]
fn a_scalar_input_takes_a_number_per_sample() {
    let network = Sketch::new(&[])
        .weight("scale", &[3])
        .node("Mul", &["x", "scale"], "y")
        .load("y")
        .unwrap();
    assert_eq!(network.inputs[0].rest, [1]);
    // scale = −1, −0.75, −0.5
    gives(
        &network,
        2,
        &[2.0, 4.0],
        &[-2.0, -1.5, -1.0, -4.0, -3.0, -2.0],
    );
}

fn branch(name: &str, node: proto::Node) -> proto::Attribute {
    let output = proto::ValueInfo {
        name: node.output[0].clone(),
        r#type: None,
    };
    proto::Attribute {
        name: name.into(),
        g: Some(Box::new(proto::Graph {
            node: vec![node],
            output: vec![output],
            ..Default::default()
        })),
        ..Default::default()
    }
}

/// `z.squeeze(1)` as the older exporter writes it where it does not know the extent.
fn squeezed_by_an_if(input: &[i64]) -> Sketch {
    let mut sketch = Sketch::new(input)
        .node("Shape", &["x"], "shape")
        .ints("val_1", &[1])
        .node("Gather axis=0", &["shape", "val_1"], "extent")
        .node("Equal", &["extent", "val_1"], "is_one")
        .node("If", &["is_one"], "y");
    let part = |op_type: &str, inputs: &[&str]| proto::Node {
        op_type: op_type.into(),
        input: inputs.iter().map(|s| s.to_string()).collect(),
        // Both branches may use one name.
        output: vec!["part".into()],
        ..Default::default()
    };
    let node = sketch.graph().node.last_mut().unwrap();
    node.attribute = vec![
        branch("then_branch", part("Squeeze", &["x", "val_1"])),
        branch("else_branch", part("Identity", &["x"])),
    ];
    sketch
}

#[test]
fn a_branch_that_shapes_decide_is_taken() {
    let network = squeezed_by_an_if(&[-1, 1, 2]).load("y").unwrap();
    assert_eq!(network.rest(network.output), [1, 2]);
    let network = squeezed_by_an_if(&[-1, 3, 2])
        .node("Neg", &["y"], "n")
        .load("n")
        .unwrap();
    assert_eq!(network.rest(network.output), [1, 3, 2]);
}

#[test]
fn a_branch_that_the_number_of_samples_decides_is_refused() {
    let mut sketch = squeezed_by_an_if(&[-1, 1, 2]).ints("first", &[0]);
    // Whether there is but one sample.
    sketch.graph().node[1].input[1] = "first".into();
    let message = sketch.refused("y");
    assert!(message.contains("number of samples"), "{message}");
}

#[test]
fn the_probe_of_an_open_batch_is_in_no_message() {
    let sketch = || Sketch::new(&[-1, 2, 4]);
    let messages = [
        sketch().node("ReduceMean axes=0", &["x"], "y").refused("y"),
        sketch()
            .ints("baked", &[5, 8])
            .node("Reshape", &["x", "baked"], "y")
            .refused("y"),
        sketch()
            .ints("baked", &[1, 8])
            .node("Reshape", &["x", "baked"], "y")
            .refused("y"),
        sketch()
            .node("Transpose perm=1,0,2", &["x"], "t")
            .ints("mixed", &[-1, 8])
            .node("Reshape", &["t", "mixed"], "y")
            .refused("y"),
        sketch()
            .ints("from", &[1])
            .ints("to", &[9])
            .ints("axes", &[0])
            .node("Slice", &["x", "from", "to", "axes"], "y")
            .refused("y"),
    ];
    for message in messages {
        for word in ["31", "62", "248", "Ok(", "Some(", "open batch"] {
            assert!(!message.contains(word), "{word}: {message}");
        }
    }
}

#[test]
fn whole_numbers_of_inputs_stay_whole_numbers() {
    let mut sketch = Sketch::new(&[]);
    let input = &mut sketch.graph().input[0];
    let tensor = input.r#type.as_mut().unwrap().tensor_type.as_mut().unwrap();
    tensor.elem_type = data_type::INT64;
    let network = sketch
        .weight("table", &[3, 2])
        .node("Gather", &["table", "x"], "y")
        .load("y")
        .unwrap();
    assert_eq!(network.rest(network.output), [1, 2]);
    // Rows of −1, −0.75; −0.5, −0.25; 0, 0.25.
    gives(&network, 2, &[2.0, 0.0], &[0.0, 0.25, -1.0, -0.75]);
}
