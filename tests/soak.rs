//! Two hundred runs in one process, from files to files, end with the memory, the files and the threads that were there
//! after the first of them.

#[cfg(feature = "gpu")]
#[allow(dead_code)] // of which this takes the choice of an adapter
#[path = "common/gpu.rs"]
mod adapter;

use hessblock::loss::Curvature;
use hessblock::schedule::budget::anonymous_resident;
use hessblock::schedule::run::Control;
use hessblock::sink::Blocks;
use hessblock::verify::{self, verify};
use hessblock::{Device, Precision, RunOptions, Source, Target};
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

/// Parts that fit one file, and those that need a folder.
const PARTS: [&[&str]; 4] = [
    &["layer=head"],
    &["diag"],
    &["layer=head", "range=0..40,900..1000", "diag"],
    &["range=1030..1100,20..60", "layer=head"],
];

/// Files, parts, options: another combination with every number.
fn one(run: usize, folder: &Path, device: &Device) -> hessblock::Result<()> {
    let digits = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/digits");
    let curvatures = [Curvature::Ggn, Curvature::Exact, Curvature::Residual];
    let source = Source {
        model: digits.join("model.onnx"),
        inputs: vec![digits.join("images.npy").into()],
        targets: Some(digits.join("labels.npy")),
        samples: Some((run % 7, run % 7 + 6)),
        loss: Some("cross-entropy".into()),
        curvature: curvatures[run % 3],
        ..Source::default()
    };
    let options = RunOptions {
        batch: [None, Some(4)][run % 2],
        ..RunOptions::default()
    };
    let control = Control::none();
    let session = source.open_on(device, options, &control)?;
    let parts = PARTS[run % PARTS.len()].iter().map(|part| part.parse());
    let parts = parts.collect::<hessblock::Result<Vec<_>>>()?;
    // Another format is one more name.
    let name = if parts.len() == 1 { "out.npy" } else { "out" };
    let mut target = Target::new(folder.join(name), false)?;
    target.provenance = source.provenance(&session, device)?;
    let plan = session.plan(session.resolve(&parts)?, device, options)?;
    session.run_to_files(device, &plan, &target, &control)?;
    let blocks = Blocks::open(&target.path)?;
    assert_eq!(blocks.parts().len(), parts.len());
    for (k, part) in blocks.parts().iter().enumerate() {
        let rows = blocks.rows(k, 0..part.layout.row_count().min(3))?;
        assert!(rows.iter().all(|value| value.is_finite()));
    }
    // A few entries straight from the definition, from the files that the result names.
    let entries = verify::Options {
        entries: 4,
        seed: run as u64,
        ..verify::Options::default()
    };
    let verdict = verify(&target.path, &entries, &control)?;
    assert!(verdict.passed, "run {run}: {verdict:?}");
    Ok(())
}

#[cfg(feature = "gpu")]
fn gpu() -> Option<Device> {
    use hessblock::tensor::gpu::{Gpu, Options, adapters};
    if adapters().is_empty() {
        return None;
    }
    let gpu = Gpu::open_with(&adapter::selector(), Options::default());
    Some(Device::Gpu(gpu.expect("the adapter opens")))
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
        one(run, &place, devices[run / 2 % devices.len()]).expect("it runs");
        std::fs::remove_dir_all(&place).expect("it is removed");
        if run < WARM {
            warm = Some(Held::now());
        }
    }
    (warm.expect("one run at least"), Held::now())
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
