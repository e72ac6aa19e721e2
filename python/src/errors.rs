//! The library's errors as the exceptions of `hessblock._errors`.

use hessblock::{Error, Remedy};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

/// The exception for an error. Where it cannot be made, that failure is raised.
pub fn raise(py: Python<'_>, error: Error) -> PyErr {
    exception(py, &error).unwrap_or_else(|failure| failure)
}

fn exception(py: Python<'_>, error: &Error) -> PyResult<PyErr> {
    let fields = PyDict::new(py);
    let name = match error {
        Error::Io { path, .. } | Error::File { path, .. } => {
            fields.set_item("path", path.display().to_string())?;
            "FileError"
        }
        Error::Unsupported { nodes } => {
            fields.set_item("nodes", nodes)?;
            "UnsupportedError"
        }
        Error::Shape(_) => "ShapeError",
        Error::Request(_) => "RequestError",
        Error::Value(_) => "InvalidValueError",
        Error::NotFinite { remedies, .. } => {
            fields.set_item("remedies", listed(py, remedies)?)?;
            "NotFiniteError"
        }
        Error::Budget {
            needed,
            available,
            remedies,
            ..
        } => {
            fields.set_item("needed", needed)?;
            fields.set_item("available", available)?;
            fields.set_item("remedies", listed(py, remedies)?)?;
            "BudgetError"
        }
        Error::Disk {
            path,
            needed,
            available,
            remedies,
            ..
        } => {
            fields.set_item("path", path.display().to_string())?;
            fields.set_item("needed", needed)?;
            fields.set_item("available", available)?;
            fields.set_item("remedies", listed(py, remedies)?)?;
            "DiskError"
        }
        Error::OtherRun {
            path,
            differences,
            remedies,
            ..
        } => {
            fields.set_item("path", path.display().to_string())?;
            fields.set_item("differences", differences)?;
            fields.set_item("remedies", listed(py, remedies)?)?;
            "OtherRunError"
        }
        Error::Device(_) | Error::DeviceMemory(_) | Error::DeviceLost(_) => "DeviceError",
        Error::Interrupted => "Interrupted",
        _ => "Error",
    };
    let class = py.import("hessblock._errors")?.getattr(name)?;
    let value = class.call((error.to_string(),), Some(&fields))?;
    Ok(PyErr::from_value(value))
}

/// Remedies as pairs of a kind and its details.
fn listed<'py>(py: Python<'py>, remedies: &[Remedy]) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for remedy in remedies {
        let details = PyDict::new(py);
        let kind = match remedy {
            Remedy::HostMemory(bytes) => {
                details.set_item("bytes", bytes.0)?;
                "host_memory"
            }
            Remedy::DeviceMemory(bytes) => {
                details.set_item("bytes", bytes.0)?;
                "memory"
            }
            Remedy::Part { name, bytes } => {
                details.set_item("name", name)?;
                details.set_item("bytes", bytes.0)?;
                "part"
            }
            Remedy::Rows { part, rows } => {
                details.set_item("part", part)?;
                details.set_item("rows", rows)?;
                "rows"
            }
            Remedy::SkipLarger(bytes) => {
                details.set_item("bytes", bytes.0)?;
                "skip_larger"
            }
            Remedy::LargerTiles => "larger_tiles",
            Remedy::WriteToFiles => "write_to_files",
            Remedy::Restart => "restart",
            Remedy::Cpu => "cpu",
            Remedy::DoublePrecision => "double_precision",
            Remedy::ScaleInputs => "scale_inputs",
            Remedy::Fewer => "fewer",
            Remedy::AllowNonFinite => "allow_non_finite",
            _ => "other",
        };
        list.append((kind, details))?;
    }
    Ok(list)
}
