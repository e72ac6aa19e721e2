//! Names along a side: where there is room for them.

use super::axis::Span;
use crate::figure::{shortened, width};

/// Letters of a name at most.
const LETTERS: usize = 22;
/// Size of letters, and pixels that a line of them takes.
pub(super) const SIZE: i32 = 13;
const LINE: i32 = 14;
/// Names that a side has at most.
const NAMES: usize = 200;
/// Spans up to which every border is drawn; of more, those that have this many pixels to the one drawn before.
const MANY: usize = 40;
const APART: i32 = 12;

/// Pixels of a side, with what is drawn along it.
#[derive(Clone, Debug, Default)]
pub(super) struct Labels {
    /// Where spans meet, in pixels.
    pub(super) borders: Vec<i32>,
    /// Name and middle of each that has room.
    pub(super) names: Vec<(String, i32)>,
    /// Whether the names stand across the side: those of columns then read upwards.
    pub(super) across: bool,
}

/// Borders and names of spans, where an entry is `length / entries` pixels.
///
/// `rows` names lie across their side; those of columns only where one would not have room along it.
pub(super) fn labels(spans: &[Span], entries: usize, length: i32, rows: bool) -> Labels {
    let to = |at: usize| (at as f64 * f64::from(length) / entries.max(1) as f64).round() as i32;
    let starts = spans.iter().skip(1).map(|s| to(s.range.start));
    let mut borders: Vec<i32> = starts.filter(|b| (1..length).contains(b)).collect();
    borders.dedup();
    if spans.len() > MANY {
        thin_out(&mut borders);
    }
    let names: Vec<(String, i32, i32)> = spans
        .iter()
        .map(|s| {
            let (start, end) = (to(s.range.start), to(s.range.end));
            (
                shortened(&s.name, LETTERS),
                start + (end - start) / 2,
                end - start,
            )
        })
        .collect();
    let along = names
        .iter()
        .all(|(name, _, room)| width(name, SIZE) + 6 <= *room);
    let across = rows || !along;
    // The largest first, so that it is small ones that are left out.
    let mut order: Vec<usize> = (0..names.len()).collect();
    order.sort_by_key(|&k| (-names[k].2, k));
    let mut kept: Vec<usize> = Vec::new();
    for k in order {
        if kept.len() == NAMES {
            break;
        }
        let free = kept
            .iter()
            .all(|&other| (names[other].1 - names[k].1).abs() >= LINE);
        if !across || free {
            kept.push(k);
        }
    }
    kept.sort_unstable();
    Labels {
        borders,
        names: kept
            .into_iter()
            .map(|k| (names[k].0.clone(), names[k].1))
            .collect(),
        across,
    }
}

/// Keeps the borders that are some pixels from the last one kept: lines close together would hide what they divide.
fn thin_out(borders: &mut Vec<i32>) {
    let mut last = 0;
    borders.retain(|&border| {
        let kept = border - last >= APART;
        if kept {
            last = border;
        }
        kept
    });
}

impl Labels {
    /// Pixels that the names take beside the side.
    pub(super) fn depth(&self) -> i32 {
        let longest = self.names.iter().map(|(name, _)| width(name, SIZE)).max();
        match (longest, self.across) {
            (None, _) => 0,
            (Some(longest), true) => longest + 12,
            (Some(_), false) => LINE + 10,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(lengths: &[(&str, usize)]) -> (Vec<Span>, usize) {
        let mut next = 0;
        let mut out = Vec::new();
        for (name, length) in lengths {
            out.push(Span {
                name: name.to_string(),
                range: next..next + length,
            });
            next += length;
        }
        (out, next)
    }

    #[test]
    fn borders_lie_where_spans_meet_and_small_ones_lose_their_names() {
        let (list, entries) = spans(&[("first", 100), ("tiny", 1), ("small", 2), ("last", 97)]);
        let found = labels(&list, entries, 400, true);
        assert_eq!(found.borders, [200, 202, 206]);
        let names: Vec<&str> = found.names.iter().map(|n| n.0.as_str()).collect();
        assert_eq!(names, ["first", "small", "last"]);
        assert_eq!(found.names[0].1, 100);
        // Columns: "small" has no room along the side, so that all stand across it.
        assert!(labels(&list, entries, 400, false).across);
        let (list, entries) = spans(&[("first", 100), ("last", 97)]);
        assert!(!labels(&list, entries, 400, false).across);
    }

    #[test]
    fn names_never_overlap() {
        let many: Vec<(String, usize)> =
            (0..500).map(|k| (format!("layer{k}"), 1 + k % 9)).collect();
        let many: Vec<(&str, usize)> = many.iter().map(|(n, k)| (n.as_str(), *k)).collect();
        let (list, entries) = spans(&many);
        let found = labels(&list, entries, 600, true);
        let places: Vec<i32> = found.names.iter().map(|n| n.1).collect();
        assert!(places.len() > 20 && places.windows(2).all(|p| p[1] - p[0] >= LINE));
        let borders = &found.borders;
        assert!(borders.len() > 20 && borders.windows(2).all(|b| b[1] - b[0] >= APART));
        assert!(labels(&[], 0, 10, true).names.is_empty());
    }
}
