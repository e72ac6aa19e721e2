//! Parts of tensors: Gather (embedding of tokens too), Slice, Split, OneHot.

use super::super::fold;
use super::super::graph::Node;
use super::super::samples::Sample;
use super::conv::MOST_EXTENT;
use super::{Array, Lowering, Tensor, Value, refuse};
use crate::error::{Error, Result};
use crate::network::Operand;
use crate::ops::{Lookup, Reshape, Slice, Take};
use crate::tensor::{Expr, strides};
use std::ops::Range;
use std::slice::from_ref;

/// For each of the indices that GatherElements takes, of shape `rest`: what the axes other than `axis` add to the position of
/// its entry in a sample of `x`.
fn places_of_others(x: &Tensor, axis: usize, rest: &[usize]) -> Result<Vec<usize>> {
    let rank = x.rest.len();
    let lead = usize::from(x.sample.is_some());
    let fits = rest.len() == rank
        && (lead..rank).all(|k| k == axis || rest[k] <= x.rest[k])
        && rest[..lead] == x.rest[..lead];
    if !fits {
        return Err(Error::Shape(format!(
            "indices of shape {rest:?} for {:?}",
            x.rest
        )));
    }
    if rest.iter().product::<usize>() > MOST_EXTENT {
        return refuse(format!("indices of shape {rest:?} are more than can be"));
    }
    let steps = strides(&x.rest[lead..]);
    let mut places = vec![0];
    for k in lead..rank {
        let step = if k == axis { 0 } else { steps[k - lead] };
        places = places
            .iter()
            .flat_map(|p| (0..rest[k]).map(move |j| p + j * step))
            .collect();
    }
    Ok(places)
}

