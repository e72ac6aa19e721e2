//! What only the GPU backend has: its own elementary functions, limits, memory, tiles in flight.
#![cfg(feature = "gpu")]

mod common;

use common::{random, random_in};
use hessblock::internals::tensor::cpu::Cpu;
use hessblock::internals::tensor::expression::Unary;
use hessblock::internals::tensor::gpu::{Gpu, Options, Selector, adapters};
use hessblock::internals::tensor::meter::Meter;
use hessblock::internals::tensor::{
    Backend, Contract, Einsum, Expr, HostSlice, Placement, Shape, Window,
};

/// Distance of an f32 from an exact value, in units of the last place of that value.
fn ulps(value: f32, exact: f64) -> f64 {
    let rounded = exact as f32;
    if rounded.is_infinite() || rounded.is_nan() {
        let same = value == rounded || value.is_nan() && rounded.is_nan();
        return if same { 0.0 } else { f64::INFINITY };
    }
    let unit = f64::from(rounded.abs().max(f32::MIN_POSITIVE));
    let unit = 2f64.powi(unit.log2().floor() as i32 - 23);
    (f64::from(value) - exact).abs() / unit
}

/// Arguments over a range: evenly, and by powers of two around every size down to denormals.
fn arguments(low: f32, high: f32) -> Vec<f32> {
    let mut all: Vec<f32> = (0..=40_000)
        .map(|k| low + (high - low) * (k as f32 / 40_000.0))
        .collect();
    for exponent in -140..12 {
        for step in 0..16 {
            let x = 2f32.powi(exponent) * (1.0 + step as f32 / 16.0);
            all.extend([x, -x]);
        }
    }
    // Around 1, where logarithms vanish.
    all.extend((-200..200).map(|k| f32::from_bits((1.0f32.to_bits() as i32 + k) as u32)));
    all.extend([0.0, -0.0]);
    all.retain(|x| (low..=high).contains(x));
    all
}

fn worst(gpu: &Gpu, function: Unary, low: f32, high: f32) -> (f64, f32, f32) {
    let x = arguments(low, high);
    let tensor = gpu.upload(&Shape::new(1, 1, &[x.len()]), HostSlice::F32(&x));
    let result = gpu.map(&Expr::input(0).unary(function), &[&tensor]);
    let values = gpu.read(&result).unwrap();
    let mut worst = (0.0, 0.0, 0.0);
    for (&x, &y) in x.iter().zip(&values) {
        let error = ulps(y, function.evaluate(f64::from(x)));
        // Denormal results may be flushed.
        let exact = function.evaluate(f64::from(x));
        if exact.abs() < f64::from(f32::MIN_POSITIVE) && y.abs() <= f32::MIN_POSITIVE {
            continue;
        }
        if error > worst.0 {
            worst = (error, x, y);
        }
    }
    worst
}

#[test]
fn elementary_functions_are_accurate_everywhere() {
    let Some(gpu) = common::gpu::open(false) else {
        return;
    };
    for (function, low, high) in [
        (Unary::Exp, -120.0, 90.0),
        (Unary::ExpM1, -120.0, 90.0),
        (Unary::Log, 0.0, 1e30),
        (Unary::Log, 0.1, 10.0),
        (Unary::Log1p, -1.0, 1e30),
        (Unary::Log1p, -0.99, 4.0),
        (Unary::Tanh, -30.0, 30.0),
        (Unary::Tanh, -1.0, 1.0),
        (Unary::Sigmoid, -100.0, 100.0),
        (Unary::Softplus, -100.0, 100.0),
        (Unary::Sqrt, 0.0, 1e30),
        (Unary::Reciprocal, 1e-30, 1e30),
        (Unary::Sin, -60.0, 60.0),
        (Unary::Cos, -60.0, 60.0),
        (Unary::Erf, -5.0, 5.0),
        (Unary::Erf, 0.9, 1.1),
        (Unary::Sinh, -89.0, 89.0),
        (Unary::Sinh, -1.1, 1.1),
        (Unary::Cosh, -89.0, 89.0),
        (Unary::Atan, -1e30, 1e30),
        (Unary::Atan, -4.0, 4.0),
        (Unary::Asin, -1.0, 1.0),
        (Unary::Acos, -1.0, 1.0),
        (Unary::Asinh, -1e30, 1e30),
        (Unary::Asinh, -4.0, 4.0),
        (Unary::Acosh, 1.0, 1e30),
        (Unary::Acosh, 1.0, 4.0),
        (Unary::Floor, -1e30, 1e30),
        (Unary::Ceil, -1e30, 1e30),
        (Unary::Round, -1e30, 1e30),
    ] {
        let (error, x, y) = worst(&gpu, function, low, high);
        eprintln!("{function:?} {low}..{high}: {error:.2} ulp at {x:e} ({y:e})");
        assert!(
            error <= 4.0,
            "{function:?} of {x:e} is {y:e}, {error:.2} ulp off"
        );
    }
}

