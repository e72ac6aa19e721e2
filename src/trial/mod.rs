//! What `bench` and `selftest` both try: primitives with made-up numbers, their definition, and on which machine.
//!
//! May use backends; must not know of times, tolerances or reports.

mod definition;
mod machine;
mod primitive;

pub(crate) use definition::{Array, entry};
pub use machine::System;
pub(crate) use primitive::{Loaded, Primitive, Setting, wait};
