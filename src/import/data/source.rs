//! An array of samples, read piece by piece.

use super::formats::{self, Stored, split_key};
use super::store::Store;
use crate::error::{Error, Result};
use crate::files::npy::{Dtype, Kind};
use crate::memory::SharedBytes;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An array in a file (`.npy`, `.npz`, IDX, gzipped ones), in a folder of `.npy` shards, or in memory.
///
/// Nothing is read until it is asked for, and then only that; memory stays bounded by the range asked for.
///
/// ```
/// use hessblock::data::ArraySource;
/// let source = ArraySource::from(ndarray::array![[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]);
/// assert_eq!(source.shape(), [3, 2]);
/// assert_eq!(source.read_f64(1..3)?, [3.0, 4.0, 5.0, 6.0]);
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Debug)]
pub struct ArraySource {
    path: PathBuf,
    shape: Vec<usize>,
    shards: Shards,
}

#[derive(Debug)]
enum Shards {
    One(Stored),
    /// Opened as they are read: there may be more than a process may keep open.
    Folder(Vec<Shard>),
}

#[derive(Debug)]
struct Shard {
    path: PathBuf,
    dtype: Dtype,
    /// Its extent along the first axis.
    samples: usize,
    compressed: bool,
}

/// Takes bytes of numbers, with the file for messages and the numbers' type.
type Take<'a> = dyn FnMut(&Path, Dtype, &[u8]) -> Result<()> + 'a;

/// Bytes decoded at a time.
const CHUNK: usize = 1 << 18;

impl ArraySource {
    /// Opens a file or a folder of `.npy` shards, which are joined along the first axis in the order of the
    /// numbers in their names (`2.npy` before `10.npy`). `FILE.npz:KEY` names an array in an archive; the key may be left out where there is one.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::File`] where it is absent, of no known format, truncated, or the shards do
    /// not fit each other or have names of which no order is sure.
    pub fn open(path: impl AsRef<Path>) -> Result<ArraySource> {
        let path = path.as_ref();
        if path.is_dir() {
            return Self::open_folder(path);
        }
        let mut stored = formats::open(path)?;
        if stored.shape.is_empty() {
            // A single number, such as a weight: an array of one.
            stored.shape = vec![1];
        }
        Ok(ArraySource {
            path: stored.path.clone(),
            shape: stored.shape.clone(),
            shards: Shards::One(stored),
        })
    }

