//! The seam between formulas and machines: the [`Backend`] trait of about twenty primitives.
//!
//! Everything above this folder (operations, Jacobian factors, contraction) is written once over these
//! primitives and runs on [`cpu::Cpu`] in f32 and f64, on the GPU, on [`meter::Meter`] (shapes alone, to
//! predict bytes and operations) and, through [`dual::Dual`], in forward mode on any of them.
//! This folder must not know of networks.

mod chains;
pub mod cpu;
pub mod dual;
pub mod expression;
#[cfg(feature = "gpu")]
pub mod gpu;
pub mod meter;
mod placement;
mod real;
mod shape;
mod tally;

pub use expression::Expr;
pub use real::{HostArray, HostData, HostSlice, Real};
pub use shape::{Shape, broadcast_rest, broadcast_strides, strides};
pub use tally::{Kind, TERMS, Tally, Work};

use crate::error::Result;

/// Geometry of a convolution or pooling over up to three spatial axes.
///
/// `output` is given, not derived: ceil mode and `auto_pad` are settled by the importer. A window
/// position may reach past the padded input (ceil mode); what lies outside reads as zero.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// Input extent per spatial axis.
    pub input: Vec<usize>,
    /// Output extent per spatial axis.
    pub output: Vec<usize>,
    /// Kernel extent per spatial axis.
    pub kernel: Vec<usize>,
    /// Step of the window per spatial axis.
    pub stride: Vec<usize>,
    /// Distance between the kernel's taps per spatial axis.
    pub dilation: Vec<usize>,
    /// Zeros before the input per spatial axis.
    pub padding: Vec<usize>,
}

impl Window {
    /// A window that is the same along two axes, undilated: extents of input, output and kernel, step, and zeros before.
    pub(crate) fn square(
        input: usize,
        output: usize,
        kernel: usize,
        stride: usize,
        padding: usize,
    ) -> Window {
        Window {
            input: vec![input; 2],
            output: vec![output; 2],
            kernel: vec![kernel; 2],
            stride: vec![stride; 2],
            dilation: vec![1; 2],
            padding: vec![padding; 2],
        }
    }

    /// One window over all of an axis.
    pub fn over_all(extent: usize) -> Window {
        Window {
            input: vec![extent],
            output: vec![1],
            kernel: vec![extent],
            stride: vec![1],
            dilation: vec![1],
            padding: vec![0],
        }
    }

    /// Whether there is one window, and it is the input: the convolution is a plain product.
    pub fn is_whole(&self) -> bool {
        self.kernel == self.input
            && self.output.iter().all(|&extent| extent == 1)
            && self.dilation.iter().all(|&step| step == 1)
            && self.padding.iter().all(|&padding| padding == 0)
    }

    /// The same geometry over exactly three spatial axes, leading ones added.
    pub fn three_dimensional(&self) -> Window {
        let pad = |v: &[usize], with: usize| {
            let mut out = vec![with; 3 - v.len()];
            out.extend_from_slice(v);
            out
        };
        Window {
            input: pad(&self.input, 1),
            output: pad(&self.output, 1),
            kernel: pad(&self.kernel, 1),
            stride: pad(&self.stride, 1),
            dilation: pad(&self.dilation, 1),
            padding: pad(&self.padding, 0),
        }
    }
}

/// A product of two tensors with named axes, such as `"sdto,sdoi->sdti"`.
///
/// Each operand's labels name all its axes, samples and directions first; an axis of extent 1 broadcasts.
/// A label missing from the output is summed over. In the output, `1` stands for an axis of extent 1.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Einsum {
    /// Labels of the left operand.
    pub left: Vec<u8>,
    /// Labels of the right operand.
    pub right: Vec<u8>,
    /// Labels of the output; `b'1'` is an axis of extent 1.
    pub output: Vec<u8>,
}

impl Einsum {
    /// Reads `"left,right->output"`.
    pub fn new(formula: &str) -> Einsum {
        let (operands, output) = formula
            .split_once("->")
            .expect("an einsum formula has an arrow");
        let (left, right) = operands
            .split_once(',')
            .expect("an einsum formula has two operands");
        Einsum {
            left: left.as_bytes().to_vec(),
            right: right.as_bytes().to_vec(),
            output: output.as_bytes().to_vec(),
        }
    }

