//! The figure of all blocks: a heat map of ‖(H − G)_ab‖ / ‖H_ab‖, Frobenius and spectral.

use super::{FAINT, INK, MARGIN, VERMILLION, WIDTH};
use crate::figure::{At, Drawing, fitted, width};
use crate::study::pairs::{BlockError, Pair, PairErrors};
use plotters::style::{RGBColor, WHITE};

/// Layers up to which both maps lie side by side.
const BESIDE: usize = 9;
/// Pixels of a cell that holds a number.
const NUMBERED: i32 = 34;
/// Pixels of the title and of each map's own.
const HEAD: i32 = 62;
const HEADING: i32 = 30;
/// Pixels for the scale of colours.
const SCALE: i32 = 74;
/// Pixels of a cell at most.
const CELL: i32 = 104;

const NONE: RGBColor = RGBColor(0xe2, 0xe2, 0xe2);
/// From 0 to 1: ColorBrewer's sequential blues, which are told apart by lightness alone.
const BLUES: [RGBColor; 9] = [
    RGBColor(0xf7, 0xfb, 0xff),
    RGBColor(0xde, 0xeb, 0xf7),
    RGBColor(0xc6, 0xdb, 0xef),
    RGBColor(0x9e, 0xca, 0xe1),
    RGBColor(0x6b, 0xae, 0xd6),
    RGBColor(0x42, 0x92, 0xc6),
    RGBColor(0x21, 0x71, 0xb5),
    RGBColor(0x08, 0x51, 0x9c),
    RGBColor(0x08, 0x30, 0x6b),
];

/// The colour of an error.
fn color(error: Option<f64>) -> RGBColor {
    let Some(error) = error else { return NONE };
    if error > 1.0 {
        return VERMILLION;
    }
    let place = error.max(0.0) * (BLUES.len() - 1) as f64;
    let below = (place.floor() as usize).min(BLUES.len() - 2);
    let share = place - below as f64;
    let mix = |a: u8, b: u8| (f64::from(a) + share * (f64::from(b) - f64::from(a))).round() as u8;
    let (low, high) = (BLUES[below], BLUES[below + 1]);
    RGBColor(mix(low.0, high.0), mix(low.1, high.1), mix(low.2, high.2))
}

type Norm = fn(&Pair) -> Option<BlockError>;

/// Draws the error of every block, Frobenius and, where there are, spectral: white is 0, dark blue 1, vermillion above 1,
/// grey where H's block is 0. Numbers and their uncertainty stand in the cells where there is room. `name` says what was
/// studied.
pub fn pairs(errors: &PairErrors, name: &str) -> Drawing {
    let frobenius: (&str, Norm) = ("Frobenius norm", |p| Some(p.frobenius));
    let spectral: (&str, Norm) = ("Spectral norm", |p| p.spectral);
    let has = errors.pairs.iter().any(|p| p.spectral.is_some());
    let maps: Vec<(&str, Norm)> = [frobenius, spectral]
        .into_iter()
        .take(1 + usize::from(has))
        .collect();
    let names: Vec<String> = errors
        .layers
        .iter()
        .map(|l| fitted(&l.layer, 12, WIDTH / 3))
        .collect();
    let count = names.len().max(1) as i32;
    let gutter = names.iter().map(|n| width(n, 12)).max().unwrap_or(0) + 10;
    let beside = errors.layers.len() <= BESIDE;
    let across = if beside { maps.len() as i32 } else { 1 };
    let cell = ((WIDTH - 2 * MARGIN - SCALE) / across - gutter - 8)
        .div_euclid(count)
        .clamp(9, CELL);
    let step = (
        gutter + cell * count + 8,
        HEADING + cell * count + gutter + 8,
    );
    let down = maps.len() as i32 / across;
    let wide = (2 * MARGIN + across * step.0 + SCALE).max(WIDTH);
    let mut drawing = Drawing::new(wide, HEAD + down * step.1 + MARGIN);
    head(&mut drawing, errors, name);
    for (k, (title, norm)) in maps.into_iter().enumerate() {
        let k = k as i32;
        let shift = if beside {
            (k * step.0, 0)
        } else {
            (0, k * step.1)
        };
        let corner = (MARGIN + gutter + shift.0, HEAD + HEADING + shift.1);
        drawing.text((corner.0, corner.1 - 16), title, 14, INK, At::Left);
        map(&mut drawing, corner, cell, &names, errors, norm);
    }
    let left = MARGIN + across * step.0 + 4;
    scale(
        &mut drawing,
        (left, HEAD + HEADING),
        (cell * count).clamp(120, 300),
    );
    drawing
}

