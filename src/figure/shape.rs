//! The shapes that figures are made of.

use super::Raster;
use plotters::style::{RGBAColor, RGBColor};

/// The family that viewers of an SVG are asked for, and the name of the bundled font.
pub(super) const FAMILY: &str = "sans-serif";

/// Where a text lies at its point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    Left,
    Middle,
    Right,
}

/// A shape, in pixels.
#[derive(Clone)]
pub(super) enum Shape {
    Box {
        corners: [(i32, i32); 2],
        color: RGBAColor,
        filled: bool,
    },
    Line {
        points: Vec<(i32, i32)>,
        color: RGBColor,
        width: u32,
    },
    Dot {
        center: (i32, i32),
        radius: i32,
        color: RGBColor,
        filled: bool,
    },
    Text {
        at: (i32, i32),
        text: String,
        size: i32,
        color: RGBColor,
        side: At,
        upwards: bool,
    },
    Image {
        corner: (i32, i32),
        raster: Raster,
        scale: i32,
    },
}
