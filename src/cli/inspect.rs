//! `inspect`.

use super::args::Inspect;
use super::{print, print_json};
use hessblock::Result;
use hessblock::network::inspect::inspect;

/// `hessblock inspect`.
pub fn run(command: &Inspect) -> Result<()> {
    let table = inspect(&command.model.source().network()?);
    if command.json {
        return print_json(&table);
    }
    print(table.to_string().trim_end())
}
