//! Kernels as text: a `.wgsl` family with its constants before it.

use std::fmt::Write;

use super::map;
use crate::tensor::Expr;

/// Words of launch parameters; `params` in `common.wgsl` has as many.
pub(super) const PARAM_WORDS: usize = 192;
/// Most axes of one group; more cannot be described in [`PARAM_WORDS`].
pub(super) const MAX_AXES: usize = 6;
/// Most axes of an elementwise or layout kernel.
pub(super) const MAX_MAP_AXES: usize = 8;
/// Most inputs of an elementwise kernel: WebGPU promises eight storage buffers, one is the output.
pub(super) const MAX_MAP_INPUTS: usize = 7;
/// Threads per workgroup of every kernel but the product.
pub(super) const THREADS: usize = 256;
/// Reduced positions per invocation and pass.
pub(super) const REDUCE_CHUNK: usize = 256;

/// Tile of the product kernel: `batches` tiles of `m` × `n` per workgroup, 4 × 4 per thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct TileShape {
    pub batches: usize,
    pub m: usize,
    pub n: usize,
    /// Inner steps held in shared memory at a time.
    pub depth: usize,
}

impl TileShape {
    const fn new(batches: usize, m: usize, n: usize, depth: usize) -> Self {
        Self {
            batches,
            m,
            n,
            depth,
        }
    }

    /// Threads per workgroup.
    pub fn threads(&self) -> usize {
        self.batches * self.m * self.n / 16
    }
}

/// Square tiles for large products, flat ones for thin operands, several per workgroup for batches of
/// small products. Shared memory stays below 16 KiB, workgroups between 64 and 256 threads.
pub(super) const TILE_SHAPES: [TileShape; 7] = [
    TileShape::new(1, 64, 64, 16),
    TileShape::new(1, 32, 32, 16),
    TileShape::new(4, 16, 16, 8),
    TileShape::new(16, 8, 8, 8),
    TileShape::new(64, 4, 4, 4),
    TileShape::new(1, 4, 256, 8),
    TileShape::new(1, 256, 4, 8),
];

/// What distinguishes one compiled product kernel from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ProductKernel {
    pub shape: TileShape,
    /// Axes of the groups b, m, n, k, each rounded up so that few kernels serve all.
    pub axes: [usize; 4],
    /// Whether a second right operand is multiplied in.
    pub pair: bool,
}

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
}

/// Kinds of work with first rates of their own, for metering.
pub(super) const FAMILIES: usize = 3;

impl Kernel {
    /// Kind of work, below [`FAMILIES`].
    pub fn family(&self) -> usize {
        match self {
            Kernel::Product(_) => 0,
            Kernel::Window(_) | Kernel::Grouped(_) | Kernel::Lookup(_) | Kernel::Reduce { .. } => 1,
            Kernel::Map { .. } | Kernel::Layout { .. } | Kernel::Fill => 2,
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
                constant("THREADS", kernel.shape.threads());
                constant("BATCHES", kernel.shape.batches);
                constant("TILE_M", kernel.shape.m);
                constant("TILE_N", kernel.shape.n);
                constant("DEPTH", kernel.shape.depth);
                let _ = writeln!(text, "const PAIR: bool = {};", kernel.pair);
                for (group, name) in ["batch", "m", "n", "k"].iter().enumerate() {
                    let base = PRODUCT_AXES + group * MAX_AXES * PRODUCT_AXIS_WORDS;
                    decode(
                        &mut text,
                        &format!("{name}_offsets"),
                        base,
                        kernel.axes[group],
                        4,
                    );
                }
                text.push_str(COMMON);
                text.push_str(include_str!("../../../shaders/gemm.wgsl"));
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
                decode(&mut text, "lead_offsets", 8, kernel.axes, 2);
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
                decode(&mut text, "kept_offset", 8, *kept, 1);
                decode(
                    &mut text,
                    "reduced_offset",
                    8 + 2 * MAX_MAP_AXES,
                    *reduced,
                    1,
                );
                text.push_str(COMMON);
                text.push_str(include_str!("../../../shaders/reduce.wgsl"));
            }
            Kernel::Layout { axes } => {
                constant("THREADS", THREADS);
                decode(&mut text, "offsets", 8, *axes, 2);
                text.push_str(COMMON);
                text.push_str(include_str!("../../../shaders/layout.wgsl"));
            }
            Kernel::Fill => {
                constant("THREADS", THREADS);
                text.push_str(COMMON);
                text.push_str(include_str!("../../../shaders/fill.wgsl"));
            }
        }
        text
    }
}

const COMMON: &str = include_str!("../../../shaders/common.wgsl");
const NUMERIC: &str = include_str!("../../../shaders/numeric.wgsl");

/// First word of the product's axis tables.
pub(super) const PRODUCT_AXES: usize = 16;
/// Word of the product's flags: left (1) and right (2) are contiguous along k.
pub(super) const PRODUCT_FLAGS: usize = PRODUCT_AXES + 4 * MAX_AXES * PRODUCT_AXIS_WORDS;
/// Words per axis there: extent and four strides.
pub(super) const PRODUCT_AXIS_WORDS: usize = 5;

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

/// Writes `fn name(index) -> offsets`: a row-major index over axes to its offset in `tensors` tensors.
///
/// Axis `k` has its extent in word `base + k·(1 + tensors)` and its strides behind it. Without axes the
/// offsets are 0. Unrolled here, because the number of axes is small and known.
fn decode(text: &mut String, name: &str, base: usize, axes: usize, tensors: usize) {
    let kind = match tensors {
        1 => "u32".to_string(),
        n => format!("vec{n}<u32>"),
    };
    let _ = writeln!(text, "fn {name}(index: u32) -> {kind} {{");
    let _ = writeln!(text, "    var rest = index;\n    var sum = {kind}();");
    for axis in (0..axes).rev() {
        let at = base + axis * (1 + tensors);
        let words: Vec<String> = (1..=tensors)
            .map(|k| format!("word({}u)", at + k))
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
    let mut kernels = vec![Kernel::Fill];
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
    for shape in TILE_SHAPES {
        for axes in [[1; 4], [2, 1, 4, 4], [1, 2, 1, 6], [MAX_AXES; 4]] {
            for pair in [false, true] {
                kernels.push(Kernel::Product(ProductKernel { shape, axes, pair }));
            }
        }
    }
    let source = |kernel: &Kernel| ShaderSource {
        name: format!("{kernel:?}"),
        wgsl: kernel.source(),
    };
    kernels.iter().map(source).collect()
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
