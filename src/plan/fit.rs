//! The units of samples and directions that there is memory for, and the refusal where not even the smallest fits.

use super::budget::ALLOWANCE;
use super::cut::TILE;
use super::footprint::{Footprint, Planner};
use super::forward::Needs;
use super::limits::Limits;
use super::parts::TileJob;
use super::refusal::Shortfall;
use super::routes::Routes;
use super::sizes::{MOST_DIRECTIONS, RING, Sizes, UNIT_ROWS, UNIT_SAMPLES, Units, WRITING};
use super::tiles::Strip;
use crate::bytes::Bytes;
use crate::error::{Error, Remedy, Result};
use crate::network::Network;
use crate::setting::{DEVICE, RESTART};

/// The units that there is room for, and what they take.
pub(super) struct Room<T> {
    pub(super) needs: T,
    pub(super) unit: usize,
    pub(super) chunk: usize,
    /// Bytes of the host's buffers.
    pub(super) host: u64,
    /// Bytes that the device has beside them.
    pub(super) device: u64,
}

/// The units that take the least of those that were tried, in bytes: small ones are not always it, as more of them are added to a
/// tile.
#[derive(Clone, Copy, Default)]
struct Least {
    largest: u64,
    peak: u64,
    host: u64,
}

impl Least {
    fn try_out(&mut self, largest: u64, peak: u64, host: u64) {
        if self.peak == 0 || peak + host < self.peak + self.host {
            *self = Least {
                largest,
                peak,
                host,
            };
        }
    }
}

/// Directions of a pass below which its samples are cut first: the primal pass is no small part of it any more.
const FEW_DIRECTIONS: usize = 8;

/// Bytes that a part takes in lists, beside its strips: its description, file and figures. Measured.
const PART: usize = 4096;

/// The limits of a run that is resumed may use the [`ALLOWANCE`] too: the same command may hold a little more than it did before.
fn with_reserve(sizes: Sizes, limits: Limits) -> Limits {
    match sizes.units {
        Some(_) => Limits {
            held: limits.held.saturating_sub(ALLOWANCE),
            ..limits
        },
        None => limits,
    }
}

/// Bytes of the largest value of a unit that a diagonal is made of.
const DIAGONAL_UNIT: usize = 32 << 20;

/// Rows of V (samples × directions) in a unit that only a diagonal is made of: so many that the largest value of the
/// network, with all rows, takes 32 MiB, or 8 times the parameters where that is more (every unit reads them and
/// adds to as many sums). Memory is so the same whatever N and R are.
///
/// A unit that makes blocks has more rows: tiles are accumulated over them.
fn diagonal_rows(network: &Network, number_bytes: usize) -> usize {
    let values = 0..network.inputs.len() + network.nodes.len();
    let largest = values.map(|value| network.rest(value).iter().product::<usize>());
    let largest = largest.max().unwrap_or(1).max(1);
    let numbers = (DIAGONAL_UNIT / number_bytes.max(1)).max(8 * network.parameter_count());
    (numbers / largest).clamp(1, UNIT_ROWS)
}

/// Rows of V in a unit at most.
fn unit_rows(network: &Network, tiles: &[TileJob], sizes: Sizes) -> usize {
    if tiles.is_empty() {
        diagonal_rows(network, sizes.number_bytes)
    } else {
        UNIT_ROWS
    }
}

/// The largest units that fit, of G.
pub(super) fn room_backward(planner: &Planner<'_>, limits: Limits) -> Result<Room<Footprint>> {
    let (network, tiles, sizes) = (planner.network, planner.tiles, planner.sizes);
    let limits = with_reserve(sizes, limits);
    let (rows, lists) = (unit_rows(network, tiles, sizes), list_bytes(planner));
    let fewest = match tiles.is_empty() {
        true => 1,
        false => (4 * UNIT_ROWS / sizes.directions.max(1)).clamp(1, UNIT_SAMPLES),
    };
    let most = sizes
        .batch
        .unwrap_or((rows / sizes.directions.max(1)).max(fewest));
    let mut unit = most.clamp(1, sizes.samples.max(1));
    let mut chunk = sizes.directions.clamp(1, rows);
    if let Some(units) = sizes.units {
        unit = units.samples.clamp(1, sizes.samples.max(1));
        chunk = units.directions.clamp(1, sizes.directions.max(1));
    }
    let mut least = Least::default();
    loop {
        let footprint = planner.footprint(unit, chunk)?;
        let tile = (footprint.tile, tiles.len());
        let buffers = host_bytes(network, tile, sizes, limits, (unit, chunk));
        let host = buffers + lists;
        let device = limits.device_beside(host);
        let peak = footprint.recompute(1, limits.unified);
        let fits = peak <= device && host <= limits.host_left();
        if fits && footprint.largest <= limits.tensor {
            return Ok(Room {
                needs: footprint,
                unit,
                chunk,
                host,
                device,
            });
        }
        least.try_out(footprint.largest, peak, host);
        if let Some(units) = sizes.units {
            return Err(too_small_for(units, peak, host, limits));
        }
        if unit > 1 {
            unit = unit.div_ceil(2);
        } else if chunk > 1 {
            chunk = chunk.div_ceil(2);
        } else {
            return Err(too_small(least, limits));
        }
    }
}

