//! The correctness suite on the user's own device: CPU f32 or a GPU against CPU f64, in under a minute.
//!
//! [`cases()`] is the suite: every primitive on ragged sizes, every operation with its derivatives, every contraction, and
//! whole networks. [`run()`] runs them on a [`Device`] into a [`TestReport`], [`run_on`] on any backend. A GPU is run twice,
//! with shader checks and without, all its tensors filled with NaN beforehand. May use backends and [`crate::Session`]
//! as a user does; must not know the command line, and prints nothing.
//!
//! [`Device`]: crate::Device

mod case;
mod compare;
mod contraction;
mod draft;
mod function;
mod network;
mod operation;
mod primitive;
mod report;
mod run;
mod table;
mod transformer;

pub use case::{Group, TestCase, cases, select};
pub use compare::Measure;
pub use report::{TestReport, TestedCase, TestedDevice};
#[doc(hidden)]
pub use run::run_on;
pub use run::{TestProgress, run};
pub use table::{heading, table};
