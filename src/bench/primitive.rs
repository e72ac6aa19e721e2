//! The primitives of [`Backend`], each at the size that it has in a LeNet-5 (128 samples, 10 directions) or, depthwise,
//! in a MobileNet.

use super::case::Ready;
use super::check::{Check, DEFINITION};
use crate::device::{Device, with_backend};
use crate::error::Result;
use crate::tensor::cpu::Cpu;
use crate::tensor::expression::Unary;
use crate::tensor::meter::Meter;
use crate::tensor::{Backend, Expr, Real, Shape, Window};
use crate::trial::{Array, Loaded, Primitive, Setting, entry, wait};
use std::cell::RefCell;
use std::sync::Arc;

const SAMPLES: usize = 128;
const DIRECTIONS: usize = 10;
/// Entries of a result that are computed by the definition.
const ENTRIES: usize = 256;

/// Name, a word on it, and the setting of every primitive.
pub(super) fn settings() -> Vec<(&'static str, &'static str, Setting)> {
    let square = Window::square;
    let conv = square(12, 8, 5, 1, 0);
    let pool = square(8, 4, 2, 2, 0);
    let depthwise = square(28, 28, 5, 1, 2);
    let many = |rest: &[usize]| Shape::new(SAMPLES, DIRECTIONS, rest);
    let primal = |rest: &[usize]| Shape::new(SAMPLES, 1, rest);
    let weights = |rest: &[usize]| Shape::new(1, 1, rest);
    let (x, w) = (primal(&[1, 6, 12, 12]), weights(&[16, 6, 5, 5]));
    let delta = many(&[1, 16, 8, 8]);
    let pooled = many(&[1, 16, 4, 4]);
    let value = primal(&[1, 16, 8, 8]);
    let dense = weights(&[120, 256]);
    let plane = Shape::new(8, 1, &[1, 144, 28, 28]);
    let planes = Shape::new(8, 2, &[1, 144, 28, 28]);
    let taps = weights(&[144, 1, 5, 5]);
    let indices = Shape::new(SAMPLES, 1, &[32]);
    let (wide, narrow) = (many(&[1, 256]), many(&[1, 120]));
    let half = many(&[1, 8, 8, 8]);
    let (table, looked_up) = (weights(&[1, 64, 48]), many(&[1, 32, 48]));
    let a = Expr::input(0);
    use Primitive as P;
    let list: Vec<(&str, &str, Primitive, Vec<&Shape>)> = vec![
        (
            "einsum-forward",
            "a linear layer 256 → 120, 10 directions",
            P::Einsum("sdti,sdoi->sdto"),
            vec![&wide, &dense],
        ),
        (
            "einsum-reverse",
            "its transpose",
            P::Einsum("sdto,sdoi->sdti"),
            vec![&narrow, &dense],
        ),
        (
            "conv",
            "6 → 16 channels, 5×5",
            P::Conv(conv.clone(), 1),
            vec![&x, &w],
        ),
        (
            "conv-inputs",
            "its transpose in the inputs, 10 directions",
            P::ConvInputs(conv.clone(), 1),
            vec![&delta, &w],
        ),
        (
            "conv-weights-rows",
            "its transpose in the weights, a row per sample and direction",
            P::ConvWeights(conv.clone(), 1, false),
            vec![&delta, &x],
        ),
        (
            "conv-weights-sum",
            "the same, summed over samples",
            P::ConvWeights(conv, 1, true),
            vec![&delta, &x],
        ),
        (
            "depthwise-conv",
            "144 channels of 28×28, 5×5, 8 samples",
            P::Conv(depthwise.clone(), 144),
            vec![&plane, &taps],
        ),
        (
            "depthwise-inputs",
            "its transpose in the inputs, 2 directions",
            P::ConvInputs(depthwise.clone(), 144),
            vec![&planes, &taps],
        ),
        (
            "depthwise-weights-rows",
            "its transpose in the weights, 2 directions",
            P::ConvWeights(depthwise, 144, false),
            vec![&planes, &plane],
        ),
        (
            "window-sum",
            "2×2 of 8×8",
            P::WindowSum(pool.clone()),
            vec![&delta],
        ),
        (
            "window-spread",
            "its transpose",
            P::WindowSpread(pool.clone()),
            vec![&pooled],
        ),
        (
            "gather",
            "10 directions at the maxima of 2×2",
            P::Gather(pool.clone()),
            vec![&delta, &value],
        ),
        (
            "scatter",
            "its transpose",
            P::Scatter(pool),
            vec![&pooled, &value],
        ),
        (
            "map-tanh",
            "tanh at 1.3 million positions",
            P::Map(a.clone().unary(Unary::Tanh)),
            vec![&delta],
        ),
        (
            "map-product",
            "10 directions times a value",
            P::Map(a * Expr::input(1)),
            vec![&delta, &value],
        ),
        (
            "reduce-positions",
            "sums over 8×8",
            P::ReduceSum(vec![4, 5]),
            vec![&delta],
        ),
        (
            "reduce-samples",
            "sums over 128 samples",
            P::ReduceSum(vec![0]),
            vec![&delta],
        ),
        (
            "permute",
            "channels last",
            P::Permute(vec![0, 2, 3, 1]),
            vec![&delta],
        ),
        (
            "slice",
            "8 of 16 channels",
            P::Slice(3, 3, 11),
            vec![&delta],
        ),
        (
            "embed",
            "8 channels among 16",
            P::Embed(3, 3, 16),
            vec![&half],
        ),
        (
            "take",
            "32 of 64 rows of a table for each sample",
            P::Take(3),
            vec![&table, &indices],
        ),
        (
            "put",
            "its transpose, 10 directions, summed over samples",
            P::Put(3, 0..64, true),
            vec![&looked_up, &indices],
        ),
        (
            "concat",
            "16 and 16 channels",
            P::Concat(3),
            vec![&delta, &delta],
        ),
        (
            "broadcast",
            "3 times",
            P::Broadcast(vec![3, 16, 8, 8]),
            vec![&value],
        ),
    ];
    let setting = |(name, about, primitive, shapes): (_, _, _, Vec<&Shape>)| {
        let shapes = shapes.into_iter().cloned().collect();
        (name, about, Setting { primitive, shapes })
    };
    list.into_iter().map(setting).collect()
}

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
        for (name, _, setting) in settings() {
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
        let (_, _, setting) = &settings()[0];
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
