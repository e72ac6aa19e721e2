//! Names of initializers: which an exporter made up, and the layer that one tells.

use std::collections::{HashMap, HashSet};

/// `prefix` followed by digits.
fn numbered(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix)
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
}

/// Whether an exporter made a name up: `val_75`, `onnx::Mul_12`, `/fc/Transpose_output_0`, `42`, and all that
/// [`anonymous`] knows.
pub(crate) fn made_up(name: &str) -> bool {
    name.starts_with("onnx::")
        || name.starts_with('/')
        || name == "scalar_tensor_default"
        || [
            "",
            "val_",
            "_val_",
            "lifted_tensor_",
            "c_lifted_tensor_",
            "_tensor_constant",
            "scalar_tensor_default_",
        ]
        .iter()
        .any(|prefix| numbered(name, prefix))
        || anonymous(name)
}

/// Whether an exporter that keeps no names of parameters made a name up, so that a parameter may have it as well
/// as a constant: `const_5` (jax2onnx), `jax2tf_rhs_/pjit_silu_/Const_2:0`, `norm/batchnorm/add/y:0` and
/// `const_fold_opt__12` (tf2onnx).
pub(crate) fn anonymous(name: &str) -> bool {
    if numbered(name, "const_") || numbered(name, "const_fold_opt__") {
        return true;
    }
    let path = name.strip_suffix(":0").unwrap_or(name);
    let last = path.rsplit('/').next().unwrap_or(path);
    let of_tensorflow = path != name || last != path && !path.starts_with('/');
    of_tensorflow && (matches!(last, "Const" | "x" | "y") || numbered(last, "Const_"))
}

/// Operations of TensorFlow that a layer consists of: parts of a path that name no layer.
const INSIDE: &[&str] = &["batchnorm", "Cast", "Conv1D", "einsum", "Tensordot"];

/// The layer of a parameter by its name: what stands before the last dot, or, of a path of TensorFlow, before the
/// operation (`sequential/dense` of `StatefulPartitionedCall/sequential/dense/MatMul/ReadVariableOp:0`). A name
/// without either is a layer of its own.
pub(crate) fn prefix(name: &str) -> String {
    let path = name.split_once(':').map_or(name, |(path, _)| path);
    let last = path.rsplit('/').next().unwrap_or(path);
    if last == path || path.starts_with('/') || last.contains('.') {
        let dotted = name.rsplit_once('.');
        return dotted.map_or(name, |(layer, _)| layer).to_string();
    }
    let mut parts: Vec<&str> = path.split('/').collect();
    let call = |part: &str| {
        part == "StatefulPartitionedCall" || numbered(part, "StatefulPartitionedCall_")
    };
    while parts.len() > 1 && call(parts[0]) {
        parts.remove(0);
    }
    let read = |part: &str| part == "ReadVariableOp" || numbered(part, "ReadVariableOp_");
    let mut operation = false;
    while parts.len() > 1 && (read(parts[parts.len() - 1]) || parts[parts.len() - 1] == "Read") {
        parts.pop();
        operation = true;
    }
    if parts.len() > 1 {
        parts.pop();
    }
    while operation && parts.len() > 1 && INSIDE.contains(&parts[parts.len() - 1]) {
        parts.pop();
    }
    parts.join("/")
}

/// The module that a node's name tells as a path (`n` of `/n/Mul`, `layers.0.n` of `/layers/layers.0/n/Mul_1`);
/// `None` where it tells none.
pub(crate) fn module(node: &str) -> Option<String> {
    let (path, _) = node.strip_prefix('/')?.rsplit_once('/')?;
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        // An entry of a list is given with the list's own name before it.
        if parts.last().is_some_and(|last| {
            part.strip_prefix(last)
                .is_some_and(|rest| rest.starts_with('.'))
        }) {
            parts.pop();
        }
        parts.push(part);
    }
    Some(parts.join("."))
}

/// Names given in a message; the others are counted.
const NAMED: usize = 3;

