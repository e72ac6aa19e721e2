//! An elementwise expression as WGSL.

use std::collections::HashMap;
use std::fmt::Write;

use crate::tensor::Expr;
use crate::tensor::expression::{Binary, Node, Unary};
use crate::tensor::gpu::params::{MAX_MAP_INPUTS, map as params};

/// Writes bindings and `fn evaluate(element) -> f32` of an expression.
pub(super) fn evaluate_function(expr: &Expr, axes: usize) -> String {
    let mut writer = Writer {
        axes,
        ..Default::default()
    };
    let result = writer.value(expr);
    let mut text = String::new();
    for k in &writer.inputs {
        let _ = writeln!(
            text,
            "@group(0) @binding({}) var<storage, read> input{k}: array<f32>;",
            k + 1
        );
    }
    let _ = writeln!(text, "fn evaluate(element: u32) -> f32 {{");
    let _ = writeln!(text, "    var rest = element;");
    for axis in (0..axes).rev() {
        let extent = params::AXES.read(axis_word(axis));
        if axis > 0 {
            let _ = writeln!(text, "    let index{axis} = rest % {extent};");
            let _ = writeln!(text, "    rest = rest / {extent};");
        } else {
            let _ = writeln!(text, "    let index0 = rest;");
        }
    }
    let _ = writeln!(text, "{}    return {result};\n}}", writer.body);
    text
}

/// Returns the number of an axis's first word, its extent; strides follow.
fn axis_word(axis: usize) -> usize {
    axis * (1 + MAX_MAP_INPUTS)
}

#[derive(Default)]
struct Writer {
    axes: usize,
    body: String,
    inputs: Vec<usize>,
    /// Name of each right side already computed: equal subexpressions are computed once.
    names: HashMap<String, String>,
    /// Name of each node visited, by address: shared nodes are visited once.
    visited: HashMap<*const Node, String>,
}

impl Writer {
    fn value(&mut self, expr: &Expr) -> String {
        let address: *const Node = expr.node();
        if let Some(name) = self.visited.get(&address) {
            return name.clone();
        }
        let right = match expr.node() {
            Node::Input(k) => {
                if !self.inputs.contains(k) {
                    self.inputs.push(*k);
                }
                let mut index = params::INPUT_STARTS.read(*k);
                for axis in 0..self.axes {
                    let stride = params::AXES.read(axis_word(axis) + 1 + k);
                    let _ = write!(index, " + index{axis} * {stride}");
                }
                format!("input{k}[{index}]")
            }
            Node::Constant(value) => constant(*value as f32),
            Node::Unary(function, x) => {
                let x = self.value(x);
                match function {
                    Unary::Negate => format!("-{x}"),
                    Unary::Reciprocal => format!("1.0 / {x}"),
                    Unary::Exp => format!("exp_({x})"),
                    Unary::ExpM1 => format!("expm1_({x})"),
                    Unary::Log => format!("log_({x})"),
                    Unary::Log1p => format!("log1p_({x})"),
                    Unary::Tanh => format!("tanh_({x})"),
                    Unary::Sigmoid => format!("sigmoid_({x})"),
                    Unary::Softplus => format!("softplus_({x})"),
                    Unary::Sqrt => format!("sqrt({x})"),
                    Unary::Erf => format!("erf_({x})"),
                    Unary::Sin => format!("sin_({x})"),
                    Unary::Cos => format!("cos_({x})"),
                    Unary::Sinh => format!("sinh_({x})"),
                    Unary::Cosh => format!("cosh_({x})"),
                    Unary::Atan => format!("atan_({x})"),
                    Unary::Asin => format!("asin_({x})"),
                    Unary::Acos => format!("acos_({x})"),
                    Unary::Asinh => format!("asinh_({x})"),
                    Unary::Acosh => format!("acosh_({x})"),
                    Unary::Floor => format!("floor_({x})"),
                    Unary::Ceil => format!("ceil_({x})"),
                    Unary::Round => format!("round_({x})"),
                }
            }
            Node::Binary(function, x, y) => {
                let (x, y) = (self.value(x), self.value(y));
                match function {
                    Binary::Add => format!("{x} + {y}"),
                    Binary::Subtract => format!("{x} - {y}"),
                    Binary::Multiply => format!("{x} * {y}"),
                    Binary::Divide => format!("{x} / {y}"),
                    Binary::Power => format!("power_({x}, {y})"),
                }
            }
            Node::IfLessEqual {
                left,
                right,
                then,
                otherwise,
            } => {
                let [left, right, then, otherwise] =
                    [left, right, then, otherwise].map(|e| self.value(e));
                format!("select({otherwise}, {then}, less_equal({left}, {right}))")
            }
        };
        let name = match self.names.get(&right) {
            Some(name) => name.clone(),
            None => {
                let name = format!("v{}", self.names.len());
                let _ = writeln!(self.body, "    let {name} = {right};");
                self.names.insert(right, name.clone());
                name
            }
        };
        self.visited.insert(address, name.clone());
        name
    }
}

/// A literal; what has none (infinities, NaN) or may be folded away (−0) is made of its bits.
fn constant(value: f32) -> String {
    if value.is_finite() && (value != 0.0 || value.is_sign_positive()) {
        format!("f32({value:e})")
    } else {
        format!("from_bits({:#010x}u)", value.to_bits())
    }
}
