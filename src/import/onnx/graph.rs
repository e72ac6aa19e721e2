//! The file's graph as read: nodes with attribute getters, initializers by name, and what feeds the output.

use super::copies::Tied;
use super::given::Weights;
use super::proto::{self, data_type};
use super::{Array, OnnxOptions};
use super::{fold, names, order, subgraphs, tensor};
use crate::error::{Error, Result};
use crate::setting::{OUTPUT, UNTIE, WEIGHTS};
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

    /// The path of the module that it came from, as PyTorch's newer exporter tells it; `None` where nothing tells, and for the
    /// outermost module.
    pub fn module(&self) -> Option<&str> {
        // Such as ['', 'encoder', 'encoder.fc1', 'linear']: modules from the outside to the inside, then the operation.
        let key = "pkg.torch.onnx.name_scopes";
        let scopes = self.proto.metadata_props.iter().find(|e| e.key == key)?;
        let names: Vec<&str> = scopes.value.split('\'').skip(1).step_by(2).collect();
        let module = *names.get(names.len().checked_sub(2)?)?;
        (!module.is_empty()).then_some(module)
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
    /// Whether the file has it as a node (Constant).
    pub node: bool,
}

/// Which nodes make and read each value, by number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Links<'g> {
    pub maker: HashMap<&'g str, usize>,
    pub readers: HashMap<&'g str, Vec<usize>>,
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
    /// Initializers that nodes compute from others now.
    pub tied: Vec<Tied>,
    /// Names of the parameters, where the caller says what they are.
    pub given: Option<HashSet<String>>,
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
    pub fn read(
        bytes: Vec<u8>,
        path: &Path,
        weights: Option<&Weights>,
        options: &OnnxOptions,
    ) -> Result<Graph> {
        let fault = |message: String| Error::file(path, message);
        crate::import::pytorch::refuse(
            path,
            &bytes,
            &format!(
                "export the module to ONNX (`hessblock export-script > export.py` writes a script that does), and give weights \
                 with {WEIGHTS} FILE.safetensors (safetensors.torch.save_file)"
            ),
        )?;
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
        let mut graph = subgraphs::flattened(graph);
        if let Some(weights) = weights {
            weights.enter(&mut graph);
        }
        let graph = Self::prune(path, graph, opset, weights, options)?;
        Ok(Graph {
            producer: model.producer_name,
            ..graph
        })
    }

    /// The part of a file's graph that leads to the output, with its constants read.
    fn prune(
        path: &Path,
        mut graph: proto::Graph,
        opset: i64,
        weights: Option<&Weights>,
        options: &OnnxOptions,
    ) -> Result<Graph> {
        let output = output_of(path, &graph, options)?;
        if !graph.sparse_initializer.is_empty() {
            return Err(Error::Unsupported {
                nodes: vec!["sparse initializers; store the weights densely".into()],
            });
        }
        order::sort(path, &mut graph)?;
        let (needed, kept) = needed_for(&graph, &output);
        let mut initializers = Vec::new();
        let mut outside = tensor::Outside::new();
        let mut pruned = HashSet::new();
        let mut known: HashSet<&str> = HashSet::new();
        for (name, array, is_parameter) in weights.iter().flat_map(|weights| weights.arrays()) {
            known.insert(name);
            if is_parameter || needed.contains(name) {
                initializers.push(Initializer {
                    name: name.to_string(),
                    array: array.clone(),
                    node: false,
                });
            }
        }
        for tensor in &graph.initializer {
            if !known.insert(&tensor.name) && weights.is_some() {
                continue;
            }
            if needed.contains(tensor.name.as_str()) {
                initializers.push(Initializer {
                    name: tensor.name.clone(),
                    array: tensor::read(tensor, path, &mut outside)?,
                    node: false,
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
        let nodes: Vec<Node> = nodes
            .map(|(node, _)| Node {
                proto: node.clone(),
            })
            .collect();
        let (constants, nodes): (Vec<_>, Vec<_>) = nodes
            .into_iter()
            .map(|node| (constant(&node), node))
            .partition(|(constant, _)| constant.is_some());
        initializers.extend(constants.into_iter().filter_map(|(constant, _)| constant));
        let nodes = nodes.into_iter().map(|(_, node)| node).collect();
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
            tied: Vec::new(),
            given: weights.map(Weights::names),
        };
        for name in &options.untie {
            result.untie(name)?;
        }
        Ok(result)
    }

    /// Which node makes each value, and which nodes read it.
    pub fn links(&self) -> Links<'_> {
        let mut links = Links::default();
        for (k, node) in self.nodes.iter().enumerate() {
            for output in &node.proto.output {
                links.maker.insert(output, k);
            }
            for input in &node.proto.input {
                links.readers.entry(input).or_default().push(k);
            }
        }
        links
    }

    /// Whether an exporter made a name up ([`names::made_up`]); jax2onnx keeps no name of its own.
    pub fn made_up(&self, name: &str) -> bool {
        names::made_up(name) || self.anonymous(name)
    }

    /// Whether the file's exporter keeps no names of parameters, so that this name tells nothing
    /// ([`names::anonymous`]).
    pub fn anonymous(&self, name: &str) -> bool {
        let counted = || {
            let (_, number) = name.rsplit_once('_').unwrap_or_default();
            !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
        };
        match self.producer.as_str() {
            "pytorch" => false,
            "jax2onnx" => names::anonymous(name) || counted(),
            _ => names::anonymous(name),
        }
    }

    /// Gives every use of an initializer a copy of its own, named after the node that uses it.
    fn untie(&mut self, name: &str) -> Result<()> {
        let Some(at) = self.initializers.iter().position(|i| i.name == name) else {
            return Err(Error::file(
                &self.path,
                format!(
                    "{UNTIE} {name}: there is no initializer of that name that feeds the output"
                ),
            ));
        };
        let mut taken: HashSet<String> = self.initializers.iter().map(|i| i.name.clone()).collect();
        let mut counts = HashMap::new();
        let mut copies = Vec::new();
        for node in &mut self.nodes {
            let user = node.name().to_string();
            for input in node.proto.input.iter_mut().filter(|i| *i == name) {
                let copy = format!("{name}@{user}");
                let copy = names::free_name(&mut taken, &mut counts, &copy);
                if self.signature.parameters.contains(name) {
                    self.signature.parameters.insert(copy.clone());
                }
                *input = copy.clone();
                copies.push(Initializer {
                    name: copy,
                    array: self.initializers[at].array.clone(),
                    node: false,
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

/// The name of the output that the loss is taken of.
fn output_of(path: &Path, graph: &proto::Graph, options: &OnnxOptions) -> Result<String> {
    let outputs: Vec<&str> = graph.output.iter().map(|o| o.name.as_str()).collect();
    match &options.output {
        Some(wanted) if outputs.contains(&wanted.as_str()) => Ok(wanted.clone()),
        Some(wanted) => Err(Error::file(
            path,
            format!(
                "it has no output {wanted:?}; its outputs: {}",
                outputs.join(", ")
            ),
        )),
        None if outputs.len() == 1 => Ok(outputs[0].to_string()),
        None => Err(Error::file(
            path,
            format!(
                "it has several outputs ({}); name the one the loss is taken of ({OUTPUT} NAME)",
                outputs.join(", ")
            ),
        )),
    }
}

/// The names of the values that lead to the output, and whether each node makes one of them.
fn needed_for<'g>(graph: &'g proto::Graph, output: &'g str) -> (HashSet<&'g str>, Vec<bool>) {
    let mut needed: HashSet<&str> = HashSet::from([output]);
    let mut kept = vec![false; graph.node.len()];
    // Walking backwards, a node is kept where something kept needs it.
    for (k, node) in graph.node.iter().enumerate().rev() {
        let mut made = node.output.iter().filter(|o| !o.is_empty());
        if made.any(|o| needed.contains(o.as_str())) {
            kept[k] = true;
            let read = node.input.iter().filter(|i| !i.is_empty());
            needed.extend(read.map(|s| s.as_str()));
        }
    }
    (needed, kept)
}

/// The array of a Constant that holds several real numbers: an initializer written as a node.
fn constant(node: &Node) -> Option<Initializer> {
    let [name] = &node.proto.output[..] else {
        return None;
    };
    if node.op_type() != "Constant" || !node.standard() {
        return None;
    }
    let array = fold::constant(node).ok()?;
    (array.is_float() && array.len() > 1).then(|| Initializer {
        name: name.clone(),
        array,
        node: true,
    })
}

/// Whether the number type of an input is one of reals.
pub(crate) fn is_float(element: i32) -> bool {
    data_type::is_float(element)
}
