//! Host numbers: the real types, and arrays as they come from files.

mod double;
mod single;
mod vector;

pub(crate) use vector::Vector;

use super::expression::Unary;
use crate::precision::Precision;
use std::sync::Arc;

/// f32 or f64.
pub trait Real:
    Vector
    + Copy
    + Send
    + Sync
    + Default
    + PartialOrd
    + std::fmt::Debug
    + 'static
    + std::ops::Add<Output = Self>
    + std::ops::Sub<Output = Self>
    + std::ops::Mul<Output = Self>
    + std::ops::Div<Output = Self>
    + std::ops::Neg<Output = Self>
    + std::ops::AddAssign
{
    /// NumPy's name of the type, little endian.
    const NUMPY: &'static str;
    /// The precision that it is.
    const PRECISION: Precision;
    /// `"f32"` or `"f64"`.
    const NAME: &'static str = Self::PRECISION.name();
    /// Rounds to this type.
    fn from_f64(value: f64) -> Self;
    /// Widens, exactly.
    fn to_f64(self) -> f64;
    /// The little-endian bytes of a slice.
    fn bytes(values: &[Self]) -> std::borrow::Cow<'_, [u8]>;
    /// `target = function(x)` at this precision, position by position.
    fn unary(function: Unary, x: &[Self], target: &mut [Self]);
    /// `target = x^exponent` at this precision, position by position, as C's `pow`.
    fn power(x: &[Self], exponents: &[Self], target: &mut [Self]);
    /// `into (+)= scale · left · right` by faer. It stands here since faer's own bound on its numbers
    /// would have to be repeated at every generic function.
    fn matmul(
        into: faer::MatMut<'_, Self>,
        accumulate: bool,
        left: faer::MatRef<'_, Self>,
        right: faer::MatRef<'_, Self>,
        scale: Self,
        parallelism: faer::Par,
    );
}

macro_rules! real {
    ($type:ty, $numpy:literal, $precision:expr, $functions:ident) => {
        impl Real for $type {
            const NUMPY: &'static str = $numpy;
            const PRECISION: Precision = $precision;
            fn from_f64(value: f64) -> Self {
                value as $type
            }
            fn to_f64(self) -> f64 {
                self as f64
            }
            fn bytes(values: &[Self]) -> std::borrow::Cow<'_, [u8]> {
                if cfg!(target_endian = "little") {
                    // SAFETY: every bit pattern of a float is a valid byte sequence, and the slice's
                    // memory is initialised; the length is in bytes.
                    std::borrow::Cow::Borrowed(unsafe {
                        std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values))
                    })
                } else {
                    std::borrow::Cow::Owned(values.iter().flat_map(|v| v.to_le_bytes()).collect())
                }
            }
            fn matmul(
                into: faer::MatMut<'_, Self>,
                accumulate: bool,
                left: faer::MatRef<'_, Self>,
                right: faer::MatRef<'_, Self>,
                scale: Self,
                parallelism: faer::Par,
            ) {
                let accumulate = if accumulate {
                    faer::Accum::Add
                } else {
                    faer::Accum::Replace
                };
                faer::linalg::matmul::matmul(into, accumulate, left, right, scale, parallelism);
            }
            #[inline(always)]
            fn unary(function: Unary, x: &[Self], target: &mut [Self]) {
                $functions::unary(function, x, target);
            }
            #[inline(always)]
            fn power(x: &[Self], exponents: &[Self], target: &mut [Self]) {
                $functions::power(x, exponents, target);
            }
        }
    };
}
real!(f32, "<f4", Precision::F32, single);
real!(f64, "<f8", Precision::F64, double);

/// Borrowed host values in the precision of their file.
#[derive(Clone, Copy, Debug)]
pub enum HostSlice<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// Double precision.
    F64(&'a [f64]),
}

impl HostSlice<'_> {
    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            HostSlice::F32(v) => v.len(),
            HostSlice::F64(v) => v.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All values, rounded to `R`.
    pub fn to_vec<R: Real>(&self) -> Vec<R> {
        match self {
            HostSlice::F32(v) => v.iter().map(|&x| R::from_f64(x as f64)).collect(),
            HostSlice::F64(v) => v.iter().map(|&x| R::from_f64(x)).collect(),
        }
    }
}

/// Owned host values in the precision of their file.
#[derive(Clone, Debug, PartialEq)]
pub enum HostData {
    /// Single precision.
    F32(Arc<Vec<f32>>),
    /// Double precision.
    F64(Arc<Vec<f64>>),
}

/// A host array: a weight or a constant.
#[derive(Clone, Debug, PartialEq)]
pub struct HostArray {
    /// Extent per axis, row-major.
    pub shape: Vec<usize>,
    /// The values.
    pub data: HostData,
}

impl HostArray {
    /// Bytes of its values.
    pub fn bytes(&self) -> usize {
        match &self.data {
            HostData::F32(values) => size_of_val(&values[..]),
            HostData::F64(values) => size_of_val(&values[..]),
        }
    }

    /// From single-precision values.
    pub fn f32(shape: &[usize], values: Vec<f32>) -> Self {
        assert_eq!(
            shape.iter().product::<usize>(),
            values.len(),
            "array of shape {shape:?}"
        );
        Self {
            shape: shape.to_vec(),
            data: HostData::F32(Arc::new(values)),
        }
    }

    /// From double-precision values.
    pub fn f64(shape: &[usize], values: Vec<f64>) -> Self {
        assert_eq!(
            shape.iter().product::<usize>(),
            values.len(),
            "array of shape {shape:?}"
        );
        Self {
            shape: shape.to_vec(),
            data: HostData::F64(Arc::new(values)),
        }
    }

    /// The values, borrowed.
    pub fn as_slice(&self) -> HostSlice<'_> {
        match &self.data {
            HostData::F32(v) => HostSlice::F32(v),
            HostData::F64(v) => HostSlice::F64(v),
        }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values in double precision.
    pub fn to_f64(&self) -> Vec<f64> {
        self.as_slice().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_bytes_least_significant_first() {
        assert_eq!(f32::bytes(&[1.0, -2.5])[4..], (-2.5f32).to_le_bytes());
        assert_eq!(f64::bytes(&[0.1])[..], 0.1f64.to_le_bytes());
        assert!(f32::bytes(&[]).is_empty());
    }
}
