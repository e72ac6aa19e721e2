//! Convolutions as products: with the padding written out, x is read at t·stride + k·dilation, which is
//! linear in t and k, so the product kernel's strides express all three without forming patches. Those of few
//! channels per group are summed directly.

use super::Gpu;
use super::axis::{Axis, broadcast, stride};
use super::product::Product;
use super::tensor::{GpuTensor, View};
use crate::tensor::placement::{CopyLayout, is_direct};
use crate::tensor::{Shape, Window, strides};

/// Sizes of a convolution, as strides: tensors are `[s, d, B, C, in…]`, `[s, d, O, C/g, k…]`,
/// `[s, d, B, O, out…]`.
struct Sizes {
    window: Window,
    groups: usize,
    /// C/g and O/g.
    inputs_per_group: usize,
    outputs_per_group: usize,
    /// Elements of one filter tap set, of one input and one output channel, of one copied channel.
    taps: i64,
    input: i64,
    output: i64,
    reach: i64,
}

impl Sizes {
    fn new(
        window: &Window,
        groups: usize,
        channels: usize,
        outputs: usize,
        placement: &CopyLayout,
    ) -> Sizes {
        let window = window.three_dimensional();
        let product = |extents: &[usize]| extents.iter().product::<usize>() as i64;
        Sizes {
            groups,
            inputs_per_group: channels / groups,
            outputs_per_group: outputs / groups,
            taps: product(&window.kernel),
            input: product(&window.input),
            output: product(&window.output),
            reach: product(&placement.extents),
            window,
        }
    }

    /// Channels of a group, as strides are computed from: C/g and O/g.
    fn per_group(&self) -> (i64, i64) {
        (self.inputs_per_group as i64, self.outputs_per_group as i64)
    }
}

fn spatial(extents: &[usize]) -> Vec<i64> {
    strides(extents).iter().map(|&s| s as i64).collect()
}

/// Strides of samples and directions of a tensor whose rest has `rest` elements; 0 where it repeats.
pub(super) fn leading(shape: &Shape, directions: usize, rest: usize) -> [i64; 2] {
    [
        stride(shape.samples, directions * rest) as i64,
        stride(shape.directions, rest) as i64,
    ]
}

