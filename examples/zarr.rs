//! The whole Hessian of a network as a Zarr of compressed chunks, and a layer's block read back out of it.
//!
//! `cargo run --release --example zarr`

use hessblock::results::Blocks;
use hessblock::{Device, Output, Part, Precision, Source};

fn main() -> hessblock::Result<()> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/digits");
    let source = Source {
        model: folder.join("model.onnx"),
        inputs: vec![folder.join("images.npy").into()],
        targets: Some(folder.join("labels.npy")),
        samples: Some((0, 500)),
        loss: Some("cross-entropy".into()),
        ..Source::default()
    };
    let session = source.session()?.device(Device::cpu(Precision::F32));
    let request = session.build()?.ggn().parts([Part::Full, Part::Diagonal])?;
    let output = Output::zarr(std::env::temp_dir().join("hessblock-example.zarr"))
        .overwrite(true)
        .compress(3)
        .upper_triangle(true);
    // Tiles are the chunks.
    request.tile_rows(512).write(&output)?;

    // What is below the diagonal comes from above it; only the chunks that are touched are read.
    let blocks = Blocks::open(output.path())?;
    let view = blocks.between("head", "dense2")?;
    let block = view.to_array()?;
    println!(
        "{}: rows {:?}, columns {:?} of {:?}, norm {:.3e}",
        output.path().display(),
        view.flat_rows(),
        view.flat_columns(),
        view.part(),
        block.iter().map(|v| v * v).sum::<f64>().sqrt()
    );
    for band in blocks.layer("dense1")?.bands(256) {
        let band_values = band.read::<f32>()?;
        let largest = band_values.fold(0.0_f32, |most, v| most.max(v.abs()));
        println!("rows {:?}: largest entry {largest:.3e}", band.flat_rows());
    }
    Ok(())
}
