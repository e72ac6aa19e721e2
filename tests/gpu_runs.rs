//! Whole runs on a GPU: what becomes of them where memory runs out, the device is lost, or there are several.
#![cfg(feature = "gpu")]

mod common;

use common::gpu::selector;
use common::runs::run_plan;
use hessblock::data::{ArraySource, Dataset};
use hessblock::internals::control::Control;
use hessblock::internals::plan::RunOptions;
use hessblock::internals::plan::request::resolve;
use hessblock::internals::plan::tiles::{Grid, Tiling};
use hessblock::internals::plan::{Keep, Limits, Plan};
use hessblock::internals::run::{Replanned, RunReport, Stage};
use hessblock::internals::sink::{Blocks, Memory, PartLayout, Sink};
use hessblock::internals::tensor::gpu::{Faults, Gpu, Options, Selector, adapters};
use hessblock::internals::tensor::{Backend, Shape};
use hessblock::loss::CrossEntropy;
use hessblock::network::builder::{Builder, Window2d};
use hessblock::{Device, Error, Operator, Output, Part, Precision, Session};
use ndarray::{Array2, ArrayD, IxDyn};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A GPU of its own, with faults; `None` where this machine has none ([`common::gpu::open`]).
fn gpu(faults: Faults) -> Option<Gpu> {
    if adapters().is_empty() {
        let required = std::env::var("HESSBLOCK_REQUIRE_GPU").is_ok_and(|v| v == "1");
        assert!(
            !required,
            "HESSBLOCK_REQUIRE_GPU is set, but there is no adapter"
        );
        return None;
    }
    let options = Options {
        checked: false,
        poison: true,
        faults,
        ..Options::default()
    };
    Some(Gpu::open_with(&selector(), options).expect("the adapter opens"))
}

fn data(samples: usize, shape: &[usize], classes: usize) -> Dataset {
    let shape: Vec<usize> = std::iter::once(samples)
        .chain(shape.iter().copied())
        .collect();
    let count: usize = shape.iter().product();
    let mut state = 7_u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 40) as f64 / 2f64.powi(24) - 0.5
    };
    let inputs = (0..count).map(|_| next()).collect();
    let inputs = ArrayD::from_shape_vec(IxDyn(&shape), inputs).expect("the count fits");
    let labels = (0..samples)
        .map(|k| ((k * 7 + 2) % classes) as i64)
        .collect();
    let labels = ArrayD::from_shape_vec(IxDyn(&[samples]), labels).expect("the count fits");
    Dataset::from_arrays(ArraySource::from(inputs), ArraySource::from(labels))
}

/// Some 3,100 parameters: six tiles, a convolution whose rows are dense.
fn session(samples: usize) -> Session {
    let network = Builder::new(&[2, 12, 12])
        .conv2d("conv", 8, Window2d::new(3).padding(1))
        .tanh()
        .max_pool2d(Window2d::new(2).stride(2))
        .flatten()
        .linear("one", 10)
        .tanh()
        .linear("head", 6)
        .initialize(3)
        .build()
        .expect("a network");
    let loss = Box::new(CrossEntropy::mean());
    Session::builder(network)
        .data(data(samples, &[2, 12, 12], 6))
        .boxed_loss(loss)
        .device(Device::cpu(Precision::F64))
        .build()
        .expect("a session")
}

/// Some 700 parameters, a tile each: small enough for second derivatives.
fn small() -> Session {
    let network = Builder::new(&[12])
        .linear("one", 30)
        .tanh()
        .linear("two", 8)
        .softplus()
        .linear("head", 4)
        .initialize(5)
        .build()
        .expect("a network");
    let loss = Box::new(CrossEntropy::mean());
    Session::builder(network)
        .data(data(21, &[12], 4))
        .boxed_loss(loss)
        .device(Device::cpu(Precision::F64))
        .build()
        .expect("a session")
}

/// A plan within so many bytes of device memory.
fn plan(
    operator: &Operator,
    parts: &[Part],
    device: u64,
    batch: Option<usize>,
) -> hessblock::Result<Plan> {
    let limits = Limits {
        device,
        host: u64::MAX,
        held: 0,
        sharing: 1,
        tensor: 1 << 30,
        unified: false,
    };
    let parts = resolve(operator.session().network(), parts)?;
    operator.plan_within(
        parts,
        Precision::F32,
        limits,
        RunOptions {
            batch,
            ..RunOptions::default()
        },
        Grid::Squares,
    )
}

