//! What the benches share: numbers, devices, and the LeNet-5 of DESIGN §7.
#![allow(dead_code)] // each bench uses its part

use hessblock::Session;
use hessblock::import::data::{ArraySource, Dataset};
use hessblock::loss::{CrossEntropy, Reduction};
use hessblock::network::Network;
use hessblock::network::builder::{Builder, Window2d};
use hessblock::tensor::{Backend, HostSlice, Shape};
use ndarray::{ArrayD, IxDyn};

/// Numbers in −1..1, reproducible.
pub fn numbers(count: usize) -> Vec<f64> {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            f64::from((state >> 40) as f32 / 8_388_608.0 - 1.0)
        })
        .collect()
}

/// A tensor of such numbers.
pub fn tensor<B: Backend>(
    backend: &B,
    samples: usize,
    directions: usize,
    rest: &[usize],
) -> B::Tensor {
    let shape = Shape::new(samples, directions, rest);
    backend.upload(&shape, HostSlice::F64(&numbers(shape.len())))
}

/// The GPU to measure: a hardware adapter, or the one that `HESSBLOCK_BENCH_DEVICE` names.
#[cfg(feature = "gpu")]
pub fn gpu() -> Option<hessblock::tensor::gpu::Gpu> {
    use hessblock::tensor::gpu::{Gpu, Selector};
    let selector = match std::env::var("HESSBLOCK_BENCH_DEVICE") {
        Ok(name) => Selector::Name(name),
        Err(_) => Selector::Auto,
    };
    match Gpu::open(&selector, None) {
        Ok(gpu) => Some(gpu),
        Err(error) => {
            eprintln!(
                "no GPU measured: {error} (HESSBLOCK_BENCH_DEVICE=llvmpipe takes the software one)"
            );
            None
        }
    }
}

/// Samples of the sessions here.
pub const SAMPLES: usize = 128;

/// LeNet-5 on 28×28 with tanh, p = 44,426, 128 samples, 10 classes.
pub fn lenet5() -> Session {
    let network = Builder::new(&[1, 28, 28])
        .conv2d("conv1", 6, Window2d::new(5))
        .tanh()
        .avg_pool2d(Window2d::new(2).stride(2))
        .conv2d("conv2", 16, Window2d::new(5))
        .tanh()
        .avg_pool2d(Window2d::new(2).stride(2))
        .flatten()
        .linear("dense1", 120)
        .tanh()
        .linear("dense2", 84)
        .tanh()
        .linear("dense3", 10)
        .initialize(1)
        .build();
    session(network.expect("a network"), &[1, 28, 28])
}

/// Cross-entropy of a network of 10 classes on 128 made-up samples.
pub fn session(network: Network, input: &[usize]) -> Session {
    let shape: Vec<usize> = std::iter::once(SAMPLES)
        .chain(input.iter().copied())
        .collect();
    let count = shape.iter().product();
    let images = ArrayD::from_shape_vec(IxDyn(&shape), numbers(count));
    let labels = (0..SAMPLES as i64).map(|k| k % 10).collect();
    let labels = ArrayD::from_shape_vec(IxDyn(&[SAMPLES]), labels);
    let data = Dataset::from_arrays(
        ArraySource::from(images.expect("the count fits")),
        ArraySource::from(labels.expect("the count fits")),
    );
    Session::new(network, data, Box::new(CrossEntropy::new(Reduction::Mean))).expect("a session")
}
