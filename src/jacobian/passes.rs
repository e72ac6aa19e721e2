//! The forward and the reverse pass over a network, on any backend.

use crate::network::{Network, Node, Operand, ValueId};
use crate::ops::{Operation, Pullback, Site, Step};
use crate::tensor::dual::{Dual, DualTensor};
use crate::tensor::{Backend, Shape};
use std::sync::Arc;

/// A network's parameters and constants on a device.
pub struct Weights<T> {
    /// One tensor per parameter: `[1, 1, shape…]`, or with directions for a tangent.
    pub parameters: Vec<T>,
    /// One tensor per constant.
    pub constants: Vec<T>,
}

impl<T: Clone> Weights<T> {
    /// Copies a network's parameters and constants to the device.
    pub fn upload<B: Backend<Tensor = T>>(backend: &B, network: &Network) -> Self {
        let upload = |array: &crate::tensor::HostArray| {
            backend.upload(&Shape::new(1, 1, &array.shape), array.as_slice())
        };
        Self {
            parameters: network.parameters.iter().map(|p| upload(&p.data)).collect(),
            constants: network.constants.iter().map(upload).collect(),
        }
    }
}

impl<T: Clone> Weights<T> {
    /// Dual weights: these, with a tangent (`[1, directions, shape…]`) or none for each parameter.
    pub fn with_tangents(
        &self,
        tangents: impl Iterator<Item = Option<T>>,
    ) -> Weights<DualTensor<T>> {
        let parameters = self.parameters.iter().cloned().zip(tangents);
        let constants = self.constants.iter().cloned();
        Weights {
            parameters: parameters
                .map(|(primal, tangent)| DualTensor { primal, tangent })
                .collect(),
            constants: constants.map(DualTensor::constant).collect(),
        }
    }
}

impl<T: Clone> Weights<DualTensor<T>> {
    /// The values without their tangents.
    pub fn primal(&self) -> Weights<T> {
        let primals = |all: &[DualTensor<T>]| all.iter().map(|x| x.primal.clone()).collect();
        Weights {
            parameters: primals(&self.parameters),
            constants: primals(&self.constants),
        }
    }
}

/// Which values the reverse pass touches when the cotangents of some parameters are wanted.
pub struct Reach {
    /// Per parameter: whether it is wanted.
    pub wanted: Vec<bool>,
    /// Per value: whether it depends on a wanted parameter.
    active: Vec<bool>,
    /// Per value: whether it depends on the samples.
    sampled: Arc<[bool]>,
    /// Per node and operand: whether the result has a derivative in it.
    varies: Arc<[Vec<bool>]>,
    /// Per value: the last node that reads it, going forward.
    last_use: Arc<[usize]>,
}

impl Reach {
    /// What a reverse pass to the parameters of `wanted` needs.
    pub fn new(network: &Network, wanted: Vec<bool>) -> Self {
        let inputs = network.inputs.len();
        let values = inputs + network.nodes.len();
        let mut sampled = vec![false; values];
        let mut last_use = vec![0; values];
        sampled[..inputs].fill(true);
        let operands = |node: &Node| {
            let all = 0..node.inputs.len();
            all.map(|j| node.op.differentiates(j)).collect()
        };
        let varies: Vec<Vec<bool>> = network.nodes.iter().map(operands).collect();
        for (k, node) in network.nodes.iter().enumerate() {
            for operand in &node.inputs {
                if let Operand::Value(value) = *operand {
                    sampled[inputs + k] |= sampled[value];
                    last_use[value] = k;
                }
            }
        }
        last_use[network.output] = usize::MAX;
        let mut reach = Self {
            wanted,
            active: vec![false; values],
            sampled: sampled.into(),
            varies: varies.into(),
            last_use: last_use.into(),
        };
        reach.activate(network);
        reach
    }

    /// Whether a value depends on a wanted parameter.
    pub fn depends(&self, value: ValueId) -> bool {
        self.active[value]
    }

    /// Whether a value depends on the samples.
    pub fn is_sampled(&self, value: ValueId) -> bool {
        self.sampled[value]
    }

    /// The same network's reach of other parameters.
    pub fn of_others(&self, network: &Network, wanted: Vec<bool>) -> Self {
        let mut other = Self {
            active: vec![false; self.active.len()],
            wanted,
            sampled: Arc::clone(&self.sampled),
            varies: Arc::clone(&self.varies),
            last_use: Arc::clone(&self.last_use),
        };
        other.activate(network);
        other
    }

    /// Finds which values depend on a wanted parameter.
    fn activate(&mut self, network: &Network) {
        let inputs = network.inputs.len();
        for (k, node) in network.nodes.iter().enumerate() {
            let active = node.inputs.iter().enumerate().any(|(j, operand)| {
                self.varies[k][j]
                    && match *operand {
                        Operand::Value(value) => self.active[value],
                        Operand::Parameter(parameter) => self.wanted[parameter],
                        Operand::Constant(_) => false,
                    }
            });
            self.active[inputs + k] = active;
        }
    }

