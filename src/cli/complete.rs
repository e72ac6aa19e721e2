//! `completions` and `man`.

use super::args::{Arguments, Completions, Man};
use super::print;
use clap::CommandFactory;
use hessblock::{Error, Result};

/// `hessblock completions`.
pub fn completions(command: &Completions) -> Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(
        command.shell,
        &mut Arguments::command(),
        "hessblock",
        &mut text,
    );
    print(String::from_utf8_lossy(&text).trim_end())
}

/// `hessblock man`.
pub fn man(command: &Man) -> Result<()> {
    let Some(folder) = &command.out else {
        let mut page = Vec::new();
        let rendered = clap_mangen::Man::new(Arguments::command()).render(&mut page);
        rendered.map_err(Error::io("standard output"))?;
        return print(String::from_utf8_lossy(&page).trim_end());
    };
    std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    clap_mangen::generate_to(Arguments::command(), folder).map_err(Error::io(folder))
}
