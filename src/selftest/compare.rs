//! How far numbers are from those of CPU f64, and whether that is too far.

use serde::{Deserialize, Serialize};

/// How an error is measured, and what it may be.
///
/// ```
/// use hessblock::selftest::{Measure, select};
/// for case in select(&["primitive/take".into()])? {
///     match case.measure() {
///         Measure::OfLargest(share) => println!("{}: {share} of the largest number", case.name()),
///         Measure::Ulps(ulps) => println!("{}: {ulps} units in the last place", case.name()),
///     }
/// }
/// assert_eq!(Measure::Ulps(4.0).allowed(), 4.0);
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "unit", content = "allowed")]
pub enum Measure {
    /// The largest |x − reference|, of the largest |reference|.
    OfLargest(f64),
    /// The largest |x − reference| of any entry, in units of the last place of that entry in single precision.
    Ulps(f64),
}

/// Numbers of a case that are measured by themselves: a gradient, the cotangent of an operand.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Part {
    pub name: String,
    pub values: Vec<f64>,
}

impl Part {
    pub fn new(name: impl Into<String>, values: Vec<f64>) -> Part {
        let name = name.into();
        Part { name, values }
    }
}

/// The outcome of a comparison.
#[derive(Clone, Debug)]
pub(super) struct Compared {
    /// The largest error of all parts; infinite where numbers cannot be compared.
    pub error: f64,
    /// What is wrong.
    pub fault: Option<String>,
}

impl Compared {
    pub fn failed(fault: impl Into<String>) -> Compared {
        Compared {
            error: f64::INFINITY,
            fault: Some(fault.into()),
        }
    }
}

impl Measure {
    /// What the error may be.
    pub fn allowed(self) -> f64 {
        match self {
            Measure::OfLargest(allowed) | Measure::Ulps(allowed) => allowed,
        }
    }

    /// Compares all parts with those of the reference.
    pub(super) fn compare(self, found: &[Part], reference: &[Part]) -> Compared {
        let names = |parts: &[Part]| -> Vec<(String, usize)> {
            let each = parts.iter().map(|p| (p.name.clone(), p.values.len()));
            each.collect()
        };
        if reference.is_empty() || names(found) != names(reference) {
            let (found, reference) = (names(found), names(reference));
            return Compared::failed(format!(
                "the results have the sizes {found:?}, not {reference:?}"
            ));
        }
        let mut worst = (-1.0, String::new());
        for (found, reference) in found.iter().zip(reference) {
            let finite = reference.values.iter().filter(|v| v.is_finite());
            let largest = finite.fold(0.0f64, |most, v| most.max(v.abs()));
            let pairs = found.values.iter().zip(&reference.values);
            for (k, (&x, &expected)) in pairs.enumerate() {
                let error = self.error(x, expected, largest);
                if error > worst.0 {
                    let (part, count) = (&found.name, found.values.len());
                    let text = format!("{part}: entry {k} of {count} is {x:e}, not {expected:e}");
                    worst = (error, text);
                }
            }
        }
        match worst {
            (error, _) if error < 0.0 => Compared::failed("there is nothing to compare"),
            (error, text) => Compared {
                error,
                fault: (error > self.allowed()).then_some(text),
            },
        }
    }

    /// The error of one entry; NaN is the worst there is, where no NaN is expected.
    fn error(self, x: f64, expected: f64, largest: f64) -> f64 {
        // In single precision, what is too large is infinite.
        let rounded = f64::from(expected as f32);
        let overflow = rounded.is_infinite() && x == rounded;
        if x == expected || overflow || x.is_nan() && expected.is_nan() {
            return 0.0;
        }
        if !x.is_finite() || !rounded.is_finite() {
            return f64::INFINITY;
        }
        match self {
            // A result too small for a normal number may be flushed to zero.
            Measure::Ulps(_) if expected.abs().max(x.abs()) <= f64::from(f32::MIN_POSITIVE) => 0.0,
            Measure::Ulps(_) => (x - expected).abs() / unit(rounded),
            // Infinite where all that is expected is 0.
            Measure::OfLargest(_) => (x - expected).abs() / largest,
        }
    }
}