fn head(drawing: &mut Drawing, errors: &PairErrors, name: &str) {
    let title = "Relative error of every block:  ‖(H − G) of two layers‖ / ‖H of the two‖";
    drawing.text((MARGIN, 22), title, 18, INK, At::Left);
    let whole = errors.whole.map_or(String::new(), |w| {
        format!("; all blocks together {w:.2} (Frobenius)")
    });
    let estimated = match errors.pairs.iter().any(|p| !p.exact) {
        true => format!(
            "; large blocks (±) are estimated from {} random vectors per layer",
            errors.probes
        ),
        false => String::new(),
    };
    drawing.text(
        (MARGIN, 46),
        &format!("{name}{whole}{estimated}"),
        13,
        FAINT,
        At::Left,
    );
}

/// One map, its upper left corner at `corner`.
fn map(
    drawing: &mut Drawing,
    corner: (i32, i32),
    cell: i32,
    names: &[String],
    errors: &PairErrors,
    norm: Norm,
) {
    let size = if cell >= 12 { 12 } else { 9 };
    let bottom = corner.1 + cell * names.len() as i32;
    for (a, name) in names.iter().enumerate() {
        let middle = cell * a as i32 + cell / 2;
        drawing.text(
            (corner.0 - 6, corner.1 + middle),
            name,
            size,
            INK,
            At::Right,
        );
        drawing.upwards((corner.0 + middle, bottom + 6), name, size, At::Right);
        for b in 0..names.len() {
            let found = errors
                .pair(a, b)
                .and_then(|pair| Some((norm(pair)?, pair.exact)));
            let Some((error, exact)) = found else {
                continue;
            };
            let at = (corner.0 + cell * b as i32, corner.1 + cell * a as i32);
            let gap = i32::from(cell >= 12);
            drawing.fill(
                [at, (at.0 + cell - gap, at.1 + cell - gap)],
                color(error.error),
            );
            if cell >= NUMBERED {
                numbers(
                    drawing,
                    (at.0 + cell / 2, at.1 + cell / 2),
                    cell,
                    error,
                    exact,
                );
            }
        }
    }
}

/// The number in a cell, with its uncertainty.
fn numbers(drawing: &mut Drawing, (x, y): (i32, i32), cell: i32, error: BlockError, exact: bool) {
    let ink = match error.error {
        Some(value) if value > 0.55 => WHITE,
        _ => INK,
    };
    let text = match error.error {
        None => "–".into(),
        Some(0.0) => "0".into(),
        Some(value) if value < 0.005 => "< .01".into(),
        Some(value) => format!("{value:.2}"),
    };
    let (size, small) = if cell >= 48 { (14, 11) } else { (12, 9) };
    let shown = !exact && error.uncertainty >= 5e-4;
    drawing.text(
        (x, y - if shown { 7 } else { 0 }),
        &text,
        size,
        ink,
        At::Middle,
    );
    if shown {
        let uncertainty = match error.uncertainty {
            u if u < 0.005 => format!("±{u:.3}"),
            u => format!("±{u:.2}"),
        };
        drawing.text((x, y + 8), &uncertainty, small, ink, At::Middle);
    }
}

/// The scale of colours, with what lies beyond it.
fn scale(drawing: &mut Drawing, (left, top): (i32, i32), height: i32) {
    for y in 0..height {
        let error = 1.0 - f64::from(y) / f64::from(height - 1);
        drawing.fill(
            [(left, top + 24 + y), (left + 16, top + 25 + y)],
            color(Some(error)),
        );
    }
    for quarter in 0..=4 {
        let y = top + 24 + height * quarter / 4;
        let label = format!("{:.2}", 1.0 - f64::from(quarter) / 4.0);
        drawing.text((left + 22, y), &label, 11, INK, At::Left);
    }
    drawing.fill([(left, top), (left + 16, top + 16)], VERMILLION);
    drawing.text((left + 22, top + 8), "> 1", 11, INK, At::Left);
    let end = top + 24 + height + 10;
    drawing.fill([(left, end), (left + 16, end + 16)], NONE);
    drawing.text((left + 22, end + 8), "H = 0", 11, INK, At::Left);
}
