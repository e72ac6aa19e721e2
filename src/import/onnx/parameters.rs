//! Which initializers are parameters, their layers and their order (DESIGN §3, Parameters).

use super::OnnxOptions;
use super::graph::{Graph, Node};
use super::tensor::Array;
use crate::error::{Error, Result};
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
}

/// All roots: initializers in the file's order, then identities in node order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Roots {
    pub entries: Vec<Root>,
    /// Root of an initializer's name or of an Identity's output.
    pub by_name: HashMap<String, usize>,
    pub warnings: Vec<String>,
}

/// Whether an exporter made a name up: `val_75`, `onnx::Mul_12`, `/fc/Transpose_output_0`, `42`.
pub(crate) fn made_up(name: &str) -> bool {
    let numbered = |prefix: &str| {
        name.strip_prefix(prefix)
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
    };
    name.starts_with("onnx::")
        || name.starts_with('/')
        || name == "scalar_tensor_default"
        || [
            "",
            "val_",
            "_val_",
            "const_",
            "lifted_tensor_",
            "c_lifted_tensor_",
            "_tensor_constant",
            "scalar_tensor_default_",
        ]
        .iter()
        .any(|prefix| numbered(prefix))
}

/// What a node takes an operand for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Weight, table or slope: a parameter whatever its name.
    Weight,
    /// Bias of an affine operation, scale or shift of a norm: likewise.
    Shared,
    /// Operand of arithmetic, of Concat, Einsum or Where: a parameter unless its name was made up.
    Addend,
    /// Mean or variance of a norm: never one.
    Statistic,
    /// Anything else.
    Other,
}

fn role(node: &Node, operand: usize) -> Role {
    match (node.op_type(), operand) {
        ("Gemm" | "MatMul", 0 | 1) | ("Conv" | "ConvTranspose" | "PRelu", 1) | ("Gather", 0) => {
            Role::Weight
        }
        ("Gemm" | "Conv" | "ConvTranspose", 2) => Role::Shared,
        (
            "BatchNormalization"
            | "LayerNormalization"
            | "InstanceNormalization"
            | "GroupNormalization"
            | "RMSNormalization",
            1 | 2,
        ) => Role::Shared,
        ("BatchNormalization", 3 | 4) => Role::Statistic,
        (
            "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Max" | "Min" | "Concat" | "Sum" | "Einsum",
            _,
        )
        | ("Where", 1 | 2)
        | ("GatherElements" | "GatherND", 0)
        | ("Scatter" | "ScatterElements" | "ScatterND", 0 | 2) => Role::Addend,
        _ => Role::Other,
    }
}

/// What a value made of initializers alone stems from.
#[derive(Clone, Default)]
struct Origin {
    /// The root it is a view of (Transpose, Identity, Reshape, Cast).
    view: Option<usize>,
    /// Every root it is computed from.
    sources: BTreeSet<usize>,
    /// Those of them that had the role of an addend on the way.
    mixed: BTreeSet<usize>,
}

/// Initializers that values are computed of, summed over all that are made of initializers alone and all their
/// uses: the product of the two may not grow with the file.
const MOST_ORIGINS: usize = 1 << 20;

impl Origin {
    fn len(&self) -> usize {
        self.sources.len() + self.mixed.len()
    }
}

fn too_many(graph: &Graph, node: &Node) -> Error {
    Error::file(
        &graph.path,
        format!(
            "node {:?} ({}): too many values are computed of too many weights each",
            node.name(),
            node.op_type()
        ),
    )
}

const VIEWS: &[&str] = &[
    "Transpose",
    "Identity",
    "Reshape",
    "Cast",
    "CastLike",
    "Squeeze",
    "Unsqueeze",
    "Flatten",
];

/// A use of a root by a node that depends on the samples.
struct Use {
    root: usize,
    node: usize,
    operand: usize,
    role: Role,
}

