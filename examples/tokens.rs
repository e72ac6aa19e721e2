//! A network of tokens with a loss at every position: how curved the loss is in each layer's parameters, by the
//! exact diagonal of G.
//!
//! `cargo run --release --example tokens`

use hessblock::import::data::{ArraySource, Dataset};
use hessblock::import::onnx::{self, OnnxOptions};
use hessblock::loss::{CrossEntropy, Reduction};
use hessblock::{Device, Part, Precision, Session};
use ndarray::s;

fn main() -> hessblock::Result<()> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/text");
    let network = onnx::load(folder.join("model.onnx"), &OnnxOptions::default())?;
    // Where there are several inputs, each has its `with_input`; integers are never scaled.
    let data = Dataset::new()
        .with_input("tokens", ArraySource::open(folder.join("tokens.npy"))?)
        .with_targets(folder.join("targets.npy"))?
        .with_samples(0..40)?;
    // The outputs are [samples, positions, classes], and targets [samples, positions].
    let loss = CrossEntropy::new(Reduction::Mean).class_axis(-1);
    let session = Session::new(network, data, Box::new(loss))?;

    let (device, _) = Device::open("auto", Precision::F32)?;
    let parts = session.blocks(&device, &[Part::Diagonal])?;
    let diagonal = &parts[0].1; // [parameters, 1]
    let network = session.network();
    println!(
        "{:<15} {:>4}  {:>10}  per parameter",
        "layer", "p", "trace of G"
    );
    for layer in network.layers() {
        let ranges = layer
            .parameters
            .iter()
            .map(|&k| network.parameters[k].range());
        let (count, trace) = ranges.fold((0, 0.0), |(count, trace), range| {
            (
                count + range.len(),
                trace + diagonal.slice(s![range, 0]).sum(),
            )
        });
        println!(
            "{:<15} {count:>4}  {trace:>10.4}  {:.2e}",
            layer.name,
            trace / count as f64
        );
    }
    Ok(())
}
