//! The passes that make the two factors of a group of tangents.

use super::factors::{Factors, GroupFactors, unit_rows};
use super::group::{Entries, PreActivation, TangentGroup};
use crate::cache::Cache;
use crate::error::Result;
use crate::jacobian::Factor;
use crate::jacobian::passes::{Activations, Passes, Reach, Weights};
use crate::network::{Network, ValueId};
use crate::ops::{Site, SiteKind};
use crate::tensor::dual::{Dual, DualTensor};
use crate::tensor::{Backend, HostSlice, Shape};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// The seed of the reverse pass from outputs and their tangents: (∇ℓ, ∇²ℓ·ż) for H, (∇ℓ, 0) for H − G; for G ∇²ℓ·ż, as the
/// tangent.
pub type SeedOf<'a, B> = dyn FnMut(&B, &DualTensor<<B as Backend>::Tensor>) -> Result<DualTensor<<B as Backend>::Tensor>>
    + 'a;

/// The maximum number of cached reaches.
pub(crate) const REACHES: usize = 64;

/// The reach of reverse passes by the parameters that they go back to: one for all passes that go back to the same.
pub struct Reaches<'a> {
    network: &'a Network,
    all: &'a Reach,
    known: RefCell<Cache<Vec<usize>, Rc<Reach>>>,
}

impl<'a> Reaches<'a> {
    /// Those of a network, of which one is known.
    pub fn new(network: &'a Network, all: &'a Reach) -> Self {
        Self {
            network,
            all,
            known: RefCell::new(Cache::new(REACHES)),
        }
    }

    /// The reach of a pass back to `wanted`, ascending.
    fn of(&self, wanted: &[usize]) -> Rc<Reach> {
        if let Some(known) = self.known.borrow().get(wanted) {
            return Rc::clone(known);
        }
        let mut all = vec![false; self.network.parameters.len()];
        wanted.iter().for_each(|&k| all[k] = true);
        let reach = Rc::new(self.all.of_others(self.network, all));
        let mut known = self.known.borrow_mut();
        known.insert(wanted.to_vec(), Rc::clone(&reach), 1);
        reach
    }
}

/// The tensors that all passes of a unit of samples share.
pub struct GroupPasses<'a, B: Backend> {
    /// Where they run.
    pub backend: &'a B,
    /// The network.
    pub network: &'a Network,
    /// Parameters and constants there.
    pub weights: &'a Weights<B::Tensor>,
    /// How far back reverse passes go.
    pub reaches: &'a Reaches<'a>,
    /// The pre-activations that groups name by their number.
    pub pre_activations: &'a [PreActivation],
    /// Whether second derivatives of the network are part of the matrix.
    pub second: bool,
}

