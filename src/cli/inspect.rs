//! `inspect`.

use super::args::Inspect;
use super::{print, print_json};
use hessblock::network::inspect::inspect;
use hessblock::{Result, Source};

/// `hessblock inspect`.
pub fn run(command: &Inspect) -> Result<()> {
    let source = Source {
        model: command.model.model.clone(),
        weights: command.model.weights.clone(),
        constant: command.model.constant.clone(),
        trainable: command.model.trainable.clone(),
        untie: command.model.untie.clone(),
        ..Source::default()
    };
    let table = inspect(&source.network()?);
    if command.json {
        return print_json(&table);
    }
    print(table.to_string().trim_end())
}
