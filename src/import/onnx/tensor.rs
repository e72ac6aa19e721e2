//! Tensors of the file as host arrays: inside or outside the file, raw or typed, every number type.

use super::proto::{self, data_type};
use crate::error::{Error, Result};
use crate::network::MOST_AXES;
use crate::tensor::{HostArray, HostData};
use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// A constant of the graph: what folding works on. Integers and booleans are held as `i64`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Array {
    pub shape: Vec<usize>,
    pub data: Data,
}

/// The values of an [`Array`].
#[derive(Clone, Debug)]
pub(crate) enum Data {
    F32(Arc<Vec<f32>>),
    F64(Arc<Vec<f64>>),
    Int(Arc<Vec<i64>>),
}

/// The same memory is equal unread, so a NaN that two batch sizes share does not make them differ.
impl PartialEq for Data {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Data::F32(a), Data::F32(b)) => Arc::ptr_eq(a, b) || a == b,
            (Data::F64(a), Data::F64(b)) => Arc::ptr_eq(a, b) || a == b,
            (Data::Int(a), Data::Int(b)) => Arc::ptr_eq(a, b) || a == b,
            _ => false,
        }
    }
}

impl Array {
    pub fn ints(shape: &[usize], values: Vec<i64>) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), values.len());
        Self {
            shape: shape.to_vec(),
            data: Data::Int(Arc::new(values)),
        }
    }

    /// Real values, held in single precision where that is exact and they are not to be `double`: what is
    /// computed of constants is not rounded on the way.
    pub fn reals(shape: &[usize], values: Vec<f64>, double: bool) -> Self {
        let rounds = |v: &f64| f64::from(*v as f32) != *v && !v.is_nan();
        let data = if double || values.iter().any(rounds) {
            Data::F64(Arc::new(values))
        } else {
            Data::F32(Arc::new(values.into_iter().map(|x| x as f32).collect()))
        };
        Self {
            shape: shape.to_vec(),
            data,
        }
    }

    pub fn len(&self) -> usize {
        match &self.data {
            Data::F32(v) => v.len(),
            Data::F64(v) => v.len(),
            Data::Int(v) => v.len(),
        }
    }

    pub fn bytes(&self) -> usize {
        let each = match &self.data {
            Data::F32(_) => 4,
            Data::F64(_) | Data::Int(_) => 8,
        };
        self.len().saturating_mul(each)
    }

    /// Where its values are: the same for arrays that share them.
    pub fn address(&self) -> usize {
        match &self.data {
            Data::F32(v) => Arc::as_ptr(v).addr(),
            Data::F64(v) => Arc::as_ptr(v).addr(),
            Data::Int(v) => Arc::as_ptr(v).addr(),
        }
    }

    pub fn is_float(&self) -> bool {
        !matches!(self.data, Data::Int(_))
    }

    pub fn is_double(&self) -> bool {
        matches!(self.data, Data::F64(_))
    }

    /// The values as integers; `None` for an array of reals.
    pub fn as_ints(&self) -> Option<&[i64]> {
        match &self.data {
            Data::Int(v) => Some(v),
            _ => None,
        }
    }

    pub fn to_f64(&self) -> Vec<f64> {
        match &self.data {
            Data::F32(v) => v.iter().map(|&x| x.into()).collect(),
            Data::F64(v) => v.to_vec(),
            Data::Int(v) => v.iter().map(|&x| x as f64).collect(),
        }
    }

    /// The single value of an array of one element.
    pub fn scalar(&self) -> Option<f64> {
        (self.len() == 1).then(|| match &self.data {
            Data::F32(v) => v[0].into(),
            Data::F64(v) => v[0],
            Data::Int(v) => v[0] as f64,
        })
    }

    /// Whether a value is not a number (NaN).
    pub fn has_nan(&self) -> bool {
        match &self.data {
            Data::F32(v) => v.iter().any(|x| x.is_nan()),
            Data::F64(v) => v.iter().any(|x| x.is_nan()),
            Data::Int(_) => false,
        }
    }

    /// Whether it holds −∞ and otherwise finite numbers alone.
    pub fn is_mask(&self) -> bool {
        let open = |x: f64| x == f64::NEG_INFINITY;
        let (any, all) = match &self.data {
            Data::F32(v) => (
                v.iter().any(|&x| open(x.into())),
                v.iter().all(|&x| open(x.into()) || x.is_finite()),
            ),
            Data::F64(v) => (
                v.iter().any(|&x| open(x)),
                v.iter().all(|&x| open(x) || x.is_finite()),
            ),
            Data::Int(_) => (false, false),
        };
        any && all
    }

    /// The same values under another shape of the same size.
    pub fn reshaped(&self, shape: &[usize]) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), self.len());
        Self {
            shape: shape.to_vec(),
            data: self.data.clone(),
        }
    }

    /// The values at the given flat positions under a new shape.
    pub fn pick(&self, shape: &[usize], positions: &[usize]) -> Self {
        let data = match &self.data {
            Data::F32(v) => Data::F32(Arc::new(positions.iter().map(|&k| v[k]).collect())),
            Data::F64(v) => Data::F64(Arc::new(positions.iter().map(|&k| v[k]).collect())),
            Data::Int(v) => Data::Int(Arc::new(positions.iter().map(|&k| v[k]).collect())),
        };
        Self {
            shape: shape.to_vec(),
            data,
        }
    }

    /// As an array of the network; integers become single precision.
    pub fn to_host(&self) -> HostArray {
        let data = match &self.data {
            Data::F32(v) => HostData::F32(v.clone()),
            Data::F64(v) => HostData::F64(v.clone()),
            Data::Int(v) => HostData::F32(Arc::new(v.iter().map(|&x| x as f32).collect())),
        };
        HostArray {
            shape: self.shape.clone(),
            data,
        }
    }

    pub fn from_host(host: &HostArray) -> Self {
        Self {
            shape: host.shape.clone(),
            data: match &host.data {
                HostData::F32(v) => Data::F32(v.clone()),
                HostData::F64(v) => Data::F64(v.clone()),
            },
        }
    }
}

