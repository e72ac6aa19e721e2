//! One side of what is shown: which entry of a part, and of the flat order, each row or column is.

use crate::sink::ParameterPlace;
use std::ops::Range;

/// The rows or the columns of a view, counted from 0: ascending pieces of a part's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Axis {
    segments: Vec<Segment>,
    length: usize,
}

/// Neighbours both in the part and in the flat order.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Segment {
    /// Place of the first in the view.
    start: usize,
    /// Its place in the part.
    position: usize,
    flat: Range<usize>,
}

/// Entries of a side that have one name: a layer's, or a parameter's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) name: String,
    pub(super) range: Range<usize>,
}

/// What a span is the name of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Layer,
    Parameter,
}

impl Axis {
    /// A side of one entry, of no parameter: that of a vector that it does not have.
    pub(super) fn one() -> Axis {
        let one = 0..1;
        Axis::whole(std::slice::from_ref(&one))
    }

    /// All of a part's side, of these flat indices.
    pub(super) fn whole(ranges: &[Range<usize>]) -> Axis {
        Axis::of(ranges, ranges).unwrap_or_default()
    }

    /// The flat indices `keep` of a part's side; `None` where it lacks one of them. Both ascend.
    pub(super) fn of(ranges: &[Range<usize>], keep: &[Range<usize>]) -> Option<Axis> {
        let mut axis = Axis::default();
        for keep in keep.iter().filter(|k| !k.is_empty()) {
            let (mut position, mut next) = (0, keep.start);
            for range in ranges {
                if range.contains(&next) {
                    let end = range.end.min(keep.end);
                    axis.push(position + next - range.start, next..end);
                    next = end;
                }
                position += range.len();
            }
            if next < keep.end {
                return None;
            }
        }
        Some(axis)
    }

    fn push(&mut self, position: usize, flat: Range<usize>) {
        let start = self.length;
        self.length += flat.len();
        match self.segments.last_mut() {
            Some(last)
                if last.flat.end == flat.start && last.position + last.flat.len() == position =>
            {
                last.flat.end = flat.end;
            }
            _ => self.segments.push(Segment {
                start,
                position,
                flat,
            }),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// The flat index of an entry, which is one of the side.
    pub(super) fn flat(&self, at: usize) -> usize {
        let after = self.segments.partition_point(|s| s.start <= at);
        let segment = &self.segments[after - 1];
        segment.flat.start + at - segment.start
    }

    /// Where a flat index is.
    pub(super) fn find(&self, flat: usize) -> Option<usize> {
        let after = self.segments.partition_point(|s| s.flat.start <= flat);
        let segment = self.segments.get(after.checked_sub(1)?)?;
        let found = segment.flat.contains(&flat);
        found.then(|| segment.start + flat - segment.flat.start)
    }

    /// The flat indices, as ascending ranges.
    pub(super) fn ranges(&self) -> Vec<Range<usize>> {
        let mut out: Vec<Range<usize>> = Vec::new();
        for segment in &self.segments {
            match out.last_mut() {
                Some(last) if last.end == segment.flat.start => last.end = segment.flat.end,
                _ => out.push(segment.flat.clone()),
            }
        }
        out
    }

    /// The side in pieces that lie together in the part, cut where a multiple of `most` is there: the first entry's
    /// place in the view, and the places in the part.
    pub(super) fn pieces(&self, most: usize) -> Vec<(usize, Range<usize>)> {
        let mut runs: Vec<(usize, Range<usize>)> = Vec::new();
        for segment in &self.segments {
            let places = segment.position..segment.position + segment.flat.len();
            match runs.last_mut() {
                Some((_, last)) if last.end == places.start => last.end = places.end,
                _ => runs.push((segment.start, places)),
            }
        }
        let mut out = Vec::new();
        for (start, run) in runs {
            let mut from = run.start;
            while from < run.end {
                let to = (from / most + 1).saturating_mul(most).min(run.end);
                out.push((start + from - run.start, from..to));
                from = to;
            }
        }
        out
    }

    /// Where layers or parameters begin and end; nothing where there are no `places`. These ascend.
    pub(super) fn spans(&self, places: &[ParameterPlace], by: By) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        if places.is_empty() {
            return spans;
        }
        let mut push = |name: &str, range: Range<usize>| match spans.last_mut() {
            Some(last) if last.name == name => last.range.end = range.end,
            _ => spans.push(Span {
                name: name.into(),
                range,
            }),
        };
        for segment in &self.segments {
            let mut next = segment.flat.start;
            let first = places.partition_point(|p| p.range().end <= next);
            let mut add = |name: &str, range: Range<usize>| {
                let to = |flat: usize| segment.start + flat - segment.flat.start;
                push(name, to(range.start)..to(range.end));
            };
            for place in &places[first..] {
                if place.offset >= segment.flat.end {
                    break;
                }
                let from = place.offset.max(next);
                let to = place.range().end.min(segment.flat.end);
                // A manifest from elsewhere may leave entries out, or name them twice.
                if from > next {
                    add(NOBODY, next..from);
                }
                if to > from {
                    let name = match by {
                        By::Layer => &place.layer,
                        By::Parameter => &place.name,
                    };
                    add(name, from..to);
                    next = to;
                }
            }
            if next < segment.flat.end {
                add(NOBODY, next..segment.flat.end);
            }
        }
        spans
    }

    /// Pieces with their parameter: place in the view, flat index, length, name, index in the parameter.
    pub(super) fn named(
        &self,
        places: &[ParameterPlace],
    ) -> Vec<(usize, usize, usize, String, usize)> {
        let segments = self.segments.iter().flat_map(|segment| {
            let one = Axis {
                segments: vec![Segment {
                    start: 0,
                    ..segment.clone()
                }],
                length: segment.flat.len(),
            };
            let mut spans = one.spans(places, By::Parameter);
            if spans.is_empty() {
                spans.push(Span {
                    name: String::new(),
                    range: 0..segment.flat.len(),
                });
            }
            spans.into_iter().map(|span| {
                let flat = segment.flat.start + span.range.start;
                let place = places
                    .iter()
                    .find(|p| p.name == span.name && p.range().contains(&flat));
                let index = place.map_or(0, |p| flat - p.offset);
                (
                    segment.start + span.range.start,
                    flat,
                    span.range.len(),
                    span.name,
                    index,
                )
            })
        });
        segments.collect()
    }
}

/// Entries that no parameter has.
const NOBODY: &str = "(no parameter)";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place(layer: &str, name: &str, range: Range<usize>) -> ParameterPlace {
        ParameterPlace {
            name: format!("{layer}.{name}"),
            layer: layer.into(),
            offset: range.start,
            count: range.len(),
            shape: vec![range.len()],
        }
    }