/// The unit of the last place of a number in single precision.
fn unit(of: f64) -> f64 {
    let normal = of.abs().max(f64::from(f32::MIN_POSITIVE));
    2f64.powi(normal.log2().floor() as i32 - 23)
}

/// The first part in which two runs differ by a bit, for the message; NaN is equal to NaN.
pub(super) fn difference(one: &[Part], other: &[Part]) -> Option<String> {
    for (one, other) in one.iter().zip(other) {
        let pairs = one.values.iter().zip(&other.values).enumerate();
        for (k, (x, y)) in pairs {
            if x.to_bits() != y.to_bits() && !(x.is_nan() && y.is_nan()) {
                let (part, count) = (&one.name, one.values.len());
                return Some(format!(
                    "{part}: entry {k} of {count} is {x:e} with shader checks, {y:e} without"
                ));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(measure: Measure, found: &[f64], reference: &[f64]) -> f64 {
        let part = |values: &[f64]| [Part::new("x", values.to_vec())];
        let compared = measure.compare(&part(found), &part(reference));
        assert_eq!(
            compared.fault.is_some(),
            compared.error > measure.allowed(),
            "{compared:?}"
        );
        compared.error
    }

    #[test]
    fn a_wrong_result_fails_by_either_measure() {
        let nan = f64::NAN;
        for measure in [Measure::OfLargest(2e-6), Measure::Ulps(4.0)] {
            assert_eq!(error(measure, &[1.0, -2.0], &[1.0, -2.0]), 0.0);
            assert!(error(measure, &[1.0, -2.00001], &[1.0, -2.0]) > measure.allowed());
            assert_eq!(error(measure, &[nan, 1.0], &[1.0, 1.0]), f64::INFINITY);
            assert_eq!(error(measure, &[1.0], &[nan]), f64::INFINITY);
            assert_eq!(error(measure, &[nan], &[nan]), 0.0);
            assert_eq!(error(measure, &[f64::INFINITY], &[1e300]), 0.0);
            assert_eq!(error(measure, &[f64::INFINITY], &[1.0]), f64::INFINITY);
            assert_eq!(error(measure, &[0.0], &[f64::INFINITY]), f64::INFINITY);
            assert_eq!(error(measure, &[], &[]), f64::INFINITY);
            assert_eq!(error(measure, &[1.0], &[1.0, 2.0]), f64::INFINITY);
            assert!(measure.compare(&[], &[]).fault.is_some());
        }
        // Of the largest: nothing may be added to zeros.
        assert_eq!(
            error(Measure::OfLargest(2e-6), &[1e-30], &[0.0]),
            f64::INFINITY
        );
        let small = error(Measure::OfLargest(2e-6), &[1.0, 1e-7], &[1.0, 0.0]);
        assert!((small - 1e-7).abs() < 1e-12);
    }

    #[test]
    fn units_of_the_last_place_are_those_of_the_entry() {
        let ulps = |x, of| error(Measure::Ulps(4.0), &[x], &[of]);
        let next = |x: f32, by: u32| f64::from(f32::from_bits(x.to_bits() + by));
        assert_eq!(ulps(next(3e-20, 3), f64::from(3e-20f32)), 3.0);
        assert_eq!(ulps(next(1.5, 9), 1.5), 9.0);
        assert!(ulps(1.0, 1.0 + 2e-8) < 0.5);
        // Denormal results may be flushed, others not.
        assert_eq!(ulps(0.0, 1e-40), 0.0);
        assert!(ulps(0.0, 2e-38) > 4.0);
    }

    #[test]
    fn one_bit_between_two_runs_is_found() {
        let part = |x: f64| vec![Part::new("a", vec![1.0]), Part::new("b", vec![0.5, x])];
        assert_eq!(difference(&part(f64::NAN), &part(f64::NAN)), None);
        let text = difference(&part(2.0), &part(2.0 + 4e-16)).unwrap();
        assert!(text.starts_with("b: entry 1 of 2"), "{text}");
        assert!(difference(&part(0.0), &part(-0.0)).is_some());
    }
}
