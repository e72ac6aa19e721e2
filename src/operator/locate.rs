//! Where numbers stop being finite: the first operation and the first sample, found on the CPU after the fact.
//!
//! A run only sees that its result is spoilt, and on a GPU NaN need not even survive from one kernel to the next. So what is
//! spoilt is computed again in the same precision on the CPU, pass by pass, and every value is looked at: the forward
//! pass, its tangents, then the reverse pass and the tangents of that.

use super::stream::{Stream, along, blank};
use crate::control::Control;
use crate::error::Result;
use crate::jacobian::passes::{Passes, Reach, Seen, Weights};
use crate::jacobian::seeds::dual_seed;
use crate::loss::Curvature;
use crate::network::Network;
use crate::plan::Limits;
use crate::run::Problem;
use crate::tensor::cpu::Cpu;
use crate::tensor::dual::{Dual, DualTensor};
use crate::tensor::{Backend, Real, Shape};
use std::fmt;

/// Which number of an operation is not finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Its value.
    Value,
    /// Its derivative.
    First,
    /// Its second derivative.
    Second,
}

/// The first number that is not finite.
#[derive(Clone, Debug, PartialEq)]
pub struct NonFinite {
    /// Name of the node.
    pub node: String,
    /// The file's word for its operation.
    pub operation: String,
    /// Whether it is the value or a derivative.
    pub order: Order,
    /// Index of the sample in the data; `None` where the number is not one sample's.
    pub sample: Option<usize>,
    /// The number: NaN or an infinity.
    pub value: f64,
}

impl fmt::Display for NonFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.order {
            Order::Value => "",
            Order::First => "the derivative of ",
            Order::Second => "the second derivative of ",
        };
        write!(
            f,
            "{what}node {:?} ({}) is {}",
            self.node, self.operation, self.value
        )?;
        match self.sample {
            Some(sample) => write!(f, " for sample {sample}"),
            None => Ok(()),
        }
    }
}

/// Position among the samples, and the number, of the first that is not finite.
fn bad<B: Backend>(backend: &B, tensor: &B::Tensor) -> Result<Option<(Option<usize>, f64)>> {
    let samples = backend.shape(tensor).samples;
    let values = backend.read(tensor)?;
    let each = (values.len() / samples.max(1)).max(1);
    let mut numbers = values.iter().map(|v| v.to_f64()).enumerate();
    let found = numbers.find(|(_, v)| !v.is_finite());
    Ok(found.map(|(at, value)| ((samples > 1).then_some(at / each), value)))
}

/// What was found so far, among the samples from `first` on.
struct Watch<'a, B> {
    backend: &'a B,
    network: &'a Network,
    /// Absolute index of the chunk's first sample, and how many it has.
    samples: (usize, usize),
    found: Result<Option<NonFinite>>,
}

impl<B: Backend> Watch<'_, B> {
    /// Looks at a tensor of node `k`, unless something was found before.
    fn look(&mut self, k: usize, order: Order, tensor: Option<&B::Tensor>) {
        let (Some(tensor), Ok(None)) = (tensor, &self.found) else {
            return;
        };
        self.found = bad(self.backend, tensor).map(|bad| {
            let (sample, value) = bad?;
            let node = &self.network.nodes[k];
            // A chunk of one sample has tensors of one sample, whatever they depend on.
            let sample = sample.or((self.samples.1 == 1).then_some(0));
            Some(NonFinite {
                node: node.name.clone(),
                operation: node.operation.clone(),
                order,
                sample: sample.map(|k| self.samples.0 + k),
                value,
            })
        });
    }
}