/// Elements above which an array is taken for damaged, however many samples it was baked for.
const MOST: usize = 1 << 40;

/// Elements that an empty array may have beside its axes of extent 0: nothing bounds them but this.
const MOST_BESIDE_NONE: usize = 1 << 22;

/// The number of elements of a shape; `None` where its axes are more or its extents larger than can be, so that
/// products of any of them stay within `usize`.
pub(crate) fn elements(shape: &[usize]) -> Option<usize> {
    if shape.len() > MOST_AXES {
        return None;
    }
    let empty = shape.contains(&0);
    let most = if empty { MOST_BESIDE_NONE } else { MOST };
    let all = shape
        .iter()
        .try_fold(1usize, |all, &d| all.checked_mul(d.max(1)))
        .filter(|&all| all <= most)?;
    Some(if empty { 0 } else { all })
}

/// The extents of a tensor, checked: none negative, the product as [`elements`] allows.
pub(crate) fn extents(dims: &[i64]) -> Option<Vec<usize>> {
    let shape: Vec<usize> = dims
        .iter()
        .map(|&d| usize::try_from(d).ok())
        .collect::<Option<_>>()?;
    elements(&shape)?;
    Some(shape)
}

/// Bytes read from each file beside the ONNX file: a small one may not ask for a large one many times over.
pub(crate) type Outside = HashMap<PathBuf, u64>;

/// How often all of a file of external data may be read, for tensors that share their place in it, and bytes that
/// are no matter.
const MOST_OFTEN: u64 = 2;
const MOST_MORE: u64 = 1 << 24;

