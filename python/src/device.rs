//! Devices.

use crate::errors::raise;
use crate::work;
use hessblock::Precision;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// A device that is ready to work.
#[pyclass(frozen, module = "hessblock._core")]
pub struct Device(pub hessblock::Device);

/// The precision of that name.
pub fn precision(name: &str) -> PyResult<Precision> {
    match name {
        "f32" => Ok(Precision::F32),
        "f64" => Ok(Precision::F64),
        _ => Err(pyo3::exceptions::PyValueError::new_err(format!(
            "unknown precision {name:?}: give f32 or f64"
        ))),
    }
}

#[pymethods]
impl Device {
    /// Opens "auto", "cpu", "gpu", an index, a part of a name, "all", or a list of indices and names with commas, in "f32" or "f64".
    #[staticmethod]
    fn open(py: Python<'_>, selector: String, precision: &str) -> PyResult<Device> {
        let precision = self::precision(precision)?;
        work::run(py, None, |_, _| {
            hessblock::Device::open(&selector, precision)
        })
        .map(Device)
    }

    /// The device's name.
    #[getter]
    fn name(&self) -> String {
        self.0.name()
    }

    /// The driver and its version; None for the CPU.
    #[getter]
    fn driver(&self) -> Option<String> {
        self.0.driver()
    }

    /// "f32" or "f64".
    #[getter]
    fn precision(&self) -> String {
        self.0.precision().to_string()
    }

    /// A note on the choice, such as that no GPU was found.
    #[getter]
    fn note(&self) -> Option<String> {
        self.0.note().map(String::from)
    }

    /// The number of devices that share the tiles of blocks.
    #[getter]
    fn count(&self) -> usize {
        self.0.count()
    }

    /// Whether it is a GPU.
    #[getter]
    fn is_gpu(&self) -> bool {
        self.0.driver().is_some()
    }
}

/// The devices of this machine: dictionaries with selector, name, kind, backend and driver.
#[pyfunction]
pub fn adapters(py: Python<'_>) -> PyResult<Vec<Bound<'_, PyDict>>> {
    let all = work::run(py, None, |_, _| Ok(hessblock::Device::available()))?;
    let each = all.into_iter().map(|device| {
        let fields = PyDict::new(py);
        fields.set_item("selector", device.selector)?;
        fields.set_item("name", device.name)?;
        fields.set_item("kind", device.kind)?;
        fields.set_item("backend", device.backend)?;
        fields.set_item("driver", device.driver)?;
        Ok(fields)
    });
    each.collect()
}

/// The backends of this build, whether or not this machine has them.
#[pyfunction]
pub fn backends() -> Vec<String> {
    hessblock::Device::backends()
}

/// Raises the library's error.
pub fn raised<T>(py: Python<'_>, result: hessblock::Result<T>) -> PyResult<T> {
    result.map_err(|error| raise(py, error))
}
