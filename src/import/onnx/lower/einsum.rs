//! Einsum: its equation into sums, permutations and products of two operands.

use super::super::graph::Node;
use super::super::samples::Sample;
use super::{Lowering, Tensor, Value, refuse};
use crate::error::{Error, Result};
use crate::ops::{Einsum, LABELS, Linear, ReduceSum, Reshape};
use std::collections::BTreeMap;

/// An operand with its labels.
struct Labelled {
    tensor: Tensor,
    labels: Vec<u8>,
}

impl Labelled {
    fn extent(&self, label: u8) -> Option<usize> {
        let axis = self.labels.iter().position(|l| *l == label)?;
        Some(self.tensor.rest[axis])
    }
}

impl Lowering<'_> {
    pub(super) fn einsum(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Tensor> {
        let equation = node.text("equation").unwrap_or_default();
        let mut tensors = Vec::with_capacity(inputs.len());
        for k in 0..inputs.len() {
            tensors.push(self.tensor(node, inputs, k)?);
        }
        let ranks: Vec<usize> = tensors.iter().map(|t| t.rest.len()).collect();
        let Some((lists, output)) = labels(&equation, &ranks) else {
            return refuse(format!(
                "its equation {equation:?} does not fit operands of {ranks:?} axes"
            ));
        };
        let mut operands = Vec::with_capacity(tensors.len());
        for (tensor, labels) in tensors.into_iter().zip(lists) {
            operands.push(self.diagonal(node, Labelled { tensor, labels })?);
        }
        let mut operands = operands.into_iter();
        let Some(mut result) = operands.next() else {
            return Err(Error::Shape("it has no operands".into()));
        };
        let rest: Vec<Labelled> = operands.collect();
        self.same_sample_label(&result, &rest, &output)?;
        let mut last = BTreeMap::new();
        for (k, operand) in rest.iter().enumerate() {
            last.extend(operand.labels.iter().map(|&label| (label, k)));
        }
        for (k, right) in rest.into_iter().enumerate() {
            // What neither the result nor an operand to come has is summed here.
            let later =
                |label: &u8| output.contains(label) || last.get(label).is_some_and(|&at| at > k);
            result = self.product(node, result, right, later)?;
        }
        result = self.sum_without(node, result, |label| output.contains(label))?;
        let order: Option<Vec<usize>> = output
            .iter()
            .map(|label| result.labels.iter().position(|l| l == label))
            .collect();
        let order = order.filter(|order| order.len() == result.labels.len());
        let order =
            order.ok_or_else(|| Error::Shape(format!("its equation {equation:?} cannot be")))?;
        self.permute(node, &result.tensor, &order)
    }

    /// The entries whose positions along all axes of one label agree, a label that stands twice then standing once:
    /// `z[…, i, …] = x[…, i, …, i, …]`.
    fn diagonal(&mut self, node: &Node, x: Labelled) -> Result<Labelled> {
        let Labelled {
            mut tensor,
            mut labels,
        } = x;
        let twice = |labels: &[u8]| {
            let second = (0..labels.len()).find(|&k| labels[..k].contains(&labels[k]))?;
            let first = labels.iter().position(|l| *l == labels[second])?;
            Some((first, second))
        };
        while let Some((first, second)) = twice(&labels) {
            self.not_over_samples(&tensor, first)?;
            self.not_over_samples(&tensor, second)?;
            let extent = tensor.rest[first];
            if tensor.rest[second] != extent {
                return Err(Error::Shape(format!(
                    "a diagonal of {:?}, whose axes {first} and {second} differ",
                    tensor.rest
                )));
            }
            let mut order: Vec<usize> = (0..labels.len()).collect();
            order.remove(second);
            order.insert(first + 1, second);
            let beside = self.permute(node, &tensor, &order)?;
            // Both axes as one, of which every (extent + 1)-th entry is on the diagonal.
            let mut rest = beside.rest.clone();
            rest.remove(first);
            rest[first] = extent * extent;
            let moved = |s: Sample| if s.axis > first { s.on(s.axis - 1) } else { s };
            let sample = beside.sample.map(moved);
            let flat = self.append(node, Reshape { rest }, &[beside.operand], sample)?;
            let entries = (0..extent).map(|k| Some(k * (extent + 1))).collect();
            tensor = self.entries(node, &flat, first, entries)?;
            labels.remove(second);
        }
        Ok(Labelled { tensor, labels })
    }

    /// The samples must have one label in all operands, and keep it in the result.
    fn same_sample_label(&self, first: &Labelled, rest: &[Labelled], output: &[u8]) -> Result<()> {
        let mut found: Option<(u8, usize, usize)> = None;
        for operand in std::iter::once(first).chain(rest) {
            let Some(sample) = operand.tensor.sample else {
                continue;
            };
            // Merged with positions, the samples must lie among them in one way.
            let place = (operand.labels[sample.axis], sample.before, sample.after);
            if found.is_some_and(|f| f != place) || !output.contains(&place.0) {
                let weight = |o: &Labelled| !self.depends(&o.tensor) && o.extent(place.0).is_some();
                self.weighs(std::iter::once(first).chain(rest).any(weight));
                return refuse("it sums or multiplies samples with each other");
            }
            found = Some(place);
        }
        let shared = |o: &Labelled| {
            o.tensor.sample.is_none()
                && found
                    .and_then(|(l, ..)| o.extent(l))
                    .is_some_and(|e| e != 1)
        };
        if std::iter::once(first).chain(rest).any(shared) {
            return refuse(
                "a weight has a row for each sample of the example input; export it for one sample (an example input of batch 1), or expand the weight by x.shape[0] in the module",
            );
        }
        Ok(())
    }

    /// Sums over the labels that are not kept.
    fn sum_without(
        &mut self,
        node: &Node,
        x: Labelled,
        kept: impl Fn(&u8) -> bool,
    ) -> Result<Labelled> {
        let axes: Vec<usize> = (0..x.labels.len())
            .filter(|&axis| !kept(&x.labels[axis]))
            .collect();
        if axes.is_empty() {
            return Ok(x);
        }
        for &axis in &axes {
            self.not_over_samples(&x.tensor, axis)?;
        }
        let before = |s: Sample| s.on(s.axis - axes.iter().filter(|&&a| a < s.axis).count());
        let sample = x.tensor.sample.map(before);
        let labels = x.labels.iter().copied().filter(|l| kept(l)).collect();
        let sum = ReduceSum { axes, keep: false };
        let tensor = self.append(node, sum, &[x.tensor.operand], sample)?;
        Ok(Labelled { tensor, labels })
    }

    /// The product of two operands, summed over the labels that nothing needs later.
    fn product(
        &mut self,
        node: &Node,
        left: Labelled,
        right: Labelled,
        later: impl Fn(&u8) -> bool,
    ) -> Result<Labelled> {
        let of_right = right.labels.clone();
        let left = self.sum_without(node, left, |l| later(l) || of_right.contains(l))?;
        let of_left = left.labels.clone();
        let right = self.sum_without(node, right, |l| later(l) || of_left.contains(l))?;
        for (x, w) in [(&left, &right), (&right, &left)] {
            if self.depends(&x.tensor)
                && !self.depends(&w.tensor)
                && let Some(product) = self.weighted(node, x, w, &later)?
            {
                return Ok(product);
            }
        }
        let mut output: Vec<u8> = left.labels.iter().copied().filter(|l| later(l)).collect();
        output.extend(
            right
                .labels
                .iter()
                .filter(|l| later(l) && !left.labels.contains(l)),
        );
        let place = |x: &Labelled| {
            let sample = x.tensor.sample?;
            let label = x.labels[sample.axis];
            Some(sample.on(output.iter().position(|l| *l == label)?))
        };
        let sample = place(&left).or_else(|| place(&right));
        let product = Einsum {
            left: left.labels,
            right: right.labels,
            output: output.clone(),
        };
        let operands = [left.tensor.operand, right.tensor.operand];
        let tensor = self.append(node, product, &operands, sample)?;
        Ok(Labelled {
            tensor,
            labels: output,
        })
    }

    /// x·W as a linear operation, whose weight's rows are then those of an outer or dense site: where no label of
    /// W is both in x and kept, and those that are summed stand before or behind the others. `None` elsewhere.
    fn weighted(
        &mut self,
        node: &Node,
        x: &Labelled,
        w: &Labelled,
        later: impl Fn(&u8) -> bool,
    ) -> Result<Option<Labelled>> {
        let summed: Vec<u8> = w
            .labels
            .iter()
            .copied()
            .filter(|l| x.labels.contains(l))
            .collect();
        let free: Vec<u8> = w
            .labels
            .iter()
            .copied()
            .filter(|l| !x.labels.contains(l))
            .collect();
        let same = |l: &u8| x.extent(*l) == w.extent(*l);
        if summed.is_empty()
            || free.is_empty()
            || summed.iter().any(&later)
            || !summed.iter().all(same)
        {
            return Ok(None);
        }
        let outputs_first = [&free[..], &summed[..]].concat() == w.labels;
        if !outputs_first && [&summed[..], &free[..]].concat() != w.labels {
            return Ok(None);
        }
        let size = |labels: &[u8]| {
            labels
                .iter()
                .filter_map(|l| w.extent(*l))
                .product::<usize>()
        };
        let (inputs, outputs) = (size(&summed), size(&free));
        // x with the labels summed at the end, as one axis.
        let kept: Vec<u8> = x
            .labels
            .iter()
            .copied()
            .filter(|l| !summed.contains(l))
            .collect();
        let order: Vec<usize> = [&kept[..], &summed[..]]
            .concat()
            .iter()
            .filter_map(|l| x.labels.iter().position(|k| k == l))
            .collect();
        let turned = self.permute(node, &x.tensor, &order)?;
        let lead = turned.rest[..kept.len()].to_vec();
        let flat = self.shaped(node, &turned, [&lead[..], &[inputs]].concat())?;
        let shape = if outputs_first {
            vec![outputs, inputs]
        } else {
            vec![inputs, outputs]
        };
        let weight = self.shaped(node, &w.tensor, shape)?;
        let operands = [flat.operand, weight.operand];
        let product = self.append(node, Linear { outputs_first }, &operands, flat.sample)?;
        let extents = free.iter().filter_map(|l| w.extent(*l)).collect();
        let tensor = self.shaped(node, &product, [lead, extents].concat())?;
        Ok(Some(Labelled {
            tensor,
            labels: [kept, free].concat(),
        }))
    }

    /// The same elements under another shape of which the axis of the samples is one as before.
    fn shaped(&mut self, node: &Node, x: &Tensor, rest: Vec<usize>) -> Result<Tensor> {
        if x.rest == rest {
            return Ok(x.clone());
        }
        self.append(node, Reshape { rest }, &[x.operand], x.sample)
    }
}

