//! Initializers that are others' values in another form: exporters that fold constants write a weight that is used
//! transposed, sliced or scaled a second time, under another name.
//!
//! Values are compared, exactly (`views`). What is otherwise a constant becomes a function of the parameter (nodes that compute
//! it from the parameter come in its place), so that derivatives flow; of two parameters it is said, and `--tie`
//! makes them one.

use super::OnnxOptions;
use super::doubts::patterns;
use super::fold::transpose;
use super::graph::{Graph, Initializer, Node};
use super::names::list;
use super::parameters::{Root, Roots};
use super::proto;
use super::roles::Role;
use super::tensor::Array;
use super::views::{View, at, fraction, key, taken, telling, view};
use crate::error::{Error, Result};
use crate::setting::TIE;
use std::collections::{HashMap, HashSet};

/// Comparisons of slices after which no more are looked for.
const MOST_TRIES: usize = 1 << 16;

/// The slices that `copies` are of `sources`, by number: the first source that fits.
///
/// The first entry of a slice, in whatever order its axes are, is that of one start on one axis.
fn slices(arrays: &[&Array], sources: &[usize], copies: &[usize]) -> HashMap<usize, Copy> {
    let mut first: HashMap<u64, Vec<usize>> = HashMap::new();
    for &copy in copies {
        let own = fraction(at(arrays[copy], 0));
        if own != 0 {
            first.entry(own).or_default().push(copy);
        }
    }
    let mut found = HashMap::new();
    let mut tries = 0;
    for &source in sources {
        let array = arrays[source];
        let strides = crate::tensor::strides(&array.shape);
        let starts = |axis: usize| (0..array.shape[axis]).map(move |start| (axis, start));
        for (axis, start) in (0..array.shape.len()).flat_map(starts) {
            let Some(copies) = first.get(&fraction(at(array, start * strides[axis]))) else {
                continue;
            };
            for &copy in copies.iter().filter(|&&copy| copy != source) {
                if found.contains_key(&copy) {
                    continue;
                }
                let Some(range) = taken(arrays[copy].len(), &array.shape, axis, start) else {
                    continue;
                };
                tries += 1;
                if tries > MOST_TRIES {
                    return found;
                }
                if let Some(view) = view(arrays[copy], array, Some((axis, range))) {
                    found.insert(copy, Copy { copy, source, view });
                }
            }
        }
    }
    found
}

/// An initializer that nodes compute from another.
#[derive(Clone, Debug)]
pub(crate) struct Tied {
    pub name: String,
    pub shape: Vec<usize>,
    pub source: String,
    view: View,
}

impl Tied {
    /// Whether other values of the two are still each other's.
    pub fn holds(&self, copy: &Array, source: &Array) -> bool {
        let slice = self.view.slice.clone();
        view(copy, source, slice).is_some_and(|found| found == self.view)
    }
}

/// An initializer that is another in another form.
struct Copy {
    /// Numbers of the two initializers among the roots.
    copy: usize,
    source: usize,
    view: View,
}

/// Makes constants that are a parameter's values in another form functions of it, applies `--tie`, and returns
/// whether the graph was changed, and what to say of copies that stay.
///
/// # Errors
/// [`Error::Request`] for a `--tie` that names no initializers, or two of different values.
pub(super) fn recognise(
    graph: &mut Graph,
    roots: &Roots,
    options: &OnnxOptions,
) -> Result<(bool, Option<String>)> {
    let mut copies = Vec::new();
    let mut automatic = false;
    for tie in &options.tie {
        if tie == "auto" {
            automatic = true;
        } else {
            copies.push(asked(graph, roots, tie)?);
        }
    }
    let asked: HashSet<usize> = copies.iter().map(|c| c.copy).collect();
    let arrays: Vec<&Array> = roots.entries.iter().map(|root| &root.array).collect();
    let complete = holds_all_told(graph, roots);
    let mut open = Vec::new();
    for found in search(graph, roots, options, &arrays) {
        if asked.contains(&found.copy) {
            continue;
        }
        // What is a parameter by its own right may have been made equal on purpose.
        let told = complete && made_of_told(graph, roots, &found);
        let own = roots.entries[found.copy].layer.is_some() && !told;
        if own && !automatic {
            open.push(found);
        } else {
            copies.push(found);
        }
    }
    let warning = said(roots, &open);
    let changed = !copies.is_empty();
    check_ends(roots, &copies)?;
    replace(graph, roots, copies);
    Ok((changed, warning))
}

