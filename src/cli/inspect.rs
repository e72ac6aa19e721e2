//! `inspect`.

use super::args::Inspect;
use super::{print, print_json, shards_json, shards_text};
use crate::import::data::{ArraySource, Dataset};
use crate::network::Network;
use crate::network::inspect::inspect;
use crate::{Error, Result};

/// `hessblock inspect`.
pub fn run(command: &Inspect) -> Result<()> {
    let network = command.model.source().network()?;
    let data = data(command, &network)?;
    let table = inspect(&network);
    if command.json {
        let mut table = serde_json::json!(table);
        if let Some(data) = &data {
            table["samples"] = data.len().into();
            table["shards"] = shards_json(data);
        }
        return print_json(&table);
    }
    print(table.to_string().trim_end())?;
    let Some(data) = data else {
        return Ok(());
    };
    let samples = format!("\nsamples       {}\n{}", data.len(), shards_text(&data));
    print(samples.trim_end())
}

/// The data that the command names, fitted to the network's inputs.
fn data(command: &Inspect, network: &Network) -> Result<Option<Dataset>> {
    if command.inputs.is_empty() {
        return match command.targets {
            None => Ok(None),
            Some(_) => Err(Error::Request(
                "--targets is looked at beside --inputs: give both".into(),
            )),
        };
    }
    let mut data = Dataset::new();
    for file in &command.inputs {
        let array = ArraySource::open(&file.path)?;
        data = match &file.name {
            Some(name) => data.with_input(name, array),
            None if command.inputs.len() == 1 && network.inputs.len() == 1 => {
                Dataset::from_inputs(array)
            }
            None => {
                let names: Vec<&str> = network.inputs.iter().map(|i| i.name.as_str()).collect();
                return Err(Error::Request(format!(
                    "the network takes {}: give each as --inputs NAME=FILE",
                    names.join(" and ")
                )));
            }
        };
    }
    if let Some(targets) = &command.targets {
        data = data.with_targets(targets)?;
    }
    data.bind(network)?;
    Ok(Some(data))
}
