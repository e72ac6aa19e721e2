//! Weights that are given beside a graph, by name, in place of a file's own.

use super::proto;
use super::tensor::{Array, Data};
use crate::error::{Error, Result};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// The values of an array that is given.
///
/// ```
/// use hessblock::onnx::Values;
/// let weight = Values::from(vec![0.5f32, -1.0]);
/// assert!(matches!(weight, Values::F32(_)));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Values {
    /// Single precision.
    F32(Arc<Vec<f32>>),
    /// Double precision.
    F64(Arc<Vec<f64>>),
    /// Integers and booleans.
    Int(Arc<Vec<i64>>),
}

macro_rules! values {
    ($($type:ty, $kind:ident);*) => { $(
        impl From<Vec<$type>> for Values {
            fn from(values: Vec<$type>) -> Values {
                Values::$kind(Arc::new(values))
            }
        }
    )* };
}
values!(f32, F32; f64, F64; i64, Int);

/// The weights of a graph that was written without them: arrays by name, and which of them are parameters.
///
/// The graph lists its initializers as inputs; those that have an array here are none.
///
/// ```no_run
/// use hessblock::onnx::{OnnxOptions, Weights, load_graph};
/// let weights = Weights::default()
///     .parameter("fc.weight", &[2, 3], vec![0.1f32; 6])
///     .parameter("fc.bias", &[2], vec![0.0f32; 2])
///     .constant("mean", &[3], vec![0.5f32; 3]);
/// let graph: &[u8] = b"\x08\x08"; // a model without its initializers
/// let network = load_graph(graph, "my model", weights, &OnnxOptions::default())?;
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Weights {
    parameters: Vec<(String, Array)>,
    constants: Vec<(String, Array)>,
    aliases: BTreeMap<String, String>,
}

impl Weights {
    /// With a parameter: the flat order is that in which they are given. One that the graph does not use is a parameter all the same,
    /// whose rows of the Hessian are zero.
    #[must_use]
    pub fn parameter(
        mut self,
        name: impl Into<String>,
        shape: &[usize],
        values: impl Into<Values>,
    ) -> Weights {
        self.parameters
            .push((name.into(), array(shape, values.into())));
        self
    }

    /// With an array that is not differentiated: a running statistic, a mask, a frozen weight.
    #[must_use]
    pub fn constant(
        mut self,
        name: impl Into<String>,
        shape: &[usize],
        values: impl Into<Values>,
    ) -> Weights {
        self.constants
            .push((name.into(), array(shape, values.into())));
        self
    }

    /// With another name that the graph has for one of the arrays, such as that of a tied weight.
    #[must_use]
    pub fn alias(mut self, in_graph: impl Into<String>, name: impl Into<String>) -> Weights {
        self.aliases.insert(in_graph.into(), name.into());
        self
    }

    /// Refuses names that occur twice, numbers that do not fill their shape, and integers among the parameters.
    pub(super) fn check(&self, path: &Path) -> Result<()> {
        let mut seen = HashSet::new();
        for (name, array) in self.parameters.iter().chain(&self.constants) {
            let fault = |why: String| Err(Error::file(path, format!("array {name:?} {why}")));
            if !seen.insert(name) {
                return fault("is given twice".into());
            }
            let (count, numbers) = (super::tensor::elements(&array.shape), array.len());
            if count != Some(numbers) {
                return fault(format!(
                    "of shape {:?} is given with {numbers} numbers",
                    array.shape
                ));
            }
        }
        let whole = self.parameters.iter().find(|(_, a)| !a.is_float());
        match whole {
            None => Ok(()),
            Some((name, _)) => Err(Error::file(
                path,
                format!(
                    "parameter {name:?} holds integers, which have no derivative: give it as a constant"
                ),
            )),
        }
    }

    /// Puts the arrays' own names into the graph, and lists each as an input, as older files list their initializers.
    pub(super) fn enter(&self, graph: &mut proto::Graph) {
        self.rename(graph);
        let listed: HashSet<String> = graph.input.iter().map(|i| i.name.clone()).collect();
        let missing = self.arrays().filter(|(name, ..)| !listed.contains(*name));
        graph
            .input
            .extend(missing.map(|(name, ..)| proto::ValueInfo {
                name: name.to_string(),
                ..proto::ValueInfo::default()
            }));
    }

    fn rename(&self, graph: &mut proto::Graph) {
        let aliases: HashMap<&str, &str> = (self.aliases.iter())
            .map(|(from, to)| (from.as_str(), to.as_str()))
            .collect();
        if aliases.is_empty() {
            return;
        }
        let rename = |name: &mut String| {
            if let Some(own) = aliases.get(name.as_str()) {
                *name = (*own).to_string();
            }
        };
        for node in &mut graph.node {
            node.input.iter_mut().for_each(rename);
        }
        graph.input.iter_mut().for_each(|i| rename(&mut i.name));
    }

    /// The names of the parameters.
    pub(super) fn names(&self) -> HashSet<String> {
        self.parameters
            .iter()
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// All arrays, the parameters first, each with whether it is one.
    pub(super) fn arrays(&self) -> impl Iterator<Item = (&str, &Array, bool)> {
        let parameters = self.parameters.iter().map(|(n, a)| (n.as_str(), a, true));
        let constants = self.constants.iter().map(|(n, a)| (n.as_str(), a, false));
        parameters.chain(constants)
    }
}

fn array(shape: &[usize], values: Values) -> Array {
    Array {
        shape: shape.to_vec(),
        data: match values {
            Values::F32(values) => Data::F32(values),
            Values::F64(values) => Data::F64(values),
            Values::Int(values) => Data::Int(values),
        },
    }
}
