//! A result that was begun and is not finished.

use super::journal::Journal;
use super::place::Place;
use super::record::Record;
use super::tile::Tile;
use crate::error::Result;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// What an earlier or interrupted run left.
///
/// ```
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
/// let output = Output::folder(&path).shard(1, 2)?;
/// session.ggn().parts([Part::Layers])?.write(&output)?;
/// // Another process makes the other half of the tiles.
/// let left = output.left().expect("the result is not finished");
/// println!("{} tiles are done in {}", left.tiles, left.path.display());
/// assert_eq!(left.tiles, 1);
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// Where it is.
    pub path: PathBuf,
    /// Tiles and vectors that are done.
    pub tiles: usize,
}

/// A result that was begun and is not finished.
#[derive(Clone, Debug, PartialEq)]
pub struct Begun {
    /// What decides the order of accumulation ([`super::Files::order`]).
    pub order: Value,
    /// Processes that share it.
    pub shards: usize,
    place: Place,
}

impl Begun {
    /// What is under way, or was left, under that name.
    ///
    /// # Errors
    /// [`crate::Error::File`] where it cannot be read.
    pub fn at(path: &Path) -> Result<Option<Begun>> {
        // What has no room for parts of a result holds none.
        let Ok(place) = Place::new(path) else {
            return Ok(None);
        };
        let Some(record) = Record::read(&place.beside("plan.json"))? else {
            return Ok(None);
        };
        Ok(Some(Begun {
            order: record.order,
            shards: record.shards,
            place,
        }))
    }

    /// What is done of it, where anything is, by the lists of all its processes.
    ///
    /// # Errors
    /// [`crate::Error::Io`] where these cannot be read.
    pub fn left(&self) -> Result<Option<Left>> {
        let mut tiles = 0;
        for journal in self.place.journals()? {
            let entries = Journal::read(&journal)?.entries;
            let places: std::collections::HashSet<&Tile> =
                entries.iter().map(|e| &e.tile).collect();
            tiles += places.len();
        }
        Ok((tiles > 0).then(|| Left {
            path: self.place.partial(),
            tiles,
        }))
    }
}
