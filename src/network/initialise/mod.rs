//! Initialisations: a network's parameters drawn anew, by what the network does with each.
//!
//! | what the network does with it | becomes |
//! |---|---|
//! | weight of a linear layer, a convolution, an einsum | a draw of the [`Initialiser`] |
//! | table of an embedding | standard normal, as in PyTorch |
//! | what is added along at most one axis: a bias, the shift of a norm | 0 |
//! | scale of a norm (of a node that is one, or of a layer that has a shift of as many entries too) | 1 |
//! | anything else: learnt positions, class tokens, slopes, scales that stand alone | the file's own value |
//!
//! A parameter that is transposed, reshaped or sliced before it is used is drawn in the layout of its use; one that is
//! used several times by its first use. Running statistics of batch norms are no parameters: they stay the file's,
//! whether or not they fit what was drawn; activations of a deep network may overflow then, which the losses show.

mod distributions;

use crate::error::{Error, Result};
use crate::network::{Network, Node, Operand, ValueId};
use crate::ops::{self, Op, Operation};
use crate::random::Draws;
use distributions::{normals, orthogonal, truncated};
use ndarray::{ArrayD, IxDyn};
use serde::Serialize;
use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

/// A distribution of weights, with fan-in and fan-out counted in weights that reach an output and leave an input.
///
/// ```
/// use hessblock::network::initialise::{Initialisation, Initialiser};
/// # use hessblock::network::builder::Builder;
/// # let network = Builder::new(&[3]).linear("fc1", 4).tanh().linear("fc2", 2).initialize(0).build()?;
/// let he: Initialiser = "he".parse()?;
/// assert_eq!(he, Initialiser::He);
/// let values = Initialisation::new(&network, he, 7).draw(0);
/// assert_eq!(values.len(), 26);
/// assert_eq!(values[12..16], [0.0; 4]); // biases are 0
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Initialiser {
    /// Uniform within ±√(6 / (fan-in + fan-out)) (Glorot and Bengio 2010, eq. 16).
    #[default]
    Glorot,
    /// Normal of variance 2 / fan-in (He, Zhang, Ren and Sun 2015, eq. 10).
    He,
    /// Semi-orthogonal matrices, uniformly distributed, one per group of a convolution (Saxe, McClelland and
    /// Ganguli 2014; the signs as Mezzadri 2007).
    Orthogonal,
    /// Normal of variance 1 / fan-in (LeCun, Bottou, Orr and Müller 1998, eq. 16).
    Lecun,
    /// Normal of standard deviation 0.05, drawn again beyond twice that: Keras' `TruncatedNormal` as it stands.
    TruncatedNormal,
    /// The file's own weights: nothing is drawn.
    File,
}

/// The names that people give.
pub const INITIALISERS: [&str; 6] = [
    "glorot",
    "he",
    "orthogonal",
    "lecun",
    "truncated-normal",
    "file",
];

impl fmt::Display for Initialiser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Initialiser::Glorot => "glorot",
            Initialiser::He => "he",
            Initialiser::Orthogonal => "orthogonal",
            Initialiser::Lecun => "lecun",
            Initialiser::TruncatedNormal => "truncated-normal",
            Initialiser::File => "file",
        })
    }
}

impl FromStr for Initialiser {
    type Err = Error;

    fn from_str(name: &str) -> Result<Initialiser> {
        Ok(match name {
            "glorot" => Initialiser::Glorot,
            "he" => Initialiser::He,
            "orthogonal" => Initialiser::Orthogonal,
            "lecun" => Initialiser::Lecun,
            "truncated-normal" => Initialiser::TruncatedNormal,
            "file" => Initialiser::File,
            _ => {
                return Err(Error::Request(format!(
                    "no initialiser {name:?}: there are {}",
                    INITIALISERS.join(", ")
                )));
            }
        })
    }
}