impl Lowering<'_> {
    /// Entries of an axis by number.
    pub(super) fn gather(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Tensor> {
        let x = self.tensor(node, inputs, 0)?;
        let axis = fold::axis_of(node.int("axis", 0), x.rest.len()).map_err(Error::Shape)?;
        self.not_over_samples(&x, axis)?;
        let (indices, repeated) = match inputs.get(1) {
            Some(Some(Value::Tensor(indices))) => {
                return self.lookup(node, x, axis, indices.clone());
            }
            // zeros(tokens.shape): one row of numbers that all samples share.
            Some(Some(Value::Host(arrays))) => match self.rows_of_samples(arrays) {
                Some(row) if x.sample.is_none() => (arrays[0].clone(), Some(axis + row)),
                _ => (self.per_sample(arrays, None)?, None),
            },
            _ => return Err(Error::Shape("input 1 is missing".into())),
        };
        let numbers = fold::ints(&indices).map_err(Error::Shape)?;
        let numbers = numbers.iter().map(|&k| fold::axis_of(k, x.rest[axis]));
        let numbers: Vec<usize> = numbers.collect::<Result<_, _>>().map_err(Error::Shape)?;
        let taken = self.entries(node, &x, axis, numbers.into_iter().map(Some).collect())?;
        let moved = |s: usize| {
            if s > axis {
                s + indices.shape.len() - 1
            } else {
                s
            }
        };
        let sample = match repeated {
            Some(axis) => Some(Sample::alone(axis)),
            None => taken.sample.map(|s| s.on(moved(s.axis))),
        };
        if indices.shape.len() == 1 {
            return Ok(Tensor { sample, ..taken });
        }
        // The axis becomes those of the indices: none for a single number.
        let mut rest = taken.rest.clone();
        rest.splice(axis..=axis, indices.shape.iter().copied());
        self.append(node, Reshape { rest }, &[taken.operand], sample)
    }

    /// Entries of an axis by number, `None` being 0: as a slice where they are a run.
    pub(super) fn entries(
        &mut self,
        node: &Node,
        x: &Tensor,
        axis: usize,
        indices: Vec<Option<usize>>,
    ) -> Result<Tensor> {
        self.not_over_samples(x, axis)?;
        if indices.is_empty() {
            return refuse("it takes no entries at all");
        }
        let run = |first: usize| {
            indices
                .iter()
                .enumerate()
                .all(|(k, &i)| i == Some(first + k))
        };
        match indices.first().copied().flatten() {
            Some(0) if indices.len() == x.rest[axis] && run(0) => Ok(x.clone()),
            Some(first) if run(first) => self.part(node, x, axis, first..first + indices.len()),
            _ => {
                self.room.hold(size_of_val(&indices[..]))?;
                self.append(node, Take { axis, indices }, &[x.operand], x.sample)
            }
        }
    }

    /// The entries `range` of an axis.
    fn part(
        &mut self,
        node: &Node,
        x: &Tensor,
        axis: usize,
        range: Range<usize>,
    ) -> Result<Tensor> {
        self.not_over_samples(x, axis)?;
        if range.is_empty() {
            return refuse("it takes no entries at all");
        }
        if range == (0..x.rest[axis]) {
            return Ok(x.clone());
        }
        self.append(node, Slice { axis, range }, &[x.operand], x.sample)
    }

    /// Entries that each sample names itself: tokens of an embedding table.
    pub(super) fn lookup(
        &mut self,
        node: &Node,
        x: Tensor,
        axis: usize,
        indices: Tensor,
    ) -> Result<Tensor> {
        if x.sample.is_some() && indices.sample.is_some() {
            return refuse(
                "it takes entries of every sample by the numbers of every other, and so mixes them",
            );
        }
        let sample = match (x.sample, indices.sample) {
            (Some(s), _) if s.axis > axis => Some(s.on(s.axis + indices.rest.len() - 1)),
            (Some(s), _) => Some(s),
            (None, s) => s.map(|s| s.on(s.axis + axis)),
        };
        let numbers = self.wrapped(node, &indices, x.rest[axis])?;
        let operands = [x.operand, numbers.operand];
        let taken = self.append(node, Lookup { axis }, &operands, sample)?;
        if self.is_input(&indices) {
            return Ok(taken);
        }
        self.within(node, taken, &numbers, axis, x.rest[axis])
    }

    /// Whether a tensor is an input of the network, whose numbers are checked where they are read.
    fn is_input(&self, tensor: &Tensor) -> bool {
        matches!(tensor.operand, Operand::Value(value) if value < self.network.inputs.len())
    }

    /// What was looked up by computed numbers, NaN where one lies outside of 0..extent: there is nothing to take, and
    /// a zero would pass for a result. `numbers` stand from `axis` on.
    fn within(
        &mut self,
        node: &Node,
        taken: Tensor,
        numbers: &Tensor,
        axis: usize,
        extent: usize,
    ) -> Result<Tensor> {
        let mut rest = vec![1; taken.rest.len()];
        rest[axis..axis + numbers.rest.len()].copy_from_slice(&numbers.rest);
        let numbers = self.append(node, Reshape { rest }, &[numbers.operand], None)?;
        let (x, number, nan) = (Expr::input(0), Expr::input(1), || Expr::constant(f64::NAN));
        let last = Expr::constant(extent as f64 - 1.0);
        let below = Expr::if_less_equal(number.clone(), last, x, nan());
        let formula = Expr::if_less_equal(Expr::constant(0.0), number, below, nan());
        let sample = taken.sample;
        self.elementwise(node, formula, &[taken, numbers], sample)
    }

    /// Numbers of entries of an axis, negative ones counted from its end.
    fn wrapped(&mut self, node: &Node, indices: &Tensor, extent: usize) -> Result<Tensor> {
        if !indices.integer {
            return refuse("its indices are no integers");
        }
        if let Operand::Value(value) = indices.operand
            && let Some(input) = self.network.inputs.get_mut(value)
        {
            input.limit = Some(input.limit.map_or(extent, |limit| limit.min(extent)));
        }
        let number = Expr::input(0);
        let wrapped = Expr::if_less_equal(
            number.clone(),
            Expr::constant(-0.5),
            number.clone() + Expr::constant(extent as f64),
            number,
        );
        self.elementwise(node, wrapped, from_ref(indices), indices.sample)
    }

    /// Entries of several axes at once by tuples of numbers; the samples may be the axis that both share.
    pub(super) fn gather_nd(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Tensor> {
        let x = self.tensor(node, inputs, 0)?;
        let shared = usize::try_from(node.int("batch_dims", 0)).unwrap_or(usize::MAX);
        let shape = match inputs.get(1) {
            Some(Some(Value::Host(arrays))) => arrays[1].shape.clone(),
            Some(Some(Value::Tensor(indices))) => indices.rest.clone(),
            _ => return Err(Error::Shape("input 1 is missing".into())),
        };
        let Some((&count, places)) = shape.split_last() else {
            return Err(Error::Shape("its indices are a single number".into()));
        };
        if count == 0 || shared > 1 || shared + count > x.rest.len() {
            return refuse(format!(
                "tuples of {count} numbers behind {shared} shared axes of {:?}",
                x.rest
            ));
        }
        if shared == 1 {
            let alone = |t: &Tensor| t.sample == Some(Sample::alone(0));
            return match inputs.get(1) {
                Some(Some(Value::Tensor(indices)))
                    if count == 1 && !places.is_empty() && alone(&x) && alone(indices) =>
                {
                    self.own_entries(node, &x, indices, &places[1..])
                }
                _ => refuse("its shared axis should be that of the samples, for one number each"),
            };
        }
        for axis in 0..count {
            self.not_over_samples(&x, axis)?;
        }
        if let Some(Some(Value::Tensor(indices))) = inputs.get(1) {
            if count > 1 {
                return refuse("tuples of numbers that depend on the data are not supported");
            }
            self.not_over_samples(indices, indices.rest.len() - 1)?;
            let rest = places.to_vec();
            let operands = [indices.operand];
            let list = self.append(node, Reshape { rest }, &operands, indices.sample)?;
            let list = Tensor {
                integer: indices.integer,
                ..list
            };
            return self.lookup(node, x, 0, list);
        }
        // The axes that are indexed taken as one, and the tuples as numbers along it.
        let extents = x.rest[..count].to_vec();
        let Some(Some(Value::Host(arrays))) = inputs.get(1) else {
            return Err(Error::Shape("input 1 is missing".into()));
        };
        let indices = self.per_sample(arrays, None)?;
        let mut numbers = Vec::new();
        for tuple in fold::ints(&indices)
            .map_err(Error::Shape)?
            .chunks_exact(count)
        {
            let mut number = 0;
            for (&k, &extent) in tuple.iter().zip(&extents) {
                number = number * extent + fold::axis_of(k, extent).map_err(Error::Shape)?;
            }
            numbers.push(Some(number));
        }
        let back = |s: Sample, by: usize| s.on(s.axis + by - count);
        let mut rest = vec![extents.iter().product()];
        rest.extend_from_slice(&x.rest[count..]);
        let sample = x.sample.map(|s| back(s, 1));
        let flat = self.append(node, Reshape { rest }, &[x.operand], sample)?;
        let taken = self.entries(node, &flat, 0, numbers)?;
        let rest = [places, &x.rest[count..]].concat();
        let sample = x.sample.map(|s| back(s, places.len()));
        self.append(node, Reshape { rest }, &[taken.operand], sample)
    }

    /// z[n, places…, …] = x[n, indices[n, places…], …]: entries of axis 1 that each sample names for itself.
    fn own_entries(
        &mut self,
        node: &Node,
        x: &Tensor,
        indices: &Tensor,
        places: &[usize],
    ) -> Result<Tensor> {
        // Operations see the samples on an axis of their own, so that of the file may go for a while.
        let numbers = self.wrapped(node, indices, x.rest[1])?;
        let rest = places.to_vec();
        let numbers = self.append(node, Reshape { rest }, &[numbers.operand], None)?;
        let rest = x.rest[1..].to_vec();
        let own = self.append(node, Reshape { rest }, &[x.operand], None)?;
        let operands = [own.operand, numbers.operand];
        let mut taken = self.append(node, Lookup { axis: 0 }, &operands, None)?;
        if !self.is_input(indices) {
            taken = self.within(node, taken, &numbers, 0, x.rest[1])?;
        }
        let rest = [&[1], &taken.rest[..]].concat();
        self.append(node, Reshape { rest }, &[taken.operand], x.sample)
    }

    /// z[i, j, k] = x[i, indices[i, j, k], k] for the axis 1, and likewise for others.
    pub(super) fn gather_elements(
        &mut self,
        node: &Node,
        inputs: &[Option<Value>],
    ) -> Result<Tensor> {
        let x = self.tensor(node, inputs, 0)?;
        let rank = x.rest.len();
        let axis = fold::axis_of(node.int("axis", 0), rank).map_err(Error::Shape)?;
        self.not_over_samples(&x, axis)?;
        let leading = x.sample.is_none_or(|s| s == Sample::alone(0));
        if !leading {
            return refuse("the samples of its operand are not on axis 0");
        }
        // Positions of a sample's entries counted as one, the axis of the samples aside.
        let lead = usize::from(x.sample.is_some());
        let own = &x.rest[lead..];
        let step = strides(own)[axis - lead];
        let elements: usize = own.iter().product();
        let flat = [&x.rest[..lead], &[elements]].concat();
        let (result, taken) = match inputs.get(1) {
            Some(Some(Value::Host(arrays))) => {
                let back = x.sample.map(|s| (rank - s.axis, s));
                if lead == 1 && arrays[1].shape.first() == Some(&1) && self.batch.sizes[1] != 1 {
                    return refuse("its indices are for the first sample alone");
                }
                let indices = self.per_sample(arrays, back)?;
                let places = places_of_others(&x, axis, &indices.shape)?;
                let numbers = fold::ints(&indices).map_err(Error::Shape)?;
                let numbers = numbers.iter().zip(places).map(|(&k, place)| {
                    let k = fold::axis_of(k, x.rest[axis]).map_err(Error::Shape)?;
                    Ok(Some(place + step * k))
                });
                let numbers = numbers.collect::<Result<_>>()?;
                let x = self.append(node, Reshape { rest: flat }, &[x.operand], x.sample)?;
                (indices.shape, self.entries(node, &x, lead, numbers)?)
            }
            Some(Some(Value::Tensor(indices))) => {
                let places = places_of_others(&x, axis, &indices.rest)?;
                if indices.sample.is_some_and(|s| s != Sample::alone(0)) || lead == 0 {
                    return refuse("the samples of its indices and its operand lie apart");
                }
                let numbers = self.wrapped(node, indices, x.rest[axis])?;
                let places = places.iter().map(|&p| p as f64).collect();
                let places = self.constant(node, &Array::reals(&indices.rest, places, true))?;
                let position = Expr::constant(step as f64) * Expr::input(0) + Expr::input(1);
                let operands = [numbers.clone(), places];
                let position = self.elementwise(node, position, &operands, indices.sample)?;
                let rest = vec![position.rest.iter().product()];
                let list = self.append(node, Reshape { rest }, &[position.operand], None)?;
                let rest = vec![elements];
                let own = self.append(node, Reshape { rest }, &[x.operand], None)?;
                let operands = [own.operand, list.operand];
                let mut taken = self.append(node, Lookup { axis: 0 }, &operands, None)?;
                if !self.is_input(indices) {
                    let rest = taken.rest.clone();
                    let numbers = self.append(node, Reshape { rest }, &[numbers.operand], None)?;
                    taken = self.within(node, taken, &numbers, 0, x.rest[axis])?;
                }
                (indices.rest.clone(), taken)
            }
            _ => return Err(Error::Shape("input 1 is missing".into())),
        };
        self.append(node, Reshape { rest: result }, &[taken.operand], x.sample)
    }

    /// Tokens as rows of zeros with a one each.
    pub(super) fn one_hot(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Tensor> {
        let indices = self.tensor(node, inputs, 0)?;
        let depth = self
            .host(inputs, 1)?
            .and_then(|d| d.scalar())
            .unwrap_or(0.0);
        let values = self
            .host(inputs, 2)?
            .map(|v| v.to_f64())
            .unwrap_or_default();
        let (&[off, on], true) = (&values[..], (1.0..=1e6).contains(&depth)) else {
            return Err(Error::Shape("its depth or its values cannot be".into()));
        };
        let rank = indices.rest.len();
        let axis = fold::axis_of(node.int("axis", -1), rank + 1).map_err(Error::Shape)?;
        let numbers = self.wrapped(node, &indices, depth as usize)?;
        let mut rest = indices.rest.clone();
        rest.insert(axis, 1);
        let sample = indices
            .sample
            .map(|s| if s.axis >= axis { s.on(s.axis + 1) } else { s });
        let wide = self.append(node, Reshape { rest }, &[numbers.operand], sample)?;
        let mut shape = vec![1; rank + 1];
        shape[axis] = depth as usize;
        let classes = (0..depth as usize).map(|k| k as f64).collect();
        let classes = self.constant(node, &Array::reals(&shape, classes, true))?;
        let [x, k] = [Expr::input(0), Expr::input(1)];
        let [on, off] = [Expr::constant(on), Expr::constant(off)];
        let above = Expr::if_less_equal(k.clone(), x.clone(), on, off.clone());
        let formula = Expr::if_less_equal(x, k, above, off);
        self.elementwise(node, formula, &[wide, classes], sample)
    }

    /// One part of a SplitToSequence.
    pub(super) fn sequence_at(&mut self, inputs: &[Option<Value>]) -> Result<Value> {
        let Some(Some(Value::Sequence(parts))) = inputs.first() else {
            return refuse("its sequence is not one of a SplitToSequence");
        };
        let at = self.host(inputs, 1)?.and_then(|k| k.scalar());
        let at = at.ok_or_else(|| Error::Shape("its position is missing".into()))?;
        let at = fold::axis_of(at as i64, parts.len()).map_err(Error::Shape)?;
        Ok(parts[at].clone())
    }

    /// Slice, of any step.
    pub(super) fn slice(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Tensor> {
        let mut x = self.tensor(node, inputs, 0)?;
        let mut cuts = Vec::with_capacity(2);
        for (k, batch) in self.batch.sizes.into_iter().enumerate() {
            let mut arrays: Vec<Option<Array>> = vec![None];
            for input in inputs.iter().skip(1) {
                arrays.push(match input {
                    None => None,
                    Some(Value::Host(both)) => Some(both[k].clone()),
                    Some(_) => return refuse("where it cuts depends on values of the data"),
                });
            }
            cuts.push(fold::sliced(node, &x.shape(batch), &arrays).map_err(Error::Shape)?);
        }
        let many = cuts.swap_remove(1);
        for ((axis, numbers), (_, few)) in many.into_iter().zip(&cuts[0]) {
            if x.samples_on(axis) {
                let all = x.rest[axis] * self.batch.sizes[1];
                if !numbers.iter().copied().eq(0..all) {
                    return refuse(format!(
                        "it takes a part of axis {axis} of {}, which holds the samples, or takes them in another order",
                        self.spelled(&x)
                    ));
                }
                continue;
            }
            if *few != numbers {
                return refuse("where it cuts depends on the number of samples");
            }
            x = self.entries(node, &x, axis, numbers.into_iter().map(Some).collect())?;
        }
        Ok(x)
    }

    /// Split, into as many values as it has parts.
    pub(super) fn split(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Vec<Value>> {
        let x = self.tensor(node, inputs, 0)?;
        let sizes = match inputs.get(1) {
            Some(Some(_)) => self.host(inputs, 1)?,
            _ => None,
        };
        let (axis, sizes) = fold::parts(node, &x.shape(self.batch.sizes[1]), sizes.as_ref())
            .map_err(Error::Shape)?;
        self.not_over_samples(&x, axis)?;
        if node.op_type() == "SplitToSequence" && node.int("keepdims", 1) == 0 {
            return refuse("parts without their axis are not supported");
        }
        let mut start = 0;
        let mut parts = Vec::with_capacity(sizes.len());
        for size in sizes {
            start += size;
            let part = self.part(node, &x, axis, start - size..start)?;
            parts.push(Value::Tensor(part));
        }
        Ok(parts)
    }
}
