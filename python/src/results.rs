//! Results on disk and in memory: read back, shown, checked, and put together.

use crate::arrays::borrow;
use crate::device::{precision, raised};
use crate::operator::Operator;
use crate::request::{PartRow, dictionary, pairs};
use crate::work;
use hessblock::Precision;
use hessblock::results::{self, PartLayout, VerifyOptions};
use hessblock::show::{ShowOptions, Zoom, show as draw};
use numpy::IntoPyArray;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use std::path::PathBuf;

/// A result on disk. Nothing is loaded until it is read.
#[pyclass(frozen, module = "hessblock._core")]
pub struct Blocks(results::Blocks);

#[pymethods]
impl Blocks {
    /// Opens a result by the path that it was written to.
    #[staticmethod]
    fn open(py: Python<'_>, path: PathBuf) -> PyResult<Blocks> {
        work::run(py, None, |_, _| results::Blocks::open(&path)).map(Blocks)
    }

    /// The parts, in the order of the request.
    #[getter]
    fn parts(&self) -> Vec<PartRow> {
        let layouts = self.0.parts().iter().map(|part| &part.layout);
        layouts
            .map(|l| {
                (
                    l.name.clone(),
                    pairs(&l.rows),
                    l.columns.as_deref().map(pairs),
                )
            })
            .collect()
    }

    /// The parameters in the flat order: name, layer, shape, offset.
    #[getter]
    fn parameters(&self) -> Vec<(String, String, Vec<usize>, usize)> {
        let each = self.0.parameters().iter();
        each.map(|p| (p.name.clone(), p.layer.clone(), p.shape.clone(), p.offset))
            .collect()
    }

    /// The provenance of the result, as JSON.
    #[getter]
    fn provenance(&self) -> String {
        self.0.provenance().to_string()
    }

    /// Rows and columns of a part, half-open, as an array of "f32" or "f64"; without columns, those of a vector.
    #[pyo3(signature = (part, rows, columns, dtype) -> "NDArray[Any]")]
    fn read<'py>(
        &self,
        py: Python<'py>,
        part: usize,
        rows: (usize, usize),
        columns: Option<(usize, usize)>,
        dtype: &str,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (rows, columns) = (rows.0..rows.1, columns.map(|c| c.0..c.1));
        let dtype = precision(dtype)?;
        let block = work::run(py, None, |_, _| {
            let across = columns.clone().unwrap_or(0..1);
            self.0.block(part, rows, across)
        })?;
        let vector = columns.is_none();
        Ok(match (dtype, vector) {
            (Precision::F64, false) => block.into_pyarray(py).into_any(),
            (Precision::F64, true) => block.flatten().into_owned().into_pyarray(py).into_any(),
            (Precision::F32, false) => block.mapv(|v| v as f32).into_pyarray(py).into_any(),
            (Precision::F32, true) => {
                let values = block.iter().map(|&v| v as f32);
                values.collect::<Vec<f32>>().into_pyarray(py).into_any()
            }
        })
    }
}

/// Pictures and tables of a result.
#[pyclass(frozen, module = "hessblock._core")]
pub struct Shown(hessblock::show::Shown);

#[pymethods]
impl Shown {
    /// The matrix and the network.
    #[getter]
    fn title(&self) -> String {
        self.0.title.clone()
    }

    /// The table: of every part, the blocks between its layers.
    fn table(&self) -> String {
        self.0.table()
    }

    /// A page that needs no other file.
    fn html(&self, py: Python<'_>) -> PyResult<String> {
        work::run(py, None, |_, _| self.0.html())
    }

    /// The pictures as PNG.
    fn png<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let png = work::run(py, None, |_, _| self.0.drawing().png())?;
        Ok(PyBytes::new(py, &png))
    }

    /// The pictures as SVG.
    fn svg(&self, py: Python<'_>) -> PyResult<String> {
        work::run(py, None, |_, _| self.0.drawing().svg())
    }

    /// Everything that was found, as JSON.
    fn json(&self) -> PyResult<String> {
        serde_json::to_string(&self.0).map_err(|e| PyValueError::new_err(e.to_string()))
    }
}

/// Reads a result once, for its tables and pictures. `zoom` is a layer, two layers with a comma between, or flat ranges such as
/// 0..10,5..9.
#[pyfunction]
#[pyo3(signature = (path, *, parts=vec![], layer=None, range=None, size=800))]
pub fn show(
    py: Python<'_>,
    path: PathBuf,
    parts: Vec<String>,
    layer: Option<(String, Option<String>)>,
    range: Option<(usize, usize, usize, usize)>,
    size: usize,
) -> PyResult<Shown> {
    let layer = layer.map(|(row, column)| Zoom::Layer(row, column));
    let range = range.map(|(a, b, c, d)| Zoom::Range(a..b, c..d));
    let shown = work::run(py, None, |token, _| {
        let blocks = results::Blocks::open(&path)?;
        let options = ShowOptions {
            parts,
            zoom: layer.or(range),
            size,
            cancel: token.clone(),
        };
        draw(&blocks, &path.display().to_string(), &options)
    })?;
    Ok(Shown(shown))
}

