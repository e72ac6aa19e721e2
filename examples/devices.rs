//! A block whose tiles several GPUs share. `hessblock info` lists the GPUs of this machine.
//!
//! `cargo run --release --example devices` takes every hardware adapter; `-- 0,0` opens the first adapter twice.

use hessblock::{Device, Output, Part, Precision, Source};

fn main() -> hessblock::Result<()> {
    let selector = std::env::args().nth(1).unwrap_or("all".into());
    let device = Device::open(&selector, Precision::F32).unwrap_or_else(|error| {
        println!("{error}\nrunning on the CPU");
        Device::cpu(Precision::F32)
    });
    if let Some(note) = device.note() {
        println!("{note}");
    }

    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/digits");
    let source = Source {
        model: folder.join("model.onnx"),
        inputs: vec![folder.join("images.npy").into()],
        targets: Some(folder.join("labels.npy")),
        loss: Some("cross-entropy".into()),
        ..Source::default()
    };
    let session = source.session()?.device(device).build()?;
    let request = session.ggn().parts([Part::Full, Part::Diagonal])?;
    let output = Output::folder(std::env::temp_dir().join("hessblock-devices"));
    let report = request.write(output.overwrite(true).restart(true))?;
    println!(
        "{} tiles in {:.2} s on {}",
        report.tiles,
        report.seconds,
        session.device()
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
