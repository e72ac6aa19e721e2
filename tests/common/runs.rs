//! Runs of a plan that a test made itself, on backends of its own.

use hessblock::Operator;
use hessblock::internals::control::Control;
use hessblock::internals::plan::Plan;
use hessblock::internals::run::RunReport;
use hessblock::internals::sink::{Memory, PartLayout, Sink};
use hessblock::internals::tensor::Contract;
use ndarray::Array2;

/// The parts of a plan: layouts and matrices; a vector is a matrix of one column.
pub type Parts<R> = Vec<(PartLayout, Array2<R>)>;

/// Runs a plan into memory on backends of one kind.
///
/// # Errors
/// As [`Operator::run_on`].
pub fn run_plan<B: Contract>(
    operator: &Operator,
    backends: &[&B],
    plan: &Plan,
) -> hessblock::Result<(RunReport, Parts<B::Real>)> {
    let mut sink = Memory::<B::Real>::new();
    let report = operator.run_on(backends, plan, &mut sink, &Control::none())?;
    sink.finish()?;
    Ok((report, sink.into_parts()))
}
