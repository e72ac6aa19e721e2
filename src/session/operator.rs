//! A matrix of the shape of the Hessian, as an operator: products, forms, diagonal and trace, and its parts.

use super::request::Request;
use super::vectors::Vectors;
use super::{Session, no_gradient};
use crate::control::{CancelToken, Control, Progress};
use crate::device::{Device, with_backend};
use crate::error::{Error, Result};
use crate::loss::{Curvature, Loss, RankCut, RankReport};
use crate::operator::{self, Form, Gradient, Trace};
use crate::plan::request::{Part, resolve};
use crate::plan::{Limits, RunOptions};
use crate::precision::Precision;
use crate::run::Problem;
use crate::setting::{CURVATURE, RANK_TOLERANCE};
use crate::sink::Provenance;
use crate::tensor::Real;
use ndarray::{Array1, Array2, Array3};
use std::sync::Arc;

/// G, H, H − G or a Fisher matrix of a session: symmetric, `[p, p]` in the flat order of the parameters.
///
/// Nothing is computed until it is asked for. An operator is cheap to clone and holds all that it needs, so that it may go to another
/// thread.
///
/// ```
/// # use hessblock::data::Dataset;
/// # use hessblock::loss::CrossEntropy;
/// # use hessblock::network::builder::Builder;
/// # use hessblock::{Device, Precision, Session};
/// # use ndarray::{Array1, arr1, arr2};
/// # let network = Builder::new(&[3]).linear("fc1", 4).tanh().linear("fc2", 2).initialize(0).build()?;
/// # let data = Dataset::from_arrays(arr2(&[[0.1, 0.2, 0.3], [0.5, -0.4, 0.0]]), arr1(&[0i64, 1]));
/// # let session = Session::builder(network).data(data).loss(CrossEntropy::mean())
/// #     .device(Device::cpu(Precision::F64)).build()?;
/// let h = session.hessian();
/// let v = Array1::<f64>::ones(26);
/// let form = h.quadratic_form(v.view())?;
/// assert!((h.apply(v.view())?.sum() - form).abs() < 1e-14);
/// assert!((h.diagonal()?.sum() - h.trace()?).abs() < 1e-14);
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Operator {
    session: Session,
    curvature: Curvature,
    /// The session's, or that with its factor cut.
    loss: Arc<dyn Loss>,
    rank: Option<Arc<RankReport>>,
}

impl Operator {
    pub(super) fn new(session: Session, curvature: Curvature) -> Operator {
        Operator {
            loss: session.loss.clone(),
            session,
            curvature,
            rank: None,
        }
    }

    /// The same, where all that is computed is told to `progress`, from whatever thread computes it.
    #[must_use]
    pub fn progress(mut self, progress: impl Fn(Progress) + Send + Sync + 'static) -> Operator {
        self.session = self.session.progress(progress);
        self
    }

    /// The same, where all that is computed stops once the token is cancelled.
    #[must_use]
    pub fn cancel(mut self, token: &CancelToken) -> Operator {
        self.session = self.session.cancel(token);
        self
    }

    /// The session that it is of.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The kind of matrix.
    pub fn curvature(&self) -> Curvature {
        self.curvature
    }

    /// p, the number of rows and of columns.
    pub fn size(&self) -> usize {
        self.session.network().parameter_count()
    }

