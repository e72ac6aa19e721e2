//! Counts the operations of passes to any set of parameters from one recorded pass.
//!
//! The operations of a forward pass, of a reverse pass and of tangents are sums over the nodes that they go through. One pass to
//! all parameters that any part has finds the terms of the sums; the terms of a part are then added up. A thousand layers would
//! otherwise take a thousand passes.

use super::contractions::contraction_operations;
use super::footprint::Planner;
use super::parts::PartPlan;
use super::request::{ResolvedPart, pieces};
use super::routes::{Costs, Routes};
use super::sizes::{DIAGONAL_ROWS, MOST_DIRECTIONS, SEED, Sizes, UNIT_ROWS};
use super::way::Counted;

use crate::error::Result;
use crate::jacobian::hessian::Candidates;
use crate::jacobian::passes::{Passes, Reach, Seen, Weights};
use crate::jacobian::seeds::{BlankSeeds, Seeds, blank_dual_seed};
use crate::jacobian::unit::Unit;
use crate::loss::Curvature;
use crate::network::{Network, Operand};
use crate::tensor::dual::{Dual, DualTensor};
use crate::tensor::meter::{Meter, MeterTensor};
use crate::tensor::{Backend, Kind};
use std::cell::Cell;

/// The operations of a reverse pass for one sample, split by node, operand and parameter, so that those of a pass to fewer
/// parameters are a partial sum.
#[derive(Default)]
struct Back {
    /// Of the seed.
    seed: u64,
    /// By node: forming its cotangents.
    nodes: Vec<u64>,
    /// By node and operand: the operand's cotangent, or its site.
    cotangents: Vec<Vec<u64>>,
    /// By parameter: its sites.
    sites: Vec<u64>,
}

impl Back {
    /// The operations of a pass to the parameters of `reach`.
    fn to(&self, network: &Network, reach: &Reach) -> u64 {
        let first = network.inputs.len();
        let mut sum = self.seed;
        for (k, node) in network.nodes.iter().enumerate() {
            if !reach.depends(first + k) {
                continue;
            }
            sum += self.nodes[k];
            for (operand, own) in node.inputs.iter().zip(&self.cotangents[k]) {
                sum += match *operand {
                    Operand::Value(value) if reach.depends(value) => *own,
                    _ => 0,
                };
            }
        }
        sum + of_wanted(&self.sites, reach)
    }
}

/// Operations on a meter, numbers of seeds among them: these are made on the host.
pub(super) fn weighed(meter: &Meter) -> u64 {
    meter.operations() + SEED * meter.tally().of(Kind::Seeds).numbers()
}

/// The operations since it was last asked.
struct Laps<'m> {
    meter: &'m Meter,
    before: Cell<u64>,
}

impl<'m> Laps<'m> {
    fn new(meter: &'m Meter) -> Self {
        let before = Cell::new(weighed(meter));
        Laps { meter, before }
    }

    fn next(&self) -> u64 {
        let now = weighed(self.meter);
        now - self.before.replace(now)
    }
}

/// The sum over the parameters that are wanted.
fn of_wanted(own: &[u64], reach: &Reach) -> u64 {
    let own = own.iter().zip(&reach.wanted);
    own.map(|(own, wanted)| if *wanted { *own } else { 0 })
        .sum()
}

/// Operations of passes over one sample, by what they go through.
pub(super) struct Counts<'a> {
    network: &'a Network,
    sizes: Sizes,
    /// The reach of a pass to all parameters that are counted.
    reach: &'a Reach,
    /// By node: the forward pass.
    forward: Vec<u64>,
    /// By node: the tangents of one direction, where they are carried by all that depends on a parameter.
    tangents: Vec<u64>,
    /// The seed of such a direction.
    tangent_seed: u64,
    /// By parameter: the rows of one direction, summed over samples, as they are taken where entries of parameters have tangents.
    rows: Vec<u64>,
    /// The reverse pass of one direction, and of two.
    back: [Back; 2],
    candidates: Candidates,
}

impl<'a> Counts<'a> {
    /// Counts passes to the parameters that the planner wants.
    pub(super) fn new(planner: &Planner<'a>) -> Result<Self> {
        let network = planner.network;
        let mut counts = Counts {
            network,
            sizes: planner.sizes,
            reach: planner.reach,
            forward: Vec::new(),
            tangents: Vec::new(),
            tangent_seed: 0,
            rows: vec![0; network.parameters.len()],
            back: Default::default(),
            candidates: Candidates::default(),
        };
        let outer = counts.count_back(planner)?;
        counts.candidates = Candidates::new(network, &outer);
        counts.count_tangents(planner)?;
        Ok(counts)
    }

