//! Signs that an optimiser merged parameters: the file's are then not the module's, nor is the Hessian.
//!
//! What exporters and optimisers leave behind where a batch norm became part of the convolution before it
//! (torch 2.15 with `optimize=True` or constant folding, ONNX Runtime 1.32, onnxsim 0.8): a weight under a name
//! that was made up, a bias named after its weight, or a result that still has the norm's name.

use super::graph::{Graph, Initializer, Node};
use super::names::{list, prefix};
use super::parameters::Roots;
use super::roles::Role;
use std::collections::{HashMap, HashSet, VecDeque};

/// Producers that optimise what others exported.
const OPTIMISERS: &[&str] = &[
    "onnxruntime",
    "onnxsim",
    "onnx-simplifier",
    "onnxoptimizer",
    "onnx-optimizer",
];

/// `prefix` alone or with `_` and a number.
fn numbered(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| {
        let digits = rest.strip_prefix('_').unwrap_or(rest);
        digits.bytes().all(|b| b.is_ascii_digit())
    })
}

/// Whether a node looks like an affine operation that took a norm in.
fn merged(graph: &Graph, node: &Node, initializers: &HashSet<&str>) -> bool {
    let convolution = matches!(node.op_type(), "Conv" | "ConvTranspose");
    if !convolution && node.op_type() != "Gemm" {
        return false;
    }
    // A norm has several results, and the newer exporter calls the first of several getitem.
    let norm =
        |output: &String| output.contains("BatchNormalization") || numbered(output, "getitem");
    if node.proto.output.first().is_some_and(norm) {
        return true;
    }
    let (Some(weight), Some(bias)) = (node.input(1), node.input(2)) else {
        return false;
    };
    // tf2onnx says it.
    if weight.ends_with("_weights_fused_bn") {
        return true;
    }
    // jax2onnx names no weight.
    let renamed = graph.made_up(weight) && !graph.anonymous(weight)
        || numbered(weight, "_v")
        || weight.starts_with("ConvBnFusion");
    convolution && renamed && initializers.contains(weight)
        || bias.strip_prefix(weight) == Some("_bias")
}

/// The module's parameters, as the newer exporter lists them, that the file does not hold.
///
/// Without those that are there under another name: the weight of a layer whose weight was transposed and renamed,
/// the scale or shift that is another's, equal at export. None where the rest are as many as the renamed weights
/// whose layer is not known, and the weights of recurrent layers put in the order of the file's gates.
fn missing<'g>(graph: &'g Graph, roots: &Roots) -> Vec<&'g str> {
    let made: HashSet<&str> = (graph.nodes.iter().flat_map(|n| &n.proto.output))
        .map(|o| o.as_str())
        .collect();
    let held = |name: &&String| {
        graph.pruned.contains(*name)
            || roots.by_name.contains_key(*name)
            || made.contains(name.as_str())
    };
    let all = graph.signature.parameters.iter();
    let mut names: Vec<&str> = all.filter(|n| !held(n)).map(|n| n.as_str()).collect();
    if names.is_empty() {
        return names;
    }
    names.sort_unstable();
    let mut by_layer: HashMap<String, VecDeque<&str>> = HashMap::new();
    for name in &names {
        by_layer.entry(prefix(name)).or_default().push_back(name);
    }
    // Takes the first name of a layer that is left.
    let mut found: HashSet<&str> = HashSet::new();
    let mut find = |layer: &str| {
        let name = by_layer.get_mut(layer).and_then(VecDeque::pop_front);
        found.extend(name);
        name.is_some()
    };
    // Weights under names that were made up, by their layer.
    let mut unplaced = 0;
    for (k, root) in roots.entries.iter().enumerate() {
        let weight = |role| {
            let mut uses = roots.uses[k].iter();
            uses.any(|u| u.role == role && !is_recurrent(&graph.nodes[u.node]))
        };
        let Some(layer) = &root.layer else { continue };
        if graph.made_up(&root.name) && weight(Role::Weight) {
            unplaced += usize::from(!find(layer));
        }
    }
    // Operands that serve a second norm: the other operand of that names it.
    let uses = (roots.entries.iter().zip(&roots.uses)).flat_map(|(root, uses)| {
        let shared = uses.iter().filter(|u| u.role == Role::Shared);
        shared.map(move |used| (root, used))
    });
    for (root, used) in uses.filter(|_| !graph.signature.parameters.is_empty()) {
        let own = prefix(&root.name);
        for input in &graph.nodes[used.node].proto.input {
            let layer = prefix(input);
            if layer != own {
                find(&layer);
            }
        }
    }
    names.retain(|name| !found.contains(name));
    if names.len() <= unplaced + reordered(graph) {
        names.clear();
    }
    names
}

fn is_recurrent(node: &Node) -> bool {
    matches!(node.op_type(), "GRU" | "LSTM" | "RNN")
}

/// The module's parameters that recurrent nodes have under names that were made up: per direction one in each of
/// the two weights, and the two biases in one.
fn reordered<'g>(graph: &'g Graph) -> usize {
    let operands = |n: &'g Node| [(1, 1), (2, 1), (3, 2)].map(|(k, count)| (n.input(k), count));
    let made_up = graph.initializers.iter().filter(|i| graph.made_up(&i.name));
    let weights: HashMap<&str, &Initializer> = made_up.map(|i| (i.name.as_str(), i)).collect();
    let mut parameters = 0;
    for (name, count) in graph
        .nodes
        .iter()
        .filter(|n| is_recurrent(n))
        .flat_map(operands)
    {
        if let Some(weight) = name.and_then(|name| weights.get(name)) {
            parameters += count * weight.array.shape.first().copied().unwrap_or(0);
        }
    }
    parameters
}

/// What a user should know of a file that looks optimised.
pub(super) fn warnings(graph: &Graph, roots: &Roots) -> Vec<String> {
    let initializers: HashSet<&str> = graph.initializers.iter().map(|i| i.name.as_str()).collect();
    let nodes = graph
        .nodes
        .iter()
        .filter(|node| merged(graph, node, &initializers));
    let nodes: Vec<&str> = nodes.map(|node| node.name()).collect();
    let missing = missing(graph, roots);
    let mut warnings = Vec::new();
    if !nodes.is_empty() {
        let gone = match &missing[..] {
            [] => String::new(),
            names => format!(", and {} are gone", list(names.iter().copied())),
        };
        warnings.push(format!(
            "batch norms look merged into the weights before them ({}){gone}: these parameters, and so the Hessian, are not the module's; export with examples/export.py, which leaves them apart",
            list(nodes)
        ));
    } else if !missing.is_empty() {
        warnings.push(format!(
            "the file does not hold parameters of the module by their names ({}): it does not use them, they are tied to others, or folded into constants or other weights, whose Hessian is then not the module's; export with examples/export.py, which leaves them apart",
            list(missing)
        ));
    }
    let producer = graph.producer.to_lowercase();
    if OPTIMISERS.iter().any(|o| producer.contains(o)) {
        warnings.push(format!(
            "the file was written by {:?}, an optimiser, which merges and renames parameters: the Hessian may not be the module's; export with examples/export.py",
            graph.producer
        ));
    }
    warnings
}
