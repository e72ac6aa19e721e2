//! The Hessian blocks of every layer of a trained network, in memory, on whatever device there is.
//!
//! `cargo run --release --example layer_blocks`

use hessblock::import::data::Dataset;
use hessblock::import::onnx::{self, OnnxOptions};
use hessblock::loss::{CrossEntropy, Reduction};
use hessblock::{Device, Part, Precision, Session};

fn main() -> hessblock::Result<()> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/digits");
    let network = onnx::load(folder.join("model.onnx"), &OnnxOptions::default())?;
    let data = Dataset::open(folder.join("images.npy"))?.with_targets(folder.join("labels.npy"))?;
    let session = Session::new(network, data, Box::new(CrossEntropy::new(Reduction::Mean)))?;

    let (device, note) = Device::open("auto", Precision::F32)?;
    println!(
        "on {}{}",
        device.name(),
        note.map_or(String::new(), |n| format!(": {n}"))
    );
    for (layout, block) in session.blocks(&device, &[Part::Layers])? {
        let trace = block.diag().sum();
        println!(
            "{:<14} {:>4} × {:<4}  trace {trace:.6}",
            layout.name,
            block.nrows(),
            block.ncols()
        );
    }
    Ok(())
}
