//! Small files made to take memory or time.

use crate::check::{ANY, PER_BYTE};
use crate::heap;
use crate::proto::{self, data_type, dimension};
use hessblock::network::Network;
use hessblock::onnx::{OnnxOptions, load_bytes};
use prost::Message;

/// A graph under construction; the extent −1 is the open batch.
struct Made(proto::Model);

impl Made {
    fn new(input: &[i64]) -> Self {
        let dim = |&extent: &i64| proto::Dimension {
            value: Some(match extent {
                -1 => dimension::Value::Name("batch".into()),
                extent => dimension::Value::Extent(extent),
            }),
        };
        let dim = input.iter().map(dim).collect();
        let tensor_type = Some(proto::TensorType {
            elem_type: data_type::FLOAT,
            shape: Some(proto::TensorShape { dim }),
        });
        let input = proto::ValueInfo {
            name: "x".into(),
            r#type: Some(proto::Type { tensor_type }),
        };
        let version = proto::OperatorSet {
            domain: String::new(),
            version: 18,
        };
        Made(proto::Model {
            ir_version: 8,
            graph: Some(proto::Graph {
                input: vec![input],
                ..Default::default()
            }),
            opset_import: vec![version],
            ..Default::default()
        })
    }

    fn graph(&mut self) -> &mut proto::Graph {
        self.0.graph.as_mut().expect("it has one")
    }

    fn ints(&mut self, name: &str, values: &[i64]) -> &mut Self {
        self.graph().initializer.push(proto::Tensor {
            name: name.into(),
            dims: vec![values.len() as i64],
            data_type: data_type::INT64,
            int64_data: values.to_vec(),
            ..Default::default()
        });
        self
    }

    fn reals(&mut self, name: &str, values: &[f32]) -> &mut Self {
        self.graph().initializer.push(proto::Tensor {
            name: name.into(),
            dims: vec![values.len() as i64],
            data_type: data_type::FLOAT,
            float_data: values.to_vec(),
            ..Default::default()
        });
        self
    }

    /// A node with attributes of integers.
    fn node(
        &mut self,
        op_type: &str,
        inputs: &[&str],
        outputs: &[&str],
        attributes: &[(&str, &[i64])],
    ) -> &mut Self {
        let attribute = |(name, values): &(&str, &[i64])| proto::Attribute {
            name: (*name).into(),
            i: values.first().copied().unwrap_or_default(),
            ints: values.to_vec(),
            ..Default::default()
        };
        let owned = |names: &[&str]| names.iter().map(|s| s.to_string()).collect();
        self.graph().node.push(proto::Node {
            input: owned(inputs),
            output: owned(outputs),
            op_type: op_type.into(),
            attribute: attributes.iter().map(attribute).collect(),
            ..Default::default()
        });
        self
    }

    /// Loads it with that output, within the memory that its size allows.
    #[track_caller]
    fn load(&mut self, output: &str) -> hessblock::Result<Network> {
        self.graph().output.push(proto::ValueInfo {
            name: output.into(),
            r#type: None,
        });
        let bytes = self.0.encode_to_vec();
        let size = bytes.len();
        let options = OnnxOptions::default();
        let (network, peak) = heap::peak(|| load_bytes(bytes, "nowhere/made.onnx", &options));
        assert!(
            peak <= ANY + PER_BYTE * size,
            "{peak} bytes for a file of {size}"
        );
        network
    }

    #[track_caller]
    fn refused(&mut self, output: &str) -> String {
        self.load(output)
            .expect_err("it should be refused")
            .to_string()
    }
}

/// Chains of nodes, each result read by the next.
fn chain(made: &mut Made, count: usize, link: impl Fn(&mut Made, &str, &str)) -> String {
    let mut last = "x".to_string();
    for k in 0..count {
        let next = format!("y{k}");
        link(made, &last, &next);
        last = next;
    }
    last
}