/// Whether the file holds all that the exporter lists as parameters.
fn holds_all_told(graph: &Graph, roots: &Roots) -> bool {
    let held = |name: &String| roots.by_name.contains_key(name) || graph.pruned.contains(name);
    graph.signature.parameters.iter().all(held)
}

/// Whether the exporter lists the source as a parameter and not the copy.
fn made_of_told(graph: &Graph, roots: &Roots, copy: &Copy) -> bool {
    let told = &graph.signature.parameters;
    let name = |k: usize| &roots.entries[k].name;
    told.contains(name(copy.source)) && !told.contains(name(copy.copy))
}

/// Nothing is made from itself, through others.
fn check_ends(roots: &Roots, copies: &[Copy]) -> Result<()> {
    let made: HashMap<usize, usize> = copies.iter().map(|c| (c.copy, c.source)).collect();
    if made.len() < copies.len() {
        return Err(Error::Request(format!("{TIE} names an initializer twice")));
    }
    // Those that are known to be made from what is no copy.
    let mut grounded: HashSet<usize> = HashSet::new();
    for Copy { copy, source, .. } in copies {
        let mut way: HashSet<usize> = HashSet::new();
        let mut at = *source;
        while let Some(&before) = made.get(&at).filter(|_| !grounded.contains(&at)) {
            if !way.insert(at) {
                let name = |k: &usize| &roots.entries[*k].name;
                return Err(Error::Request(format!(
                    "{TIE}: {} and {} are each made from the other",
                    name(copy),
                    name(source)
                )));
            }
            at = before;
        }
        grounded.extend(way);
    }
    Ok(())
}

/// The warning about parameters that are copies of others.
fn said(roots: &Roots, open: &[Copy]) -> Option<String> {
    let first = open.first()?;
    let name = |k: usize| roots.entries[k].name.as_str();
    let described: Vec<String> = open
        .iter()
        .map(|c| format!("{} = {}{}", name(c.copy), name(c.source), c.view.suffix()))
        .collect();
    let transposed = if first.view.is_transpose() { "[T]" } else { "" };
    Some(format!(
        "parameters have the values of others ({}): if they are one in the module (tied), pass --tie '{}={}{transposed}', or --tie auto for all; as it is, each counts as one of its own",
        list(described.iter().map(|s| s.as_str())),
        name(first.copy),
        name(first.source),
    ))
}

/// Copies among the roots: of every initializer at most one source.
fn search(graph: &Graph, roots: &Roots, options: &OnnxOptions, arrays: &[&Array]) -> Vec<Copy> {
    let constant = patterns(&options.constant);
    let initializers: HashSet<&str> = graph.initializers.iter().map(|i| i.name.as_str()).collect();
    let untied = |root: &Root| {
        let copy = root.name.split_once('@');
        copy.is_some_and(|(original, _)| options.untie.iter().any(|u| u == original))
    };
    let usable = |k: &usize| {
        let root = &roots.entries[*k];
        root.array.is_float()
            && roots.uses[*k].iter().any(|u| u.role != Role::Statistic)
            && initializers.contains(root.name.as_str())
            && !untied(root)
            && !graph.signature.constants.contains(&root.name)
            && telling(&root.array)
    };
    let all: Vec<usize> = (0..arrays.len()).filter(usable).collect();
    let told = &graph.signature.parameters;
    let copies = |k: &usize| {
        let root = &roots.entries[*k];
        !told.contains(&root.name) && !constant.iter().any(|p| p.matches(&root.name))
    };
    // The rank of a source: one that is named comes before one whose name was made up, then the file's order.
    let rank = |k: usize| {
        let name = &roots.entries[k].name;
        let class = if told.contains(name) {
            0
        } else if !graph.made_up(name) {
            1
        } else {
            2
        };
        (usize::from(roots.entries[k].layer.is_none()), class, k)
    };
    let mut by_length: HashMap<usize, usize> = HashMap::new();
    for &k in &all {
        *by_length.entry(arrays[k].len()).or_default() += 1;
    }
    let mut by_key: HashMap<(usize, u64), Vec<usize>> = HashMap::new();
    for &k in all.iter().filter(|&&k| by_length[&arrays[k].len()] > 1) {
        let entry = by_key.entry((arrays[k].len(), key(arrays[k])));
        entry.or_default().push(k);
    }
    let mut found: HashMap<usize, Copy> = HashMap::new();
    for group in by_key.values_mut() {
        group.sort_by_key(|&k| rank(k));
        let source = group[0];
        if roots.entries[source].layer.is_none() {
            continue;
        }
        for &copy in group[1..].iter().filter(|k| copies(k)) {
            if let Some(view) = view(arrays[copy], arrays[source], None) {
                found.insert(copy, Copy { copy, source, view });
            }
        }
    }
    // Parts are written under names that tell nothing.
    let part = |k: &usize| graph.made_up(&roots.entries[*k].name) || !told.is_empty();
    let parts: Vec<usize> = (all.iter().copied())
        .filter(|k| copies(k) && part(k) && !found.contains_key(k))
        .collect();
    let mut sources: Vec<usize> = (all.iter().copied())
        .filter(|k| roots.entries[*k].layer.is_some() && !found.contains_key(k))
        .collect();
    sources.sort_by_key(|&k| rank(k));
    let parts = slices(arrays, &sources, &parts);
    // What is part of a part stays.
    let whole = |c: &Copy| !parts.contains_key(&c.source);
    let whole: Vec<usize> = parts
        .values()
        .filter(|c| whole(c))
        .map(|c| c.copy)
        .collect();
    found.extend(parts.into_iter().filter(|(copy, _)| whole.contains(copy)));
    let mut found: Vec<Copy> = found.into_values().collect();
    found.sort_by_key(|c| c.copy);
    found
}

