//! The pair contractions: one tile of 2048 × 2048 each, 128 samples and 10 directions, CPU and GPU.

mod common;

use common::tensor;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hessblock::internals::contraction::{FactorPair, Segment, accumulate, contraction};
use hessblock::internals::jacobian::Factor;
use hessblock::internals::ops::{Site, SiteKind};
use hessblock::internals::tensor::cpu::Cpu;
use hessblock::internals::tensor::{Contract, Placement};

const SAMPLES: usize = 128;
const DIRECTIONS: usize = 10;

fn factor<B: Contract>(kind: SiteKind<B::Tensor>, shape: &[usize]) -> Factor<B::Tensor> {
    Factor::new(
        vec![Site::new(kind, shape)],
        shape.iter().product(),
        SAMPLES,
        DIRECTIONS,
    )
}

fn pairs<B: Contract>(criterion: &mut Criterion, name: &str, backend: &B) {
    // dense1 of LeNet-5, and the weight of a convolution behind it.
    let outer = factor::<B>(
        SiteKind::Linear {
            cotangents: tensor(backend, SAMPLES, DIRECTIONS, &[1, 120]),
            inputs: tensor(backend, SAMPLES, 1, &[1, 256]),
            outputs_first: true,
        },
        &[120, 256],
    );
    let dense = factor::<B>(
        SiteKind::Rows(tensor(backend, SAMPLES, DIRECTIONS, &[2048])),
        &[2048],
    );
    let bias = factor::<B>(
        SiteKind::Elementwise {
            cotangents: tensor(backend, SAMPLES, DIRECTIONS, &[1, 120]),
            derivative: None,
        },
        &[120],
    );
    let mut group = criterion.benchmark_group(format!("contraction/{name}"));
    group.sample_size(10);
    for (what, left, right) in [
        ("outer × outer", &outer, &outer),
        ("outer × bias", &outer, &bias),
        ("outer × dense", &outer, &dense),
        ("dense × outer", &dense, &outer),
        ("dense × dense", &dense, &dense),
    ] {
        let (rows, columns) = (left.count.min(2048), right.count.min(2048));
        let segment = |factor, range| Segment {
            factor,
            range,
            origin: 0,
        };
        let pair = FactorPair {
            rows: segment(left, 0..rows),
            columns: segment(right, 0..columns),
            signs: None,
        };
        let operations = contraction(backend, &pair.rows, &pair.columns).1;
        group.throughput(Throughput::Elements(operations));
        group.bench_function(what, |b| {
            b.iter(|| {
                let mut tile = backend.accumulator(rows, columns);
                accumulate(backend, &mut tile, Placement::ADD, &pair);
                backend
                    .collect(backend.finish(tile))
                    .expect("the device works")
            });
        });
    }
    group.finish();
}

fn all(criterion: &mut Criterion) {
    pairs(criterion, "cpu f32", &Cpu::<f32>::new());
    pairs(criterion, "cpu f64", &Cpu::<f64>::new());
    #[cfg(feature = "gpu")]
    if let Some(gpu) = common::gpu() {
        pairs(criterion, "gpu", &gpu);
    }
}

criterion_group!(benches, all);
criterion_main!(benches);
