//! A fixed set of cases, each checked and then timed on the CPU and on GPUs, so that machines can be compared.
//!
//! [`cases()`] is the set: primitives, the three contractions, layer blocks and products of LeNet-5 and of a ResNet-20.
//! [`measure()`] runs them into a [`BenchReport`], which is a JSON file; [`Comparison`] puts several side by side. May use
//! backends and [`crate::Session`] as a user does; must not know the command line, and prints nothing.

mod case;
mod check;
mod compare;
mod devices;
#[cfg(feature = "plot")]
mod figure;
mod measure;
mod model;
mod peak;
mod primitive;
mod problem;
mod ready;
mod report;
mod run;
mod table;

pub use crate::trial::System;
pub use case::{BenchCase, cases, select};
pub use compare::Comparison;
pub use devices::devices;
#[cfg(feature = "plot")]
pub use figure::figure;
pub use measure::Timing;
pub use peak::Peak;
pub use report::{BenchReport, BenchedCase, BenchedDevice, Outcome, check_target};
pub use run::{BenchOptions, BenchProgress, measure};
pub use table::{comparison_table, device_heading, device_table};
