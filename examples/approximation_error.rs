//! How far the approximate chain rule is from the Hessian on the digits network, as numbers and as figures.
//!
//! `cargo run --release --example approximation_error` writes `error-digits.png` and `pairs-digits.png` into the folder
//! for temporary files.

use hessblock::data::Dataset;
use hessblock::loss::CrossEntropy;
use hessblock::network::initialise::Initialiser;
use hessblock::study::error::{Draw, gradient_error};
use hessblock::study::pairs::{PairOptions, pair_errors};
use hessblock::{Device, Precision, Session, onnx};

fn main() -> hessblock::Result<()> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/digits");
    let data = Dataset::open(folder.join("images.npy"))?
        .with_targets(folder.join("labels.npy"))?
        .with_samples(0..64)?;
    let session = Session::builder(onnx::load(folder.join("model.onnx"), &Default::default())?)
        .data(data)
        .loss(CrossEntropy::mean())
        .device(Device::cpu(Precision::F64))
        .build()?;
    let layers = session.network().layers();

    let draw = Draw {
        initialiser: Initialiser::Glorot,
        count: 100,
        seed: 0,
    };
    let error = gradient_error(&session, &layers, draw)?;
    for layer in &error.layers {
        if let (Some(error), Some(relative)) = (layer.error, layer.relative) {
            println!(
                "{:<8} |gᵀ(H − G)g| / ‖g‖²: median {:.2e}, 5–95 % {:.1e} to {:.1e}; {:.0} % of gᵀHg",
                layer.layer,
                error.median,
                error.low,
                error.high,
                100.0 * relative.median
            );
        }
    }

    // The session's own weights: those that training found.
    let pairs = pair_errors(&session, &layers, PairOptions::default())?;
    for pair in &pairs.pairs {
        let names = [pair.rows, pair.columns].map(|k| pairs.layers[k].layer.as_str());
        let error = pair.frobenius.error.unwrap_or_default();
        println!("{:<8} {:<8} ‖H − G‖ / ‖H‖ = {error:.3}", names[0], names[1]);
    }

    #[cfg(feature = "plot")]
    for (name, drawing) in [
        (
            "error-digits.png",
            hessblock::study::figure::gradient(&error, "digits"),
        ),
        (
            "pairs-digits.png",
            hessblock::study::figure::pairs(&pairs, "digits, trained"),
        ),
    ] {
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, drawing.png()?).map_err(hessblock::Error::io(&path))?;
        println!("{}", path.display());
    }
    Ok(())
}
