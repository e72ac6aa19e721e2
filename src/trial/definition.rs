//! Single entries of a primitive's result by its definition, in double precision, without a look at any backend: what
//! CPU f64, the reference of all others, is checked against.
//!
//! `tests/common/reference.rs` states the same once more, as whole results by nested loops. The two share lists of cases but not a
//! line of code, so that a mistake in one is found by the other: keep them apart.

use super::array::Array;
use super::primitive::Primitive;
use crate::tensor::{Shape, Window};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// The position of an index in row-major order.
fn position(axes: &[usize], mut index: usize) -> Vec<usize> {
    let mut position = vec![0; axes.len()];
    for (at, extent) in position.iter_mut().zip(axes).rev() {
        *at = index % extent;
        index /= extent;
    }
    position
}

/// All positions of these extents.
fn positions(axes: &[usize]) -> impl Iterator<Item = Vec<usize>> + '_ {
    (0..axes.iter().product()).map(|index| position(axes, index))
}

/// Where a tap of the window at `output` lies in the input; `None` outside.
fn input_of(window: &Window, output: &[usize], tap: &[usize]) -> Option<Vec<usize>> {
    (0..output.len())
        .map(|axis| {
            let at = output[axis] * window.stride[axis] + tap[axis] * window.dilation[axis];
            at.checked_sub(window.padding[axis])
                .filter(|at| *at < window.input[axis])
        })
        .collect()
}

/// Sum of `term(output, tap)` over the windows and taps that lie on an input position.
fn over_taps(
    window: &Window,
    input: &[usize],
    mut term: impl FnMut(&[usize], &[usize]) -> f64,
) -> f64 {
    let mut sum = 0.0;
    for output in positions(&window.output) {
        for tap in positions(&window.kernel) {
            if input_of(window, &output, &tap).is_some_and(|at| at == input) {
                sum += term(&output, &tap);
            }
        }
    }
    sum
}

/// Where the window at `output` of `lead` has its first maximum.
fn largest(
    values: &Array,
    window: &Window,
    lead: &[usize],
    output: &[usize],
) -> Option<Vec<usize>> {
    let mut best: Option<(f64, Vec<usize>)> = None;
    for tap in positions(&window.kernel) {
        let Some(input) = input_of(window, output, &tap) else {
            continue;
        };
        let value = values.at(&[lead, &input].concat());
        if best.as_ref().is_none_or(|(most, _)| value > *most) {
            best = Some((value, input));
        }
    }
    best.map(|(_, input)| input)
}

/// Entry `index` of the primitive's result of that shape.
pub(crate) fn entry(
    primitive: &Primitive,
    inputs: &[Arc<Array>],
    shape: &Shape,
    index: usize,
) -> f64 {
    let to = position(&shape.axes(), index);
    let x = &inputs[0];
    match primitive {
        Primitive::Read => x.at(&to),
        Primitive::Fill(value) => *value,
        Primitive::Reshape(_) => x.values[index],
        Primitive::Einsum(formula) => einsum(formula, x, &inputs[1], &to),
        Primitive::Conv(window, groups) => conv(x, &inputs[1], (window, *groups), &to),
        Primitive::ConvInputs(window, groups) => conv_inputs(x, &inputs[1], (window, *groups), &to),
        Primitive::ConvWeights(window, groups, sum) => {
            let samples = summed(*sum, x, to[0]);
            conv_weights(x, &inputs[1], (window, *groups), samples, &to)
        }
        Primitive::WindowSum(_)
        | Primitive::WindowSpread(_)
        | Primitive::Gather(_)
        | Primitive::MaxPoolIndices(_)
        | Primitive::Scatter(_) => pool(primitive, inputs, &to),
        Primitive::Map(expr) => {
            let values: Vec<f64> = inputs.iter().map(|input| input.aligned(&to)).collect();
            expr.evaluate(&values)
        }
        Primitive::ReduceSum(axes) => reduce_sum(x, axes, &to),
        Primitive::Permute(order) => {
            let mut from = to.clone();
            for (k, &axis) in order.iter().enumerate() {
                from[2 + axis] = to[2 + k];
            }
            x.at(&from)
        }
        Primitive::Slice(axis, start, _) => {
            let mut from = to;
            from[*axis] += start;
            x.at(&from)
        }
        Primitive::Embed(axis, start, _) => {
            let mut from = to;
            let own = start..&(start + x.shape.axes()[*axis]);
            if !own.contains(&&from[*axis]) {
                return 0.0;
            }
            from[*axis] -= start;
            x.at(&from)
        }
        Primitive::Take(axis) => {
            let mut from = to.clone();
            let index = inputs[1].at(&[to[0], 0, to[*axis]]);
            let within = (0.0..x.shape.axes()[*axis] as f64).contains(&index);
            from[*axis] = index as usize;
            if within { x.at(&from) } else { 0.0 }
        }
        Primitive::Put(axis, range, sum) => {
            let index = (range.start + to[*axis]) as f64;
            put(x, &inputs[1], *axis, (summed(*sum, x, to[0]), index), &to)
        }
        Primitive::Concat(axis) => concat(inputs, *axis, to),
        Primitive::Broadcast(_) => x.aligned(&to),
    }
}

