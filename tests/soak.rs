//! Two hundred runs in one process, from files to files, end with the memory, the files and the threads that were there
//! after the first of them.

#[cfg(feature = "gpu")]
#[allow(dead_code)] // of which this takes the choice of an adapter
#[path = "common/gpu.rs"]
mod adapter;

use hessblock::internals::plan::budget::anonymous_resident;
use hessblock::internals::sink::Blocks;
use hessblock::results::{VerifyOptions, verify};
use hessblock::{Curvature, Device, Output, Part, Precision, Source};
use std::path::Path;

/// Runs on the CPU, on one GPU, and on a GPU that is opened anew for each; where there is none, on the CPU too.
const ON_CPU: usize = 156;
const ON_GPU: usize = 40;
const ANEW: usize = 4;
/// Runs after which memory is looked at first: by then every kind of run was there, and a GPU's kernels are compiled.
const WARM: usize = 24;

/// Bytes that may be more than before: what the allocator keeps of freed memory moves by as much between runs. Runs that
/// lost the matrix of the smallest part, of 67,600 bytes, would have added 9 MB on the CPU.
const SLACK: u64 = 4 << 20;
/// The same over openings of a GPU: with 300 of them, each with its runs, lavapipe's compiler went up and down between 127
/// and 158 MB and ended with 133.
const SLACK_ANEW: u64 = 48 << 20;

/// What a process holds.
#[derive(Debug)]
struct Held {
    bytes: u64,
    files: usize,
    threads: usize,
}

impl Held {
    fn now() -> Held {
        let entries = |folder: &str| std::fs::read_dir(folder).map_or(0, Iterator::count);
        Held {
            bytes: anonymous_resident().unwrap_or(0),
            files: entries("/proc/self/fd"),
            threads: entries("/proc/self/task"),
        }
    }
}

/// Kinds of requests: a part that fits one file, and several.
const REQUESTS: usize = 2;

fn parts(kind: usize) -> Vec<Part> {
    match kind {
        0 => vec![Part::layer("head")],
        _ => vec![
            Part::range(1030..1100, 20..60),
            Part::layer("head"),
            Part::Diagonal,
        ],
    }
}

/// Names of results, which say how they lie on disk. A `.npy` is a single part's, and a folder in its place that of several.
const NAMES: [&str; 3] = ["out.npy", "out.zarr", "out.safetensors"];

const CURVATURES: [Curvature; 5] = [
    Curvature::Ggn,
    Curvature::Exact,
    Curvature::Residual,
    Curvature::EmpiricalFisher,
    Curvature::McGgn {
        samples: 2,
        seed: 1,
    },
];

/// Parts, storage, precision, curvature of a run: their numbers. Counted like the digits of a number, so that as many runs as
/// there are combinations ([`COMBINATIONS`]) meet each of them once, and a few runs each of one kind.
fn kinds(run: usize, devices: usize) -> [usize; 4] {
    let sizes = [REQUESTS, NAMES.len(), devices, CURVATURES.len()];
    // No factor of any size: neighbours differ in everything.
    let mut rest = run * STRIDE % sizes.iter().product::<usize>();
    sizes.map(|size| {
        let kind = rest % size;
        rest /= size;
        kind
    })
}

/// Samples of a unit, in turn; when combinations come again, the other way round.
fn batch(run: usize) -> Option<usize> {
    [None, Some(4)][(run + run / COMBINATIONS) % 2]
}

const STRIDE: usize = 37;
/// Of two devices.
const COMBINATIONS: usize = REQUESTS * NAMES.len() * 2 * CURVATURES.len();

