//! LeNet-5 on 28 × 28 images: layer blocks to disk, the larger of 394 MiB, within a budget of 256 MiB.

#[path = "common/lenet.rs"]
mod lenet;

use hessblock::data::{ArraySource, Dataset, Preprocess};
use hessblock::internals::bytes::Bytes;
use hessblock::internals::files::npy::write_header;
use hessblock::internals::plan::budget::anonymous_resident;
use hessblock::internals::sink::Blocks;
use hessblock::loss::CrossEntropy;
use hessblock::{Device, Memory, Output, Part, Precision, Session};
use std::path::{Path, PathBuf};

const SAMPLES: usize = 64;
const BUDGET: u64 = 256 << 20;
/// What the process may take beyond what it had: the budget, and as much again for the allocator and rayon.
const ALLOWED: u64 = 512 << 20;

/// Runs two layer blocks to disk within the budget and checks memory, and entries by the definition.
fn layer_blocks_keep_to_the_budget(data: Dataset) {
    let session = Session::builder(lenet::lenet5())
        .data(data)
        .loss(CrossEntropy::mean())
        .device(Device::cpu(Precision::F32))
        .memory(Memory::default().host(Bytes(BUDGET.into())))
        .build()
        .expect("a session");
    let g = session.ggn();
    let request = g.parts([Part::layer("conv2"), Part::layer("dense2")]);
    let request = request.expect("parts");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = Output::folder(folder.path().join("out"));
    let plan = request.plan_for(&output).expect("a plan within the budget");
    assert!(plan.device_bytes() <= BUDGET && plan.host_bytes() <= BUDGET);
    assert!(
        plan.tiles().tiles.len() > 2,
        "one tile for each block shows nothing"
    );
    let before = anonymous_resident();
    let report = request.write(&output).expect("a run");
    if let (Some(before), Some(peak)) = (before, report.peak_anonymous_bytes) {
        let taken = peak.saturating_sub(before);
        assert!(
            taken < ALLOWED,
            "{} MiB were taken beyond the {} MiB before",
            taken >> 20,
            before >> 20
        );
    }
    let blocks = Blocks::open(output.path()).expect("a result");
    for (k, count) in [2416, 10_164].into_iter().enumerate() {
        let layout = &blocks.parts()[k].layout;
        assert_eq!(layout.shape(), [count, count]);
        let flat = layout.rows[0].start;
        // Corners, and pairs in different tiles.
        let places = [
            (0, 0),
            (0, count - 1),
            (count - 1, 3),
            (count / 2, count / 3),
        ];
        let pairs: Vec<(usize, usize)> = places
            .iter()
            .flat_map(|&(i, j)| [(i, j), (i, i), (j, j)])
            .map(|(i, j)| (flat + i, flat + j))
            .collect();
        let expected = g.entries(&pairs).expect("entries by the definition");
        for ((i, j), values) in places.into_iter().zip(expected.chunks_exact(3)) {
            let found = blocks.entry(k, i, j).expect("an entry");
            let scale = (values[1] * values[2]).sqrt();
            assert!(
                (found - values[0]).abs() <= 1e-5 * scale,
                "{}: entry ({i}, {j}) is {found}, not {}",
                layout.name,
                values[0]
            );
        }
    }
}

/// Two runs at a time would each see the other's memory.
static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

#[test]
fn layer_blocks_of_lenet_keep_to_the_budget() {
    let _alone = ALONE.lock();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut bytes = write_header("|u1", &[SAMPLES, 28, 28]);
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    bytes.extend((0..SAMPLES * 784).map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 56) as u8
    }));
    let images = folder.path().join("images.npy");
    std::fs::write(&images, bytes).expect("the folder takes a file");
    let mut bytes = write_header("|u1", &[SAMPLES]);
    bytes.extend((0..SAMPLES).map(|k| (k * 7 % 10) as u8));
    let labels = folder.path().join("labels.npy");
    std::fs::write(&labels, bytes).expect("the folder takes a file");
    layer_blocks_keep_to_the_budget(open(&images, &labels));
}

#[test]
fn layer_blocks_on_fashion_mnist_keep_to_the_budget() {
    let _alone = ALONE.lock();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let places = [
        PathBuf::from("/work/shared/data/fashion-mnist-900"),
        root.join("../shared/data/fashion-mnist-900"),
    ];
    let Some(folder) = places.into_iter().find(|place| place.is_dir()) else {
        eprintln!("skipped: no fashion-mnist-900 here");
        return;
    };
    let images = folder.join("train-images-idx3-ubyte.gz");
    assert!(
        !ArraySource::open(&images)
            .expect("images")
            .shape()
            .is_empty()
    );
    let data = open(&images, &folder.join("train-labels-idx1-ubyte.gz"));
    layer_blocks_keep_to_the_budget(data.with_samples(0..SAMPLES).expect("900 images"));
}

fn open(images: &Path, labels: &Path) -> Dataset {
    Dataset::open(images)
        .and_then(|data| data.with_targets(labels))
        .expect("images and labels")
        .with_preprocess(Preprocess {
            scale: 1.0 / 255.0,
            ..Preprocess::default()
        })
}
