//! Pad in all its modes, and repetition: entries of an axis by number, those that are new being 0.

use super::super::fold;
use super::super::graph::Node;
use super::super::samples::Sample;
use super::conv::MOST_EXTENT;
use super::layout::fits;
use super::{Array, Lowering, Tensor, Value, finite, refuse};
use crate::error::{Error, Result};
use crate::tensor::Expr;

/// The entry that stands at position `at` of an axis of `extent`, which lies outside where it is padded.
fn source(mode: &str, at: i64, extent: i64) -> Option<usize> {
    let inside = match mode {
        "edge" => at.clamp(0, extent - 1),
        "wrap" => at.rem_euclid(extent),
        // There and back again, the ends once.
        "reflect" => {
            let period = (2 * (extent - 1)).max(1);
            let at = at.rem_euclid(period);
            at.min(period - at)
        }
        _ => return usize::try_from(at).ok().filter(|_| at < extent),
    };
    usize::try_from(inside).ok()
}

impl Lowering<'_> {
    /// Pad: an axis after the other, what is cut off first.
    pub(super) fn pad(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Tensor> {
        let mut x = self.tensor(node, inputs, 0)?;
        let mode = node.text("mode").unwrap_or_else(|| "constant".into());
        if !["constant", "reflect", "edge", "wrap"].contains(&mode.as_str()) {
            return refuse(format!(
                "its mode is {mode:?}; constant, reflect, edge and wrap are supported"
            ));
        }
        let value = match self.host(inputs, 2)? {
            Some(value) => value.scalar(),
            None => Some(node.float("value", 0.0)),
        };
        let value = value.map(finite).filter(|v| !v.is_nan());
        let Some(value) = value else {
            return refuse("the value it pads with should be one number");
        };
        for (axis, before, after) in self.pads(node, inputs, x.rest.len())? {
            if (before, after) == (0, 0) {
                continue;
            }
            self.not_over_samples(&x, axis)?;
            let cut = |amount: i64| amount.min(0).unsigned_abs() as usize;
            let kept: Vec<_> = (cut(before)..x.rest[axis].saturating_sub(cut(after)))
                .map(Some)
                .collect();
            x = self.entries(node, &x, axis, kept)?;
            let extent = x.rest[axis] as i64;
            let indices: Vec<_> = (-before.max(0)..extent + after.max(0))
                .map(|at| source(&mode, at, extent))
                .collect();
            let new: Vec<f64> = indices
                .iter()
                .map(|i| if i.is_none() { value } else { 0.0 })
                .collect();
            x = self.entries(node, &x, axis, indices)?;
            if mode == "constant" && value != 0.0 && new.contains(&value) {
                let mut shape = vec![1; x.rest.len() - axis];
                shape[0] = new.len();
                let new = self.constant(node, &Array::reals(&shape, new, true))?;
                let sample = x.sample;
                x = self.elementwise(node, Expr::input(0) + Expr::input(1), &[x, new], sample)?;
            }
        }
        Ok(x)
    }

    /// The axes that are padded, with what comes before and after; less than nothing cuts off.
    fn pads(
        &self,
        node: &Node,
        inputs: &[Option<Value>],
        rank: usize,
    ) -> Result<Vec<(usize, i64, i64)>> {
        let pads = match self.host(inputs, 1)? {
            Some(pads) => fits(fold::ints(&pads))?.to_vec(),
            None => node.ints("pads").unwrap_or_default().to_vec(),
        };
        let axes: Vec<usize> = match self.host(inputs, 3)? {
            Some(axes) => {
                let axes = fits(fold::ints(&axes))?.to_vec();
                let axes = axes.iter().map(|&a| fold::axis_of(a, rank));
                fits(axes.collect::<Result<_, String>>())?
            }
            None => (0..rank).collect(),
        };
        let (n, most) = (axes.len(), MOST_EXTENT as u64);
        if pads.len() != 2 * n || pads.iter().any(|p| p.unsigned_abs() > most) {
            return Err(Error::Shape(format!("pads {pads:?} of the axes {axes:?}")));
        }
        let amounts = |(k, axis)| (axis, pads[k], pads[n + k]);
        Ok(axes.into_iter().enumerate().map(amounts).collect())
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
            // A parameter repeated for every sample: as in Expand.
            let per_sample = usize::try_from(times) == Ok(batch) && x.rest[axis] == 1;
            if batch > 1 && x.sample.is_none() && per_sample && (one == 1 || !self.batch.open) {
                x.sample = Some(Sample::alone(axis));
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
