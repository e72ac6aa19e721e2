//! The order of a file's nodes: each after those that make what it reads.

use super::names::list;
use super::proto;
use crate::error::{Error, Result};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::path::Path;

/// Letters of a node's name above which a file is taken for damaged.
const MOST_NAME: usize = 1 << 12;

/// Checks that every name is made once and puts the nodes in an order in which they can be computed; nodes that
/// are in such an order keep it.
///
/// # Errors
/// [`Error::File`] for a name that is made twice, made by nothing, or needs itself.
pub(super) fn sort(path: &Path, graph: &mut proto::Graph) -> Result<()> {
    let fault = |message: String| Err(Error::file(path, message));
    let made = makers(path, graph)?;
    // Of every node: how many of its operands are not made yet, and which nodes read it.
    let mut waits = vec![0usize; graph.node.len()];
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); graph.node.len()];
    for (k, node) in graph.node.iter().enumerate() {
        for input in node.input.iter().filter(|i| !i.is_empty()) {
            match made.get(input.as_str()) {
                Some(Some(maker)) => {
                    waits[k] += 1;
                    readers[*maker].push(k);
                }
                Some(None) => {}
                None => {
                    return fault(format!(
                        "node {:?} ({}) reads {input:?}, which nothing makes",
                        name(node),
                        node.op_type
                    ));
                }
            }
        }
    }
    for output in &graph.output {
        if !made.contains_key(output.name.as_str()) {
            return fault(format!("nothing makes the output {:?}", output.name));
        }
    }
    // Of the nodes that can be computed, the first in the file comes first.
    let mut ready: BinaryHeap<Reverse<usize>> = (0..waits.len())
        .filter(|&k| waits[k] == 0)
        .map(Reverse)
        .collect();
    let mut order = Vec::with_capacity(waits.len());
    while let Some(Reverse(k)) = ready.pop() {
        order.push(k);
        for &reader in &readers[k] {
            waits[reader] -= 1;
            if waits[reader] == 0 {
                ready.push(Reverse(reader));
            }
        }
    }
    if order.len() < graph.node.len() {
        let names = circle(graph, &made, &waits);
        return fault(format!(
            "its nodes feed each other in a circle: {}; export it again",
            list(names.iter().map(|n| n.as_str()))
        ));
    }
    let mut nodes: Vec<Option<proto::Node>> = std::mem::take(&mut graph.node)
        .into_iter()
        .map(Some)
        .collect();
    let take = |k: usize| nodes[k].take().expect("every node is ordered once");
    graph.node = order.into_iter().map(take).collect();
    Ok(())
}

/// The number of the node that makes each value; `None` for initializers and inputs.
fn makers<'g>(path: &Path, graph: &'g proto::Graph) -> Result<HashMap<&'g str, Option<usize>>> {
    let fault = |message: String| Err(Error::file(path, message));
    let mut made: HashMap<&str, Option<usize>> = HashMap::new();
    for tensor in &graph.initializer {
        if made.insert(&tensor.name, None).is_some() {
            return fault(format!("two initializers are named {:?}", tensor.name));
        }
    }
    for input in &graph.input {
        made.insert(&input.name, None);
    }
    for (k, node) in graph.node.iter().enumerate() {
        // Every operation that it becomes keeps its name.
        let long = |name: &String| name.len() > MOST_NAME;
        if long(&node.name) || node.output.iter().any(long) {
            return fault(format!(
                "the name of a {} is longer than {MOST_NAME} letters",
                node.op_type
            ));
        }
        for output in node.output.iter().filter(|o| !o.is_empty()) {
            if made.insert(output, Some(k)).is_some() {
                return fault(format!(
                    "node {:?} ({}) makes {output:?}, which exists already",
                    name(node),
                    node.op_type
                ));
            }
        }
    }
    Ok(made)
}

/// The names of nodes that need each other: from a node that waits, backwards until one comes again.
fn circle(
    graph: &proto::Graph,
    made: &HashMap<&str, Option<usize>>,
    waits: &[usize],
) -> Vec<String> {
    let waiting = |name: &String| made.get(name.as_str()).copied().flatten();
    let before = |k: usize| {
        let mut makers = graph.node[k].input.iter().filter_map(waiting);
        makers.find(|&maker| waits[maker] > 0)
    };
    let mut way = Vec::new();
    let mut met: Vec<Option<usize>> = vec![None; waits.len()];
    let mut at = waits.iter().position(|&w| w > 0);
    while let Some(k) = at {
        if let Some(from) = met[k] {
            way.drain(..from);
            break;
        }
        met[k] = Some(way.len());
        way.push(k);
        at = before(k);
    }
    way.reverse();
    let quoted = |&k: &usize| format!("{:?}", name(&graph.node[k]));
    way.iter().map(quoted).collect()
}

/// The name of a node, or of its first output.
fn name(node: &proto::Node) -> &str {
    if node.name.is_empty() {
        node.output.first().map_or("", |s| s.as_str())
    } else {
        &node.name
    }
}