#[test]
fn nan_and_infinities_come_through() {
    let Some(gpu) = common::gpu::open(true) else {
        return;
    };
    let x = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0];
    let tensor = gpu.upload(&Shape::new(1, 1, &[4]), HostSlice::F32(&x));
    for function in Unary::ALL {
        let result = gpu.map(&Expr::input(0).unary(function), &[&tensor]);
        for (&x, y) in x.iter().zip(gpu.read(&result).unwrap()) {
            let exact = function.evaluate(f64::from(x)) as f32;
            let same = y == exact || y.is_nan() && exact.is_nan();
            assert!(same, "{function:?} of {x} is {y}, not {exact}");
        }
    }
}

/// x^y on the GPU, pair by pair.
fn powers(gpu: &Gpu, x: &[f32], y: &[f32]) -> Vec<f32> {
    let upload =
        |values: &[f32]| gpu.upload(&Shape::new(1, 1, &[values.len()]), HostSlice::F32(values));
    let power = Expr::input(0).power(Expr::input(1));
    gpu.read(&gpu.map(&power, &[&upload(x), &upload(y)]))
        .unwrap()
}

#[test]
fn powers_are_accurate_wherever_they_are_numbers() {
    let Some(gpu) = common::gpu::open(false) else {
        return;
    };
    let mut numbers = common::Numbers(5);
    let (mut x, mut y) = (Vec::new(), Vec::new());
    for _ in 0..200_000 {
        // Bases of every size and ever closer to 1, exponents that keep ln of the result within ±87.
        let spread = 2f64.powf(numbers.uniform(-20.0, 6.4));
        let ln = numbers.uniform(-spread, spread);
        let base = ln.exp() as f32;
        let most = 87.0 / f64::from(base).ln().abs().max(1e-6);
        let exponent = numbers.uniform(-most, most) as f32;
        x.extend([base, -base]);
        y.extend([exponent, exponent.trunc()]);
    }
    for whole in -6..=6 {
        for base in [0.3f32, 1.7, -2.5, 10.0, 1e-3] {
            x.push(base);
            y.push(whole as f32);
        }
    }
    let mut worst = (0.0f64, 0.0, 0.0);
    for ((&x, &y), found) in x.iter().zip(&y).zip(powers(&gpu, &x, &y)) {
        let exact = f64::from(x).powf(f64::from(y));
        // An error of ln x counts y times.
        let allowed = 4e-7 + 1.5e-8 * exact.abs().ln().abs();
        let error = ((f64::from(found) - exact) / exact).abs() / allowed;
        if error > worst.0 {
            worst = (error, x, y);
        }
    }
    eprintln!(
        "power: {:.2} of the error allowed at {:e}^{:e}",
        worst.0, worst.1, worst.2
    );
    assert!(worst.0 < 1.0, "{worst:?}");
}

