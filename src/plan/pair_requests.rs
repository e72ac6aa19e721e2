//! The pairs of parameters of a request: the entries and ranges of each, and the choice that is made for it.

use super::parts::PartPlan;
use super::request::pieces;
use crate::network::Network;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

/// The choice for every pair of parameters, one byte each: a network of thousands of parameters has millions of pairs.
///
/// `rows[a][b - a]` is that of a and b, with a ≤ b.
#[derive(Clone, Debug, Default)]
pub(super) struct Choices {
    pub(super) rows: Vec<Vec<Choice>>,
}

/// The side of a pair whose entries have tangents to get the block of the pair, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Choice {
    /// Nothing was requested of the pair.
    #[default]
    Nothing,
    /// Something was, and nothing is chosen yet.
    Open,
    /// Entries of the first.
    First,
    /// Entries of the second.
    Second,
    /// The pre-activation that stands for the first.
    ThroughFirst,
    /// The pre-activation that stands for the second.
    ThroughSecond,
}

impl Choices {
    pub(super) fn get(&self, a: usize, b: usize) -> Choice {
        let row = self.rows.get(a.min(b));
        let choice = row.and_then(|row| row.get(a.abs_diff(b)));
        choice.copied().unwrap_or_default()
    }

    pub(super) fn set(&mut self, a: usize, b: usize, choice: Choice) {
        let row = &mut self.rows[a.min(b)];
        let at = a.abs_diff(b);
        if row.len() <= at {
            row.resize(at + 1, Choice::Nothing);
        }
        row[at] = choice;
    }
}

/// The entries and ranges that a request has of a pair of parameters, smaller index first.
#[derive(Clone, Debug, Default)]
pub(super) struct PairRequest {
    /// Entries of the block.
    pub(super) entries: u64,
    /// Ranges of either parameter.
    pub(super) ranges: [Vec<Range<usize>>; 2],
}

/// The ranges of parameters that the parts of a request have.
pub(super) struct PairRequests<'a> {
    parts: &'a [PartPlan],
    /// By parameter: its share of every part that has entries of it, in the order of the parts.
    of_parts: Vec<Vec<Share>>,
}

/// The ranges of a parameter that a part has.
struct Share {
    part: usize,
    rows: Vec<Range<usize>>,
    columns: Vec<Range<usize>>,
}

/// The entries of ranges.
fn count(ranges: &[Range<usize>]) -> u64 {
    ranges.iter().map(|range| range.len() as u64).sum()
}

impl<'a> PairRequests<'a> {
    pub(super) fn new(network: &Network, parts: &'a [PartPlan]) -> Self {
        let mut of_parts: Vec<Vec<Share>> = Vec::new();
        of_parts.resize_with(network.parameters.len(), Vec::new);
        for (part, PartPlan { part: own, .. }) in parts.iter().enumerate() {
            let columns = own.columns.as_deref().unwrap_or_default();
            for (rows, ranges) in [(true, &own.rows[..]), (false, columns)] {
                for (k, range) in pieces(network, ranges) {
                    let shares = &mut of_parts[k];
                    if shares.last().is_none_or(|last| last.part != part) {
                        shares.push(Share {
                            part,
                            rows: Vec::new(),
                            columns: Vec::new(),
                        });
                    }
                    let last = shares.last_mut().expect("one was put there");
                    match rows {
                        true => last.rows.push(range),
                        false => last.columns.push(range),
                    }
                }
            }
        }
        PairRequests { parts, of_parts }
    }

