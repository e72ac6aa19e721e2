//! Kernels as text: a `.wgsl` family with its constants before it.
//!
//! May use launch parameters and tile shapes; must not know of devices, nor of who launches a kernel.

mod expression;
mod list;
mod offsets;
mod product;

pub use list::{ShaderSource, map_source, shader_sources};
pub(super) use product::{GROUPS, Load, ProductKernel, Symmetry};

use std::fmt::Write;

use super::params::{self, Param};
use super::tiles::LARGE;
use crate::tensor::Expr;
use offsets::{Strides, decode};

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

    /// The parameters of its family.
    fn params(&self) -> &'static [Param] {
        match self {
            Kernel::Product(_) => params::product::ALL,
            Kernel::Window(_) => params::window::ALL,
            Kernel::Grouped(_) => params::grouped::ALL,
            Kernel::Lookup(_) => params::lookup::ALL,
            Kernel::Map { .. } => params::map::ALL,
            Kernel::Reduce { .. } => params::reduce::ALL,
            Kernel::Layout { .. } => params::layout::ALL,
            Kernel::Fill => params::fill::ALL,
            Kernel::Probe => params::probe::ALL,
        }
    }

    /// The whole module: constants of the launch parameters and of the configuration, then shared text, then the family's own.
    pub fn source(&self) -> String {
        let mut text = params::constants(self.params());
        if let Kernel::Product(kernel) = self {
            text.push_str(&kernel.prelude());
            text.push_str(COMMON);
            text.push_str(&kernel.body(self.family_text()));
            return text;
        }
        let _ = writeln!(text, "const THREADS: u32 = {THREADS}u;");
        self.configure(&mut text);
        text.push_str(COMMON);
        if matches!(self, Kernel::Window(_) | Kernel::Map { .. }) {
            text.push_str(NUMERIC);
        }
        text.push_str(self.family_text());
        text
    }

    /// Writes constants and functions that tell this kernel from others of its family.
    fn configure(&self, text: &mut String) {
        match self {
            Kernel::Window(kernel) => {
                let chosen = *kernel == WindowKernel::Scatter;
                let _ = writeln!(text, "const TRANSPOSED: bool = {};", kernel.is_transposed());
                let _ = writeln!(text, "const CHOSEN: bool = {chosen};");
            }
            Kernel::Grouped(kernel) => {
                let _ = writeln!(text, "const TRANSPOSED: bool = {};", kernel.transposed);
                let _ = writeln!(text, "const UNIT: bool = {};", kernel.unit);
                let lead = Strides::all("lead_offsets", params::grouped::LEAD_AXES, 2);
                decode(text, &lead, kernel.axes);
            }
            Kernel::Map { expr, axes } => {
                let _ = writeln!(text, "const OUTPUT: u32 = {}u;", expr.arity() + 1);
                text.push_str(&expression::evaluate_function(expr, *axes));
            }
            Kernel::Reduce { kept, reduced } => {
                let _ = writeln!(text, "const CHUNK: u32 = {REDUCE_CHUNK}u;");
                let strides = Strides::all("kept_offset", params::reduce::KEPT_AXES, 1);
                decode(text, &strides, *kept);
                let strides = Strides::all("reduced_offset", params::reduce::REDUCED_AXES, 1);
                decode(text, &strides, *reduced);
            }
            Kernel::Layout { axes } => {
                let strides = Strides::all("offsets", params::layout::AXES, 2);
                decode(text, &strides, *axes);
            }
            Kernel::Product(_) | Kernel::Lookup(_) | Kernel::Fill | Kernel::Probe => {}
        }
    }

    /// The family's file.
    fn family_text(&self) -> &'static str {
        match self {
            Kernel::Product(_) => include_str!("../../../../shaders/gemm.wgsl"),
            Kernel::Window(_) => include_str!("../../../../shaders/window.wgsl"),
            Kernel::Grouped(_) => include_str!("../../../../shaders/grouped.wgsl"),
            Kernel::Lookup(_) => include_str!("../../../../shaders/lookup.wgsl"),
            Kernel::Map { .. } => include_str!("../../../../shaders/map.wgsl"),
            Kernel::Reduce { .. } => include_str!("../../../../shaders/reduce.wgsl"),
            Kernel::Layout { .. } => include_str!("../../../../shaders/layout.wgsl"),
            Kernel::Fill => include_str!("../../../../shaders/fill.wgsl"),
            Kernel::Probe => include_str!("../../../../shaders/probe.wgsl"),
        }
    }
}

const COMMON: &str = include_str!("../../../../shaders/common.wgsl");
const NUMERIC: &str = include_str!("../../../../shaders/numeric.wgsl");
