//! The speed of each tile shape of the product kernel, once its results are known to be right.

use super::{Findings, ShapeRate};
use crate::error::{Error, Result};
use crate::tensor::gpu::device::lock;
use crate::tensor::gpu::product::{LARGE, Product, Shapes, Symmetry, THIN, TileShape};
use crate::tensor::gpu::tensor::GpuTensor;
use crate::tensor::gpu::{Gpu, tensor::View};
use crate::tensor::{Backend, HostSlice, Shape};
use std::time::{Duration, Instant};

/// All of the measuring, the probes beside it.
const MOST: Duration = Duration::from_millis(1600);
/// What one measurement should take: long against a submission's overhead.
const EACH: f64 = 0.004;
/// Rows and columns, and inner steps, of the timed product.
const SIZE: usize = 2048;
const STEPS: usize = 512;

/// Products that every shape is checked with: ragged in every size, over more than a chunk.
struct Check {
    plain: (GpuTensor, GpuTensor, Vec<f64>),
    scaled: (GpuTensor, GpuTensor, Vec<f64>),
}

/// Rows, columns and steps of the plain product; outputs, inputs and steps of the scaled one.
const PLAIN: (usize, usize, usize) = (150, 134, 271);
const SCALED: (usize, usize, usize) = (3, 141, 37);

/// Numbers in −1..1, the same every time.
fn numbers(seed: u32, count: usize) -> Vec<f32> {
    let mut state = seed;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(next).collect()
}

impl Check {
    fn new(gpu: &Gpu) -> Check {
        let upload =
            |values: &[f32]| gpu.upload(&Shape::new(1, 1, &[values.len()]), HostSlice::F32(values));
        let (rows, columns, steps) = PLAIN;
        let (left, right) = (numbers(1, rows * steps), numbers(2, columns * steps));
        let mut plain = vec![0.0; rows * columns];
        for k in 0..steps {
            for m in 0..rows {
                for n in 0..columns {
                    plain[m * columns + n] +=
                        f64::from(left[k * rows + m]) * f64::from(right[k * columns + n]);
                }
            }
        }
        let (outputs, inputs, samples) = SCALED;
        let (a, d) = (numbers(3, inputs * samples), numbers(4, outputs * samples));
        // P is symmetric, as Δ times itself is.
        let pairs: Vec<f32> = (0..samples * outputs * outputs)
            .map(|k| {
                let (n, o, o2) = (k / (outputs * outputs), k / outputs % outputs, k % outputs);
                d[n * outputs + o] * d[n * outputs + o2]
            })
            .collect();
        let width = outputs * inputs;
        let mut scaled = vec![0.0; width * width];
        for n in 0..samples {
            for row in 0..width {
                for column in 0..width {
                    let pair = (n * outputs + row / inputs) * outputs + column / inputs;
                    scaled[row * width + column] += f64::from(pairs[pair])
                        * f64::from(a[n * inputs + row % inputs])
                        * f64::from(a[n * inputs + column % inputs]);
                }
            }
        }
        Check {
            plain: (upload(&left), upload(&right), plain),
            scaled: (upload(&a), upload(&pairs), scaled),
        }
    }

    /// Whether a shape gives what it should, into memory that held NaN.
    fn passes(&self, gpu: &Gpu, shape: TileShape) -> Result<bool> {
        let shapes = &Shapes::only(shape);
        let (rows, columns, steps) = PLAIN;
        let (left, right, expected) = &self.plain;
        let plain = made(gpu, rows * columns, &[left, right], |output, views| {
            gpu.product_with(&dense(views, output, (rows, columns, steps)), shapes)
        });
        let (outputs, inputs, samples) = SCALED;
        let (a, pairs, block) = &self.scaled;
        let width = (outputs * inputs) as i64;
        let scaled = made(gpu, block.len(), &[a, pairs], |output, views| {
            let mut product = Product::new(views[0], views[0], output);
            product.second = Some(views[1]);
            // Only squares have mirrors.
            product.symmetry = Symmetry {
                tiles: shape.m == shape.n,
                batches: shape.m == shape.n,
            };
            let step = inputs as i64;
            product.scale(outputs, outputs as i64, [step * width, step]);
            product.scale(outputs, 1, [step, step * width]);
            product.row(inputs, 1, [width, 1]);
            product.column(inputs, 1, [1, width]);
            let each = (outputs * outputs) as i64;
            product.summed(samples, [step, step, each]);
            gpu.product_with(&product, shapes)
        });
        Ok(close(&gpu.read(&plain)?, expected) && close(&gpu.read(&scaled)?, block))
    }
}