    fn open_folder(folder: &Path) -> Result<ArraySource> {
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
            let entry = entry.map_err(Error::io(folder))?;
            let path = entry.path();
            let is_array = path
                .extension()
                .is_some_and(|e| e.eq_ignore_ascii_case("npy"));
            // File systems and tools put hidden files beside others (`._1.npy`).
            let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            if !is_array || hidden {
                continue;
            }
            if !path.is_file() {
                return Err(Error::file(
                    &path,
                    "is named as a shard and is no file (a link that leads nowhere, a pipe or a folder): bring the file back, or \
                     move this away",
                ));
            }
            paths.push(path);
        }
        super::order::sort(folder, &mut paths)?;
        let mut shards = Vec::new();
        let mut shape: Option<(Vec<usize>, PathBuf, Dtype)> = None;
        for path in paths {
            let stored = formats::open(&path)?;
            let Some((&samples, rest)) = stored.shape.split_first() else {
                return Err(Error::file(
                    &path,
                    "is a single number: shards need a first axis of samples",
                ));
            };
            let (joined, first, dtype) = shape.get_or_insert_with(|| {
                let mut shape = stored.shape.clone();
                shape[0] = 0;
                (shape, path.clone(), stored.dtype)
            });
            if joined[1..] != *rest || dtype.integer() != stored.dtype.integer() {
                return Err(Error::file(
                    &path,
                    format!(
                        "has shape {:?} of {}, which does not continue {} of shape {joined:?} and {dtype}: shards \
                         differ in their first axis only",
                        stored.shape,
                        stored.dtype,
                        first.display()
                    ),
                ));
            }
            // The sizes of files on a disk add up to less than 2^64, but empty axes weigh nothing.
            joined[0] = joined[0]
                .checked_add(samples)
                .ok_or_else(|| Error::file(folder, "has more samples than can be counted"))?;
            shards.push(Shard {
                compressed: stored.compressed(),
                path,
                dtype: stored.dtype,
                samples,
            });
        }
        let Some((shape, _, _)) = shape else {
            return Err(Error::file(
                folder,
                "is a folder without .npy files: a folder is read as shards of one array",
            ));
        };
        Ok(ArraySource {
            path: folder.to_path_buf(),
            shape,
            shards: Shards::Folder(shards),
        })
    }

    /// An array in memory that belongs to another library, such as a NumPy array: it is read where it lies, row-major. `dtype` is
    /// NumPy's name of its numbers, such as `<f4`.
    ///
    /// ```
    /// use hessblock::data::ArraySource;
    /// use std::sync::Arc;
    /// let owned: Arc<Vec<u8>> = Arc::new([1.5f32, -2.0].iter().flat_map(|v| v.to_le_bytes()).collect());
    /// let source = ArraySource::shared(&[2, 1], "<f4", owned)?;
    /// assert_eq!(source.read_f64(0..2)?, [1.5, -2.0]);
    /// # Ok::<(), hessblock::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Value`] for a type of numbers that is not read, [`Error::Shape`] for another number of bytes than the shape says.
    pub fn shared(shape: &[usize], dtype: &str, bytes: SharedBytes) -> Result<ArraySource> {
        let Some(kind) = Dtype::parse(dtype) else {
            return Err(Error::Value(format!(
                "an array of {dtype}: real numbers, integers and booleans are read"
            )));
        };
        let found = (*bytes).as_ref().len();
        let expected = shape.iter().try_fold(kind.size, |n, &d| n.checked_mul(d));
        if expected != Some(found) {
            return Err(Error::Shape(format!(
                "an array of {dtype} of shape {shape:?} does not hold {found} bytes"
            )));
        }
        Ok(ArraySource::from_bytes(shape.to_vec(), kind, bytes))
    }

    fn from_bytes(shape: Vec<usize>, dtype: Dtype, bytes: SharedBytes) -> ArraySource {
        let path = PathBuf::from("(array in memory)");
        ArraySource {
            path: path.clone(),
            shape: shape.clone(),
            shards: Shards::One(Stored {
                path,
                dtype,
                shape,
                offset: 0,
                store: Store::Memory(bytes),
            }),
        }
    }

    /// Extent per axis; samples are the first axis.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Whether the numbers are integers (or booleans).
    pub fn integer(&self) -> bool {
        match &self.shards {
            Shards::One(stored) => stored.dtype.integer(),
            Shards::Folder(shards) => shards.iter().all(|s| s.dtype.integer()),
        }
    }

    /// The file or folder, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file or folder on disk, without an archive's key; `None` for an array in memory.
    pub fn file(&self) -> Option<PathBuf> {
        match &self.shards {
            Shards::One(stored) if matches!(stored.store, Store::Memory(_)) => None,
            _ => Some(split_key(&self.path).0),
        }
    }

    /// The names of the shards of a folder, in the order in which they are joined; empty for anything else.
    pub fn shards(&self) -> Vec<String> {
        let name = |shard: &Shard| {
            let name = shard.path.file_name().unwrap_or_default();
            name.to_string_lossy().into_owned()
        };
        match &self.shards {
            Shards::One(_) => Vec::new(),
            Shards::Folder(shards) => shards.iter().map(name).collect(),
        }
    }

    /// Samples `range` (of the first axis), widened: `[samples, rest…]`.
    ///
    /// # Errors
    /// [`Error::Shape`] for a range outside the array, [`Error::Io`] or [`Error::File`] where reading fails.
    pub fn read_f64(&self, range: Range<usize>) -> Result<Vec<f64>> {
        self.read_f64_along(0, range)
    }

    /// Samples `range` of that axis, brought to the front: `[samples, other axes…]`.
    ///
    /// # Errors
    /// As [`ArraySource::read_f64`].
    pub fn read_f64_along(&self, axis: usize, range: Range<usize>) -> Result<Vec<f64>> {
        self.check(axis, &range)?;
        let outer: usize = self.shape[..axis].iter().product();
        let inner: usize = self.shape[axis + 1..].iter().product();
        let (extent, count) = (self.shape[axis], range.len() * inner);
        if outer == 0 || count == 0 {
            // An axis before that of samples may be as long as it likes where another is empty.
            return Ok(Vec::new());
        }
        let mut values = self.room(outer * count)?;
        for o in 0..outer {
            let first = (o * extent + range.start) * inner;
            self.read_flat(first, count, &mut |_, dtype, bytes| {
                dtype.decode_f64(bytes, &mut values);
                Ok(())
            })?;
        }
        if outer == 1 {
            return Ok(values);
        }
        // [outer, samples, inner] → [samples, outer, inner].
        let mut turned = crate::memory::room(values.len())?;
        for sample in 0..range.len() {
            for o in 0..outer {
                let at = (o * range.len() + sample) * inner;
                turned.extend_from_slice(&values[at..at + inner]);
            }
        }
        Ok(turned)
    }

    /// Samples `range` as integers: `[samples, rest…]`; floating-point numbers must be whole.
    ///
    /// # Errors
    /// As [`ArraySource::read_f64`]; [`Error::Value`] naming the sample whose number is no integer.
    pub fn read_i64(&self, range: Range<usize>) -> Result<Vec<i64>> {
        self.check(0, &range)?;
        let inner: usize = self.shape[1..].iter().product();
        let mut values = self.room(range.len() * inner)?;
        self.read_flat(
            range.start * inner,
            range.len() * inner,
            &mut |path, dtype, bytes| {
                dtype.decode_i64(bytes, &mut values).map_err(|bad| {
                    let sample = range.start + values.len() / inner.max(1);
                    Error::Value(format!(
                        "{}: sample {sample} holds {bad}, which is no whole number of 64 bits",
                        path.display()
                    ))
                })
            },
        )?;
        Ok(values)
    }

    /// Room for `count` numbers. A compressed file may say a thousand times what comes out of it, so that more is taken
    /// only once that has come.
    fn room<T>(&self, count: usize) -> Result<Vec<T>> {
        let compressed = match &self.shards {
            Shards::One(stored) => stored.compressed(),
            Shards::Folder(shards) => shards.iter().any(|shard| shard.compressed),
        };
        crate::memory::room(if compressed { count.min(CHUNK) } else { count })
    }

    fn check(&self, axis: usize, range: &Range<usize>) -> Result<()> {
        match self.shape.get(axis) {
            Some(extent) if range.start <= range.end && range.end <= *extent => Ok(()),
            Some(extent) => Err(Error::Shape(format!(
                "samples {range:?} are not in {}, which has {extent}",
                self.path.display()
            ))),
            None => Err(Error::Shape(format!(
                "{} of shape {:?} has no axis {axis} of samples",
                self.path.display(),
                self.shape
            ))),
        }
    }

    /// Calls `take` with the bytes of numbers `first..first + count` of the flattened array, piece by piece.
    fn read_flat(&self, first: usize, count: usize, take: &mut Take<'_>) -> Result<()> {
        match &self.shards {
            Shards::One(stored) => stored.read_flat(first, count, take),
            Shards::Folder(shards) => {
                let inner: usize = self.shape[1..].iter().product();
                let mut before = 0;
                for shard in shards {
                    let here = before..before + shard.samples * inner;
                    let (start, end) = (first.max(here.start), (first + count).min(here.end));
                    before = here.end;
                    if start >= end {
                        continue;
                    }
                    let stored = formats::open(&shard.path)?;
                    if stored.shape[1..] != self.shape[1..] || stored.shape[0] != shard.samples {
                        return Err(Error::file(
                            &shard.path,
                            "was changed while it was being read: start again",
                        ));
                    }
                    stored.read_flat(start - here.start, end - start, take)?;
                }
                Ok(())
            }
        }
    }
}

