//! Convolutions as products: with the padding written out, x is read at t·stride + k·dilation, which is
//! linear in t and k, so the product kernel's strides express all three without forming patches.

use super::Gpu;
use super::product::Product;
use super::tensor::{Axis, GpuTensor, View};
use crate::tensor::{Shape, Window, strides};

/// Sizes of a convolution. Tensors are `[s, d, B, C, in…]`, `[s, d, O, C/g, k…]`, `[s, d, B, O, out…]`.
struct Sizes {
    window: Window,
    batch: usize,
    inputs_per_group: usize,
    outputs_per_group: usize,
}

impl Sizes {
    fn kernel(&self) -> usize {
        self.window.kernel.iter().product()
    }
    fn output(&self) -> usize {
        self.window.output.iter().product()
    }
    fn input(&self) -> usize {
        self.window.input.iter().product()
    }
    fn spatial(&self, extents: &[usize]) -> Vec<i64> {
        strides(extents).iter().map(|&s| s as i64).collect()
    }
}

/// Strides of samples and directions of a tensor whose rest has `rest` elements; 0 where it repeats.
fn leading(shape: &Shape, rest: usize) -> [i64; 2] {
    let stride = |extent: usize, own: usize| if extent == 1 { 0 } else { own as i64 };
    [
        stride(shape.samples, shape.directions * rest),
        stride(shape.directions, rest),
    ]
}

fn broadcast(a: usize, b: usize) -> usize {
    if a == 1 { b } else { a }
}

/// A place for a tensor's last three axes within larger ones: element `t` goes to `start + t·step`, those
/// that fall outside are dropped, the rest is zero.
struct Placement {
    extents: [usize; 3],
    start: [i64; 3],
    step: [usize; 3],
}

impl Placement {
    /// What the windows read: the input behind its padding, as far as they reach.
    fn of_inputs(window: &Window) -> Placement {
        let reach = |k: usize| {
            (window.output[k] - 1) * window.stride[k]
                + (window.kernel[k] - 1) * window.dilation[k]
                + 1
        };
        Placement {
            extents: [0, 1, 2].map(reach),
            start: [0, 1, 2].map(|k| window.padding[k] as i64),
            step: [1; 3],
        }
    }

    /// Cotangents spread to the stride, before them room for the taps that reach back. Input position p
    /// and tap k meet at p + padding + lead − k·dilation.
    fn of_cotangents(window: &Window) -> Placement {
        let lead = |k: usize| {
            ((window.kernel[k] - 1) * window.dilation[k]).saturating_sub(window.padding[k])
        };
        Placement {
            extents: [0, 1, 2].map(|k| window.input[k] + window.padding[k] + lead(k)),
            start: [0, 1, 2].map(|k| lead(k) as i64),
            step: [0, 1, 2].map(|k| window.stride[k]),
        }
    }
}

impl Gpu {
    fn sizes(&self, window: &Window, groups: usize, inputs: &[usize], outputs: usize) -> Sizes {
        Sizes {
            window: window.three_dimensional(),
            batch: inputs[0],
            inputs_per_group: inputs[1] / groups,
            outputs_per_group: outputs / groups,
        }
    }

    /// Writes `tensor` into its place; the same tensor where it already is what is asked for.
    ///
    /// `from` is the extents of its last three axes. The result has the first four axes (s, d, B, C) and
    /// the placement's extents.
    fn place(&self, tensor: &GpuTensor, from: &[usize], placement: &Placement) -> GpuTensor {
        let mut rest = tensor.shape.rest[..2].to_vec();
        rest.extend_from_slice(&placement.extents);
        let shape = Shape::new(tensor.shape.samples, tensor.shape.directions, &rest);
        if placement.extents == from && placement.start == [0; 3] && placement.step == [1; 3] {
            return tensor.reshaped(shape);
        }
        let lead: usize = shape.samples * shape.directions * rest[0] * rest[1];
        let (own, into) = (strides(from), strides(&placement.extents));
        let (own_len, into_len): (usize, usize) =
            (from.iter().product(), placement.extents.iter().product());
        let mut axes = vec![Axis::new(lead, [own_len as i64, into_len as i64])];
        let (mut first, mut offset) = (0, 0);
        for k in 0..3 {
            let (start, step) = (placement.start[k], placement.step[k] as i64);
            let extent = placement.extents[k] as i64;
            // The elements t with 0 ≤ start + t·step < extent.
            let low = (-start).max(0).div_euclid(step) + i64::from((-start).max(0) % step != 0);
            let high = ((extent - start - 1).div_euclid(step) + 1).clamp(low, from[k] as i64);
            let count = (high.max(low) - low).max(0) as usize;
            axes.push(Axis::new(count, [own[k] as i64, into[k] as i64 * step]));
            first += low as usize * own[k];
            offset += (start + low * step) * into[k] as i64;
        }
        self.create(shape, &[tensor], |output, views| {
            self.device.clear(output.buffer);
            let input = View {
                offset: views[0].offset + first,
                ..views[0]
            };
            let output = View {
                offset: offset.max(0) as usize,
                ..output
            };
            self.copy_strided(input, &axes, output)
        })
    }

