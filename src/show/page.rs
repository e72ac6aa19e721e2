//! A page that needs no other file.

use super::axis::Axis;
use super::grid::Grid;
use super::panel::Picture;
use super::table::{HEADS, heading, largest, lines};
use super::{Shown, ShownPart, sheet};
use crate::error::{Error, Result};
use crate::figure::{base64, escaped, grouped};
use crate::sink::Provenance;
use serde_json::json;
use std::fmt::Write as _;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// Pairs of different layers in a part's table.
const PAIRS: usize = 1000;
/// Parts whose tables are on the page.
const PARTS: usize = 1000;

pub(super) fn html(shown: &Shown) -> Result<String> {
    let size = sheet::side(shown.pictures().count(), shown.size);
    let title = escaped(&shown.title);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
    );
    provenance(&mut page, shown);
    for note in shown.picture_notes() {
        let _ = writeln!(page, "<p class=\"note\">{}</p>", escaped(&note));
    }
    let mut data = Vec::new();
    for part in shown.parts.iter().take(PARTS) {
        let _ = writeln!(page, "<section>\n<h2>{}</h2>", escaped(&heading(part)));
        if let Some(picture) = &part.picture {
            let (drawing, map) = sheet::alone(picture, size);
            let _ = writeln!(
                page,
                "<figure data-picture=\"{}\">\n{}</figure>",
                data.len(),
                drawing.svg_inline()?
            );
            data.push(values(picture, map, drawing.size()));
        }
        table(&mut page, part);
        page.push_str("</section>\n");
    }
    if shown.parts.len() > PARTS {
        let more = grouped(shown.parts.len() - PARTS);
        let _ = writeln!(
            page,
            "<p class=\"note\">{more} more parts are left out.</p>"
        );
    }
    let data = serde_json::to_string(&data)
        .map_err(|e| Error::Value(format!("the page's values cannot be written: {e}")))?;
    // No name ends the script.
    let data = data.replace('<', "\\u003c");
    let _ = write!(
        page,
        "<div id=\"tip\" hidden></div>\n<script type=\"application/json\" id=\"values\">{data}</script>\n\
         <script>\n{SCRIPT}</script>\n</body>\n</html>\n"
    );
    Ok(page)
}

/// Where the result comes from.
fn provenance(page: &mut String, shown: &Shown) {
    let known: Provenance = serde_json::from_value(shown.provenance.clone()).unwrap_or_default();
    let files = |files: &[crate::sink::HashedFile]| {
        let names: Vec<String> = files.iter().map(|f| f.path.clone()).collect();
        names.join(", ")
    };
    let samples = known.samples.map(|(a, b)| format!("{a}..{b}"));
    let device = match (known.device, known.precision) {
        (Some(device), Some(precision)) => Some(format!("{device} ({precision})")),
        (device, precision) => device.or(precision),
    };
    let rows = [
        ("result", Some(shown.out.clone())),
        ("model", Some(files(&known.model))),
        ("data", Some(files(&known.data))),
        ("samples", samples),
        ("loss", known.loss),
        ("curvature", known.curvature),
        ("device", device),
        ("date", Some(known.date)),
        ("hessblock", Some(known.crate_version)),
    ];
    page.push_str("<dl>\n");
    for (name, value) in rows {
        if let Some(value) = value.filter(|v| !v.is_empty()) {
            let _ = writeln!(page, "<dt>{name}</dt><dd>{}</dd>", escaped(&value));
        }
    }
    page.push_str("</dl>\n");
}

/// The table of a part.
fn table(page: &mut String, part: &ShownPart) {
    let mut lines = lines(part);
    let left_out = largest(&mut lines, PAIRS);
    let broken = part.statistics.non_finite > 0;
    page.push_str("<div class=\"wide\"><table>\n<tr>");
    for head in HEADS.into_iter().chain(broken.then_some("NaN, ∞")) {
        let _ = write!(page, "<th>{head}</th>");
    }
    page.push_str("</tr>\n");
    for line in &lines {
        page.push_str("<tr>");
        let count = line.broken.to_string();
        for cell in line.cells().into_iter().chain(broken.then_some(&*count)) {
            let _ = write!(page, "<td>{}</td>", escaped(cell));
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</table></div>\n");
    if left_out > 0 {
        let more = grouped(left_out);
        let _ = writeln!(
            page,
            "<p class=\"note\">{more} more pairs of layers, of smaller norm, are left out.</p>"
        );
    }
}

/// What the page's script needs of a picture.
fn values(picture: &Picture, map: (i32, i32, i32, i32), size: (u32, u32)) -> serde_json::Value {
    let (grid, view) = (&picture.grid, &picture.view);
    let exact = grid.factor == (1, 1);
    let side = |axis: &Axis| json!(axis.named(&picture.places));
    json!({
        "map": map,
        "size": size,
        "cells": (grid.rows, grid.columns),
        "factor": grid.factor,
        "entries": (if view.vector { 1 } else { view.rows.len() }, if view.vector { view.rows.len() } else { view.columns.len() }),
        "vector": view.vector,
        "rows": side(&view.rows),
        "columns": side(if view.vector { &view.rows } else { &view.columns }),
        "low": base64(&if exact { singles(grid, &grid.low) } else { halves(grid, &grid.low) }),
        "high": if exact { None } else { Some(base64(&halves(grid, &grid.high))) },
    })
}

/// A number in single precision. Of one that has no place in its range the page is told that alone: infinite where it is
/// beyond, [`TINY`] where it is nearer to 0 than every normal number.
fn single(value: f64) -> f32 {
    match value != 0.0 && value.abs() < f64::from(f32::MIN_POSITIVE) {
        true => TINY.copysign(value as f32),
        false => value as f32,
    }
}

/// The least number that two bytes hold.
const TINY: f32 = f32::from_bits(0x0001_0000);

/// Every cell in four bytes; NaN for a broken one.
fn singles(grid: &Grid, values: &[f64]) -> Vec<u8> {
    let cells = values.iter().zip(&grid.broken);
    cells
        .flat_map(|(v, broken)| if *broken { f32::NAN } else { single(*v) }.to_le_bytes())
        .collect()
}

/// Every cell in two bytes, the upper ones of a number in single precision.
fn halves(grid: &Grid, values: &[f64]) -> Vec<u8> {
    let cells = values.iter().zip(&grid.broken);
    cells
        .flat_map(|(v, broken)| {
            let bits = match broken {
                true => 0x7fc0_0000,
                false => single(*v).to_bits(),
            };
            ((bits.saturating_add(0x8000) >> 16) as u16).to_le_bytes()
        })
        .collect()
}
