//! Pooling: window sums, maxima, and the gathers and scatters that go with them.

use super::Gpu;
use super::kernel::{Kernel, PARAM_WORDS, THREADS, WindowKernel};
use super::stream::Launch;
use super::tensor::{GpuIndices, GpuTensor, View, broadcast, stride};
use crate::tensor::{Shape, Window};

/// Taps per dispatch: bounds the loop of an invocation.
const TAP_RANGE: usize = 4096;

impl Gpu {
    pub(super) fn window(
        &self,
        kernel: WindowKernel,
        tensor: &GpuTensor,
        chosen: Option<&GpuIndices>,
        window: &Window,
    ) -> GpuTensor {
        let into = match kernel.is_transposed() {
            true => &window.input,
            false => &window.output,
        };
        let spatial = window.input.len();
        let lead_rest = &tensor.shape.rest[..tensor.shape.rest.len() - spatial];
        let mut rest = lead_rest.to_vec();
        rest.extend_from_slice(into);
        let other = chosen.map_or(&tensor.shape, |indices| &indices.0.shape);
        let shape = Shape::new(
            broadcast(tensor.shape.samples, other.samples),
            broadcast(tensor.shape.directions, other.directions),
            &rest,
        );
        let lead: usize = lead_rest.iter().product();
        let strides = |of: &Shape| {
            let per_lead = of.rest_len() / lead.max(1);
            [
                stride(of.samples, of.directions * of.rest_len()),
                stride(of.directions, of.rest_len()),
                per_lead,
            ]
        };
        let three = window.three_dimensional();
        let taps: usize = three.kernel.iter().product();
        let one_pass = kernel == WindowKernel::Gather;
        let mut inputs = vec![tensor];
        inputs.extend(chosen.map(|indices| &indices.0));
        let (samples, directions, len) = (shape.samples, shape.directions, shape.len());
        self.create(shape, &inputs, |output, views| {
            if taps == 0 && !one_pass {
                self.device.clear(output.buffer);
                return true;
            }
            let indices: View<'_> = *views.get(1).unwrap_or(&views[0]);
            let mut words = [0; PARAM_WORDS];
            words[2] = len as u32;
            words[4] = views[0].offset as u32;
            words[5] = indices.offset as u32;
            let mut put = |at: usize, values: &[usize]| {
                for (k, &value) in values.iter().enumerate() {
                    words[at + k] = value as u32;
                }
            };
            put(10, &[samples, directions, lead]);
            put(13, &strides(&tensor.shape));
            put(16, &strides(other));
            put(19, &three.input);
            put(22, &three.output);
            put(25, &three.kernel);
            put(28, &three.stride);
            put(31, &three.dilation);
            put(34, &three.padding);
            let taps = if one_pass { 1 } else { taps };
            for start in (0..taps).step_by(TAP_RANGE) {
                let stop = (start + TAP_RANGE).min(taps);
                words[7] = (start > 0) as u32;
                words[8] = start as u32;
                words[9] = stop as u32;
                self.device.launch(Launch {
                    kernel: Kernel::Window(kernel),
                    inputs: &[views[0].buffer, indices.buffer],
                    output: output.buffer,
                    beside: None,
                    words,
                    groups: len.div_ceil(THREADS) as u64,
                    work: (THREADS * (stop - start)) as f64,
                });
            }
            true
        })
    }
}
