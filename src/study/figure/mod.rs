//! Figures of a study, to be read at once: [`gradient()`] of the errors along gradients, [`pairs()`] of all blocks.

mod gradient;
mod pairs;

pub use crate::figure::Drawing;
pub use gradient::gradient;
pub use pairs::pairs;

use crate::figure::{BLUE, FAINT, GREY, INK, RULE, VERMILLION, shortened};

/// Width of a figure, pixels.
const WIDTH: i32 = 900;
/// Pixels around a figure.
const MARGIN: i32 = 16;

/// 30840 as 30,840.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (k, digit) in digits.chars().enumerate() {
        if k > 0 && (digits.len() - k).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A share as per cent of two digits.
fn percent(share: f64) -> String {
    let value = 100.0 * share;
    match value {
        _ if value == 0.0 => "0 %".into(),
        _ if value < 0.001 => "< 0.001 %".into(),
        _ if value < 9.95 => format!(
            "{value:.*} %",
            (1.0 - value.log10().floor()).max(0.0) as usize
        ),
        _ => format!("{value:.0} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_people_read_them() {
        assert_eq!(
            ["7", "1,374", "30,840", "1,000,000"],
            [7, 1374, 30840, 1_000_000].map(grouped)
        );
        let shares = [0.0, 1e-9, 0.000_123, 0.0123, 0.5, 1.36];
        assert_eq!(
            ["0 %", "< 0.001 %", "0.012 %", "1.2 %", "50 %", "136 %"],
            shares.map(percent)
        );
        assert_eq!(shortened("features.3.conv", 8), "….3.conv");
    }
}
