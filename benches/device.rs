//! What a GPU does on the device alone, beside what it could do at most: nothing but single numbers is read back.
//!
//! `HESSBLOCK_BENCH_DEVICE=NAME cargo bench --bench device -- [--only gemm,dense1] [--scale X] [--seconds S] [--json FILE]`:
//! products, tiles of outer × outer, blocks of LeNet-5 and of a ResNet-18's convolution, vectors; medians, each checked
//! against double precision before it is timed. `--scale` takes a share of the entries of every matrix, for software devices.
//! `benches/peers/device.py` does the same in PyTorch and puts both side by side; the names of the cases are its own.

mod common;

use common::{numbers, tensor};
use hessblock::bench::Peak;
use hessblock::internals::contraction::{FactorPair, Segment, accumulate};
use hessblock::internals::jacobian::Factor;
use hessblock::internals::jacobian::unit::Unit;
use hessblock::internals::ops::{Site, SiteKind};
use hessblock::internals::plan::RunOptions;
use hessblock::internals::plan::pairs::factor_pairs;
use hessblock::internals::plan::request::resolve;
use hessblock::internals::plan::tiles::{Grid, Strip};
use hessblock::internals::plan::{Keep, Plan, TileJob};
use hessblock::internals::tensor::cpu::Cpu;
use hessblock::internals::tensor::gpu::Gpu;
use hessblock::internals::tensor::{
    Backend, Contract, Einsum, HostSlice, MirrorRule, Placement, Real, Shape,
};
use hessblock::network::Network;
use hessblock::network::builder::{Builder, Window2d};
use hessblock::{Device, Operator, Part, Precision, Session};
use ndarray::Array1;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::time::Instant;

/// What single precision may be off by, of the largest entry compared.
const TOLERANCE: f64 = 1e-4;
/// Runs at least and at most, after one that is not counted.
const RUNS: (usize, usize) = (3, 31);
/// Seconds that a run should take: what is quicker is started several times before it is waited for.
const RUN: f64 = 0.01;
/// Entries of a tile that are compared.
const ENTRIES: usize = 16;
/// Bytes of tiles that are held, so that a tile does not overwrite the one before in a cache.
const HELD: u64 = 1 << 30;

type Tile = <Gpu as Contract>::Accumulator;
type Tensor = <Gpu as Backend>::Tensor;

/// What is asked for on the command line.
struct Asked {
    only: Vec<String>,
    scale: f64,
    seconds: f64,
    json: Option<String>,
}

impl Asked {
    fn read() -> Asked {
        let mut asked = Asked {
            only: Vec::new(),
            scale: 1.0,
            seconds: 1.0,
            json: None,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            if name == "--bench" {
                continue;
            }
            let value = arguments.next().expect("every option takes a value");
            match name.as_str() {
                "--only" => asked.only = value.split(',').map(str::to_string).collect(),
                "--scale" => asked.scale = value.parse().expect("--scale is a number"),
                "--seconds" => asked.seconds = value.parse().expect("--seconds is a number"),
                "--json" => asked.json = Some(value),
                _ => panic!("{name} is not one of --only, --scale, --seconds, --json"),
            }
        }
        asked
    }

    /// The edge of a matrix, whose entries are to be scaled.
    fn edge(&self, full: usize) -> usize {
        ((full as f64 * self.scale.sqrt()) as usize).clamp(16, full)
    }
}

/// What a case does: operations as planned (a multiply-add is two), and the bytes of its result where writing them counts.
#[derive(Clone, Copy)]
struct Amount {
    operations: u64,
    written: Option<u64>,
    /// The edge of the matrix, or the numbers of the vector.
    size: usize,
}

/// All that the cases share.
struct Bench {
    gpu: Gpu,
    device: Device,
    asked: Asked,
    peak: Peak,
    held: u64,
    found: RefCell<serde_json::Map<String, serde_json::Value>>,
    wrong: Cell<bool>,
}

