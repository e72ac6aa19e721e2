//! What a network holds, as a table for people and as JSON for programs.
//!
//! ```
//! use hessblock::network::{builder::Builder, inspect::inspect};
//! let network = Builder::new(&[4]).linear("fc", 3).initialize(1).build()?;
//! let table = inspect(&network);
//! assert_eq!(table.layers[0].count, 15);
//! println!("{table}");
//! # Ok::<(), hessblock::Error>(())
//! ```

use super::{Network, Operand};
use crate::bytes::Bytes;
use crate::ops::{Conv, ConvTranspose, Op};
use crate::tensor::expression::Node as Formula;
use serde::Serialize;
use std::collections::HashMap;
use std::fmt;

/// What a network holds.
///
/// ```
/// use hessblock::network::inspect::inspect;
/// # use hessblock::network::builder::Builder;
/// # let network = Builder::new(&[3]).linear("fc1", 4).tanh().linear("fc2", 2).initialize(0).build()?;
/// let table = inspect(&network);
/// println!("{table}");
/// assert_eq!(table.parameter_count, 26);
/// assert_eq!(table.hessian_bytes, 4 * 26 * 26);
/// assert_eq!(table.to_json()["parameter_count"], 26);
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Inspection {
    /// The inputs.
    pub inputs: Vec<Tensor>,
    /// The output the loss is taken of.
    pub output: Tensor,
    /// Parameter entries in all, p.
    pub parameter_count: usize,
    /// Bytes of the whole Hessian in single precision; twice that in double.
    pub hessian_bytes: u128,
    /// Parameters in the flat order.
    pub parameters: Vec<ParameterRow>,
    /// Layers in the order of their first parameter.
    pub layers: Vec<LayerRow>,
    /// Operations in execution order.
    pub operations: Vec<OperationRow>,
    /// Things a user should know.
    pub warnings: Vec<String>,
}

/// An input or output.
///
/// ```
/// use hessblock::network::inspect::inspect;
/// # use hessblock::network::builder::Builder;
/// # let network = Builder::new(&[3]).linear("fc1", 4).tanh().linear("fc2", 2).initialize(0).build()?;
/// let table = inspect(&network);
/// assert_eq!((table.inputs[0].name.as_str(), &table.inputs[0].shape[..]), ("input", &[1, 3][..]));
/// assert_eq!(table.output.shape, [1, 2]);
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Its shape at batch 1.
    pub shape: Vec<usize>,
    /// Which axis holds the samples.
    pub sample_axis: usize,
    /// Whether it holds integers (tokens).
    pub integer: bool,
}

/// A parameter.
///
/// ```
/// use hessblock::network::inspect::inspect;
/// # use hessblock::network::builder::Builder;
/// # let network = Builder::new(&[3]).linear("fc1", 4).tanh().linear("fc2", 2).initialize(0).build()?;
/// let table = inspect(&network);
/// let bias = &table.parameters[1];
/// assert_eq!((bias.name.as_str(), bias.layer.as_str()), ("fc1.bias", "fc1"));
/// assert_eq!((bias.offset, bias.count), (12, 4));
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ParameterRow {
    /// Its name in the file.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Index of its first entry in the flat order.
    pub offset: usize,
    /// Its entries.
    pub count: usize,
    /// Its layer.
    pub layer: String,
    /// How its rows of V are kept (DESIGN §2): `outer`, `dense`, or `none` where it does not enter the output.
    pub factor: &'static str,
}

/// A layer.
///
/// ```
/// use hessblock::network::inspect::inspect;
/// # use hessblock::network::builder::Builder;
/// # let network = Builder::new(&[3]).linear("fc1", 4).tanh().linear("fc2", 2).initialize(0).build()?;
/// let table = inspect(&network);
/// let fc2 = &table.layers[1];
/// assert_eq!(fc2.parameters, ["fc2.weight", "fc2.bias"]);
/// assert_eq!((fc2.offset, fc2.count, fc2.block_bytes), (16, 10, 400));
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerRow {
    /// Its name.
    pub layer: String,
    /// The file's word for the operation that uses its first parameter.
    pub operation: String,
    /// Shape of that operation's result at batch 1.
    pub output_shape: Vec<usize>,
    /// Its parameters' names.
    pub parameters: Vec<String>,
    /// Index of its first entry in the flat order.
    pub offset: usize,
    /// Its entries.
    pub count: usize,
    /// `outer` where all its parameters are, `dense` where one is, `none` where none enters the output.
    pub factor: &'static str,
    /// Bytes of its block in single precision; twice that in double.
    pub block_bytes: u128,
}