    fn ranges(starts: &[(usize, usize)]) -> Vec<Range<usize>> {
        let mut next = 0;
        let mut out = Vec::new();
        for (gap, length) in starts {
            out.push(next + gap..next + gap + length);
            next += gap + length;
        }
        out
    }

    proptest! {
        #[test]
        fn every_entry_has_its_place_in_the_part_and_in_the_flat_order(
            gaps in prop::collection::vec((0usize..4, 0usize..6), 1..6),
            from in 0usize..20,
            length in 0usize..20,
            most in 1usize..7,
        ) {
            let ranges = ranges(&gaps);
            let flats: Vec<usize> = ranges.iter().cloned().flatten().collect();
            let keep = from..from + length;
            let axis = Axis::of(&ranges, std::slice::from_ref(&keep));
            prop_assert_eq!(axis.is_some(), keep.clone().all(|f| flats.contains(&f)));
            for axis in [Some(Axis::whole(&ranges)), axis].into_iter().flatten() {
                let mut next = 0;
                for (start, places) in axis.pieces(most) {
                    prop_assert_eq!(start, next);
                    prop_assert!(places.len() <= most && !places.is_empty());
                    for place in places {
                        prop_assert_eq!(axis.flat(next), flats[place]);
                        prop_assert_eq!(axis.find(flats[place]), Some(next));
                        next += 1;
                    }
                }
                prop_assert_eq!(next, axis.len());
                prop_assert_eq!(axis.find(1000), None);
            }
        }
    }

    #[test]
    fn spans_are_where_layers_change() {
        let places = [
            place("a", "weight", 0..6),
            place("a", "bias", 6..8),
            place("b", "weight", 10..14),
        ];
        let axis = Axis::whole(&[2..7, 9..13]);
        let spans = |by| -> Vec<(String, Range<usize>)> {
            let spans = axis.spans(&places, by);
            spans.into_iter().map(|s| (s.name, s.range)).collect()
        };
        let named = |list: &[(&str, Range<usize>)]| -> Vec<(String, Range<usize>)> {
            list.iter()
                .map(|(n, r)| (n.to_string(), r.clone()))
                .collect()
        };
        assert_eq!(
            spans(By::Layer),
            named(&[("a", 0..5), (NOBODY, 5..6), ("b", 6..9)])
        );
        assert_eq!(
            spans(By::Parameter),
            named(&[
                ("a.weight", 0..4),
                ("a.bias", 4..5),
                (NOBODY, 5..6),
                ("b.weight", 6..9)
            ])
        );
        assert!(axis.spans(&[], By::Layer).is_empty());
    }

    #[test]
    fn a_damaged_list_of_parameters_is_no_danger() {
        let huge = ParameterPlace {
            offset: 3,
            count: usize::MAX,
            ..place("b", "w", 0..1)
        };
        let places = [place("a", "w", 0..5), huge, place("c", "w", 4..6)];
        let spans = Axis::whole(&[0..3, 3..8]).spans(&places, By::Layer);
        let covered: usize = spans.iter().map(|s| s.range.len()).sum();
        assert_eq!(covered, 8);
    }
}
