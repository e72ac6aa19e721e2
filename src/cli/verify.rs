//! `verify`.

use super::args::Verify;
use super::progress::Reporter;
use super::{CANCEL, print, print_json};
use crate::control::Control;
use crate::verify::{Verdict, VerifyOptions, verify_with};
use crate::{Error, Result};

/// `hessblock verify`.
pub fn run(command: &Verify) -> Result<()> {
    let reporter = Reporter::new(command.quiet, "samples");
    let control = Control {
        progress: &|progress| reporter.update(progress),
        cancel: CANCEL.flag(),
    };
    let options = VerifyOptions {
        model: command.model.clone(),
        weights: command.weights.clone(),
        inputs: command.inputs.clone(),
        targets: command.targets.clone(),
        loss_hessian: command.loss_hessian.clone(),
        loss_gradient: command.loss_gradient.clone(),
        class_weights: command.class_weights.clone(),
        positive_weight: command.positive_weight.clone(),
        mean_image: command.mean_image.clone(),
        entries: command.entries as usize,
        seed: command.seed,
        ..VerifyOptions::default()
    };
    let verdict = verify_with(&command.out, &options, &control);
    reporter.finish();
    let verdict = verdict.inspect_err(|error| {
        if matches!(error, Error::Io { .. }) {
            super::note(
                command.quiet,
                "files that were moved are given by --model, --weights, --inputs, --targets, …",
            );
        }
    })?;
    for warning in &verdict.warnings {
        super::note(command.quiet, &format!("warning: {warning}"));
    }
    if command.json {
        print_json(&verdict)?;
    } else {
        report(command, &verdict)?;
    }
    if verdict.passed {
        return Ok(());
    }
    Err(Error::Value(format!(
        "{}: entry ({}, {}) of part {} is {}, the definition gives {}: off by {:.1e} of its scale, more than {:.0e}",
        command.out.display(),
        verdict.worst.row,
        verdict.worst.column,
        verdict.worst.part,
        verdict.worst.found,
        verdict.worst.expected,
        verdict.worst.error,
        verdict.tolerance,
    )))
}

fn report(command: &Verify, verdict: &Verdict) -> Result<()> {
    let worst = &verdict.worst;
    print(&format!(
        "{}: {} random entries recomputed in CPU f64 from the definition",
        command.out.display(),
        verdict.entries
    ))?;
    print(&format!(
        "worst     {:.1e} of its scale, {:.1e} of the largest entry met (tolerance {:.0e}): part {}, entry ({}, {}), {} for {}",
        worst.error,
        verdict.worst_of_largest,
        verdict.tolerance,
        worst.part,
        worst.row,
        worst.column,
        worst.found,
        worst.expected
    ))?;
    if let Some(rank) = &verdict.rank {
        let line = super::rank_line(rank);
        print(&format!(
            "rank      {line}; entries are those of what is left"
        ))?;
    }
    if let Some(rounding) = verdict.rounding {
        print(&format!(
            "rounding  the definition in single precision is off by {rounding:.1e} there itself"
        ))?;
    }
    Ok(())
}