impl Bench {
    fn wants(&self, name: &str) -> bool {
        self.asked.only.is_empty() || self.asked.only.iter().any(|only| name.contains(only))
    }

    /// Waits for all that was enqueued, by one number that comes after it.
    fn wait(&self) {
        let one = self.gpu.fill(&Shape::new(1, 1, &[1]), 1.0);
        assert_eq!(self.gpu.read(&one).expect("the device works"), [1.0]);
    }

    /// Checks, times and prints a case; `error` is what its check found, relative to the largest number compared.
    fn case(&self, name: &str, amount: Amount, error: f64, mut start: impl FnMut()) {
        if error > TOLERANCE {
            println!("{name:<26} WRONG: off by {error:.1e} of the largest number compared");
            self.wrong.set(true);
            return;
        }
        let mut run = |batch: usize| {
            let clock = Instant::now();
            (0..batch).for_each(|_| start());
            self.wait();
            clock.elapsed().as_secs_f64() / batch as f64
        };
        // The check was the first run: this one tells how many make a measurement.
        let first = run(1);
        let batch = ((RUN / first).ceil() as usize).clamp(1, 256);
        let clock = Instant::now();
        let mut times = Vec::new();
        while times.len() < RUNS.0
            || times.len() < RUNS.1 && clock.elapsed().as_secs_f64() < self.asked.seconds
        {
            times.push(run(batch));
        }
        times.sort_by(f64::total_cmp);
        let seconds = times[times.len() / 2];
        let (rate, share) = rates(amount.operations as f64 / seconds, self.peak.flops);
        let bytes = amount.written.map(|bytes| bytes as f64 / seconds);
        let (written, share_written) = bytes.map_or(("-".into(), "-".into()), |bytes| {
            rates(bytes, self.peak.write)
        });
        println!(
            "{name:<26} {:>10} {:>11.3} {rate:>10} {share:>6} {written:>9} {share_written:>6} {:>9} {error:>8.0e}",
            amount.size,
            seconds * 1e3,
            format!("{}×{batch}", times.len()),
        );
        let json = serde_json::json!({
            "ms": seconds * 1e3,
            "least_ms": times[0] * 1e3,
            "size": amount.size,
            "gflops": amount.operations as f64 / seconds * 1e-9,
            "written_gbs": bytes.map(|bytes| bytes * 1e-9),
            "error": error,
        });
        self.found.borrow_mut().insert(name.into(), json);
        self.write();
    }

    /// Writes what was found so far: a run that is cut short leaves it.
    fn write(&self) {
        let Some(path) = &self.asked.json else { return };
        let json = serde_json::json!({
            "device": self.gpu.report(),
            "findings": self.gpu.findings(),
            "peak": self.peak,
            "max_tensor_bytes": self.gpu.max_tensor_bytes(),
            "scale": self.asked.scale,
            "cases": *self.found.borrow(),
        });
        let text = serde_json::to_string_pretty(&json).expect("numbers and texts");
        std::fs::write(path, text + "\n").expect("the file can be written");
    }
}

/// A rate in 10⁹ per second, and as a share of a peak.
fn rates(rate: f64, peak: Option<f64>) -> (String, String) {
    let share = peak.map_or("-".into(), |peak| format!("{:.0} %", 100.0 * rate / peak));
    (format!("{:.1}", rate * 1e-9), share)
}

/// The largest difference of (found, expected), relative to the largest number expected.
fn off(pairs: impl Iterator<Item = (f64, f64)>) -> f64 {
    let (mut largest, mut difference) = (0.0f64, 0.0f64);
    for (found, expected) in pairs {
        largest = largest.max(expected.abs());
        difference = match (found - expected).abs() {
            apart if apart.is_nan() => f64::INFINITY,
            apart => difference.max(apart),
        };
    }
    difference / largest
}

/// `count` places below `limit`, reproducible.
fn places(count: usize, limit: usize) -> Vec<usize> {
    let of = |x: f64| (((x + 1.0) / 2.0 * limit as f64) as usize).min(limit - 1);
    numbers(count).into_iter().map(of).collect()
}

