//! All panels on one page.

use super::Shown;
use super::panel::{Layout, Picture};
use crate::figure::{At, Drawing, FAINT, INK, wrapped};

const MARGIN: i32 = 20;
/// Pixels between panels.
const GAP: (i32, i32) = (36, 30);
/// Letters of the lines below the title.
const SMALL: i32 = 14;
const LINE: i32 = 20;

/// Panels beside each other.
pub(super) fn across(panels: usize) -> usize {
    match panels {
        0 | 1 => 1,
        2..=4 => 2,
        _ => 3,
    }
}

/// Pixels of a map's longer side, of those that a lone one would have.
pub(super) fn side(panels: usize, size: usize) -> usize {
    let share = match panels {
        0 | 1 => 1.0,
        2 => 0.65,
        3 | 4 => 0.55,
        _ => 0.42,
    };
    (size as f64 * share) as usize
}

/// Draws all pictures of a result.
pub(super) fn draw(shown: &Shown) -> Drawing {
    let pictures: Vec<&Picture> = shown.pictures().collect();
    let size = side(pictures.len(), shown.size);
    let layouts: Vec<Layout> = pictures.iter().map(|p| p.layout(size)).collect();
    let across = across(pictures.len());
    let widest = |column: usize| {
        let layouts = layouts.iter().skip(column).step_by(across);
        layouts.map(|l| l.size.0).max().unwrap_or(0)
    };
    let columns: Vec<i32> = (0..across.min(pictures.len())).map(widest).collect();
    let gaps = GAP.0 * (columns.len() as i32 - 1).max(0);
    let inner = (columns.iter().sum::<i32>() + gaps).max(360);
    let title = wrapped(&shown.title, inner, 18);
    let about = wrapped(&shown.about, inner, SMALL);
    let notes: Vec<String> = shown
        .picture_notes()
        .iter()
        .flat_map(|note| wrapped(note, inner, SMALL))
        .collect();
    let head = MARGIN + title.len() as i32 * 24 + about.len() as i32 * LINE + 16;
    let rows: Vec<i32> = layouts
        .chunks(across)
        .map(|row| row.iter().map(|l| l.size.1).max().unwrap_or(0))
        .collect();
    let body = rows.iter().sum::<i32>() + GAP.1 * (rows.len() as i32 - 1).max(0);
    let foot = notes.len() as i32 * LINE + if notes.is_empty() { 0 } else { 14 };
    let mut drawing = Drawing::new(inner + 2 * MARGIN, head + body + foot + MARGIN);
    let mut y = MARGIN + 8;
    for line in &title {
        drawing.text((MARGIN, y), line, 18, INK, At::Left);
        y += 24;
    }
    for line in &about {
        drawing.text((MARGIN, y), line, SMALL, FAINT, At::Left);
        y += LINE;
    }
    let mut top = head;
    for ((pictures, layouts), height) in pictures
        .chunks(across)
        .zip(layouts.chunks(across))
        .zip(&rows)
    {
        let mut left = MARGIN;
        for ((picture, layout), width) in pictures.iter().zip(layouts).zip(&columns) {
            picture.draw(&mut drawing, (left, top), layout);
            left += width + GAP.0;
        }
        top += height + GAP.1;
    }
    for (k, note) in notes.iter().enumerate() {
        let y = head + body + 22 + k as i32 * LINE;
        drawing.text((MARGIN, y), note, SMALL, FAINT, At::Left);
    }
    drawing
}

/// Draws one picture alone, without the page's title: the drawing, and corner, width and height of its map in it.
pub(super) fn alone(picture: &Picture, size: usize) -> (Drawing, (i32, i32, i32, i32)) {
    let layout = picture.layout(size);
    let mut drawing = Drawing::new(layout.size.0 + 8, layout.size.1 + 8);
    picture.draw(&mut drawing, (4, 4), &layout);
    let (x, y, width, height) = layout.map;
    (drawing, (x + 4, y + 4, width, height))
}
