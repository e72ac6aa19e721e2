//! A transformer of one block, made node by node: an embedding of tokens, layer norms, two heads of attention, GELU.

use crate::error::Result;
use crate::network::{Input, Network, Operand, Parameter};
use crate::ops::{
    Einsum, Elementwise, Linear, Lookup, Op, Permute, ReduceSum, Reshape, Slice, Softmax,
};
use crate::random::Draws;
use crate::tensor::expression::Unary;
use crate::tensor::{Expr, HostArray};

const TOKENS: usize = 6;
const ROWS: usize = 11;
const WIDTH: usize = 8;
const HEADS: usize = 2;
const CLASSES: usize = 4;

/// A network under way.
struct Chain {
    network: Network,
}

impl Chain {
    /// A parameter of uniform numbers around `middle`, that single precision holds.
    fn parameter(&mut self, name: &str, shape: &[usize], middle: f64) -> Operand {
        let parameters = &mut self.network.parameters;
        let mut draws = Draws::new(0, 600 + parameters.len() as u64, 0);
        let draw = |_| (middle + draws.uniform() - 0.5) as f32;
        let values = (0..shape.iter().product()).map(draw).collect();
        let layer = name.rsplit_once('.').map_or(name, |(layer, _)| layer);
        let offset = parameters.last().map_or(0, |p| p.range().end);
        parameters.push(Parameter {
            name: name.into(),
            layer: layer.into(),
            offset,
            data: HostArray::f32(shape, values),
        });
        Operand::Parameter(parameters.len() - 1)
    }

    fn then(&mut self, op: impl Into<Op>, inputs: &[Operand]) -> Result<Operand> {
        let value = self.network.append("selftest", "Node", op, inputs)?;
        Ok(Operand::Value(value))
    }

    fn linear(&mut self, name: &str, x: Operand, inputs: usize, outputs: usize) -> Result<Operand> {
        let weight = self.parameter(&format!("{name}.weight"), &[outputs, inputs], 0.0);
        let bias = self.parameter(&format!("{name}.bias"), &[outputs], 0.0);
        let outputs_first = true;
        let product = self.then(Linear { outputs_first }, &[x, weight])?;
        let sum = Expr::input(0) + Expr::input(1);
        self.then(Elementwise::new(sum), &[product, bias])
    }

    /// (x − mean)/√(variance + 10⁻³)·scale + shift over the last axis.
    fn norm(&mut self, name: &str, x: Operand) -> Result<Operand> {
        let scale = self.parameter(&format!("{name}.weight"), &[WIDTH], 1.0);
        let shift = self.parameter(&format!("{name}.bias"), &[WIDTH], 0.0);
        let input = Expr::input;
        let share = || Expr::constant(1.0 / WIDTH as f64);
        let sum = || ReduceSum {
            axes: vec![2],
            keep: true,
        };
        let total = self.then(sum(), &[x])?;
        let centred = Elementwise::new(input(0) - share() * input(1));
        let centred = self.then(centred, &[x, total])?;
        let squares = self.then(Elementwise::new(input(0) * input(0)), &[centred])?;
        let squares = self.then(sum(), &[squares])?;
        let deviation = (share() * input(1) + Expr::constant(1e-3)).unary(Unary::Sqrt);
        let normal = input(0) / deviation * input(2) + input(3);
        self.then(Elementwise::new(normal), &[centred, squares, scale, shift])
    }

    /// `[1, tokens, width]` to `[1, heads, tokens, width / heads]`.
    fn heads(&mut self, x: Operand) -> Result<Operand> {
        let rest = vec![1, TOKENS, HEADS, WIDTH / HEADS];
        let x = self.then(Reshape { rest }, &[x])?;
        let order = vec![0, 2, 1, 3];
        self.then(Permute { order }, &[x])
    }

    fn einsum(
        &mut self,
        left: &str,
        right: &str,
        output: &str,
        of: [Operand; 2],
    ) -> Result<Operand> {
        let labels = |text: &str| text.as_bytes().to_vec();
        let einsum = Einsum {
            left: labels(left),
            right: labels(right),
            output: labels(output),
        };
        self.then(einsum, &of)
    }

    fn attention(&mut self, x: Operand) -> Result<Operand> {
        let all = self.linear("attention.in", x, WIDTH, 3 * WIDTH)?;
        let mut parts = Vec::new();
        for k in 0..3 {
            let range = k * WIDTH..(k + 1) * WIDTH;
            let part = self.then(Slice { axis: 2, range }, &[all])?;
            parts.push(self.heads(part)?);
        }
        let scores = self.einsum("bhqe", "bhke", "bhqk", [parts[0], parts[1]])?;
        let scale = Expr::constant(((HEADS as f64) / WIDTH as f64).sqrt());
        let scores = self.then(Elementwise::new(scale * Expr::input(0)), &[scores])?;
        let log = false;
        let shares = self.then(Softmax { axis: 3, log }, &[scores])?;
        let mixed = self.einsum("bhqk", "bhke", "bhqe", [shares, parts[2]])?;
        let order = vec![0, 2, 1, 3];
        let mixed = self.then(Permute { order }, &[mixed])?;
        let rest = vec![1, TOKENS, WIDTH];
        let mixed = self.then(Reshape { rest }, &[mixed])?;
        self.linear("attention.out", mixed, WIDTH, WIDTH)
    }
}

/// The network: `[1, tokens]` of whole numbers to `[1, classes]`.
pub(super) fn transformer() -> Result<Network> {
    let input = Input {
        integer: true,
        limit: Some(ROWS),
        ..Input::new("tokens", &[1, TOKENS])
    };
    let mut chain = Chain {
        network: Network {
            inputs: vec![input],
            ..Network::default()
        },
    };
    let sum = || Elementwise::new(Expr::input(0) + Expr::input(1));
    let table = chain.parameter("embedding.weight", &[ROWS, WIDTH], 0.0);
    let places = chain.parameter("positions", &[TOKENS, WIDTH], 0.0);
    let x = chain.then(Lookup { axis: 0 }, &[table, Operand::Value(0)])?;
    let x = chain.then(sum(), &[x, places])?;
    let normal = chain.norm("norm1", x)?;
    let attended = chain.attention(normal)?;
    let x = chain.then(sum(), &[x, attended])?;
    let normal = chain.norm("norm2", x)?;
    let wide = chain.linear("wide", normal, WIDTH, 13)?;
    let root = Expr::constant(0.5f64.sqrt());
    let half = Expr::constant(0.5) * Expr::input(0);
    let gelu = half * (Expr::constant(1.0) + (root * Expr::input(0)).unary(Unary::Erf));
    let wide = chain.then(Elementwise::new(gelu), &[wide])?;
    let narrow = chain.linear("narrow", wide, 13, WIDTH)?;
    let x = chain.then(sum(), &[x, narrow])?;
    let pooled = ReduceSum {
        axes: vec![1],
        keep: false,
    };
    let pooled = chain.then(pooled, &[x])?;
    let output = chain.linear("head", pooled, WIDTH, CLASSES)?;
    if let Operand::Value(value) = output {
        chain.network.output = value;
    }
    Ok(chain.network)
}
