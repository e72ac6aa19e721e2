//! The specification of a result on disk, whatever writes it.

use super::blocks::Blocks;
use super::layout::PartLayout;
use super::options::{FilesOptions, check_options};
use super::parameters::ParameterPlace;
use super::place::Place;
use super::provenance::Provenance;
use super::record::Record;
use crate::error::Result;
use crate::files::folders;
use crate::tensor::Real;
use serde_json::Value;
use std::path::Path;

/// Where a result goes, how it is written, and what is written beside its numbers.
#[derive(Debug)]
pub(super) struct ResultSpec {
    pub(super) place: Place,
    pub(super) options: FilesOptions,
    /// What is to run, for people.
    pub(super) plan: Value,
    /// What decides the order of accumulation, and so the bits.
    pub(super) order: Value,
    /// Rows and columns of a Zarr's chunks.
    pub(super) chunk_side: Option<usize>,
    pub(super) parameters: Vec<ParameterPlace>,
    pub(super) provenance: Provenance,
}

impl ResultSpec {
    /// The specification of a result at `path`, with options.
    ///
    /// # Errors
    /// As [`super::Files::with_options`].
    pub(super) fn new(path: &Path, options: FilesOptions) -> Result<ResultSpec> {
        let mut place = Place::new(path)?;
        place.force = options.force;
        check_options(&place, options.storage)?;
        Ok(ResultSpec {
            place,
            options,
            plan: Value::Null,
            order: Value::Null,
            chunk_side: None,
            parameters: Vec::new(),
            provenance: Provenance::now(),
        })
    }

    /// Refuses a place that cannot be written, or is taken; a result that may be this very one passes.
    pub(super) fn check(&self) -> Result<()> {
        let may_be_whole = self.options.may_be_whole && !self.options.force;
        match may_be_whole && self.place.finished_key().is_some() {
            true => folders::check(&self.place.target),
            false => self.place.check(),
        }
    }

    /// Whether the result of these parts, made from the same things, is whole under its final name.
    ///
    /// # Errors
    /// [`crate::Error::File`] where another result has that name, and is not to be replaced.
    pub(super) fn is_finished<R: Real>(&self, parts: &[PartLayout]) -> Result<bool> {
        if self.options.force {
            return Ok(false);
        }
        let key = self.place.finished_key();
        let same = key.is_some_and(|key| key == self.record::<R>(parts).key());
        // What was cut off or taken away since is made again, once it is out of the way.
        if same && Blocks::open(&self.place.target).is_ok() {
            return Ok(true);
        }
        self.place.check().map(|()| false)
    }

    pub(super) fn record<R: Real>(&self, parts: &[PartLayout]) -> Record {
        let options = &self.options;
        let mut record = Record::new(
            &self.place,
            parts,
            R::NAME,
            options.storage,
            options.shard.of,
            &self.provenance,
        );
        record.order = self.order.clone();
        record.chunk_side = self.chunk_side;
        record.parameters = self.parameters.clone();
        record.plan = self.plan.clone();
        record
    }
}
