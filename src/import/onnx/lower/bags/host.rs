//! Runs a Loop on the host, nodes and graphs within it too.

use crate::import::onnx::fold;
use crate::import::onnx::graph::Node;
use crate::import::onnx::proto;
use crate::import::onnx::subgraphs::graph_of;
use crate::import::onnx::tensor::Array;
use std::collections::HashMap;

/// Nodes that are run on the host for one Loop.
const MOST_STEPS: usize = 1 << 20;

/// A value on the host.
#[derive(Clone, Debug)]
pub(super) enum Known {
    One(Array),
    List(Vec<Array>),
}

type Outcome<T> = std::result::Result<T, String>;

/// Runs a Loop on the host: the values of its one result that is made of rows, [N·D].
pub(super) fn run_loop(node: &Node, env: HashMap<String, Known>) -> Outcome<Vec<f64>> {
    let mut host = Host {
        env,
        left: MOST_STEPS,
    };
    let results = host.repeat(&node.proto)?;
    let mut rows = None;
    for result in results {
        let values: Vec<f64> = match result {
            Known::List(list) => list.iter().flat_map(Array::to_f64).collect(),
            Known::One(array) if array.is_float() => array.to_f64(),
            Known::One(_) => continue,
        };
        if rows.replace(values).is_some() {
            return Err("two results".into());
        }
    }
    rows.ok_or_else(|| "no result".into())
}

/// A run of nodes on the host.
struct Host {
    env: HashMap<String, Known>,
    left: usize,
}

impl Host {
    fn array(&self, name: &str) -> Outcome<&Array> {
        match self.env.get(name) {
            Some(Known::One(array)) => Ok(array),
            _ => Err(format!("{name:?} is not known")),
        }
    }

    fn truth(&self, name: &str) -> Outcome<bool> {
        let value = self.array(name)?.scalar();
        Ok(value.ok_or("a condition of several values")? != 0.0)
    }

    /// Runs a graph; returns its results.
    fn graph(&mut self, graph: &proto::Graph) -> Outcome<Vec<Known>> {
        for tensor in &graph.initializer {
            let array = fold::inner(tensor)?;
            self.env.insert(tensor.name.clone(), Known::One(array));
        }
        for node in &graph.node {
            self.left = self.left.checked_sub(1).ok_or("too many steps")?;
            let results = self.node(node)?;
            for (name, result) in node.output.iter().zip(results) {
                self.env.insert(name.clone(), result);
            }
        }
        let known = |name: &str| self.env.get(name).cloned().ok_or("a result is missing");
        let results: std::result::Result<Vec<Known>, _> =
            graph.output.iter().map(|o| known(&o.name)).collect();
        Ok(results?)
    }

    fn node(&mut self, node: &proto::Node) -> Outcome<Vec<Known>> {
        let first = node.input.first().map_or("", |name| name.as_str());
        match node.op_type.as_str() {
            "If" => {
                let branch = match self.truth(first)? {
                    true => "then_branch",
                    false => "else_branch",
                };
                self.graph(graph_of(node, branch).ok_or("a branch is missing")?)
            }
            "Loop" => self.repeat(node),
            "SequenceEmpty" => Ok(vec![Known::List(Vec::new())]),
            "SequenceInsert" => {
                let (Some(Known::List(list)), [_, new]) = (self.env.get(first), &node.input[..])
                else {
                    return Err("a sequence is missing".into());
                };
                let mut list = list.clone();
                list.push(self.array(new)?.clone());
                Ok(vec![Known::List(list)])
            }
            _ => {
                let mut inputs = Vec::with_capacity(node.input.len());
                for name in &node.input {
                    inputs.push(match name.as_str() {
                        "" => None,
                        name => Some(self.array(name)?.clone()),
                    });
                }
                let node = Node {
                    proto: node.clone(),
                };
                let results = fold::evaluate(&node, &inputs)?;
                let elements: usize = results.iter().map(Array::len).sum();
                let left = self.left.checked_sub(elements / 64);
                self.left = left.ok_or("too many elements")?;
                Ok(results.into_iter().map(Known::One).collect())
            }
        }
    }

    /// Runs a Loop: carried values, then what each turn gave, joined along a first axis.
    fn repeat(&mut self, node: &proto::Node) -> Outcome<Vec<Known>> {
        let body = graph_of(node, "body").ok_or("its body is missing")?;
        let operand = |k: usize| node.input.get(k).filter(|name| !name.is_empty());
        let most = match operand(0) {
            Some(name) => self.array(name)?.scalar().ok_or("its count is missing")? as usize,
            None => usize::MAX,
        };
        let mut going = match operand(1) {
            Some(name) => self.truth(name)?,
            None => true,
        };
        let [counter, condition, carried @ ..] = &body.input[..] else {
            return Err("its body has no counter".into());
        };
        let mut values = Vec::with_capacity(carried.len());
        for k in 0..carried.len() {
            let name = operand(k + 2).ok_or("a carried value is missing")?;
            values.push(
                self.env
                    .get(name)
                    .cloned()
                    .ok_or("a carried value is missing")?,
            );
        }
        let mut turns: Vec<Vec<Array>> = Vec::new();
        let mut turn = 0;
        while going && turn < most {
            self.left = self.left.checked_sub(1).ok_or("too many steps")?;
            let number = Array::ints(&[], vec![turn as i64]);
            self.env.insert(counter.name.clone(), Known::One(number));
            let truth = Array::ints(&[], vec![1]);
            self.env.insert(condition.name.clone(), Known::One(truth));
            for (input, value) in carried.iter().zip(values) {
                self.env.insert(input.name.clone(), value);
            }
            let mut results = self.graph(body)?.into_iter();
            going = match results.next() {
                Some(Known::One(go)) => go.scalar() != Some(0.0),
                _ => return Err("its condition is missing".into()),
            };
            values = results.by_ref().take(carried.len()).collect();
            let mut given = Vec::new();
            for result in results {
                match result {
                    Known::One(array) => given.push(array),
                    Known::List(_) => return Err("a list for each turn".into()),
                }
            }
            turns.push(given);
            turn += 1;
        }
        let count = turns.first().map_or(0, Vec::len);
        for k in 0..count {
            let of_turn = turns.iter().filter_map(|given| given.get(k));
            let shape = [&[turns.len()], &turns[0][k].shape[..]].concat();
            let joined: Vec<f64> = of_turn.flat_map(Array::to_f64).collect();
            if joined.len() != shape.iter().product::<usize>() {
                return Err("turns of different shapes".into());
            }
            values.push(Known::One(Array::reals(&shape, joined, true)));
        }
        Ok(values)
    }
}
