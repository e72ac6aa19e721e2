//! The whole Hessian of a network as a Zarr of compressed chunks, and a layer's block read back out of it.
//!
//! `cargo run --release --example zarr`

use hessblock::plan::tiles::Tiling;
use hessblock::run::Control;
use hessblock::sink::{Blocks, FilesOptions, StorageOptions};
use hessblock::{Device, Precision, RunOptions, Source, Target};

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
    let session = source.open()?;
    let device = Device::cpu(Precision::F32);
    let storage = StorageOptions {
        compression: Some(3),
        triangle: true,
        ..StorageOptions::default()
    };
    let options = FilesOptions {
        force: true,
        storage,
        ..FilesOptions::default()
    };
    let target =
        Target::with_options(std::env::temp_dir().join("hessblock-example.zarr"), options)?;
    let tiling = Tiling {
        side: 512,
        ..Tiling::default()
    };
    // Tiles are the chunks.
    let run = target.run_options(RunOptions {
        tiling,
        ..RunOptions::default()
    })?;
    let plan = session.plan(
        session.resolve(&["full".parse()?, "diag".parse()?])?,
        &device,
        run,
    )?;
    session.run_to_files(&device, &plan, &target, &Control::none())?;

    // What is below the diagonal comes from above it; only the chunks that are touched are read.
    let blocks = Blocks::open(&target.path)?;
    let view = blocks.between("head", "dense2")?;
    let block = view.to_array()?;
    println!(
        "{}: rows {:?}, columns {:?} of {:?}, norm {:.3e}",
        target.path.display(),
        view.flat_rows(),
        view.flat_columns(),
        view.part(),
        block.iter().map(|v| v * v).sum::<f64>().sqrt()
    );
    for band in blocks.layer("dense1")?.bands(256) {
        let largest = band
            .read::<f32>()?
            .iter()
            .fold(0.0_f32, |most, v| most.max(v.abs()));
        println!("rows {:?}: largest entry {largest:.3e}", band.flat_rows());
    }
    Ok(())
}
