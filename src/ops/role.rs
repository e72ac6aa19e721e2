//! The part that a parameter plays in an operation, which says how it is initialised.

/// The part that an operand of an operation plays where it is a parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// The weight of an affine operation: with its axes in the order `axes` its entries are `groups` matrices of `rows` rows.
    Weight {
        /// Numbers of the input that an output is a sum over.
        fan_in: usize,
        /// Outputs that a number of the input enters.
        fan_out: usize,
        /// The number of matrices.
        groups: usize,
        /// Rows of each.
        rows: usize,
        /// The axes of the operand, in order.
        axes: Vec<usize>,
    },
    /// The table of a lookup.
    Table,
    /// A multiple of it is added.
    Shift,
    /// It multiplies.
    Factor,
    /// Anything else.
    Other,
}

impl Role {
    /// A weight whose slowest axis has the rows of `groups` matrices one after another.
    pub(super) fn weight(shape: &[usize], fan_in: usize, fan_out: usize, groups: usize) -> Role {
        Role::Weight {
            fan_in,
            fan_out,
            groups,
            rows: shape[0] / groups,
            axes: (0..shape.len()).collect(),
        }
    }
}
