//! Groups of tangents: the entries that one pass carries tangents of, a direction for each.

use crate::network::ValueId;
use std::ops::Range;
use std::rc::Rc;

/// A pre-activation, whose entries have tangents in place of those of the parameters behind it.
#[derive(Clone, Debug)]
pub struct PreActivation {
    /// The value.
    pub value: ValueId,
    /// O, its entries.
    pub outputs: usize,
    /// The parameters that it stands for: those of the linear layer whose sum it is.
    pub behind: Vec<usize>,
}

impl PreActivation {
    /// Whether its tangents stand for those of a parameter.
    pub fn stands_for(&self, parameter: usize) -> bool {
        self.behind.contains(&parameter)
    }
}

/// One pass: the entries that have tangents in it, and how far back it goes.
#[derive(Clone, Debug)]
pub struct TangentGroup {
    /// The entries that have tangents.
    pub entries: Entries,
    /// The parameters that the reverse pass goes back to, ascending; passes that go back to the same share them.
    pub wanted: Rc<[usize]>,
}

/// The entries that have tangents in one pass, a direction for each.
#[derive(Clone, Debug)]
pub enum Entries {
    /// Entries of a pre-activation, sample by sample.
    PreActivation {
        /// Which of the pre-activations.
        number: usize,
        /// The entries.
        range: Range<usize>,
    },
    /// Entries of parameters, for all samples at once: columns of the matrix.
    Parameters(Vec<Piece>),
}

/// A range of a parameter's entries, the tangents of consecutive directions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The parameter.
    pub parameter: usize,
    /// Its entries.
    pub range: Range<usize>,
    /// The direction of the first.
    pub direction: usize,
}

impl TangentGroup {
    /// Bytes of this group in a list after `before`, whose `wanted` it may share.
    pub fn bytes(&self, before: Option<&TangentGroup>) -> u64 {
        let pieces = match &self.entries {
            Entries::PreActivation { .. } => 0,
            Entries::Parameters(pieces) => size_of_val(&pieces[..]),
        };
        let shared = before.is_some_and(|before| Rc::ptr_eq(&before.wanted, &self.wanted));
        let wanted = if shared {
            0
        } else {
            size_of_val(&*self.wanted)
        };
        (size_of::<TangentGroup>() + pieces + wanted) as u64
    }

    /// The number of its directions.
    pub fn directions(&self) -> usize {
        match &self.entries {
            Entries::PreActivation { range, .. } => range.len(),
            Entries::Parameters(pieces) => pieces.iter().map(|piece| piece.range.len()).sum(),
        }
    }
}