/// Finds the roots, decides which are parameters and names their layers.
///
/// # Errors
/// [`Error::Request`] for a pattern that is none or matches nothing.
pub(crate) fn find(graph: &Graph, options: &OnnxOptions) -> Result<Roots> {
    let mut roots = Roots::default();
    let mut origins: HashMap<&str, Origin> = HashMap::new();
    for initializer in &graph.initializers {
        let origin = add_root(&mut roots, &initializer.name, &initializer.array);
        origins.insert(&initializer.name, origin);
    }
    let mut uses: Vec<Use> = Vec::new();
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
            let origin = through(&mut roots, node, &origins);
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
            let named = |k: &usize| !made_up(&roots.entries[*k].name);
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
            uses.extend(origin.sources.iter().map(|&root| Use {
                root,
                node: index,
                operand,
                role,
            }));
        }
    }
    let only_statistic: HashSet<usize> = uses
        .iter()
        .filter(|u| u.role == Role::Statistic)
        .map(|u| u.root)
        .collect();
    for root in only_statistic {
        roots.entries[root].statistic = true;
    }
    leave_masks(&mut roots, &uses, &mut chosen);
    chosen.retain(|&k| !is_constant(graph, &roots.entries[k], &uses, k));
    overrule(&roots, options, &uses, &mut chosen)?;
    chosen.retain(|&k| roots.entries[k].array.is_float());
    let layers: Vec<(usize, String)> = chosen
        .iter()
        .map(|&k| (k, layer(graph, &roots, options, &origins, &uses, k)))
        .collect();
    for (k, layer) in layers {
        roots.entries[k].layer = Some(layer);
    }
    warn_shared(&mut roots, graph, &uses);
    Ok(roots)
}

