//! Seeds from the loss factor S, for G backwards.

use super::outputs::read_outputs;
use super::{Seed, Seeds, enter_seeds};
use crate::error::{Error, Result};
use crate::loss::{Loss, Sample, TargetBatch};
use crate::tensor::meter::{Meter, MeterTensor};
use crate::tensor::{Backend, HostSlice, Shape};
use rayon::prelude::*;
use std::ops::Range;

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
                return Err(Error::not_finite(format!(
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