/// What a network does with entries of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Weight of an affine operation; its entries are `groups` matrices of `rows` rows.
    Weight {
        fan_in: usize,
        fan_out: usize,
        groups: usize,
        rows: usize,
    },
    /// Table of an embedding.
    Table,
    /// Multiplies; a scale where its layer has a shift too.
    Factor,
    /// Scale of a norm.
    Scale,
    /// Bias, or shift of a norm.
    Shift,
    /// Anything else.
    Other,
}

/// A place where a parameter is used.
struct Use {
    parameter: usize,
    /// Stream of random numbers: the parameter, and which of its uses this is.
    stream: u64,
    /// Which entries, in the layout of the use.
    entries: Vec<usize>,
    role: Role,
}

/// A parameter on its way to a use: its entries, as Transpose, Reshape and Slice arranged them.
#[derive(Clone)]
struct View {
    parameter: usize,
    entries: ArrayD<usize>,
}

impl View {
    fn whole(network: &Network, parameter: usize) -> View {
        let shape = &network.parameters[parameter].data.shape;
        let entries = ArrayD::from_shape_vec(IxDyn(shape), (0..shape.iter().product()).collect());
        View {
            parameter,
            entries: entries.expect("as many entries as the shape says"),
        }
    }

    /// What an operation makes of the view, where it only arranges entries.
    fn through(&self, op: &Op) -> Option<View> {
        Some(View {
            parameter: self.parameter,
            entries: op.arranged(&self.entries)?,
        })
    }
}

/// Every use of every parameter, in execution order.
fn uses(network: &Network) -> Vec<Use> {
    let mut views: HashMap<ValueId, View> = HashMap::new();
    let mut uses = Vec::new();
    for (k, node) in network.nodes.iter().enumerate() {
        for (operand, input) in node.inputs.iter().enumerate() {
            let view = match input {
                Operand::Parameter(parameter) => Some(View::whole(network, *parameter)),
                Operand::Value(value) => views.get(value).cloned(),
                Operand::Constant(_) => None,
            };
            let Some(view) = view else { continue };
            match view.through(&node.op) {
                Some(view) => drop(views.insert(network.inputs.len() + k, view)),
                None => uses.push(used(node, operand, view)),
            }
        }
    }
    settle_factors(network, &mut uses);
    let mut seen = vec![0_u64; network.parameters.len()];
    for used in &mut uses {
        // Slices of one parameter are not to be drawn alike.
        used.stream += seen[used.parameter] << 32;
        seen[used.parameter] += 1;
    }
    uses
}

/// A factor is the scale of a norm where its layer has a shift of as many entries.
fn settle_factors(network: &Network, uses: &mut [Use]) {
    let of = |used: &Use| {
        (
            &network.parameters[used.parameter].layer,
            used.entries.len(),
        )
    };
    let shifts: Vec<_> = uses
        .iter()
        .filter(|u| u.role == Role::Shift)
        .map(of)
        .collect();
    for used in uses.iter_mut().filter(|u| u.role == Role::Factor) {
        used.role = match shifts.contains(&of(used)) {
            true => Role::Scale,
            false => Role::Other,
        };
    }
}

fn used(node: &Node, operand: usize, view: View) -> Use {
    let parameter = view.parameter;
    let mut entries = view.entries;
    let role = match node.op.role(operand, entries.shape()) {
        ops::Role::Weight {
            fan_in,
            fan_out,
            groups,
            rows,
            axes,
        } => {
            entries = entries.permuted_axes(IxDyn(&axes));
            Role::Weight {
                fan_in,
                fan_out,
                groups,
                rows,
            }
        }
        ops::Role::Table => Role::Table,
        role @ (ops::Role::Shift | ops::Role::Factor) => along_axis(node, &role, entries.shape()),
        ops::Role::Other => Role::Other,
    };
    Use {
        parameter,
        stream: parameter as u64,
        entries: entries.iter().copied().collect(),
        role,
    }
}