/// Files, parts, options: another combination with every number.
fn one(run: usize, folder: &Path, devices: &[&Device]) -> hessblock::Result<()> {
    let [parts, name, device, curvature] = kinds(run, devices.len());
    let device = devices[device];
    let digits = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/digits");
    let source = Source {
        model: digits.join("model.onnx"),
        inputs: vec![digits.join("images.npy").into()],
        targets: Some(digits.join("labels.npy")),
        samples: Some((run % 7, run % 7 + 6)),
        loss: Some("cross-entropy".into()),
        curvature: CURVATURES[curvature],
        ..Source::default()
    };
    let mut session = source.session()?.device(device.clone());
    if let Some(samples) = batch(run) {
        session = session.batch(samples);
    }
    let operator = source.operator(&session.build()?)?;
    let parts = self::parts(parts);
    let name = match NAMES[name] {
        "out.npy" if parts.len() > 1 => "out",
        "out.zarr" if cfg!(not(feature = "zarr")) => "out",
        name => name,
    };
    let output = Output::new(folder.join(name)).provenance(source.provenance(&operator)?);
    operator.parts(parts.clone())?.write(&output)?;
    let blocks = Blocks::open(output.path())?;
    assert_eq!(blocks.parts().len(), parts.len());
    for (k, part) in blocks.parts().iter().enumerate() {
        let rows = blocks.rows(k, 0..part.layout.row_count().min(3))?;
        assert!(rows.iter().all(|value| value.is_finite()));
    }
    // A few entries straight from the definition, from the files that the result names.
    let entries = VerifyOptions {
        entries: 4,
        seed: run as u64,
        ..VerifyOptions::default()
    };
    let verdict = verify(output.path(), &entries)?;
    assert!(verdict.passed, "run {run}: {verdict:?}");
    Ok(())
}

#[cfg(feature = "gpu")]
fn gpu() -> Option<Device> {
    use hessblock::internals::tensor::gpu::{Gpu, Options, adapters};
    if adapters().is_empty() {
        return None;
    }
    let gpu = Gpu::open_with(&adapter::selector(), Options::default());
    Some(Device::from(gpu.expect("the adapter opens")))
}

#[cfg(not(feature = "gpu"))]
fn gpu() -> Option<Device> {
    None
}

/// Runs in a row, on these devices in turn; what is held after the first [`WARM`], and after the last.
fn all(runs: usize, devices: &[&Device]) -> (Held, Held) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut warm = None;
    for run in 0..runs {
        let place = folder.path().join("run");
        std::fs::create_dir(&place).expect("a folder");
        one(run, &place, devices).expect("it runs");
        std::fs::remove_dir_all(&place).expect("it is removed");
        if run < WARM {
            warm = Some(Held::now());
        }
    }
    (warm.expect("one run at least"), Held::now())
}

#[test]
fn the_runs_on_the_cpu_meet_every_combination() {
    let runs = (0..ON_CPU).map(|run| (kinds(run, 2), batch(run)));
    let all: std::collections::HashSet<_> = runs.collect();
    assert_eq!(all.len(), 2 * COMBINATIONS);
    let warm: Vec<_> = (0..WARM).map(|run| kinds(run, 2)).collect();
    for (k, kinds) in [REQUESTS, NAMES.len(), 2, CURVATURES.len()]
        .into_iter()
        .enumerate()
    {
        assert!((0..kinds).all(|kind| warm.iter().any(|run| run[k] == kind)));
    }
}

#[test]
fn two_hundred_runs_leave_nothing_behind() {
    let (single, double) = (Device::cpu(Precision::F32), Device::cpu(Precision::F64));
    let (warm, end) = all(ON_CPU, &[&single, &double]);
    eprintln!("on the CPU: {warm:?}, then {end:?}");
    assert!(end.bytes <= warm.bytes + SLACK, "{warm:?}, {end:?}");
    assert_eq!((end.files, end.threads), (warm.files, warm.threads));

    let device = gpu();
    let (warm, end) = all(ON_GPU, &[device.as_ref().unwrap_or(&single)]);
    eprintln!("on one GPU: {warm:?}, then {end:?}");
    assert!(end.bytes <= warm.bytes + SLACK, "{warm:?}, {end:?}");
    assert_eq!((end.files, end.threads), (warm.files, warm.threads));

    // What a device holds goes with it.
    drop(device);
    let closed = Held::now();
    for _ in 0..ANEW {
        let device = gpu();
        all(1, &[device.as_ref().unwrap_or(&single)]);
    }
    let end = Held::now();
    eprintln!("opened anew: {closed:?}, then {end:?}");
    assert!(
        end.bytes <= closed.bytes + SLACK_ANEW,
        "{closed:?}, {end:?}"
    );
    assert_eq!((end.files, end.threads), (closed.files, closed.threads));
}