    /// The same with every sample's loss factor S_n cut to the columns that matter: it may lose the share `tolerance` of
    /// Σ_r ‖S_r‖² (tr ∇²ℓ_n for a convex loss). Blocks, plans, products and entries are those of the matrix G_τ that is
    /// left, |vᵀ(G − G_τ)v| ≤ τ·Σ_n (Σ_r ‖S_r‖²) ‖J_n v‖² ([`RankCut`]); [`Operator::rank`] says what was cut.
    ///
    /// One forward pass over all samples finds how many columns they need.
    ///
    /// ```
    /// # use hessblock::data::Dataset;
    /// # use hessblock::loss::CrossEntropy;
    /// # use hessblock::network::builder::Builder;
    /// # use hessblock::Session;
    /// # use ndarray::{arr1, arr2};
    /// let network = Builder::new(&[3]).linear("fc1", 100).initialize(0).build()?;
    /// let data = Dataset::from_arrays(arr2(&[[90.0, 2.0, -30.0], [-50.0, 40.0, 8.0]]), arr1(&[0i64, 1]));
    /// let session = Session::builder(network).data(data).loss(CrossEntropy::mean()).build()?;
    /// let g = session.ggn().with_rank_tolerance(1e-3)?;
    /// let rank = g.rank().expect("it was cut");
    /// assert!(rank.directions < 100 && rank.worst_share <= 1e-3);
    /// # Ok::<(), hessblock::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Request`] for a tolerance outside 0..1, for a matrix that is not made of S, and for a factor cut before; what data
    /// and device report.
    pub fn with_rank_tolerance(mut self, tolerance: f64) -> Result<Operator> {
        if self.curvature != Curvature::Ggn {
            return Err(Error::Request(format!(
                "{RANK_TOLERANCE} cuts the factor of ∇²ℓ that G is made of; {CURVATURE} {} has none: take ggn, or \
                 leave the tolerance out",
                self.curvature
            )));
        }
        if self.rank.is_some() {
            return Err(Error::Request(
                "the loss factor was cut before: cut that of a new operator".into(),
            ));
        }
        let (device, work, limits, batch) = self.ground();
        let report = self.session.watcher.control(|control| {
            let report = with_backend!(device, backend => operator::ranks(backend, &work, tolerance, limits, batch, control));
            self.finite(report, false, control, |_| true)
        })?;
        let cut = RankCut::new(self.session.loss.clone(), tolerance, report.directions);
        self.loss = Arc::new(cut);
        self.rank = Some(Arc::new(report));
        Ok(self)
    }

    /// The session's loss, with its factor cut where that was asked for.
    pub fn loss(&self) -> &dyn Loss {
        self.loss.as_ref()
    }

    /// The report of the cut of the loss factor ([`Operator::with_rank_tolerance`]).
    pub fn rank(&self) -> Option<&RankReport> {
        self.rank.as_deref()
    }

    /// The provenance of what is computed of it: the matrix, the loss, the samples and the device. Files are not named
    /// ([`crate::Source::provenance`] names them).
    pub fn provenance(&self) -> Provenance {
        let device = self.session.device();
        let samples = self.session.dataset().sample_range();
        let mut provenance = Provenance {
            samples: Some((samples.start, samples.end)),
            loss: Some(self.loss().name()),
            curvature: Some(self.curvature.to_string()),
            device: Some(device.name()),
            driver: device.driver(),
            precision: Some(device.precision().to_string()),
            ..Provenance::now()
        };
        if let Some(kernels) = device.kernels() {
            provenance.options.insert("kernels".into(), kernels);
        }
        if let Some(rank) = self.rank() {
            let rank = serde_json::json!(rank);
            provenance.options.insert("rank".into(), rank);
        }
        provenance
    }

    /// A request for parts of it, which is planned, and then made in memory or written.
    ///
    /// # Errors
    /// [`Error::Request`] for unknown names and for ranges that are empty or outlying.
    pub fn parts(&self, parts: impl IntoIterator<Item = Part>) -> Result<Request> {
        self.curvature.check(self.session.loss())?;
        let parts: Vec<Part> = parts.into_iter().collect();
        let resolved = resolve(self.session.network(), &parts)?;
        Ok(Request::new(self.clone(), resolved))
    }

    /// Its product with one vector, `[p]`, or with several, `[p, k]`; the result has the same shape.
    ///
    /// # Errors
    /// [`Error::Shape`] for vectors of another length than p, [`Error::Budget`] where not even one sample fits, [`Error::Request`]
    /// for a loss that does not give what the matrix needs; what data and device report.
    pub fn apply<V: Vectors>(&self, vectors: V) -> Result<V::Product> {
        let rows = self.vectors(&vectors)?;
        let watcher = &self.session.watcher;
        let product = watcher.control(|control| self.products(&rows, control))?;
        Ok(vectors.product(product))
    }

    /// Products with the rows of `[k, p]`; the result alike.
    pub(crate) fn products(&self, rows: &[f64], control: &Control<'_>) -> Result<Vec<f64>> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let (device, work, limits, batch) = self.ground();
        let second = self.curvature.needs_second_derivatives();
        let product = with_backend!(device, backend => operator::product(backend, &work, rows, limits, batch, control));
        self.finite(product, second, control, |v| all_finite(v))
    }

