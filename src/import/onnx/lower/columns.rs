//! Fixed linear maps with a node of their own: Col2Im and DFT.

use super::super::fold;
use super::super::graph::Node;
use super::conv::MOST_EXTENT;
use super::{Array, Lowering, Tensor, Value, refuse};
use crate::error::{Error, Result};
use crate::ops::{ConvTranspose, Einsum, LABELS, Reshape};
use crate::tensor::Window;
use std::f64::consts::TAU;

/// Entries of a constant matrix above which a file is taken for damaged.
const MOST_ENTRIES: usize = 1 << 26;

/// An attribute of `count` sizes up to [`MOST_EXTENT`], which are `default` where it is left out; `None` for any other list.
fn sizes(node: &Node, name: &str, count: usize, default: usize) -> Option<Vec<usize>> {
    let size = |&v: &i64| usize::try_from(v).ok().filter(|&v| v <= MOST_EXTENT);
    match node.ints(name) {
        None => Some(vec![default; count]),
        Some(given) if given.len() == count => given.iter().map(size).collect(),
        Some(_) => None,
    }
}

impl Lowering<'_> {
    /// Col2Im (PyTorch's `fold`): patches `[samples, channels · block, positions]` summed into the image that they
    /// were cut from, a transposed convolution whose weights pick one place of the block each.
    pub(super) fn columns_to_image(
        &mut self,
        node: &Node,
        inputs: &[Option<Value>],
    ) -> Result<Tensor> {
        let x = self.tensor(node, inputs, 0)?;
        let image = self.extents_of(inputs, 1)?;
        let block = self.extents_of(inputs, 2)?;
        let axes = image.len();
        let fault = || {
            Err(Error::Shape(format!(
                "an image of {image:?} of blocks {block:?} from {:?}",
                x.rest
            )))
        };
        if axes == 0 || block.len() != axes || x.rest.len() != 3 {
            return fault();
        }
        if axes > 3 {
            return refuse("images of one to three axes are supported");
        }
        self.not_over_samples(&x, 1)?;
        self.not_over_samples(&x, 2)?;
        let (Some(stride), Some(dilation), Some(pads)) = (
            sizes(node, "strides", axes, 1),
            sizes(node, "dilations", axes, 1),
            sizes(node, "pads", 2 * axes, 0),
        ) else {
            return fault();
        };
        if stride.contains(&0) || dilation.contains(&0) {
            return fault();
        }
        let mut output = Vec::with_capacity(axes);
        for k in 0..axes {
            let span = (block[k] - 1).saturating_mul(dilation[k]) + 1;
            match (image[k] + pads[k] + pads[axes + k]).checked_sub(span) {
                Some(room) => output.push(room / stride[k] + 1),
                None => return fault(),
            }
        }
        let product = |extents: &[usize]| extents.iter().try_fold(1usize, |a, &e| a.checked_mul(e));
        let (Some(places), Some(positions)) = (product(&block), product(&output)) else {
            return fault();
        };
        let columns = x.rest[1];
        if positions != x.rest[2] || columns % places != 0 {
            return fault();
        }
        if columns.saturating_mul(places) > MOST_ENTRIES {
            return refuse(format!("blocks of {block:?} are larger than can be"));
        }
        let channels = columns / places;
        let rest = [&[x.rest[0], columns], &output[..]].concat();
        let patches = self.append(node, Reshape { rest }, &[x.operand], x.sample)?;
        // Column c·places + k goes to place k of the block of channel c.
        let mut picks = vec![0.0; columns * places];
        for column in 0..columns {
            picks[column * places + column % places] = 1.0;
        }
        let shape = [&[columns, 1], &block[..]].concat();
        let picks = self.constant(node, &Array::reals(&shape, picks, true))?;
        let op = ConvTranspose {
            window: Window {
                input: image,
                output,
                kernel: block,
                stride,
                dilation,
                padding: pads[..axes].to_vec(),
            },
            groups: channels,
        };
        self.append(node, op, &[patches.operand, picks.operand], x.sample)
    }

    /// Operand `k` as a list of extents from 1 to [`MOST_EXTENT`].
    fn extents_of(&self, inputs: &[Option<Value>], k: usize) -> Result<Vec<usize>> {
        let given = self.host(inputs, k)?;
        let given = given.ok_or_else(|| Error::Shape(format!("its input {k} is missing")))?;
        let extent = |&v: &i64| {
            usize::try_from(v)
                .ok()
                .filter(|e| (1..=MOST_EXTENT).contains(e))
        };
        let list = fold::ints(&given).map_err(Error::Shape)?;
        let extents: Option<Vec<usize>> = list.iter().map(extent).collect();
        extents.ok_or_else(|| Error::Shape(format!("its input {k} is {list:?}")))
    }

    /// DFT: y_k = Σ_n x_n e^(−2πi·nk/N), with a last axis of real and imaginary parts, as a product with a constant;
    /// with + and the factor 1/N where it is `inverse`.
    pub(super) fn fourier(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Tensor> {
        let x = self.tensor(node, inputs, 0)?;
        let rank = x.rest.len();
        let axis = if self.graph.opset < 20 {
            node.int("axis", 1)
        } else {
            self.host(inputs, 2)?
                .and_then(|a| a.scalar())
                .unwrap_or(-2.0) as i64
        };
        let axis = fold::axis_of(axis, rank).map_err(Error::Shape)?;
        if rank < 2 || axis == rank - 1 || !matches!(x.rest[rank - 1], 1 | 2) {
            return Err(Error::Shape(format!(
                "numbers along axis {axis} of {:?}, whose last axis should hold real and imaginary parts",
                x.rest
            )));
        }
        if rank + 2 > LABELS.len() {
            return refuse(format!("tensors of {rank} axes are not supported"));
        }
        self.not_over_samples(&x, axis)?;
        self.not_over_samples(&x, rank - 1)?;
        let (inverse, half) = (node.int("inverse", 0) != 0, node.int("onesided", 0) != 0);
        if inverse && half {
            return refuse(
                "the inverse of one side alone is not supported; use torch.fft.ifft of both sides",
            );
        }
        let (given, parts) = (x.rest[axis], x.rest[rank - 1]);
        let length = match self.host(inputs, 1)?.and_then(|l| l.scalar()) {
            Some(length) if (1.0..=MOST_EXTENT as f64).contains(&length) => length as usize,
            Some(length) => return Err(Error::Shape(format!("its length is {length}"))),
            None => given,
        };
        let kept = if half { length / 2 + 1 } else { length };
        let entries = given.saturating_mul(kept).saturating_mul(2 * parts);
        if entries > MOST_ENTRIES {
            return refuse(format!(
                "a transform of {length} numbers is larger than can be"
            ));
        }
        // [n, parts of x, k, parts of y]; what lies beyond the length is left out.
        let scale = if inverse { 1.0 / length as f64 } else { 1.0 };
        let mut matrix = vec![0.0; entries];
        for n in 0..given.min(length) {
            for k in 0..kept {
                let turn = TAU * ((n * k) % length) as f64 / length as f64;
                let (sine, cosine) = if inverse { turn } else { -turn }.sin_cos();
                let at = |part: usize| ((n * parts + part) * kept + k) * 2;
                matrix[at(0)] = scale * cosine;
                matrix[at(0) + 1] = scale * sine;
                if parts == 2 {
                    matrix[at(1)] = -scale * sine;
                    matrix[at(1) + 1] = scale * cosine;
                }
            }
        }
        let matrix = Array::reals(&[given, parts, kept, 2], matrix, true);
        let matrix = self.constant(node, &matrix)?;
        let labels = &LABELS[..rank + 2];
        let mut output = labels[..rank].to_vec();
        output[axis] = labels[rank];
        output[rank - 1] = labels[rank + 1];
        let product = Einsum {
            left: labels[..rank].to_vec(),
            right: vec![
                labels[axis],
                labels[rank - 1],
                labels[rank],
                labels[rank + 1],
            ],
            output,
        };
        self.append(node, product, &[x.operand, matrix.operand], x.sample)
    }
}
