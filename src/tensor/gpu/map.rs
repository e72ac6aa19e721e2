//! Elementwise kernels: an expression at every position of tensors that broadcast.

use super::Gpu;
use super::axis::{Axis, merge};
use super::kernel::{Kernel, THREADS};
use super::launch::Launch;
use super::params::{MAX_MAP_AXES, MAX_MAP_INPUTS, Words, map as params};
use super::tensor::{GpuTensor, View};
use crate::tensor::{Expr, Shape, broadcast_strides};

impl Gpu {
    pub(super) fn map_tensors(&self, expr: &Expr, inputs: &[&GpuTensor]) -> GpuTensor {
        let mut shape = inputs
            .first()
            .map_or(Shape::new(1, 1, &[]), |input| input.shape.clone());
        for input in inputs.iter().skip(1) {
            shape = shape
                .broadcast(&input.shape)
                .unwrap_or_else(|| panic!("map of {shape:?} and {:?}", input.shape));
        }
        let strides: Vec<Vec<usize>> = inputs
            .iter()
            .map(|input| broadcast_strides(&input.shape, &shape))
            .collect();
        let axes: Vec<Axis<MAX_MAP_INPUTS>> = shape
            .axes()
            .iter()
            .enumerate()
            .map(|(axis, &extent)| {
                let mut of = [0; MAX_MAP_INPUTS];
                for (k, strides) in strides.iter().take(MAX_MAP_INPUTS).enumerate() {
                    of[k] = strides[axis] as i64;
                }
                Axis::new(extent, of)
            })
            .collect();
        self.create(shape, inputs, |output, views| {
            self.map_strided(expr, views, &axes, output)
        })
    }

    /// Evaluates `expr` at every position of `axes` (row-major) into contiguous elements of `output`.
    pub(super) fn map_strided(
        &self,
        expr: &Expr,
        inputs: &[View<'_>],
        axes: &[Axis<MAX_MAP_INPUTS>],
        output: View<'_>,
    ) -> bool {
        let len: usize = axes.iter().map(|axis| axis.extent).product();
        let used = expr.arity();
        let axes = merge(axes);
        if used > MAX_MAP_INPUTS || axes.len() > MAX_MAP_AXES {
            self.device.fail(format!(
                "an elementwise kernel of {used} inputs over {} axes; at most {MAX_MAP_INPUTS} and {MAX_MAP_AXES} fit",
                axes.len()
            ));
            return false;
        }
        let mut words = Words::new(len);
        let starts: Vec<usize> = inputs.iter().take(used).map(|v| v.offset).collect();
        words.set_all(params::INPUT_STARTS, &starts);
        words.set_axes(params::AXES, &axes, MAX_MAP_INPUTS);
        let buffers: Vec<&wgpu::Buffer> = inputs.iter().take(used).map(|v| v.buffer).collect();
        self.device.launch(Launch {
            kernel: Kernel::Map {
                expr: expr.clone(),
                axes: axes.len(),
            },
            inputs: &buffers,
            output: output.buffer,
            beside: None,
            words,
            groups: len.div_ceil(THREADS) as u64,
            work: (THREADS * (1 + expr.operations())) as f64,
        });
        true
    }
}
