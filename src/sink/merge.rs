//! The end of a result that several processes made.

use super::journal::{Contents, Entry, Journal};
use super::layout::{PartLayout, Written};
use super::open_store::open_store;
use super::partial::{Partial, tidy};
use super::place::{Place, is_there};
use super::record::Record;
use super::tile::Tile;
use crate::error::{Error, Result};
use crate::files::allow_open_files;
use crate::files::writes::Writes;
use crate::setting::{OUT, RESTART};
use crate::tensor::Real;
use rayon::prelude::*;
use serde::Serialize;
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// What [`merge`] found.
///
/// ```
/// use hessblock::results::merge;
/// # use hessblock::data::Dataset;
/// # use hessblock::loss::CrossEntropy;
/// # use hessblock::network::builder::Builder;
/// # use hessblock::{Device, Output, Part, Precision, Session};
/// # use ndarray::{arr1, arr2};
/// # let network = Builder::new(&[3]).linear("fc1", 4).tanh().linear("fc2", 2).initialize(0).build()?;
/// # let data = Dataset::from_arrays(arr2(&[[0.1, 0.2, 0.3], [0.5, -0.4, 0.0]]), arr1(&[0i64, 1]));
/// # let session = Session::builder(network).data(data).loss(CrossEntropy::mean())
/// #     .device(Device::cpu(Precision::F32)).build()?;
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("blocks");
/// let request = session.ggn().parts([Part::Layers])?;
/// for share in 1..=2 {
///     request.write(Output::folder(&path).shard(share, 2)?)?; // each in a process of its own
/// }
/// let merged = merge(&path, false, &mut |_, _| Ok(()))?;
/// assert_eq!((merged.path.as_path(), merged.shards), (path.as_path(), 2));
/// assert!(!merged.was_whole);
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Merged {
    /// The finished result.
    pub path: PathBuf,
    /// Processes that shared the work.
    pub shards: usize,
    /// Tiles and vectors, each read again and compared with its checksum.
    pub tiles: usize,
    /// Whether it was whole before.
    pub was_whole: bool,
}

/// Finishes a result whose tiles were made by several processes ([`super::FilesOptions::shard`]): checks that all are there and
/// hold what was written, and gives it its final name. `progress` is called with tiles checked, of all; its error stops.
///
/// A result of one process that was stopped after its last tile is finished alike.
///
/// ```
/// use hessblock::results::merge;
/// # use hessblock::data::Dataset;
/// # use hessblock::loss::CrossEntropy;
/// # use hessblock::network::builder::Builder;
/// # use hessblock::{Device, Output, Part, Precision, Session};
/// # use ndarray::{arr1, arr2};
/// # let network = Builder::new(&[3]).linear("fc1", 4).tanh().linear("fc2", 2).initialize(0).build()?;
/// # let data = Dataset::from_arrays(arr2(&[[0.1, 0.2, 0.3], [0.5, -0.4, 0.0]]), arr1(&[0i64, 1]));
/// # let session = Session::builder(network).data(data).loss(CrossEntropy::mean())
/// #     .device(Device::cpu(Precision::F64)).build()?;
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("blocks");
/// for share in 1..=2 {
///     let output = Output::folder(&path).shard(share, 2)?; // each in a process of its own
///     session.ggn().parts([Part::Layers])?.write(output)?;
/// }
/// let merged = merge(&path, false, &mut |_, _| Ok(()))?;
/// assert_eq!((merged.shards, merged.tiles), (2, 2));
/// # Ok::<(), hessblock::Error>(())
/// ```
///
/// # Errors
/// [`Error::File`] where tiles are missing, or not what was written, with the shards that have to run again; where a shard is
/// still at work, and where there is nothing to merge.
pub fn merge(
    path: impl AsRef<Path>,
    force: bool,
    progress: &mut dyn FnMut(usize, usize) -> Result<()>,
) -> Result<Merged> {
    let mut place = Place::new(path.as_ref())?;
    place.force = force;
    let whole = |place: &Place| -> Result<Merged> {
        tidy(place)?;
        Ok(Merged {
            path: place.target.clone(),
            was_whole: true,
            ..Merged::default()
        })
    };
    let partial = place.partial();
    let Some(record) = Record::read(&place.beside("plan.json"))? else {
        if place.finished_key().is_some() {
            return whole(&place);
        }
        return Err(Error::file(
            &partial,
            format!(
                "there is nothing to merge: no plan.json was found; give the name that was given to `blocks {OUT}`"
            ),
        ));
    };
    let stopped_last = place.single() && !is_there(&partial);
    if stopped_last && place.finished_key().is_some_and(|key| key == record.key()) {
        // It was stopped between its last name and its last steps.
        return whole(&place);
    }
    place.check_target()?;
    match record.precision.as_str() {
        "f64" => finish::<f64>(&place, &record, progress),
        _ => finish::<f32>(&place, &record, progress),
    }
}

/// One process's list.
struct Share {
    shard: usize,
    contents: Contents,
    /// Its lock is held until the end: no process goes on with a result that is being finished.
    _journal: Journal,
}

