//! The request, the plan and its execution: which tiles, in which order, in how much memory.
//!
//! May use `jacobian`, `contraction` and `sink`; must not know of formulas.

mod alike;
mod asked;
pub mod budget;
mod cache;
mod candidates;
mod collector;
mod counts;
mod cut;
pub mod describe;
mod diagonal;
mod driver;
mod fit;
mod footprint;
mod ledger;
mod lesser;
mod moves;
mod options;
pub mod pairs;
mod peak;
pub mod plan;
mod report;
pub mod request;
mod room;
pub mod routes;
pub mod run;
mod second;
pub(crate) mod steps;
mod tally;
pub mod tiles;
pub mod unit;
mod ways;
mod writer;

pub use counts::Counted;
pub(crate) use lesser::Short;
pub use options::RunOptions;
pub use room::shortage;
pub use tally::PlanTally;
pub use ways::Way;
