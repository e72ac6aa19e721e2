//! Builds the graphs of the tests.

use crate::error::Error;
use crate::import::onnx::proto::{self, data_type, dimension};
use crate::import::onnx::{OnnxOptions, load};
use crate::network::Network;
use prost::Message;

/// A graph under construction; the extent −1 is the open batch.
pub(super) struct Sketch(pub proto::Model);

impl Sketch {
    /// A graph without nodes, whose input is `x`.
    pub fn new(input: &[i64]) -> Self {
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

    /// The graph of the file.
    pub fn graph(&mut self) -> &mut proto::Graph {
        self.0.graph.as_mut().unwrap()
    }

    /// An initializer with distinct values.
    pub fn weight(mut self, name: &str, dims: &[i64]) -> Self {
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

    /// An initializer with these values.
    pub fn values(mut self, name: &str, dims: &[i64], values: &[f32]) -> Self {
        self = self.weight(name, dims);
        self.graph().initializer.last_mut().unwrap().float_data = values.to_vec();
        self
    }

    /// An initializer of integers with one axis.
    pub fn ints(mut self, name: &str, values: &[i64]) -> Self {
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
    pub fn node(mut self, operation: &str, inputs: &[&str], output: &str) -> Self {
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
            metadata_props: Vec::new(),
        });
        self
    }

    /// Imports the file, with that output.
    pub fn load_with(mut self, output: &str, options: &OnnxOptions) -> Result<Network, Error> {
        self.graph().output.push(proto::ValueInfo {
            name: output.into(),
            r#type: None,
        });
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sketch.onnx");
        std::fs::write(&path, self.0.encode_to_vec()).unwrap();
        load(&path, options)
    }

    /// Imports the file with the default options.
    pub fn load(self, output: &str) -> Result<Network, Error> {
        self.load_with(output, &OnnxOptions::default())
    }

    /// The message of the refusal.
    pub fn refused(self, output: &str) -> String {
        self.load(output)
            .expect_err("it should be refused")
            .to_string()
    }
}