/// The copy that a `--tie COPY=SOURCE` or `COPY=SOURCE[T]` asks for.
fn asked(graph: &Graph, roots: &Roots, tie: &str) -> Result<Copy> {
    let initializer = |name: &str| {
        let named = graph.initializers.iter().any(|i| i.name == name);
        let root = named.then(|| roots.by_name.get(name)).flatten();
        root.copied().filter(|&k| roots.entries[k].array.is_float())
    };
    // A name may hold an equals sign.
    let parts = tie.match_indices('=').find_map(|(place, _)| {
        let (copy, source) = (&tie[..place], &tie[place + 1..]);
        let copy = initializer(copy)?;
        match (initializer(source), source.strip_suffix("[T]")) {
            (Some(source), _) => Some((copy, source, false)),
            (None, Some(source)) => Some((copy, initializer(source)?, true)),
            (None, None) => None,
        }
    });
    let (copy, source, turned) = parts.ok_or_else(|| {
        let floats = roots.entries.iter().filter(|root| root.array.is_float());
        Error::Request(format!(
            "{TIE} {tie} is not COPY=SOURCE, COPY=SOURCE[T] or auto with the names of two weights of the file; its weights: {}",
            floats.map(|root| root.name.as_str()).collect::<Vec<_>>().join(", ")
        ))
    })?;
    let (name, origin) = (&roots.entries[copy], &roots.entries[source]);
    let slices = || {
        let shape = &origin.array.shape;
        (0..shape.len()).find_map(|axis| {
            (0..shape[axis]).find_map(|start| {
                let range = taken(name.array.len(), shape, axis, start)?;
                view(&name.array, &origin.array, Some((axis, range)))
            })
        })
    };
    let whole = if turned {
        let order: Vec<usize> = (0..origin.array.shape.len()).rev().collect();
        (transpose(&origin.array, &order) == name.array).then_some(View {
            slice: None,
            order: Some(order),
            factor: 1.0,
        })
    } else {
        view(&name.array, &origin.array, None).or_else(slices)
    };
    let view = whole.filter(|_| copy != source).ok_or_else(|| {
        let form = if turned { "transpose" } else { "values" };
        Error::Request(format!(
            "{TIE} {tie}: {} of shape {:?} does not have the {form} of {} of shape {:?}",
            name.name, name.array.shape, origin.name, origin.array.shape
        ))
    })?;
    Ok(Copy { copy, source, view })
}

/// The place of the nodes that compute an initializer: before all others, or right after the maker of their source.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum After {
    Nothing,
    /// A node of the file.
    Node(usize),
    /// The nodes that compute another initializer.
    Chain(usize),
}