fn run(
    operator: &Operator,
    gpus: &[&Gpu],
    plan: &Plan,
) -> hessblock::Result<(RunReport, Vec<Array2<f32>>)> {
    let (report, parts) = run_plan(operator, gpus, plan)?;
    Ok((report, parts.into_iter().map(|part| part.1).collect()))
}

/// The largest deviation from double precision on the CPU, relative to the largest entry.
fn deviation(operator: &Operator, parts: &[Part], found: &[Array2<f32>]) -> f64 {
    let request = operator.parts(parts.to_vec()).expect("parts");
    let exact = request.to_arrays::<f64>().expect("the reference");
    let mut worst = 0.0_f64;
    for (exact, found) in exact.iter().zip(found) {
        let exact = &exact.array;
        let most = exact.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
        for (exact, found) in exact.iter().zip(found) {
            let error = (exact - f64::from(*found)).abs() / most;
            worst = if error.is_nan() {
                f64::INFINITY
            } else {
                worst.max(error)
            };
        }
    }
    worst
}

/// Faults of memory that refuses buffers beyond so many bytes.
fn memory_of(bytes: u64) -> Faults {
    Faults {
        out_of_memory_above: Some(bytes),
        ..Faults::default()
    }
}

/// A run from a plan on a device that refuses buffers beyond so many bytes, and one that has all it wants.
fn short_of_memory(operator: &Operator, parts: &[Part], start: &Plan, bytes: u64) -> RunReport {
    let whole = gpu(Faults::default()).expect("opened before");
    let short = gpu(memory_of(bytes)).expect("opened before");
    let (_, expected) = run(operator, &[&whole], start).expect("a run");
    let (report, found) = run(operator, &[&short], start).expect("a run that goes on");
    assert!(!report.warnings.is_empty(), "{bytes} were enough");
    assert_eq!(report.warnings.len(), report.replanned.len());
    assert!(report.warnings[0].contains("refused, as a test asked for"));
    let same = |p: &Replanned| (p.unit_samples, p.unit_directions) == (start.unit, start.chunk);
    if report.replanned.iter().all(same) {
        assert!(expected == found, "another order of work changes bits");
    }
    assert!(deviation(operator, parts, &found) < 2e-6);
    report
}

#[test]
fn where_memory_runs_out_fewer_tiles_are_held_at_a_time_and_none_is_lost() {
    if gpu(Faults::default()).is_none() {
        return;
    }
    let g = session(40).ggn();
    let parts = [Part::Full, Part::Diagonal];
    let mut plan = plan(&g, &parts, 1 << 30, None).expect("a plan");
    assert_eq!((plan.keep, plan.tiles.len()), (Keep::Rows, 6));
    (plan.keep, plan.wave, plan.device_bytes) = (Keep::Recompute, 6, 80 << 20);
    // All six tiles take 30 MB.
    let report = short_of_memory(&g, &parts, &plan, 26 << 20);
    let last = report.replanned.last().expect("there were warnings");
    assert_eq!(last.unit_samples, plan.unit);
}

#[test]
fn where_memory_runs_out_units_get_smaller() {
    if gpu(Faults::default()).is_none() {
        return;
    }
    let g = session(300).ggn();
    let parts = [Part::layer("head"), Part::layer("conv"), Part::Diagonal];
    let plan = plan(&g, &parts, 1 << 30, None).expect("a plan");
    let report = short_of_memory(&g, &parts, &plan, plan.device_bytes / 10 * 6);
    let last = report.replanned.last().expect("there were warnings");
    assert!(last.unit_samples < plan.unit);
}

#[test]
fn where_nothing_smaller_can_be_planned_the_error_has_the_arithmetic_and_nothing_is_left() {
    let Some(short) = gpu(memory_of(1 << 20)) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let session = session(20).with_device(Device::from(short));
    let request = session.ggn().parts([Part::Full]).expect("a part");
    let output = Output::npy(folder.path().join("h.npy"));
    request.plan_for(&output).expect("a plan");
    let error = request.write(&output).unwrap_err();
    assert!(matches!(error, Error::DeviceMemory(_)), "{error}");
    let text = error.to_string();
    for word in ["for half of them", "too small", "0 of 6 tiles"] {
        assert!(text.contains(word), "no {word:?} in {text}");
    }
    assert!(!output.path().exists());
    assert_eq!(
        std::fs::read_dir(folder.path())
            .expect("the folder")
            .count(),
        0
    );
}

