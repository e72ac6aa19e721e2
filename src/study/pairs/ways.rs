//! The way to each block: formed from products with unit vectors, or probed by random ones.

use super::{BlockError, Pair, PairOptions};
use crate::bytes::Bytes;
use crate::error::{Error, Remedy, Result};
use crate::loss::Curvature;
use crate::network::Layer;
use crate::operator::Steps;
use crate::random::Draws;
use crate::session::Session;
use crate::setting::PRECISION;
use crate::setting::{EXACT_ENTRIES, HOST_MEMORY, NO_SPECTRAL};
use crate::study::spectral::{Norm, STEPS, Side, largest, largest_by_products};
use ndarray::Array2;
use std::collections::BTreeMap;
use std::ops::Range;

/// H and H − G, in the order in which pairs of numbers are kept here.
const MATRICES: [Curvature; 2] = [Curvature::Exact, Curvature::Residual];
/// Numbers that the vectors of a product may hold.
const NUMBERS: usize = 1 << 25;
/// Vectors of a product at most.
const DIRECTIONS: usize = 64;
/// Entries of blocks that are kept at a time for their spectral norms.
const KEPT: u128 = 1 << 25;
/// Streams of the signs, apart from those of initialisations.
const SIGNS: u64 = 1 << 62;
/// Streams of the vectors that spectral norms start from.
const STARTS: u64 = 1 << 63;

/// Entries of a layer in the flat order.
pub(super) struct Own(Vec<Range<usize>>);

impl Own {
    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|r| r.len()).sum()
    }

    fn entries(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().flat_map(|r| r.clone())
    }

    /// This layer's part of a vector of all parameters.
    fn part<'a>(&'a self, vector: &'a [f64]) -> impl Iterator<Item = f64> + 'a {
        self.0
            .iter()
            .flat_map(|r| vector[r.clone()].iter().copied())
    }
}

/// Where a product with H or H − G comes from.
pub(super) struct Blocks<'a> {
    pub(super) session: &'a Session,
    pub(super) steps: &'a Steps<'a>,
}

impl Blocks<'_> {
    fn product(&mut self, matrix: Curvature, vectors: &Array2<f64>) -> Result<Array2<f64>> {
        let operator = self.session.operator(matrix);
        let rows = vectors.as_slice().unwrap_or_default();
        let product = self
            .steps
            .step(vectors.nrows(), |control| operator.products(rows, control))?;
        let product = Array2::from_shape_vec(vectors.dim(), product)
            .map_err(|e| Error::Shape(e.to_string()))?;
        match product.iter().find(|v| !v.is_finite()) {
            None => Ok(product),
            Some(value) => Err(Error::Value(format!(
                "a product with {} holds {value} in {}: the network overflows with these weights; take {PRECISION} \
                 f64, or other weights",
                matrix.symbol(),
                self.session.device().precision()
            ))),
        }
    }
}

/// A row of a matrix in standard layout.
fn row(matrix: &Array2<f64>, k: usize) -> &[f64] {
    let width = matrix.ncols();
    &matrix.as_slice().expect("made in standard layout")[k * width..(k + 1) * width]
}

/// Blocks that are formed from products with the unit vectors of one layer.
struct Formed {
    layer: usize,
    /// Layers of the other side.
    others: Vec<usize>,
}

/// Which block is found how.
pub(super) struct Ways {
    options: PairOptions,
    pub(super) layers: Vec<Own>,
    p: usize,
    formed: Vec<Formed>,
    /// (rows, columns) of the others.
    probed: Vec<(usize, usize)>,
    /// Bytes that vectors and blocks kept here may take; products have the rest of the host's budget.
    room: u64,
}

/// Bytes of a number.
const NUMBER: u64 = size_of::<f64>() as u64;

/// The Frobenius norms of H_ab and (H − G)_ab with their uncertainty, then the spectral ones.
type Found = (BlockError, Option<BlockError>);

