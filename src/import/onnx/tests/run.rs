//! Values of small networks in double precision.

use super::Network;
use crate::jacobian::passes::{Passes, Reach, Weights};
use crate::tensor::cpu::Cpu;
use crate::tensor::{Backend, HostSlice, Shape};

/// The output of a network of one input, all samples one after another.
pub(super) fn run(network: &Network, samples: usize, x: &[f64]) -> Vec<f64> {
    let backend = Cpu::<f64>::new();
    let weights = Weights::upload(&backend, network);
    let inputs = network.with_derived(vec![x.to_vec()], samples, 0).unwrap();
    let upload = |(k, values): (usize, &Vec<f64>)| {
        let shape = Shape::new(samples, 1, &network.inputs[k].rest);
        backend.upload(&shape, HostSlice::F64(values))
    };
    let inputs = inputs.iter().enumerate().map(upload).collect();
    let reach = Reach::forward_only(network);
    let activations = Passes::new(&backend, network, &weights, &reach).forward(inputs);
    backend.read(&activations.output).unwrap()
}

/// As [`run`], compared with what is expected to 1e-6 of the largest value.
#[track_caller]
pub(super) fn gives(network: &Network, samples: usize, x: &[f64], expected: &[f64]) {
    let found = run(network, samples, x);
    let scale = expected.iter().fold(1.0f64, |most, v| most.max(v.abs()));
    let close = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-6 * scale;
    let same = found.len() == expected.len() && found.iter().zip(expected).all(close);
    assert!(same, "{found:?} instead of {expected:?}");
}
