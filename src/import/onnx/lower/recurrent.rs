//! RNN, GRU and LSTM, unrolled over their steps.
//!
//! The inputs of all steps meet W in one linear operation with a position per step; the recurrence h_{t−1}·Rᵀ is
//! one linear operation per step, so that R is a parameter used at as many places. A state of zeros is the number
//! 0, which formulas drop. Where the samples have lengths, a step beyond the end of a sample leaves its states as
//! they are and gives 0; the reverse direction walks from the last step to the first, so it starts at each
//! sample's end.
//!
//! Formulas and the order of the gates are those of the ONNX operations, with f, g and h the activations:
//!
//! | node | gates | formulas |
//! |---|---|---|
//! | RNN | i | h_t = f(x_t·Wᵢᵀ + h_{t−1}·Rᵢᵀ + Wbᵢ + Rbᵢ) |
//! | GRU | z, r, h | h_t = (1 − z)⊙n + z⊙h_{t−1}, n = g(x_t·W_hᵀ + Wb_h + r⊙(h_{t−1}·R_hᵀ + Rb_h)), or with (r⊙h_{t−1})·R_hᵀ + Rb_h where it is not `linear_before_reset` |
//! | LSTM | i, o, f, c | c_t = f⊙c_{t−1} + i⊙g(…), h_t = o⊙h(c_t); the peepholes P add P⊙c to the arguments of i, f (c_{t−1}) and o (c_t) |

use super::super::graph::Node;
use super::super::proto;
use super::activation::{activation, below};
use super::{Array, Lowering, Tensor, Value, refuse};
use crate::error::{Error, Result};
use crate::network;
use crate::ops::{Concat, Reshape};
use crate::tensor::Expr;
use crate::tensor::expression::Unary;

/// Operations that a step becomes, at most.
const OPERATIONS_OF_STEP: usize = 16;

/// Which of the three nodes it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Rnn,
    Gru,
    Lstm,
}

impl Kind {
    fn gates(self) -> usize {
        match self {
            Kind::Rnn => 1,
            Kind::Gru => 3,
            Kind::Lstm => 4,
        }
    }

    /// Its activations where the file does not say, per direction.
    fn functions(self) -> &'static [&'static str] {
        match self {
            Kind::Rnn => &["Tanh"],
            Kind::Gru => &["Sigmoid", "Tanh"],
            Kind::Lstm => &["Sigmoid", "Tanh", "Tanh"],
        }
    }
}

/// The attributes of a recurrent node.
struct Layer {
    kind: Kind,
    hidden: usize,
    /// Whether each direction walks from the last step to the first.
    reversed: Vec<bool>,
    /// The activations of all directions.
    functions: Vec<Expr>,
    /// Bound on the arguments of the activations.
    clip: Option<f64>,
    /// Whether the GRU multiplies with R_h before it resets.
    linear_before_reset: bool,
    /// Whether the LSTM's forget gate is 1 minus its input gate.
    coupled: bool,
    /// Whether the samples stand before the steps and the directions (layout 1).
    samples_first: bool,
}

/// The operands of one direction.
struct Direction<'l> {
    layer: &'l Layer,
    /// x·Wᵀ and those biases that may be added before the recurrence: `[samples, steps, gates · hidden]`.
    ready: Tensor,
    /// R; of a GRU that resets before it multiplies, the rows of z and r, and those of h.
    recurrence: Vec<Tensor>,
    /// Rb_h of a GRU, where it is reset too.
    reset_bias: Value,
    /// Peepholes of i, o and f; 0 where there are none.
    peepholes: [Value; 3],
    reversed: bool,
    /// f, g and h, as far as there are.
    functions: &'l [Expr],
}

/// One step of a direction.
struct Step<'l> {
    t: usize,
    /// Steps of each sample.
    lengths: &'l Value,
    /// The entries of `ready`: `[samples, gates · hidden]`.
    now: Tensor,
}

impl Step<'_> {
    /// `if t < length { inside } else { outside }`.
    fn inside(&self, inside: Expr, outside: Expr, length: Expr) -> Expr {
        Expr::if_less_equal(Expr::constant(self.t as f64 + 1.0), length, inside, outside)
    }
}

/// The states before or after a step: h, and c of an LSTM.
#[derive(Clone)]
struct States {
    hidden: Value,
    cell: Value,
}

/// The results of one direction.
struct Run {
    /// `[samples, hidden]` per step, in the order of the steps.
    outputs: Vec<Value>,
    last: States,
}

