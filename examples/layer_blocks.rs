//! The Hessian blocks of every layer of a trained network, in memory, on whatever device there is.
//!
//! `cargo run --release --example layer_blocks`

use hessblock::data::Dataset;
use hessblock::loss::CrossEntropy;
use hessblock::{Device, Part, Session, onnx};

fn main() -> hessblock::Result<()> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/digits");
    let data = Dataset::open(folder.join("images.npy"))?.with_targets(folder.join("labels.npy"))?;
    let session = Session::builder(onnx::load(folder.join("model.onnx"), &Default::default())?)
        .data(data)
        .loss(CrossEntropy::mean())
        .device(Device::auto()?)
        .build()?;

    println!("on {}", session.device());
    for block in session.ggn().parts([Part::Layers])?.to_arrays::<f64>()? {
        let (rows, columns) = block.matrix().dim();
        let trace = block.matrix().diag().sum();
        println!(
            "{:<14} {rows:>4} × {columns:<4}  trace {trace:.6}",
            block.name
        );
    }
    Ok(())
}
