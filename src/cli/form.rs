//! `form`.

use super::args::{self, Form};
use super::product::read_vectors;
use super::progress::Reporter;
use super::{open_session, print, print_json, warn_non_finite};
use crate::Result;
use crate::files::watch::Watch;
use crate::import::data::split_key;
use crate::operator;
use serde::Serialize;

/// One line: a vector's forms.
#[derive(Serialize)]
struct Line {
    /// The layer whose gradient the vector is, or the vector's number.
    vector: String,
    /// vᵀv.
    square: f64,
    ggn: f64,
    exact: f64,
    residual: f64,
}

impl Line {
    fn new(vector: String, square: f64, form: operator::Form) -> Line {
        Line {
            vector,
            square,
            ggn: form.ggn,
            exact: form.exact(),
            residual: form.residual,
        }
    }
}

/// `hessblock form`.
pub fn run(command: &Form) -> Result<()> {
    let given = command.vector.as_ref();
    let watch = Watch::new(given.map(|path| split_key(path).0));
    let source = args::source(&command.model, &command.data, &command.loss, &command.run);
    let session = open_session(&source, &command.run)?;
    let p = session.network().parameter_count();
    let given = given
        .map(|path| read_vectors(path, p, command.run.host_left()))
        .transpose()?;
    let device = session.device();
    let reporter = Reporter::new(command.run.quiet, "samples");
    let names: Vec<String> = match &given {
        Some((vectors, _)) => (0..vectors.ncols()).map(|k| k.to_string()).collect(),
        None => session
            .network()
            .layers()
            .into_iter()
            .map(|l| l.name)
            .collect(),
    };
    let watched = session.clone().progress(reporter.watch());
    let vectors = match given {
        Some((vectors, _)) => Ok(vectors),
        None => watched.layer_gradients(),
    };
    let forms = vectors.and_then(|vectors| {
        let squares: Vec<f64> = vectors.columns().into_iter().map(|v| v.dot(&v)).collect();
        Ok((squares, watched.ggn().forms(vectors.view())?))
    });
    reporter.finish();
    let (squares, forms) = forms?;
    let exact: Vec<f64> = forms.iter().map(|form| form.exact()).collect();
    warn_non_finite("the forms", &exact);
    watch.check_times()?;
    let lines = names.into_iter().zip(squares).zip(forms);
    let lines: Vec<Line> = lines.map(|((n, s), form)| Line::new(n, s, form)).collect();
    if command.run.json {
        return print_json(&serde_json::json!({
            "along": if command.vector.is_some() { "vectors" } else { "gradients of layers" },
            "samples": session.dataset().len(),
            "forms": lines,
            "device": device.name(),
            "precision": device.precision(),
            "warnings": session.network().warnings,
        }));
    }
    table(
        match command.vector {
            Some(_) => "vector",
            None => "layer",
        },
        &lines,
    )
}

/// A row for each vector, under a head that says what they are.
fn table(head: &str, lines: &[Line]) -> Result<()> {
    let width = lines
        .iter()
        .map(|l| l.vector.len())
        .max()
        .unwrap_or(0)
        .max(head.len());
    print(&format!(
        "{head:<width$} {:>14} {:>16} {:>16} {:>16} {:>11}",
        "‖v‖²", "vᵀGv", "vᵀHv", "vᵀ(H−G)v", "share of H"
    ))?;
    for line in lines {
        // A vector that is nothing has no share.
        let share = match line.residual / line.exact {
            share if share.is_finite() => format!("{:>10.2} %", 100.0 * share),
            _ => format!("{:>12}", "–"),
        };
        print(&format!(
            "{:<width$} {:>14.6e} {:>16.8e} {:>16.8e} {:>16.8e} {share}",
            line.vector, line.square, line.ggn, line.exact, line.residual
        ))?;
    }
    Ok(())
}