    /// Extent of each label, and the output's shape.
    ///
    /// # Panics
    /// Where the operands' shapes do not fit the formula: the callers' shapes are checked at import.
    pub fn extents(
        &self,
        left: &Shape,
        right: &Shape,
    ) -> (std::collections::BTreeMap<u8, usize>, Shape) {
        let mut extents = std::collections::BTreeMap::new();
        for (labels, shape) in [(&self.left, left), (&self.right, right)] {
            let axes = shape.axes();
            assert_eq!(
                labels.len(),
                axes.len(),
                "einsum {self:?} of {left:?} and {right:?}"
            );
            for (&label, &extent) in labels.iter().zip(&axes) {
                let known = extents.entry(label).or_insert(extent);
                assert!(
                    *known == extent || *known == 1 || extent == 1,
                    "einsum {self:?} of {left:?} and {right:?}"
                );
                if *known == 1 {
                    *known = extent;
                }
            }
        }
        let axes: Vec<usize> = self
            .output
            .iter()
            .map(|label| if *label == b'1' { 1 } else { extents[label] })
            .collect();
        (extents, Shape::from_axes(&axes))
    }
}

/// What a device did since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DeviceCounters {
    /// Seconds with work under way.
    pub busy_seconds: f64,
    /// Bytes copied to the device.
    pub uploaded_bytes: u64,
    /// Bytes copied to host memory.
    pub read_back_bytes: u64,
    /// Seconds of copying them, once the device was through.
    pub read_back_seconds: f64,
}

/// The most that a device was seen to do.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RateLimits {
    /// Operations per second.
    pub operations: Option<f64>,
    /// Bytes read back per second.
    pub read_back: Option<f64>,
}

/// The primitives. Tensors are immutable, cheap to clone, contiguous and row-major in
/// `[samples, directions, rest…]`.
///
/// Primitives enqueue and return; only [`Backend::read`] waits. Shapes are checked at import, so a
/// primitive given shapes that do not fit panics: that is a fault of this crate, not of its input.
pub trait Backend {
    /// The number type.
    type Real: Real;
    /// A tensor on the device.
    type Tensor: Clone;
    /// Positions chosen by [`Backend::max_pool_indices`].
    type Indices: Clone;

    /// Bytes of the largest tensor that the device takes.
    fn largest_tensor(&self) -> u64 {
        u64::MAX
    }

    /// The most bytes of device memory in use at a time so far, where that is not the host's memory.
    fn peak_device_bytes(&self) -> Option<u64> {
        None
    }

    /// What to call the device.
    fn device_name(&self) -> String {
        "CPU".into()
    }

    /// What the device did since it was opened, where that is not the host.
    fn device_counters(&self) -> Option<DeviceCounters> {
        None
    }

    /// The most that the device was seen to do, where that was measured.
    fn rate_limits(&self) -> RateLimits {
        RateLimits::default()
    }

    /// The tensor's shape. A dual tensor's is its primal's.
    fn shape(&self, tensor: &Self::Tensor) -> Shape;

