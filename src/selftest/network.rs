//! Small networks with data and loss: blocks of G and of H, gradient, products, diagonal, as a user asks for them.

use super::compare::Part;
use super::draft::{Draft, SUMS};
use super::transformer::transformer;
use crate::control::Control;
use crate::error::{Error, Result};
use crate::import::data::{ArraySource, Dataset};
use crate::loss::{BinaryCrossEntropy, CrossEntropy, Curvature, Loss, Reduction, SquaredError};
use crate::network::Network;
use crate::network::builder::{Builder, Window2d};
use crate::operator;
use crate::plan::Limits;
use crate::random::Draws;
use crate::tensor::{Contract, Real};
use crate::{Block, Device, Part as MatrixPart, Precision, Session};
use ndarray::{ArrayD, IxDyn};

const SAMPLES: usize = 7;

/// A network.
#[derive(Clone, Copy, Debug)]
enum Model {
    /// Linear layers.
    Mlp,
    /// Convolutions, a batch norm, pools.
    Conv,
    /// A residual connection, with squared error.
    Residual,
    /// Strides, groups and depthwise, with a logistic loss.
    Depthwise,
    /// Tokens, attention, layer norm.
    Transformer,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
enum Task {
    Whole(Curvature),
    Layers(Curvature),
    Diagonal(Curvature),
    Product(Curvature),
    Gradient,
}

/// A network with what is asked of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Problem {
    model: Model,
    task: Task,
}

impl Model {
    fn network(self) -> Result<Network> {
        match self {
            Model::Mlp => Builder::new(&[11])
                .linear("first", 17)
                .tanh()
                .linear_without_bias("second", 13)
                .softplus()
                .linear("head", 5)
                .initialize(1)
                .build(),
            Model::Conv => Builder::new(&[3, 11, 9])
                .conv2d("conv", 5, Window2d::new(3).padding(1))
                .batch_norm2d("norm")
                .tanh()
                .max_pool2d(Window2d::new(3).stride(2).padding(1))
                .conv2d("mix", 4, Window2d::new(2).dilation(2))
                .sigmoid()
                .avg_pool2d(Window2d::new(2))
                .flatten()
                .linear("head", 5)
                .initialize(2)
                .build(),
            Model::Residual => Builder::new(&[13])
                .linear("first", 13)
                .elu(1.0)
                .mark("in")
                .linear("second", 13)
                .leaky_relu(0.1)
                .add("in")
                .linear("head", 3)
                .initialize(3)
                .build(),
            Model::Depthwise => Builder::new(&[4, 9, 7])
                .conv2d_without_bias("depthwise", 8, Window2d::new(3).padding(1).groups(4))
                .softplus()
                .conv2d("grouped", 6, Window2d::new(3).stride(2).groups(2))
                .relu()
                .global_avg_pool2d()
                .flatten()
                .linear("head", 3)
                .initialize(4)
                .build(),
            Model::Transformer => transformer(),
        }
    }

    fn loss(self) -> Box<dyn Loss> {
        match self {
            Model::Residual => Box::new(SquaredError::new(Reduction::Sum)),
            Model::Depthwise => Box::new(BinaryCrossEntropy::new(Reduction::Mean)),
            _ => Box::new(CrossEntropy::new(Reduction::Mean)),
        }
    }

    /// Made-up data, the same on every machine.
    fn session(self) -> Result<Session> {
        let network = self.network()?;
        let (input, outputs) = (&network.inputs[0], network.outputs());
        let mut shape = input.rest.clone();
        shape[0] = SAMPLES;
        let values = numbers(500, shape.iter().product());
        let inputs = match input.limit {
            Some(limit) => {
                let row = |v: f64| ((v + 1.0) / 2.0 * limit as f64) as i64;
                array(&shape, values.into_iter().map(row).collect())?
            }
            None => array(&shape, values)?,
        };
        let targets = match self {
            Model::Residual => array(&[SAMPLES, outputs], numbers(501, SAMPLES * outputs))?,
            Model::Depthwise => {
                let half = |v: f64| if v > 0.0 { 1.0 } else { 0.0 };
                let values = numbers(501, SAMPLES * outputs).into_iter().map(half);
                array(&[SAMPLES, outputs], values.collect::<Vec<f64>>())?
            }
            _ => {
                let class = |k: usize| (k % outputs) as i64;
                array(&[SAMPLES], (0..SAMPLES).map(class).collect::<Vec<i64>>())?
            }
        };
        Session::builder(network)
            .data(Dataset::from_arrays(inputs, targets))
            .boxed_loss(self.loss())
            .device(Device::cpu(Precision::F64))
            .build()
    }
}

