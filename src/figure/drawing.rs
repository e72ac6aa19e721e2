//! A figure as a list of shapes, and what both formats make of it.

use super::raster::undrawn;
use super::shape::{At, FAMILY, Shape};
use super::{INK, Raster, ends};
use crate::error::Result;
use crate::text::line;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontTransform, register_font};
use std::sync::Once;

/// Pixels per pixel, each way, that a PNG is painted with before it is averaged: letters then stand where they should.
const FINE: i32 = 3;
/// Pixels that a PNG is painted with at most: 256 MB. Larger figures are painted less finely.
const PAINTED: i64 = 85_000_000;
const FONT: &[u8] = include_bytes!("../../assets/DejaVuSans-subset.ttf");

/// Makes the bundled font known.
fn font() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if register_font(FAMILY, FontStyle::Normal, FONT).is_err() {
            // The font is compiled in, so that a test sees this first.
            tracing::error!("the bundled font cannot be read");
        }
    });
}

/// A figure.
///
/// ```
/// # use hessblock::study::error::{GradientError, LayerError};
/// # use hessblock::network::initialise::Initialiser;
/// use hessblock::study::figure;
/// # let error = GradientError { initialiser: Initialiser::He, draws: 1, seed: 0, samples: 64, losses: vec![0.0], layers: vec![] };
/// let drawing = figure::gradient(&error, "digits");
/// assert!(drawing.svg()?.contains("digits"));
/// assert_eq!(drawing.png()?[1..4], *b"PNG");
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone)]
pub struct Drawing {
    pub(crate) size: (i32, i32),
    shapes: Vec<Shape>,
}

impl Drawing {
    pub(crate) fn new(width: i32, height: i32) -> Drawing {
        font();
        Drawing {
            size: (width, height),
            shapes: Vec::new(),
        }
    }

    /// Every text with its left and right end.
    #[cfg(test)]
    pub(crate) fn texts(&self) -> Vec<(String, i32, i32)> {
        let text = |shape: &Shape| match shape {
            Shape::Text {
                at: (x, _),
                text,
                size,
                side,
                upwards,
                ..
            } => {
                let wide = if *upwards { 0 } else { width(text, *size) };
                let left = match side {
                    At::Left => *x,
                    At::Middle => x - wide / 2,
                    At::Right => x - wide,
                };
                Some((text.clone(), left, left + wide))
            }
            _ => None,
        };
        self.shapes.iter().filter_map(text).collect()
    }

    pub(crate) fn fill(&mut self, corners: [(i32, i32); 2], color: impl Into<RGBAColor>) {
        let color = color.into();
        let filled = true;
        self.shapes.push(Shape::Box {
            corners,
            color,
            filled,
        });
    }

    pub(crate) fn frame(&mut self, corners: [(i32, i32); 2], color: RGBColor) {
        let color = color.into();
        let filled = false;
        self.shapes.push(Shape::Box {
            corners,
            color,
            filled,
        });
    }

    pub(crate) fn line(&mut self, points: &[(i32, i32)], color: RGBColor, width: u32) {
        let points = points.to_vec();
        self.shapes.push(Shape::Line {
            points,
            color,
            width,
        });
    }

    pub(crate) fn dot(&mut self, center: (i32, i32), radius: i32, color: RGBColor, filled: bool) {
        self.shapes.push(Shape::Dot {
            center,
            radius,
            color,
            filled,
        });
    }

    /// A text centred on the height of its point.
    pub(crate) fn text(
        &mut self,
        at: (i32, i32),
        text: &str,
        size: i32,
        color: RGBColor,
        side: At,
    ) {
        let (text, upwards) = (line(text).into_owned(), false);
        self.shapes.push(Shape::Text {
            at,
            text,
            size,
            color,
            side,
            upwards,
        });
    }

    /// A text that reads from below to above, centred on its point's x.
    pub(crate) fn upwards(&mut self, at: (i32, i32), text: &str, size: i32, side: At) {
        let (text, upwards, color) = (line(text).into_owned(), true, INK);
        self.shapes.push(Shape::Text {
            at,
            text,
            size,
            color,
            side,
            upwards,
        });
    }

    /// An image with its upper left corner there, each pixel of it a square of `scale` pixels.
    pub(crate) fn image(&mut self, corner: (i32, i32), raster: Raster, scale: i32) {
        self.shapes.push(Shape::Image {
            corner,
            raster,
            scale,
        });
    }

    /// Width and height, pixels.
    pub fn size(&self) -> (u32, u32) {
        (self.size.0 as u32, self.size.1 as u32)
    }

    /// As SVG.
    ///
    /// # Errors
    /// [`crate::Error::Value`] where it cannot be drawn.
    pub fn svg(&self) -> Result<String> {
        super::svg::write(self.size(), &self.shapes, false)
    }

    /// As SVG that stands in a page: transparent, and in the colours that the page's variables `--ink`, `--faint` and
    /// `--rule` have.
    ///
    /// # Errors
    /// As [`Drawing::svg`].
    pub(crate) fn svg_inline(&self) -> Result<String> {
        super::svg::write(self.size(), &self.shapes, true)
    }

