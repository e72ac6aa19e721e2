//! LeNet-5 on 28 × 28 images: blocks in memory within a budget of 256 MiB beside the result, as they are on disk.
//!
//! It is alone in its process: it looks at the memory of all of it.

#[path = "common/lenet.rs"]
mod lenet;

use hessblock::data::{ArraySource, Dataset};
use hessblock::internals::plan::budget::anonymous_resident;
use hessblock::loss::CrossEntropy;
use hessblock::{Bytes, Device, Error, Memory, Operator, Output, Part, Precision, Remedy, Session};
use ndarray::{Array1, ArrayD, IxDyn};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// With so many, the factors of conv2's block alone take more than the budget.
const SAMPLES: usize = 3000;
/// What the work may take beside the result.
const BUDGET: u64 = 256 << 20;
/// What the allocator and the threads take besides.
const SLACK: u64 = 64 << 20;

fn session() -> Session {
    let pixels = (0..SAMPLES * 784).map(|k| ((k * 37 % 101) as f32 - 50.0) / 50.0);
    let images = ArrayD::from_shape_vec(IxDyn(&[SAMPLES, 1, 28, 28]), pixels.collect());
    let labels = Array1::from_iter((0..SAMPLES as i64).map(|n| n % 10));
    let data = Dataset::from_arrays(
        ArraySource::from(images.expect("the count fits")),
        ArraySource::from(labels.into_dyn()),
    );
    Session::builder(lenet::lenet5())
        .data(data)
        .loss(CrossEntropy::mean())
        .device(Device::cpu(Precision::F32))
        .build()
        .expect("a session")
}

/// The rows of conv2 against a few of its columns: all factors of the layer are needed, and little is made of them.
fn parts() -> [Part; 1] {
    [Part::range(156..2572, 156..256)]
}

/// A block larger than the budget.
fn large() -> [Part; 1] {
    [Part::layer("dense2")]
}

/// What the process has more than before, at most, while the work goes on.
fn growth<T>(operator: &Operator, work: impl FnOnce(Operator) -> T) -> (T, Option<u64>) {
    let before = anonymous_resident();
    let most = Arc::new(AtomicU64::new(0));
    let seen = most.clone();
    let watched = operator.clone().progress(move |_| {
        seen.fetch_max(anonymous_resident().unwrap_or(0), Ordering::Relaxed);
    });
    let done = work(watched);
    // The result is there now, whole.
    most.fetch_max(anonymous_resident().unwrap_or(0), Ordering::Relaxed);
    let grown = before.map(|before| most.load(Ordering::Relaxed).saturating_sub(before));
    (done, grown)
}

#[test]
fn blocks_in_memory_keep_to_the_budget_as_those_on_disk_do() {
    let session = session();
    let request = session.ggn().parts(parts()).expect("parts");
    let result = u64::try_from(request.bytes().0).expect("a small result");

    let host = |bytes: u64| Memory::default().host(Bytes(bytes.into()));
    let operator = session.with_memory(host(BUDGET + result)).ggn();
    let plan = operator
        .parts(parts())
        .expect("parts")
        .plan()
        .expect("a plan");
    assert!(plan.host_bytes() <= BUDGET);
    let (blocks, grown) = growth(&operator, |operator| {
        let request = operator.parts(parts())?;
        request.to_arrays::<f32>()
    });
    let blocks = blocks.expect("blocks");
    if let Some(grown) = grown {
        assert!(grown >= result, "{grown} is less than the result");
        assert!(
            grown <= result + BUDGET + SLACK,
            "{grown}, of which {result}"
        );
    }

    // The same numbers from disk, within the budget without the result.
    let folder = tempfile::tempdir().expect("a folder");
    let output = Output::folder(folder.path().join("blocks"));
    let operator = session.with_memory(host(BUDGET)).ggn();
    let (report, grown) = growth(&operator, |operator| {
        let request = operator.parts(parts())?;
        request.write(&output)
    });
    report.expect("a result");
    if let Some(grown) = grown {
        assert!(grown <= BUDGET + SLACK, "{grown}");
    }
    let written = hessblock::results::Blocks::open(output.path()).expect("the result");
    for (k, block) in blocks.iter().enumerate() {
        let first = written.rows(k, 0..3).expect("rows");
        let own = block.matrix().slice(ndarray::s![0..3, ..]).mapv(f64::from);
        let scale = own.iter().fold(0.0f64, |most, v| most.max(v.abs()));
        let off = (&first.mapv(f64::from) - &own).mapv(f64::abs);
        assert!(off.iter().all(|&v| v <= 1e-5 * scale), "{}", block.name);
    }
    drop(blocks);

    // A result that has no room is refused before any work.
    let request = session.ggn().parts(large()).expect("parts");
    let result = u64::try_from(request.bytes().0).expect("a small result");
    assert!(result > BUDGET);
    let small = session.with_memory(host(BUDGET)).ggn();
    let request = small.parts(large()).expect("parts");
    let Err(Error::Budget {
        needed,
        available,
        remedies,
        ..
    }) = request.to_arrays::<f32>()
    else {
        panic!("{result} bytes do not fit {BUDGET}")
    };
    assert!(needed >= result && available == BUDGET);
    assert!(remedies.contains(&Remedy::WriteToFiles));
    // Another precision than the device's is held beside it.
    let operator = session.with_memory(host(BUDGET + result)).ggn();
    let request = operator.parts(large()).expect("parts");
    assert!(request.plan().is_ok());
    assert!(matches!(
        request.to_arrays::<f64>(),
        Err(Error::Budget { .. })
    ));
}
