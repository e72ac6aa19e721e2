//! The backend of shapes alone: it predicts bytes and operations by being executed.
//!
//! Running the same passes over a [`Meter`] as over a device is what keeps `plan` and the run from
//! disagreeing (DESIGN §3, Execution).

use super::chains::Chains;
use super::placement::{Placement, is_direct};
use super::tally::{Kind, Tally, Work};
use super::{
    Backend, Contract, Einsum, Expr, Fill, HostSlice, How, OuterAxes, OuterTerm, Scaled, Shape,
    Window, broadcast_strides,
};
use crate::error::Result;
use std::collections::BTreeMap;
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
        placement: Option<Placement>,
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

/// Operations of a convolution or either of its transposes: two per tap, output and channel.
fn conv_operations(
    samples: usize,
    directions: usize,
    lead: usize,
    weights: &[usize],
    window: &Window,
) -> u64 {
    2 * (samples * directions * lead) as u64 * product(weights) * product(&window.output)
}

/// Runs in which inputs that are repeated over others are walked to make a tensor of that shape: as long as the last axes along
/// which all inputs are walked alike.
fn repeated_runs(inputs: &[&MeterTensor], into: &Shape) -> u64 {
    let all = into.len();
    let repeated = inputs
        .iter()
        .filter(|x| x.shape.len() != all && x.shape.len() > 1);
    let repeated = repeated.count();
    if repeated == 0 {
        return 0;
    }
    let strides = inputs
        .iter()
        .map(|input| broadcast_strides(&input.shape, into));
    let strides: Vec<Vec<usize>> = strides.collect();
    let mut run: Option<(usize, Vec<usize>)> = None;
    for (axis, &extent) in into.axes().iter().enumerate().rev() {
        if extent == 1 {
            continue;
        }
        let outer = strides.iter().map(|s| s[axis]);
        run = Some(match run {
            None => (extent, outer.collect()),
            Some((inner, own)) => match outer.eq(own.iter().map(|stride| stride * inner)) {
                true => (inner * extent, own),
                false => {
                    run = Some((inner, own));
                    break;
                }
            },
        });
    }
    let run = run.map_or(1, |(extent, _)| extent);
    (repeated * all / run.max(1)) as u64
}

/// Below this, a product of two sides and an inner dimension is not worth a matrix's.
const MATRIX: u64 = 64;

/// Whether an einsum is of matrices, and of how many: of either operand's own axes the longest is a matrix's, the others
/// are walked.
fn matrices(
    einsum: &Einsum,
    extents: &BTreeMap<u8, usize>,
    (left, right): (&Shape, &Shape),
) -> (Kind, u64) {
    let has = |labels: &[u8], shape: &Shape, label: u8| {
        let axes = shape.axes();
        labels.iter().zip(axes).any(|(&l, e)| l == label && e > 1)
    };
    let (mut all, mut rows, mut columns, mut inner) = (1, 1, 1, 1);
    // Neighbouring axes of a kind are one, the samples and directions of a linear layer above all.
    for (&label, &extent) in extents {
        let extent = extent as u64;
        all *= extent;
        let (l, r) = (
            has(&einsum.left, left, label),
            has(&einsum.right, right, label),
        );
        match (l, r, einsum.output.contains(&label)) {
            (true, false, true) => rows *= extent,
            (false, true, true) => columns *= extent,
            (true, true, false) => inner *= extent,
            _ => {}
        }
    }
    let matrix = rows * columns * inner;
    let count = all / matrix.max(1);
    match matrix <= MATRIX || rows * columns == 1 || inner == 1 && rows.min(columns) == 1 {
        true => (Kind::Lanes, count),
        false => (Kind::Product, count),
    }
}

/// The sizes of a convolution, or of one of its transposes, that decide how it is computed.
struct Convolved<'a> {
    window: &'a Window,
    groups: usize,
    /// Channels and outputs of a group.
    channels: usize,
    outputs: usize,
    /// B, the directions that patches are made of, and those of the result.
    lead: usize,
    directions: [usize; 2],
}

