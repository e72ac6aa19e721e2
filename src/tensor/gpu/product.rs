//! The product kernel: einsum, convolutions and both contractions are strided batched products.

use super::Gpu;
use super::axis::{Axis, merge};
use super::kernel::{GROUPS, Kernel, Load, ProductKernel, Symmetry};
use super::launch::Launch;
use super::params::{MAX_MAP_INPUTS, MAX_PRODUCT_AXES, PRODUCT_TENSORS, Words, product as params};
use super::tensor::{GpuTensor, View};
use super::tiles::{Shapes, TileShape};
use crate::tensor::{Einsum, Expr, strides};

/// Axes that the kernel for a number of axes has: each compiled kernel costs a driver's compilation.
const AXIS_COUNTS: [usize; MAX_PRODUCT_AXES + 1] = [1, 1, 3, 3, 6, 6, 6];

/// Numbers that the partial sums of a split product may take: few, since no plan foresees them.
const SPLIT_NUMBERS: usize = 1 << 18;

/// Tensors of a product, in the order of an axis's strides; then the output, and its mirror.
const LEFT: usize = 0;
const RIGHT: usize = 1;
const SECOND: usize = 2;
const OUTPUT: usize = 3;
const MIRROR: usize = 4;

/// An axis with its strides in these tensors.
type ProductAxis = Axis<PRODUCT_TENSORS>;

/// The merged axes of each group.
type Groups = [Vec<ProductAxis>; 4];

/// Groups of axes: in both operands, in the left one alone, in the right one alone or in none, summed.
const BATCH: usize = 0;
const M: usize = 1;
const N: usize = 2;
const K: usize = 3;

/// output (+)= Σ left · right (· second), each tensor read with its own strides along each axis.
pub(super) struct Product<'a> {
    pub left: View<'a>,
    pub right: View<'a>,
    pub second: Option<View<'a>>,
    pub output: View<'a>,
    /// What the sums in the output have lost, in a buffer of its own of the output's size.
    pub lost: Option<&'a wgpu::Buffer>,
    /// Whether the output is added to.
    pub accumulate: bool,
    pub symmetry: Symmetry,
    /// Elements of the output, where they are a whole tensor and this product alone writes it: it may then be split along k.
    pub whole: Option<usize>,
    /// Axes and the group of each.
    axes: Vec<(ProductAxis, usize)>,
}

impl<'a> Product<'a> {
    pub fn new(left: View<'a>, right: View<'a>, output: View<'a>) -> Self {
        Self {
            left,
            right,
            second: None,
            output,
            lost: None,
            accumulate: false,
            symmetry: Symmetry::None,
            whole: None,
            axes: Vec::new(),
        }
    }

    /// An axis of the output, with its strides in left, right and output.
    pub fn axis(&mut self, extent: usize, left: i64, right: i64, output: i64) {
        self.axis_of_pair(extent, [left, right, 0], output);
    }

    /// An axis of the output, with its strides in left, right and second, and in the output.
    pub fn axis_of_pair(&mut self, extent: usize, [left, right, second]: [i64; 3], output: i64) {
        let group = match (left != 0, right != 0 || second != 0) {
            (true, true) => BATCH,
            (true, false) => M,
            (false, _) => N,
        };
        self.axes
            .push((Axis::new(extent, [left, right, second, output, 0]), group));
    }

    /// An axis of rows, with its strides in left, the output and its mirror.
    pub fn row(&mut self, extent: usize, left: i64, output: [i64; 2]) {
        let strides = [left, 0, 0, output[0], output[1]];
        self.axes.push((Axis::new(extent, strides), M));
    }

    /// An axis of columns, with its strides in right, the output and its mirror.
    pub fn column(&mut self, extent: usize, right: i64, output: [i64; 2]) {
        let strides = [0, right, 0, output[0], output[1]];
        self.axes.push((Axis::new(extent, strides), N));
    }

    /// An axis of batches that only the second operand has, with its strides there, in the output and in its mirror.
    pub fn scale(&mut self, extent: usize, second: i64, output: [i64; 2]) {
        let strides = [0, 0, second, output[0], output[1]];
        self.axes.push((Axis::new(extent, strides), BATCH));
    }

    /// An axis that is summed over, with its strides in left, right and second.
    pub fn summed(&mut self, extent: usize, [left, right, second]: [i64; 3]) {
        self.axes
            .push((Axis::new(extent, [left, right, second, 0, 0]), K));
    }

