//! Parts cut into strips and tiles.

use super::choose::Chosen;
use super::limits::Limits;
use super::parts::{PartPlan, TileJob};
use super::tiles::{Grid, Tiling, strips};
use crate::bytes::Bytes;
use crate::error::{Error, Remedy, Result};
use crate::network::Network;
use crate::setting::{HOST_MEMORY, TILE as TILE_ROWS};

/// Bytes per tile: its entry in the plan, in the list of open tiles, and in the list of finished ones with its checksum. Measured: 340
/// to 590, as tables grow by doubling.
pub(super) const TILE: usize = 640;

/// Cuts every matrix part into strips.
pub(super) fn strips_of(
    network: &Network,
    parts: Vec<Chosen>,
    grid: Grid,
    tiling: Tiling,
) -> Vec<PartPlan> {
    let (height, width) = grid.tile(tiling);
    let cut = |chosen: Chosen| {
        let part = chosen.part;
        let strips = |ranges, extent| strips(network, ranges, extent, tiling.regular);
        let (rows, columns) = match &part.columns {
            Some(columns) => (strips(&part.rows, height), strips(columns, width)),
            None => (Vec::new(), Vec::new()),
        };
        PartPlan {
            part,
            number: chosen.number,
            counted: chosen.counted,
            rows,
            columns,
        }
    };
    parts.into_iter().map(cut).collect()
}

/// The first strip of columns that a strip of rows has a tile with: a tile owns its mirror, so that below the diagonal of a
/// symmetric part nothing is computed.
fn first_column(part: &PartPlan, grid: Grid, row: usize) -> usize {
    match part.part.symmetric() && grid.above_the_diagonal() {
        true => row,
        false => 0,
    }
}

/// The number of a part's tiles.
pub(super) fn tile_count(part: &PartPlan, grid: Grid) -> usize {
    let of_row = |row| part.columns.len() - first_column(part, grid, row);
    (0..part.rows.len()).map(of_row).sum()
}

/// The tiles of parts.
pub(super) fn tiles_of(parts: &[PartPlan], grid: Grid) -> Vec<TileJob> {
    let mut tiles = Vec::with_capacity(parts.iter().map(|part| tile_count(part, grid)).sum());
    for (index, part) in parts.iter().enumerate() {
        for row in 0..part.rows.len() {
            let columns = first_column(part, grid, row)..part.columns.len();
            tiles.extend(columns.map(|column| TileJob {
                part: index,
                row,
                column,
            }));
        }
    }
    tiles
}

/// Refuses more tiles than the budget has room to list.
pub(super) fn check_tiles(
    count: usize,
    (rows, columns): (usize, usize),
    limits: Limits,
) -> Result<()> {
    /// A list smaller than this is never the reason of a refusal; a later check gives a better message.
    const SMALL: u64 = 1 << 20;
    let bytes = (TILE * count) as u64;
    if bytes <= limits.host_left().max(SMALL) {
        return Ok(());
    }
    let least = limits
        .held
        .saturating_add(bytes.saturating_mul(limits.sharing.max(1)));
    let remedies = vec![Remedy::LargerTiles, Remedy::HostMemory(Bytes(least.into()))];
    let message = format!(
        "the memory budget of {} is too small: {}the list of {count} tiles, of {rows} × {} entries each, takes {}; take larger tiles \
         ({TILE_ROWS}), or give more ({HOST_MEMORY})",
        Bytes(limits.host.into()),
        limits.held_text(),
        match columns {
            usize::MAX => "all".to_owned(),
            columns => columns.to_string(),
        },
        Bytes(bytes.into()),
    );
    Err(Error::budget((least, limits.host), remedies, message))
}
