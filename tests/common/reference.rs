//! The primitives as their doc comments state them: nested loops in f64, one formula each, written without
//! a look at any backend.
//!
//! `src/trial/definition.rs`, which bench and self-test compare with, states the same once more, an entry at a time. The two
//! share lists of cases but not a line of code, so that a mistake in one is found by the other: keep them apart.

use super::Array;
use hessblock::internals::tensor::{Expr, Shape, Window};
use std::collections::BTreeMap;

/// All positions of an array of these extents, in row-major order.
pub fn positions(extents: &[usize]) -> Vec<Vec<usize>> {
    extents.iter().fold(vec![vec![]], |all, &extent| {
        let longer = |p: &Vec<usize>| {
            let p = p.clone();
            (0..extent).map(move |k| [p.clone(), vec![k]].concat())
        };
        all.iter().flat_map(longer).collect()
    })
}

fn broadcast(a: usize, b: usize) -> usize {
    assert!(a == b || a == 1 || b == 1);
    if a == 1 { b } else { a }
}

/// f at every position of the common broadcast shape.
pub fn map(expr: &Expr, inputs: &[&Array]) -> Array {
    let mut shape = Shape::new(1, 1, &[]);
    for input in inputs {
        shape = shape
            .broadcast(&input.shape)
            .expect("shapes that broadcast");
    }
    let value = |position: &Vec<usize>| {
        let inputs: Vec<f64> = inputs
            .iter()
            .map(|input| {
                let missing = shape.rest.len() - input.shape.rest.len();
                input.at(&[&position[..2], &position[2 + missing..]].concat())
            })
            .collect();
        expr.evaluate(&inputs)
    };
    let values = positions(&shape.axes()).iter().map(value).collect();
    Array::new(shape, values)
}

/// Sums over all values of all labels, each product added to its place.
pub fn einsum(formula: &str, left: &Array, right: &Array) -> Array {
    let (operands, output) = formula.split_once("->").expect("an arrow");
    let (left_labels, right_labels) = operands.split_once(',').expect("a comma");
    let mut extents: BTreeMap<char, usize> = BTreeMap::new();
    for (labels, array) in [(left_labels, left), (right_labels, right)] {
        for (label, extent) in labels.chars().zip(array.shape.axes()) {
            let known = extents.entry(label).or_insert(1);
            *known = broadcast(*known, extent);
        }
    }
    let names: Vec<char> = extents.keys().copied().collect();
    let of = |labels: &str, position: &[usize]| -> Vec<usize> {
        let find = |label| names.iter().position(|n| *n == label);
        labels
            .chars()
            .map(|label| find(label).map_or(0, |k| position[k]))
            .collect()
    };
    let axes: Vec<usize> = output
        .chars()
        .map(|label| extents.get(&label).copied().unwrap_or(1))
        .collect();
    let mut result = Array::zeros(Shape::from_axes(&axes));
    let ranges: Vec<usize> = extents.values().copied().collect();
    for position in positions(&ranges) {
        let product = left.at(&of(left_labels, &position)) * right.at(&of(right_labels, &position));
        let index = result.index(&of(output, &position));
        result.values[index] += product;
    }
    result
}

/// Calls `meet(output position, tap, input position)` for every tap of every window that lies in the input.
fn meetings(window: &Window, mut meet: impl FnMut(&[usize], &[usize], &[usize])) {
    for output in positions(&window.output) {
        for tap in positions(&window.kernel) {
            let input: Option<Vec<usize>> = (0..output.len())
                .map(|axis| {
                    let at = output[axis] * window.stride[axis] + tap[axis] * window.dilation[axis];
                    at.checked_sub(window.padding[axis])
                        .filter(|at| *at < window.input[axis])
                })
                .collect();
            if let Some(input) = input {
                meet(&output, &tap, &input);
            }
        }
    }
}

/// What a convolution's formula runs over.
fn convolution_terms(
    window: &Window,
    sizes: [usize; 5],
    groups: usize,
    mut term: impl FnMut([&[usize]; 3]),
) {
    let [samples, directions, lead, channels, outputs] = sizes;
    let (c_group, o_group) = (channels / groups, outputs / groups);
    for sdb in positions(&[samples, directions, lead]) {
        for o in 0..outputs {
            for c in 0..c_group {
                meetings(window, |out, tap, input| {
                    let x = [&sdb[..], &[o / o_group * c_group + c], input].concat();
                    let w = [&sdb[..2], &[o, c], tap].concat();
                    let z = [&sdb[..], &[o], out].concat();
                    term([&x, &w, &z]);
                });
            }
        }
    }
}

