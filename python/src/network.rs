//! Networks: from a file, from its bytes, or from a graph with its weights beside it.

use crate::arrays::{Lent, borrow, check_regular};
use crate::work;
use hessblock::Error;
use hessblock::onnx::{OnnxOptions, Weights, load_bytes, load_graph};
use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

/// A network with its weights. It does not change.
#[pyclass(frozen, module = "hessblock._core")]
pub struct Network {
    pub inner: Arc<hessblock::network::Network>,
    /// The graph that other weights are put into.
    graph: Option<Arc<Graph>>,
}

/// A graph that was given without weights.
struct Graph {
    bytes: Vec<u8>,
    name: String,
    parameters: Vec<String>,
    aliases: BTreeMap<String, String>,
    options: OnnxOptions,
}

/// A layer: its name, the names of its parameters, their flat ranges.
type LayerRow = (String, Vec<String>, Vec<(usize, usize)>);

/// Arrays by name, as Python gives them.
type Arrays<'py> = Vec<(String, Bound<'py, PyAny>)>;

impl Graph {
    /// The weights in the graph's order of parameters.
    fn weights(&self, mut arrays: HashMap<String, Lent>) -> hessblock::Result<Weights> {
        let mut weights = Weights::default();
        for name in &self.parameters {
            let array = arrays.remove(name).ok_or_else(|| {
                Error::Value(format!("parameter {name:?} of {} has no array", self.name))
            })?;
            weights = weights.parameter(name, &array.shape, array.values()?);
        }
        for (name, array) in &arrays {
            weights = weights.constant(name, &array.shape, array.values()?);
        }
        for (from, to) in &self.aliases {
            weights = weights.alias(from, to);
        }
        Ok(weights)
    }

    fn network(self: &Arc<Self>, py: Python<'_>, arrays: Arrays<'_>) -> PyResult<Network> {
        let lent = arrays.into_iter().map(|(name, array)| {
            let lent = borrow(&array)?;
            Ok((name, lent))
        });
        let lent: HashMap<String, Lent> = lent.collect::<PyResult<_>>()?;
        let loaded = work::run(py, None, |_, _| {
            let weights = self.weights(lent)?;
            load_graph(self.bytes.clone(), &self.name, weights, &self.options)
        })?;
        Ok(Network {
            inner: Arc::new(loaded),
            graph: Some(self.clone()),
        })
    }
}

#[pymethods]
impl Network {
    /// Reads an ONNX file.
    #[staticmethod]
    #[pyo3(signature = (path, *, constant=vec![], trainable=vec![], untie=vec![], tie=vec![], weights=None, output=None, dimensions: "dict[str, int]" = BTreeMap::new()))]
    #[allow(clippy::too_many_arguments)] // keywords of Python
    fn load(
        py: Python<'_>,
        path: PathBuf,
        constant: Vec<String>,
        trainable: Vec<String>,
        untie: Vec<String>,
        tie: Vec<String>,
        weights: Option<PathBuf>,
        output: Option<String>,
        dimensions: BTreeMap<String, usize>,
    ) -> PyResult<Network> {
        let options = OnnxOptions {
            constant,
            trainable,
            untie,
            tie,
            weights,
            output,
            dimensions,
        };
        let loaded = work::run(py, None, |_, _| hessblock::onnx::load(&path, &options))?;
        Ok(Network::from(loaded))
    }

    /// Reads the bytes of an ONNX file. `name` names it in messages, and external data lie beside it.
    #[staticmethod]
    #[pyo3(signature = (data, name, *, constant=vec![], trainable=vec![], untie=vec![], tie=vec![], weights=None, output=None, dimensions: "dict[str, int]" = BTreeMap::new()))]
    #[allow(clippy::too_many_arguments)] // keywords of Python
    fn from_bytes(
        py: Python<'_>,
        data: Vec<u8>,
        name: String,
        constant: Vec<String>,
        trainable: Vec<String>,
        untie: Vec<String>,
        tie: Vec<String>,
        weights: Option<PathBuf>,
        output: Option<String>,
        dimensions: BTreeMap<String, usize>,
    ) -> PyResult<Network> {
        let options = OnnxOptions {
            constant,
            trainable,
            untie,
            tie,
            weights,
            output,
            dimensions,
        };
        let loaded = work::run(py, None, |_, _| load_bytes(data, &name, &options))?;
        Ok(Network::from(loaded))
    }

