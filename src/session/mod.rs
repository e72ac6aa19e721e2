//! A network, its data, a loss and a device, ready for work; the operators made of them, and requests for parts of these.

mod builder;
mod checks;
mod engine;
mod operator;
mod output;
mod plan;
mod request;
mod vectors;
mod writing;

pub use builder::{Memory, SessionBuilder};
pub use operator::Operator;
pub use output::Output;
pub use plan::Plan;
pub use request::{Block, Request};
pub use vectors::{Number, Vectors};

use crate::control::{CancelToken, Progress, Watcher};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::files::watch::Watch;
use crate::import::data::Dataset;
use crate::loss::{Curvature, Loss};
use crate::network::Network;
use crate::operator::Gradient;
use crate::plan::RunOptions;
use ndarray::{Array2, Array3};
use std::sync::Arc;

/// A network, its data, a loss and a device, checked against each other.
///
/// A session does not change. [`Session::with_parameters`] and its kin give another one, which shares all else; a clone is cheap,
/// and may go to another thread. The matrices are operators: [`Session::ggn`], [`Session::hessian`], [`Session::residual`],
/// [`Session::empirical_fisher`], [`Session::mc_ggn`].
///
/// ```
/// use hessblock::data::Dataset;
/// use hessblock::loss::CrossEntropy;
/// use hessblock::network::builder::Builder;
/// use hessblock::{Device, Part, Precision, Session};
/// use ndarray::{arr1, arr2};
///
/// let network = Builder::new(&[3]).linear("fc1", 4).tanh().linear("fc2", 2).initialize(0).build()?;
/// let data = Dataset::from_arrays(arr2(&[[0.1, 0.2, 0.3], [0.5, -0.4, 0.0]]), arr1(&[0i64, 1]));
/// let session = Session::builder(network)
///     .data(data)
///     .loss(CrossEntropy::mean())
///     .device(Device::cpu(Precision::F64))
///     .build()?;
/// let blocks = session.ggn().parts([Part::layer("fc1")])?.to_arrays::<f64>()?;
/// assert_eq!(blocks[0].matrix().dim(), (16, 16));
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Session {
    network: Arc<Network>,
    dataset: Arc<Dataset>,
    loss: Arc<dyn Loss>,
    device: Device,
    /// Budgets, and samples per unit.
    options: RunOptions,
    /// Whether results may hold numbers that are not finite.
    lenient: bool,
    /// The files that all of it was read from, where it was.
    files: Arc<Watch>,
    watcher: Watcher,
}

impl Session {
    /// Begins a session of this network.
    pub fn builder(network: Network) -> SessionBuilder {
        SessionBuilder::new(network)
    }

    /// The same with other parameters: `[p]` in the flat order.
    ///
    /// # Errors
    /// [`Error::Shape`] for another number of them, [`Error::Value`] for one that is not finite.
    pub fn with_parameters(&self, values: &[f64]) -> Result<Session> {
        let mut network = Network::clone(&self.network);
        network.set_parameters(values)?;
        Ok(Session {
            network: Arc::new(network),
            ..self.clone()
        })
    }

    /// The same with other weights and constants: `network` is the same model at another time, such as later in its training.
    ///
    /// # Errors
    /// [`Error::Shape`] where its inputs, its output or its parameters are not those of this session's network.
    pub fn with_network(&self, network: Network) -> Result<Session> {
        builder::check_same(&self.network, &network)?;
        Ok(Session {
            network: Arc::new(network),
            ..self.clone()
        })
    }

    /// The same on another device.
    #[must_use]
    pub fn with_device(&self, device: Device) -> Session {
        Session {
            device,
            ..self.clone()
        }
    }

    /// The same with other budgets.
    #[must_use]
    pub fn with_memory(&self, memory: Memory) -> Session {
        let mut session = self.clone();
        memory.set(&mut session.options);
        session
    }

    /// The same, where all that is computed is told to `progress`, from whatever thread computes it.
    #[must_use]
    pub fn progress(mut self, progress: impl Fn(Progress) + Send + Sync + 'static) -> Session {
        self.watcher.set_progress(progress);
        self
    }

    /// The same, where all that is computed stops once the token is cancelled.
    #[must_use]
    pub fn cancel(mut self, token: &CancelToken) -> Session {
        self.watcher.set_cancel(token);
        self
    }

    /// G = Σ_n J_nᵀ ∇²ℓ_n J_n, the generalized Gauss-Newton matrix (Skorski 2021: the approximate chain rule).
    pub fn ggn(&self) -> Operator {
        self.operator(Curvature::Ggn)
    }

