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

/// Runs in all, and those after which memory, files and threads are looked at first.
const RUNS: usize = 200;
const WARM: usize = 30;
/// Every so many runs one is on the GPU, where there is one, and after so many of these it is opened anew.
const ON_GPU: usize = 5;
const ANEW: usize = 4;

/// Bytes that may be more than before: what the allocator keeps of freed memory moves by as much between runs. A run that
/// lost but the matrix of its smallest part, of 24 KiB, would have added 4 MiB.
const SLACK: u64 = 4 << 20;

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

/// The GPU of a run, opened anew now and then.
#[cfg(feature = "gpu")]
fn gpu(number: usize, open: &mut Option<Device>) -> Option<&Device> {
    use hessblock::tensor::gpu::{Gpu, Options, adapters};
    if number.is_multiple_of(ANEW) {
        *open = None;
        if !adapters().is_empty() {
            let gpu = Gpu::open_with(&adapter::selector(), Options::default());
            *open = Some(Device::Gpu(gpu.expect("the adapter opens")));
        }
    }
    open.as_ref()
}

#[cfg(not(feature = "gpu"))]
fn gpu(_: usize, _: &mut Option<Device>) -> Option<&Device> {
    let _ = ANEW;
    None
}

#[test]
fn two_hundred_runs_leave_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let processors = [Device::cpu(Precision::F32), Device::cpu(Precision::F64)];
    let mut open = None;
    let mut warm = None;
    for run in 0..RUNS {
        let on_gpu = match run % ON_GPU {
            0 => gpu(run / ON_GPU, &mut open),
            _ => None,
        };
        let device = on_gpu.unwrap_or(&processors[run / 2 % 2]);
        let place = folder.path().join("run");
        std::fs::create_dir(&place).expect("a folder");
        one(run, &place, device).expect("it runs");
        std::fs::remove_dir_all(&place).expect("it is removed");
        if run + 1 == WARM {
            open = None;
            warm = Some(Held::now());
        }
    }
    drop(open);
    let (warm, end) = (warm.expect("it was looked at"), Held::now());
    eprintln!("after {WARM} runs {warm:?}, after {RUNS} {end:?}");
    assert!(end.bytes <= warm.bytes + SLACK, "{warm:?}, {end:?}");
    assert!(end.files <= warm.files, "{warm:?}, {end:?}");
    assert!(end.threads <= warm.threads, "{warm:?}, {end:?}");
}
