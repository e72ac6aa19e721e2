//! The figure of the errors along gradients: a panel per layer, or one for all where there are many.

use super::{BLUE, FAINT, GREY, INK, MARGIN, RULE, WIDTH, grouped, percent};
use crate::figure::Decades;
use crate::figure::{At, Drawing, fitted, width, wrapped};
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
const GAP: i32 = 74;
/// Pixels of the axis's title, and of a line of text below the panels.
const TITLE: i32 = 24;
const LINE: i32 = 18;
/// The title of the axis.
const AXIS: &str =
    "curvature along the layer's gradient, in units of loss / (weight's unit)²; bars count draws";

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
    // Where all draws are 0 there is nothing to see: such layers have one line together.
    let is_zero = |layer: &&LayerError| layer.error.is_some_and(|error| error.high == 0.0);
    let (zeros, layers): (Vec<&LayerError>, Vec<&LayerError>) =
        error.layers.iter().partition(is_zero);
    let widest = layers.iter().map(|l| width(&l.layer, 14)).max();
    let columns = columns(layers.len(), widest.unwrap_or(0));
    let rows = layers.len().div_ceil(columns) as i32;
    let zeros = zero_lines(&zeros);
    let body = rows * (PANEL_HEIGHT + GAP) + TITLE * i32::from(rows > 0);
    let below = zeros.len() as i32 * LINE;
    let mut drawing = Drawing::new(WIDTH, HEAD + body + below + MARGIN);
    head(&mut drawing, error, name);
    let step = step(columns);
    for (k, layer) in layers.into_iter().enumerate() {
        let left = MARGIN + (k % columns) as i32 * step;
        let top = HEAD + 52 + (k / columns) as i32 * (PANEL_HEIGHT + GAP);
        let corners = [(left, top), (left + step - 24, top + PANEL_HEIGHT)];
        panel(&mut drawing, corners, axis, layer);
    }
    if rows > 0 {
        let y = HEAD + rows * (PANEL_HEIGHT + GAP) + TITLE / 2;
        drawing.text((WIDTH / 2, y), AXIS, 12, FAINT, At::Middle);
    }
    for (k, line) in zeros.iter().enumerate() {
        let y = HEAD + body + k as i32 * LINE + LINE / 2;
        drawing.text((MARGIN, y), line, 13, INK, At::Left);
    }
    drawing
}

/// Pixels from a panel to the one beside it.
fn step(columns: usize) -> i32 {
    (WIDTH - 2 * MARGIN + 24) / columns as i32
}

/// Panels in a row: as many as look well, while the longest name, of `widest` pixels, has room.
fn columns(panels: usize, widest: i32) -> usize {
    let mut columns = match panels {
        0..=3 => panels.max(1),
        4 => 2,
        5..=9 => 3,
        _ => 4,
    };
    while columns > 1 && step(columns) - 24 < widest {
        columns -= 1;
    }
    columns
}

/// Names the layers whose error is 0 in all draws, in lines of the figure's width.
fn zero_lines(layers: &[&LayerError]) -> Vec<String> {
    if layers.is_empty() {
        return Vec::new();
    }
    let names: Vec<&str> = layers.iter().map(|l| l.layer.as_str()).collect();
    let text = format!("Error 0 in every draw: {}", names.join(", "));
    wrapped(&text, WIDTH - 2 * MARGIN, 13)
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
    // A name wider than the figure loses its middle.
    let name = fitted(&layer.layer, 14, right - left);
    drawing.text((left, top - 41), &name, 14, INK, At::Left);
    let size = format!("{} parameters", grouped(layer.parameters));
    drawing.text((left, top - 25), &size, 11, FAINT, At::Left);
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
        .map(|l| fitted(&l.layer, 11, WIDTH / 2))
        .collect();
    let gutter = names.iter().map(|n| width(n, 11)).max().unwrap_or(0) + 12;
    let needed = 2 * MARGIN + 64 + STEP * names.len() as i32;
    let (wide, high) = (needed.max(WIDTH), 340);
    let mut drawing = Drawing::new(wide, HEAD + high + gutter + 2 * MARGIN);
    head(&mut drawing, error, name);
    let corners = [(MARGIN + 64, HEAD + 12), (wide - MARGIN, HEAD + high)];
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
    let middle = (MARGIN + 4, (top + bottom) / 2);
    drawing.upwards(middle, "loss / (weight's unit)²", 11, At::Middle);
    let floor = "hollow on the floor: 0, or below the axis";
    drawing.text((right, HEAD + 2), floor, 11, FAINT, At::Right);
    drawing
}
