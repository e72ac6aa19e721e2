//! The primitives in host memory, in f32 and f64: faer for products, rayon for threads.
//!
//! One file per family of primitives; each takes and gives [`Tensor`]s. Results depend on shapes and values
//! alone, not on the number of threads. This folder must not know of networks.

mod contract;
mod convolution;
mod einsum;
mod elementwise;
mod grouped;
mod layout;
mod lookup;
mod matrix;
mod patches;
mod pool;
mod reduce;
mod walk;
mod window;

pub use contract::Accumulator;
pub use window::Indices;

use super::{Backend, Einsum, Expr, HostSlice, Real, Shape, Window};
use crate::error::Result;
use std::marker::PhantomData;
use std::sync::Arc;

/// The CPU backend, in the precision of `R`.
///
/// ```
/// use hessblock::internals::tensor::{Backend, HostSlice, Shape, cpu::Cpu};
/// let cpu = Cpu::<f64>::new();
/// let x = cpu.upload(&Shape::new(2, 1, &[2]), HostSlice::F64(&[1.0, 2.0, 3.0, 4.0]));
/// let sum = cpu.reduce_sum(&x, &[0]);
/// assert_eq!(cpu.read(&sum)?, [4.0, 6.0]);
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Cpu<R> {
    precision: PhantomData<R>,
}

impl<R: Real> Cpu<R> {
    /// The backend; work runs on rayon's global threads.
    pub fn new() -> Self {
        Self {
            precision: PhantomData,
        }
    }
}

/// A tensor in host memory: row-major, shared between its views.
#[derive(Clone, Debug)]
pub struct Tensor<R: Real> {
    shape: Shape,
    data: Arc<pool::Buffer<R>>,
    offset: usize,
}

impl<R: Real> Tensor<R> {
    fn new(shape: Shape, values: Vec<R>) -> Self {
        assert_eq!(shape.len(), values.len(), "a tensor of shape {shape:?}");
        Self {
            shape,
            data: Arc::new(pool::Buffer::new(values)),
            offset: 0,
        }
    }

    /// The values, `[samples, directions, rest…]`.
    pub fn values(&self) -> &[R] {
        &self.data[self.offset..self.offset + self.shape.len()]
    }

    /// The same elements under another shape.
    fn with_shape(&self, shape: Shape) -> Self {
        assert_eq!(
            shape.len(),
            self.shape.len(),
            "{:?} taken as {shape:?}",
            self.shape
        );
        self.part(shape, 0)
    }

    /// The elements from `offset` on, as many as `shape` has.
    fn part(&self, shape: Shape, offset: usize) -> Self {
        let offset = self.offset + offset;
        assert!(offset + shape.len() <= self.data.len());
        Self {
            shape,
            data: self.data.clone(),
            offset,
        }
    }

    /// Number of the unit (sample and direction), where either may be broadcast.
    fn unit(&self, sample: usize, direction: usize) -> usize {
        pick(sample, self.shape.samples) * self.shape.directions
            + pick(direction, self.shape.directions)
    }
}

/// The index into an axis that may be broadcast.
fn pick(index: usize, extent: usize) -> usize {
    if extent == 1 { 0 } else { index }
}

/// The extent that two axes broadcast to.
fn common(a: usize, b: usize) -> usize {
    assert!(a == b || a == 1 || b == 1, "extents {a} and {b}");
    if a == 1 { b } else { a }
}

impl<R: Real> Backend for Cpu<R> {
    type Real = R;
    type Tensor = Tensor<R>;
    type Indices = Indices;

    fn shape(&self, tensor: &Tensor<R>) -> Shape {
        tensor.shape.clone()
    }

    fn upload(&self, shape: &Shape, values: HostSlice<'_>) -> Tensor<R> {
        Tensor::new(shape.clone(), values.to_vec())
    }

    fn fill(&self, shape: &Shape, value: f64) -> Tensor<R> {
        Tensor::new(shape.clone(), vec![R::from_f64(value); shape.len()])
    }

    fn read(&self, tensor: &Tensor<R>) -> Result<Vec<R>> {
        Ok(tensor.values().to_vec())
    }