    /// Counts the forward pass, and reverse passes of one and of two directions; whether the factor of each parameter is an outer
    /// one.
    fn count_back(&mut self, planner: &Planner<'_>) -> Result<Vec<bool>> {
        let (network, meter) = (self.network, Meter::new(self.sizes.number_bytes));
        let (parameters, nodes) = (network.parameters.len(), network.nodes.len());
        let weights = Weights::upload(&meter, network);
        let inputs = planner.inputs(&meter, 1);
        let laps = Laps::new(&meter);
        let mut forward = Vec::with_capacity(nodes);
        let each = |_, value| {
            forward.push(laps.next());
            value
        };
        let passes = Passes::new(&meter, network, &weights, self.reach);
        let activations = passes.forward_with(inputs, each, |v| v);
        self.forward = forward;
        let signed = self.sizes.signed;
        let (mut outer, mut rows) = (vec![None; parameters], vec![0; parameters]);
        for (back, directions) in self.back.iter_mut().zip([1, 2]) {
            laps.next();
            let seed = BlankSeeds { signed }.seed(&meter, &activations.output, 0..directions)?;
            *back = Back {
                seed: laps.next(),
                nodes: vec![0; nodes],
                cotangents: network
                    .nodes
                    .iter()
                    .map(|n| vec![0; n.inputs.len()])
                    .collect(),
                sites: vec![0; parameters],
            };
            let (mut of_nodes, mut of_operands) = (vec![0; nodes], Vec::new());
            let sites = &mut back.sites;
            passes.backward_watched(
                &activations,
                seed.cotangents,
                |k, site| {
                    sites[k] += laps.next();
                    if directions == 1 {
                        // Of several sites the rows are summed up.
                        outer[k] = Some(outer[k].is_none() && site.outer(&meter).is_some());
                        laps.next();
                        site.sum(&meter);
                        rows[k] += laps.next();
                    }
                },
                |k, seen| match seen {
                    Seen::Node => _ = laps.next(),
                    Seen::Formed => of_nodes[k] += laps.next(),
                    Seen::Cotangent(operand, _) | Seen::Site(operand) => {
                        of_operands.push((k, operand, laps.next()));
                    }
                },
            );
            back.nodes = of_nodes;
            for (k, operand, own) in of_operands {
                back.cotangents[k][operand] += own;
            }
        }
        self.rows = rows;
        Ok(outer.into_iter().map(|outer| outer == Some(true)).collect())
    }

    /// Counts tangents, as a pass carries them from whatever entries to the output, with their seed.
    fn count_tangents(&mut self, planner: &Planner<'_>) -> Result<()> {
        let (network, meter) = (self.network, Meter::new(self.sizes.number_bytes));
        let dual = Dual { inner: &meter };
        let none = network.parameters.iter().map(|_| None);
        let weights = Weights::upload(&meter, network).with_tangents(none);
        let inputs = planner.inputs(&meter, 1).into_iter();
        let inputs = inputs.map(DualTensor::constant).collect();
        let laps = Laps::new(&meter);
        let mut all = Vec::with_capacity(network.nodes.len());
        let each = |value, mut tensor: DualTensor<MeterTensor>| {
            all.push(laps.next());
            let carries = self.reach.depends(value) && self.reach.is_sampled(value);
            if carries && tensor.tangent.is_none() {
                tensor.tangent = Some(meter.blank(meter.shape(&tensor.primal)));
            }
            tensor
        };
        let passes = Passes::new(&dual, network, &weights, self.reach);
        let activations = passes.forward_with(inputs, each, |v| v);
        let own = all.iter().zip(&self.forward);
        self.tangents = own
            .map(|(all, primal)| all.saturating_sub(*primal))
            .collect();
        laps.next();
        blank_dual_seed(&meter, self.sizes.curvature, &activations.output)?;
        self.tangent_seed = laps.next();
        Ok(())
    }

    /// Returns the operations of a sample's forward pass with the part of the reverse pass that does not depend on the number of
    /// directions, and those of each direction with its seed.
    pub(super) fn plain_pass(&self, reach: &Reach) -> (u64, u64) {
        let forward: u64 = self.forward.iter().sum();
        let [one, two] = self
            .back
            .each_ref()
            .map(|back| back.to(self.network, reach));
        let back = two.saturating_sub(one);
        (forward + one.saturating_sub(back), back)
    }

