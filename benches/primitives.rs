//! Every primitive at the size that it has in a LeNet-5 (128 samples, 10 directions), CPU and GPU: the list of `hessblock bench`,
//! under the names that saved baselines have.

mod common;

use criterion::{Criterion, criterion_group, criterion_main};
use hessblock::internals::tensor::Backend;
use hessblock::internals::tensor::cpu::Cpu;
use hessblock::internals::trial::{Loaded, typical};

/// Names of benchmarks here, and of the cases that they run.
const BENCHES: [(&str, &str); 21] = [
    ("einsum forward", "einsum-forward"),
    ("einsum reverse", "einsum-reverse"),
    ("conv", "conv"),
    ("conv_inputs", "conv-inputs"),
    ("conv_weights rows", "conv-weights-rows"),
    ("conv_weights sum", "conv-weights-sum"),
    ("depthwise conv", "depthwise-conv"),
    ("depthwise conv_inputs", "depthwise-inputs"),
    ("depthwise conv_weights rows", "depthwise-weights-rows"),
    ("window_sum", "window-sum"),
    ("window_spread", "window-spread"),
    ("gather", "gather"),
    ("scatter", "scatter"),
    ("map tanh", "map-tanh"),
    ("map product", "map-product"),
    ("reduce_sum positions", "reduce-positions"),
    ("reduce_sum samples", "reduce-samples"),
    ("permute", "permute"),
    ("slice", "slice"),
    ("concat", "concat"),
    ("broadcast", "broadcast"),
];

/// Runs every primitive; `wait` makes an enqueued result real.
fn primitives<B: Backend>(
    criterion: &mut Criterion,
    name: &str,
    backend: &B,
    wait: impl Fn(&B::Tensor),
) {
    let mut group = criterion.benchmark_group(format!("primitives/{name}"));
    group.sample_size(10);
    let cases = typical();
    for (what, case) in BENCHES {
        let found = cases.iter().find(|(name, ..)| *name == case);
        let (_, _, setting) = found.expect("the list has it");
        let loaded = Loaded::new(backend, &setting.primitive, &setting.arrays());
        group.bench_function(what, |b| b.iter(|| wait(&loaded.apply(backend))));
    }
    group.finish();
}

fn all(criterion: &mut Criterion) {
    primitives(criterion, "cpu f32", &Cpu::<f32>::new(), |_| {});
    primitives(criterion, "cpu f64", &Cpu::<f64>::new(), |_| {});
    #[cfg(feature = "gpu")]
    if let Some(gpu) = common::gpu() {
        // One number read back waits for the whole queue.
        primitives(criterion, "gpu", &gpu, |tensor| {
            hessblock::internals::trial::wait(&gpu, tensor).expect("the device works");
        });
    }
}

criterion_group!(benches, all);
criterion_main!(benches);
