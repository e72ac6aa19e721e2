//! Sessions: a network, its data, a loss and a device.

use crate::arrays::{check_regular, source};
use crate::device::{Device, raised};
use crate::loss::Loss;
use crate::network::Network;
use crate::operator::Operator;
use crate::study::{Settings, Study, study};
use crate::work;
use hessblock::data::Dataset;
use hessblock::loss::{Loss as LossTrait, Sample};
use hessblock::{Bytes, Curvature, Memory};
use numpy::{IntoPyArray, PyArray1, PyArray2, PyArray3, PyReadonlyArray2, PyReadonlyArray3};
use pyo3::prelude::*;
use std::sync::Arc;

/// Inputs by name, or the only one without a name: arrays or paths.
type Inputs = Vec<(Option<String>, Py<PyAny>)>;

/// A network, its data, a loss and a device, checked against each other. It does not change.
#[pyclass(frozen, module = "hessblock._core")]
pub struct Session {
    pub inner: hessblock::Session,
    origin: Arc<Origin>,
}

/// The parts of a session, from which another with other targets is made.
struct Origin {
    inputs: Inputs,
    samples: Option<(usize, usize)>,
    batch: Option<usize>,
    memory: Memory,
    allow_non_finite: bool,
}

impl Clone for Session {
    fn clone(&self) -> Session {
        Session {
            inner: self.inner.clone(),
            origin: self.origin.clone(),
        }
    }
}

impl Origin {
    fn dataset(&self, py: Python<'_>, targets: Option<&Bound<'_, PyAny>>) -> PyResult<Dataset> {
        let mut data = Dataset::new();
        for (name, array) in &self.inputs {
            let source = source(array.bind(py))?;
            data = match name {
                Some(name) => data.with_input(name, source),
                None => Dataset::from_inputs(source),
            };
        }
        if let Some(targets) = targets {
            data = data.with_target_array(source(targets)?);
        }
        match self.samples {
            Some((start, end)) => raised(py, data.with_samples(start..end)),
            None => Ok(data),
        }
    }

    fn session(
        self: &Arc<Self>,
        py: Python<'_>,
        network: &hessblock::network::Network,
        targets: Option<&Bound<'_, PyAny>>,
        loss: Box<dyn LossTrait>,
        device: &hessblock::Device,
    ) -> PyResult<Session> {
        let data = self.dataset(py, targets)?;
        let (network, device) = (network.clone(), device.clone());
        let inner = work::run(py, None, |_, _| {
            let builder = hessblock::Session::builder(network)
                .data(data)
                .boxed_loss(loss)
                .device(device)
                .memory(self.memory)
                .allow_non_finite(self.allow_non_finite);
            match self.batch {
                Some(samples) => builder.batch(samples),
                None => builder,
            }
            .build()
        })?;
        Ok(Session {
            inner,
            origin: self.clone(),
        })
    }
}

#[pymethods]
impl Session {
    #[new]
    #[pyo3(signature = (network, inputs: "list[tuple[str | None, Source]]", targets: "Source | None", loss, device, *, samples=None, batch=None, host_memory=None, memory=None, allow_non_finite=false))]
    #[allow(clippy::too_many_arguments)] // keywords of Python
    fn new(
        py: Python<'_>,
        network: &Network,
        inputs: Inputs,
        targets: Option<Bound<'_, PyAny>>,
        loss: &Loss,
        device: &Device,
        samples: Option<(usize, usize)>,
        batch: Option<usize>,
        host_memory: Option<u64>,
        memory: Option<u64>,
        allow_non_finite: bool,
    ) -> PyResult<Session> {
        let mut budget = Memory::default();
        if let Some(bytes) = host_memory {
            budget = budget.host(Bytes(bytes.into()));
        }
        if let Some(bytes) = memory {
            budget = budget.device(Bytes(bytes.into()));
        }
        let origin = Arc::new(Origin {
            inputs,
            samples,
            batch,
            memory: budget,
            allow_non_finite,
        });
        let loss = raised(py, loss.make())?;
        origin.session(py, &network.inner, targets.as_ref(), loss, &device.0)
    }

    /// The network with its weights.
    #[getter]
    fn network(&self) -> Network {
        Network::from(self.inner.network().clone())
    }

    /// The number of samples.
    #[getter]
    fn samples(&self) -> usize {
        self.inner.dataset().len()
    }

    /// The device.
    #[getter]
    fn device(&self) -> Device {
        Device(self.inner.device().clone())
    }

    /// The loss with its options.
    #[getter]
    fn loss(&self) -> String {
        self.inner.loss().name()
    }

    /// The same with other weights and constants.
    fn with_network(&self, py: Python<'_>, network: &Network) -> PyResult<Session> {
        let inner = raised(py, self.inner.with_network((*network.inner).clone()))?;
        Ok(Session {
            inner,
            origin: self.origin.clone(),
        })
    }

    /// The same on another device.
    fn with_device(&self, device: &Device) -> Session {
        Session {
            inner: self.inner.with_device(device.0.clone()),
            origin: self.origin.clone(),
        }
    }

