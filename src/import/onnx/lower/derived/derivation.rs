//! Evaluates the nodes of a file that depend on its data alone, a few samples at a time.

use crate::error::{Error, Result};
use crate::import::onnx::fold;
use crate::import::onnx::graph::Node;
use crate::import::onnx::lower::describe;
use crate::import::onnx::lower::select::Selection;
use crate::import::onnx::samples::Sample;
use crate::import::onnx::tensor::Array;
use crate::network::{Derive, Input};
use std::path::PathBuf;

/// The largest integer up to which all are exact in single precision.
const EXACT: f64 = (1 << 24) as f64;

/// Where a step of a [`Derivation`] reads.
#[derive(Clone, Debug)]
pub(super) enum Read {
    Given(usize),
    Made(usize, usize),
    Known(Array),
}

/// What an output of a [`Derivation`] is made of what it reads.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// Each sample's part of it.
    Value(Sample),
    /// The entries that the node takes or the places where it puts them, by these indices.
    Places(Box<(Node, Selection)>),
}

/// An output of a [`Derivation`], which is a derived input of the network.
#[derive(Clone, Debug)]
pub(super) struct Output {
    pub read: Read,
    pub what: What,
    pub input: Input,
}

/// The nodes of a file that depend on its data alone, evaluated for as many samples at a time as the file or the
/// probe of its shapes has.
#[derive(Clone, Debug)]
pub(super) struct Derivation {
    pub path: PathBuf,
    pub batch: usize,
    pub inputs: Vec<Input>,
    pub steps: Vec<(Node, Vec<Option<Read>>)>,
    pub outputs: Vec<Output>,
}

impl Derivation {
    /// An input of the file for a batch of samples, `[samples, rest…]` with the samples moved to their axis.
    fn given(&self, k: usize, values: &[f64], samples: &[usize]) -> Array {
        let input = &self.inputs[k];
        let each: usize = input.rest.iter().product();
        let inner: usize = input.rest[input.sample_axis..].iter().product();
        let mut moved = Vec::with_capacity(each * samples.len());
        for outer in 0..each / inner.max(1) {
            for sample in samples {
                let start = sample * each + outer * inner;
                moved.extend_from_slice(&values[start..start + inner]);
            }
        }
        let shape = Sample::alone(input.sample_axis).shape(&input.rest, samples.len());
        if input.integer {
            Array::ints(&shape, moved.into_iter().map(|v| v as i64).collect())
        } else {
            Array::reals(&shape, moved, true)
        }
    }

    /// Adds the derived inputs of some of the samples to `results`, the first `wanted` of them.
    fn group(
        &self,
        inputs: &[Vec<f64>],
        samples: &[usize],
        wanted: usize,
        results: &mut [Vec<f64>],
    ) -> Result<(), String> {
        let mut given: Vec<Option<Array>> = vec![None; self.inputs.len()];
        let mut made: Vec<Vec<Array>> = Vec::with_capacity(self.steps.len());
        let mut read = |read: &Read, made: &[Vec<Array>]| match read {
            Read::Known(array) => Ok(array.clone()),
            Read::Given(k) => Ok(given[*k]
                .get_or_insert_with(|| self.given(*k, &inputs[*k], samples))
                .clone()),
            Read::Made(step, output) => {
                let array = made[*step].get(*output).cloned();
                array.ok_or_else(|| format!("its output {output} is missing"))
            }
        };
        for (node, operands) in &self.steps {
            let operands: Vec<Option<Array>> = operands
                .iter()
                .map(|operand| operand.as_ref().map(|r| read(r, &made)).transpose())
                .collect::<Result<_, String>>()?;
            let results = fold::evaluate(node, &operands);
            made.push(results.map_err(|why| describe(node, &why))?);
        }
        for (output, result) in self.outputs.iter().zip(results) {
            let array = read(&output.read, &made)?;
            match &output.what {
                What::Value(sample) => {
                    let shape = sample.shape(&output.input.rest, self.batch);
                    if array.shape != shape {
                        return Err(format!(
                            "{:?} is of shape {:?} where {shape:?} was expected",
                            output.input.name, array.shape
                        ));
                    }
                    let values = array.to_f64();
                    let each = values.len() / self.batch;
                    let start = result.len();
                    result.resize(start + each * wanted, 0.0);
                    for (flat, value) in values.into_iter().enumerate() {
                        let (of, own) = sample.split(flat, &output.input.rest, self.batch);
                        if of < wanted {
                            result[start + of * each + own] = value;
                        }
                    }
                }
                What::Places(places) => {
                    let (node, selection) = &**places;
                    let lists = selection.lists(node, &array, self.batch);
                    let lists = lists.map_err(|why| describe(node, &why))?;
                    let lists = lists.into_iter().take(wanted).flatten();
                    result.extend(lists.map(|place| place as f64));
                }
            }
        }
        Ok(())
    }

    /// Refuses numbers that the table they look up has not, and integers that single precision does not hold.
    fn check(&self, output: &Output, values: &[f64], first: usize) -> Result<()> {
        let input = &output.input;
        if !input.integer {
            return Ok(());
        }
        let rows = input.limit.map_or(f64::INFINITY, |limit| limit as f64);
        let taken = |v: f64| -rows <= v && v < rows && v.abs() <= EXACT;
        let Some(at) = values.iter().position(|&v| !taken(v)) else {
            return Ok(());
        };
        let why = match input.limit {
            Some(limit) => format!("it looks up an axis of {limit} entries, 0 to {}", limit - 1),
            None => format!("integers up to {EXACT} are exact in single precision"),
        };
        let each: usize = input.rest.iter().product();
        Err(Error::Value(format!(
            "{}: {:?}, computed of the data, is {} for sample {}, and {why}; mend the data or leave the sample out",
            self.path.display(),
            input.name,
            values[at],
            first + at / each.max(1)
        )))
    }
}

impl Derive for Derivation {
    fn derive(&self, inputs: &[Vec<f64>], samples: usize, first: usize) -> Result<Vec<Vec<f64>>> {
        let mut results = vec![Vec::new(); self.outputs.len()];
        for start in (0..samples).step_by(self.batch) {
            let wanted = self.batch.min(samples - start);
            // The last sample stands in for those that a batch of the file has more.
            let last = samples - 1;
            let group: Vec<usize> = (start..start + self.batch).map(|n| n.min(last)).collect();
            let done = self.group(inputs, &group, wanted, &mut results);
            done.map_err(|why| {
                let range = match wanted {
                    1 => format!("sample {}", first + start),
                    _ => format!(
                        "samples {} to {}",
                        first + start,
                        first + start + wanted - 1
                    ),
                };
                Error::Value(format!("{}: {range}: {why}", self.path.display()))
            })?;
        }
        for (output, values) in self.outputs.iter().zip(&results) {
            self.check(output, values, first)?;
        }
        Ok(results)
    }
}
