//! The layer of each parameter (DESIGN §3, Parameters).

use super::OnnxOptions;
use super::graph::{Graph, Links, Node};
use super::names::{self, prefix};
use super::parameters::Roots;
use super::roles::{Origin, Role, role};
use std::collections::HashMap;

/// Whether a name says which layer it belongs to: it was not made up, and is no copy of an untied one.
fn telling(graph: &Graph, name: &str, options: &OnnxOptions) -> bool {
    let copy = name
        .split_once('@')
        .is_some_and(|(original, _)| options.untie.iter().any(|u| u == original));
    graph.given.is_some() || !graph.made_up(name) && !copy
}

/// The last node of each norm written out, by the node that ends the norm itself: its scale and shift are named after it.
pub(super) fn ends_of_norms(roots: &Roots) -> HashMap<usize, usize> {
    let mut ends: HashMap<usize, usize> = HashMap::new();
    for feature in roots.features.values().filter(|f| f.norm) {
        let end = ends.entry(feature.anchor).or_insert(feature.node);
        *end = feature.node.max(*end);
    }
    ends
}

/// What tells the layers of parameters.
pub(super) struct Clues<'a> {
    pub graph: &'a Graph,
    pub links: &'a Links<'a>,
    pub roots: &'a Roots,
    pub options: &'a OnnxOptions,
    pub origins: &'a HashMap<&'a str, Origin>,
    /// The nodes that end norms, as [`ends_of_norms`] finds them.
    pub ends: &'a HashMap<usize, usize>,
}

/// The layer of a parameter: that of its name; where the name was made up, that of what it is used with.
pub(super) fn layer(clues: &Clues<'_>, root: usize) -> String {
    let Clues {
        graph,
        links,
        roots,
        options,
        origins,
        ends,
    } = *clues;
    let name = &roots.entries[root].name;
    if telling(graph, name, options) {
        return prefix(name);
    }
    let mut uses = roots.uses[root].iter();
    let Some(first) = uses.find(|u| u.role != Role::Other) else {
        return prefix(name);
    };
    let node = &graph.nodes[first.node];
    let named = |input: Option<&str>| {
        let other = &roots.entries[origins.get(input?)?.view?].name;
        telling(graph, other, options).then(|| prefix(other))
    };
    // The bias (or weight, or scale) of the same node says the layer.
    let beside = (0..node.proto.input.len())
        .filter(|&k| k != first.operand && role(node, k) != Role::Statistic)
        .find_map(|k| named(node.input(k)));
    if let Some(layer) = beside {
        return layer;
    }
    let addend = first.role == Role::Addend;
    if addend && let Some(module) = names::module(node.name()) {
        return module;
    }
    // Else the bias that follows the product, or the weight of the product before the bias.
    let neighbour = if first.role == Role::Weight {
        let output = node.proto.output.first();
        let readers = output.and_then(|output| links.readers.get(output.as_str()));
        let follows = readers.and_then(|readers| readers.first());
        let bias = |n: &&Node| n.op_type() == "Add";
        follows.map(|&k| &graph.nodes[k]).filter(bias)
    } else if addend && node.op_type() != "Add" {
        None
    } else {
        let makers = node.proto.input.iter();
        let makers = makers.filter_map(|i| links.maker.get(i.as_str()));
        let product = |k: &&usize| matches!(graph.nodes[**k].op_type(), "MatMul" | "Gemm" | "Conv");
        makers.filter(product).min().map(|&k| &graph.nodes[k])
    };
    let neighbour =
        neighbour.and_then(|n| (0..n.proto.input.len()).find_map(|k| named(n.input(k))));
    if let Some(layer) = neighbour {
        return layer;
    }
    if addend {
        return of_place(graph, roots, ends, root, node);
    }
    of_node(node)
}

/// The layer that a node tells: the path before the operation, as TensorFlow names nodes, or its own name.
fn of_node(node: &Node) -> String {
    let name = node.name();
    if name.contains('/') && !name.starts_with('/') {
        prefix(name)
    } else {
        name.to_string()
    }
}

/// The layer of what is added or multiplied where no name beside it tells one: the norm that scale and shift belong
/// to, or the product that a bias follows.
fn of_place(
    graph: &Graph,
    roots: &Roots,
    ends: &HashMap<usize, usize>,
    root: usize,
    node: &Node,
) -> String {
    let Some(feature) = roots.features.get(&root) else {
        return of_node(node);
    };
    let anchor = &graph.nodes[feature.anchor];
    if !feature.norm {
        let mut made = anchor.proto.output.iter();
        let bias = node.op_type() == "Add" && made.any(|o| node.proto.input.contains(o));
        return of_node(if bias { anchor } else { node });
    }
    // Scale and shift together are named after the last of the two.
    let end = ends.get(&feature.anchor).copied();
    of_node(&graph.nodes[end.unwrap_or(feature.node)])
}
