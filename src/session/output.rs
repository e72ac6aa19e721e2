//! The place of a result on disk, and the tiles that an earlier run left there.

use crate::error::{Error, Result};
use crate::plan::RunOptions;
use crate::plan::tiles::Tiling;
use crate::plan::{Plan, Units};
use crate::sink::{
    self, Begun, Files, FilesOptions, Left, Provenance, Shard, Tensors, takes_chunks, takes_tensors,
};
use crate::tensor::Real;
use std::path::{Path, PathBuf};

/// The place of a result on disk, and how it is written.
///
/// ```
/// use hessblock::Output;
/// let output = Output::npy("dense1.npy").overwrite(true);
/// assert_eq!(output.path().to_str(), Some("dense1.npy"));
/// let output = Output::zarr("blocks.zarr").compress(3).upper_triangle(true);
/// ```
#[derive(Clone, Debug)]
#[must_use = "an output is given to `Request::write`"]
pub struct Output {
    path: PathBuf,
    /// The ending that the path is to have.
    ending: Option<&'static str>,
    options: FilesOptions,
    provenance: Provenance,
}

impl Output {
    /// By the ending of the path: `FILE.npy` for a single part, `NAME.zarr`, `FILE.safetensors`, or a folder of `.npy` files.
    pub fn new(path: impl Into<PathBuf>) -> Output {
        Output {
            path: path.into(),
            ending: None,
            options: FilesOptions::default(),
            provenance: Provenance::now(),
        }
    }

    fn of_kind(path: impl Into<PathBuf>, ending: &'static str) -> Output {
        Output {
            ending: Some(ending),
            ..Output::new(path)
        }
    }

    /// One part as `FILE.npy`, which NumPy maps into memory.
    pub fn npy(path: impl Into<PathBuf>) -> Output {
        Output::of_kind(path, "npy")
    }

    /// All parts in one folder, a `.npy` file each.
    pub fn folder(path: impl Into<PathBuf>) -> Output {
        Output::of_kind(path, "")
    }

    /// All parts as one Zarr group, `NAME.zarr`.
    pub fn zarr(path: impl Into<PathBuf>) -> Output {
        Output::of_kind(path, "zarr")
    }

    /// All parts in one `FILE.safetensors`, which is made in memory.
    pub fn safetensors(path: impl Into<PathBuf>) -> Output {
        Output::of_kind(path, "safetensors")
    }

    /// Whether an older result of that name is replaced, once the new one is whole.
    pub fn overwrite(mut self, overwrite: bool) -> Output {
        self.options.force = overwrite;
        self
    }

    /// Whether the run begins again where an earlier run left something. By default it resumes that run.
    pub fn restart(mut self, restart: bool) -> Output {
        self.options.restart = restart;
        self
    }

    /// Whether a finished result of the very same run is left as it is, and counts as written ([`crate::RunReport::was_whole`]). By
    /// default it is an error that something has the name.
    pub fn accept_finished(mut self, accept: bool) -> Output {
        self.options.may_be_whole = accept;
        self
    }

    /// The `index`-th share of `of`, from 1: several processes make one result, which [`crate::results::merge`] finishes.
    ///
    /// # Errors
    /// [`Error::Request`] for an index outside `1..=of`.
    pub fn shard(mut self, index: usize, of: usize) -> Result<Output> {
        self.options.shard = Shard::new(index, of)?;
        Ok(self)
    }

    /// Zarr: compressed by zstd at that level, from 1 to 22.
    pub fn compress(mut self, level: i32) -> Output {
        self.options.storage.compression = Some(level);
        self
    }

    /// Zarr: so many chunks by as many in one file, up to 256.
    pub fn chunks_per_file(mut self, chunks: usize) -> Output {
        self.options.storage.chunks_per_file = Some(chunks);
        self
    }

    /// Zarr: of symmetric parts the tiles on and above the diagonal alone.
    pub fn upper_triangle(mut self, alone: bool) -> Output {
        self.options.storage.triangle = alone;
        self
    }