/// The role of what is added or multiplied position by position: that of a bias or a norm where it varies along one axis.
fn along_axis(node: &Node, role: &ops::Role, shape: &[usize]) -> Role {
    let norm = node.operation.ends_with("Normalization");
    let vector = shape.iter().filter(|&&extent| extent > 1).count() <= 1;
    match role {
        _ if !norm && !vector => Role::Other,
        ops::Role::Shift => Role::Shift,
        _ if norm => Role::Scale,
        _ => Role::Factor,
    }
}

/// Draws of a network's parameters.
///
/// A draw depends on seed, number of the draw and parameter alone, not on what was drawn before.
///
/// ```
/// use hessblock::network::builder::Builder;
/// use hessblock::network::initialise::{Initialisation, Initialiser};
/// let network = Builder::new(&[100]).linear("fc", 50).initialize(0).build()?;
/// let draws = Initialisation::new(&network, Initialiser::Glorot, 7);
/// let values = draws.draw(3); // [p] in the flat order: fc.weight, fc.bias
/// assert!(values[..5000].iter().all(|w| w.abs() <= (6.0_f64 / 150.0).sqrt()));
/// assert!(values[5000..].iter().all(|&b| b == 0.0));
/// assert_eq!(values, draws.draw(3));
/// # Ok::<(), hessblock::Error>(())
/// ```
pub struct Initialisation {
    own: Vec<f64>,
    /// Offsets of the parameters.
    offsets: Vec<usize>,
    uses: Vec<Use>,
    initialiser: Initialiser,
    seed: u64,
}

impl Initialisation {
    /// The draws of a network; what is not drawn keeps the values that the network has now.
    pub fn new(network: &Network, initialiser: Initialiser, seed: u64) -> Initialisation {
        Initialisation {
            own: network.parameter_values(),
            offsets: network.parameters.iter().map(|p| p.offset).collect(),
            uses: match initialiser {
                Initialiser::File => Vec::new(),
                _ => uses(network),
            },
            initialiser,
            seed,
        }
    }

    /// The network's own values, `[p]`.
    pub fn own(&self) -> &[f64] {
        &self.own
    }

    /// Draw number `draw`: `[p]` in the flat order.
    pub fn draw(&self, draw: u32) -> Vec<f64> {
        let mut values = self.own.clone();
        // The first use of an entry decides: later ones are overwritten by it.
        for used in self.uses.iter().rev() {
            let mut draws = Draws::new(self.seed, used.stream, draw);
            let Some(drawn) = self.values(used, &mut draws) else {
                continue;
            };
            for (&entry, value) in used.entries.iter().zip(drawn) {
                values[self.offsets[used.parameter] + entry] = value;
            }
        }
        values
    }

