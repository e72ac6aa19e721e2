//! Entries of an axis by number: by a fixed list (Gather, Slice with steps, Pad that mirrors, Resize), or by
//! numbers among the data (embedding of tokens); and the transpose, which adds entries up at numbered places
//! (index_add, scatter_add).

use super::{Forward, Operation, Pullback, Role, SiteKind, shape_error};
use crate::error::Result;
use crate::tensor::{Backend, HostSlice, Shape};

/// `z[…, k, …] = x[…, indices[k], …]` along an axis; `None` is 0. Operand: x.
#[derive(Clone, Debug, PartialEq)]
pub struct Take {
    /// The axis of the rest.
    pub axis: usize,
    /// What each entry of the result is.
    pub indices: Vec<Option<usize>>,
}

/// x's entries along an axis by numbers that each sample has of its own. Operands: x, indices.
///
/// Indices are whole numbers, `[…]` per sample, and take the place of the axis; one outside 0..E picks 0. They
/// have no derivative.
#[derive(Clone, Debug, PartialEq)]
pub struct Lookup {
    /// The axis of x's rest.
    pub axis: usize,
}

/// Adds x's entries along an axis up at numbered places: `z[…, e, …] = Σ_k x[…, k, …]` over the k with
/// `indices[k] = e`. Operands: x, indices.
///
/// Indices are whole numbers, `[K]` per sample or the same for all, K being x's extent along the axis; an entry
/// whose number is outside 0..`extent` is left out. They have no derivative.
#[derive(Clone, Debug, PartialEq)]
pub struct Put {
    /// The axis of x's rest.
    pub axis: usize,
    /// The result's extent along the axis.
    pub extent: usize,
}

/// Times that an entry may be taken for the transpose to be takes of its own.
const FEW: usize = 8;

/// The list as a tensor: a number that no axis has stands for 0.
fn upload<B: Backend>(backend: &B, indices: &[Option<usize>]) -> B::Tensor {
    let values: Vec<f64> = indices
        .iter()
        .map(|index| index.map_or(-1.0, |k| k as f64))
        .collect();
    backend.upload(&Shape::new(1, 1, &[indices.len()]), HostSlice::F64(&values))
}

impl Take {
    /// The transposed lists: entry e of x was taken by the e-th number of each list. `None` where an entry was taken
    /// more than a few times, as there is a list for each time.
    fn transposed(&self, extent: usize) -> Option<Vec<Vec<Option<usize>>>> {
        let mut takers: Vec<Vec<usize>> = vec![Vec::new(); extent];
        for (k, index) in self.indices.iter().enumerate() {
            if let Some(index) = index {
                takers[*index].push(k);
            }
        }
        let most = takers.iter().map(Vec::len).max().unwrap_or(0);
        let list = |m: usize| takers.iter().map(|t| t.get(m).copied()).collect();
        (most <= FEW).then(|| (0..most).map(list).collect())
    }
}

impl Operation for Take {
    fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        match inputs {
            [x] if self.axis < x.len()
                && !self.indices.is_empty()
                && self.indices.iter().flatten().all(|&k| k < x[self.axis]) =>
            {
                let mut rest = x.to_vec();
                rest[self.axis] = self.indices.len();
                Ok(rest)
            }
            _ => shape_error(format!(
                "{} entries of axis {} of {inputs:?}, or some of them",
                self.indices.len(),
                self.axis
            )),
        }
    }

    fn forward<B: Backend>(&self, backend: &B, inputs: &[B::Tensor]) -> Forward<B> {
        let indices = upload(backend, &self.indices);
        Forward::value(backend.take(&inputs[0], &indices, self.axis + 2))
    }

    fn vjp<B: Backend>(&self, backend: &B, pullback: &Pullback<'_, B>, _: usize) -> B::Tensor {
        let rest = backend.shape(&pullback.inputs[0]).rest;
        let extent = rest[self.axis];
        let Some(lists) = self.transposed(extent) else {
            let indices = upload(backend, &self.indices);
            return backend.put(
                pullback.cotangent,
                &indices,
                self.axis + 2,
                0..extent,
                false,
            );
        };
        // A sum of a few takes in place of a put, which has to look for the entries.
        let parts = lists.into_iter().map(|indices| {
            let indices = upload(backend, &indices);
            backend.take(pullback.cotangent, &indices, self.axis + 2)
        });
        parts
            .reduce(|sum, part| backend.add(&sum, &part))
            .unwrap_or_else(|| {
                let shape = backend.shape(pullback.cotangent);
                backend.fill(&Shape::new(shape.samples, shape.directions, &rest), 0.0)
            })
    }

    fn site<B: Backend>(
        &self,
        backend: &B,
        pullback: &Pullback<'_, B>,
        operand: usize,
    ) -> SiteKind<B::Tensor> {
        SiteKind::Rows(self.vjp(backend, pullback, operand))
    }
}