    /// Merged axes of each group.
    fn groups(&self) -> Groups {
        [BATCH, M, N, K].map(|group| {
            let own = self.axes.iter().filter(|(_, g)| *g == group);
            merge(&own.map(|(axis, _)| *axis).collect::<Vec<_>>())
        })
    }

    /// Whether half of the tiles are copies of the others.
    fn is_half(&self) -> bool {
        self.symmetry != Symmetry::None
    }

    /// The kernel for these axes, in tiles of a shape.
    fn kernel(&self, groups: &Groups, shape: TileShape) -> ProductKernel {
        let second = self.second;
        let second = second.map(|view| load(groups, SECOND, N, view.offset));
        let right = match load(groups, RIGHT, N, self.right.offset) {
            Load::Steps if second.is_some() => Load::Each,
            found => found,
        };
        ProductKernel {
            shape,
            axes: [BATCH, M, N, K].map(|g| AXIS_COUNTS[groups[g].len()]),
            left: load(groups, LEFT, M, self.left.offset),
            right,
            second,
            wide: is_wide(groups, self.output.offset, self.is_half()),
            symmetry: self.symmetry,
            compensated: self.lost.is_some(),
        }
    }

    /// Launch parameters but for those of one dispatch.
    fn words(&self, groups: &Groups, kernel: &ProductKernel, cut: &Cut) -> Words {
        let mut words = Words::new(0);
        words.set(params::LEFT_START, self.left.offset);
        words.set(params::RIGHT_START, self.right.offset);
        let second = self.second.map_or(0, |view| view.offset);
        words.set(params::SECOND_START, second);
        words.set(params::OUTPUT_START, self.output.offset);
        words.set(params::M_EXTENT, extent(&groups[M]));
        words.set(params::N_EXTENT, extent(&groups[N]));
        words.set(params::BATCH_EXTENT, cut.batches);
        words.set(params::TILES, cut.tiles);
        words.set(params::TILES_ALONG_N, cut.tiles_along_n);
        words.set(params::OUTPUTS, cut.outputs);
        words.set(params::BATCH_GROUPS, cut.batch_groups);
        words.set(params::SPLIT_STEPS, cut.steps);
        let flags = usize::from(along_steps(groups, LEFT, M))
            | usize::from(along_steps(groups, RIGHT, N)) << 1;
        words.set(params::FLAGS, flags);
        for (g, axes) in groups.iter().enumerate() {
            let mut all = vec![Axis::new(1, [0; PRODUCT_TENSORS]); kernel.axes[g] - axes.len()];
            all.extend(axes);
            words.set_axes(GROUPS[g].axes, &all, PRODUCT_TENSORS);
        }
        words
    }
}

/// How a product is cut into tiles, workgroups and dispatches.
struct Cut {
    shape: TileShape,
    /// Batches that are computed: of a symmetric product with batches (o, o'), those with o ≤ o'.
    batches: usize,
    /// The extent of o' where batches are symmetric pairs, otherwise 0.
    outputs: usize,
    /// Tiles of a batch, and those side by side along the columns.
    tiles: usize,
    tiles_along_n: usize,
    /// Groups of batches that a workgroup computes at once.
    batch_groups: usize,
    /// Parts that the sum over k is cut into, which are added up afterwards.
    splits: usize,
    /// Steps of one part per dispatch.
    steps: usize,
}

impl Cut {
    /// Cuts a product of these extents, with the shape that takes the least estimated time.
    fn new(product: &Product<'_>, [batches, m, n, k]: [usize; 4], shapes: &Shapes) -> Cut {
        let half = product.is_half();
        let pairs = product.symmetry == Symmetry::Both;
        debug_assert!(!half || m == n);
        // (o, o') with o ≤ o'.
        let outputs = batches.isqrt();
        debug_assert!(!pairs || outputs * outputs == batches);
        let batches = if pairs {
            outputs * (outputs + 1) / 2
        } else {
            batches
        };
        let (shape, _) = shapes.choose((batches, m, n), half);
        let (tiles_along_m, tiles_along_n) = (m.div_ceil(shape.m), n.div_ceil(shape.n));
        let tiles = match half {
            true => tiles_along_m * (tiles_along_m + 1) / 2,
            false => tiles_along_m * tiles_along_n,
        };
        let batch_groups = batches.div_ceil(shape.batches);
        let splits = match product.whole {
            Some(len) => split(k, shapes.fill() / (tiles * batch_groups).max(1), len),
            None => 1,
        };
        let steps = match splits {
            1 => shape.reach(),
            _ => k.div_ceil(splits).next_multiple_of(256).min(shape.reach()),
        };
        Cut {
            shape,
            batches,
            outputs: if pairs { outputs } else { 0 },
            tiles,
            tiles_along_n,
            batch_groups,
            splits,
            steps,
        }
    }

