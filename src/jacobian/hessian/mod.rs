//! The exact Hessian, its residual, and G forward, a group of tangents at a time: the entries that have tangents, and what
//! these do to the gradient.
//!
//! A group of directions gives two factors, L of the entries that have tangents and R of what the gradient does along them,
//! with `H[a, b] = Σ_n Σ_r L_n[r, a] R_n[r, b]`: the same bilinear form as that of G from the directions of S, so that the
//! contractions of DESIGN §2 serve both. For G, R_n = J_nᵀ ∇²ℓ_n ż with ż the tangents of the outputs.
//!
//! Must not know of tiles: which groups a tile needs is `plan`'s to say.

mod candidates;
mod factors;
mod group;
mod parameter_set;
mod passes;

pub(crate) use candidates::{Candidate, Candidates, Users, least_tangents};
pub use factors::{Factors, GroupFactors, unit_rows};
pub use group::{Entries, Piece, PreActivation, TangentGroup};
pub(crate) use parameter_set::ParameterSet;
pub(crate) use passes::REACHES;
pub use passes::{GroupPasses, Reaches, SeedOf};
