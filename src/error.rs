//! The one error type: what a program decides by is data, and the message names the culprit and the cure.
//!
//! Messages quote names and paths, which may hold anything: what is shown of an error is one line, but for a list of nodes,
//! and a terminal obeys none of it.

use crate::bytes::Bytes;
use crate::text;
use std::path::PathBuf;

/// Everything that can go wrong, from a file that is not there to a device that is lost.
///
/// ```
/// use hessblock::data::Dataset;
/// use hessblock::loss::CrossEntropy;
/// use hessblock::network::builder::Builder;
/// use hessblock::{Device, Error, Memory, Part, Precision, Remedy, Session};
/// use ndarray::{Array1, Array2};
///
/// let network = Builder::new(&[40]).linear("a", 300).tanh().linear("b", 10).initialize(0).build()?;
/// let data = Dataset::from_arrays(Array2::<f64>::ones((6, 40)), Array1::<i64>::zeros(6));
/// let session = Session::builder(network)
///     .data(data)
///     .loss(CrossEntropy::mean())
///     .device(Device::cpu(Precision::F32))
///     .memory(Memory::default().host("4MiB".parse()?))
///     .build()?;
/// let refused = session.ggn().parts([Part::layer("b")])?.to_arrays::<f32>();
/// let Err(Error::Budget { remedies, .. }) = refused else { panic!("the budget is too small") };
/// let least = remedies.iter().find_map(|remedy| match remedy {
///     Remedy::HostMemory(least) => Some(*least),
///     _ => None,
/// });
/// let session = session.with_memory(Memory::default().host(least.expect("more would do")));
/// assert!(session.ggn().parts([Part::layer("b")])?.to_arrays::<f32>().is_ok());
/// # Ok::<(), Error>(())
/// ```
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
    /// A file was read but does not hold what it should, or cannot be written as asked.
    #[error("{}: {}", text::path(path), shown(message))]
    File {
        /// The file at fault.
        path: PathBuf,
        /// What is wrong in it and what would mend it.
        message: String,
    },
    /// The network holds nodes that cannot be taken; all of them are listed.
    #[error("unsupported in this network:{}", listed(nodes))]
    Unsupported {
        /// Each node with what is unsupported of it.
        nodes: Vec<String>,
    },
    /// Shapes that do not fit each other.
    #[error("shape: {}", shown(.0))]
    Shape(String),
    /// A request that cannot be carried out as asked.
    #[error("{}", shown(.0))]
    Request(String),
    /// A value that is not finite, or out of its range.
    #[error("{}", shown(.0))]
    Value(String),
    /// A number of a result or on the way to it is NaN or infinite.
    #[error("{}", shown(message))]
    NotFinite {
        /// Where the first such number arose, as far as that was found.
        message: String,
        /// The remedies.
        remedies: Vec<Remedy>,
    },
    /// The memory budget is too small.
    #[error("{}", shown(message))]
    Budget {
        /// Bytes that the least work takes, or what there is of it to hold.
        needed: u64,
        /// Bytes that there are for it.
        available: u64,
        /// The remedies. Each helps by itself, but a host and a device budget are needed together.
        remedies: Vec<Remedy>,
        /// The arithmetic in words, with the remedies.
        message: String,
    },
    /// The disk has no room for a result.
    #[error("{}: {}", text::path(path), shown(message))]
    Disk {
        /// Where the result was to go.
        path: PathBuf,
        /// Bytes of the result.
        needed: u64,
        /// Bytes that are free.
        available: u64,
        /// The remedies; each helps by itself.
        remedies: Vec<Remedy>,
        /// The arithmetic in words, with the remedies.
        message: String,
    },
    /// Another run was begun at the place where this one is to write: it would not go on to the same bits.
    #[error("{}", shown(message))]
    OtherRun {
        /// Where that run keeps what it has made.
        path: PathBuf,
        /// The options and files that differ.
        differences: Vec<String>,
        /// The remedies; each helps by itself.
        remedies: Vec<Remedy>,
        /// All of it in words.
        message: String,
    },
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

/// A remedy for an [`Error`].
///
/// ```
/// use hessblock::{Memory, Remedy};
/// /// The memory that a remedy asks for.
/// fn follow(remedy: &Remedy, memory: Memory) -> Memory {
///     match remedy {
///         Remedy::HostMemory(least) => memory.host(*least),
///         Remedy::DeviceMemory(least) => memory.device(*least),
///         _ => memory,
///     }
/// }
/// let least = "3MiB".parse()?;
/// assert_eq!(follow(&Remedy::HostMemory(least), Memory::default()), Memory::default().host(least));
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Remedy {
    /// Give the host this budget at least ([`crate::Memory::host`]).
    HostMemory(Bytes),
    /// Give the device this budget at least ([`crate::Memory::device`]).
    DeviceMemory(Bytes),
    /// Ask for this part of the request alone, which takes so many bytes.
    Part {
        /// Its name.
        name: String,
        /// Its size.
        bytes: Bytes,
    },
    /// Ask for so many rows of a part at a time ([`crate::Part::range`]).
    Rows {
        /// The part's name.
        part: String,
        /// Rows that fit.
        rows: usize,
    },
    /// Leave out the parts that are larger ([`crate::Request::without_larger`]).
    SkipLarger(Bytes),
    /// Take tiles of more rows ([`crate::Request::tile_rows`]).
    LargerTiles,
    /// Write the result to files in place of making it in memory ([`crate::Request::write`]).
    WriteToFiles,
    /// Begin again ([`crate::Output::restart`]) in place of going on with what an earlier run left.
    Restart,
    /// Compute on the CPU.
    Cpu,
    /// Compute in double precision.
    DoublePrecision,
    /// Scale the inputs.
    ScaleInputs,
    /// Take fewer vectors, layers or entries at a time.
    Fewer,
    /// Take the result with numbers that are not finite ([`crate::SessionBuilder::allow_non_finite`]).
    AllowNonFinite,
}

/// A message in one line.
fn shown(message: &str) -> std::borrow::Cow<'_, str> {
    text::line(message)
}

/// A list, an item a line.
fn listed(items: &[String]) -> String {
    items
        .iter()
        .map(|item| format!("\n  {}", shown(item)))
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

    /// A number that is NaN or infinite, with what is known of it where it was met.
    pub(crate) fn not_finite(message: impl Into<String>) -> Error {
        Error::NotFinite {
            message: message.into(),
            remedies: Vec::new(),
        }
    }

    /// A budget that is too small.
    pub(crate) fn budget(
        (needed, available): (u64, u64),
        remedies: Vec<Remedy>,
        message: impl Into<String>,
    ) -> Error {
        Error::Budget {
            needed,
            available,
            remedies,
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
