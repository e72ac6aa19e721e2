//! Losses by name and options.

use crate::arrays::check_regular;
use crate::device::raised;
use crate::errors::raise;
use hessblock::loss::{GivenHessian, LossOptions, Reduction, canonical, parse};
use numpy::{PyReadonlyArray1, PyReadonlyArray2};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

/// A loss with its options. A session makes its own of it.
#[pyclass(frozen, module = "hessblock._core")]
pub struct Loss(Kind);

enum Kind {
    Named(String, LossOptions),
    Given(GivenHessian),
}

impl Loss {
    fn named(py: Python<'_>, name: &str, options: LossOptions) -> PyResult<Loss> {
        // Refused here and not when it is used.
        raised(py, parse(name, &options))?;
        Ok(Loss(Kind::Named(canonical(name).into(), options)))
    }

    /// The library's loss.
    pub fn make(&self) -> hessblock::Result<Box<dyn hessblock::loss::Loss>> {
        match &self.0 {
            Kind::Named(name, options) => parse(name, options),
            Kind::Given(given) => Ok(Box::new(given.clone())),
        }
    }
}

fn reduction(py: Python<'_>, name: &str) -> PyResult<Option<Reduction>> {
    raised(py, name.parse()).map(Some)
}

#[pymethods]
impl Loss {
    /// Softmax cross-entropy of logits, with the options of torch.nn.CrossEntropyLoss.
    #[staticmethod]
    #[pyo3(signature = (reduction="mean", *, weight=None, ignore_index=-100, label_smoothing=0.0, class_axis=None))]
    fn cross_entropy(
        py: Python<'_>,
        reduction: &str,
        weight: Option<Vec<f64>>,
        ignore_index: Option<i64>,
        label_smoothing: f64,
        class_axis: Option<isize>,
    ) -> PyResult<Loss> {
        let options = LossOptions {
            reduction: self::reduction(py, reduction)?,
            class_weights: weight,
            label_smoothing: Some(label_smoothing),
            ignore_index,
            class_axis,
            ..LossOptions::default()
        };
        Loss::named(py, "cross-entropy", options)
    }

    /// Squared error, as torch.nn.MSELoss.
    #[staticmethod]
    #[pyo3(signature = (reduction="mean"))]
    fn mse(py: Python<'_>, reduction: &str) -> PyResult<Loss> {
        let options = LossOptions {
            reduction: self::reduction(py, reduction)?,
            ..LossOptions::default()
        };
        Loss::named(py, "mse", options)
    }

    /// Binary cross-entropy of logits, as torch.nn.BCEWithLogitsLoss.
    #[staticmethod]
    #[pyo3(signature = (reduction="mean", *, pos_weight=None, class_axis=None))]
    fn bce(
        py: Python<'_>,
        reduction: &str,
        pos_weight: Option<Vec<f64>>,
        class_axis: Option<isize>,
    ) -> PyResult<Loss> {
        let options = LossOptions {
            reduction: self::reduction(py, reduction)?,
            positive_weight: pos_weight,
            class_axis,
            ..LossOptions::default()
        };
        Loss::named(py, "bce", options)
    }

    /// The derivatives of any loss at the network's outputs: gradients [N, C] and values [N], with the reduction's `weight` in them. The targets are its Hessians,
    /// [N, C, C].
    #[staticmethod]
    #[pyo3(signature = (gradients: "NDArray[Any] | None" = None, values: "NDArray[Any] | None" = None, weight=1.0))]
    fn given(
        gradients: Option<PyReadonlyArray2<'_, f64>>,
        values: Option<PyReadonlyArray1<'_, f64>>,
        weight: f64,
    ) -> PyResult<Loss> {
        if let Some(gradients) = &gradients {
            check_regular(gradients.as_any())?;
        }
        if let Some(values) = &values {
            check_regular(values.as_any())?;
        }
        let mut given = match gradients {
            Some(gradients) => {
                GivenHessian::with_gradient(gradients.as_array().iter().copied().collect())
            }
            None => GivenHessian::default(),
        };
        if let Some(values) = values {
            given = given.with_values(values.as_array().to_vec());
        }
        Ok(Loss(Kind::Given(given.with_weight(weight))))
    }

    /// A loss by its name, "cross-entropy", "mse" or "bce", with its default options.
    #[staticmethod]
    fn parse(py: Python<'_>, name: &str) -> PyResult<Loss> {
        Loss::named(py, name, LossOptions::default())
    }

    /// Returns the call by which pickle makes it again.
    fn __reduce__<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        let Kind::Named(name, options) = &self.0 else {
            let text = "a loss given by its derivatives cannot be pickled: pickle the derivatives";
            return Err(PyTypeError::new_err(text));
        };
        let keywords = PyDict::new(py);
        if let Some(reduction) = options.reduction {
            keywords.set_item("reduction", reduction.to_string())?;
        }
        if name == "cross-entropy" {
            keywords.set_item("weight", &options.class_weights)?;
            keywords.set_item("ignore_index", options.ignore_index)?;
            keywords.set_item("label_smoothing", options.label_smoothing.unwrap_or(0.0))?;
        }
        if name == "bce" {
            keywords.set_item("pos_weight", &options.positive_weight)?;
        }
        if name != "mse" {
            keywords.set_item("class_axis", options.class_axis)?;
        }
        let maker = py
            .get_type::<Loss>()
            .getattr(name.replace('-', "_").as_str())?;
        let partial = py.import("functools")?.getattr("partial")?;
        let partial = partial.call((maker,), Some(&keywords))?;
        Ok((partial, PyTuple::empty(py)))
    }

    /// Its name with its options.
    #[getter]
    fn name(&self, py: Python<'_>) -> PyResult<String> {
        self.make()
            .map(|loss| loss.name())
            .map_err(|e| raise(py, e))
    }
}