#[test]
fn powers_at_the_edges_are_those_of_c() {
    for checked in [true, false] {
        let Some(gpu) = common::gpu::open(checked) else {
            return;
        };
        let edges = [
            0.0,
            -0.0,
            1.0,
            -1.0,
            0.5,
            -0.5,
            2.0,
            -2.0,
            3.0,
            -3.0,
            1e-40,
            1e30,
            -1e30,
            16_777_215.0,
            16_777_216.0,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::NAN,
        ];
        let pairs: Vec<(f32, f32)> = edges
            .iter()
            .flat_map(|&x| edges.iter().map(move |&y| (x, y)))
            .collect();
        let (x, y): (Vec<f32>, Vec<f32>) = pairs.iter().copied().unzip();
        for ((x, y), found) in pairs.into_iter().zip(powers(&gpu, &x, &y)) {
            let exact = f64::from(x).powf(f64::from(y)) as f32;
            // A base of 1e-40 may be flushed to 0.
            let close = (found - exact).abs() <= 1e-6 * exact.abs();
            let same = found == exact && found.is_sign_positive() == exact.is_sign_positive();
            let denormal = exact.abs() < f32::MIN_POSITIVE && found.abs() < f32::MIN_POSITIVE;
            assert!(
                same || close && exact != 0.0
                    || denormal && exact != 0.0
                    || found.is_nan() && exact.is_nan(),
                "{x:e}^{y:e} is {found:e}, not {exact:e}"
            );
        }
    }
}

#[test]
fn long_sums_of_positive_numbers_keep_their_digits() {
    let Some(gpu) = common::gpu::open(false) else {
        return;
    };
    let (samples, rows) = (40_960, 37);
    let x = random_in(1, samples, 1, &[rows], 0.0, 1.0);
    let tensor = gpu.upload(&x.shape, HostSlice::F64(&x.values));
    let mut tile = gpu.accumulator(rows, rows);
    gpu.accumulate_dense(&mut tile, Placement::ADD, (0, 0), (&tensor, &tensor));
    let values = gpu.collect(gpu.finish(tile)).unwrap();
    let mut worst = 0.0f64;
    for i in 0..rows {
        for j in 0..rows {
            let exact: f64 = (0..samples)
                .map(|n| x.values[n * rows + i] * x.values[n * rows + j])
                .sum();
            worst = worst.max((f64::from(values[i * rows + j]) - exact).abs() / exact);
        }
    }
    eprintln!("sum of 40,960 products: relative error {worst:e}");
    assert!(worst < 4e-7, "{worst:e}");
}

#[test]
fn sums_over_many_units_keep_what_each_of_them_would_lose() {
    if common::gpu::open(false).is_none() {
        return;
    }
    let (units, samples, rows) = (160, 64, 37);
    let x = random_in(7, units * samples, 1, &[rows], 0.0, 1.0);
    // As a device whose compiler drops the error of a sum would do it, and as others do.
    let worst = |compensated: bool| {
        let options = Options {
            compensated,
            ..Options::default()
        };
        let gpu = Gpu::open_with(&common::gpu::selector(), options).unwrap();
        let tensor = gpu.upload(&x.shape, HostSlice::F64(&x.values));
        let mut tile = gpu.accumulator(rows, rows);
        for unit in 0..units {
            let part = gpu.slice(&tensor, 0, unit * samples, (unit + 1) * samples);
            gpu.accumulate_dense(&mut tile, Placement::ADD, (0, 0), (&part, &part));
        }
        let values = gpu.collect(gpu.finish(tile)).unwrap();
        let mut worst = 0.0f64;
        for i in 0..rows {
            for j in 0..rows {
                let exact: f64 = (0..units * samples)
                    .map(|n| x.values[n * rows + i] * x.values[n * rows + j])
                    .sum();
                worst = worst.max((f64::from(values[i * rows + j]) - exact).abs() / exact);
            }
        }
        (worst, gpu.findings().compensated)
    };
    let (plain, _) = worst(false);
    let (kept, possible) = worst(true);
    eprintln!(
        "160 units of 64 products: relative error {plain:e}, with what is lost kept {kept:e}"
    );
    if possible {
        // The rounding of each unit's sum is left, and one of the total.
        assert!(kept < 1.3e-7 && kept < plain / 2.0, "{kept:e} {plain:e}");
    } else {
        assert_eq!(kept, plain);
    }
}

