//! What the benches share: numbers, devices, and the LeNet-5 of DESIGN §7.
#![allow(dead_code)] // each bench uses its part

#[path = "../../tests/common/lenet.rs"]
mod lenet;

use hessblock::data::{ArraySource, Dataset};
use hessblock::internals::jacobian::Factor;
use hessblock::internals::jacobian::passes::{Passes, Reach, Weights};
use hessblock::internals::jacobian::seeds::LossSeeds;
use hessblock::internals::jacobian::unit::{Unit, units};
use hessblock::internals::plan::{Limits, Plan, wanted};
use hessblock::internals::tensor::{Backend, HostSlice, Shape};
use hessblock::loss::{CrossEntropy, Curvature, Curved};
use hessblock::network::Network;
use hessblock::{Device, Precision, Session};
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
pub fn gpu() -> Option<hessblock::internals::tensor::gpu::Gpu> {
    use hessblock::internals::tensor::gpu::{Gpu, Selector};
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
    session(lenet::lenet5(), &[1, 28, 28])
}

/// Cross-entropy of a network of 10 classes on 128 made-up samples, on the CPU in single precision.
pub fn session(network: Network, input: &[usize]) -> Session {
    session_of(network, input, SAMPLES)
}

/// The same of any number of samples.
pub fn session_of(network: Network, input: &[usize], samples: usize) -> Session {
    let shape: Vec<usize> = std::iter::once(samples)
        .chain(input.iter().copied())
        .collect();
    let count = shape.iter().product();
    let images = ArrayD::from_shape_vec(IxDyn(&shape), numbers(count));
    let labels = (0..samples as i64).map(|k| k % 10).collect();
    let labels = ArrayD::from_shape_vec(IxDyn(&[samples]), labels);
    let data = Dataset::from_arrays(
        ArraySource::from(images.expect("the count fits")),
        ArraySource::from(labels.expect("the count fits")),
    );
    Session::builder(network)
        .data(data)
        .loss(CrossEntropy::mean())
        .device(Device::cpu(Precision::F32))
        .build()
        .expect("a session")
}

/// Memory without end, so that a plan keeps what it can.
pub fn endless<B: Backend>(backend: &B) -> Limits {
    Limits {
        device: u64::MAX,
        host: u64::MAX,
        held: 0,
        sharing: 1,
        tensor: backend.largest_tensor(),
        unified: true,
    }
}

/// The factors that the parts of a plan for G are made of, all units, from data in memory; `each` is done to every factor.
pub fn units_of<B: Backend>(
    backend: &B,
    session: &Session,
    plan: &Plan,
    mut each: impl FnMut(&mut Factor<B::Tensor>),
) -> Vec<Unit<B::Tensor>> {
    let (network, data) = (session.network(), session.dataset());
    let parts = plan.parts.iter().map(|part| &part.part);
    let reach = Reach::new(network, wanted(network, parts));
    let loss = Curved {
        loss: session.loss(),
        curvature: Curvature::Ggn,
        lenient: false,
    };
    let weights = Weights::upload(backend, network);
    let mut kept = Vec::new();
    for range in plan.unit_ranges() {
        let inputs = data.inputs(range.clone()).expect("inputs");
        let inputs = inputs.iter().zip(&network.inputs).map(|(values, input)| {
            let shape = Shape::new(range.len(), 1, &input.rest);
            backend.upload(&shape, HostSlice::F64(values))
        });
        let inputs = inputs.collect();
        let targets = data.targets(range.clone()).expect("targets");
        let made = units(
            &Passes::new(backend, network, &weights, &reach),
            inputs,
            0..plan.directions,
            plan.chunk,
            &mut LossSeeds::new(&loss, range.start, &targets),
            |mut unit| {
                unit.factors.iter_mut().flatten().for_each(&mut each);
                kept.push(unit);
                Ok(())
            },
        );
        made.expect("factors");
    }
    kept
}
