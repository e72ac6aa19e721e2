//! Checks before any work: the output, its disk and the memory must have room for the result.

use super::{Operator, Output};
use crate::bytes::Bytes;
use crate::error::{Error, Remedy, Result};
use crate::files::{free_bytes, parent};
use crate::plan::Limits;
use crate::plan::budget::available_memory;
use crate::plan::request::{ResolvedPart, bytes_of};
use crate::plan::{RunOptions, shortage};
use crate::precision::Precision;
use crate::setting::HOST_MEMORY;
use crate::sink::{self, FilesOptions, PartLayout, Sink, StorageOptions, Tensors, takes_tensors};
use std::path::Path;

/// Bytes that are offered for the work beside a result in memory: a small network's takes no more, and a larger one's plan says
/// what it takes.
const LEAST_WORK: u64 = 16 << 20;

/// The budget does not hold a result of so many bytes that is made in memory. `refused` is what a plan says that has no memory
/// beside it: what the work takes at least.
pub(super) fn no_room(result: u64, limits: &Limits, refused: Option<Error>) -> Error {
    let beside = limits.held.saturating_sub(result);
    let message = format!(
        "the result is made in memory and takes {}, {} are in use already: together they leave nothing of the host memory of {} \
         to work with. Write it to files, or give more ({HOST_MEMORY})",
        Bytes(result.into()),
        Bytes(beside.into()),
        Bytes(limits.host.into()),
    );
    let mut remedies = vec![Remedy::WriteToFiles];
    if let Some(Error::Budget { remedies: work, .. }) = refused {
        remedies.extend(work);
    }
    Error::budget((limits.held, limits.host), remedies, message)
}

impl Operator {
    /// Whether the output takes these parts in numbers of that precision: several go to a folder, a result that is made in memory
    /// has room there, and the disk has room.
    ///
    /// # Errors
    /// [`Error::Request`] for several parts to one `.npy` file, [`Error::Disk`] and [`Error::Budget`] with the arithmetic.
    pub(super) fn check_output(
        &self,
        parts: &[ResolvedPart],
        precision: Precision,
        output: &Output,
    ) -> Result<()> {
        output.check()?;
        let path = output.path();
        if parts.len() > 1 && path.extension().is_some_and(|e| e == "npy") {
            return Err(Error::Request(format!(
                "{}: {} parts go to a folder, not to one .npy file",
                path.display(),
                parts.len()
            )));
        }
        if takes_tensors(path) {
            let layouts: Vec<PartLayout> = parts.iter().map(ResolvedPart::layout).collect();
            // The sink refuses what no such file holds before it asks for memory; what is there already is not its matter here.
            let options = FilesOptions {
                force: true,
                ..output.options()
            };
            match precision {
                Precision::F64 => Tensors::<f64>::with_options(path, options)?.begin(&layouts)?,
                Precision::F32 => Tensors::<f32>::with_options(path, options)?.begin(&layouts)?,
            }
            self.check_memory(parts, precision.bytes())?;
        }
        // How small compression, or the triangle alone, makes a result is not known before.
        match output.options().storage == StorageOptions::default() {
            true => self.check_disk(parts, precision, path),
            false => Ok(()),
        }
    }

    /// [`Output::run_options`] for these parts in numbers of that precision: a result that is made in memory takes its share of
    /// [`RunOptions::host_memory`].
    ///
    /// # Errors
    /// As [`Output::run_options`]; [`Error::Budget`] where the budget does not hold the result.
    pub(super) fn output_options(
        &self,
        parts: &[ResolvedPart],
        precision: Precision,
        output: &Output,
        options: RunOptions,
    ) -> Result<RunOptions> {
        let options = output.run_options(options)?;
        let options = RunOptions {
            held: options.held + output.options().storage.compression_bytes(),
            ..options
        };
        let Some(budget) = options.host_memory.filter(|_| takes_tensors(output.path())) else {
            return Ok(options);
        };
        let result = bytes_of(parts, precision.bytes()).saturated();
        let held = options.held.saturating_add(result);
        if held > budget {
            let message = format!(
                "{}: a .safetensors result is held in memory until it is complete. It takes {}, {} are in use already: together more than \
                 the host memory of {}. Write to a folder, a FILE.npy or a NAME.zarr, or raise {HOST_MEMORY}",
                output.path().display(),
                Bytes(result.into()),
                Bytes(options.held.into()),
                Bytes(budget.into()),
            );
            let least = Bytes(u128::from(held) + u128::from(LEAST_WORK));
            let remedies = vec![Remedy::WriteToFiles, Remedy::HostMemory(least)];
            return Err(Error::budget((held, budget), remedies, message));
        }
        Ok(RunOptions { held, ..options })
    }

    /// Whether the disk that holds `path` has room for parts in numbers of that precision.
    ///
    /// # Errors
    /// [`Error::Disk`] with the arithmetic, what is free, and the parts that would fit.
    #[doc(hidden)]
    pub fn check_disk(
        &self,
        parts: &[ResolvedPart],
        precision: Precision,
        path: &Path,
    ) -> Result<()> {
        let folder = parent(path);
        let Some(free) = free_bytes(&folder) else {
            return Ok(());
        };
        // What an earlier run wrote is not written again.
        let free = free.saturating_add(sink::allocated(path));
        let holder = format!("{} has only {} free", folder.display(), Bytes(free.into()));
        let network = self.session().network();
        match shortage(network, parts, precision.bytes(), free.into(), &holder)? {
            Some(short) => Err(Error::Disk {
                path: path.into(),
                needed: short.needed,
                available: short.available,
                remedies: short.remedies,
                message: short.message,
            }),
            None => Ok(()),
        }
    }

    /// Whether this machine has memory for parts in numbers of so many bytes, where the system tells.
    pub(super) fn check_memory(&self, parts: &[ResolvedPart], number_bytes: usize) -> Result<()> {
        let Some(free) = available_memory() else {
            return Ok(());
        };
        let holder = format!(
            "this machine has only {} of memory free",
            Bytes(free.into())
        );
        let network = self.session().network();
        match shortage(network, parts, number_bytes, free.into(), &holder)? {
            Some(short) => {
                let bytes = (short.needed, short.available);
                Err(Error::budget(bytes, short.remedies, short.message))
            }
            None => Ok(()),
        }
    }
}
