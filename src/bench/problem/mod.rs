//! Networks with data, and what is asked of them: blocks, gradient, products, diagonal.
//!
//! Everything is made here from counters, so that it is the same on every machine; nothing is read from disk.

#[cfg(test)]
mod tests;

use crate::bench::check::{Check, DEFINITION, QUOTIENT};
use crate::bench::model::{CLASSES, Model};
use crate::bench::primitive::compared;
use crate::bench::ready::Ready;
use crate::control::Control;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::import::data::{ArraySource, Dataset};
use crate::loss::{CrossEntropy, Curvature};
use crate::operator;
use crate::plan::Limits;
use crate::plan::RunOptions;
use crate::plan::tiles::Grid;
use crate::precision::Precision;
use crate::random::Draws;
use crate::tensor::meter::Meter;
use crate::{Number, Part, Session};
use ndarray::{Array1, ArrayD, IxDyn};
use std::ops::Range;

/// Entries that are computed by the definition.
const ENTRIES: usize = 8;

/// What is asked.
#[derive(Clone, Debug)]
pub(in crate::bench) enum Task {
    /// A layer's block.
    Layer(&'static str),
    /// Any rectangle.
    Rectangle(Range<usize>, Range<usize>),
    Gradient,
    /// The product with one vector.
    Product(Curvature),
    Diagonal,
}

/// A network with what is asked of it.
#[derive(Clone, Debug)]
pub(in crate::bench) struct Problem {
    pub model: Model,
    pub samples: usize,
    pub task: Task,
}

/// The name of a case, a word on it, and the problem.
type Named = (&'static str, &'static str, Problem);

/// Returns all of them, in order.
pub(in crate::bench) fn problems() -> Vec<Named> {
    let mut list = Vec::from(contractions());
    list.extend(lenet5());
    list.extend(resnet20());
    list
}

/// Blocks of a network of a convolution and a linear layer, whose factors are the largest part of the work.
fn contractions() -> [Named; 3] {
    // The flat order of the network: conv.weight 16·6·5·5 and conv.bias 16, then dense.weight 120·256.
    const CONV: Range<usize> = 0..2400;
    const DENSE: Range<usize> = 2416..2416 + 4096;
    let factors = |rows, columns| Problem {
        model: Model::Factors,
        samples: 128,
        task: Task::Rectangle(rows, columns),
    };
    [
        (
            "contraction/outer-outer",
            "4096² of a linear layer's block, 128 samples",
            factors(DENSE, DENSE),
        ),
        (
            "contraction/outer-dense",
            "4096 × 2400 between a linear layer and a convolution",
            factors(DENSE, CONV),
        ),
        (
            "contraction/dense-dense",
            "2400² of a convolution's block",
            factors(CONV, CONV),
        ),
    ]
}

fn lenet5() -> [Named; 9] {
    // dense1 comes after conv1 (156) and conv2 (2,416), and has 120·256 + 120.
    const DENSE1: Range<usize> = 2572..2572 + 30_840;
    let rows = DENSE1.start..DENSE1.start + 1024;
    let lenet = |task| Problem {
        model: Model::Lenet5,
        samples: 128,
        task,
    };
    let layer = |name| lenet(Task::Layer(name));
    [
        (
            "lenet5/conv1",
            "G's block, 156²; LeNet-5 with tanh, p = 44,426, 128 samples",
            layer("conv1"),
        ),
        ("lenet5/conv2", "2,416²", layer("conv2")),
        (
            "lenet5/dense1-rows",
            "1,024 rows of 30,840²",
            lenet(Task::Rectangle(rows, DENSE1)),
        ),
        ("lenet5/dense2", "10,164²", layer("dense2")),
        ("lenet5/dense3", "850²", layer("dense3")),
        ("lenet5/gradient", "the gradient", lenet(Task::Gradient)),
        (
            "lenet5/ggn-product",
            "G·v",
            lenet(Task::Product(Curvature::Ggn)),
        ),
        (
            "lenet5/hessian-product",
            "H·v",
            lenet(Task::Product(Curvature::Exact)),
        ),
        (
            "lenet5/diagonal",
            "the diagonal of G",
            lenet(Task::Diagonal),
        ),
    ]
}

fn resnet20() -> [Named; 9] {
    let resnet = |task| Problem {
        model: Model::Resnet20,
        samples: 16,
        task,
    };
    let layer = |name| resnet(Task::Layer(name));
    [
        (
            "resnet20/stem",
            "G's block, 432²; ResNet-20 with ReLU, p = 272,474, 16 samples of 3×32×32",
            layer("stem.conv"),
        ),
        (
            "resnet20/conv16",
            "a convolution 16 → 16, 2,304²",
            layer("stage1.1.conv1"),
        ),
        (
            "resnet20/conv32",
            "a convolution 16 → 32 of stride 2, 4,608²",
            layer("stage2.0.conv1"),
        ),
        (
            "resnet20/norm",
            "scales and shifts of a batch norm, 32²",
            layer("stage1.1.norm1"),
        ),
        ("resnet20/head", "650²", layer("head")),
        ("resnet20/gradient", "the gradient", resnet(Task::Gradient)),
        (
            "resnet20/ggn-product",
            "G·v",
            resnet(Task::Product(Curvature::Ggn)),
        ),
        (
            "resnet20/hessian-product",
            "H·v",
            resnet(Task::Product(Curvature::Exact)),
        ),
        (
            "resnet20/diagonal",
            "the diagonal of G",
            resnet(Task::Diagonal),
        ),
    ]
}

/// `count` numbers in −1..1 that single precision holds.
fn numbers(stream: u64, count: usize) -> Vec<f64> {
    let mut draws = Draws::new(0, stream, 0);
    let draw = |_| f64::from((2.0 * draws.uniform() - 1.0) as f32);
    (0..count).map(draw).collect()
}

impl Problem {
    /// Network, made-up images and labels, cross-entropy.
    fn session(&self) -> Result<Session> {
        let network = self.model.network()?;
        let mut shape = network.inputs[0].rest.clone();
        shape[0] = self.samples;
        let values = numbers(100, shape.iter().product());
        let labels = (0..self.samples).map(|k| (k % CLASSES) as i64).collect();
        let unfit = |e: ndarray::ShapeError| Error::Shape(e.to_string());
        let images = ArrayD::from_shape_vec(IxDyn(&shape), values).map_err(unfit)?;
        let labels = ArrayD::from_shape_vec(IxDyn(&[self.samples]), labels).map_err(unfit)?;
        let data = Dataset::from_arrays(ArraySource::from(images), ArraySource::from(labels));
        Session::builder(network)
            .data(data)
            .loss(CrossEntropy::mean())
            .device(Device::cpu(Precision::F64))
            .build()
    }

