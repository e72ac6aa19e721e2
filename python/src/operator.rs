//! Matrices of the shape of the Hessian.

use crate::arrays::Vectors;
use crate::device::raised;
use crate::request::Request;
use crate::session::Session;
use crate::work;
use hessblock::{Part, Trace, Way};
use numpy::ndarray::{Ix1, Ix2};
use numpy::{IntoPyArray, PyArray1, PyReadonlyArrayDyn, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// G, H, H − G or a Fisher matrix of a session.
#[pyclass(frozen, module = "hessblock._core")]
pub struct Operator {
    pub inner: hessblock::Operator,
    pub session: Session,
}

/// A trace as Python gets it: layer (empty for the whole), parameters, value, standard error.
type TraceRow = (String, usize, f64, Option<f64>);

fn rows(traces: Vec<Trace>) -> Vec<TraceRow> {
    let each = traces.into_iter();
    each.map(|t| (t.layer.unwrap_or_default(), t.parameters, t.value, t.error))
        .collect()
}

/// Runs `$body` on another thread, with the watched operator as `$g` and the view of one vector or several as `$v`.
macro_rules! on_vectors {
    ($self:expr, $array:expr, $py:expr, $progress:expr, |$g:ident, $v:ident| $body:expr, $done:expr) => {{
        let array: &PyReadonlyArrayDyn<'_, _> = $array;
        let view = array.as_array();
        macro_rules! of_axes {
            ($axes:ty) => {{
                let $v = view.into_dimensionality::<$axes>().map_err(shape)?;
                let result = work::run($py, $progress, |token, told| {
                    let $g = $self.watched(token, told);
                    $body
                })?;
                $done(result)
            }};
        }
        match array.ndim() {
            1 => of_axes!(Ix1),
            _ => of_axes!(Ix2),
        }
    }};
}

fn shape(error: numpy::ndarray::ShapeError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

impl Operator {
    /// The operator as a computation takes it.
    fn watched(
        &self,
        token: &hessblock::CancelToken,
        told: &work::ProgressState,
    ) -> hessblock::Operator {
        self.inner.clone().cancel(token).progress(told.watch())
    }
}

#[pymethods]
impl Operator {
    /// p, the number of rows and of columns.
    #[getter]
    fn size(&self) -> usize {
        self.inner.size()
    }

    /// The kind of matrix.
    #[getter]
    fn curvature(&self) -> String {
        self.inner.curvature().to_string()
    }

    /// The session of the operator.
    #[getter]
    fn session(&self) -> Session {
        self.session.clone()
    }

    /// The same with every sample's loss factor cut to the columns that matter.
    #[pyo3(signature = (tolerance, *, progress: "Progress" = None))]
    fn with_rank_tolerance(
        &self,
        py: Python<'_>,
        tolerance: f64,
        progress: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Operator> {
        let inner = work::run(py, progress.as_ref(), |token, told| {
            self.watched(token, told).with_rank_tolerance(tolerance)
        })?;
        Ok(Operator {
            inner,
            session: self.session.clone(),
        })
    }

    /// The report of the cut of the loss factor, as JSON; None where it was not cut.
    #[getter]
    fn rank(&self) -> Option<String> {
        let report = self.inner.rank()?;
        serde_json::to_string(report).ok()
    }

    /// The product with vectors [p] or [p, k] of float32 or float64; the result has the same shape and type.
    #[pyo3(signature = (v: "NDArray[Any]", *, progress: "Progress" = None) -> "NDArray[Any]")]
    fn apply<'py>(
        &self,
        py: Python<'py>,
        v: &Bound<'py, PyAny>,
        progress: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let progress = progress.as_ref();
        match &Vectors::of(v)? {
            Vectors::F32(array) => {
                on_vectors!(self, array, py, progress, |g, v| g.apply(v), |r| Ok(
                    into_array(py, r)
                ))
            }
            Vectors::F64(array) => {
                on_vectors!(self, array, py, progress, |g, v| g.apply(v), |r| Ok(
                    into_array(py, r)
                ))
            }
        }
    }

    /// vᵀAv of each vector: [1] for one, [k] for several.
    #[pyo3(signature = (v: "NDArray[Any]", *, progress: "Progress" = None) -> "NDArray[Any]")]
    fn quadratic_form<'py>(
        &self,
        py: Python<'py>,
        v: &Bound<'py, PyAny>,
        progress: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyArray1<f64>>> {
        let progress = progress.as_ref();
        macro_rules! forms {
            ($array:expr) => {
                on_vectors!(
                    self,
                    $array,
                    py,
                    progress,
                    |g, v| g.quadratic_form(v).map(Numbers::numbers),
                    |r: Vec<f64>| Ok(r.into_pyarray(py))
                )
            };
        }
        match &Vectors::of(v)? {
            Vectors::F32(array) => forms!(array),
            Vectors::F64(array) => forms!(array),
        }
    }

    /// vᵀGv and vᵀ(H − G)v of each vector.
    #[pyo3(signature = (v: "NDArray[Any]", *, progress: "Progress" = None))]
    fn forms(
        &self,
        py: Python<'_>,
        v: &Bound<'_, PyAny>,
        progress: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Vec<(f64, f64)>> {
        let progress = progress.as_ref();
        let pairs = |forms: Vec<hessblock::Form>| -> PyResult<Vec<(f64, f64)>> {
            Ok(forms.into_iter().map(|f| (f.ggn, f.residual)).collect())
        };
        match &Vectors::of(v)? {
            Vectors::F32(array) => {
                on_vectors!(self, array, py, progress, |g, v| g.forms(v), pairs)
            }
            Vectors::F64(array) => {
                on_vectors!(self, array, py, progress, |g, v| g.forms(v), pairs)
            }
        }
    }

    /// The diagonal, [p].
    #[pyo3(signature = (*, progress: "Progress" = None) -> "NDArray[Any]")]
    fn diagonal<'py>(
        &self,
        py: Python<'py>,
        progress: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyArray1<f64>>> {
        let diagonal = work::run(py, progress.as_ref(), |token, told| {
            self.watched(token, told).diagonal()
        })?;
        Ok(diagonal.into_pyarray(py))
    }

    /// The trace by layer and, last, as a whole: exact, from the diagonal.
    #[pyo3(signature = (*, progress: "Progress" = None))]
    fn traces(
        &self,
        py: Python<'_>,
        progress: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Vec<TraceRow>> {
        work::run(py, progress.as_ref(), |token, told| {
            self.watched(token, told).traces()
        })
        .map(rows)
    }

    /// The trace by layer and as a whole, estimated with random vectors of ±1 (Hutchinson 1990).
    #[pyo3(signature = (probes, seed, *, progress: "Progress" = None))]
    fn estimated_traces(
        &self,
        py: Python<'_>,
        probes: usize,
        seed: u64,
        progress: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Vec<TraceRow>> {
        work::run(py, progress.as_ref(), |token, told| {
            self.watched(token, told).estimated_traces(probes, seed)
        })
        .map(rows)
    }

    /// Entries straight from the definition, in CPU double precision.
    #[pyo3(signature = (pairs, *, progress: "Progress" = None) -> "NDArray[Any]")]
    fn entries<'py>(
        &self,
        py: Python<'py>,
        pairs: Vec<(usize, usize)>,
        progress: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyArray1<f64>>> {
        let entries = work::run(py, progress.as_ref(), |token, told| {
            self.watched(token, told).entries(&pairs)
        })?;
        Ok(entries.into_pyarray(py))
    }

    /// A request for parts, each a tuple: ("full",), ("layers",), ("diagonal",), ("layer", rows, columns or None),
    /// ("param", rows, columns or None), ("range", row, row, column, column), ("rectangle", ranges of rows, of columns).
    #[pyo3(signature = (parts: "list[tuple[Any, ...]]", *, tile_rows=None, way=None))]
    fn parts(
        &self,
        py: Python<'_>,
        parts: Vec<Bound<'_, PyTuple>>,
        tile_rows: Option<usize>,
        way: Option<&str>,
    ) -> PyResult<Request> {
        let parts: Vec<Part> = parts.iter().map(part).collect::<PyResult<_>>()?;
        let mut request = raised(py, self.inner.parts(parts))?;
        if let Some(rows) = tile_rows {
            request = request.tile_rows(rows);
        }
        match way {
            None | Some("auto") => {}
            Some("forward") => request = request.way(Way::Forward),
            Some("backward") => request = request.way(Way::Backward),
            Some(other) => {
                return Err(PyValueError::new_err(format!(
                    "unknown way {other:?}: give auto, forward or backward"
                )));
            }
        }
        Ok(Request(request))
    }
}

/// The part that a tuple stands for.
fn part(given: &Bound<'_, PyTuple>) -> PyResult<Part> {
    let kind: String = given.get_item(0)?.extract()?;
    let text = |k: usize| -> PyResult<String> { given.get_item(k)?.extract() };
    let optional = |k: usize| -> PyResult<Option<String>> { given.get_item(k)?.extract() };
    let number = |k: usize| -> PyResult<usize> { given.get_item(k)?.extract() };
    let ranges = |k: usize| -> PyResult<Vec<std::ops::Range<usize>>> {
        let pairs: Vec<(usize, usize)> = given.get_item(k)?.extract()?;
        Ok(pairs.into_iter().map(|(a, b)| a..b).collect())
    };
    Ok(match kind.as_str() {
        "full" => Part::Full,
        "layers" => Part::Layers,
        "diagonal" => Part::Diagonal,
        "layer" => Part::Layer(text(1)?, optional(2)?),
        "param" => Part::Parameter(text(1)?, optional(2)?),
        "range" => Part::range(number(1)?..number(2)?, number(3)?..number(4)?),
        "rectangle" => Part::Rectangle(ranges(1)?, ranges(2)?),
        other => {
            return Err(PyValueError::new_err(format!(
                "unknown kind of part {other:?}: give full, layers, diagonal, layer, param, range or rectangle"
            )));
        }
    })
}

/// A number for each vector.
trait Numbers {
    fn numbers(self) -> Vec<f64>;
}

impl Numbers for f64 {
    fn numbers(self) -> Vec<f64> {
        vec![self]
    }
}

impl Numbers for numpy::ndarray::Array1<f64> {
    fn numbers(self) -> Vec<f64> {
        self.into_raw_vec_and_offset().0
    }
}

fn into_array<'py, T: numpy::Element, D: numpy::ndarray::Dimension>(
    py: Python<'py>,
    array: numpy::ndarray::Array<T, D>,
) -> Bound<'py, PyAny> {
    array.into_pyarray(py).into_any()
}
