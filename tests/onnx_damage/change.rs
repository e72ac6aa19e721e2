//! Changes of an ONNX model that leave it one: sizes, axes, names, operations, nodes more and less.

use crate::proto::{self, data_type, dimension};
use crate::random::Random;

/// Choices that only a change of a model takes.
impl Random {
    fn pick<'a, T>(&mut self, list: &'a [T]) -> Option<&'a T> {
        let at = self.below(list.len());
        list.get(at)
    }

    /// A size, an axis, or what no file should say.
    fn size(&mut self) -> i64 {
        match self.below(8) {
            0..=4 => self.below(13) as i64 - 4,
            5 => 1 << self.below(21),
            6 => (1i64 << self.below(63)) + self.below(3) as i64 - 1,
            _ => [i64::MIN, i64::MIN + 1, i64::MAX, -(1 << 32)][self.below(4)],
        }
    }

    fn real(&mut self) -> f32 {
        let special = [0.0, -0.0, 1.0, -1.0, 0.5, 2.5, 1e-30, 1e30, f32::MAX];
        let infinite = [f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
        match self.below(8) {
            0 => infinite[self.below(3)],
            1..=5 => special[self.below(special.len())],
            _ => self.size() as f32,
        }
    }
}

/// Operations that are taken of constants alone, or not at all.
const OTHERS: &[&str] = &[
    "Ceil",
    "Constant",
    "ConstantOfShape",
    "EyeLike",
    "Floor",
    "LSTM",
    "MeanVarianceNormalization",
    "Mod",
    "NonZero",
    "Range",
    "Round",
    "Scatter",
    "ScatterElements",
    "ScatterND",
];

/// Any operation.
fn operations() -> Vec<&'static str> {
    [hessblock::onnx::operations(), OTHERS].concat()
}

/// Attributes that are integers.
const INTEGERS: &[&str] = &[
    "allowzero",
    "antialias",
    "axis",
    "batch_dims",
    "blocksize",
    "ceil_mode",
    "count_include_pad",
    "end",
    "exclusive",
    "fmod",
    "group",
    "is_causal",
    "k",
    "keepdims",
    "kv_num_heads",
    "noop_with_empty_axes",
    "num_groups",
    "p",
    "q_num_heads",
    "reverse",
    "size",
    "start",
    "to",
    "training_mode",
    "transA",
    "transB",
    "upper",
];

/// Attributes that are lists of integers.
const LISTS: &[&str] = &[
    "axes",
    "dilations",
    "ends",
    "kernel_shape",
    "output_padding",
    "output_shape",
    "pads",
    "perm",
    "split",
    "starts",
    "steps",
    "strides",
    "value_ints",
];

/// Attributes that are numbers.
const REALS: &[&str] = &[
    "alpha",
    "beta",
    "bias",
    "epsilon",
    "gamma",
    "lambd",
    "max",
    "min",
    "scale",
    "softcap",
    "value",
    "value_float",
];

