//! Requests for parts of a matrix, their plans, and where they are written.

use crate::device::{precision, raised};
use crate::work;
use hessblock::{Bytes, Number, Precision};
use numpy::IntoPyArray;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::path::PathBuf;

/// A part: its name, the flat ranges of its rows, and those of its columns (None for a vector).
pub type PartRow = (String, Vec<(usize, usize)>, Option<Vec<(usize, usize)>>);

/// Ranges as pairs.
pub fn pairs(ranges: &[std::ops::Range<usize>]) -> Vec<(usize, usize)> {
    ranges.iter().map(|r| (r.start, r.end)).collect()
}

/// Parts of a matrix that were asked for.
#[pyclass(frozen, module = "hessblock._core")]
pub struct Request(pub hessblock::Request);

/// The value of JSON as Python's own.
pub fn parsed<'py>(py: Python<'py>, json: &str) -> PyResult<Bound<'py, PyDict>> {
    let value = py.import("json")?.call_method1("loads", (json,))?;
    Ok(value.cast_into::<PyDict>()?)
}

/// Serialised, as a dictionary.
pub fn dictionary<'py>(
    py: Python<'py>,
    value: &impl serde::Serialize,
) -> PyResult<Bound<'py, PyDict>> {
    let json = serde_json::to_string(value)
        .map_err(|e| pyo3::exceptions::PyValueError::new_err(e.to_string()))?;
    parsed(py, &json)
}

impl Request {
    fn arrays<'py, R: Number + numpy::Element>(
        &self,
        py: Python<'py>,
        progress: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let blocks = work::run(py, progress, |token, told| {
            let request = self.0.clone().cancel(token).progress(told.watch());
            request.to_arrays::<R>()
        })?;
        let arrays = blocks.into_iter();
        Ok(arrays
            .map(|b| b.array.into_pyarray(py).into_any())
            .collect())
    }
}

#[pymethods]
impl Request {
    /// The parts, in order.
    #[getter]
    fn parts(&self) -> Vec<PartRow> {
        let each = self.0.resolved().iter();
        each.map(|p| {
            (
                p.name.clone(),
                pairs(&p.rows),
                p.columns.as_deref().map(pairs),
            )
        })
        .collect()
    }

    /// The size of all parts in the device's precision.
    #[getter]
    fn bytes(&self) -> u128 {
        self.0.bytes().0
    }

    /// Returns the request without the parts of more than `limit` bytes, and the names and sizes of these.
    fn without_larger(&self, limit: u64) -> (Request, Vec<(String, u128)>) {
        let (kept, larger) = self.0.clone().without_larger(Bytes(limit.into()));
        let larger = larger.into_iter();
        (
            Request(kept),
            larger.map(|(name, bytes)| (name, bytes.0)).collect(),
        )
    }

    /// The plan of a result in memory, or of one that is written.
    #[pyo3(signature = (output=None))]
    fn plan(&self, py: Python<'_>, output: Option<&Output>) -> PyResult<Plan> {
        let plan = work::run(py, None, |_, _| match output {
            Some(output) => self.0.plan_for(&output.0),
            None => self.0.plan(),
        })?;
        Ok(Plan(plan))
    }

    /// The parts as arrays in "f32", "f64" or, by default, the device's precision. The arrays are the library's memory: nothing
    /// is copied.
    #[pyo3(signature = (dtype=None, *, progress: "Progress" = None) -> "list[NDArray[Any]]")]
    fn to_arrays<'py>(
        &self,
        py: Python<'py>,
        dtype: Option<&str>,
        progress: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let own = self.0.operator().session().device().precision();
        match dtype.map_or(Ok(own), precision)? {
            Precision::F32 => self.arrays::<f32>(py, progress.as_ref()),
            Precision::F64 => self.arrays::<f64>(py, progress.as_ref()),
        }
    }

    /// Computes the parts into files. Returns the report of the run.
    #[pyo3(signature = (output, *, progress: "Progress" = None))]
    fn write<'py>(
        &self,
        py: Python<'py>,
        output: &Output,
        progress: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let report = work::run(py, progress.as_ref(), |token, told| {
            let provenance = self.0.operator().provenance();
            let output = output.0.clone().provenance(provenance);
            let request = self.0.clone().cancel(token).progress(told.watch());
            request.write(output)
        })?;
        dictionary(py, &report)
    }
}

/// The place of a result on disk: by the ending of the path FILE.npy, NAME.zarr, FILE.safetensors, or a folder of .npy files.
#[pyclass(frozen, module = "hessblock._core")]
pub struct Output(pub hessblock::Output);

#[pymethods]
impl Output {
    #[new]
    #[pyo3(signature = (path, *, overwrite=false, restart=false, shard=None, compress=None, chunks_per_file=None, upper_triangle=false))]
    #[allow(clippy::too_many_arguments)] // keywords of Python
    fn new(
        py: Python<'_>,
        path: PathBuf,
        overwrite: bool,
        restart: bool,
        shard: Option<(usize, usize)>,
        compress: Option<i32>,
        chunks_per_file: Option<usize>,
        upper_triangle: bool,
    ) -> PyResult<Output> {
        let mut output = hessblock::Output::new(path)
            .overwrite(overwrite)
            .restart(restart)
            .accept_finished(true)
            .upper_triangle(upper_triangle);
        if let Some((index, of)) = shard {
            output = raised(py, output.shard(index, of))?;
        }
        if let Some(level) = compress {
            output = output.compress(level);
        }
        if let Some(chunks) = chunks_per_file {
            output = output.chunks_per_file(chunks);
        }
        raised(py, output.check())?;
        Ok(Output(output))
    }

    /// The path.
    #[getter]
    fn path(&self) -> String {
        self.0.path().display().to_string()
    }
}

/// The plan of a request: its tiles, operations and memory.
#[pyclass(frozen, module = "hessblock._core")]
pub struct Plan(hessblock::Plan);

#[pymethods]
impl Plan {
    /// Bytes of host memory that it counts on at most, beside the network and the data.
    #[getter]
    fn host_bytes(&self) -> u64 {
        self.0.host_bytes()
    }

    /// Bytes of device memory that it counts on at most.
    #[getter]
    fn device_bytes(&self) -> u64 {
        self.0.device_bytes()
    }

    /// Predicts time and memory. The first forecast on a device measures it for some seconds, once.
    #[pyo3(signature = (*, progress: "Progress" = None))]
    fn forecast<'py>(
        &self,
        py: Python<'py>,
        progress: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let forecast = work::run(py, progress.as_ref(), |token, told| {
            let plan = self.0.clone().cancel(token).progress(told.watch());
            plan.forecast()
        })?;
        dictionary(py, &forecast)
    }

    /// The plan as JSON.
    fn json(&self) -> PyResult<String> {
        serde_json::to_string(&self.0)
            .map_err(|e| pyo3::exceptions::PyValueError::new_err(e.to_string()))
    }

    fn __str__(&self) -> String {
        self.0.to_string()
    }
}