/// Tiles that stay until newer ones take their place.
struct Held {
    tiles: VecDeque<Tile>,
    most: usize,
}

impl Held {
    fn new(bytes: u64, entries: usize) -> Held {
        let most = (bytes / (4 * entries as u64)) as usize;
        Held {
            tiles: VecDeque::new(),
            most,
        }
    }

    fn push(&mut self, tile: Tile) {
        while !self.tiles.is_empty() && self.tiles.len() >= self.most {
            self.tiles.pop_front();
        }
        self.tiles.push_back(tile);
    }
}

/// C = A·B, n × n each.
fn gemm(bench: &Bench) {
    if !bench.wants("gemm") {
        return;
    }
    let n = bench.asked.edge(4096);
    let shape = Shape::new(1, 1, &[n, n]);
    let (a, b) = (numbers(n * n), numbers(n * n + 1).split_off(1));
    let [left, right] = [&a, &b].map(|x| bench.gpu.upload(&shape, HostSlice::F64(x)));
    let einsum = Einsum::new("sdik,sdkj->sdij");
    let start = || bench.gpu.einsum(&einsum, &left, &right);
    let found = bench.gpu.read(&start()).expect("the device works");
    let error = off(places(64, n * n).into_iter().map(|at| {
        let (i, j) = (at / n, at % n);
        let terms = (0..n).map(|k| a[i * n + k] * b[k * n + j]);
        (f64::from(found[at]), terms.sum())
    }));
    let amount = Amount {
        operations: 2 * (n as u64).pow(3),
        written: None,
        size: n,
    };
    let mut last = None;
    bench.case("gemm", amount, error, || last = Some(start()));
}

/// Tiles of a block of dense1 (120 × 256), 10 directions: as the schedule cuts them, and one as large as the device takes.
fn outer(bench: &Bench) {
    let (o, i, r) = (120, 256, 10);
    for samples in [16, 64, 128] {
        let (delta, a) = (numbers(samples * r * o), numbers(samples * i));
        let upload =
            |shape: Shape, values: &[f64]| bench.gpu.upload(&shape, HostSlice::F64(values));
        let site = SiteKind::Linear {
            cotangents: upload(Shape::new(samples, r, &[1, o]), &delta),
            inputs: upload(Shape::new(samples, 1, &[1, i]), &a),
            outputs_first: true,
        };
        let factor = Factor::new(vec![Site::new(site, &[o, i])], o * i, samples, r);
        let largest = ((bench.gpu.max_tensor_bytes() / 4) as f64).sqrt() as usize;
        // Whole outputs.
        let edge = |full| (bench.asked.edge(full).min(largest) / i * i).max(i);
        for (kind, edge) in [("tile", edge(2048)), ("large", edge(16_384))] {
            let name = format!("outer_{samples}_{kind}");
            if !bench.wants(&name) {
                continue;
            }
            // Off the diagonal, as most tiles are.
            let columns = o * i - edge..o * i;
            let made = || {
                let mut tile = bench.gpu.accumulator_in(edge, edge, Vec::new());
                let segment = |range| Segment {
                    factor: &factor,
                    range,
                    origin: 0,
                };
                let pair = FactorPair {
                    rows: segment(0..edge),
                    columns: segment(columns.clone()),
                    signs: None,
                };
                let how = Placement {
                    mirror: MirrorRule::Own,
                    begin: true,
                };
                accumulate(&bench.gpu, &mut tile, how, &pair);
                tile
            };
            let values = collected(&bench.gpu, made());
            let entry = |row: usize, column: usize| -> f64 {
                let sample = |n: usize| {
                    let of = |o: usize, d: usize| delta[(n * r + d) * 120 + o];
                    let terms = (0..r).map(|d| of(row / i, d) * of(column / i, d));
                    terms.sum::<f64>() * a[n * i + row % i] * a[n * i + column % i]
                };
                (0..samples).map(sample).sum()
            };
            let error = off(places(64, edge * edge).into_iter().map(|at| {
                let (row, column) = (at / edge, at % edge);
                (f64::from(values[at]), entry(row, columns.start + column))
            }));
            let entries = (edge * edge) as u64;
            let amount = Amount {
                operations: 2 * samples as u64 * entries,
                written: Some(4 * entries),
                size: edge,
            };
            let mut held = Held::new(bench.held, edge * edge);
            bench.case(&name, amount, error, || held.push(made()));
        }
    }
}