impl<B: Backend> GroupPasses<'_, B> {
    /// Carries one group of tangents: forward over reverse where second derivatives are part of the matrix, else forward
    /// and then back, without tangents on the way back.
    ///
    /// # Errors
    /// What the seed reports.
    pub fn run<'g>(
        &self,
        group: &'g TangentGroup,
        inputs: &[B::Tensor],
        seed: &mut SeedOf<'_, B>,
    ) -> Result<GroupFactors<'g, B::Tensor>> {
        let (backend, network) = (self.backend, self.network);
        let dual = Dual { inner: backend };
        let tangents = self.tangents(group);
        let weights = self.weights.with_tangents(tangents.into_iter());
        let perturbed = self.units(group);
        let reach = self.reaches.of(&group.wanted);
        let passes = Passes::new(&dual, network, &weights, &reach);
        let samples = inputs.first().map_or(1, |x| backend.shape(x).samples);
        let activations = self.forward(&passes, inputs, samples, perturbed.as_ref());
        let seed = seed(backend, &activations.output)?;
        let mut found = Found {
            passes: self,
            group,
            units: perturbed.as_ref().map(|(_, units)| units),
            samples,
            left: BTreeMap::new(),
            sites: vec![Vec::new(); network.parameters.len()],
        };
        if self.second {
            passes.backward(&activations, seed, |k, site| {
                found.add(k, &site.primal(), site.tangents());
            });
        } else if let Some(products) = seed.tangent {
            let activations = activations.primal();
            let passes = Passes::new(backend, network, self.weights, &reach);
            passes.backward(&activations, products, |k, site| {
                found.add(k, &site, vec![site.clone()]);
            });
        }
        Ok(GroupFactors::new(group, Rc::new(found.factors())))
    }

    /// The forward pass, in which the value of `perturbed` has the tangents there.
    fn forward<'d>(
        &self,
        passes: &Passes<'_, Dual<'d, B>>,
        inputs: &[B::Tensor],
        samples: usize,
        perturbed: Option<&(ValueId, B::Tensor)>,
    ) -> Activations<Dual<'d, B>> {
        let backend = self.backend;
        let inputs = inputs.iter().cloned().map(DualTensor::constant).collect();
        passes.forward_with(
            inputs,
            |value, mut tensor| {
                if let Some((_, units)) = perturbed.filter(|(at, _)| *at == value) {
                    let rest = backend.shape(&tensor.primal).rest;
                    let zeros = backend.fill(&Shape::new(samples, 1, &vec![1; rest.len()]), 0.0);
                    tensor.tangent = Some(backend.add(&backend.reshape(units, &rest), &zeros));
                }
                tensor
            },
            |mut kept| {
                // A reverse pass without tangents reads none.
                kept.tangent = kept.tangent.filter(|_| self.second);
                kept
            },
        )
    }

    /// The pre-activation that has tangents, and these: unit rows, `[1, directions, outputs]`.
    fn units(&self, group: &TangentGroup) -> Option<(ValueId, B::Tensor)> {
        match &group.entries {
            Entries::PreActivation { number, range } => {
                let own = &self.pre_activations[*number];
                let units = unit_rows(self.backend, range.clone(), own.outputs);
                Some((own.value, units))
            }
            Entries::Parameters(_) => None,
        }
    }

    /// The tangents of the parameters: unit vectors of the entries of a group.
    fn tangents(&self, group: &TangentGroup) -> Vec<Option<B::Tensor>> {
        let mut tangents = vec![None; self.network.parameters.len()];
        let Entries::Parameters(pieces) = &group.entries else {
            return tangents;
        };
        let directions = group.directions();
        for piece in pieces {
            let shape = &self.network.parameters[piece.parameter].data.shape;
            let count = self.network.parameters[piece.parameter].data.len();
            let mut values = vec![0.0f32; directions * piece.range.len()];
            for entry in 0..piece.range.len() {
                values[(piece.direction + entry) * piece.range.len() + entry] = 1.0;
            }
            let ones = Shape::new(1, directions, &[piece.range.len()]);
            let ones = self.backend.upload(&ones, HostSlice::F32(&values));
            let all = self.backend.embed(&ones, 2, piece.range.start, count);
            let all = self.backend.reshape(&all, shape);
            let tangent: &mut Option<B::Tensor> = &mut tangents[piece.parameter];
            *tangent = Some(match tangent.take() {
                Some(sum) => self.backend.add(&sum, &all),
                None => all,
            });
        }
        tangents
    }
}

/// What a reverse pass has found of the factors of a group.
struct Found<'p, B: Backend> {
    passes: &'p GroupPasses<'p, B>,
    group: &'p TangentGroup,
    /// The tangents of the pre-activation, where that has them.
    units: Option<&'p B::Tensor>,
    samples: usize,
    left: BTreeMap<usize, Factor<B::Tensor>>,
    /// By parameter: the sites of R.
    sites: Vec<Vec<Site<B::Tensor>>>,
}

impl<B: Backend> Found<'_, B> {
    /// Adds a site of a parameter: `own` is the site without tangents, `changes` what the directions do to it.
    fn add(&mut self, k: usize, own: &Site<B::Tensor>, changes: Vec<Site<B::Tensor>>) {
        let backend = self.passes.backend;
        let data = &self.passes.network.parameters[k].data;
        match (&self.units, &self.group.entries) {
            (Some(units), Entries::PreActivation { number, .. }) => {
                self.sites[k].extend(changes);
                let behind = self.passes.pre_activations[*number].stands_for(k);
                if let Some(site) = behind.then(|| own.along(backend, units)).flatten() {
                    let directions = self.group.directions();
                    let factor = Factor::new(vec![site], data.len(), self.samples, directions);
                    self.left.insert(k, factor);
                }
            }
            _ => {
                let sum = |site: Site<B::Tensor>| SiteKind::Rows(site.sum(backend));
                let sums = changes.into_iter().map(sum);
                self.sites[k].extend(sums.map(|kind| Site::new(kind, &data.shape)));
            }
        }
    }

    /// Both factors, once the reverse pass is through.
    fn factors(self) -> Factors<B::Tensor> {
        let samples = if self.units.is_some() {
            self.samples
        } else {
            1
        };
        let mut right = BTreeMap::new();
        for (k, sites) in self.sites.into_iter().enumerate() {
            let count = self.passes.network.parameters[k].data.len();
            if !sites.is_empty() {
                let factor = Factor::new(sites, count, samples, self.group.directions());
                right.insert(k, factor);
            }
        }
        Factors {
            left: self.left,
            right,
        }
    }
}