fn zero() -> Value {
    number(0.0)
}

fn number(value: f64) -> Value {
    let scalar = Array::reals(&[], vec![value], true);
    Value::Host([scalar.clone(), scalar])
}

/// Whether a value is the number 0.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Host(arrays) => arrays
            .iter()
            .all(|a| a.len() > 0 && a.to_f64().iter().all(|&v| v == 0.0)),
        _ => false,
    }
}

impl Layer {
    fn read(node: &Node, hidden: usize) -> Result<Layer> {
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
    fn apply(&self, function: &Expr, x: Expr) -> Expr {
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

impl Lowering<'_> {
    /// RNN, GRU and LSTM: all steps, the last states.
    pub(super) fn recurrent(
        &mut self,
        node: &Node,
        inputs: &[Option<Value>],
    ) -> Result<Vec<Value>> {
        let [x, w, r] = [
            self.tensor(node, inputs, 0)?,
            self.tensor(node, inputs, 1)?,
            self.tensor(node, inputs, 2)?,
        ];
        let shapes = || {
            Error::Shape(format!(
                "inputs {:?} with weights {:?} and {:?}",
                x.rest, w.rest, r.rest
            ))
        };
        let (&[_, _, width], &[directions, rows, columns], &[_, _, hidden]) =
            (&x.rest[..], &w.rest[..], &r.rest[..])
        else {
            return Err(shapes());
        };
        let layer = Layer::read(node, hidden)?;
        let gates = layer.kind.gates();
        let fits = hidden > 0
            && directions == layer.reversed.len()
            && gates.checked_mul(hidden) == Some(rows)
            && columns == width
            && r.rest == [directions, rows, hidden];
        if !fits {
            return Err(shapes());
        }
        if w.sample.is_some() || r.sample.is_some() {
            return refuse("its weights depend on the data");
        }
        let time = usize::from(layer.samples_first);
        if x.samples_on(time) {
            return refuse(format!(
                "its steps lie on axis {time} of {:?}, which holds the samples; export with an input of three axes and the samples on the one that the layer takes for its batch (batch_first says which)",
                x.shape(self.batch.sizes[1])
            ));
        }
        self.not_over_samples(&x, 2)?;
        let steps = x.rest[time];
        self.unrolled(node, steps, directions)?;
        let x = if layer.samples_first {
            x
        } else {
            self.permute(node, &x, &[1, 0, 2])?
        };
        let lengths = self.lengths(node, inputs, &x, steps)?;
        let mut runs = Vec::with_capacity(directions);
        for d in 0..directions {
            let direction = self.direction(node, inputs, &layer, [&x, &w, &r], d)?;
            let first = States {
                hidden: self.state(node, inputs, &layer, &x, 5, d)?,
                cell: match layer.kind {
                    Kind::Lstm => self.state(node, inputs, &layer, &x, 6, d)?,
                    _ => zero(),
                },
            };
            runs.push(self.steps(node, &direction, first, &lengths)?);
        }
        self.results(node, &layer, &x, runs)
    }

    /// Sets aside what the operations of all steps take.
    fn unrolled(&mut self, node: &Node, steps: usize, directions: usize) -> Result<()> {
        let each = size_of::<network::Node>() + 2 * node.name().len() + 64;
        let operations = (steps * directions).saturating_mul(OPERATIONS_OF_STEP);
        match self.room.hold(operations.saturating_mul(each)) {
            Ok(()) => Ok(()),
            Err(_) => refuse(format!(
                "it is unrolled over its steps, and {steps} of them are more than can be; export with a shorter sequence"
            )),
        }
    }

    /// The entry `d` of the first axis of a parameter, without that axis.
    fn of_direction(&mut self, node: &Node, x: &Tensor, d: usize) -> Result<Tensor> {
        let part = self.entries(node, x, 0, vec![Some(d)])?;
        let rest = x.rest[1..].to_vec();
        self.append(node, Reshape { rest }, &[part.operand], None)
    }

    /// A parameter's row of direction `d`, cut into parts of `hidden`; `None` where it is not given.
    fn row(
        &mut self,
        node: &Node,
        inputs: &[Option<Value>],
        k: usize,
        extents: [usize; 2],
        d: usize,
    ) -> Result<Option<Tensor>> {
        if !matches!(inputs.get(k), Some(Some(_))) {
            return Ok(None);
        }
        let given = self.tensor(node, inputs, k)?;
        if given.sample.is_some() {
            return refuse(format!("its input {k} depends on the data"));
        }
        if given.rest != extents {
            return Err(Error::Shape(format!(
                "its input {k} has the shape {:?} instead of {extents:?}",
                given.rest
            )));
        }
        self.of_direction(node, &given, d).map(Some)
    }

    /// The entries `from..to` of the last axis.
    fn run_of(&mut self, node: &Node, x: &Tensor, from: usize, to: usize) -> Result<Tensor> {
        let axis = x.rest.len() - 1;
        self.entries(node, x, axis, (from..to).map(Some).collect())
    }

    /// A formula of operands, of which some are numbers; what it does not read is left out.
    fn formula(&mut self, node: &Node, expr: Expr, operands: &[&Value]) -> Result<Value> {
        let known = |(k, operand): (usize, &&Value)| match operand {
            Value::Host(arrays) => arrays[0].scalar().map_or(Expr::input(k), Expr::constant),
            _ => Expr::input(k),
        };
        let known: Vec<Expr> = operands.iter().enumerate().map(known).collect();
        let expr = expr.substitute(&known);
        if let Some(value) = expr.as_constant() {
            return Ok(number(value));
        }
        let mut read = Vec::new();
        let mut places = Vec::with_capacity(operands.len());
        for (k, &operand) in operands.iter().enumerate() {
            places.push(Expr::input(read.len()));
            if expr.reads(k) {
                read.push(operand.clone());
            }
        }
        let result = self.pointwise(node, expr.substitute(&places), &read)?;
        Ok(Value::Tensor(result))
    }

    /// The sum of two.
    fn plus(&mut self, node: &Node, a: Tensor, b: Tensor) -> Result<Tensor> {
        let sum = Expr::input(0) + Expr::input(1);
        self.pointwise(node, sum, &[Value::Tensor(a), Value::Tensor(b)])
    }

    fn direction<'l>(
        &mut self,
        node: &Node,
        inputs: &[Option<Value>],
        layer: &'l Layer,
        [x, w, r]: [&Tensor; 3],
        d: usize,
    ) -> Result<Direction<'l>> {
        let (hidden, directions) = (layer.hidden, layer.reversed.len());
        let rows = layer.kind.gates() * hidden;
        let early = 2 * hidden;
        let w = self.of_direction(node, w, d)?;
        let r = self.of_direction(node, r, d)?;
        let mut ready = self.linear(node, x, &w, true)?;
        let gru = layer.kind == Kind::Gru;
        let mut reset_bias = zero();
        if let Some(bias) = self.row(node, inputs, 3, [directions, 2 * rows], d)? {
            let own = self.run_of(node, &bias, 0, rows)?;
            let other = self.run_of(node, &bias, rows, 2 * rows)?;
            // Rb_h of a GRU is reset with what it is added to.
            let both = if gru && layer.linear_before_reset {
                let last = self.run_of(node, &other, early, rows)?;
                reset_bias = Value::Tensor(last);
                let other = self.run_of(node, &other, 0, early)?;
                let first = self.run_of(node, &own, 0, early)?;
                let first = self.plus(node, first, other)?;
                let last = self.run_of(node, &own, early, rows)?;
                let operands = [first.operand, last.operand];
                self.append(node, Concat { axis: 0 }, &operands, None)?
            } else {
                self.plus(node, own, other)?
            };
            ready = self.plus(node, ready, both)?;
        }
        let recurrence = if gru && !layer.linear_before_reset {
            let part = |from: usize, to: usize| (from..to).map(Some).collect();
            vec![
                self.entries(node, &r, 0, part(0, early))?,
                self.entries(node, &r, 0, part(early, rows))?,
            ]
        } else {
            vec![r]
        };
        let mut peepholes = [zero(), zero(), zero()];
        if layer.kind == Kind::Lstm
            && let Some(all) = self.row(node, inputs, 7, [directions, 3 * hidden], d)?
        {
            for (k, peephole) in peepholes.iter_mut().enumerate() {
                let part = self.run_of(node, &all, k * hidden, (k + 1) * hidden)?;
                *peephole = Value::Tensor(part);
            }
        }
        let each = layer.kind.functions().len();
        Ok(Direction {
            layer,
            ready,
            recurrence,
            reset_bias,
            peepholes,
            reversed: layer.reversed[d],
            functions: &layer.functions[d * each..(d + 1) * each],
        })
    }