    /// Its diagonal, `[p]`.
    ///
    /// # Errors
    /// As [`Request::to_arrays`].
    pub fn diagonal(&self) -> Result<Array1<f64>> {
        let request = self.parts([Part::Diagonal])?;
        fn values<R: Real + super::Number>(request: &Request) -> Result<Array1<f64>> {
            let blocks = request.to_arrays::<R>()?;
            let values = blocks.iter().flat_map(|block| block.array.iter());
            Ok(values.map(|v| v.to_f64()).collect())
        }
        match self.session.device().precision() {
            Precision::F32 => values::<f32>(&request),
            Precision::F64 => values::<f64>(&request),
        }
    }

    /// Its trace: exact, from its diagonal.
    ///
    /// # Errors
    /// As [`Operator::diagonal`].
    pub fn trace(&self) -> Result<f64> {
        Ok(self.diagonal()?.sum())
    }

    /// Its trace by layer and, last, as a whole: exact, from its diagonal.
    ///
    /// # Errors
    /// As [`Operator::diagonal`].
    pub fn traces(&self) -> Result<Vec<Trace>> {
        let diagonal = self.diagonal()?.to_vec();
        Ok(operator::trace_of(self.session.network(), &diagonal))
    }

    /// Its trace by layer and as a whole, estimated with `probes` random vectors of ±1, which `seed` decides, each with its standard
    /// error (Hutchinson 1990).
    ///
    /// # Errors
    /// As [`Operator::apply`].
    pub fn estimated_traces(&self, probes: usize, seed: u64) -> Result<Vec<Trace>> {
        self.curvature.check(self.session.loss())?;
        let (device, work, limits, batch) = self.ground();
        let second = self.curvature.needs_second_derivatives();
        self.session.watcher.control(|control| {
            let traces = with_backend!(device, backend => operator::probed_trace(backend, &work, operator::Probes { count: probes, seed }, limits, batch, control));
            self.finite(traces, second, control, |traces| {
                traces.iter().all(|t| t.value.is_finite())
            })
        })
    }

    /// vᵀAv of one vector, `[p]`, or of each of several, `[p, k]`.
    ///
    /// It is computed by forward mode alone, without a product.
    ///
    /// # Errors
    /// As [`Operator::apply`].
    pub fn quadratic_form<V: Vectors>(&self, vectors: V) -> Result<V::Numbers> {
        let rows = self.vectors(&vectors)?;
        let second = self.curvature.needs_second_derivatives();
        let watcher = &self.session.watcher;
        let forms = watcher.control(|control| self.forms_of(&rows, second, control))?;
        let value = |form: Form| match self.curvature {
            Curvature::Residual => form.residual,
            Curvature::Exact => form.exact(),
            _ => form.ggn,
        };
        Ok(vectors.numbers(forms.into_iter().map(value).collect()))
    }

    /// vᵀGv and vᵀ(H − G)v of each vector in one go; for a Fisher matrix, its own in the place of G's.
    ///
    /// # Errors
    /// As [`Operator::apply`]; [`Error::Request`] for a loss without gradient.
    pub fn forms<V: Vectors>(&self, vectors: V) -> Result<Vec<Form>> {
        Curvature::Exact.check(self.session.loss())?;
        let rows = self.vectors(&vectors)?;
        let watcher = &self.session.watcher;
        watcher.control(|control| self.forms_of(&rows, true, control))
    }

