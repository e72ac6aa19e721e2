//! A network, its data and a loss, checked against each other and ready for work.

use crate::bytes::Bytes;
use crate::device::{Device, Precision, with_backend};
use crate::error::{Error, Result};
use crate::files::folders::nearest;
use crate::files::hash::hexadecimal;
use crate::files::watch::Watch;
use crate::files::{free_bytes, parent};
use crate::forecast::{Forecast, Rates, write_rate};
use crate::import::data::Dataset;
use crate::loss::{Curvature, Loss, OutputShape, RankCut, RankReport};
use crate::network::{Network, Parameter};
use crate::operator::{self, Form, Gradient, Trace};
use crate::plan::RunOptions;
use crate::plan::budget::available_memory;
use crate::plan::request::{Part, ResolvedPart, resolve};
use crate::plan::tiles::{Grid, Tiling};
use crate::plan::{Limits, Plan, Sizes, Units, plan};
use crate::plan::{Way, shortage};
use crate::run::{Control, Problem, RunReport, run, run_on_all};
use crate::sink::{
    self, Begun, Files, FilesOptions, Left, Memory, ParameterPlace, PartLayout, Provenance, Sink,
    StorageOptions, Tensors, takes_chunks, takes_tensors,
};
#[cfg(feature = "gpu")]
use crate::tensor::gpu::Gpu;
use crate::tensor::{Contract, HostData, Real};
use ndarray::{Array2, Array3};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A network, its data and a loss.
///
/// ```
/// use hessblock::import::data::Dataset;
/// use hessblock::loss::{CrossEntropy, Reduction};
/// use hessblock::network::builder::Builder;
/// use hessblock::tensor::cpu::Cpu;
/// use hessblock::{Part, Session};
/// use ndarray::{arr1, arr2};
///
/// let network = Builder::new(&[3]).linear("fc1", 4).tanh().linear("fc2", 2).initialize(0).build()?;
/// let data = Dataset::from_arrays(arr2(&[[0.1, 0.2, 0.3], [0.5, -0.4, 0.0]]), arr1(&[0i64, 1]));
/// let session = Session::new(network, data, Box::new(CrossEntropy::new(Reduction::Mean)))?;
/// let blocks = session.to_memory(&Cpu::<f64>::new(), &["layer=fc1".parse::<Part>()?])?;
/// assert_eq!(blocks[0].1.dim(), (16, 16));
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Debug)]
pub struct Session {
    network: Network,
    dataset: Dataset,
    loss: Box<dyn Loss>,
    curvature: Curvature,
    rank: Option<RankReport>,
    allow_non_finite: bool,
    /// The files that all of it was read from, where it was.
    watch: Arc<Watch>,
}

/// Where a result goes on disk.
#[derive(Clone, Debug)]
pub struct Target {
    /// `FILE.npy` for a single part, otherwise a folder.
    pub path: PathBuf,
    /// How it is written.
    pub options: FilesOptions,
    /// What is written beside it.
    pub provenance: Provenance,
}

impl Target {
    /// A place that can be written to: checked before any work starts.
    ///
    /// # Errors
    /// As [`Files::create`].
    pub fn new(path: impl Into<PathBuf>, force: bool) -> Result<Target> {
        Target::with_options(
            path,
            FilesOptions {
                force,
                ..FilesOptions::default()
            },
        )
    }

    /// The same with options.
    ///
    /// # Errors
    /// As [`Files::with_options`].
    pub fn with_options(path: impl Into<PathBuf>, options: FilesOptions) -> Result<Target> {
        let target = Target {
            path: path.into(),
            options,
            provenance: Provenance::now(),
        };
        match takes_tensors(&target.path) {
            true => _ = target.tensors::<f32>()?,
            false => _ = target.files::<f32>()?,
        }
        Ok(target)
    }

