//! What lowering may make at import: a small file can ask for little memory and little time.

use super::super::graph::Graph;
use super::super::tensor::Array;
use super::Value;
use crate::error::{Error, Result};
use std::collections::HashSet;

/// Bytes of constants, and of lists of entries, that may be held together beside those of the file.
const MOST_BYTES: usize = 1 << 28;

/// Elements that may be read and written by folding: seconds of work.
const MOST_ELEMENTS: usize = 1 << 28;

/// Bytes and work per element of the file that come on top.
const BYTES_OF_FILE: usize = 16;
const WORK_OF_FILE: usize = 64;

/// What is left.
#[derive(Clone, Debug)]
pub(super) struct Room {
    bytes: usize,
    elements: usize,
}

impl Room {
    pub fn beside(graph: &Graph) -> Self {
        let held = graph.initializers.iter().map(|i| i.array.len());
        let held = held.fold(0usize, usize::saturating_add);
        Self {
            bytes: MOST_BYTES.saturating_add(held.saturating_mul(BYTES_OF_FILE)),
            elements: MOST_ELEMENTS.saturating_add(held.saturating_mul(WORK_OF_FILE)),
        }
    }

    /// Sets bytes aside.
    ///
    /// # Errors
    /// [`Error::Shape`] where there is no room for them.
    pub fn hold(&mut self, bytes: usize) -> Result<()> {
        let left = self.bytes.checked_sub(bytes);
        self.bytes = left.ok_or_else(|| {
            Error::Shape(
                "the constants that the file has made at import are larger together than can be; export with a smaller example input, or keep them as buffers of the module"
                    .into(),
            )
        })?;
        Ok(())
    }

    /// Gives bytes back.
    pub fn release(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Counts elements that folding reads or writes.
    ///
    /// # Errors
    /// [`Error::Shape`] where they were too many.
    pub fn work(&mut self, elements: usize) -> Result<()> {
        let left = self.elements.checked_sub(elements);
        self.elements = left.ok_or_else(|| {
            Error::Shape(
                "the constants that the file has computed at import are more work together than can be; export with constant folding (do_constant_folding=True), or keep them as buffers of the module"
                    .into(),
            )
        })?;
        Ok(())
    }
}

/// Addresses of constants that the network holds, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Placed {
    known: HashSet<usize>,
    order: Vec<usize>,
}

impl Placed {
    /// Adds an address; whether it is new.
    pub fn insert(&mut self, address: usize) -> bool {
        let new = self.known.insert(address);
        if new {
            self.order.push(address);
        }
        new
    }

    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Takes back those that came after the first `len`.
    pub fn truncate(&mut self, len: usize) {
        for address in self.order.drain(len..) {
            self.known.remove(&address);
        }
    }
}

/// Bytes of a value that is known.
pub(super) fn bytes(value: &Value) -> usize {
    match value {
        Value::Host([one, many]) if one.address() == many.address() => one.bytes(),
        Value::Host([one, many]) => one.bytes().saturating_add(many.bytes()),
        _ => 0,
    }
}

/// Elements that folding a node over `inputs` reads and writes. Walking over many axes takes a pass for each few.
pub(super) fn elements_walked(inputs: &[Option<Array>], results: &[Array]) -> usize {
    let each = |array: &Array| array.len().saturating_mul(1 + array.shape.len() / 8);
    let all = inputs.iter().flatten().chain(results).map(each);
    all.fold(0, usize::saturating_add)
}
