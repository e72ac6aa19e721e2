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

    /// The flat indices `keep` of a part's side; `None` where it lacks one of them. Both ascend, so that each is gone
    /// through once.
    pub(super) fn of(ranges: &[Range<usize>], keep: &[Range<usize>]) -> Option<Axis> {
        let mut axis = Axis::default();
        let mut ranges = ranges.iter().filter(|r| !r.is_empty()).peekable();
        let mut position = 0;
        for keep in keep {
            let mut next = keep.start;
            while next < keep.end {
                let range = ranges.peek()?;
                if range.end <= next {
                    position += range.len();
                    ranges.next();
                    continue;
                }
                let before = next.checked_sub(range.start)?;
                let end = range.end.min(keep.end);
                axis.push(position + before, next..end);
                next = end;
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
    pub(super) fn pieces(&self, most: usize) -> impl Iterator<Item = (usize, Range<usize>)> {
        let mut runs: Vec<(usize, Range<usize>)> = Vec::new();
        for segment in &self.segments {
            let places = segment.position..segment.position + segment.flat.len();
            match runs.last_mut() {
                Some((_, last)) if last.end == places.start => last.end = places.end,
                _ => runs.push((segment.start, places)),
            }
        }
        runs.into_iter().flat_map(move |run| cut(run, most))
    }

    /// Where layers or parameters begin and end; nothing where there are no `places`. These ascend.
    pub(super) fn spans(&self, places: &[ParameterPlace], by: By) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        if places.is_empty() {
            return spans;
        }
        for owned in self.owned(places) {
            let range = owned.start..owned.start + owned.flat.len();
            let name = owned.place.map_or(NOBODY, |place| match by {
                By::Layer => &place.layer,
                By::Parameter => &place.name,
            });
            match spans.last_mut() {
                Some(last) if last.name == name => last.range.end = range.end,
                _ => spans.push(Span {
                    name: name.into(),
                    range,
                }),
            }
        }
        spans
    }

    /// Pieces with their parameter: place in the view, flat index, length, name, index in the parameter.
    pub(super) fn named<'a>(
        &self,
        places: &'a [ParameterPlace],
    ) -> Vec<(usize, usize, usize, &'a str, usize)> {
        let unknown = if places.is_empty() { "" } else { NOBODY };
        let owned = self.owned(places).into_iter();
        let named = owned.map(|Owned { start, flat, place }| {
            let name = place.map_or(unknown, |place| &place.name);
            let index = place.map_or(0, |place| flat.start - place.offset);
            (start, flat.start, flat.len(), name, index)
        });
        named.collect()
    }

    /// The side in pieces that are each of one parameter, or of none.
    fn owned<'a>(&self, places: &'a [ParameterPlace]) -> Vec<Owned<'a>> {
        let mut out = Vec::new();
        for segment in &self.segments {
            let (mut next, end) = (segment.flat.start, segment.flat.end);
            let mut add = |flat: Range<usize>, place| {
                if !flat.is_empty() {
                    let start = segment.start + flat.start - segment.flat.start;
                    out.push(Owned { start, flat, place });
                }
            };
            let first = places.partition_point(|p| p.range().end <= next);
            for place in &places[first..] {
                if place.offset >= end || next == end {
                    break;
                }
                // A manifest from elsewhere may leave entries out, or name them twice.
                let (from, to) = (place.offset.max(next), place.range().end.min(end));
                if from < to {
                    add(next..from, None);
                    add(from..to, Some(place));
                    next = to;
                }
            }
            add(next..end, None);
        }
        out
    }
}

/// Neighbours in the flat order that are of one parameter, or of none.
struct Owned<'a> {
    /// Place of the first in the view.
    start: usize,
    flat: Range<usize>,
    place: Option<&'a ParameterPlace>,
}

/// A piece as [`Axis::pieces`] has it, cut where a multiple of `most` is among the places.
pub(super) fn cut(
    (start, places): (usize, Range<usize>),
    most: usize,
) -> impl Iterator<Item = (usize, Range<usize>)> {
    let mut from = places.start;
    std::iter::from_fn(move || {
        let to = (from / most + 1).saturating_mul(most).min(places.end);
        let piece = (start + from - places.start, from..to);
        from = to;
        (!piece.1.is_empty()).then_some(piece)
    })
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

    /// So many ranges, and places of as many entries, are not gone through anew for each of the others.
    #[test]
    fn a_side_of_many_ranges_takes_no_long_time() {
        let start = std::time::Instant::now();
        let many: Vec<Range<usize>> = (0..200_000).map(|k| 3 * k..3 * k + 2).collect();
        let places: Vec<_> = many.iter().map(|r| place("l", "w", r.clone())).collect();
        let axis = Axis::of(&many, &many[1000..]).unwrap();
        assert_eq!(axis.len(), 2 * 199_000);
        assert_eq!(axis.pieces(1 << 40).next(), Some((0, 2000..400_000)));
        assert_eq!(axis.spans(&places, By::Parameter).len(), 1);
        assert_eq!(axis.named(&places).len(), 199_000);
        let all = ParameterPlace {
            offset: 0,
            count: usize::MAX,
            ..place("b", "w", 0..1)
        };
        assert_eq!(axis.named(&vec![all; 200_000]).len(), 199_000);
        // Ranges times ranges would be minutes.
        assert!(start.elapsed().as_secs() < 10);
    }

    /// A matrix of no columns may have as many rows as there are numbers.
    #[test]
    fn pieces_are_made_as_they_are_asked_for() {
        let axis = Axis::whole(std::slice::from_ref(&(0..usize::MAX)));
        assert_eq!(axis.pieces(2048).nth(1), Some((2048, 2048..4096)));
        let last = cut((0, usize::MAX - 1..usize::MAX), 2048);
        assert_eq!(last.count(), 1);
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
