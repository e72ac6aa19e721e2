//! Kernels as text: a `.wgsl` family with its constants before it.

use std::fmt::Write;

use super::map;
use super::product::{LARGE, Load, MAX_AXES, ProductKernel, Symmetry, THIN};
use crate::tensor::Expr;

/// Words of launch parameters; `params` in `common.wgsl` has as many.
pub(super) const PARAM_WORDS: usize = 192;
/// Most axes of an elementwise or layout kernel.
pub(super) const MAX_MAP_AXES: usize = 8;
/// Most inputs of an elementwise kernel: WebGPU promises eight storage buffers, one is the output.
pub(super) const MAX_MAP_INPUTS: usize = 7;
/// Threads per workgroup of every kernel but the product.
pub(super) const THREADS: usize = 256;
/// Reduced positions per invocation and pass.
pub(super) const REDUCE_CHUNK: usize = 256;

/// What `window.wgsl` computes: an entry point and its constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum WindowKernel {
    Sum,
    Spread,
    Gather,
    Scatter,
    MaxPoolIndices,
}

impl WindowKernel {
    /// Whether it reads windows and writes input positions.
    pub fn is_transposed(self) -> bool {
        matches!(self, WindowKernel::Spread | WindowKernel::Scatter)
    }
}

/// What distinguishes one compiled `grouped.wgsl` from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct GroupedKernel {
    /// Whether it reads windows and writes input positions.
    pub transposed: bool,
    /// Whether terms follow each other at distance one along every axis.
    pub unit: bool,
    /// Axes before the spatial ones.
    pub axes: usize,
}

/// What `lookup.wgsl` computes: an entry point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum LookupKernel {
    Take,
    Chain,
    Put,
}

/// A kernel and its configuration: the key of the pipeline cache.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kernel {
    Product(ProductKernel),
    Window(WindowKernel),
    Grouped(GroupedKernel),
    Lookup(LookupKernel),
    Map { expr: Expr, axes: usize },
    Reduce { kept: usize, reduced: usize },
    Layout { axes: usize },
    Fill,
    Probe,
}

/// Kinds of work with first rates of their own, for metering.
pub(super) const FAMILIES: usize = 4;

impl Kernel {
    /// Kind of work, below [`FAMILIES`].
    pub fn family(&self) -> usize {
        match self {
            Kernel::Product(kernel) if LARGE.contains(&kernel.shape) => 0,
            Kernel::Product(_) => 3,
            Kernel::Window(_) | Kernel::Grouped(_) | Kernel::Lookup(_) | Kernel::Reduce { .. } => 1,
            Kernel::Map { .. } | Kernel::Layout { .. } | Kernel::Fill | Kernel::Probe => 2,
        }
    }

    /// Name of the entry point.
    pub fn entry(&self) -> &'static str {
        match self {
            Kernel::Window(WindowKernel::Gather) => "gather",
            Kernel::Window(WindowKernel::MaxPoolIndices) => "max_pool_indices",
            Kernel::Window(_) => "window_sum",
            Kernel::Lookup(LookupKernel::Take) => "take",
            Kernel::Lookup(LookupKernel::Chain) => "chain",
            Kernel::Lookup(LookupKernel::Put) => "put",
            _ => "main",
        }
    }

    /// The whole module.
    pub fn source(&self) -> String {
        let mut text = String::new();
        let mut constant = |name: &str, value: usize| {
            let _ = writeln!(text, "const {name}: u32 = {value}u;");
        };
        match self {
            Kernel::Product(kernel) => {
                text.push_str(&kernel.prelude());
                text.push_str(COMMON);
                text.push_str(&kernel.body(include_str!("../../../shaders/gemm.wgsl")));
            }
            Kernel::Window(kernel) => {
                constant("THREADS", THREADS);
                let chosen = *kernel == WindowKernel::Scatter;
                let _ = writeln!(text, "const TRANSPOSED: bool = {};", kernel.is_transposed());
                let _ = writeln!(text, "const CHOSEN: bool = {chosen};");
                text.push_str(COMMON);
                text.push_str(NUMERIC);
                text.push_str(include_str!("../../../shaders/window.wgsl"));
            }
            Kernel::Grouped(kernel) => {
                constant("THREADS", THREADS);
                for (name, word) in GROUPED_WORDS {
                    constant(name, word);
                }
                let _ = writeln!(text, "const TRANSPOSED: bool = {};", kernel.transposed);
                let _ = writeln!(text, "const UNIT: bool = {};", kernel.unit);
                decode(&mut text, &Strides::all("lead_offsets", 8, 2), kernel.axes);
                text.push_str(COMMON);
                text.push_str(include_str!("../../../shaders/grouped.wgsl"));
            }
            Kernel::Lookup(_) => {
                constant("THREADS", THREADS);
                text.push_str(COMMON);
                text.push_str(include_str!("../../../shaders/lookup.wgsl"));
            }
            Kernel::Map { expr, axes } => {
                constant("THREADS", THREADS);
                constant("OUTPUT", expr.arity() + 1);
                text.push_str(&map::evaluate_function(expr, *axes));
                text.push_str(COMMON);
                text.push_str(NUMERIC);
                text.push_str(include_str!("../../../shaders/map.wgsl"));
            }
            Kernel::Reduce { kept, reduced } => {
                constant("THREADS", THREADS);
                constant("CHUNK", REDUCE_CHUNK);
                decode(&mut text, &Strides::all("kept_offset", 8, 1), *kept);
                let behind = 8 + 2 * MAX_MAP_AXES;
                decode(
                    &mut text,
                    &Strides::all("reduced_offset", behind, 1),
                    *reduced,
                );
                text.push_str(COMMON);
                text.push_str(include_str!("../../../shaders/reduce.wgsl"));
            }
            Kernel::Layout { axes } => {
                constant("THREADS", THREADS);
                decode(&mut text, &Strides::all("offsets", 8, 2), *axes);
                text.push_str(COMMON);
                text.push_str(include_str!("../../../shaders/layout.wgsl"));
            }
            Kernel::Fill => {
                constant("THREADS", THREADS);
                text.push_str(COMMON);
                text.push_str(include_str!("../../../shaders/fill.wgsl"));
            }
            Kernel::Probe => {
                constant("THREADS", THREADS);
                text.push_str(COMMON);
                text.push_str(include_str!("../../../shaders/probe.wgsl"));
            }
        }
        text
    }
}

