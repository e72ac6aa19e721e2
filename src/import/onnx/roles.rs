//! What a node takes an operand for, and what values made of initializers alone stem from.

use super::graph::{Graph, Node};
use crate::error::Error;
use std::collections::BTreeSet;

/// What a node takes an operand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
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

/// The role of an operand.
pub(super) fn role(node: &Node, operand: usize) -> Role {
    match (node.op_type(), operand) {
        ("Gemm" | "MatMul", 0 | 1)
        | ("Conv" | "ConvTranspose" | "PRelu", 1)
        | ("Gather", 0)
        | ("GRU" | "LSTM" | "RNN", 1 | 2)
        // The table of the bags that it goes over.
        | ("Loop", _) => Role::Weight,
        ("Gemm" | "Conv" | "ConvTranspose", 2) | ("GRU" | "LSTM" | "RNN", 3 | 7) => Role::Shared,
        // A first state: zeros under a name that the exporter made up are none.
        ("GRU" | "LSTM" | "RNN", 5 | 6) => Role::Addend,
        (
            "BatchNormalization"
            | "LayerNormalization"
            | "InstanceNormalization"
            | "GroupNormalization"
            | "RMSNormalization",
            1 | 2,
        ) => Role::Shared,
        ("BatchNormalization", 3 | 4) => Role::Statistic,
        ("Einsum", _) if contracts(node, operand) => Role::Weight,
        (
            "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Max" | "Min" | "Concat" | "Sum" | "Einsum",
            _,
        )
        | ("Where", 1 | 2) => Role::Addend,
        _ => Role::Other,
    }
}

/// What a value made of initializers alone stems from.
#[derive(Clone, Default)]
pub(super) struct Origin {
    /// The root it is a view of (Transpose, Identity, Reshape, Cast).
    pub view: Option<usize>,
    /// Every root it is computed from.
    pub sources: BTreeSet<usize>,
    /// Those of them that had the role of an addend on the way.
    pub mixed: BTreeSet<usize>,
}

/// Initializers that values are computed of, summed over all that are made of initializers alone and all their
/// uses: the product of the two may not grow with the file.
pub(super) const MOST_ORIGINS: usize = 1 << 20;

impl Origin {
    pub fn len(&self) -> usize {
        self.sources.len() + self.mixed.len()
    }
}

pub(super) fn too_many(graph: &Graph, node: &Node) -> Error {
    Error::file(
        &graph.path,
        format!(
            "node {:?} ({}): too many values are computed of too many weights each",
            node.name(),
            node.op_type()
        ),
    )
}

/// The operations that only show a value in another form.
pub(super) const VIEWS: &[&str] = &[
    "Transpose",
    "Identity",
    "Reshape",
    "Cast",
    "CastLike",
    "Squeeze",
    "Unsqueeze",
    "Flatten",
];

/// Whether a node multiplies two operands and sums over an index of both, as a product of matrices does.
pub(super) fn contracts(node: &Node, operand: usize) -> bool {
    let Some((terms, result)) = equation(node) else {
        return false;
    };
    let Some(own) = terms.get(operand) else {
        return false;
    };
    let others = || terms.iter().enumerate().filter(|(k, _)| *k != operand);
    own.chars()
        .any(|c| !result.contains(c) && others().any(|(_, term)| term.contains(c)))
}

/// The operands' and the result's indices of an Einsum whose equation says both and has no ellipsis.
pub(super) fn equation(node: &Node) -> Option<(Vec<String>, String)> {
    if node.op_type() != "Einsum" {
        return None;
    }
    let text: String = node.text("equation")?.split_whitespace().collect();
    let (terms, result) = text.split_once("->")?;
    let terms = terms.split(',').map(String::from).collect();
    (!text.contains("...")).then(|| (terms, result.to_string()))
}