#[test]
fn checks_do_not_change_a_product() {
    let (Some(checked), Some(unchecked)) = (common::gpu::open(true), common::gpu::open(false))
    else {
        return;
    };
    for (m, n, k) in [(67, 61, 300), (5, 300, 4099), (131, 3, 17)] {
        let (x, y) = (random(1, 1, 1, &[m, k]), random(2, 1, 1, &[k, n]));
        let [a, b] = [&checked, &unchecked].map(|gpu| {
            let x = gpu.upload(&x.shape, HostSlice::F64(&x.values));
            let y = gpu.upload(&y.shape, HostSlice::F64(&y.values));
            gpu.read(&gpu.einsum(&Einsum::new("sdmk,sdkn->sdmn"), &x, &y))
                .unwrap()
        });
        assert_eq!(a, b, "{m}×{k}×{n}");
    }
}

#[test]
fn repeating_a_product_gives_the_same_bits() {
    let Some(gpu) = common::gpu::open(false) else {
        return;
    };
    let x = random(3, 5000, 1, &[131]);
    let tensor = gpu.upload(&x.shape, HostSlice::F64(&x.values));
    let once = || {
        let mut tile = gpu.accumulator(131, 131);
        gpu.accumulate_dense(&mut tile, Placement::ADD, (0, 0), (&tensor, &tensor));
        gpu.collect(gpu.finish(tile)).unwrap()
    };
    let first = once();
    // The meter learns in between and cuts the work elsewhere.
    for _ in 0..4 {
        assert_eq!(once(), first);
    }
}

#[test]
fn several_tiles_can_be_on_their_way() {
    let Some(gpu) = common::gpu::open(true) else {
        return;
    };
    let ones = gpu.fill(&Shape::new(3, 1, &[64]), 1.0);
    let mut pending: Vec<_> = (0..6)
        .map(|k| {
            let mut tile = gpu.accumulator(64, 64);
            for _ in 0..=k {
                gpu.accumulate_dense(&mut tile, Placement::ADD, (0, 0), (&ones, &ones));
            }
            (k, gpu.finish(tile))
        })
        .collect();
    while let Some((k, tile)) = pending.pop() {
        let values = gpu.collect(tile).unwrap();
        assert!(values.iter().all(|&v| v == 3.0 * (k + 1) as f32), "{k}");
    }
}

#[test]
fn uploads_do_not_overtake_recorded_work() {
    let Some(gpu) = common::gpu::open(true) else {
        return;
    };
    let shape = Shape::new(1, 1, &[1000]);
    let mut sum = gpu.fill(&shape, 0.0);
    for k in 0..200 {
        // Dropped at once: the next upload gets the same buffer while the addition is only recorded.
        let values = vec![k as f32; 1000];
        let x = gpu.upload(&shape, HostSlice::F32(&values));
        sum = gpu.add(&sum, &x);
    }
    let values = gpu.read(&sum).unwrap();
    assert!(values.iter().all(|&v| v == 19_900.0), "{}", values[0]);
}

#[test]
fn a_tensor_above_the_binding_limit_is_an_error_of_the_next_read() {
    let Some(gpu) = common::gpu::open(true) else {
        return;
    };
    // Its own device: the error must not meet another test's read.
    drop(gpu);
    let gpu = Gpu::open(&common::gpu::selector(), None).unwrap();
    let len = gpu.max_tensor_bytes() as usize / 4 + 1;
    let x = gpu.upload(&Shape::new(1, 1, &[1]), HostSlice::F32(&[2.0]));
    let large = gpu.broadcast(&x, &[len]);
    let doubled = gpu.add(&large, &large);
    let message = gpu.read(&doubled).unwrap_err().to_string();
    assert!(message.contains("limit"), "{message}");
    // What depends on it stays an error, everything else works.
    assert!(gpu.read(&gpu.reduce_sum(&doubled, &[2])).is_err());
    assert_eq!(gpu.read(&gpu.add(&x, &x)).unwrap(), [4.0]);
    let mut tile = gpu.accumulator(1, len);
    gpu.accumulate_dense(&mut tile, Placement::ADD, (0, 0), (&x, &large));
    assert!(gpu.collect(gpu.finish(tile)).is_err());
    assert_eq!(gpu.read(&x).unwrap(), [2.0]);
}

