//! What the approximate chain rule leaves out, for a trained network: H, G and H − G by block, along gradients, and
//! as products with a vector.
//!
//! `cargo run --release --example exact_hessian`

use hessblock::data::Dataset;
use hessblock::loss::CrossEntropy;
use hessblock::{Device, Operator, Part, Session, onnx};
use ndarray::Array1;

fn main() -> hessblock::Result<()> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/digits");
    let data = Dataset::open(folder.join("images.npy"))?.with_targets(folder.join("labels.npy"))?;
    let session = Session::builder(onnx::load(folder.join("model.onnx"), &Default::default())?)
        .data(data)
        .loss(CrossEntropy::mean())
        .device(Device::auto()?)
        .build()?;
    let (h, residual) = (session.hessian(), session.residual());

    // Every block between two layers, of H and of H − G as itself.
    let layers = session.network().layers();
    for (k, rows) in layers.iter().enumerate() {
        for columns in &layers[k..] {
            let norm = |operator: &Operator| -> hessblock::Result<f64> {
                let part = Part::between(&rows.name, &columns.name);
                let blocks = operator.parts([part])?.to_arrays::<f64>()?;
                Ok(norm(&blocks[0].array))
            };
            println!(
                "{:>7} × {:<7} ‖H − G‖/‖H‖ = {:.3}",
                rows.name,
                columns.name,
                norm(&residual)? / norm(&h)?
            );
        }
    }

    // Along each layer's gradient, as in the paper.
    let gradients = session.layer_gradients()?;
    let forms = session.ggn().forms(gradients.view())?;
    for (layer, form) in layers.iter().zip(forms) {
        println!(
            "{:>7}: gᵀGg = {:.3e}, gᵀHg = {:.3e}",
            layer.name,
            form.ggn,
            form.exact()
        );
    }

    // H·v without forming anything: the power iteration.
    let mut vector = Array1::<f64>::ones(h.size());
    for _ in 0..20 {
        vector /= norm(&vector);
        vector = h.apply(vector.view())?;
    }
    println!("the largest eigenvalue of H is near {:.3}", norm(&vector));
    Ok(())
}

fn norm<'a>(values: impl IntoIterator<Item = &'a f64>) -> f64 {
    values.into_iter().map(|v| v * v).sum::<f64>().sqrt()
}
