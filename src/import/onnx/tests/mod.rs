//! Graphs written by hand: what mixes samples is refused, roles and layers are as DESIGN §3 says.

mod activations;
mod damage;
mod derived;
mod doubts;
mod entries;
mod folding;
mod merged;
mod recurrent;
mod reductions;
mod run;
mod samples;
mod special;
mod windows;

use super::proto::{self, data_type, dimension};
use super::{OnnxOptions, load};
use crate::error::Error;
use crate::network::{Network, Operand};
use crate::ops::Op;
use prost::Message;

/// A graph under construction; the extent −1 is the open batch.
struct Sketch(proto::Model);

impl Sketch {
    fn new(input: &[i64]) -> Self {
        let dim = |&extent: &i64| proto::Dimension {
            value: Some(match extent {
                -1 => dimension::Value::Name("batch".into()),
                extent => dimension::Value::Extent(extent),
            }),
        };
        let shape = proto::TensorShape {
            dim: input.iter().map(dim).collect(),
        };
        let tensor_type = proto::TensorType {
            elem_type: data_type::FLOAT,
            shape: Some(shape),
        };
        let input = proto::ValueInfo {
            name: "x".into(),
            r#type: Some(proto::Type {
                tensor_type: Some(tensor_type),
            }),
        };
        Sketch(proto::Model {
            ir_version: 8,
            producer_name: "pytorch".into(),
            graph: Some(proto::Graph {
                input: vec![input],
                ..Default::default()
            }),
            opset_import: vec![proto::OperatorSet {
                domain: String::new(),
                version: 17,
            }],
        })
    }

    fn graph(&mut self) -> &mut proto::Graph {
        self.0.graph.as_mut().unwrap()
    }

    /// An initializer with distinct values.
    fn weight(mut self, name: &str, dims: &[i64]) -> Self {
        let count: i64 = dims.iter().product();
        self.graph().initializer.push(proto::Tensor {
            name: name.into(),
            dims: dims.to_vec(),
            data_type: data_type::FLOAT,
            float_data: (0..count).map(|k| 0.25 * k as f32 - 1.0).collect(),
            ..Default::default()
        });
        self
    }

    fn values(mut self, name: &str, dims: &[i64], values: &[f32]) -> Self {
        self = self.weight(name, dims);
        self.graph().initializer.last_mut().unwrap().float_data = values.to_vec();
        self
    }

    fn ints(mut self, name: &str, values: &[i64]) -> Self {
        self.graph().initializer.push(proto::Tensor {
            name: name.into(),
            dims: vec![values.len() as i64],
            data_type: data_type::INT64,
            int64_data: values.to_vec(),
            ..Default::default()
        });
        self
    }

    /// A node named after its output; `"Transpose perm=1,0"` has an attribute: integers, a number with a point,
    /// or text.
    fn node(mut self, operation: &str, inputs: &[&str], output: &str) -> Self {
        let mut words = operation.split(' ');
        let op_type = words.next().unwrap().to_string();
        let attribute = words
            .map(|word| {
                let (name, value) = word.split_once('=').unwrap();
                let ints: Result<Vec<i64>, _> = value.split(',').map(|v| v.parse()).collect();
                let (number, text) = (value.parse().ok(), value.as_bytes().to_vec());
                let text = if ints.is_err() && number.is_none() {
                    text
                } else {
                    vec![]
                };
                let ints = ints.unwrap_or_default();
                proto::Attribute {
                    name: name.into(),
                    f: number.unwrap_or_default(),
                    i: ints.first().copied().unwrap_or_default(),
                    s: text.into(),
                    ints,
                    ..Default::default()
                }
            })
            .collect();
        self.graph().node.push(proto::Node {
            input: inputs.iter().map(|s| s.to_string()).collect(),
            output: output.split(' ').map(String::from).collect(),
            name: format!("node_{output}"),
            op_type,
            attribute,
            domain: String::new(),
        });
        self
    }

    fn load_with(mut self, output: &str, options: &OnnxOptions) -> Result<Network, Error> {
        self.graph().output.push(proto::ValueInfo {
            name: output.into(),
            r#type: None,
        });
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sketch.onnx");
        std::fs::write(&path, self.0.encode_to_vec()).unwrap();
        load(&path, options)
    }

    fn load(self, output: &str) -> Result<Network, Error> {
        self.load_with(output, &OnnxOptions::default())
    }

    /// The message of the refusal.
    fn refused(self, output: &str) -> String {
        self.load(output)
            .expect_err("it should be refused")
            .to_string()
    }
}

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
    let Err(Error::Unsupported(list)) = sketch.load("y") else {
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

fn norms() -> Sketch {
    Sketch::new(&[-1, 3])
        .values("n1.weight", &[3], &[1.0; 3])
        .weight("n1.bias", &[3])
        .weight("n2.bias", &[3])
        .weight("mean", &[3])
        .node(
            "BatchNormalization",
            &["x", "n1.weight", "n1.bias", "mean", "n1.weight"],
            "a",
        )
        .node(
            "BatchNormalization",
            &["a", "n1.weight", "n2.bias", "mean", "n1.weight"],
            "y",
        )
}

#[test]
fn a_shared_scale_is_warned_of_and_can_be_untied() {
    let network = norms().load("y").unwrap();
    assert_eq!(network.parameter_count(), 9);
    assert!(
        network.warnings[0].contains("--untie n1.weight"),
        "{:?}",
        network.warnings
    );
    let options = OnnxOptions {
        untie: vec!["n1.weight".into()],
        ..Default::default()
    };
    let network = norms().load_with("y", &options).unwrap();
    assert_eq!(network.parameter_count(), 12);
    assert!(network.warnings.is_empty(), "{:?}", network.warnings);
    let layers: Vec<_> = network
        .parameters
        .iter()
        .map(|p| p.layer.as_str())
        .collect();
    assert_eq!(layers, ["n1", "n2", "n1", "n2"]);
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
fn a_norm_in_training_mode_is_refused_with_the_reason() {
    let make = |operation: &str, output: &str| {
        Sketch::new(&[-1, 3])
            .weight("s", &[3])
            .weight("b", &[3])
            .node(operation, &["x", "s", "b", "s", "s"], output)
            .refused("y")
    };
    assert!(make("BatchNormalization training_mode=1", "y").contains("model.eval()"));
    // The name that PyTorch gives results of training mode that nothing uses.
    let dead = "y m v batch_norm_dead_output-1 batch_norm_dead_output-2";
    assert!(make("BatchNormalization", dead).contains("batch_norm_dead_output-1"));
}

#[test]
fn a_norm_whose_further_results_nothing_uses_has_the_statistics_of_the_file() {
    let norm = |output: &str| {
        Sketch::new(&[-1, 2])
            .values("s", &[2], &[2.0, 0.5])
            .values("m", &[2], &[1.0, -1.0])
            .values("v", &[2], &[4.0, 0.25])
            .node(
                "BatchNormalization epsilon=0.0",
                &["x", "s", "m", "m", "v"],
                output,
            )
    };
    let network = norm("y m2 v2 s1 s2").load("y").unwrap();
    run::gives(&network, 1, &[3.0, 1.0], &[3.0, 1.0]);
    let said = |w: &String| w.contains("training mode") && w.contains("running statistics");
    assert!(network.warnings.iter().any(said), "{:?}", network.warnings);
    let used = norm("n m2").node("Add", &["n", "m2"], "y").refused("y");
    assert!(
        used.contains("training mode") && used.contains("\"m2\""),
        "{used}"
    );
}

#[test]
fn a_norm_over_its_own_statistics_takes_them_over_its_axes() {
    let norm = Sketch::new(&[-1, 2, 2])
        .node("MeanVarianceNormalization axes=1,2", &["x"], "y")
        .load("y")
        .unwrap();
    let (low, high) = (-1.341_640_786_5, -0.447_213_595_5);
    run::gives(&norm, 1, &[1.0, 2.0, 3.0, 4.0], &[low, high, -high, -low]);
    // Those of the operation, where the file names none, hold the samples.
    let message = Sketch::new(&[-1, 2, 2, 1])
        .node("MeanVarianceNormalization", &["x"], "y")
        .refused("y");
    assert!(message.contains("mixes"), "{message}");
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
fn weights_that_are_not_finite_are_refused_by_name() {
    let sketch = Sketch::new(&[-1, 1])
        .values("w", &[1, 1], &[f32::NAN])
        .node("MatMul", &["x", "w"], "y");
    assert!(matches!(sketch.load("y"), Err(Error::Value(message)) if message.contains("\"w\"")));
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