    /// An initial state of direction `d` as `[samples, hidden]`; 0 where it is not given or all zeros.
    fn state(
        &mut self,
        node: &Node,
        inputs: &[Option<Value>],
        layer: &Layer,
        x: &Tensor,
        k: usize,
        d: usize,
    ) -> Result<Value> {
        let (samples, own) = if layer.samples_first { (0, 1) } else { (1, 0) };
        let given = match inputs.get(k) {
            Some(Some(value)) if !is_zero(value) => value,
            _ => return Ok(zero()),
        };
        let tensor = match given {
            Value::Host(arrays) => {
                // Zeros or not, the rows of all samples are the same.
                let place = x.sample.map(|s| (3 - samples, s));
                let array = self.per_sample(arrays, place)?;
                self.constant(node, &array)?
            }
            _ => self.tensor(node, inputs, k)?,
        };
        let rows = x.rest[0];
        let fits = tensor.rest.len() == 3
            && tensor.rest[own] == layer.reversed.len()
            && tensor.rest[2] == layer.hidden
            && (tensor.rest[samples] == rows || tensor.rest[samples] == 1);
        if !fits {
            return if tensor.sample.is_none() && tensor.rest.len() == 3 {
                refuse(format!(
                    "its input {k} of shape {:?} has a row per sample of the exported batch; export with batch 1 or an open batch",
                    tensor.rest
                ))
            } else {
                Err(Error::Shape(format!(
                    "its input {k} of shape {:?} per sample is no state of {} numbers in {} directions",
                    tensor.rest,
                    layer.hidden,
                    layer.reversed.len()
                )))
            };
        }
        if tensor.sample.is_some_and(|s| s.axis != samples) {
            return refuse(format!(
                "the samples of its input {k} do not lie on the axis of its batch"
            ));
        }
        let part = self.entries(node, &tensor, own, vec![Some(d)])?;
        let rest = vec![tensor.rest[samples], layer.hidden];
        let sample = tensor.sample.map(|s| s.on(0));
        let state = self.append(node, Reshape { rest }, &[part.operand], sample)?;
        Ok(Value::Tensor(state))
    }

