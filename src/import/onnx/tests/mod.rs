//! Graphs written by hand: what mixes samples is refused, roles and layers are as DESIGN §3 says.

mod activations;
mod damage;
mod derived;
mod doubts;
mod entries;
mod folding;
mod merged;
mod norms;
mod recurrent;
mod reductions;
mod roles;
mod run;
mod samples;
mod sketch;
mod special;
mod windows;

use super::OnnxOptions;
use super::proto::{self, data_type};
use crate::error::Error;
use crate::network::{Network, Operand};
use crate::ops::Op;
use sketch::Sketch;

#[test]
fn a_reshape_of_channels_by_samples_mixes() {
    let sketch = Sketch::new(&[-1, 5])
        .node("Transpose perm=1,0", &["x"], "t")
        .ints("shape", &[-1, 5])
        .node("Reshape", &["t", "shape"], "y");
    let message = sketch.refused("y");
    assert!(
        message.contains("node_y") && message.contains("mixes samples"),
        "{message}"
    );
}

#[test]
fn a_mean_over_the_samples_is_refused_by_name() {
    for batch in [-1, 4, 1] {
        let message = Sketch::new(&[batch, 5])
            .node("ReduceMean axes=0 keepdims=1", &["x"], "y")
            .refused("y");
        assert!(
            message.contains("node_y (ReduceMean)") || message.contains("\"node_y\" (ReduceMean)"),
            "{message}"
        );
    }
}

#[test]
fn a_product_that_sums_over_the_samples_is_refused() {
    let sketch = Sketch::new(&[-1, 5])
        .node("Transpose perm=1,0", &["x"], "t")
        .weight("w", &[7, 5])
        .node("MatMul", &["t", "x"], "y");
    assert!(sketch.refused("y").contains("samples"));
    let gram = Sketch::new(&[-1, 5])
        .node("Transpose perm=1,0", &["x"], "t")
        .node("MatMul", &["x", "t"], "y");
    assert!(gram.refused("y").contains("samples"));
}

#[test]
fn joining_along_the_samples_is_refused() {
    let message = Sketch::new(&[-1, 5])
        .node("Concat axis=0", &["x", "x"], "y")
        .refused("y");
    assert!(message.contains("mixes"), "{message}");
}

#[test]
fn operands_whose_samples_lie_on_different_axes_do_not_meet() {
    let sketch = Sketch::new(&[-1, 1])
        .node("Transpose perm=1,0", &["x"], "t")
        .node("Add", &["x", "t"], "y");
    assert!(sketch.refused("y").contains("different axes"));
}

#[test]
fn all_unsupported_nodes_are_listed_at_once() {
    let sketch = Sketch::new(&[-1, 5])
        .node("Bernoulli", &["x"], "a")
        .node("Relu", &["a"], "b")
        .node("Hardmax", &["b"], "c")
        .node("ReduceMean axes=0", &["x"], "d")
        .node("Add", &["c", "d"], "y");
    let Err(Error::Unsupported { nodes: list }) = sketch.load("y") else {
        panic!("it should be refused");
    };
    assert_eq!(list.len(), 3, "{list:?}");
    assert!(list[0].contains("Bernoulli"));
    assert!(list[1].contains("Hardmax") && list[1].contains("hessblock info"));
}

#[test]
fn merged_positions_are_positions_of_one_sample() {
    for batch in [-1, 6] {
        let network = Sketch::new(&[batch, 3, 4])
            .ints("merge", &[-1, 4])
            .node("Reshape", &["x", "merge"], "m")
            .weight("w", &[4, 2])
            .node("MatMul", &["m", "w"], "z")
            .ints("split", &[-1, 3, 2])
            .node("Reshape", &["z", "split"], "y")
            .load("y")
            .unwrap();
        assert_eq!(network.nodes[1].rest, [3, 2]);
        assert_eq!(network.rest(network.output), [1, 3, 2]);
        assert_eq!(network.output_sample_axis, 0);
    }
}

#[test]
fn the_sample_axis_follows_a_transpose() {
    let network = Sketch::new(&[-1, 3, 4])
        .node("Transpose perm=1,0,2", &["x"], "t")
        .weight("w", &[4, 2])
        .node("MatMul", &["t", "w"], "y")
        .load("y")
        .unwrap();
    assert_eq!(network.output_sample_axis, 1);
    assert_eq!(network.rest(network.output), [3, 1, 2]);
    // Only the axis of the samples moved: nothing moves in memory.
    assert!(matches!(network.nodes[0].op, Op::Reshape(_)));
}

#[test]
fn a_constant_baked_for_a_batch_needs_equal_rows() {
    let make = |values: &[f32]| {
        Sketch::new(&[2, 2])
            .values("onnx::Add_7", &[2, 2], values)
            .node("Add", &["x", "onnx::Add_7"], "y")
    };
    let network = make(&[1.0, 2.0, 1.0, 2.0]).load("y").unwrap();
    assert_eq!(network.constants[0].shape, [1, 2]);
    assert!(
        make(&[1.0, 2.0, 1.0, 3.0])
            .refused("y")
            .contains("differs between the samples")
    );
}

#[test]
fn a_parameter_with_a_row_per_sample_is_refused() {
    let sketch = Sketch::new(&[2, 3])
        .weight("shift", &[2, 3])
        .node("Add", &["x", "shift"], "y");
    assert!(sketch.refused("y").contains("row per sample"));
}