#[test]
fn a_result_says_what_it_was_planned_with_in_the_end() {
    let Some(short) = gpu(memory_of(26 << 20)) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let session = session(40);
    let g = session.with_device(Device::from(short)).ggn();
    let parts = resolve(session.network(), &[Part::Full]).expect("a part");
    let plan = g.plan_with(parts, RunOptions::default());
    let mut plan = plan.expect("a plan");
    (plan.keep, plan.wave, plan.device_bytes) = (Keep::Recompute, 6, 80 << 20);
    let output = Output::npy(folder.path().join("h.npy"));
    let report = g.write_plan(&plan, &output, &Control::none());
    let report = report.expect("a run");
    assert!(!report.replanned.is_empty());
    let blocks = Blocks::open(output.path()).expect("a result");
    let made = blocks.provenance();
    assert!(made.to_string().contains("replanned"), "{made}");
    let found = blocks
        .rows(0, 0..plan.parts[0].extents().0)
        .expect("rows")
        .mapv(|v| v as f32);
    assert!(deviation(&session.ggn(), &[Part::Full], &[found]) < 2e-6);
}

#[test]
fn a_run_that_had_too_little_memory_and_was_stopped_goes_on_with_the_units_it_had_in_the_end() {
    let Some(whole) = gpu(Faults::default()) else {
        return;
    };
    let session = session(300);
    let options = RunOptions {
        memory: Some(1 << 30),
        // Tiles are small beside a unit.
        tiling: Tiling {
            side: 512,
            ..Tiling::default()
        },
        ..RunOptions::default()
    };
    let parts = resolve(session.network(), &[Part::Full]).expect("a part");
    let plan = session
        .with_device(Device::from(whole))
        .ggn()
        .plan_with(parts, options);
    let plan = plan.expect("a plan");
    let folder = tempfile::tempdir().expect("a folder");
    let output = |name: &str| Output::npy(folder.path().join(name));
    let run = |bytes: u64, output: &Output, control: &Control<'_>| {
        let device = Device::from(gpu(memory_of(bytes)).expect("opened before"));
        let g = session.with_device(device).ggn();
        g.write_plan(&plan, output, control)
    };
    let never = Control::none();
    // So little that units get smaller.
    let found = (4..16).find_map(|k| {
        let bytes = plan.device_bytes / 20 * (20 - k);
        let output = output(&format!("whole-{k}.npy"));
        let report = run(bytes, &output, &never).expect("a run");
        let smaller = |last: &Replanned| last.unit_samples < plan.unit;
        let found = report.replanned.last().is_some_and(smaller);
        found.then_some((bytes, output))
    });
    let (bytes, whole) = found.expect("units get smaller");
    let (cancel, output) = (AtomicBool::new(false), output("stopped.npy"));
    let stopped = Control {
        progress: &|progress| {
            if progress.tiles > 0 {
                cancel.store(true, Ordering::Relaxed);
            }
        },
        cancel: &cancel,
    };
    let error = run(bytes, &output, &stopped).expect_err("it was stopped");
    assert!(matches!(error, Error::Interrupted), "{error}");
    let left = output.left().expect("tiles were made").tiles;
    assert!(left < plan.tiles.len(), "too quick to be stopped");
    let report = run(bytes, &output, &never).expect("a run");
    assert_eq!(report.found_tiles, left);
    // It knows from the beginning what it has memory for.
    assert!(report.replanned.is_empty(), "{:?}", report.warnings);
    let read = |output: &Output| std::fs::read(output.path()).expect("a result");
    assert!(read(&whole) == read(&output), "other bits");
}

