//! contraction
