//! Whether numbers are right: measured against the largest of those expected.

/// What single precision may be off by, of the largest entry (DESIGN §5).
pub(super) const SINGLE: f64 = 1e-5;
/// What double precision may be off by, against the definition evaluated in it.
pub(super) const DEFINITION: f64 = 1e-10;
/// What a difference quotient in double precision may be off by.
pub(super) const QUOTIENT: f64 = 1e-5;

/// The outcome of a comparison.
#[derive(Clone, Debug)]
pub(super) struct Check {
    /// The largest |found − expected| over the largest |expected|.
    pub error: f64,
    /// What it may be.
    pub tolerance: f64,
    /// What is wrong.
    pub fault: Option<String>,
}

impl Check {
    /// A comparison that could not be made.
    pub(super) fn failed(fault: String) -> Check {
        Check {
            error: f64::INFINITY,
            tolerance: 0.0,
            fault: Some(fault),
        }
    }

    /// Compares (found, expected).
    pub(super) fn of(pairs: impl Iterator<Item = (f64, f64)>, tolerance: f64) -> Check {
        Self::scaled(pairs, 0.0, tolerance)
    }

    /// Compares (found, expected) where what is expected is part of a result whose largest entry is known.
    pub(super) fn scaled(
        pairs: impl Iterator<Item = (f64, f64)>,
        largest: f64,
        tolerance: f64,
    ) -> Check {
        let mut largest = largest;
        let mut worst = (0, 0.0, 0.0, -1.0);
        for (k, (found, expected)) in pairs.enumerate() {
            largest = largest.max(expected.abs());
            let difference = (found - expected).abs();
            // NaN is the worst there is; it is not given up for a later number.
            let difference = if difference.is_nan() {
                f64::INFINITY
            } else {
                difference
            };
            if difference > worst.3 {
                worst = (k, found, expected, difference);
            }
        }
        let (k, found, expected, difference) = worst;
        let error = match difference {
            d if d < 0.0 => return Check::failed("nothing to compare".into()),
            0.0 => 0.0,
            // Infinite where what is expected is: that is no agreement.
            d if largest.is_finite() => d / largest,
            _ => f64::INFINITY,
        };
        let fault = (error > tolerance).then(|| {
            format!(
                "number {k} of those compared is {found:.6e}, not {expected:.6e}: off by {error:.1e} of the largest, \
                 more than {tolerance:.0e}"
            )
        });
        Check {
            error,
            tolerance,
            fault,
        }
    }

    pub(super) fn passed(&self) -> bool {
        self.fault.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_measured_by_the_largest_number_and_nan_is_one() {
        let check = |pairs: &[(f64, f64)]| Check::of(pairs.iter().copied(), 1e-3);
        assert!(check(&[(0.0, 0.0)]).passed());
        assert!(check(&[(1e-3, 2e-3), (10.0, 10.0)]).passed());
        let wrong = check(&[(1.0, 1.0), (1.2, 1.0)]);
        assert!((wrong.error - 0.2).abs() < 1e-12);
        assert!(wrong.fault.unwrap().contains("number 1"));
        assert!(!check(&[(f64::NAN, 1.0), (5.0, 5.0)]).passed());
        assert!(!check(&[(1.0, 0.0)]).passed());
        assert!(!check(&[]).passed());
        let scaled = Check::scaled([(1e-3, 2e-3)].into_iter(), 10.0, 1e-3);
        assert!(scaled.passed());
    }
}
