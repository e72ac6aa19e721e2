//! DepthToSpace and SpaceToDepth: blocks of positions into channels and back.

use super::super::graph::Node;
use super::{Lowering, Tensor, Value, refuse};
use crate::error::{Error, Result};
use crate::ops::Reshape;

impl Lowering<'_> {
    /// Both: an axis is split, or two are, the blocks' axes move, and are merged.
    pub(super) fn blocks(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Tensor> {
        let x = self.tensor(node, inputs, 0)?;
        let &[n, c, h, w] = &x.rest[..] else {
            return Err(Error::Shape(format!(
                "blocks of {:?}: four axes are meant",
                x.rest
            )));
        };
        for axis in 1..4 {
            self.not_over_samples(&x, axis)?;
        }
        let b = usize::try_from(node.int("blocksize", 0)).unwrap_or(0);
        let to_space = node.op_type() == "DepthToSpace";
        let fits = match b.checked_mul(b).filter(|&area| area > 0) {
            Some(area) if to_space => c.is_multiple_of(area),
            Some(_) => h.is_multiple_of(b) && w.is_multiple_of(b),
            None => false,
        };
        if !fits {
            return Err(Error::Shape(format!(
                "blocks of {b} by {b} in {:?}",
                x.rest
            )));
        }
        let mode = node.text("mode").unwrap_or_else(|| "DCR".into());
        let (split, order, merged) = match (to_space, mode.as_str()) {
            // Depth, column, row: the block's position varies slower than the channel.
            (true, "DCR") => (
                [n, b, b, c / b / b, h, w],
                [0, 3, 4, 1, 5, 2],
                [n, c / b / b, h * b, w * b],
            ),
            // Column, row, depth: faster, as in PyTorch's PixelShuffle.
            (true, "CRD") => (
                [n, c / b / b, b, b, h, w],
                [0, 1, 4, 2, 5, 3],
                [n, c / b / b, h * b, w * b],
            ),
            (true, other) => {
                return refuse(format!("its mode is {other:?}; DCR and CRD are supported"));
            }
            (false, _) => (
                [n, c, h / b, b, w / b, b],
                [0, 3, 5, 1, 2, 4],
                [n, c * b * b, h / b, w / b],
            ),
        };
        let reshape = |rest: &[usize]| Reshape {
            rest: rest.to_vec(),
        };
        let split = self.append(node, reshape(&split), &[x.operand], x.sample)?;
        let moved = self.permute(node, &split, &order)?;
        self.append(node, reshape(&merged), &[moved.operand], x.sample)
    }
}
