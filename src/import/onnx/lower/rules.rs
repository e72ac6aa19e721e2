//! Which operations are taken, and what is said of the others.

use super::super::fold::FOLDED;
use super::super::graph::Node;

/// Operations with a rule.
pub(crate) const RULES: &[&str] = &[
    "Abs",
    "Acos",
    "Acosh",
    "Add",
    "And",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "Attention",
    "AveragePool",
    "BatchNormalization",
    "Cast",
    "CastLike",
    "Ceil",
    "Celu",
    "Clip",
    "Col2Im",
    "Concat",
    "ConcatFromSequence",
    "Conv",
    "ConvTranspose",
    "Cos",
    "Cosh",
    "CumSum",
    "DFT",
    "DepthToSpace",
    "Div",
    "Dropout",
    "Einsum",
    "Elu",
    "Equal",
    "Erf",
    "Exp",
    "Expand",
    "Flatten",
    "Floor",
    "GRU",
    "Gather",
    "GatherElements",
    "GatherND",
    "Gelu",
    "Gemm",
    "GlobalAveragePool",
    "GlobalLpPool",
    "GlobalMaxPool",
    "Greater",
    "GreaterOrEqual",
    "GroupNormalization",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "If",
    "InstanceNormalization",
    "IsInf",
    "IsNaN",
    "LRN",
    "LSTM",
    "LayerNormalization",
    "LeakyRelu",
    "Less",
    "LessOrEqual",
    "Log",
    "LogSoftmax",
    "Loop",
    "LpNormalization",
    "MatMul",
    "Max",
    "MaxPool",
    "Mean",
    "MeanVarianceNormalization",
    "Min",
    "Mish",
    "Mul",
    "Neg",
    "Not",
    "OneHot",
    "Or",
    "PRelu",
    "Pad",
    "Pow",
    "RMSNormalization",
    "RNN",
    "Reciprocal",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
    "Relu",
    "Reshape",
    "Resize",
    "Round",
    "Scatter",
    "ScatterElements",
    "ScatterND",
    "Selu",
    "SequenceAt",
    "SequenceEmpty",
    "Shape",
    "Shrink",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Size",
    "Slice",
    "Softmax",
    "Softplus",
    "Softsign",
    "SpaceToDepth",
    "Split",
    "SplitToSequence",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Sum",
    "Swish",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
    "Tile",
    "Transpose",
    "Trilu",
    "Unsqueeze",
    "Upsample",
    "Where",
    "Xor",
];

/// Why an operation is not supported, and what is.
pub(super) fn why_not(node: &Node) -> String {
    match node.op_type() {
        "Scan" => {
            "control flow is out of scope; export with fixed shapes, so that the exporter unrolls it".into()
        }
        operation if operation.contains("Sequence") || operation.starts_with("Optional") => {
            "lists of tensors are out of scope, but for the parts of a split; leave them out of the exported module".into()
        }
        "ArgMax" | "ArgMin" | "TopK" => {
            "it chooses positions by values that depend on parameters, and positions have no derivative; of the inputs alone it is supported (for the greatest value itself, amax is)".into()
        }
        "NonZero" | "Unique" | "NonMaxSuppression" => {
            "the shape of its result depends on values of the data; use a mask instead (torch.where, or a product with 0 and 1)".into()
        }
        "Mod" | "BitShift" => {
            "of what depends on parameters its derivative is 0 or none; of the inputs alone it is supported. Leave it out of the exported module; a straight-through estimator is not in the file, as detach() is not".into()
        }
        "GridSample" | "AffineGrid" | "RoiAlign" | "MaxRoiPool" | "DeformConv" => {
            "it samples at positions that are computed, which is not supported; F.interpolate and convolutions are".into()
        }
        "Hardmax" => {
            "its derivative is 0 everywhere, so that nothing before it has one; leave it out of the exported module, or use an operation that hessblock info lists, such as Softmax".into()
        }
        "Det" => {
            "determinants are not; write that of a small matrix as products of its entries".into()
        }
        "MaxUnpool" => {
            "it puts values where a maximum was, which is a position of the data; transposed convolutions and F.interpolate are supported".into()
        }
        "RandomNormal" | "RandomNormalLike" | "RandomUniform" | "RandomUniformLike" | "Bernoulli"
        | "Multinomial" => {
            "it draws random numbers, and derivatives are those of a function of the data; leave it out of the exported module, or give the numbers as an input".into()
        }
        "QuantizeLinear" | "DequantizeLinear" | "DynamicQuantizeLinear" => {
            "it rounds, which has the derivative 0, where PyTorch's quantisation passes derivatives on; export the module without it".into()
        }
        "LpPool" => {
            "norms over windows are not; average and maximum pools are".into()
        }
        operation if FOLDED.contains(&operation) => {
            "it is supported for constants only, and its operands depend on the data or on parameters".into()
        }
        _ if node.proto.domain.starts_with("com.microsoft") => {
            "ONNX Runtime made it when it optimised the file, which merges parameters too; export with examples/export.py".into()
        }
        _ if !node.standard() => format!("operations of the domain {:?} are not", node.proto.domain),
        _ => "it is not among the supported operations, which hessblock info lists".into(),
    }
}
