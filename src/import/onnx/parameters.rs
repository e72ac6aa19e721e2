//! Which initializers are parameters, their layers and their order (DESIGN §3, Parameters).

use super::OnnxOptions;
use super::features::{self, Feature};
use super::graph::{Graph, Node};
use super::layers::{Clues, ends_of_norms, layer};
use super::names::list;
use super::roles::{MOST_ORIGINS, Origin, Role, VIEWS, role, too_many};
use super::tensor::Array;
use crate::error::{Error, Result};
use crate::setting::{CONSTANT, TRAINABLE};
use std::collections::{BTreeSet, HashMap, HashSet};

/// An initializer, or an Identity of one that is named like a parameter of its own.
#[derive(Clone, Debug)]
pub(crate) struct Root {
    pub name: String,
    pub array: Array,
    /// The layer, where it is a parameter.
    pub layer: Option<String>,
    /// Whether it only serves as a running statistic.
    pub statistic: bool,
    /// Whether the file has it as a node (Constant).
    pub node: bool,
}

/// All roots: initializers in the file's order, then identities in node order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Roots {
    pub entries: Vec<Root>,
    /// Root of an initializer's name or of an Identity's output.
    pub by_name: HashMap<String, usize>,
    pub warnings: Vec<String>,
    /// Uses of each root by nodes that depend on the samples.
    pub uses: Vec<Vec<Use>>,
    /// Those that meet data along the features behind an affine operation or a norm.
    pub features: HashMap<usize, Feature>,
}

/// A use of a root by a node that depends on the samples.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Use {
    pub node: usize,
    pub operand: usize,
    pub role: Role,
}

/// The findings of [`walk`].
struct Walk<'g> {
    /// What the values made of initializers alone stem from.
    origins: HashMap<&'g str, Origin>,
    /// Roots that are parameters by role and name.
    chosen: HashSet<usize>,
}

/// Finds the roots, decides which are parameters and names their layers.
///
/// # Errors
/// [`Error::Request`] for a pattern that is none or matches nothing.
pub(crate) fn find(graph: &Graph, options: &OnnxOptions) -> Result<Roots> {
    let mut roots = Roots::default();
    let links = graph.links();
    let Walk {
        origins,
        mut chosen,
    } = walk(graph, &mut roots)?;
    for (root, uses) in roots.entries.iter_mut().zip(&roots.uses) {
        root.statistic = uses.iter().any(|u| u.role == Role::Statistic);
    }
    let arrays: Vec<&Array> = roots.entries.iter().map(|root| &root.array).collect();
    roots.features = features::find(graph, &links, &origins, &arrays);
    let by_place = |k: &&usize| graph.anonymous(&roots.entries[**k].name);
    chosen.extend(roots.features.keys().filter(by_place));
    match &graph.given {
        Some(given) => {
            let named = |&k: &usize| given.contains(&roots.entries[k].name);
            chosen = (0..roots.entries.len()).filter(named).collect();
        }
        None => {
            leave_masks(&mut roots, &mut chosen);
            chosen.retain(|&k| !is_constant(graph, &roots, k));
            leave_literals(graph, &roots, &mut chosen);
        }
    }
    overrule(&roots, options, &mut chosen)?;
    chosen.retain(|&k| roots.entries[k].array.is_float());
    let ends = ends_of_norms(&roots);
    let clues = Clues {
        graph,
        links: &links,
        roots: &roots,
        options,
        origins: &origins,
        ends: &ends,
    };
    let of = |&k: &usize| (k, layer(&clues, k));
    let layers: Vec<(usize, String)> = chosen.iter().map(of).collect();
    for (k, layer) in layers {
        roots.entries[k].layer = Some(layer);
    }
    Ok(roots)
}