fn add_root(roots: &mut Roots, name: &str, array: &Array) -> Origin {
    let root = roots.entries.len();
    roots.entries.push(Root {
        name: name.to_string(),
        array: array.clone(),
        layer: None,
        statistic: false,
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
fn through(roots: &mut Roots, node: &Node, origins: &HashMap<&str, Origin>) -> Origin {
    let of = |k: usize| node.input(k).and_then(|i| origins.get(i));
    let first = of(0).cloned().unwrap_or_default();
    let operation = node.op_type();
    if operation == "Identity"
        && let (Some(root), Some(output)) = (first.view, node.proto.output.first())
    {
        // The older exporter writes equal-valued parameters once and gives the others this way.
        let own = output.contains('.') || node.proto.name.starts_with("Identity_");
        if own && !made_up(output) && !roots.by_name.contains_key(output) {
            let array = roots.entries[root].array.clone();
            return add_root(roots, output, &array);
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
/// exporter wrote for a norm without scale and shift.
fn is_constant(graph: &Graph, root: &Root, uses: &[Use], k: usize) -> bool {
    let signature = &graph.signature;
    let of_role = |role: fn(&Role) -> bool| uses.iter().any(|u| u.root == k && role(&u.role));
    if signature.constants.contains(&root.name) {
        return true;
    }
    let weight = of_role(|r| matches!(r, Role::Weight | Role::Shared));
    if !signature.parameters.is_empty() && !signature.parameters.contains(&root.name) && !weight {
        return true;
    }
    let values = root.array.to_f64();
    let neutral = values.iter().all(|&v| v == 1.0) || values.iter().all(|&v| v == 0.0);
    made_up(&root.name) && neutral && !of_role(|r| *r == Role::Weight)
}

/// What is added and holds −∞ is an attention mask that the module keeps as a buffer, not a parameter.
fn leave_masks(roots: &mut Roots, uses: &[Use], chosen: &mut HashSet<usize>) {
    let masks = |k: &usize| {
        let weight = |u: &Use| u.root == *k && matches!(u.role, Role::Weight | Role::Shared);
        roots.entries[*k].array.is_mask() && !uses.iter().any(weight)
    };
    let mut masks: Vec<usize> = chosen.iter().copied().filter(masks).collect();
    masks.sort_unstable();
    for k in masks {
        chosen.remove(&k);
        roots.warnings.push(format!(
            "{} holds -inf and is taken for a mask, which is constant",
            roots.entries[k].name
        ));
    }
}

/// Applies `--trainable` and `--constant`.
fn overrule(
    roots: &Roots,
    options: &OnnxOptions,
    uses: &[Use],
    chosen: &mut HashSet<usize>,
) -> Result<()> {
    for (flag, patterns) in [
        ("--trainable", &options.trainable),
        ("--constant", &options.constant),
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
                if flag == "--constant" {
                    chosen.remove(&k);
                } else if uses
                    .iter()
                    .any(|u| u.root == k && u.role != Role::Statistic)
                {
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

/// The name before the last dot; a name without one is a layer of its own.
pub(crate) fn prefix(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(layer, _)| layer)
}

/// Whether a name says which layer it belongs to: it was not made up, and is no copy of an untied one.
fn telling(name: &str, options: &OnnxOptions) -> bool {
    let copy = name
        .split_once('@')
        .is_some_and(|(original, _)| options.untie.iter().any(|u| u == original));
    !made_up(name) && !copy
}

/// The layer of a parameter.
fn layer(
    graph: &Graph,
    roots: &Roots,
    options: &OnnxOptions,
    origins: &HashMap<&str, Origin>,
    uses: &[Use],
    root: usize,
) -> String {
    let name = &roots.entries[root].name;
    if telling(name, options) {
        return prefix(name).to_string();
    }
    let Some(first) = uses
        .iter()
        .find(|u| u.root == root && u.role != Role::Other)
    else {
        return prefix(name).to_string();
    };
    let node = &graph.nodes[first.node];
    let named = |input: Option<&str>| {
        let other = &roots.entries[origins.get(input?)?.view?].name;
        telling(other, options).then(|| prefix(other).to_string())
    };
    // The bias (or weight, or scale) of the same node says the layer.
    let beside = (0..node.proto.input.len())
        .filter(|&k| k != first.operand && role(node, k) != Role::Statistic)
        .find_map(|k| named(node.input(k)));
    if let Some(layer) = beside {
        return layer;
    }
    // Else the bias that follows the product, or the weight of the product before the bias.
    let output = node.proto.output.first();
    let neighbour = if first.role == Role::Weight {
        let follows = |n: &&Node| n.proto.input.iter().any(|i| Some(i) == output);
        graph.nodes[first.node..]
            .iter()
            .find(follows)
            .filter(|n| n.op_type() == "Add")
    } else {
        let feeds = |n: &&Node| {
            matches!(n.op_type(), "MatMul" | "Gemm" | "Conv")
                && n.proto.output.iter().any(|o| node.proto.input.contains(o))
        };
        graph.nodes.iter().find(feeds)
    };
    neighbour
        .and_then(|n| (0..n.proto.input.len()).find_map(|k| named(n.input(k))))
        .unwrap_or_else(|| node.name().to_string())
}

/// Norm scales and biases that serve several places were most likely equal by chance at export.
fn warn_shared(roots: &mut Roots, graph: &Graph, uses: &[Use]) {
    // Where the exporter lists the module's parameters and the file holds them all, what is shared is meant to be.
    let told = &graph.signature.parameters;
    let held = |name: &String| roots.by_name.contains_key(name) || graph.pruned.contains(name);
    let complete = told.iter().all(held);
    let mut warnings = Vec::new();
    for (k, root) in roots.entries.iter().enumerate() {
        if root.layer.is_none() || complete && told.contains(&root.name) {
            continue;
        }
        let flat = root.array.shape.len() <= 1;
        let places: Vec<&str> = uses
            .iter()
            .filter(|u| {
                let node = &graph.nodes[u.node];
                let addend = u.role == Role::Addend && flat && node.op_type() == "Add";
                u.root == k && (u.role == Role::Shared || addend)
            })
            .map(|u| graph.nodes[u.node].name())
            .collect();
        if places.len() > 1 {
            warnings.push(format!(
                "parameter {name} serves {} places ({}): exporters write equal-valued parameters once; if they should be separate, export with examples/export.py or pass --untie {name}",
                places.len(),
                places.join(", "),
                name = root.name
            ));
        }
    }
    roots.warnings.extend(warnings);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_exporters_make_up_are_known() {
        for name in ["val_75", "onnx::Mul_12", "42", "/fc/Transpose_output_0"] {
            assert!(made_up(name), "{name}");
        }
        for name in ["fc.weight", "scale", "val_x", "layers.0.bias", "value_1"] {
            assert!(!made_up(name), "{name}");
        }
    }

    #[test]
    fn a_layer_is_the_name_before_the_last_dot() {
        assert_eq!(prefix("encoder.0.weight"), "encoder.0");
        assert_eq!(prefix("scale"), "scale");
    }
}