    /// Copies host values (rounded to [`Backend::Real`]) to the device.
    fn upload(&self, shape: &Shape, values: HostSlice<'_>) -> Self::Tensor;

    /// A tensor of one value.
    fn fill(&self, shape: &Shape, value: f64) -> Self::Tensor;

    /// Waits for the tensor and copies it to the host.
    ///
    /// # Errors
    /// [`crate::Error::Device`] when the device failed on the way here.
    fn read(&self, tensor: &Self::Tensor) -> Result<Vec<Self::Real>>;

    /// Applies a scalar expression at every position of the inputs' common broadcast shape.
    fn map(&self, expr: &Expr, inputs: &[&Self::Tensor]) -> Self::Tensor;

    /// Product of two tensors with named axes; a batched GEMM.
    fn einsum(&self, einsum: &Einsum, left: &Self::Tensor, right: &Self::Tensor) -> Self::Tensor;

    /// Convolution (cross-correlation, as in ONNX): inputs `[s, d, B, C, in…]`, weights
    /// `[1, d, O, C/g, k…]` → `[s, d, B, O, out…]`.
    fn conv(
        &self,
        inputs: &Self::Tensor,
        weights: &Self::Tensor,
        window: &Window,
        groups: usize,
    ) -> Self::Tensor;

    /// Transpose of [`Backend::conv`] in its inputs: cotangents `[s, d, B, O, out…]` → `[s, d, B, C, in…]`.
    fn conv_inputs(
        &self,
        cotangents: &Self::Tensor,
        weights: &Self::Tensor,
        window: &Window,
        groups: usize,
    ) -> Self::Tensor;

    /// Transpose of [`Backend::conv`] in its weights: cotangents `[s, d, B, O, out…]` and inputs
    /// `[s, d, B, C, in…]` → `[s, d, O, C/g, k…]`, summed over B; summed over samples too
    /// (`[1, d, …]`) where `sum_samples`.
    fn conv_weights(
        &self,
        cotangents: &Self::Tensor,
        inputs: &Self::Tensor,
        window: &Window,
        groups: usize,
        sum_samples: bool,
    ) -> Self::Tensor;

    /// Sum over each window of the last axes: `[s, d, …, in…]` → `[s, d, …, out…]`.
    fn window_sum(&self, inputs: &Self::Tensor, window: &Window) -> Self::Tensor;

    /// Transpose of [`Backend::window_sum`]: `[s, d, …, out…]` → `[s, d, …, in…]`.
    fn window_spread(&self, cotangents: &Self::Tensor, window: &Window) -> Self::Tensor;

    /// Where each window of the last axes has its (first) maximum, as positions in the flattened input
    /// window axes.
    fn max_pool_indices(&self, inputs: &Self::Tensor, window: &Window) -> Self::Indices;

    /// Picks the chosen positions: `[s, d, …, in…]` → `[s, d, …, out…]`.
    fn gather(
        &self,
        inputs: &Self::Tensor,
        indices: &Self::Indices,
        window: &Window,
    ) -> Self::Tensor;

    /// Transpose of [`Backend::gather`]: `[s, d, …, out…]` → `[s, d, …, in…]`, overlaps summed.
    fn scatter(
        &self,
        cotangents: &Self::Tensor,
        indices: &Self::Indices,
        window: &Window,
    ) -> Self::Tensor;

    /// Sum over the axes listed (numbered over all axes, samples 0, directions 1), which are kept with
    /// extent 1.
    fn reduce_sum(&self, inputs: &Self::Tensor, axes: &[usize]) -> Self::Tensor;

    /// Repeats the rest (aligned at the last axis) to `rest`.
    fn broadcast(&self, inputs: &Self::Tensor, rest: &[usize]) -> Self::Tensor;

    /// The same elements under another rest; no copy.
    fn reshape(&self, inputs: &Self::Tensor, rest: &[usize]) -> Self::Tensor;

    /// Permutes the rest: output axis `k` is input axis `order[k]`.
    fn permute(&self, inputs: &Self::Tensor, order: &[usize]) -> Self::Tensor;

    /// The part `start..stop` of an axis (numbered over all axes). Slicing samples or directions of a
    /// tensor that has extent 1 there is the caller's fault.
    fn slice(&self, inputs: &Self::Tensor, axis: usize, start: usize, stop: usize) -> Self::Tensor;

    /// Places `inputs` at `start` along an axis of extent `extent`, zeros around: transpose of
    /// [`Backend::slice`].
    fn embed(
        &self,
        inputs: &Self::Tensor,
        axis: usize,
        start: usize,
        extent: usize,
    ) -> Self::Tensor;

    /// Picks entries of an axis of the rest (numbered over all axes) by number: inputs
    /// `[s, d, …, E, …]` and indices `[s, 1, K]`, whole numbers in 0..E, → `[s, d, …, K, …]`. Samples
    /// broadcast. A number outside 0..E picks 0.
    fn take(&self, inputs: &Self::Tensor, indices: &Self::Tensor, axis: usize) -> Self::Tensor;

    /// Transpose of [`Backend::take`] in its inputs, of which it makes the entries `range`: cotangents
    /// `[s, d, …, K, …]` and indices `[s, 1, K]` → `[s, d, …, range, …]`, equal indices summed; summed over
    /// samples too (`[1, d, …]`) where `sum_samples`.
    fn put(
        &self,
        cotangents: &Self::Tensor,
        indices: &Self::Tensor,
        axis: usize,
        range: std::ops::Range<usize>,
        sum_samples: bool,
    ) -> Self::Tensor;

    /// Joins along an axis of the rest (numbered over all axes); samples and directions broadcast.
    fn concat(&self, inputs: &[&Self::Tensor], axis: usize) -> Self::Tensor;

    /// Sum of two tensors of any broadcastable shapes.
    fn add(&self, left: &Self::Tensor, right: &Self::Tensor) -> Self::Tensor {
        self.map(&(Expr::input(0) + Expr::input(1)), &[left, right])
    }

    /// Product of two tensors of any broadcastable shapes.
    fn multiply(&self, left: &Self::Tensor, right: &Self::Tensor) -> Self::Tensor {
        self.map(&(Expr::input(0) * Expr::input(1)), &[left, right])
    }
}

/// Where a product goes in its tile.
///
/// A tile of a symmetric part takes each product of two of its parameters once, the earlier one's as rows; what lies
/// on the other side of the diagonal is the same numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MirrorRule {
    /// To rows × columns.
    Own,
    /// To columns × rows, transposed.
    Transposed,
    /// To both.
    Both,
    /// A factor's product with itself, at a square on the diagonal: one half decides both.
    Symmetric,
}

