//! The store that a result's name is for.

use super::place::{Kind, Place};
use super::record::Record;
use super::store::Store;
use crate::error::{Error, Result};
use crate::files::writes::Writes;
use crate::tensor::Real;

/// Opens the store that a place is for.
pub(super) fn open_store<R: Real>(
    place: &Place,
    record: &Record,
    writes: &Writes,
) -> Result<Box<dyn Store<R>>> {
    match place.kind {
        Kind::File | Kind::Folder => Ok(Box::new(super::npy::NpyStore::open::<R>(
            place,
            &record.layouts(),
            writes,
        )?)),
        #[cfg(feature = "zarr")]
        Kind::Zarr => Ok(Box::new(super::zarr::ZarrStore::open::<R>(
            place, record, writes,
        )?)),
        #[cfg(not(feature = "zarr"))]
        Kind::Zarr => Err(Error::file(&place.target, super::store::NO_ZARR)),
        Kind::Tensors => Err(Error::file(
            &place.target,
            "is made in memory (sink::Tensors), not tile by tile",
        )),
    }
}
