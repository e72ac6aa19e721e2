//! `gradient`.

use super::args::{self, Gradient};
use super::progress::Reporter;
use super::{open_session, print, print_json, warn_non_finite};
use crate::sink::{PartLayout, Sink};
use crate::tensor::Real;
use crate::{Output, Precision, Result};

/// `hessblock gradient`.
pub fn run(command: &Gradient) -> Result<()> {
    let output = command.out.as_ref();
    let output = output.map(|out| Output::new(out).overwrite(command.force));
    if let Some(output) = &output {
        output.check()?;
    }
    let source = args::source(&command.model, &command.data, &command.loss, &command.run);
    let session = open_session(&source, &command.run)?;
    let device = session.device();
    let output = match output {
        // Of what is read from here on.
        Some(output) => {
            let mut provenance = source.provenance(&session.ggn())?;
            provenance.curvature = None;
            Some(output.provenance(provenance))
        }
        None => None,
    };
    let reporter = Reporter::new(command.run.quiet, "samples");
    let gradient = session.clone().progress(reporter.watch()).gradient();
    reporter.finish();
    let gradient = gradient?;
    warn_non_finite("the gradient", &gradient.values);
    if let Some(output) = output {
        session.check_files()?;
        match device.precision() {
            Precision::F32 => write::<f32>(&output, &gradient.values)?,
            Precision::F64 => write::<f64>(&output, &gradient.values)?,
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

fn write<R: Real>(output: &Output, values: &[f64]) -> Result<()> {
    let mut files = output.files::<R>()?;
    let everything = 0..values.len();
    files.begin(&[PartLayout::vector("gradient", vec![everything])])?;
    let values: Vec<R> = values.iter().map(|&v| R::from_f64(v)).collect();
    files.vector(0, &values)?;
    files.finish()
}