fn collected(gpu: &Gpu, tile: Tile) -> Vec<f32> {
    gpu.collect(gpu.finish(tile)).expect("the device works")
}

/// The plan of one part on a device without limits.
fn planned(gpu: &Gpu, session: &Session, part: Part) -> Plan {
    let parts = resolve(session.network(), &[part]).expect("a part of the network");
    let limits = common::endless(gpu);
    let plan = session.ggn().plan_within(
        parts,
        Precision::F32,
        limits,
        RunOptions::default(),
        Grid::Squares,
    );
    let plan = plan.expect("a plan");
    assert_ne!(plan.keep, Keep::Recompute);
    plan
}

/// Makes a tile of a plan of all units.
fn tile(gpu: &Gpu, plan: &Plan, kept: &[Unit<Tensor>], job: &TileJob) -> Tile {
    let part = &plan.parts[job.part];
    let (rows, columns) = (&part.rows[job.row], &part.columns[job.column]);
    let extents = (rows.positions.len(), columns.positions.len());
    let mut tile = gpu.accumulator_in(extents.0, extents.1, Vec::new());
    for (number, unit) in kept.iter().enumerate() {
        for (_, _, fill, pair) in factor_pairs(unit, part, job, plan.grid) {
            let begin = number == 0;
            accumulate(
                gpu,
                &mut tile,
                Placement {
                    mirror: fill,
                    begin,
                },
                &pair,
            );
        }
    }
    tile
}

/// (place in the tile, row, column) of entries on or above the diagonal, rows and columns in the flat order.
fn entries_of(network: &Network, plan: &Plan, job: &TileJob) -> Vec<(usize, (usize, usize))> {
    let part = &plan.parts[job.part];
    let flat = |strip: &Strip, at: usize| {
        let run = strip.spans.iter().rfind(|run| run.origin <= at);
        let run = run.expect("the first run begins a strip");
        network.parameters[run.parameter].range().start + run.range.start + at - run.origin
    };
    let (rows, columns) = (&part.rows[job.row], &part.columns[job.column]);
    let width = columns.positions.len();
    let pair = |at: usize| (flat(rows, at / width), flat(columns, at % width));
    let all = places(4 * ENTRIES, rows.positions.len() * width);
    let above = all.into_iter().map(|at| (at, pair(at)));
    above.filter(|(_, (i, j))| i <= j).take(ENTRIES).collect()
}

/// The first, a middle and the last tile of a plan against `expected` for (row, column).
fn off_of_tiles(
    gpu: &Gpu,
    network: &Network,
    plan: &Plan,
    kept: &[Unit<Tensor>],
    expected: impl Fn(&[(usize, usize)]) -> Vec<f64>,
) -> f64 {
    let last = plan.tiles.len() - 1;
    let mut pairs = Vec::new();
    for number in [0, last / 2, last] {
        let job = &plan.tiles[number];
        let values = collected(gpu, tile(gpu, plan, kept, job));
        let entries = entries_of(network, plan, job);
        let wanted: Vec<(usize, usize)> = entries.iter().map(|(_, pair)| *pair).collect();
        let found = entries.iter().map(|&(at, _)| f64::from(values[at]));
        pairs.extend(found.zip(expected(&wanted)));
    }
    off(pairs.into_iter())
}

