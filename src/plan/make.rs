//! Makes a plan: cuts the parts, finds the units that fit, and counts, all on shapes alone.

use super::choose::{Chosen, choose};
use super::cut::{check_tiles, strips_of, tile_count, tiles_of};
use super::fit::{Room, room_backward, room_forward};
use super::footprint::Planner;
use super::limits::Limits;
use super::parts::{PairPlan, PartPlan, TileJob, wanted};
use super::planned::{Keep, Plan};
use super::refusal::{shortage, with_what_fits};
use super::request::ResolvedPart;
use super::routes::Routes;
use super::sizes::{MOST_ENTRIES, Sizes, Units};
use super::tiles::Grid;
use super::way::Way;
use crate::bytes::Bytes;
use crate::error::{Error, Result};
use crate::jacobian::passes::Reach;
use crate::network::Network;

/// Plans the parts: grid, unit, what is kept, contractions, operations and memory.
///
/// # Errors
/// [`Error::Budget`] with the arithmetic where not even one sample, one direction and one tile fit, the least budget that would
/// do, and parts that fit; [`Error::Request`] for parts that no disk could hold, with those that could be had.
pub fn plan(
    network: &Network,
    parts: Vec<ResolvedPart>,
    sizes: Sizes,
    limits: Limits,
) -> Result<Plan> {
    let asked = parts.clone();
    attempt(network, parts, sizes, limits).map_err(|error| match sizes.units {
        // What it goes on with is of these parts and no others.
        Some(_) => error,
        None => {
            let fits = |part: &ResolvedPart| has_room(network, vec![part.clone()], sizes, limits);
            with_what_fits(error, network, &asked, sizes.number_bytes, fits)
        }
    })
}

/// Parts cut into tiles, before it is known in what units they are made.
struct Cut {
    reach: Reach,
    grid: Grid,
    parts: Vec<PartPlan>,
    tiles: Vec<TileJob>,
}

impl Cut {
    /// Cuts parts that go one way.
    ///
    /// # Errors
    /// [`Error::Budget`] where the budget does not hold the list of tiles.
    fn new(network: &Network, parts: Vec<Chosen>, sizes: Sizes, limits: Limits) -> Result<Cut> {
        let reach = Reach::new(network, wanted(network, parts.iter().map(|p| &p.part)));
        let cut = match parts.first().map(|part| part.way) {
            Some(Way::Forward) => Grid::Squares,
            _ => sizes.grid,
        };
        let parts = strips_of(network, parts, cut, sizes.tiling);
        let count = parts.iter().map(|part| tile_count(part, cut)).sum();
        check_tiles(count, cut.tile(sizes.tiling), limits)?;
        let tiles = tiles_of(&parts, cut);
        Ok(Cut {
            reach,
            grid: cut,
            parts,
            tiles,
        })
    }

    fn planner<'a>(&'a self, network: &'a Network, sizes: Sizes) -> Planner<'a> {
        Planner {
            network,
            reach: &self.reach,
            parts: &self.parts,
            tiles: &self.tiles,
            sizes,
            grid: self.grid,
        }
    }
}

/// Whether parts have room, in whatever units: as [`attempt`] finds it, without what it counts beyond.
pub(super) fn has_room(
    network: &Network,
    parts: Vec<ResolvedPart>,
    sizes: Sizes,
    limits: Limits,
) -> bool {
    let found = |(parts, sizes): (Vec<Chosen>, Sizes)| {
        let way = parts.first().map(|part| part.way);
        let cut = Cut::new(network, parts, sizes, limits)?;
        let planner = cut.planner(network, sizes);
        match way {
            Some(Way::Forward) => room_forward(&planner, &planner.routes()?, limits).map(|_| ()),
            _ => room_backward(&planner, limits).map(|_| ()),
        }
    };
    let stages = stages(network, parts, sizes);
    stages.is_ok_and(|stages| stages.into_iter().all(|stage| found(stage).is_ok()))
}

/// Checks the sizes of parts, chooses their ways, and puts those of the same way together: those that go backwards first,
/// each with what its plan is made for. One stage at least.
fn stages(
    network: &Network,
    parts: Vec<ResolvedPart>,
    sizes: Sizes,
) -> Result<Vec<(Vec<Chosen>, Sizes)>> {
    check_size(network, &parts, sizes.number_bytes)?;
    let chosen = choose(network, parts, sizes)?;
    let backward = |part: &Chosen| part.way == Way::Backward;
    let (backward, forward): (Vec<_>, Vec<_>) = chosen.into_iter().partition(backward);
    let of_rest = Sizes {
        units: sizes.units.and_then(Units::of_rest),
        ..sizes
    };
    Ok(match (backward.is_empty(), forward.is_empty()) {
        (true, false) => vec![(forward, sizes)],
        (_, true) => vec![(backward, sizes)],
        (false, false) => vec![(backward, sizes), (forward, of_rest)],
    })
}

