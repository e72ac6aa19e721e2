//! The study of how far the approximate chain rule is from the Hessian.

use crate::device::raised;
use crate::work;
use hessblock::Session;
use hessblock::network::initialise::{Initialisation, Initialiser};
use hessblock::study::error::{Draw, choose_layers, gradient_error};
use hessblock::study::pairs::{PairOptions, pair_errors};
use hessblock::study::report::{self, Folder};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::path::PathBuf;

/// The settings of a study.
pub struct Settings {
    /// Patterns of layers; all without one.
    pub layers: Vec<String>,
    pub initialiser: Initialiser,
    /// Initialisations; by default as many as the initialiser needs.
    pub draws: Option<u32>,
    pub seed: u64,
    /// Whether the errors of all blocks are measured too.
    pub pairs: bool,
    pub exact_entries: Option<u64>,
    pub probes: Option<u32>,
    pub spectral: bool,
}

/// Initialisations that are drawn unless the user chooses, as on the command line.
const DRAWS: u32 = 100;

/// Measures gᵀ(H − G)g along the gradients of layers, and the errors of blocks.
pub fn study(session: &Session, settings: &Settings) -> hessblock::Result<report::Study> {
    let layers = choose_layers(session.network(), &settings.layers)?;
    let draw = Draw {
        initialiser: settings.initialiser,
        count: settings.draws.unwrap_or(DRAWS),
        seed: settings.seed,
    };
    let gradient = gradient_error(session, &layers, draw)?;
    let pairs = match settings.pairs {
        false => None,
        true => {
            let defaults = PairOptions::default();
            let options = PairOptions {
                exact_entries: settings
                    .exact_entries
                    .map_or(defaults.exact_entries, u128::from),
                probes: settings.probes.unwrap_or(defaults.probes),
                spectral: settings.spectral,
                seed: settings.seed,
            };
            let drawn = Initialisation::new(session.network(), draw.initialiser, draw.seed);
            let session = session.with_parameters(&drawn.draw(0))?;
            Some(pair_errors(&session, &layers, options)?)
        }
    };
    let mut provenance = session.ggn().provenance();
    provenance.curvature = None;
    Ok(report::Study {
        gradient,
        pairs,
        provenance,
    })
}

/// The findings of a study.
#[pyclass(frozen, module = "hessblock._core")]
pub struct Study(pub report::Study);

#[pymethods]
impl Study {
    /// Everything, as JSON.
    fn json(&self, py: Python<'_>) -> PyResult<String> {
        raised(py, self.0.json())
    }

    /// A row per layer.
    fn csv(&self) -> String {
        self.0.csv()
    }

    /// Every file by its name: JSON, the table, the figures. `name` says in the figures what was studied.
    fn files<'py>(
        &self,
        py: Python<'py>,
        name: &str,
    ) -> PyResult<Vec<(String, Bound<'py, PyBytes>)>> {
        let files = work::run(py, None, |_, _| self.0.files(name))?;
        let each = files.into_iter();
        Ok(each
            .map(|(name, bytes)| (name.to_string(), PyBytes::new(py, &bytes)))
            .collect())
    }

    /// Writes all files into a folder.
    fn write(&self, py: Python<'_>, folder: PathBuf, name: &str, overwrite: bool) -> PyResult<()> {
        work::run(py, None, |_, _| {
            let folder = Folder::new(&folder, overwrite)?;
            folder.write(&self.0.files(name)?)
        })
    }
}
