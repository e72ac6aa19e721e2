//! Conv and ConvTranspose, with every form of padding.

use super::super::graph::Node;
use super::{Lowering, Tensor, Value, refuse};
use crate::error::{Error, Result};
use crate::ops::{Conv, ConvTranspose};
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

/// What a window does along each axis: attributes of convolutions and pools.
struct Steps {
    stride: Vec<usize>,
    dilation: Vec<usize>,
    /// How far a window reaches: (kernel − 1)·dilation + 1.
    span: Vec<usize>,
}

fn cannot_be<T>(what: &str, input: &[usize]) -> Result<T> {
    Err(Error::Shape(format!(
        "its {what} cannot be, for an input of {input:?}"
    )))
}

/// An attribute of as many sizes, each at most [`MOST_EXTENT`].
fn sizes(
    node: &Node,
    name: &str,
    input: &[usize],
    count: usize,
    default: usize,
) -> Result<Vec<usize>> {
    let size = |&v: &i64| usize::try_from(v).ok().filter(|&v| v <= MOST_EXTENT);
    let given = match node.ints(name) {
        None => Some(vec![default; count]),
        Some(values) if values.len() == count => values.iter().map(size).collect(),
        Some(_) => None,
    };
    given.map_or_else(|| cannot_be(name, input), Ok)
}

/// The steps of a window of extent `kernel` over the axes `input`.
fn steps(node: &Node, input: &[usize], kernel: &[usize]) -> Result<Steps> {
    let n = input.len();
    let stride = sizes(node, "strides", input, n, 1)?;
    let dilation = sizes(node, "dilations", input, n, 1)?;
    if kernel.len() != n || kernel.iter().any(|&k| k == 0 || k > MOST_EXTENT) {
        return cannot_be("kernel", input);
    }
    if stride.contains(&0) || dilation.contains(&0) {
        return cannot_be("strides or dilations", input);
    }
    let reach = |(&k, &d): (&usize, &usize)| (k - 1).checked_mul(d).map(|s| s + 1);
    let span: Option<Vec<usize>> = kernel
        .iter()
        .zip(&dilation)
        .map(|each| reach(each).filter(|&s| s <= MOST_EXTENT))
        .collect();
    let span = span.map_or_else(|| cannot_be("kernel and dilations", input), Ok)?;
    Ok(Steps {
        stride,
        dilation,
        span,
    })
}