/// Follows the initializers through the nodes.
fn walk<'g>(graph: &'g Graph, roots: &mut Roots) -> Result<Walk<'g>> {
    let mut origins: HashMap<&str, Origin> = HashMap::new();
    for initializer in &graph.initializers {
        let (name, array) = (&initializer.name, &initializer.array);
        origins.insert(name, add_root(roots, name, array, initializer.node));
    }
    let mut chosen: HashSet<usize> = HashSet::new();
    let mut counted_origins = 0;
    for (index, node) in graph.nodes.iter().enumerate() {
        let given = || {
            node.proto
                .input
                .iter()
                .enumerate()
                .filter(|(_, i)| !i.is_empty())
        };
        // Shapes are known whatever they are shapes of, and so is what is computed of them. A CastLike takes
        // nothing but the type of its second operand.
        let counted = if node.op_type() == "CastLike" {
            1
        } else {
            usize::MAX
        };
        let mut made = given().take(counted).map(|(_, i)| i.as_str());
        if matches!(node.op_type(), "Shape" | "Size") || made.all(|i| origins.contains_key(i)) {
            let origin = through(roots, node, graph, &origins);
            counted_origins += origin.len() * node.proto.output.len();
            if counted_origins > MOST_ORIGINS {
                return Err(too_many(graph, node));
            }
            for output in &node.proto.output {
                origins.insert(output, origin.clone());
            }
            continue;
        }
        for (operand, name) in given() {
            let Some(origin) = origins.get(name.as_str()) else {
                continue;
            };
            counted_origins += origin.len();
            if counted_origins > MOST_ORIGINS {
                return Err(too_many(graph, node));
            }
            let role = role(node, operand);
            let named = |k: &usize| !graph.made_up(&roots.entries[*k].name);
            match role {
                Role::Weight | Role::Shared => {
                    chosen.extend(origin.view);
                    chosen.extend(origin.sources.iter().filter(|k| named(k)));
                }
                Role::Addend => chosen.extend(origin.sources.iter().filter(|k| named(k))),
                Role::Statistic => {}
                Role::Other => chosen.extend(origin.mixed.iter().filter(|k| named(k))),
            }
            if role != Role::Statistic {
                let told = |k: &&usize| {
                    graph
                        .signature
                        .parameters
                        .contains(&roots.entries[**k].name)
                };
                chosen.extend(origin.sources.iter().filter(told));
            }
            for &root in &origin.sources {
                roots.uses[root].push(Use {
                    node: index,
                    operand,
                    role,
                });
            }
        }
    }
    Ok(Walk { origins, chosen })
}

fn add_root(roots: &mut Roots, name: &str, array: &Array, node: bool) -> Origin {
    let root = roots.entries.len();
    roots.uses.push(Vec::new());
    roots.entries.push(Root {
        name: name.to_string(),
        array: array.clone(),
        layer: None,
        statistic: false,
        node,
    });
    roots.by_name.insert(name.to_string(), root);
    if !array.is_float() {
        return Origin::default();
    }
    Origin {
        view: Some(root),
        sources: BTreeSet::from([root]),
        mixed: BTreeSet::new(),
    }
}

/// What the results of a node over initializers stem from.
fn through(
    roots: &mut Roots,
    node: &Node,
    graph: &Graph,
    origins: &HashMap<&str, Origin>,
) -> Origin {
    let of = |k: usize| node.input(k).and_then(|i| origins.get(i));
    let first = of(0).cloned().unwrap_or_default();
    let operation = node.op_type();
    if operation == "Identity"
        && graph.given.is_none()
        && let (Some(root), Some(output)) = (first.view, node.proto.output.first())
    {
        // The older exporter writes equal-valued parameters once and gives the others this way.
        let own = output.contains('.') || node.proto.name.starts_with("Identity_");
        if own && !graph.made_up(output) && !roots.by_name.contains_key(output) {
            let array = roots.entries[root].array.clone();
            return add_root(roots, output, &array, false);
        }
    }
    if VIEWS.contains(&operation) {
        return first;
    }
    if matches!(
        operation,
        "Shape" | "Size" | "Constant" | "ConstantOfShape" | "Range"
    ) {
        return Origin::default();
    }
    let mut origin = Origin::default();
    for k in 0..node.proto.input.len() {
        if let Some(input) = of(k) {
            origin.sources.extend(&input.sources);
            origin.mixed.extend(&input.mixed);
            if role(node, k) == Role::Addend {
                origin.mixed.extend(&input.sources);
            }
        }
    }
    origin
}