/// The largest units that fit, for parts that go forward: H, H − G, or G from tangents.
pub(super) fn room_forward(
    planner: &Planner<'_>,
    routes: &Routes,
    limits: Limits,
) -> Result<Room<Needs>> {
    let (network, sizes) = (planner.network, planner.sizes);
    let limits = with_reserve(sizes, limits);
    let lists = list_bytes(planner) + planner.route_bytes(routes);
    let most = sizes.batch.unwrap_or(UNIT_ROWS / MOST_DIRECTIONS);
    let mut unit = most.clamp(1, sizes.samples.max(1));
    let mut chunk = planner.most_directions(routes);
    if let Some(units) = sizes.units {
        unit = units.samples.clamp(1, sizes.samples.max(1));
        chunk = units.directions.clamp(1, MOST_DIRECTIONS);
    }
    let mut least = Least::default();
    loop {
        let on_host = |needs: &Needs| {
            let tile = (needs.tile, planner.tiles.len());
            let buffers = host_bytes(network, tile, sizes, limits, (unit, chunk));
            buffers + lists + needs.groups
        };
        let fits = |needs: &Needs| {
            let (host, peak) = (on_host(needs), needs.peak(1, limits.unified));
            let fits = peak <= limits.device_beside(host) && host <= limits.host_left();
            fits && needs.largest <= limits.tensor
        };
        // Smaller ones are tried as soon as a pass does not fit; what the smallest take is for the message.
        let last = unit == 1 && chunk == 1 || sizes.units.is_some();
        let needs = planner.needs(routes, unit, chunk, |needs| last || fits(needs))?;
        let (host, peak) = (on_host(&needs), needs.peak(1, limits.unified));
        let device = limits.device_beside(host);
        if fits(&needs) {
            return Ok(Room {
                needs,
                unit,
                chunk,
                host,
                device,
            });
        }
        if last {
            least.try_out(needs.largest, peak, host);
        }
        if let Some(units) = sizes.units {
            return Err(too_small_for(units, peak, host, limits));
        }
        // Directions share the primal pass, samples nothing.
        if unit > 8 || unit > 1 && chunk <= FEW_DIRECTIONS {
            unit = unit.div_ceil(2);
        } else if chunk > 1 {
            chunk = chunk.div_ceil(2);
        } else {
            return Err(too_small(least, limits));
        }
    }
}

/// Bytes that the lists of parts and tiles take, with what is written down of each tile that is made.
fn list_bytes(planner: &Planner<'_>) -> u64 {
    let spans = |strips: &[Strip]| {
        let spans = strips.iter().map(|strip| size_of_val(&strip.spans[..]));
        size_of_val(strips) + spans.sum::<usize>()
    };
    let parts = planner.parts.iter();
    let parts: usize = parts
        .map(|p| PART + spans(&p.rows) + spans(&p.columns))
        .sum();
    (parts + TILE * planner.tiles.len()) as u64
}

/// Bytes of the host's buffers: finished tiles, a unit's data and loss factor. The network is the caller's, and there already.
fn host_bytes(
    network: &Network,
    (tile, count): (u64, usize),
    sizes: Sizes,
    limits: Limits,
    (unit, chunk): (usize, usize),
) -> u64 {
    let input: usize = network
        .inputs
        .iter()
        .map(|i| i.rest.iter().product::<usize>())
        .sum();
    let outputs = network.outputs();
    // Read in double precision and once more rounded; S, its columns and they again rounded.
    let numbers = unit * (2 * input + outputs + sizes.target) + 3 * unit * chunk * (outputs + 1);
    // What is cut into chunks is padded to their size, turned round for its mirror, and may be compressed, by each writer.
    let chunks = if sizes.tiling.regular { 2 * WRITING } else { 0 };
    let waiting = tiles_on_their_way(limits.unified, count);
    tile * (waiting + chunks) as u64 + 8 * numbers as u64
}

/// Finished tiles in host memory at most, of `count` tiles.
pub(super) fn tiles_on_their_way(unified: bool, count: usize) -> usize {
    // On the CPU one in the driver's hand and one that waits; else those of the ring, and one in the collector's hand.
    let finished = if unified { 2 } else { RING + 1 };
    (finished + WRITING).min(count)
}

/// The budget does not hold the units of the run that is resumed.
fn too_small_for(units: Units, peak: u64, host: u64, limits: Limits) -> Error {
    let short = Shortfall::of(limits, peak, host);
    let message = format!(
        "the run that this one goes on with took {} samples and {} directions at a time, as rounding needs it to be to the \
         end: that is {} on the device and {} of host memory, more than there is now; give it as much, or begin again with \
         {RESTART} (of several processes, once what all of them left is removed)",
        units.samples,
        units.directions,
        Bytes(peak.into()),
        Bytes(host.into())
    );
    let mut error = short.error(message);
    if let Error::Budget { remedies, .. } = &mut error {
        remedies.push(Remedy::Restart);
    }
    error
}

fn too_small(least: Least, limits: Limits) -> Error {
    let Least {
        largest,
        peak,
        host,
    } = least;
    let bytes = |b: u64| Bytes(b.into());
    if largest > limits.tensor {
        return Error::budget(
            (largest, limits.tensor),
            vec![Remedy::Cpu],
            format!(
                "the largest tensor takes {}, the device binds {} at most; use {DEVICE} cpu, or ask for smaller parts",
                bytes(largest),
                bytes(limits.tensor)
            ),
        );
    }
    let short = Shortfall::of(limits, peak, host);
    let message = format!(
        "the memory budget of {} is too small: {}weights, a pass and one tile take at least {}, host buffers and finished tiles {}; {} would do",
        short.budget,
        short.held,
        bytes(peak),
        bytes(host),
        short.would_do(),
    );
    short.error(message)
}
