//! A run that tells its progress to a channel, that another thread stops, and that is then resumed.
//!
//! `cargo run --release --example cancel`

use hessblock::{CancelToken, Device, Error, Output, Part, Precision, Source};
use std::sync::mpsc;
use std::thread;

fn main() -> hessblock::Result<()> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/digits");
    let source = Source {
        model: folder.join("model.onnx"),
        inputs: vec![folder.join("images.npy").into()],
        targets: Some(folder.join("labels.npy")),
        loss: Some("cross-entropy".into()),
        ..Source::default()
    };
    let session = source.session()?.device(Device::cpu(Precision::F32));
    let request = session.build()?.ggn().parts([Part::Full])?.tile_rows(128);
    let path = std::env::temp_dir().join(format!("hessblock-cancel-{}", std::process::id()));
    let output = Output::folder(&path);

    // The run has a thread of its own. This one hears of its progress, and stops it after a few tiles.
    let token = CancelToken::new();
    let (sender, receiver) = mpsc::channel();
    let watched = request.clone().cancel(&token).progress(move |progress| {
        // Once nobody listens, there is nobody to tell.
        _ = sender.send(progress);
    });
    let run = thread::spawn({
        let output = output.clone();
        move || watched.write(output)
    });
    let mut seen = 0;
    for progress in receiver {
        if progress.tiles > seen {
            seen = progress.tiles;
            println!("{seen} of {} tiles", progress.tile_count);
        }
        if progress.tiles >= 5 {
            token.cancel();
            break;
        }
    }
    match run.join().expect("the run does not panic") {
        Err(Error::Interrupted) => println!("stopped; nothing is at {} yet", path.display()),
        finished => println!("it was too quick: {} tiles", finished?.tiles),
    }

    // The same request to the same output, without the token, makes the tiles that are missing.
    let report = request.write(&output)?;
    println!(
        "{} tiles were there, {} were made",
        report.found_tiles, report.tiles
    );
    std::fs::remove_dir_all(&path).map_err(Error::io(&path))
}
