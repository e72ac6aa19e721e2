//! The speed of each tile shape of the product kernel, once its results are known to be right.

use crate::error::{Error, Result};
use crate::tensor::gpu::findings::{Findings, ShapeRate};
use crate::tensor::gpu::kernel::Symmetry;
use crate::tensor::gpu::lock::lock;
use crate::tensor::gpu::product::Product;
use crate::tensor::gpu::tensor::GpuTensor;
use crate::tensor::gpu::tiles::{LARGE, Shapes, THIN, TileShape};
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

/// Products whose results are known: a plain one, and one that P scales and that is its own mirror.
struct Check {
    plain: Plain,
    scaled: Scaled,
}

/// leftᵀ·right.
struct Plain {
    left: GpuTensor,
    right: GpuTensor,
    /// Rows, columns and steps.
    sizes: [usize; 3],
    expected: Vec<f64>,
}

/// Σ_n P_n[o, o'] a_n[i] a_n[i'].
struct Scaled {
    inputs: GpuTensor,
    pairs: GpuTensor,
    /// Outputs, inputs and steps.
    sizes: [usize; 3],
    expected: Vec<f64>,
}

/// Numbers in −1..1, the same every time.
fn numbers(seed: u32, count: usize) -> Vec<f32> {
    let mut state = seed;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(next).collect()
}

fn upload(gpu: &Gpu, values: &[f32]) -> GpuTensor {
    gpu.upload(&Shape::new(1, 1, &[values.len()]), HostSlice::F32(values))
}

impl Plain {
    fn new(gpu: &Gpu, sizes: [usize; 3]) -> Plain {
        let [rows, columns, steps] = sizes;
        let (left, right) = (numbers(1, rows * steps), numbers(2, columns * steps));
        let mut expected = vec![0.0; rows * columns];
        for k in 0..steps {
            for m in 0..rows {
                let left = f64::from(left[k * rows + m]);
                let right = &right[k * columns..(k + 1) * columns];
                let sums = &mut expected[m * columns..(m + 1) * columns];
                for (sum, right) in sums.iter_mut().zip(right) {
                    *sum += left * f64::from(*right);
                }
            }
        }
        Plain {
            left: upload(gpu, &left),
            right: upload(gpu, &right),
            sizes,
            expected,
        }
    }

    fn passes(&self, gpu: &Gpu, shapes: &Shapes) -> Result<bool> {
        let operands = [&self.left, &self.right];
        let found = made(gpu, self.expected.len(), &operands, |output, views| {
            gpu.product_with(&dense(views, output, self.sizes), shapes)
        });
        Ok(close(&gpu.read(&found)?, &self.expected))
    }
}

impl Scaled {
    fn new(gpu: &Gpu, sizes: [usize; 3]) -> Scaled {
        let [outputs, inputs, samples] = sizes;
        let (a, d) = (numbers(3, inputs * samples), numbers(4, outputs * samples));
        // P is symmetric, as Δ times itself is.
        let each = outputs * outputs;
        let pairs: Vec<f32> = (0..samples * each)
            .map(|k| {
                let (n, o, o2) = (k / each, k / outputs % outputs, k % outputs);
                d[n * outputs + o] * d[n * outputs + o2]
            })
            .collect();
        let width = outputs * inputs;
        let mut expected = vec![0.0; width * width];
        for n in 0..samples {
            let a = &a[n * inputs..(n + 1) * inputs];
            for row in 0..width {
                for column in 0..width {
                    let pair = n * each + row / inputs * outputs + column / inputs;
                    expected[row * width + column] += f64::from(pairs[pair])
                        * f64::from(a[row % inputs])
                        * f64::from(a[column % inputs]);
                }
            }
        }
        Scaled {
            inputs: upload(gpu, &a),
            pairs: upload(gpu, &pairs),
            sizes,
            expected,
        }
    }

    fn passes(&self, gpu: &Gpu, shapes: &Shapes, mirrored: bool) -> Result<bool> {
        let [outputs, inputs, samples] = self.sizes;
        let (width, step) = ((outputs * inputs) as i64, inputs as i64);
        let operands = [&self.inputs, &self.pairs];
        let found = made(gpu, self.expected.len(), &operands, |output, views| {
            let mut product = Product::new(views[0], views[0], output);
            product.second = Some(views[1]);
            if mirrored {
                product.symmetry = Symmetry::Both;
            }
            product.scale(outputs, outputs as i64, [step * width, step]);
            product.scale(outputs, 1, [step, step * width]);
            product.row(inputs, 1, [width, 1]);
            product.column(inputs, 1, [1, width]);
            product.summed(samples, [step, step, (outputs * outputs) as i64]);
            gpu.product_with(&product, shapes)
        });
        Ok(close(&gpu.read(&found)?, &self.expected))
    }
}

