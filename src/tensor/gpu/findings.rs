//! Measurements of a device at its first use, and the choice whether earlier measurements are used.

use super::tiles::{self, Shapes};

/// Whether a device's findings are taken from the disk, or found anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tuning {
    /// From the disk where they are there; otherwise found, which takes up to two seconds on a hardware adapter, and stored.
    #[default]
    Stored,
    /// Found anew, and stored.
    Anew,
    /// Found anew even of a software adapter, whose speeds say nothing about a GPU's, and not stored: for tests.
    Trial,
}

/// The measurements of a device.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Findings {
    /// Whether what a sum loses can be computed and kept (TwoSum behind a barrier): then sums over several dispatches are
    /// compensated.
    pub compensated: bool,
    /// Whether a product and a sum are rounded once.
    pub fused: bool,
    /// Turns after which the compiler ends a loop, where it does so before 100,000.
    pub loop_cap: Option<u32>,
    /// Bytes per second from memory that the device wrote to that of the host.
    pub read_back: f64,
    /// Speed of each tile shape in 10⁹ operations per second, the fastest first; of none where nothing was measured.
    pub shapes: Vec<ShapeRate>,
    /// Tile shapes whose results were wrong on this device, and are not used.
    pub wrong: Vec<String>,
    /// Seconds that this took.
    pub seconds: f64,
}

/// The speed of one tile shape.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ShapeRate {
    /// Rows × columns × depth of a workgroup's tile, rows × columns of a thread's.
    pub shape: String,
    /// 10⁹ operations per second, a multiply-add being two.
    pub gflops: f64,
}

impl std::fmt::Display for Findings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.compensated {
            true => "long sums keep their rounding errors (compensated), ",
            false => "long sums lose their rounding errors (not compensated), which shows in many samples, ",
        })?;
        f.write_str(match self.fused {
            true => "multiply-adds are rounded once (fused), ",
            false => "multiply-adds are rounded twice (not fused), ",
        })?;
        match self.loop_cap {
            Some(turns) => write!(
                f,
                "loops end after {turns} turns, so long sums take several dispatches, "
            )?,
            None => f.write_str("loops run to their end, ")?,
        }
        write!(
            f,
            "results come back to the host at {:.1} GB/s, ",
            self.read_back / 1e9
        )?;
        match self.shapes.first() {
            Some(ShapeRate { shape, gflops }) => write!(
                f,
                "products at {gflops:.0} Gflop/s by tiles {shape}, the fastest of {}",
                self.shapes.len()
            )?,
            None => f.write_str("kernels not measured")?,
        }
        match self.wrong.len() {
            0 => Ok(()),
            _ => write!(f, "; WRONG with tiles {}", self.wrong.join(", ")),
        }
    }
}

impl Findings {
    /// The highest measured speed of a product, in operations per second.
    pub fn operations_per_second(&self) -> Option<f64> {
        let rates = self.shapes.iter().map(|rate| rate.gflops * 1e9);
        rates.max_by(f64::total_cmp)
    }

    /// The shapes that products take.
    pub(super) fn chosen(&self, kind: wgpu::DeviceType) -> Shapes {
        let measured = self.shapes.iter().filter_map(|rate| {
            let known = tiles::LARGE.iter();
            let shape = known.copied().find(|s| s.to_string() == rate.shape)?;
            Some((shape, rate.gflops))
        });
        let measured: Vec<_> = measured.collect();
        let mut shapes = match measured.iter().any(|(shape, _)| shape.m == shape.n) {
            true => Shapes::new(&measured, kind),
            false => Shapes::unmeasured(kind),
        };
        shapes.leave_out(|shape| self.wrong.contains(&shape.to_string()));
        shapes
    }
}
