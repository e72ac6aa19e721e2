//! From a request to a finished, printable plan: which tiles, in which order, in how much memory.
//!
//! A plan is found by running its passes and contractions on shapes alone, so that it and the run cannot disagree. May use
//! `jacobian`, `contraction` and the descriptions of `sink`; must not know how tiles are computed, which is `run`'s.

pub mod budget;
mod choose;
mod contractions;
mod counts;
mod cut;
pub mod describe;
mod fit;
mod footprint;
mod forward;
mod limits;
mod make;
mod options;
mod pair_requests;
pub mod pairs;
mod parts;
mod peak;
mod planned;
mod refusal;
pub mod request;
pub mod routes;
mod sizes;
mod tally;
pub(crate) mod tangents;
pub mod tiles;
mod way;

pub use limits::Limits;
pub use make::plan;
pub use options::RunOptions;
pub use parts::{PairPlan, PartPlan, TileJob, wanted};
pub use planned::{Keep, Plan};
pub(crate) use refusal::Shortfall;
pub use refusal::shortage;
pub use sizes::{
    DIAGONAL_ROWS, MOST_ENTRIES, RING, Sizes, UNIT_ROWS, UNIT_SAMPLES, Units, WRITING,
};
pub use tally::PlanTally;
pub use way::{Counted, Way};
