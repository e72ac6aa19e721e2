//! The end of lowering: the derived inputs that are read, and the nodes of the file that lead to them.

use super::derivation::{Derivation, Output, Read, What};
use super::{Source, Wanted};
use crate::error::Result;
use crate::import::onnx::lower::{Lowering, refuse};
use crate::import::onnx::tensor::Array;
use crate::network::{Derived, Operand, ValueId};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Elements that the nodes on the host may make of one group of samples.
const MOST_ELEMENTS: usize = 1 << 26;

impl Lowering<'_> {
    /// Drops the inputs that were set aside and are not read, and what leads to nothing since; the others are
    /// computed by a [`Derivation`].
    ///
    /// # Errors
    /// [`Error::Unsupported`] where that were too much work.
    pub(in super::super) fn derive(&mut self) -> Result<()> {
        let given = self.data_only.given.len();
        let (network, wanted) = (&mut self.network, &self.data_only.wanted);
        // Nodes that only led to what the host computes are left out; without derived inputs all stay.
        let prunes = !wanted.is_empty();
        let first = network.inputs.len();
        let mut live = vec![false; first + network.nodes.len()];
        live[network.output] = true;
        for k in (0..network.nodes.len()).rev() {
            if live[first + k] || !prunes {
                for operand in &network.nodes[k].inputs {
                    if let Operand::Value(value) = operand {
                        live[*value] = true;
                    }
                }
            }
        }
        let kept: Vec<(ValueId, &Wanted)> = wanted
            .iter()
            .filter(|(slot, _)| live[**slot])
            .map(|(slot, wanted)| (*slot, wanted))
            .collect();
        let mut renamed = vec![0; live.len()];
        let mut next = 0;
        for value in 0..live.len() {
            let stays = match value {
                _ if value < given => true,
                _ if value < first => live[value],
                _ => live[value] || !prunes,
            };
            renamed[value] = next;
            next += usize::from(stays);
        }
        let mut k = 0;
        network.nodes.retain(|_| {
            k += 1;
            live[first + k - 1] || !prunes
        });
        for node in &mut network.nodes {
            for operand in &mut node.inputs {
                if let Operand::Value(value) = operand {
                    *value = renamed[*value];
                }
            }
        }
        network.output = renamed[network.output];
        let mut inputs = std::mem::take(&mut network.inputs).into_iter();
        network.inputs.extend(inputs.by_ref().take(given));
        network.inputs.extend(
            inputs
                .enumerate()
                .filter(|(k, _)| live[given + k])
                .map(|(_, input)| input),
        );
        if kept.is_empty() {
            return Ok(());
        }
        let kept: Vec<Wanted> = kept.into_iter().map(|(_, wanted)| wanted.clone()).collect();
        let derivation = self.derivation(given, &kept)?;
        self.network.derived = Some(Derived {
            count: kept.len(),
            compute: Arc::new(derivation),
        });
        Ok(())
    }

    /// The nodes that lead to what is wanted, in the file's order.
    fn derivation(&self, given: usize, wanted: &[Wanted]) -> Result<Derivation> {
        let mut needed = BTreeSet::new();
        let mut open = Vec::new();
        for wanted in wanted {
            let (Wanted::Value { source, .. }
            | Wanted::Places {
                indices: source, ..
            }) = wanted;
            open.push(source);
        }
        while let Some(source) = open.pop() {
            if let Source::Made(k, _) = source
                && needed.insert(*k)
            {
                open.extend(self.data_only.steps[k].inputs.iter().flatten());
            }
        }
        let places = wanted.iter().any(|w| matches!(w, Wanted::Places { .. }));
        let elements = needed.iter().map(|k| self.data_only.steps[k].elements);
        let elements = elements.fold(0, usize::saturating_add);
        if elements > MOST_ELEMENTS {
            return refuse(format!(
                "what is computed of the data on the host is {elements} numbers for {} samples, more than can be; export with a smaller batch or shorter sequences",
                self.batch.sizes[1]
            ));
        }
        // Whose entries are taken shows where there are several samples.
        let size = usize::from(places);
        let at = |arrays: &[Array; 2]| arrays[size].clone();
        let mut numbers = HashMap::new();
        let mut steps = Vec::with_capacity(needed.len());
        let read = |source: &Source, numbers: &HashMap<usize, usize>| match source {
            Source::Given(k) => Read::Given(*k),
            Source::Made(k, output) => Read::Made(numbers[k], *output),
            Source::Known(arrays) => Read::Known(at(arrays)),
        };
        for k in needed {
            let inputs = self.data_only.steps[&k].inputs.iter();
            let inputs = inputs.map(|i| i.as_ref().map(|source| read(source, &numbers)));
            steps.push((self.graph.nodes[k].clone(), inputs.collect()));
            numbers.insert(k, numbers.len());
        }
        let inputs = &self.network.inputs;
        let outputs = wanted.iter().zip(&inputs[given..]).map(|(wanted, input)| {
            let (source, what) = match wanted {
                Wanted::Value { source, sample } => (source, What::Value(*sample)),
                Wanted::Places {
                    node,
                    indices,
                    selection,
                } => {
                    let node = self.graph.nodes[*node].clone();
                    (indices, What::Places(Box::new((node, selection.clone()))))
                }
            };
            Output {
                read: read(source, &numbers),
                what,
                input: input.clone(),
            }
        });
        Ok(Derivation {
            path: self.graph.path.clone(),
            batch: self.batch.sizes[size],
            inputs: inputs[..given].to_vec(),
            outputs: outputs.collect(),
            steps,
        })
    }
}
