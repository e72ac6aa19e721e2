//! What the approximate chain rule leaves out, for a trained network: H, G and H − G by block, along gradients, and
//! as products with a vector.
//!
//! `cargo run --release --example exact_hessian`

use hessblock::import::data::Dataset;
use hessblock::import::onnx::{self, OnnxOptions};
use hessblock::loss::{CrossEntropy, Reduction};
use hessblock::run::Control;
use hessblock::{Curvature, Device, Part, Precision, RunOptions, Session};
use ndarray::Array2;

fn main() -> hessblock::Result<()> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/digits");
    let network = onnx::load(folder.join("model.onnx"), &OnnxOptions::default())?;
    let data = Dataset::open(folder.join("images.npy"))?.with_targets(folder.join("labels.npy"))?;
    let loss = Box::new(CrossEntropy::new(Reduction::Mean));
    let mut session = Session::new(network, data, loss)?;
    let (device, options, control) = (
        Device::cpu(Precision::F32),
        RunOptions::default(),
        Control::none(),
    );

    // Every block between two layers, of H and of H − G as itself.
    let layers: Vec<String> = session
        .network()
        .layers()
        .into_iter()
        .map(|l| l.name)
        .collect();
    let norm = |block: &Array2<f64>| block.iter().map(|v| v * v).sum::<f64>().sqrt();
    for (k, rows) in layers.iter().enumerate() {
        for columns in &layers[k..] {
            let part = [Part::Layer(rows.clone(), Some(columns.clone()))];
            session.set_curvature(Curvature::Exact)?;
            let exact = norm(&session.blocks(&device, &part)?[0].1);
            session.set_curvature(Curvature::Residual)?;
            let residual = norm(&session.blocks(&device, &part)?[0].1);
            println!(
                "{rows:>7} × {columns:<7} ‖H − G‖/‖H‖ = {:.3}",
                residual / exact
            );
        }
    }

    // Along each layer's gradient, as in the paper.
    let gradients = session.layer_gradients(&device, options, &control)?;
    for (layer, form) in layers
        .iter()
        .zip(session.forms(&device, &gradients, options, &control)?)
    {
        println!(
            "{layer:>7}: gᵀGg = {:.3e}, gᵀHg = {:.3e}",
            form.ggn,
            form.exact()
        );
    }

    // H·v without forming anything: one power iteration.
    session.set_curvature(Curvature::Exact)?;
    let mut vector = Array2::ones((1, session.network().parameter_count()));
    for _ in 0..20 {
        vector /= norm(&vector);
        vector = session.product(&device, &vector, options, &control)?;
    }
    println!("the largest eigenvalue of H is near {:.3}", norm(&vector));
    Ok(())
}