/// Operations of the plan's contraction, and the bytes of its tiles.
fn amount_of(plan: &Plan, size: usize, factors: bool) -> Amount {
    let bytes = |job: &TileJob| {
        let part = &plan.parts[job.part];
        let (rows, columns) = (&part.rows[job.row], &part.columns[job.column]);
        4 * (rows.positions.len() * columns.positions.len()) as u64
    };
    let passes = if factors { plan.pass_operations() } else { 0 };
    Amount {
        operations: plan.contraction_operations + passes,
        written: Some(plan.tiles.iter().map(bytes).sum()),
        size,
    }
}

/// All tiles of a plan, which stay on the device as far as they may.
fn contract(gpu: &Gpu, plan: &Plan, kept: &[Unit<Tensor>], held: &mut Held) {
    for job in &plan.tiles {
        held.push(tile(gpu, plan, kept, job));
    }
}

/// Blocks of LeNet-5: the contraction of factors that are there, and all from data in memory on.
fn lenet(bench: &Bench) {
    let session = common::lenet5();
    let network = session.network();
    // dense1 comes after conv1 (156) and conv2 (2,416), and has 120·256 + 120.
    for (name, first, full) in [("dense1", 2572, 30_840), ("full", 0, 44_426)] {
        let whole = format!("{name}_from_data");
        if !bench.wants(name) {
            continue;
        }
        let size = bench.asked.edge(full);
        let range = first..first + size;
        let plan = planned(&bench.gpu, &session, Part::Range(range.clone(), range));
        let units = || {
            let smaller = plan.keep == Keep::Factors;
            common::units_of(&bench.gpu, &session, &plan, |factor| {
                factor.keep_rows(&bench.gpu, smaller);
            })
        };
        let kept = units();
        let error = off_of_tiles(&bench.gpu, network, &plan, &kept, |pairs| {
            let entries = session.ggn().entries(pairs);
            entries.expect("entries of the network")
        });
        let largest = Grid::Squares.tile(Default::default());
        let mut held = Held::new(bench.held, largest.0 * largest.1);
        if bench.wants(name) {
            bench.case(name, amount_of(&plan, size, false), error, || {
                contract(&bench.gpu, &plan, &kept, &mut held);
            });
        }
        bench.case(&whole, amount_of(&plan, size, true), error, || {
            contract(&bench.gpu, &plan, &units(), &mut held);
        });
    }
    vectors(bench, &session);
}

/// Gradient, products, diagonal and all factors of LeNet-5, from data in memory.
fn vectors(bench: &Bench, session: &Session) {
    let p = session.network().parameter_count();
    let vector = Array1::from_vec(numbers(p));
    let on = |device: &Device| session.with_device(device.clone());
    let product = |operator: Operator| {
        let product = operator.apply(vector.view());
        product.expect("a product").to_vec()
    };
    let gradient = |device: &Device| on(device).gradient().expect("a gradient").values;
    let diagonal = |device: &Device| {
        let diagonal = on(device).ggn().diagonal();
        diagonal.expect("a diagonal").to_vec()
    };
    type Way<'a> = (&'static str, &'a dyn Fn(&Device) -> Vec<f64>);
    let ways: [Way<'_>; 4] = [
        ("gradient", &gradient),
        ("ggn_product", &|device| product(on(device).ggn())),
        ("hessian_product", &|device| product(on(device).hessian())),
        ("diagonal", &diagonal),
    ];
    let amount = Amount {
        operations: 0,
        written: None,
        size: p,
    };
    let double = Device::cpu(Precision::F64);
    for (name, way) in ways {
        if bench.wants(name) {
            let error = off(way(&bench.device).into_iter().zip(way(&double)));
            bench.case(name, amount, error, || {
                std::hint::black_box(way(&bench.device));
            });
        }
    }
    if bench.wants("factors") {
        let plan = planned(&bench.gpu, session, Part::Full);
        fn rows<B: Backend>(backend: &B, factor: &mut Factor<B::Tensor>) {
            factor.keep_rows(backend, false);
        }
        let units = || common::units_of(&bench.gpu, session, &plan, |f| rows(&bench.gpu, f));
        let cpu = Cpu::<f64>::new();
        let expected = common::units_of(&cpu, session, &plan, |f| rows(&cpu, f));
        // V of conv2's weights is what the convolutions' kernels made; outer factors stay as they are.
        let error = off_rows(&bench.gpu, &units()[0], &cpu, &expected[0], 2);
        let mut last = Vec::new();
        let amount = Amount {
            operations: plan.pass_operations(),
            ..amount
        };
        bench.case("factors", amount, error, || last = units());
    }
}

