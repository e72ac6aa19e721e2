//! ONNX files, as PyTorch's exporters write them, into a [`Network`].
//!
//! `proto` and `tensor` read the file; `order` sorts its nodes; `graph` keeps what feeds the output; `parameters` says
//! which initializers are differentiated, by `roles`, `names` and `features`, and `layers` where they belong; `copies` finds
//! those that are others in another form, by `views`; `fold` computes constant nodes; `merged` and `doubts` warn of optimised files and
//! of what they leave open; `samples` follows the sample axis; `subgraphs` spells out branches; `lower` turns each node into
//! operations of ours. The rest of a value is its ONNX shape at batch 1.

mod copies;
mod doubts;
mod features;
mod fold;
mod given;
mod graph;
mod layers;
mod lower;
mod merged;
mod names;
mod order;
mod parameters;
mod proto;
mod roles;
mod samples;
mod subgraphs;
mod tensor;
#[cfg(test)]
mod tests;
mod views;

pub use given::{Values, Weights};

use crate::error::{Error, Result};
use crate::network::Network;
use crate::setting::TIE;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use tensor::Array;

/// How an ONNX file is read.
///
/// ```no_run
/// use hessblock::onnx::{load, OnnxOptions};
/// let options = OnnxOptions { constant: vec!["mask*".into()], ..Default::default() };
/// let network = load("model.onnx", &options)?;
/// println!("{} parameters", network.parameter_count());
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct OnnxOptions {
    /// Patterns of initializers that are constants though they look like parameters.
    pub constant: Vec<String>,
    /// Patterns of initializers that are parameters though they do not look like ones.
    pub trainable: Vec<String>,
    /// Initializers of which every use gets a copy of its own.
    pub untie: Vec<String>,
    /// Initializers that are copies of others and become one parameter with them: `COPY=SOURCE`, `COPY=SOURCE[T]` for a
    /// transpose, or `auto` for all that are found. What is a slice or a power of two times its source is a copy too.
    pub tie: Vec<String>,
    /// A safetensors file whose weights replace the file's, by name.
    pub weights: Option<PathBuf>,
    /// The output the loss is taken of; needed where the file has several.
    pub output: Option<String>,
    /// Extents of symbolic dimensions other than the batch, by name.
    pub dimensions: BTreeMap<String, usize>,
}

/// Reads a network from an ONNX file.
///
/// # Errors
/// [`crate::Error::Io`] and [`crate::Error::File`] for a file that is missing, damaged or inconsistent;
/// [`crate::Error::Unsupported`] listing every node that cannot be taken, or that mixes samples, with why;
/// [`crate::Error::Value`] for weights that are not finite.
pub fn load(path: impl AsRef<Path>, options: &OnnxOptions) -> Result<Network> {
    let path = path.as_ref();
    load_bytes(crate::files::read(path)?, path, options)
}

/// As [`load`], from the bytes of a file that are in memory already. `path` names it in messages, and external
/// data lie beside it; nothing need be there.
///
/// ```no_run
/// use hessblock::onnx::{load_bytes, OnnxOptions};
/// let bytes: &[u8] = b"\x08\x08"; // include_bytes!("model.onnx")
/// let network = load_bytes(bytes, "model.onnx", &OnnxOptions::default())?;
/// # Ok::<(), hessblock::Error>(())
/// ```
///
/// # Errors
/// As [`load`].
pub fn load_bytes(
    bytes: impl Into<Vec<u8>>,
    path: impl AsRef<Path>,
    options: &OnnxOptions,
) -> Result<Network> {
    let mut graph = graph::Graph::read(bytes.into(), path.as_ref(), None, options)?;
    let mut roots = parameters::find(&graph, options)?;
    let (changed, copies) = copies::recognise(&mut graph, &roots, options)?;
    if changed {
        roots = parameters::find(&graph, options)?;
    }
    roots.warnings.extend(copies);
    roots
        .warnings
        .extend(doubts::warnings(&graph, &roots, options));
    if let Some(weights) = &options.weights {
        replace(&graph, &mut roots, weights)?;
    }
    roots.warnings.extend(merged::warnings(&graph, &roots));
    lower::lower(&graph, roots, options)
}

/// Reads a network from the bytes of a graph that was written without its weights, which are given beside it: nothing is guessed
/// of what is a parameter. `name` is the model's, for messages.
///
/// Of the options, [`OnnxOptions::output`], [`OnnxOptions::dimensions`], [`OnnxOptions::constant`] and [`OnnxOptions::trainable`]
/// count.
///
/// # Errors
/// As [`load`]; [`Error::File`] for arrays that do not fit each other, and for inputs that are neither given nor data.
pub fn load_graph(
    bytes: impl Into<Vec<u8>>,
    name: impl AsRef<Path>,
    weights: Weights,
    options: &OnnxOptions,
) -> Result<Network> {
    let path = name.as_ref();
    weights.check(path)?;
    let graph = graph::Graph::read(bytes.into(), path, Some(&weights), options)?;
    let roots = parameters::find(&graph, options)?;
    lower::lower(&graph, roots, options)
}

/// The operations of the standard set that are taken of parameters and of the data; of constants more are.
pub fn operations() -> &'static [&'static str] {
    lower::RULES
}

/// The files beside an ONNX file that its weights lie in, for provenance.
///
/// # Errors
/// As [`load`] for a file that is missing or damaged.
pub fn external_files(path: impl AsRef<Path>) -> Result<Vec<PathBuf>> {
    graph::external_files(path.as_ref())
}

/// Puts the values of a safetensors file in the place of the file's own.
fn replace(graph: &graph::Graph, roots: &mut parameters::Roots, path: &Path) -> Result<()> {
    let own = roots.entries.iter().filter(|root| root.array.is_float());
    let own = own.map(|root| super::weights::Place {
        name: root.name.clone(),
        shape: root.array.shape.clone(),
        required: root.layer.is_some() || root.statistic,
    });
    let tied = graph.tied.iter().map(|tied| super::weights::Place {
        name: tied.name.clone(),
        shape: tied.shape.clone(),
        required: false,
    });
    let places: Vec<_> = own.chain(tied).collect();
    let mut copies = Vec::new();
    for (name, array) in super::weights::read(path, &places)? {
        let array = Array::from_host(&array);
        match roots.by_name.get(&name) {
            Some(&root) => roots.entries[root].array = array,
            None => copies.push((name, array)),
        }
    }
    let tied = graph.tied.iter().map(|tied| (tied.name.as_str(), tied));
    let tied: HashMap<&str, _> = tied.collect();
    for (name, array) in copies {
        let tied = tied.get(name.as_str());
        let source = tied.and_then(|tied| Some((tied, *roots.by_name.get(&tied.source)?)));
        if let Some((tied, root)) = source
            && !tied.holds(&array, &roots.entries[root].array)
        {
            return Err(Error::file(
                path,
                format!(
                    "its {name} does not have the values of {}, which it is tied to in the network; leave out {TIE}, or take other weights",
                    tied.source
                ),
            ));
        }
    }
    Ok(())
}
