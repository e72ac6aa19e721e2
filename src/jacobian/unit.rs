//! One unit of work: the factors of a range of samples, a range of directions at a time.

use super::Factor;
use super::passes::Passes;
use super::seeds::Seeds;
use crate::error::Result;
use crate::ops::Site;
use crate::tensor::Backend;
use std::ops::Range;

/// The factors of one range of samples and directions.
pub struct Unit<T> {
    /// Per parameter; `None` where it was not asked for.
    pub factors: Vec<Option<Factor<T>>>,
    /// `[samples, directions, 1]` where the loss factor carries signs.
    pub signs: Option<T>,
}

/// Runs forward once on `inputs`, one per input of the network, and backward per range of `chunk` directions,
/// and gives each unit to `visit`.
///
/// # Errors
/// What the seeds or `visit` report.
pub fn units<B: Backend>(
    passes: &Passes<'_, B>,
    inputs: Vec<B::Tensor>,
    directions: Range<usize>,
    chunk: usize,
    seeds: &mut dyn Seeds<B>,
    mut visit: impl FnMut(Unit<B::Tensor>) -> Result<()>,
) -> Result<()> {
    let (backend, network) = (passes.backend, passes.network);
    let activations = passes.forward(inputs);
    let samples = backend.shape(&activations.output).samples;
    let mut start = directions.start;
    while start < directions.end {
        let range = start..(start + chunk).min(directions.end);
        start = range.end;
        let seed = seeds.seed(backend, &activations.output, range.clone())?;
        let mut sites: Vec<Vec<Site<B::Tensor>>> = vec![Vec::new(); network.parameters.len()];
        passes.backward(&activations, seed.cotangents, |k, site| sites[k].push(site));
        let factor = |(k, sites): (usize, Vec<Site<B::Tensor>>)| {
            let count = network.parameters[k].data.len();
            let wanted = passes.reach.wanted[k];
            wanted.then(|| Factor::new(sites, count, samples, range.len()))
        };
        visit(Unit {
            factors: sites.into_iter().enumerate().map(factor).collect(),
            signs: seed.signs,
        })?;
    }
    Ok(())
}