    /// The steps of each sample as `[samples, 1]`, or their number where it is the same for all.
    fn lengths(
        &mut self,
        node: &Node,
        inputs: &[Option<Value>],
        x: &Tensor,
        steps: usize,
    ) -> Result<Value> {
        match inputs.get(4) {
            Some(Some(Value::Host(arrays))) => {
                let all: Vec<f64> = arrays.iter().flat_map(Array::to_f64).collect();
                let Some(&first) = all.first() else {
                    return Err(Error::Shape("its sequence_lens is empty".into()));
                };
                if all.iter().any(|&length| length != first) {
                    return refuse(
                        "its sequence_lens is a constant that differs between the samples of the exported batch; export with the lengths as an input",
                    );
                }
                Ok(number(first))
            }
            Some(Some(_)) => {
                let lengths = self.tensor(node, inputs, 4)?;
                let fits = lengths.rest == [x.rest[0]] || lengths.rest == [1];
                if !fits || lengths.sample.is_some_and(|s| s.axis != 0) {
                    return Err(Error::Shape(format!(
                        "its sequence_lens of shape {:?} per sample is not one number for each",
                        lengths.rest
                    )));
                }
                let rest = vec![lengths.rest[0], 1];
                let sample = lengths.sample;
                let column = self.append(node, Reshape { rest }, &[lengths.operand], sample)?;
                Ok(Value::Tensor(column))
            }
            _ => Ok(number(steps as f64)),
        }
    }

    /// All steps of a direction.
    fn steps(
        &mut self,
        node: &Node,
        direction: &Direction<'_>,
        first: States,
        lengths: &Value,
    ) -> Result<Run> {
        let steps = direction.ready.rest[1];
        let mut outputs = vec![zero(); steps];
        let mut states = first;
        for k in 0..steps {
            let t = if direction.reversed { steps - 1 - k } else { k };
            let now = self.entries(node, &direction.ready, 1, vec![Some(t)])?;
            let rest = vec![now.rest[0], now.rest[2]];
            let now = self.append(node, Reshape { rest }, &[now.operand], now.sample)?;
            let step = Step { t, lengths, now };
            states = match direction.layer.kind {
                Kind::Rnn => self.rnn(node, direction, &step, &states)?,
                Kind::Gru => self.gru(node, direction, &step, &states)?,
                Kind::Lstm => self.lstm(node, direction, &step, &states)?,
            };
            let shown = step.inside(Expr::input(0), Expr::constant(0.0), Expr::input(1));
            outputs[t] = self.formula(node, shown, &[&states.hidden, lengths])?;
        }
        Ok(Run {
            outputs,
            last: states,
        })
    }

