//! Tensors on the device, and strided axes as launches describe them.

use std::sync::Arc;

use super::kernel::{Kernel, THREADS};
use super::params::{Words, fill};
use super::pool::Block;
use super::{Gpu, stream::Launch};
use crate::tensor::{HostSlice, Shape};

/// A tensor on the device: contiguous, from an element offset of a shared buffer.
#[derive(Clone)]
pub struct GpuTensor {
    pub(super) shape: Shape,
    pub(super) content: Content,
}

/// Positions chosen by a max-pool, on the device.
#[derive(Clone)]
pub struct GpuIndices(pub(super) GpuTensor);

#[derive(Clone)]
pub(super) enum Content {
    /// No element.
    Empty,
    /// `block` from element `offset` on.
    Live { block: Arc<Block>, offset: usize },
    /// What should be here could not be computed; the device holds the reason.
    Failed,
}

/// Where a live tensor starts.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub buffer: &'a wgpu::Buffer,
    pub offset: usize,
}

impl GpuTensor {
    /// The same content under another shape of as many elements.
    pub(super) fn reshaped(&self, shape: Shape) -> GpuTensor {
        assert_eq!(
            self.shape.len(),
            shape.len(),
            "{:?} as {shape:?}",
            self.shape
        );
        GpuTensor {
            shape,
            content: self.content.clone(),
        }
    }

    pub(super) fn view(&self) -> Option<View<'_>> {
        match &self.content {
            Content::Live { block, offset } => Some(View {
                buffer: block.buffer(),
                offset: *offset,
            }),
            _ => None,
        }
    }
}

impl Gpu {
    /// A new tensor that `write` fills from the inputs' views.
    ///
    /// Without elements nothing is written; where an input failed the result fails; where an input is
    /// empty the result, a sum over nothing, is zero. `write` says whether it could do its work.
    pub(super) fn create(
        &self,
        shape: Shape,
        inputs: &[&GpuTensor],
        write: impl FnOnce(View<'_>, &[View<'_>]) -> bool,
    ) -> GpuTensor {
        let content = self.content(&shape, inputs, write);
        GpuTensor { shape, content }
    }

    fn content(
        &self,
        shape: &Shape,
        inputs: &[&GpuTensor],
        write: impl FnOnce(View<'_>, &[View<'_>]) -> bool,
    ) -> Content {
        if shape.is_empty() {
            return Content::Empty;
        }
        let failed = |tensor: &&GpuTensor| matches!(tensor.content, Content::Failed);
        if inputs.iter().any(failed) {
            return Content::Failed;
        }
        let Some(block) = self.device.allocate(shape.len()) else {
            return Content::Failed;
        };
        let output = View {
            buffer: block.buffer(),
            offset: 0,
        };
        let views: Option<Vec<View<'_>>> = inputs.iter().map(|tensor| tensor.view()).collect();
        let written = match views {
            None => {
                self.device.clear(block.buffer());
                true
            }
            Some(views) => {
                if self.device.options.poison {
                    self.fill_bits(output, shape.len(), f32::NAN.to_bits());
                }
                write(output, &views)
            }
        };
        match written {
            false => Content::Failed,
            true => Content::Live {
                block: Arc::new(block),
                offset: 0,
            },
        }
    }

    /// Copies host values to a new tensor.
    pub(super) fn upload_tensor(&self, shape: &Shape, values: HostSlice<'_>) -> GpuTensor {
        let content = match shape.len() {
            0 => Content::Empty,
            // No poison here: its fill would be recorded, and queue writes overtake what is recorded.
            len => match self.device.allocate(len) {
                None => Content::Failed,
                Some(block) => {
                    match values {
                        HostSlice::F32(values) => self
                            .device
                            .write(block.buffer(), bytemuck::cast_slice(values)),
                        HostSlice::F64(values) => {
                            let rounded: Vec<f32> = values.iter().map(|&x| x as f32).collect();
                            self.device
                                .write(block.buffer(), bytemuck::cast_slice(&rounded));
                        }
                    }
                    Content::Live {
                        block: Arc::new(block),
                        offset: 0,
                    }
                }
            },
        };
        GpuTensor {
            shape: shape.clone(),
            content,
        }
    }

    /// Sets `len` elements to one bit pattern.
    pub(super) fn fill_bits(&self, output: View<'_>, len: usize, bits: u32) {
        let mut words = Words::new(len);
        words.set(fill::OUTPUT_START, output.offset);
        words.set(fill::VALUE, bits as usize);
        self.device.launch(Launch {
            kernel: Kernel::Fill,
            inputs: &[],
            output: output.buffer,
            beside: None,
            words,
            groups: len.div_ceil(THREADS) as u64,
            work: THREADS as f64,
        });
    }
}

/// An axis of a launch: its extent, and its stride in each of `N` tensors (0 where it repeats).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Axis<const N: usize> {
    pub extent: usize,
    pub strides: [i64; N],
}

impl<const N: usize> Axis<N> {
    pub fn new(extent: usize, strides: [i64; N]) -> Self {
        Self { extent, strides }
    }
}

/// Extent of an axis that two tensors share, where one of them may repeat along it.
pub(super) fn broadcast(a: usize, b: usize) -> usize {
    if a == 1 { b } else { a }
}

/// Stride of an axis of `extent`, 0 where it repeats.
pub(super) fn stride(extent: usize, own: usize) -> usize {
    if extent == 1 { 0 } else { own }
}

/// Drops axes of extent 1 and joins neighbours that are one axis in every tensor.
pub(super) fn merge<const N: usize>(axes: &[Axis<N>]) -> Vec<Axis<N>> {
    let mut merged: Vec<Axis<N>> = Vec::new();
    for axis in axes.iter().filter(|axis| axis.extent != 1) {
        if let Some(outer) = merged.last_mut() {
            let joined = (0..N)
                .all(|k| outer.strides[k] == axis.strides[k].wrapping_mul(axis.extent as i64));
            if joined {
                *outer = Axis::new(outer.extent * axis.extent, axis.strides);
                continue;
            }
        }
        merged.push(*axis);
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_merge_only_where_all_tensors_agree() {
        let axes = [
            Axis::new(2, [12, 12]),
            Axis::new(3, [4, 4]),
            Axis::new(1, [9, 9]),
            Axis::new(4, [1, 1]),
        ];
        assert_eq!(merge(&axes), [Axis::new(24, [1, 1])]);
        let repeated = [Axis::new(2, [4, 0]), Axis::new(4, [1, 1])];
        assert_eq!(merge(&repeated).len(), 2);
        let both = [Axis::new(2, [0, 8]), Axis::new(8, [0, 1])];
        assert_eq!(merge(&both), [Axis::new(16, [0, 1])]);
    }
}
