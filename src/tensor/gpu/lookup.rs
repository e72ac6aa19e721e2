//! Entries of an axis by number, and the transpose of that as sums along links between equal indices.

use super::Gpu;
use super::axis::{broadcast, stride};
use super::kernel::{Kernel, LookupKernel, THREADS};
use super::launch::Launch;
use super::params::{Words, common, lookup as params};
use super::tensor::{GpuTensor, View};
use crate::tensor::Shape;
use crate::tensor::chains::Chains;
use std::ops::Range;

/// An axis of a tensor of shape `[s, d, before…, entries, after…]`.
struct Along<'a> {
    shape: &'a Shape,
    before: usize,
    entries: usize,
    after: usize,
}

impl<'a> Along<'a> {
    fn new(shape: &'a Shape, axis: usize) -> Along<'a> {
        assert!(
            axis >= 2 && axis < shape.rest.len() + 2,
            "axis {axis} of {shape:?}"
        );
        Along {
            shape,
            before: shape.rest[..axis - 2].iter().product(),
            entries: shape.rest[axis - 2],
            after: shape.rest[axis - 1..].iter().product(),
        }
    }

    /// The shape with another number of samples, and of entries on the axis.
    fn with(&self, samples: usize, axis: usize, entries: usize) -> Shape {
        let mut rest = self.shape.rest.clone();
        rest[axis - 2] = entries;
        Shape::new(samples, self.shape.directions, &rest)
    }

    /// Returns launch parameters with the output's axes, where `entries` lie on the axis, and steps of input and list.
    fn words(&self, entries: usize, list_step: usize) -> Words {
        let mut words = Words::new(0);
        words.set(params::DIRECTIONS, self.shape.directions);
        words.set(params::BEFORE, self.before);
        words.set(params::ENTRIES, entries);
        words.set(params::AFTER, self.after);
        words.set(params::INPUT_ENTRIES, self.entries);
        words.set(params::SAMPLE_STEP, self.sample_step());
        words.set(params::DIRECTION_STEP, self.shape.rest_len());
        words.set(params::LIST_STEP, list_step);
        words
    }

    /// Returns the step of a sample, 0 where all share one.
    fn sample_step(&self) -> usize {
        let each = self.shape.directions * self.shape.rest_len();
        stride(self.shape.samples, each)
    }
}

impl Gpu {
    fn look_up(
        &self,
        kernel: LookupKernel,
        inputs: [View<'_>; 2],
        output: View<'_>,
        (len, trips): (usize, usize),
        mut words: Words,
    ) {
        words.set(params::INPUT_START, inputs[0].offset);
        words.set(params::LIST_START, inputs[1].offset);
        words.set(common::ELEMENTS, len);
        self.device.launch(Launch {
            kernel: Kernel::Lookup(kernel),
            inputs: &inputs.map(|view| view.buffer),
            output: output.buffer,
            beside: None,
            words,
            groups: len.div_ceil(THREADS) as u64,
            work: (THREADS * trips) as f64,
        });
    }

    pub(super) fn take_tensor(
        &self,
        inputs: &GpuTensor,
        indices: &GpuTensor,
        axis: usize,
    ) -> GpuTensor {
        let along = Along::new(&inputs.shape, axis);
        let list = &indices.shape;
        assert_eq!(list.directions, 1, "indices have no directions: {list:?}");
        let count = list.rest_len();
        let shape = along.with(broadcast(along.shape.samples, list.samples), axis, count);
        let len = shape.len();
        self.create(shape, &[inputs, indices], |output, views| {
            let words = along.words(count, stride(list.samples, count));
            let inputs = [views[0], views[1]];
            self.look_up(LookupKernel::Take, inputs, output, (len, 1), words);
            true
        })
    }

    pub(super) fn put_tensor(
        &self,
        cotangents: &GpuTensor,
        indices: &GpuTensor,
        axis: usize,
        range: Range<usize>,
        sum_samples: bool,
    ) -> GpuTensor {
        let along = Along::new(&cotangents.shape, axis);
        let list = &indices.shape;
        assert_eq!(list.directions, 1, "indices have no directions: {list:?}");
        let (count, rows) = (list.rest_len(), range.len());
        let samples = broadcast(along.shape.samples, list.samples);
        let shape = along.with(if sum_samples { 1 } else { samples }, axis, rows);
        let per_sample = along.shape.directions * shape.rest_len();
        let chains = Chains::new(list, samples, rows);
        self.create(shape, &[cotangents, indices], |output, views| {
            let Some(block) = self.device.allocate(chains.numbers) else {
                return false;
            };
            let links = View {
                buffer: block.buffer(),
                offset: 0,
            };
            for entry in (0..count).step_by(chains.entries) {
                let entries = chains.entries.min(count - entry);
                let per_list = entries + rows;
                for sample in (0..samples).step_by(chains.samples) {
                    let here = chains.samples.min(samples - sample);
                    let lists = here.min(list.samples);
                    // A list that all samples share stays linked.
                    if lists == here || sample == 0 {
                        let part = View {
                            offset: views[1].offset + sample * stride(list.samples, count) + entry,
                            ..views[1]
                        };
                        let mut words = Words::new(0);
                        words.set(params::ENTRIES, rows);
                        words.set(params::LIST_STEP, stride(list.samples, count));
                        words.set(params::COUNT, entries);
                        words.set(params::FIRST_ROW, range.start);
                        let work = (lists * per_list, entries);
                        self.look_up(LookupKernel::Chain, [part, part], links, work, words);
                    }
                    let part = View {
                        offset: views[0].offset
                            + sample * along.sample_step()
                            + entry * along.after,
                        ..views[0]
                    };
                    let (summed, made) = if sum_samples { (here, 1) } else { (1, here) };
                    let into = if sum_samples { 0 } else { sample * per_sample };
                    let more = entry > 0 || sum_samples && sample > 0;
                    let mut words = along.words(rows, stride(list.samples, per_list));
                    words.set(params::OUTPUT_START, output.offset + into);
                    words.set(params::ADD, usize::from(more));
                    words.set(params::SUMMED, summed);
                    words.set(params::COUNT, entries);
                    // Lists spread over the rows; a row that gets all of one is the exception.
                    let trips = summed * (1 + entries / rows.max(1));
                    let work = (made * per_sample, trips);
                    self.look_up(LookupKernel::Put, [part, links], output, work, words);
                }
            }
            true
        })
    }
}
