//! The compiled module `hessblock._core`: the library's interface for Python.
//!
//! `work` runs computations on a thread of their own, while Python's main thread waits and asks for signals; `errors` turns the
//! library's errors into Python's; `arrays` moves numbers between the two without copies. The other files hold a class each, or a
//! few. What a user sees is the package around this module, in `python/hessblock`.

mod arrays;
mod device;
mod errors;
mod loss;
mod network;
mod operator;
mod request;
mod results;
mod session;
mod study;
mod tools;
mod work;

use log::LevelFilter;
use pyo3::prelude::*;
use pyo3_log::{Caching, Logger};

/// The compiled part of hessblock.
#[pymodule]
mod _core {
    use super::*;

    #[pymodule_export]
    use super::device::{Device, adapters, backends};
    #[pymodule_export]
    use super::loss::Loss;
    #[pymodule_export]
    use super::network::Network;
    #[pymodule_export]
    use super::operator::Operator;
    #[pymodule_export]
    use super::request::{Output, Plan, Request};
    #[pymodule_export]
    use super::results::{
        Blocks, Shown, merge, show, show_array, verify, verify_against, verify_array,
    };
    #[pymodule_export]
    use super::session::{Session, outputs};
    #[pymodule_export]
    use super::study::Study;
    #[pymodule_export]
    use super::tools::{bench, selftest};

    /// The version of the package.
    #[pymodule_export]
    #[allow(non_upper_case_globals)] // Python's name
    const __version__: &str = env!("CARGO_PKG_VERSION");

    #[pymodule_init]
    fn init(py: Python<'_>) -> PyResult<()> {
        // Levels may be set at any time, so they are not remembered. The crates below log for their own developers.
        let logger = Logger::new(py, Caching::Loggers)?
            .filter(LevelFilter::Warn)
            .filter_target("hessblock".into(), LevelFilter::Debug);
        // It fails where another copy of this module installed one; events then go there.
        let _ = logger.install();
        Ok(())
    }
}