impl Lookup {
    /// The indices as a list per sample, `[s, 1, K]`, and x's axis among all axes.
    fn list<B: Backend>(&self, backend: &B, indices: &B::Tensor) -> (B::Tensor, usize) {
        let count = backend.shape(indices).rest_len();
        (backend.reshape(indices, &[count]), self.axis + 2)
    }

    /// The cotangent with the axes of the indices taken together.
    fn flat<B: Backend>(&self, backend: &B, pullback: &Pullback<'_, B>) -> B::Tensor {
        let mut rest = backend.shape(&pullback.inputs[0]).rest;
        rest[self.axis] = backend.shape(&pullback.inputs[1]).rest_len();
        backend.reshape(pullback.cotangent, &rest)
    }
}

impl Operation for Lookup {
    fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        match inputs {
            [x, indices] if self.axis < x.len() => {
                let mut rest = x.to_vec();
                rest.splice(self.axis..=self.axis, indices.iter().copied());
                Ok(rest)
            }
            _ => shape_error(format!("a lookup along axis {} of {inputs:?}", self.axis)),
        }
    }

    fn differentiates(&self, operand: usize) -> bool {
        operand == 0
    }

    fn role(&self, operand: usize, _: &[usize]) -> Role {
        match operand {
            0 => Role::Table,
            _ => Role::Other,
        }
    }

    fn forward<B: Backend>(&self, backend: &B, inputs: &[B::Tensor]) -> Forward<B> {
        let (list, axis) = self.list(backend, &inputs[1]);
        let rests = [0, 1].map(|k| backend.shape(&inputs[k]).rest);
        let rest = self.shape(&[&rests[0], &rests[1]]);
        let taken = backend.take(&inputs[0], &list, axis);
        Forward::value(backend.reshape(&taken, &rest.expect("checked at import")))
    }

    fn vjp<B: Backend>(
        &self,
        backend: &B,
        pullback: &Pullback<'_, B>,
        operand: usize,
    ) -> B::Tensor {
        assert_eq!(operand, 0, "indices have no cotangent");
        let (list, axis) = self.list(backend, &pullback.inputs[1]);
        let extent = backend.shape(&pullback.inputs[0]).rest[self.axis];
        let flat = self.flat(backend, pullback);
        backend.put(&flat, &list, axis, 0..extent, false)
    }

    fn site<B: Backend>(
        &self,
        backend: &B,
        pullback: &Pullback<'_, B>,
        operand: usize,
    ) -> SiteKind<B::Tensor> {
        if self.axis > 0 {
            return SiteKind::Rows(self.vjp(backend, pullback, operand));
        }
        let rest = backend.shape(&pullback.inputs[0]).rest;
        let (list, _) = self.list(backend, &pullback.inputs[1]);
        let flat = self.flat(backend, pullback);
        let count = backend.shape(&list).rest_len();
        SiteKind::Lookup {
            cotangents: backend.reshape(&flat, &[count, rest[1..].iter().product()]),
            indices: list,
            range: 0..rest[0],
        }
    }
}

impl Operation for Put {
    fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        match inputs {
            [x, [count]] if self.axis < x.len() && x[self.axis] == *count => {
                let mut rest = x.to_vec();
                rest[self.axis] = self.extent;
                Ok(rest)
            }
            _ => shape_error(format!(
                "entries of axis {} of {inputs:?} to add up at numbered places",
                self.axis
            )),
        }
    }

    fn differentiates(&self, operand: usize) -> bool {
        operand == 0
    }

    fn forward<B: Backend>(&self, backend: &B, inputs: &[B::Tensor]) -> Forward<B> {
        let (x, indices) = (&inputs[0], &inputs[1]);
        Forward::value(backend.put(x, indices, self.axis + 2, 0..self.extent, false))
    }

    fn vjp<B: Backend>(
        &self,
        backend: &B,
        pullback: &Pullback<'_, B>,
        operand: usize,
    ) -> B::Tensor {
        assert_eq!(operand, 0, "indices have no cotangent");
        backend.take(pullback.cotangent, &pullback.inputs[1], self.axis + 2)
    }

    fn site<B: Backend>(
        &self,
        backend: &B,
        pullback: &Pullback<'_, B>,
        operand: usize,
    ) -> SiteKind<B::Tensor> {
        SiteKind::Rows(self.vjp(backend, pullback, operand))
    }
}