/// The samples that are summed: all, or the one alone.
fn summed(all: bool, x: &Array, sample: usize) -> Range<usize> {
    match all {
        true => 0..x.shape.samples,
        false => sample..sample + 1,
    }
}

/// Σ_c Σ_tap x[c, window's input] · w[o, c, tap], c of o's group.
fn conv(x: &Array, w: &Array, (window, groups): (&Window, usize), to: &[usize]) -> f64 {
    let (o, out) = (to[3], &to[4..]);
    let each = w.shape.rest[1];
    let group = o / (w.shape.rest[0] / groups);
    let mut sum = 0.0;
    for c in 0..each {
        for tap in positions(&window.kernel) {
            if let Some(at) = input_of(window, out, &tap) {
                let value = x.at(&[&to[..3], &[group * each + c], &at].concat());
                sum += value * w.at(&[&[0, to[1], o, c], &tap[..]].concat());
            }
        }
    }
    sum
}

/// Σ_o Σ_(output, tap) δ[o, output] · w[o, c, tap], o of c's group, over the windows and taps that lie on the input.
fn conv_inputs(x: &Array, w: &Array, (window, groups): (&Window, usize), to: &[usize]) -> f64 {
    let (channel, input) = (to[3], &to[4..]);
    let (each, outputs) = (w.shape.rest[1], w.shape.rest[0] / groups);
    let (group, c) = (channel / each, channel % each);
    over_taps(window, input, |output, tap| {
        let of = group * outputs..(group + 1) * outputs;
        of.map(|o| {
            let delta = x.at(&[&to[..3], &[o], output].concat());
            delta * w.at(&[&[0, to[1], o, c], tap].concat())
        })
        .sum()
    })
}

/// Σ_sample Σ_b Σ_output δ[o, output] · x[c, window's input], c of o's group.
fn conv_weights(
    delta: &Array,
    values: &Array,
    (window, groups): (&Window, usize),
    samples: Range<usize>,
    to: &[usize],
) -> f64 {
    let (o, c, tap) = (to[2], to[3], &to[4..]);
    let each = values.shape.rest[1] / groups;
    let group = o / (delta.shape.rest[1] / groups);
    let mut total = 0.0;
    for sample in samples {
        for b in 0..delta.shape.rest[0] {
            for output in positions(&window.output) {
                if let Some(at) = input_of(window, &output, tap) {
                    let lead = [sample, to[1], b];
                    let delta = delta.at(&[&lead[..], &[o], &output].concat());
                    let channel = [group * each + c];
                    total += delta * values.at(&[&lead[..], &channel, &at].concat());
                }
            }
        }
    }
    total
}

