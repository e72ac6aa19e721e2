//! EmbeddingBag, which both exporters write as a Loop over bags: one sum, mean or maximum of rows per sample.
//!
//! z[n] = reduce over t of W[ids[n, t]], padding left out. The Loop is recognised by what it computes, not by how it is
//! written: its body is run on the host for random rows of a few samples, and compared with the candidates.

mod host;

use super::super::fold;
use super::super::graph::Node;
use super::super::proto::{self, Attribute};
use super::super::samples::Sample;
use super::super::subgraphs::graph_of;
use super::super::tensor::Array;
use super::{Lowering, Tensor, Value, refuse};
use crate::error::Result;
use crate::network::LOWEST;
use crate::ops::{ReduceSum, Reshape};
use crate::tensor::Expr;
use host::{Known, run_loop};
use std::collections::HashMap;
use std::slice::from_ref;

/// Entries of the random rows.
const MOST_ENTRIES: usize = 1 << 23;

/// Rows of a random table, which may have fewer than that of the file.
const MOST_ROWS: usize = 1 << 10;

/// Times that a candidate is compared, with other random numbers each.
const TRIALS: u64 = 3;

const ADVICE: &str = "loops are out of scope but for bags of one size (nn.EmbeddingBag without offsets of its own); write a bag as nn.Embedding followed by a sum or mean over axis 1, and another loop in Python over fixed shapes, which the exporters unroll";

/// How the rows of a bag become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Sum,
    Mean,
    Max,
}

/// A computation that a Loop may do: the rows of a bag reduced, without those of the token `padding`.
#[derive(Clone, Copy, Debug)]
struct Bag {
    mode: Mode,
    padding: Option<i64>,
}

impl Bag {
    /// The result for one bag: rows [T, D] and their tokens.
    fn reduce(self, rows: &[&[f64]], tokens: Option<&[i64]>) -> Vec<f64> {
        let kept = |t: &usize| match (self.padding, tokens) {
            (Some(padding), Some(tokens)) => tokens[*t] != padding,
            _ => true,
        };
        let kept: Vec<usize> = (0..rows.len()).filter(kept).collect();
        let width = rows.first().map_or(0, |row| row.len());
        (0..width)
            .map(|d| {
                let values = kept.iter().map(|&t| rows[t][d]);
                match self.mode {
                    _ if kept.is_empty() => 0.0,
                    Mode::Sum => values.sum(),
                    Mode::Mean => values.sum::<f64>() / kept.len() as f64,
                    Mode::Max => values.fold(f64::NEG_INFINITY, f64::max),
                }
            })
            .collect()
    }
}

/// The operands of a Loop over bags, by number.
#[derive(Clone, Copy, Debug)]
struct Operands {
    /// Rows of all bags, [N·T, D], where they were looked up before the Loop.
    rows: Option<usize>,
    /// The table: where they were looked up before the Loop, it is read for its shape at most.
    table: Option<usize>,
    /// Tokens of all bags, [N·T].
    tokens: Option<usize>,
    length: usize,
    width: usize,
}

