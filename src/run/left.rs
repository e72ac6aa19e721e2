//! The tiles that a resumed run still has to make.

use crate::control::{Control, Progress};
use crate::error::Result;
use crate::plan::Plan;
use crate::sink::{Sink, Tile};
use crate::tensor::Real;
use rayon::prelude::*;
use std::borrow::Cow;
use std::collections::BTreeSet;

/// The tiles of a plan that are still to be made.
pub(super) struct Left {
    pub(super) tiles: BTreeSet<usize>,
    pub(super) vectors: bool,
    /// Entries of both.
    pub(super) entries: u64,
    /// Tiles of this process's share that are there.
    pub(super) found: usize,
}

/// A tile of a plan, or a vector.
struct Piece {
    stage: usize,
    /// The tile's number in its stage; `None` for a vector.
    number: Option<usize>,
    mirrored: bool,
}

impl Left {
    /// Asks the sink, tile by tile, for each stage: what an earlier run wrote is read again and compared with its checksum.
    pub(super) fn of<R: Real>(
        stages: &[Cow<'_, Plan>],
        sink: &dyn Sink<R>,
        control: &Control<'_>,
    ) -> Result<Vec<Left>> {
        /// Tiles that are read between two looks at the caller, at most.
        const BATCH: usize = 32;
        /// Tiles' sizes that reading one takes: a chunk, its numbers, and these transposed.
        const TIMES: u64 = 3;
        let (mut tiles, mut pieces) = (Vec::new(), Vec::new());
        for (stage, plan) in stages.iter().enumerate() {
            for (number, job) in plan.tiles.iter().enumerate() {
                tiles.push(plan.tile(job));
                pieces.push(Piece {
                    stage,
                    number: Some(number),
                    mirrored: plan.mirrored(job),
                });
            }
        }
        for (stage, plan) in stages.iter().enumerate() {
            for part in plan.parts.iter().filter(|p| p.part.columns.is_none()) {
                tiles.push(Tile::whole(part.number, &part.part.layout()));
                pieces.push(Piece {
                    stage,
                    number: None,
                    mirrored: false,
                });
            }
        }
        let own = sink.share(&tiles);
        let own: Vec<usize> = (0..tiles.len()).filter(|&k| own[k]).collect();
        let tile_count = own.iter().filter(|&&k| pieces[k].number.is_some()).count();
        let operations: u64 = stages.iter().map(|plan| plan.own_operations()).sum();
        let budget = stages.iter().map(|plan| plan.host_budget()).min();
        let none = || Left {
            tiles: BTreeSet::new(),
            vectors: false,
            entries: 0,
            found: 0,
        };
        let mut left: Vec<Left> = stages.iter().map(|_| none()).collect();
        let largest = own.iter().map(|&k| tiles[k].entries()).max().unwrap_or(0);
        let bytes = TIMES * (largest * size_of::<R>()) as u64;
        let at_once = (budget.unwrap_or(0) / bytes.max(1)).clamp(1, BATCH as u64);
        for batch in own.chunks(at_once as usize) {
            control.check()?;
            let has: Vec<Result<bool>> = batch.par_iter().map(|&k| sink.has(&tiles[k])).collect();
            for (&at, has) in batch.iter().zip(has) {
                let piece = &pieces[at];
                let left = &mut left[piece.stage];
                if has? {
                    left.found += usize::from(piece.number.is_some());
                    continue;
                }
                let entries = tiles[at].entries() as u64;
                left.entries += entries * if piece.mirrored { 2 } else { 1 };
                match piece.number {
                    Some(number) => _ = left.tiles.insert(number),
                    None => left.vectors = true,
                }
            }
            let found: usize = left.iter().map(|left| left.found).sum();
            if found > 0 {
                (control.progress)(Progress {
                    done: 0,
                    total: operations.max(1),
                    tiles: found,
                    tile_count,
                });
            }
        }
        Ok(left)
    }

    /// Its operations.
    pub(super) fn operations(&self, plan: &Plan) -> u64 {
        let (passes, contractions) = plan.operations_of(self.fraction(plan));
        passes + contractions
    }

    /// Its tiles, and those that an earlier run made.
    pub(super) fn all_tiles(&self) -> usize {
        self.tiles.len() + self.found
    }

    /// Share of the stage's work.
    pub(super) fn fraction(&self, plan: &Plan) -> f64 {
        let all = plan.own_entries() as f64;
        if all == 0.0 {
            1.0
        } else {
            self.entries as f64 / all
        }
    }
}
