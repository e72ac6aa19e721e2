//! The figure of the errors along gradients: a panel per layer, or one for all where there are many.

use super::{BLUE, FAINT, GREY, INK, MARGIN, RULE, WIDTH, grouped, percent, shortened};
use crate::figure::Decades;
use crate::figure::{At, Drawing, width};
use crate::study::error::{Along, GradientError, LayerError};
use crate::study::quantiles::Quantiles;
use plotters::style::{Color, RGBAColor, RGBColor};

/// Layers that have a panel each; more share one.
const PANELS: usize = 24;
/// Bars of a histogram.
const BARS: usize = 36;
/// Pixels of title, subtitle and legend.
const HEAD: i32 = 92;
const PANEL_HEIGHT: i32 = 118;
/// Pixels between panels: axis and heading.
const GAP: i32 = 58;

/// Draws |gᵀ(H − G)g| / ‖g‖² of every layer beside |gᵀHg| / ‖g‖², on a logarithmic axis that all layers share.
///
/// Up to 24 layers have a histogram of the draws each, with the median and the range from 5 to 95 % above it; of more
/// layers, medians and ranges are drawn side by side. `name` says what was studied.
///
/// Source: Skorski 2021, figure 3.
pub fn gradient(error: &GradientError, name: &str) -> Drawing {
    let values = error.layers.iter().flat_map(|l| &l.draws).flatten();
    let axis = Decades::around(values.flat_map(|a| [a.residual.abs(), a.hessian().abs()]));
    if error.layers.len() > PANELS {
        return summary(error, name, axis);
    }
    let count = error.layers.len();
    let columns = match count {
        0..=3 => count.max(1),
        4 => 2,
        5..=9 => 3,
        _ => 4,
    };
    let rows = count.div_ceil(columns).max(1) as i32;
    let mut drawing = Drawing::new(WIDTH, HEAD + rows * (PANEL_HEIGHT + GAP) + MARGIN);
    head(&mut drawing, error, name);
    let step = (WIDTH - 2 * MARGIN + 24) / columns as i32;
    for (k, layer) in error.layers.iter().enumerate() {
        let left = MARGIN + (k % columns) as i32 * step;
        let top = HEAD + 36 + (k / columns) as i32 * (PANEL_HEIGHT + GAP);
        let corners = [(left, top), (left + step - 24, top + PANEL_HEIGHT)];
        panel(&mut drawing, corners, axis, layer);
    }
    drawing
}

/// Title, what was drawn, legend.
fn head(drawing: &mut Drawing, error: &GradientError, name: &str) {
    let title = "Error of the approximate chain rule along each layer's gradient";
    drawing.text((MARGIN, 22), title, 18, INK, At::Left);
    let weights = match error.draws {
        1 => format!("1 initialisation ({})", error.initialiser),
        n => format!("{n} initialisations ({})", error.initialiser),
    };
    let subtitle = format!("{name}: {weights}, {} samples", error.samples);
    drawing.text((MARGIN, 46), &subtitle, 13, FAINT, At::Left);
    let mut x = MARGIN;
    for (color, text) in [
        (BLUE, "|gᵀ(H − G)g| / ‖g‖², the error"),
        (GREY, "|gᵀHg| / ‖g‖², what is approximated"),
    ] {
        drawing.fill([(x, 66), (x + 12, 78)], color);
        drawing.text((x + 18, 72), text, 13, INK, At::Left);
        x += 18 + width(text, 13) + 24;
    }
    drawing.line(&[(x, 72), (x + 24, 72)], INK, 2);
    drawing.dot((x + 12, 72), 4, INK, true);
    drawing.text(
        (x + 30, 72),
        "median and 5–95 % of the draws",
        13,
        INK,
        At::Left,
    );
}

/// Both histograms of a layer.
fn panel(drawing: &mut Drawing, corners: [(i32, i32); 2], axis: Decades, layer: &LayerError) {
    let [(left, top), (right, bottom)] = corners;
    let room = ((right - left - 8) / 8) as usize;
    let name = shortened(&layer.layer, room.saturating_sub(12).max(8));
    drawing.text((left, top - 25), &name, 14, INK, At::Left);
    let size = format!("{} parameters", grouped(layer.parameters));
    drawing.text((right, top - 25), &size, 11, FAINT, At::Right);
    axis.below(drawing, corners);
    let there = || layer.draws.iter().flatten();
    let errors = Histogram::new(axis, there().map(|a| a.residual.abs()));
    drawing.text(
        (left, top - 9),
        &verdict(layer, errors.below),
        12,
        INK,
        At::Left,
    );
    let hessians = Histogram::new(axis, there().map(|a| a.hessian().abs()));
    let most = errors.highest().max(hessians.highest()).max(1);
    // The upper 28 pixels are the medians'.
    let floor = [(left, top + 28), (right, bottom)];
    hessians.fill(drawing, floor, most, GREY.mix(0.45));
    errors.fill(drawing, floor, most, BLUE.mix(0.8));
    hessians.outline(drawing, floor, most, FAINT);
    drawing.frame(corners, RULE);
    mark(
        drawing,
        corners,
        top + 8,
        axis,
        spread(layer, |a| a.hessian().abs()),
        GREY,
    );
    mark(drawing, corners, top + 19, axis, layer.error, BLUE);
}