/// "a, b, c and 2 more"
pub(crate) fn list<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    let mut list = names[..names.len().min(NAMED)].join(", ");
    if names.len() > NAMED {
        list += &format!(" and {} more", names.len() - NAMED);
    }
    list
}

/// Returns `name`, or, if it is taken, `name'`, `name'2`, …, and marks it as taken. `counts` keeps the last number tried for each
/// name.
pub(crate) fn free_name(
    taken: &mut HashSet<String>,
    counts: &mut HashMap<String, usize>,
    name: &str,
) -> String {
    if taken.insert(name.to_string()) {
        return name.to_string();
    }
    let count = counts.entry(name.to_string()).or_default();
    loop {
        *count += 1;
        let new = match *count {
            1 => format!("{name}'"),
            count => format!("{name}'{count}"),
        };
        if taken.insert(new.clone()) {
            return new;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_exporters_make_up_are_known() {
        for name in [
            "val_75",
            "onnx::Mul_12",
            "42",
            "/fc/Transpose_output_0",
            "const_5",
            "const_fold_opt__12",
            "jax2tf_rhs_/pjit_silu_/Const_2:0",
            "norm/batchnorm/add/y:0",
        ] {
            assert!(made_up(name), "{name}");
        }
        for name in [
            "fc.weight",
            "scale",
            "val_x",
            "layers.0.bias",
            "value_1",
            "constant",
            "dense/MatMul/ReadVariableOp:0",
        ] {
            assert!(!made_up(name), "{name}");
        }
        assert!(!anonymous("val_75") && !anonymous("onnx::Mul_12"));
    }

    #[test]
    fn a_layer_is_the_name_before_the_last_dot() {
        assert_eq!(prefix("encoder.0.weight"), "encoder.0");
        assert_eq!(prefix("scale"), "scale");
        assert_eq!(prefix("onnx::MatMul_12"), "onnx::MatMul_12");
    }

    #[test]
    fn a_layer_of_tensorflow_is_the_path_before_the_operation() {
        for (name, layer) in [
            (
                "sequential/dense/MatMul/ReadVariableOp:0",
                "sequential/dense",
            ),
            (
                "sequential/dense/BiasAdd/ReadVariableOp:0",
                "sequential/dense",
            ),
            (
                "StatefulPartitionedCall/sequential/conv2d/Conv2D/ReadVariableOp:0",
                "sequential/conv2d",
            ),
            ("model/bn/batchnorm/mul/ReadVariableOp:0", "model/bn"),
            ("model/bn/batchnorm/ReadVariableOp_1:0", "model/bn"),
            ("model/bn/FusedBatchNormV3/ReadVariableOp_1:0", "model/bn"),
            (
                "model/mha/query/einsum/Einsum/ReadVariableOp:0",
                "model/mha/query",
            ),
            (
                "model/conv1d/Conv1D/ExpandDims_1/ReadVariableOp:0",
                "model/conv1d",
            ),
            ("model/dense/Tensordot/ReadVariableOp:0", "model/dense"),
            ("dense/kernel:0", "dense"),
            ("dense/kernel/Read/ReadVariableOp:0", "dense"),
            ("dense_1/kernel", "dense_1"),
        ] {
            assert_eq!(prefix(name), layer, "{name}");
        }
    }

    #[test]
    fn a_node_tells_its_module() {
        assert_eq!(module("/n/Mul").as_deref(), Some("n"));
        assert_eq!(
            module("/layers/layers.0/n/Mul_1").as_deref(),
            Some("layers.0.n")
        );
        assert_eq!(module("/Mul"), None);
        assert_eq!(module("node_Mul_23"), None);
    }

    #[test]
    fn a_free_name_is_one_that_nothing_has() {
        let (mut taken, mut counts) = (HashSet::from(["y'2".to_string()]), HashMap::new());
        let mut free = |name| free_name(&mut taken, &mut counts, name);
        assert_eq!([free("y"), free("y"), free("y")], ["y", "y'", "y'3"]);
        assert_eq!([free("y"), free("z"), free("y'")], ["y'4", "z", "y''"]);
    }
}
