//! One unit of work: the factors of a range of samples, a range of directions at a time.

use super::Factor;
use super::passes::{Reach, Weights, backward, forward};
use crate::error::{Error, Result};
use crate::loss::{Curvature, Curved, Loss, Sample, TargetBatch};
use crate::network::Network;
use crate::ops::Site;
use crate::tensor::dual::DualTensor;
use crate::tensor::meter::{Meter, MeterTensor};
use crate::tensor::{Backend, HostSlice, Kind, Real, Shape, Work};
use rayon::prelude::*;
use std::ops::Range;

/// The factors of one range of samples and directions.
pub struct Unit<T> {
    /// Per parameter; `None` where it was not asked for.
    pub factors: Vec<Option<Factor<T>>>,
    /// `[samples, directions, 1]` where the loss factor carries signs.
    pub signs: Option<T>,
}

/// Columns of the loss factor on the device.
pub struct Seed<T> {
    /// Sᵀ: `[samples, directions, output rest…]`.
    pub cotangents: T,
    /// `[samples, directions, 1]`, where directions carry signs.
    pub signs: Option<T>,
}

/// Where the reverse pass's directions come from: the loss, or zeros when planning.
pub trait Seeds<B: Backend> {
    /// Columns `directions` of S for the samples of `output`.
    ///
    /// # Errors
    /// What reading the output reports; [`Error::Value`] where the loss's Hessian is not finite.
    fn seed(
        &mut self,
        backend: &B,
        output: &B::Tensor,
        directions: Range<usize>,
    ) -> Result<Seed<B::Tensor>>;
}

/// Runs forward once on `inputs`, one per input of the network, and backward per range of `chunk` directions,
/// and gives each unit to `visit`.
///
/// # Errors
/// What the seeds or `visit` report.
#[allow(clippy::too_many_arguments)]
pub fn units<B: Backend>(
    backend: &B,
    network: &Network,
    weights: &Weights<B::Tensor>,
    reach: &Reach,
    inputs: Vec<B::Tensor>,
    directions: Range<usize>,
    chunk: usize,
    seeds: &mut dyn Seeds<B>,
    mut visit: impl FnMut(Unit<B::Tensor>) -> Result<()>,
) -> Result<()> {
    let trace = forward(backend, network, weights, inputs, reach);
    let samples = backend.shape(&trace.output).samples;
    let mut start = directions.start;
    while start < directions.end {
        let range = start..(start + chunk).min(directions.end);
        start = range.end;
        let seed = seeds.seed(backend, &trace.output, range.clone())?;
        let mut sites: Vec<Vec<Site<B::Tensor>>> = vec![Vec::new(); network.parameters.len()];
        backward(
            backend,
            network,
            weights,
            &trace,
            reach,
            seed.cotangents,
            |k, site| sites[k].push(site),
        );
        let factors = sites
            .into_iter()
            .enumerate()
            .map(|(k, sites)| {
                reach.wanted[k].then(|| {
                    Factor::new(
                        sites,
                        network.parameters[k].data.len(),
                        samples,
                        range.len(),
                    )
                })
            })
            .collect();
        visit(Unit {
            factors,
            signs: seed.signs,
        })?;
    }
    Ok(())
}

/// Seeds from a loss: outputs are read once, S is formed on the host in double precision.
pub struct LossSeeds<'a> {
    /// The loss, prepared.
    pub loss: &'a dyn Loss,
    /// Index of the first sample.
    pub first: usize,
    /// Targets of the samples.
    pub targets: &'a TargetBatch,
    /// Whether outputs that are not finite are no error.
    lenient: bool,
    outputs: Option<Vec<f64>>,
}

impl<'a> LossSeeds<'a> {
    /// Seeds for the samples from `first` on.
    pub fn new(loss: &'a dyn Loss, first: usize, targets: &'a TargetBatch) -> Self {
        Self {
            loss,
            first,
            targets,
            lenient: false,
            outputs: None,
        }
    }

    /// The same where outputs that are not finite are no error, if `lenient`.
    pub fn lenient(self, lenient: bool) -> Self {
        Self { lenient, ..self }
    }
}

/// A tensor's numbers in double precision.
///
/// # Errors
/// What reading reports.
pub fn read_f64<B: Backend>(backend: &B, tensor: &B::Tensor) -> Result<Vec<f64>> {
    Ok(backend
        .read(tensor)?
        .into_iter()
        .map(Real::to_f64)
        .collect())
}

