//! `completions` and `man`.

use super::args::{Arguments, Completions, Man};
use super::print_plain;
use crate::files::whole;
use crate::{Error, Result};
use clap::CommandFactory;
use std::path::Path;

/// `hessblock completions`.
pub fn completions(command: &Completions) -> Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(
        command.shell,
        &mut Arguments::command(),
        "hessblock",
        &mut text,
    );
    print_plain(String::from_utf8_lossy(&text).trim_end())
}

/// `hessblock man`.
pub fn man(command: &Man) -> Result<()> {
    let Some(folder) = &command.out else {
        let mut page = Vec::new();
        let rendered = clap_mangen::Man::new(Arguments::command()).render(&mut page);
        rendered.map_err(Error::io("standard output"))?;
        return print_plain(String::from_utf8_lossy(&page).trim_end());
    };
    std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    let mut command = Arguments::command().disable_help_subcommand(true);
    command.build();
    pages(command, folder)
}

/// Writes the page of a command, and of those below it.
fn pages(command: clap::Command, folder: &Path) -> Result<()> {
    let below = command.get_subcommands().filter(|c| !c.is_hide_set());
    below
        .cloned()
        .try_for_each(|command| pages(command, folder))?;
    let page = clap_mangen::Man::new(command);
    let (path, mut text) = (folder.join(page.get_filename()), Vec::new());
    page.render(&mut text).map_err(Error::io(&path))?;
    whole::write(&path, &text)
}