/// Sums and maxima over windows, and their transposes.
fn pool(primitive: &Primitive, inputs: &[Arc<Array>], to: &[usize]) -> f64 {
    let x = &inputs[0];
    match primitive {
        Primitive::WindowSum(window) => {
            let (lead, output) = to.split_at(to.len() - window.output.len());
            let taps = positions(&window.kernel);
            taps.filter_map(|tap| input_of(window, output, &tap))
                .map(|at| x.at(&[lead, &at].concat()))
                .sum()
        }
        Primitive::WindowSpread(window) => {
            let (lead, input) = to.split_at(to.len() - window.input.len());
            over_taps(window, input, |output, _| x.at(&[lead, output].concat()))
        }
        Primitive::Gather(window) => {
            let (lead, output) = to.split_at(to.len() - window.output.len());
            largest(&inputs[1], window, lead, output)
                .map_or(f64::NAN, |at| x.at(&[lead, &at].concat()))
        }
        Primitive::MaxPoolIndices(window) => {
            let (lead, output) = to.split_at(to.len() - window.output.len());
            let extents = window.input.iter();
            largest(x, window, lead, output).map_or(f64::NAN, |at| {
                let flat = extents.zip(&at).fold(0, |flat, (e, at)| flat * e + at);
                flat as f64
            })
        }
        Primitive::Scatter(window) => {
            let (lead, input) = to.split_at(to.len() - window.input.len());
            positions(&window.output)
                .filter(|output| {
                    largest(&inputs[1], window, lead, output).is_some_and(|at| at == input)
                })
                .map(|output| x.at(&[lead, &output].concat()))
                .sum()
        }
        _ => unreachable!("{primitive:?} has no window to pool over"),
    }
}

fn reduce_sum(x: &Array, axes: &[usize], to: &[usize]) -> f64 {
    let extents: Vec<usize> = axes.iter().map(|&axis| x.shape.axes()[axis]).collect();
    let value = |at: Vec<usize>| {
        let mut from = to.to_vec();
        for (&axis, at) in axes.iter().zip(at) {
            from[axis] = at;
        }
        x.at(&from)
    };
    positions(&extents).map(value).sum()
}

/// The sum of the entries of `axis` whose place in the list holds `index`.
fn put(
    x: &Array,
    list: &Array,
    axis: usize,
    (samples, index): (Range<usize>, f64),
    to: &[usize],
) -> f64 {
    let mut sum = 0.0;
    for sample in samples {
        for k in 0..x.shape.axes()[axis] {
            if list.at(&[sample, 0, k]) == index {
                let mut from = to.to_vec();
                (from[0], from[axis]) = (sample, k);
                sum += x.at(&from);
            }
        }
    }
    sum
}

fn concat(inputs: &[Arc<Array>], axis: usize, mut from: Vec<usize>) -> f64 {
    let mut inputs = inputs.iter();
    let last = inputs.next_back();
    let holds = inputs.find(|input| {
        let extent = input.shape.axes()[axis];
        let holds = from[axis] < extent;
        from[axis] -= if holds { 0 } else { extent };
        holds
    });
    holds.or(last).map_or(f64::NAN, |input| input.at(&from))
}

/// The product summed over the labels that the output lacks.
fn einsum(formula: &str, left: &Array, right: &Array, to: &[usize]) -> f64 {
    let operands = formula.split_once("->").and_then(|(operands, output)| {
        let (left, right) = operands.split_once(',')?;
        Some((left, right, output))
    });
    let Some((left_labels, right_labels, output)) = operands else {
        return f64::NAN;
    };
    let mut fixed: BTreeMap<char, usize> = output.chars().zip(to.iter().copied()).collect();
    let mut summed: BTreeMap<char, usize> = BTreeMap::new();
    for (labels, array) in [(left_labels, left), (right_labels, right)] {
        for (label, extent) in labels.chars().zip(array.shape.axes()) {
            if !fixed.contains_key(&label) {
                let known = summed.entry(label).or_insert(1);
                *known = (*known).max(extent);
            }
        }
    }
    let extents: Vec<usize> = summed.values().copied().collect();
    let mut sum = 0.0;
    for position in positions(&extents) {
        fixed.extend(summed.keys().copied().zip(position));
        let of = |labels: &str| {
            labels
                .chars()
                .map(|label| fixed[&label])
                .collect::<Vec<_>>()
        };
        sum += left.at(&of(left_labels)) * right.at(&of(right_labels));
    }
    sum
}
