//! The lists of cases, each in one place: windows, formulas, products and primitives with their sizes. Tests, self-test,
//! bench and forecast take theirs from here.
//!
//! | list | of | taken by |
//! |---|---|---|
//! | `windows`, `products` | ragged sizes, as plain tables | tests, and `ragged` |
//! | `ragged` | every primitive on ragged sizes | self-test |
//! | `contractions` | contractions on ragged sizes | self-test, tests |
//! | `typical` | every primitive at the size of a usual network | bench, `benches/` |
//! | `probed` | every kind of work, small and large | forecast |
//!
//! Also: primitives with made-up numbers on any backend, and which machine they ran on.
//!
//! What results are compared with is not shared: `definition.rs` computes single entries from the definition, for bench
//! and self-test, and `tests/common/reference.rs` whole results by nested loops, for the tests. They stay two, written
//! apart, so that a mistake in one is found by the other.
//!
//! May use backends; must not know of times, tolerances or reports.

mod array;
pub mod contractions;
mod definition;
mod machine;
mod primitive;
pub(crate) mod probed;
pub mod products;
mod ragged;
mod typical;
pub mod windows;

pub use array::Array;
pub(crate) use definition::entry;
pub use machine::System;
pub use primitive::{Loaded, Primitive, Setting, wait};
pub(crate) use ragged::{Effect, Named, ragged};
pub use typical::{Typical, typical};
pub use windows::window;