/// Puts nodes that compute initializers from others in their place.
fn replace(graph: &mut Graph, roots: &Roots, copies: Vec<Copy>) {
    if copies.is_empty() {
        return;
    }
    let mut places: HashMap<String, usize> = HashMap::new();
    for (place, initializer) in graph.initializers.iter().enumerate() {
        places.entry(initializer.name.clone()).or_insert(place);
    }
    let mut makers: HashMap<String, After> = HashMap::new();
    for (k, node) in graph.nodes.iter().enumerate() {
        for output in &node.proto.output {
            makers.entry(output.clone()).or_insert(After::Node(k));
        }
    }
    let mut replaced: HashSet<usize> = HashSet::new();
    let mut made: Vec<Initializer> = Vec::new();
    let mut chains: Vec<Vec<Node>> = Vec::new();
    let mut followers: HashMap<After, Vec<usize>> = HashMap::new();
    for Copy { copy, source, view } in copies {
        let (copy, source) = (&roots.entries[copy].name, &roots.entries[source]);
        let Some(&place) = places.get(copy).filter(|place| !replaced.contains(place)) else {
            continue;
        };
        replaced.insert(place);
        let shape = graph.initializers[place].array.shape.clone();
        let tied = Tied {
            name: copy.clone(),
            shape,
            source: source.name.clone(),
            view,
        };
        let after = makers.get(&tied.source).copied();
        let chain = chains.len();
        followers
            .entry(after.unwrap_or(After::Nothing))
            .or_default()
            .push(chain);
        makers.insert(copy.clone(), After::Chain(chain));
        chains.push(computing(&tied, source.array.shape.clone(), &mut made));
        graph.tied.push(tied);
    }
    let mut place = 0..;
    graph
        .initializers
        .retain(|_| place.next().is_some_and(|place| !replaced.contains(&place)));
    graph.initializers.extend(made);
    let mut nodes = Vec::with_capacity(graph.nodes.len() + chains.len());
    let mut place = |after: After, nodes: &mut Vec<Node>| {
        let mut open = followers.remove(&after).unwrap_or_default();
        // The last one comes first, with all that is made from it.
        while let Some(chain) = open.pop() {
            nodes.append(&mut chains[chain]);
            let own = followers.remove(&After::Chain(chain));
            open.extend(own.unwrap_or_default());
        }
    };
    place(After::Nothing, &mut nodes);
    for (k, node) in std::mem::take(&mut graph.nodes).into_iter().enumerate() {
        nodes.push(node);
        place(After::Node(k), &mut nodes);
    }
    graph.nodes = nodes;
}

/// The nodes that compute an initializer from its source, which has the shape `form`; constants that they read are added to
/// `made`.
fn computing(tied: &Tied, mut form: Vec<usize>, made: &mut Vec<Initializer>) -> Vec<Node> {
    let (copy, view) = (tied.name.as_str(), &tied.view);
    let mut chain = Chain {
        last: tied.source.clone(),
        copy,
        nodes: Vec::new(),
    };
    let ints = |values: &[usize]| values.iter().map(|&v| v as i64).collect::<Vec<i64>>();
    if let Some((axis, range)) = &view.slice {
        form[*axis] = range.len();
        chain.push(
            "Slice",
            &[],
            &[
                ("axes", vec![*axis as i64]),
                ("starts", vec![range.start as i64]),
                ("ends", vec![range.end as i64]),
            ],
        );
    }
    if let Some(order) = &view.order {
        form = order.iter().map(|&a| form[a]).collect();
        chain.push("Transpose", &[], &[("perm", ints(order))]);
    }
    if view.factor != 1.0 {
        let name = format!("/{copy}/factor");
        chain.push("Mul", &[&name], &[]);
        made.push(Initializer {
            name,
            array: Array::reals(&[], vec![view.factor], false),
            node: false,
        });
    }
    if form != tied.shape || chain.nodes.is_empty() {
        let name = format!("/{copy}/shape");
        chain.push("Reshape", &[&name], &[]);
        made.push(Initializer {
            name,
            array: Array::ints(&[tied.shape.len()], ints(&tied.shape)),
            node: false,
        });
    }
    if let Some(last) = chain.nodes.last_mut() {
        last.proto.output = vec![copy.to_string()];
    }
    chain.nodes
}

/// Nodes one after another.
struct Chain<'n> {
    last: String,
    copy: &'n str,
    nodes: Vec<Node>,
}

impl Chain<'_> {
    fn push(&mut self, operation: &str, operands: &[&str], attributes: &[(&str, Vec<i64>)]) {
        let output = format!("/{}/{operation}", self.copy);
        let attribute = |(name, ints): &(&str, Vec<i64>)| proto::Attribute {
            name: name.to_string(),
            ints: ints.clone(),
            ..Default::default()
        };
        let mut input = vec![std::mem::replace(&mut self.last, output.clone())];
        input.extend(operands.iter().map(|s| s.to_string()));
        self.nodes.push(Node {
            proto: proto::Node {
                input,
                output: vec![output.clone()],
                name: output,
                op_type: operation.into(),
                attribute: attributes.iter().map(attribute).collect(),
                domain: String::new(),
                metadata_props: Vec::new(),
            },
        });
    }
}