/// Reads a tensor; `path` is the ONNX file, beside which external data lie, or empty where there may be none.
///
/// # Errors
/// [`Error::File`] naming the tensor: a size that disagrees with the shape, a number type that is not
/// read, external data that are missing, short, or outside the file's folder.
pub(crate) fn read(
    tensor: &proto::Tensor,
    path: &Path,
    read_outside: &mut Outside,
) -> Result<Array> {
    let fault = |message: String| Error::file(path, format!("tensor {:?}: {message}", tensor.name));
    let shape = extents(&tensor.dims)
        .ok_or_else(|| fault(format!("its shape {:?} cannot be", tensor.dims)))?;
    let count: usize = shape.iter().product();
    let kind = tensor.data_type;
    let size = match kind {
        data_type::FLOAT | data_type::INT32 | data_type::UINT32 => 4,
        data_type::DOUBLE | data_type::INT64 | data_type::UINT64 => 8,
        data_type::FLOAT16 | data_type::BFLOAT16 | data_type::INT16 | data_type::UINT16 => 2,
        data_type::INT8 | data_type::UINT8 | data_type::BOOL => 1,
        other => {
            return Err(fault(format!(
                "its number type {other} is not read; float32, float64, float16, bfloat16, integers and bool are"
            )));
        }
    };
    let bytes = count
        .checked_mul(size)
        .ok_or_else(|| fault(format!("its shape {shape:?} cannot be")))?;
    let outside;
    let raw: &[u8] = if tensor.data_location == 1 {
        outside = external(tensor, path, bytes, read_outside)?;
        &outside
    } else {
        &tensor.raw_data
    };
    let disagree = |found: usize, unit: &str| {
        fault(format!(
            "it holds {found} {unit} where its shape {shape:?} says {}; the file is damaged",
            if unit == "bytes" { bytes } else { count }
        ))
    };
    let typed = match kind {
        data_type::FLOAT => tensor.float_data.len(),
        data_type::DOUBLE => tensor.double_data.len(),
        data_type::INT64 => tensor.int64_data.len(),
        data_type::UINT32 | data_type::UINT64 => tensor.uint64_data.len(),
        _ => tensor.int32_data.len(),
    };
    if raw.is_empty() && tensor.data_location != 1 {
        if typed != count {
            return Err(disagree(typed, "values"));
        }
        let data = match kind {
            data_type::FLOAT => Data::F32(Arc::new(tensor.float_data.clone())),
            data_type::DOUBLE => Data::F64(Arc::new(tensor.double_data.clone())),
            data_type::INT64 => Data::Int(Arc::new(tensor.int64_data.clone())),
            data_type::UINT32 | data_type::UINT64 => Data::Int(Arc::new(
                tensor.uint64_data.iter().map(|&x| x as i64).collect(),
            )),
            data_type::FLOAT16 | data_type::BFLOAT16 => {
                let bits = tensor.int32_data.iter().map(|&x| x as u16);
                Data::F32(Arc::new(
                    bits.map(|b| half_to_f32(b, kind == data_type::BFLOAT16))
                        .collect(),
                ))
            }
            _ => Data::Int(Arc::new(
                tensor.int32_data.iter().map(|&x| x.into()).collect(),
            )),
        };
        return Ok(Array { shape, data });
    }
    if raw.len() != bytes {
        return Err(disagree(raw.len(), "bytes"));
    }
    let data = decode(raw, kind).expect("the types were matched above");
    Ok(Array { shape, data })
}

fn half_to_f32(bits: u16, brain: bool) -> f32 {
    if brain {
        half::bf16::from_bits(bits).to_f32()
    } else {
        half::f16::from_bits(bits).to_f32()
    }
}

/// Little-endian bytes as values.
fn decode(raw: &[u8], kind: i32) -> Option<Data> {
    macro_rules! each {
        ($type:ty) => {
            raw.chunks_exact(size_of::<$type>())
                .map(|b| <$type>::from_le_bytes(b.try_into().expect("chunks have this size")))
        };
    }
    macro_rules! ints {
        ($type:ty) => {
            Data::Int(Arc::new(each!($type).map(|x| x as i64).collect()))
        };
    }
    Some(match kind {
        data_type::FLOAT => Data::F32(Arc::new(each!(f32).collect())),
        data_type::DOUBLE => Data::F64(Arc::new(each!(f64).collect())),
        data_type::FLOAT16 | data_type::BFLOAT16 => Data::F32(Arc::new(
            each!(u16)
                .map(|b| half_to_f32(b, kind == data_type::BFLOAT16))
                .collect(),
        )),
        data_type::INT64 => ints!(i64),
        data_type::UINT64 => ints!(u64),
        data_type::INT32 => ints!(i32),
        data_type::UINT32 => ints!(u32),
        data_type::INT16 => ints!(i16),
        data_type::UINT16 => ints!(u16),
        data_type::INT8 => ints!(i8),
        data_type::UINT8 | data_type::BOOL => ints!(u8),
        _ => return None,
    })
}

