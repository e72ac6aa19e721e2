//! Signs that an optimiser merged parameters: the file's are then not the module's, nor is the Hessian.
//!
//! What exporters and optimisers leave behind where a batch norm became part of the convolution before it
//! (torch 2.15 with `optimize=True` or constant folding, ONNX Runtime 1.32, onnxsim 0.8): a weight under a name
//! that was made up, a bias named after its weight, or a result that still has the norm's name.

use super::graph::{Graph, Initializer, Node};
use super::parameters::made_up;
use std::collections::HashSet;

/// Producers that optimise what others exported.
const OPTIMISERS: &[&str] = &[
    "onnxruntime",
    "onnxsim",
    "onnx-simplifier",
    "onnxoptimizer",
    "onnx-optimizer",
];

/// Names given in a warning; the others are counted.
const NAMED: usize = 3;

fn list<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    let mut list = names[..names.len().min(NAMED)].join(", ");
    if names.len() > NAMED {
        list += &format!(" and {} more", names.len() - NAMED);
    }
    list
}

/// `prefix` alone or with `_` and a number.
fn numbered(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| {
        let digits = rest.strip_prefix('_').unwrap_or(rest);
        digits.bytes().all(|b| b.is_ascii_digit())
    })
}

/// Whether a node looks like an affine operation that took a norm in.
fn merged(node: &Node, initializers: &HashSet<&str>) -> bool {
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
    let renamed = made_up(weight) || numbered(weight, "_v") || weight.starts_with("ConvBnFusion");
    convolution && renamed && initializers.contains(weight)
        || bias.strip_prefix(weight) == Some("_bias")
}

/// The module's parameters, as the newer exporter lists them, that the file does not hold.
///
/// None where as many weights of matrix products were but transposed and renamed, or weights of recurrent layers
/// but put in the order of the file's gates: these are still the module's.
fn missing<'g>(graph: &'g Graph, initializers: &HashSet<&str>) -> Vec<&'g str> {
    let held = |name: &&String| {
        graph.pruned.contains(*name)
            || initializers.contains(name.as_str())
            || graph.nodes.iter().any(|n| n.proto.output.contains(name))
    };
    let products = graph
        .nodes
        .iter()
        .filter(|n| matches!(n.op_type(), "MatMul" | "Gemm"));
    let weights = products.flat_map(|n| [n.input(0), n.input(1)]).flatten();
    let renamed: HashSet<&str> = weights
        .filter(|name| made_up(name) && initializers.contains(name))
        .collect();
    let all = graph.signature.parameters.iter();
    let mut names: Vec<&str> = all.filter(|n| !held(n)).map(|n| n.as_str()).collect();
    names.sort_unstable();
    if names.len() <= renamed.len() + reordered(graph) {
        names.clear();
    }
    names
}

/// The module's parameters that recurrent nodes have under names that were made up: per direction one in each of
/// the two weights, and the two biases in one.
fn reordered(graph: &Graph) -> usize {
    let recurrent = |n: &&Node| matches!(n.op_type(), "GRU" | "LSTM" | "RNN");
    let operands = |n: &Node| {
        [(1, 1), (2, 1), (3, 2)].map(|(k, count)| (n.input(k).map(str::to_string), count))
    };
    let mut parameters = 0;
    for (name, count) in graph.nodes.iter().filter(recurrent).flat_map(operands) {
        let named = |i: &&Initializer| Some(&i.name) == name.as_ref() && made_up(&i.name);
        if let Some(weight) = graph.initializers.iter().find(named) {
            parameters += count * weight.array.shape.first().copied().unwrap_or(0);
        }
    }
    parameters
}

/// What a user should know of a file that looks optimised.
pub(super) fn warnings(graph: &Graph) -> Vec<String> {
    let initializers: HashSet<&str> = graph.initializers.iter().map(|i| i.name.as_str()).collect();
    let nodes = graph
        .nodes
        .iter()
        .filter(|node| merged(node, &initializers));
    let nodes: Vec<&str> = nodes.map(|node| node.name()).collect();
    let missing = missing(graph, &initializers);
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
            "the module has parameters that the file does not hold ({}): it does not use them, or an optimiser merged them into others, whose Hessian is then not the module's; export with examples/export.py, which leaves them apart",
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
