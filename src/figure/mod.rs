//! Figures as lists of shapes: a [`Drawing`], of which PNG and SVG are made with a font of its own, so that no system font
//! is needed, the logarithmic axis, and numbers in words. Colours are Okabe and Ito's, which people with any colour vision can tell apart.
//!
//! May use plotters and the bundled font; must not know what is drawn.

mod axis;
mod drawing;
mod raster;
mod shape;
mod svg;
mod words;

pub use drawing::Drawing;

pub(crate) use axis::{Decades, power};
pub(crate) use drawing::{fitted, width, wrapped};
pub(crate) use raster::{Raster, base64};
pub(crate) use shape::At;
pub(crate) use svg::escaped;
pub(crate) use words::{ends, grouped, percent, shortened};

use plotters::style::RGBColor;

pub(crate) const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
pub(crate) const FAINT: RGBColor = RGBColor(0x66, 0x66, 0x66);
pub(crate) const RULE: RGBColor = RGBColor(0xd4, 0xd4, 0xd4);
/// H.
pub(crate) const GREY: RGBColor = RGBColor(0xa6, 0xa6, 0xa6);
/// H − G.
pub(crate) const BLUE: RGBColor = RGBColor(0x00, 0x72, 0xb2);
/// What is out of the ordinary.
pub(crate) const VERMILLION: RGBColor = RGBColor(0xd5, 0x5e, 0x00);
