//! The attributes of a recurrent node, with its activations as formulas.

use crate::error::{Error, Result};
use crate::import::onnx::graph::Node;
use crate::import::onnx::lower::activation::{activation, below};
use crate::import::onnx::lower::refuse;
use crate::import::onnx::proto;
use crate::tensor::Expr;
use crate::tensor::expression::Unary;

/// Which of the three nodes it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Rnn,
    Gru,
    Lstm,
}

impl Kind {
    /// The number of its gates.
    pub fn gates(self) -> usize {
        match self {
            Kind::Rnn => 1,
            Kind::Gru => 3,
            Kind::Lstm => 4,
        }
    }

    /// Its activations where the file does not say, per direction.
    pub fn functions(self) -> &'static [&'static str] {
        match self {
            Kind::Rnn => &["Tanh"],
            Kind::Gru => &["Sigmoid", "Tanh"],
            Kind::Lstm => &["Sigmoid", "Tanh", "Tanh"],
        }
    }
}

/// The attributes of a recurrent node.
pub(super) struct Layer {
    pub kind: Kind,
    pub hidden: usize,
    /// Whether each direction walks from the last step to the first.
    pub reversed: Vec<bool>,
    /// The activations of all directions.
    pub functions: Vec<Expr>,
    /// Bound on the arguments of the activations.
    clip: Option<f64>,
    /// Whether the GRU multiplies with R_h before it resets.
    pub linear_before_reset: bool,
    /// Whether the LSTM's forget gate is 1 minus its input gate.
    pub coupled: bool,
    /// Whether the samples stand before the steps and the directions (layout 1).
    pub samples_first: bool,
}

impl Layer {
    /// Reads the attributes of a node whose states have `hidden` numbers.
    pub fn read(node: &Node, hidden: usize) -> Result<Layer> {
        let kind = match node.op_type() {
            "RNN" => Kind::Rnn,
            "GRU" => Kind::Gru,
            _ => Kind::Lstm,
        };
        let direction = node.text("direction").unwrap_or_else(|| "forward".into());
        let reversed = match direction.as_str() {
            "forward" => vec![false],
            "reverse" => vec![true],
            "bidirectional" => vec![false, true],
            other => {
                return Err(Error::Shape(format!(
                    "its direction {other:?} is none of forward, reverse and bidirectional"
                )));
            }
        };
        let said = node.int("hidden_size", hidden as i64);
        if usize::try_from(said) != Ok(hidden) {
            return Err(Error::Shape(format!(
                "its hidden_size is {said}, but its weights have {hidden}"
            )));
        }
        let clip = node.attribute("clip").map(|a| f64::from(a.f));
        Ok(Layer {
            functions: functions(node, kind, reversed.len())?,
            kind,
            hidden,
            reversed,
            clip: clip.filter(|&c| c > 0.0),
            linear_before_reset: node.int("linear_before_reset", 0) != 0,
            coupled: node.int("input_forget", 0) != 0,
            samples_first: node.int("layout", 0) != 0,
        })
    }

    /// The argument of an activation within ± clip; the derivative is 0 at the bounds too, as that of Clip.
    fn clipped(&self, x: Expr) -> Expr {
        let Some(clip) = self.clip else { return x };
        let constant = Expr::constant;
        let low = below(&x, -clip, constant(-clip), x.clone());
        Expr::if_less_equal(constant(clip), x, constant(clip), low)
    }

    /// An activation of a clipped argument.
    pub fn apply(&self, function: &Expr, x: Expr) -> Expr {
        function.substitute(&[self.clipped(x)])
    }
}

/// The activations of all directions as formulas. `activation_alpha` and `activation_beta` are lists of the
/// parameters of those functions that have one, in order, as in ONNX Runtime.
fn functions(node: &Node, kind: Kind, directions: usize) -> Result<Vec<Expr>> {
    let names: Vec<String> = match node.attribute("activations") {
        Some(list) if !list.strings.is_empty() => {
            let text = |s: &prost::bytes::Bytes| String::from_utf8_lossy(s).into_owned();
            list.strings.iter().map(text).collect()
        }
        _ => {
            let all = (0..directions).flat_map(|_| kind.functions());
            all.map(|name| name.to_string()).collect()
        }
    };
    let wanted = kind.functions().len() * directions;
    if names.len() != wanted {
        return Err(Error::Shape(format!(
            "it names {} activations instead of {wanted}",
            names.len()
        )));
    }
    let list = |name: &str| node.attribute(name).map_or(&[][..], |a| &a.floats[..]);
    let mut alphas = list("activation_alpha").iter().copied();
    let mut betas = list("activation_beta").iter().copied();
    let each = names.iter().map(|name| {
        let found = match name.to_lowercase().as_str() {
            "affine" => ("Affine", Some(1.0), Some(0.0)),
            "scaledtanh" => ("ScaledTanh", Some(1.0), Some(1.0)),
            "leakyrelu" => ("LeakyRelu", Some(0.01), None),
            "thresholdedrelu" => ("ThresholdedRelu", Some(1.0), None),
            "elu" => ("Elu", Some(1.0), None),
            "hardsigmoid" => ("HardSigmoid", Some(0.2), Some(0.5)),
            "relu" => ("Relu", None, None),
            "tanh" => ("Tanh", None, None),
            "sigmoid" => ("Sigmoid", None, None),
            "softsign" => ("Softsign", None, None),
            "softplus" => ("Softplus", None, None),
            _ => {
                return refuse(format!(
                    "its activation {name:?} is none that ONNX defines for it"
                ));
            }
        };
        let (operation, alpha, beta) = found;
        let alpha: Option<f32> = alpha.map(|default| alphas.next().unwrap_or(default));
        let beta: Option<f32> = beta.map(|default| betas.next().unwrap_or(default));
        function(operation, alpha, beta)
    });
    each.collect()
}

/// One activation as a formula of input 0.
fn function(operation: &str, alpha: Option<f32>, beta: Option<f32>) -> Result<Expr> {
    let constant = |value: Option<f32>| Expr::constant(value.unwrap_or_default().into());
    let x = Expr::input(0);
    match operation {
        "Affine" => return Ok(constant(alpha) * x + constant(beta)),
        "ScaledTanh" => return Ok(constant(alpha) * (constant(beta) * x).unary(Unary::Tanh)),
        _ => {}
    }
    // The others are operations of their own, with attributes of these names.
    let attribute = |name: &str, value: Option<f32>| {
        value.map(|f| proto::Attribute {
            name: name.into(),
            f,
            ..Default::default()
        })
    };
    let attributes = [attribute("alpha", alpha), attribute("beta", beta)];
    let node = Node {
        proto: proto::Node {
            op_type: operation.into(),
            attribute: attributes.into_iter().flatten().collect(),
            ..Default::default()
        },
    };
    let formula = activation(&node)?;
    formula.ok_or_else(|| Error::Shape(format!("{operation} has no formula")))
}
