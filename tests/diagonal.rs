//! The diagonal in the same memory however many samples, classes and channels there are.

use hessblock::data::{ArraySource, Dataset};
use hessblock::internals::control::Control;
use hessblock::internals::plan::RunOptions;
use hessblock::internals::plan::request::resolve;
use hessblock::internals::plan::tiles::Grid;
use hessblock::internals::plan::{Limits, Plan};
use hessblock::internals::sink::Memory;
use hessblock::internals::tensor::cpu::Cpu;
use hessblock::loss::CrossEntropy;
use hessblock::network::builder::{Builder, Window2d};
use hessblock::{Device, Part, Precision, Session};
use ndarray::{ArrayD, IxDyn};

/// A depthwise and a pointwise convolution, a grouped one, and a head of many classes.
fn session(samples: usize, classes: usize) -> Session {
    let network = Builder::new(&[8, 16, 16])
        .conv2d("depthwise", 8, Window2d::new(3).padding(1).groups(8))
        .tanh()
        .conv2d("pointwise", 16, Window2d::new(1))
        .tanh()
        .conv2d("grouped", 16, Window2d::new(3).stride(2).groups(4))
        .tanh()
        .global_avg_pool2d()
        .flatten()
        .linear("head", classes)
        .initialize(1)
        .build()
        .expect("a network");
    let count = samples * 8 * 256;
    let values = (0..count).map(|k| ((k * 37 % 101) as f64 - 50.0) / 25.0);
    let images = ArrayD::from_shape_vec(IxDyn(&[samples, 8, 16, 16]), values.collect());
    let labels = (0..samples as i64).collect();
    let labels = ArrayD::from_shape_vec(IxDyn(&[samples]), labels);
    let data = Dataset::from_arrays(
        ArraySource::from(images.expect("the count fits")),
        ArraySource::from(labels.expect("the count fits")),
    );
    let loss = Box::new(CrossEntropy::mean());
    Session::builder(network)
        .data(data)
        .boxed_loss(loss)
        .device(Device::cpu(Precision::F64))
        .build()
        .expect("a session")
}

fn plan(session: &Session) -> Plan {
    let parts = resolve(session.network(), &[Part::Diagonal]).expect("the diagonal");
    let limits = Limits::ENDLESS;
    session
        .ggn()
        .plan_within(
            parts,
            Precision::F64,
            limits,
            RunOptions::default(),
            Grid::Panels,
        )
        .expect("a plan")
}

/// The diagonal and the most anonymous memory seen meanwhile.
fn run(session: &Session) -> (Vec<f64>, Option<u64>) {
    let mut sink = Memory::new();
    let report = session.ggn().run_on(
        &[&Cpu::<f64>::new()],
        &plan(session),
        &mut sink,
        &Control::none(),
    );
    let peak = report.expect("a run").peak_anonymous_bytes;
    let values = sink.into_parts().remove(0).1;
    (values.into_iter().collect(), peak)
}

#[test]
fn planned_memory_does_not_grow_with_samples_nor_with_samples_times_classes() {
    const MIB: u64 = 1 << 20;
    let bytes = |samples, classes| plan(&session(samples, classes)).host_bytes;
    let (few, many) = (bytes(4, 1000), bytes(400, 1000));
    assert_eq!(few, many);
    // V of 400 samples would take 400·1000·p numbers: 57 GiB.
    let p = session(4, 1000).network().parameter_count() as u64;
    assert!(400 * 1000 * p * 8 > 50_000 * MIB);
    assert!(many < 300 * MIB, "{} MiB", many / MIB);
    // Four times the classes: a pass takes no more directions, only the head's parameters and S are larger.
    let wide = bytes(400, 4000);
    assert!(wide < 2 * many + 100 * MIB, "{} MiB", wide / MIB);
}

#[test]
fn the_diagonal_in_turns_of_directions_is_that_of_the_definition_in_memory_that_stays() {
    let small = session(2, 1500);
    let planned = plan(&small);
    assert!(planned.unit == 1 && planned.chunk < 1500, "several turns");
    let (diagonal, peak) = run(&small);
    let p = diagonal.len();
    let places: Vec<usize> = (0..p).step_by(p / 40).collect();
    let pairs: Vec<(usize, usize)> = places.iter().map(|&i| (i, i)).collect();
    let entries = small.ggn().entries(&pairs).expect("entries");
    let largest = diagonal.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    for (i, expected) in places.into_iter().zip(entries) {
        let off = (diagonal[i] - expected).abs();
        assert!(off <= 1e-12 * largest, "{i}: {} {expected}", diagonal[i]);
    }
    // An allocator keeps what earlier runs touched: the second and third run of the same work settle that.
    let settled = (0..2).filter_map(|_| run(&small).1).chain(peak).max();
    let (_, larger) = run(&session(32, 1500));
    if let Some((settled, larger)) = settled.zip(larger) {
        let most = 1.2 * settled as f64 + 3e7;
        assert!(larger as f64 <= most, "{settled} {larger}");
    }
}
