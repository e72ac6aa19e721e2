//! The primitives of [`Backend`] at typical sizes, checked and timed.

use super::check::{Check, DEFINITION};
use super::ready::Ready;
use crate::device::{Device, with_backend};
use crate::error::Result;
use crate::tensor::cpu::Cpu;
use crate::tensor::meter::Meter;
use crate::tensor::{Backend, Real};
use crate::trial::{Array, Loaded, Primitive, Setting, entry, wait};
use std::cell::RefCell;
use std::sync::Arc;

/// Entries of a result that are computed by the definition.
const ENTRIES: usize = 256;

/// A setting with its numbers, the same on every machine.
pub(super) struct Primed {
    setting: Setting,
    arrays: Vec<Arc<Array>>,
}

impl Primed {
    pub(super) fn new(setting: &Setting) -> Primed {
        Primed {
            arrays: setting.arrays(),
            setting: setting.clone(),
        }
    }

    /// The primitive with its tensors on a backend.
    fn load<B: Backend>(&self, backend: &B) -> Loaded<B> {
        Loaded::new(backend, &self.setting.primitive, &self.arrays)
    }

    /// Operations and the numbers that are read and written once, as the meter predicts them.
    pub(super) fn work(&self) -> (u64, u64) {
        let meter = Meter::new(4);
        let loaded = self.load(&meter);
        let before = meter.operations();
        let result = loaded.apply(&meter);
        let read: usize = match self.setting.primitive {
            // A slice reads what it gives; the rest of its input is not touched.
            Primitive::Slice(..) => meter.shape(&result).len(),
            _ => self.arrays.iter().map(|a| a.shape.len()).sum(),
        };
        let numbers = read + meter.shape(&result).len();
        (meter.operations() - before, numbers as u64)
    }

    pub(super) fn on(&self, device: &Device) -> Box<dyn Ready> {
        with_backend!(device, backend => Box::new(Placed::new(backend, self)))
    }

    /// What CPU f64 gives.
    pub(super) fn reference(&self) -> Result<Vec<f64>> {
        let cpu = Cpu::<f64>::new();
        cpu.read(&self.load(&cpu).apply(&cpu))
    }

    /// Entries spread over a result against the definition of the primitive.
    pub(super) fn definition(&self, found: &[f64]) -> Check {
        let cpu = Meter::new(8);
        let shape = cpu.shape(&self.load(&cpu).apply(&cpu));
        if shape.len() != found.len() {
            return Check::failed(format!("{} numbers for {shape:?}", found.len()));
        }
        let step = (shape.len() / ENTRIES).max(1);
        // A step that shares no factor with the extents would do too: the offset walks through the rows.
        let places = (0..ENTRIES.min(shape.len()))
            .map(|k| (k * step + k % step.max(1)).min(shape.len() - 1))
            .chain([shape.len() - 1]);
        let pairs = places.map(|at| {
            let expected = entry(&self.setting.primitive, &self.arrays, &shape, at);
            (found[at], expected)
        });
        Check::of(pairs, DEFINITION)
    }
}

/// A primitive on a backend, and what was enqueued last.
struct Placed<B: Backend> {
    backend: B,
    loaded: Loaded<B>,
    last: RefCell<Option<B::Tensor>>,
}

impl<B: Backend + Clone> Placed<B> {
    fn new(backend: &B, primed: &Primed) -> Placed<B> {
        Placed {
            backend: backend.clone(),
            loaded: primed.load(backend),
            last: RefCell::new(None),
        }
    }

    fn apply(&self) -> B::Tensor {
        self.loaded.apply(&self.backend)
    }
}

impl<B: Backend + Clone> Ready for Placed<B> {
    fn check(&self, reference: &[f64], tolerance: f64) -> Result<Check> {
        Ok(compared(
            &self.backend.read(&self.apply())?,
            reference,
            tolerance,
        ))
    }

    fn start(&self) -> Result<()> {
        *self.last.borrow_mut() = Some(self.apply());
        Ok(())
    }

    fn wait(&self) -> Result<()> {
        match self.last.borrow_mut().take() {
            Some(tensor) => wait(&self.backend, &tensor),
            None => Ok(()),
        }
    }
}

/// Compares numbers of a backend.
pub(super) fn compared<R: Real>(found: &[R], reference: &[f64], tolerance: f64) -> Check {
    if found.len() != reference.len() {
        return Check::failed(format!("{} numbers, not {}", found.len(), reference.len()));
    }
    let found = found.iter().map(|v| v.to_f64());
    Check::of(found.zip(reference.iter().copied()), tolerance)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::check::SINGLE;
    use crate::precision::Precision;
    use crate::tensor::Shape;
    use crate::trial::typical;

    /// The same primitives at sizes that a test has time for.
    fn small(setting: &Setting) -> Setting {
        let shrink = |shape: &Shape| Shape {
            samples: shape.samples.min(3),
            directions: shape.directions.min(2),
            rest: shape.rest.clone(),
        };
        Setting {
            primitive: setting.primitive.clone(),
            shapes: setting.shapes.iter().map(shrink).collect(),
        }
    }

    #[test]
    fn every_primitive_agrees_with_its_definition_and_a_wrong_number_does_not() {
        for (name, _, setting) in typical() {
            let primed = Primed::new(&small(&setting));
            let mut values = primed.reference().unwrap();
            let check = primed.definition(&values);
            assert!(check.passed(), "{name}: {check:?}");
            values.iter_mut().for_each(|v| *v = 1.001 * *v + 1e-3);
            assert!(!primed.definition(&values).passed(), "{name}");
            values.pop();
            assert!(!primed.definition(&values).passed(), "{name}");
            let (_, numbers) = primed.work();
            assert!(numbers as usize > values.len(), "{name}");
        }
    }

    #[test]
    fn a_primitive_is_started_and_waited_for() {
        let (_, _, setting) = &typical()[0];
        let primed = Primed::new(&small(setting));
        let ready = primed.on(&Device::cpu(Precision::F32));
        ready.start().unwrap();
        ready.wait().unwrap();
        let mut reference = primed.reference().unwrap();
        assert_eq!(reference.len(), 3 * 2 * 120);
        assert!(ready.check(&reference, SINGLE).unwrap().passed());
        reference[700] += 0.1;
        assert!(!ready.check(&reference, SINGLE).unwrap().passed());
        assert!(!ready.check(&reference[1..], SINGLE).unwrap().passed());
        assert_eq!(primed.work().0, 2 * 3 * 2 * 120 * 256);
    }
}