impl Lowering<'_> {
    /// A Loop over bags.
    pub(super) fn bags(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Tensor> {
        let Some(operands) = self.operands_of_bags(inputs) else {
            return refuse(ADVICE);
        };
        let Some(bag) = self.recognised(node, inputs, operands) else {
            return refuse(ADVICE);
        };
        let Operands { length, width, .. } = operands;
        let at = |k: Option<usize>| match k.map(|k| &inputs[k]) {
            Some(Some(Value::Tensor(tensor))) => Some(tensor.clone()),
            _ => None,
        };
        let tokens = at(operands.tokens);
        let place = Some(Sample::alone(0));
        let rows = match (at(operands.rows), &tokens) {
            (Some(rows), _) => rows,
            (None, Some(tokens)) => {
                let table = self.tensor(node, inputs, operands.table.unwrap_or_default())?;
                self.lookup(node, table, 0, tokens.clone())?
            }
            (None, None) => return refuse(ADVICE),
        };
        let rest = vec![1, length, width];
        let mut rows = self.append(node, Reshape { rest }, &[rows.operand], place)?;
        let mut count = None;
        if let (Some(padding), Some(tokens)) = (bag.padding, tokens) {
            let (left, kept) = self.without_padding(node, bag.mode, padding, [rows, tokens])?;
            rows = left;
            let axes = vec![1];
            let sum = ReduceSum { axes, keep: false };
            count = Some(self.append(node, sum, &[kept.operand], place)?);
        }
        let reduced = match bag.mode {
            Mode::Max => {
                let mut maximum = node.clone();
                maximum.proto.op_type = "ReduceMax".into();
                maximum.proto.input.truncate(1);
                maximum.proto.attribute = vec![
                    Attribute {
                        name: "axes".into(),
                        ints: vec![1],
                        ..Attribute::default()
                    },
                    Attribute {
                        name: "keepdims".into(),
                        ..Attribute::default()
                    },
                ];
                self.extreme(&maximum, &[Some(Value::Tensor(rows))])?
            }
            _ => {
                let axes = vec![1];
                let sum = ReduceSum { axes, keep: false };
                self.append(node, sum, &[rows.operand], place)?
            }
        };
        let (x, kept) = (Expr::input(0), Expr::input(1));
        let half = Expr::constant(0.5);
        match (bag.mode, count) {
            (Mode::Sum, _) | (Mode::Max, None) => Ok(reduced),
            (Mode::Mean, None) => {
                let mean = x * Expr::constant(1.0 / length as f64);
                self.elementwise(node, mean, from_ref(&reduced), place)
            }
            // A bag of padding alone is 0, and so is its sum.
            (Mode::Mean, Some(count)) => {
                let many = Expr::if_less_equal(kept.clone(), half, Expr::constant(1.0), kept);
                self.elementwise(node, x / many, &[reduced, count], place)
            }
            (Mode::Max, Some(count)) => {
                let chosen = Expr::if_less_equal(kept, half, Expr::constant(0.0), x);
                self.elementwise(node, chosen, &[reduced, count], place)
            }
        }
    }

    /// The rows `[samples, length, width]` of bags with those of the token `padding` left out, and for each whether it is
    /// kept: 1 for a token that is kept, else 0.
    fn without_padding(
        &mut self,
        node: &Node,
        mode: Mode,
        padding: i64,
        [rows, tokens]: [Tensor; 2],
    ) -> Result<(Tensor, Tensor)> {
        let place = Some(Sample::alone(0));
        let rest = vec![1, rows.rest[1], 1];
        let tokens = self.append(node, Reshape { rest }, &[tokens.operand], place)?;
        let (token, padding) = (Expr::input(0), Expr::constant(padding as f64));
        let (zero, one) = (|| Expr::constant(0.0), || Expr::constant(1.0));
        let above = Expr::if_less_equal(padding.clone(), token.clone(), zero(), one());
        let kept = Expr::if_less_equal(token, padding, above, one());
        let kept = self.elementwise(node, kept, from_ref(&tokens), place)?;
        let (x, keep) = (Expr::input(0), Expr::input(1));
        let left = match mode {
            Mode::Max => {
                let hidden = Expr::constant(LOWEST);
                Expr::if_less_equal(keep, Expr::constant(0.5), hidden, x)
            }
            _ => x * keep,
        };
        let rows = self.elementwise(node, left, &[rows, kept.clone()], place)?;
        Ok((rows, kept))
    }

    /// Rows, table and tokens among the operands: T rows or tokens per sample, one sample after another.
    fn operands_of_bags(&self, inputs: &[Option<Value>]) -> Option<Operands> {
        let mut found = Operands {
            rows: None,
            table: None,
            tokens: None,
            length: 0,
            width: 0,
        };
        for (k, input) in inputs.iter().enumerate() {
            let Some(Value::Tensor(tensor)) = input else {
                continue;
            };
            let samples = tensor.sample.filter(|s| s.axis == 0 && s.before == 1);
            let (slot, rank) = match (samples, tensor.integer) {
                (Some(_), true) => (&mut found.tokens, 1),
                (Some(_), false) => (&mut found.rows, 2),
                (None, _) if !self.depends(tensor) => (&mut found.table, 2),
                (None, _) => return None,
            };
            if slot.replace(k).is_some() || tensor.rest.len() != rank {
                return None;
            }
            if samples.is_some() {
                if found.length != 0 && found.length != tensor.rest[0] {
                    return None;
                }
                found.length = tensor.rest[0];
            }
            if rank == 2 {
                found.width = tensor.rest[1];
            }
        }
        let complete = found.rows.is_some() || found.table.is_some() && found.tokens.is_some();
        let complete = complete && found.length > 0 && found.width > 0;
        complete.then_some(found)
    }

    /// Finds the candidate that the Loop computes, by comparing both on random rows and tokens.
    fn recognised(&self, node: &Node, inputs: &[Option<Value>], operands: Operands) -> Option<Bag> {
        // Padding is a number that the body holds or reads.
        let mut paddings: Vec<Option<i64>> = vec![None];
        if operands.tokens.is_some() {
            let known = inputs.iter().flatten().filter_map(|input| match input {
                Value::Host([_, many]) => many.as_ints().filter(|v| v.len() == 1).map(|v| v[0]),
                _ => None,
            });
            let inside = graph_of(&node.proto, "body")
                .map(constants)
                .unwrap_or_default();
            for padding in known.chain(inside) {
                if padding >= 0 && !paddings.contains(&Some(padding)) {
                    paddings.push(Some(padding));
                }
            }
        }
        let modes = [Mode::Sum, Mode::Mean, Mode::Max];
        let mut candidates: Vec<Bag> = paddings
            .iter()
            .flat_map(|&padding| modes.map(|mode| Bag { mode, padding }))
            .collect();
        for trial in 0..TRIALS {
            let (env, rows, tokens) = self.drawn(node, inputs, operands, &paddings, trial)?;
            let found = run_loop(node, env).ok()?;
            let samples = self.batch.sizes[1];
            if found.len() != samples * operands.width {
                return None;
            }
            let matches = |bag: &Bag| {
                (0..samples).all(|n| {
                    let bounds = n * operands.length..(n + 1) * operands.length;
                    let own: Vec<&[f64]> = rows[bounds.clone()].iter().map(|r| &r[..]).collect();
                    let tokens = tokens.as_ref().map(|t| &t[bounds]);
                    let wanted = bag.reduce(&own, tokens);
                    let got = &found[n * operands.width..(n + 1) * operands.width];
                    wanted
                        .iter()
                        .zip(got)
                        .all(|(a, b)| (a - b).abs() <= 1e-5 * (1.0 + a.abs()))
                })
            };
            candidates.retain(matches);
        }
        candidates.into_iter().next()
    }

    /// Random values for the operands of a Loop, and the rows and tokens that its bags are made of.
    fn drawn(
        &self,
        node: &Node,
        inputs: &[Option<Value>],
        operands: Operands,
        paddings: &[Option<i64>],
        trial: u64,
    ) -> Option<Drawn> {
        let mut random = Random::new(trial);
        let samples = self.batch.sizes[1];
        let count = samples.checked_mul(operands.length)?;
        let width = operands.width;
        let table = match operands.table.map(|k| &inputs[k]) {
            Some(Some(Value::Tensor(table))) if operands.rows.is_none() => {
                Some(table.rest[0].min(MOST_ROWS))
            }
            _ => None,
        };
        let size = table.unwrap_or(0).max(count).checked_mul(width)?;
        if size > MOST_ENTRIES {
            return None;
        }
        let drawn: Vec<Vec<f64>> = (0..table.unwrap_or(count))
            .map(|_| (0..width).map(|_| random.real()).collect())
            .collect();
        // Few tokens, so that every padding is met, and some bags hold nothing else.
        let mut few: Vec<i64> = paddings.iter().flatten().copied().collect();
        few.extend([0, 1, 2, 3, 5]);
        if let Some(extent) = table {
            few.retain(|&token| (token as u128) < extent as u128);
        }
        let tokens = operands.tokens.map(|_| {
            let token = |_| few[random.next() % few.len()];
            (0..count).map(token).collect::<Vec<i64>>()
        });
        let mut tokens = tokens;
        if let (Some(tokens), true) = (&mut tokens, samples > 1) {
            let bag = trial as usize % samples;
            let same = few[trial as usize % few.len()];
            tokens[bag * operands.length..(bag + 1) * operands.length].fill(same);
        }
        let flat = |rows: &[Vec<f64>]| Array::reals(&[rows.len(), width], rows.concat(), true);
        let mut env = HashMap::new();
        for (k, input) in inputs.iter().enumerate() {
            let Some(name) = node.input(k) else { continue };
            let known = match input {
                Some(Value::Tensor(given)) if operands.table == Some(k) && table.is_none() => {
                    let rest = [given.rest[0].min(MOST_ROWS), given.rest[1]];
                    let zeros = vec![0.0; rest[0].checked_mul(rest[1])?];
                    Known::One(Array::reals(&rest, zeros, true))
                }
                _ if operands.rows == Some(k) || operands.table == Some(k) => {
                    Known::One(flat(&drawn))
                }
                _ if operands.tokens == Some(k) => {
                    Known::One(Array::ints(&[count], tokens.clone()?))
                }
                Some(Value::Host(arrays)) => Known::One(arrays[1].clone()),
                Some(Value::Sequence(parts)) if parts.is_empty() => Known::List(Vec::new()),
                _ => return None,
            };
            env.insert(name.to_string(), known);
        }
        let rows = match (&tokens, table) {
            (Some(tokens), Some(_)) => tokens.iter().map(|&t| drawn[t as usize].clone()).collect(),
            _ => drawn,
        };
        Some((env, rows, tokens))
    }
}