    /// The matrix that the task is about.
    fn curvature(&self) -> Curvature {
        match self.task {
            Task::Product(curvature) => curvature,
            _ => Curvature::Ggn,
        }
    }

    /// The part that is asked for, where one is.
    fn part(&self) -> Option<Part> {
        match &self.task {
            Task::Layer(name) => Some(Part::layer(*name)),
            Task::Rectangle(rows, columns) => Some(Part::range(rows.clone(), columns.clone())),
            Task::Diagonal => Some(Part::Diagonal),
            Task::Gradient | Task::Product(_) => None,
        }
    }

    /// The session with the part that is asked for, where one is.
    pub(in crate::bench) fn request(&self) -> Result<Option<(Session, Part)>> {
        let Some(part) = self.part() else {
            return Ok(None);
        };
        Ok(Some((self.session()?, part)))
    }

    pub(in crate::bench) fn open(&self) -> Result<Opened> {
        let session = self.session()?;
        let p = session.network().parameter_count();
        Ok(Opened {
            problem: self.clone(),
            session,
            vector: numbers(101, p).into(),
        })
    }
}

/// A problem with its data.
pub(in crate::bench) struct Opened {
    problem: Problem,
    session: Session,
    /// The vector that products multiply, `[p]`.
    vector: Array1<f64>,
}

impl Opened {
    fn part(&self) -> Option<Part> {
        self.problem.part()
    }

    /// The flat indices of the block's rows and columns.
    fn indices(&self) -> (Vec<usize>, Vec<usize>) {
        let network = self.session.network();
        match &self.problem.task {
            Task::Layer(name) => {
                let layers = network.layers();
                let own = layers.iter().filter(|layer| layer.name == *name);
                let rows: Vec<usize> = own.flat_map(|l| network.ranges(l)).flatten().collect();
                (rows.clone(), rows)
            }
            Task::Rectangle(rows, columns) => (rows.clone().collect(), columns.clone().collect()),
            _ => ((0..network.parameter_count()).collect(), vec![0]),
        }
    }