pub fn conv(inputs: &Array, weights: &Array, window: &Window, groups: usize) -> Array {
    let directions = broadcast(inputs.shape.directions, weights.shape.directions);
    let (lead, channels) = (inputs.shape.rest[0], inputs.shape.rest[1]);
    let outputs = weights.shape.rest[0];
    let rest = [&[lead, outputs], &window.output[..]].concat();
    let samples = inputs.shape.samples;
    let mut result = Array::zeros(Shape::new(samples, directions, &rest));
    let sizes = [samples, directions, lead, channels, outputs];
    convolution_terms(window, sizes, groups, |[x, w, z]| {
        let index = result.index(z);
        result.values[index] += inputs.at(x) * weights.at(w);
    });
    result
}

pub fn conv_inputs(cotangents: &Array, weights: &Array, window: &Window, groups: usize) -> Array {
    let directions = broadcast(cotangents.shape.directions, weights.shape.directions);
    let (lead, outputs) = (cotangents.shape.rest[0], cotangents.shape.rest[1]);
    let channels = weights.shape.rest[1] * groups;
    let rest = [&[lead, channels], &window.input[..]].concat();
    let samples = cotangents.shape.samples;
    let mut result = Array::zeros(Shape::new(samples, directions, &rest));
    let sizes = [samples, directions, lead, channels, outputs];
    convolution_terms(window, sizes, groups, |[x, w, z]| {
        let index = result.index(x);
        result.values[index] += cotangents.at(z) * weights.at(w);
    });
    result
}

pub fn conv_weights(
    cotangents: &Array,
    inputs: &Array,
    window: &Window,
    groups: usize,
    sum_samples: bool,
) -> Array {
    let samples = broadcast(cotangents.shape.samples, inputs.shape.samples);
    let directions = broadcast(cotangents.shape.directions, inputs.shape.directions);
    let (lead, channels) = (inputs.shape.rest[0], inputs.shape.rest[1]);
    let outputs = cotangents.shape.rest[1];
    let rest = [&[outputs, channels / groups], &window.kernel[..]].concat();
    let kept = if sum_samples { 1 } else { samples };
    let mut result = Array::zeros(Shape::new(kept, directions, &rest));
    let sizes = [samples, directions, lead, channels, outputs];
    convolution_terms(window, sizes, groups, |[x, w, z]| {
        let index = result.index(w);
        result.values[index] += cotangents.at(z) * inputs.at(x);
    });
    result
}

/// Leading positions of a tensor whose last axes are windowed, and its shape with other last axes.
fn windowed(shape: &Shape, last: &[usize]) -> (Vec<Vec<usize>>, Shape) {
    let axes = shape.axes();
    let lead = &axes[..axes.len() - last.len()];
    let shape = Shape::from_axes(&[lead, last].concat());
    (positions(lead), shape)
}

pub fn window_sum(inputs: &Array, window: &Window) -> Array {
    let (leads, shape) = windowed(&inputs.shape, &window.output);
    let mut result = Array::zeros(shape);
    for lead in leads {
        meetings(window, |out, _, input| {
            let index = result.index(&[&lead[..], out].concat());
            result.values[index] += inputs.at(&[&lead[..], input].concat());
        });
    }
    result
}

pub fn window_spread(cotangents: &Array, window: &Window) -> Array {
    let (leads, shape) = windowed(&cotangents.shape, &window.input);
    let mut result = Array::zeros(shape);
    for lead in leads {
        meetings(window, |out, _, input| {
            let index = result.index(&[&lead[..], input].concat());
            result.values[index] += cotangents.at(&[&lead[..], out].concat());
        });
    }
    result
}

/// Per leading position: the first maximum of each window, as a position over the window axes.
pub fn max_pool_indices(inputs: &Array, window: &Window) -> (Shape, Vec<Vec<usize>>) {
    let (leads, shape) = windowed(&inputs.shape, &window.output);
    let mut best: Vec<Option<(f64, Vec<usize>)>> = vec![None; shape.len()];
    let result = Array::zeros(shape);
    for lead in leads {
        meetings(window, |out, _, input| {
            let best = &mut best[result.index(&[&lead[..], out].concat())];
            let value = inputs.at(&[&lead[..], input].concat());
            if best.as_ref().is_none_or(|(most, _)| value > *most) {
                *best = Some((value, input.to_vec()));
            }
        });
    }
    let chosen = best
        .into_iter()
        .map(|b| b.expect("a window in the input").1);
    (result.shape, chosen.collect())
}