impl Ways {
    /// Half of the `host` budget is for what is kept here.
    ///
    /// # Errors
    /// [`Error::Budget`] if a vector and its product, the entries of one block that is formed, or the vectors of one
    /// bidiagonalisation do not fit.
    pub(super) fn new(
        session: &Session,
        layers: &[Layer],
        options: PairOptions,
        host: u64,
    ) -> Result<Ways> {
        let layers: Vec<Own> = layers
            .iter()
            .map(|l| Own(session.network().ranges(l).collect()))
            .collect();
        let mut partners: Vec<Vec<usize>> = vec![Vec::new(); layers.len()];
        let mut probed = Vec::new();
        for a in 0..layers.len() {
            for b in a..layers.len() {
                let (rows, columns) = (layers[a].len(), layers[b].len());
                if rows as u128 * columns as u128 > options.exact_entries {
                    probed.push((a, b));
                } else if rows <= columns {
                    partners[a].push(b);
                } else {
                    partners[b].push(a);
                }
            }
        }
        let room = host / 2;
        let p = session.network().parameter_count();
        // Entries of H and of H − G, and room for the product that finds the norm.
        let entries_held = u128::from(room / (6 * NUMBER)).min(KEPT);
        let mut formed = Vec::new();
        for (layer, others) in partners.into_iter().enumerate() {
            // Blocks are kept for their spectral norms alone.
            let mut kept = u128::MAX;
            for other in others {
                let entries = layers[layer].len() as u128 * layers[other].len() as u128;
                if formed.last().is_none_or(|f: &Formed| f.layer != layer)
                    || options.spectral && kept + entries > entries_held
                {
                    let others = Vec::new();
                    formed.push(Formed { layer, others });
                    kept = 0;
                }
                kept += entries;
                let turn = formed.last_mut().expect("pushed where it was missing");
                turn.others.push(other);
            }
        }
        let ways = Ways {
            options,
            p,
            layers,
            formed,
            probed,
            room,
        };
        ways.check(host)?;
        Ok(ways)
    }

    /// Refuses a budget that does not hold what is kept for one vector or one block.
    fn check(&self, host: u64) -> Result<()> {
        let short = |what: String, bytes: u64, cure: &str| {
            let message = format!(
                "{what} takes {} beside the products, more than half of the {} of host memory that are left to it: give more ({HOST_MEMORY}){cure}",
                Bytes(bytes.into()),
                Bytes(host.into()),
            );
            let mut remedies = vec![Remedy::HostMemory(Bytes(2 * u128::from(bytes)))];
            if !cure.is_empty() {
                remedies.push(Remedy::Fewer);
            }
            Err(Error::budget((bytes, host / 2), remedies, message))
        };
        if self.vector_bytes() > self.room {
            let what = format!("a vector of {} parameters with its product", self.p);
            return short(what, self.vector_bytes(), "");
        }
        if !self.options.spectral {
            return Ok(());
        }
        for formed in &self.formed {
            for &other in &formed.others {
                let (rows, columns) = (self.layers[formed.layer].len(), self.layers[other].len());
                let bytes = 6 * NUMBER * (rows * columns) as u64;
                if bytes > self.room {
                    let what = format!("a block of {rows} × {columns} entries that is formed");
                    let cure = format!(
                        ", or {EXACT_ENTRIES} less (an estimate in place of the block), or {NO_SPECTRAL}"
                    );
                    return short(what, bytes, &cure);
                }
            }
        }
        for &(a, b) in &self.probed {
            let bytes = self.pair_bytes((a, b));
            if bytes > self.room {
                let (rows, columns) = (self.layers[a].len(), self.layers[b].len());
                let what = format!("the spectral norm of a block of {rows} × {columns} entries");
                return short(what, bytes, &format!(", or {NO_SPECTRAL}"));
            }
        }
        Ok(())
    }