/// The first number that is not finite in the passes that make the gradient and, where `second`, second derivatives; `None`
/// where all are finite, as when only a sum of them overflows.
///
/// # Errors
/// What the data reports.
pub fn locate<R: Real>(
    work: &Problem<'_>,
    second: bool,
    limits: Limits,
    control: &Control<'_>,
) -> Result<Option<NonFinite>> {
    let backend = &Cpu::<R>::new();
    let network = work.network;
    let reach = Reach::new(network, vec![true; network.parameters.len()]);
    let stream = Stream::fit(
        work,
        1,
        None,
        limits,
        size_of::<R>(),
        |meter, inputs, group| {
            let weights = blank(meter, network, group);
            let inputs = inputs.into_iter().map(DualTensor::constant).collect();
            let dual = Dual { inner: meter };
            let passes = Passes::new(&dual, network, &weights, &reach);
            let activations = passes.forward(inputs);
            let seed = meter.fill(&Shape::new(1, group, network.rest(network.output)), 0.0);
            let seed = DualTensor::constant(seed);
            passes.backward(&activations, seed, |_, _| {});
        },
    )?;
    let primal = Weights::upload(backend, network);
    let ones = vec![1.0; network.parameter_count()];
    let weights = along(backend, network, &primal, &ones);
    let mut found = None;
    let quiet = Control::stopped_by(control.cancel);
    stream.each(
        work,
        1,
        &quiet,
        |_| (),
        |(), _, chunk| {
            if found.is_some() {
                return Ok(());
            }
            let mut watch = Watch {
                backend,
                network,
                samples: (chunk.first, chunk.range.len()),
                found: Ok(None),
            };
            let inputs = work.upload(backend, chunk.range.clone())?;
            let dual = Dual { inner: backend };
            let passes = Passes::new(&dual, network, &weights, &reach);
            let inputs = inputs.into_iter().map(DualTensor::constant).collect();
            let seed = |output: &Doubled<R>| {
                let loss = work.lenient_hessian(Curvature::Exact);
                dual_seed(backend, &loss, &chunk.targets, chunk.first, output)
            };
            let seed = work.loss.has_gradient().then_some(seed);
            found = watched(&passes, inputs, second, &mut watch, seed)?;
            Ok(())
        },
    )?;
    Ok(found)
}

type Doubled<R> = DualTensor<<Cpu<R> as Backend>::Tensor>;

/// Runs the forward pass and, where there is a `seed` for it, the reverse pass, and looks at every value.
fn watched<R: Real>(
    passes: &Passes<'_, Dual<'_, Cpu<R>>>,
    inputs: Vec<Doubled<R>>,
    second: bool,
    watch: &mut Watch<'_, Cpu<R>>,
    seed: Option<impl FnOnce(&Doubled<R>) -> Result<Doubled<R>>>,
) -> Result<Option<NonFinite>> {
    let mut tangents = Vec::new();
    let first = passes.network.inputs.len();
    let activations = passes.forward_with(
        inputs,
        |value, tensor: Doubled<R>| {
            watch.look(value - first, Order::Value, Some(&tensor.primal));
            if let Ok(None) = &watch.found {
                // Looked at once all values are known to be finite: a value comes before any derivative.
                tangents.push((value - first, tensor.tangent.clone()));
            }
            tensor
        },
        |tensor| tensor,
    );
    if !matches!(watch.found, Ok(None)) {
        return std::mem::replace(&mut watch.found, Ok(None));
    }
    for (k, tangent) in tangents {
        watch.look(k, Order::First, tangent.as_ref());
    }
    if let (Ok(None), Some(seed)) = (&watch.found, seed) {
        let seed = seed(&activations.output)?;
        let at = std::cell::Cell::new(0);
        let watch = std::cell::RefCell::new(&mut *watch);
        let look = |k: usize, tensor: &Doubled<R>| {
            let mut watch = watch.borrow_mut();
            watch.look(k, Order::First, Some(&tensor.primal));
            if second {
                watch.look(k, Order::Second, tensor.tangent.as_ref());
            }
        };
        passes.backward_watched(
            &activations,
            seed,
            |_, site| look(at.get(), &site.sum(passes.backend)),
            |k, seen| {
                at.set(k);
                if let Seen::Cotangent(_, cotangent) = seen {
                    look(k, cotangent);
                }
            },
        );
    }
    std::mem::replace(&mut watch.found, Ok(None))
}