/// Pairs (position in the windowed input, position in its output) of chosen elements.
fn chosen_pairs(
    samples: usize,
    directions: usize,
    chosen: &(Shape, Vec<Vec<usize>>),
) -> Vec<(Vec<usize>, Vec<usize>)> {
    let (shape, chosen) = chosen;
    let index = Array::zeros(shape.clone());
    let spatial = chosen.first().map_or(0, Vec::len);
    let wanted = Shape::new(
        broadcast(samples, shape.samples),
        broadcast(directions, shape.directions),
        &shape.rest,
    );
    let pair = |output: Vec<usize>| {
        let lead = &output[..output.len() - spatial];
        let input = [lead, &chosen[index.index(&output)]].concat();
        (input, output)
    };
    positions(&wanted.axes()).into_iter().map(pair).collect()
}

pub fn gather(inputs: &Array, chosen: &(Shape, Vec<Vec<usize>>)) -> Array {
    let pairs = chosen_pairs(inputs.shape.samples, inputs.shape.directions, chosen);
    let values = pairs.iter().map(|(input, _)| inputs.at(input)).collect();
    let samples = broadcast(inputs.shape.samples, chosen.0.samples);
    let directions = broadcast(inputs.shape.directions, chosen.0.directions);
    Array::new(Shape::new(samples, directions, &chosen.0.rest), values)
}

pub fn scatter(cotangents: &Array, chosen: &(Shape, Vec<Vec<usize>>), window: &Window) -> Array {
    let (samples, directions) = (cotangents.shape.samples, cotangents.shape.directions);
    let (_, mut shape) = windowed(&cotangents.shape, &window.input);
    shape.samples = broadcast(samples, chosen.0.samples);
    shape.directions = broadcast(directions, chosen.0.directions);
    let mut result = Array::zeros(shape);
    for (input, output) in chosen_pairs(samples, directions, chosen) {
        let index = result.index(&input);
        result.values[index] += cotangents.at(&output);
    }
    result
}

pub fn reduce_sum(inputs: &Array, axes: &[usize]) -> Array {
    let mut kept = inputs.shape.axes();
    for &axis in axes {
        kept[axis] = 1;
    }
    let mut result = Array::zeros(Shape::from_axes(&kept));
    for position in positions(&inputs.shape.axes()) {
        let index = result.index(&position);
        result.values[index] += inputs.at(&position);
    }
    result
}

pub fn permute(inputs: &Array, order: &[usize]) -> Array {
    let rest: Vec<usize> = order.iter().map(|&axis| inputs.shape.rest[axis]).collect();
    let shape = Shape::new(inputs.shape.samples, inputs.shape.directions, &rest);
    let value = |to: &Vec<usize>| {
        let mut from = to.clone();
        for (k, &axis) in order.iter().enumerate() {
            from[2 + axis] = to[2 + k];
        }
        inputs.at(&from)
    };
    let values = positions(&shape.axes()).iter().map(value).collect();
    Array::new(shape, values)
}

pub fn slice(inputs: &Array, axis: usize, start: usize, stop: usize) -> Array {
    let mut axes = inputs.shape.axes();
    axes[axis] = stop - start;
    let value = |to: &Vec<usize>| {
        let mut from = to.clone();
        from[axis] += start;
        inputs.at(&from)
    };
    Array::new(
        Shape::from_axes(&axes),
        positions(&axes).iter().map(value).collect(),
    )
}

pub fn embed(inputs: &Array, axis: usize, start: usize, extent: usize) -> Array {
    let own = inputs.shape.axes();
    let mut axes = own.clone();
    axes[axis] = extent;
    let mut result = Array::zeros(Shape::from_axes(&axes));
    for from in positions(&own) {
        let mut to = from.clone();
        to[axis] += start;
        let index = result.index(&to);
        result.values[index] = inputs.at(&from);
    }
    result
}

/// Calls `meet(position in the taken from, position in the taken)` for every index that names an entry.
fn lookups(
    (samples, directions): (usize, usize),
    (rest, axis): (&[usize], usize),
    indices: &Array,
    extent: usize,
    mut meet: impl FnMut(&[usize], &[usize]),
) {
    let mut axes = vec![samples, directions];
    axes.extend_from_slice(rest);
    axes[axis] = indices.shape.rest_len();
    for taken in positions(&axes) {
        let list = &indices.values[taken[0].min(indices.shape.samples - 1) * axes[axis]..];
        let mut from = taken.clone();
        for entry in 0..extent {
            if list[taken[axis]] == entry as f64 {
                from[axis] = entry;
                meet(&from, &taken);
            }
        }
    }
}