/// As [`plan`], without a word on what would fit.
fn attempt(
    network: &Network,
    parts: Vec<ResolvedPart>,
    sizes: Sizes,
    limits: Limits,
) -> Result<Plan> {
    let mut later: Option<Box<Plan>> = None;
    for (parts, sizes) in stages(network, parts, sizes)?.into_iter().rev() {
        later = Some(Box::new(
            Stage::new(network, parts, sizes, limits)?.plan(later),
        ));
    }
    Ok(*later.expect("a request has one stage at least"))
}

/// Parts that go one way, cut, with the units that fit: all of a plan but the parts that go the other way.
struct Stage {
    cut: Cut,
    fitted: Fitted,
    sizes: Sizes,
    limits: Limits,
}

/// The units that fit, what stays on the device between tiles, and what all of it takes.
struct Fitted {
    unit: usize,
    chunk: usize,
    keep: Keep,
    wave: u64,
    keep_data: bool,
    routes: Option<Routes>,
    /// Contractions by pair of parameters.
    pairs: Vec<PairPlan>,
    factor_operations: u64,
    device_bytes: u64,
    /// Bytes of the host's buffers, without what the device takes of the same memory.
    host: u64,
}

impl Stage {
    /// Cuts parts that go one way and finds the units that fit.
    fn new(network: &Network, parts: Vec<Chosen>, sizes: Sizes, limits: Limits) -> Result<Stage> {
        let way = parts.first().map(|part| part.way);
        let cut = Cut::new(network, parts, sizes, limits)?;
        let planner = cut.planner(network, sizes);
        let fitted = match way {
            Some(Way::Forward) => Fitted::forward(&planner, limits)?,
            _ => Fitted::backward(&planner, limits)?,
        };
        Ok(Stage {
            cut,
            fitted,
            sizes,
            limits,
        })
    }

    /// The plan of these parts and, after them, of the `rest`.
    fn plan(self, rest: Option<Box<Plan>>) -> Plan {
        let Stage {
            cut,
            fitted,
            sizes,
            limits,
        } = self;
        let shared = if limits.unified {
            fitted.device_bytes
        } else {
            0
        };
        Plan {
            grid: cut.grid,
            parts: cut.parts,
            tiles: cut.tiles,
            samples: sizes.samples,
            unit: fitted.unit,
            directions: sizes.directions,
            chunk: fitted.chunk,
            keep: fitted.keep,
            wave: fitted.wave as usize,
            keep_data: fitted.keep_data,
            routes: fitted.routes,
            contraction_operations: fitted.pairs.iter().map(|p| p.operations).sum(),
            pairs: fitted.pairs,
            factor_operations: fitted.factor_operations,
            device_bytes: fitted.device_bytes,
            host_bytes: fitted.host + shared,
            rest,
            sizes,
            limits,
        }
    }
}

impl Fitted {
    /// For G from the directions of the loss factor.
    fn backward(planner: &Planner<'_>, limits: Limits) -> Result<Fitted> {
        let Room {
            needs: footprint,
            unit,
            chunk,
            host,
            device,
        } = room_backward(planner, limits)?;
        let (network, sizes, tiles) = (planner.network, planner.sizes, planner.tiles);
        let all = tiles.len() as u64;
        let count = sizes.units(unit, chunk);
        let rows = footprint.keep_rows(count, limits.unified);
        let factors = footprint.keep_factors(count, limits.unified);
        let mut kept_data = 0;
        let (keep, wave, device_bytes) = if tiles.is_empty() {
            (Keep::Recompute, 1, footprint.recompute(1, limits.unified))
        } else if rows <= device && footprint.largest_rows <= limits.tensor {
            (Keep::Rows, all, rows)
        } else if factors <= device {
            (Keep::Factors, all, factors)
        } else {
            let one = footprint.recompute(1, limits.unified);
            let tile = footprint.tile_under_way(limits.unified);
            let (more, data) = tiles_beside_data(network, sizes, device - one, tile);
            let wave = match planner.grid {
                // Strips of one memory.
                Grid::Whole => all,
                _ => (1 + more).min(all),
            };
            if wave < all {
                kept_data = data;
            }
            let bytes = footprint.recompute(wave, limits.unified) + kept_data;
            (Keep::Recompute, wave, bytes)
        };
        let (pairs, factor_operations) = planner.count(unit, chunk)?;
        Ok(Fitted {
            unit,
            chunk,
            keep,
            wave,
            keep_data: kept_data > 0,
            routes: None,
            pairs,
            factor_operations,
            device_bytes,
            host,
        })
    }

