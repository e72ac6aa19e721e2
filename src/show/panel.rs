//! One part's picture: heading, map or plot, names along its sides, scale of colours, caption.

use super::axis::{Axis, By, Span};
use super::grid::{Cell, Grid};
use super::labels::{Labels, SIZE, labels};
use super::scale::{self, Scale};
use super::select::View;
use super::statistics::Statistics;
use super::trace_plot;
use crate::figure::{At, Drawing, FAINT, INK, Raster, fitted, grouped, wrapped};
use crate::sink::ParameterPlace;
use plotters::style::{RGBAColor, RGBColor};

/// Pixels of the heading, and between its last line and the map.
const HEAD: i32 = 21;
const BELOW: i32 = 7;
/// Letters of the heading.
const LARGE: i32 = 16;
/// Pixels of a line of the caption.
const LINE: i32 = 18;
/// Pixels between a map and its scale, of the scale itself, and of its numbers.
const GAP: i32 = 16;
const BAR: i32 = 14;
const NUMBERS: i32 = 72;
/// Pixels of a colour below the scale, with its meaning.
const KEY: i32 = 22;
/// Pixels of the scale's height.
const SCALE: std::ops::Range<i32> = 170..340;
/// Of a map that is far from square the shorter side has at least this share of the longer.
const SHORTEST: f64 = 0.16;
/// Pixels of a panel's width at least, so that captions have room.
const LEAST: i32 = 300;
/// Lines between layers, with a light seam on either side so that they are seen on any colours; all of them let the
/// entries below shine through. Beyond the frame they go on as ticks.
const BORDER: RGBAColor = RGBAColor(0x10, 0x10, 0x10, 0.7);
const SEAM: RGBAColor = RGBAColor(0xff, 0xff, 0xff, 0.35);
/// Pixels to the next border that a seam takes at least.
const ROOM: i32 = 16;
const TICK: i32 = 5;
const FRAME: RGBColor = RGBColor(0x88, 0x88, 0x88);

/// A part that is drawn.
#[derive(Clone)]
pub(super) struct Picture {
    pub(super) view: View,
    pub(super) grid: Grid,
    pub(super) row_spans: Vec<Span>,
    pub(super) column_spans: Vec<Span>,
    /// The parameters that have entries in it.
    pub(super) places: Vec<ParameterPlace>,
    heading: String,
    about: String,
    caption: String,
    scale: Scale,
}

/// Where things lie in a panel, relative to its upper left corner.
pub(super) struct Layout {
    rows: Labels,
    columns: Labels,
    /// Corner, width and height of the map.
    pub(super) map: (i32, i32, i32, i32),
    /// Pixels of a cell, each way.
    enlarged: (i32, i32),
    heading: String,
    about: Vec<String>,
    caption: Vec<String>,
    pub(super) size: (i32, i32),
}

/// Cells that a picture has at most, each way, with `size` pixels for the longer side.
pub(super) fn cells(view: &View, size: usize) -> (usize, usize) {
    if view.vector {
        return (1, size);
    }
    let (rows, columns) = (
        view.rows.len().max(1) as f64,
        view.columns.len().max(1) as f64,
    );
    let side = |own: f64, other: f64| {
        let share = (own / other).clamp(SHORTEST, 1.0);
        ((size as f64 * share) as usize).max(1)
    };
    (side(rows, columns), side(columns, rows))
}

impl Picture {
    pub(super) fn new(
        view: View,
        grid: Grid,
        places: &[ParameterPlace],
        whole: &Statistics,
    ) -> Picture {
        let row_spans = names(&view.rows.spans(places, By::Layer), || {
            view.rows.spans(places, By::Parameter)
        });
        let column_spans = names(&view.columns.spans(places, By::Layer), || {
            view.columns.spans(places, By::Parameter)
        });
        let heading = match &view.zoom {
            Some(zoom) => format!("{}: {zoom}", view.name),
            None => view.name.clone(),
        };
        let scale = Scale::new(grid.most());
        let caption = caption(&view, &grid, whole);
        let extent = |what: &str, axis: &Axis| match axis.ranges().as_slice() {
            [range] => format!(" · {what} {}..{}", range.start, range.end),
            _ => String::new(),
        };
        let about = match view.vector {
            true => {
                let entries = extent("entries", &view.rows);
                format!("a vector of {}{entries}", grouped(view.rows.len()))
            }
            false => format!(
                "{} × {}{}{}",
                grouped(view.rows.len()),
                grouped(view.columns.len()),
                extent("rows", &view.rows),
                extent("columns", &view.columns)
            ),
        };
        Picture {
            view,
            grid,
            row_spans,
            column_spans,
            places: places.to_vec(),
            heading,
            about,
            caption,
            scale,
        }
    }