pub fn take(inputs: &Array, indices: &Array, axis: usize) -> Array {
    let shape = &inputs.shape;
    let samples = broadcast(shape.samples, indices.shape.samples);
    let mut rest = shape.rest.clone();
    rest[axis - 2] = indices.shape.rest_len();
    let mut result = Array::zeros(Shape::new(samples, shape.directions, &rest));
    let (lead, extent) = ((samples, shape.directions), shape.rest[axis - 2]);
    lookups(lead, (&shape.rest, axis), indices, extent, |from, to| {
        let index = result.index(to);
        result.values[index] = inputs.at(from);
    });
    result
}

pub fn put(
    cotangents: &Array,
    indices: &Array,
    axis: usize,
    range: std::ops::Range<usize>,
    sum_samples: bool,
) -> Array {
    let shape = &cotangents.shape;
    let samples = broadcast(shape.samples, indices.shape.samples);
    let mut rest = shape.rest.clone();
    rest[axis - 2] = range.len();
    let kept = if sum_samples { 1 } else { samples };
    let mut result = Array::zeros(Shape::new(kept, shape.directions, &rest));
    let lead = (samples, shape.directions);
    lookups(lead, (&shape.rest, axis), indices, range.end, |from, to| {
        if from[axis] >= range.start {
            let mut into = from.to_vec();
            into[axis] -= range.start;
            let index = result.index(&into);
            result.values[index] += cotangents.at(to);
        }
    });
    result
}

pub fn concat(inputs: &[&Array], axis: usize) -> Array {
    let mut axes = inputs[0].shape.axes();
    axes[0] = inputs.iter().fold(1, |s, x| broadcast(s, x.shape.samples));
    axes[1] = inputs
        .iter()
        .fold(1, |d, x| broadcast(d, x.shape.directions));
    axes[axis] = inputs.iter().map(|x| x.shape.axes()[axis]).sum();
    let value = |to: &Vec<usize>| {
        let mut from = to.clone();
        for input in inputs {
            let extent = input.shape.axes()[axis];
            if from[axis] < extent {
                return input.at(&from);
            }
            from[axis] -= extent;
        }
        unreachable!("the extents add up")
    };
    let values = positions(&axes).iter().map(value).collect();
    Array::new(Shape::from_axes(&axes), values)
}

/// tile[row + q, column + q'] += Σ_n Σ_r left[n, r, q] · right[n, r, q'].
pub fn dense(
    tile: &mut [f64],
    width: usize,
    (row, column): (usize, usize),
    left: &Array,
    right: &Array,
) {
    let samples = broadcast(left.shape.samples, right.shape.samples);
    let directions = broadcast(left.shape.directions, right.shape.directions);
    for n in 0..samples {
        for r in 0..directions {
            for q in 0..left.shape.rest[0] {
                for p in 0..right.shape.rest[0] {
                    tile[(row + q) * width + column + p] +=
                        left.at(&[n, r, q]) * right.at(&[n, r, p]);
                }
            }
        }
    }
}

/// A side of an outer product: inputs `[samples, 1, I]`, origin, output stride, input stride.
pub type Side<'a> = (Option<&'a Array>, usize, usize, usize);

/// tile[(o, i), (o', i')] += Σ_n P_n[o, o'] a_n[i] a'_n[i'].
pub fn outer(tile: &mut [f64], width: usize, pairs: &Array, rows: Side<'_>, columns: Side<'_>) {
    let extent = |side: Side<'_>| side.0.map_or(1, |a| a.shape.rest[0]);
    let value = |side: Side<'_>, n: usize, i: usize| side.0.map_or(1.0, |a| a.at(&[n, 0, i]));
    let samples = [rows.0, columns.0]
        .into_iter()
        .flatten()
        .fold(pairs.shape.samples, |s, a| broadcast(s, a.shape.samples));
    for n in 0..samples {
        for o in 0..pairs.shape.rest[0] {
            for i in 0..extent(rows) {
                for o2 in 0..pairs.shape.rest[1] {
                    for i2 in 0..extent(columns) {
                        let row = rows.1 + o * rows.2 + i * rows.3;
                        let column = columns.1 + o2 * columns.2 + i2 * columns.3;
                        tile[row * width + column] +=
                            pairs.at(&[n, 0, o, o2]) * value(rows, n, i) * value(columns, n, i2);
                    }
                }
            }
        }
    }
}
