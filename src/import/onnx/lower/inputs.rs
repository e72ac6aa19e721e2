//! The inputs of the file: which axis holds the samples, and for which batch its constants were baked.

use super::super::OnnxOptions;
use super::super::graph::{Graph, is_float};
use super::super::proto::{self, dimension};
use crate::error::{Error, Result};
use crate::network::{Input, MOST_AXES, MOST_ELEMENTS};
use crate::setting::DIMENSION;

/// The batch sizes at which shapes are inferred: 1 and a prime where the file leaves the batch open, else
/// the file's own, for which its constants were baked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch {
    pub sizes: [usize; 2],
    /// Whether the file leaves the batch open.
    pub open: bool,
}

/// The second batch size where the file leaves the batch open: a prime, small because constants of that many
/// rows are folded.
const PROBE: usize = 31;

/// An input, as data have it and as the file has it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// With an axis for the samples, at batch 1.
    pub input: Input,
    /// Its shape in the file at batch 1: without that axis, where the file has none.
    pub shape: Vec<usize>,
    /// Whether a sample is the input as a whole, so that no axis of the file holds samples.
    pub whole: bool,
    /// The extents that the file gives, that of the samples too; `None` where it leaves one open.
    extents: Option<Vec<usize>>,
}

/// All inputs, and the batch of the file.
#[derive(Clone, Debug)]
pub(super) struct Inputs {
    pub entries: Vec<Entry>,
    pub batch: Batch,
}

impl Inputs {
    /// Axes other than the first that hold equally many entries in all inputs, and so might hold the samples; none
    /// where the file says which axis does, or has a batch of 1.
    pub fn other_axes(&self) -> Vec<usize> {
        let extents: Option<Vec<&[usize]>> =
            self.entries.iter().map(|e| e.extents.as_deref()).collect();
        let Some(extents) = extents.filter(|_| self.batch.sizes[1] > 1) else {
            return Vec::new();
        };
        let alike = |&axis: &usize| {
            let first = extents.first().and_then(|e| e.get(axis));
            first.is_some_and(|first| *first > 1) && extents.iter().all(|e| e.get(axis) == first)
        };
        (1..MOST_AXES).filter(alike).collect()
    }

    /// The same with the samples on another axis of [`Self::other_axes`].
    pub fn with_samples_on(&self, axis: usize) -> Self {
        let mut moved = self.clone();
        for entry in &mut moved.entries {
            let mut shape = entry.extents.clone().unwrap_or_default();
            let batch = std::mem::replace(&mut shape[axis], 1);
            moved.batch.sizes = [batch; 2];
            entry.input.sample_axis = axis;
            entry.input.rest = shape.clone();
            entry.shape = shape;
        }
        moved
    }

    /// The same with a sample as a whole input. A first axis of extent 1 serves data for the samples.
    pub fn whole(&self) -> Self {
        let mut whole = self.clone();
        whole.batch.sizes = [1; 2];
        for entry in &mut whole.entries {
            entry.whole = true;
            let Some(extents) = &entry.extents else {
                continue;
            };
            entry.shape = extents.clone();
            entry.input.sample_axis = 0;
            entry.input.rest = extents.clone();
            if extents.first() != Some(&1) {
                entry.input.rest.insert(0, 1);
            }
        }
        whole
    }
}

/// The network's inputs at batch 1, and the batch of the file.
pub(super) fn inputs(graph: &Graph, options: &OnnxOptions) -> Result<Inputs> {
    let mut reading = Reading {
        graph,
        options,
        fixed: None,
        batch_name: None,
    };
    if graph.inputs.is_empty() {
        return Err(reading.fault("its graph has no input".into()));
    }
    let entries = graph.inputs.iter().map(|info| reading.entry(info));
    let entries: Vec<Entry> = entries.collect::<Result<_>>()?;
    let batch = reading.batch(&entries)?;
    Ok(Inputs { entries, batch })
}

/// The state of reading the inputs one after another.
struct Reading<'g> {
    graph: &'g Graph,
    options: &'g OnnxOptions,
    /// The batch, where an input so far gives it an extent.
    fixed: Option<usize>,
    /// The name of the axis of the samples, where an input so far gives it one.
    batch_name: Option<String>,
}