/// Attributes that are words.
const WORDS: &[(&str, &[&str])] = &[
    ("approximate", &["none", "tanh"]),
    ("auto_pad", &["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]),
    (
        "coordinate_transformation_mode",
        &[
            "half_pixel",
            "pytorch_half_pixel",
            "half_pixel_symmetric",
            "align_corners",
            "asymmetric",
        ],
    ),
    (
        "equation",
        &[
            "ij,jk->ik",
            "bij,bjk",
            "...ij,...kj->...ik",
            "ij->ji",
            "bhid,bhjd->bhij",
            "i,j->ij",
            "...i->...",
            "b...,b->b...",
        ],
    ),
    (
        "mode",
        &[
            "constant", "reflect", "edge", "wrap", "nearest", "linear", "DCR", "CRD",
        ],
    ),
    (
        "nearest_mode",
        &["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"],
    ),
    ("reduction", &["none", "add", "mul", "min", "max"]),
];

/// Shape arithmetic that is kept as bytes becomes integers, so that these can be changed too.
pub fn open_up(model: &mut proto::Model) {
    let Some(graph) = &mut model.graph else {
        return;
    };
    let kept = graph.node.iter_mut().flat_map(|n| &mut n.attribute);
    let kept = kept.filter_map(|a| a.t.as_mut());
    for tensor in graph.initializer.iter_mut().chain(kept) {
        if tensor.data_type == data_type::INT64 && !tensor.raw_data.is_empty() {
            let words = tensor.raw_data.chunks_exact(8);
            let word = |b: &[u8]| i64::from_le_bytes(b.try_into().expect("chunks of 8"));
            tensor.int64_data = words.map(word).collect();
            tensor.raw_data = Default::default();
        }
    }
}

/// The extents of the inputs.
fn dimensions(graph: &mut proto::Graph) -> Vec<&mut proto::Dimension> {
    let types = graph.input.iter_mut().filter_map(|i| i.r#type.as_mut());
    let shapes = types.filter_map(|t| t.tensor_type.as_mut()?.shape.as_mut());
    shapes.flat_map(|s| &mut s.dim).collect()
}

/// Every integer of a graph that says a size, an axis or the like.
fn integers(graph: &mut proto::Graph) -> Vec<&mut i64> {
    fn of(tensor: &mut proto::Tensor) -> impl Iterator<Item = &mut i64> {
        tensor.dims.iter_mut().chain(&mut tensor.int64_data)
    }
    let mut all: Vec<&mut i64> = Vec::new();
    all.extend(graph.initializer.iter_mut().flat_map(of));
    for attribute in graph.node.iter_mut().flat_map(|n| &mut n.attribute) {
        all.push(&mut attribute.i);
        all.extend(&mut attribute.ints);
        all.extend(attribute.t.iter_mut().flat_map(of));
    }
    all
}

/// Names that a node at that place can read.
fn names(graph: &proto::Graph, before: usize) -> Vec<String> {
    let given = graph.input.iter().map(|i| &i.name);
    let given = given.chain(graph.initializer.iter().map(|t| &t.name));
    let made = graph.node.iter().take(before).flat_map(|n| &n.output);
    given
        .chain(made)
        .filter(|n| !n.is_empty())
        .cloned()
        .collect()
}

fn attribute(random: &mut Random) -> proto::Attribute {
    let mut made = proto::Attribute::default();
    let name = match random.below(4) {
        0 => {
            made.i = random.size();
            random.pick(INTEGERS).copied()
        }
        1 => {
            made.ints = (0..random.below(9)).map(|_| random.size()).collect();
            random.pick(LISTS).copied()
        }
        2 => {
            made.f = random.real();
            random.pick(REALS).copied()
        }
        _ => {
            let (name, values) = WORDS[random.below(WORDS.len())];
            let word = random.pick(values).copied().unwrap_or_default();
            made.s = word.as_bytes().into();
            Some(name)
        }
    };
    made.name = name.unwrap_or_default().into();
    made
}

/// An initializer of a small shape.
fn tensor(random: &mut Random, name: String) -> proto::Tensor {
    let rank = random.below(4);
    let dims: Vec<i64> = (0..rank).map(|_| random.below(5) as i64).collect();
    let count = dims.iter().product::<i64>();
    let mut tensor = proto::Tensor {
        name,
        dims,
        data_type: data_type::FLOAT,
        ..Default::default()
    };
    if random.below(2) == 0 {
        tensor.float_data = (0..count).map(|k| 0.3 * k as f32 - 0.5).collect();
    } else {
        tensor.data_type = data_type::INT64;
        tensor.int64_data = (0..count).map(|_| random.size()).collect();
    }
    tensor
}

fn of_tensor(random: &mut Random, tensor: &mut proto::Tensor) {
    match random.below(8) {
        0 => tensor.data_type = random.below(18) as i32,
        1 => tensor.dims.reverse(),
        2 => {
            let at = random.below(tensor.dims.len() + 1);
            tensor.dims.insert(at, 1);
        }
        3 => {
            let value = random.real();
            let at = random.below(tensor.float_data.len());
            if let Some(number) = tensor.float_data.get_mut(at) {
                *number = value;
            } else if tensor.raw_data.len() >= 4 {
                let mut bytes = tensor.raw_data.to_vec();
                let at = random.below(bytes.len() / 4) * 4;
                bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
                tensor.raw_data = bytes.into();
            }
        }
        4 => {
            // Another size, with values to match.
            let count = random.below(6);
            tensor.dims = vec![count as i64];
            tensor.raw_data = Default::default();
            tensor.float_data = vec![1.5; count];
            tensor.int64_data = (0..count).map(|_| random.size()).collect();
        }
        5 => {
            tensor.data_location = 1;
            let places = ["", "/etc/hostname", "../data", "data", ".", "a/../../data"];
            let numbers = ["0", "4", "-1", "18446744073709551615", "none"];
            tensor.external_data = [
                ("location", &places[..]),
                ("offset", &numbers),
                ("length", &numbers),
            ]
            .into_iter()
            .map(|(key, values)| proto::Entry {
                key: key.into(),
                value: values[random.below(values.len())].into(),
            })
            .collect();
        }
        6 => {
            // All values equal.
            let first = tensor.raw_data.get(..4).map(<[u8]>::to_vec);
            if let Some(first) = first {
                tensor.raw_data = first.repeat(tensor.raw_data.len() / 4).into();
            }
        }
        _ => {
            let size = random.size();
            let at = random.below(tensor.dims.len());
            if let Some(extent) = tensor.dims.get_mut(at) {
                *extent = size;
            }
        }
    }
}

/// One change of a model.
pub fn change(model: &mut proto::Model, random: &mut Random) {
    if random.below(40) == 0 {
        for set in &mut model.opset_import {
            set.version = random.below(26) as i64;
        }
        return;
    }
    let Some(graph) = &mut model.graph else {
        return;
    };
    let count = graph.node.len();
    let at = random.below(count);
    match random.below(20) {
        0..=3 => {
            let size = random.size();
            let mut all = integers(graph);
            let at = random.below(all.len());
            // That of another place fits more often than any number.
            let other = all.get(random.below(all.len())).map(|i| **i);
            let size = if random.below(2) == 0 {
                other.unwrap_or(size)
            } else {
                size
            };
            if let Some(integer) = all.get_mut(at) {
                **integer = size;
            }
        }
        4 => {
            let size = random.size();
            let mut all = dimensions(graph);
            let at = random.below(all.len());
            if let Some(dimension) = all.get_mut(at) {
                dimension.value = match random.below(4) {
                    0 => None,
                    1 => Some(dimension::Value::Name("batch".into())),
                    _ => Some(dimension::Value::Extent(size)),
                };
            }
        }
        5 => {
            let at = random.below(graph.initializer.len());
            if let Some(initializer) = graph.initializer.get_mut(at) {
                of_tensor(random, initializer);
            }
        }
        6 => {
            let at = random.below(graph.input.len());
            let kind = random.below(17) as i32;
            let size = random.size();
            let input = graph.input.get_mut(at).and_then(|i| i.r#type.as_mut());
            if let Some(tensor) = input.and_then(|t| t.tensor_type.as_mut()) {
                match (random.below(3), &mut tensor.shape) {
                    (0, Some(shape)) => shape.dim.push(proto::Dimension {
                        value: Some(dimension::Value::Extent(size)),
                    }),
                    (1, Some(shape)) => drop(shape.dim.pop()),
                    _ => tensor.elem_type = kind,
                }
            }
        }
        7 => {
            // The result is that of another node.
            let made: Vec<String> = graph.node.iter().flat_map(|n| n.output.clone()).collect();
            if let (Some(name), Some(output)) = (random.pick(&made), graph.output.first_mut()) {
                output.name = name.clone();
            }
        }
        8 | 9 if count > 0 => {
            // Read something else, or one operand more or less.
            let all = names(graph, at);
            let inputs = &mut graph.node[at].input;
            let k = random.below(inputs.len());
            let other = random.pick(&all).cloned().unwrap_or_default();
            match random.below(6) {
                0 => inputs.push(other),
                1 => drop(inputs.pop()),
                2 if !inputs.is_empty() => inputs[k] = String::new(),
                3 if inputs.len() > 1 => inputs.swap(0, k),
                _ if !inputs.is_empty() => inputs[k] = other,
                _ => {}
            }
        }
        10 | 11 if count > 0 => {
            let other = random.pick(&operations()).copied().unwrap_or_default();
            graph.node[at].op_type = other.into();
        }
        12 if count > 0 => {
            // Left out: what read its result reads its first operand.
            let node = graph.node.remove(at);
            let first = node.input.first().cloned().unwrap_or_default();
            let reads = graph.node.iter_mut().flat_map(|n| &mut n.input);
            let reads = reads.chain(graph.output.iter_mut().map(|o| &mut o.name));
            for name in reads.filter(|n| node.output.first() == Some(n)) {
                *name = first.clone();
            }
        }
        13 if count > 0 => {
            // Once more behind itself.
            let mut copy = graph.node[at].clone();
            let made = copy.output.first().cloned().unwrap_or_default();
            for output in &mut copy.output {
                output.push('\'');
            }
            let again = copy.output.first().cloned().unwrap_or_default();
            if random.below(2) == 0
                && let Some(first) = copy.input.first_mut()
            {
                *first = made.clone();
            }
            copy.name = format!("again_{at}");
            let reads = graph
                .node
                .iter_mut()
                .skip(at + 1)
                .flat_map(|n| &mut n.input);
            let reads = reads.chain(graph.output.iter_mut().map(|o| &mut o.name));
            for name in reads.filter(|n| **n == made) {
                *name = again.clone();
            }
            graph.node.insert(at + 1, copy);
        }
        14 | 15 if count > 0 => {
            let new = attribute(random);
            let attributes = &mut graph.node[at].attribute;
            let k = random.below(attributes.len());
            match (random.below(4), attributes.get_mut(k)) {
                (0, Some(_)) => drop(attributes.remove(k)),
                (1, Some(old)) => (old.i, old.f, old.ints) = (new.i, new.f, new.ints),
                (2, Some(old)) if old.t.is_some() => {
                    of_tensor(random, old.t.get_or_insert_default());
                }
                _ => attributes.insert(0, new),
            }
        }
        16 if count > 1 => {
            // Attributes of another node.
            let other = random.below(count);
            graph.node[at].attribute = graph.node[other].attribute.clone();
        }
        17 => {
            let name = format!("new.{}", graph.initializer.len());
            graph.initializer.push(tensor(random, name.clone()));
            if let Some(node) = graph.node.get_mut(at) {
                let k = random.below(node.input.len() + 1);
                node.input.truncate(k.max(1));
                node.input.push(name);
            }
        }
        _ => {
            // A new node in front of the others that read a value.
            let all = names(graph, at);
            let Some(read) = random.pick(&all).cloned() else {
                return;
            };
            let made = format!("made_{count}");
            let mut input = vec![read.clone()];
            for _ in 0..random.below(3) {
                input.extend(random.pick(&all).cloned());
            }
            let reads = graph.node.iter_mut().skip(at).flat_map(|n| &mut n.input);
            let reads = reads.chain(graph.output.iter_mut().map(|o| &mut o.name));
            for name in reads.filter(|n| **n == read) {
                *name = made.clone();
            }
            let node = proto::Node {
                input,
                output: vec![made],
                op_type: random
                    .pick(&operations())
                    .copied()
                    .unwrap_or_default()
                    .into(),
                attribute: (0..random.below(3)).map(|_| attribute(random)).collect(),
                ..Default::default()
            };
            graph.node.insert(at, node);
        }
    }
}
