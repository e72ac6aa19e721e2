//! What GPUs there are and what was found out about them, and a block whose tiles they share.
//!
//! `cargo run --release --example devices` takes every hardware adapter; `-- 0,0` opens the first adapter twice.
#![cfg_attr(not(feature = "gpu"), allow(unused))]

use hessblock::run::Control;
use hessblock::{Device, Precision, RunOptions, Source, Target};

fn main() -> hessblock::Result<()> {
    #[cfg(feature = "gpu")]
    for adapter in hessblock::tensor::gpu::adapters() {
        let found = hessblock::tensor::gpu::stored(&adapter);
        let found = found.map_or("not used yet".into(), |f| f.to_string());
        println!("{adapter}\n   {found}");
    }
    let selector = std::env::args().nth(1).unwrap_or("all".into());
    let device = match Device::open(&selector, Precision::F32) {
        Ok((device, _)) => device,
        Err(error) => {
            println!("{error}\nrunning on the CPU");
            Device::cpu(Precision::F32)
        }
    };

    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/digits");
    let source = Source {
        model: folder.join("model.onnx"),
        inputs: vec![folder.join("images.npy").into()],
        targets: Some(folder.join("labels.npy")),
        loss: Some("cross-entropy".into()),
        ..Source::default()
    };
    let session = source.open()?;
    let parts = session.resolve(&["full".parse()?, "diag".parse()?])?;
    let plan = session.plan(parts, &device, RunOptions::default())?;
    let target = Target::new(std::env::temp_dir().join("hessblock-devices"), true)?;
    let report = session.run_to_files(&device, &plan, &target, &Control::none())?;
    println!(
        "{} tiles in {:.2} s on {}",
        report.tiles,
        report.seconds,
        device.name()
    );
    for share in &report.devices {
        println!("   {}: {} tiles", share.name, share.tiles);
    }
    if let Some(found) = report.bottleneck {
        println!(
            "   {} was busy {:.0} % of the time",
            found.stage,
            100.0 * found.busy_fraction
        );
    }
    Ok(())
}