impl Gpu {
    /// Writes samples and directions from `first` on, `count` in all, into their place in `output`, which
    /// is zero elsewhere.
    fn place(
        &self,
        tensor: (View<'_>, &Shape),
        placement: &CopyLayout,
        (first, count): (usize, usize),
        output: View<'_>,
    ) -> bool {
        let (view, shape) = tensor;
        let (own, into) = (strides(&placement.from), strides(&placement.extents));
        let channels = shape.rest[0] * shape.rest[1];
        let len: [usize; 2] = [placement.from, placement.extents].map(|e| e.iter().product());
        let mut axes = vec![Axis::new(count * channels, len.map(|len| len as i64))];
        let mut offset = 0;
        for k in 0..3 {
            let (start, step) = (placement.start[k], placement.step[k]);
            let room = placement.extents[k].saturating_sub(start);
            let fitting = room.div_ceil(step).min(placement.from[k]);
            axes.push(Axis::new(fitting, [own[k] as i64, (into[k] * step) as i64]));
            offset += start * into[k];
        }
        let input = View {
            offset: view.offset + first * channels * len[0],
            ..view
        };
        self.copy_strided(input, &axes, View { offset, ..output })
    }

    /// A new tensor from products of `read` with `placed` put into its place; where the result has fewer
    /// samples than they have, the samples are summed.
    ///
    /// `describe` adds the axes behind samples and directions, with strides in `read`, in the copy and in
    /// the result. The copy is made of a portion of the samples and directions at a time.
    fn convolve(
        &self,
        shape: Shape,
        read: &GpuTensor,
        placed: &GpuTensor,
        placement: &CopyLayout,
        describe: impl Fn(&mut Product<'_>),
    ) -> GpuTensor {
        let own = &placed.shape;
        let rest = placement.numbers(own);
        let portion = placement.portion(own);
        let samples = broadcast(read.shape.samples, own.samples);
        let summed = shape.samples < samples;
        let r = leading(&read.shape, read.shape.directions, read.shape.rest_len());
        let z = leading(&shape, shape.directions, shape.rest_len());
        let len = shape.len();
        self.create(shape.clone(), &[read, placed], |output, views| {
            let copied = placement.copied(own);
            let alone = portion[0] >= own.samples && portion[1] >= own.directions;
            let block = match copied {
                0 => None,
                len => match self.device.allocate(len) {
                    // Cleared once: every portion leaves the same places zero.
                    Some(block) => {
                        self.device.clear(block.buffer());
                        Some(block)
                    }
                    None => return false,
                },
            };
            for s in (0..own.samples).step_by(portion[0]) {
                for d in (0..own.directions).step_by(portion[1]) {
                    let samples_here = portion[0].min(own.samples - s);
                    let directions_here = portion[1].min(own.directions - d);
                    let copy = match &block {
                        None => views[1],
                        Some(block) => {
                            let copy = View {
                                buffer: block.buffer(),
                                offset: 0,
                            };
                            let range = (s * own.directions + d, samples_here * directions_here);
                            if !self.place((views[1], own), placement, range, copy) {
                                return false;
                            }
                            copy
                        }
                    };
                    let at = |view: View<'_>, strides: [i64; 2]| {
                        view.offset + s * strides[0] as usize + d * strides[1] as usize
                    };
                    let left = View {
                        offset: at(views[0], r),
                        ..views[0]
                    };
                    let into = View {
                        offset: at(output, z),
                        ..output
                    };
                    let x = leading(own, directions_here, rest);
                    // A single sample or direction serves all of the other operand's.
                    let of = |own: usize, here: usize, all| if own == 1 { all } else { here };
                    let samples = of(own.samples, samples_here, samples);
                    let directions = of(own.directions, directions_here, shape.directions);
                    let mut product = Product::new(left, copy, into);
                    product.accumulate = summed && s > 0;
                    product.whole = alone.then_some(len);
                    match summed {
                        true => product.summed(samples, [r[0], x[0], 0]),
                        false => product.axis(samples, r[0], x[0], z[0]),
                    }
                    product.axis(directions, r[1], x[1], z[1]);
                    describe(&mut product);
                    if !self.product(&product) {
                        return false;
                    }
                }
            }
            true
        })
    }

    pub(super) fn conv_forward(
        &self,
        inputs: &GpuTensor,
        weights: &GpuTensor,
        window: &Window,
        groups: usize,
    ) -> GpuTensor {
        let (batch, channels) = (inputs.shape.rest[0], inputs.shape.rest[1]);
        let outputs = weights.shape.rest[0];
        let mut rest = vec![batch, outputs];
        rest.extend_from_slice(&window.output);
        let shape = Shape::new(
            broadcast(inputs.shape.samples, weights.shape.samples),
            broadcast(inputs.shape.directions, weights.shape.directions),
            &rest,
        );
        if is_direct(window, groups, &weights.shape.rest) {
            return self.grouped_forward(shape, inputs, weights, window, groups);
        }
        let placement = CopyLayout::of_inputs(window);
        let sizes = Sizes::new(window, groups, channels, outputs, &placement);
        let (cg, og) = sizes.per_group();
        let (taps, out, reach) = (sizes.taps, sizes.output, sizes.reach);
        let (xs, ws, zs) = (
            spatial(&placement.extents),
            spatial(&sizes.window.kernel),
            spatial(&sizes.window.output),
        );
        self.convolve(shape, weights, inputs, &placement, |product| {
            product.axis(batch, 0, channels as i64 * reach, outputs as i64 * out);
            product.axis(sizes.groups, og * cg * taps, cg * reach, og * out);
            product.axis(sizes.outputs_per_group, cg * taps, 0, out);
            for k in 0..3 {
                let step = sizes.window.stride[k] as i64;
                product.axis(sizes.window.output[k], 0, step * xs[k], zs[k]);
            }
            product.summed(sizes.inputs_per_group, [taps, reach, 0]);
            for k in 0..3 {
                let step = sizes.window.dilation[k] as i64;
                product.summed(sizes.window.kernel[k], [ws[k], step * xs[k], 0]);
            }
        })
    }

    pub(super) fn conv_transpose_inputs(
        &self,
        cotangents: &GpuTensor,
        weights: &GpuTensor,
        window: &Window,
        groups: usize,
    ) -> GpuTensor {
        let (batch, outputs) = (cotangents.shape.rest[0], weights.shape.rest[0]);
        let channels = weights.shape.rest[1] * groups;
        let mut rest = vec![batch, channels];
        rest.extend_from_slice(&window.input);
        let shape = Shape::new(
            broadcast(cotangents.shape.samples, weights.shape.samples),
            broadcast(cotangents.shape.directions, weights.shape.directions),
            &rest,
        );
        if is_direct(window, groups, &weights.shape.rest) {
            return self.grouped_inputs(shape, cotangents, weights, window, groups);
        }
        let placement = CopyLayout::of_cotangents(window);
        let sizes = Sizes::new(window, groups, channels, outputs, &placement);
        let (cg, og) = sizes.per_group();
        let (taps, input, reach) = (sizes.taps, sizes.input, sizes.reach);
        let (cs, ws, zs) = (
            spatial(&placement.extents),
            spatial(&sizes.window.kernel),
            spatial(&sizes.window.input),
        );
        let origin: usize = (0..3)
            .map(|k| (sizes.window.padding[k] + placement.start[k]) * cs[k] as usize)
            .sum();
        self.convolve(shape, weights, cotangents, &placement, |product| {
            product.right.offset += origin;
            product.axis(batch, 0, outputs as i64 * reach, channels as i64 * input);
            product.axis(sizes.groups, og * cg * taps, og * reach, cg * input);
            product.axis(sizes.inputs_per_group, taps, 0, input);
            for k in 0..3 {
                product.axis(sizes.window.input[k], 0, cs[k], zs[k]);
            }
            product.summed(sizes.outputs_per_group, [cg * taps, reach, 0]);
            for k in 0..3 {
                let step = sizes.window.dilation[k] as i64;
                product.summed(sizes.window.kernel[k], [ws[k], -step * cs[k], 0]);
            }
        })
    }

    pub(super) fn conv_transpose_weights(
        &self,
        cotangents: &GpuTensor,
        inputs: &GpuTensor,
        window: &Window,
        groups: usize,
        sum_samples: bool,
    ) -> GpuTensor {
        let (batch, channels) = (inputs.shape.rest[0], inputs.shape.rest[1]);
        let outputs = cotangents.shape.rest[1];
        let mut rest = vec![outputs, channels / groups];
        rest.extend_from_slice(&window.kernel);
        let samples = broadcast(inputs.shape.samples, cotangents.shape.samples);
        let shape = Shape::new(
            if sum_samples { 1 } else { samples },
            broadcast(inputs.shape.directions, cotangents.shape.directions),
            &rest,
        );
        if is_direct(window, groups, &shape.rest) {
            return self.grouped_weights(shape, inputs, cotangents, window, groups);
        }
        let placement = CopyLayout::of_inputs(window);
        let sizes = Sizes::new(window, groups, channels, outputs, &placement);
        let (cg, og) = sizes.per_group();
        let (taps, out, reach) = (sizes.taps, sizes.output, sizes.reach);
        let (xs, cs, zs) = (
            spatial(&placement.extents),
            spatial(&sizes.window.output),
            spatial(&sizes.window.kernel),
        );
        self.convolve(shape, cotangents, inputs, &placement, |product| {
            product.summed(batch, [outputs as i64 * out, channels as i64 * reach, 0]);
            product.axis(sizes.groups, og * out, cg * reach, og * cg * taps);
            product.axis(sizes.outputs_per_group, out, 0, cg * taps);
            product.axis(sizes.inputs_per_group, 0, reach, taps);
            for k in 0..3 {
                let step = sizes.window.dilation[k] as i64;
                product.axis(sizes.window.kernel[k], 0, step * xs[k], zs[k]);
            }
            for k in 0..3 {
                let step = sizes.window.stride[k] as i64;
                product.summed(sizes.window.output[k], [cs[k], step * xs[k], 0]);
            }
        })
    }
}
