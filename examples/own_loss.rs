//! A loss of one's own: three functions are enough, also where its Hessian is indefinite.
//!
//! `cargo run --release --example own_loss`

use hessblock::data::Dataset;
use hessblock::loss::{Loss, Sample, Target};
use hessblock::network::builder::Builder;
use hessblock::{Device, Part, Precision, Session};
use ndarray::Array2;

/// The Cauchy loss Σ_c ln(1 + (z_c − y_c)²): robust, and not convex where |z_c − y_c| > 1.
#[derive(Debug)]
struct Cauchy;

fn residuals<'a>(sample: &'a Sample<'_>) -> impl Iterator<Item = f64> + 'a {
    let targets = match sample.target {
        Target::Dense(values) => values,
        _ => &[],
    };
    sample.outputs.iter().zip(targets).map(|(z, y)| z - y)
}

impl Loss for Cauchy {
    fn name(&self) -> String {
        "cauchy".into()
    }
    fn value(&self, sample: &Sample<'_>) -> f64 {
        residuals(sample).map(|d| (d * d).ln_1p()).sum()
    }
    fn gradient(&self, sample: &Sample<'_>, gradient: &mut [f64]) {
        for (g, d) in gradient.iter_mut().zip(residuals(sample)) {
            *g = 2.0 * d / (1.0 + d * d);
        }
    }
    fn hessian_product(&self, sample: &Sample<'_>, vector: &[f64], product: &mut [f64]) {
        for ((p, d), v) in product.iter_mut().zip(residuals(sample)).zip(vector) {
            *p = 2.0 * (1.0 - d * d) / (1.0 + d * d).powi(2) * v;
        }
    }
}

fn main() -> hessblock::Result<()> {
    let network = Builder::new(&[3])
        .linear("hidden", 8)
        .tanh()
        .linear("out", 2)
        .initialize(7)
        .build()?;
    let array = |columns: usize, size: f64, step: f64| {
        Array2::from_shape_fn((50, columns), |(n, c)| {
            size * ((n * columns + c) as f64 * step).sin()
        })
    };
    let session = Session::builder(network)
        .data(Dataset::from_arrays(array(3, 1.0, 0.7), array(2, 6.0, 1.3)))
        .loss(Cauchy)
        .device(Device::cpu(Precision::F64))
        .build()?;

    let g = session.ggn();
    let blocks = g.parts([Part::Full, Part::Diagonal])?.to_arrays::<f64>()?;
    let (full, diagonal) = (blocks[0].matrix(), &blocks[1].array);
    let negative = diagonal.iter().filter(|v| **v < 0.0).count();
    println!(
        "G is {} × {}; {negative} of its diagonal entries are negative",
        full.nrows(),
        full.ncols()
    );

    // Any entry can be had straight from the definition, by another way through the code.
    let entry = g.entries(&[(0, 9)])?[0];
    println!(
        "G[0, 9] = {:.12}, by the definition {entry:.12}",
        full[[0, 9]]
    );
    Ok(())
}
