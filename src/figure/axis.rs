//! A logarithmic axis.

use super::{At, Drawing, FAINT, RULE};

/// Decades below the largest value that are still shown: below are zeros and rounding.
const DECADES: i32 = 7;

/// Powers of ten that hold values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Decades {
    /// Exponent at the low end.
    pub low: i32,
    /// Exponent at the high end.
    pub high: i32,
}

impl Decades {
    /// Decades around positive values; one decade where there are none.
    pub(crate) fn around(values: impl Iterator<Item = f64>) -> Decades {
        let (mut low, mut high) = (f64::INFINITY, 0.0_f64);
        for value in values.filter(|v| *v > 0.0 && v.is_finite()) {
            low = low.min(value);
            high = high.max(value);
        }
        if high == 0.0 {
            return Decades { low: -1, high: 0 };
        }
        let high = high.log10().ceil() as i32;
        let low = (low.log10().floor() as i32).clamp(high - DECADES, high - 1);
        Decades { low, high }
    }

    /// Where a value lies, 0 at the low end and 1 at the high one; `None` for 0 and what is too small.
    pub(crate) fn place(self, value: f64) -> Option<f64> {
        let place = (value.log10() - f64::from(self.low)) / f64::from(self.high - self.low);
        (value > 0.0 && place >= 0.0).then(|| place.min(1.0))
    }

    /// Exponents that are labelled.
    fn ticks(self) -> impl Iterator<Item = i32> {
        let step = if self.high - self.low > 4 { 2 } else { 1 };
        (self.low..=self.high).filter(move |e| (self.high - e) % step == 0)
    }

    /// Draws the axis below a panel, with rules through it.
    pub(crate) fn below(
        self,
        drawing: &mut Drawing,
        [(left, top), (right, bottom)]: [(i32, i32); 2],
    ) {
        for exponent in self.ticks() {
            let share = f64::from(exponent - self.low) / f64::from(self.high - self.low);
            let x = left + (share * f64::from(right - left)).round() as i32;
            drawing.line(&[(x, top), (x, bottom + 3)], RULE, 1);
            drawing.text((x, bottom + 11), &power(exponent), 11, FAINT, At::Middle);
        }
    }

    /// Draws the axis left of a panel, with rules through it.
    pub(crate) fn beside(
        self,
        drawing: &mut Drawing,
        [(left, top), (right, bottom)]: [(i32, i32); 2],
    ) {
        for exponent in self.low..=self.high {
            let share = f64::from(exponent - self.low) / f64::from(self.high - self.low);
            let y = bottom - (share * f64::from(bottom - top)).round() as i32;
            drawing.line(&[(left - 3, y), (right, y)], RULE, 1);
            drawing.text((left - 6, y), &power(exponent), 11, FAINT, At::Right);
        }
    }
}

/// 10⁻⁴.
pub(crate) fn power(exponent: i32) -> String {
    const DIGITS: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    let mut text = String::from(if exponent < 0 { "10⁻" } else { "10" });
    let digits = exponent.unsigned_abs().to_string();
    text.extend(digits.bytes().map(|b| DIGITS[usize::from(b - b'0')]));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_holds_its_values_and_leaves_out_zeros_and_rounding() {
        let axis = Decades::around([0.0, 2e-3, 0.4, 1e-20].into_iter());
        assert_eq!(axis, Decades { low: -7, high: 0 });
        assert_eq!((axis.place(0.0), axis.place(1e-20)), (None, None));
        assert_eq!(axis.place(1.0), Some(1.0));
        assert_eq!(
            Decades::around([0.0].into_iter()),
            Decades { low: -1, high: 0 }
        );
        assert_eq!(
            Decades::around([0.01].into_iter()),
            Decades { low: -3, high: -2 }
        );
        assert_eq!(power(-12), "10⁻¹²");
    }
}
