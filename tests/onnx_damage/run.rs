//! A network that came out of a file runs: forward, backward and to a part of its Hessian.

use hessblock::data::Dataset;
use hessblock::internals::jacobian::passes::{Passes, Reach, Weights};
use hessblock::internals::ops::Op;
use hessblock::internals::tensor::cpu::Cpu;
use hessblock::internals::tensor::{Backend, HostSlice, Shape};
use hessblock::loss::SquaredError;
use hessblock::network::inspect::inspect;
use hessblock::network::{Input, Network, Node, Operand};
use hessblock::{Device, Part, Precision, Session};
use ndarray::ArrayD;

const SAMPLES: usize = 2;

fn elements(shape: &[usize]) -> usize {
    shape.iter().fold(1, |all, &d| all.saturating_mul(d))
}

/// Multiplications of a node, more or less.
fn work(network: &Network, node: &Node) -> usize {
    let operands = node.inputs.iter().map(|&i| match i {
        Operand::Value(v) => elements(network.rest(v)),
        other => elements(network.operand_rest(other)),
    });
    let operands: Vec<usize> = operands.collect();
    let all = operands
        .iter()
        .fold(0usize, |all, &n| all.saturating_add(n));
    let result = elements(&node.rest);
    match &node.op {
        Op::Conv(_) | Op::ConvTranspose(_) | Op::Linear(_) | Op::Einsum(_) => {
            let least = operands.iter().copied().min().unwrap_or(1);
            all.max(result).saturating_mul(least)
        }
        Op::WindowSum(pool) => result.saturating_mul(elements(&pool.window.kernel)),
        Op::MaxPool(pool) => result.saturating_mul(elements(&pool.window.kernel)),
        Op::Take(take) => result.saturating_mul(take.indices.len().min(64)),
        _ => result.saturating_add(all),
    }
}

/// What is said of any network, however large.
pub fn describe(network: &Network) {
    let table = inspect(network);
    let _ = (table.to_string(), table.to_json());
}

/// Whether running it costs little, by its shapes.
pub fn small(network: &Network) -> bool {
    let inputs = network.inputs.iter().map(|i| elements(&i.rest));
    let held = network.parameters.iter().map(|p| p.data.len());
    let held = held.chain(network.constants.iter().map(|c| c.len()));
    let values = network.nodes.iter().map(|n| elements(&n.rest));
    let sum = |sum: usize, n: usize| sum.saturating_add(n);
    let values = inputs.chain(held).chain(values).fold(0, sum);
    let work = network.nodes.iter().map(|n| work(network, n)).fold(0, sum);
    values <= 200_000 && work <= 5_000_000 && network.outputs() <= 1_000
}

/// Numbers in −1..1, or those of tokens.
fn numbers(shape: &[usize], limit: Option<usize>) -> ArrayD<f64> {
    let count = elements(shape);
    let number = |k: usize| match limit {
        Some(limit) => (k * 7 % limit.clamp(1, 5)) as f64,
        None => (k as f64 * 0.7 + 0.3).sin(),
    };
    let values = (0..count).map(number).collect();
    ArrayD::from_shape_vec(shape.to_vec(), values).expect("as many as the shape says")
}

fn tokens(input: &Input) -> Option<usize> {
    input.integer.then(|| input.limit.unwrap_or(2))
}

/// A network without parameters has outputs and nothing else.
fn run_forward(network: &Network) {
    let backend = Cpu::<f32>::new();
    let weights = Weights::upload(&backend, network);
    let given = network.data_inputs().iter().map(|input| {
        let shape = Shape::new(SAMPLES, 1, &input.rest);
        numbers(&shape.axes(), tokens(input))
            .into_raw_vec_and_offset()
            .0
    });
    let Ok(inputs) = network.with_derived(given.collect(), SAMPLES, 0) else {
        return;
    };
    let inputs = network.inputs.iter().zip(inputs).map(|(input, values)| {
        let shape = Shape::new(SAMPLES, 1, &input.rest);
        backend.upload(&shape, HostSlice::F64(&values))
    });
    let reach = Reach::forward_only(network);
    Passes::new(&backend, network, &weights, &reach).forward(inputs.collect());
}

/// Runs a small network with a squared error. What a user may be told of (numbers that are not finite, an output
/// that no loss takes) is no fault; a panic is.
///
/// # Errors
/// What it says.
pub fn run(network: Network) -> hessblock::Result<()> {
    if network.parameter_count() == 0 {
        run_forward(&network);
        return Ok(());
    }
    let mut data = Dataset::new();
    for input in network.data_inputs() {
        let mut shape = vec![SAMPLES];
        shape.extend(input.sample_shape());
        let values = numbers(&shape, tokens(input));
        data = if input.integer {
            data.with_input(input.name.as_str(), values.mapv(|v| v as i64))
        } else {
            data.with_input(input.name.as_str(), values)
        };
    }
    let mut target = network.rest(network.output).to_vec();
    if network.output_positions() == 1 && network.output_sample_axis < target.len() {
        target.remove(network.output_sample_axis);
    }
    target.insert(0, SAMPLES);
    let data = data.with_target_array(numbers(&target, None));
    let outputs = network.outputs();
    let loss = Box::new(SquaredError::mean());
    let session = Session::builder(network)
        .data(data)
        .boxed_loss(loss)
        .device(Device::cpu(Precision::F32))
        .build()?;
    session.gradient()?;
    let parameters = session.network().parameter_count();
    if (1..=60).contains(&parameters) && outputs <= 60 {
        session.ggn().parts([Part::Full])?.to_arrays::<f32>()?;
    }
    if (1..=2_000).contains(&parameters) && outputs * parameters <= 20_000 {
        session.ggn().diagonal()?;
    }
    Ok(())
}
