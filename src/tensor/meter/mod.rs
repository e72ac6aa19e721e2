//! The backend of shapes alone: it predicts bytes and operations by being executed.
//!
//! Running the same passes over a [`Meter`] as over a device is what keeps `plan` and the run from
//! disagreeing (DESIGN §3, Execution).

mod contract;
mod convolution;
mod einsum;
mod runs;

use super::chains::Chains;
use super::placement::CopyLayout;
use super::tally::{Kind, Tally, Work};
use super::{Backend, Einsum, Expr, HostSlice, Shape, Window};
use crate::error::Result;
use convolution::{Convolved, conv_operations, copied};
use einsum::matrices;
use runs::repeated_runs;
use std::ops::Range;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Counts the bytes alive, their peak, and the floating-point operations of what runs on it.
#[derive(Clone, Debug)]
pub struct Meter {
    counters: Arc<Counters>,
    number_bytes: usize,
}

/// The counts of a meter, which its copies share.
#[derive(Debug, Default)]
struct Counters {
    live: Count,
    peak: Count,
    largest: Count,
    operations: Count,
    tally: Mutex<Tally>,
}

/// A number that one thread at a time changes: backends may be shared between threads, this one never is.
#[derive(Debug, Default)]
struct Count(AtomicU64);

impl Count {
    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// Memory that is counted while it lives.
#[derive(Debug)]
struct Allocation {
    bytes: u64,
    counters: Arc<Counters>,
}

impl Drop for Allocation {
    fn drop(&mut self) {
        self.counters
            .live
            .set(self.counters.live.get() - self.bytes);
    }
}

/// A tensor without values.
#[derive(Clone, Debug)]
pub struct MeterTensor {
    shape: Shape,
    memory: Rc<Allocation>,
}

/// A tile without values.
#[derive(Debug)]
pub struct MeterTile {
    _memory: Allocation,
}

impl Meter {
    /// A meter for numbers of `number_bytes` bytes.
    pub fn new(number_bytes: usize) -> Self {
        Self {
            counters: Arc::default(),
            number_bytes,
        }
    }

    /// Bytes alive now.
    pub fn live(&self) -> u64 {
        self.counters.live.get()
    }

    /// The most bytes alive at once since the start or the last [`Meter::reset_peak`].
    pub fn peak(&self) -> u64 {
        self.counters.peak.get()
    }

    /// The largest single tensor so far, in bytes.
    pub fn largest(&self) -> u64 {
        self.counters.largest.get()
    }

    /// Floating-point operations so far; a multiply-add is two.
    pub fn operations(&self) -> u64 {
        self.counters.operations.get()
    }

    /// Work by kind so far.
    pub fn tally(&self) -> Tally {
        *self.lock_tally()
    }

    /// Enters what is no primitive of the backend.
    pub(crate) fn enter(&self, kind: Kind, work: Work) {
        self.lock_tally().enter(kind, work);
    }

    fn lock_tally(&self) -> std::sync::MutexGuard<'_, Tally> {
        let tally = self.counters.tally.lock();
        tally.unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the peak anew from the bytes alive now.
    pub fn reset_peak(&self) {
        self.counters.peak.set(self.live());
    }

    fn allocate(&self, numbers: usize) -> Allocation {
        let bytes = numbers as u64 * self.number_bytes as u64;
        let counters = &self.counters;
        counters.live.set(counters.live.get() + bytes);
        counters
            .peak
            .set(counters.peak.get().max(counters.live.get()));
        counters.largest.set(counters.largest.get().max(bytes));
        Allocation {
            bytes,
            counters: Arc::clone(counters),
        }
    }

    fn tensor(&self, shape: Shape, operations: u64) -> MeterTensor {
        self.count(operations);
        self.blank(shape)
    }

    /// The result of a call that reads so many numbers.
    fn made(&self, kind: Kind, read: usize, shape: Shape, operations: u64) -> MeterTensor {
        let numbers = (read + shape.len()) as u64;
        self.enter(kind, Work::call(0, operations, numbers, 0));
        self.tensor(shape, operations)
    }

