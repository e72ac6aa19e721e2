//! The problem that a run, or an operator, works on: a network, its data and a loss.

use crate::error::{Error, Result};
use crate::import::data::Dataset;
use crate::loss::{Curvature, Curved, Loss};
use crate::network::Network;
use crate::setting::{PRECISION, SCALE, STD};
use crate::tensor::{Backend, HostSlice, Real, Shape};
use std::ops::Range;

/// A network with its data, its loss, and the matrix that is meant.
pub struct Problem<'a> {
    /// The network.
    pub network: &'a Network,
    /// Its data.
    pub dataset: &'a Dataset,
    /// The loss, prepared.
    pub loss: &'a dyn Loss,
    /// The matrix that is meant.
    pub curvature: Curvature,
    /// Whether numbers that are not finite are no error.
    pub lenient: bool,
}

impl Problem<'_> {
    /// The loss whose Hessian in the outputs makes the matrix.
    pub fn hessian(&self) -> Curved<'_> {
        Curved {
            loss: self.loss,
            curvature: self.curvature,
            lenient: self.lenient,
        }
    }

    /// The same for another matrix, whatever the outputs are.
    pub(crate) fn lenient_hessian(&self, curvature: Curvature) -> Curved<'_> {
        Curved {
            loss: self.loss,
            curvature,
            lenient: true,
        }
    }

    /// Uploads the inputs of a range of samples: `[samples, 1, rest…]` for each input of the network.
    ///
    /// # Errors
    /// What reading the data reports; [`Error::Value`] for a number that the backend's precision cannot hold.
    pub fn upload<B: Backend>(&self, backend: &B, range: Range<usize>) -> Result<Vec<B::Tensor>> {
        let inputs = self.dataset.inputs(range.clone())?;
        let first = self.dataset.sample_range().start + range.start;
        let inputs = self.network.with_derived(inputs, range.len(), first)?;
        let mut tensors = Vec::with_capacity(inputs.len());
        for (input, values) in self.network.inputs.iter().zip(inputs) {
            if let Some(at) = values
                .iter()
                .position(|&v| !B::Real::from_f64(v).to_f64().is_finite())
            {
                return Err(Error::Value(format!(
                    "sample {} of input {:?} holds {:e}, which {} cannot hold; scale the inputs ({SCALE}, {STD}) or use {PRECISION} f64",
                    first + at / (values.len() / range.len()).max(1),
                    input.name,
                    values[at],
                    B::Real::NAME
                )));
            }
            let shape = Shape::new(range.len(), 1, &input.rest);
            tensors.push(backend.upload(&shape, HostSlice::F64(&values)));
        }
        Ok(tensors)
    }
}
