//! What the benches share: numbers, devices, and the LeNet-5 of DESIGN §7.
#![allow(dead_code)] // each bench uses its part

use hessblock::tensor::{Backend, HostSlice, Shape};

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
