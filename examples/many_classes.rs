//! Many classes: the loss factor cut to the directions that matter, and what is left of the trace; two runs into the same
//! memory.
//!
//! `cargo run --release --example many_classes`

use hessblock::import::data::Dataset;
use hessblock::loss::{CrossEntropy, Reduction};
use hessblock::network::builder::Builder;
use hessblock::plan::Limits;
use hessblock::plan::tiles::Grid;
use hessblock::run::Control;
use hessblock::sink::{Memory, Sink};
use hessblock::tensor::cpu::Cpu;
use hessblock::{Device, Precision, RunOptions, Session};
use ndarray::{Array1, Array2};

const SAMPLES: usize = 64;
const CLASSES: usize = 1000;

fn session() -> hessblock::Result<Session> {
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
    let data = Dataset::from_arrays(inputs, labels);
    Session::new(network, data, Box::new(CrossEntropy::new(Reduction::Mean)))
}

fn main() -> hessblock::Result<()> {
    let device = Device::cpu(Precision::F32);
    let (options, control) = (RunOptions::default(), Control::none());
    let whole = session()?;
    let cut = session()?.with_rank_tolerance(0.05, &device, options, &control)?;
    if let Some(rank) = cut.rank() {
        println!(
            "{} of {} directions, {:.1} on average; the worst sample loses {:.1} % of its trace",
            rank.directions,
            rank.all_directions,
            rank.mean_directions,
            100.0 * rank.worst_share
        );
    }
    let trace = |session: &Session| -> hessblock::Result<f64> {
        let diagonal = session.diagonal(&device, options, &control)?;
        Ok(diagonal.iter().sum())
    };
    let (all, left) = (trace(&whole)?, trace(&cut)?);
    println!("trace {all:.6}, cut {left:.6}");

    // A block into memory, and again into the same memory, whose pages are there by then.
    let cpu = Cpu::<f32>::new();
    let limits = Limits {
        device: u64::MAX,
        held: 0,
        sharing: 1,
        host: u64::MAX,
        tensor: u64::MAX,
        unified: true,
    };
    let parts = cut.resolve(&["layer=hidden".parse()?])?;
    let plan = cut.plan_for(parts, 4, limits, None, Grid::Whole)?;
    let mut memory = Memory::new();
    for turn in 1..=2 {
        let report = cut.run_on(&cpu, &plan, &mut memory, &control)?;
        Sink::<f32>::finish(&mut memory)?;
        let largest = memory.look(0, |block| block.iter().fold(0.0f32, |m, x| m.max(x.abs())))?;
        println!(
            "turn {turn}: {:.1} ms, largest entry {largest:.3e}",
            report.seconds * 1e3
        );
    }
    Ok(())
}
