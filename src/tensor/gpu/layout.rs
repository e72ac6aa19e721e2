//! Copies under other strides (permute, slice, embed, concat, broadcast) and sums over axes.

use std::sync::Arc;

use super::Gpu;
use super::axis::{Axis, merge};
use super::kernel::{Kernel, REDUCE_CHUNK, THREADS};
use super::launch::Launch;
use super::params::{MAX_MAP_AXES, Words, layout, reduce};
use super::tensor::{Content, GpuTensor, View};
use crate::tensor::{Shape, broadcast_strides, strides};

impl Gpu {
    /// output[into] = input[from] over the box of `axes`; strides are (from, into).
    pub(super) fn copy_strided(&self, input: View<'_>, axes: &[Axis<2>], output: View<'_>) -> bool {
        let len: usize = axes.iter().map(|axis| axis.extent).product();
        if len == 0 {
            return true;
        }
        let axes = merge(axes);
        if axes.len() > MAX_MAP_AXES {
            self.device.fail(format!(
                "a copy over {} axes; at most {MAX_MAP_AXES} fit",
                axes.len()
            ));
            return false;
        }
        let mut words = Words::new(len);
        words.set(layout::INPUT_START, input.offset);
        words.set(layout::OUTPUT_START, output.offset);
        words.set_axes(layout::AXES, &axes, 2);
        self.device.launch(Launch {
            kernel: Kernel::Layout { axes: axes.len() },
            inputs: &[input.buffer],
            output: output.buffer,
            beside: None,
            words,
            groups: len.div_ceil(THREADS) as u64,
            work: THREADS as f64,
        });
        true
    }

    pub(super) fn permute_tensor(&self, inputs: &GpuTensor, order: &[usize]) -> GpuTensor {
        let rest: Vec<usize> = order.iter().map(|&k| inputs.shape.rest[k]).collect();
        let shape = Shape::new(inputs.shape.samples, inputs.shape.directions, &rest);
        let from = strides(&inputs.shape.axes());
        let into = strides(&shape.axes());
        let axes: Vec<Axis<2>> = shape
            .axes()
            .iter()
            .enumerate()
            .map(|(k, &extent)| {
                let source = if k < 2 { k } else { 2 + order[k - 2] };
                Axis::new(extent, [from[source] as i64, into[k] as i64])
            })
            .collect();
        self.create(shape, &[inputs], |output, views| {
            self.copy_strided(views[0], &axes, output)
        })
    }

    pub(super) fn broadcast_tensor(&self, inputs: &GpuTensor, rest: &[usize]) -> GpuTensor {
        let shape = Shape::new(inputs.shape.samples, inputs.shape.directions, rest);
        if shape.len() == inputs.shape.len() {
            return inputs.reshaped(shape);
        }
        let from = broadcast_strides(&inputs.shape, &shape);
        let axes = paired(&shape.axes(), &from, &strides(&shape.axes()));
        self.create(shape, &[inputs], |output, views| {
            self.copy_strided(views[0], &axes, output)
        })
    }

    pub(super) fn slice_tensor(
        &self,
        inputs: &GpuTensor,
        axis: usize,
        start: usize,
        stop: usize,
    ) -> GpuTensor {
        let mut axes = inputs.shape.axes();
        assert!(
            start <= stop && stop <= axes[axis],
            "slice {start}..{stop} of axis {axis} of {:?}",
            inputs.shape
        );
        let from = strides(&axes);
        let leading: usize = axes[..axis].iter().product();
        axes[axis] = stop - start;
        let shape = Shape::from_axes(&axes);
        if let (1, Content::Live { block, offset }, false) =
            (leading, &inputs.content, shape.is_empty())
        {
            // Contiguous already: kernels take an element offset, so nothing needs aligning.
            let content = Content::Live {
                block: Arc::clone(block),
                offset: offset + start * from[axis],
            };
            return GpuTensor { shape, content };
        }
        let axes = paired(&axes, &from, &strides(&axes));
        self.create(shape, &[inputs], |output, views| {
            let offset = views[0].offset + start * from[axis];
            let input = View { offset, ..views[0] };
            self.copy_strided(input, &axes, output)
        })
    }

    pub(super) fn embed_tensor(
        &self,
        inputs: &GpuTensor,
        axis: usize,
        start: usize,
        extent: usize,
    ) -> GpuTensor {
        let own = inputs.shape.axes();
        let mut axes = own.clone();
        assert!(
            start + own[axis] <= extent,
            "embedding axis {axis} of {:?} at {start} of {extent}",
            inputs.shape
        );
        axes[axis] = extent;
        let into = strides(&axes);
        self.create(Shape::from_axes(&axes), &[inputs], |output, views| {
            self.device.clear(output.buffer);
            let output = View {
                offset: start * into[axis],
                ..output
            };
            self.copy_strided(views[0], &paired(&own, &strides(&own), &into), output)
        })
    }