    /// Marks the pairs that something is requested of.
    pub(super) fn open(&self, parameters: usize) -> Choices {
        let mut choices = Choices {
            rows: vec![Vec::new(); parameters],
        };
        let mut of_part: Vec<(Vec<usize>, Vec<usize>)> = Vec::new();
        of_part.resize_with(self.parts.len(), Default::default);
        for (k, shares) in self.of_parts.iter().enumerate() {
            for share in shares {
                let (rows, columns) = &mut of_part[share.part];
                if !share.rows.is_empty() {
                    rows.push(k);
                }
                if !share.columns.is_empty() {
                    columns.push(k);
                }
            }
        }
        for (PartPlan { part, .. }, (rows, columns)) in self.parts.iter().zip(&of_part) {
            for (at, &a) in rows.iter().enumerate() {
                let others = match (&part.columns, part.symmetric()) {
                    (None, _) => &rows[at..=at],
                    (Some(_), true) => &columns[at..],
                    (Some(_), false) => &columns[..],
                };
                // The largest first, so that a row grows once.
                for &b in others.iter().rev() {
                    choices.set(a, b, Choice::Open);
                }
            }
        }
        choices
    }

    /// Entries that are requested of a parameter at most.
    pub(super) fn size(&self, parameter: usize) -> u64 {
        let sizes = self.of_parts[parameter]
            .iter()
            .map(|share| count(&share.rows).max(count(&share.columns)));
        sizes.max().unwrap_or(0)
    }

    /// Returns the entries and ranges of the pair (a, b), a ≤ b. Of a symmetric part only the upper triangle counts.
    pub(super) fn of(&self, a: usize, b: usize) -> PairRequest {
        let mut requested = PairRequest::default();
        let (first, second) = (&self.of_parts[a], &self.of_parts[b]);
        let (mut i, mut j) = (0, 0);
        while let (Some(of_a), Some(of_b)) = (first.get(i), second.get(j)) {
            match of_a.part.cmp(&of_b.part) {
                std::cmp::Ordering::Less => i += 1,
                std::cmp::Ordering::Greater => j += 1,
                std::cmp::Ordering::Equal => {
                    self.add(&mut requested, a == b, of_a, of_b);
                    (i, j) = (i + 1, j + 1);
                }
            }
        }
        requested
    }

    /// Adds the entries and ranges of one part.
    fn add(&self, requested: &mut PairRequest, one: bool, of_a: &Share, of_b: &Share) {
        let part = &self.parts[of_a.part].part;
        let mut both = |left: &[Range<usize>], right: &[Range<usize>], entries: u64| {
            if !left.is_empty() && !right.is_empty() {
                requested.entries += entries;
                requested.ranges[0].extend(left.iter().cloned());
                requested.ranges[1].extend(right.iter().cloned());
            }
        };
        if part.columns.is_none() {
            if one {
                both(&of_a.rows, &of_a.rows, count(&of_a.rows));
            }
            return;
        }
        let product = |left: &Share, right: &Share| count(&left.rows) * count(&right.columns);
        if one && part.symmetric() {
            // Of several ranges each meets itself and those behind it.
            let lengths = of_a.rows.iter().map(|r| r.len() as u64);
            let squares: u64 = lengths.map(|length| length * length).sum();
            let all = product(of_a, of_a);
            both(&of_a.rows, &of_a.columns, (all + squares) / 2);
            return;
        }
        both(&of_a.rows, &of_b.columns, product(of_a, of_b));
        if !one && !part.symmetric() {
            both(&of_a.columns, &of_b.rows, product(of_b, of_a));
        }
    }
}

/// Gives the pairs of parameters that a request has entries of, those of the largest product of sizes first.
pub(super) struct LargestFirst {
    /// Parameters and their sizes, the largest first.
    order: Vec<(u64, usize)>,
    /// For every parameter in `order`, its next requested pair, keyed by the product of sizes.
    next: BinaryHeap<(u64, Reverse<usize>, Reverse<usize>)>,
}