    /// Run options for this place: tiles as it takes them, and the units of samples of a run that is gone on with, whatever
    /// memory there is now: they decide how sums are rounded.
    ///
    /// # Errors
    /// [`Error::File`] where what an earlier run left cannot be read.
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
    fn units(&self) -> Result<Option<Units>> {
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
    pub fn left_of(&self, plan: &Plan) -> Result<f64> {
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

    /// What was begun here and is gone on with. A process that begins its share again agrees with the others all the same.
    fn begun(&self) -> Result<Option<Begun>> {
        match self.options.restart && self.options.shard.of == 1 {
            true => Ok(None),
            false => Begun::at(&self.path),
        }
    }

    /// What an earlier or interrupted run left for this one to go on with.
    pub fn left(&self) -> Option<Left> {
        Begun::at(&self.path).ok().flatten()?.left().ok().flatten()
    }

    /// The sink that writes there.
    ///
    /// # Errors
    /// As [`Files::create`].
    pub fn files<R: Real>(&self) -> Result<Files<R>> {
        let files = Files::with_options(&self.path, self.options)?;
        Ok(files.provenance(self.provenance.clone()))
    }

    /// The sink that writes there, where it is a `.safetensors` file.
    ///
    /// # Errors
    /// As [`Tensors::with_options`].
    pub fn tensors<R: Real>(&self) -> Result<Tensors<R>> {
        let tensors = Tensors::with_options(&self.path, self.options)?;
        Ok(tensors.provenance(self.provenance.clone()))
    }
}

/// Bytes of targets, in double precision, that are looked at together when a loss is prepared.
const PREPARE_BYTES: usize = 16 << 20;

/// Refuses to cut the factor of a matrix that has none of its own.
fn check_rank(curvature: Curvature) -> Result<()> {
    match curvature {
        Curvature::Ggn => Ok(()),
        _ => Err(Error::Request(format!(
            "--rank-tolerance cuts the factor of ∇²ℓ that G is made of; --curvature {curvature} has none: take ggn, or \
             leave the tolerance out"
        ))),
    }
}

/// The shape of a network's outputs, with the samples in it.
fn output_shape(network: &Network) -> Result<OutputShape> {
    let mut shape = OutputShape {
        sample: network.rest(network.output).to_vec(),
        sample_axis: network.output_sample_axis,
        merged: network.output_positions() > 1,
    };
    if network.output_positions_first {
        return Err(Error::Request(format!(
            "the first axis of the network's output holds {0} positions with the samples of each beside each \
             other, {0}·N rows, so that a sample's lie scattered; transpose to [samples, positions, …] before \
             the last reshape of the module, and export it again",
            network.output_positions()
        )));
    }
    if !shape.merged && shape.sample_axis < shape.sample.len() {
        shape.sample.remove(shape.sample_axis);
    }
    Ok(shape)
}

impl Session {
    /// Checks network, data and loss against each other.
    ///
    /// # Errors
    /// [`Error::Shape`] where shapes do not fit, [`Error::Value`] for labels out of range, [`Error::Request`]
    /// where the network's inputs and the arrays given for them are not the same.
    pub fn new(network: Network, mut dataset: Dataset, mut loss: Box<dyn Loss>) -> Result<Session> {
        dataset.bind(&network)?;
        let outputs = output_shape(&network)?;
        let samples = dataset.len();
        let target: usize = dataset.target_shape().unwrap_or_default().iter().product();
        let step = (PREPARE_BYTES / 8 / target.max(1)).max(1);
        let mut start = 0;
        loss.prepare(&outputs, &mut || {
            let range = start..(start + step).min(samples);
            start = range.end;
            if range.is_empty() {
                Ok(None)
            } else {
                dataset.targets(range).map(Some)
            }
        })?;
        tracing::info!(
            parameters = network.parameter_count(),
            operations = network.nodes.len(),
            samples,
            loss = loss.name(),
            "opened"
        );
        Ok(Session {
            network,
            dataset,
            loss,
            curvature: Curvature::Ggn,
            rank: None,
            allow_non_finite: false,
            watch: Arc::default(),
        })
    }

    /// The same, read from files that were watched before: no result is made where one of them changes meanwhile.
    pub(crate) fn watching(mut self, watch: Watch) -> Session {
        self.watch = Arc::new(watch);
        self
    }

    /// The files that it was read from.
    pub(crate) fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Whether the files that network and data were read from ([`crate::Source::open`]) are what they were when it was opened,
    /// by their times; and, of those whose hashes are known ([`crate::Source::provenance`]), by these.
    ///
    /// Every computation checks the times when it ends. This is for what is written of it.
    ///
    /// # Errors
    /// [`Error::File`] with the one that was changed.
    pub fn check_files(&self) -> Result<()> {
        self.watch.check()
    }

    /// The same for another matrix than G: blocks, plans, products and entries are its own from here on.
    ///
    /// # Errors
    /// [`Error::Request`] where the loss does not give what it needs.
    pub fn with_curvature(mut self, curvature: Curvature) -> Result<Session> {
        self.set_curvature(curvature)?;
        Ok(self)
    }

    /// As [`Session::with_curvature`].
    ///
    /// # Errors
    /// As [`Session::with_curvature`].
    pub fn set_curvature(&mut self, curvature: Curvature) -> Result<()> {
        curvature.check(self.loss())?;
        if self.rank.is_some() {
            check_rank(curvature)?;
        }
        self.curvature = curvature;
        Ok(())
    }

    /// The same with every sample's loss factor S_n cut to the columns that matter: it may lose the share `tolerance` of
    /// Σ_r ‖S_r‖² (tr ∇²ℓ_n for a convex loss). Blocks, plans, products and entries are those of the matrix G_τ that is
    /// left, |vᵀ(G − G_τ)v| ≤ τ·Σ_n (Σ_r ‖S_r‖²) ‖J_n v‖² ([`RankCut`]); [`Session::rank`] says what was cut.
    ///
    /// One forward pass over all samples finds how many columns they need. Weights that change afterwards may need more,
    /// and are then cut by more: cut anew.
    ///
    /// ```
    /// # use hessblock::import::data::Dataset;
    /// # use hessblock::loss::{CrossEntropy, Reduction};
    /// # use hessblock::network::builder::Builder;
    /// # use hessblock::run::Control;
    /// # use hessblock::{Device, Precision, RunOptions, Session};
    /// # use ndarray::{arr1, arr2};
    /// let network = Builder::new(&[3]).linear("fc1", 100).initialize(0).build()?;
    /// let data = Dataset::from_arrays(arr2(&[[90.0, 2.0, -30.0], [-50.0, 40.0, 8.0]]), arr1(&[0i64, 1]));
    /// let session = Session::new(network, data, Box::new(CrossEntropy::new(Reduction::Mean)))?;
    /// let cpu = Device::cpu(Precision::F64);
    /// let session = session.with_rank_tolerance(1e-3, &cpu, RunOptions::default(), &Control::none())?;
    /// let rank = session.rank().expect("it was cut");
    /// assert!(rank.directions < 100 && rank.worst_share <= 1e-3);
    /// # Ok::<(), hessblock::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`operator::ranks`]; [`Error::Request`] for a matrix that is not made of S, and for a factor cut before.
    pub fn with_rank_tolerance(
        mut self,
        tolerance: f64,
        device: &Device,
        options: RunOptions,
        control: &Control<'_>,
    ) -> Result<Session> {
        check_rank(self.curvature)?;
        if self.rank.is_some() {
            return Err(Error::Request(
                "the loss factor was cut before: cut that of a new session".into(),
            ));
        }
        let limits = device.limits(options);
        let work = self.work();
        let report = with_backend!(device, backend => operator::ranks(backend, &work, tolerance, limits, options.batch, control));
        let report = self.finite(device.precision(), report, false, control, |_| true)?;
        self.loss = Box::new(RankCut::new(self.loss, tolerance, report.directions));
        self.rank = Some(report);
        Ok(self)
    }

    /// Whether results may hold NaN and infinities. Otherwise they are an error, [`Error::NotFinite`], which names the operation and
    /// the sample that made the first.
    pub fn allow_non_finite(&mut self, allow: bool) {
        self.allow_non_finite = allow;
    }

    /// What was cut off the loss factor ([`Session::with_rank_tolerance`]).
    pub fn rank(&self) -> Option<&RankReport> {
        self.rank.as_ref()
    }

    /// The matrix that is meant.
    pub fn curvature(&self) -> Curvature {
        self.curvature
    }

    /// Replaces the network's parameters: `[p]` in the flat order.
    ///
    /// # Errors
    /// As [`Network::set_parameters`].
    pub fn set_parameters(&mut self, values: &[f64]) -> Result<()> {
        self.network.set_parameters(values)
    }

    /// The network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The data.
    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// The loss.
    pub fn loss(&self) -> &dyn Loss {
        self.loss.as_ref()
    }

    /// What every computation takes.
    pub(crate) fn work(&self) -> Problem<'_> {
        Problem {
            network: &self.network,
            dataset: &self.dataset,
            loss: self.loss.as_ref(),
            curvature: self.curvature,
            lenient: self.allow_non_finite,
        }
    }

    /// A result of files that were not changed meanwhile, whose numbers are finite or may be otherwise; else the error that
    /// says where they stopped being so.
    fn finite<T>(
        &self,
        precision: &str,
        result: Result<T>,
        second: bool,
        control: &Control<'_>,
        is_finite: impl FnOnce(&T) -> bool,
    ) -> Result<T> {
        // A file that was changed meanwhile is the cause of whatever came of it.
        if matches!(result, Ok(_) | Err(Error::NotFinite(_))) {
            self.watch.check_times()?;
        }
        let what = match result {
            Ok(result) if self.allow_non_finite || is_finite(&result) => return Ok(result),
            Ok(_) => "the result holds NaN or infinite numbers".into(),
            Err(Error::NotFinite(what)) => what,
            Err(other) => return Err(other),
        };
        let limits = Device::cpu(Precision::F64).limits(RunOptions::default());
        let found = match precision {
            "f64" => operator::locate::<f64>(&self.work(), second, limits, control),
            _ => operator::locate::<f32>(&self.work(), second, limits, control),
        };
        let first = match found {
            Ok(Some(first)) => format!("the first that is not finite: {first}"),
            Ok(None) => format!(
                "each operation's numbers are finite in {precision} on the CPU, so sums of them overflow"
            ),
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(error) => format!("where it begins was not found: {error}"),
        };
        let cure = match precision {
            "f64" => "mend the data or the weights",
            _ => {
                "try --precision f64, scale the inputs (--scale, --mean, --std), or mend data or weights"
            }
        };
        Err(Error::NotFinite(format!(
            "{what}; {first}; {cure}, or take --allow-non-finite to have what there is"
        )))
    }

    /// Finds rows and columns of the parts.
    ///
    /// # Errors
    /// [`Error::Request`] for unknown names and ranges that are empty or outlying.
    pub fn resolve(&self, parts: &[Part]) -> Result<Vec<ResolvedPart>> {
        resolve(&self.network, parts)
    }

    /// Whether the target takes these parts in numbers of that many bytes: several go to a folder, a result that is made in memory
    /// has room there, and the disk has room.
    ///
    /// # Errors
    /// [`Error::Request`] for several parts to one `.npy` file, [`Error::File`] and [`Error::Budget`] with the arithmetic.
    pub fn check_target(
        &self,
        parts: &[ResolvedPart],
        number_bytes: usize,
        target: &Target,
    ) -> Result<()> {
        let path = &target.path;
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
                ..target.options
            };
            match number_bytes {
                8 => Tensors::<f64>::with_options(path, options)?.begin(&layouts)?,
                _ => Tensors::<f32>::with_options(path, options)?.begin(&layouts)?,
            }
            self.check_memory(parts, number_bytes)?;
        }
        // How small compression, or the triangle alone, makes a result is not known before.
        match target.options.storage == StorageOptions::default() {
            true => self.check_disk(parts, number_bytes, path),
            false => Ok(()),
        }
    }

    /// [`Target::run_options`] for these parts in numbers of that many bytes: a result that is made in memory takes its share of
    /// [`RunOptions::host_memory`].
    ///
    /// # Errors
    /// As [`Target::run_options`]; [`Error::Budget`] where the budget does not hold the result.
    pub fn target_options(
        &self,
        parts: &[ResolvedPart],
        number_bytes: usize,
        target: &Target,
        options: RunOptions,
    ) -> Result<RunOptions> {
        let options = target.run_options(options)?;
        let options = RunOptions {
            held: options.held + target.options.storage.compression_bytes(),
            ..options
        };
        let Some(budget) = options.host_memory.filter(|_| takes_tensors(&target.path)) else {
            return Ok(options);
        };
        let entries: u128 = parts.iter().map(ResolvedPart::entries).sum();
        let result = u64::try_from(entries * number_bytes as u128).unwrap_or(u64::MAX);
        let held = options.held.saturating_add(result);
        if held > budget {
            return Err(Error::Budget(format!(
                "{}: a .safetensors result is held in memory until it is complete. It takes {}, {} are in use already: together more than \
                 the host memory of {}. Write to a folder, a FILE.npy or a NAME.zarr, or raise --host-memory",
                target.path.display(),
                Bytes(result.into()),
                Bytes(options.held.into()),
                Bytes(budget.into()),
            )));
        }
        Ok(RunOptions { held, ..options })
    }

    /// Whether the disk that holds `path` has room for parts in numbers of that many bytes.
    ///
    /// # Errors
    /// [`Error::File`] with the arithmetic, what is free, and the parts that would fit.
    pub fn check_disk(
        &self,
        parts: &[ResolvedPart],
        number_bytes: usize,
        path: &Path,
    ) -> Result<()> {
        let folder = parent(path);
        let Some(free) = free_bytes(&folder) else {
            return Ok(());
        };
        // What an earlier run wrote is not written again.
        let free = free.saturating_add(sink::allocated(path));
        let holder = format!("{} has only {} free", folder.display(), Bytes(free.into()));
        match shortage(&self.network, parts, number_bytes, free.into(), &holder)? {
            Some(message) => Err(Error::file(path, message)),
            None => Ok(()),
        }
    }

    /// Whether this machine has memory for parts in numbers of that many bytes, where the system tells.
    fn check_memory(&self, parts: &[ResolvedPart], number_bytes: usize) -> Result<()> {
        let Some(free) = available_memory() else {
            return Ok(());
        };
        let holder = format!(
            "this machine has only {} of memory free",
            Bytes(free.into())
        );
        match shortage(&self.network, parts, number_bytes, free.into(), &holder)? {
            Some(message) => Err(Error::Budget(message)),
            None => Ok(()),
        }
    }

    /// Plans parts for a number type and limits, without running anything.
    ///
    /// # Errors
    /// [`Error::Budget`] where not even one tile fits; [`Error::Request`] for parts that no disk could hold.
    pub fn plan_for(
        &self,
        parts: Vec<ResolvedPart>,
        number_bytes: usize,
        limits: Limits,
        batch: Option<usize>,
        grid: Grid,
    ) -> Result<Plan> {
        let options = RunOptions {
            batch,
            ..RunOptions::default()
        };
        self.plan_in(parts, number_bytes, limits, options, grid)
    }

    /// The same with units and tiles of choice; `limits` stand for the options' budgets.
    fn plan_in(
        &self,
        parts: Vec<ResolvedPart>,
        number_bytes: usize,
        limits: Limits,
        options: RunOptions,
        grid: Grid,
    ) -> Result<Plan> {
        if !Tiling::SIDES.contains(&options.tiling.side) {
            return Err(Error::Request(format!(
                "tiles of {} rows: take from {} to {}",
                options.tiling.side,
                Tiling::SIDES.start(),
                Tiling::SIDES.end()
            )));
        }
        let work = self.work();
        let hessian = work.hessian();
        let sizes = Sizes {
            samples: self.dataset.len(),
            directions: hessian.directions(self.network.outputs()),
            signed: hessian.signed(),
            curvature: self.curvature,
            number_bytes,
            target: match self.dataset.target_shape() {
                Some(shape) => shape.iter().product(),
                None => 0,
            },
            batch: options.batch,
            units: options.units,
            grid,
            tiling: options.tiling,
            // What is cut off the factor is known of its directions: products would make all of them for each vector.
            way: options.way.or(self.rank.is_some().then_some(Way::Backward)),
        };
        let plan = plan(&self.network, parts, sizes, limits)?;
        tracing::info!(
            tiles = plan.tile_count(),
            unit_samples = plan.unit,
            unit_directions = plan.chunk,
            keep = ?plan.keep,
            passes = plan.passes(),
            device_bytes = plan.device_bytes,
            host_bytes = plan.host_bytes,
            "planned"
        );
        Ok(plan)
    }

    /// Plans parts for a device.
    ///
    /// # Errors
    /// As [`Session::plan_for`].
    pub fn plan(
        &self,
        parts: Vec<ResolvedPart>,
        device: &Device,
        options: RunOptions,
    ) -> Result<Plan> {
        let bytes = if device.precision() == "f64" { 8 } else { 4 };
        // Chunks of an array are the same for every device.
        let grid = match options.tiling.regular {
            true => Grid::Squares,
            false => device.grid(),
        };
        let limits = device.limits(options);
        self.plan_in(parts, bytes, limits, options, grid)
    }

    /// What a share of a plan of this session is expected to take on a device of these rates ([`Target::left_of`]; 1 is all of it),
    /// written to `out` where that is given.
    ///
    /// ```no_run
    /// # use hessblock::forecast::Rates;
    /// # use hessblock::run::Control;
    /// # use hessblock::{Device, RunOptions, Session};
    /// # fn forecast(session: &Session, device: &Device) -> hessblock::Result<()> {
    /// let plan = session.plan(session.resolve(&["layers".parse()?])?, device, RunOptions::default())?;
    /// println!("{}", session.forecast(&plan, device, &Rates::of(device, &Control::none())?, 1.0, None)?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Plan::tally`].
    pub fn forecast(
        &self,
        plan: &Plan,
        device: &Device,
        rates: &Rates,
        share: f64,
        out: Option<&Path>,
    ) -> Result<Forecast> {
        let result = plan.entries() * plan.number_bytes() as u128;
        let result = u64::try_from(result).unwrap_or(u64::MAX);
        let write_rate =
            out.and_then(|out| write_rate(&nearest(&parent(out)), (result as f64 * share) as u64));
        let (network, devices) = (&self.network, device.count());
        let mut forecast = Forecast::new(plan, network, rates, devices, share, write_rate)?;
        if out.is_some_and(takes_tensors) {
            // It is made in memory, and whole.
            forecast.peak_host_bytes = forecast.peak_host_bytes.saturating_add(result);
        }
        Ok(forecast)
    }

    /// Runs a plan into a sink of the backend's number type; the caller finishes the sink.
    ///
    /// # Errors
    /// What data, device and sink report.
    pub fn run_on<B: Contract>(
        &self,
        backend: &B,
        plan: &Plan,
        sink: &mut dyn Sink<B::Real>,
        control: &Control<'_>,
    ) -> Result<RunReport> {
        let second = self.curvature.needs_second_derivatives();
        let report = run(backend, &self.work(), plan, sink, control);
        self.finite(B::Real::NAME, report, second, control, |_| true)
    }

    /// Runs a plan into a sink on several devices of one kind, which take tiles from one queue; the caller finishes the
    /// sink. The plan is to be one that each of them has room for.
    ///
    /// # Errors
    /// As [`Session::run_on`]; [`Error::DeviceLost`] where all are lost.
    pub fn run_on_all<B: Contract>(
        &self,
        backends: &[&B],
        plan: &Plan,
        sink: &mut dyn Sink<B::Real>,
        control: &Control<'_>,
    ) -> Result<RunReport> {
        let second = self.curvature.needs_second_derivatives();
        let report = run_on_all(backends, &self.work(), plan, sink, control);
        self.finite(B::Real::NAME, report, second, control, |_| true)
    }

    /// Runs a plan into files and puts them under their final name; several devices share its tiles.
    ///
    /// # Errors
    /// What data, device and disk report; nothing is left under the final name then. The tiles made so far stay under
    /// `NAME.partial` ([`Target::left`]), and a run of the same plan to the same place goes on from there.
    pub fn run_to_files(
        &self,
        device: &Device,
        plan: &Plan,
        target: &Target,
        control: &Control<'_>,
    ) -> Result<RunReport> {
        #[cfg(feature = "gpu")]
        if let Device::Gpus(gpus) = device {
            let all: Vec<&Gpu> = gpus.all().iter().collect();
            return self.write_files(&all, plan, target, control);
        }
        with_backend!(device, backend => self.write_files(&[backend], plan, target, control))
    }

    fn write_files<B: Contract>(
        &self,
        backends: &[&B],
        plan: &Plan,
        target: &Target,
        control: &Control<'_>,
    ) -> Result<RunReport> {
        if takes_tensors(&target.path) {
            return self.write_tensors(backends, plan, target, control);
        }
        let refused = match self.write_tiles(backends, plan, target, control) {
            Err(refused @ Error::Request(_)) if target.options.shard.of > 1 => refused,
            written => return written,
        };
        // Processes that begin at once plan at once, each for the memory it finds: all take the units of the one that was first.
        match target.units()?.filter(|units| *units != plan.units()) {
            Some(units) => {
                let plan = plan.in_units(&self.network, units, u64::MAX)?;
                self.write_tiles(backends, &plan, target, control)
            }
            None => Err(refused),
        }
    }

    fn write_tiles<B: Contract>(
        &self,
        backends: &[&B],
        plan: &Plan,
        target: &Target,
        control: &Control<'_>,
    ) -> Result<RunReport> {
        let mut files = target
            .files()?
            .provenance(self.identified(target)?)
            .plan(serde_json::json!(plan.describe(size_of::<B::Real>())))
            .order(plan.order())
            .chunk_side(plan.tiling().side)
            .parameters(places(&self.network))
            .watch(self.watch.clone());
        if files.is_finished(&plan.layouts())? {
            return Ok(was_whole(plan));
        }
        let second = self.curvature.needs_second_derivatives();
        let run = run_on_all(backends, &self.work(), plan, &mut files, control);
        let run = self.finite(B::Real::NAME, run, second, control, |_| true);
        let run = run.and_then(|report| control.check().map(|()| report));
        let mut report = run.map_err(|error| kept(error, &mut files))?;
        let ended = end(&mut report, backends, || {
            files.settle(control.cancel)?;
            match target.options.shard.of {
                1 => files.finish(),
                _ => files.leave().map(|_| ()),
            }
        });
        ended.map_err(|error| kept(error, &mut files))?;
        Ok(report)
    }

    /// The target's provenance with what this session computes from, so that a run that was stopped is gone on with by
    /// the same one only. Where files are named and hashed, these say what the data are.
    fn identified(&self, target: &Target) -> Result<Provenance> {
        let mut provenance = target.provenance.clone();
        let samples = self.dataset.sample_range();
        provenance
            .samples
            .get_or_insert((samples.start, samples.end));
        provenance.loss.get_or_insert_with(|| self.loss.name());
        let curvature = self.curvature.to_string();
        provenance.curvature.get_or_insert(curvature);
        let mut hasher = Sha256::new();
        for parameter in &self.network.parameters {
            hasher.update(parameter.name.as_bytes());
            match &parameter.data.data {
                HostData::F32(values) => hasher.update(f32::bytes(values)),
                HostData::F64(values) => hasher.update(f64::bytes(values)),
            }
        }
        let options = &mut provenance.options;
        options.insert("parameters_sha256".into(), hexadecimal(hasher).into());
        if provenance.data.is_empty() {
            /// Samples that are read at a time.
            const STEP: usize = 64;
            let (mut hasher, count) = (Sha256::new(), self.dataset.len());
            for start in (0..count).step_by(STEP) {
                let range = start..(start + STEP).min(count);
                for input in self.dataset.inputs(range.clone())? {
                    hasher.update(f64::bytes(&input));
                }
                // Debug text of floats is exact.
                hasher.update(format!("{:?}", self.dataset.targets(range)?));
            }
            options.insert("data_sha256".into(), hexadecimal(hasher).into());
        }
        if let Some(rank) = &self.rank {
            options.entry("rank").or_insert(serde_json::json!(rank));
        }
        Ok(provenance)
    }

    /// Small parts into memory, and from there into one file.
    fn write_tensors<B: Contract>(
        &self,
        backends: &[&B],
        plan: &Plan,
        target: &Target,
        control: &Control<'_>,
    ) -> Result<RunReport> {
        let mut tensors = target
            .tensors::<B::Real>()?
            .provenance(self.identified(target)?)
            .order(plan.order())
            .parameters(places(&self.network));
        if tensors.is_finished(&plan.layouts())? {
            return Ok(was_whole(plan));
        }
        let parts = plan.all_parts().into_iter();
        let parts: Vec<ResolvedPart> = parts.map(|p| p.part.clone()).collect();
        self.check_memory(&parts, size_of::<B::Real>())?;
        let second = self.curvature.needs_second_derivatives();
        let report = run_on_all(backends, &self.work(), plan, &mut tensors, control);
        let mut report = self.finite(B::Real::NAME, report, second, control, |_| true)?;
        control.check()?;
        self.check_files()?;
        end(&mut report, backends, || tensors.finish())?;
        Ok(report)
    }

    /// Computes parts into memory: vectors as one column.
    ///
    /// # Errors
    /// As [`Session::resolve`] and [`Session::run_on`]; [`Error::Budget`] where the parts need more memory than
    /// there is, with those that would fit.
    pub fn to_memory<B: Contract>(
        &self,
        backend: &B,
        parts: &[Part],
    ) -> Result<Vec<(PartLayout, Array2<B::Real>)>> {
        self.to_memory_on(&[backend], parts, RunOptions::default())
    }

    /// The same on several devices of one kind, with options.
    fn to_memory_on<B: Contract>(
        &self,
        backends: &[&B],
        parts: &[Part],
        options: RunOptions,
    ) -> Result<Vec<(PartLayout, Array2<B::Real>)>> {
        let host = backends.iter().all(|b| b.accumulates_in_host_memory());
        let largest = backends.iter().map(|b| b.largest_tensor()).min();
        let limits = Limits {
            device: options.memory.unwrap_or(u64::MAX),
            host: options.host_memory.unwrap_or(u64::MAX),
            held: options.held,
            sharing: 1,
            tensor: largest.unwrap_or(u64::MAX),
            unified: host,
        };
        let parts = self.resolve(parts)?;
        self.check_memory(&parts, size_of::<B::Real>())?;
        let grid = match host {
            true => Grid::Whole,
            false => Grid::Squares,
        };
        let plan = self.plan_in(parts, size_of::<B::Real>(), limits, options, grid)?;
        let mut sink = Memory::<B::Real>::new();
        self.run_on_all(backends, &plan, &mut sink, &Control::none())?;
        sink.finish()?;
        Ok(sink.into_parts())
    }

    /// Computes parts into memory on any device; numbers are widened to double precision.
    ///
    /// # Errors
    /// As [`Session::to_memory`].
    pub fn blocks(
        &self,
        device: &Device,
        parts: &[Part],
    ) -> Result<Vec<(PartLayout, Array2<f64>)>> {
        self.blocks_with(device, parts, RunOptions::default())
    }

    /// The same with options; memory that they do not limit is taken as it is needed.
    ///
    /// # Errors
    /// As [`Session::blocks`]; [`Error::Budget`] where the memory does not hold one tile.
    pub fn blocks_with(
        &self,
        device: &Device,
        parts: &[Part],
        options: RunOptions,
    ) -> Result<Vec<(PartLayout, Array2<f64>)>> {
        #[cfg(feature = "gpu")]
        if let Device::Gpus(gpus) = device {
            let all: Vec<&Gpu> = gpus.all().iter().collect();
            return Ok(widened(self.to_memory_on(&all, parts, options)?));
        }
        with_backend!(device, backend => Ok(widened(self.to_memory_on(&[backend], parts, options)?)))
    }

    /// The gradient, the loss and, for classes, the accuracy.
    ///
    /// # Errors
    /// What data and device report; [`Error::Request`] for a loss that has no gradient.
    pub fn gradient(
        &self,
        device: &Device,
        options: RunOptions,
        control: &Control<'_>,
    ) -> Result<Gradient> {
        if !self.loss.has_gradient() {
            return Err(Error::Request(format!(
                "the loss {} gives a Hessian only, no gradient",
                self.loss.name()
            )));
        }
        let limits = device.limits(options);
        let gradient = with_backend!(device, backend => operator::gradient(backend, &self.work(), limits, options.batch, control));
        // Only the derivatives of a given loss are known: its value is NaN.
        self.finite(device.precision(), gradient, false, control, |gradient| {
            all_finite(&gradient.values) && !gradient.loss.is_infinite()
        })
    }

    /// The curvature's product with vectors, `[directions, p]` in the flat order; the result alike.
    ///
    /// ```
    /// # use hessblock::import::data::Dataset;
    /// # use hessblock::loss::{CrossEntropy, Reduction};
    /// # use hessblock::network::builder::Builder;
    /// # use hessblock::run::Control;
    /// # use hessblock::{Curvature, Device, Precision, RunOptions, Session};
    /// # use ndarray::{Array2, arr1, arr2};
    /// let network = Builder::new(&[3]).linear("fc1", 4).tanh().linear("fc2", 2).initialize(0).build()?;
    /// let data = Dataset::from_arrays(arr2(&[[0.1, 0.2, 0.3], [0.5, -0.4, 0.0]]), arr1(&[0i64, 1]));
    /// let session = Session::new(network, data, Box::new(CrossEntropy::new(Reduction::Mean)))?
    ///     .with_curvature(Curvature::Exact)?;
    /// let (device, vectors) = (Device::cpu(Precision::F64), Array2::ones((1, 26)));
    /// let product = session.product(&device, &vectors, RunOptions::default(), &Control::none())?;
    /// let form = session.forms(&device, &vectors, RunOptions::default(), &Control::none())?[0];
    /// assert!((product.sum() - form.exact()).abs() < 1e-14);
    /// # Ok::<(), hessblock::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`operator::product`].
    pub fn product(
        &self,
        device: &Device,
        vectors: &Array2<f64>,
        options: RunOptions,
        control: &Control<'_>,
    ) -> Result<Array2<f64>> {
        let limits = device.limits(options);
        let (work, vectors) = (self.work(), vectors.as_standard_layout());
        let flat = vectors.as_slice().unwrap_or_default();
        let second = self.curvature.needs_second_derivatives();
        let product = with_backend!(device, backend => operator::product(backend, &work, flat, limits, options.batch, control));
        let product = self.finite(device.precision(), product, second, control, |v| {
            all_finite(v)
        })?;
        matrix(vectors.nrows(), product)
    }

    /// The curvature's diagonal, `[p]`.
    ///
    /// # Errors
    /// As [`Session::plan`] and [`Session::run_on`].
    pub fn diagonal(
        &self,
        device: &Device,
        options: RunOptions,
        control: &Control<'_>,
    ) -> Result<Vec<f64>> {
        let plan = self.plan(self.resolve(&[Part::Diagonal])?, device, options)?;
        with_backend!(device, backend => {
            let mut sink = Memory::new();
            self.run_on(backend, &plan, &mut sink, control)?;
            sink.finish()?;
            let parts = sink.into_parts().into_iter();
            Ok(parts.flat_map(|(_, values)| values.into_iter().map(Real::to_f64)).collect())
        })
    }

    /// The curvature's trace by layer and, last, as a whole: exact, from its diagonal.
    ///
    /// # Errors
    /// As [`Session::diagonal`].
    pub fn trace(
        &self,
        device: &Device,
        options: RunOptions,
        control: &Control<'_>,
    ) -> Result<Vec<Trace>> {
        let diagonal = self.diagonal(device, options, control)?;
        Ok(operator::trace_of(&self.network, &diagonal))
    }

    /// The trace by random probes, which `seed` chooses ([`operator::probed_trace`]).
    ///
    /// # Errors
    /// As [`operator::product`].
    pub fn probed_trace(
        &self,
        device: &Device,
        probes: usize,
        seed: u64,
        options: RunOptions,
        control: &Control<'_>,
    ) -> Result<Vec<Trace>> {
        let limits = device.limits(options);
        let work = self.work();
        let second = self.curvature.needs_second_derivatives();
        let traces = with_backend!(device, backend => operator::probed_trace(backend, &work, operator::Probes { count: probes, seed }, limits, options.batch, control));
        self.finite(device.precision(), traces, second, control, |traces| {
            traces.iter().all(|t| t.value.is_finite())
        })
    }

    /// The gradient of every layer as a vector of its own, zero elsewhere: `[layers, p]`, in the order of
    /// [`Network::layers`].
    ///
    /// # Errors
    /// As [`Session::gradient`].
    pub fn layer_gradients(
        &self,
        device: &Device,
        options: RunOptions,
        control: &Control<'_>,
    ) -> Result<Array2<f64>> {
        let gradient = self.gradient(device, options, control)?.values;
        let layers = self.network.layers();
        let mut rows = Array2::zeros((layers.len(), gradient.len()));
        for (mut row, layer) in rows.rows_mut().into_iter().zip(&layers) {
            for at in self.network.ranges(layer).flatten() {
                row[at] = gradient[at];
            }
        }
        Ok(rows)
    }

    /// vᵀGv and vᵀ(H − G)v of vectors, `[directions, p]`; for a Fisher matrix, its own in the place of G's.
    ///
    /// # Errors
    /// As [`operator::forms`]; [`Error::Request`] for a loss without gradient.
    pub fn forms(
        &self,
        device: &Device,
        vectors: &Array2<f64>,
        options: RunOptions,
        control: &Control<'_>,
    ) -> Result<Vec<Form>> {
        Curvature::Exact.check(self.loss())?;
        let limits = device.limits(options);
        let (work, vectors) = (self.work(), vectors.as_standard_layout());
        let flat = vectors.as_slice().unwrap_or_default();
        let forms = with_backend!(device, backend => operator::forms(backend, &work, operator::Pairs { left: flat, right: flat }, true, (limits, options.batch), control));
        self.finite(device.precision(), forms, true, control, |forms| {
            forms.iter().all(|f| f.exact().is_finite())
        })
    }

    /// J·v per sample, `[samples, directions, outputs]`, of vectors `[directions, p]`.
    ///
    /// # Errors
    /// As [`operator::product`].
    pub fn jacobian_product(
        &self,
        device: &Device,
        vectors: &Array2<f64>,
        options: RunOptions,
        control: &Control<'_>,
    ) -> Result<Array3<f64>> {
        let limits = device.limits(options);
        let (work, vectors) = (self.work(), vectors.as_standard_layout());
        let flat = vectors.as_slice().unwrap_or_default();
        let product = with_backend!(device, backend => operator::jacobian_product(backend, &work, flat, limits, options.batch, control));
        let product = self.finite(device.precision(), product, false, control, |v| {
            all_finite(v)
        })?;
        let shape = (self.dataset.len(), vectors.nrows(), self.network.outputs());
        Array3::from_shape_vec(shape, product).map_err(|e| Error::Shape(e.to_string()))
    }

    /// Σ_n J_nᵀ·u_n, `[directions, p]`, of cotangents `[samples, directions, outputs]`.
    ///
    /// # Errors
    /// As [`operator::jacobian_transpose_product`].
    pub fn jacobian_transpose_product(
        &self,
        device: &Device,
        cotangents: &Array3<f64>,
        options: RunOptions,
        control: &Control<'_>,
    ) -> Result<Array2<f64>> {
        let limits = device.limits(options);
        let (work, cotangents) = (self.work(), cotangents.as_standard_layout());
        let flat = cotangents.as_slice().unwrap_or_default();
        let product = with_backend!(device, backend => operator::jacobian_transpose_product(backend, &work, flat, limits, options.batch, control));
        let product = self.finite(device.precision(), product, false, control, |v| {
            all_finite(v)
        })?;
        matrix(
            product.len() / self.network.parameter_count().max(1),
            product,
        )
    }

    /// Entries of the curvature straight from the definition, in CPU double precision ([`operator::entries`]).
    ///
    /// # Errors
    /// What the data reports.
    pub fn entries(&self, pairs: &[(usize, usize)], control: &Control<'_>) -> Result<Vec<f64>> {
        self.entries_in::<f64>(pairs, control)
    }

    /// The same in a precision of choice: single says how far its rounding alone takes an entry.
    pub(crate) fn entries_in<R: Real>(
        &self,
        pairs: &[(usize, usize)],
        control: &Control<'_>,
    ) -> Result<Vec<f64>> {
        let limits = Device::cpu(Precision::F64).limits(RunOptions::default());
        let entries = operator::entries::<R>(&self.work(), pairs, limits, control)?;
        Ok(entries)
    }
}

