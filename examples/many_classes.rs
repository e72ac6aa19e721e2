//! Many classes: the loss factor cut to the directions that matter, and what is left of the trace.
//!
//! `cargo run --release --example many_classes`

use hessblock::data::Dataset;
use hessblock::loss::CrossEntropy;
use hessblock::network::builder::Builder;
use hessblock::{Device, Part, Precision, Session};
use ndarray::{Array1, Array2};

const SAMPLES: usize = 64;
const CLASSES: usize = 1000;

fn main() -> hessblock::Result<()> {
    let network = Builder::new(&[16])
        .linear("hidden", 64)
        .relu()
        .linear("head", CLASSES)
        .initialize(1)
        .build()?;
    // Large inputs: confident samples, whose S has few columns that matter.
    let inputs = Array2::from_shape_fn((SAMPLES, 16), |(n, i)| {
        40.0 * ((n * 37 + i * 11) as f64).sin()
    });
    let labels = Array1::from_shape_fn(SAMPLES, |n| (n * 7 % CLASSES) as i64);
    let session = Session::builder(network)
        .data(Dataset::from_arrays(inputs, labels))
        .loss(CrossEntropy::mean())
        .device(Device::cpu(Precision::F32))
        .build()?;

    let whole = session.ggn();
    let cut = session.ggn().with_rank_tolerance(0.05)?;
    if let Some(rank) = cut.rank() {
        println!(
            "{} of {} directions, {:.1} on average; the worst sample loses {:.1} % of its trace",
            rank.directions,
            rank.all_directions,
            rank.mean_directions,
            100.0 * rank.worst_share
        );
    }
    println!("trace {:.6}, cut {:.6}", whole.trace()?, cut.trace()?);

    let part = Part::layer("hidden");
    for (name, operator) in [("whole", &whole), ("cut", &cut)] {
        let start = std::time::Instant::now();
        let blocks = operator.parts([part.clone()])?.to_arrays::<f32>()?;
        let largest = blocks[0].array.fold(0.0f32, |most, v| most.max(v.abs()));
        println!(
            "{part}, {name}: {:.1} ms, largest entry {largest:.3e}",
            start.elapsed().as_secs_f64() * 1e3
        );
    }
    Ok(())
}