impl Stored {
    fn compressed(&self) -> bool {
        matches!(self.store, Store::Stream(_))
    }

    fn read_flat(&self, first: usize, count: usize, take: &mut Take<'_>) -> Result<()> {
        let size = self.dtype.size;
        debug_assert!(first + count <= self.len());
        let mut buffer = vec![0; CHUNK.min(count * size)];
        let mut done = 0;
        while done < count {
            let piece = (CHUNK / size).min(count - done);
            let bytes = &mut buffer[..piece * size];
            let at = self.offset + ((first + done) * size) as u64;
            self.store.read_exact_at(&self.path, bytes, at)?;
            take(&self.path, self.dtype, bytes)?;
            done += piece;
        }
        if first + count == self.len() && count > 0 {
            self.store.check_end(&self.path)?;
        }
        Ok(())
    }
}

macro_rules! from_array {
    ($($type:ty, $kind:ident);*) => { $(
        impl<D: ndarray::Dimension> From<ndarray::Array<$type, D>> for ArraySource {
            fn from(array: ndarray::Array<$type, D>) -> Self {
                let bytes: Vec<u8> = array.iter().flat_map(|value| value.to_le_bytes()).collect();
                let dtype = Dtype { kind: Kind::$kind, size: size_of::<$type>(), big_endian: false };
                ArraySource::from_bytes(array.shape().to_vec(), dtype, Arc::new(bytes))
            }
        }
    )* };
}
from_array!(f32, Float; f64, Float; u8, Unsigned; i32, Signed; i64, Signed);
