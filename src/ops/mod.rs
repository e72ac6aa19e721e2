//! Operations: one file each with shape rule, forward and vjp, written once over the tensor primitives.
//!
//! An operation sees rests only (shapes at batch 1) and never reads values; so every rule also runs on
//! dual numbers, forward over reverse. This folder must not know which backend runs.

mod concat;
mod conv;
mod einsum;
mod elementwise;
mod linear;
mod permute;
mod pool;
mod reduce;
mod reshape;
mod role;
mod site;
mod slice;
mod softmax;
mod take;

pub use concat::Concat;
pub use conv::{Conv, ConvTranspose};
pub use einsum::Einsum;
pub(crate) use einsum::LABELS;
pub use elementwise::Elementwise;
pub use linear::Linear;
pub use permute::Permute;
pub use pool::{MaxPool, WindowSum};
pub use reduce::ReduceSum;
pub use reshape::{Broadcast, Reshape};
pub use role::Role;
pub use site::{Outer, Site, SiteKind, Step};
pub use slice::Slice;
pub use softmax::Softmax;
pub use take::{Lookup, Put, Take};

use crate::error::{Error, Result};
use crate::tensor::Backend;
use ndarray::ArrayD;

/// What a vjp may look at.
pub struct Pullback<'a, B: Backend> {
    /// The operands as the forward pass saw them.
    pub inputs: &'a [B::Tensor],
    /// What the forward pass chose (max-pool).
    pub indices: Option<&'a B::Indices>,
    /// Cotangent of the result: `[s, d, rest…]`.
    pub cotangent: &'a B::Tensor,
}

/// The result of a forward step, and what it chose on the way.
pub struct Forward<B: Backend> {
    /// The value.
    pub output: B::Tensor,
    /// Positions chosen, for max-pool.
    pub indices: Option<B::Indices>,
}

/// What every operation gives.
pub trait Operation {
    /// The result's rest from the operands' rests.
    ///
    /// # Errors
    /// [`Error::Shape`] saying what does not fit.
    fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>>;

    /// Whether the result has a derivative in an operand that is not zero everywhere: numbers of entries
    /// and sides of comparisons have none, and no cotangent is asked for them.
    fn differentiates(&self, _operand: usize) -> bool {
        true
    }

    /// Whether the result has the entries of the one operand, each once and no others, under other indices.
    fn relabels(&self) -> bool {
        false
    }

    /// The step of a site from the result back to the operand of shape `rest`; `None` unless the operation
    /// [`relabels`](Operation::relabels).
    fn step_back(&self, _rest: &[usize]) -> Option<Step> {
        None
    }

    /// The entries of the result, where it has some of the entries of the one operand and no others.
    fn arranged(&self, _entries: &ArrayD<usize>) -> Option<ArrayD<usize>> {
        None
    }

    /// Whether an offset of entry k of an operand is the same offset of entry k of the result, broadcasts aside.
    fn passes_offsets(&self, _operand: usize) -> bool {
        false
    }

    /// The operands that say which offset of the result a change of the parameter `operand` is; `None` unless every change of
    /// it is one, at each position of the result by itself.
    fn offset_inputs(&self, _operand: usize) -> Option<&'static [usize]> {
        None
    }

    /// The part that an operand of that shape plays where it is a parameter.
    fn role(&self, _operand: usize, _shape: &[usize]) -> Role {
        Role::Other
    }

    /// The result.
    fn forward<B: Backend>(&self, backend: &B, inputs: &[B::Tensor]) -> Forward<B>;

    /// The cotangent of one operand that depends on the samples.
    fn vjp<B: Backend>(&self, backend: &B, pullback: &Pullback<'_, B>, operand: usize)
    -> B::Tensor;

    /// The cotangent of one operand that is a parameter or made of parameters alone, kept unevaluated.
    fn site<B: Backend>(
        &self,
        backend: &B,
        pullback: &Pullback<'_, B>,
        operand: usize,
    ) -> SiteKind<B::Tensor>;
}

macro_rules! operations {
    ($($name:ident),*) => {
        /// Any operation.
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        #[allow(missing_docs)]
        pub enum Op { $($name($name)),* }

        impl Operation for Op {
            fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
                match self { $(Op::$name(op) => op.shape(inputs)),* }
            }
            fn differentiates(&self, operand: usize) -> bool {
                match self { $(Op::$name(op) => op.differentiates(operand)),* }
            }
            fn relabels(&self) -> bool {
                match self { $(Op::$name(op) => op.relabels()),* }
            }
            fn step_back(&self, rest: &[usize]) -> Option<Step> {
                match self { $(Op::$name(op) => op.step_back(rest)),* }
            }
            fn arranged(&self, entries: &ArrayD<usize>) -> Option<ArrayD<usize>> {
                match self { $(Op::$name(op) => op.arranged(entries)),* }
            }
            fn passes_offsets(&self, operand: usize) -> bool {
                match self { $(Op::$name(op) => op.passes_offsets(operand)),* }
            }
            fn offset_inputs(&self, operand: usize) -> Option<&'static [usize]> {
                match self { $(Op::$name(op) => op.offset_inputs(operand)),* }
            }
            fn role(&self, operand: usize, shape: &[usize]) -> Role {
                match self { $(Op::$name(op) => op.role(operand, shape)),* }
            }
            fn forward<B: Backend>(&self, backend: &B, inputs: &[B::Tensor]) -> Forward<B> {
                match self { $(Op::$name(op) => op.forward(backend, inputs)),* }
            }
            fn vjp<B: Backend>(&self, backend: &B, pullback: &Pullback<'_, B>, operand: usize) -> B::Tensor {
                match self { $(Op::$name(op) => op.vjp(backend, pullback, operand)),* }
            }
            fn site<B: Backend>(&self, backend: &B, pullback: &Pullback<'_, B>, operand: usize) -> SiteKind<B::Tensor> {
                match self { $(Op::$name(op) => op.site(backend, pullback, operand)),* }
            }
        }
        $(impl From<$name> for Op {
            fn from(op: $name) -> Op { Op::$name(op) }
        })*
    };
}
operations!(
    Broadcast,
    Concat,
    Conv,
    ConvTranspose,
    Einsum,
    Elementwise,
    Linear,
    Lookup,
    MaxPool,
    Permute,
    Put,
    ReduceSum,
    Reshape,
    Slice,
    Softmax,
    Take,
    WindowSum
);

impl<B: Backend> Forward<B> {
    /// A result with nothing chosen on the way.
    pub fn value(output: B::Tensor) -> Self {
        Self {
            output,
            indices: None,
        }
    }
}

/// Sums a cotangent over the axes along which an operand of shape `rest` was repeated.
fn reduce_to<B: Backend>(backend: &B, cotangent: &B::Tensor, rest: &[usize]) -> B::Tensor {
    let shape = backend.shape(cotangent);
    let missing = shape.rest.len() - rest.len();
    let axes: Vec<usize> = (0..shape.rest.len())
        .filter(|&axis| axis < missing || (rest[axis - missing] == 1 && shape.rest[axis] != 1))
        .map(|axis| axis + 2)
        .collect();
    let summed = if axes.is_empty() {
        cotangent.clone()
    } else {
        backend.reduce_sum(cotangent, &axes)
    };
    backend.reshape(&summed, rest)
}

fn shape_error<T>(message: String) -> Result<T> {
    Err(Error::Shape(message))
}
