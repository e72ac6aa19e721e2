//! Entries of an axis by number, and the transpose of that as sums along links between equal indices.

use super::Gpu;
use super::kernel::{Kernel, LookupKernel, PARAM_WORDS, THREADS};
use super::stream::Launch;
use super::tensor::{GpuTensor, View, broadcast, stride};
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

    /// Words 8 to 15: the output's axes, where `entries` lie on the axis, and strides of input and list.
    fn words(&self, entries: usize, per_list: usize) -> [usize; 8] {
        let rest = self.shape.rest_len();
        [
            self.shape.directions,
            self.before,
            entries,
            self.after,
            self.entries,
            stride(self.shape.samples, self.shape.directions * rest),
            rest,
            per_list,
        ]
    }
}

/// Launch parameters with `values` from word `at` on.
fn set(words: &mut [u32; PARAM_WORDS], at: usize, values: &[usize]) {
    for (word, &value) in words[at..].iter_mut().zip(values) {
        *word = value as u32;
    }
}

impl Gpu {
    fn look_up(
        &self,
        kernel: LookupKernel,
        inputs: [View<'_>; 2],
        output: View<'_>,
        (len, trips): (usize, usize),
        mut words: [u32; PARAM_WORDS],
    ) {
        set(&mut words, 4, &inputs.map(|view| view.offset));
        words[2] = len as u32;
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
            let mut words = [0; PARAM_WORDS];
            set(
                &mut words,
                8,
                &along.words(count, stride(list.samples, count)),
            );
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
                    let mut words = [0; PARAM_WORDS];
                    // A list that all samples share stays linked.
                    if lists == here || sample == 0 {
                        let part = View {
                            offset: views[1].offset + sample * stride(list.samples, count) + entry,
                            ..views[1]
                        };
                        set(&mut words, 10, &[rows]);
                        set(&mut words, 15, &[stride(list.samples, count)]);
                        set(&mut words, 18, &[entries, range.start]);
                        let work = (lists * per_list, entries);
                        self.look_up(LookupKernel::Chain, [part, part], links, work, words);
                    }
                    let part = View {
                        offset: views[0].offset
                            + sample
                                * stride(
                                    along.shape.samples,
                                    along.shape.directions * along.shape.rest_len(),
                                )
                            + entry * along.after,
                        ..views[0]
                    };
                    let (summed, made) = if sum_samples { (here, 1) } else { (1, here) };
                    let into = if sum_samples { 0 } else { sample * per_sample };
                    let more = entry > 0 || sum_samples && sample > 0;
                    set(&mut words, 6, &[output.offset + into, usize::from(more)]);
                    set(
                        &mut words,
                        8,
                        &along.words(rows, stride(list.samples, per_list)),
                    );
                    set(&mut words, 16, &[summed]);
                    set(&mut words, 18, &[entries]);
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
