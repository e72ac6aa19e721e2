//! A study as files: JSON with everything, a table, the figures.

use super::error::GradientError;
use super::pairs::PairErrors;
use super::quantiles::Quantiles;
use crate::error::{Error, Result};
use crate::files::whole::Whole;
use crate::files::writing::Underway;
use crate::files::{folders, is_there, is_writable, sync_folder};
use crate::setting::FORCE;
use crate::sink::Provenance;
use serde::Serialize;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// What was found, with what it was found from.
///
/// ```
/// use hessblock::results::Provenance;
/// use hessblock::study::report::Study;
/// # use hessblock::data::Dataset;
/// # use hessblock::loss::CrossEntropy;
/// # use hessblock::network::builder::Builder;
/// # use hessblock::{Device, Output, Part, Precision, Session};
/// # use ndarray::{arr1, arr2};
/// # let network = Builder::new(&[3]).linear("fc1", 4).tanh().linear("fc2", 2).initialize(0).build()?;
/// # let data = Dataset::from_arrays(arr2(&[[0.1, 0.2, 0.3], [0.5, -0.4, 0.0]]), arr1(&[0i64, 1]));
/// # let session = Session::builder(network).data(data).loss(CrossEntropy::mean())
/// #     .device(Device::cpu(Precision::F64)).build()?;
/// # use hessblock::network::initialise::Initialiser;
/// # use hessblock::study::error::{Draw, gradient_error};
/// # let draw = Draw { initialiser: Initialiser::He, count: 3, seed: 0 };
/// # let error = gradient_error(&session, &session.network().layers(), draw)?;
/// let study = Study { gradient: error, pairs: None, provenance: Provenance::now() };
/// assert!(study.csv().starts_with("layer,parameters,draws"));
/// assert_eq!(study.csv().lines().count(), 3); // a heading and two layers
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug, Serialize)]
pub struct Study {
    /// Along the gradients of the layers.
    pub gradient: GradientError,
    /// In every block, where it was asked for.
    pub pairs: Option<PairErrors>,
    /// Files and options.
    pub provenance: Provenance,
}

/// The files of a study.
pub const FILES: [&str; 6] = [
    "error.json",
    "error.csv",
    "error.png",
    "error.svg",
    "pairs.png",
    "pairs.svg",
];

impl Study {
    /// Everything, as JSON.
    ///
    /// # Errors
    /// [`Error::Value`] where a number cannot be written.
    pub fn json(&self) -> Result<String> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|e| Error::Value(format!("the study cannot be written as JSON: {e}")))?;
        Ok(text + "\n")
    }

    /// A row per layer: quantiles of |gᵀ(H − G)g| / ‖g‖², gᵀGg / ‖g‖², gᵀHg / ‖g‖² and |gᵀ(H − G)g| / |gᵀHg|; empty where
    /// there is no number.
    pub fn csv(&self) -> String {
        let mut text = String::from("layer,parameters,draws");
        for what in ["error", "ggn", "hessian", "relative"] {
            for quantile in ["05", "median", "95"] {
                let _ = write!(text, ",{what}_{quantile}");
            }
        }
        text.push('\n');
        for layer in &self.gradient.layers {
            let draws = layer.draws.iter().flatten().count();
            let _ = write!(
                text,
                "{},{},{draws}",
                quoted(&layer.layer),
                layer.parameters
            );
            for quantiles in [layer.error, layer.ggn, layer.hessian, layer.relative] {
                let _ = match quantiles {
                    Some(Quantiles { low, median, high }) => {
                        write!(text, ",{low:e},{median:e},{high:e}")
                    }
                    None => write!(text, ",,,"),
                };
            }
            text.push('\n');
        }
        text
    }

    /// Every file by its name; figures only with the feature `plot`. `name` says in the figures what was studied.
    ///
    /// # Errors
    /// As [`Study::json`], and where a figure cannot be drawn.
    pub fn files(&self, name: &str) -> Result<Vec<(&'static str, Vec<u8>)>> {
        #[cfg_attr(not(feature = "plot"), allow(unused_mut))] // figures are added to it
        let mut files = vec![
            ("error.json", self.json()?.into_bytes()),
            ("error.csv", self.csv().into_bytes()),
        ];
        #[cfg(feature = "plot")]
        {
            let error = super::figure::gradient(&self.gradient, name);
            files.push(("error.png", error.png()?));
            files.push(("error.svg", error.svg()?.into_bytes()));
            if let Some(pairs) = &self.pairs {
                let pairs = super::figure::pairs(pairs, name);
                files.push(("pairs.png", pairs.png()?));
                files.push(("pairs.svg", pairs.svg()?.into_bytes()));
            }
        }
        #[cfg(not(feature = "plot"))]
        let _ = name;
        Ok(files)
    }
}