/// Blocks in double precision.
fn widened<R: Real>(blocks: Vec<(PartLayout, Array2<R>)>) -> Vec<(PartLayout, Array2<f64>)> {
    let widen = |(layout, block): (PartLayout, Array2<R>)| (layout, block.mapv(Real::to_f64));
    blocks.into_iter().map(widen).collect()
}

/// What is said of a run whose result was there.
fn was_whole(plan: &Plan) -> RunReport {
    RunReport {
        was_whole: true,
        found_tiles: plan.tile_count(),
        ..RunReport::default()
    }
}

/// Makes a result durable, and takes note of how long that took.
fn end<B: Contract>(
    report: &mut RunReport,
    backends: &[&B],
    sync: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let start = std::time::Instant::now();
    sync()?;
    report.sync_seconds = start.elapsed().as_secs_f64();
    report.seconds += report.sync_seconds;
    if let Some(first) = backends.first() {
        report.find_bottleneck(first.rate_limits());
    }
    Ok(())
}

/// The parameters' places in the flat order, as they are written beside a result.
fn places(network: &Network) -> Vec<ParameterPlace> {
    let place = |parameter: &Parameter| ParameterPlace {
        name: parameter.name.clone(),
        layer: parameter.layer.clone(),
        offset: parameter.offset,
        count: parameter.data.len(),
        shape: parameter.data.shape.clone(),
    };
    network.parameters.iter().map(place).collect()
}

/// Makes the tiles made so far durable where they are; a failed device's message says where.
fn kept<R: Real>(error: Error, files: &mut Files<R>) -> Error {
    let left = files.leave();
    let with = |message: String| match left {
        Ok(Some(left)) => format!(
            "{message}; these are safe in {}, with a list of them; the same command goes on from there",
            left.path.display()
        ),
        Ok(None) => message,
        Err(refused) => format!("{message}; these could not be kept: {refused}"),
    };
    match error {
        Error::DeviceLost(message) => Error::DeviceLost(with(message)),
        Error::DeviceMemory(message) => Error::DeviceMemory(with(message)),
        other => other,
    }
}

/// Whether all numbers are finite.
fn all_finite(values: &[f64]) -> bool {
    values.iter().all(|v| v.is_finite())
}

/// Rows of equal length as a matrix.
fn matrix(rows: usize, values: Vec<f64>) -> Result<Array2<f64>> {
    let columns = values.len() / rows.max(1);
    Array2::from_shape_vec((rows, columns), values).map_err(|e| Error::Shape(e.to_string()))
}
