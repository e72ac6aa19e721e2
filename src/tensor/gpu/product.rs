//! The product kernel: einsum, convolutions and both contractions are strided batched products.

use super::Gpu;
use super::kernel::{
    Kernel, MAX_AXES, MAX_MAP_INPUTS, PARAM_WORDS, PRODUCT_AXES, PRODUCT_AXIS_WORDS, PRODUCT_FLAGS,
    ProductKernel, TILE_SHAPES, TileShape,
};
use super::stream::Launch;
use super::tensor::{Axis, GpuTensor, View, merge, write_axes};
use crate::tensor::{Einsum, Expr, strides};

/// Inner positions per dispatch: bounds the loops of an invocation (lavapipe silently stops all loops
/// after 65,535 trips in total), and with it what is summed before the partial sum meets the output.
/// Fixed, so that results depend neither on the device's speed nor on its memory.
const K_RANGE: usize = 4096;

/// Axes that the kernel for a number of axes has: each compiled kernel costs a driver's compilation.
const AXIS_COUNTS: [usize; MAX_AXES + 1] = [1, 1, 2, 4, 4, 6, 6];

/// Tensors of a product, in the order of an axis's strides; the output is the fourth.
const LEFT: usize = 0;
const RIGHT: usize = 1;
const SECOND: usize = 2;

/// output (+)= Σ left · right (· second), each tensor read with its own strides along each axis.
pub(super) struct Product<'a> {
    pub left: View<'a>,
    pub right: View<'a>,
    pub second: Option<View<'a>>,
    pub output: View<'a>,
    /// Whether the output is added to.
    pub accumulate: bool,
    axes: Vec<(Axis<4>, bool)>,
}

impl<'a> Product<'a> {
    pub fn new(left: View<'a>, right: View<'a>, output: View<'a>) -> Self {
        Self {
            left,
            right,
            second: None,
            output,
            accumulate: false,
            axes: Vec::new(),
        }
    }

    /// An axis of the output, with its strides in left, right and output.
    pub fn axis(&mut self, extent: usize, left: i64, right: i64, output: i64) {
        self.axis_of_pair(extent, left, right, 0, output);
    }

    /// An axis of the output, with its strides in left, right, second and output.
    pub fn axis_of_pair(&mut self, extent: usize, left: i64, right: i64, second: i64, output: i64) {
        let axis = Axis::new(extent, [left, right, second, output]);
        self.axes.push((axis, false));
    }

    /// An axis that is summed over, with its strides in left, right and second.
    pub fn summed(&mut self, extent: usize, left: i64, right: i64, second: i64) {
        self.axes
            .push((Axis::new(extent, [left, right, second, 0]), true));
    }

    /// Axes of the groups b (in both operands), m (left only), n (right only or none) and k (summed).
    fn groups(&self) -> [Vec<Axis<4>>; 4] {
        let mut groups: [Vec<Axis<4>>; 4] = Default::default();
        for (axis, summed) in &self.axes {
            let left = axis.strides[LEFT] != 0;
            let right = axis.strides[RIGHT] != 0 || axis.strides[SECOND] != 0;
            let group = match (summed, left, right) {
                (true, _, _) => 3,
                (false, true, true) => 0,
                (false, true, false) => 1,
                (false, false, _) => 2,
            };
            groups[group].push(*axis);
        }
        groups.map(|group| merge(&group))
    }
}

fn extent(axes: &[Axis<4>]) -> usize {
    axes.iter().map(|axis| axis.extent).product()
}

/// The tile shape with the least estimated time: padded work, shared-memory reads per multiply-add, and
/// too few workgroups to fill a device all count. It depends on the sizes alone.
fn tile_shape(batches: usize, m: usize, n: usize) -> TileShape {
    let cost = |shape: &TileShape| {
        let tiles = m.div_ceil(shape.m) * n.div_ceil(shape.n) * batches.div_ceil(shape.batches);
        let padded = (tiles * shape.m * shape.n * shape.batches) as f64;
        let reads = 1.0 + 8.0 * (shape.m + shape.n) as f64 / (shape.m * shape.n) as f64;
        padded * reads / tiles.min(16) as f64
    };
    let best = |a: &&TileShape, b: &&TileShape| cost(a).total_cmp(&cost(b));
    *TILE_SHAPES.iter().min_by(best).expect("there are shapes")
}

