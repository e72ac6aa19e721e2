//! A result as people look at it: statistics by layer, a heat map, a page, and a zoom to two layers.
//!
//! `cargo run --release --example show`

use hessblock::results::Blocks;
use hessblock::show::{ShowOptions, Zoom, show};
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
    let device = Device::cpu(Precision::F32);
    let g = source.operator(&source.session()?.device(device).build()?)?;
    let out = std::env::temp_dir().join("hessblock-shown");
    let output = Output::folder(&out).overwrite(true);
    g.parts([Part::Full, Part::Diagonal])?
        .write(output.provenance(source.provenance(&g)?))?;

    let blocks = Blocks::open(&out)?;
    let name = out.display().to_string();
    let shown = show(&blocks, &name, &ShowOptions::default())?;
    println!("{}\n", shown.table());
    for block in &shown.parts[0].blocks {
        let (rows, columns) = (&block.row_layer, &block.column_layer);
        println!("‖{rows} × {columns}‖ = {:.3}", block.statistics.norm);
    }
    write(&out.with_extension("png"), &shown.drawing().png()?)?;
    write(&out.with_extension("html"), shown.html()?.as_bytes())?;

    let options = ShowOptions {
        zoom: Some(Zoom::Layer("dense2".into(), Some("head".into()))),
        size: 400,
        ..ShowOptions::default()
    };
    let zoom = show(&blocks, &name, &options)?;
    write(&out.with_extension("svg"), zoom.drawing().svg()?.as_bytes())
}

fn write(path: &std::path::Path, bytes: &[u8]) -> hessblock::Result<()> {
    std::fs::write(path, bytes).map_err(hessblock::Error::io(path))?;
    println!("{}", path.display());
    Ok(())
}
