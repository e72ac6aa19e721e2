//! A result that was begun and is not finished.

use super::journal::Journal;
use super::place::Place;
use super::record::Record;
use super::tile::Tile;
use crate::error::Result;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// What an earlier or interrupted run left.
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
