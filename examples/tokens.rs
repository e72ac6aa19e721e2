//! A network of tokens with a loss at every position: how curved the loss is in each layer's parameters, by the
//! exact diagonal of G.
//!
//! `cargo run --release --example tokens`

use hessblock::data::{ArraySource, Dataset};
use hessblock::loss::CrossEntropy;
use hessblock::{Device, Session, onnx};

fn main() -> hessblock::Result<()> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/text");
    // Where there are several inputs, each has its `with_input`; integers are never scaled.
    let data = Dataset::new()
        .with_input("tokens", ArraySource::open(folder.join("tokens.npy"))?)
        .with_targets(folder.join("targets.npy"))?
        .with_samples(0..40)?;
    let session = Session::builder(onnx::load(folder.join("model.onnx"), &Default::default())?)
        .data(data)
        // The outputs are [samples, positions, classes], and targets [samples, positions].
        .loss(CrossEntropy::mean().class_axis(-1))
        .device(Device::auto()?)
        .build()?;

    println!(
        "{:<15} {:>4}  {:>10}  per parameter",
        "layer", "p", "trace of G"
    );
    for trace in session.ggn().traces()? {
        println!(
            "{:<15} {:>4}  {:>10.4}  {:.2e}",
            trace.layer.as_deref().unwrap_or("all"),
            trace.parameters,
            trace.value,
            trace.value / trace.parameters as f64
        );
    }
    Ok(())
}
