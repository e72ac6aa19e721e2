//! What products cost beside a plain gradient of the same network: all in one run, in turns, medians.
//!
//! `cargo bench --bench products`; with `HESSBLOCK_BENCH_JSON=FILE` the times of LeNet-5 are written for
//! `benches/peers/products.py --hessblock FILE`.

mod common;

use hessblock::network::builder::Builder;
use hessblock::{Operator, Session};
use ndarray::Array2;
use std::time::Instant;

/// Turns; each times every way once, after one that is not counted.
const TURNS: usize = 31;

/// A way to be timed.
type Way<'a> = (&'static str, Box<dyn Fn() + 'a>);

/// Milliseconds, the median of all turns, per way.
fn medians(ways: &[Way<'_>]) -> Vec<f64> {
    let mut times = vec![Vec::with_capacity(TURNS); ways.len()];
    for turn in 0..=TURNS {
        for ((_, way), times) in ways.iter().zip(&mut times) {
            // Two calls untimed, so that one does not pay for the caches of another.
            way();
            way();
            let start = Instant::now();
            way();
            if turn > 0 {
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    let median = |mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    times.into_iter().map(median).collect()
}

/// Prints the costs of one network; returns (way, milliseconds).
fn costs(name: &str, session: &Session) -> Vec<(&'static str, f64)> {
    let (ggn, exact, residual) = (&session.ggn(), &session.hessian(), &session.residual());
    let p = ggn.size();
    let vectors = |k: usize| {
        let rows = Array2::from_shape_vec((k, p), common::numbers(k * p));
        rows.expect("k·p").reversed_axes()
    };
    let (one, eight) = (vectors(1), vectors(8));
    let product = |operator: &Operator, vectors: &Array2<f64>| {
        let product = operator.apply(vectors.view());
        std::hint::black_box(product.expect("a product"));
    };
    let diagonal = || {
        std::hint::black_box(ggn.diagonal().expect("a diagonal"));
    };
    let gradient = || {
        std::hint::black_box(session.gradient().expect("a gradient"));
    };
    let ways: Vec<Way<'_>> = vec![
        ("gradient", Box::new(gradient)),
        ("G·v", Box::new(|| product(ggn, &one))),
        ("H·v", Box::new(|| product(exact, &one))),
        ("(H − G)·v", Box::new(|| product(residual, &one))),
        ("8 G·v", Box::new(|| product(ggn, &eight))),
        ("8 H·v", Box::new(|| product(exact, &eight))),
        ("diagonal of G", Box::new(diagonal)),
    ];
    let medians = medians(&ways);
    println!(
        "\n{name} on {}, p = {p}, N = {}",
        session.device(),
        common::SAMPLES
    );
    for ((way, _), ms) in ways.iter().zip(&medians) {
        println!("{way:<16} {ms:>9.2} ms {:>7.2} gradients", ms / medians[0]);
    }
    ways.iter().map(|way| way.0).zip(medians).collect()
}

fn mlp() -> Session {
    let network = Builder::new(&[784])
        .linear("fc1", 512)
        .relu()
        .linear("fc2", 256)
        .relu()
        .linear("fc3", 10)
        .initialize(1)
        .build();
    common::session(network.expect("a network"), &[784])
}

fn main() {
    let lenet = costs("LeNet-5", &common::lenet5());
    costs("MLP 784-512-256-10", &mlp());
    #[cfg(feature = "gpu")]
    if let Some(gpu) = common::gpu() {
        costs("LeNet-5", &common::lenet5().with_device(gpu.into()));
    }
    if let Some(path) = std::env::var_os("HESSBLOCK_BENCH_JSON") {
        let of = |way: &str| {
            lenet
                .iter()
                .find(|(name, _)| *name == way)
                .map(|(_, ms)| *ms)
        };
        let json = serde_json::json!({
            "gradient_ms": of("gradient"),
            "ggn_product_ms": of("G·v"),
            "hessian_product_ms": of("H·v"),
        });
        std::fs::write(path, json.to_string()).expect("the file can be written");
    }
}
