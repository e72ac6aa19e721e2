//! Pooling: window sums, maxima, and the gathers and scatters that go with them.

use super::Gpu;
use super::axis::{broadcast, stride};
use super::kernel::{Kernel, THREADS, WindowKernel};
use super::launch::Launch;
use super::params::{Words, window as params};
use super::tensor::{GpuIndices, GpuTensor, View};
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
            let mut words = Words::new(len);
            words.set(params::INPUT_START, views[0].offset);
            words.set(params::CHOSEN_START, indices.offset);
            words.set_all(params::LEAD, &[samples, directions, lead]);
            words.set_all(params::INPUT_STEPS, &strides(&tensor.shape));
            words.set_all(params::CHOSEN_STEPS, &strides(other));
            words.set_all(params::COVERED, &three.input);
            words.set_all(params::WINDOWS, &three.output);
            words.set_all(params::KERNEL, &three.kernel);
            words.set_all(params::STRIDE, &three.stride);
            words.set_all(params::DILATION, &three.dilation);
            words.set_all(params::PADDING, &three.padding);
            let taps = if one_pass { 1 } else { taps };
            for start in (0..taps).step_by(TAP_RANGE) {
                let stop = (start + TAP_RANGE).min(taps);
                words.set(params::ADD, usize::from(start > 0));
                words.set(params::TAPS_FROM, start);
                words.set(params::TAPS_TO, stop);
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
