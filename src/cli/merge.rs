//! `merge`.

use super::args::Merge;
use super::progress::Reporter;
use super::{CANCEL, note, print, print_json};
use crate::control::Control;
use crate::{sink, text};

/// `hessblock merge`.
pub fn run(command: &Merge) -> crate::Result<()> {
    let reporter = Reporter::new(command.quiet, "tiles");
    let control = Control::stopped_by(CANCEL.flag());
    let merged = sink::merge(&command.out, command.force, &mut |done, all| {
        reporter.step(done, all, &format!("tile {done} of {all} checked"));
        control.check()
    });
    reporter.finish();
    let merged = merged?;
    if command.json {
        return print_json(&merged);
    }
    if merged.was_whole {
        let text = format!("{} is whole already", text::path(&command.out));
        note(command.quiet, &text);
        return Ok(());
    }
    if command.quiet {
        return Ok(());
    }
    let shards = match merged.shards {
        1 => "one process".into(),
        shards => format!("{shards} shards"),
    };
    print(&format!(
        "{}: whole; {} tiles of {shards}, each compared with its checksum",
        text::path(&command.out),
        merged.tiles
    ))
}
