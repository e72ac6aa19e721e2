//! What the conformance tests share: arrays of reproducible numbers, their way to a backend and back, and
//! the comparison with the naive reference.
#![allow(dead_code)] // each test binary uses its part

pub mod golden;
#[cfg(feature = "gpu")]
pub mod gpu;
pub mod pytorch;
pub mod reference;
pub mod runs;

use hessblock::internals::tensor::{Backend, HostSlice, Real, Shape};

/// An array in host memory, in double precision.
#[derive(Clone, Debug)]
pub struct Array {
    pub shape: Shape,
    pub values: Vec<f64>,
}

impl Array {
    pub fn new(shape: Shape, values: Vec<f64>) -> Self {
        assert_eq!(shape.len(), values.len());
        Self { shape, values }
    }

    pub fn zeros(shape: Shape) -> Self {
        let values = vec![0.0; shape.len()];
        Self { shape, values }
    }

    /// The value at a position over all axes; axes of extent 1 broadcast.
    pub fn at(&self, position: &[usize]) -> f64 {
        self.values[self.index(position)]
    }

    /// Flat index of a position over all axes; axes of extent 1 broadcast.
    pub fn index(&self, position: &[usize]) -> usize {
        let axes = [self.shape.samples, self.shape.directions];
        let axes = axes.iter().chain(&self.shape.rest);
        assert_eq!(2 + self.shape.rest.len(), position.len());
        axes.zip(position).fold(0, |index, (extent, at)| {
            let at = if *extent == 1 { 0 } else { *at };
            assert!(at < *extent);
            index * extent + at
        })
    }
}

/// A backend under test with the error it is allowed.
pub struct Conformance<B> {
    pub backend: B,
    /// Greatest error, relative to the greatest value of the result.
    pub tolerance: f64,
    /// Which cases it takes where a test has more of them than every form of a GPU's kernels needs to see.
    pub share: Share,
}

/// Which of many cases a backend takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    All,
    /// Those of even number: a driver compiles every kernel anew for each form, with and without shader checks, which takes
    /// lavapipe about half a second each. The other form takes the rest.
    Even,
    /// Those of odd number.
    Odd,
}

/// Reproducible numbers (SplitMix64).
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `low..high`, exactly representable in f32 so that every precision starts alike.
    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        let unit = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        f64::from((low + (high - low) * unit) as f32)
    }
}

/// Numbers in −1..1, different for every seed.
pub fn random(seed: u64, samples: usize, directions: usize, rest: &[usize]) -> Array {
    random_in(seed, samples, directions, rest, -1.0, 1.0)
}

/// Numbers in `low..high`.
pub fn random_in(
    seed: u64,
    samples: usize,
    directions: usize,
    rest: &[usize],
    low: f64,
    high: f64,
) -> Array {
    let mut numbers = Numbers(seed);
    let shape = Shape::new(samples, directions, rest);
    let values = (0..shape.len())
        .map(|_| numbers.uniform(low, high))
        .collect();
    Array::new(shape, values)
}

impl<B> Conformance<B> {
    /// Whether the case of this number is among its share.
    pub fn takes(&self, number: usize) -> bool {
        match self.share {
            Share::All => true,
            Share::Even => number.is_multiple_of(2),
            Share::Odd => !number.is_multiple_of(2),
        }
    }
}

impl<B: Backend> Conformance<B> {
    /// Copies an array to the backend.
    pub fn upload(&self, array: &Array) -> B::Tensor {
        self.backend
            .upload(&array.shape, HostSlice::F64(&array.values))
    }

    /// Compares a result with what it should be; `what` names the case.
    #[track_caller]
    pub fn check(&self, result: &B::Tensor, expected: &Array, what: &str) {
        assert_eq!(
            self.backend.shape(result),
            expected.shape,
            "shape of {what}"
        );
        let values = self.backend.read(result).expect("the device works");
        self.compare(&values, &expected.values, what);
    }

    /// Compares values one by one: equal where not finite, else within the tolerance of the greatest.
    #[track_caller]
    pub fn compare<R: Real>(&self, values: &[R], expected: &[f64], what: &str) {
        let finite = |v: &&f64| v.is_finite();
        let greatest = expected
            .iter()
            .filter(finite)
            .fold(0.0f64, |m, v| m.max(v.abs()));
        self.compare_at(values, expected, greatest, what);
    }

    /// Compares values one by one: equal where not finite, else within the tolerance of `greatest`, which
    /// is that of the terms where the sums themselves may cancel.
    #[track_caller]
    pub fn compare_at<R: Real>(&self, values: &[R], expected: &[f64], greatest: f64, what: &str) {
        assert_eq!(values.len(), expected.len(), "length of {what}");
        for (k, (value, expected)) in values.iter().zip(expected).enumerate() {
            let value = value.to_f64();
            let same = if expected.is_finite() {
                (value - expected).abs() <= self.tolerance * greatest
            } else {
                value == *expected || value.is_nan() && expected.is_nan()
            };
            assert!(
                same,
                "{what}: entry {k} is {value}, not {expected} (error {:e}, greatest {greatest:e})",
                (value - expected).abs()
            );
        }
    }
}

/// One `#[test]` per generic check for a backend: its name, an expression that makes it (`None` where
/// this machine lacks it), the error it is allowed relative to the greatest value of a result, and the checks.
#[macro_export]
macro_rules! conformance_tests {
    ($name:ident, $backend:expr, $tolerance:expr, [$($test:ident),* $(,)?]) => {
        mod $name {
            use super::*;
            $(
                #[test]
                fn $test() {
                    if let Some(backend) = $backend {
                        let (tolerance, share) = ($tolerance, $crate::common::Share::All);
                        super::$test(&Conformance { backend, tolerance, share });
                    }
                }
            )*
        }
    };
}
