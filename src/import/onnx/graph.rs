//! The file's graph as read: nodes with attribute getters, initializers by name, and what feeds the output.

use super::proto::{self, data_type};
use super::tensor;
use super::{Array, OnnxOptions};
use crate::error::{Error, Result};
use prost::Message;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// A node with its attributes.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub proto: proto::Node,
}

impl Node {
    /// Its name, or that of its first output.
    pub fn name(&self) -> &str {
        if self.proto.name.is_empty() {
            self.proto.output.first().map_or("", |s| s.as_str())
        } else {
            &self.proto.name
        }
    }

    pub fn op_type(&self) -> &str {
        &self.proto.op_type
    }

    pub fn attribute(&self, name: &str) -> Option<&proto::Attribute> {
        self.proto.attribute.iter().find(|a| a.name == name)
    }

    pub fn int(&self, name: &str, default: i64) -> i64 {
        self.attribute(name).map_or(default, |a| a.i)
    }

    pub fn float(&self, name: &str, default: f32) -> f64 {
        self.attribute(name).map_or(default, |a| a.f).into()
    }

    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        self.attribute(name).map(|a| a.ints.as_slice())
    }

    pub fn text(&self, name: &str) -> Option<String> {
        let attribute = self.attribute(name)?;
        Some(String::from_utf8_lossy(&attribute.s).into_owned())
    }

    /// The name of input `k`, where it is given.
    pub fn input(&self, k: usize) -> Option<&str> {
        let name = self.proto.input.get(k)?;
        (!name.is_empty()).then_some(name.as_str())
    }

    /// Whether the node is of the standard operation set.
    pub fn standard(&self) -> bool {
        matches!(self.proto.domain.as_str(), "" | "ai.onnx")
    }
}

/// A weight or constant of the file.
#[derive(Clone, Debug)]
pub(crate) struct Initializer {
    pub name: String,
    pub array: Array,
}

/// The graph, reduced to what feeds the output.
#[derive(Clone, Debug)]
pub(crate) struct Graph {
    pub path: PathBuf,
    pub nodes: Vec<Node>,
    pub initializers: Vec<Initializer>,
    pub inputs: Vec<proto::ValueInfo>,
    /// Name of the output the loss is taken of.
    pub output: String,
    /// Version of the standard operations.
    pub opset: i64,
    /// What the newer exporter says the module's tensors are, by name; empty where it does not.
    pub signature: Signature,
    /// The program that wrote the file.
    pub producer: String,
    /// Names of the initializers that do not feed the output.
    pub pruned: HashSet<String>,
}

/// The module's parameters, and its buffers and constants, as the newer exporter names them in a graph's metadata.
#[derive(Clone, Debug, Default)]
pub(crate) struct Signature {
    pub parameters: HashSet<String>,
    pub constants: HashSet<String>,
}

impl Signature {
    /// Reads lines such as `p_fc_weight: PARAMETER target='fc.weight'`.
    fn read(entries: &[proto::Entry]) -> Signature {
        let mut signature = Signature::default();
        let text = entries
            .iter()
            .find(|e| e.key == "pkg.torch.export.ExportedProgram.graph_signature");
        for line in text.iter().flat_map(|e| e.value.lines()) {
            let words = line.split_once(": ").map(|(_, words)| words);
            let Some((kind, rest)) = words.and_then(|w| w.split_once(" target='")) else {
                continue;
            };
            let Some((name, _)) = rest.split_once('\'') else {
                continue;
            };
            let name = crate::text::escaped(name).into_owned();
            match kind {
                "PARAMETER" => signature.parameters.insert(name),
                "BUFFER" | "CONSTANT_TENSOR" => signature.constants.insert(name),
                _ => false,
            };
        }
        signature
    }
}

/// Reads the protobuf of the file at `path`. Names are as they are printed from here on ([`crate::text::escaped`]).
fn decode(bytes: Vec<u8>, path: &Path) -> Result<proto::Model> {
    let mut model = proto::Model::decode(prost::bytes::Bytes::from(bytes)).map_err(|error| {
        Error::file(
            path,
            format!("not an ONNX file, or one that was cut off ({error})"),
        )
    })?;
    model.for_each_name(crate::text::escape);
    Ok(model)
}

