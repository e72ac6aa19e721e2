//! `error`.

use super::args::{self, StudyError};
use super::progress::Reporter;
use super::{CANCEL, note, print, print_json, warn};
use crate::network::Layer;
use crate::network::initialise::{Initialisation, Initialiser};
use crate::study::error::{Draw, GradientError, choose_layers, gradient_error};
use crate::study::pairs::{PairErrors, PairOptions, directions, pair_errors};
use crate::study::report::{Folder, Study};
use crate::{Device, Precision, Result, Session, Source};

/// Samples that are taken unless the user chooses: the paper's batch.
const SAMPLES: usize = 64;
/// Passes of all samples from which on a word is said about how to have fewer.
const MANY: u64 = 20_000;

/// `hessblock error`.
pub fn run(command: &StudyError) -> Result<()> {
    let folder = command
        .out
        .as_ref()
        .map(|out| Folder::new(out, command.force))
        .transpose()?;
    let mut source = args::source(&command.model, &command.data, &command.loss, &command.run);
    let session = open(&mut source, command)?;
    warn(command.run.quiet, session.network());
    let layers = choose_layers(session.network(), &command.layers)?;
    warn_of_statistics(command, &session);
    let session = session.with_device(command.run.device()?).cancel(&CANCEL);
    let draw = Draw {
        initialiser: command.initialiser,
        count: command.draws,
        seed: command.seed,
    };
    // Of what is read from here on.
    let mut provenance = source.provenance(&session.ggn())?;
    provenance.curvature = None;
    let session = session.with_options(command.run.options());
    // Refused, and warned of, before hours of other work.
    if !command.no_pairs {
        check_pairs(command, &session, &layers)?;
    }
    let gradient = with_progress(command, &session, |session| {
        gradient_error(session, &layers, draw)
    })?;
    let pairs = match command.no_pairs {
        true => None,
        false => Some(pairs(command, &session, &layers)?),
    };
    session.check_files()?;
    let study = Study {
        gradient,
        pairs,
        provenance,
    };
    if let Some(folder) = folder {
        folder.write(&study.files(&title(command, &study))?)?;
    }
    if command.run.json {
        let mut summary = serde_json::json!(study);
        summary["warnings"] = serde_json::json!(session.network().warnings);
        return print_json(&summary);
    }
    table(&study.gradient)?;
    study.pairs.as_ref().map_or(Ok(()), worst)
}

/// The session over the samples chosen, or the first [`SAMPLES`].
fn open(source: &mut Source, command: &StudyError) -> Result<Session> {
    let open = |source: &Source| -> Result<Session> {
        source
            .session()?
            .device(Device::cpu(Precision::F64))
            .build()
    };
    let session = open(source)?;
    let (all, range) = (session.dataset().len(), session.dataset().sample_range());
    if source.samples.is_some() || all <= SAMPLES {
        return Ok(session);
    }
    source.samples = Some((range.start, range.start + SAMPLES));
    note(
        command.run.quiet,
        &format!("taking the first {SAMPLES} of {all} samples; --samples A..B takes others"),
    );
    open(source)
}

/// Statistics that were taken with other weights may let drawn ones vanish or overflow.
fn warn_of_statistics(command: &StudyError, session: &Session) {
    let mut nodes = session.network().nodes.iter();
    let kept = nodes.any(|node| node.operation == "BatchNormalization");
    if kept && command.initialiser != Initialiser::File {
        note(
            command.run.quiet,
            "batch norms keep the file's mean and variance, which are not those of drawn weights: look at the losses \
             in the JSON, or take --initialiser file",
        );
    }
}

fn with_progress<T>(
    command: &StudyError,
    session: &Session,
    work: impl FnOnce(&Session) -> Result<T>,
) -> Result<T> {
    let reporter = Reporter::new(command.run.quiet, "samples");
    let result = work(&session.clone().progress(reporter.watch()));
    reporter.finish();
    result
}

/// The options of the errors of the blocks, as the command line gives them.
fn pair_options(command: &StudyError) -> PairOptions {
    PairOptions {
        exact_entries: command.exact_entries.into(),
        probes: command.probes,
        spectral: !command.no_spectral,
        seed: command.seed,
    }
}