#[test]
fn constants_made_of_nothing_are_bounded_together() {
    let mut made = Made::new(&[-1, 4]);
    made.ints("shape", &[1 << 20, 1, 4]);
    let fills: Vec<String> = (0..200).map(|k| format!("c{k}")).collect();
    for fill in &fills {
        made.node("ConstantOfShape", &["shape"], &[fill], &[]);
    }
    for (k, fill) in fills.iter().enumerate() {
        let before = if k == 0 {
            "x".into()
        } else {
            format!("y{}", k - 1)
        };
        made.node("Add", &[&before, fill], &[&format!("y{k}")], &[]);
    }
    let message = made.refused("y199");
    assert!(message.contains("together"), "{message}");
}

#[test]
fn constants_that_are_read_once_and_dropped_are_no_fault() {
    let mut made = Made::new(&[-1, 4]);
    made.ints("shape", &[1 << 16, 4]).ints("first", &[0]);
    let last = chain(&mut made, 300, |made, before, next| {
        let (fill, cut) = (format!("fill{next}"), format!("cut{next}"));
        made.node("ConstantOfShape", &["shape"], &[&fill], &[]);
        made.node("Gather", &[&fill, "first"], &[&cut], &[]);
        made.node("Add", &[before, &cut], &[next], &[]);
    });
    assert!(made.load(&last).is_ok());
}

#[test]
fn a_constant_that_many_nodes_read_is_bounded() {
    let mut made = Made::new(&[-1, 4]);
    made.ints("shape", &[1 << 20, 1, 4]);
    made.node("ConstantOfShape", &["shape"], &["zeros"], &[]);
    made.node("Cast", &["zeros"], &["big"], &[("to", &[7])]);
    let last = chain(&mut made, 300, |made, before, next| {
        made.node("Add", &[before, "big"], &[next], &[]);
    });
    let message = made.refused(&last);
    assert!(message.contains("together"), "{message}");
}

#[test]
fn folding_for_ever_is_refused() {
    let mut made = Made::new(&[-1, 4]);
    made.ints("shape", &[1 << 20, 4]).ints("first", &[0]);
    made.node("ConstantOfShape", &["shape"], &["c"], &[]);
    let mut last = "c".to_string();
    for k in 0..2000 {
        let next = format!("c{k}");
        made.node("Cos", &[&last], &[&next], &[]);
        last = next;
    }
    made.node("Gather", &[&last, "first"], &["row"], &[]);
    made.node("Add", &["x", "row"], &["y"], &[]);
    let message = made.refused("y");
    assert!(message.contains("together"), "{message}");
}

#[test]
fn lists_of_entries_are_bounded_together() {
    let mut made = Made::new(&[-1, 1]);
    made.ints("times", &[1, 1 << 20]).ints("from", &[0]);
    made.ints("to", &[1]).ints("last", &[1]);
    let last = chain(&mut made, 500, |made, before, next| {
        let wide = format!("w{next}");
        made.node("Tile", &[before, "times"], &[&wide], &[]);
        made.node("Slice", &[&wide, "from", "to", "last"], &[next], &[]);
    });
    let message = made.refused(&last);
    assert!(message.contains("together"), "{message}");
}

#[test]
fn parts_of_a_long_axis_are_no_lists() {
    let long = 1 << 30;
    let make = || {
        let mut made = Made::new(&[-1, long]);
        made.ints("from", &[1]).ints("to", &[long]);
        made.ints("last", &[1]).ints("half", &[long / 2, long / 2]);
        made
    };
    let mut made = make();
    made.node("Slice", &["x", "from", "to", "last"], &["y"], &[]);
    let _ = made.load("y");
    let mut made = make();
    made.node("Split", &["x", "half"], &["y", "z"], &[("axis", &[1])]);
    let _ = made.load("y");
    let mut made = make();
    made.ints("pads", &[0, 1, 0, 0]);
    made.node("Pad", &["x", "pads"], &["y"], &[]);
    let _ = made.load("y");
    let mut made = Made::new(&[1 << 30, 2]);
    made.ints("from", &[0]).ints("to", &[i64::MAX]);
    made.node("Slice", &["x", "from", "to"], &["y"], &[]);
    let _ = made.load("y");
    let mut made = make();
    made.node("Cast", &["x"], &["i"], &[("to", &[7])]);
    made.node("GatherElements", &["x", "i"], &["y"], &[("axis", &[1])]);
    let _ = made.load("y");
}