/// The files beside `path` that its initializers' external data lie in, sorted.
pub(super) fn external_files(path: &Path) -> Result<Vec<PathBuf>> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let bytes = crate::files::read(path)?;
    let initializers = decode(bytes, path)?
        .graph
        .map(|g| g.initializer)
        .unwrap_or_default();
    let entries = initializers.iter().flat_map(|tensor| &tensor.external_data);
    let files: std::collections::BTreeSet<PathBuf> = entries
        .filter(|e| e.key == "location")
        .map(|e| folder.join(&e.value))
        .collect();
    Ok(files.into_iter().collect())
}

impl Graph {
    /// Reads the bytes of a file and keeps what feeds the output; `path` is where they come from.
    ///
    /// # Errors
    /// [`Error::File`] where they are cut off or no ONNX file.
    pub fn read(bytes: Vec<u8>, path: &Path, options: &OnnxOptions) -> Result<Graph> {
        let fault = |message: String| Error::file(path, message);
        let model = decode(bytes, path)?;
        let opset = model
            .opset_import
            .iter()
            .find(|o| matches!(o.domain.as_str(), "" | "ai.onnx"))
            .map(|o| o.version);
        let graph = model.graph.ok_or_else(|| {
            fault("not an ONNX file, or one that was cut off: it holds no graph".into())
        })?;
        let opset = opset.ok_or_else(|| {
            fault(
                "it names no version of the operations, so it was cut off or is no ONNX file"
                    .into(),
            )
        })?;
        if opset < 7 {
            return Err(fault(format!(
                "its operations are of version {opset}; export it with opset_version=11 or newer"
            )));
        }
        if graph.output.is_empty() {
            return Err(fault("its graph has no output".into()));
        }
        let graph = Self::prune(path, graph, opset, options)?;
        Ok(Graph {
            producer: model.producer_name,
            ..graph
        })
    }

    fn prune(path: &Path, graph: proto::Graph, opset: i64, options: &OnnxOptions) -> Result<Graph> {
        let fault = |message: String| Error::file(path, message);
        let outputs: Vec<&str> = graph.output.iter().map(|o| o.name.as_str()).collect();
        let output = match &options.output {
            Some(wanted) if outputs.contains(&wanted.as_str()) => wanted.clone(),
            Some(wanted) => {
                return Err(fault(format!(
                    "it has no output {wanted:?}; its outputs: {}",
                    outputs.join(", ")
                )));
            }
            None if outputs.len() == 1 => outputs[0].to_string(),
            None => {
                return Err(fault(format!(
                    "it has several outputs ({}); name the one the loss is taken of (--output NAME)",
                    outputs.join(", ")
                )));
            }
        };
        if !graph.sparse_initializer.is_empty() {
            return Err(Error::Unsupported(vec![
                "sparse initializers; store the weights densely".into(),
            ]));
        }
        check_names(path, &graph)?;
        // Walking backwards, a node is kept where something kept needs it.
        let mut needed: HashSet<&str> = HashSet::from([output.as_str()]);
        let mut kept = vec![false; graph.node.len()];
        for (k, node) in graph.node.iter().enumerate().rev() {
            if node
                .output
                .iter()
                .any(|o| !o.is_empty() && needed.contains(o.as_str()))
            {
                kept[k] = true;
                needed.extend(
                    node.input
                        .iter()
                        .filter(|i| !i.is_empty())
                        .map(|s| s.as_str()),
                );
            }
        }
        let mut initializers = Vec::new();
        let mut outside = tensor::Outside::new();
        let mut pruned = HashSet::new();
        let mut known: HashSet<&str> = HashSet::new();
        for tensor in &graph.initializer {
            known.insert(&tensor.name);
            if needed.contains(tensor.name.as_str()) {
                initializers.push(Initializer {
                    name: tensor.name.clone(),
                    array: tensor::read(tensor, path, &mut outside)?,
                });
            } else {
                pruned.insert(tensor.name.clone());
            }
        }
        // Older files list every initializer among the inputs too.
        let inputs: Vec<proto::ValueInfo> = graph
            .input
            .iter()
            .filter(|i| !known.contains(i.name.as_str()) && needed.contains(i.name.as_str()))
            .cloned()
            .collect();
        let nodes = graph.node.iter().zip(&kept).filter(|(_, kept)| **kept);
        let nodes = nodes
            .map(|(node, _)| Node {
                proto: node.clone(),
            })
            .collect();
        let mut result = Graph {
            path: path.to_path_buf(),
            nodes,
            initializers,
            inputs,
            output,
            opset,
            signature: Signature::read(&graph.metadata_props),
            producer: String::new(),
            pruned,
        };
        for name in &options.untie {
            result.untie(name)?;
        }
        Ok(result)
    }