    pub(super) fn concat_tensors(&self, inputs: &[&GpuTensor], axis: usize) -> GpuTensor {
        let mut shape = inputs[0].shape.clone();
        for input in &inputs[1..] {
            shape.samples = shape.samples.max(input.shape.samples);
            shape.directions = shape.directions.max(input.shape.directions);
        }
        if inputs
            .iter()
            .any(|t| t.shape.samples == 0 || t.shape.directions == 0)
        {
            shape.samples = inputs.iter().map(|t| t.shape.samples).min().unwrap_or(0);
            shape.directions = inputs.iter().map(|t| t.shape.directions).min().unwrap_or(0);
        }
        shape.rest[axis - 2] = inputs.iter().map(|t| t.shape.rest[axis - 2]).sum();
        // Parts without elements have no buffer and nothing to place.
        let parts: Vec<&GpuTensor> = inputs
            .iter()
            .copied()
            .filter(|t| !t.shape.is_empty())
            .collect();
        let into = strides(&shape.axes());
        self.create(shape.clone(), &parts, |output, views| {
            let mut start = 0;
            let mut placed = true;
            for (part, view) in parts.iter().zip(views) {
                let mut axes = shape.axes();
                axes[axis] = part.shape.rest[axis - 2];
                let from = broadcast_strides(&part.shape, &Shape::from_axes(&axes));
                let offset = start * into[axis];
                let output = View { offset, ..output };
                placed &= self.copy_strided(*view, &paired(&axes, &from, &into), output);
                start += axes[axis];
            }
            placed
        })
    }

    pub(super) fn reduce_tensor(&self, inputs: &GpuTensor, axes: &[usize]) -> GpuTensor {
        let own = inputs.shape.axes();
        let from = strides(&own);
        let mut left = own.clone();
        let (mut kept, mut reduced) = (Vec::new(), Vec::new());
        for (k, &extent) in own.iter().enumerate() {
            let axis = Axis::new(extent, [from[k] as i64]);
            if axes.contains(&k) {
                left[k] = 1;
                reduced.push(axis);
            } else {
                kept.push(axis);
            }
        }
        let shape = Shape::from_axes(&left);
        if shape.len() == inputs.shape.len() {
            return inputs.reshaped(shape);
        }
        self.create(shape, &[inputs], |output, views| {
            self.reduce_strided(views[0], &kept, &reduced, output)
        })
    }

    /// Sums over axes of a strided view, into an output that is contiguous over the others.
    pub(super) fn reduce_strided(
        &self,
        input: View<'_>,
        kept: &[Axis<1>],
        reduced: &[Axis<1>],
        output: View<'_>,
    ) -> bool {
        let outputs: usize = kept.iter().map(|axis| axis.extent).product();
        let total: usize = reduced.iter().map(|axis| axis.extent).product();
        let (kept, reduced) = (merge(kept), merge(reduced));
        if kept.len() > MAX_MAP_AXES || reduced.len() > MAX_MAP_AXES {
            self.device.fail(format!(
                "a sum over {} of {} axes; at most {MAX_MAP_AXES} of each kind fit",
                reduced.len(),
                kept.len() + reduced.len()
            ));
            return false;
        }
        let chunks = total.div_ceil(REDUCE_CHUNK);
        let pass = |into: View<'_>| {
            let mut words = Words::new(outputs * chunks);
            words.set(reduce::INPUT_START, input.offset);
            words.set(reduce::TERMS, total);
            words.set(reduce::CHUNKS, chunks);
            words.set_axes(reduce::KEPT_AXES, &kept, 1);
            words.set_axes(reduce::REDUCED_AXES, &reduced, 1);
            self.device.launch(Launch {
                kernel: Kernel::Reduce {
                    kept: kept.len(),
                    reduced: reduced.len(),
                },
                inputs: &[input.buffer],
                output: into.buffer,
                beside: None,
                words,
                groups: (outputs * chunks).div_ceil(THREADS) as u64,
                work: (THREADS * total.min(REDUCE_CHUNK)) as f64,
            });
        };
        if chunks == 1 {
            pass(output);
            return true;
        }
        let Some(block) = self.device.allocate(outputs * chunks) else {
            return false;
        };
        let partial = View {
            buffer: block.buffer(),
            offset: 0,
        };
        pass(partial);
        let kept = [Axis::new(outputs, [chunks as i64])];
        self.reduce_strided(partial, &kept, &[Axis::new(chunks, [1])], output)
    }
}

fn paired(extents: &[usize], from: &[usize], into: &[usize]) -> Vec<Axis<2>> {
    extents
        .iter()
        .enumerate()
        .map(|(k, &extent)| Axis::new(extent, [from[k] as i64, into[k] as i64]))
        .collect()
}