    /// Reads a graph whose initializers are listed as inputs only, with the arrays for them by name.
    #[staticmethod]
    #[pyo3(signature = (graph, arrays: "list[tuple[str, NDArray[Any]]]", parameters: "list[str]", *, name, aliases=BTreeMap::new(), constant=vec![], output=None, dimensions: "dict[str, int]" = BTreeMap::new()))]
    #[allow(clippy::too_many_arguments)] // keywords of Python
    fn from_graph(
        py: Python<'_>,
        graph: Vec<u8>,
        arrays: Arrays<'_>,
        parameters: Vec<String>,
        name: String,
        aliases: BTreeMap<String, String>,
        constant: Vec<String>,
        output: Option<String>,
        dimensions: BTreeMap<String, usize>,
    ) -> PyResult<Network> {
        let graph = Arc::new(Graph {
            bytes: graph,
            name,
            parameters,
            aliases,
            options: OnnxOptions {
                constant,
                output,
                dimensions,
                ..OnnxOptions::default()
            },
        });
        graph.network(py, arrays)
    }

    /// The same graph with other arrays of the same names and shapes.
    #[pyo3(signature = (arrays: "list[tuple[str, NDArray[Any]]]"))]
    fn with_arrays(&self, py: Python<'_>, arrays: Arrays<'_>) -> PyResult<Network> {
        match &self.graph {
            Some(graph) => graph.network(py, arrays),
            None => Err(PyValueError::new_err(
                "this network came from a file with its weights: replace them by with_values",
            )),
        }
    }

    /// The same with other parameters, [p] in the flat order.
    #[pyo3(signature = (values: "NDArray[Any]"))]
    fn with_values(&self, py: Python<'_>, values: PyReadonlyArray1<'_, f64>) -> PyResult<Network> {
        check_regular(values.as_any())?;
        let values = values.as_array();
        let network = work::run(py, None, |_, _| {
            let mut network = (*self.inner).clone();
            network.set_parameters(&values.to_vec())?;
            Ok(network)
        })?;
        Ok(Network {
            inner: Arc::new(network),
            graph: self.graph.clone(),
        })
    }

    /// All parameters, [p] in the flat order.
    #[pyo3(signature = () -> "NDArray[Any]")]
    fn values<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        self.inner.parameter_values().into_pyarray(py)
    }

    /// p, the number of all parameters' entries.
    #[getter]
    fn parameter_count(&self) -> usize {
        self.inner.parameter_count()
    }

    /// The parameters in the flat order: name, layer, shape, offset.
    #[getter]
    fn parameters(&self) -> Vec<(String, String, Vec<usize>, usize)> {
        let each = self.inner.parameters.iter();
        each.map(|p| {
            (
                p.name.clone(),
                p.layer.clone(),
                p.data.shape.clone(),
                p.offset,
            )
        })
        .collect()
    }

    /// The layers: name, names of the parameters, their flat ranges.
    #[getter]
    fn layers(&self) -> Vec<LayerRow> {
        let layers = self.inner.layers();
        let each = layers.iter().map(|layer| {
            let names = layer.parameters.iter();
            let ranges = self.inner.ranges(layer);
            (
                layer.name.clone(),
                names
                    .map(|&k| self.inner.parameters[k].name.clone())
                    .collect(),
                ranges.map(|r| (r.start, r.end)).collect(),
            )
        });
        each.collect()
    }

    /// The inputs that data are given for: dictionaries with name, shape (of a sample), sample_axis, integer.
    #[getter]
    fn inputs<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let each = self.inner.data_inputs().iter().map(|input| {
            let fields = PyDict::new(py);
            fields.set_item("name", &input.name)?;
            fields.set_item("shape", input.sample_shape())?;
            fields.set_item("sample_axis", input.sample_axis)?;
            fields.set_item("integer", input.integer)?;
            Ok(fields)
        });
        each.collect()
    }

    /// The shape of the outputs of a sample.
    #[getter]
    fn output_shape(&self) -> Vec<usize> {
        let mut shape = self.inner.rest(self.inner.output).to_vec();
        let axis = self.inner.output_sample_axis;
        if shape.get(axis) == Some(&1) {
            shape.remove(axis);
        }
        shape
    }

    /// The warnings about the model, such as parameters that do not enter the output.
    #[getter]
    fn warnings(&self) -> Vec<String> {
        self.inner.warnings.clone()
    }
}

impl From<hessblock::network::Network> for Network {
    fn from(network: hessblock::network::Network) -> Network {
        Network {
            inner: Arc::new(network),
            graph: None,
        }
    }
}