    /// A tensor whose work is entered apart.
    pub(crate) fn blank(&self, shape: Shape) -> MeterTensor {
        let memory = Rc::new(self.allocate(shape.len()));
        MeterTensor { shape, memory }
    }

    /// The result of a convolution, while a portion of `placed` is copied into its place; `None` where it is
    /// read as it lies.
    fn convolved(
        &self,
        placed: &MeterTensor,
        placement: Option<CopyLayout>,
        shape: Shape,
        operations: u64,
    ) -> MeterTensor {
        let _copy = placement.map(|placement| self.allocate(placement.copied(&placed.shape)));
        self.tensor(shape, operations)
    }

    fn count(&self, operations: u64) {
        self.counters
            .operations
            .set(self.counters.operations.get() + operations);
    }

    fn windowed(
        &self,
        kind: Kind,
        tensor: &MeterTensor,
        from: &[usize],
        to: &[usize],
        operations: u64,
    ) -> MeterTensor {
        let mut shape = tensor.shape.clone();
        let kept = shape.rest.len() - from.len();
        shape.rest.truncate(kept);
        shape.rest.extend_from_slice(to);
        self.made(kind, tensor.shape.len(), shape, operations)
    }
}

fn product(axes: &[usize]) -> u64 {
    axes.iter().map(|&e| e as u64).product()
}

impl Backend for Meter {
    type Real = f32;
    type Tensor = MeterTensor;
    type Indices = MeterTensor;

    fn shape(&self, tensor: &MeterTensor) -> Shape {
        tensor.shape.clone()
    }

    fn upload(&self, shape: &Shape, _: HostSlice<'_>) -> MeterTensor {
        self.made(Kind::Upload, 0, shape.clone(), 0)
    }

    fn fill(&self, shape: &Shape, _: f64) -> MeterTensor {
        self.made(Kind::Copy, 0, shape.clone(), 0)
    }

    fn read(&self, tensor: &MeterTensor) -> Result<Vec<f32>> {
        self.enter(Kind::Read, Work::call(0, 0, tensor.shape.len() as u64, 0));
        Ok(vec![0.0; tensor.shape.len()])
    }

    fn map(&self, expr: &Expr, inputs: &[&MeterTensor]) -> MeterTensor {
        let mut shape = Shape::new(1, 1, &[]);
        for input in inputs {
            shape = shape
                .broadcast(&input.shape)
                .expect("shapes are checked at import");
        }
        let operations = shape.len() as u64 * expr.operations() as u64;
        let read: usize = inputs.iter().map(|input| input.shape.len()).sum();
        let (plain, steep) = expr.cost();
        let of = |each: usize| shape.len() as u64 * each as u64;
        let runs = repeated_runs(inputs, &shape);
        let work = Work::call(runs, of(plain), (read + shape.len()) as u64, of(steep));
        self.enter(Kind::Map, work);
        self.tensor(shape, operations)
    }

    fn einsum(&self, einsum: &Einsum, left: &MeterTensor, right: &MeterTensor) -> MeterTensor {
        let (extents, shape) = einsum.extents(&left.shape, &right.shape);
        let operations = 2 * extents.values().map(|&e| e as u64).product::<u64>();
        let numbers = left.shape.len() + right.shape.len() + shape.len();
        let (kind, matrices) = matrices(einsum, &extents, (&left.shape, &right.shape));
        self.enter(kind, Work::call(matrices, operations, numbers as u64, 0));
        self.tensor(shape, operations)
    }