    /// Bytes of a vector of all parameters, and of its product with H or H − G and that in the precision of the device.
    fn vector_bytes(&self) -> u64 {
        3 * NUMBER * self.p as u64
    }

    /// Bytes of a bidiagonalisation of a pair's block: the vectors of all steps, and one of all parameters.
    fn pair_bytes(&self, (a, b): (usize, usize)) -> u64 {
        let (rows, columns) = (self.layers[a].len(), self.layers[b].len());
        (STEPS as u64 + 1) * NUMBER * (rows + columns) as u64 + self.vector_bytes()
    }

    /// Bytes that are kept beside the products at most.
    pub(super) fn bytes(&self) -> u64 {
        let turn = self.turn() as u64 * self.vector_bytes();
        let block = |f: &Formed| {
            let rows = self.layers[f.layer].len();
            let columns: usize = f.others.iter().map(|&other| self.layers[other].len()).sum();
            6 * NUMBER * (rows * columns) as u64
        };
        let spectral = self.options.spectral;
        let formed = self.formed.iter().map(block).max().filter(|_| spectral);
        let batches = self.batches();
        let batch = batches.iter().map(|pairs| {
            let bytes = pairs.iter().map(|&pair| self.pair_bytes(pair));
            bytes.sum::<u64>()
        });
        let batch = batch.max().filter(|_| spectral);
        (turn + formed.unwrap_or(0)).max(batch.unwrap_or(0))
    }

    /// The pairs that are not formed, in batches whose vectors fit.
    fn batches(&self) -> Vec<&[(usize, usize)]> {
        let most = (NUMBERS / 8 / self.p.max(1)).clamp(1, DIRECTIONS / 2);
        let (mut batches, mut start, mut held) = (Vec::new(), 0, 0);
        for (k, &pair) in self.probed.iter().enumerate() {
            let bytes = self.pair_bytes(pair);
            if k > start && (held + bytes > self.room || k - start == most) {
                batches.push(&self.probed[start..k]);
                (start, held) = (k, 0);
            }
            held += bytes;
        }
        if start < self.probed.len() {
            batches.push(&self.probed[start..]);
        }
        batches
    }

    /// Layers with a block that is not formed.
    fn probed_layers(&self) -> Vec<usize> {
        let on = |k: &usize| self.probed.iter().any(|&(a, b)| a == *k || b == *k);
        (0..self.layers.len()).filter(on).collect()
    }

    pub(super) fn directions(&self) -> u64 {
        let units: usize = self.formed.iter().map(|f| self.layers[f.layer].len()).sum();
        let probes = self.probed_layers().len() as u64 * u64::from(self.options.probes);
        let spectral = if self.options.spectral {
            self.probed.len() * 2 * STEPS
        } else {
            0
        };
        2 * (units as u64 + probes + spectral as u64)
    }

    /// Vectors of a product.
    fn turn(&self) -> usize {
        // Beside a block that is kept half of the room is left.
        let fits =
            usize::try_from(self.room / 2 / self.vector_bytes().max(1)).unwrap_or(usize::MAX);
        (NUMBERS / self.p.max(1)).min(fits).clamp(1, DIRECTIONS)
    }

    pub(super) fn run(&self, blocks: &mut Blocks<'_>) -> Result<Vec<Pair>> {
        let mut found: BTreeMap<(usize, usize), (bool, Found)> = BTreeMap::new();
        for formed in &self.formed {
            for (&other, norms) in formed.others.iter().zip(self.form(formed, blocks)?) {
                let pair = (formed.layer.min(other), formed.layer.max(other));
                found.insert(pair, (true, norms));
            }
        }
        let frobenius = self.probe(blocks)?;
        let spectral = self.bidiagonalise(blocks)?;
        for (k, (&pair, frobenius)) in self.probed.iter().zip(frobenius).enumerate() {
            found.insert(pair, (false, (frobenius, spectral.get(k).copied())));
        }
        let pair = |((rows, columns), (exact, (frobenius, spectral)))| Pair {
            rows,
            columns,
            exact,
            frobenius,
            spectral,
        };
        Ok(found.into_iter().map(pair).collect())
    }

