//! The signed logarithmic scale and its colours.

use crate::figure::power;

/// Decades below the largest magnitude that are told apart; smaller entries fade to a neutral grey.
pub(super) const DECADES: f64 = 6.0;
/// Colours of each sign, ten a decade. Together with the others they fit in the palette of an image.
const LEVELS: f64 = 60.0;

/// An entry that is exactly 0.
pub(super) const ZERO: [u8; 3] = [0xff, 0xff, 0xff];
/// An entry below the scale.
pub(super) const SMALL: [u8; 3] = [0xf0, 0xf0, 0xee];
/// An entry that is NaN or infinite.
pub(super) const BROKEN: [u8; 3] = [0x00, 0xd6, 0x2b];

/// From the least to the largest: ColorBrewer's RdBu, which people with any colour vision can tell apart.
const POSITIVE: [[u8; 3]; 5] = [
    [0xfd, 0xe6, 0xda],
    [0xf7, 0xb7, 0x97],
    [0xdf, 0x74, 0x5a],
    [0xb6, 0x20, 0x2e],
    [0x5c, 0x00, 0x1c],
];
const NEGATIVE: [[u8; 3]; 5] = [
    [0xdd, 0xeb, 0xf4],
    [0x9d, 0xcb, 0xe3],
    [0x4c, 0x98, 0xc8],
    [0x1f, 0x61, 0xa6],
    [0x04, 0x2a, 0x58],
];

/// A scale whose ends are ± the largest magnitude.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scale {
    /// log₁₀ of the largest magnitude; `None` where there are zeros alone.
    top: Option<f64>,
}

impl Scale {
    pub(super) fn new(most: f64) -> Scale {
        Scale {
            top: (most > 0.0).then(|| most.log10()),
        }
    }

    /// The magnitude at the low end: what is smaller is grey. `None` where there are zeros alone.
    pub(super) fn least(self) -> Option<f64> {
        Some(10f64.powf(self.top? - DECADES))
    }

    /// From 0 at the scale's low end to 1 at the largest magnitude; `None` below, and for 0.
    pub(super) fn place(self, value: f64) -> Option<f64> {
        let place = 1.0 + (value.abs().log10() - self.top?) / DECADES;
        (place >= 0.0).then(|| place.min(1.0))
    }

    /// The colour of a finite entry.
    pub(super) fn color(self, value: f64) -> [u8; 3] {
        match self.place(value) {
            _ if value == 0.0 => ZERO,
            None => SMALL,
            Some(place) => at(place, value < 0.0),
        }
    }

    /// Powers of ten on the scale with their places, `step` apart, from the largest down.
    pub(super) fn ticks(self, step: i32) -> Vec<(i32, f64)> {
        let Some(top) = self.top else {
            return Vec::new();
        };
        // The logarithm of a power of ten may miss it by its last digit.
        let first = (top + 1e-9).floor() as i32;
        let place = |exponent: i32| 1.0 + (f64::from(exponent) - top) / DECADES;
        let exponents = (0..).map(|k| first - k * step);
        exponents
            .map(|e| (e, place(e)))
            .take_while(|(_, place)| *place >= 0.0)
            .collect()
    }
}

/// The colour of a place on the scale.
pub(super) fn at(place: f64, negative: bool) -> [u8; 3] {
    let colors = if negative { &NEGATIVE } else { &POSITIVE };
    let place = (place * LEVELS).round() / LEVELS * (colors.len() - 1) as f64;
    let below = (place.floor() as usize).min(colors.len() - 2);
    let share = place - below as f64;
    let mix = |k: usize| {
        let (low, high) = (f64::from(colors[below][k]), f64::from(colors[below + 1][k]));
        (low + share * (high - low)).round() as u8
    };
    [mix(0), mix(1), mix(2)]
}

/// `−10⁻⁴`.
pub(super) fn label(exponent: i32, negative: bool) -> String {
    let sign = if negative { "−" } else { "" };
    format!("{sign}{}", power(exponent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_tells_signs_decades_zeros_and_smaller_entries_apart() {
        let scale = Scale::new(0.02);
        assert_eq!(scale.color(0.0), ZERO);
        assert_eq!(scale.color(1e-9), SMALL);
        assert_eq!(scale.color(0.02), POSITIVE[4]);
        assert_eq!(scale.color(-0.02), NEGATIVE[4]);
        let places = [2e-2, 2e-5, 2.001e-8].map(|v| scale.place(v).unwrap());
        assert!((places[0] - 1.0).abs() < 1e-9 && (places[1] - 0.5).abs() < 1e-9);
        assert!(places[2] < 1e-3);
        let exponents: Vec<i32> = scale.ticks(2).iter().map(|t| t.0).collect();
        assert_eq!(exponents, [-2, -4, -6]);
        assert_eq!(Scale::new(100.0).ticks(3)[0], (2, 1.0));
        assert_eq!(label(-12, true), "−10⁻¹²");
    }

    #[test]
    fn a_scale_of_zeros_has_no_ticks_and_one_colour() {
        let scale = Scale::new(0.0);
        assert!(scale.ticks(1).is_empty());
        assert_eq!(scale.color(0.0), ZERO);
        for extreme in [5e-324, f64::MAX] {
            let scale = Scale::new(extreme);
            assert_eq!(scale.color(extreme), POSITIVE[4]);
            assert!(scale.ticks(2).len() >= 3);
        }
    }
}
