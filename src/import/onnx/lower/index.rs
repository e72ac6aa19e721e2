//! Parts of tensors: Gather (embedding of tokens too), Slice, Split; and what is 0 above or below a diagonal.

use super::super::fold;
use super::super::graph::Node;
use super::{Array, Lowering, Tensor, Value, refuse};
use crate::error::{Error, Result};
use crate::network::Operand;
use crate::ops::{Einsum, Lookup, Reshape, Slice, Take};
use crate::tensor::Expr;

impl Lowering<'_> {
    /// Entries of an axis by number.
    pub(super) fn gather(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Tensor> {
        let x = self.tensor(node, inputs, 0)?;
        let axis = fold::axis_of(node.int("axis", 0), x.rest.len()).map_err(Error::Shape)?;
        self.not_over_samples(&x, axis)?;
        let indices = match inputs.get(1) {
            Some(Some(Value::Tensor(indices))) => return self.lookup(node, x, axis, indices.clone()),
            Some(Some(Value::Host(arrays))) => self.per_sample(arrays, None)?,
            _ => return Err(Error::Shape("input 1 is missing".into())),
        };
        let numbers = fold::ints(&indices).map_err(Error::Shape)?;
        let numbers = numbers.iter().map(|&k| fold::axis_of(k, x.rest[axis]));
        let numbers: Vec<usize> = numbers.collect::<Result<_, _>>().map_err(Error::Shape)?;
        let taken = self.entries(node, &x, axis, &numbers)?;
        if indices.shape.len() == 1 {
            return Ok(taken);
        }
        // The axis becomes those of the indices: none for a single number.
        let mut rest = taken.rest.clone();
        rest.splice(axis..=axis, indices.shape.iter().copied());
        let moved = |s: usize| if s > axis { s + indices.shape.len() - 1 } else { s };
        let sample = taken.sample.map(|s| s.on(moved(s.axis)));
        self.append(node, Reshape { rest }, &[taken.operand], sample)
    }

    /// The entries listed of an axis, which does not hold the samples.
    pub(super) fn entries(
        &mut self,
        node: &Node,
        x: &Tensor,
        axis: usize,
        numbers: &[usize],
    ) -> Result<Tensor> {
        let Some(&first) = numbers.first() else {
            return refuse("it takes no entries at all");
        };
        let run = first..first + numbers.len();
        if !numbers.iter().copied().eq(run.clone()) {
            let indices = numbers.iter().map(|&k| Some(k)).collect();
            return self.append(node, Take { axis, indices }, &[x.operand], x.sample);
        }
        if run == (0..x.rest[axis]) {
            return Ok(x.clone());
        }
        self.append(node, Slice { axis, range: run }, &[x.operand], x.sample)
    }

    /// Entries that each sample names itself: tokens of an embedding table.
    fn lookup(
        &mut self,
        node: &Node,
        x: Tensor,
        axis: usize,
        indices: Tensor,
    ) -> Result<Tensor> {
        if !indices.integer {
            return refuse("its indices are no integers");
        }
        if x.sample.is_some() && indices.sample.is_some() {
            return refuse(
                "it takes entries of every sample by the numbers of every other, and so mixes them",
            );
        }
        let extent = x.rest[axis] as f64;
        if let Operand::Value(input) = indices.operand
            && let Some(input) = self.network.inputs.get_mut(input)
        {
            let limit = input.limit.map_or(x.rest[axis], |l| l.min(x.rest[axis]));
            input.limit = Some(limit);
        }
        // Negative numbers count from the end.
        let number = Expr::input(0);
        let wrapped = Expr::if_less_equal(
            number.clone(),
            Expr::constant(-0.5),
            number.clone() + Expr::constant(extent),
            number,
        );
        let wrapped = self.elementwise(node, wrapped, &[indices.clone()], indices.sample)?;
        let sample = match (x.sample, indices.sample) {
            (Some(s), _) if s.axis > axis => Some(s.on(s.axis + indices.rest.len() - 1)),
            (Some(s), _) => Some(s),
            (None, s) => s.map(|s| s.on(s.axis + axis)),
        };
        self.append(
            node,
            Lookup { axis },
            &[x.operand, wrapped.operand],
            sample,
        )
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
                        "it takes {} of {all} along axis {axis}, which holds the samples",
                        numbers.len()
                    ));
                }
                continue;
            }
            if *few != numbers {
                return refuse("where it cuts depends on the number of samples");
            }
            x = self.entries(node, &x, axis, &numbers)?;
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
        let mut start = 0;
        let mut parts = Vec::with_capacity(sizes.len());
        for size in sizes {
            let numbers: Vec<usize> = (start..start + size).collect();
            start += size;
            parts.push(Value::Tensor(self.entries(node, &x, axis, &numbers)?));
        }
        Ok(parts)
    }

    /// CumSum and Trilu: a product with a constant triangle.
    pub(super) fn triangular(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Tensor> {
        let x = self.tensor(node, inputs, 0)?;
        let rank = x.rest.len();
        let second = self.host(inputs, 1)?.and_then(|k| k.scalar());
        if node.op_type() == "Trilu" {
            if rank < 2 {
                return Err(Error::Shape(format!("a triangle of {:?}", x.rest)));
            }
            for axis in [rank - 2, rank - 1] {
                self.not_over_samples(&x, axis)?;
            }
            let (offset, upper) = (second.unwrap_or(0.0), node.int("upper", 1) != 0);
            let mask = triangle(x.rest[rank - 2], x.rest[rank - 1], |row, column| {
                let above = column as f64 - row as f64;
                if upper { above >= offset } else { above <= offset }
            })?;
            let mask = Value::Tensor(self.constant(node, &mask)?);
            let product = Expr::input(0) * Expr::input(1);
            return self.pointwise(node, product, &[Value::Tensor(x), mask]);
        }
        let axis = second.ok_or_else(|| Error::Shape("its axis is missing".into()))?;
        let axis = fold::axis_of(axis as i64, rank).map_err(Error::Shape)?;
        self.not_over_samples(&x, axis)?;
        let (exclusive, reverse) = (node.int("exclusive", 0) != 0, node.int("reverse", 0) != 0);
        if rank >= crate::ops::LABELS.len() {
            return refuse(format!("tensors of {rank} axes are not supported"));
        }
        let extent = x.rest[axis];
        let sums = triangle(extent, extent, |from, to| {
            let (from, to) = if reverse { (to, from) } else { (from, to) };
            from < to || from == to && !exclusive
        })?;
        let sums = self.constant(node, &sums)?;
        let labels = &crate::ops::LABELS[..rank + 1];
        let mut output = labels[..rank].to_vec();
        output[axis] = labels[rank];
        let product = Einsum {
            left: labels[..rank].to_vec(),
            right: vec![labels[axis], labels[rank]],
            output,
        };
        self.append(node, product, &[x.operand, sums.operand], x.sample)
    }
}

/// 1 where `inside(row, column)`, else 0.
pub(super) fn triangle(
    rows: usize,
    columns: usize,
    inside: impl Fn(usize, usize) -> bool,
) -> Result<Array> {
    if rows.saturating_mul(columns) > 1 << 26 {
        return refuse(format!("a triangle of {rows} × {columns} is larger than can be"));
    }
    let values = (0..rows).flat_map(|row| {
        let inside = &inside;
        (0..columns).map(move |column| f64::from(inside(row, column)))
    });
    Ok(Array::reals(&[rows, columns], values.collect(), true))
}