/// Labels of each operand and of the result, an ellipsis spelled out; `None` where the equation does not fit.
fn labels(equation: &str, ranks: &[usize]) -> Option<(Vec<Vec<u8>>, Vec<u8>)> {
    let text: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let (left, right) = match text.split_once("->") {
        Some((left, right)) => (left, Some(right)),
        None => (text.as_str(), None),
    };
    let terms: Vec<&str> = left.split(',').collect();
    if terms.len() != ranks.len() {
        return None;
    }
    // Letters are given anew: the primitive has names of its own for samples and directions.
    let mut known: BTreeMap<char, u8> = BTreeMap::new();
    let mut free = LABELS.iter().copied();
    let named = |term: &str| term.replace("...", "").chars().count();
    let mut widest = 0;
    for (term, &rank) in terms.iter().zip(ranks) {
        let dots = rank.checked_sub(named(term))?;
        if dots > 0 && !term.contains("...") {
            return None;
        }
        widest = widest.max(dots);
    }
    let dots: Vec<u8> = free.by_ref().take(widest).collect();
    if dots.len() < widest {
        return None;
    }
    let mut read = |term: &str, count: usize| -> Option<Vec<u8>> {
        let mut found = Vec::new();
        let mut chars = term.chars().peekable();
        while let Some(letter) = chars.next() {
            if letter == '.' {
                if chars.next() != Some('.') || chars.next() != Some('.') {
                    return None;
                }
                // Aligned at the last axis.
                found.extend_from_slice(&dots[widest - count..]);
                continue;
            }
            if !letter.is_ascii_alphabetic() {
                return None;
            }
            let label = match known.get(&letter) {
                Some(label) => *label,
                None => {
                    let label = free.next()?;
                    known.insert(letter, label);
                    label
                }
            };
            found.push(label);
        }
        Some(found)
    };
    let mut lists = Vec::with_capacity(terms.len());
    for (term, &rank) in terms.iter().zip(ranks) {
        lists.push(read(term, rank - named(term))?);
    }
    let output = match right {
        Some(right) => read(right, widest)?,
        None => {
            // Without an arrow: what stands once, in alphabetic order, behind the ellipsis.
            let mut counts: BTreeMap<char, usize> = BTreeMap::new();
            for letter in left.chars().filter(char::is_ascii_alphabetic) {
                *counts.entry(letter).or_default() += 1;
            }
            let once = counts.iter().filter(|(_, count)| **count == 1);
            let once: String = once.map(|(letter, _)| letter).collect();
            let dots = if widest > 0 { "..." } else { "" };
            read(&format!("{dots}{once}"), widest)?
        }
    };
    let twice = (0..output.len()).any(|k| output[..k].contains(&output[k]));
    if twice {
        return None;
    }
    let made = |label: &u8| lists.iter().any(|l| l.contains(label));
    output.iter().all(made).then_some((lists, output))
}