    /// a + h·Rᵀ.
    fn with_recurrence(
        &mut self,
        node: &Node,
        a: &Tensor,
        hidden: &Value,
        weight: &Tensor,
    ) -> Result<Tensor> {
        let Value::Tensor(hidden) = hidden else {
            return Ok(a.clone());
        };
        let product = self.linear(node, hidden, weight, true)?;
        self.plus(node, a.clone(), product)
    }

    fn rnn(
        &mut self,
        node: &Node,
        direction: &Direction<'_>,
        step: &Step<'_>,
        before: &States,
    ) -> Result<States> {
        let x = Expr::input;
        let weight = &direction.recurrence[0];
        let a = self.with_recurrence(node, &step.now, &before.hidden, weight)?;
        let h = direction.layer.apply(&direction.functions[0], x(0));
        let h = step.inside(h, x(1), x(2));
        let operands = [&Value::Tensor(a), &before.hidden, step.lengths];
        Ok(States {
            hidden: self.formula(node, h, &operands)?,
            cell: zero(),
        })
    }

    fn gru(
        &mut self,
        node: &Node,
        direction: &Direction<'_>,
        step: &Step<'_>,
        before: &States,
    ) -> Result<States> {
        let (x, layer) = (Expr::input, direction.layer);
        let hidden = layer.hidden;
        let [f, g] = [&direction.functions[0], &direction.functions[1]];
        let mut both = self.run_of(node, &step.now, 0, 2 * hidden)?;
        let new = Value::Tensor(self.run_of(node, &step.now, 2 * hidden, 3 * hidden)?);
        let mut late = zero();
        let n = if layer.linear_before_reset {
            // h·Rᵀ of all gates at once, of which the last is reset.
            if let Value::Tensor(h) = &before.hidden {
                let all = self.linear(node, h, &direction.recurrence[0], true)?;
                let early = self.run_of(node, &all, 0, 2 * hidden)?;
                late = Value::Tensor(self.run_of(node, &all, 2 * hidden, 3 * hidden)?);
                both = self.plus(node, both, early)?;
            }
            let r = Value::Tensor(self.run_of(node, &both, hidden, 2 * hidden)?);
            let n = x(0) + layer.apply(f, x(1)) * (x(2) + x(3));
            let operands = [&new, &r, &late, &direction.reset_bias];
            self.formula(node, layer.apply(g, n), &operands)?
        } else {
            let weights = &direction.recurrence;
            both = self.with_recurrence(node, &both, &before.hidden, &weights[0])?;
            let r = Value::Tensor(self.run_of(node, &both, hidden, 2 * hidden)?);
            let kept = layer.apply(f, x(0)) * x(1);
            if let Value::Tensor(kept) = self.formula(node, kept, &[&r, &before.hidden])? {
                late = Value::Tensor(self.linear(node, &kept, &weights[1], true)?);
            }
            self.formula(node, layer.apply(g, x(0) + x(1)), &[&new, &late])?
        };
        let z = Value::Tensor(self.run_of(node, &both, 0, hidden)?);
        let z_of = layer.apply(f, x(0));
        let h = (Expr::constant(1.0) - z_of.clone()) * x(1) + z_of * x(2);
        let h = step.inside(h, x(2), x(3));
        let operands = [&z, &n, &before.hidden, step.lengths];
        Ok(States {
            hidden: self.formula(node, h, &operands)?,
            cell: zero(),
        })
    }

