//! The compiled module `hessblock._core`: the library's interface for Python.

use pyo3::prelude::*;

/// The compiled part of hessblock.
#[pymodule]
mod _core {
    use super::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