impl<'a> Convolved<'a> {
    /// `weights` is `[O, C/g, k…]`, `lead` B and the directions of what patches are made of, and of the result.
    fn new(window: &'a Window, groups: usize, weights: &[usize], lead: [usize; 3]) -> Self {
        Convolved {
            window,
            groups,
            channels: weights[1],
            outputs: weights[0] / groups,
            lead: lead[0],
            directions: [lead[1], lead[2]],
        }
    }

    fn kind(&self, few: Kind, grouped: Kind, other: Kind) -> Kind {
        if self.window.is_whole() {
            return Kind::Product;
        }
        if self.groups > 1 {
            return match self.channels * self.outputs <= 16 {
                true => grouped,
                false => other,
            };
        }
        let step = self.window.stride.iter().all(|&stride| stride == 1);
        match self.channels.max(self.outputs) <= 16 && step {
            true => few,
            false => other,
        }
    }

    /// Of many directions all share a sample's patches.
    fn kind_of_weights(&self) -> Kind {
        let few = match self.directions[1] {
            1 => Kind::FewWeights,
            _ => Kind::ConvWeights,
        };
        self.kind(few, Kind::GroupedWeights, Kind::ConvWeights)
    }

    /// Work of `samples`, with patches of so many channels per group, and, where taps are shifts of planes, of planes that are
    /// the windows' inputs or, of the transpose in the inputs, the cotangents spread out.
    fn work(
        &self,
        kind: Kind,
        samples: usize,
        numbers: usize,
        channels: usize,
        of_inputs: bool,
    ) -> Work {
        let lead = (samples * self.lead) as u64;
        let pairs = (self.groups * self.channels * self.outputs) as u64;
        let taps = product(&self.window.kernel);
        let [patched, made] = self.directions.map(|d| d as u64);
        let multiplied = 2 * lead * made * pairs * taps;
        let numbers = numbers as u64;
        match kind {
            Kind::Product => Work::call(lead * made, multiplied, numbers, 0),
            Kind::Conv | Kind::ConvInputs | Kind::ConvWeights => {
                let positions = product(&self.window.output);
                let patches = (self.groups * channels) as u64 * taps * positions;
                let patches = lead * patched * patches;
                Work::call(lead * made, multiplied * positions, numbers, patches)
            }
            // Windows keep the pitch of the padded plane, so that all of them are one run.
            _ => {
                let run = self.run(of_inputs);
                let planes = (self.groups * (self.channels + self.outputs)) as u64 * run;
                Work::call(lead * made, multiplied * run, numbers, lead * made * planes)
            }
        }
    }

    /// Positions that a tap is multiplied at: the result's along the first axis, the padded plane's along the others.
    fn run(&self, of_inputs: bool) -> u64 {
        let window = self.window.three_dimensional();
        let along = |k: usize| {
            let reach = window.kernel[k].saturating_sub(1) * window.dilation[k] / window.stride[k];
            let positions = match of_inputs {
                true => (window.input[k] + window.padding[k]).div_ceil(window.stride[k]),
                false => window.output[k],
            };
            [positions, positions + reach].map(|extent| extent as u64)
        };
        let first = (0..3).find(|&k| along(k)[0] > 1).unwrap_or(2);
        (first..3)
            .map(|k| along(k)[usize::from(k > first)])
            .product()
    }
}

