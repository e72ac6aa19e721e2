//! CumSum and Trilu: products with a constant triangle.

use super::super::fold;
use super::super::graph::Node;
use super::super::tensor::Data;
use super::{Array, Lowering, Tensor, Value, refuse};
use crate::error::{Error, Result};
use crate::ops::Einsum;
use crate::tensor::Expr;
use std::sync::Arc;

/// Entries of a triangle above which a file is taken for damaged.
const MOST_ENTRIES: usize = 1 << 26;

impl Lowering<'_> {
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
                let inside = if upper {
                    above >= offset
                } else {
                    above <= offset
                };
                f32::from(inside)
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
            f32::from(from < to || from == to && !exclusive)
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

/// The matrix of `entry(row, column)`.
pub(super) fn triangle(
    rows: usize,
    columns: usize,
    entry: impl Fn(usize, usize) -> f32,
) -> Result<Array> {
    if rows.saturating_mul(columns) > MOST_ENTRIES {
        return refuse(format!(
            "a triangle of {rows} × {columns} is larger than can be"
        ));
    }
    let mut values = Vec::with_capacity(rows * columns);
    for row in 0..rows {
        values.extend((0..columns).map(|column| entry(row, column)));
    }
    Ok(Array {
        shape: vec![rows, columns],
        data: Data::F32(Arc::new(values)),
    })
}
