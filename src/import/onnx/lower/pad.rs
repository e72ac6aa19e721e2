//! Pad in all its modes, and repetition: entries of an axis by number, those that are new being 0.

use super::super::fold;
use super::super::graph::Node;
use super::super::samples::Sample;
use super::conv::MOST_EXTENT;
use super::layout::fits;
use super::{Array, Lowering, Tensor, Value, refuse};
use crate::error::{Error, Result};
use crate::tensor::Expr;

impl Lowering<'_> {
    /// Pad: an axis after the other.
    pub(super) fn pad(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Tensor> {
        let mut x = self.tensor(node, inputs, 0)?;
        let mode = node.text("mode").unwrap_or_else(|| "constant".into());
        if !fold::PAD_MODES.contains(&mode.as_str()) {
            return refuse(format!(
                "its mode is {mode:?}; constant, reflect, edge and wrap are supported"
            ));
        }
        let value = match self.host(inputs, 2)? {
            Some(value) => value.scalar(),
            None => Some(node.float("value", 0.0)),
        };
        let value = value.filter(|v| !v.is_nan());
        let Some(value) = value else {
            return refuse("the value it pads with should be one number");
        };
        let (pads, axes) = (self.host(inputs, 1)?, self.host(inputs, 3)?);
        for (axis, indices) in fits(fold::padded(node, &x.rest, pads.as_ref(), axes.as_ref()))? {
            let new: Vec<f64> = indices
                .iter()
                .map(|i| if i.is_none() { value } else { 0.0 })
                .collect();
            x = self.entries(node, &x, axis, indices)?;
            if value != 0.0 && new.contains(&value) {
                let mut shape = vec![1; x.rest.len() - axis];
                shape[0] = new.len();
                let new = self.constant(node, &Array::reals(&shape, new, true))?;
                let sample = x.sample;
                x = self.elementwise(node, Expr::input(0) + Expr::input(1), &[x, new], sample)?;
            }
        }
        Ok(x)
    }

    /// Tile: all entries of an axis several times over.
    pub(super) fn tile(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Tensor> {
        let mut x = self.tensor(node, inputs, 0)?;
        let Some(Some(Value::Host(repeats))) = inputs.get(1) else {
            return refuse("its repeats depend on values of the data");
        };
        let [one, many] = [&repeats[0], &repeats[1]];
        let (one, many) = (fits(fold::ints(one))?, fits(fold::ints(many))?);
        if one.len() != x.rest.len() || many.len() != x.rest.len() {
            return Err(Error::Shape(format!("repeats {many:?} of {:?}", x.rest)));
        }
        let batch = self.batch.sizes[1];
        for (axis, (&one, &times)) in one.iter().zip(many).enumerate() {
            // A parameter repeated for every sample, as in Expand; a repetition of several entries is known for one
            // where the file leaves the batch open.
            let per_sample = batch > 1 && usize::try_from(times) == Ok(batch);
            let known = self.batch.open && one == 1 || !self.batch.open && x.rest[axis] == 1;
            if x.sample.is_none() && per_sample && known {
                x.sample = Some(Sample {
                    axis,
                    before: 1,
                    after: x.rest[axis],
                });
                continue;
            }
            if one != times {
                return refuse(format!(
                    "how often it repeats axis {axis} depends on the number of samples"
                ));
            }
            let times = usize::try_from(times).ok().filter(|&t| t > 0);
            let total = times.and_then(|t| t.checked_mul(x.rest[axis]));
            let Some(total) = total.filter(|&t| t <= MOST_EXTENT) else {
                return Err(Error::Shape(format!("repeats {many:?} of {:?}", x.rest)));
            };
            if total != x.rest[axis] {
                let extent = x.rest[axis];
                let indices = (0..total).map(|k| Some(k % extent)).collect();
                x = self.entries(node, &x, axis, indices)?;
            }
        }
        Ok(x)
    }
}
