//! A primitive of [`Backend`] with its numbers, ready to run on any backend.

use super::array::Array;
use crate::error::Result;
use crate::random::Draws;
use crate::tensor::{Backend, Einsum, Expr, HostSlice, Shape, Window};
use std::ops::Range;
use std::sync::Arc;

/// A primitive with all but its tensors.
#[derive(Clone, Debug)]
pub enum Primitive {
    /// An upload, read back.
    Read,
    /// The first tensor's shape, filled.
    Fill(f64),
    /// A product by its formula.
    Einsum(&'static str),
    /// A convolution over a window, in so many groups.
    Conv(Window, usize),
    /// Its transpose in the inputs.
    ConvInputs(Window, usize),
    /// Its transpose in the weights, summed over samples or not.
    ConvWeights(Window, usize, bool),
    /// Sums over windows.
    WindowSum(Window),
    /// Their transpose.
    WindowSpread(Window),
    /// The positions themselves: they are opaque, so they pick from a tensor that holds its own positions.
    MaxPoolIndices(Window),
    /// Of the first tensor at the maxima of the second.
    Gather(Window),
    /// The transpose of that.
    Scatter(Window),
    /// An elementwise expression.
    Map(Expr),
    /// Sums over axes.
    ReduceSum(Vec<usize>),
    /// The same numbers in another shape.
    Reshape(Vec<usize>),
    /// Axes in another order.
    Permute(Vec<usize>),
    /// Of an axis, entries from one to another.
    Slice(usize, usize, usize),
    /// On an axis, from an entry on, among so many.
    Embed(usize, usize, usize),
    /// Entries of an axis by the second tensor, whole numbers.
    Take(usize),
    /// Those entries, summed over samples or not.
    Put(usize, Range<usize>, bool),
    /// Side by side along an axis.
    Concat(usize),
    /// Repeated to a shape.
    Broadcast(Vec<usize>),
}

impl Primitive {
    /// Runs it. `chosen` is what [`Backend::max_pool_indices`] gave for the last tensor.
    fn apply<B: Backend>(
        &self,
        backend: &B,
        inputs: &[B::Tensor],
        chosen: Option<&B::Indices>,
    ) -> B::Tensor {
        let x = &inputs[0];
        let chosen = || chosen.expect("positions are chosen where they are used");
        match self {
            Primitive::Read => x.clone(),
            Primitive::Fill(value) => backend.fill(&backend.shape(x), *value),
            Primitive::Einsum(formula) => backend.einsum(&Einsum::new(formula), x, &inputs[1]),
            Primitive::Conv(window, groups) => backend.conv(x, &inputs[1], window, *groups),
            Primitive::ConvInputs(window, groups) => {
                backend.conv_inputs(x, &inputs[1], window, *groups)
            }
            Primitive::ConvWeights(window, groups, sum) => {
                backend.conv_weights(x, &inputs[1], window, *groups, *sum)
            }
            Primitive::WindowSum(window) => backend.window_sum(x, window),
            Primitive::WindowSpread(window) => backend.window_spread(x, window),
            Primitive::MaxPoolIndices(window) => {
                let shape = backend.shape(x);
                let each: usize = window.input.iter().product();
                let positions: Vec<f64> = (0..shape.len()).map(|k| (k % each) as f64).collect();
                let positions = backend.upload(&shape, HostSlice::F64(&positions));
                backend.gather(&positions, chosen(), window)
            }
            Primitive::Gather(window) => backend.gather(x, chosen(), window),
            Primitive::Scatter(window) => backend.scatter(x, chosen(), window),
            Primitive::Map(expr) => {
                let inputs: Vec<&B::Tensor> = inputs.iter().collect();
                backend.map(expr, &inputs)
            }
            Primitive::ReduceSum(axes) => backend.reduce_sum(x, axes),
            Primitive::Reshape(rest) => backend.reshape(x, rest),
            Primitive::Permute(order) => backend.permute(x, order),
            Primitive::Slice(axis, start, stop) => backend.slice(x, *axis, *start, *stop),
            Primitive::Embed(axis, start, extent) => backend.embed(x, *axis, *start, *extent),
            Primitive::Take(axis) => backend.take(x, &inputs[1], *axis),
            Primitive::Put(axis, range, sum) => {
                backend.put(x, &inputs[1], *axis, range.clone(), *sum)
            }
            Primitive::Concat(axis) => {
                let inputs: Vec<&B::Tensor> = inputs.iter().collect();
                backend.concat(&inputs, *axis)
            }
            Primitive::Broadcast(rest) => backend.broadcast(x, rest),
        }
    }