    /// The same with another loss and other targets.
    fn with_given(
        &self,
        py: Python<'_>,
        loss: &Loss,
        targets: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Session> {
        let loss = raised(py, loss.make())?;
        let (network, device) = (self.inner.network(), self.inner.device());
        self.origin
            .session(py, network, targets.as_ref(), loss, device)
    }

    /// The network's outputs, [N, C], each sample's flattened.
    #[pyo3(signature = (*, progress: "Progress" = None) -> "NDArray[Any]")]
    fn outputs<'py>(
        &self,
        py: Python<'py>,
        progress: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyArray2<f64>>> {
        let outputs = work::run(py, progress.as_ref(), |token, told| {
            self.inner
                .clone()
                .cancel(token)
                .progress(told.watch())
                .outputs()
        })?;
        Ok(outputs.into_pyarray(py))
    }

    /// The gradient, [p], the loss, and the accuracy of a loss with classes.
    #[pyo3(signature = (*, progress: "Progress" = None) -> "tuple[NDArray[Any], float, float | None]")]
    fn gradient<'py>(
        &self,
        py: Python<'py>,
        progress: Option<Bound<'py, PyAny>>,
    ) -> PyResult<(Bound<'py, PyArray1<f64>>, f64, Option<f64>)> {
        let gradient = work::run(py, progress.as_ref(), |token, told| {
            self.inner
                .clone()
                .cancel(token)
                .progress(told.watch())
                .gradient()
        })?;
        let accuracy = gradient.accuracy;
        let accuracy = accuracy.map(|(right, all)| right as f64 / all as f64);
        Ok((gradient.values.into_pyarray(py), gradient.loss, accuracy))
    }

    /// J·v per sample, [N, k, C], of vectors [p, k].
    #[pyo3(signature = (v: "NDArray[Any]", *, progress: "Progress" = None) -> "NDArray[Any]")]
    fn jvp<'py>(
        &self,
        py: Python<'py>,
        v: PyReadonlyArray2<'py, f64>,
        progress: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyArray3<f64>>> {
        check_regular(v.as_any())?;
        let vectors = v.as_array().to_owned();
        let product = work::run(py, progress.as_ref(), |token, told| {
            let session = self.inner.clone().cancel(token).progress(told.watch());
            session.jacobian_product(&vectors)
        })?;
        Ok(product.into_pyarray(py))
    }

    /// Σ_n J_nᵀ·u_n, [p, k], of cotangents [N, k, C].
    #[pyo3(signature = (u: "NDArray[Any]", *, progress: "Progress" = None) -> "NDArray[Any]")]
    fn vjp<'py>(
        &self,
        py: Python<'py>,
        u: PyReadonlyArray3<'py, f64>,
        progress: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyArray2<f64>>> {
        check_regular(u.as_any())?;
        let cotangents = u.as_array().to_owned();
        let product = work::run(py, progress.as_ref(), |token, told| {
            let session = self.inner.clone().cancel(token).progress(told.watch());
            session.jacobian_transpose_product(&cotangents)
        })?;
        Ok(product.into_pyarray(py))
    }

    /// A matrix: "ggn", "exact", "residual", "empirical-fisher", or "mc-ggn" with its draws (samples) and seed.
    #[pyo3(signature = (curvature, *, samples=1, seed=0))]
    fn operator(&self, curvature: &str, samples: u32, seed: u64) -> PyResult<Operator> {
        let curvature = match curvature {
            "ggn" => Curvature::Ggn,
            "exact" => Curvature::Exact,
            "residual" => Curvature::Residual,
            "empirical-fisher" => Curvature::EmpiricalFisher,
            "mc-ggn" => Curvature::McGgn { samples, seed },
            other => {
                return Err(pyo3::exceptions::PyValueError::new_err(format!(
                    "unknown matrix {other:?}: give ggn, exact, residual, empirical-fisher or mc-ggn"
                )));
            }
        };
        Ok(Operator {
            inner: self.inner.operator(curvature),
            session: self.clone(),
        })
    }

    /// Measures how far G is from H ([`Study`]).
    #[pyo3(signature = (*, layers=vec![], initialiser="glorot", draws=None, seed=0, pairs=false, exact_entries=None, probes=None, spectral=true, progress: "Progress" = None))]
    #[allow(clippy::too_many_arguments)] // keywords of Python
    fn study(
        &self,
        py: Python<'_>,
        layers: Vec<String>,
        initialiser: &str,
        draws: Option<u32>,
        seed: u64,
        pairs: bool,
        exact_entries: Option<u64>,
        probes: Option<u32>,
        spectral: bool,
        progress: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Study> {
        let settings = Settings {
            layers,
            initialiser: raised(py, initialiser.parse())?,
            draws,
            seed,
            pairs,
            exact_entries,
            probes,
            spectral,
        };
        let found = work::run(py, progress.as_ref(), |token, told| {
            let session = self.inner.clone().cancel(token).progress(told.watch());
            study(&session, &settings)
        })?;
        Ok(Study(found))
    }
}

/// No loss at all, for what needs none.
#[derive(Debug)]
struct NoLoss;

impl LossTrait for NoLoss {
    fn name(&self) -> String {
        "none".into()
    }

    fn has_gradient(&self) -> bool {
        false
    }

    fn value(&self, _sample: &Sample<'_>) -> f64 {
        f64::NAN
    }

    fn gradient(&self, _sample: &Sample<'_>, gradient: &mut [f64]) {
        gradient.fill(f64::NAN);
    }

    fn hessian_product(&self, _sample: &Sample<'_>, _vector: &[f64], product: &mut [f64]) {
        product.fill(f64::NAN);
    }
}

/// The outputs of a network, [N, C], each sample's flattened. No loss and no targets are needed.
#[pyfunction]
#[pyo3(signature = (network, inputs: "list[tuple[str | None, Source]]", device, *, progress: "Progress" = None) -> "NDArray[Any]")]
pub fn outputs<'py>(
    py: Python<'py>,
    network: &Network,
    inputs: Inputs,
    device: &Device,
    progress: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyArray2<f64>>> {
    let origin = Arc::new(Origin {
        inputs,
        samples: None,
        batch: None,
        memory: Memory::default(),
        allow_non_finite: true,
    });
    let session = origin.session(py, &network.inner, None, Box::new(NoLoss), &device.0)?;
    session.outputs(py, progress)
}
