//! The plan: the parts with their tiles, the units, and the memory and operations that they take.

use super::limits::Limits;
use super::parts::{PairPlan, PartPlan, TileJob};
use super::routes::Routes;
use super::sizes::{Sizes, Units};
use super::tiles::{Grid, Tiling};
use super::way::Way;
use crate::sink::{PartLayout, Tile};
use std::ops::Range;

/// How factors are kept between tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    /// Factors of all samples stay on the device, dense rows formed once.
    Rows,
    /// Factors of all samples stay on the device, or dense rows where these are smaller; others are formed per tile.
    Factors,
    /// Factors are recomputed for each wave of tiles.
    Recompute,
}

/// What would run.
///
/// Parts of G that are cheaper forward are planned apart from those that are cheaper backwards ([`Way`]): where a request has
/// both, [`Plan::rest`] is the plan of the former, and the other fields are of the latter alone.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How parts are cut.
    pub grid: Grid,
    /// Parts with their grids.
    pub parts: Vec<PartPlan>,
    /// Tiles in order.
    pub tiles: Vec<TileJob>,
    /// Number of samples.
    pub samples: usize,
    /// Samples per unit.
    pub unit: usize,
    /// Directions R.
    pub directions: usize,
    /// Directions per reverse pass.
    pub chunk: usize,
    /// What becomes of the factors.
    pub keep: Keep,
    /// Tiles accumulated at once when factors are recomputed.
    pub wave: usize,
    /// Whether the data of all samples stay on the device from one wave to the next.
    pub keep_data: bool,
    /// The entries that have tangents for each pair of parameters, where second derivatives of the network are asked for, and
    /// for G forward.
    pub routes: Option<Routes>,
    /// Contractions by pair of parameters.
    pub pairs: Vec<PairPlan>,
    /// Operations of one pass over all samples that makes the factors; of all passes where parameters have tangents.
    pub factor_operations: u64,
    /// Operations of all contractions.
    pub contraction_operations: u64,
    /// Predicted peak on the device.
    pub device_bytes: u64,
    /// Predicted peak of host buffers.
    pub host_bytes: u64,
    /// The plan of the parts that go the other way; it runs after this one.
    pub rest: Option<Box<Plan>>,
    /// What it was made for.
    pub(super) sizes: Sizes,
    /// What it keeps within.
    pub(super) limits: Limits,
}

impl Plan {
    /// This plan and that of the rest, in the order in which they run.
    pub fn stages(&self) -> impl Iterator<Item = &Plan> {
        std::iter::once(self).chain(self.rest.as_deref())
    }

    /// The way of its parts, without the rest.
    pub fn way(&self) -> Way {
        match self.routes {
            Some(_) => Way::Forward,
            None => Way::Backward,
        }
    }

    /// What it takes at a time, and the rest.
    pub fn units(&self) -> Units {
        Units {
            samples: self.unit,
            directions: self.chunk,
            rest: self.rest.as_ref().map(|rest| (rest.unit, rest.chunk)),
        }
    }

    /// All parts with the rest's, in the order of the request.
    pub fn all_parts(&self) -> Vec<&PartPlan> {
        let mut parts: Vec<&PartPlan> = self.stages().flat_map(|plan| &plan.parts).collect();
        parts.sort_by_key(|part| part.number);
        parts
    }

    /// The number of tiles, with the rest's.
    pub fn tile_count(&self) -> usize {
        self.stages().map(|plan| plan.tiles.len()).sum()
    }

    /// All parts as a sink knows them, with the rest's.
    pub fn layouts(&self) -> Vec<PartLayout> {
        let parts = self.all_parts().into_iter();
        parts.map(|part| part.part.layout()).collect()
    }

    /// The entries of a tile.
    pub fn tile(&self, job: &TileJob) -> Tile {
        let part = &self.parts[job.part];
        Tile {
            part: part.number,
            rows: part.rows[job.row].positions.clone(),
            columns: part.columns[job.column].positions.clone(),
        }
    }