    /// For H, H − G, or G forward, from tangents of the parameters.
    fn forward(planner: &Planner<'_>, limits: Limits) -> Result<Fitted> {
        let routes = planner.routes()?;
        let Room {
            needs,
            unit,
            chunk,
            host,
            device,
        } = room_forward(planner, &routes, limits)?;
        let tile = needs.tile_under_way(limits.unified);
        let room = device - needs.peak(1, limits.unified);
        let (more, data) = tiles_beside_data(planner.network, planner.sizes, room, tile);
        let all = planner.tiles.len().max(1) as u64;
        let wave = (1 + more).min(all);
        let kept_data = if wave < all { data } else { 0 };
        let (pairs, factor_operations) =
            planner.count_forward(&routes, unit, chunk, wave as usize)?;
        Ok(Fitted {
            unit,
            chunk,
            keep: Keep::Recompute,
            wave,
            keep_data: kept_data > 0,
            routes: Some(routes),
            pairs,
            factor_operations,
            device_bytes: needs.peak(wave, limits.unified) + kept_data,
            host,
        })
    }
}

/// Tiles that fit into `room` bytes, and the bytes of the data of all samples, where they leave as much to tiles: every wave
/// would upload them anew. 0 where they do not.
fn tiles_beside_data(network: &Network, sizes: Sizes, room: u64, tile: u64) -> (u64, u64) {
    let numbers: usize = network
        .inputs
        .iter()
        .map(|input| input.rest.iter().product::<usize>())
        .sum();
    let data = sizes.samples as u64 * numbers as u64 * sizes.number_bytes as u64;
    let data = if 2 * data <= room { data } else { 0 };
    ((room - data) / tile.max(1), data)
}

/// Refuses parts that nothing could hold, with the arithmetic.
fn check_size(network: &Network, parts: &[ResolvedPart], number_bytes: usize) -> Result<()> {
    let most = MOST_ENTRIES * number_bytes as u128;
    let holder = format!("no more than {} can be planned", Bytes(most));
    match shortage(network, parts, number_bytes, most, &holder)? {
        Some(shortage) => Err(Error::Request(shortage.message)),
        None => Ok(()),
    }
}

impl Plan {
    /// The same parts and tiles in half the device's memory (that of the limits, or what is used of it), or in three
    /// quarters where half is too little. The rest stays as it is.
    ///
    /// # Errors
    /// As [`plan`].
    pub fn halved(&self, network: &Network) -> Result<Plan> {
        let whole = self.limits.device.min(self.device_bytes);
        let within = |device: u64| self.again(network, None, device);
        within(whole / 2).or_else(|refused| within(whole / 4 * 3).map_err(|_| refused))
    }

    /// The same parts and tiles in other units, within so many bytes of the device's memory and no more than before: those of
    /// a run that this one shares a result with.
    ///
    /// # Errors
    /// As [`plan`]; [`Error::Budget`] where the memory does not hold these units.
    pub fn in_units(&self, network: &Network, units: Units, device: u64) -> Result<Plan> {
        let device = device.min(self.limits.device);
        let own = self.stage_again(network, Some(units), device)?;
        let rest = match (&self.rest, units.of_rest()) {
            (Some(rest), Some(units)) => {
                Some(Box::new(rest.again(network, Some(units), device)?))
            }
            _ => self.rest.clone(),
        };
        Ok(own.plan(rest))
    }

    /// Its own parts planned anew, in the same way; the rest stays as it is.
    ///
    /// # Errors
    /// As [`plan`].
    pub(crate) fn again(
        &self,
        network: &Network,
        units: Option<Units>,
        device: u64,
    ) -> Result<Plan> {
        let stage = self.stage_again(network, units, device)?;
        Ok(stage.plan(self.rest.clone()))
    }

    fn stage_again(&self, network: &Network, units: Option<Units>, device: u64) -> Result<Stage> {
        let limits = Limits {
            device,
            ..self.limits
        };
        let chosen = |part: &PartPlan| Chosen {
            number: part.number,
            part: part.part.clone(),
            way: self.way(),
            counted: part.counted,
        };
        let parts = self.parts.iter().map(chosen).collect();
        let sizes = Sizes {
            units,
            ..self.sizes
        };
        Stage::new(network, parts, sizes, limits)
    }
}