    fn conv(
        &self,
        inputs: &MeterTensor,
        weights: &MeterTensor,
        window: &Window,
        groups: usize,
    ) -> MeterTensor {
        let (x, w) = (&inputs.shape, &weights.shape);
        let mut rest = vec![x.rest[0], w.rest[0]];
        rest.extend_from_slice(&window.output);
        let directions = x.directions.max(w.directions);
        let operations = conv_operations(x.samples, directions, x.rest[0], &w.rest, window);
        let shape = Shape::new(x.samples, directions, &rest);
        let placement = copied(window, groups, &w.rest, CopyLayout::of_inputs);
        let sizes = Convolved::new(
            window,
            groups,
            &w.rest,
            [x.rest[0], x.directions, directions],
        );
        let numbers = x.len() + w.len() + shape.len();
        let kind = sizes.kind(Kind::FewConv, Kind::GroupedConv, Kind::Conv);
        self.enter(
            kind,
            sizes.work(kind, x.samples, numbers, sizes.channels, false),
        );
        self.convolved(inputs, placement, shape, operations)
    }

    fn conv_inputs(
        &self,
        cotangents: &MeterTensor,
        weights: &MeterTensor,
        window: &Window,
        groups: usize,
    ) -> MeterTensor {
        let (c, w) = (&cotangents.shape, &weights.shape);
        let mut rest = vec![c.rest[0], w.rest[1] * groups];
        rest.extend_from_slice(&window.input);
        let directions = c.directions.max(w.directions);
        let operations = conv_operations(c.samples, directions, c.rest[0], &w.rest, window);
        let shape = Shape::new(c.samples, directions, &rest);
        let placement = copied(window, groups, &w.rest, CopyLayout::of_cotangents);
        let sizes = Convolved::new(window, groups, &w.rest, [c.rest[0], directions, directions]);
        let numbers = c.len() + w.len() + shape.len();
        let kind = sizes.kind(Kind::FewInputs, Kind::GroupedInputs, Kind::ConvInputs);
        let patched = sizes.channels.min(sizes.outputs);
        self.enter(kind, sizes.work(kind, c.samples, numbers, patched, true));
        self.convolved(cotangents, placement, shape, operations)
    }

    fn conv_weights(
        &self,
        cotangents: &MeterTensor,
        inputs: &MeterTensor,
        window: &Window,
        groups: usize,
        sum_samples: bool,
    ) -> MeterTensor {
        let (c, x) = (&cotangents.shape, &inputs.shape);
        let mut rest = vec![c.rest[1], x.rest[1] / groups];
        rest.extend_from_slice(&window.kernel);
        let samples = c.samples.max(x.samples);
        let directions = c.directions.max(x.directions);
        let operations = conv_operations(samples, directions, c.rest[0], &rest, window);
        let shape = Shape::new(if sum_samples { 1 } else { samples }, directions, &rest);
        let placement = copied(window, groups, &rest, CopyLayout::of_inputs);
        let sizes = Convolved::new(window, groups, &rest, [c.rest[0], x.directions, directions]);
        let numbers = c.len() + x.len() + shape.len();
        let kind = sizes.kind_of_weights();
        self.enter(
            kind,
            sizes.work(kind, samples, numbers, sizes.channels, false),
        );
        self.convolved(inputs, placement, shape, operations)
    }

    fn window_sum(&self, inputs: &MeterTensor, window: &Window) -> MeterTensor {
        let lead = inputs.shape.len() as u64 / product(&window.input).max(1);
        let operations = lead * product(&window.output) * product(&window.kernel);
        self.windowed(
            Kind::Windows,
            inputs,
            &window.input,
            &window.output,
            operations,
        )
    }

    fn window_spread(&self, cotangents: &MeterTensor, window: &Window) -> MeterTensor {
        let operations = cotangents.shape.len() as u64 * product(&window.kernel);
        self.windowed(
            Kind::Windows,
            cotangents,
            &window.output,
            &window.input,
            operations,
        )
    }

    fn max_pool_indices(&self, inputs: &MeterTensor, window: &Window) -> MeterTensor {
        self.window_sum(inputs, window)
    }

    fn gather(&self, inputs: &MeterTensor, _: &MeterTensor, window: &Window) -> MeterTensor {
        self.windowed(Kind::Pick, inputs, &window.input, &window.output, 0)
    }

