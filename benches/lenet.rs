//! End to end on LeNet-5 (28×28, p = 44,426), 128 samples, 10 classes: from data in memory to parts in memory.

mod common;

use criterion::{Criterion, criterion_group, criterion_main};
use hessblock::schedule::run::Control;
use hessblock::tensor::Contract;
use hessblock::tensor::cpu::Cpu;
use hessblock::{Device, Part, Precision, RunOptions, Session};

fn parts<B: Contract>(
    criterion: &mut Criterion,
    name: &str,
    backend: &B,
    session: &Session,
    wanted: &[&str],
) {
    let mut group = criterion.benchmark_group(format!("lenet/{name}"));
    group.sample_size(10);
    for text in wanted {
        let part: Part = text.parse().expect("a part");
        group.bench_function(*text, |b| {
            b.iter(|| {
                session
                    .to_memory(backend, std::slice::from_ref(&part))
                    .expect("a run")
            });
        });
    }
    group.finish();
}

fn all(criterion: &mut Criterion) {
    let session = common::lenet5();
    let blocks = ["layer=dense1", "layer=dense2", "layer=conv2", "diag"];
    parts(criterion, "cpu f32", &Cpu::<f32>::new(), &session, &blocks);
    parts(
        criterion,
        "cpu f64",
        &Cpu::<f64>::new(),
        &session,
        &blocks[1..],
    );
    #[cfg(feature = "gpu")]
    if let Some(gpu) = common::gpu() {
        let software = gpu.report().is_software();
        parts(
            criterion,
            "gpu",
            &gpu,
            &session,
            if software { &blocks[1..] } else { &blocks },
        );
    }
    let device = Device::cpu(Precision::F32);
    criterion.bench_function("lenet/cpu f32/gradient", |b| {
        b.iter(|| {
            session
                .gradient(&device, RunOptions::default(), &Control::none())
                .expect("a gradient")
        });
    });
}

criterion_group!(benches, all);
criterion_main!(benches);