    fn lstm(
        &mut self,
        node: &Node,
        direction: &Direction<'_>,
        step: &Step<'_>,
        before: &States,
    ) -> Result<States> {
        let (x, layer) = (Expr::input, direction.layer);
        let hidden = layer.hidden;
        let [f, g, h] = [0, 1, 2].map(|k| &direction.functions[k]);
        let weight = &direction.recurrence[0];
        let a = self.with_recurrence(node, &step.now, &before.hidden, weight)?;
        let mut gates = Vec::with_capacity(4);
        for k in 0..4 {
            let part = self.run_of(node, &a, k * hidden, (k + 1) * hidden)?;
            gates.push(Value::Tensor(part));
        }
        let [pi, po, pf] = &direction.peepholes;
        // Operands: i, f, new, c, Pi, Pf, lengths.
        let input = layer.apply(f, x(0) + x(4) * x(3));
        let kept = if layer.coupled {
            Expr::constant(1.0) - input.clone()
        } else {
            layer.apply(f, x(1) + x(5) * x(3))
        };
        let c = kept * x(3) + input * layer.apply(g, x(2));
        let c = step.inside(c, x(3), x(6));
        let (i, o, forget, new) = (&gates[0], &gates[1], &gates[2], &gates[3]);
        let operands = [i, forget, new, &before.cell, pi, pf, step.lengths];
        let cell = self.formula(node, c, &operands)?;
        // Operands: o, c, Po, h, lengths. Beyond the end of a sample c is not the new one, but not read either.
        let output = layer.apply(f, x(0) + x(2) * x(1));
        let value = step.inside(output * layer.apply(h, x(1)), x(3), x(4));
        let operands = [o, &cell, po, &before.hidden, step.lengths];
        Ok(States {
            hidden: self.formula(node, value, &operands)?,
            cell,
        })
    }

    /// The outputs of the node that are used: Y, Y_h and Y_c.
    fn results(
        &mut self,
        node: &Node,
        layer: &Layer,
        x: &Tensor,
        runs: Vec<Run>,
    ) -> Result<Vec<Value>> {
        let mut results = vec![Value::Unknown; 3];
        let used = |lowering: &Self, k: usize| {
            let name = node.proto.output.get(k);
            name.is_some_and(|name| !name.is_empty() && lowering.is_used(name))
        };
        let (rows, hidden) = (x.rest[0], layer.hidden);
        // Y is [steps, directions, samples, hidden] or [samples, steps, directions, hidden].
        if used(self, 0) {
            let (samples, time, direction) = match layer.samples_first {
                true => (0, 1, 2),
                false => (2, 0, 1),
            };
            let mut rest = [1, 1, 1, hidden];
            rest[samples] = rows;
            let mut each = Vec::with_capacity(runs.len());
            for run in &runs {
                let mut parts = Vec::with_capacity(run.outputs.len());
                for output in &run.outputs {
                    parts.push(self.placed(node, x, output, &rest, samples)?);
                }
                each.push(self.joined(node, parts, time)?);
            }
            results[0] = Value::Tensor(self.joined(node, each, direction)?);
        }
        // The others are [directions, samples, hidden] or [samples, directions, hidden].
        let (samples, direction) = match layer.samples_first {
            true => (0, 1),
            false => (1, 0),
        };
        let mut rest = [1, 1, hidden];
        rest[samples] = rows;
        for k in [1, 2] {
            if !used(self, k) {
                continue;
            }
            let mut parts = Vec::with_capacity(runs.len());
            for run in &runs {
                let state = if k == 1 {
                    &run.last.hidden
                } else {
                    &run.last.cell
                };
                parts.push(self.placed(node, x, state, &rest, samples)?);
            }
            results[k] = Value::Tensor(self.joined(node, parts, direction)?);
        }
        Ok(results)
    }

    /// A state `[samples, hidden]` under the shape `rest`, the samples on axis `samples`.
    fn placed(
        &mut self,
        node: &Node,
        x: &Tensor,
        state: &Value,
        rest: &[usize],
        samples: usize,
    ) -> Result<Tensor> {
        let shape = [x.rest[0], rest[rest.len() - 1]];
        let state = match state {
            Value::Tensor(state) if state.rest == shape => state.clone(),
            // One that no step has changed, or that all rows share.
            other => {
                let zeros = Array::reals(&shape, vec![0.0; shape[0] * shape[1]], true);
                let zeros = self.constant(node, &zeros)?;
                match other {
                    Value::Tensor(state) => self.plus(node, state.clone(), zeros)?,
                    _ => zeros,
                }
            }
        };
        let sample = state.sample.or(x.sample).map(|s| s.on(samples));
        let rest = rest.to_vec();
        self.append(node, Reshape { rest }, &[state.operand], sample)
    }

    /// Tensors one after another along an axis.
    fn joined(&mut self, node: &Node, mut parts: Vec<Tensor>, axis: usize) -> Result<Tensor> {
        if parts.len() == 1 {
            return Ok(parts.remove(0));
        }
        let operands: Vec<_> = parts.iter().map(|t| t.operand).collect();
        let sample = parts.iter().find_map(|t| t.sample);
        self.append(node, Concat { axis }, &operands, sample)
    }
}