/// A field of a CSV file (RFC 4180).
fn quoted(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.into(),
    }
}

/// A folder for the files of a study.
///
/// ```
/// use hessblock::study::report::{Folder, Study};
/// # use hessblock::results::Provenance;
/// # use hessblock::data::Dataset;
/// # use hessblock::loss::CrossEntropy;
/// # use hessblock::network::builder::Builder;
/// # use hessblock::{Device, Output, Part, Precision, Session};
/// # use ndarray::{arr1, arr2};
/// # let network = Builder::new(&[3]).linear("fc1", 4).tanh().linear("fc2", 2).initialize(0).build()?;
/// # let data = Dataset::from_arrays(arr2(&[[0.1, 0.2, 0.3], [0.5, -0.4, 0.0]]), arr1(&[0i64, 1]));
/// # let session = Session::builder(network).data(data).loss(CrossEntropy::mean())
/// #     .device(Device::cpu(Precision::F64)).build()?;
/// # use hessblock::network::initialise::Initialiser;
/// # use hessblock::study::error::{Draw, gradient_error};
/// # let draw = Draw { initialiser: Initialiser::He, count: 3, seed: 0 };
/// # let error = gradient_error(&session, &session.network().layers(), draw)?;
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("study");
/// # let study = Study { gradient: error, pairs: None, provenance: Provenance::now() };
/// let folder = Folder::new(&path, false)?;
/// folder.write(&[("error.csv", study.csv().into_bytes())])?;
/// assert!(path.join("error.csv").exists());
/// assert!(Folder::new(&path, false).is_err()); // it exists now
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// A folder that can be written to, checked before any work starts.
    ///
    /// # Errors
    /// [`Error::File`] where it cannot be made, or is there and `force` was not given.
    pub fn new(path: &Path, force: bool) -> Result<Folder> {
        match std::fs::symlink_metadata(path) {
            Err(_) => folders::check(path)?,
            Ok(_) if !force => {
                return Err(Error::file(
                    path,
                    format!(
                        "exists already: choose another name, remove it, or write into it with {FORCE}"
                    ),
                ));
            }
            Ok(meta) if meta.is_symlink() => {
                return Err(Error::file(
                    path,
                    "is a link, and nothing is written through one: name the folder that it leads to",
                ));
            }
            Ok(_) if !path.is_dir() => {
                return Err(Error::file(path, "is not a folder: choose another name"));
            }
            Ok(_) if !is_writable(path) => {
                return Err(Error::file(
                    path,
                    "the folder cannot be written: choose another",
                ));
            }
            Ok(_) => {}
        }
        Ok(Folder(path.to_path_buf()))
    }

    /// Writes the files, each under its name once all are whole; those of an older study that are not among them go.
    ///
    /// # Errors
    /// [`Error::Io`] with the file.
    pub fn write(&self, files: &[(&'static str, Vec<u8>)]) -> Result<()> {
        let _writing = Underway::writing();
        // Where no file can be written, it is removed again.
        let _made = folders::make(&self.0)?;
        let whole = |(name, bytes): &(&str, Vec<u8>)| Whole::new(&self.0.join(name), bytes);
        let written = files.iter().map(whole).collect::<Result<Vec<Whole>>>()?;
        written.into_iter().try_for_each(Whole::place)?;
        for name in FILES {
            let path = self.0.join(name);
            if !files.iter().any(|(written, _)| *written == name) && is_there(&path) {
                std::fs::remove_file(&path).map_err(Error::io(&path))?;
            }
        }
        sync_folder(&self.0)
    }
}