/// A tensor that held NaN before `write`.
fn made(
    gpu: &Gpu,
    len: usize,
    inputs: &[&GpuTensor],
    write: impl FnOnce(View<'_>, &[View<'_>]) -> bool,
) -> GpuTensor {
    gpu.create(Shape::new(1, 1, &[len]), inputs, |output, views| {
        gpu.fill_bits(output, len, f32::NAN.to_bits());
        write(output, views)
    })
}

/// leftᵀ·right of matrices whose rows are the steps.
fn dense<'a>(
    views: &[View<'a>],
    output: View<'a>,
    (rows, columns, steps): (usize, usize, usize),
) -> Product<'a> {
    let mut product = Product::new(views[0], views[1], output);
    product.row(rows, 1, [columns as i64, 0]);
    product.column(columns, 1, [1, 0]);
    product.summed(steps, [rows as i64, columns as i64, 0]);
    product
}

fn close(found: &[f32], expected: &[f64]) -> bool {
    let most = expected.iter().fold(0.0f64, |most, v| most.max(v.abs()));
    let near =
        |(found, expected): (&f32, &f64)| (f64::from(*found) - expected).abs() <= 2e-6 * most;
    found.iter().zip(expected).all(near)
}

/// Checks the shapes and times those for large products, those that win most often first, until the time is up.
///
/// # Errors
/// What the device reports; [`Error::Device`] where nothing comes out right.
pub(super) fn measure(gpu: &Gpu, found: &mut Findings) -> Result<()> {
    let start = Instant::now();
    let check = Check::new(gpu);
    let values = numbers(5, SIZE * STEPS);
    let operand = gpu.upload(&Shape::new(1, 1, &[values.len()]), HostSlice::F32(&values));
    let output = gpu.fill(&Shape::new(1, 1, &[SIZE * SIZE]), 0.0);
    let mut rates = Vec::new();
    // What is taken where the time does not suffice comes first.
    let (first, more) = LARGE.split_at(2);
    for &shape in first.iter().chain(&THIN).chain(more) {
        if start.elapsed() > MOST {
            break;
        }
        if !check.passes(gpu, shape)? {
            tracing::warn!("{}: tiles {shape} give wrong numbers", gpu.report().name);
            found.wrong.push(shape.to_string());
            continue;
        }
        if THIN.contains(&shape) {
            continue;
        }
        let shapes = Shapes::only(shape);
        let (Some(operand), Some(output)) = (operand.view(), output.view()) else {
            break;
        };
        let turn = |times: usize| {
            let start = Instant::now();
            for _ in 0..times {
                let mut product = dense(&[operand; 2], output, (SIZE, SIZE, STEPS));
                product.accumulate = true;
                gpu.product_with(&product, &shapes);
            }
            gpu.device.finish();
            start.elapsed().as_secs_f64()
        };
        // Also lets the stream learn how much of this fits a submission.
        let mut times = 1;
        let mut took = turn(1);
        while took < EACH && times < 256 {
            times *= 2;
            took = turn(times);
        }
        let best = (0..2).map(|_| turn(times)).fold(took, f64::min);
        gpu.device.check()?;
        let operations = 2.0 * (SIZE * SIZE * STEPS * times) as f64;
        rates.push((shape, operations / best / 1e9));
        // The next shape is as fast, about.
        lock(&gpu.device.stream).expect_products(operations / 2.0 / best / 4.0);
    }
    if rates.is_empty() {
        return Err(Error::Device(format!(
            "{} multiplies matrices wrongly with every tile that was tried ({}): use another device or a newer driver",
            gpu.report().name,
            found.wrong.join(", ")
        )));
    }
    rates.sort_by(|a, b| b.1.total_cmp(&a.1));
    found.shapes = rates
        .iter()
        .map(|(shape, gflops)| ShapeRate {
            shape: shape.to_string(),
            gflops: *gflops,
        })
        .collect();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::gpu::{Options, Selector, adapters};

    #[test]
    fn every_tile_shape_gives_right_numbers_and_a_wrong_one_is_seen() {
        let Some(index) = adapters().iter().position(|r| r.is_software()) else {
            return;
        };
        let options = Options {
            checked: false,
            ..Options::default()
        };
        let gpu = Gpu::open_with(&Selector::Index(index), options).expect("the adapter opens");
        let mut check = Check::new(&gpu);
        for shape in LARGE.iter().chain(&THIN) {
            assert!(check.passes(&gpu, *shape).unwrap(), "{shape}");
        }
        check.plain.2[77] += 1e-2;
        assert!(!check.passes(&gpu, LARGE[0]).unwrap());
    }
}
