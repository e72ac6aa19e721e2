//! The two factors of a group of tangents.

use super::group::{Entries, Piece, PreActivation, TangentGroup};
use crate::jacobian::{Factor, slice};
use crate::tensor::{Backend, HostSlice, Shape};
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

/// The two factors of a group of directions.
pub struct Factors<T> {
    /// L of the parameters behind a pre-activation.
    pub(super) left: BTreeMap<usize, Factor<T>>,
    /// R of every parameter that is wanted and reached.
    pub(super) right: BTreeMap<usize, Factor<T>>,
}

impl<T> Factors<T> {
    /// The number of factors on both sides.
    pub fn count(&self) -> usize {
        self.left.len() + self.right.len()
    }
}

/// The factors of a group of tangents, and the group.
pub struct GroupFactors<'a, T> {
    /// The group.
    pub group: &'a TangentGroup,
    factors: Rc<Factors<T>>,
}

impl<'a, T: Clone> GroupFactors<'a, T> {
    /// The factors that a pass made, of its group or of another that is alike in everything that their shapes depend on.
    pub fn new(group: &'a TangentGroup, factors: Rc<Factors<T>>) -> Self {
        GroupFactors { group, factors }
    }

    /// Both factors of all parameters.
    pub fn factors(&self) -> &Rc<Factors<T>> {
        &self.factors
    }

    /// L of a parameter behind the group's pre-activation; `None` where the loss does not depend on it.
    pub fn left(&self, parameter: usize) -> Option<&Factor<T>> {
        self.factors.left.get(&parameter)
    }

    /// R of a parameter, where it is wanted and reached.
    pub fn right(&self, parameter: usize) -> Option<&Factor<T>> {
        self.factors.right.get(&parameter)
    }

    /// The parameters that have R, ascending.
    pub fn parameters(&self) -> impl Iterator<Item = usize> + '_ {
        self.factors.right.keys().copied()
    }

    /// Whether a parameter, or a pre-activation in its place, has tangents in the group.
    pub fn has_tangents_of(&self, pre_activations: &[PreActivation], parameter: usize) -> bool {
        match &self.group.entries {
            Entries::PreActivation { number, .. } => pre_activations[*number].stands_for(parameter),
            Entries::Parameters(pieces) => pieces.iter().any(|p| p.parameter == parameter),
        }
    }

    /// What the tangents of `entries` of a piece do to a range of another parameter's gradient: `[1, entries, range]`.
    pub fn entry_rows<B: Backend<Tensor = T>>(
        &self,
        backend: &B,
        right: &Factor<T>,
        piece: &Piece,
        entries: &Range<usize>,
        range: &Range<usize>,
    ) -> T {
        let first = piece.direction + entries.start - piece.range.start;
        let rows = right.rows(backend, range.clone());
        slice(backend, &rows, 1, &(first..first + entries.len()))
    }

    /// The group's part of the diagonal of a parameter that has tangents `through` a pre-activation or by itself: ranges of
    /// its entries and their values, `[1, 1, range]`. Rows of as many entries as `budget` numbers hold are formed at a time.
    pub fn diagonal<B: Backend<Tensor = T>>(
        &self,
        backend: &B,
        parameter: usize,
        through: Option<usize>,
        budget: usize,
    ) -> Vec<(Range<usize>, T)> {
        let Some(right) = self.right(parameter) else {
            return Vec::new();
        };
        match (&self.group.entries, through) {
            (Entries::PreActivation { number, .. }, Some(own)) if *number == own => {
                let left = self.left(parameter).into_iter();
                let values = left.map(|left| left.inner(backend, right, None, budget));
                values.map(|values| (0..right.count, values)).collect()
            }
            (Entries::Parameters(pieces), None) => {
                let values = |piece: &Piece| {
                    let (all, count) = (piece.range.clone(), piece.range.len());
                    let rows = self.entry_rows(backend, right, piece, &all, &all);
                    let units = unit_rows(backend, 0..count, count);
                    let values = backend.reduce_sum(&backend.multiply(&rows, &units), &[1]);
                    (all, values)
                };
                let own = pieces.iter().filter(|p| p.parameter == parameter);
                own.map(values).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// Rows `range` of the identity of `entries` entries: `[1, range, entries]`.
pub fn unit_rows<B: Backend>(backend: &B, range: Range<usize>, entries: usize) -> B::Tensor {
    let mut values = vec![0.0f32; range.len() * entries];
    for (row, entry) in range.clone().enumerate() {
        values[row * entries + entry] = 1.0;
    }
    let shape = Shape::new(1, range.len(), &[entries]);
    backend.upload(&shape, HostSlice::F32(&values))
}