#[cfg(test)]
mod tests {
    use super::labels;

    /// The equation with its letters given anew.
    fn spelled(equation: &str, ranks: &[usize]) -> Option<String> {
        let (lists, output) = labels(equation, ranks)?;
        let text = |l: &Vec<u8>| String::from_utf8(l.clone()).unwrap();
        let operands: Vec<String> = lists.iter().map(text).collect();
        Some(format!("{}->{}", operands.join(","), text(&output)))
    }

    #[test]
    fn equations_are_read_with_and_without_ellipsis_and_arrow() {
        assert_eq!(spelled("sdi,oi->sdo", &[3, 2]).unwrap(), "abc,ec->abe");
        assert_eq!(spelled("...i,ij->...j", &[3, 2]).unwrap(), "abc,ce->abe");
        assert_eq!(spelled("ij,jk", &[2, 2]).unwrap(), "ab,bc->ac");
        assert_eq!(spelled("ii->i", &[2]).unwrap(), "aa->a");
        assert_eq!(spelled("i->ii", &[1]), None);
        assert_eq!(spelled("ij->k", &[2]), None);
        assert_eq!(spelled("ij,jk->ik", &[2, 3]), None);
        assert_eq!(spelled("ij.,jk->ik", &[2, 2]), None);
    }
}