    /// Gives every use of an initializer a copy of its own, named after the node that uses it.
    fn untie(&mut self, name: &str) -> Result<()> {
        let Some(at) = self.initializers.iter().position(|i| i.name == name) else {
            return Err(Error::file(
                &self.path,
                format!(
                    "--untie {name}: there is no initializer of that name that feeds the output"
                ),
            ));
        };
        let mut taken: HashSet<String> = self.initializers.iter().map(|i| i.name.clone()).collect();
        let mut copies = Vec::new();
        for node in &mut self.nodes {
            let user = node.name().to_string();
            for input in node.proto.input.iter_mut().filter(|i| *i == name) {
                let mut copy = format!("{name}@{user}");
                while !taken.insert(copy.clone()) {
                    copy.push('\'');
                }
                if self.signature.parameters.contains(name) {
                    self.signature.parameters.insert(copy.clone());
                }
                *input = copy.clone();
                copies.push(Initializer {
                    name: copy,
                    array: self.initializers[at].array.clone(),
                });
            }
        }
        if copies.len() > 1 {
            self.initializers.splice(at..=at, copies);
        } else if let Some(copy) = copies.pop() {
            // Used once: there is nothing to untie, and the name stays.
            for node in &mut self.nodes {
                for input in node.proto.input.iter_mut().filter(|i| **i == copy.name) {
                    *input = name.to_string();
                }
            }
        }
        Ok(())
    }
}

/// Letters of a node's name above which a file is taken for damaged.
const MOST_NAME: usize = 1 << 12;

/// Every name is made once, before it is used.
fn check_names(path: &Path, graph: &proto::Graph) -> Result<()> {
    let fault = |message: String| Err(Error::file(path, message));
    let mut made: HashMap<&str, ()> = HashMap::new();
    for tensor in &graph.initializer {
        if made.insert(&tensor.name, ()).is_some() {
            return fault(format!("two initializers are named {:?}", tensor.name));
        }
    }
    for input in &graph.input {
        made.insert(&input.name, ());
    }
    for node in &graph.node {
        // Every operation that it becomes keeps its name.
        let long = |name: &String| name.len() > MOST_NAME;
        if long(&node.name) || node.output.iter().any(long) {
            return fault(format!(
                "the name of a {} is longer than {MOST_NAME} letters",
                node.op_type
            ));
        }
        let name = if node.name.is_empty() {
            node.output.first()
        } else {
            Some(&node.name)
        };
        let name = name.map_or("", |s| s.as_str());
        for input in node.input.iter().filter(|i| !i.is_empty()) {
            if !made.contains_key(input.as_str()) {
                return fault(format!(
                    "node {name:?} ({}) reads {input:?}, which nothing before it makes",
                    node.op_type
                ));
            }
        }
        for output in node.output.iter().filter(|o| !o.is_empty()) {
            if made.insert(output, ()).is_some() {
                return fault(format!(
                    "node {name:?} ({}) makes {output:?}, which exists already",
                    node.op_type
                ));
            }
        }
    }
    for output in &graph.output {
        if !made.contains_key(output.name.as_str()) {
            return fault(format!("nothing makes the output {:?}", output.name));
        }
    }
    Ok(())
}

/// Whether the number type of an input is one of reals.
pub(crate) fn is_float(element: i32) -> bool {
    data_type::is_float(element)
}