    /// Operations, and the numbers of the result where writing them is a good part of the work.
    pub(in crate::bench) fn work(&self) -> Result<(u64, Option<u64>)> {
        let control = Control::none();
        let operator = self.session.operator(self.problem.curvature());
        if let Some(part) = self.part() {
            let parts = operator.parts([part])?.resolved().to_vec();
            let options = RunOptions::default();
            let plan = operator.plan_within(
                parts,
                Precision::F32,
                Limits::ENDLESS,
                options,
                Grid::Whole,
            )?;
            let diagonal = matches!(self.problem.task, Task::Diagonal);
            let entries = u64::try_from(plan.entries()).ok().filter(|_| !diagonal);
            return Ok((plan.operations(), entries));
        }
        // What has no plan is run on shapes alone.
        let (meter, work) = (Meter::new(4), operator.work());
        if let Task::Product(_) = self.problem.task {
            let vector = self.vector.as_slice().unwrap_or_default();
            operator::product(&meter, &work, vector, Limits::ENDLESS, None, &control)?;
        } else {
            operator::gradient(&meter, &work, Limits::ENDLESS, None, &control)?;
        }
        Ok((meter.operations(), None))
    }

    /// The numbers on the session's device, in its own precision where they are entries of a matrix.
    fn run<R: Number, T>(
        &self,
        session: &Session,
        take: impl FnOnce(Numbers<'_, R>) -> T,
    ) -> Result<T> {
        let operator = session.operator(self.problem.curvature());
        Ok(match (&self.problem.task, self.part()) {
            (Task::Diagonal, _) => take(doubles(&operator.diagonal()?)),
            (Task::Product(_), _) => take(doubles(&operator.apply(self.vector.view())?)),
            (_, Some(part)) => {
                let blocks = operator.parts([part])?.to_arrays::<R>()?;
                let block = blocks.first().and_then(|block| block.array.as_slice());
                take(Numbers::Own(block.unwrap_or_default()))
            }
            (_, None) => take(Numbers::Double(&session.gradient()?.values)),
        })
    }

    pub(in crate::bench) fn reference(&self) -> Result<Vec<f64>> {
        let session = self.session.with_device(Device::cpu(Precision::F64));
        self.run::<f64, _>(&session, |numbers| match numbers {
            Numbers::Own(values) | Numbers::Double(values) => values.to_vec(),
        })
    }

    pub(in crate::bench) fn on<'a>(&'a self, device: &Device) -> Box<dyn Ready + 'a> {
        Box::new(Placed {
            opened: self,
            session: self.session.with_device(device.clone()),
        })
    }

    /// Some numbers of CPU f64's result straight from the definition: entries by forward mode, which shares neither
    /// factors nor reverse passes with it; for the gradient, the loss's difference quotient.
    pub(in crate::bench) fn definition(&self, found: &[f64]) -> Result<Check> {
        let largest = found.iter().fold(0.0f64, |most, v| most.max(v.abs()));
        let places = places(found);
        let control = Control::none();
        let session = &self.session;
        let (expected, tolerance) = match &self.problem.task {
            Task::Gradient => return self.quotient(found),
            Task::Product(curvature) => {
                let (p, second) = (found.len(), *curvature != Curvature::Ggn);
                let mut left = vec![0.0; places.len() * p];
                for (k, &place) in places.iter().enumerate() {
                    left[k * p + place] = 1.0;
                }
                let right: Vec<f64> = places
                    .iter()
                    .flat_map(|_| self.vector.iter().copied())
                    .collect();
                let device = Device::cpu(Precision::F64);
                let limits = device.limits(RunOptions::default());
                let cpu = crate::tensor::cpu::Cpu::<f64>::new();
                let operator = session.operator(*curvature);
                let work = operator.work();
                let forms = operator::forms(
                    &cpu,
                    &work,
                    operator::Pairs {
                        left: &left,
                        right: &right,
                    },
                    second,
                    (limits, None),
                    &control,
                )?;
                let value = |form: operator::Form| if second { form.exact() } else { form.ggn };
                (forms.into_iter().map(value).collect(), DEFINITION)
            }
            task => {
                let (rows, columns) = self.indices();
                if rows.len() * columns.len() != found.len() {
                    return Ok(Check::failed(format!(
                        "{} numbers, not {} × {}",
                        found.len(),
                        rows.len(),
                        columns.len()
                    )));
                }
                let pair = |&place: &usize| match task {
                    Task::Diagonal => (place, place),
                    _ => (rows[place / columns.len()], columns[place % columns.len()]),
                };
                let pairs: Vec<(usize, usize)> = places.iter().map(pair).collect();
                (session.ggn().entries(&pairs)?, DEFINITION)
            }
        };
        let pairs = places.iter().map(|&place| found[place]).zip(expected);
        Ok(Check::scaled(pairs, largest, tolerance))
    }