/// A sequence of pseudorandom numbers, the same for every import.
struct Random(u64);

impl Random {
    fn new(trial: u64) -> Self {
        Random(0x9E37_79B9_7F4A_7C15u64.wrapping_mul(trial + 1))
    }

    fn next(&mut self) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize
    }

    /// A number from −2 to 2.
    fn real(&mut self) -> f64 {
        (self.next() % 2001) as f64 / 500.0 - 2.0
    }
}

/// Operands by name, rows of all bags, tokens of all bags.
type Drawn = (HashMap<String, Known>, Vec<Vec<f64>>, Option<Vec<i64>>);

/// Whole numbers that a graph holds.
fn constants(graph: &proto::Graph) -> Vec<i64> {
    let mut found = Vec::new();
    let mut add = |tensor: &proto::Tensor| {
        if let Ok(array) = fold::inner(tensor)
            && let Some(&[value]) = array.as_ints()
        {
            found.push(value);
        }
    };
    graph.initializer.iter().for_each(&mut add);
    let attributes = graph.node.iter().flat_map(|n| &n.attribute);
    attributes
        .clone()
        .filter_map(|a| a.t.as_ref())
        .for_each(&mut add);
    for inside in attributes.filter_map(|a| a.g.as_deref()) {
        found.extend(constants(inside));
    }
    found
}

