//! Which operations are taken, and what is said of the others.

use super::super::fold::FOLDED;
use super::super::graph::Node;

/// Operations with a rule.
pub(super) const RULES: &[&str] = &[
    "Abs",
    "Add",
    "AveragePool",
    "BatchNormalization",
    "Cast",
    "CastLike",
    "Celu",
    "Clip",
    "Concat",
    "Conv",
    "Div",
    "Dropout",
    "Elu",
    "Exp",
    "Expand",
    "Flatten",
    "Gemm",
    "GlobalAveragePool",
    "Greater",
    "GreaterOrEqual",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "LeakyRelu",
    "Less",
    "LessOrEqual",
    "Log",
    "MatMul",
    "MaxPool",
    "Mul",
    "Neg",
    "Not",
    "PRelu",
    "Pad",
    "Pow",
    "Reciprocal",
    "ReduceMean",
    "ReduceSum",
    "Relu",
    "Reshape",
    "Selu",
    "Shape",
    "Sigmoid",
    "Size",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Sum",
    "Tanh",
    "Transpose",
    "Unsqueeze",
    "Where",
];

/// Why an operation is not supported, and what is.
pub(super) fn why_not(node: &Node) -> String {
    match node.op_type() {
        "Softmax" | "LogSoftmax" => {
            "the losses take logits: export the network without its last softmax".into()
        }
        operation if FOLDED.contains(&operation) => {
            "it is supported for constants only, and its operands depend on the data or on parameters".into()
        }
        _ if !node.standard() => format!("operations of the domain {:?} are not", node.proto.domain),
        _ => format!("supported are {}", RULES.join(", ")),
    }
}