    /// Sets the provenance that is written beside the result ([`crate::Source::provenance`]).
    pub fn provenance(mut self, provenance: Provenance) -> Output {
        self.provenance = provenance;
        self
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The options as the command line has them.
    #[doc(hidden)]
    pub fn with_options(mut self, options: FilesOptions) -> Output {
        self.options = options;
        self
    }

    pub(crate) fn options(&self) -> FilesOptions {
        self.options
    }

    pub(crate) fn origin(&self) -> &Provenance {
        &self.provenance
    }

    /// Whether it can be written to.
    ///
    /// # Errors
    /// [`Error::Request`] and [`Error::File`] for a name that no result can have, and for one that is taken.
    pub fn check(&self) -> Result<()> {
        let is = sink::ending(&self.path);
        // Names that no result can have are refused by the sink.
        let other = |ending: &&str| is.is_some_and(|is| is != *ending);
        if let Some(ending) = self.ending.filter(other) {
            let form = match ending {
                "" => "a folder of .npy files has a name without one of the endings .npy, .zarr and .safetensors".into(),
                _ => format!("its name is to end in .{ending}"),
            };
            return Err(Error::file(&self.path, form));
        }
        match takes_tensors(&self.path) {
            true => _ = self.tensors::<f32>()?,
            false => _ = self.files::<f32>()?,
        }
        Ok(())
    }

    /// Run options for this place: tiles as it takes them, and the units of samples of a run that is resumed, whatever
    /// memory there is now: they decide how sums are rounded.
    ///
    /// # Errors
    /// [`Error::File`] where what an earlier run left cannot be read.
    #[doc(hidden)]
    pub fn run_options(&self, options: RunOptions) -> Result<RunOptions> {
        Ok(RunOptions {
            units: self.units()?,
            tiling: Tiling {
                regular: takes_chunks(&self.path),
                ..options.tiling
            },
            ..options
        })
    }

    /// The units that other processes at work here took, or an earlier run.
    pub(super) fn units(&self) -> Result<Option<Units>> {
        let Some(begun) = self.begun()? else {
            return Ok(None);
        };
        // Where nothing is done of it, there is nothing to agree with but other processes.
        if begun.shards == 1 && begun.left()?.is_none() {
            return Ok(None);
        }
        let unit = |name: &str| begun.order[name].as_u64().map(|n| n as usize);
        let (samples, directions) = (unit("unit_samples"), unit("unit_directions"));
        let rest = |name: &str| begun.order["rest"][name].as_u64().map(|n| n as usize);
        Ok(samples.zip(directions).map(|(samples, directions)| Units {
            samples,
            directions,
            rest: rest("unit_samples").zip(rest("unit_directions")),
        }))
    }

    /// The share of a plan's result that a run to this place has yet to make: a process's own of several, without what is done.
    ///
    /// # Errors
    /// [`Error::File`] where what an earlier run left cannot be read.
    pub(super) fn left_of(&self, plan: &Plan) -> Result<f64> {
        let own = 1.0 / self.options.shard.of.max(1) as f64;
        let parts = plan.all_parts().into_iter();
        let vectors = parts.filter(|p| p.part.columns.is_none());
        let all = plan.tile_count() + vectors.count();
        // Of a list that another process has under lock nothing is known.
        let left = self.begun()?.and_then(|begun| begun.left().ok().flatten());
        let done = left.map_or(0, |left| left.tiles.min(all));
        // Whose tiles are done, of several processes, is in their lists: what is left is no more than this.
        Ok(own.min((all - done) as f64 / all.max(1) as f64))
    }

    /// The earlier run that this one resumes. A process that restarts its share still agrees with the other processes.
    fn begun(&self) -> Result<Option<Begun>> {
        match self.options.restart && self.options.shard.of == 1 {
            true => Ok(None),
            false => Begun::at(&self.path),
        }
    }

    /// The tiles that an earlier or interrupted run left for this one to resume.
    pub fn left(&self) -> Option<Left> {
        Begun::at(&self.path).ok().flatten()?.left().ok().flatten()
    }

    /// The sink that writes there.
    ///
    /// # Errors
    /// As [`Files::create`].
    pub(crate) fn files<R: Real>(&self) -> Result<Files<R>> {
        let files = Files::with_options(&self.path, self.options)?;
        Ok(files.provenance(self.provenance.clone()))
    }

    /// The sink that writes there, where it is a `.safetensors` file.
    ///
    /// # Errors
    /// As [`Tensors::with_options`].
    pub(super) fn tensors<R: Real>(&self) -> Result<Tensors<R>> {
        let tensors = Tensors::with_options(&self.path, self.options)?;
        Ok(tensors.provenance(self.provenance.clone()))
    }
}
