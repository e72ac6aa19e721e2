//! Graphs inside nodes: both branches of an If become nodes of the graph around it, and a Loop reads by name what its
//! body does, so that the rest of the importer sees one flat graph.
//!
//! The nodes of a branch say under which condition they stand ([`conditions`]). Conditions on shapes are known when the
//! graph is lowered; then the nodes of the other branch are passed over.

use super::graph::Node;
use super::names::free_name;
use super::proto::{Attribute, Graph, Node as Proto};
use std::collections::{HashMap, HashSet};

/// The attribute of a node of a branch that names its condition, with the value that it must have.
const WHEN: &str = "hessblock.when";

/// New names of a branch, where its own are taken by another.
type Names = HashMap<String, String>;

/// The conditions under which a node is computed: names of truth values, each with the one that it must have.
pub(crate) fn conditions(node: &Node) -> impl Iterator<Item = (&str, bool)> {
    let attributes = node.proto.attribute.iter().filter(|a| a.name == WHEN);
    attributes.filter_map(|a| Some((std::str::from_utf8(&a.s).ok()?, a.i != 0)))
}

/// The graph with its branches spelled out. An If of n results becomes n of three operands each: the condition and
/// both values.
pub(crate) fn flattened(mut graph: Graph) -> Graph {
    let nested = |node: &Proto| matches!(node.op_type.as_str(), "If" | "Loop");
    if !graph.node.iter().any(nested) {
        return graph;
    }
    let made = graph.node.iter().flat_map(|node| &node.output);
    let named = graph.input.iter().map(|i| &i.name);
    let weights = graph.initializer.iter().map(|i| &i.name);
    let mut flat = Flat {
        taken: made.chain(named).chain(weights).cloned().collect(),
        counts: HashMap::new(),
        nodes: Vec::with_capacity(graph.node.len()),
        initializers: Vec::new(),
    };
    for node in std::mem::take(&mut graph.node) {
        flat.add(node, &Names::new(), &[]);
    }
    graph.node = flat.nodes;
    graph.initializer.extend(flat.initializers);
    graph
}

/// The graph that an attribute of a node holds.
pub(crate) fn graph_of<'n>(node: &'n Proto, attribute: &str) -> Option<&'n Graph> {
    let attribute = node.attribute.iter().find(|a| a.name == attribute)?;
    attribute.g.as_deref()
}

struct Flat {
    taken: HashSet<String>,
    counts: HashMap<String, usize>,
    nodes: Vec<Proto>,
    initializers: Vec<super::proto::Tensor>,
}

impl Flat {
    fn add(&mut self, mut node: Proto, names: &Names, when: &[Attribute]) {
        rename_reads(&mut node, names);
        for output in &mut node.output {
            renamed(output, names);
        }
        node.attribute.extend_from_slice(when);
        let branches = ["then_branch", "else_branch"].map(|name| graph_of(&node, name).cloned());
        match (node.op_type.as_str(), branches, node.input.first().cloned()) {
            ("If", [Some(then), Some(otherwise)], Some(condition)) => {
                let then = self.branch(then, &condition, true, names, when);
                let otherwise = self.branch(otherwise, &condition, false, names, when);
                node.attribute.retain(|a| a.g.is_none());
                let outputs = std::mem::take(&mut node.output);
                for (k, output) in outputs.into_iter().enumerate() {
                    let (Some(a), Some(b)) = (then.get(k), otherwise.get(k)) else {
                        continue;
                    };
                    self.nodes.push(Proto {
                        input: vec![condition.clone(), a.clone(), b.clone()],
                        output: vec![output],
                        ..node.clone()
                    });
                }
            }
            ("Loop", ..) => {
                if let Some(body) = graph_of(&node, "body") {
                    let reads = reads(body);
                    // Of the graph around it, a Loop has as many operands of its own as its body has inputs.
                    node.input.resize(body.input.len(), String::new());
                    node.input.extend(reads);
                }
                self.nodes.push(node);
            }
            _ => self.nodes.push(node),
        }
    }

    /// Adds the nodes of a branch; returns the names of its results.
    fn branch(
        &mut self,
        graph: Graph,
        condition: &str,
        value: bool,
        outer: &Names,
        when: &[Attribute],
    ) -> Vec<String> {
        let mut names = outer.clone();
        let made = graph.node.iter().flat_map(|node| &node.output);
        let made = made.chain(graph.initializer.iter().map(|i| &i.name));
        for name in made.filter(|name| !name.is_empty()) {
            let new = free_name(&mut self.taken, &mut self.counts, name);
            names.insert(name.clone(), new);
        }
        for mut initializer in graph.initializer {
            renamed(&mut initializer.name, &names);
            self.initializers.push(initializer);
        }
        let mut when = when.to_vec();
        when.push(Attribute {
            name: WHEN.into(),
            s: condition.as_bytes().to_vec().into(),
            i: value.into(),
            ..Attribute::default()
        });
        for node in graph.node {
            self.add(node, &names, &when);
        }
        let mut results: Vec<String> = graph.output.into_iter().map(|o| o.name).collect();
        for result in &mut results {
            renamed(result, &names);
        }
        results
    }
}

fn renamed(name: &mut String, names: &Names) {
    if let Some(new) = names.get(name) {
        name.clone_from(new);
    }
}

/// Renames what a node reads, also inside its graphs.
fn rename_reads(node: &mut Proto, names: &Names) {
    if names.is_empty() {
        return;
    }
    for input in &mut node.input {
        renamed(input, names);
    }
    for graph in node.attribute.iter_mut().filter_map(|a| a.g.as_deref_mut()) {
        let own = own_names(graph);
        let mut names = names.clone();
        names.retain(|name, _| !own.contains(name));
        for node in &mut graph.node {
            rename_reads(node, &names);
        }
        for output in &mut graph.output {
            renamed(&mut output.name, &names);
        }
    }
}

/// The names that a graph makes itself.
fn own_names(graph: &Graph) -> HashSet<String> {
    let made = graph.node.iter().flat_map(|node| &node.output);
    let named = graph.input.iter().map(|i| &i.name);
    let weights = graph.initializer.iter().map(|i| &i.name);
    made.chain(named).chain(weights).cloned().collect()
}

/// The names that a graph reads of those around it, each once, in the order of their first use.
fn reads(graph: &Graph) -> Vec<String> {
    let own = own_names(graph);
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    let mut add = |name: &String| {
        if !name.is_empty() && !own.contains(name) && seen.insert(name.clone()) {
            found.push(name.clone());
        }
    };
    for node in &graph.node {
        node.input.iter().for_each(&mut add);
        let inside = node.attribute.iter().filter_map(|a| a.g.as_deref());
        inside.flat_map(reads).for_each(|name| add(&name));
    }
    graph.output.iter().for_each(|output| add(&output.name));
    found
}
