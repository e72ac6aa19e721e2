//! `gradient`.

use super::args::{self, Gradient};
use super::progress::Reporter;
use super::{CANCEL, print, print_json, warn, warn_non_finite};
use hessblock::run::Control;
use hessblock::sink::{PartLayout, Sink};
use hessblock::tensor::Real;
use hessblock::{Result, Target};

/// `hessblock gradient`.
pub fn run(command: &Gradient) -> Result<()> {
    let mut target = command
        .out
        .as_ref()
        .map(|out| Target::new(out, command.force))
        .transpose()?;
    let source = args::source(&command.model, &command.data, &command.loss, &command.run);
    let session = source.open()?;
    warn(command.run.quiet, session.network());
    let device = command.run.device()?;
    if let Some(target) = &mut target {
        // Of what is read from here on.
        target.provenance = source.provenance(&session, &device)?;
        target.provenance.curvature = None;
    }
    let reporter = Reporter::new(command.run.quiet, "samples");
    let control = Control {
        progress: &|progress| reporter.update(progress),
        cancel: &CANCEL,
    };
    let gradient = session.gradient(&device, command.run.options(), &control);
    reporter.finish();
    let gradient = gradient?;
    warn_non_finite("the gradient", &gradient.values);
    if let Some(target) = target {
        session.check_files()?;
        if device.precision() == "f64" {
            write::<f64>(&target, &gradient.values)?;
        } else {
            write::<f32>(&target, &gradient.values)?;
        }
    }
    let norm = gradient.values.iter().map(|g| g * g).sum::<f64>().sqrt();
    let samples = session.dataset().len();
    let accuracy = gradient
        .accuracy
        .map(|(right, all)| right as f64 / all.max(1) as f64);
    if command.run.json {
        return print_json(&serde_json::json!({
            "loss": gradient.loss,
            "accuracy": accuracy,
            "gradient_norm": norm,
            "parameters": gradient.values.len(),
            "samples": samples,
            "device": device.name(),
            "precision": device.precision(),
            "out": command.out,
            "warnings": session.network().warnings,
        }));
    }
    // Only the derivatives of a given loss are known.
    let loss = if gradient.loss.is_nan() {
        "unknown".into()
    } else {
        format!("{:.9}", gradient.loss)
    };
    print(&format!(
        "loss       {loss}  ({}, {samples} samples)",
        session.loss().name()
    ))?;
    if let (Some(accuracy), Some((right, all))) = (accuracy, gradient.accuracy) {
        print(&format!(
            "accuracy   {:.2} %  ({right} of {all})",
            accuracy * 100.0
        ))?;
    }
    print(&format!(
        "gradient   norm {norm:.9}, {} parameters",
        gradient.values.len()
    ))
}

fn write<R: Real>(target: &Target, values: &[f64]) -> Result<()> {
    let mut files = target.files::<R>()?;
    let everything = 0..values.len();
    files.begin(&[PartLayout::vector("gradient", vec![everything])])?;
    let values: Vec<R> = values.iter().map(|&v| R::from_f64(v)).collect();
    files.vector(0, &values)?;
    files.finish()
}