fn finish<R: Real>(
    place: &Place,
    record: &Record,
    progress: &mut dyn FnMut(usize, usize) -> Result<()>,
) -> Result<Merged> {
    check_names(place, record)?;
    let (of, digest) = (record.shards, record.digest());
    let mut shares = Vec::new();
    allow_open_files(of);
    for shard in 1..=of {
        let path = place.journal(shard, of);
        if path.exists() {
            let (journal, mut contents) = Journal::open(&path, &path, Writes::default())?;
            if contents
                .notes
                .first()
                .is_none_or(|header| header["plan"] != *digest)
            {
                // A list that another plan left.
                contents = Contents::default();
            }
            shares.push(Share {
                shard,
                contents,
                _journal: journal,
            });
        }
    }
    let store = open_store::<R>(place, record, &Writes::default())?;
    let layouts = record.layouts();
    let entries = checked(&layouts, &shares, |entry| store.holds(entry), progress)?;
    let written: Vec<Written> = layouts.iter().map(|_| Written::default()).collect();
    for entry in &entries {
        written[entry.tile.part].add(entry.entries());
    }
    let short = layouts
        .iter()
        .zip(&written)
        .find_map(|(layout, written)| written.check(layout).err());
    if let Some(short) = short {
        return Err(Error::file(
            place.partial(),
            format!("is not whole: {} ({short})", missing(of, &shares)),
        ));
    }
    let notes: Vec<(usize, &[Value])> = shares
        .iter()
        .map(|share| (share.shard, &share.contents.notes[..]))
        .collect();
    let manifest = record.manifest(&notes)?;
    store.finish(&entries, &manifest)?;
    drop(store);
    // Locked until the result has its final name; Windows renames no folder in which files are open.
    let shares = (!cfg!(windows)).then_some(shares);
    Partial::of(place).finish(&manifest.text()?)?;
    drop(shares);
    Ok(Merged {
        path: place.target.clone(),
        shards: of,
        tiles: entries.len(),
        was_whole: false,
    })
}

/// Refuses a plan whose parts are not those of such a place: its manifest would speak of files that are not there.
fn check_names(place: &Place, record: &Record) -> Result<()> {
    let by_another_hand = |what: String| {
        Error::file(
            place.beside("plan.json"),
            format!("{what}: it was changed by another hand, so run again with {RESTART}"),
        )
    };
    if place.single() {
        // Its name is the result's own, which may have been renamed.
        return match record.parts.len() {
            1 => Ok(()),
            count => Err(by_another_hand(format!("has {count} parts for one file"))),
        };
    }
    let names = place.data_names(&record.layouts());
    match record
        .parts
        .iter()
        .zip(names)
        .find(|(part, name)| part.file != *name)
    {
        None => Ok(()),
        Some((part, name)) => Err(by_another_hand(format!(
            "names the file {:?} for part {:?}, which is written to {name:?}",
            part.file, part.part
        ))),
    }
}

/// The tiles that hold what was written.
fn checked(
    layouts: &[PartLayout],
    shares: &[Share],
    holds: impl Fn(&Entry) -> Result<bool> + Sync,
    progress: &mut dyn FnMut(usize, usize) -> Result<()>,
) -> Result<Vec<Entry>> {
    /// Tiles that are read between two looks at the caller; at once where there are as many threads, and a chunk takes three
    /// times its size.
    const BATCH: usize = 8;
    let mut all: HashMap<&Tile, (usize, &Entry)> = HashMap::new();
    for (k, share) in shares.iter().enumerate() {
        let known = share.contents.entries.iter();
        // A list may have been written for another plan, or by a hand that edits it.
        let known = known.filter(|entry| {
            let layout = layouts.get(entry.tile.part);
            layout.is_some_and(|layout| entry.fits(layout))
        });
        all.extend(known.map(|entry| (&entry.tile, (k, entry))));
    }
    let all: Vec<(usize, &Entry)> = all.into_values().collect();
    let (mut entries, mut done) = (Vec::with_capacity(all.len()), 0);
    for batch in all.chunks(BATCH) {
        progress(done, all.len())?;
        let found: Vec<Result<bool>> = batch.par_iter().map(|(_, entry)| holds(entry)).collect();
        for ((share, entry), held) in batch.iter().zip(found) {
            if held? {
                entries.push((*entry).clone());
                continue;
            }
            tracing::warn!(
                "rows {:?}, columns {:?} of part {} are not what shard {} wrote there",
                entry.tile.rows,
                entry.tile.columns,
                entry.tile.part,
                shares[*share].shard
            );
        }
        done += batch.len();
    }
    progress(done, all.len())?;
    Ok(entries)
}

/// Which shards have to run (again), in words.
fn missing(of: usize, shares: &[Share]) -> String {
    /// Shards that are listed at most.
    const MOST: usize = 12;
    let mut lines = Vec::new();
    for shard in 1..=of {
        let Some(share) = shares.iter().find(|share| share.shard == shard) else {
            lines.push(format!("{shard}/{of} has not begun"));
            continue;
        };
        let mut tiles: Vec<&Tile> = share.contents.entries.iter().map(|e| &e.tile).collect();
        tiles.sort_by_key(|tile| (tile.part, tile.rows.start, tile.columns.start));
        tiles.dedup();
        let all = share.contents.notes.iter().rev();
        let all = all.flat_map(|note| note["share"].as_u64()).next();
        match all {
            Some(all) if all as usize <= tiles.len() => {}
            Some(all) => lines.push(format!(
                "{shard}/{of} made {} of its {all} tiles",
                tiles.len()
            )),
            None => lines.push(format!("{shard}/{of} made {} tiles", tiles.len())),
        }
    }
    if lines.is_empty() {
        return "tiles are damaged, as RUST_LOG=warn shows: run the shards again, which makes these anew, then merge".into();
    }
    let more = lines.len().saturating_sub(MOST);
    lines.truncate(MOST);
    let more = match more {
        0 => String::new(),
        more => format!(" and {more} shards more"),
    };
    match of {
        1 => "run the same command again".into(),
        _ => format!(
            "shard {}{more}: run these again, then merge",
            lines.join(", ")
        ),
    }
}