    /// H, the exact Hessian.
    pub fn hessian(&self) -> Operator {
        self.operator(Curvature::Exact)
    }

    /// H − G, computed as itself and not as a difference.
    pub fn residual(&self) -> Operator {
        self.operator(Curvature::Residual)
    }

    /// The empirical Fisher matrix Σ_n ω_n g_n g_nᵀ of the samples' gradients ([`Curvature::EmpiricalFisher`]).
    pub fn empirical_fisher(&self) -> Operator {
        self.operator(Curvature::EmpiricalFisher)
    }

    /// G with ∇²ℓ_n estimated by `draws` targets from the model's own distribution, which `seed` decides.
    pub fn mc_ggn(&self, draws: u32, seed: u64) -> Operator {
        self.operator(Curvature::McGgn {
            samples: draws,
            seed,
        })
    }

    /// Any of these matrices. Whether the loss gives what it needs is found when it is first used.
    pub fn operator(&self, curvature: Curvature) -> Operator {
        Operator::new(self.clone(), curvature)
    }

    /// The network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The data.
    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// The loss.
    pub fn loss(&self) -> &dyn Loss {
        self.loss.as_ref()
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The gradient, the loss and, for classes, the accuracy.
    ///
    /// # Errors
    /// What data and device report; [`Error::Request`] for a loss that has no gradient.
    pub fn gradient(&self) -> Result<Gradient> {
        self.watcher.control(|control| self.ggn().gradient(control))
    }

    /// The outputs of the network: `[samples, outputs]`, each sample's flattened.
    ///
    /// # Errors
    /// What data and device report; [`Error::NotFinite`] for an output that is not finite.
    pub fn outputs(&self) -> Result<Array2<f64>> {
        self.ggn().outputs()
    }

    /// The gradient of every layer as a vector of its own, zero elsewhere: `[p, layers]`, in the order of [`Network::layers`].
    ///
    /// # Errors
    /// As [`Session::gradient`].
    pub fn layer_gradients(&self) -> Result<Array2<f64>> {
        let gradient = self.gradient()?.values;
        let layers = self.network.layers();
        let mut rows = Array2::zeros((layers.len(), gradient.len()));
        for (mut row, layer) in rows.rows_mut().into_iter().zip(&layers) {
            for at in self.network.ranges(layer).flatten() {
                row[at] = gradient[at];
            }
        }
        Ok(rows.reversed_axes())
    }

    /// J·v per sample, `[samples, k, outputs]`, of vectors `[p, k]`.
    ///
    /// # Errors
    /// [`Error::Shape`] for vectors of another length; what data and device report.
    pub fn jacobian_product(&self, vectors: &Array2<f64>) -> Result<Array3<f64>> {
        self.ggn().jacobian_product(vectors)
    }

    /// Σ_n J_nᵀ·u_n, `[p, k]`, of cotangents `[samples, k, outputs]`.
    ///
    /// # Errors
    /// [`Error::Shape`] for cotangents of another shape; what data and device report.
    pub fn jacobian_transpose_product(&self, cotangents: &Array3<f64>) -> Result<Array2<f64>> {
        self.ggn().jacobian_transpose_product(cotangents)
    }

    /// Checks that the files that network and data were read from ([`crate::Source::session`]) have not changed since: by their
    /// times, and by their hashes where these are known ([`crate::Source::provenance`]).
    ///
    /// Every computation checks the times when it ends. This is for what is written of it.
    ///
    /// # Errors
    /// [`Error::File`] with the one that was changed.
    pub fn check_files(&self) -> Result<()> {
        self.files.check()
    }

    /// The files that it was read from.
    pub(crate) fn files(&self) -> &Watch {
        &self.files
    }

    /// The same with budgets and sizes as a caller within the crate has them.
    pub(crate) fn with_options(&self, options: RunOptions) -> Session {
        Session {
            options,
            ..self.clone()
        }
    }

    /// The budgets and sizes that runs take.
    pub(crate) fn options(&self) -> RunOptions {
        self.options
    }

    /// Whom work tells of its progress, and what stops it.
    pub(crate) fn watcher(&self) -> &Watcher {
        &self.watcher
    }
}

/// A result that must not be made of nothing.
fn no_gradient(loss: &dyn Loss) -> Error {
    Error::Request(format!(
        "the loss {} gives a Hessian only, no gradient",
        loss.name()
    ))
}