/// Tables and a picture of a part that is in memory.
#[pyfunction]
#[pyo3(signature = (operator, part: "PartRow", array: "NDArray[Any]", *, name, size=800))]
pub fn show_array(
    py: Python<'_>,
    operator: &Operator,
    part: PartRow,
    array: &Bound<'_, PyAny>,
    name: &str,
    size: usize,
) -> PyResult<Shown> {
    let blocks = in_memory(py, operator, part, array)?;
    let shown = work::run(py, None, |token, _| {
        let options = ShowOptions {
            size,
            cancel: token.clone(),
            ..ShowOptions::default()
        };
        draw(&blocks, name, &options)
    })?;
    Ok(Shown(shown))
}

/// Checks a result on disk against the definition, as JSON.
#[pyfunction]
#[pyo3(signature = (path, *, entries=64, seed=0, progress: "Progress" = None))]
pub fn verify(
    py: Python<'_>,
    path: PathBuf,
    entries: usize,
    seed: u64,
    progress: Option<Bound<'_, PyAny>>,
) -> PyResult<String> {
    let verdict = work::run(py, progress.as_ref(), |token, told| {
        let options = VerifyOptions {
            entries,
            seed,
            cancel: token.clone(),
            ..VerifyOptions::default()
        };
        results::verify_with_progress(&path, &options, &told.watch())
    })?;
    serde_json::to_string(&verdict).map_err(|e| PyValueError::new_err(e.to_string()))
}

/// Checks a result on disk against the matrix that it was made of, as JSON.
#[pyfunction]
#[pyo3(signature = (operator, path, *, entries=64, seed=0, progress: "Progress" = None))]
pub fn verify_against(
    py: Python<'_>,
    operator: &Operator,
    path: PathBuf,
    entries: usize,
    seed: u64,
    progress: Option<Bound<'_, PyAny>>,
) -> PyResult<String> {
    let blocks = work::run(py, None, |_, _| results::Blocks::open(&path))?;
    judged(py, operator, &blocks, (entries, seed), progress.as_ref())
}

/// Checks a part that is in memory against the definition, as JSON.
#[pyfunction]
#[pyo3(signature = (operator, part: "PartRow", array: "NDArray[Any]", *, entries=64, seed=0, progress: "Progress" = None))]
pub fn verify_array(
    py: Python<'_>,
    operator: &Operator,
    part: PartRow,
    array: &Bound<'_, PyAny>,
    entries: usize,
    seed: u64,
    progress: Option<Bound<'_, PyAny>>,
) -> PyResult<String> {
    let blocks = in_memory(py, operator, part, array)?;
    judged(py, operator, &blocks, (entries, seed), progress.as_ref())
}

/// A part that is in memory as a result.
fn in_memory(
    py: Python<'_>,
    operator: &Operator,
    part: PartRow,
    array: &Bound<'_, PyAny>,
) -> PyResult<results::Blocks> {
    let lent = borrow(array)?;
    let ranges = |pairs: Vec<(usize, usize)>| pairs.into_iter().map(|(a, b)| a..b).collect();
    let layout = PartLayout {
        name: part.0,
        rows: ranges(part.1),
        columns: part.2.map(ranges),
    };
    raised(
        py,
        operator
            .inner
            .in_memory(vec![(layout, &lent.dtype, lent.bytes)]),
    )
}

/// The verdict on a result, as JSON.
fn judged(
    py: Python<'_>,
    operator: &Operator,
    blocks: &results::Blocks,
    (entries, seed): (usize, u64),
    progress: Option<&Bound<'_, PyAny>>,
) -> PyResult<String> {
    let verdict = work::run(py, progress, |token, told| {
        let options = VerifyOptions {
            entries,
            seed,
            cancel: token.clone(),
            ..VerifyOptions::default()
        };
        let operator = operator.inner.clone().progress(told.watch());
        results::verify_against(blocks, &operator, &options)
    })?;
    serde_json::to_string(&verdict).map_err(|e| PyValueError::new_err(e.to_string()))
}

/// Puts the shares of several processes together.
#[pyfunction]
#[pyo3(signature = (path, *, overwrite=false, progress: "Progress" = None))]
pub fn merge<'py>(
    py: Python<'py>,
    path: PathBuf,
    overwrite: bool,
    progress: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let merged = work::run(py, progress.as_ref(), |token, told| {
        results::merge(&path, overwrite, &mut |done, all| {
            told.step(done as u64, all as u64);
            match token.is_cancelled() {
                true => Err(hessblock::Error::Interrupted),
                false => Ok(()),
            }
        })
    })?;
    dictionary(py, &merged)
}
