//! Arrays that meet data along the features behind an affine operation or a norm.
//!
//! Exporters that keep no names (jax2onnx, tf2onnx of folded graphs) write biases, layer scales, and the scales and
//! shifts of norms written out as mean, variance, difference and quotient, as constants like any other. What tells
//! them apart is their place: `data + a` or `data · a`, where `data` comes straight from an affine operation or a
//! norm and `a` has one entry per feature.

use super::graph::{Graph, Links, Node};
use super::roles::{Origin, Role, VIEWS, equation, role};
use super::tensor::Array;
use std::collections::{HashMap, HashSet};

/// The features of a value, counted in axes from the last one.
#[derive(Clone, Debug)]
struct Behind {
    /// The affine operation or norm that made the features.
    anchor: usize,
    norm: bool,
    /// The first axis from the last one, and the axis after the last of them.
    axes: (usize, usize),
    /// Their number; `None` where it is not known.
    extent: Option<usize>,
    /// Number of axes of the value, where it is known.
    rank: Option<usize>,
    /// Whether a Reshape hides the axes, as a norm over groups does until it is reshaped back.
    hidden: bool,
}

/// An initializer that has one entry per feature of the data it meets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Feature {
    /// The affine operation or norm before it.
    pub anchor: usize,
    /// Whether that is a norm.
    pub norm: bool,
    /// The node that adds or multiplies.
    pub node: usize,
}

/// Finds, for each root, the first place where it meets data along the features. `constants` has what the values
/// made of initializers alone stem from, `arrays` the roots.
pub(super) fn find<'g>(
    graph: &'g Graph,
    links: &Links<'g>,
    constants: &HashMap<&'g str, Origin>,
    arrays: &[&Array],
) -> HashMap<usize, Feature> {
    let mut search = Search {
        graph,
        links,
        constants,
        arrays,
        initializers: HashMap::new(),
        shapes: HashMap::new(),
        values: HashMap::new(),
        statistics: HashSet::new(),
        deviations: HashSet::new(),
        found: HashMap::new(),
    };
    for initializer in &graph.initializers {
        let array = &initializer.array;
        search.initializers.insert(&initializer.name, array);
        search.shapes.insert(&initializer.name, array.shape.clone());
    }
    for (k, node) in graph.nodes.iter().enumerate() {
        search.node(k, node);
    }
    search.found
}

struct Search<'g, 'r> {
    graph: &'g Graph,
    links: &'r Links<'g>,
    constants: &'r HashMap<&'g str, Origin>,
    arrays: &'r [&'r Array],
    initializers: HashMap<&'g str, &'g Array>,
    /// Shapes of initializers and of their transposes.
    shapes: HashMap<&'g str, Vec<usize>>,
    values: HashMap<&'g str, Behind>,
    /// Means and the like: what sums over features.
    statistics: HashSet<&'g str>,
    /// The values among them that are roots or reciprocals: standard deviations.
    deviations: HashSet<&'g str>,
    found: HashMap<usize, Feature>,
}