/// The network's outputs of a chunk, in double precision: `[samples, outputs]`.
///
/// # Errors
/// [`Error::NotFinite`] naming the first sample whose output is not finite, unless `lenient`; that of a sample whose weight is 0 is
/// taken for 0.
pub fn read_outputs<B: Backend>(
    backend: &B,
    output: &B::Tensor,
    first: usize,
    (loss, targets): (&dyn Loss, &TargetBatch),
    lenient: bool,
) -> Result<Vec<f64>> {
    let mut values = read_f64(backend, output)?;
    let each = values.len() / backend.shape(output).samples.max(1);
    for (k, outputs) in values.chunks_exact_mut(each.max(1)).enumerate() {
        if outputs.iter().all(|v| v.is_finite()) {
            continue;
        }
        let weight = loss.weight(&Sample {
            index: first + k,
            outputs: &*outputs,
            target: targets.get(k),
        });
        // Where all labels are ignored, so are the outputs.
        if weight == 0.0 {
            outputs.fill(0.0);
        }
    }
    match values.iter().position(|v| !v.is_finite()) {
        Some(at) if !lenient => Err(Error::NotFinite(format!(
            "the network's output for sample {} is {}",
            first + at / each.max(1),
            values[at]
        ))),
        _ => Ok(values),
    }
}

/// Calls `f` with every sample of a chunk and its slice of `into`, in parallel.
pub fn per_sample<F>(outputs: &[f64], targets: &TargetBatch, first: usize, into: &mut [f64], f: F)
where
    F: Fn(&Sample<'_>, &mut [f64]) + Sync,
{
    let samples = targets.samples();
    if samples == 0 || into.is_empty() {
        return;
    }
    let (each, slot) = (outputs.len() / samples, into.len() / samples);
    into.par_chunks_mut(slot).enumerate().for_each(|(k, slot)| {
        let sample = Sample {
            index: first + k,
            outputs: &outputs[k * each..(k + 1) * each],
            target: targets.get(k),
        };
        f(&sample, slot);
    });
}

/// The tangents of a chunk's outputs in double precision, `[samples, directions, outputs]`; empty where none of the
/// vectors reaches the outputs.
///
/// # Errors
/// What reading reports.
pub fn read_tangents<B: Backend>(backend: &B, output: &DualTensor<B::Tensor>) -> Result<Vec<f64>> {
    match &output.tangent {
        Some(tangent) => read_f64(backend, tangent),
        None => Ok(Vec::new()),
    }
}

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

/// Enters that `directions` seeds were formed on the host of outputs of that shape: of S, or of a gradient and products.
fn enter_seeds(meter: &Meter, outputs: &Shape, directions: usize) {
    let numbers = outputs.len() * (1 + directions);
    meter.enter(Kind::Seeds, Work::call(0, 0, numbers as u64, 0));
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

impl<B: Backend> Seeds<B> for LossSeeds<'_> {
    fn seed(
        &mut self,
        backend: &B,
        output: &B::Tensor,
        directions: Range<usize>,
    ) -> Result<Seed<B::Tensor>> {
        if self.outputs.is_none() {
            self.outputs = Some(read_outputs(
                backend,
                output,
                self.first,
                (self.loss, self.targets),
                self.lenient,
            )?);
        }
        let outputs = self.outputs.as_deref().unwrap_or_default();
        let shape = backend.shape(output);
        let (samples, width, count) = (shape.samples, shape.rest_len(), directions.len());
        let mut factors = vec![0.0; samples * count * width];
        let mut signs = vec![1.0; samples * count];
        if !factors.is_empty() {
            let slots = factors.par_chunks_mut(count * width);
            let slots = slots.zip(signs.par_chunks_mut(count)).enumerate();
            slots.for_each(|(k, (factor, signs))| {
                let sample = Sample {
                    index: self.first + k,
                    outputs: &outputs[k * width..(k + 1) * width],
                    target: self.targets.get(k),
                };
                self.loss.factor(&sample, directions.clone(), factor, signs);
            });
        }
        for (values, each) in [(&factors, count * width), (&signs, count)] {
            let bad = values.iter().position(|v| !v.is_finite());
            if let Some(at) = bad.filter(|_| !self.lenient) {
                return Err(Error::NotFinite(format!(
                    "the Hessian of the loss {} is {} for sample {}",
                    self.loss.name(),
                    values[at],
                    self.first + at / each.max(1)
                )));
            }
        }
        let upload = |rest: &[usize], values: &[f64]| {
            backend.upload(&Shape::new(samples, count, rest), HostSlice::F64(values))
        };
        Ok(Seed {
            cotangents: upload(&shape.rest, &factors),
            signs: self.loss.signed().then(|| upload(&[1], &signs)),
        })
    }
}

/// Seeds without values, for planning.
pub struct BlankSeeds {
    /// Whether the loss factor will carry signs.
    pub signed: bool,
}

impl Seeds<Meter> for BlankSeeds {
    fn seed(
        &mut self,
        backend: &Meter,
        output: &MeterTensor,
        directions: Range<usize>,
    ) -> Result<Seed<MeterTensor>> {
        let shape = backend.shape(output);
        enter_seeds(backend, &shape, directions.len());
        let blank =
            |rest: &[usize]| backend.blank(Shape::new(shape.samples, directions.len(), rest));
        Ok(Seed {
            cotangents: blank(&shape.rest),
            signs: self.signed.then(|| blank(&[1])),
        })
    }
}