    /// Lays the panel out with `size` pixels for the longer side of the map.
    pub(super) fn layout(&self, size: usize) -> Layout {
        let most = cells(&self.view, size);
        let pixels = |cells: usize, most: usize| ((most / cells.max(1)) as i32).max(1);
        let (grid, vector) = (&self.grid, self.view.vector);
        let mut enlarged = match vector {
            true => (trace_plot::height(size), pixels(grid.columns, most.1)),
            false => (pixels(grid.rows, most.0), pixels(grid.columns, most.1)),
        };
        let (rows, columns) = (self.view.rows.len(), self.view.columns.len());
        if !vector && grid.factor == (1, 1) {
            // Entries are squares, unless the map would be a thread.
            let least = enlarged.0.min(enlarged.1);
            let longer = rows.max(columns) as f64 * f64::from(least);
            if rows.min(columns) as f64 * f64::from(least) >= SHORTEST * longer {
                enlarged = (least, least);
            }
        }
        let wide = enlarged.1 * grid.columns as i32;
        let high = enlarged.0 * grid.rows as i32;
        let column_labels = match vector {
            true => labels(&self.row_spans, rows, wide, false),
            false => labels(&self.column_spans, columns, wide, false),
        };
        let row_labels = match vector {
            true => Labels::default(),
            false => labels(&self.row_spans, rows, high, true),
        };
        let left = match vector {
            true => trace_plot::GUTTER,
            false => row_labels.depth(),
        };
        let right = match vector {
            true => 8,
            false => GAP + BAR + NUMBERS,
        };
        let width = (left + wide + right).max(LEAST);
        let heading = fitted(&self.heading, LARGE, width);
        let about = wrapped(&self.about, width, SIZE);
        let caption = wrapped(&self.caption, width, SIZE);
        let head = HEAD + about.len() as i32 * LINE + BELOW;
        // Under a low map the scale of colours is longer than it.
        let body = match vector {
            true => high + column_labels.depth(),
            false => (high + column_labels.depth()).max(self.scale_height(high) + 14),
        };
        let height = head + body + 10 + caption.len() as i32 * LINE;
        Layout {
            rows: row_labels,
            columns: column_labels,
            map: (left, head, wide, high),
            enlarged,
            heading,
            about,
            caption,
            size: (width, height),
        }
    }

    fn scale_height(&self, map: i32) -> i32 {
        let extra = KEY * self.keys().len() as i32;
        map.clamp(SCALE.start, SCALE.end) + extra
    }

    /// Colours below the scale, with what they stand for: entries too small for it, and numbers that are none.
    fn keys(&self) -> Vec<([u8; 3], String)> {
        let mut keys = Vec::new();
        if let Some(least) = self.scale.least() {
            keys.push((scale::SMALL, format!("< {}", number_short(least))));
        }
        if self.grid.broken.contains(&true) {
            keys.push((scale::BROKEN, "NaN, ∞".into()));
        }
        keys
    }