    /// The forms of the rows of `[k, p]`; those of H − G where `second`.
    pub(crate) fn forms_of(
        &self,
        rows: &[f64],
        second: bool,
        control: &Control<'_>,
    ) -> Result<Vec<Form>> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let (device, work, limits, batch) = self.ground();
        let forms = with_backend!(device, backend => operator::forms(backend, &work, operator::Pairs { left: rows, right: rows }, second, (limits, batch), control));
        self.finite(forms, second, control, |forms| {
            forms.iter().all(|f| f.exact().is_finite())
        })
    }

    /// Entries straight from the definition, in CPU double precision: pairs of row and column.
    ///
    /// # Errors
    /// [`Error::Request`] for an entry outside the matrix; what the data reports.
    pub fn entries(&self, pairs: &[(usize, usize)]) -> Result<Vec<f64>> {
        self.curvature.check(self.session.loss())?;
        let size = self.size();
        let outside = |&(row, column): &(usize, usize)| row >= size || column >= size;
        if let Some((row, column)) = pairs.iter().copied().find(outside) {
            return Err(Error::Request(format!(
                "entry ({row}, {column}) lies outside the matrix of {size} × {size}"
            )));
        }
        let second = self.curvature.needs_second_derivatives();
        self.session.watcher.control(|control| {
            let entries = self.entries_in::<f64>(pairs, control);
            self.finite_in(Precision::F64, entries, second, control, |v| all_finite(v))
        })
    }

    /// Device, problem, memory limits and samples per unit of a computation.
    fn ground(&self) -> (&Device, Problem<'_>, Limits, Option<usize>) {
        let (device, options) = (self.session.device(), self.session.options);
        (device, self.work(), device.limits(options), options.batch)
    }

    /// Rows `[k, p]` of vectors that fit the matrix.
    fn vectors<V: Vectors>(&self, vectors: &V) -> Result<Vec<f64>> {
        self.curvature.check(self.session.loss())?;
        let (length, size) = (vectors.length(), self.size());
        if length != size {
            return Err(Error::Shape(format!(
                "vectors of {length} numbers, where the network has {size} parameters: give [{size}], or [{size}, k] with \
                 each vector in a column"
            )));
        }
        Ok(vectors.rows())
    }

    /// The gradient of the session's loss.
    pub(crate) fn gradient(&self, control: &Control<'_>) -> Result<Gradient> {
        if !self.session.loss().has_gradient() {
            return Err(no_gradient(self.session.loss()));
        }
        let (device, work, limits, batch) = self.ground();
        let gradient = with_backend!(device, backend => operator::gradient(backend, &work, limits, batch, control));
        // Only the derivatives of a given loss are known: its value is NaN.
        self.finite(gradient, false, control, |gradient| {
            all_finite(&gradient.values) && !gradient.loss.is_infinite()
        })
    }

    pub(super) fn outputs(&self) -> Result<Array2<f64>> {
        let (device, work, limits, batch) = self.ground();
        let outputs = self.session.watcher.control(|control| {
            let outputs = with_backend!(device, backend => operator::outputs(backend, &work, limits, batch, control));
            self.finite(outputs, false, control, |v| all_finite(v))
        })?;
        let shape = (work.dataset.len(), work.network.outputs());
        Array2::from_shape_vec(shape, outputs).map_err(|e| Error::Shape(e.to_string()))
    }

    pub(super) fn jacobian_product(&self, vectors: &Array2<f64>) -> Result<Array3<f64>> {
        let rows = self.vectors(&vectors.view())?;
        let (device, work, limits, batch) = self.ground();
        let product = self.session.watcher.control(|control| {
            let product = with_backend!(device, backend => operator::jacobian_product(backend, &work, &rows, limits, batch, control));
            self.finite(product, false, control, |v| all_finite(v))
        })?;
        let session = &self.session;
        let shape = (
            session.dataset().len(),
            vectors.ncols(),
            session.network().outputs(),
        );
        Array3::from_shape_vec(shape, product).map_err(|e| Error::Shape(e.to_string()))
    }

    pub(super) fn jacobian_transpose_product(
        &self,
        cotangents: &Array3<f64>,
    ) -> Result<Array2<f64>> {
        let (device, work, limits, batch) = self.ground();
        let cotangents = cotangents.as_standard_layout();
        let flat = cotangents.as_slice().unwrap_or_default();
        let (samples, outputs) = (work.dataset.len(), work.network.outputs());
        let (given, _, each) = cotangents.dim();
        if (given, each) != (samples, outputs) {
            return Err(Error::Shape(format!(
                "cotangents of shape {:?}: give [{samples}, k, {outputs}], with k for each of the {samples} samples and {outputs} outputs",
                cotangents.shape()
            )));
        }
        let product = self.session.watcher.control(|control| {
            let product = with_backend!(device, backend => operator::jacobian_transpose_product(backend, &work, flat, limits, batch, control));
            self.finite(product, false, control, |v| all_finite(v))
        })?;
        let rows = product.len() / self.size().max(1);
        let rows = Array2::from_shape_vec((rows, self.size()), product);
        let rows = rows.map_err(|e| Error::Shape(e.to_string()))?;
        Ok(rows.reversed_axes())
    }

    /// The budgets and sizes of its runs.
    pub(super) fn options(&self) -> RunOptions {
        self.session.options
    }
}

/// Whether all numbers are finite.
fn all_finite(values: &[f64]) -> bool {
    values.iter().all(|v| v.is_finite())
}