    /// gᵀv against (ℓ(w + hv) − ℓ(w − hv)) / 2h along a direction in which every entry of g counts.
    fn quotient(&self, gradient: &[f64]) -> Result<Check> {
        let session = &self.session;
        let here = session.network().parameter_values();
        if here.len() != gradient.len() {
            return Ok(Check::failed(format!(
                "{} numbers, not {}",
                gradient.len(),
                here.len()
            )));
        }
        let norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
        let weights = self.vector.iter();
        let direction: Vec<f64> = gradient
            .iter()
            .zip(weights)
            .map(|(g, r)| g * (1.0 + 0.5 * r) / norm)
            .collect();
        // ReLU's kinks make a longer step wrong by more: 3e-5 at 1e-5, for ResNet-20 and 3 samples.
        let step = 1e-7;
        let loss = |sign: f64| {
            let moved: Vec<f64> = here
                .iter()
                .zip(&direction)
                .map(|(w, v)| w + sign * step * v)
                .collect();
            Ok(session.with_parameters(&moved)?.gradient()?.loss)
        };
        let quotient: Result<f64> = (|| Ok((loss(1.0)? - loss(-1.0)?) / (2.0 * step)))();
        let along = gradient.iter().zip(&direction).map(|(g, v)| g * v).sum();
        Ok(Check::of(std::iter::once((along, quotient?)), QUOTIENT))
    }
}

/// Some places, the same on every machine, and that of the largest number.
fn places(found: &[f64]) -> Vec<usize> {
    let mut draws = Draws::new(0, 102, 0);
    let draw = |_| (draws.uniform() * found.len() as f64) as usize;
    let mut places: Vec<usize> = (0..ENTRIES - 1).map(draw).collect();
    places.extend((0..found.len()).max_by(|&a, &b| found[a].abs().total_cmp(&found[b].abs())));
    places.retain(|&place| place < found.len());
    places
}

/// What a problem gives.
enum Numbers<'a, R> {
    /// Entries in the backend's precision.
    Own(&'a [R]),
    /// Sums that were widened.
    Double(&'a [f64]),
}

fn doubles<R>(values: &Array1<f64>) -> Numbers<'_, R> {
    Numbers::Double(values.as_slice().unwrap_or_default())
}

/// A problem on a device.
struct Placed<'a> {
    opened: &'a Opened,
    session: Session,
}

impl Placed<'_> {
    fn run<T>(&self, take: impl FnOnce(&dyn Taken) -> T) -> Result<T> {
        let (opened, session) = (self.opened, &self.session);
        match session.device().precision() {
            Precision::F32 => opened.run::<f32, _>(session, |numbers| take(&numbers)),
            Precision::F64 => opened.run::<f64, _>(session, |numbers| take(&numbers)),
        }
    }
}

/// Numbers in either precision.
trait Taken {
    fn compared(&self, reference: &[f64], tolerance: f64) -> Check;
    fn last(&self) -> Option<f64>;
}

impl<R: Number> Taken for Numbers<'_, R> {
    fn compared(&self, reference: &[f64], tolerance: f64) -> Check {
        match self {
            Numbers::Own(values) => compared(values, reference, tolerance),
            Numbers::Double(values) => compared(values, reference, tolerance),
        }
    }

    fn last(&self) -> Option<f64> {
        match self {
            Numbers::Own(values) => values.last().map(|v| v.to_f64()),
            Numbers::Double(values) => values.last().copied(),
        }
    }
}

impl Ready for Placed<'_> {
    fn check(&self, reference: &[f64], tolerance: f64) -> Result<Check> {
        self.run(|numbers| numbers.compared(reference, tolerance))
    }

    fn start(&self) -> Result<()> {
        self.run(|numbers| {
            std::hint::black_box(numbers.last());
        })
    }

    /// A session's calls wait themselves.
    fn wait(&self) -> Result<()> {
        Ok(())
    }
}