#[test]
fn many_parts_have_no_product() {
    let mut made = Made::new(&[-1, 64 * 12]);
    made.ints("sizes", &[64; 12]);
    let outputs: Vec<String> = (0..12).map(|k| format!("y{k}")).collect();
    let outputs: Vec<&str> = outputs.iter().map(|s| s.as_str()).collect();
    made.node("Split", &["x", "sizes"], &outputs, &[("axis", &[1])]);
    assert_eq!(made.load("y11").expect("a network").outputs(), 64);
}

#[test]
fn tensors_of_many_axes_are_refused() {
    let mut made = Made::new(&[-1, 4]);
    made.ints("count", &[1 << 20]);
    let one = proto::Tensor {
        dims: vec![1],
        data_type: data_type::INT64,
        int64_data: vec![1],
        ..Default::default()
    };
    made.node("ConstantOfShape", &["count"], &["shape"], &[("value", &[])]);
    made.graph().node[0].attribute[0].t = Some(one);
    made.node("Expand", &["x", "shape"], &["wide"], &[]);
    let mut last = "wide".to_string();
    for k in 0..100 {
        let next = format!("y{k}");
        made.node("Relu", &[&last], &[&next], &[]);
        last = next;
    }
    made.refused(&last);
    let mut made = Made::new(&[-1, 4]);
    let axes: Vec<i64> = (0..100).collect();
    made.ints("axes", &axes);
    made.node("Unsqueeze", &["x", "axes"], &["y"], &[]);
    let message = made.refused("y");
    assert!(message.contains("axes"), "{message}");
}

#[test]
fn sums_of_sums_of_weights_are_counted_once() {
    let mut made = Made::new(&[-1, 1]);
    let count = 6000;
    for k in 0..count {
        made.reals(&format!("w{k}"), &[1.0]);
    }
    let mut last = "w0".to_string();
    for k in 1..count {
        let next = format!("s{k}");
        made.node("Add", &[&last, &format!("w{k}")], &[&next], &[]);
        last = next;
    }
    made.node("Add", &["x", &last], &["y"], &[]);
    let message = made.refused("y");
    assert!(message.contains("too many"), "{message}");
}

#[test]
fn a_long_name_is_not_copied_for_ever() {
    let mut made = Made::new(&[-1, 1]);
    let operands = vec!["x"; 10_000];
    made.node("Sum", &operands, &["y"], &[]);
    made.graph().node[0].name = "n".repeat(1 << 20);
    let message = made.refused("y");
    assert!(message.contains("name of a Sum"), "{message}");
}

#[test]
fn outputs_that_nobody_makes_are_found_quickly() {
    let mut made = Made::new(&[-1, 1]);
    let names: Vec<String> = (0..40_000).map(|k| format!("y{k}")).collect();
    let names: Vec<&str> = names.iter().map(|s| s.as_str()).collect();
    made.node("Relu", &["x"], &names, &[]);
    let operands = vec!["x"; 40_000];
    made.node("Sum", &operands, &["z"], &[]);
    made.node("Add", &["z", "y0"], &["y"], &[]);
    assert!(made.load("y").is_ok());
}

#[test]
fn large_triangles_are_bounded() {
    for extent in [1i64 << 13, 1 << 20] {
        let mut made = Made::new(&[-1, extent]);
        made.ints("last", &[1]);
        made.node("CumSum", &["x", "last"], &["y"], &[]);
        let _ = made.load("y");
        let mut made = Made::new(&[-1, 1, extent, extent]);
        made.node("Trilu", &["x"], &["y"], &[]);
        let _ = made.load("y");
        let mut made = Made::new(&[-1, 1, extent, 2]);
        made.node(
            "Attention",
            &["x", "x", "x"],
            &["y"],
            &[("is_causal", &[1])],
        );
        let _ = made.load("y");
    }
}

