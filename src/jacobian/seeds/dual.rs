//! Seeds of passes with tangents: ∇ℓ and ∇²ℓ·ż.

use super::enter_seeds;
use super::outputs::{per_sample, read_outputs, read_tangents};
use crate::error::{Error, Result};
use crate::loss::{Curvature, Curved, Loss, TargetBatch};
use crate::tensor::dual::DualTensor;
use crate::tensor::meter::{Meter, MeterTensor};
use crate::tensor::{Backend, HostSlice, Shape};

/// What a loss makes of a chunk's outputs z and their tangents ż, per sample and in double precision.
pub struct Seeded {
    /// ∇ℓ: `[samples, outputs]`; zeros where it was not asked for.
    pub gradient: Vec<f64>,
    /// ∇²ℓ·ż: `[samples, directions, outputs]`; empty without tangents.
    pub products: Vec<f64>,
}

impl Seeded {
    /// ∇ℓ where `gradient`, and ∇²ℓ·ż of `tangents` (`[samples, directions, outputs]`, may be empty).
    pub fn new(
        loss: &dyn Loss,
        targets: &TargetBatch,
        first: usize,
        outputs: &[f64],
        tangents: &[f64],
        gradient: bool,
    ) -> Seeded {
        let samples = targets.samples().max(1);
        let (each, wide) = (outputs.len() / samples, tangents.len() / samples);
        if !gradient {
            let mut products = vec![0.0; tangents.len()];
            per_sample(
                outputs,
                targets,
                first,
                &mut products,
                |sample, products| {
                    let k = sample.index - first;
                    loss.hessian_products(sample, &tangents[k * wide..(k + 1) * wide], products);
                },
            );
            return Seeded {
                gradient: vec![0.0; outputs.len()],
                products,
            };
        }
        let mut slots = vec![0.0; samples * (each + wide)];
        per_sample(outputs, targets, first, &mut slots, |sample, slot| {
            let (own, products) = slot.split_at_mut(each);
            loss.gradient(sample, own);
            let k = sample.index - first;
            loss.hessian_products(sample, &tangents[k * wide..(k + 1) * wide], products);
        });
        let part = |from: usize, to: usize| {
            let slots = slots.chunks_exact((each + wide).max(1));
            slots.flat_map(|s| s[from..to].iter().copied()).collect()
        };
        Seeded {
            gradient: part(0, each),
            products: part(each, each + wide),
        }
    }
}

/// The seed of the reverse pass from a chunk's outputs and their tangents, in double precision on the host: (∇ℓ, ∇²ℓ·ż)
/// for H, (∇ℓ, 0) for H − G, (0, ∇²ℓ·ż) for G and what stands for it (DESIGN §3).
///
/// # Errors
/// What reading reports; [`Error::Value`] for an output that is not finite, and, for G, where ∇²ℓ is not.
pub fn dual_seed<B: Backend>(
    backend: &B,
    loss: &Curved<'_>,
    targets: &TargetBatch,
    first: usize,
    output: &DualTensor<B::Tensor>,
) -> Result<DualTensor<B::Tensor>> {
    let outputs = read_outputs(
        backend,
        &output.primal,
        first,
        (loss.loss, targets),
        loss.lenient,
    )?;
    let tangents = match loss.curvature {
        Curvature::Residual => Vec::new(),
        _ => read_tangents(backend, output)?,
    };
    let second = loss.curvature.needs_second_derivatives();
    let seeded = Seeded::new(loss, targets, first, &outputs, &tangents, second);
    let shape = backend.shape(&output.primal);
    if !second {
        check_products(loss, first, shape.samples, &tangents, &seeded.products)?;
    }
    let upload = |values: &[f64]| {
        let directions = values.len() / outputs.len().max(1);
        let shape = Shape::new(shape.samples, directions, &shape.rest);
        backend.upload(&shape, HostSlice::F64(values))
    };
    Ok(DualTensor {
        primal: match second {
            true => upload(&seeded.gradient),
            false => backend.fill(&Shape::new(shape.samples, 1, &shape.rest), 0.0),
        },
        tangent: (!seeded.products.is_empty()).then(|| upload(&seeded.products)),
    })
}

/// Refuses products ∇²ℓ·ż that are not finite where ż is: the loss's Hessian is not.
fn check_products(
    loss: &dyn Loss,
    first: usize,
    samples: usize,
    tangents: &[f64],
    products: &[f64],
) -> Result<()> {
    let each = (products.len() / samples.max(1)).max(1);
    let samples = products.chunks(each).zip(tangents.chunks(each)).enumerate();
    for (k, (products, tangents)) in samples {
        let bad = products.iter().find(|value| !value.is_finite());
        if let Some(bad) = bad.filter(|_| tangents.iter().all(|value| value.is_finite())) {
            return Err(Error::Value(format!(
                "the Hessian of the loss {} is {bad} for sample {}",
                loss.name(),
                first + k
            )));
        }
    }
    Ok(())
}

/// The shape of [`dual_seed`], for planning: what it reads, forms and uploads is entered as the work that it is.
///
/// # Errors
/// What reading reports.
pub fn blank_dual_seed(
    meter: &Meter,
    curvature: Curvature,
    output: &DualTensor<MeterTensor>,
) -> Result<DualTensor<MeterTensor>> {
    let shape = meter.shape(&output.primal);
    let tangents = match curvature {
        Curvature::Residual => None,
        _ => output.tangent.as_ref(),
    };
    if let Some(tangents) = tangents {
        meter.read(tangents)?;
    }
    let directions = tangents.map_or(0, |tangents| meter.shape(tangents).directions);
    enter_seeds(meter, &shape, directions);
    Ok(DualTensor {
        primal: meter.blank(shape.clone()),
        tangent: tangents.map(|tangents| meter.blank(meter.shape(tangents))),
    })
}