const COMMON: &str = include_str!("../../../shaders/common.wgsl");
const NUMERIC: &str = include_str!("../../../shaders/numeric.wgsl");

/// Most axes before the spatial ones of [`GroupedKernel`]: samples, directions, groups and two of channels, or B.
pub(super) const MAX_GROUPED_AXES: usize = 5;
/// Words of `grouped.wgsl` by the names that they have there; its axes before the spatial ones start at word 8.
pub(super) const GROUPED_WORDS: [(&str, usize); 12] = [
    ("PLACES", 24),
    ("PLACED", 27),
    ("OTHER", 30),
    ("PADDING", 33),
    ("PLACE_STEP", 36),
    ("STEP", 39),
    ("SKIP", 42),
    ("DIVISOR", 45),
    ("INVERSE", 48),
    ("SUMMED", 51),
    ("FROM", 55),
    ("TO", 60),
];

/// Strides of axes in the launch parameters: axis `k` has its extent in word `base + k·axis_words`, and from the `first` word
/// behind that on its strides in `tensors` tensors.
pub(super) struct Strides {
    /// Name of the function.
    pub name: String,
    pub base: usize,
    pub axis_words: usize,
    pub first: usize,
    pub tensors: usize,
}

impl Strides {
    /// Those of all tensors that the axes have words for.
    fn all(name: &str, base: usize, tensors: usize) -> Strides {
        Strides {
            name: name.into(),
            base,
            axis_words: 1 + tensors,
            first: 1,
            tensors,
        }
    }
}

/// Writes `fn name(index) -> offsets`: a row-major index over axes to its offset in each tensor.
///
/// Without axes the offsets are 0. Unrolled here, because the number of axes is small and known.
pub(super) fn decode(text: &mut String, strides: &Strides, axes: usize) {
    let (name, tensors) = (&strides.name, strides.tensors);
    let kind = match tensors {
        1 => "u32".to_string(),
        n => format!("vec{n}<u32>"),
    };
    let _ = writeln!(text, "fn {name}(index: u32) -> {kind} {{");
    let _ = writeln!(text, "    var rest = index;\n    var sum = {kind}();");
    for axis in (0..axes).rev() {
        let at = strides.base + axis * strides.axis_words;
        let words: Vec<String> = (0..tensors)
            .map(|k| format!("word({}u)", at + strides.first + k))
            .collect();
        let strides = format!("{kind}({})", words.join(", "));
        if axis > 0 {
            let _ = writeln!(text, "    sum += (rest % word({at}u)) * {strides};");
            let _ = writeln!(text, "    rest = rest / word({at}u);");
        } else {
            let _ = writeln!(text, "    sum += rest * {strides};");
        }
    }
    let _ = writeln!(text, "    return sum;\n}}");
}

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
            for axes in [[1; 4], [3, 1, 3, 3], [MAX_AXES; 4]] {
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
