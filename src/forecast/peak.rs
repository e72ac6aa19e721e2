//! The peak of host memory that a run is expected to have.

use crate::schedule::plan::Plan;

/// What the plan counts, which bounds a budget.
pub(super) fn host(plan: &Plan) -> u64 {
    plan.host_bytes
}