/// An operation.
///
/// ```
/// use hessblock::network::inspect::inspect;
/// # use hessblock::network::builder::Builder;
/// # let network = Builder::new(&[3]).linear("fc1", 4).tanh().linear("fc2", 2).initialize(0).build()?;
/// let table = inspect(&network);
/// for row in &table.operations {
///     println!("{}: {} {:?}", row.name, row.operation, row.output_shape);
/// }
/// assert_eq!(table.operations[0].operation, "Gemm");
/// assert_eq!(table.operations[0].output_shape, [1, 4]);
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OperationRow {
    /// Its name in the file.
    pub name: String,
    /// The file's word for it.
    pub operation: String,
    /// Shape of its result at batch 1.
    pub output_shape: Vec<usize>,
}

/// Describes a network.
pub fn inspect(network: &Network) -> Inspection {
    let uses = uses(network);
    let parameters = parameter_rows(network, &uses);
    let layers = layer_rows(network, &uses, &parameters);
    let output = network.output.checked_sub(network.inputs.len());
    Inspection {
        inputs: network
            .data_inputs()
            .iter()
            .map(|input| Tensor {
                name: input.name.clone(),
                shape: input.rest.clone(),
                sample_axis: input.sample_axis,
                integer: input.integer,
            })
            .collect(),
        output: Tensor {
            name: match output {
                _ if !network.output_name.is_empty() => network.output_name.clone(),
                Some(node) => network.nodes[node].name.clone(),
                None => network.inputs[network.output].name.clone(),
            },
            shape: network.rest(network.output).to_vec(),
            sample_axis: network.output_sample_axis,
            integer: false,
        },
        parameter_count: network.parameter_count(),
        hessian_bytes: 4 * (network.parameter_count() as u128).pow(2),
        parameters,
        layers,
        operations: operation_rows(network),
        warnings: network.warnings.clone(),
    }
}

/// The table's rows of parameters; `uses` is that of [`uses`].
fn parameter_rows(network: &Network, uses: &[Vec<(usize, usize)>]) -> Vec<ParameterRow> {
    (0..network.parameters.len())
        .map(|k| {
            let parameter = &network.parameters[k];
            ParameterRow {
                name: parameter.name.clone(),
                shape: parameter.data.shape.clone(),
                offset: parameter.offset,
                count: parameter.data.len(),
                layer: parameter.layer.clone(),
                factor: factor(network, k, &uses[k]),
            }
        })
        .collect()
}

/// The table's rows of layers; `uses` is that of [`uses`].
fn layer_rows(
    network: &Network,
    uses: &[Vec<(usize, usize)>],
    parameters: &[ParameterRow],
) -> Vec<LayerRow> {
    network
        .layers()
        .iter()
        .map(|layer| {
            let rows: Vec<&ParameterRow> =
                layer.parameters.iter().map(|&k| &parameters[k]).collect();
            let count: usize = rows.iter().map(|r| r.count).sum();
            let first = uses[layer.parameters[0]].first();
            let node = first.map(|&(node, _)| &network.nodes[node]);
            let has = |kind: &str| rows.iter().any(|r| r.factor == kind);
            LayerRow {
                layer: layer.name.clone(),
                operation: node.map_or_else(|| "-".into(), |n| n.operation.clone()),
                output_shape: node.map_or_else(Vec::new, |n| n.rest.clone()),
                parameters: rows.iter().map(|r| r.name.clone()).collect(),
                offset: rows[0].offset,
                count,
                factor: if has("dense") {
                    "dense"
                } else if has("outer") {
                    "outer"
                } else {
                    "none"
                },
                block_bytes: 4 * (count as u128).pow(2),
            }
        })
        .collect()
}

/// The table's rows of operations: one for each node of the file.
fn operation_rows(network: &Network) -> Vec<OperationRow> {
    let mut operations: Vec<OperationRow> = Vec::new();
    for node in &network.nodes {
        // A node of the file may be several of ours; the last has its result.
        if operations.last().is_some_and(|o| o.name == node.name) {
            operations.pop();
        }
        operations.push(OperationRow {
            name: node.name.clone(),
            operation: node.operation.clone(),
            output_shape: node.rest.clone(),
        });
    }
    operations
}