/// Whether a root that has the role of a parameter is none: a buffer by the file's own word; what folding made, where
/// the file says what the parameters are and it only has the role of an addend; the ones and zeros that an
/// exporter wrote for a norm without scale and shift, or for an operation without a bias.
fn is_constant(graph: &Graph, roots: &Roots, k: usize) -> bool {
    let signature = &graph.signature;
    let root = &roots.entries[k];
    let of_role = |role: fn(&Role) -> bool| roots.uses[k].iter().any(|u| role(&u.role));
    if signature.constants.contains(&root.name) {
        return true;
    }
    let weight = of_role(|r| matches!(r, Role::Weight | Role::Shared));
    if !signature.parameters.is_empty() && !signature.parameters.contains(&root.name) && !weight {
        return true;
    }
    if of_role(|r| *r == Role::Weight) || signature.parameters.contains(&root.name) {
        return false;
    }
    let values = root.array.to_f64();
    let neutral = values.iter().all(|&v| v == 1.0) || values.iter().all(|&v| v == 0.0);
    // Where all names are made up, an array of them is as likely a fresh parameter: jax2onnx writes none for nothing.
    let fresh = graph.anonymous(&root.name) && !root.array.shape.is_empty();
    let scalar = root.array.shape.is_empty() && of_role(|r| *r == Role::Shared);
    neutral && (scalar || graph.made_up(&root.name) && !fresh)
}

/// PyTorch's exporters write what is a literal in the code as a node; only where the file has no other parameters
/// (a frozen module's) are these its weights.
fn leave_literals(graph: &Graph, roots: &Roots, chosen: &mut HashSet<usize>) {
    let literal = |k: &usize| is_literal(graph, &roots.entries[*k]);
    if graph.producer == "pytorch" && !chosen.iter().all(literal) {
        chosen.retain(|k| !literal(k));
    }
}

/// Whether a root is a Constant under a name that was made up.
pub(super) fn is_literal(graph: &Graph, root: &Root) -> bool {
    root.node && graph.made_up(&root.name)
}

/// What is added and holds −∞ is an attention mask that the module keeps as a buffer, not a parameter.
fn leave_masks(roots: &mut Roots, chosen: &mut HashSet<usize>) {
    let masks = |k: &usize| {
        let weight = |u: &Use| matches!(u.role, Role::Weight | Role::Shared);
        roots.entries[*k].array.is_mask() && !roots.uses[*k].iter().any(weight)
    };
    let mut masks: Vec<usize> = chosen.iter().copied().filter(masks).collect();
    masks.sort_unstable();
    if !masks.is_empty() {
        let names = masks.iter().map(|&k| roots.entries[k].name.as_str());
        let warning = format!(
            "taken for masks, which are constant, since they hold -inf: {}",
            list(names)
        );
        roots.warnings.push(warning);
    }
    for k in masks {
        chosen.remove(&k);
    }
}

/// Applies [`OnnxOptions::trainable`] and [`OnnxOptions::constant`].
fn overrule(roots: &Roots, options: &OnnxOptions, chosen: &mut HashSet<usize>) -> Result<()> {
    for (flag, patterns) in [
        (TRAINABLE, &options.trainable),
        (CONSTANT, &options.constant),
    ] {
        for pattern in patterns {
            let glob = glob::Pattern::new(pattern)
                .map_err(|error| Error::Request(format!("{flag} {pattern}: {error}")))?;
            let mut any = false;
            for (k, root) in roots.entries.iter().enumerate() {
                if !root.array.is_float() || !glob.matches(&root.name) {
                    continue;
                }
                any = true;
                if flag == CONSTANT {
                    chosen.remove(&k);
                } else if roots.uses[k].iter().any(|u| u.role != Role::Statistic) {
                    chosen.insert(k);
                }
            }
            if !any {
                let names: Vec<&str> = roots
                    .entries
                    .iter()
                    .filter(|r| r.array.is_float())
                    .map(|r| r.name.as_str())
                    .collect();
                return Err(Error::Request(format!(
                    "{flag} {pattern} matches no weight of the file; its weights: {}",
                    names.join(", ")
                )));
            }
        }
    }
    Ok(())
}