    /// What a forward pass alone needs: nothing is kept.
    pub fn forward_only(network: &Network) -> Self {
        Self::new(network, vec![false; network.parameters.len()])
    }
}

/// The values that a forward pass leaves for the reverse pass.
pub struct Activations<B: Backend> {
    values: Vec<Option<B::Tensor>>,
    indices: Vec<Option<B::Indices>>,
    /// The network's output: `[samples, 1, rest…]`.
    pub output: B::Tensor,
}

impl<B: Backend> Activations<Dual<'_, B>> {
    /// The activations without their tangents, which are freed.
    pub fn primal(self) -> Activations<B> {
        let primal = |value: Option<DualTensor<B::Tensor>>| value.map(|v| v.primal);
        Activations {
            values: self.values.into_iter().map(primal).collect(),
            indices: self.indices,
            output: self.output.primal,
        }
    }
}

fn operand<T: Clone>(weights: &Weights<T>, values: &[Option<T>], operand: Operand) -> T {
    match operand {
        Operand::Value(value) => values[value]
            .clone()
            .expect("a value is kept until its last use"),
        Operand::Parameter(k) => weights.parameters[k].clone(),
        Operand::Constant(k) => weights.constants[k].clone(),
    }
}

/// An event of a reverse pass at a node.
pub enum Seen<'a, T> {
    /// A node is reached.
    Node,
    /// The node's cotangents are there; those of a node made of parameters alone are formed from sites.
    Formed,
    /// The node gives an operand this cotangent.
    Cotangent(usize, &'a T),
    /// The node gives an operand, made of parameters alone, a site.
    Site(usize),
}

/// The forward and reverse passes of a network with its weights on a backend, to the parameters of a reach.
pub struct Passes<'a, B: Backend> {
    /// Where they run.
    pub backend: &'a B,
    /// The network.
    pub network: &'a Network,
    /// Its parameters and constants there.
    pub weights: &'a Weights<B::Tensor>,
    /// The values that the reverse pass goes through.
    pub reach: &'a Reach,
}

impl<'a, B: Backend> Passes<'a, B> {
    /// The passes of a network on a backend.
    pub fn new(
        backend: &'a B,
        network: &'a Network,
        weights: &'a Weights<B::Tensor>,
        reach: &'a Reach,
    ) -> Self {
        Passes {
            backend,
            network,
            weights,
            reach,
        }
    }

    /// Runs the network on `inputs` (`[samples, 1, rest…]` each), keeping what a reverse pass to the
    /// parameters of the reach reads and freeing the rest after its last use.
    pub fn forward(&self, inputs: Vec<B::Tensor>) -> Activations<B> {
        self.forward_with(inputs, |_, value| value, |value| value)
    }

    /// [`Passes::forward`], each node's value replaced by what `adjust` makes of it (a perturbation), and each value that is
    /// kept for the reverse pass by what `retire` makes of it after the forward pass has read it for the last time.
    pub fn forward_with(
        &self,
        inputs: Vec<B::Tensor>,
        mut adjust: impl FnMut(ValueId, B::Tensor) -> B::Tensor,
        mut retire: impl FnMut(B::Tensor) -> B::Tensor,
    ) -> Activations<B> {
        let (network, reach) = (self.network, self.reach);
        let first = network.inputs.len();
        let mut values: Vec<Option<B::Tensor>> = inputs.into_iter().map(Some).collect();
        let mut indices = Vec::with_capacity(network.nodes.len());
        let mut kept = vec![false; first + network.nodes.len()];
        for (k, node) in network.nodes.iter().enumerate() {
            let operands = self.operands(node, &values);
            let result = node.op.forward(self.backend, &operands);
            values.push(Some(adjust(first + k, result.output)));
            indices.push(result.indices.filter(|_| reach.active[first + k]));
            for &input in &node.inputs {
                if let Operand::Value(value) = input {
                    // A node that the reverse pass goes through reads its operands again.
                    kept[value] |= reach.active[first + k];
                    if reach.last_use[value] <= k {
                        let last = values[value].take();
                        values[value] = last.filter(|_| kept[value]).map(&mut retire);
                    }
                }
            }
        }
        let output = values[network.output]
            .clone()
            .expect("the output is never freed");
        Activations {
            values,
            indices,
            output,
        }
    }

    /// The operands of a node.
    fn operands(&self, node: &Node, values: &[Option<B::Tensor>]) -> Vec<B::Tensor> {
        let inputs = node.inputs.iter();
        let operand = |&input| operand(self.weights, values, input);
        inputs.map(operand).collect()
    }

    /// Takes the cotangents of the output (`[samples, directions, rest…]`) back to every wanted parameter
    /// and gives each site of use to `visit`, last operation first.
    pub fn backward(
        &self,
        activations: &Activations<B>,
        seed: B::Tensor,
        visit: impl FnMut(usize, Site<B::Tensor>),
    ) {
        self.backward_watched(activations, seed, visit, |_, _| {});
    }

