//! What a device's compiler does to sums, products and loops, and how fast it is read back.

use crate::error::{Error, Result};
use crate::tensor::gpu::Gpu;
use crate::tensor::gpu::findings::Findings;
use crate::tensor::gpu::kernel::Kernel;
use crate::tensor::gpu::launch::Launch;
use crate::tensor::gpu::params::{Words, probe};
use crate::tensor::{Backend, Contract, Expr, HostSlice, Placement, Shape};

/// Turns that the loops of any kernel make at most.
const NEEDED: u32 = 60_000;
/// Turns that are tried.
const TRIED: u32 = 100_000;
/// Bytes read back.
const READ: usize = 32 << 20;

/// Finds out all but the speeds of kernels.
///
/// # Errors
/// [`Error::Device`] where the device fails, or ends loops before the kernels' are through.
pub(super) fn probe(gpu: &Gpu) -> Result<Findings> {
    let loop_cap = loop_cap(gpu)?;
    Ok(Findings {
        compensated: compensated(gpu)?,
        fused: fused(gpu)?,
        loop_cap,
        read_back: read_back(gpu)?,
        ..Findings::default()
    })
}

/// Sums many small numbers to a large one in a tile, as long contractions do, and looks whether they are there.
fn compensated(gpu: &Gpu) -> Result<bool> {
    const SIZE: usize = 64;
    const TERMS: usize = 60;
    let column: Vec<f64> = (0..SIZE).map(|k| 1.0 + k as f64 / 64.0).collect();
    let shape = Shape::new(1, 1, &[SIZE]);
    let columns = gpu.upload(&shape, HostSlice::F64(&column));
    let mut tile = gpu.accumulator(SIZE, SIZE);
    tile.keep_what_is_lost(gpu);
    let mut exact = vec![0.0; SIZE * SIZE];
    for term in 0..TERMS {
        // Of either sign, and each far below the last place of the first.
        let scale = match term {
            0 => 1.0,
            _ => 2f64.powi(-25) * [1.0, 0.5, -0.25][term % 3],
        };
        let row: Vec<f64> = (0..SIZE).map(|k| (1.0 + k as f64 / 32.0) * scale).collect();
        let rows = gpu.upload(&shape, HostSlice::F64(&row));
        gpu.accumulate_dense(&mut tile, Placement::ADD, (0, 0), (&rows, &columns));
        for (k, sum) in exact.iter_mut().enumerate() {
            *sum += row[k / SIZE] * column[k % SIZE];
        }
    }
    let found = gpu.collect(gpu.finish(tile))?;
    // Rounded once more than the exact sum at most; without compensation all terms but the first are lost.
    let close = |(found, exact): (&f32, &f64)| {
        (f64::from(*found) - exact).abs() <= f64::from(f32::EPSILON) * exact.abs()
    };
    Ok(found.iter().zip(&exact).all(close))
}

/// Whether x·y + z is rounded once: then it tells by how much the rounded x·y is off.
fn fused(gpu: &Gpu) -> Result<bool> {
    let x: Vec<f32> = (0..256u16).map(|k| 1.0 + f32::from(k) / 1000.0).collect();
    let products: Vec<f32> = x.iter().map(|x| -(x * x)).collect();
    let shape = Shape::new(1, 1, &[x.len()]);
    let (x, z) = (
        gpu.upload(&shape, HostSlice::F32(&x)),
        gpu.upload(&shape, HostSlice::F32(&products)),
    );
    let sum = Expr::input(0) * Expr::input(1) + Expr::input(2);
    let found = gpu.read(&gpu.map(&sum, &[&x, &x, &z]))?;
    Ok(found.iter().any(|&error| error != 0.0))
}

/// The end that the compiler puts to long loops, where there is one within what is tried.
fn loop_cap(gpu: &Gpu) -> Result<Option<u32>> {
    let result = gpu.create(Shape::new(1, 1, &[2]), &[], |output, _| {
        let mut words = Words::new(0);
        words.set(probe::TURNS, TRIED as usize);
        gpu.device.launch(Launch {
            kernel: Kernel::Probe,
            inputs: &[],
            output: output.buffer,
            beside: None,
            words,
            groups: 1,
            work: f64::from(TRIED),
        });
        true
    });
    let found: Vec<u32> = gpu.read(&result)?.iter().map(|v| v.to_bits()).collect();
    let turns = found[0].min(TRIED);
    let step = |value: u32, _| value.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    if turns < NEEDED || found[1] != (0..turns).fold(1, step) {
        return Err(Error::Device(format!(
            "{}: its compiler ends loops after {turns} turns or computes them wrongly, and the kernels need {NEEDED}; use another \
             device, or a newer driver",
            gpu.report().name
        )));
    }
    Ok((turns < TRIED).then_some(turns))
}

/// Bytes per second of copying to host memory what has arrived, the second time: the first one makes the staging buffer.
fn read_back(gpu: &Gpu) -> Result<f64> {
    let tensor = gpu.fill(&Shape::new(1, 1, &[READ / 4]), 1.0);
    gpu.read(&tensor)?;
    let before = gpu.counters().read_back_seconds;
    gpu.read(&tensor)?;
    let rate = READ as f64 / (gpu.counters().read_back_seconds - before).max(1e-6);
    if rate < 1e9 {
        tracing::warn!(
            "{} is read back at {:.1} MB/s only",
            gpu.report().name,
            rate / 1e6
        );
    }
    Ok(rate)
}