impl Lowering<'_> {
    /// The results of a Loop over bags: the rows in the place of its list or its joined turns, the others unknown.
    pub(super) fn loop_node(
        &mut self,
        node: &Node,
        inputs: &[Option<Value>],
    ) -> Result<Vec<Value>> {
        let Some(body) = graph_of(&node.proto, "body") else {
            return refuse(ADVICE);
        };
        let carried = body.input.len().saturating_sub(2);
        let list = |k: &usize| matches!(inputs.get(k + 2), Some(Some(Value::Sequence(_))));
        let place = (0..carried).find(list).unwrap_or(carried);
        let others = node.proto.output.iter().enumerate();
        if others
            .filter(|(k, name)| *k != place && !name.is_empty())
            .any(|(_, name)| self.is_used(name))
        {
            return refuse(ADVICE);
        }
        let rows = self.bags(node, inputs)?;
        let mut results = vec![Value::Unknown; node.proto.output.len().max(place + 1)];
        results[place] = Value::Tensor(rows);
        Ok(results)
    }

    /// The rows that a Loop over bags gave, joined along the axis of the samples: they are already.
    pub(super) fn concat_sequence(
        &mut self,
        node: &Node,
        inputs: &[Option<Value>],
    ) -> Result<Tensor> {
        match inputs.first() {
            Some(Some(Value::Tensor(rows)))
                if node.int("axis", 0) == 0 && node.int("new_axis", 0) == 0 =>
            {
                Ok(rows.clone())
            }
            _ => refuse(
                "lists of tensors are out of scope, but for the parts of a split; use torch.cat on the tensors themselves",
            ),
        }
    }
}
