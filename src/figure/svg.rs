//! A figure as SVG.

use super::shape::{At, FAMILY, Shape};
use super::{FAINT, INK, RULE, base64};
use crate::error::Result;
use plotters::style::{RGBAColor, RGBColor};
use std::fmt::Write as _;

/// Letters of the bundled font's size, which a viewer that lacks it should come near to.
const FONTS: &str = "DejaVu Sans, Verdana";
/// The size of a font in SVG is that of its em square, in plotters that of its line.
const LINE_OF_EM: f64 = 1.24;

/// Writes a figure of a size; `inline` for one that takes its page's colours.
pub(super) fn write((width, height): (u32, u32), shapes: &[Shape], inline: bool) -> Result<String> {
    let mut text = format!(
        "<svg width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         xmlns=\"http://www.w3.org/2000/svg\" font-family=\"{FONTS}, {FAMILY}\">\n"
    );
    if !inline {
        let _ = writeln!(text, "<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>");
    }
    for shape in shapes {
        element(&mut text, shape, inline)?;
    }
    text.push_str("</svg>\n");
    Ok(text)
}

/// Adds a shape's element.
fn element(out: &mut String, shape: &Shape, inline: bool) -> Result<()> {
    // Writing to a String cannot fail.
    let _ = match shape {
        Shape::Box {
            corners: [(x, y), (right, bottom)],
            color,
            filled,
        } => {
            let rest = format!(
                "width=\"{}\" height=\"{}\"",
                (right - x).max(0),
                (bottom - y).max(0)
            );
            let paint = outlined(*color, *filled, inline);
            writeln!(out, "<rect x=\"{x}\" y=\"{y}\" {rest} {paint}/>")
        }
        Shape::Line {
            points,
            color,
            width,
        } => {
            let points: Vec<String> = points.iter().map(|(x, y)| format!("{x},{y}")).collect();
            writeln!(
                out,
                "<polyline points=\"{}\" fill=\"none\" stroke-width=\"{width}\" {}/>",
                points.join(" "),
                paint((*color).into(), "stroke", inline)
            )
        }
        Shape::Dot {
            center: (x, y),
            radius,
            color,
            filled,
        } => {
            let paint = outlined((*color).into(), *filled, inline);
            writeln!(
                out,
                "<circle cx=\"{x}\" cy=\"{y}\" r=\"{radius}\" {paint}/>"
            )
        }
        Shape::Text {
            at: (x, y),
            text,
            size,
            color,
            side,
            upwards,
        } => {
            let paint = paint((*color).into(), "fill", inline);
            let text = escaped(text);
            let size = f64::from(*size) / LINE_OF_EM;
            writeln!(
                out,
                "<text x=\"{x}\" y=\"{y}\" dy=\"0.35em\" text-anchor=\"{}\" font-size=\"{size:.1}\" {paint}{}>{text}</text>",
                anchor(*side),
                turned((*x, *y), *upwards)
            )
        }
        Shape::Image {
            corner: (x, y),
            raster,
            scale,
        } => writeln!(
            out,
            "<image x=\"{x}\" y=\"{y}\" width=\"{}\" height=\"{}\" preserveAspectRatio=\"none\" \
             style=\"image-rendering:pixelated\" href=\"data:image/png;base64,{}\"/>",
            raster.width * *scale as usize,
            raster.height * *scale as usize,
            base64(&raster.png()?)
        ),
    };
    Ok(())
}

/// The paint of a shape that is filled, or drawn as an outline.
fn outlined(color: RGBAColor, filled: bool, inline: bool) -> String {
    match filled {
        true => paint(color, "fill", inline),
        false => paint(color, "stroke", inline) + " fill=\"none\"",
    }
}

/// Which end of a text lies at its point.
fn anchor(side: At) -> &'static str {
    match side {
        At::Left => "start",
        At::Middle => "middle",
        At::Right => "end",
    }
}

/// The attribute that turns a text around its point, where it reads upwards.
fn turned((x, y): (i32, i32), upwards: bool) -> String {
    match upwards {
        true => format!(" transform=\"rotate(270 {x} {y})\""),
        false => String::new(),
    }
}

/// `fill="#123456"`, with the opacity where there is one.
fn paint(color: RGBAColor, what: &str, inline: bool) -> String {
    let RGBAColor(red, green, blue, alpha) = color;
    let name = match RGBColor(red, green, blue) {
        INK => Some("ink"),
        FAINT => Some("faint"),
        RULE => Some("rule"),
        _ => None,
    };
    let value = match name {
        Some(name) if inline => format!("var(--{name})"),
        _ => format!("#{red:02x}{green:02x}{blue:02x}"),
    };
    // Variables are read in a style alone.
    let mut text = match inline {
        true => format!("style=\"{what}:{value}\""),
        false => format!("{what}=\"{value}\""),
    };
    if alpha < 1.0 {
        let _ = write!(text, " {what}-opacity=\"{alpha}\"");
    }
    text
}

/// A text as it stands in XML and HTML, in an element or an attribute.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in crate::text::line(text).chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::{BLUE, Drawing, Raster};
    use super::*;

    #[test]
    fn shapes_become_elements_and_texts_are_escaped() {
        let mut drawing = Drawing::new(40, 30);
        drawing.fill([(1, 2), (11, 22)], RGBAColor(1, 2, 3, 0.5));
        drawing.line(&[(0, 0), (4, 5)], BLUE, 2);
        drawing.text((3, 4), "a < \"b\" & c\u{1}", 12, INK, At::Right);
        drawing.upwards((5, 6), "up", 12, At::Middle);
        let pixels = vec![9; 2 * 3 * 3];
        let (width, height) = (2, 3);
        let raster = Raster {
            width,
            height,
            pixels,
        };
        drawing.image((7, 8), raster, 4);
        let svg = drawing.svg().unwrap();
        for text in [
            "<rect x=\"1\" y=\"2\" width=\"10\" height=\"20\" fill=\"#010203\" fill-opacity=\"0.5\"/>",
            "points=\"0,0 4,5\"",
            "a &lt; &quot;b&quot; &amp; c\\u{1}</text>",
            "rotate(270 5 6)",
            "<image x=\"7\" y=\"8\" width=\"8\" height=\"12\"",
        ] {
            assert!(svg.contains(text), "no {text} in {svg}");
        }
        let inline = drawing.svg_inline().unwrap();
        assert!(inline.contains("fill:var(--ink)") && !inline.contains("100%"));
        assert!(drawing.png().is_ok());
    }
}
