//! One parameter's factor of V for a unit of samples and directions.

use crate::ops::{Outer, Site, SiteKind};
use crate::tensor::{Backend, Einsum, Shape};
use std::ops::Range;

/// The factor of one parameter: all its sites of use, for one unit of samples and directions.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Factor<T> {
    /// Sites, last operation first. Never empty for a parameter that the output depends on.
    pub sites: Vec<Site<T>>,
    /// Number of entries of the parameter.
    pub count: usize,
    /// Samples in the unit.
    pub samples: usize,
    /// Directions in the unit.
    pub directions: usize,
    /// The rows V, where they were formed once and kept.
    rows: Option<T>,
}

/// A rectangle of a parameter's entries (major, minor) that lie in a flat range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rectangle {
    /// Range of the slow axis.
    pub major: Range<usize>,
    /// Range of the fast axis.
    pub minor: Range<usize>,
    /// Position of its first entry, counted from the start of the flat range.
    pub offset: usize,
}

/// Cuts the flat range of a row-major array with rows of `inner` entries into at most three rectangles.
pub fn rectangles(range: Range<usize>, inner: usize) -> Vec<Rectangle> {
    let mut out = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let (row, column) = (at / inner, at % inner);
        let left = range.end - at;
        let (major, minor) = if column == 0 && left >= inner {
            (row..row + left / inner, 0..inner)
        } else {
            (row..row + 1, column..(column + left).min(inner))
        };
        let length = major.len() * minor.len();
        out.push(Rectangle {
            major,
            minor,
            offset: at - range.start,
        });
        at += length;
    }
    out
}

impl<T: Clone> Factor<T> {
    /// A parameter's factor from its sites.
    pub fn new(sites: Vec<Site<T>>, count: usize, samples: usize, directions: usize) -> Self {
        Self {
            sites,
            count,
            samples,
            directions,
            rows: None,
        }
    }

    /// The factor with the shapes of its tensors in their place: factors whose outlines are equal take the same work.
    pub fn outline<B: Backend<Tensor = T>>(&self, backend: &B) -> Factor<Shape> {
        Factor {
            sites: self.sites.iter().map(|s| s.outline(backend)).collect(),
            count: self.count,
            samples: self.samples,
            directions: self.directions,
            rows: self.rows.as_ref().map(|rows| backend.shape(rows)),
        }
    }

    /// The outer factor, where the parameter has a single site and that is outer.
    pub fn outer<B: Backend<Tensor = T>>(&self, backend: &B) -> Option<Outer<T>> {
        match &self.sites[..] {
            // Rows that were kept are the sum over all sites; a single site would not be the parameter.
            [site] if self.rows.is_none() => site.outer(backend),
            _ => None,
        }
    }

    /// Forms the rows of the whole parameter now, to be sliced later; an outer factor stays one, and so does what
    /// takes less than its rows where `smaller` is asked for. A depthwise convolution's rows are hundreds of
    /// times smaller than Δ and x, a dense one's at few positions larger.
    pub fn keep_rows<B: Backend<Tensor = T>>(&mut self, backend: &B, smaller: bool) {
        let held: usize = self.sites.iter().map(|site| site.numbers(backend)).sum();
        let rows = self.samples * self.directions * self.count;
        let formed = self.rows.is_some() || self.sites.is_empty() || self.outer(backend).is_some();
        if formed || smaller && rows >= held {
            return;
        }
        self.rows = Some(self.rows(backend, 0..self.count));
        self.sites.clear();
    }

    /// The rows V of a flat range of the parameter: `[samples, directions, range]`.
    pub fn rows<B: Backend<Tensor = T>>(&self, backend: &B, range: Range<usize>) -> T {
        if let Some(rows) = &self.rows {
            return slice(backend, rows, 2, &range);
        }
        let mut sum: Option<T> = None;
        for site in &self.sites {
            let (site, covered) =
                restrict(backend, site, &range).unwrap_or_else(|| (site.clone(), 0..self.count));
            let rows = site.rows(backend);
            let rows = backend.reshape(&rows, &[covered.len()]);
            let rows = slice(
                backend,
                &rows,
                2,
                &(range.start - covered.start..range.end - covered.start),
            );
            sum = Some(match sum {
                Some(sum) => backend.add(&sum, &rows),
                None => rows,
            });
        }
        let rows = sum.unwrap_or_else(|| backend.fill(&Shape::new(1, 1, &[range.len()]), 0.0));
        self.spread(backend, rows)
    }

    /// Σ_n Σ_r s_r V²: the unit's part of the diagonal of G, `[1, 1, count]`.
    pub fn squares<B: Backend<Tensor = T>>(
        &self,
        backend: &B,
        signs: Option<&T>,
        budget: usize,
    ) -> T {
        self.inner(backend, self, signs, budget)
    }