/// What a layer's panel says in words; `below` draws are not on its axis.
fn verdict(layer: &LayerError, below: usize) -> String {
    let draws = layer.draws.iter().flatten().count();
    match (layer.error, layer.relative) {
        (None, _) => "no number: its gradient is 0".into(),
        (Some(error), _) if error.high == 0.0 => "error: 0".into(),
        (_, Some(share)) => {
            let median = format!("error: {} of gᵀHg in the median", percent(share.median));
            match below {
                0 => median,
                _ if below == draws => format!("{median}, left of the axis"),
                _ => format!("{median}, {below} draws left of the axis"),
            }
        }
        (Some(_), None) => "gᵀHg is 0".into(),
    }
}

fn spread(layer: &LayerError, of: fn(Along) -> f64) -> Option<Quantiles> {
    Quantiles::of(layer.draws.iter().flatten().copied().map(of))
}

/// Median and range on a horizontal axis.
fn mark(
    drawing: &mut Drawing,
    [(left, _), (right, _)]: [(i32, i32); 2],
    y: i32,
    axis: Decades,
    quantiles: Option<Quantiles>,
    color: RGBColor,
) {
    let x = |value: f64| {
        let place = axis.place(value).unwrap_or(0.0);
        left + (place * f64::from(right - left)).round() as i32
    };
    let Some(quantiles) = quantiles.filter(|q| axis.place(q.high).is_some()) else {
        return;
    };
    drawing.line(&[(x(quantiles.low), y), (x(quantiles.high), y)], color, 2);
    if axis.place(quantiles.median).is_some() {
        drawing.dot((x(quantiles.median), y), 4, color, true);
    }
}

/// Values by their place on an axis.
struct Histogram {
    counts: Vec<usize>,
    /// Zeros, and what is too small for the axis.
    below: usize,
}

impl Histogram {
    fn new(axis: Decades, values: impl Iterator<Item = f64>) -> Histogram {
        let mut histogram = Histogram {
            counts: vec![0; BARS],
            below: 0,
        };
        for value in values {
            match axis.place(value) {
                Some(place) => {
                    let bar = (place * BARS as f64) as usize;
                    histogram.counts[bar.min(BARS - 1)] += 1;
                }
                None => histogram.below += 1,
            }
        }
        histogram
    }

    fn highest(&self) -> usize {
        self.counts.iter().copied().max().unwrap_or(0)
    }

    /// The corners of the bars that stand.
    fn bars(&self, corners: [(i32, i32); 2], most: usize) -> impl Iterator<Item = [(i32, i32); 2]> {
        let [(left, top), (right, bottom)] = corners;
        let x = move |bar: usize| left + (right - left) * bar as i32 / BARS as i32;
        self.counts.iter().enumerate().map(move |(bar, &count)| {
            let height = (f64::from(bottom - top) * count as f64 / most as f64).round() as i32;
            [(x(bar), bottom - height), (x(bar + 1), bottom)]
        })
    }

    fn fill(&self, drawing: &mut Drawing, corners: [(i32, i32); 2], most: usize, color: RGBAColor) {
        for [top, bottom] in self
            .bars(corners, most)
            .filter(|[top, bottom]| top.1 < bottom.1)
        {
            drawing.fill([top, bottom], color);
        }
    }

    /// A line along the tops.
    fn outline(
        &self,
        drawing: &mut Drawing,
        corners: [(i32, i32); 2],
        most: usize,
        color: RGBColor,
    ) {
        let bars: Vec<_> = self.bars(corners, most).collect();
        let tops: Vec<_> = bars
            .iter()
            .flat_map(|[top, end]| [*top, (end.0, top.1)])
            .collect();
        // Where nothing stands there is no line.
        for step in tops
            .windows(2)
            .filter(|s| s.iter().any(|p| p.1 < corners[1].1))
        {
            drawing.line(step, color, 1);
        }
    }
}

/// Medians and ranges of many layers side by side.
fn summary(error: &GradientError, name: &str, axis: Decades) -> Drawing {
    const STEP: i32 = 14;
    let names: Vec<String> = error
        .layers
        .iter()
        .map(|l| shortened(&l.layer, 32))
        .collect();
    let gutter = names.iter().map(|n| width(n, 11)).max().unwrap_or(0) + 12;
    let needed = 2 * MARGIN + 48 + STEP * names.len() as i32;
    let (wide, high) = (needed.max(WIDTH), 340);
    let mut drawing = Drawing::new(wide, HEAD + high + gutter + 2 * MARGIN);
    head(&mut drawing, error, name);
    let corners = [(MARGIN + 48, HEAD + 12), (wide - MARGIN, HEAD + high)];
    let [(left, top), (right, bottom)] = corners;
    axis.beside(&mut drawing, corners);
    drawing.frame(corners, RULE);
    let y = |value: f64| {
        let place = axis.place(value).unwrap_or(0.0);
        bottom - (place * f64::from(bottom - top)).round() as i32
    };
    for (k, (layer, name)) in error.layers.iter().zip(&names).enumerate() {
        let middle = left + ((right - left) * (2 * k as i32 + 1)) / (2 * names.len() as i32);
        drawing.upwards((middle, bottom + 8), name, 11, At::Right);
        let hessian = spread(layer, |a| a.hessian().abs());
        for (quantiles, color, shift) in [(hessian, GREY, 2), (layer.error, BLUE, -2)] {
            let Some(quantiles) = quantiles else { continue };
            let x = middle + shift;
            drawing.line(&[(x, y(quantiles.low)), (x, y(quantiles.high))], color, 2);
            // Hollow on the floor: 0, or too small for the axis.
            let on_axis = axis.place(quantiles.median).is_some();
            drawing.dot((x, y(quantiles.median)), 3, color, on_axis);
        }
    }
    let floor = "hollow on the floor: 0, or below the axis";
    drawing.text((right, HEAD + 2), floor, 11, FAINT, At::Right);
    drawing
}