impl<'g> Search<'g, '_> {
    fn is_constant(&self, name: &str) -> bool {
        self.constants.contains_key(name)
    }

    /// Whole numbers of an initializer.
    fn ints(&self, name: &str) -> Option<Vec<i64>> {
        if let Some(array) = self.initializers.get(name) {
            return array.as_ints().map(|v| v.to_vec());
        }
        let node = self.maker(name)?;
        let array = (node.op_type() == "Constant").then(|| super::fold::constant(node).ok());
        array.flatten()?.as_ints().map(|v| v.to_vec())
    }

    /// The node that makes a value.
    fn maker(&self, name: &str) -> Option<&'g Node> {
        self.links.maker.get(name).map(|&k| &self.graph.nodes[k])
    }

    fn node(&mut self, k: usize, node: &'g Node) {
        let Some(output) = node.proto.output.first() else {
            return;
        };
        let inputs: Vec<&'g str> = node.proto.input.iter().map(|i| i.as_str()).collect();
        let given = || inputs.iter().copied().filter(|i| !i.is_empty());
        let data: Vec<&'g str> = given().filter(|i| !self.is_constant(i)).collect();
        if data.is_empty() {
            let shape = inputs.first().and_then(|i| self.shapes.get(i));
            if let Some(shape) = shape.and_then(|shape| transposed(node, shape)) {
                self.shapes.insert(output, shape);
            }
            return;
        }
        let made = self
            .affine(k, node, &inputs)
            .or_else(|| self.norm(k, node, &inputs, &data));
        if made.is_none() && self.is_statistic(node, &data) {
            self.statistics.insert(output);
            let root = matches!(node.op_type(), "Sqrt" | "Pow" | "ReduceL2");
            if root || data.iter().any(|d| self.deviations.contains(d)) {
                self.deviations.insert(output);
            }
            return;
        }
        let made = made
            .or_else(|| self.moved(node, &inputs))
            .or_else(|| self.met(k, node, &inputs, &data));
        if let Some(made) = made {
            self.values.insert(output, made);
        }
    }

    /// Whether a result is one number for many entries of data, or made of such alone.
    fn is_statistic(&self, node: &Node, data: &[&str]) -> bool {
        let keeps = !matches!(node.op_type(), "Concat" | "Gather" | "Slice" | "Split");
        let all = || data.iter().all(|d| self.statistics.contains(d));
        node.op_type().starts_with("Reduce") || keeps && all()
    }

    /// The result of an affine operation.
    fn affine(&self, k: usize, node: &Node, inputs: &[&'g str]) -> Option<Behind> {
        let weight = (0..inputs.len())
            .find(|&j| role(node, j) == Role::Weight && self.is_constant(inputs[j]))?;
        let shape = self.shapes.get(inputs[weight]);
        let extent = |axis: usize| shape.and_then(|s| s.get(axis)).copied();
        let rank = shape.map(|s| s.len());
        let (first, extent, result) = match node.op_type() {
            "Gemm" if weight == 1 => (
                0,
                extent(1 - usize::from(node.int("transB", 0) != 0)),
                Some(2),
            ),
            "MatMul" if weight == 1 => (0, extent(rank?.checked_sub(1)?), None),
            "MatMul" => (1, extent(rank?.checked_sub(2)?), None),
            "Conv" => (rank?.checked_sub(2)?, extent(0), rank),
            "ConvTranspose" => {
                let groups = usize::try_from(node.int("group", 1)).ok()?;
                let extent = extent(1)?.checked_mul(groups);
                (rank?.checked_sub(2)?, extent, rank)
            }
            "Einsum" => {
                let (terms, result) = equation(node)?;
                let own = terms.get(weight)?;
                let alone = |c: &char| {
                    let others = terms.iter().enumerate().filter(|(j, _)| *j != weight);
                    own.contains(*c) && !others.clone().any(|(_, term)| term.contains(*c))
                };
                let places: Vec<usize> = result
                    .chars()
                    .rev()
                    .enumerate()
                    .filter(|(_, c)| alone(c))
                    .map(|(place, _)| place)
                    .collect();
                let (first, last) = (*places.first()?, *places.last()?);
                if last - first + 1 != places.len() {
                    return None;
                }
                let size = |c: char| own.chars().position(|o| o == c).and_then(extent);
                let sizes = result
                    .chars()
                    .rev()
                    .skip(first)
                    .take(places.len())
                    .map(size);
                let extent: Option<Vec<usize>> = sizes.collect();
                return Some(Behind {
                    anchor: k,
                    norm: false,
                    axes: (first, last + 1),
                    extent: extent.map(|e| e.iter().product()),
                    rank: Some(result.chars().count()),
                    hidden: false,
                });
            }
            _ => return None,
        };
        Some(Behind {
            anchor: k,
            norm: false,
            axes: (first, first + 1),
            extent,
            rank: result,
            hidden: false,
        })
    }

    /// The result of a norm, as one node or written out: data divided by a standard deviation.
    fn norm(&self, k: usize, node: &Node, inputs: &[&'g str], data: &[&'g str]) -> Option<Behind> {
        let before = |name: &str| self.values.get(name).cloned();
        let norm = |behind: Behind| Behind {
            anchor: k,
            norm: true,
            ..behind
        };
        let last = |extent| Behind {
            anchor: k,
            norm: true,
            axes: (0, 1),
            extent,
            rank: None,
            hidden: false,
        };
        match node.op_type() {
            "BatchNormalization" | "InstanceNormalization" | "GroupNormalization" => {
                before(inputs.first()?).map(norm)
            }
            "LayerNormalization" | "RMSNormalization" => {
                let scale = inputs.get(1).and_then(|i| self.shapes.get(i));
                let extent = scale.filter(|s| s.len() == 1).map(|s| s[0]);
                Some(before(inputs[0]).map_or_else(|| last(extent), norm))
            }
            "Mul" | "Div" if data.len() == 2 => {
                let deviation = |k: usize| self.deviations.contains(data[k]);
                let operand = match (deviation(0), deviation(1)) {
                    (false, true) => data[0],
                    (true, false) if node.op_type() == "Mul" => data[1],
                    _ => return None,
                };
                Some(before(operand).map_or_else(|| last(None), norm))
            }
            _ => None,
        }
    }

    /// The result of what moves values about and computes nothing.
    fn moved(&self, node: &Node, inputs: &[&'g str]) -> Option<Behind> {
        let before = self.values.get(inputs.first()?).cloned();
        match node.op_type() {
            "Cast" | "CastLike" | "Identity" | "Dropout" => before,
            "Where" => {
                // A choice between data and a statistic or a constant, as norms guard themselves.
                let mut data = inputs[1..].iter().filter_map(|i| self.values.get(i));
                data.next().filter(|_| data.next().is_none()).cloned()
            }
            "Transpose" => {
                let before = before.filter(|b| !b.hidden && b.axes.1 == b.axes.0 + 1)?;
                let order = node.ints("perm")?;
                let front = order.len().checked_sub(1 + before.axes.0)?;
                let place = order.iter().position(|&a| a == front as i64)?;
                let first = order.len() - 1 - place;
                Some(Behind {
                    axes: (first, first + 1),
                    rank: Some(order.len()),
                    ..before
                })
            }
            "Reshape" => self.reshaped(before?, inputs.get(1)?),
            _ => None,
        }
    }

    /// Follows the features through a Reshape: the last axis may be split and joined again, and what a norm over
    /// groups hides comes back.
    fn reshaped(&self, before: Behind, target: &str) -> Option<Behind> {
        let (dims, whole) = self.target(target, 0);
        let extent = before.extent?;
        if before.axes.0 == 0 && !before.hidden {
            let mut product = 1usize;
            for (place, dim) in dims.iter().rev().enumerate() {
                product = product.saturating_mul((*dim)?);
                if product == extent {
                    return Some(Behind {
                        axes: (0, place + 1),
                        rank: whole.then_some(dims.len()),
                        ..before
                    });
                }
                if product > extent {
                    break;
                }
            }
        }
        // The shape of other data that have the same features.
        let like = self.maker(target).filter(|node| node.op_type() == "Shape");
        let like = like.and_then(|node| self.values.get(node.input(0)?));
        if let Some(like) = like.filter(|like| like.extent == Some(extent)) {
            return Some(Behind {
                anchor: before.anchor,
                norm: before.norm,
                ..like.clone()
            });
        }
        if before.hidden {
            let (first, next) = before.axes;
            let there = || dims.iter().rev().skip(first).take(next - first);
            let known = there().try_fold(1usize, |all, dim| all.checked_mul((*dim)?));
            let fits = whole && before.rank.is_none_or(|rank| rank == dims.len());
            return (fits && known == Some(extent)).then_some(Behind {
                hidden: false,
                ..before
            });
        }
        Some(Behind {
            hidden: true,
            ..before
        })
    }

    /// What is known of the shape that a value holds: extents, and whether these are all. Where not, the last ones.
    fn target(&self, name: &str, depth: usize) -> (Vec<Option<usize>>, bool) {
        let known = |v: i64| usize::try_from(v).ok().filter(|&v| v > 0);
        if let Some(ints) = self.ints(name) {
            return (ints.into_iter().map(known).collect(), true);
        }
        match self.maker(name) {
            Some(node) if node.op_type() == "Concat" && depth < 4 => {
                let mut dims = Vec::new();
                let mut whole = true;
                for input in node.proto.input.iter().rev() {
                    let (mut part, all) = self.target(input, depth + 1);
                    part.append(&mut dims);
                    dims = part;
                    if !all {
                        whole = false;
                        break;
                    }
                }
                (dims, whole)
            }
            _ => (Vec::new(), false),
        }
    }

    /// The result of data and a constant, which is entered where it has one entry per feature.
    fn met(
        &mut self,
        k: usize,
        node: &Node,
        inputs: &[&'g str],
        data: &[&'g str],
    ) -> Option<Behind> {
        let operation = node.op_type();
        if !matches!(operation, "Add" | "Sub" | "Mul" | "Div") || inputs.len() != 2 {
            return None;
        }
        if let [a, b] = data {
            // Less its mean, it has the same features.
            let centred = operation == "Sub" && self.statistics.contains(b);
            return centred.then(|| self.values.get(a).cloned()).flatten();
        }
        let before = self.values.get(data[0])?.clone();
        let other = if inputs[0] == data[0] {
            inputs[1]
        } else {
            inputs[0]
        };
        let origin = self.constants.get(other)?;
        let Some(root) = origin.view else {
            return (origin.sources.is_empty()).then_some(before);
        };
        let array = self.arrays[root];
        if array.len() == 1 && (array.shape.is_empty() || before.extent != Some(1)) {
            return Some(before);
        }
        let direct = self.shapes.get(other);
        if before.hidden || !along(&before, direct.unwrap_or(&array.shape), direct.is_none()) {
            return None;
        }
        let alone = array.len() > 1 || operation == "Add" && !before.norm;
        if matches!(operation, "Add" | "Mul") && alone {
            self.found.entry(root).or_insert(Feature {
                anchor: before.anchor,
                norm: before.norm,
                node: k,
            });
        }
        Some(before)
    }
}

/// Whether an array of that shape has one entry per feature and no other; of one that was reshaped on the way only
/// the number of entries is known.
fn along(before: &Behind, shape: &[usize], reshaped: bool) -> bool {
    let count: usize = shape.iter().product();
    if before.extent.is_some_and(|extent| extent != count) {
        return false;
    }
    if reshaped {
        return shape.iter().filter(|&&d| d > 1).count() <= 1;
    }
    let (first, next) = before.axes;
    let outside = |(place, &extent): (usize, &usize)| !(first..next).contains(&place) && extent > 1;
    !shape.iter().rev().enumerate().any(outside)
}

/// The shape of a view of a constant, where it is easily known.
fn transposed(node: &Node, shape: &[usize]) -> Option<Vec<usize>> {
    match node.op_type() {
        "Transpose" => match node.ints("perm") {
            Some(order) => order
                .iter()
                .map(|&a| shape.get(usize::try_from(a).ok()?).copied())
                .collect(),
            None => Some(shape.iter().rev().copied().collect()),
        },
        operation if VIEWS.contains(&operation) && operation.starts_with(['C', 'I']) => {
            Some(shape.to_vec())
        }
        _ => None,
    }
}