    /// Whether whoever writes the tile writes its mirror too.
    pub fn mirrored(&self, job: &TileJob) -> bool {
        let part = &self.parts[job.part];
        let halved = part.part.symmetric() && self.grid.above_the_diagonal();
        halved && !part.on_diagonal(job)
    }

    /// How its parts are cut.
    pub fn tiling(&self) -> Tiling {
        self.sizes.tiling
    }

    /// What decides the order of accumulation, and so the bits (DESIGN §4).
    pub fn order(&self) -> serde_json::Value {
        let mut order = serde_json::json!({
            "unit_samples": self.unit,
            "unit_directions": self.chunk,
            "batch": self.sizes.batch,
            "grid": self.grid,
            "tile": self.grid.tile(self.sizes.tiling),
            "regular": self.sizes.tiling.regular,
        });
        if self.chose_forward() {
            order["way"] = serde_json::json!(Way::Forward);
        }
        if let Some(rest) = &self.rest {
            let numbers: Vec<usize> = rest.parts.iter().map(|part| part.number).collect();
            order["rest"] = rest.order();
            order["rest"]["parts"] = serde_json::json!(numbers);
        }
        order
    }

    /// Whether its parts go forward where they could go backwards.
    pub(super) fn chose_forward(&self) -> bool {
        self.routes.is_some() && !self.sizes.curvature.needs_second_derivatives()
    }

    /// Bytes of a number.
    pub fn number_bytes(&self) -> usize {
        self.sizes.number_bytes
    }

    /// Bytes that it keeps within on the device.
    pub fn device_budget(&self) -> u64 {
        self.limits.device
    }

    /// Bytes that it keeps within in host buffers.
    pub(crate) fn host_budget(&self) -> u64 {
        self.limits.host_left()
    }

    /// Whether the device's memory is the host's.
    pub fn is_unified(&self) -> bool {
        self.limits.unified
    }

    /// Number of passes over the data.
    pub fn passes(&self) -> usize {
        match self.keep {
            Keep::Recompute => self.tiles.len().div_ceil(self.wave.max(1)).max(1),
            _ => 1,
        }
    }

    /// Operations of all forward and reverse passes, without the rest's.
    pub fn pass_operations(&self) -> u64 {
        match self.routes {
            // Each wave makes the passes that it needs.
            Some(_) => self.factor_operations,
            None => self.factor_operations * self.passes() as u64,
        }
    }

    /// All floating-point operations, with the rest's.
    pub fn operations(&self) -> u64 {
        self.stages().map(Plan::own_operations).sum()
    }

    /// All floating-point operations of its own parts.
    pub(crate) fn own_operations(&self) -> u64 {
        self.pass_operations() + self.contraction_operations
    }

    /// Operations of passes and of contractions for a share of the tiles: where factors are kept they are made for whatever
    /// is left.
    pub fn operations_of(&self, fraction: f64) -> (u64, u64) {
        let share = |operations: u64, share: f64| (operations as f64 * share) as u64;
        let passes = share(self.pass_operations(), self.share_of_passes(fraction));
        (passes, share(self.contraction_operations, fraction))
    }

    /// The share of its passes that a share of its tiles takes: all where factors are kept.
    pub fn share_of_passes(&self, fraction: f64) -> f64 {
        match self.keep {
            Keep::Recompute => fraction,
            _ if fraction > 0.0 => 1.0,
            _ => 0.0,
        }
    }

    /// Entries of all parts, with the rest's.
    pub fn entries(&self) -> u128 {
        self.stages().map(Plan::own_entries).sum()
    }

    /// Entries of its own parts.
    pub(crate) fn own_entries(&self) -> u128 {
        self.parts.iter().map(|p| p.part.entries()).sum()
    }

    /// The ranges of samples of the units.
    pub fn unit_ranges(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        (0..self.samples)
            .step_by(self.unit)
            .map(|start| start..(start + self.unit).min(self.samples))
    }
}