/// The file of external data at `location`, from the folder of the ONNX file `path`: as it is named, and where that ends.
fn located(
    path: &Path,
    location: &str,
    fault: impl Fn(String) -> Error,
) -> Result<(PathBuf, PathBuf)> {
    let relative = Path::new(location);
    let inside = relative
        .components()
        .all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let escapes = || {
        fault(format!(
            "its external data {location:?} lie outside the folder of the file, which is refused; put the data file beside the ONNX file"
        ))
    };
    if !inside || location.is_empty() {
        return Err(escapes());
    }
    let full = folder.join(relative);
    // A symbolic link may point anywhere: what counts is where it ends.
    let real = full.canonicalize();
    let real = real.map_err(|source| fault(missing(&full, &source)))?;
    let home = folder.canonicalize().map_err(Error::io(folder))?;
    if !real.starts_with(&home) {
        return Err(escapes());
    }
    Ok((full, real))
}

/// The message of external data that cannot be found or read.
fn missing(full: &Path, source: &std::io::Error) -> String {
    format!(
        "its external data {}: {source}; put the data file beside the ONNX file",
        full.display()
    )
}

/// The bytes of a tensor kept in another file.
fn external(
    tensor: &proto::Tensor,
    path: &Path,
    bytes: usize,
    read_outside: &mut Outside,
) -> Result<Vec<u8>> {
    let fault = |message: String| Error::file(path, format!("tensor {:?}: {message}", tensor.name));
    if path.as_os_str().is_empty() {
        return Err(fault(
            "its values are in another file, which those of an attribute are not".into(),
        ));
    }
    let entry = |key: &str| {
        let found = tensor.external_data.iter().find(|e| e.key == key);
        found.map(|e| e.value.as_str())
    };
    let number = |key: &str, default: u64| match entry(key) {
        None => Ok(default),
        Some(text) => text.trim().parse().map_err(|_| {
            fault(format!(
                "the {key} {text:?} of its external data is no number"
            ))
        }),
    };
    let location = entry("location")
        .ok_or_else(|| fault("its external data name no file; export it again".into()))?;
    let (full, real) = located(path, location, fault)?;
    let missing = |source: std::io::Error| fault(missing(&full, &source));
    let (mut file, size) = crate::files::open(&real).map_err(|error| match error {
        Error::Io { source, .. } => missing(source),
        other => other,
    })?;
    let offset: u64 = number("offset", 0)?;
    let length: u64 = number("length", bytes as u64)?;
    if length != bytes as u64 {
        return Err(fault(format!(
            "its external data are {length} bytes where its shape says {bytes}; the file is damaged"
        )));
    }
    // Checked before anything is allocated: a small file may claim any size.
    if offset.checked_add(length).is_none_or(|end| end > size) {
        return Err(fault(format!(
            "its external data {} end at byte {size}, before {offset} + {length}; the file is cut off",
            full.display()
        )));
    }
    let all = read_outside.entry(real).or_insert(0);
    *all = all.saturating_add(length);
    if *all > size.saturating_mul(MOST_OFTEN).saturating_add(MOST_MORE) {
        return Err(fault(format!(
            "its external data and those before it are {all} bytes of {}, which has {size}; the file is damaged",
            full.display()
        )));
    }
    let mut raw = vec![0; bytes];
    file.seek(SeekFrom::Start(offset)).map_err(missing)?;
    file.read_exact(&mut raw).map_err(missing)?;
    Ok(raw)
}