/// The operations that use each parameter, through views of it, and which operand it is there: `(node, operand)`, in
/// execution order.
fn uses(network: &Network) -> Vec<Vec<(usize, usize)>> {
    let mut uses = vec![Vec::new(); network.parameters.len()];
    // The parameter that a value is a view of.
    let mut viewed: Vec<Option<usize>> = vec![None; network.inputs.len()];
    for (k, node) in network.nodes.iter().enumerate() {
        let view = matches!(node.op, Op::Permute(_) | Op::Reshape(_));
        let mut own = None;
        for (operand, input) in node.inputs.iter().enumerate() {
            let parameter = match *input {
                Operand::Parameter(parameter) => Some(parameter),
                Operand::Value(value) => viewed[value],
                Operand::Constant(_) => None,
            };
            match parameter {
                Some(_) if view => own = parameter,
                Some(parameter) => uses[parameter].push((k, operand)),
                None => {}
            }
        }
        viewed.push(own);
    }
    uses
}

/// How a parameter's rows are kept: an outer factor holds for a single use at a single position.
fn factor(network: &Network, parameter: usize, uses: &[(usize, usize)]) -> &'static str {
    let &[(node, operand)] = uses else {
        return if uses.is_empty() { "none" } else { "dense" };
    };
    let node = &network.nodes[node];
    let count = network.parameters[parameter].data.len();
    let outer = match &node.op {
        Op::Linear(_) => {
            let x = network.operand_rest(node.inputs[0]);
            operand == 1 && x[..x.len() - 1].iter().product::<usize>() == 1
        }
        // A window over all of its input is one position.
        Op::Conv(Conv { window, groups: 1 })
        | Op::ConvTranspose(ConvTranspose { window, groups: 1 }) => {
            let whole = window.kernel == window.input && window.padding.iter().all(|&p| p == 0);
            operand == 1 && whole && network.operand_rest(node.inputs[0])[0] == 1
        }
        // A bias: every entry is added to one output.
        Op::Elementwise(op) => {
            let derivative = op.expr.derivative(operand);
            matches!(derivative.node(), Formula::Constant(value) if *value == 1.0)
                && node.rest.iter().product::<usize>() == count
        }
        _ => false,
    };
    if outer { "outer" } else { "dense" }
}

impl Inspection {
    /// The JSON form.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).expect("names and numbers are JSON")
    }
}

/// "1×28×28"
fn shape(shape: &[usize]) -> String {
    let extents: Vec<String> = shape.iter().map(|e| e.to_string()).collect();
    extents.join("×")
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for input in &self.inputs {
            writeln!(
                f,
                "input   {}  {} per sample{}",
                input.name,
                shape(&input.shape),
                if input.integer { ", integers" } else { "" }
            )?;
        }
        writeln!(
            f,
            "output  {}  {} per sample",
            self.output.name,
            shape(&self.output.shape)
        )?;
        writeln!(f)?;
        let header = [
            "layer",
            "operation",
            "output",
            "parameter",
            "shape",
            "offset",
            "count",
            "factor",
            "block (f32)",
        ];
        let mut rows: Vec<[String; 9]> = vec![header.map(String::from)];
        let parameters = self.parameters.iter().map(|p| (p.name.as_str(), p));
        let parameters: HashMap<&str, &ParameterRow> = parameters.collect();
        for layer in &self.layers {
            for (k, name) in layer.parameters.iter().enumerate() {
                let row = parameters.get(name.as_str());
                let row = row.expect("a layer lists parameters of the table");
                let first = |text: String| if k == 0 { text } else { String::new() };
                rows.push([
                    first(layer.layer.clone()),
                    first(layer.operation.clone()),
                    first(shape(&layer.output_shape)),
                    name.clone(),
                    shape(&row.shape),
                    row.offset.to_string(),
                    row.count.to_string(),
                    row.factor.to_string(),
                    first(Bytes(layer.block_bytes).to_string()),
                ]);
            }
        }
        let width = |column: usize| {
            rows.iter()
                .map(|r| r[column].chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..header.len()).map(width).collect();
        for row in &rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let gap = " ".repeat(widths[column] - cell.chars().count());
                // Numbers line up at their last digit.
                if matches!(column, 5 | 6 | 8) {
                    line += &format!("{gap}{cell}  ");
                } else {
                    line += &format!("{cell}{gap}  ");
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        writeln!(f)?;
        writeln!(
            f,
            "{} parameters; the whole Hessian takes {} in single precision",
            self.parameter_count,
            Bytes(self.hessian_bytes)
        )?;
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        Ok(())
    }
}
