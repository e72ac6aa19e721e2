//! Runs that write: tiles to files under a temporary name, small results to one file, and what a result says of its origin.

use super::{Operator, Output};
use crate::control::Control;
use crate::device::with_backends;
use crate::error::{Error, Result};
use crate::files::hash::hexadecimal;
use crate::memory::SharedBytes;
use crate::network::{Network, Parameter};
use crate::plan::Plan;
use crate::plan::request::ResolvedPart;
use crate::run::RunReport;
use crate::sink::{Blocks, Files, ParameterPlace, PartLayout, Provenance, Sink, takes_tensors};
use crate::tensor::{Contract, HostData, Real};
use sha2::{Digest, Sha256};

impl Operator {
    /// Parts of it that are in memory, each with NumPy's name of its numbers (`<f4`) and its bytes, row-major, as a result that can be
    /// read and shown like one on disk.
    ///
    /// ```
    /// use hessblock::results::PartLayout;
    /// # use hessblock::data::Dataset;
    /// # use hessblock::loss::SquaredError;
    /// # use hessblock::network::builder::Builder;
    /// # use hessblock::{Device, Part, Precision, Session};
    /// # use ndarray::arr2;
    /// # use std::sync::Arc;
    /// # let network = Builder::new(&[3]).linear("fc", 2).initialize(0).build()?;
    /// # let data = Dataset::from_arrays(arr2(&[[0.1, 0.2, 0.3]]), arr2(&[[1.0, -1.0]]));
    /// # let session = Session::builder(network).data(data).loss(SquaredError::default())
    /// #     .device(Device::cpu(Precision::F64)).build()?;
    /// let g = session.ggn();
    /// let bytes: Vec<u8> = g.diagonal()?.iter().flat_map(|v| v.to_le_bytes()).collect();
    /// let result = g.in_memory(vec![(PartLayout::vector("diag", vec![0..8]), "<f8", Arc::new(bytes))])?;
    /// assert_eq!(result.vector(0)?, g.diagonal()?);
    /// # Ok::<(), hessblock::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] where bytes and layout do not fit, [`Error::Value`] for another type of numbers.
    pub fn in_memory(&self, parts: Vec<(PartLayout, &str, SharedBytes)>) -> Result<Blocks> {
        let parameters = places(self.session().network());
        let provenance = serde_json::json!(self.provenance());
        Blocks::in_memory(parts, parameters, provenance)
    }

    /// Runs a plan into files and puts them under their final name; several devices share its tiles.
    ///
    /// # Errors
    /// What data, device and disk report; nothing is left under the final name then. The tiles made so far stay under
    /// `NAME.partial` ([`Output::left`]), and a run of the same plan to the same place goes on from there.
    #[doc(hidden)]
    pub fn write_plan(
        &self,
        plan: &Plan,
        output: &Output,
        control: &Control<'_>,
    ) -> Result<RunReport> {
        with_backends!(self.session().device(), backends => self.write_files(backends, plan, output, control))
    }

    fn write_files<B: Contract>(
        &self,
        backends: &[&B],
        plan: &Plan,
        output: &Output,
        control: &Control<'_>,
    ) -> Result<RunReport> {
        if takes_tensors(output.path()) {
            return self.write_tensors(backends, plan, output, control);
        }
        let refused = match self.write_tiles(backends, plan, output, control) {
            Err(refused @ Error::OtherRun { .. }) if output.options().shard.of > 1 => refused,
            written => return written,
        };
        // Processes that begin at once plan at once, each for the memory it finds: all take the units of the one that was first.
        match output.units()?.filter(|units| *units != plan.units()) {
            Some(units) => {
                let plan = plan.in_units(self.session().network(), units, u64::MAX)?;
                self.write_tiles(backends, &plan, output, control)
            }
            None => Err(refused),
        }
    }

    fn write_tiles<B: Contract>(
        &self,
        backends: &[&B],
        plan: &Plan,
        output: &Output,
        control: &Control<'_>,
    ) -> Result<RunReport> {
        let mut files = output
            .files()?
            .provenance(self.identified(output, control)?)
            .plan(serde_json::json!(plan.describe(size_of::<B::Real>())))
            .order(plan.order())
            .chunk_side(plan.tiling().side)
            .parameters(places(self.session().network()))
            .watch(self.session().files.clone());
        if files.is_finished(&plan.layouts())? {
            return Ok(was_whole(plan));
        }
        let run = self.run_on(backends, plan, &mut files, control);
        let run = run.and_then(|report| control.check().map(|()| report));
        let mut report = run.map_err(|error| kept(error, &mut files))?;
        let ended = end(&mut report, backends, || {
            files.settle(control.cancel)?;
            match output.options().shard.of {
                1 => files.finish(),
                _ => files.leave().map(|_| ()),
            }
        });
        ended.map_err(|error| kept(error, &mut files))?;
        Ok(report)
    }

    /// The output's provenance with what this session computes from, so that a run that was stopped is resumed by
    /// the same one only. Where files are named and hashed, these say what the data are.
    fn identified(&self, output: &Output, control: &Control<'_>) -> Result<Provenance> {
        let mut provenance = output.origin().clone();
        let samples = self.session().dataset().sample_range();
        provenance
            .samples
            .get_or_insert((samples.start, samples.end));
        provenance.loss.get_or_insert_with(|| self.loss().name());
        let curvature = self.curvature().to_string();
        provenance.curvature.get_or_insert(curvature);
        let mut hasher = Sha256::new();
        for parameter in &self.session().network().parameters {
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
            let (mut hasher, count) = (Sha256::new(), self.session().dataset().len());
            for start in (0..count).step_by(STEP) {
                control.check()?;
                let range = start..(start + STEP).min(count);
                for input in self.session().dataset().inputs(range.clone())? {
                    hasher.update(f64::bytes(&input));
                }
                // Debug text of floats is exact.
                hasher.update(format!("{:?}", self.session().dataset().targets(range)?));
            }
            options.insert("data_sha256".into(), hexadecimal(hasher).into());
        }
        if let Some(rank) = self.rank() {
            options.entry("rank").or_insert(serde_json::json!(rank));
        }
        Ok(provenance)
    }

    /// Small parts into memory, and from there into one file.
    fn write_tensors<B: Contract>(
        &self,
        backends: &[&B],
        plan: &Plan,
        output: &Output,
        control: &Control<'_>,
    ) -> Result<RunReport> {
        let mut tensors = output
            .tensors::<B::Real>()?
            .provenance(self.identified(output, control)?)
            .order(plan.order())
            .parameters(places(self.session().network()));
        if tensors.is_finished(&plan.layouts())? {
            return Ok(was_whole(plan));
        }
        let parts = plan.all_parts().into_iter();
        let parts: Vec<ResolvedPart> = parts.map(|p| p.part.clone()).collect();
        self.check_memory(&parts, size_of::<B::Real>())?;
        let mut report = self.run_on(backends, plan, &mut tensors, control)?;
        control.check()?;
        self.session().check_files()?;
        end(&mut report, backends, || tensors.finish())?;
        Ok(report)
    }
}

/// The report of a run whose result existed already.
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