impl Gpu {
    /// Records a product. An empty sum writes zeros. Says whether it could be described to the kernel.
    pub(super) fn product(&self, product: &Product<'_>) -> bool {
        let groups = product.groups();
        let [batches, m, n, k] = [0, 1, 2, 3].map(|g| extent(&groups[g]));
        if batches * m * n == 0 {
            return true;
        }
        if k == 0 {
            if !product.accumulate {
                self.device.clear(product.output.buffer);
            }
            return true;
        }
        if let Some(group) = groups.iter().find(|group| group.len() > MAX_AXES) {
            self.device.fail(format!(
                "a product over {} axes of one kind; at most {MAX_AXES} fit",
                group.len()
            ));
            return false;
        }
        let shape = tile_shape(batches, m, n);
        let along_k = |tensor: usize, own: usize| {
            let step = |axes: &[Axis<4>]| axes.last().map_or(0, |axis| axis.strides[tensor].abs());
            step(&groups[3]) == 1 && step(&groups[own]) != 1
        };
        let kernel = ProductKernel {
            shape,
            axes: [0, 1, 2, 3].map(|g| AXIS_COUNTS[groups[g].len()]),
            pair: product.second.is_some(),
        };
        let second = product.second.unwrap_or(product.right);
        let (tiles_m, tiles_n) = (m.div_ceil(shape.m), n.div_ceil(shape.n));
        let tiles = batches.div_ceil(shape.batches) as u64 * tiles_m as u64 * tiles_n as u64;
        let mut words = [0; PARAM_WORDS];
        words[4] = product.left.offset as u32;
        words[5] = product.right.offset as u32;
        words[6] = second.offset as u32;
        words[7] = product.output.offset as u32;
        words[8] = m as u32;
        words[9] = n as u32;
        words[12] = batches as u32;
        words[14] = tiles_m as u32;
        words[15] = tiles_n as u32;
        for (g, axes) in groups.iter().enumerate() {
            let base = PRODUCT_AXES + g * MAX_AXES * PRODUCT_AXIS_WORDS;
            let mut all = vec![Axis::new(1, [0; 4]); kernel.axes[g] - axes.len()];
            all.extend(axes);
            write_axes(&mut words, base, &all, 4);
        }
        words[PRODUCT_FLAGS] = u32::from(along_k(LEFT, 1)) | u32::from(along_k(RIGHT, 2)) << 1;
        for start in (0..k).step_by(K_RANGE) {
            let stop = (start + K_RANGE).min(k);
            words[10] = start as u32;
            words[11] = stop as u32;
            words[13] = (product.accumulate || start > 0) as u32;
            self.device.launch(Launch {
                kernel: Kernel::Product(kernel),
                inputs: &[product.left.buffer, product.right.buffer, second.buffer],
                output: product.output.buffer,
                words,
                groups: tiles,
                work: (shape.batches * shape.m * shape.n * (stop - start)) as f64,
            });
        }
        true
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
        let output_axes = shape.axes();
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
            for &label in &named {
                let (extent, left, right) = of(label);
                let into = stride(&einsum.output, &output_axes, label);
                product.axis(extent, left, right, into);
            }
            for &label in &summed {
                let (extent, left, right) = of(label);
                product.summed(extent, left, right, 0);
            }
            self.product(&product)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Trips of all loops of one invocation of `gemm.wgsl`, each loop's exit test included.
    fn trips(shape: &TileShape) -> usize {
        let threads = shape.threads();
        let loads = |rows: usize| rows.div_ceil(threads) + 1;
        let (rows, columns) = (shape.batches * shape.m / 4, shape.batches * shape.n / 4);
        let step = 1 + loads(rows * shape.depth) + loads(columns * shape.depth) + shape.depth + 1;
        let chunk = 1 + 256 / shape.depth * step + 1;
        loads(rows) + loads(columns) + K_RANGE / 256 * chunk + 1
    }

    #[test]
    fn every_tile_shape_stays_within_the_limits() {
        for shape in TILE_SHAPES {
            assert!(trips(&shape) <= 60_000, "{shape:?}: {}", trips(&shape));
            let threads = shape.threads();
            assert!((64..=256).contains(&threads), "{shape:?}");
            let (rows, columns) = (shape.batches * shape.m / 4, shape.batches * shape.n / 4);
            let fours = shape.depth * (rows + columns + 2) + rows + 2 * columns + shape.depth;
            let shared = 4 * fours;
            assert!(4 * shared <= 16 << 10, "{shape:?}: {} bytes", 4 * shared);
            assert!(256 % shape.depth == 0 && shape.depth <= threads);
        }
    }

    #[test]
    fn tile_shapes_follow_the_sizes() {
        assert_eq!(tile_shape(1, 2048, 2048).m, 64);
        assert_eq!(tile_shape(1, 100, 100).m, 32);
        assert_eq!(tile_shape(10_000, 1, 1).batches, 64);
        assert_eq!(tile_shape(1, 3, 100_000).n, 256);
    }
}
