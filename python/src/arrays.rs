//! Numbers between NumPy and the library: read where they lie, and handed over without a copy.

use crate::errors::raise;
use hessblock::Error;
use hessblock::data::ArraySource;
use hessblock::onnx::Values;
use numpy::{
    PyArrayDescrMethods, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn, PyUntypedArray,
    PyUntypedArrayMethods,
};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use std::sync::Arc;

/// The bytes of a NumPy array, which is kept alive.
pub struct Borrowed {
    owner: Option<Py<PyAny>>,
    start: *const u8,
    length: usize,
}

// SAFETY: the bytes stay where they are as long as the array lives, and the array is only touched with the GIL (in `drop`).
// Another thread of the program may write to the array meanwhile, as with any NumPy function that releases the GIL.
unsafe impl Send for Borrowed {}
unsafe impl Sync for Borrowed {}

impl AsRef<[u8]> for Borrowed {
    fn as_ref(&self) -> &[u8] {
        if self.length == 0 {
            return &[];
        }
        // SAFETY: `borrow` took the pointer and the length from a contiguous array that `owner` keeps alive.
        unsafe { std::slice::from_raw_parts(self.start, self.length) }
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        let owner = self.owner.take();
        // Python may be gone at the end of the process: its memory then goes with it.
        Python::try_attach(|_| drop(owner));
    }
}

/// A C-contiguous array of Python: NumPy's name of its type, its shape, and its bytes where they lie.
pub struct Lent {
    pub dtype: String,
    pub shape: Vec<usize>,
    pub bytes: Arc<Borrowed>,
}

/// Takes an array without a copy; one that is not C-contiguous is copied.
///
/// # Errors
/// TypeError for something else than a NumPy array.
pub fn borrow(array: &Bound<'_, PyAny>) -> PyResult<Lent> {
    let array = array.cast::<PyUntypedArray>().map_err(|_| {
        PyTypeError::new_err(format!(
            "a NumPy array is needed here, and this is {}",
            array.get_type()
        ))
    })?;
    let array = match array.is_c_contiguous() {
        true => array.clone(),
        false => {
            let numpy = array.py().import("numpy")?;
            let contiguous = numpy.call_method1("ascontiguousarray", (array,))?;
            contiguous.cast_into::<PyUntypedArray>()?
        }
    };
    let dtype: String = array.dtype().getattr("str")?.extract()?;
    let length = array.len() * array.dtype().itemsize();
    // SAFETY: the array object is valid, and its data pointer is read only.
    let start = unsafe { (*array.as_array_ptr()).fields.data }
        .cast::<u8>()
        .cast_const();
    let shape = array.shape().to_vec();
    let owner = Some(array.into_any().unbind());
    let bytes = Arc::new(Borrowed {
        owner,
        start,
        length,
    });
    Ok(Lent {
        dtype,
        shape,
        bytes,
    })
}

/// An array, or the path of one.
pub fn source(given: &Bound<'_, PyAny>) -> PyResult<ArraySource> {
    let py = given.py();
    if let Ok(path) = given.extract::<std::path::PathBuf>() {
        return ArraySource::open(path).map_err(|e| raise(py, e));
    }
    let lent = borrow(given)?;
    ArraySource::shared(&lent.shape, &lent.dtype, lent.bytes).map_err(|e| raise(py, e))
}

impl Lent {
    /// The values of a weight or constant, copied once. It needs no GIL.
    ///
    /// # Errors
    /// [`Error::Value`] for numbers that cannot be weights.
    pub fn values(&self) -> hessblock::Result<Values> {
        let bytes: &[u8] = (*self.bytes).as_ref();
        macro_rules! each {
            ($type:ty, $convert:expr) => {
                bytes
                    .chunks_exact(size_of::<$type>())
                    .map(|b| {
                        $convert(<$type>::from_ne_bytes(
                            b.try_into().expect("chunks have this size"),
                        ))
                    })
                    .collect::<Vec<_>>()
            };
        }
        let native = match cfg!(target_endian = "little") {
            true => ['<', '=', '|'],
            false => ['>', '=', '|'],
        };
        let values = match &self.dtype[1..] {
            _ if !self.dtype.starts_with(native) => None,
            "f4" => Some(Values::from(each!(f32, |v| v))),
            "f8" => Some(Values::from(each!(f64, |v| v))),
            "f2" => Some(Values::from(
                each!(u16, |v| half::f16::from_bits(v).to_f32())
            )),
            "i8" => Some(Values::from(each!(i64, |v| v))),
            "i4" => Some(Values::from(each!(i32, i64::from))),
            "i2" => Some(Values::from(each!(i16, i64::from))),
            "i1" => Some(Values::from(each!(i8, i64::from))),
            "u1" | "b1" => Some(Values::from(each!(u8, i64::from))),
            _ => None,
        };
        values.ok_or_else(|| {
            Error::Value(format!(
                "an array of {} cannot be a weight: give float32, float64, float16, integers or booleans",
                self.dtype
            ))
        })
    }
}

/// Vectors `[p]` or `[p, k]` in single or double precision.
pub enum Vectors<'py> {
    /// Single precision.
    F32(PyReadonlyArrayDyn<'py, f32>),
    /// Double precision.
    F64(PyReadonlyArrayDyn<'py, f64>),
}

/// Whether the numbers of an array lie where numbers of their type may lie: ndarray takes no others.
fn is_regular(array: &Bound<'_, PyUntypedArray>) -> bool {
    let size = array.dtype().itemsize().max(1);
    // SAFETY: the array object is valid, and its data pointer is read only.
    let start = unsafe { (*array.as_array_ptr()).fields.data }.addr();
    let aligned = start.is_multiple_of(array.dtype().alignment().max(1)) || array.is_empty();
    aligned
        && array
            .strides()
            .iter()
            .all(|stride| stride % size as isize == 0)
}

/// Refuses an array whose numbers lie at odd places.
///
/// # Errors
/// TypeError for something else than a NumPy array, ValueError for such an array.
pub fn check_regular(array: &Bound<'_, PyAny>) -> PyResult<()> {
    let array = array.cast::<PyUntypedArray>().map_err(|_| {
        PyTypeError::new_err(format!(
            "a NumPy array is needed here, and this is {}",
            array.get_type()
        ))
    })?;
    match is_regular(array) {
        true => Ok(()),
        false => Err(PyValueError::new_err(
            "the numbers of this array are not aligned, as those of a packed record: give a copy (array.copy())",
        )),
    }
}

impl<'py> Vectors<'py> {
    /// Takes an array of one or two axes.
    ///
    /// # Errors
    /// ValueError for other axes and for numbers that are not aligned, TypeError for other numbers.
    pub fn of(array: &Bound<'py, PyAny>) -> PyResult<Vectors<'py>> {
        check_regular(array)?;
        let axes = array.cast::<PyUntypedArray>().map(|a| a.ndim());
        if axes.as_ref().is_ok_and(|axes| !matches!(axes, 1 | 2)) {
            return Err(PyValueError::new_err(
                "vectors have one axis, [p], or two, [p, k] with a vector in each column",
            ));
        }
        if let Ok(array) = array.cast::<PyArrayDyn<f32>>() {
            return Ok(Vectors::F32(array.try_readonly().map_err(PyErr::from)?));
        }
        if let Ok(array) = array.cast::<PyArrayDyn<f64>>() {
            return Ok(Vectors::F64(array.try_readonly().map_err(PyErr::from)?));
        }
        Err(PyTypeError::new_err(
            "vectors are NumPy arrays of float32 or float64",
        ))
    }
}
