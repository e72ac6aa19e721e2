//! A plan, its run into a folder with progress, and reading a row back without loading the block.
//!
//! `cargo run --release --example to_disk`

use hessblock::forecast::Rates;
use hessblock::run::Control;
use hessblock::sink::Blocks;
use hessblock::{Device, Precision, RunOptions, Source, Target};
use std::sync::atomic::AtomicBool;

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
    let parts = session.resolve(&["layers".parse()?, "layer=dense1,head".parse()?])?;
    let options = RunOptions {
        host_memory: Some(256 << 20),
        ..RunOptions::default()
    };
    let plan = session.plan(parts, &device, options)?;
    println!("{}", plan.describe(4));
    let mut target = Target::new(std::env::temp_dir().join("hessblock-example"), true)?;
    let rates = Rates::of(&device, &Control::none())?;
    println!(
        "{}\n",
        session.forecast(
            &plan,
            &device,
            &rates,
            target.left_of(&plan)?,
            Some(&target.path)
        )?
    );

    target.provenance = source.provenance(&session, &device)?;
    // Another thread may set this to stop the run; nothing is then left under the final name.
    let cancel = AtomicBool::new(false);
    let progress =
        |p: hessblock::run::Progress| eprint!("\r{:>3} %", p.done * 100 / p.total.max(1));
    let report = session.run_to_files(
        &device,
        &plan,
        &target,
        &Control {
            progress: &progress,
            cancel: &cancel,
        },
    )?;
    eprintln!();
    println!("{} bytes in {:.2} s", report.bytes, report.seconds);

    let blocks = Blocks::open(&target.path)?;
    let part = blocks.find("layer=dense1,head")?;
    let row = blocks.rows(part, 300..301)?;
    println!(
        "row 300 of {} begins with {:.2e}",
        target.path.display(),
        row.slice(ndarray::s![0, ..4])
    );
    Ok(())
}