    fn map(&self, expr: &Expr, inputs: &[&Tensor<R>]) -> Tensor<R> {
        let scalar = Shape::new(1, 1, &[]);
        let into = inputs.iter().fold(scalar, |shape, input| {
            shape
                .broadcast(&input.shape)
                .unwrap_or_else(|| panic!("{:?} and {shape:?} do not broadcast", input.shape))
        });
        elementwise::map(expr, inputs, &into)
    }

    fn einsum(&self, einsum: &Einsum, left: &Tensor<R>, right: &Tensor<R>) -> Tensor<R> {
        einsum::einsum(einsum, left, right)
    }

    fn conv(
        &self,
        inputs: &Tensor<R>,
        weights: &Tensor<R>,
        window: &Window,
        groups: usize,
    ) -> Tensor<R> {
        convolution::conv(inputs, weights, window, groups)
    }

    fn conv_inputs(
        &self,
        cotangents: &Tensor<R>,
        weights: &Tensor<R>,
        window: &Window,
        groups: usize,
    ) -> Tensor<R> {
        convolution::conv_inputs(cotangents, weights, window, groups)
    }

    fn conv_weights(
        &self,
        cotangents: &Tensor<R>,
        inputs: &Tensor<R>,
        window: &Window,
        groups: usize,
        sum_samples: bool,
    ) -> Tensor<R> {
        convolution::conv_weights(cotangents, inputs, window, groups, sum_samples)
    }

    fn window_sum(&self, inputs: &Tensor<R>, window: &Window) -> Tensor<R> {
        window::window_sum(inputs, window, false)
    }

    fn window_spread(&self, cotangents: &Tensor<R>, window: &Window) -> Tensor<R> {
        window::window_sum(cotangents, window, true)
    }

    fn max_pool_indices(&self, inputs: &Tensor<R>, window: &Window) -> Indices {
        window::max_pool_indices(inputs, window)
    }

    fn gather(&self, inputs: &Tensor<R>, indices: &Indices, window: &Window) -> Tensor<R> {
        window::gather(inputs, indices, window)
    }

    fn scatter(&self, cotangents: &Tensor<R>, indices: &Indices, window: &Window) -> Tensor<R> {
        window::scatter(cotangents, indices, window)
    }

    fn reduce_sum(&self, inputs: &Tensor<R>, axes: &[usize]) -> Tensor<R> {
        reduce::reduce_sum(inputs, axes)
    }

    fn broadcast(&self, inputs: &Tensor<R>, rest: &[usize]) -> Tensor<R> {
        let into = Shape::new(inputs.shape.samples, inputs.shape.directions, rest);
        elementwise::map(&Expr::input(0), &[inputs], &into)
    }

    fn reshape(&self, inputs: &Tensor<R>, rest: &[usize]) -> Tensor<R> {
        inputs.with_shape(Shape::new(
            inputs.shape.samples,
            inputs.shape.directions,
            rest,
        ))
    }

    fn permute(&self, inputs: &Tensor<R>, order: &[usize]) -> Tensor<R> {
        layout::permute(inputs, order)
    }

    fn slice(&self, inputs: &Tensor<R>, axis: usize, start: usize, stop: usize) -> Tensor<R> {
        layout::slice(inputs, axis, start, stop)
    }

    fn embed(&self, inputs: &Tensor<R>, axis: usize, start: usize, extent: usize) -> Tensor<R> {
        layout::embed(inputs, axis, start, extent)
    }

    fn take(&self, inputs: &Tensor<R>, indices: &Tensor<R>, axis: usize) -> Tensor<R> {
        lookup::take(inputs, indices, axis)
    }

    fn put(
        &self,
        cotangents: &Tensor<R>,
        indices: &Tensor<R>,
        axis: usize,
        range: std::ops::Range<usize>,
        sum_samples: bool,
    ) -> Tensor<R> {
        lookup::put(cotangents, indices, axis, range, sum_samples)
    }

    fn concat(&self, inputs: &[&Tensor<R>], axis: usize) -> Tensor<R> {
        layout::concat(inputs, axis)
    }
}