    /// Operations that a sample takes for one direction of G forward: of a pass with a tangent of the first parameter, the
    /// furthest from the output, and goes back to all that `reach` wants. What does not depend on directions is shared by as many
    /// as a pass has.
    pub(super) fn direction(&self, reach: &Reach) -> u64 {
        let Some(parameter) = reach.wanted.iter().position(|wanted| *wanted) else {
            return 0;
        };
        let network = self.network;
        let mut wanted = vec![false; network.parameters.len()];
        wanted[parameter] = true;
        let along = reach.of_others(network, wanted);
        let first = network.inputs.len();
        let mut tangents = 0;
        for (k, node) in network.nodes.iter().enumerate() {
            if !along.depends(first + k) {
                continue;
            }
            // Where the parameter is read, as it is or transposed, its tangent takes the place of one of the samples.
            let reads = node.inputs.iter().any(|operand| match *operand {
                Operand::Parameter(read) => read == parameter,
                Operand::Value(value) => !along.is_sampled(value) && along.depends(value),
                Operand::Constant(_) => false,
            });
            tangents += match reads {
                true => self.forward[k].max(self.tangents[k]),
                false => self.tangents[k],
            };
        }
        let (shared, back) = self.plain_pass(reach);
        let rows = of_wanted(&self.rows, reach);
        let own = tangents + self.tangent_seed + back + rows + shared / MOST_DIRECTIONS as u64;
        own.saturating_add(product(network, self.sizes))
    }

    /// The routes of G forward to parts whose parameters `reach` wants.
    pub(super) fn routes(&self, parts: &[PartPlan], reach: &Reach) -> Routes {
        let samples = self.sizes.samples as u64;
        let costs = Costs {
            direction: self.direction(reach).saturating_mul(samples),
            samples,
        };
        Routes::new(self.network, parts, &self.candidates, costs)
    }
}

/// Operations of ∇²ℓ·ż of one sample and direction, where it is not read off the outputs, a few for each.
pub(super) fn product(network: &Network, sizes: Sizes) -> u64 {
    let outputs = network.outputs() as u64;
    let columns = match sizes.curvature {
        // Column by column of its factor.
        Curvature::EmpiricalFisher | Curvature::McGgn { .. } => sizes.directions as u64,
        // A matrix of its own for every sample.
        _ if sizes.signed => outputs,
        _ => 0,
    };
    4 * columns.saturating_mul(outputs)
}

/// Counts the operations of parts by either way.
pub(super) struct Counter<'a> {
    counts: Counts<'a>,
    /// A unit of one sample and as many directions as a unit has, its rows formed.
    unit: Unit<MeterTensor>,
    meter: Meter,
    /// Its directions.
    directions: usize,
    /// By parameter: what forming its rows took.
    formed: Vec<u64>,
    /// By parameter: a direction of its diagonal.
    squares: Vec<u64>,
}

impl<'a> Counter<'a> {
    /// Counts what parts that want the parameters of `reach` share.
    pub(super) fn new(network: &'a Network, sizes: Sizes, reach: &'a Reach) -> Result<Self> {
        let planner = Planner::of_passes(network, reach, sizes);
        let unit_of = |directions: usize| {
            let meter = Meter::new(sizes.number_bytes);
            let weights = Weights::upload(&meter, network);
            let mut made = None;
            planner.unit(&meter, &weights, 1, directions, |unit| {
                made = Some(unit);
                Ok(())
            })?;
            Ok((meter, made.expect("a range of directions is one unit")))
        };
        let (meter, one) = unit_of(1)?;
        let laps = Laps::new(&meter);
        let squares = one.factors.iter().map(|factor| {
            if let Some(factor) = factor {
                factor.squares(&meter, None, DIAGONAL_ROWS);
            }
            laps.next()
        });
        let squares = squares.collect();
        let directions = sizes.directions.clamp(1, UNIT_ROWS);
        let (meter, mut unit) = unit_of(directions)?;
        let laps = Laps::new(&meter);
        let formed = unit.factors.iter_mut().map(|factor| {
            if let Some(factor) = factor {
                factor.keep_rows(&meter, false);
            }
            laps.next()
        });
        Ok(Counter {
            counts: Counts::new(&planner)?,
            formed: formed.collect(),
            unit,
            meter,
            directions,
            squares,
        })
    }