#[test]
fn memory_is_counted_bounded_and_given_back() {
    if common::gpu::open(true).is_none() {
        return;
    }
    let gpu = Gpu::open(&common::gpu::selector(), Some(64 << 20)).unwrap();
    let shape = Shape::new(1, 1, &[2 << 20]);
    let x = gpu.fill(&shape, 1.0);
    assert_eq!(gpu.memory_in_use(), 8 << 20);
    // Far more than the limit in all, but never at a time.
    let mut sum = x.clone();
    for _ in 0..40 {
        sum = gpu.add(&sum, &x);
    }
    assert_eq!(gpu.read(&sum).unwrap()[12345], 41.0);
    assert_eq!(gpu.peak_memory(), 24 << 20);
    let held: Vec<_> = (0..10).map(|_| gpu.fill(&shape, 0.0)).collect();
    let message = gpu.read(held.last().unwrap()).unwrap_err().to_string();
    assert!(message.contains("memory allowed"), "{message}");
    drop((held, sum, x));
    assert_eq!(gpu.memory_in_use(), 0);
    assert_eq!(gpu.read(&gpu.fill(&shape, 2.0)).unwrap()[0], 2.0);
}

#[test]
fn a_budget_bounds_what_the_driver_holds_whatever_the_sizes() {
    if common::gpu::open(true).is_none() {
        return;
    }
    let gpu = Gpu::open(&common::gpu::selector(), None).unwrap();
    let budget = 32 << 20;
    gpu.set_budget(budget);
    let ones = gpu.fill(&Shape::new(1, 1, &[1]), 1.0);
    let mut sum = gpu.fill(&Shape::new(1, 1, &[1]), 0.0);
    let scaled = Expr::input(0) + Expr::input(1) * Expr::input(2);
    for k in 0..60 {
        // Every size its own class: nothing is recycled, 60 times 4 to 8 MiB are asked for.
        let len = (1 << 20) + k * 17_389;
        let wide = gpu.broadcast(&ones, &[len]);
        let scale = gpu.fill(&Shape::new(1, 1, &[1]), 1.0 / len as f64);
        sum = gpu.map(&scaled, &[&sum, &scale, &gpu.reduce_sum(&wide, &[2])]);
    }
    assert!((gpu.read(&sum).unwrap()[0] - 60.0).abs() < 1e-3);
    assert!(gpu.peak_memory() <= budget, "{}", gpu.peak_memory());
    assert!(gpu.peak_memory() > budget / 2, "{}", gpu.peak_memory());
    // A tighter budget on the way: what is unused goes first.
    gpu.set_budget(12 << 20);
    let held = [0, 1].map(|_| gpu.fill(&Shape::new(1, 1, &[(3 << 20) / 2]), 0.5));
    assert_eq!(gpu.read(&held[1]).unwrap()[7], 0.5);
    let more = gpu.fill(&Shape::new(1, 1, &[1 << 20]), 0.5);
    assert!(gpu.read(&more).is_err());
}

/// 3 × 3 windows over 64 × 64, padded by one.
fn window(stride: usize) -> Window {
    Window {
        input: vec![64; 2],
        output: vec![64 / stride; 2],
        kernel: vec![3; 2],
        stride: vec![stride; 2],
        dilation: vec![1; 2],
        padding: vec![1; 2],
    }
}