    fn scatter(&self, cotangents: &MeterTensor, _: &MeterTensor, window: &Window) -> MeterTensor {
        let operations = cotangents.shape.len() as u64;
        self.windowed(
            Kind::Pick,
            cotangents,
            &window.output,
            &window.input,
            operations,
        )
    }

    fn reduce_sum(&self, inputs: &MeterTensor, axes: &[usize]) -> MeterTensor {
        let mut kept = inputs.shape.axes();
        for &axis in axes {
            kept[axis] = 1;
        }
        let (read, shape) = (inputs.shape.len() as u64, Shape::from_axes(&kept));
        let sums = shape.len() as u64;
        self.enter(Kind::Sum, Work::call(sums, read, read + sums, 0));
        self.tensor(shape, read)
    }

    fn broadcast(&self, inputs: &MeterTensor, rest: &[usize]) -> MeterTensor {
        let shape = Shape::new(inputs.shape.samples, inputs.shape.directions, rest);
        self.made(Kind::Copy, inputs.shape.len(), shape, 0)
    }

    fn reshape(&self, inputs: &MeterTensor, rest: &[usize]) -> MeterTensor {
        MeterTensor {
            shape: Shape::new(inputs.shape.samples, inputs.shape.directions, rest),
            memory: Rc::clone(&inputs.memory),
        }
    }

    fn permute(&self, inputs: &MeterTensor, order: &[usize]) -> MeterTensor {
        let rest: Vec<usize> = order.iter().map(|&axis| inputs.shape.rest[axis]).collect();
        let shape = Shape::new(inputs.shape.samples, inputs.shape.directions, &rest);
        self.made(Kind::Permute, inputs.shape.len(), shape, 0)
    }

    fn slice(&self, inputs: &MeterTensor, axis: usize, start: usize, stop: usize) -> MeterTensor {
        let mut axes = inputs.shape.axes();
        axes[axis] = stop - start;
        let shape = Shape::from_axes(&axes);
        self.made(Kind::Copy, shape.len(), shape, 0)
    }

    fn embed(&self, inputs: &MeterTensor, axis: usize, _: usize, extent: usize) -> MeterTensor {
        let mut axes = inputs.shape.axes();
        axes[axis] = extent;
        self.made(Kind::Copy, inputs.shape.len(), Shape::from_axes(&axes), 0)
    }

    fn take(&self, inputs: &MeterTensor, indices: &MeterTensor, axis: usize) -> MeterTensor {
        let mut axes = inputs.shape.axes();
        axes[axis] = indices.shape.rest_len();
        axes[0] = axes[0].max(indices.shape.samples);
        let shape = Shape::from_axes(&axes);
        self.made(Kind::Lookup, shape.len(), shape, 0)
    }

    fn put(
        &self,
        cotangents: &MeterTensor,
        indices: &MeterTensor,
        axis: usize,
        range: Range<usize>,
        sum_samples: bool,
    ) -> MeterTensor {
        let mut axes = cotangents.shape.axes();
        let samples = axes[0].max(indices.shape.samples);
        let chains = Chains::new(&indices.shape, samples, range.len());
        let _links = self.allocate(chains.numbers);
        axes[axis] = range.len();
        axes[0] = if sum_samples { 1 } else { samples };
        let read = cotangents.shape.len();
        self.made(Kind::Lookup, read, Shape::from_axes(&axes), read as u64)
    }

    fn concat(&self, inputs: &[&MeterTensor], axis: usize) -> MeterTensor {
        let mut axes = inputs[0].shape.axes();
        axes[axis] = inputs.iter().map(|x| x.shape.axes()[axis]).sum();
        for lead in [0, 1] {
            axes[lead] = inputs
                .iter()
                .map(|x| x.shape.axes()[lead])
                .max()
                .unwrap_or(1);
        }
        let read = inputs.iter().map(|x| x.shape.len()).sum();
        self.made(Kind::Copy, read, Shape::from_axes(&axes), 0)
    }
}
