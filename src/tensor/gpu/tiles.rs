//! Tile shapes of the product kernel, and which of them a product takes.

/// What a workgroup of the product kernel computes at a time: `batches` tiles of `m` × `n`, of which a thread computes
/// `rows` × `columns`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::tensor::gpu) struct TileShape {
    pub batches: usize,
    pub m: usize,
    pub n: usize,
    /// Inner steps held in shared memory at a time.
    pub depth: usize,
    /// Rows and columns per thread.
    pub rows: usize,
    pub columns: usize,
    /// Whether the next tile is loaded into registers while one is multiplied.
    pub ahead: bool,
}

impl TileShape {
    const fn new(
        (batches, m, n): (usize, usize, usize),
        depth: usize,
        (rows, columns): (usize, usize),
    ) -> Self {
        Self {
            batches,
            m,
            n,
            depth,
            rows,
            columns,
            ahead: false,
        }
    }

    /// The same with the next tile loaded ahead.
    const fn ahead(self) -> Self {
        Self {
            ahead: true,
            ..self
        }
    }

    /// Threads per workgroup.
    pub const fn threads(&self) -> usize {
        self.batches * self.m * self.n / (self.rows * self.columns)
    }

    /// Whether registers are left for a second level of sums, which take up those of 256 terms each.
    pub const fn two_levels(&self) -> bool {
        self.rows * self.columns <= 32
    }

    /// Inner positions per dispatch: bounds the loops of an invocation (lavapipe silently stops all loops after 65,535 trips
    /// in total), and with it what is summed before the partial sum meets the output. Fixed by the shape, so that results
    /// depend on which shape was found to be fast, but neither on the moment's speed nor on memory.
    pub const fn reach(&self) -> usize {
        if self.two_levels() { 4096 } else { 1024 }
    }

    /// Multiply-adds of one workgroup per inner step.
    pub const fn area(&self) -> usize {
        self.batches * self.m * self.n
    }

    /// Shared memory of the kernel that takes most, in bytes: a table of steps, and offsets of four rows each.
    #[cfg(test)]
    pub const fn shared_bytes(&self) -> usize {
        let (rows, columns) = (self.batches * self.m / 4, self.batches * self.n / 4);
        16 * (self.depth * (rows + columns + 2) + rows + 2 * columns + 256)
    }
}

impl std::fmt::Display for TileShape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.batches > 1 {
            write!(f, "{}×", self.batches)?;
        }
        write!(
            f,
            "{}×{}×{} {}×{}",
            self.m, self.n, self.depth, self.rows, self.columns
        )?;
        if self.ahead {
            f.write_str(" ahead")?;
        }
        Ok(())
    }
}

const SMALL: (usize, usize) = (4, 4);

const T32: TileShape = TileShape::new((1, 32, 32), 16, SMALL);
const T64: TileShape = TileShape::new((1, 64, 64), 16, SMALL);
const T64_TALL: TileShape = TileShape::new((1, 64, 64), 16, (8, 4));
const T64_WIDE: TileShape = TileShape::new((1, 64, 64), 16, (8, 8));
const T128: TileShape = TileShape::new((1, 128, 128), 8, (8, 8));
const T128_FLAT: TileShape = TileShape::new((1, 128, 64), 8, (8, 4));
const T128_HALF: TileShape = TileShape::new((1, 128, 64), 8, (8, 8));

/// Tiles for products that are large both ways, in the order in which they are measured: those that win on most devices first
/// (GPU-NOTES, B2).
pub(in crate::tensor::gpu) const LARGE: [TileShape; 13] = [
    T64,
    T32,
    T64_TALL,
    T128,
    T64_WIDE,
    T64_TALL.ahead(),
    T128.ahead(),
    T64.ahead(),
    T128_FLAT,
    T128_HALF,
    T128_HALF.ahead(),
    T64_WIDE.ahead(),
    T32.ahead(),
];

/// Flat tiles for thin operands, and several per workgroup for batches of small products.
pub(in crate::tensor::gpu) const THIN: [TileShape; 5] = [
    TileShape::new((4, 16, 16), 8, SMALL),
    TileShape::new((16, 8, 8), 8, SMALL),
    TileShape::new((64, 4, 4), 4, SMALL),
    TileShape::new((1, 4, 256), 8, SMALL),
    TileShape::new((1, 256, 4), 8, SMALL),
];

/// The shapes that a device uses, with the speed of each as a share of the fastest one's.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::tensor::gpu) struct Shapes {
    rates: Vec<(TileShape, f64)>,
    /// Workgroups that keep the device busy.
    fill: usize,
}

/// How many times a thin tile's loads cost what a square one's do, per multiply-add.
fn thin_rate(shape: &TileShape) -> f64 {
    1.5 / (1.0 + 8.0 * (shape.m + shape.n) as f64 / (shape.m * shape.n) as f64)
}

impl Shapes {
    /// What is taken where nothing was measured: 4 × 4 per thread in tiles of 64 or 32, which lose least on any of the GPUs that
    /// others have measured (GPU-NOTES, B2).
    pub fn unmeasured(kind: wgpu::DeviceType) -> Shapes {
        Shapes::new(&[(T64, 1.0), (T32, 0.8)], kind)
    }

