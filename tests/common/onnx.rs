//! Small ONNX files written by hand, with the tag numbers of `onnx.proto`.
#![allow(dead_code)] // each test binary uses its part

use std::path::Path;

/// Number types.
pub const FLOAT: u64 = 1;
pub const INT64: u64 = 7;

/// A protobuf message.
#[derive(Clone, Debug, Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn number(mut self, tag: u64, value: u64) -> Self {
        self.varint(tag << 3);
        self.varint(value);
        self
    }

    fn bytes(mut self, tag: u64, bytes: &[u8]) -> Self {
        self.varint(tag << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    fn text(self, tag: u64, text: &str) -> Self {
        self.bytes(tag, text.as_bytes())
    }

    fn message(self, tag: u64, message: Message) -> Self {
        self.bytes(tag, &message.0)
    }
}

/// A model under construction; nodes in order.
#[derive(Clone, Debug, Default)]
pub struct Model(Message);

impl Model {
    pub fn new() -> Self {
        Self::default()
    }

    /// An input whose first axis is the open batch, of that shape per sample.
    pub fn input(self, name: &str, element: u64, sample: &[usize]) -> Self {
        let batch = Message::default().text(2, "batch");
        let shape = sample
            .iter()
            .fold(Message::default().message(1, batch), |shape, &extent| {
                shape.message(1, Message::default().number(1, extent as u64))
            });
        let tensor = Message::default().number(1, element).message(2, shape);
        self.info(11, name, Message::default().message(1, tensor))
    }

    pub fn output(self, name: &str) -> Self {
        self.info(12, name, Message::default())
    }

    fn info(self, tag: u64, name: &str, kind: Message) -> Self {
        let info = Message::default().text(1, name).message(2, kind);
        Self(self.0.message(tag, info))
    }

    /// A weight with reproducible numbers in −0.8..0.8, different for every name.
    pub fn weight(self, name: &str, shape: &[usize]) -> Self {
        let values: Vec<f32> = numbers(name, shape.iter().product());
        self.values(name, shape, &values)
    }

    pub fn values(self, name: &str, shape: &[usize], values: &[f32]) -> Self {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.initializer(name, FLOAT, shape, &bytes)
    }

    pub fn integers(self, name: &str, values: &[i64]) -> Self {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.initializer(name, INT64, &[values.len()], &bytes)
    }

    fn initializer(self, name: &str, element: u64, shape: &[usize], bytes: &[u8]) -> Self {
        let tensor = shape.iter().fold(Message::default(), |tensor, &extent| {
            tensor.number(1, extent as u64)
        });
        let tensor = tensor.number(2, element).text(8, name).bytes(9, bytes);
        Self(self.0.message(5, tensor))
    }

    /// A node named after its result, with attributes that are integers or lists of them.
    pub fn node(
        self,
        operation: &str,
        inputs: &[&str],
        output: &str,
        attributes: &[(&str, &[i64])],
    ) -> Self {
        let node = inputs
            .iter()
            .fold(Message::default(), |node, input| node.text(1, input));
        let node = node
            .text(2, output)
            .text(3, &format!("node_{output}"))
            .text(4, operation);
        let node = attributes.iter().fold(node, |node, (name, values)| {
            let attribute = Message::default().text(1, name);
            node.message(
                5,
                match values {
                    [one] => attribute.number(3, *one as u64).number(20, 2),
                    many => many
                        .iter()
                        .fold(attribute, |a, &value| a.number(8, value as u64))
                        .number(20, 7),
                },
            )
        });
        Self(self.0.message(1, node))
    }

    /// x·Wᵀ + b with the parameters `name.weight` and `name.bias`, which must be there.
    pub fn linear(self, name: &str, input: &str, output: &str) -> Self {
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        self.node(
            "Gemm",
            &[input, &weight, &bias],
            output,
            &[("transB", &[1])],
        )
    }

    pub fn write(self, path: impl AsRef<Path>) {
        let version = Message::default().text(1, "").number(2, 17);
        let model = Message::default()
            .number(1, 8)
            .message(7, self.0)
            .message(8, version);
        std::fs::write(path, model.0).expect("the folder takes a file");
    }
}

/// Reproducible numbers in −0.8..0.8 (SplitMix64), different for every name.
pub fn numbers(name: &str, count: usize) -> Vec<f32> {
    let mut state = name.bytes().fold(7u64, |state, byte| {
        state.wrapping_mul(31).wrapping_add(byte.into())
    });
    (0..count)
        .map(|_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
            (z >> 40) as f32 / (1 << 24) as f32 * 1.6 - 0.8
        })
        .collect()
}