#[test]
fn a_tensor_of_an_attribute_reads_no_file() {
    let mut made = Made::new(&[-1, 4]);
    let entry = |(key, value): (&str, &str)| proto::Entry {
        key: key.into(),
        value: value.into(),
    };
    // Tests run in the folder of the package.
    let outside = proto::Tensor {
        dims: vec![4],
        data_type: data_type::UINT8,
        data_location: 1,
        external_data: [("location", "Cargo.toml"), ("length", "4")]
            .map(entry)
            .into(),
        ..Default::default()
    };
    made.node("Constant", &[], &["c"], &[("value", &[])]);
    made.graph().node[0].attribute[0].t = Some(outside);
    made.node("Add", &["x", "c"], &["y"], &[]);
    let message = made.refused("y");
    assert!(message.contains("another file"), "{message}");
}

#[test]
fn a_large_file_beside_is_not_read_many_times() {
    let folder = tempfile::tempdir().expect("a folder");
    let length = 1 << 22;
    std::fs::write(folder.path().join("data"), vec![0u8; length]).expect("a file");
    let mut made = Made::new(&[-1, 4]);
    for k in 0..200 {
        made.graph().initializer.push(proto::Tensor {
            name: format!("w{k}"),
            dims: vec![length as i64 / 16, 4],
            data_type: data_type::FLOAT,
            data_location: 1,
            external_data: vec![proto::Entry {
                key: "location".into(),
                value: "data".into(),
            }],
            ..Default::default()
        });
    }
    let names: Vec<String> = (0..200).map(|k| format!("w{k}")).collect();
    let names: Vec<&str> = names.iter().map(|s| s.as_str()).collect();
    made.node("Sum", &[&["x"], &names[..]].concat(), &["y"], &[]);
    made.graph().output.push(proto::ValueInfo {
        name: "y".into(),
        r#type: None,
    });
    let path = folder.path().join("made.onnx");
    let load = || load_bytes(made.0.encode_to_vec(), &path, &OnnxOptions::default());
    let (network, peak) = heap::peak(load);
    let message = network.expect_err("it should be refused").to_string();
    assert!(message.contains("which has"), "{message}");
    assert!(peak <= ANY, "{peak} bytes");
}

#[test]
fn an_equation_of_many_operands_is_read_in_one_go() {
    let mut made = Made::new(&[-1, 1]);
    let operands = vec!["x"; 20_000];
    for equation in [
        vec!["ab"; 20_000].join(",") + "->ab",
        vec!["ab"; 20_000].join(","),
    ] {
        made.graph().node.clear();
        made.graph().output.clear();
        made.node("Einsum", &operands, &["y"], &[("equation", &[])]);
        made.graph().node[0].attribute[0].s = equation.into();
        let _ = made.load("y");
    }
}

#[test]
fn one_large_node_fits_beside_all_that_is_held() {
    let mut made = Made::new(&[-1, 4]);
    made.ints("shape", &[1 << 20, 1, 4]).ints("first", &[0]);
    made.node("ConstantOfShape", &["shape"], &["c0"], &[]);
    // Doubles, all of them read at the end.
    for k in 1..6 {
        let (before, next) = (format!("c{}", k - 1), format!("c{k}"));
        made.node("Cos", &[&before], &[&next], &[]);
    }
    made.node("Greater", &["c1", "c2"], &["true"], &[]);
    made.node("Where", &["true", "c4", "c5"], &["chosen"], &[]);
    made.node("ReduceSum", &["chosen"], &["sum"], &[("keepdims", &[0])]);
    for k in 0..6 {
        let (name, kept) = (format!("c{k}"), format!("r{k}"));
        made.node("Gather", &[&name, "first"], &[&kept], &[]);
        let before = format!("y{}", k - 1);
        let before = if k == 0 { "x" } else { &before };
        made.node("Add", &[before, &kept], &[&format!("y{k}")], &[]);
    }
    made.node("Add", &["y5", "sum"], &["y"], &[]);
    assert!(made.load("y").is_ok());
}
