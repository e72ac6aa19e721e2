//! A vector as a plot: its entries over their index, on a signed logarithmic axis.

use super::grid::Grid;
use super::labels::SIZE;
use super::scale::{self, Scale};
use crate::figure::{At, Drawing, INK, RULE};
use plotters::style::{RGBAColor, RGBColor};

/// Pixels for the numbers beside the plot.
pub(super) const GUTTER: i32 = 54;
/// Half the pixels of the band in which values below the scale lie.
const ZERO: i32 = 5;

/// Pixels that a plot is high.
pub(super) fn height(size: usize) -> i32 {
    // Even, so that the zero lies in the middle.
    (size as i32 * 2 / 5).clamp(120, 300) / 2 * 2
}

/// Draws a plot of one row of cells, `cell` pixels each.
pub(super) fn draw(
    drawing: &mut Drawing,
    [(left, top), (right, bottom)]: [(i32, i32); 2],
    cell: i32,
    grid: &Grid,
    scale: Scale,
) {
    let negative = grid.low.iter().any(|v| *v < 0.0 && v.is_finite());
    let positive = grid.high.iter().any(|v| *v > 0.0 && v.is_finite()) || !negative;
    let zero = match (positive, negative) {
        (true, true) => (top + bottom) / 2,
        (true, false) => bottom - 1 - ZERO,
        _ => top + ZERO,
    };
    let (above, below) = (zero - ZERO - top, bottom - zero - ZERO);
    // The room of a sign that is not there is left empty.
    let height = |value: f64| match scale.place(value) {
        None => zero,
        Some(place) if value > 0.0 => zero - ZERO - (place * f64::from(above - 3)).round() as i32,
        Some(place) => zero + ZERO + (place * f64::from(below - 3)).round() as i32,
    };
    let step = if above.max(below) >= 150 { 1 } else { 2 };
    drawing.line(&[(left, zero), (right, zero)], RULE, 1);
    drawing.text((left - 8, zero), "0", SIZE, INK, At::Right);
    for (exponent, place) in scale.ticks(step) {
        for (shown, sign) in [(positive, 1.0), (negative, -1.0)] {
            let y = height(sign * 10.0_f64.powi(exponent));
            // Where the power itself leaves the numbers' range, its place still does not.
            if !shown || place <= 0.0 || (y - zero).abs() < 15 {
                continue;
            }
            drawing.line(&[(left - 3, y), (right, y)], RULE, 1);
            let text = scale::label(exponent, sign < 0.0);
            drawing.text((left - 8, y), &text, SIZE, INK, At::Right);
        }
    }
    let strong = |negative: bool| {
        let [red, green, blue] = scale::at(0.72, negative);
        RGBColor(red, green, blue)
    };
    for at in 0..grid.columns {
        let (x, low, high) = (left + at as i32 * cell, grid.low[at], grid.high[at]);
        let end = x + (cell - i32::from(cell > 5)).max(1);
        if low <= high {
            for negative in [false, true] {
                let sign = if negative { -1.0 } else { 1.0 };
                let (far, near) = match negative {
                    false => (high, low.max(0.0)),
                    true => (low, high.min(0.0)),
                };
                if far * sign <= 0.0 {
                    continue;
                }
                let (far, near) = (height(far), height(near));
                let color = strong(negative);
                // From zero to the nearer end faintly: it leads the eye to the place of the column.
                let faint = RGBAColor(color.0, color.1, color.2, 0.18);
                let (from, to) = (near.min(zero), near.max(zero));
                drawing.fill([(x, from), (end, to)], faint);
                let (from, to) = (far.min(near), far.max(near));
                drawing.fill([(x, from - 1), (end, to.max(from + 1))], color);
            }
        }
        if grid.broken[at] {
            let [red, green, blue] = scale::BROKEN;
            drawing.fill([(x, top), (end, bottom)], RGBColor(red, green, blue));
        }
    }
}