impl LargestFirst {
    pub(super) fn new(request: &PairRequests<'_>, choices: &Choices) -> Self {
        let size = |k: usize| (request.size(k), k);
        let mut order: Vec<(u64, usize)> = (0..request.of_parts.len()).map(size).collect();
        order.retain(|(size, _)| *size > 0);
        order.sort_by_key(|&(size, k)| (Reverse(size), k));
        let mut pairs = LargestFirst {
            order,
            next: BinaryHeap::new(),
        };
        for at in 0..pairs.order.len() {
            pairs.push(at, at, choices);
        }
        pairs
    }

    /// Puts in the first pair of a place that something is requested of, with places from `from` on.
    fn push(&mut self, at: usize, from: usize, choices: &Choices) {
        let (size, own) = self.order[at];
        let mut others = self.order.iter().enumerate().skip(from);
        let requested = others.find(|(_, (_, k))| choices.get(own, *k) != Choice::Nothing);
        if let Some((other, (others_size, _))) = requested {
            let product = size.saturating_mul(*others_size);
            self.next.push((product, Reverse(at), Reverse(other)));
        }
    }

    /// The next pair, the smaller parameter first.
    pub(super) fn next(&mut self, choices: &Choices) -> Option<(usize, usize)> {
        let (_, Reverse(at), Reverse(other)) = self.next.pop()?;
        self.push(at, other + 1, choices);
        let (a, b) = (self.order[at].1, self.order[other].1);
        Some((a.min(b), a.max(b)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::builder::Builder;
    use crate::plan::request::{Part, resolve};
    use std::collections::BTreeMap;

    fn network() -> Network {
        Builder::new(&[3])
            .linear("a", 5)
            .tanh()
            .linear("b", 4)
            .tanh()
            .linear("c", 2)
            .initialize(1)
            .build()
            .unwrap()
    }

    fn parts(network: &Network, parts: &[Part]) -> Vec<PartPlan> {
        let resolved = resolve(network, parts).unwrap();
        resolved.into_iter().map(PartPlan::uncut).collect()
    }

    /// Entries of every pair, from the parts' entries one by one.
    fn one_by_one(network: &Network, parts: &[PartPlan]) -> BTreeMap<(usize, usize), u64> {
        let mut found = BTreeMap::new();
        for PartPlan { part, .. } in parts {
            let flat = |ranges: &[Range<usize>]| -> Vec<(usize, usize)> {
                let pieces = pieces(network, ranges).into_iter().enumerate();
                pieces
                    .flat_map(|(piece, (k, range))| range.map(move |_| (piece, k)))
                    .collect()
            };
            let rows = flat(&part.rows);
            let Some(columns) = &part.columns else {
                for (_, k) in rows {
                    *found.entry((k, k)).or_default() += 1;
                }
                continue;
            };
            for (row_piece, a) in &rows {
                for (column_piece, b) in flat(columns) {
                    // Above the diagonal, piece by piece.
                    if !part.symmetric() || *row_piece <= column_piece {
                        *found.entry((*a.min(&b), *a.max(&b))).or_default() += 1;
                    }
                }
            }
        }
        found
    }

    #[test]
    fn request_counts_the_entries_of_every_pair() {
        let network = network();
        for asked in [
            &[Part::Full][..],
            &[Part::Layers],
            &[Part::between("a", "c")],
            &[Part::range(2..9, 0..30), Part::Diagonal, Part::layer("b")],
            &[Part::range(7..30, 3..12)],
        ] {
            let parts = parts(&network, asked);
            let request = PairRequests::new(&network, &parts);
            let choices = request.open(network.parameters.len());
            let expected = one_by_one(&network, &parts);
            let mut order = LargestFirst::new(&request, &choices);
            let mut found = BTreeMap::new();
            let mut products = Vec::new();
            while let Some((a, b)) = order.next(&choices) {
                assert_eq!(found.insert((a, b), request.of(a, b).entries), None);
                products.push(request.size(a) * request.size(b));
            }
            assert_eq!(found, expected, "{asked:?}");
            assert!(products.is_sorted_by(|a, b| a >= b), "{asked:?}");
        }
    }
}