#[test]
fn convolutions_copy_in_portions_that_leave_no_trace() {
    if common::gpu::open(true).is_none() {
        return;
    }
    // Its own device: its peak is this test's.
    let gpu = Gpu::open(&common::gpu::selector(), None).unwrap();
    let upload = |seed, samples, directions, rest: &[usize]| {
        let x = random(seed, samples, directions, rest);
        gpu.upload(&x.shape, HostSlice::F64(&x.values))
    };
    let weights = upload(20, 1, 1, &[8, 16, 3, 3]);
    // Inputs in two portions of samples, cotangents in portions of directions: as if each came alone.
    let x = upload(21, 12, 1, &[1, 16, 64, 64]);
    let before = gpu.peak_memory();
    let whole = gpu.read(&gpu.conv(&x, &weights, &window(1), 1)).unwrap();
    let (tensor, output) = (12 * 16 * 64 * 64 * 4, 12 * 8 * 64 * 64 * 4);
    let beside = gpu.peak_memory() - before;
    assert!(beside <= (tensor + output) * 17 / 16, "{beside}");
    let alone: Vec<f32> = (0..12)
        .flat_map(|n| {
            let x = gpu.slice(&x, 0, n, n + 1);
            gpu.read(&gpu.conv(&x, &weights, &window(1), 1)).unwrap()
        })
        .collect();
    assert!(whole == alone);

    let z = upload(22, 2, 40, &[1, 8, 32, 32]);
    let back = |z: &_| {
        gpu.read(&gpu.conv_inputs(z, &weights, &window(2), 1))
            .unwrap()
    };
    let alone: Vec<f32> = (0..80)
        .flat_map(|k| {
            let z = gpu.slice(&z, 0, k / 40, k / 40 + 1);
            back(&gpu.slice(&z, 1, k % 40, k % 40 + 1))
        })
        .collect();
    assert!(back(&z) == alone);

    let z = upload(23, 12, 2, &[1, 8, 64, 64]);
    let each = gpu.conv_weights(&z, &x, &window(1), 1, false);
    let alone: Vec<f32> = (0..12)
        .flat_map(|n| {
            let [z, x] = [&z, &x].map(|t| gpu.slice(t, 0, n, n + 1));
            gpu.read(&gpu.conv_weights(&z, &x, &window(1), 1, false))
                .unwrap()
        })
        .collect();
    assert!(gpu.read(&each).unwrap() == alone);
    let sum = gpu.read(&gpu.conv_weights(&z, &x, &window(1), 1, true));
    let expected = gpu.read(&gpu.reduce_sum(&each, &[0])).unwrap();
    for (found, expected) in sum.unwrap().iter().zip(expected) {
        // Sums of 50 thousand products of numbers up to one.
        assert!((found - expected).abs() < 1e-2, "{found} {expected}");
    }
}

#[test]
fn depthwise_convolutions_copy_nothing_as_the_meter_foresees() {
    if common::gpu::open(true).is_none() {
        return;
    }
    let gpu = Gpu::open(&common::gpu::selector(), None).unwrap();
    let (x, z) = ([1, 16, 64, 64], [1, 32, 32, 32]);
    let whole = depthwise(&gpu, &x, &z);
    assert_eq!(gpu.peak_memory(), gpu.memory_in_use());
    let meter = Meter::new(4);
    let foreseen = depthwise(&meter, &x, &z);
    assert_eq!(meter.peak(), meter.live());
    for (whole, foreseen) in whole.iter().zip(&foreseen) {
        assert_eq!(gpu.shape(whole), meter.shape(foreseen));
    }
    // Operands that start within a buffer.
    let [x, w, z, forward, back, rows, _] = &whole;
    for n in 0..3 {
        let [x, z, forward, back, rows] =
            [x, z, forward, back, rows].map(|t| gpu.slice(t, 0, n, n + 1));
        let same = |found: &_, expected: &_| {
            assert!(
                gpu.read(found).unwrap() == gpu.read(expected).unwrap(),
                "{n}"
            );
        };
        same(&gpu.conv(&x, w, &window(2), 16), &forward);
        same(&gpu.conv_inputs(&z, w, &window(2), 16), &back);
        same(&gpu.conv_weights(&z, &x, &window(2), 16, false), &rows);
    }
}