    /// Values of the entries of a use; `None` where they stay the file's.
    fn values(&self, used: &Use, draws: &mut Draws) -> Option<Vec<f64>> {
        let count = used.entries.len();
        match used.role {
            Role::Shift => Some(vec![0.0; count]),
            Role::Scale => Some(vec![1.0; count]),
            Role::Table => Some(normals(count, 1.0, draws)),
            Role::Other | Role::Factor => None,
            Role::Weight {
                fan_in,
                fan_out,
                groups,
                rows,
            } => {
                let (inputs, outputs) = (fan_in.max(1) as f64, fan_out.max(1) as f64);
                match self.initialiser {
                    Initialiser::Glorot => {
                        let bound = (6.0 / (inputs + outputs)).sqrt();
                        let uniform = |_| bound * (2.0 * draws.uniform() - 1.0);
                        Some((0..count).map(uniform).collect())
                    }
                    Initialiser::He => Some(normals(count, (2.0 / inputs).sqrt(), draws)),
                    Initialiser::Lecun => Some(normals(count, (1.0 / inputs).sqrt(), draws)),
                    Initialiser::TruncatedNormal => Some(truncated(count, draws)),
                    Initialiser::Orthogonal => {
                        let each = count / groups.max(1);
                        let one = |_| orthogonal(rows, each / rows.max(1), draws);
                        Some((0..groups).flat_map(one).collect())
                    }
                    Initialiser::File => None,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::builder::Builder;
    use crate::network::{Input, Parameter};
    use crate::ops::{Conv, Elementwise, Linear, Permute, Slice};
    use crate::tensor::{HostArray, Window};

    /// A network of one parameter of that shape, and of the nodes that `nodes` appends.
    fn single(shape: &[usize], input: &[usize], nodes: impl FnOnce(&mut Network)) -> Network {
        let count = shape.iter().product();
        let mut network = Network {
            inputs: vec![Input::new("x", input)],
            parameters: vec![Parameter {
                name: "w".into(),
                layer: "w".into(),
                offset: 0,
                data: HostArray::f64(shape, vec![0.5; count]),
            }],
            ..Network::default()
        };
        nodes(&mut network);
        network
    }

    fn role(network: &Network) -> Role {
        uses(network)[0].role
    }

    fn moments(values: &[f64]) -> (f64, f64) {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        (
            mean,
            values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count,
        )
    }

    fn append(network: &mut Network, op: impl Into<Op>, inputs: &[Operand]) -> ValueId {
        network.append("node", "Node", op, inputs).expect("it fits")
    }

    #[test]
    fn fans_are_counted_in_the_layout_of_the_use() {
        let (x, w) = (Operand::Value(0), Operand::Parameter(0));
        for outputs_first in [true, false] {
            let shape = if outputs_first { [5, 7] } else { [7, 5] };
            let network = single(&shape, &[1, 7], |network| {
                append(network, Linear { outputs_first }, &[x, w]);
            });
            let rows = shape[0];
            let expected = Role::Weight {
                fan_in: 7,
                fan_out: 5,
                groups: 1,
                rows,
            };
            assert_eq!(role(&network), expected);
        }
        let network = single(&[7, 5], &[1, 7], |network| {
            let turned = append(network, Permute { order: vec![1, 0] }, &[w]);
            append(
                network,
                Linear {
                    outputs_first: true,
                },
                &[x, Operand::Value(turned)],
            );
        });
        let expected = Role::Weight {
            fan_in: 7,
            fan_out: 5,
            groups: 1,
            rows: 5,
        };
        assert_eq!(role(&network), expected);
        let window = Window {
            input: vec![6, 6],
            kernel: vec![3, 3],
            stride: vec![1, 1],
            dilation: vec![1, 1],
            padding: vec![1, 1],
            output: vec![6, 6],
        };
        let network = single(&[8, 2, 3, 3], &[1, 4, 6, 6], |network| {
            append(network, Conv { window, groups: 2 }, &[x, w]);
        });
        let expected = Role::Weight {
            fan_in: 18,
            fan_out: 36,
            groups: 2,
            rows: 4,
        };
        assert_eq!(role(&network), expected);
    }

    #[test]
    fn slices_of_one_parameter_are_drawn_each_for_itself() {
        let network = single(&[6, 4], &[1, 4], |network| {
            for range in [0..3, 3..6] {
                let part = append(network, Slice { axis: 0, range }, &[Operand::Parameter(0)]);
                let op = Linear {
                    outputs_first: true,
                };
                append(network, op, &[Operand::Value(0), Operand::Value(part)]);
            }
        });
        let values = Initialisation::new(&network, Initialiser::Orthogonal, 1).draw(0);
        let dot = |a: usize, b: usize| -> f64 {
            (0..4).map(|k| values[4 * a + k] * values[4 * b + k]).sum()
        };
        for (a, b, expected) in [(0, 0, 1.0), (0, 2, 0.0), (3, 4, 0.0), (5, 5, 1.0)] {
            assert!((dot(a, b) - expected).abs() < 1e-12);
        }
        assert!(values[..12] != values[12..]);
    }

    #[test]
    fn draws_have_the_moments_of_their_initialiser() {
        let network = Builder::new(&[300])
            .linear("fc", 200)
            .initialize(0)
            .build()
            .expect("a network");
        let drawn = |initialiser| {
            let mut values = Initialisation::new(&network, initialiser, 5).draw(2);
            let biases = values.split_off(60_000);
            assert!(biases.iter().all(|&b| b == 0.0));
            values
        };
        // Of a normal distribution cut at 2σ the variance is 0.7737 of what it was.
        for (initialiser, variance, most) in [
            (
                Initialiser::Glorot,
                2.0_f64 / 500.0,
                (6.0_f64 / 500.0).sqrt(),
            ),
            (Initialiser::He, 2.0 / 300.0, f64::INFINITY),
            (Initialiser::Lecun, 1.0 / 300.0, f64::INFINITY),
            (Initialiser::TruncatedNormal, 0.7737 * 0.05 * 0.05, 0.1),
            (Initialiser::Orthogonal, 1.0 / 300.0, 1.0),
        ] {
            let values = drawn(initialiser);
            let (mean, found) = moments(&values);
            assert!(
                mean.abs() < 0.02 * variance.sqrt(),
                "{initialiser}: mean {mean}"
            );
            assert!(
                (found / variance - 1.0).abs() < 0.02,
                "{initialiser}: {found} for {variance}"
            );
            assert!(values.iter().all(|v| v.abs() <= most));
        }
    }

    #[test]
    fn orthogonal_matrices_are_so_on_their_shorter_side() {
        for (rows, columns) in [(3, 9), (9, 3), (6, 6), (1, 4)] {
            let values = orthogonal(rows, columns, &mut Draws::new(3, 0, 0));
            let short = rows.min(columns);
            let entry = |k: usize, i: usize| match rows <= columns {
                true => values[k * columns + i],
                false => values[i * columns + k],
            };
            for a in 0..short {
                for b in 0..short {
                    let dot: f64 = (0..rows.max(columns))
                        .map(|i| entry(a, i) * entry(b, i))
                        .sum();
                    assert!((dot - f64::from(u8::from(a == b))).abs() < 1e-12);
                }
            }
        }
    }

    #[test]
    fn what_is_no_weight_of_an_affine_operation_is_told_apart() {
        let (x, w) = (Operand::Value(0), Operand::Parameter(0));
        let [a, b] = [0, 1].map(crate::tensor::Expr::input);
        let node = |operation: &str, expr: &crate::tensor::Expr, shape: &[usize]| {
            let network = single(shape, &[1, 4, 3], |network| {
                let op = Elementwise::new(expr.clone());
                network
                    .append("node", operation, op, &[x, w])
                    .expect("it fits");
            });
            role(&network)
        };
        let (sum, product) = (a.clone() + b.clone(), a.clone() * b.clone());
        assert_eq!(node("Add", &sum, &[3]), Role::Shift);
        assert_eq!(node("Add", &sum, &[4, 3]), Role::Other);
        assert_eq!(node("LayerNormalization", &sum, &[4, 3]), Role::Shift);
        assert_eq!(node("LayerNormalization", &product, &[4, 3]), Role::Scale);
        // No layer's shift stands beside it.
        assert_eq!(node("Mul", &product, &[3]), Role::Other);
        let slope = crate::tensor::Expr::if_less_equal(a.clone(), b.clone(), a.clone() * b, a);
        assert_eq!(node("PRelu", &slope, &[3]), Role::Other);
    }

    #[test]
    fn the_files_own_weights_are_left_alone() {
        let network = Builder::new(&[3])
            .linear("fc", 2)
            .initialize(4)
            .build()
            .expect("a network");
        let own = network.parameter_values();
        assert_eq!(
            Initialisation::new(&network, Initialiser::File, 9).draw(1),
            own
        );
        assert_ne!(
            Initialisation::new(&network, Initialiser::Glorot, 9).draw(1),
            own
        );
    }
}