    /// Workgroups of one part.
    fn work_groups(&self) -> usize {
        self.tiles * self.batch_groups
    }
}

fn extent(axes: &[ProductAxis]) -> usize {
    axes.iter().map(|axis| axis.extent).product()
}

/// How an operand whose rows are `group` is read: by what is contiguous and whether four numbers stay together.
fn load(groups: &Groups, tensor: usize, group: usize, offset: usize) -> Load {
    let last = |axes: &[ProductAxis]| {
        axes.last()
            .map_or((1, 0), |a| (a.extent, a.strides[tensor]))
    };
    // Four along an axis of step one lie together where nothing else breaks the alignment.
    let fours = |along: usize| {
        let others = groups.iter().enumerate().all(|(g, axes)| {
            let skip = usize::from(g == along);
            let rest = &axes[..axes.len().saturating_sub(skip)];
            rest.iter().all(|axis| axis.strides[tensor] % 4 == 0)
        });
        let (extent, step) = last(&groups[along]);
        others && step == 1 && extent % 4 == 0 && offset.is_multiple_of(4)
    };
    let own = last(&groups[group]);
    if fours(group) {
        Load::Rows
    } else if tensor == SECOND {
        // It is read at the right operand's rows and steps.
        let shared = own.1 == 0 && own.0 % 4 == 0;
        if shared { Load::Shared } else { Load::Each }
    } else if fours(K) {
        Load::Steps
    } else {
        Load::Each
    }
}

/// Whether an operand whose rows are `group` is contiguous along the steps, and not along its rows.
fn along_steps(groups: &Groups, tensor: usize, group: usize) -> bool {
    let step = |axes: &[ProductAxis]| axes.last().map_or(0, |axis| axis.strides[tensor].abs());
    step(&groups[K]) == 1 && step(&groups[group]) != 1
}

/// Whether four columns, and in a mirror four rows, are stored together.
fn is_wide(groups: &Groups, offset: usize, mirrored: bool) -> bool {
    let fours = |tensor: usize, along: usize| {
        let others = [BATCH, M, N].into_iter().all(|g| {
            let skip = usize::from(g == along);
            let rest = &groups[g][..groups[g].len().saturating_sub(skip)];
            rest.iter().all(|axis| axis.strides[tensor] % 4 == 0)
        });
        let last = groups[along].last();
        others && last.is_some_and(|axis| axis.strides[tensor] == 1 && axis.extent % 4 == 0)
    };
    // Mirrors are also written as they lie, from another place.
    offset.is_multiple_of(4) && fours(OUTPUT, N) && (!mirrored || fours(MIRROR, M))
}

impl Gpu {
    /// Records a product. An empty sum writes zeros. Says whether it could be described to the kernel.
    pub(super) fn product(&self, product: &Product<'_>) -> bool {
        self.product_with(product, &self.device.shapes)
    }