#[test]
fn depthwise_sums_of_more_terms_than_a_dispatch_takes_are_whole() {
    let Some(gpu) = common::gpu::open(true) else {
        return;
    };
    let exact = Cpu::<f64>::new();
    // Taps in a row and in planes; the transposes sum as many, of another stride too.
    for axes in [
        &[[4600, 300, 4301, 1, 1, 0]][..],
        &[[9000, 2250, 9001, 4, 1, 4500]],
        &[[83, 12, 70, 1, 1, 0], [90, 20, 71, 1, 1, 0]],
    ] {
        let window = hessblock::internals::trial::window(axes);
        let rest = |channels, spatial: &[usize]| [&[1, channels], spatial].concat();
        let x = random(40, 2, 1, &rest(2, &window.input));
        let w = random(41, 1, 1, &[&[4, 1], &window.kernel[..]].concat());
        let z = random(42, 2, 1, &rest(4, &window.output));
        let [a, b, c] = [&x, &w, &z].map(|x| gpu.upload(&x.shape, HostSlice::F64(&x.values)));
        let [x, w, z] = [&x, &w, &z].map(|x| exact.upload(&x.shape, HostSlice::F64(&x.values)));
        let check = |found: &_, expected: &_, what: &str| {
            let (found, expected) = (gpu.read(found).unwrap(), exact.read(expected).unwrap());
            let greatest = expected.iter().fold(0.0f64, |m, v| m.max(v.abs()));
            for (found, expected) in found.iter().zip(&expected) {
                let error = (f64::from(*found) - expected).abs();
                assert!(error <= 1e-6 * greatest, "{what}: {found} {expected}");
            }
        };
        check(
            &gpu.conv(&a, &b, &window, 2),
            &exact.conv(&x, &w, &window, 2),
            "conv",
        );
        check(
            &gpu.conv_inputs(&c, &b, &window, 2),
            &exact.conv_inputs(&z, &w, &window, 2),
            "conv_inputs",
        );
        for sum in [false, true] {
            check(
                &gpu.conv_weights(&c, &a, &window, 2, sum),
                &exact.conv_weights(&z, &x, &window, 2, sum),
                "conv_weights",
            );
        }
    }
}

/// Inputs, weights and cotangents of a depthwise convolution with two outputs per channel, and all that is made of
/// them.
fn depthwise<B: Backend>(backend: &B, x: &[usize], z: &[usize]) -> [B::Tensor; 7] {
    let upload = |seed, samples, directions, rest: &[usize]| {
        let x = random(seed, samples, directions, rest);
        backend.upload(&x.shape, HostSlice::F64(&x.values))
    };
    let window = window(2);
    let (x, z) = (upload(30, 3, 1, x), upload(31, 3, 2, z));
    let w = upload(32, 1, 1, &[32, 1, 3, 3]);
    let forward = backend.conv(&x, &w, &window, 16);
    let back = backend.conv_inputs(&z, &w, &window, 16);
    let rows = backend.conv_weights(&z, &x, &window, 16, false);
    let sum = backend.conv_weights(&z, &x, &window, 16, true);
    [x, w, z, forward, back, rows, sum]
}

#[test]
fn software_is_only_opened_when_asked_for() {
    let found = adapters();
    for (index, report) in found.iter().enumerate() {
        assert_eq!(report.index, index);
        assert!(report.max_binding_bytes >= 128 << 20, "{report}");
    }
    if found.iter().all(|report| report.is_software()) {
        let error = Gpu::open(&Selector::Auto, None).err().unwrap().to_string();
        assert!(error.contains("no "), "{error}");
    }
    assert!(Gpu::open(&Selector::Name("no such adapter".into()), None).is_err());
    assert!(Gpu::open(&Selector::Index(found.len()), None).is_err());
    let options = Options {
        memory: Some(1 << 20),
        ..Options::default()
    };
    if let Some(report) = found.first() {
        let gpu = Gpu::open_with(&Selector::Index(0), options).unwrap();
        assert_eq!(gpu.report(), report);
    }
}