    /// Draws the panel with its upper left corner there.
    pub(super) fn draw(&self, drawing: &mut Drawing, (x, y): (i32, i32), layout: &Layout) {
        drawing.text((x, y + 10), &layout.heading, LARGE, INK, At::Left);
        for (k, line) in layout.about.iter().enumerate() {
            let at = (x, y + HEAD + LINE / 2 + k as i32 * LINE);
            drawing.text(at, line, SIZE, FAINT, At::Left);
        }
        let (left, top, wide, high) = layout.map;
        let (left, top) = (x + left, y + top);
        let (right, bottom) = (left + wide, top + high);
        if wide == 0 || high == 0 {
            drawing.text((left, top + 10), "no entries", SIZE, FAINT, At::Left);
        } else if self.view.vector {
            let cell = layout.enlarged.1;
            let area = [(left, top), (right, bottom)];
            trace_plot::draw(drawing, area, cell, &self.grid, self.scale);
        } else {
            self.map(drawing, (left, top), layout.enlarged);
            self.bar(drawing, (right + GAP, top), high);
        }
        for (border, seam) in seams(&layout.rows.borders) {
            let y = top + border;
            if seam {
                drawing.fill([(left, y - 1), (right, y)], SEAM);
                drawing.fill([(left, y + 1), (right, y + 2)], SEAM);
            }
            drawing.fill([(left, y), (right, y + 1)], BORDER);
            drawing.fill([(left - TICK, y), (left - 1, y + 1)], FRAME);
        }
        for (border, seam) in seams(&layout.columns.borders) {
            let x = left + border;
            if seam {
                drawing.fill([(x - 1, top), (x, bottom)], SEAM);
                drawing.fill([(x + 1, top), (x + 2, bottom)], SEAM);
            }
            drawing.fill([(x, top), (x + 1, bottom)], BORDER);
            drawing.fill([(x, bottom + 1), (x + 1, bottom + TICK)], FRAME);
        }
        // The frame lies outside, so that it hides no entry.
        drawing.frame([(left - 1, top - 1), (right, bottom)], FRAME);
        for (name, middle) in &layout.rows.names {
            drawing.text((left - 8, top + middle), name, SIZE, INK, At::Right);
        }
        for (name, middle) in &layout.columns.names {
            match layout.columns.across {
                true => drawing.upwards((left + middle, bottom + 8), name, SIZE, At::Right),
                false => {
                    drawing.text((left + middle, bottom + 13), name, SIZE, INK, At::Middle);
                }
            }
        }
        let lines = layout.caption.iter().rev().enumerate();
        for (k, line) in lines {
            let at = (x, y + layout.size.1 - LINE / 2 - k as i32 * LINE);
            drawing.text(at, line, SIZE, FAINT, At::Left);
        }
    }

    /// The heat map, a cell of `tall` × `wide` pixels.
    fn map(&self, drawing: &mut Drawing, corner: (i32, i32), (tall, wide): (i32, i32)) {
        let grid = &self.grid;
        // An image has square pixels: the longer side of a cell is repeated in it.
        let square = divisor(tall, wide);
        let (down, across) = ((tall / square) as usize, (wide / square) as usize);
        let mut pixels = Vec::with_capacity(grid.low.len() * down * across * 3);
        for row in 0..grid.rows {
            let start = pixels.len();
            for column in 0..grid.columns {
                let color = match grid.cell(row * grid.columns + column) {
                    Cell::Value(value) => self.scale.color(value),
                    Cell::Broken => scale::BROKEN,
                };
                for _ in 0..across {
                    pixels.extend(color);
                }
            }
            let end = pixels.len();
            for _ in 1..down {
                pixels.extend_from_within(start..end);
            }
        }
        let raster = Raster {
            width: grid.columns * across,
            height: grid.rows * down,
            pixels,
        };
        drawing.image(corner, raster, square);
    }

    /// The scale of colours: the largest positive entries at the top, zero in the middle.
    fn bar(&self, drawing: &mut Drawing, (left, top): (i32, i32), map: i32) {
        const ZERO: i32 = 12;
        let height = map.clamp(SCALE.start, SCALE.end);
        let half = (height - ZERO) / 2;
        let right = left + BAR;
        let column = |negative: bool| {
            let rows = (0..half).flat_map(move |y| {
                let place = f64::from(half - 1 - y) / f64::from((half - 1).max(1));
                let place = if negative { 1.0 - place } else { place };
                scale::at(place, negative).repeat(BAR as usize)
            });
            Raster {
                width: BAR as usize,
                height: half as usize,
                pixels: rows.collect(),
            }
        };
        let middle = top + half;
        drawing.image((left, top), column(false), 1);
        drawing.image((left, middle + ZERO), column(true), 1);
        drawing.frame([(left - 1, top - 1), (right, top + 2 * half + ZERO)], FRAME);
        for (share, color) in [(0, scale::SMALL), (1, scale::ZERO), (2, scale::SMALL)] {
            let y = middle + share * ZERO / 3;
            let [red, green, blue] = color;
            drawing.fill(
                [(left, y), (right, y + ZERO / 3)],
                RGBColor(red, green, blue),
            );
        }
        drawing.text((right + 8, middle + ZERO / 2), "0", SIZE, INK, At::Left);
        let step = if half >= 130 { 1 } else { 2 };
        for (exponent, place) in self.scale.ticks(step) {
            let up = (place * f64::from(half - 1)).round() as i32;
            for (y, negative) in [(top + half - 1 - up, false), (middle + ZERO + up, true)] {
                // Numbers stay clear of the zero.
                if (y - middle - ZERO / 2).abs() < 15 {
                    continue;
                }
                drawing.fill([(right, y), (right + 4, y + 1)], FRAME);
                let text = scale::label(exponent, negative);
                drawing.text((right + 8, y), &text, SIZE, INK, At::Left);
            }
        }
        for (k, (color, text)) in self.keys().into_iter().enumerate() {
            let y = top + height + 10 + k as i32 * KEY;
            let [red, green, blue] = color;
            drawing.fill([(left, y), (right, y + 14)], RGBColor(red, green, blue));
            drawing.frame([(left - 1, y - 1), (right, y + 14)], FRAME);
            drawing.text((right + 8, y + 7), &text, SIZE, INK, At::Left);
        }
    }
}

