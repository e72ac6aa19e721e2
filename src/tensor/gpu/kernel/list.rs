//! The list of all kernels, for inspection and for the test that validates them.

use super::product::{Load, ProductKernel, Symmetry};
use super::{GroupedKernel, Kernel, LookupKernel, WindowKernel};
use crate::tensor::Expr;
use crate::tensor::gpu::params::{MAX_GROUPED_AXES, MAX_MAP_AXES, MAX_PRODUCT_AXES};
use crate::tensor::gpu::tiles::{LARGE, THIN};

/// Name and text of one shader module, for inspection and for the test that validates all of them.
#[derive(Clone, Debug)]
pub struct ShaderSource {
    /// Family and configuration.
    pub name: String,
    /// The whole module in WGSL.
    pub wgsl: String,
}

/// Every kernel of the GPU backend in every tile shape, and in a selection of axis counts.
pub fn shader_sources() -> Vec<ShaderSource> {
    let mut kernels = vec![Kernel::Fill, Kernel::Probe];
    for axes in 1..=MAX_MAP_AXES {
        kernels.push(Kernel::Layout { axes });
        kernels.push(Kernel::Reduce {
            kept: axes,
            reduced: MAX_MAP_AXES + 1 - axes,
        });
    }
    for kernel in [
        WindowKernel::Sum,
        WindowKernel::Spread,
        WindowKernel::Gather,
        WindowKernel::Scatter,
        WindowKernel::MaxPoolIndices,
    ] {
        kernels.push(Kernel::Window(kernel));
    }
    for axes in [2, 3, MAX_GROUPED_AXES] {
        for (transposed, unit) in [(false, false), (false, true), (true, false), (true, true)] {
            kernels.push(Kernel::Grouped(GroupedKernel {
                transposed,
                unit,
                axes,
            }));
        }
    }
    for kernel in [LookupKernel::Take, LookupKernel::Chain, LookupKernel::Put] {
        kernels.push(Kernel::Lookup(kernel));
    }
    kernels.extend(product_kernels().into_iter().map(Kernel::Product));
    let source = |kernel: &Kernel| ShaderSource {
        name: format!("{kernel:?}"),
        wgsl: kernel.source(),
    };
    kernels.iter().map(source).collect()
}

/// Product kernels of every tile shape: each way to read, to store and to mirror, with few and with most axes.
fn product_kernels() -> Vec<ProductKernel> {
    use Load::{Each, Rows, Shared, Steps};
    let mut kernels = Vec::new();
    for &shape in LARGE.iter().chain(&THIN) {
        let plain = ProductKernel {
            shape,
            axes: [1; 4],
            left: Each,
            right: Each,
            second: None,
            wide: false,
            symmetry: Symmetry::None,
            compensated: false,
        };
        let square = shape.m == shape.n;
        for (left, right) in [(Each, Each), (Each, Rows), (Rows, Steps), (Steps, Each)] {
            for axes in [[1; 4], [3, 1, 3, 3], [MAX_PRODUCT_AXES; 4]] {
                kernels.push(ProductKernel {
                    axes,
                    left,
                    right,
                    ..plain
                });
            }
        }
        for wide in [false, true] {
            for compensated in [false, true] {
                let kind = if wide { Rows } else { Each };
                let product = ProductKernel {
                    left: kind,
                    right: kind,
                    wide,
                    compensated,
                    axes: [3, 1, 1, 1],
                    ..plain
                };
                for second in [None, Some(Each), Some(Rows), Some(Shared)] {
                    kernels.push(ProductKernel { second, ..product });
                }
                for symmetry in [Symmetry::Tiles, Symmetry::Both] {
                    if square {
                        kernels.push(ProductKernel {
                            second: Some(Shared),
                            symmetry,
                            ..product
                        });
                    }
                }
            }
        }
    }
    kernels
}

/// The elementwise kernel of an expression over inputs whose common shape has `axes` axes after merging.
pub fn map_source(expr: &Expr, axes: usize) -> ShaderSource {
    let kernel = Kernel::Map {
        expr: expr.clone(),
        axes,
    };
    ShaderSource {
        name: format!("{kernel:?}"),
        wgsl: kernel.source(),
    }
}
