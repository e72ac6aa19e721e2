//! Warnings about what a file leaves open: constants that may be parameters, and parameters that may be several.
//!
//! Each doubt is one warning, with up to three names and a count, and with the flag that settles it.

use super::OnnxOptions;
use super::graph::{Graph, Links};
use super::names::list;
use super::parameters::{Root, Roots, Use, is_literal};
use super::roles::Role;
use super::views::telling;
use std::collections::{HashMap, HashSet};

/// The warnings of a file, in the order of what they are about.
pub(super) fn warnings(graph: &Graph, roots: &Roots, options: &OnnxOptions) -> Vec<String> {
    let shared = shared(graph, roots);
    let unknown = unknown(graph, roots, options);
    let unlisted = unlisted(graph, roots, options);
    shared.into_iter().chain(unknown).chain(unlisted).collect()
}

/// The parameters that the exporter lists, and whether the file holds them all.
fn told(graph: &Graph, roots: &Roots) -> (bool, bool) {
    let told = &graph.signature.parameters;
    if told.is_empty() {
        return (false, true);
    }
    let made: HashSet<&String> = graph.nodes.iter().flat_map(|n| &n.proto.output).collect();
    let held = |name: &String| {
        roots.by_name.contains_key(name) || graph.pruned.contains(name) || made.contains(name)
    };
    (true, told.iter().all(held))
}

/// The weights of affine operations, by node.
struct Weights<'g> {
    graph: &'g Graph,
    links: Links<'g>,
    by_node: HashMap<usize, usize>,
}

impl<'g> Weights<'g> {
    fn new(graph: &'g Graph, roots: &Roots) -> Self {
        let uses = roots.uses.iter().enumerate();
        let weights = uses.flat_map(|(root, uses)| {
            let weights = uses.iter().filter(|u| u.role == Role::Weight);
            weights.map(move |used| (used.node, root))
        });
        Weights {
            graph,
            links: graph.links(),
            by_node: weights.collect(),
        }
    }

    /// Whether two of the places belong to the same weight: the module uses the whole layer again, as a recurrence does.
    fn repeat(&self, places: &[&Use]) -> bool {
        let mut seen = HashSet::new();
        let of = |place: &&&Use| {
            let before = self.graph.nodes[place.node].proto.input.iter();
            let mut before = before.filter_map(|name| self.links.maker.get(name.as_str()));
            let own = self.by_node.get(&place.node);
            own.or_else(|| before.find_map(|node| self.by_node.get(node)))
        };
        places
            .iter()
            .filter_map(|place| of(&place))
            .any(|weight| !seen.insert(*weight))
    }
}

/// Norm scales and biases that serve several places were most likely equal by chance at export.
fn shared(graph: &Graph, roots: &Roots) -> Option<String> {
    // Where the exporter lists the module's parameters and the file holds them all, what is shared is meant to be.
    let (_, complete) = told(graph, roots);
    let weights = Weights::new(graph, roots);
    let mut names = Vec::new();
    for (k, root) in roots.entries.iter().enumerate() {
        if root.layer.is_none() || complete && graph.signature.parameters.contains(&root.name) {
            continue;
        }
        let flat = root.array.shape.len() <= 1;
        let own = |u: &&Use| match u.role {
            Role::Shared => true,
            Role::Addend => flat && graph.nodes[u.node].op_type() == "Add",
            _ => false,
        };
        let places: Vec<&Use> = roots.uses[k].iter().filter(own).collect();
        if places.len() > 1 && !weights.repeat(&places) {
            let nodes = places.iter().map(|u| graph.nodes[u.node].name());
            names.push((root.name.as_str(), list(nodes)));
        }
    }
    let first = names.first()?.0;
    let described: Vec<String> = names
        .iter()
        .map(|(name, nodes)| format!("{name} ({nodes})"))
        .collect();
    Some(format!(
        "parameters serve several places, though exporters write equal-valued ones once: {}; if they should be separate, export with examples/export.py or pass --untie {first}{}",
        list(described.iter().map(|s| s.as_str())),
        if names.len() > 1 { " and so on" } else { "" }
    ))
}

/// The patterns of an option; those that are none were refused before.
pub(super) fn patterns(texts: &[String]) -> Vec<glob::Pattern> {
    let texts = texts.iter();
    texts
        .filter_map(|text| glob::Pattern::new(text).ok())
        .collect()
}

/// Weights that the exporter does not list among the module's parameters, though the file holds all of these.
fn unlisted(graph: &Graph, roots: &Roots, options: &OnnxOptions) -> Option<String> {
    let told = &graph.signature.parameters;
    if !matches!(self::told(graph, roots), (true, true)) {
        return None;
    }
    let asked = patterns(&options.trainable);
    let extra = |root: &&Root| {
        let own = || asked.iter().any(|pattern| pattern.matches(&root.name));
        root.layer.is_some() && !told.contains(&root.name) && !own()
    };
    let names: Vec<&str> = (roots.entries.iter().filter(extra))
        .map(|root| root.name.as_str())
        .collect();
    let first = names.first()?;
    Some(format!(
        "weights are not among the module's parameters, of which the file holds all ({}): folding made them of others, so that derivatives are lost, or they are constants (--constant '{first}'); export with examples/export.py",
        list(names.iter().copied()),
    ))
}

/// Constants that meet data and may be parameters: neither named nor told to be one or none.
fn unknown(graph: &Graph, roots: &Roots, options: &OnnxOptions) -> Option<String> {
    let (signed, complete) = told(graph, roots);
    let parameters = roots.entries.iter().any(|root| root.layer.is_some());
    let constant = patterns(&options.constant);
    // A literal of the code is none.
    let literal =
        |root: &Root| graph.producer == "pytorch" && parameters && is_literal(graph, root);
    let candidate = |k: usize, root: &Root| {
        let nameless = graph.made_up(&root.name) || signed;
        let settled = graph.signature.constants.contains(&root.name)
            || constant.iter().any(|pattern| pattern.matches(&root.name));
        let full = root.array.len() > 1 && roots.features.contains_key(&k) && !(signed && complete);
        root.layer.is_none()
            && root.array.is_float()
            && !root.statistic
            && !root.array.is_mask()
            && nameless
            && !settled
            && !literal(root)
            && (full || telling(&root.array))
    };
    let meets = |u: &Use| matches!(u.role, Role::Weight | Role::Shared | Role::Addend);
    let doubtful = (roots.entries.iter().enumerate())
        .filter(|(k, root)| roots.uses[*k].iter().any(meets) && candidate(*k, root));
    let names: Vec<&Root> = doubtful.map(|(_, root)| root).collect();
    if names.is_empty() {
        return None;
    }
    let described: Vec<String> = names
        .iter()
        .map(|root| format!("{} {:?}", root.name, root.array.shape))
        .collect();
    let flags: Vec<String> = names
        .iter()
        .take(3)
        .map(|root| format!("--trainable '{}'", glob::Pattern::escape(&root.name)))
        .collect();
    let more = if names.len() > 3 { " and so on" } else { "" };
    Some(format!(
        "constants that meet data may be parameters, or made of some (their names do not tell): {}; {}{more} takes them for parameters, --constant NAME says that one is none",
        list(described.iter().map(|s| s.as_str())),
        flags.join(" ")
    ))
}
