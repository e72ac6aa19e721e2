//! Every primitive at the size that it has in a LeNet-5 (128 samples, 10 directions), CPU and GPU.

mod common;

use common::tensor;
use criterion::{Criterion, criterion_group, criterion_main};
use hessblock::tensor::cpu::Cpu;
use hessblock::tensor::expression::Unary;
use hessblock::tensor::{Backend, Einsum, Expr, Window};

const SAMPLES: usize = 128;
const DIRECTIONS: usize = 10;

/// Runs every primitive; `wait` makes an enqueued result real.
fn primitives<B: Backend>(
    criterion: &mut Criterion,
    name: &str,
    backend: &B,
    wait: impl Fn(&B::Tensor),
) {
    let mut group = criterion.benchmark_group(format!("primitives/{name}"));
    group.sample_size(10);
    let conv = Window {
        input: vec![12, 12],
        output: vec![8, 8],
        kernel: vec![5, 5],
        stride: vec![1, 1],
        dilation: vec![1, 1],
        padding: vec![0, 0],
    };
    let pool = Window {
        input: vec![8, 8],
        output: vec![4, 4],
        kernel: vec![2, 2],
        stride: vec![2, 2],
        dilation: vec![1, 1],
        padding: vec![0, 0],
    };
    let x = tensor(backend, SAMPLES, 1, &[1, 6, 12, 12]);
    let w = tensor(backend, 1, 1, &[16, 6, 5, 5]);
    let delta = tensor(backend, SAMPLES, DIRECTIONS, &[1, 16, 8, 8]);
    let pooled = tensor(backend, SAMPLES, DIRECTIONS, &[1, 16, 4, 4]);
    let value = tensor(backend, SAMPLES, 1, &[1, 16, 8, 8]);
    let wide = tensor(backend, SAMPLES, DIRECTIONS, &[1, 256]);
    let dense = tensor(backend, 1, 1, &[120, 256]);
    let back = tensor(backend, SAMPLES, DIRECTIONS, &[1, 120]);
    // A depthwise convolution of MobileNet or EfficientNet, 8 samples.
    let depthwise = Window {
        input: vec![28, 28],
        output: vec![28, 28],
        kernel: vec![5, 5],
        stride: vec![1, 1],
        dilation: vec![1, 1],
        padding: vec![2, 2],
    };
    let plane = tensor(backend, 8, 1, &[1, 144, 28, 28]);
    let taps = tensor(backend, 1, 1, &[144, 1, 5, 5]);
    let planes = tensor(backend, 8, 2, &[1, 144, 28, 28]);
    let chosen = backend.max_pool_indices(&value, &pool);
    let forward = Einsum::new("sdti,sdoi->sdto");
    let reverse = Einsum::new("sdto,sdoi->sdti");
    let tanh = Expr::input(0).unary(Unary::Tanh);
    let mut bench = |what: &str, run: &dyn Fn() -> B::Tensor| {
        group.bench_function(what, |b| b.iter(|| wait(&run())));
    };
    bench("einsum forward", &|| {
        backend.einsum(&forward, &wide, &dense)
    });
    bench("einsum reverse", &|| {
        backend.einsum(&reverse, &back, &dense)
    });
    bench("conv", &|| backend.conv(&x, &w, &conv, 1));
    bench("conv_inputs", &|| backend.conv_inputs(&delta, &w, &conv, 1));
    bench("conv_weights rows", &|| {
        backend.conv_weights(&delta, &x, &conv, 1, false)
    });
    bench("conv_weights sum", &|| {
        backend.conv_weights(&delta, &x, &conv, 1, true)
    });
    bench("depthwise conv", &|| {
        backend.conv(&plane, &taps, &depthwise, 144)
    });
    bench("depthwise conv_inputs", &|| {
        backend.conv_inputs(&planes, &taps, &depthwise, 144)
    });
    bench("depthwise conv_weights rows", &|| {
        backend.conv_weights(&planes, &plane, &depthwise, 144, false)
    });
    bench("window_sum", &|| backend.window_sum(&delta, &pool));
    bench("window_spread", &|| backend.window_spread(&pooled, &pool));
    bench("gather", &|| backend.gather(&delta, &chosen, &pool));
    bench("scatter", &|| backend.scatter(&pooled, &chosen, &pool));
    bench("map tanh", &|| backend.map(&tanh, &[&delta]));
    bench("map product", &|| backend.multiply(&delta, &value));
    bench("reduce_sum positions", &|| {
        backend.reduce_sum(&delta, &[4, 5])
    });
    bench("reduce_sum samples", &|| backend.reduce_sum(&delta, &[0]));
    bench("permute", &|| backend.permute(&delta, &[0, 2, 3, 1]));
    bench("slice", &|| backend.slice(&delta, 3, 3, 11));
    bench("concat", &|| backend.concat(&[&delta, &delta], 3));
    bench("broadcast", &|| backend.broadcast(&value, &[3, 16, 8, 8]));
    group.finish();
}

fn all(criterion: &mut Criterion) {
    primitives(criterion, "cpu f32", &Cpu::<f32>::new(), |_| {});
    primitives(criterion, "cpu f64", &Cpu::<f64>::new(), |_| {});
    #[cfg(feature = "gpu")]
    if let Some(gpu) = common::gpu() {
        // One number read back waits for the whole queue.
        let wait = |t: &_| {
            let shape = gpu.shape(t);
            let flat = gpu.reshape(t, &[shape.rest_len()]);
            gpu.read(&gpu.slice(&gpu.slice(&flat, 0, 0, 1), 2, 0, 1))
                .expect("the device works");
        };
        primitives(criterion, "gpu", &gpu, wait);
    }
}

criterion_group!(benches, all);
criterion_main!(benches);