    pub(super) fn conv_forward(
        &self,
        inputs: &GpuTensor,
        weights: &GpuTensor,
        window: &Window,
        groups: usize,
    ) -> GpuTensor {
        let outputs = weights.shape.rest[0];
        let sizes = self.sizes(window, groups, &inputs.shape.rest, outputs);
        let mut rest = vec![sizes.batch, outputs];
        rest.extend_from_slice(&window.output);
        let shape = Shape::new(
            broadcast(inputs.shape.samples, weights.shape.samples),
            broadcast(inputs.shape.directions, weights.shape.directions),
            &rest,
        );
        if shape.is_empty() || sizes.kernel() == 0 {
            return self.create(shape, &[], |output, _| {
                self.device.clear(output.buffer);
                true
            });
        }
        let placement = Placement::of_inputs(&sizes.window);
        let placed = self.place(inputs, &sizes.window.input, &placement);
        let reach: usize = placement.extents.iter().product();
        let (cg, og, taps, out) = (
            sizes.inputs_per_group as i64,
            sizes.outputs_per_group as i64,
            sizes.kernel() as i64,
            sizes.output() as i64,
        );
        let x = leading(&placed.shape, placed.shape.rest_len());
        let w = leading(&weights.shape, weights.shape.rest_len());
        let z = leading(&shape, shape.rest_len());
        let (xs, ws, zs) = (
            sizes.spatial(&placement.extents),
            sizes.spatial(&sizes.window.kernel),
            sizes.spatial(&sizes.window.output),
        );
        self.create(shape.clone(), &[weights, &placed], |output, views| {
            let mut product = Product::new(views[0], views[1], output);
            let (samples, directions) = (shape.samples, shape.directions);
            product.axis(samples, w[0], x[0], z[0]);
            product.axis(directions, w[1], x[1], z[1]);
            let per_image = placed.shape.rest[1] as i64 * reach as i64;
            product.axis(sizes.batch, 0, per_image, outputs as i64 * out);
            product.axis(groups, og * cg * taps, cg * reach as i64, og * out);
            product.axis(sizes.outputs_per_group, cg * taps, 0, out);
            for k in 0..3 {
                let step = sizes.window.stride[k] as i64;
                product.axis(sizes.window.output[k], 0, step * xs[k], zs[k]);
            }
            product.summed(sizes.inputs_per_group, taps, reach as i64, 0);
            for k in 0..3 {
                let step = sizes.window.dilation[k] as i64;
                product.summed(sizes.window.kernel[k], ws[k], step * xs[k], 0);
            }
            self.product(&product)
        })
    }