/// `count` numbers in −1..1 that single precision holds.
fn numbers(stream: u64, count: usize) -> Vec<f64> {
    let mut draws = Draws::new(0, stream, 0);
    let draw = |_| f64::from((2.0 * draws.uniform() - 1.0) as f32);
    (0..count).map(draw).collect()
}

fn array<T>(shape: &[usize], values: Vec<T>) -> Result<ArraySource>
where
    ArraySource: From<ArrayD<T>>,
{
    let array = ArrayD::from_shape_vec(IxDyn(shape), values);
    Ok(array.map_err(|e| Error::Shape(e.to_string()))?.into())
}

impl Problem {
    pub fn run<B: Contract>(&self, backend: &B) -> Result<Vec<Part>> {
        let session = self.model.session()?;
        let (part, curvature) = match self.task {
            Task::Whole(curvature) => (Some(MatrixPart::Full), curvature),
            Task::Layers(curvature) => (Some(MatrixPart::Layers), curvature),
            Task::Diagonal(curvature) => (Some(MatrixPart::Diagonal), curvature),
            Task::Product(curvature) => (None, curvature),
            Task::Gradient => (None, Curvature::Ggn),
        };
        let operator = session.operator(curvature);
        if let Some(part) = part {
            let blocks = operator
                .parts([part])?
                .arrays_on::<B, B::Real>(&[backend])?;
            let part = |block: Block<B::Real>| {
                let values = block.array.iter().map(|v| v.to_f64()).collect();
                Part::new(block.name, values)
            };
            return Ok(blocks.into_iter().map(part).collect());
        }
        let limits = Limits {
            device: 1 << 30,
            host: 1 << 30,
            held: 0,
            sharing: 1,
            tensor: backend.largest_tensor(),
            unified: true,
        };
        let (work, control) = (operator.work(), Control::none());
        if let Task::Gradient = self.task {
            let gradient = operator::gradient(backend, &work, limits, None, &control)?;
            let loss = Part::new("loss", vec![gradient.loss]);
            return Ok(vec![Part::new("gradient", gradient.values), loss]);
        }
        let vector = numbers(502, session.network().parameter_count());
        let product = operator::product(backend, &work, &vector, limits, None, &control)?;
        Ok(vec![Part::new("product", product)])
    }
}

pub(super) fn drafts() -> Vec<Draft<Problem>> {
    let (ggn, exact) = (Curvature::Ggn, Curvature::Exact);
    let tasks = [
        ("gradient", Task::Gradient),
        ("G", Task::Whole(ggn)),
        ("H", Task::Whole(exact)),
        ("G·v", Task::Product(ggn)),
        ("H·v", Task::Product(exact)),
        ("diagonal of G", Task::Diagonal(ggn)),
    ];
    let mut drafts = Vec::new();
    let mut add = |subject: &str, model, about: &str, task| {
        drafts.push(Draft::new(subject, about, SUMS, Problem { model, task }));
    };
    for (subject, model) in [
        ("mlp", Model::Mlp),
        ("conv", Model::Conv),
        ("residual", Model::Residual),
        ("depthwise", Model::Depthwise),
        ("transformer", Model::Transformer),
    ] {
        for (about, task) in tasks {
            add(subject, model, about, task);
        }
    }
    let (residual, fisher) = (Curvature::Residual, Curvature::EmpiricalFisher);
    add("mlp", Model::Mlp, "blocks of H - G", Task::Layers(residual));
    add(
        "conv",
        Model::Conv,
        "blocks of the Fisher matrix",
        Task::Layers(fisher),
    );
    drafts
}
