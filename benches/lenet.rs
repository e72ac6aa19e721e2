//! Parts of G of LeNet-5 (28×28, p = 44,426), 128 samples, 10 classes: from data in memory to parts in memory.
//!
//! `cargo bench --bench lenet -- [dense1 dense2 conv2 full diagonal gradient factors]`; without names all but the full
//! matrix (7.9 GB). Medians, into memory that was touched before and into fresh one, with the rate of multiply-adds of all
//! threads over one beside: two virtual cores are at times one physical core. With `HESSBLOCK_BENCH_JSON=FILE` the times
//! are written for `benches/peers/blocks.py --hessblock FILE`; `HESSBLOCK_BENCH_DEVICE=NAME` takes a GPU.

mod common;

use hessblock::internals::control::Control;
use hessblock::internals::plan::RunOptions;
use hessblock::internals::plan::request::resolve;
use hessblock::internals::plan::tiles::Grid;
use hessblock::internals::run::RunReport;
use hessblock::internals::sink::{Memory, Sink};
use hessblock::internals::tensor::cpu::Cpu;
use hessblock::internals::tensor::{Contract, Real};
use hessblock::{Device, Part, Precision, Session};
use std::time::Instant;

/// Runs of each, after one that is not counted.
const RUNS: usize = 7;

/// Milliseconds, the median of the runs.
fn median(mut run: impl FnMut() -> f64) -> f64 {
    run();
    let mut times: Vec<f64> = (0..RUNS).map(|_| run() * 1e3).collect();
    times.sort_by(f64::total_cmp);
    times[RUNS / 2]
}

/// Seconds that `work` takes.
fn timed<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let start = Instant::now();
    let result = work();
    (start.elapsed().as_secs_f64(), result)
}

/// One run of a part into a sink.
fn run<B: Contract>(
    backend: &B,
    session: &Session,
    part: &Part,
    sink: &mut Memory<B::Real>,
) -> RunReport {
    let limits = common::endless(backend);
    let grid = match backend.accumulates_in_host_memory() {
        true => Grid::Whole,
        false => Grid::Squares,
    };
    let parts = resolve(session.network(), std::slice::from_ref(part)).expect("a part of LeNet-5");
    let (g, options) = (session.ggn(), RunOptions::default());
    let plan = g.plan_within(parts, B::Real::PRECISION, limits, options, grid);
    let plan = plan.expect("a plan");
    let report = g.run_on(&[backend], &plan, sink, &Control::none());
    let report = report.expect("a run");
    Sink::<B::Real>::finish(sink).expect("a whole part");
    report
}

/// A block into touched and into fresh memory, in milliseconds.
fn block<B: Contract>(backend: &B, session: &Session, part: &Part) -> (f64, f64) {
    let mut sink = Memory::new();
    let mut report = RunReport::default();
    let touched = median(|| {
        let (seconds, made) = timed(|| run(backend, session, part, &mut sink));
        report = made;
        seconds
    });
    drop(sink);
    let fresh = median(|| timed(|| run(backend, session, part, &mut Memory::new())).0);
    println!(
        "{:<14} {touched:>9.2} ms touched, {fresh:>9.2} ms fresh; of the last: factors {:.1} ms, contraction {:.1} ms, {:.1} Gflop/s",
        part.to_string(),
        report.factor_seconds * 1e3,
        report.contraction_seconds * 1e3,
        report.operations as f64 / 1e9 / (report.contraction_seconds + report.factor_seconds),
    );
    (touched, fresh)
}

/// All factors, dense rows formed, in milliseconds: from data in memory.
fn factors<B: Contract>(backend: &B, session: &Session) -> f64 {
    let parts = resolve(session.network(), &[Part::Full]).expect("the whole matrix");
    let plan = session.ggn().plan_within(
        parts,
        Precision::F32,
        common::endless(backend),
        RunOptions::default(),
        Grid::Squares,
    );
    let plan = plan.expect("a plan");
    median(|| {
        let all = || {
            let units = common::units_of(backend, session, &plan, |factor| {
                factor.keep_rows(backend, false);
            });
            std::hint::black_box(units);
        };
        timed(all).0
    })
}

/// Multiply-adds of all threads over those of one, by a product that stays in cache.
fn threads_over_one() -> f64 {
    let work = || {
        let mut sums = [[0.5f32; 16]; 8];
        for k in 0..2_000_000u32 {
            let x = std::hint::black_box(k as f32 * 1e-9);
            for sums in &mut sums {
                for sum in sums.iter_mut() {
                    *sum = *sum * 0.999 + x;
                }
            }
        }
        std::hint::black_box(sums);
    };
    let one = timed(work).0;
    let threads = rayon::current_num_threads();
    let all = timed(|| rayon::broadcast(|_| work())).0;
    one * threads as f64 / all
}

fn measure<B: Contract>(name: &str, backend: &B, device: Device, wanted: &[String]) {
    let session = common::lenet5().with_device(device);
    println!("{name}; all threads over one {:.2}", threads_over_one());
    let is_wanted = |part: &str| match wanted.is_empty() {
        true => part != "full",
        false => wanted.iter().any(|name| name == part),
    };
    let mut json = serde_json::Map::new();
    let mut say = |key: &str, ms: f64| json.insert(key.into(), ms.into());
    for (key, part) in [
        ("conv2", Part::layer("conv2")),
        ("dense2", Part::layer("dense2")),
        ("dense1", Part::layer("dense1")),
        ("full", Part::Full),
    ] {
        if is_wanted(key) {
            let (touched, fresh) = block(backend, &session, &part);
            say(&format!("{key}_ms"), touched);
            say(&format!("{key}_fresh_ms"), fresh);
        }
    }
    if is_wanted("diagonal") {
        let g = session.ggn();
        let run = || g.diagonal().expect("a diagonal");
        let ms = median(|| timed(run).0);
        println!("diagonal       {ms:>9.2} ms");
        say("diagonal_ms", ms);
    }
    if is_wanted("gradient") {
        let run = || session.gradient().expect("a gradient");
        let ms = median(|| timed(run).0);
        println!("gradient       {ms:>9.2} ms");
        say("gradient_ms", ms);
    }
    if is_wanted("factors") {
        let ms = factors(backend, &session);
        println!("factors        {ms:>9.2} ms");
        say("factors_ms", ms);
    }
    println!("all threads over one {:.2}", threads_over_one());
    if let Some(path) = std::env::var_os("HESSBLOCK_BENCH_JSON") {
        let text = serde_json::Value::Object(json).to_string();
        std::fs::write(path, text).expect("the file can be written");
    }
}

fn main() {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|name| !name.starts_with('-'))
        .collect();
    #[cfg(feature = "gpu")]
    if std::env::var_os("HESSBLOCK_BENCH_DEVICE").is_some() {
        let gpu = common::gpu().expect("the device that HESSBLOCK_BENCH_DEVICE names");
        return measure(
            &gpu.report().name.clone(),
            &gpu,
            Device::from(gpu.clone()),
            &wanted,
        );
    }
    let cpu = Cpu::<f32>::new();
    measure("CPU f32", &cpu, Device::cpu(Precision::F32), &wanted);
}
