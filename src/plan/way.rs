//! The two ways to a block of G, and the operations of a part by either.

/// How the rows of J that a block of G is made of are had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// A tangent for each entry of the parameters, or of a pre-activation that stands for them.
    Forward,
    /// A reverse pass for each direction of the loss factor.
    Backward,
}

/// Operations of a part's block over all samples, counted for either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// All operations, forward.
    pub forward: u64,
    /// Reverse passes of all directions to the part's parameters, which parts share.
    pub passes: u64,
    /// Operations of the part beside these passes: rows of V, and contractions.
    pub own: u64,
}

impl Counted {
    /// All operations, backwards, of the part alone.
    pub fn backward(&self) -> u64 {
        self.passes.saturating_add(self.own)
    }
}