/// How a product enters its tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Its place.
    pub mirror: MirrorRule,
    /// Whether the place holds nothing yet: the product is written there, whatever was. Otherwise it is added.
    pub begin: bool,
}

impl Placement {
    /// Added to rows × columns.
    pub const ADD: Placement = Placement {
        mirror: MirrorRule::Own,
        begin: false,
    };
}

/// One side of an outer × outer product: how an entry (o, i) of a factor lies in the tile.
///
/// The tile's row (or column) of (o, i) is `origin + o·output_stride + i·input_stride`. One axis nests in the other, so that
/// no two entries share a place: the kernels write places in parallel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OuterAxes {
    /// Row or column of (0, 0).
    pub origin: usize,
    /// Step per output o.
    pub output_stride: usize,
    /// Step per input i.
    pub input_stride: usize,
}

/// What both sides of an outer × outer product hold of some samples.
#[derive(Debug)]
pub struct OuterTerm<'a, T> {
    /// Δ of the rows: `[samples, directions, O]`.
    pub row_cotangents: &'a T,
    /// Δ' of the columns, signed where directions carry signs: `[samples, directions, O']`.
    pub column_cotangents: &'a T,
    /// a of shape `[samples, 1, I]`; `None` is a = 1 with I = 1 (a bias).
    pub row_inputs: Option<&'a T>,
    /// a' alike.
    pub column_inputs: Option<&'a T>,
}

impl<T> Clone for OuterTerm<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for OuterTerm<'_, T> {}

/// Which inputs of an outer × outer product are scaled by P_n, and so how its terms are rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scaled {
    /// `(P_n[o, o'] a_n[i])·a'_n[i']`.
    Rows,
    /// `(P_n[o, o'] a'_n[i'])·a_n[i]`.
    Columns,
    /// The first; and both sides' inputs are the same, so that the product is symmetric in (i, i').
    Alike,
}

/// The contraction kernels: tiles of G accumulated on the device and read back.
pub trait Contract: Backend + Sync {
    /// A tile `[rows, columns]` under way.
    type Accumulator;
    /// A tile on its way to the host; another thread may wait for it.
    type Pending: Send;

    /// A tile of zeros.
    fn accumulator(&self, rows: usize, columns: usize) -> Self::Accumulator;

    /// A tile that holds anything until a product begins it; in memory of the caller's, which [`Contract::collect`] gives
    /// back, where tiles are accumulated in host memory.
    fn accumulator_in(
        &self,
        rows: usize,
        columns: usize,
        memory: Vec<Self::Real>,
    ) -> Self::Accumulator {
        drop(memory);
        self.accumulator(rows, columns)
    }

    /// Whether tiles are accumulated in host memory.
    fn accumulates_in_host_memory(&self) -> bool {
        false
    }

    /// `tile[row + q, column + q'] += Σ_n Σ_r left[n, r, q] · right[n, r, q']` at `origin` = (row, column), or as `how` says.
    ///
    /// `sides` are left and right, `[samples, directions, q]` each; DESIGN §2, dense × dense.
    fn accumulate_dense(
        &self,
        tile: &mut Self::Accumulator,
        how: Placement,
        origin: (usize, usize),
        sides: (&Self::Tensor, &Self::Tensor),
    );

    /// `tile[(o, i), (o', i')] += Σ_n P_n[o, o'] a_n[i] a'_n[i']` with `P_n[o, o'] = Σ_r Δ_n[r, o] Δ'_n[r, o']`.
    ///
    /// `sides` are rows and columns, `how` as for [`Contract::accumulate_dense`]; of [`MirrorRule::Symmetric`] the inputs
    /// are [`Scaled::Alike`]. DESIGN §2, outer × outer, and with Δ' = V and a' = 1 outer × dense.
    fn accumulate_outer(
        &self,
        tile: &mut Self::Accumulator,
        how: Placement,
        sides: (OuterAxes, OuterAxes),
        term: OuterTerm<'_, Self::Tensor>,
        scaled: Scaled,
    );

    /// Forgets an error that spoilt tensors and tiles, all of which are dropped by now, and gives unused memory back.
    fn forget_failure(&self) {}

    /// Starts the way back to the host.
    fn finish(&self, tile: Self::Accumulator) -> Self::Pending;

    /// Whether all numbers of a finished tile are known to be finite.
    fn is_finite(&self, _pending: &Self::Pending) -> bool {
        false
    }

    /// Waits for a finished tile: row-major `[rows, columns]`.
    ///
    /// # Errors
    /// [`crate::Error::Device`] when the device failed on the way here.
    fn collect(&self, pending: Self::Pending) -> Result<Vec<Self::Real>>;
}
