//! A network of hundreds of parameters, whose pairs are tens of thousands: no list of them is made, and memory stays within the
//! budget. A binary of its own: it looks at the memory of the process.

use hessblock::import::data::Dataset;
use hessblock::loss::{CrossEntropy, Curvature, Reduction};
use hessblock::network::builder::Builder;
use hessblock::plan::PairPlan;
use hessblock::plan::budget::anonymous_resident;
use hessblock::run::Control;
use hessblock::sink::Blocks;
use hessblock::{Device, Precision, RunOptions, Session, Target};
use ndarray::{Array1, Array2};

/// Layers of the network, of two parameters each.
const LAYERS: usize = 200;

/// The budget of the run in bytes. A list of all pairs of parameters alone took 190 MiB.
const BUDGET: u64 = 64 << 20;

/// Bytes for stacks of threads and for sizes rounded up, which the plan does not count.
const BEYOND: u64 = 8 << 20;

fn session(curvature: Curvature) -> Session {
    let mut builder = Builder::new(&[2]);
    for k in 1..LAYERS {
        builder = builder.linear(&format!("l{k}"), 2).tanh();
    }
    let network = builder.linear("head", 3).initialize(1).build();
    let inputs = Array2::from_shape_fn((4, 2), |(n, i)| ((3 * n + 5 * i) % 7) as f64 / 3.0 - 1.0);
    let data = Dataset::from_arrays(inputs, Array1::from_vec(vec![0i64, 2, 1, 2]));
    let loss = Box::new(CrossEntropy::mean());
    let session = Session::builder(network.expect("a network"))
        .data(data)
        .boxed_loss(loss)
        .device(Device::cpu(Precision::F64))
        .build()
        .expect("a session");
    session.with_curvature(curvature).expect("a curvature")
}

/// Makes the whole matrix within the budget, and gives it.
fn whole(curvature: Curvature) -> Array2<f64> {
    let session = session(curvature);
    let device = Device::cpu(Precision::F64);
    let options = RunOptions {
        host_memory: Some(BUDGET),
        ..RunOptions::default()
    };
    let parts = resolve(session.network(), &[Part::Full]);
    let before = anonymous_resident();
    let plan = session
        .with_device(device.clone())
        .ggn()
        .plan_with(parts.expect("parts"), options)
        .expect("a plan within the budget");
    assert!(plan.host_bytes <= BUDGET);
    assert!(
        plan.pairs.len() < 10 && plan.pairs.iter().all(|pair| pair.rows == PairPlan::ALL),
        "80,000 pairs are summed up: {:?}",
        plan.pairs
    );
    let folder = tempfile::tempdir().expect("a temporary folder");
    let target = Target::new(folder.path().join("full.npy"), false).expect("a target");
    let report = session
        .run_to_files(&device, &plan, &target, &Control::none())
        .expect("a run");
    if let (Some(before), Some(peak)) = (before, report.peak_anonymous_bytes) {
        let taken = peak.saturating_sub(before);
        assert!(taken <= BUDGET + BEYOND, "{} MiB were taken", taken >> 20);
    }
    let blocks = Blocks::open(&target.path).expect("a result");
    let p = session.network().parameter_count();
    blocks.block(0, 0..p, 0..p).expect("a matrix")
}

#[test]
fn pairs_of_parameters_are_made_tile_by_tile_within_the_budget() {
    for curvature in [Curvature::Ggn, Curvature::Exact] {
        let found = whole(curvature);
        // Blocks of layers far apart, and of one with itself, by themselves.
        let session = session(curvature);
        let texts = ["layer=l1,head", "layer=l7", "layer=l150,l3"];
        let parts = texts.map(|text| text.parse().expect("a part"));
        let expected = session
            .blocks(&Device::cpu(Precision::F64), &parts)
            .expect("blocks");
        let most = found.iter().fold(0.0f64, |most, v| most.max(v.abs()));
        for (layout, block) in expected {
            let flat = |ranges: &[std::ops::Range<usize>]| -> Vec<usize> {
                ranges.iter().cloned().flatten().collect()
            };
            let rows = flat(&layout.rows);
            let columns = layout.columns.as_deref().map_or(rows.clone(), flat);
            for ((i, j), value) in block.indexed_iter() {
                let off = (value - found[(rows[i], columns[j])]).abs();
                assert!(off <= 1e-12 * most, "{}: {off:e}", layout.name);
            }
        }
    }
}