impl Reading<'_> {
    fn fault(&self, message: String) -> Error {
        Error::file(&self.graph.path, message)
    }

    /// Reads one input.
    fn entry(&mut self, info: &proto::ValueInfo) -> Result<Entry> {
        let tensor = info.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
        let shape = tensor.and_then(|t| t.shape.as_ref()).ok_or_else(|| {
            self.fault(format!(
                "the file does not say how many axes input {:?} has; export it with fixed extents but for the batch, or write its shape into the file: with Python's onnx, find it in model.graph.input and call .type.CopyFrom(onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, [\"batch\", 3]))",
                info.name
            ))
        })?;
        let axis = self.axis_of_samples(shape);
        let rank = shape.dim.len();
        if rank > MOST_AXES {
            return Err(self.fault(format!(
                "input {:?} has {rank} axes, where up to {MOST_AXES} can be",
                info.name
            )));
        }
        let mut rest = Vec::with_capacity(rank);
        let mut extents = Some(Vec::with_capacity(rank));
        for k in 0..rank {
            let Some(extent) = self.extent(info, k, &shape.dim[k], k == axis)? else {
                extents = None;
                rest.push(1);
                continue;
            };
            if let Some(extents) = &mut extents {
                extents.push(extent);
            }
            if k == axis {
                self.note_batch(info, extent)?;
                rest.push(1);
            } else {
                rest.push(extent);
            }
        }
        let elements = rest.iter().try_fold(1usize, |all, &d| all.checked_mul(d));
        if elements.is_none_or(|e| e > MOST_ELEMENTS) {
            return Err(self.fault(format!(
                "input {:?} of shape {rest:?} per sample is larger than can be",
                info.name
            )));
        }
        // A scalar is a sample as a whole: data are a list of them.
        let whole = rank == 0;
        Ok(Entry {
            shape: rest.clone(),
            whole,
            extents,
            input: Input {
                name: info.name.clone(),
                rest: if whole { vec![1] } else { rest },
                sample_axis: axis,
                integer: !is_float(tensor.map_or(1, |t| t.elem_type)),
                limit: None,
            },
        })
    }

    /// The axis of the samples: the first, unless another is named like a batch and the first is fixed.
    fn axis_of_samples(&self, shape: &proto::TensorShape) -> usize {
        let named = |k: usize| match &shape.dim.get(k)?.value {
            Some(dimension::Value::Name(name)) => Some(name.as_str()),
            None => Some(""),
            _ => None,
        };
        let like_batch = |name: &str| {
            self.batch_name.as_deref() == Some(name)
                || name.to_lowercase().contains("batch")
                || matches!(name, "N" | "n" | "samples")
        };
        let batch_axis = (0..shape.dim.len()).find(|&k| named(k).is_some_and(like_batch));
        batch_axis.unwrap_or(0)
    }

    /// The extent of axis `k` of an input; `None` for the axis of the samples where the file leaves it open.
    fn extent(
        &mut self,
        info: &proto::ValueInfo,
        k: usize,
        dim: &proto::Dimension,
        of_samples: bool,
    ) -> Result<Option<usize>> {
        let extent = match &dim.value {
            Some(dimension::Value::Extent(extent)) => *extent,
            other if of_samples => {
                if let Some(dimension::Value::Name(name)) = other {
                    self.batch_name = Some(name.clone());
                }
                return Ok(None);
            }
            Some(dimension::Value::Name(name)) => match self.options.dimensions.get(name) {
                Some(&extent) => extent as i64,
                None => {
                    return Err(self.fault(format!(
                        "axis {k} of input {:?} is the open dimension {name:?}; say its extent ({DIMENSION} {name}=N), or export it with a fixed one",
                        info.name
                    )));
                }
            },
            None => {
                return Err(self.fault(format!(
                    "axis {k} of input {:?} has neither an extent nor a name, so none can be given for it; export it with a fixed one",
                    info.name
                )));
            }
        };
        match usize::try_from(extent).ok().filter(|&e| e > 0) {
            Some(extent) => Ok(Some(extent)),
            None => Err(self.fault(format!(
                "axis {k} of input {:?} has extent {extent}",
                info.name
            ))),
        }
    }

    /// Remembers the batch that an input is exported with, which is that of all inputs.
    fn note_batch(&mut self, info: &proto::ValueInfo, extent: usize) -> Result<()> {
        if self.fixed.is_some_and(|f| f != extent) {
            return Err(self.fault(format!(
                "input {:?} has {extent} samples, another input {}; export all with the same batch",
                info.name,
                self.fixed.unwrap_or(0)
            )));
        }
        self.fixed = Some(extent);
        Ok(())
    }

    /// The batch of the file, of which all inputs are read.
    fn batch(&self, entries: &[Entry]) -> Result<Batch> {
        let Some(batch) = self.fixed else {
            return Ok(Batch {
                sizes: [1, PROBE],
                open: true,
            });
        };
        let all = |input: &Input| input.rest.iter().try_fold(batch, |a, &d| a.checked_mul(d));
        let large = |input: &&Input| all(input).is_none_or(|all| all > MOST_ELEMENTS);
        if let Some(input) = entries.iter().map(|e| &e.input).find(large) {
            return Err(self.fault(format!(
                "input {:?} of {batch} samples of shape {:?} is larger than can be; export with a smaller batch",
                input.name, input.rest
            )));
        }
        Ok(Batch {
            sizes: [batch, batch],
            open: false,
        })
    }
}