fn automatic(node: &Node) -> String {
    node.text("auto_pad")
        .filter(|a| !a.is_empty())
        .unwrap_or_else(|| "NOTSET".into())
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
    let Steps {
        stride,
        dilation,
        span,
    } = steps(node, input, kernel)?;
    let automatic = automatic(node);
    let (mut before, mut after) = (vec![0; n], vec![0; n]);
    match automatic.as_str() {
        "SAME_UPPER" | "SAME_LOWER" => {
            for k in 0..n {
                let output = input[k].div_ceil(stride[k]);
                let total = ((output - 1) * stride[k] + span[k]).saturating_sub(input[k]);
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
        "NOTSET" => {
            let pads = sizes(node, "pads", input, 2 * n, 0)?;
            before.copy_from_slice(&pads[..n]);
            after.copy_from_slice(&pads[n..]);
        }
        other => return cannot_be(&format!("auto_pad {other:?}"), input),
    }
    let mut output = Vec::with_capacity(n);
    for k in 0..n {
        let whole = input[k] + before[k] + after[k];
        let mut extent = match whole.checked_sub(span[k]) {
            Some(room) if ceil => room.div_ceil(stride[k]) + 1,
            Some(room) => room / stride[k] + 1,
            // A window of ceil mode may reach past the end from the first position on.
            None if ceil && span[k] - whole < stride[k] => 1,
            None => return cannot_be("window", input),
        };
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

/// The convolution that a transposed one over the axes `input` transposes: its output is `input`.
///
/// A result has (input − 1)·stride + span + output_padding − pads; where the file gives its extent
/// (`output_shape`, or input·stride of `auto_pad`), the pads follow.
///
/// # Errors
/// As [`spatial`].
fn transposed(node: &Node, input: &[usize], kernel: &[usize]) -> Result<Window> {
    let n = input.len();
    let Steps {
        stride,
        dilation,
        span,
    } = steps(node, input, kernel)?;
    let extra = sizes(node, "output_padding", input, n, 0)?;
    let automatic = automatic(node);
    let wanted = match (node.ints("output_shape"), automatic.as_str()) {
        (Some(_), "NOTSET" | "VALID" | "SAME_UPPER" | "SAME_LOWER") => {
            Some(sizes(node, "output_shape", input, n, 0)?)
        }
        (None, "NOTSET" | "VALID") => None,
        (None, "SAME_UPPER" | "SAME_LOWER") => Some((0..n).map(|k| input[k] * stride[k]).collect()),
        (_, other) => return cannot_be(&format!("auto_pad {other:?}"), input),
    };
    let pads = match automatic.as_str() {
        "NOTSET" => sizes(node, "pads", input, 2 * n, 0)?,
        _ => vec![0; 2 * n],
    };
    let (mut output, mut before) = (Vec::with_capacity(n), pads[..n].to_vec());
    for k in 0..n {
        let whole = (input[k] - 1) * stride[k] + span[k] + extra[k];
        let extent = match &wanted {
            // Of a result that no window reaches the end of, runtimes differ in where its zeros go.
            Some(wanted) if wanted[k] > whole => None,
            Some(wanted) => {
                let total = whole - wanted[k];
                // The odd entry is cut off at the end (upper) or at the start.
                before[k] = if automatic == "SAME_UPPER" {
                    total / 2
                } else {
                    total.div_ceil(2)
                };
                Some(wanted[k])
            }
            None => whole.checked_sub(pads[k] + pads[n + k]),
        };
        match extent.filter(|&e| e > 0 && e <= MOST_EXTENT) {
            Some(extent) => output.push(extent),
            None => return cannot_be("result's extent", input),
        }
    }
    Ok(Window {
        input: output,
        output: input.to_vec(),
        kernel: kernel.to_vec(),
        stride,
        dilation,
        padding: before,
    })
}

impl Lowering<'_> {
    /// Conv.
    pub(super) fn conv(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Tensor> {
        let (x, w, groups) = self.convolved(node, inputs)?;
        if w.rest[1].checked_mul(groups) != Some(x.rest[1]) {
            return Err(Error::Shape(format!(
                "a weight {:?} with {groups} groups on inputs {:?}",
                w.rest, x.rest
            )));
        }
        let window = spatial(node, &x.rest[2..], &w.rest[2..], false)?.window;
        let op = Conv { window, groups };
        let z = self.append(node, op, &[x.operand, w.operand], x.sample)?;
        self.channel_bias(node, z, inputs)
    }

    /// ConvTranspose.
    pub(super) fn conv_transpose(
        &mut self,
        node: &Node,
        inputs: &[Option<Value>],
    ) -> Result<Tensor> {
        let (x, w, groups) = self.convolved(node, inputs)?;
        let channels = w.rest[1].checked_mul(groups);
        if w.rest[0] != x.rest[1] || channels.is_none_or(|c| c > MOST_EXTENT) {
            return Err(Error::Shape(format!(
                "a weight {:?} with {groups} groups on inputs {:?}",
                w.rest, x.rest
            )));
        }
        let window = transposed(node, &x.rest[2..], &w.rest[2..])?;
        let op = ConvTranspose { window, groups };
        let z = self.append(node, op, &[x.operand, w.operand], x.sample)?;
        self.channel_bias(node, z, inputs)
    }

    /// The operands of a convolution and its number of groups.
    fn convolved(
        &mut self,
        node: &Node,
        inputs: &[Option<Value>],
    ) -> Result<(Tensor, Tensor, usize)> {
        let x = self.tensor(node, inputs, 0)?;
        let w = self.tensor(node, inputs, 1)?;
        if self.depends(&w) {
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
        self.weighs(x.samples_on(1));
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
        Ok((x, w, groups))
    }

    /// Adds the bias of input 2, where there is one, to `[B, O, …]`.
    fn channel_bias(&mut self, node: &Node, z: Tensor, inputs: &[Option<Value>]) -> Result<Tensor> {
        let Some(Some(bias)) = inputs.get(2) else {
            return Ok(z);
        };
        // One that an exporter wrote for want of a bias; onnxscript 0.7 gives it a wrong shape.
        if let Value::Host(arrays) = bias
            && arrays[1].to_f64().iter().all(|&b| b == 0.0)
        {
            return Ok(z);
        }
        // The bias [O] meets [B, O, …] as [O, 1, …].
        let mut shape = vec![z.rest[1]];
        shape.resize(z.rest.len() - 1, 1);
        let bias = match bias {
            Value::Host(arrays) if arrays[1].shape == shape[..1] => {
                Value::Host([arrays[0].reshaped(&shape), arrays[1].reshaped(&shape)])
            }
            Value::Tensor(b) if b.rest == shape[..1] && !self.depends(b) => {
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