    /// What measured speeds say, in any unit.
    pub fn new(measured: &[(TileShape, f64)], kind: wgpu::DeviceType) -> Shapes {
        let fastest = measured.iter().map(|m| m.1).fold(0.0, f64::max).max(1e-9);
        let mut rates: Vec<_> = measured
            .iter()
            .map(|&(shape, rate)| (shape, rate / fastest))
            .collect();
        rates.extend(THIN.iter().map(|shape| (*shape, thin_rate(shape))));
        let fill = match kind {
            wgpu::DeviceType::DiscreteGpu => 128,
            wgpu::DeviceType::Cpu => 4,
            _ => 32,
        };
        Shapes { rates, fill }
    }

    /// Leaves out shapes that do not work, but for the last square one.
    pub fn leave_out(&mut self, wrong: impl Fn(&TileShape) -> bool) {
        let works = |(shape, _): &(TileShape, f64)| !wrong(shape);
        if self
            .rates
            .iter()
            .any(|rate| works(rate) && rate.0.m == rate.0.n)
        {
            self.rates.retain(works);
        }
    }

    /// Only this shape, whatever the product: for measuring it.
    pub fn only(shape: TileShape) -> Shapes {
        Shapes {
            rates: vec![(shape, 1.0)],
            fill: 1,
        }
    }

    /// Workgroups that keep the device busy.
    pub fn fill(&self) -> usize {
        self.fill
    }

    /// The shape of least estimated time for `batches` products `m` × `n`, and that estimate: padded work by speed, and turns
    /// of as many workgroups as the device holds. `symmetric` products leave out tiles below the diagonal, which squares alone
    /// can do. By sizes and the device's speeds alone.
    pub fn choose(
        &self,
        (batches, m, n): (usize, usize, usize),
        symmetric: bool,
    ) -> (TileShape, f64) {
        let cost = |(shape, rate): &(TileShape, f64)| {
            let (across, down) = (m.div_ceil(shape.m), n.div_ceil(shape.n));
            let tiles = match symmetric {
                true => across * (across + 1) / 2,
                false => across * down,
            };
            let groups = tiles * batches.div_ceil(shape.batches);
            // Of many turns the last one matters little, and none is exactly full.
            let turns = (groups as f64 / self.fill as f64).max(1.0);
            turns * shape.area() as f64 / rate
        };
        let fits = |shape: &TileShape| !symmetric || shape.m == shape.n;
        let of = self.rates.iter().filter(|(shape, _)| fits(shape));
        let costs = of.map(|measured| (measured.0, cost(measured)));
        costs
            .min_by(|a, b| a.1.total_cmp(&b.1))
            .expect("some shapes are square")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wgpu::DeviceType::{Cpu, DiscreteGpu};

    /// Trips of all loops of one invocation of `gemm.wgsl`, each loop's exit test included.
    fn trips(shape: &TileShape) -> usize {
        let (rows, columns) = (shape.batches * shape.m / 4, shape.batches * shape.n / 4);
        let offsets = |count: usize| count.div_ceil(shape.threads()) + 1;
        let tile = 1 + shape.depth.div_ceil(4) + 1;
        let chunk = 1 + offsets(256) + (256 / shape.depth + 1) * tile;
        // Stores of mirrors, 4 × 4 with 4 runs each.
        let stores = shape.rows * shape.columns / 16 * 3 * 25;
        offsets(rows) + offsets(columns) + (shape.reach() / 256 + 1) * chunk + stores
    }

    #[test]
    fn every_tile_shape_stays_within_the_limits() {
        for shape in LARGE.iter().chain(&THIN) {
            assert!(trips(shape) <= 60_000, "{shape}: {}", trips(shape));
            assert!((64..=256).contains(&shape.threads()), "{shape}");
            let shared = shape.shared_bytes();
            assert!(shared <= 16 << 10, "{shape}: {shared} bytes");
            assert_eq!(256 % shape.depth, 0, "{shape}");
            let parts = (shape.m / shape.rows, shape.n / shape.columns);
            assert_eq!(
                (parts.0 * shape.rows, parts.1 * shape.columns),
                (shape.m, shape.n)
            );
        }
    }

    #[test]
    fn tile_shapes_follow_the_sizes() {
        let shapes = Shapes::unmeasured(DiscreteGpu);
        assert_eq!(shapes.choose((1, 2048, 2048), false).0, T64);
        assert_eq!(shapes.choose((1, 100, 100), false).0, T32);
        assert_eq!(shapes.choose((10_000, 1, 1), false).0.batches, 64);
        assert_eq!(shapes.choose((1, 3, 100_000), false).0.n, 256);
        // A few workgroups fill a software device.
        assert_eq!(Shapes::unmeasured(Cpu).choose((1, 128, 128), false).0, T64);
    }

    #[test]
    fn measured_speeds_decide_and_symmetric_products_take_squares() {
        let shapes = Shapes::new(&[(T128_FLAT, 9.0), (T64, 6.0), (T32, 2.0)], DiscreteGpu);
        assert_eq!(shapes.choose((1, 4096, 4096), false).0, T128_FLAT);
        assert_eq!(shapes.choose((1, 4096, 4096), true).0, T64);
        let mut shapes = shapes;
        let (_, whole) = shapes.choose((64, 256, 256), false);
        let (_, half) = shapes.choose((64, 256, 256), true);
        assert!(half < whole);
        shapes.leave_out(|shape| *shape == T64);
        assert_eq!(shapes.choose((1, 4096, 4096), true).0, T32);
        shapes.leave_out(|_| true);
        assert_eq!(shapes.choose((1, 4096, 4096), true).0, T32);
    }
}