/// The copy behind a convolution, unless it goes without.
fn copied(
    window: &Window,
    groups: usize,
    weights: &[usize],
    placement: impl Fn(&Window) -> Placement,
) -> Option<Placement> {
    (!is_direct(window, groups, weights)).then(|| placement(window))
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
        let placement = copied(window, groups, &w.rest, Placement::of_inputs);
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
        let placement = copied(window, groups, &w.rest, Placement::of_cotangents);
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
        let placement = copied(window, groups, &rest, Placement::of_inputs);
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

/// Places that an entry of a product is written to.
fn places(how: How) -> u64 {
    if how.fill == Fill::Both { 2 } else { 1 }
}

/// What a product with itself leaves out.
fn halves(how: How) -> u64 {
    if how.fill == Fill::Symmetric { 2 } else { 1 }
}

impl Contract for Meter {
    type Accumulator = MeterTile;
    type Pending = ();

    fn accumulator(&self, rows: usize, columns: usize) -> MeterTile {
        let numbers = (rows * columns) as u64;
        if numbers > 0 {
            self.enter(Kind::Tile, Work::call(0, 0, numbers, 0));
        }
        MeterTile {
            _memory: self.allocate(rows * columns),
        }
    }

    fn accumulate_dense(
        &self,
        _: &mut MeterTile,
        how: How,
        _: (usize, usize),
        (left, right): (&MeterTensor, &MeterTensor),
    ) {
        let rows = left.shape.samples.max(right.shape.samples)
            * left.shape.directions.max(right.shape.directions);
        let entries = left.shape.rest_len() as u64 * right.shape.rest_len() as u64;
        let operations = 2 * rows as u64 * entries / halves(how);
        let packed = left.shape.len() + right.shape.len();
        self.enter(
            Kind::Dense,
            Work::call(0, operations, entries * places(how), packed as u64),
        );
        self.count(operations);
    }

    fn accumulate_outer(
        &self,
        _: &mut MeterTile,
        how: How,
        (rows, _): (OuterAxes, OuterAxes),
        term: OuterTerm<'_, MeterTensor>,
        scaled: Scaled,
    ) {
        let (l, r) = (&term.row_cotangents.shape, &term.column_cotangents.shape);
        let (samples, directions) = (
            l.samples.max(r.samples) as u64,
            l.directions.max(r.directions) as u64,
        );
        let pairs = (l.rest_len() * r.rest_len()) as u64;
        let extent = |a: Option<&MeterTensor>| a.map_or(1, |a| a.shape.rest_len() as u64);
        let (own, other) = (extent(term.row_inputs), extent(term.column_inputs));
        let inputs = own * other;
        let alike = if scaled == Scaled::Alike && rows.output_stride >= rows.input_stride {
            2
        } else {
            1
        };
        let operations = 2 * samples * pairs * (directions + inputs / alike) / halves(how);
        let of_pairs = 2 * samples * pairs * directions / halves(how);
        // One side's inputs are scaled by P.
        let scaled_inputs = match scaled {
            Scaled::Columns => other,
            Scaled::Rows | Scaled::Alike => own,
        };
        let work = Work::call(
            samples * pairs * scaled_inputs / halves(how),
            operations - of_pairs,
            pairs * inputs * places(how),
            of_pairs,
        );
        self.enter(Kind::Outer, work);
        self.count(operations);
        // A device forms P, the host packs a, of as many samples as are taken at a time.
        let packed = (own + other) * samples.min(1 << 12);
        drop(self.allocate((samples * pairs).min(1 << 22).max(packed) as usize));
    }

    fn finish(&self, _: MeterTile) {}

    fn collect(&self, (): ()) -> Result<Vec<f32>> {
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_repeated_is_walked_in_runs() {
        let meter = Meter::new(4);
        let of = |samples, directions, rest: &[usize]| {
            meter.fill(&Shape::new(samples, directions, rest), 0.0)
        };
        let runs = |inputs: &[&MeterTensor]| {
            let before = meter.tally();
            let sum = inputs.iter().enumerate().skip(1);
            let sum = sum.fold(Expr::input(0), |sum, (k, _)| sum + Expr::input(k));
            meter.map(&sum, inputs);
            (meter.tally() - before).of(Kind::Map).0[1]
        };
        let whole = of(4, 3, &[5, 6]);
        assert_eq!(runs(&[&whole, &whole]), 0);
        assert_eq!(runs(&[&whole, &of(1, 1, &[1, 1])]), 0);
        // Repeated over the directions: a run is a sample's rest.
        assert_eq!(runs(&[&whole, &of(4, 1, &[5, 6])]), 12);
        assert_eq!(runs(&[&whole, &of(1, 1, &[5, 1])]), 4 * 3 * 5);
        assert_eq!(
            runs(&[&whole, &of(4, 1, &[5, 6]), &of(4, 3, &[5, 1])]),
            2 * 4 * 3 * 5
        );
    }
}