    pub(super) fn conv_transpose_inputs(
        &self,
        cotangents: &GpuTensor,
        weights: &GpuTensor,
        window: &Window,
        groups: usize,
    ) -> GpuTensor {
        let outputs = weights.shape.rest[0];
        let channels = weights.shape.rest[1] * groups;
        let batch = cotangents.shape.rest[0];
        let sizes = self.sizes(window, groups, &[batch, channels], outputs);
        let mut rest = vec![batch, channels];
        rest.extend_from_slice(&window.input);
        let shape = Shape::new(
            broadcast(cotangents.shape.samples, weights.shape.samples),
            broadcast(cotangents.shape.directions, weights.shape.directions),
            &rest,
        );
        if shape.is_empty() || sizes.kernel() == 0 {
            return self.create(shape, &[], |output, _| {
                self.device.clear(output.buffer);
                true
            });
        }
        let placement = Placement::of_cotangents(&sizes.window);
        let placed = self.place(cotangents, &sizes.window.output, &placement);
        let reach: usize = placement.extents.iter().product();
        let (cg, og, taps, input) = (
            sizes.inputs_per_group as i64,
            sizes.outputs_per_group as i64,
            sizes.kernel() as i64,
            sizes.input() as i64,
        );
        let c = leading(&placed.shape, placed.shape.rest_len());
        let w = leading(&weights.shape, weights.shape.rest_len());
        let z = leading(&shape, shape.rest_len());
        let (cs, ws, zs) = (
            sizes.spatial(&placement.extents),
            sizes.spatial(&sizes.window.kernel),
            sizes.spatial(&sizes.window.input),
        );
        let origin: i64 = (0..3)
            .map(|k| (sizes.window.padding[k] as i64 + placement.start[k]) * cs[k])
            .sum();
        self.create(shape.clone(), &[weights, &placed], |output, views| {
            let right = View {
                offset: views[1].offset + origin as usize,
                ..views[1]
            };
            let mut product = Product::new(views[0], right, output);
            let (samples, directions) = (shape.samples, shape.directions);
            product.axis(samples, w[0], c[0], z[0]);
            product.axis(directions, w[1], c[1], z[1]);
            product.axis(
                batch,
                0,
                outputs as i64 * reach as i64,
                channels as i64 * input,
            );
            product.axis(groups, og * cg * taps, og * reach as i64, cg * input);
            product.axis(sizes.inputs_per_group, taps, 0, input);
            for k in 0..3 {
                product.axis(sizes.window.input[k], 0, cs[k], zs[k]);
            }
            product.summed(sizes.outputs_per_group, cg * taps, reach as i64, 0);
            for k in 0..3 {
                let step = sizes.window.dilation[k] as i64;
                product.summed(sizes.window.kernel[k], ws[k], -step * cs[k], 0);
            }
            self.product(&product)
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
        let outputs = cotangents.shape.rest[1];
        let sizes = self.sizes(window, groups, &inputs.shape.rest, outputs);
        let mut rest = vec![outputs, sizes.inputs_per_group];
        rest.extend_from_slice(&window.kernel);
        let samples = broadcast(inputs.shape.samples, cotangents.shape.samples);
        let shape = Shape::new(
            if sum_samples { 1 } else { samples },
            broadcast(inputs.shape.directions, cotangents.shape.directions),
            &rest,
        );
        if shape.is_empty() || sizes.output() == 0 {
            return self.create(shape, &[], |output, _| {
                self.device.clear(output.buffer);
                true
            });
        }
        let placement = Placement::of_inputs(&sizes.window);
        let placed = self.place(inputs, &sizes.window.input, &placement);
        let reach: usize = placement.extents.iter().product();
        let (cg, og, taps, out) = (
            sizes.inputs_per_group as i64,
            sizes.outputs_per_group as i64,
            sizes.kernel() as i64,
            sizes.output() as i64,
        );
        let x = leading(&placed.shape, placed.shape.rest_len());
        let c = leading(&cotangents.shape, cotangents.shape.rest_len());
        let z = leading(&shape, shape.rest_len());
        let (xs, cs, zs) = (
            sizes.spatial(&placement.extents),
            sizes.spatial(&sizes.window.output),
            sizes.spatial(&sizes.window.kernel),
        );
        self.create(shape.clone(), &[cotangents, &placed], |output, views| {
            let mut product = Product::new(views[0], views[1], output);
            match sum_samples {
                true => product.summed(samples, c[0], x[0], 0),
                false => product.axis(samples, c[0], x[0], z[0]),
            }
            product.axis(shape.directions, c[1], x[1], z[1]);
            let per_image = placed.shape.rest[1] as i64 * reach as i64;
            product.summed(sizes.batch, outputs as i64 * out, per_image, 0);
            product.axis(groups, og * out, cg * reach as i64, og * cg * taps);
            product.axis(sizes.outputs_per_group, out, 0, cg * taps);
            product.axis(sizes.inputs_per_group, 0, reach as i64, taps);
            for k in 0..3 {
                let step = sizes.window.dilation[k] as i64;
                product.axis(sizes.window.kernel[k], 0, step * xs[k], zs[k]);
            }
            for k in 0..3 {
                let step = sizes.window.stride[k] as i64;
                product.summed(sizes.window.output[k], cs[k], step * xs[k], 0);
            }
            self.product(&product)
        })
    }
}