    /// [`Passes::backward`], which tells `watch` the number of every node that it comes to, and what it does there.
    pub fn backward_watched(
        &self,
        activations: &Activations<B>,
        seed: B::Tensor,
        visit: impl FnMut(usize, Site<B::Tensor>),
        watch: impl FnMut(usize, Seen<'_, B::Tensor>),
    ) {
        let values = self.network.inputs.len() + self.network.nodes.len();
        let reverse = Reverse {
            passes: self,
            activations,
            cotangents: vec![None; values],
            sites: vec![Vec::new(); values],
            visit,
            watch,
        };
        reverse.run(seed);
    }
}

/// A reverse pass under way.
struct Reverse<'a, B: Backend, V, W> {
    passes: &'a Passes<'a, B>,
    activations: &'a Activations<B>,
    /// By value: the cotangents of those that the pass has not come to yet.
    cotangents: Vec<Option<B::Tensor>>,
    /// By value: the sites of those that are made of parameters alone.
    sites: Vec<Vec<Site<B::Tensor>>>,
    visit: V,
    watch: W,
}

impl<B, V, W> Reverse<'_, B, V, W>
where
    B: Backend,
    V: FnMut(usize, Site<B::Tensor>),
    W: FnMut(usize, Seen<'_, B::Tensor>),
{
    /// Goes through all nodes, the last first.
    fn run(mut self, seed: B::Tensor) {
        let (network, reach) = (self.passes.network, self.passes.reach);
        self.cotangents[network.output] = Some(seed);
        for k in (0..network.nodes.len()).rev() {
            let value: ValueId = network.inputs.len() + k;
            if !reach.active[value] {
                continue;
            }
            let sites = std::mem::take(&mut self.sites[value]);
            let cotangent = self.cotangents[value].take();
            if sites.is_empty() && cotangent.is_none() {
                continue;
            }
            (self.watch)(k, Seen::Node);
            let mut pulled = Vec::new();
            match self.step_back(k) {
                Some(step) => self.relabel(k, &step, sites),
                None => pulled.extend(sites.iter().map(|site| site.rows(self.passes.backend))),
            }
            pulled.extend(cotangent);
            (self.watch)(k, Seen::Formed);
            if !pulled.is_empty() {
                self.pull_back(k, &pulled);
            }
        }
    }

    /// The step of a site from a node's value back to its operand, where the node only relabels entries of parameters: it is
    /// then a step on the way of the site, not work.
    fn step_back(&self, k: usize) -> Option<Step> {
        let (network, reach) = (self.passes.network, self.passes.reach);
        let node = &network.nodes[k];
        if reach.sampled[network.inputs.len() + k] || !node.op.relabels() {
            return None;
        }
        node.op.step_back(network.operand_rest(node.inputs[0]))
    }

    /// Hands the sites of a node's value, a step further back, to the parameter or the value that the node relabels.
    fn relabel(&mut self, k: usize, step: &Step, sites: Vec<Site<B::Tensor>>) {
        let (network, reach) = (self.passes.network, self.passes.reach);
        for mut site in sites {
            site.steps.push(step.clone());
            match network.nodes[k].inputs[0] {
                Operand::Value(value) if reach.active[value] => self.sites[value].push(site),
                Operand::Parameter(parameter) if reach.wanted[parameter] => {
                    (self.visit)(parameter, site.turned());
                }
                _ => {}
            }
        }
    }

    /// Takes the cotangents of a node's value back to its operands.
    fn pull_back(&mut self, k: usize, pulled: &[B::Tensor]) {
        let Passes {
            backend,
            network,
            reach,
            ..
        } = *self.passes;
        let node = &network.nodes[k];
        let inputs = self.passes.operands(node, &self.activations.values);
        for cotangent in pulled {
            let pullback = Pullback {
                inputs: &inputs,
                indices: self.activations.indices[k].as_ref(),
                cotangent,
            };
            for (j, &input) in node.inputs.iter().enumerate() {
                if !reach.varies[k][j] {
                    continue;
                }
                match input {
                    Operand::Value(value) if reach.active[value] && reach.sampled[value] => {
                        let back = node.op.vjp(backend, &pullback, j);
                        let sum = self.cotangents[value].take();
                        let sum = sum.map(|sum| backend.add(&sum, &back));
                        (self.watch)(k, Seen::Cotangent(j, &back));
                        self.cotangents[value] = Some(sum.unwrap_or(back));
                    }
                    Operand::Value(value) if reach.active[value] => {
                        let kind = node.op.site(backend, &pullback, j);
                        self.sites[value].push(Site::new(kind, network.operand_rest(input)));
                        (self.watch)(k, Seen::Site(j));
                    }
                    Operand::Parameter(parameter) if reach.wanted[parameter] => {
                        let kind = node.op.site(backend, &pullback, j);
                        (self.visit)(parameter, Site::new(kind, network.operand_rest(input)));
                    }
                    _ => {}
                }
            }
        }
    }
}