/// Refuses blocks that have no room, and notes where they will take long.
fn check_pairs(command: &StudyError, session: &Session, layers: &[Layer]) -> Result<()> {
    let passes = directions(session, layers, pair_options(command))?;
    if passes > MANY {
        let text = format!(
            "the blocks of {} layers take up to {passes} passes of all samples; --layers GLOB, --no-spectral, \
             --exact-entries 0 (estimates in place of exact blocks) or --no-pairs make them fewer",
            layers.len()
        );
        note(command.run.quiet, &text);
    }
    Ok(())
}

/// The errors of the blocks at the first initialisation.
fn pairs(command: &StudyError, session: &Session, layers: &[Layer]) -> Result<PairErrors> {
    let initialisation = Initialisation::new(session.network(), command.initialiser, command.seed);
    let drawn = session.with_parameters(&initialisation.draw(0))?;
    with_progress(command, &drawn, |session| {
        pair_errors(session, layers, pair_options(command))
    })
}

/// What the figures say they show.
fn title(command: &StudyError, study: &Study) -> String {
    // A file is often called `model.onnx`, in a folder that says of what.
    let model = &command.model.model;
    let last = model
        .iter()
        .rev()
        .take(2)
        .map(|part| part.to_string_lossy());
    let names: Vec<_> = last.collect::<Vec<_>>().into_iter().rev().collect();
    let loss = study.provenance.loss.as_deref().unwrap_or("loss");
    format!("{}, {loss}", names.join("/"))
}

/// A row per layer.
fn table(error: &GradientError) -> Result<()> {
    print(&format!(
        "|gᵀ(H − G)g| / ‖g‖² along each layer's gradient g, {} draws of {}, {} samples",
        error.draws, error.initialiser, error.samples
    ))?;
    let names = error.layers.iter().map(|l| l.layer.chars().count());
    let wide = names.max().unwrap_or(0).max(5);
    print(&format!(
        "{:<wide$}  {:>10}  {:>10}  {:>10}  {:>10}  {:>11}  {:>9}",
        "layer", "parameters", "median", "5 %", "95 %", "gᵀHg / ‖g‖²", "of gᵀHg"
    ))?;
    for layer in &error.layers {
        let row = format!("{:<wide$}  {:>10}", layer.layer, layer.parameters);
        let (Some(error), Some(hessian)) = (layer.error, layer.hessian) else {
            print(&format!(
                "{row}  no number: the gradient is 0 in every draw"
            ))?;
            continue;
        };
        let share = layer
            .relative
            .map_or("-".into(), |r| format!("{:.2} %", 100.0 * r.median));
        let [median, low, high] = [error.median, error.low, error.high].map(number);
        let hessian = number(hessian.median);
        print(&format!(
            "{row}  {median:>10}  {low:>10}  {high:>10}  {hessian:>11}  {share:>9}"
        ))?;
    }
    Ok(())
}

/// Three digits; a 0 that is exact is seen to be.
fn number(value: f64) -> String {
    if value == 0.0 {
        "0".into()
    } else {
        format!("{value:.2e}")
    }
}

/// The blocks' errors in two lines.
fn worst(errors: &PairErrors) -> Result<()> {
    let whole = errors.whole.map_or("H is 0".into(), |w| format!("{w:.3}"));
    print(&format!(
        "‖H − G‖ / ‖H‖ (Frobenius) of all {} blocks together: {whole}",
        errors.pairs.len()
    ))?;
    let error = |k: &usize| errors.pairs[*k].frobenius.error.unwrap_or(0.0);
    let Some(k) = (0..errors.pairs.len()).max_by(|a, b| error(a).total_cmp(&error(b))) else {
        return Ok(());
    };
    let name = |layer: usize| errors.layers[layer].layer.as_str();
    let pair = &errors.pairs[k];
    print(&format!(
        "largest: {:.3} between {} and {}",
        error(&k),
        name(pair.rows),
        name(pair.columns)
    ))
}