/// The names in a folder, in order.
fn names_in(folder: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("the folder");
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.expect("an entry").file_name();
    let names = entries.map(|entry| name(entry).to_string_lossy().into_owned());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// Checks the corners of every tile that a list of done tiles names, in the numbers that lie beside it.
fn check_listed(list: &str, data: &[u8], expected: &Array2<f64>) {
    for line in list.lines().filter(|line| !line.starts_with('{')) {
        let at: Vec<usize> = line.split(' ').flat_map(|w| w.parse()).collect();
        for (row, column) in [(at[1], at[3]), (at[2] - 1, at[4] - 1)] {
            let entry = &data[(row * expected.ncols() + column) * 4..][..4];
            let entry = f32::from_le_bytes(entry.try_into().expect("four bytes"));
            assert_eq!(f64::from(entry), expected[[row, column]], "{line}");
        }
    }
}

#[test]
fn where_the_device_is_lost_the_tiles_made_so_far_are_safe_and_the_same_command_starts_anew() {
    let Some(whole) = gpu(Faults::default()) else {
        return;
    };
    let session = session(12);
    let folder = tempfile::tempdir().expect("a folder");
    let names = || names_in(folder.path());
    let run = |gpu: Gpu| {
        let g = session.with_device(Device::from(gpu)).ggn();
        let request = g.parts([Part::Full]).expect("a part");
        request.write(Output::npy(folder.path().join("h.npy")).overwrite(true))
    };
    run(whole.clone()).expect("a run");
    let expected = Blocks::open(folder.path().join("h.npy")).expect("a result");
    let rows = expected.parts()[0].layout.row_count();
    let expected = expected.rows(0, 0..rows).expect("rows");
    let finished = names();
    let (mut halfway, mut before) = (0, 0);
    let mut found = None;
    for most in (1..).step_by(3) {
        let lost = gpu(Faults {
            lost_after_submissions: Some(most),
            ..Faults::default()
        });
        let error = match run(lost.expect("opened before")) {
            Ok(report) => {
                found = Some(report.found_tiles);
                break;
            }
            Err(error) => error,
        };
        assert!(matches!(error, Error::DeviceLost(_)), "{error}");
        let text = error.to_string();
        let list = std::fs::read_to_string(folder.path().join("h.npy.partial.done"));
        let tiles = |list: &str| list.lines().filter(|line| !line.starts_with('{')).count();
        let done = list.as_deref().map_or(0, tiles);
        assert!(done >= before, "{done} tiles after {before}");
        before = done;
        assert!(
            text.contains(&format!("{done} of 6 tiles")),
            "{done}: {text}"
        );
        if done == 0 {
            assert_eq!(names(), finished, "nothing to keep is kept");
            continue;
        }
        halfway += 1;
        assert!(
            text.contains("h.npy.partial") && text.contains("goes on from there"),
            "{text}"
        );
        assert!(folder.path().join("h.npy.partial.plan.json").exists());
        // The older result stands, and what the list names is there to the bit.
        let bytes = std::fs::read(folder.path().join("h.npy.partial")).expect("the data");
        let data = &bytes[bytes.len() - rows * rows * 4..];
        check_listed(&list.expect("it has lines"), data, &expected);
    }
    assert!(
        halfway > 0,
        "no run was lost between its first tile and its last"
    );
    // The last of them went on from what the others made, and made the same bits.
    assert_eq!(found, Some(before));
    assert_eq!(names(), finished);
}

#[test]
fn a_submission_that_was_not_carried_out_is_a_lost_device_and_never_stale_data() {
    let broken = |number| {
        gpu(Faults {
            broken_submission: Some(number),
            ..Faults::default()
        })
    };
    let Some(first) = broken(1) else { return };
    let shape = Shape::new(1, 1, &[300]);
    let error = first.read(&first.fill(&shape, 2.0)).unwrap_err();
    assert!(matches!(error, Error::DeviceLost(_)), "{error}");
    assert!(
        first.read(&first.fill(&shape, 2.0)).is_err(),
        "it stays lost"
    );
    // Of what was read before nothing is doubted.
    let third = broken(3).expect("opened before");
    for _ in 0..2 {
        assert_eq!(
            third.read(&third.fill(&shape, 2.0)).expect("a read"),
            [2.0; 300]
        );
    }
    assert!(third.read(&third.fill(&shape, 2.0)).is_err());
    // In the middle of a run.
    let g = small().ggn();
    let plan = plan(&g, &[Part::Full], 1 << 30, None).expect("a plan");
    let error = run(&g, &[&broken(2).expect("opened before")], &plan).unwrap_err();
    assert!(matches!(error, Error::DeviceLost(_)), "{error}");
    assert!(error.to_string().contains("not carried out"), "{error}");
}

/// Takes tiles as slowly as it is told to.
struct Slow<F> {
    inner: Memory<f32>,
    before: F,
}

impl<F: Fn() + Send + Sync> Sink<f32> for Slow<F> {
    fn begin(&mut self, parts: &[PartLayout]) -> hessblock::Result<()> {
        self.inner.begin(parts)
    }

    fn tile(
        &self,
        part: usize,
        rows: Range<usize>,
        columns: Range<usize>,
        values: &[f32],
        mirror: bool,
    ) -> hessblock::Result<()> {
        (self.before)();
        self.inner.tile(part, rows, columns, values, mirror)
    }

    fn vector(&self, part: usize, values: &[f32]) -> hessblock::Result<()> {
        self.inner.vector(part, values)
    }

    fn put_back(&self, part: usize, values: Vec<f32>) -> hessblock::Result<()> {
        self.inner.put_back(part, values)
    }

    fn finish(&mut self) -> hessblock::Result<()> {
        Sink::<f32>::finish(&mut self.inner)
    }
}

#[test]
fn tiles_are_computed_while_others_are_read_back_and_written() {
    let Some(gpu) = gpu(Faults::default()) else {
        return;
    };
    let g = session(12).ggn();
    let plan = plan(&g, &[Part::Full], 1 << 30, None).expect("a plan");
    let (computed, waited) = (AtomicU64::new(0), AtomicBool::new(false));
    // Until the larger half of the work is done, no tile is taken.
    let before = || {
        let start = Instant::now();
        while computed.load(Ordering::Relaxed) < 6 {
            if start.elapsed() > Duration::from_secs(60) {
                waited.store(true, Ordering::Relaxed);
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let mut sink = Slow {
        inner: Memory::new(),
        before,
    };
    let control = Control {
        progress: &|p| computed.store(10 * p.done / p.total, Ordering::Relaxed),
        ..Control::none()
    };
    g.run_on(&[&gpu], &plan, &mut sink, &control)
        .expect("a run");
    assert!(
        !waited.load(Ordering::Relaxed),
        "the device waited for the sink"
    );
}

#[test]
fn the_summary_names_the_bottleneck_and_counts_what_was_read() {
    let Some(gpu) = gpu(Faults::default()) else {
        return;
    };
    let g = small().ggn();
    let plan = plan(&g, &[Part::Layers], 1 << 30, None).expect("a plan");
    // Kernels are compiled once.
    run(&g, &[&gpu], &plan).expect("a run");
    let mut sink = Slow {
        inner: Memory::new(),
        before: || std::thread::sleep(Duration::from_millis(1500)),
    };
    let report = g.run_on(&[&gpu], &plan, &mut sink, &Control::none());
    let report = report.expect("a run");
    let bottleneck = report.bottleneck.expect("something took time");
    assert_eq!(bottleneck.stage, Stage::Writing, "{report:?}");
    assert!(bottleneck.busy_fraction > 0.5 && bottleneck.busy_fraction <= 1.0);
    let busy = report.device_busy_seconds.expect("a GPU");
    assert!(busy > 0.0 && busy < report.seconds, "{report:?}");
    let share = &report.devices[0];
    assert_eq!(
        (report.devices.len(), share.tiles, share.lost),
        (1, 3, false)
    );
    assert!(report.read_back_bytes >= report.bytes && report.read_back_seconds > 0.0);
}

#[test]
fn vectors_and_numbers_never_read_a_block_back() {
    let Some(gpu) = gpu(Faults::default()) else {
        return;
    };
    let session = session(60).with_device(Device::from(gpu.clone()));
    let (h, g) = (session.hessian(), session.ggn());
    let (count, outputs) = (h.size(), 60 * 6);
    let vectors = Array2::from_elem((count, 2), 0.1);
    let read = |what: &str, times: usize, work: &dyn Fn()| {
        let before = gpu.counters().read_back_bytes;
        work();
        let read = gpu.counters().read_back_bytes - before;
        let most = (times * 4 * (count + outputs)) as u64;
        assert!(read > 0 && read <= most, "{what}: {read} of {most} bytes");
        assert!(read < (count * count) as u64, "{what}: {read} bytes");
    };
    read("H·v", 8, &|| _ = h.apply(vectors.view()).expect("H·v"));
    read("forms", 8, &|| _ = h.forms(vectors.view()).expect("forms"));
    read("gradient", 4, &|| _ = session.gradient().expect("g"));
    read("G·v", 8, &|| _ = g.apply(vectors.view()).expect("G·v"));
    read("diagonal", 4, &|| _ = g.diagonal().expect("it"));
    read("trace", 4, &|| _ = g.trace().expect("it"));
    read("probes", 8, &|| _ = g.estimated_traces(2, 1).expect("it"));
}

#[test]
fn data_are_uploaded_once_however_often_they_are_passed_over() {
    let Some(gpu) = gpu(Faults::default()) else {
        return;
    };
    let (g, parts) = (small().ggn(), [Part::Layers]);
    let mut once = plan(&g, &parts, 1 << 30, Some(7)).expect("a plan");
    (once.keep, once.wave, once.keep_data) = (Keep::Recompute, 1, true);
    let mut each = once.clone();
    each.keep_data = false;
    let uploaded = |plan: &Plan| {
        let before = gpu.counters().uploaded_bytes;
        let (_, found) = run(&g, &[&gpu], plan).expect("a run");
        (gpu.counters().uploaded_bytes - before, found)
    };
    let ((few, kept), (many, expected)) = (uploaded(&once), uploaded(&each));
    assert!(kept == expected);
    // Twelve numbers of 21 samples, in the second and third wave.
    assert_eq!(many - few, 2 * 21 * 12 * 4);

    // Where there is room for it, and no more than that.
    let g = session(6000).ggn();
    let waves = (1..400).map(|k| k << 18).filter_map(|bytes| {
        let plan = plan(&g, &[Part::Full], bytes, Some(32)).ok()?;
        let some = plan.keep == Keep::Recompute && plan.wave < plan.tiles.len();
        some.then_some((bytes, plan))
    });
    let waves: Vec<(u64, Plan)> = waves.collect();
    assert!(waves.iter().any(|(_, plan)| plan.keep_data));
    for (bytes, plan) in waves {
        assert!(
            plan.device_bytes <= bytes,
            "{} of {bytes}",
            plan.device_bytes
        );
    }
}

#[test]
fn several_devices_share_the_tiles_and_change_no_bit() {
    let Some(one) = gpu(Faults::default()) else {
        return;
    };
    let two = gpu(Faults::default()).expect("opened before");
    let cases: [(Operator, &[Part]); 3] = [
        (session(12).ggn(), &[Part::Full, Part::Diagonal]),
        (small().ggn(), &[Part::Layers, Part::Diagonal, Part::Full]),
        (
            small().hessian(),
            &[Part::Layers, Part::Diagonal, Part::Full],
        ),
    ];
    // A device that is slow to start may find nothing left of a run.
    let mut shared = 0;
    for (operator, parts) in cases {
        let plenty = plan(&operator, parts, 1 << 30, Some(7)).expect("a plan");
        let mut plans = vec![plenty.clone()];
        if plenty.routes.is_none() {
            let (mut kept, mut waves) = (plenty.clone(), plenty.clone());
            kept.keep = Keep::Factors;
            (waves.keep, waves.wave) = (Keep::Recompute, 2);
            plans.extend([kept, waves]);
        }
        for plan in plans {
            let (_, expected) = run(&operator, &[&one], &plan).expect("a run");
            // Its kernels are compiled when the two share.
            let (_, found) = run(&operator, &[&two], &plan).expect("a run");
            assert!(expected == found, "{parts:?} {:?}", plan.keep);
            let (report, found) = run(&operator, &[&one, &two], &plan).expect("a run");
            assert!(expected == found, "{parts:?} {:?}", plan.keep);
            let tiles: Vec<usize> = report.devices.iter().map(|d| d.tiles).collect();
            assert_eq!(tiles.iter().sum::<usize>(), plan.tiles.len(), "{tiles:?}");
            let both = tiles.iter().all(|&tiles| tiles > 0);
            shared += usize::from(both);
        }
    }
    assert!(shared > 0);
}

#[test]
fn where_one_of_several_devices_is_lost_the_others_make_its_tiles() {
    let Some(whole) = gpu(Faults::default()) else {
        return;
    };
    let g = session(12).ggn();
    let mut plan = plan(&g, &[Part::Diagonal, Part::Full], 1 << 30, None).expect("a plan");
    (plan.keep, plan.wave) = (Keep::Recompute, 1);
    let (_, expected) = run(&g, &[&whole], &plan).expect("a run");
    let after = |submissions| {
        let faults = Faults {
            lost_after_submissions: Some(submissions),
            ..Faults::default()
        };
        gpu(faults).expect("opened before")
    };
    // Before it made anything, and in the middle; the diagonal is the first one's to begin with.
    let mut seen = 0;
    for submissions in [1, 1, 4] {
        let lost = after(submissions);
        let (report, found) = run(&g, &[&lost, &whole], &plan).expect("a run that goes on");
        assert!(expected == found, "{submissions}");
        assert!(!report.devices[1].lost, "{report:?}");
        assert_eq!(report.devices.iter().map(|d| d.tiles).sum::<usize>(), 6);
        // The other one may have made all tiles before it had any.
        if report.devices[0].lost {
            assert!(report.warnings[0].contains("the other devices make its tiles"));
            seen += 1;
        }
    }
    assert!(seen > 0);
    let error = run(&g, &[&after(2), &after(5)], &plan).unwrap_err();
    assert!(matches!(error, Error::DeviceLost(_)), "{error}");
    assert!(error.to_string().contains("of 6 tiles"), "{error}");
    // Memory that runs out on one is planned for on all; that of two runs out whoever comes first.
    (plan.wave, plan.device_bytes) = (3, 80 << 20);
    let [short, other] = [(); 2].map(|()| gpu(memory_of(18 << 20)).expect("opened before"));
    let (_, found) = run(&g, &[&whole, &short], &plan).expect("a run that goes on");
    assert!(expected == found);
    let (report, found) = run(&g, &[&short, &other], &plan).expect("a run that goes on");
    assert!(!report.replanned.is_empty() && expected == found);
}

#[test]
fn a_list_of_devices_opens_them_and_says_what_it_cannot_be() {
    let index = match selector() {
        Selector::Index(index) if !adapters().is_empty() => index,
        _ => return,
    };
    let open = |text: &str| Device::open(text, Precision::F32);
    let both = open(&format!("{index}, {index}")).expect("a list");
    let note = both.note().expect("what is not shared");
    assert!(note.contains("all else runs on the first"), "{note}");
    let one = open(&index.to_string()).expect("one");
    let limits = both.limits(RunOptions {
        memory: Some(1 << 30),
        host_memory: Some(1 << 30),
        ..RunOptions::default()
    });
    assert_eq!((limits.device, limits.host_left()), (1 << 30, 1 << 29));
    assert!(
        both.limits(RunOptions::default()).device
            <= one.limits(RunOptions::default()).device * 6 / 10
    );
    let only = open(&format!("{index},"));
    assert!(only.is_err(), "an empty place is refused");
    for (text, word) in [
        (format!("cpu,{index}"), "rounds differently"),
        (format!("{index},all"), "that word alone"),
        (format!("{index},no such adapter"), "no such adapter"),
        (",".into(), "empty place"),
    ] {
        let error = open(&text).expect_err("refused").to_string();
        assert!(error.contains(word), "{text}: {error}");
    }
    let double = Device::open(&format!("{index},{index}"), Precision::F64);
    assert!(double.expect_err("refused").to_string().contains("f64"));
    // The same entries in files and in memory, and what runs on the first.
    let session = small();
    let request = |device: &Device| {
        let g = session.with_device(device.clone()).ggn();
        g.parts([Part::Full, Part::Diagonal]).expect("parts")
    };
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, device: &Device| {
        let path = folder.path().join(name);
        let report = request(device).write(Output::folder(&path));
        let report = report.expect("a run");
        let read = |k: usize| std::fs::read(path.join(format!("000{k}.npy"))).expect("a file");
        (report.devices.len(), read(0), read(1))
    };
    let (alone, together) = (write("one", &one), write("both", &both));
    assert!((alone.0, together.0) == (1, 2) && alone.1 == together.1 && alone.2 == together.2);
    let blocks = |device| request(device).to_arrays::<f64>().expect("blocks");
    assert!(blocks(&one) == blocks(&both));
    let diagonal = |device: &Device| {
        let g = session.with_device(device.clone()).ggn();
        g.diagonal().expect("a diagonal")
    };
    assert_eq!(diagonal(&one), diagonal(&both));
}
