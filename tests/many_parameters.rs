//! A network of hundreds of parameters, whose pairs are tens of thousands: no list of them is made, and memory stays within the
//! budget. A binary of its own: it looks at the memory of the process.

use hessblock::data::Dataset;
use hessblock::internals::bytes::Bytes;
use hessblock::internals::plan::PairPlan;
use hessblock::internals::plan::budget::anonymous_resident;
use hessblock::internals::sink::Blocks;
use hessblock::loss::CrossEntropy;
use hessblock::network::builder::Builder;
use hessblock::{Curvature, Device, Memory, Operator, Output, Part, Precision, Session};
use ndarray::{Array1, Array2};

/// Layers of the network, of two parameters each.
const LAYERS: usize = 200;

/// The budget of the run in bytes. A list of all pairs of parameters alone took 190 MiB.
const BUDGET: u64 = 64 << 20;

/// Bytes for stacks of threads and for sizes rounded up, which the plan does not count.
const BEYOND: u64 = 8 << 20;

fn operator(curvature: Curvature, memory: Memory) -> Operator {
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
        .memory(memory)
        .build()
        .expect("a session");
    session.operator(curvature)
}

/// Makes the whole matrix within the budget, and gives it.
fn whole(curvature: Curvature) -> Array2<f64> {
    let operator = operator(curvature, Memory::default().host(Bytes(BUDGET.into())));
    let request = operator.parts([Part::Full]).expect("parts");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = Output::npy(folder.path().join("full.npy"));
    let before = anonymous_resident();
    let plan = request.plan_for(&output).expect("a plan within the budget");
    let plan = plan.tiles();
    assert!(plan.host_bytes <= BUDGET);
    assert!(
        plan.pairs.len() < 10 && plan.pairs.iter().all(|pair| pair.rows == PairPlan::ALL),
        "80,000 pairs are summed up: {:?}",
        plan.pairs
    );
    let report = request.write(&output).expect("a run");
    if let (Some(before), Some(peak)) = (before, report.peak_anonymous_bytes) {
        let taken = peak.saturating_sub(before);
        assert!(taken <= BUDGET + BEYOND, "{} MiB were taken", taken >> 20);
    }
    let blocks = Blocks::open(output.path()).expect("a result");
    let p = operator.size();
    blocks.block(0, 0..p, 0..p).expect("a matrix")
}

#[test]
fn pairs_of_parameters_are_made_tile_by_tile_within_the_budget() {
    for curvature in [Curvature::Ggn, Curvature::Exact] {
        let found = whole(curvature);
        // Blocks of layers far apart, and of one with itself, by themselves.
        let parts = [
            Part::between("l1", "head"),
            Part::layer("l7"),
            Part::between("l150", "l3"),
        ];
        let request = operator(curvature, Memory::default()).parts(parts);
        let request = request.expect("parts");
        let expected = request.to_arrays::<f64>().expect("blocks");
        let most = found.iter().fold(0.0f64, |most, v| most.max(v.abs()));
        for part in expected {
            let flat = |ranges: &[std::ops::Range<usize>]| -> Vec<usize> {
                ranges.iter().cloned().flatten().collect()
            };
            let rows = flat(&part.rows);
            let columns = part.columns.as_deref().map_or(rows.clone(), flat);
            for ((i, j), value) in part.matrix().indexed_iter() {
                let off = (value - found[(rows[i], columns[j])]).abs();
                assert!(off <= 1e-12 * most, "{}: {off:e}", part.name);
            }
        }
    }
}
