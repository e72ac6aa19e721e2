//! A plan, its run into a folder with progress, and reading a row back without loading the block.
//!
//! `cargo run --release --example to_disk`

use hessblock::results::Blocks;
use hessblock::{Device, Memory, Output, Part, Precision, Source};

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
    let session = source
        .session()?
        .device(Device::cpu(Precision::F32))
        .memory(Memory::default().host("256MiB".parse()?))
        .build()?;
    let g = source.operator(&session)?;
    let request = g.parts([Part::Layers, Part::between("dense1", "head")])?;
    let output = Output::folder(std::env::temp_dir().join("hessblock-example"))
        .overwrite(true)
        .provenance(source.provenance(&g)?);

    let plan = request.plan_for(&output)?;
    println!("{plan}");
    println!("{}\n", plan.forecast()?);

    let request = request.progress(|p| eprint!("\r{:>3} %", p.done * 100 / p.total.max(1)));
    let report = request.write(&output)?;
    eprintln!();
    println!("{} bytes in {:.2} s", report.bytes, report.seconds);

    let blocks = Blocks::open(output.path())?;
    let part = blocks.find("layer=dense1,head")?;
    let row = blocks.rows(part, 300..301)?;
    println!(
        "row 300 of {} begins with {:.2e}",
        output.path().display(),
        row.slice(ndarray::s![0, ..4])
    );
    Ok(())
}
