//! Tensors on the device.

use std::sync::Arc;

use super::kernel::{Kernel, THREADS};
use super::params::{Words, fill};
use super::pool::Block;
use super::{Gpu, launch::Launch};
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
