//! `show`, and the picture of `blocks --png`.

use super::args::Show;
use super::progress::Reporter;
use super::{CANCEL, note, parts, print, print_json};
use crate::bench::check_target;
use crate::control::Control;
use crate::files::whole;
use crate::show::{ShowOptions, Shown, show_with};
use crate::sink::Blocks;
use crate::{Error, Result};
use std::path::{Path, PathBuf};

/// `hessblock show`.
pub fn run(command: &Show) -> Result<()> {
    let files = targets(command)?;
    // What is wrong with a range is said before a file is opened.
    let range = command.range.as_deref().map(parts::zoom_to_range);
    let range = range.transpose()?;
    let blocks = Blocks::open(&command.out)?;
    let zoom = match &command.layer {
        Some(layer) => {
            let names = blocks.parameters().iter().map(|p| p.layer.as_str());
            Some(parts::zoom_to_layers(layer, names)?)
        }
        None => range,
    };
    let options = ShowOptions {
        parts: command.part.clone(),
        zoom,
        size: usize::from(command.size),
        cancel: CANCEL.clone(),
    };
    let shown = read(&command.out, &blocks, &options, command.quiet)?;
    for (path, kind) in files {
        let bytes = match kind {
            "png" => shown.drawing().png()?,
            "svg" => shown.drawing().svg()?.into_bytes(),
            _ => shown.html()?.into_bytes(),
        };
        whole::write(path, &bytes)?;
    }
    if command.json {
        return print_json(&shown);
    }
    for text in &shown.notes {
        note(command.quiet, text);
    }
    print(&format!("{}: {}\n", shown.out, shown.title))?;
    print(&shown.table())
}

/// Reads a result with progress.
fn read(out: &Path, blocks: &Blocks, options: &ShowOptions, quiet: bool) -> Result<Shown> {
    let reporter = Reporter::new(quiet, " entries");
    let control = Control {
        progress: &|progress| reporter.update(progress),
        cancel: CANCEL.flag(),
    };
    let shown = show_with(blocks, &out.display().to_string(), options, &control);
    reporter.finish();
    shown
}

/// The files that are written, by their kind, checked before any work starts.
fn targets(command: &Show) -> Result<Vec<(&PathBuf, &'static str)>> {
    let mut files = Vec::new();
    for (kind, path) in [
        ("png", &command.png),
        ("svg", &command.svg),
        ("html", &command.html),
    ] {
        if let Some(path) = path {
            check(path, kind, command.force)?;
            files.push((path, kind));
        }
    }
    Ok(files)
}

/// Refuses a file that cannot be written, or has another ending.
pub fn check(path: &Path, kind: &str, force: bool) -> Result<()> {
    if path
        .extension()
        .is_none_or(|e| !e.eq_ignore_ascii_case(kind))
    {
        return Err(Error::Request(format!(
            "--{kind} {}: the name must end in .{kind}",
            path.display()
        )));
    }
    check_target(path, force)
}

/// Draws a finished result, as `show OUT --png FILE` does.
pub fn picture(out: &Path, png: &Path, quiet: bool) -> Result<()> {
    let shown = read(out, &Blocks::open(out)?, &ShowOptions::default(), quiet)?;
    whole::write(png, &shown.drawing().png()?)
}