/// The rows of V of a parameter in a unit against another backend's.
fn off_rows<A: Backend, B: Backend>(
    left: &A,
    found: &Unit<A::Tensor>,
    right: &B,
    expected: &Unit<B::Tensor>,
    parameter: usize,
) -> f64 {
    fn rows<B: Backend>(backend: &B, unit: &Unit<B::Tensor>, parameter: usize) -> Vec<f64> {
        let factor = unit.factors[parameter].as_ref().expect("it is wanted");
        let rows = backend.read(&factor.rows(backend, 0..factor.count));
        let rows = rows.expect("the device works");
        rows.into_iter().map(Real::to_f64).collect()
    }
    let pairs = rows(left, found, parameter).into_iter();
    off(pairs.zip(rows(right, expected, parameter)))
}

/// The geometry of `layer1.0.conv1` of a ResNet-18: 64 → 64 channels, 3 × 3, at 56 × 56.
fn convolution(samples: usize) -> Session {
    let network = Builder::new(&[64, 56, 56])
        .conv2d_without_bias("conv1", 64, Window2d::new(3).padding(1))
        .relu()
        .global_avg_pool2d()
        .flatten()
        .linear("head", 10)
        .initialize(1)
        .build();
    common::session_of(network.expect("a network"), &[64, 56, 56], samples)
}

/// The convolution's block, 36,864², of 1,280 random rows of V, and how long forming rows takes.
fn convolution_block(bench: &Bench) {
    const PARAMETERS: usize = 36_864;
    let gpu = &bench.gpu;
    if bench.wants("conv1") {
        let rows = 1280;
        let size = bench.asked.edge(PARAMETERS);
        let v: Vec<f32> = numbers(rows * size).into_iter().map(|x| x as f32).collect();
        let kind = SiteKind::Rows(gpu.upload(&Shape::new(128, 10, &[size]), HostSlice::F32(&v)));
        let session = convolution(1);
        let plan = planned(gpu, &session, Part::Range(0..size, 0..size));
        let factor = Factor::new(vec![Site::new(kind, &[size])], size, 128, 10);
        let mut factors = vec![Some(factor)];
        factors.resize_with(session.network().parameters.len(), || None);
        let kept = [Unit {
            factors,
            signs: None,
        }];
        let error = off_of_tiles(gpu, session.network(), &plan, &kept, |pairs| {
            let entry = |&(i, j): &(usize, usize)| {
                let term = |row: usize| f64::from(v[row * size + i]) * f64::from(v[row * size + j]);
                (0..rows).map(term).sum()
            };
            pairs.iter().map(entry).collect()
        });
        // Rows times half of the square and its diagonal: the plan has another number of samples.
        let amount = Amount {
            operations: rows as u64 * size as u64 * (size as u64 + 1),
            ..amount_of(&plan, size, false)
        };
        let largest = Grid::Squares.tile(Default::default());
        let mut held = Held::new(bench.held, largest.0 * largest.1);
        bench.case("conv1", amount, error, || {
            contract(gpu, &plan, &kept, &mut held);
        });
    }
    if bench.wants("rows_of_conv1") {
        let samples = ((8.0 * bench.asked.scale) as usize).max(1);
        let session = convolution(samples);
        let plan = planned(gpu, &session, Part::Range(0..PARAMETERS, 0..PARAMETERS));
        let units = common::units_of(gpu, &session, &plan, |_| {});
        let cpu = Cpu::<f64>::new();
        let expected = common::units_of(&cpu, &session, &plan, |_| {});
        let error = off_rows(gpu, &units[0], &cpu, &expected[0], 0);
        drop(expected);
        let rows = samples * 10;
        let amount = Amount {
            operations: (2 * rows * PARAMETERS * 56 * 56) as u64,
            written: Some((4 * rows * PARAMETERS) as u64),
            size: rows,
        };
        let mut last = None;
        bench.case("rows_of_conv1", amount, error, || {
            let factor = units[0].factors[0].as_ref().expect("it is wanted");
            last = Some(factor.rows(gpu, 0..PARAMETERS));
        });
    }
}