    /// Σ_n Σ_r s_r V·V' entry by entry, with another factor of the same parameter: `[1, 1, count]`.
    ///
    /// An outer factor's is `Σ_n (Σ_r s_r Δ·Δ')[o]·(a·a')[i]` (DESIGN §2). Otherwise rows are formed for as many
    /// entries at a time as `budget` numbers hold, never for all of a large parameter.
    pub fn inner<B: Backend<Tensor = T>>(
        &self,
        backend: &B,
        other: &Factor<T>,
        signs: Option<&T>,
        budget: usize,
    ) -> T {
        let signed_product = |x: &T, y: &T| {
            let product = backend.multiply(x, y);
            match signs {
                Some(signs) => backend.multiply(&product, signs),
                None => product,
            }
        };
        let pair = self.outer(backend).zip(other.outer(backend));
        let alike = pair.filter(|(l, r)| {
            l.outputs_first == r.outputs_first && l.inputs.is_some() == r.inputs.is_some()
        });
        if let Some((left, right)) = alike {
            let products = signed_product(&left.cotangents, &right.cotangents);
            let cotangents = backend.reduce_sum(&products, &[1]);
            let product = match left.inputs.as_ref().zip(right.inputs.as_ref()) {
                None => backend.reduce_sum(&cotangents, &[0]),
                Some((a, b)) => {
                    let formula = if left.outputs_first {
                        "sdo,sdi->1doi"
                    } else {
                        "sdo,sdi->1dio"
                    };
                    backend.einsum(&Einsum::new(formula), &cotangents, &backend.multiply(a, b))
                }
            };
            return backend.reshape(&product, &[self.count]);
        }
        let step = (budget / (self.samples * self.directions).max(1)).clamp(1, self.count.max(1));
        let pieces: Vec<T> = (0..self.count)
            .step_by(step)
            .map(|start| {
                let range = start..(start + step).min(self.count);
                let left = self.rows(backend, range.clone());
                let right = match std::ptr::eq(self, other) {
                    true => left.clone(),
                    false => other.rows(backend, range),
                };
                let right = match signs {
                    Some(signs) => backend.multiply(&right, signs),
                    None => right,
                };
                // Products and their sum in one pass.
                backend.einsum(&Einsum::new("sdq,sdq->11q"), &left, &right)
            })
            .collect();
        backend.concat(&pieces.iter().collect::<Vec<_>>(), 2)
    }

    /// A row that is the same for all samples or directions, repeated: contractions count each of them.
    fn spread<B: Backend<Tensor = T>>(&self, backend: &B, rows: T) -> T {
        let shape = backend.shape(&rows);
        if shape.samples == self.samples && shape.directions == self.directions {
            return rows;
        }
        let zeros = backend.fill(&Shape::new(self.samples, self.directions, &[1]), 0.0);
        backend.add(&rows, &zeros)
    }
}

/// The part of an axis, or the tensor itself where that is all of it.
pub(crate) fn slice<B: Backend>(
    backend: &B,
    tensor: &B::Tensor,
    axis: usize,
    range: &Range<usize>,
) -> B::Tensor {
    if range.start == 0 && backend.shape(tensor).axes()[axis] == range.end {
        return tensor.clone();
    }
    backend.slice(tensor, axis, range.start, range.end)
}

/// A site that makes only the output channels that a flat range of its parameter touches, and the flat
/// range that it covers; `None` where the kind or its steps do not allow it.
fn restrict<B: Backend>(
    backend: &B,
    site: &Site<B::Tensor>,
    range: &Range<usize>,
) -> Option<(Site<B::Tensor>, Range<usize>)> {
    if !site.keeps_flat_order() {
        return None;
    }
    let inner: usize = site.shape.get(1..)?.iter().product();
    let (slow, kind) = match &site.kind {
        SiteKind::Linear {
            cotangents,
            inputs,
            outputs_first,
        } => {
            // The slow axis of the weight: outputs of O×I, inputs of I×O.
            let slow = range.start / inner..range.end.div_ceil(inner);
            let (mut cotangents, mut inputs) = (cotangents.clone(), inputs.clone());
            let cut = if *outputs_first {
                &mut cotangents
            } else {
                &mut inputs
            };
            *cut = slice(backend, cut, 3, &slow);
            let kind = SiteKind::Linear {
                cotangents,
                inputs,
                outputs_first: *outputs_first,
            };
            (slow, kind)
        }
        SiteKind::Conv {
            cotangents,
            inputs,
            window,
            groups,
        } => {
            // Whole groups only, so that channels and their inputs stay together.
            let step = if *groups == 1 {
                1
            } else {
                site.shape[0] / groups
            };
            let outputs =
                range.start / inner / step * step..range.end.div_ceil(inner).div_ceil(step) * step;
            let (mut inputs, mut kept) = (inputs.clone(), 1);
            if *groups > 1 {
                kept = outputs.len() / step;
                let channels = site.shape[1];
                let first = outputs.start / step * channels;
                inputs = slice(backend, &inputs, 3, &(first..first + kept * channels));
            }
            let kind = SiteKind::Conv {
                cotangents: slice(backend, cotangents, 3, &outputs),
                inputs,
                window: window.clone(),
                groups: kept,
            };
            (outputs, kind)
        }
        SiteKind::Lookup {
            cotangents,
            indices,
            range: all,
        } => {
            let slow = range.start / inner..range.end.div_ceil(inner);
            let kind = SiteKind::Lookup {
                cotangents: cotangents.clone(),
                indices: indices.clone(),
                range: all.start + slow.start..all.start + slow.end,
            };
            (slow, kind)
        }
        _ => return None,
    };
    let mut shape = site.shape.clone();
    shape[0] = slow.len();
    let covered = slow.start * inner..slow.end * inner;
    Some((Site::new(kind, &shape), covered))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rectangles_cover_the_range_in_order() {
        for inner in [1, 3, 7] {
            for start in 0..20 {
                for end in start..25 {
                    let mut seen = Vec::new();
                    for rectangle in rectangles(start..end, inner) {
                        assert_eq!(rectangle.offset, seen.len());
                        for major in rectangle.major.clone() {
                            seen.extend(rectangle.minor.clone().map(|minor| major * inner + minor));
                        }
                    }
                    assert_eq!(seen, (start..end).collect::<Vec<_>>());
                    assert!(rectangles(start..end, inner).len() <= 3);
                }
            }
        }
    }
}