    /// The same with tile shapes of the caller's.
    pub(super) fn product_with(&self, product: &Product<'_>, shapes: &Shapes) -> bool {
        let groups = product.groups();
        let [batches, m, n, k] = [BATCH, M, N, K].map(|g| extent(&groups[g]));
        if batches * m * n == 0 {
            return true;
        }
        if k == 0 {
            if !product.accumulate {
                self.device.clear(product.output.buffer);
            }
            return true;
        }
        if let Some(group) = groups.iter().find(|group| group.len() > MAX_PRODUCT_AXES) {
            self.device.fail(format!(
                "a product over {} axes of one kind; at most {MAX_PRODUCT_AXES} fit",
                group.len()
            ));
            return false;
        }
        let cut = Cut::new(product, [batches, m, n, k], shapes);
        let kernel = product.kernel(&groups, cut.shape);
        let mut words = product.words(&groups, &kernel, &cut);
        let partial = match (cut.splits, product.whole) {
            (2.., Some(len)) => match self.device.allocate(cut.splits * len) {
                Some(block) => Some((block, len)),
                None => return false,
            },
            _ => None,
        };
        let mut output = product.output.buffer;
        if let Some((block, len)) = &partial {
            output = block.buffer();
            words.set(params::OUTPUT_START, 0);
            words.set(params::SPLIT_STRIDE, *len);
        }
        let second = product.second.unwrap_or(product.right);
        for start in (0..k).step_by(cut.splits * cut.steps) {
            let stop = (start + cut.splits * cut.steps).min(k);
            words.set(params::K_FROM, start);
            words.set(params::K_TO, stop);
            words.set(params::ADD, usize::from(product.accumulate || start > 0));
            self.device.launch(Launch {
                kernel: Kernel::Product(kernel),
                inputs: &[product.left.buffer, product.right.buffer, second.buffer],
                output,
                beside: product.lost,
                words,
                groups: (cut.work_groups() * cut.splits) as u64,
                work: (cut.shape.area() * (stop - start).div_ceil(cut.splits)) as f64,
            });
        }
        match &partial {
            None => true,
            Some((block, len)) => {
                let parts = View {
                    buffer: block.buffer(),
                    offset: 0,
                };
                let kept = [Axis::new(*len, [1])];
                let summed = [Axis::new(cut.splits, [*len as i64])];
                self.reduce_strided(parts, &kept, &summed, product.output)
            }
        }
    }

    pub(super) fn einsum_tensors(
        &self,
        einsum: &Einsum,
        left: &GpuTensor,
        right: &GpuTensor,
    ) -> GpuTensor {
        let (extents, shape) = einsum.extents(&left.shape, &right.shape);
        // Stride of a label: 0 where the operand lacks it or repeats along it.
        let stride = |labels: &[u8], axes: &[usize], label: u8| -> i64 {
            let own = strides(axes);
            let matching = (0..labels.len()).filter(|&k| labels[k] == label && axes[k] != 1);
            matching.map(|k| own[k] as i64).sum()
        };
        let (left_axes, right_axes) = (left.shape.axes(), right.shape.axes());
        let of = |label: u8| {
            (
                extents[&label],
                stride(&einsum.left, &left_axes, label),
                stride(&einsum.right, &right_axes, label),
            )
        };
        let named: Vec<u8> = einsum
            .output
            .iter()
            .copied()
            .filter(|&l| l != b'1')
            .collect();
        let mut summed: Vec<u8> = Vec::new();
        for &label in einsum.left.iter().chain(&einsum.right) {
            if !named.contains(&label) && !summed.contains(&label) {
                summed.push(label);
            }
        }
        let (output_axes, len) = (shape.axes(), shape.len());
        self.create(shape, &[left, right], |output, views| {
            if summed.iter().all(|label| extents[label] == 1) {
                // Nothing is summed: tiles along k would only idle.
                let axes: Vec<Axis<MAX_MAP_INPUTS>> = named
                    .iter()
                    .map(|&label| {
                        let (extent, left, right) = of(label);
                        let mut strides = [0; MAX_MAP_INPUTS];
                        (strides[0], strides[1]) = (left, right);
                        Axis::new(extent, strides)
                    })
                    .collect();
                return self.map_strided(&(Expr::input(0) * Expr::input(1)), views, &axes, output);
            }
            let mut product = Product::new(views[0], views[1], output);
            product.whole = Some(len);
            for &label in &named {
                let (extent, left, right) = of(label);
                let into = stride(&einsum.output, &output_axes, label);
                product.axis(extent, left, right, into);
            }
            for &label in &summed {
                let (extent, left, right) = of(label);
                product.summed(extent, [left, right, 0]);
            }
            self.product(&product)
        })
    }
}

/// Parts that a sum of `k` terms is cut into where `room` times as many workgroups would still run at once: 1 where that does
/// not pay, or the parts' sums take too much memory.
fn split(k: usize, room: usize, len: usize) -> usize {
    let parts = (SPLIT_NUMBERS / len.max(1)).min(k / 256).min(room);
    // A few save less than adding them up costs.
    if parts < 4 {
        return 1;
    }
    // Those that are left of whole chunks.
    k.div_ceil(k.div_ceil(parts).next_multiple_of(256))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_sums_of_small_outputs_are_split() {
        assert_eq!(split(100, 128, 16), 1);
        assert_eq!(split(2048, 128, 16), 8);
        assert_eq!(split(73_728, 128, 150), 96);
        // As many as run at once, or as there is memory for.
        assert_eq!(split(4096, 1, 150), 1);
        assert_eq!(split(8192, 100, 1 << 17), 1);
    }
}