    /// The window whose maxima of the last tensor are used.
    fn chosen(&self) -> Option<&Window> {
        match self {
            Primitive::Gather(window)
            | Primitive::Scatter(window)
            | Primitive::MaxPoolIndices(window) => Some(window),
            _ => None,
        }
    }

    /// Below which number the whole numbers of the second tensor lie, where it holds such.
    fn lookup(&self, shapes: &[Shape]) -> Option<usize> {
        match self {
            Primitive::Take(axis) => Some(shapes[0].axes()[*axis]),
            Primitive::Put(_, range, _) => Some(range.end),
            _ => None,
        }
    }
}

/// A primitive with the shapes of its tensors.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The primitive.
    pub primitive: Primitive,
    /// The shapes of its tensors.
    pub shapes: Vec<Shape>,
}

impl Setting {
    /// Made-up numbers for its tensors, the same on every machine: in −1..1, and such that single precision holds, so
    /// that all devices start from the same; whole ones where they are looked up.
    pub fn arrays(&self) -> Vec<Arc<Array>> {
        let lookup = self.primitive.lookup(&self.shapes);
        let array = |(k, shape): (usize, &Shape)| {
            let mut draws = Draws::new(0, k as u64, 0);
            let mut draw = || match lookup.filter(|_| k == 1) {
                Some(extent) => (draws.uniform() * extent as f64).floor(),
                None => f64::from((2.0 * draws.uniform() - 1.0) as f32),
            };
            let values = (0..shape.len()).map(|_| draw()).collect();
            Arc::new(Array::new(shape.clone(), values))
        };
        self.shapes.iter().enumerate().map(array).collect()
    }
}

/// A primitive with its tensors on a backend.
pub struct Loaded<B: Backend> {
    primitive: Primitive,
    inputs: Vec<B::Tensor>,
    chosen: Option<B::Indices>,
}

impl<B: Backend> Loaded<B> {
    /// Copies the numbers to the backend.
    pub fn new(backend: &B, primitive: &Primitive, arrays: &[Arc<Array>]) -> Loaded<B> {
        let upload = |a: &Arc<Array>| backend.upload(&a.shape, HostSlice::F64(&a.values));
        let inputs: Vec<B::Tensor> = arrays.iter().map(upload).collect();
        let of = inputs.last().expect("a primitive has a tensor");
        let chosen = primitive
            .chosen()
            .map(|window| backend.max_pool_indices(of, window));
        Loaded {
            primitive: primitive.clone(),
            inputs,
            chosen,
        }
    }

    /// Runs it, on the backend that it was copied to.
    pub fn apply(&self, backend: &B) -> B::Tensor {
        self.primitive
            .apply(backend, &self.inputs, self.chosen.as_ref())
    }
}

/// Waits for a tensor, and with it for all that was enqueued before: one number is read back.
pub fn wait<B: Backend>(backend: &B, tensor: &B::Tensor) -> Result<()> {
    let shape = backend.shape(tensor);
    let mut one = backend.reshape(tensor, &[shape.rest_len()]);
    for (axis, extent) in [shape.samples, shape.directions, shape.rest_len()]
        .into_iter()
        .enumerate()
    {
        if extent > 1 {
            one = backend.slice(&one, axis, 0, 1);
        }
    }
    std::hint::black_box(backend.read(&one)?);
    Ok(())
}