#[test]
fn a_weight_on_the_left_is_a_linear_operation_between_transposes() {
    let network = Sketch::new(&[-1, 4, 2])
        .weight("w", &[3, 4])
        .node("MatMul", &["w", "x"], "y")
        .load("y")
        .unwrap();
    assert_eq!(network.rest(network.output), [1, 3, 2]);
    assert!(matches!(&network.nodes[1].op, Op::Linear(l) if l.outputs_first));
    assert_eq!(network.nodes[1].inputs[1], Operand::Parameter(0));
}

#[test]
fn what_does_not_fit_names_the_file_and_the_node() {
    let message = Sketch::new(&[-1, 4])
        .weight("w", &[5, 3])
        .node("MatMul", &["x", "w"], "y")
        .refused("y");
    assert!(
        message.contains("sketch.onnx") && message.contains("node_y"),
        "{message}"
    );
}

#[test]
fn at_batch_one_squeeze_and_unsqueeze_say_where_the_samples_are() {
    let network = Sketch::new(&[1, 3])
        .ints("first", &[0])
        .node("Unsqueeze", &["x", "first"], "u")
        .node("Squeeze", &["u", "first"], "s")
        .weight("w", &[3, 2])
        .node("MatMul", &["s", "w"], "y")
        .load("y")
        .unwrap();
    assert_eq!(network.output_sample_axis, 0);
    let sketch = Sketch::new(&[1, 3])
        .ints("first", &[0])
        .node("Unsqueeze", &["x", "first"], "u")
        .node("ReduceMean axes=1", &["u"], "y");
    assert!(sketch.refused("y").contains("mixes"));
}

#[test]
fn a_constant_with_a_row_per_sample_goes_where_the_samples_are() {
    // zeros(x.shape[0], 2) @ W + x
    let network = Sketch::new(&[-1, 3])
        .weight("hidden.weight", &[2, 3])
        .node("Shape end=1", &["x"], "batch")
        .ints("two", &[2])
        .node("Concat axis=0", &["batch", "two"], "shape")
        .node("ConstantOfShape", &["shape"], "h")
        .node("MatMul", &["h", "hidden.weight"], "z")
        .node("Add", &["x", "z"], "y")
        .load("y")
        .unwrap();
    assert_eq!(network.constants[0].shape, [1, 2]);
    run::gives(&network, 1, &[1.0, 2.0, 3.0], &[1.0, 2.0, 3.0]);
    let range = Sketch::new(&[-1, 3])
        .weight("hidden.weight", &[1, 3])
        .node("Size", &["x"], "size")
        .values("val_0", &[], &[0.0])
        .values("val_1", &[], &[3.0])
        .node("CastLike", &["size", "val_0"], "limit")
        .node("Range", &["val_0", "limit", "val_1"], "rows")
        .ints("last", &[1])
        .node("Unsqueeze", &["rows", "last"], "column")
        .node("MatMul", &["column", "hidden.weight"], "z")
        .node("Add", &["x", "z"], "y");
    assert!(range.refused("y").contains("number of samples"));
}

#[test]
fn what_the_number_of_samples_is_computed_into_is_refused() {
    // x / x.shape[0], of shape [1, 1], and full((N, 1), N) beside x.
    let counted = || {
        Sketch::new(&[-1, 3])
            .node("Shape start=0 end=1", &["x"], "n")
            .node("Cast to=1", &["n"], "count")
            .ints("square", &[1, 1])
            .node("Reshape", &["count", "square"], "one")
    };
    let message = counted().node("Div", &["x", "one"], "y").refused("y");
    assert!(message.contains("number of samples"), "{message}");
    let message = counted()
        .ints("ones", &[1])
        .node("Concat axis=0", &["n", "ones"], "shape")
        .node("Expand", &["one", "shape"], "column")
        .node("Concat axis=1", &["x", "column"], "y")
        .refused("y");
    assert!(message.contains("number of samples"), "{message}");
}

#[test]
fn samples_that_lie_among_positions_in_two_ways_do_not_meet() {
    // [N·3] with the positions of a sample together, and [3·N] with the samples of a position.
    let merged = Sketch::new(&[-1, 3])
        .ints("flat", &[-1])
        .node("Reshape", &["x", "flat"], "a")
        .node("Transpose perm=1,0", &["x"], "t")
        .node("Reshape", &["t", "flat"], "b");
    let mut sketch = merged.node("Einsum", &["a", "b"], "y");
    let equation = proto::Attribute {
        name: "equation".into(),
        s: "i,i->i".into(),
        ..Default::default()
    };
    sketch
        .graph()
        .node
        .last_mut()
        .unwrap()
        .attribute
        .push(equation);
    let message = sketch.refused("y");
    assert!(message.contains("samples"), "{message}");
}

#[test]
fn numbers_of_samples_own_entries_have_a_place() {
    let message = Sketch::new(&[-1, 4])
        .node("Cast to=9", &["x"], "truth")
        .node("Cast to=7", &["truth"], "numbers")
        .ints("line", &[-1])
        .node("ReduceSum keepdims=0", &["numbers", "one"], "i")
        .ints("one", &[1])
        .node("GatherND batch_dims=1", &["x", "i"], "y")
        .refused("y");
    assert!(message.contains("node_y"), "{message}");
}