    /// Norms of the blocks between a layer and others, from H's and (H − G)'s products with its unit vectors.
    fn form(&self, formed: &Formed, blocks: &mut Blocks<'_>) -> Result<Vec<Found>> {
        let units: Vec<usize> = self.layers[formed.layer].entries().collect();
        let mut squares = vec![[0.0; 2]; formed.others.len()];
        let spectral = self.options.spectral;
        let room = |&other: &usize| {
            // Grown to its size at once: a vector that doubles would take up to twice the room.
            let count = if spectral {
                units.len() * self.layers[other].len()
            } else {
                0
            };
            [(); 2].map(|()| Vec::with_capacity(count))
        };
        let mut entries: Vec<[Vec<f64>; 2]> = formed.others.iter().map(room).collect();
        for turn in units.chunks(self.turn()) {
            let mut vectors = Array2::zeros((turn.len(), self.p));
            for (k, &unit) in turn.iter().enumerate() {
                vectors[(k, unit)] = 1.0;
            }
            for (m, matrix) in MATRICES.into_iter().enumerate() {
                let product = blocks.product(matrix, &vectors)?;
                for (o, &other) in formed.others.iter().enumerate() {
                    for k in 0..turn.len() {
                        let part = self.layers[other].part(row(&product, k));
                        if self.options.spectral {
                            entries[o][m].extend(part.inspect(|v| squares[o][m] += v * v));
                        } else {
                            squares[o][m] += part.map(|v| v * v).sum::<f64>();
                        }
                    }
                }
            }
        }
        let norms = squares.into_iter().zip(entries).map(|(squares, entries)| {
            let spectral = self
                .options
                .spectral
                .then(|| BlockError::new(entries.map(|block| largest(&block, units.len())), 0.0));
            (BlockError::new(squares.map(f64::sqrt), 0.0), spectral)
        });
        Ok(norms.collect())
    }

    /// Frobenius errors of the probed pairs by random signs on both of their layers.
    fn probe(&self, blocks: &mut Blocks<'_>) -> Result<Vec<BlockError>> {
        let mut samples: Vec<Vec<[f64; 2]>> = vec![Vec::new(); self.probed.len()];
        for layer in self.probed_layers() {
            let numbers: Vec<u32> = (0..self.options.probes).collect();
            for turn in numbers.chunks(self.turn()) {
                let mut vectors = Array2::zeros((turn.len(), self.p));
                for (k, &number) in turn.iter().enumerate() {
                    let stream = SIGNS + self.layers[layer].0[0].start as u64;
                    let mut draws = Draws::new(self.options.seed, stream, number);
                    for entry in self.layers[layer].entries() {
                        vectors[(k, entry)] = draws.sign();
                    }
                }
                let products = MATRICES.map(|matrix| blocks.product(matrix, &vectors));
                let [hessian, residual] = products;
                let products = [hessian?, residual?];
                for (samples, &(a, b)) in samples.iter_mut().zip(&self.probed) {
                    // Signs on the columns give the rows' part, and the other way about.
                    let other = match (a == layer, b == layer) {
                        (_, true) => a,
                        (true, _) => b,
                        _ => continue,
                    };
                    let square = |product: &Array2<f64>, k| -> f64 {
                        self.layers[other]
                            .part(row(product, k))
                            .map(|v| v * v)
                            .sum()
                    };
                    let each = |k| [square(&products[0], k), square(&products[1], k)];
                    samples.extend((0..turn.len()).map(each));
                }
            }
        }
        Ok(samples.iter().map(|samples| estimate(samples)).collect())
    }