impl Check {
    /// Of sizes that are read and stored four at a time, as the timed product is, or of others; ragged against any tile, over more
    /// than a chunk.
    fn new(gpu: &Gpu, aligned: bool) -> Check {
        let less = usize::from(!aligned);
        Check {
            plain: Plain::new(gpu, [148 - less, 132 - less, 272 - less]),
            scaled: Scaled::new(gpu, [3, 140 - less, 37]),
        }
    }

    /// Whether a shape gives what it should, into memory that held NaN.
    fn passes(&self, gpu: &Gpu, shape: TileShape) -> Result<bool> {
        let shapes = Shapes::only(shape);
        // Only squares have mirrors.
        let mirrored = shape.m == shape.n;
        Ok(self.plain.passes(gpu, &shapes)? && self.scaled.passes(gpu, &shapes, mirrored)?)
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
    [rows, columns, steps]: [usize; 3],
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

/// Checks the shapes and times those for large products, those that win most often first, until the time is up. A shape that the
/// device refuses ends it: what was found until then counts.
///
/// # Errors
/// [`Error::Device`] where nothing comes out right.
pub(super) fn measure(gpu: &Gpu, found: &mut Findings) -> Result<()> {
    let start = Instant::now();
    let check = Check::new(gpu, true);
    let operand = upload(gpu, &numbers(5, SIZE * STEPS));
    let output = gpu.fill(&Shape::new(1, 1, &[SIZE * SIZE]), 0.0);
    let mut rates = Vec::new();
    // What is taken where the time does not suffice comes first.
    let (first, more) = LARGE.split_at(2);
    for &shape in first.iter().chain(&THIN).chain(more) {
        if start.elapsed() > MOST {
            break;
        }
        let measured = check.passes(gpu, shape).and_then(|passes| match passes {
            true if THIN.contains(&shape) => Ok(None),
            true => time(gpu, shape, &operand, &output),
            false => Err(Error::Device("wrong numbers".into())),
        });
        match measured {
            Ok(Some(rate)) => rates.push((shape, rate)),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!("{}, tiles {shape}: {error}", gpu.report().name);
                found.wrong.push(shape.to_string());
                if gpu.device.is_lost() {
                    break;
                }
            }
        }
    }
    if rates.is_empty() && !found.wrong.is_empty() && !gpu.device.is_lost() {
        return Err(Error::Device(format!(
            "{} multiplies matrices wrongly with every tile that was tried ({}): use another device or a newer driver",
            gpu.report().name,
            found.wrong.join(", ")
        )));
    }
    rates.sort_by(|a, b| b.1.total_cmp(&a.1));
    found.shapes = rates
        .iter()
        .map(|(shape, rate)| ShapeRate {
            shape: shape.to_string(),
            gflops: rate / 1e9,
        })
        .collect();
    Ok(())
}

/// Operations per second of a shape at a product that it fits; `None` where there is no memory for it.
fn time(
    gpu: &Gpu,
    shape: TileShape,
    operand: &GpuTensor,
    output: &GpuTensor,
) -> Result<Option<f64>> {
    let (Some(operand), Some(output)) = (operand.view(), output.view()) else {
        return Ok(None);
    };
    let shapes = Shapes::only(shape);
    let turn = |times: usize| {
        let start = Instant::now();
        for _ in 0..times {
            let mut product = dense(&[operand; 2], output, [SIZE, SIZE, STEPS]);
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
    let rate = 2.0 * (SIZE * SIZE * STEPS * times) as f64 / best;
    // The next shape is as fast, about.
    lock(&gpu.device.stream).expect_products(rate / 8.0);
    Ok(Some(rate))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::gpu::{Options, Selector, Tuning, adapters};

    #[test]
    fn shapes_are_timed_once_they_are_right_and_the_time_is_bounded() {
        let Some(index) = adapters().iter().position(|r| r.is_software()) else {
            return;
        };
        let options = Options {
            tuning: Tuning::Trial,
            ..Options::default()
        };
        let gpu = Gpu::open_with(&Selector::Index(index), options).expect("the adapter opens");
        let found = gpu.findings();
        assert!(gpu.was_measured() && found.wrong.is_empty(), "{found}");
        // A software device has time for the first ones only.
        let names: Vec<&str> = found.shapes.iter().map(|s| s.shape.as_str()).collect();
        assert!(names.contains(&&*LARGE[0].to_string()), "{names:?}");
        assert!(names.len() <= LARGE.len() && found.operations_per_second() > Some(0.0));
        assert!(found.shapes.is_sorted_by(|a, b| a.gflops >= b.gflops));
    }

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
        let mut check = Check::new(&gpu, true);
        for shape in LARGE.iter().chain(&THIN) {
            assert!(check.passes(&gpu, *shape).unwrap(), "{shape}");
        }
        let ragged = Check::new(&gpu, false);
        for shape in LARGE.iter().take(4) {
            assert!(ragged.passes(&gpu, *shape).unwrap(), "{shape}");
        }
        check.plain.expected[77] += 1e-2;
        assert!(!check.passes(&gpu, LARGE[0]).unwrap());
    }
}