/// One tile of dense × dense between two layers: 2048² of 1,280 rows, no symmetry.
fn dense(bench: &Bench) {
    for (name, full) in [("dense_tile", 2048), ("dense_large", 8192)] {
        let edge = bench.asked.edge(full);
        if !bench.wants(name) {
            continue;
        }
        let [left, right] = [0, 1].map(|skip| {
            let rest = [edge + skip];
            let rows = tensor(&bench.gpu, 128, 10, &rest);
            bench.gpu.slice(&rows, 2, skip, edge + skip)
        });
        let made = || {
            let mut tile = bench.gpu.accumulator_in(edge, edge, Vec::new());
            let how = Placement {
                mirror: MirrorRule::Own,
                begin: true,
            };
            let sides = (&left, &right);
            bench.gpu.accumulate_dense(&mut tile, how, (0, 0), sides);
            tile
        };
        let values = collected(&bench.gpu, made());
        let read = |x: &Tensor| bench.gpu.read(x).expect("the device works");
        let (l, r) = (read(&left), read(&right));
        let error = off(places(64, edge * edge).into_iter().map(|at| {
            let (i, j) = (at / edge, at % edge);
            let term = |k: usize| f64::from(l[k * edge + i]) * f64::from(r[k * edge + j]);
            (f64::from(values[at]), (0..1280).map(term).sum())
        }));
        let entries = (edge * edge) as u64;
        let amount = Amount {
            operations: 2 * 1280 * entries,
            written: Some(4 * entries),
            size: edge,
        };
        let mut held = Held::new(bench.held, edge * edge);
        bench.case(name, amount, error, || held.push(made()));
    }
}

fn main() {
    let asked = Asked::read();
    let Some(gpu) = common::gpu() else { return };
    println!("{}", gpu.report());
    println!("{}", gpu.findings());
    for rate in &gpu.findings().shapes {
        println!("  {:<24} {:>9.0} Gflop/s", rate.shape, rate.gflops);
    }
    let device = Device::from(gpu.clone());
    let never = hessblock::CancelToken::new();
    let peak = Peak::measure(&device, &never).expect("the device works");
    let giga = |rate: Option<f64>| rate.map_or("-".into(), |r| format!("{:.1}", r * 1e-9));
    println!(
        "peak: {} Gflop/s of multiply-adds in registers, {} GB/s written, {} GB/s copied; scale {}",
        giga(peak.flops),
        giga(peak.write),
        giga(peak.copy),
        asked.scale,
    );
    // Whole blocks stay on a card; a software device's memory is the host's.
    let held = match gpu.report().is_software() {
        true => HELD / 4,
        false => device.limits(RunOptions::default()).device / 2,
    };
    let bench = Bench {
        gpu,
        device,
        asked,
        peak,
        held,
        found: RefCell::default(),
        wrong: Cell::new(false),
    };
    println!(
        "{:<26} {:>10} {:>11} {:>10} {:>6} {:>9} {:>6} {:>9} {:>8}",
        "case", "size", "median ms", "Gflop/s", "peak", "GB/s", "peak", "runs", "error"
    );
    gemm(&bench);
    dense(&bench);
    outer(&bench);
    lenet(&bench);
    convolution_block(&bench);
    let gpu = &bench.gpu;
    println!(
        "at most {:.1} GiB on the device, {:.1} in use",
        gpu.peak_memory() as f64 / f64::from(1 << 30),
        gpu.memory_in_use() as f64 / f64::from(1 << 30)
    );
    if bench.wrong.get() {
        std::process::exit(1);
    }
}