    /// As PNG.
    ///
    /// # Errors
    /// [`crate::Error::Value`] where it cannot be drawn.
    pub fn png(&self) -> Result<Vec<u8>> {
        let size = self.size();
        let area = i64::from(size.0) * i64::from(size.1);
        let scale = (1..=FINE)
            .rev()
            .find(|&s| area * i64::from(s * s) <= PAINTED);
        let scale = scale.unwrap_or(1);
        let fine = (size.0 * scale as u32, size.1 * scale as u32);
        let mut pixels = vec![0; fine.0 as usize * fine.1 as usize * 3];
        self.paint(
            &BitMapBackend::with_buffer(&mut pixels, fine).into_drawing_area(),
            scale,
        )?;
        let pixels = averaged(pixels, size.0 as usize, scale as usize);
        super::raster::encode(size, &pixels)
    }

    fn paint(&self, area: &Area<'_>, scale: i32) -> Result<()> {
        area.fill(&WHITE).map_err(undrawn)?;
        for shape in &self.shapes {
            shape.paint(area, scale).map_err(undrawn)?;
        }
        area.present().map_err(undrawn)
    }
}

type Area<'a> = DrawingArea<BitMapBackend<'a>, plotters::coord::Shift>;
type Undrawn<'a> = DrawingAreaErrorKind<<BitMapBackend<'a> as DrawingBackend>::ErrorType>;

/// Pixels of `width` a row, each the mean of `fine`×`fine` painted ones.
fn averaged(painted: Vec<u8>, width: usize, fine: usize) -> Vec<u8> {
    if fine == 1 {
        return painted;
    }
    let row = width * fine * 3;
    let mut pixels = Vec::with_capacity(painted.len() / fine / fine);
    for rows in painted.chunks_exact(row * fine) {
        for column in 0..width {
            for channel in 0..3 {
                let within = |k: usize| (k / fine) * row + (column * fine + k % fine) * 3 + channel;
                let sum: usize = (0..fine * fine).map(|k| usize::from(rows[within(k)])).sum();
                pixels.push((sum / (fine * fine)) as u8);
            }
        }
    }
    pixels
}

impl Shape {
    /// Paints the shape with `scale` pixels for each of its own.
    fn paint<'a>(&self, area: &Area<'a>, scale: i32) -> Result<(), Undrawn<'a>> {
        let to = |(x, y): (i32, i32)| (x * scale, y * scale);
        match self {
            Shape::Box {
                corners,
                color,
                filled,
            } => {
                let style = ShapeStyle {
                    color: *color,
                    filled: *filled,
                    stroke_width: scale as u32,
                };
                area.draw(&Rectangle::new(corners.map(to), style))
            }
            Shape::Line {
                points,
                color,
                width,
            } => {
                let points: Vec<_> = points.iter().copied().map(to).collect();
                area.draw(&PathElement::new(
                    points,
                    color.stroke_width(width * scale as u32),
                ))
            }
            Shape::Dot {
                center,
                radius,
                color,
                filled,
            } => {
                let stroke_width = scale as u32;
                let style = ShapeStyle {
                    color: color.to_rgba(),
                    filled: *filled,
                    stroke_width,
                };
                area.draw(&Circle::new(to(*center), radius * scale, style))
            }
            Shape::Text {
                at,
                text,
                size,
                color,
                side,
                upwards,
            } => {
                let along = match side {
                    At::Left => HPos::Left,
                    At::Middle => HPos::Center,
                    At::Right => HPos::Right,
                };
                let font = (FAMILY, size * scale).into_font();
                let font = match upwards {
                    true => font.transform(FontTransform::Rotate270),
                    false => font,
                };
                let style = TextStyle::from(font)
                    .color(color)
                    .pos(Pos::new(along, VPos::Center));
                area.draw(&Text::new(text.as_str(), to(*at), style))
            }
            Shape::Image {
                corner,
                raster,
                scale: own,
            } => {
                let (size, pixels) = raster.enlarged((own * scale) as usize);
                let image = BitMapElement::with_owned_buffer(to(*corner), size, pixels);
                image.map_or(Ok(()), |image| area.draw(&image))
            }
        }
    }
}

/// Pixels that a text is wide.
pub(crate) fn width(text: &str, size: i32) -> i32 {
    font();
    let measured = (FAMILY, size).into_font().box_size(text);
    measured.map_or(0, |(width, _)| width as i32)
}

/// A text of `room` pixels at most: what is too long loses its middle ([`ends`]).
pub(crate) fn fitted(text: &str, size: i32, room: i32) -> String {
    // No letter is less than two pixels wide, so that only some of a long text is measured.
    let most = usize::try_from(room).unwrap_or(0) / 2;
    let fits = |letters: usize| width(&ends(text, letters), size) <= room;
    if fits(most) {
        return ends(text, most);
    }
    // Of ellipses alone there is room anywhere.
    let (mut short, mut long) = (1, most.max(1));
    while long - short > 1 {
        let middle = short + (long - short) / 2;
        match fits(middle) {
            true => short = middle,
            false => long = middle,
        }
    }
    ends(text, short)
}

/// A text in lines of `room` pixels at most, cut between words; a longer word loses its middle.
pub(crate) fn wrapped(text: &str, room: i32, size: i32) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        let word = fitted(word, size, room);
        match lines.last_mut() {
            Some(line) if width(&format!("{line} {word}"), size) <= room => {
                line.push(' ');
                line.push_str(&word);
            }
            _ => lines.push(word),
        }
    }
    lines
}
