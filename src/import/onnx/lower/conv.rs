//! Conv, with every form of padding.

use super::super::graph::Node;
use super::{Lowering, Tensor, Value, refuse};
use crate::error::{Error, Result};
use crate::ops::Conv;
use crate::tensor::{Expr, Window};

/// Strides, dilations, pads and windows above which a file is taken for damaged: no image is that large, sums
/// of them stay far from overflow, and the GPU counts them in 32 bits.
pub(super) const MOST_EXTENT: usize = 1 << 20;

/// How a window's extents and paddings are written.
pub(super) struct Spatial {
    pub window: Window,
    /// Zeros after the input per axis.
    pub padding_after: Vec<usize>,
}

/// The geometry of a convolution or pool over the axes `input`.
///
/// # Errors
/// [`Error::Shape`] where attributes do not fit each other or the input, or exceed [`MOST_EXTENT`].
pub(super) fn spatial(
    node: &Node,
    input: &[usize],
    kernel: &[usize],
    ceil: bool,
) -> Result<Spatial> {
    let n = input.len();
    let fault =
        |what: &str| Error::Shape(format!("its {what} cannot be, for an input of {input:?}"));
    let list = |name: &str, count: usize, default: usize| -> Result<Vec<usize>> {
        match node.ints(name) {
            None => Ok(vec![default; count]),
            Some(values) if values.len() == count => values
                .iter()
                .map(|&v| {
                    usize::try_from(v)
                        .ok()
                        .filter(|&v| v <= MOST_EXTENT)
                        .ok_or_else(|| fault(name))
                })
                .collect(),
            Some(_) => Err(fault(name)),
        }
    };
    let stride = list("strides", n, 1)?;
    let dilation = list("dilations", n, 1)?;
    if kernel.len() != n || kernel.iter().any(|&k| k == 0 || k > MOST_EXTENT) {
        return Err(fault("kernel"));
    }
    if stride.contains(&0) || dilation.contains(&0) {
        return Err(fault("strides or dilations"));
    }
    let span = |k: usize| -> Result<usize> {
        let span = (kernel[k] - 1).checked_mul(dilation[k]).map(|s| s + 1);
        span.filter(|&s| s <= MOST_EXTENT)
            .ok_or_else(|| fault("kernel and dilations"))
    };
    let automatic = node.text("auto_pad").unwrap_or_else(|| "NOTSET".into());
    let (mut before, mut after) = (vec![0; n], vec![0; n]);
    match automatic.as_str() {
        "SAME_UPPER" | "SAME_LOWER" => {
            for k in 0..n {
                let output = input[k].div_ceil(stride[k]);
                let total = ((output - 1) * stride[k] + span(k)?).saturating_sub(input[k]);
                // The odd zero goes to the end (upper) or to the start (lower).
                let small = total / 2;
                before[k] = if automatic == "SAME_UPPER" {
                    small
                } else {
                    total - small
                };
                after[k] = total - before[k];
            }
        }
        "VALID" => {}
        "NOTSET" | "" => {
            let pads = list("pads", 2 * n, 0)?;
            before.copy_from_slice(&pads[..n]);
            after.copy_from_slice(&pads[n..]);
        }
        other => return Err(fault(&format!("auto_pad {other:?}"))),
    }
    let mut output = Vec::with_capacity(n);
    for k in 0..n {
        let room = (input[k] + before[k] + after[k])
            .checked_sub(span(k)?)
            .ok_or_else(|| fault("window"))?;
        let mut extent = if ceil {
            room.div_ceil(stride[k])
        } else {
            room / stride[k]
        } + 1;
        // As in PyTorch, a window of ceil mode must start inside the input or the padding before it.
        if ceil && (extent - 1) * stride[k] >= input[k] + before[k] {
            extent -= 1;
        }
        output.push(extent);
    }
    Ok(Spatial {
        window: Window {
            input: input.to_vec(),
            output,
            kernel: kernel.to_vec(),
            stride,
            dilation,
            padding: before,
        },
        padding_after: after,
    })
}

impl Lowering<'_> {
    pub(super) fn conv(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Tensor> {
        let x = self.tensor(node, inputs, 0)?;
        let w = self.tensor(node, inputs, 1)?;
        if w.sample.is_some() {
            return refuse("its weight depends on the data");
        }
        let rank = x.rest.len();
        if rank < 3 || w.rest.len() != rank {
            return Err(Error::Shape(format!(
                "a weight {:?} on inputs {:?}",
                w.rest, x.rest
            )));
        }
        if rank > 5 {
            return refuse("convolutions over one to three axes are supported");
        }
        for axis in 1..rank {
            self.not_over_samples(&x, axis)?;
        }
        if node.ints("kernel_shape").is_some_and(|kernel| {
            kernel
                .iter()
                .map(|&k| k as usize)
                .ne(w.rest[2..].iter().copied())
        }) {
            return Err(Error::Shape(format!(
                "its kernel_shape is not that of its weight {:?}",
                w.rest
            )));
        }
        let groups = usize::try_from(node.int("group", 1))
            .ok()
            .filter(|&g| g > 0);
        let groups = groups.ok_or_else(|| Error::Shape("its group cannot be".into()))?;
        if w.rest[1].checked_mul(groups) != Some(x.rest[1]) {
            return Err(Error::Shape(format!(
                "a weight {:?} with {groups} groups on inputs {:?}",
                w.rest, x.rest
            )));
        }
        let window = spatial(node, &x.rest[2..], &w.rest[2..], false)?.window;
        let z = self.append(
            node,
            Conv { window, groups },
            &[x.operand, w.operand],
            x.sample,
        )?;
        let Some(Some(bias)) = inputs.get(2) else {
            return Ok(z);
        };
        // The bias [O] meets [B, O, …] as [O, 1, …].
        let mut shape = vec![z.rest[1]];
        shape.resize(rank - 1, 1);
        let bias = match bias {
            Value::Host(arrays) if arrays[1].shape == shape[..1] => {
                Value::Host([arrays[0].reshaped(&shape), arrays[1].reshaped(&shape)])
            }
            Value::Tensor(b) if b.rest == shape[..1] && b.sample.is_none() => {
                let rest = crate::ops::Reshape { rest: shape };
                Value::Tensor(self.append(node, rest, &[b.operand], None)?)
            }
            _ => {
                return Err(Error::Shape(format!(
                    "its bias does not have {} values",
                    z.rest[1]
                )));
            }
        };
        self.pointwise(
            node,
            Expr::input(0) + Expr::input(1),
            &[Value::Tensor(z), bias],
        )
    }
}
