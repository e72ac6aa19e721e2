//! The one error type: each message names the culprit and the cure.
//!
//! Messages quote names and paths, which may hold anything: what is shown of an error is one line, but for a list of nodes,
//! and a terminal obeys none of it ([`crate::text`]).

use crate::text;
use std::path::PathBuf;

/// Everything that can go wrong, from a file that is not there to a device that is lost.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read, written, created or renamed.
    #[error("{}: {}", text::path(path), text::line(&source.to_string()))]
    Io {
        /// The file or folder at fault.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file was read but does not hold what it should.
    #[error("{}: {}", text::path(path), text::line(message))]
    File {
        /// The file at fault.
        path: PathBuf,
        /// What is wrong in it and what would mend it.
        message: String,
    },
    /// The network holds nodes that cannot be taken; all of them are listed.
    #[error("unsupported in this network:{}", listed(.0))]
    Unsupported(Vec<String>),
    /// Shapes that do not fit each other.
    #[error("shape: {}", text::line(.0))]
    Shape(String),
    /// A request that cannot be carried out as asked.
    #[error("{}", text::line(.0))]
    Request(String),
    /// A value that is not finite, or out of its range.
    #[error("{}", text::line(.0))]
    Value(String),
    /// A number of a result or on the way to it is NaN or infinite.
    #[error("{0}")]
    NotFinite(String),
    /// The memory budget is too small, with the arithmetic.
    #[error("{}", text::line(.0))]
    Budget(String),
    /// No such device, or the device failed.
    #[error("device: {}", text::lines(.0))]
    Device(String),
    /// The device has less memory than was planned with.
    #[error("device memory: {}", text::lines(.0))]
    DeviceMemory(String),
    /// The device is gone, or what it gives can no longer be trusted: nothing works on it until it is opened anew.
    #[error("device lost: {}", text::lines(.0))]
    DeviceLost(String),
    /// The run was interrupted; nothing was left under a final name.
    #[error("interrupted")]
    Interrupted,
}

/// A list, an item a line.
fn listed(items: &[String]) -> String {
    items
        .iter()
        .map(|item| format!("\n  {}", text::line(item)))
        .collect()
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Wraps an I/O error with the path it concerns.
    pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.into();
        move |source| Error::Io { path, source }
    }

    /// A file whose content is at fault.
    pub fn file(path: impl Into<PathBuf>, message: impl Into<String>) -> Error {
        Error::File {
            path: path.into(),
            message: message.into(),
        }
    }

    /// A name that is none of those known, with the nearest of them.
    pub(crate) fn unknown(kind: &str, name: &str, known: &[&str]) -> Error {
        let near = known
            .iter()
            .min_by_key(|known| strsim::damerau_levenshtein(known, name));
        Error::Request(format!(
            "no {kind} {name:?}: did you mean {}? There are {}",
            near.unwrap_or(&""),
            known.join(", ")
        ))
    }
}