    /// Spectral errors of the probed pairs, a batch of them at a time; none where they are not asked for.
    fn bidiagonalise(&self, blocks: &mut Blocks<'_>) -> Result<Vec<BlockError>> {
        let mut errors = Vec::new();
        if !self.options.spectral {
            return Ok(errors);
        }
        // The vectors of all steps of a batch are kept.
        for pairs in self.batches() {
            let mut norms = Vec::new();
            for matrix in MATRICES {
                let starts = pairs.iter().map(|&pair| self.start(pair)).collect();
                let mut spare = pairs.len() * 2 * STEPS;
                norms.push(largest_by_products(starts, |side, vectors| {
                    spare -= vectors.len();
                    self.apply(blocks, matrix, pairs, side, vectors)
                })?);
                blocks.steps.spare(spare);
            }
            let both = norms[0].iter().zip(&norms[1]);
            errors.extend(both.map(|(hessian, residual)| spectral_error(*hessian, *residual)));
        }
        Ok(errors)
    }

    /// A normal vector on the columns of a pair's block.
    fn start(&self, (a, b): (usize, usize)) -> Vec<f64> {
        let first = |layer: usize| self.layers[layer].0[0].start as u64;
        let stream = STARTS + (first(a) << 30) + first(b);
        let mut draws = Draws::new(self.options.seed, stream, 0);
        (0..self.layers[b].len()).map(|_| draws.normal()).collect()
    }

    /// Products of the pairs' blocks, by their numbers, with a vector on one side each.
    fn apply(
        &self,
        blocks: &mut Blocks<'_>,
        matrix: Curvature,
        pairs: &[(usize, usize)],
        side: Side,
        sides: &[(usize, &[f64])],
    ) -> Result<Vec<Vec<f64>>> {
        // From a layer of the block to the other.
        let way = |k: usize| match side {
            Side::Columns => (pairs[k].1, pairs[k].0),
            Side::Rows => pairs[k],
        };
        let mut vectors = Array2::zeros((sides.len(), self.p));
        for (at, (k, values)) in sides.iter().enumerate() {
            for (entry, value) in self.layers[way(*k).0].entries().zip(*values) {
                vectors[(at, entry)] = *value;
            }
        }
        let product = blocks.product(matrix, &vectors)?;
        let part = |(at, (k, _)): (usize, &(usize, &[f64]))| {
            self.layers[way(*k).1].part(row(&product, at)).collect()
        };
        Ok(sides.iter().enumerate().map(part).collect())
    }
}

/// The ratio of two norms that are found from below, with both residuals put together.
fn spectral_error(hessian: Norm, residual: Norm) -> BlockError {
    let relative = |norm: Norm| norm.residual / norm.value;
    let spread = residual.value / hessian.value * relative(hessian).hypot(relative(residual));
    // Of a norm of 0 there is none.
    let uncertainty = if spread.is_finite() { spread } else { 0.0 };
    BlockError::new([hessian.value, residual.value], uncertainty)
}

/// ‖(H − G)_ab‖_F / ‖H_ab‖_F from samples of both squares, with the jackknife's standard error.
///
/// Source: Efron and Stein, "The jackknife estimate of variance", 1981.
fn estimate(samples: &[[f64; 2]]) -> BlockError {
    let count = samples.len() as f64;
    let sum = |m: usize| samples.iter().map(|s| s[m]).sum::<f64>();
    let sums = [sum(0), sum(1)];
    let without = |s: &[f64; 2]| ((sums[1] - s[1]).max(0.0) / (sums[0] - s[0])).sqrt();
    let leaves: Vec<f64> = samples.iter().map(without).collect();
    let mean = leaves.iter().sum::<f64>() / count;
    let spread: f64 = leaves.iter().map(|l| (l - mean).powi(2)).sum();
    let error = ((count - 1.0) / count * spread).sqrt();
    let uncertainty = if error.is_finite() { error } else { 0.0 };
    BlockError::new(sums.map(|s| (s / count).sqrt()), uncertainty)
}