/// Borders, and whether each has seams: beside a layer of a few pixels they would hide it.
fn seams(borders: &[i32]) -> impl Iterator<Item = (i32, bool)> + '_ {
    let far = |k: usize, other: Option<&i32>| other.is_none_or(|o| (o - borders[k]).abs() >= ROOM);
    (0..borders.len()).map(move |k| {
        let before = k.checked_sub(1).and_then(|k| borders.get(k));
        (borders[k], far(k, before) && far(k, borders.get(k + 1)))
    })
}

/// The names along a side: those of layers; inside a single layer, those of its parameters.
fn names(layers: &[Span], parameters: impl FnOnce() -> Vec<Span>) -> Vec<Span> {
    let [layer] = layers else {
        return layers.to_vec();
    };
    let prefix = format!("{}.", layer.name);
    let mut spans = parameters();
    for span in &mut spans {
        if let Some(rest) = span.name.strip_prefix(&prefix) {
            span.name = rest.into();
        }
    }
    spans
}

/// What a pixel is, and what is not seen.
fn caption(view: &View, grid: &Grid, whole: &Statistics) -> String {
    let mut text = match (view.vector, grid.factor) {
        (_, (1, 1)) => "Every entry is shown.".to_string(),
        (true, (_, k)) => format!(
            "Each column of pixels stands for {} entries and spans the least to the largest of them.",
            grouped(k)
        ),
        (false, (r, c)) => format!(
            "Each pixel stands for {} × {} entries and shows the one of largest magnitude.",
            grouped(r),
            grouped(c)
        ),
    };
    if let Some(largest) = whole.largest.filter(|l| l.value != 0.0) {
        let place = match view.vector {
            true => format!("{}", largest.row),
            false => format!("({},\u{a0}{})", largest.row, largest.column),
        };
        let value = number(largest.value);
        text += &format!(" Largest: {value} at {place}.");
    } else if whole.entries > 0 && whole.non_finite == 0 {
        text += " All entries are 0.";
    }
    if whole.non_finite > 0 {
        text += &format!(
            " {} NaN or infinite (green).",
            grouped(usize::try_from(whole.non_finite).unwrap_or(usize::MAX))
        );
    }
    text
}

/// Three digits of a number, with a true minus: `−0.0123`, `1.23e−8`.
pub(super) fn number(value: f64) -> String {
    let magnitude = value.abs();
    let text = match magnitude {
        _ if value == 0.0 => "0".into(),
        _ if !value.is_finite() => format!("{value}"),
        m if (1e-3..1e4).contains(&m) => {
            let digits = (2 - m.log10().floor() as i32).max(0) as usize;
            format!("{value:.digits$}")
        }
        _ => format!("{value:.2e}"),
    };
    text.replace('-', "−")
}

/// One digit of a small number: `2e−8`.
fn number_short(value: f64) -> String {
    format!("{value:.0e}").replace('-', "−")
}

fn divisor(a: i32, b: i32) -> i32 {
    if b == 0 { a.max(1) } else { divisor(b, a % b) }
}