    /// Counts a part's block over all samples.
    pub(super) fn count(&self, part: &ResolvedPart, wanted: Vec<bool>) -> Counted {
        let (network, sizes) = (self.counts.network, self.counts.sizes);
        let reach = self.counts.reach.of_others(network, wanted);
        let parts = [PartPlan::uncut(part.clone())];
        let (forward, back) = self.counts.plain_pass(&reach);
        let (samples, directions) = (sizes.samples as u64, sizes.directions as u64);
        let passes = forward.saturating_add(back.saturating_mul(directions));
        Counted {
            forward: self.counts.routes(&parts, &reach).operations,
            passes: passes.saturating_mul(samples),
            own: self.beside_passes(part, &reach).saturating_mul(samples),
        }
    }

    /// Operations that a sample takes in all directions to form rows of V once and to contract them.
    fn beside_passes(&self, part: &ResolvedPart, reach: &Reach) -> u64 {
        let network = self.counts.network;
        let all = self.counts.sizes.directions as u128;
        let wanted = |own: &[u64]| u128::from(of_wanted(own, reach));
        let operations = match &part.columns {
            // As many operations for each direction.
            None => wanted(&self.squares) * all,
            Some(columns) => {
                let (rows, columns) = (pieces(network, &part.rows), pieces(network, columns));
                let sides = (&rows[..], &columns[..]);
                let own = contraction_operations(&self.meter, &self.unit, sides, part.symmetric());
                (wanted(&self.formed) + u128::from(own)) * all / self.directions as u128
            }
        };
        u64::try_from(operations).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::builder::{Builder, Window2d};

    /// Values with several readers, a kink, a pool, a parameter along channels.
    fn branched() -> Network {
        let window = || Window2d::new(3).padding(1);
        Builder::new(&[2, 6, 5])
            .conv2d("first", 3, window())
            .relu()
            .mark("fork")
            .conv2d("inner", 3, window())
            .batch_norm2d("norm")
            .softplus()
            .conv2d("last", 3, window())
            .add("fork")
            .relu()
            .max_pool2d(Window2d::new(2).stride(2))
            .flatten()
            .linear("wide", 9)
            .tanh()
            .linear("head", 4)
            .initialize(3)
            .build()
            .unwrap()
    }

    /// The counts of passes to each set of parameters, and a planner that measures the same.
    fn compare(network: &Network, check: impl Fn(&Counts<'_>, &Planner<'_>, &str)) {
        let sizes = Sizes::of_test(3, 4);
        let count = network.parameters.len();
        let all = Reach::new(network, vec![true; count]);
        let counts = Counts::new(&Planner::of_passes(network, &all, sizes)).unwrap();
        let mut sets: Vec<Vec<usize>> = vec![(0..count).collect(), vec![0, count - 1]];
        sets.extend((0..count).map(|k| vec![k]).take(30));
        for set in sets {
            let mut wanted = vec![false; count];
            set.iter().for_each(|&k| wanted[k] = true);
            let reach = Reach::new(network, wanted);
            let planner = Planner::of_passes(network, &reach, sizes);
            check(&counts, &planner, &format!("{set:?}"));
        }
    }

    /// Networks with tied, transposed and joined weights, attention, lookups and gates, beside [`branched`].
    fn networks() -> Vec<(String, Network)> {
        let mut all = vec![("branched".to_owned(), branched())];
        for name in [
            "gpt_tied.new",
            "gpt_transposed.old",
            "pair_stack.new",
            "attention_grouped.new",
            "lstm_stacked.new",
            "rank_transposed_matmul.new",
            "folded_tie.new",
        ] {
            let folder =
                std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/models");
            let path = folder.join(format!("{name}.onnx"));
            let network = crate::import::onnx::load(path, &Default::default()).unwrap();
            all.push((name.to_owned(), network));
        }
        all
    }

    #[test]
    fn a_reverse_pass_is_the_sum_of_what_its_nodes_take() {
        for (name, network) in networks() {
            compare(&network, |counts, planner, set| {
                let measured = planner.plain_pass().unwrap();
                assert_eq!(counts.plain_pass(planner.reach), measured, "{name} {set}");
            });
        }
    }

    #[test]
    fn a_direction_of_g_forward_is_counted_within_a_small_factor() {
        // Counted is what all inputs of a node that depend on parameters carry, though fewer may.
        for (name, network) in networks() {
            compare(&network, |counts, planner, set| {
                let counted = counts.direction(planner.reach) as f64;
                let measured = planner.direction().unwrap() as f64;
                let ratio = counted / measured;
                assert!(
                    (0.6..2.5).contains(&ratio),
                    "{name} {set}: {counted} {measured}"
                );
            });
        }
    }
}
