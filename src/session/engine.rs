//! How operators reach the engine: what a run works on, plans within given limits, and runs on given backends.

use super::Operator;
use crate::control::Control;
use crate::device::Device;
use crate::error::{Error, Remedy, Result};
use crate::loss::Loss;
use crate::operator;
use crate::plan::request::ResolvedPart;
use crate::plan::tiles::{Grid, Tiling};
use crate::plan::{Limits, Plan, RunOptions, Sizes, Way, plan};
use crate::precision::Precision;
use crate::run::{Problem, RunReport, run_on_all};
use crate::setting::{ALLOW_NON_FINITE, MEAN, PRECISION, SCALE, STD};
use crate::sink::Sink;
use crate::tensor::{Contract, Real};

impl Operator {
    /// Network, data, loss and matrix, as every computation takes them.
    #[doc(hidden)]
    pub fn work(&self) -> Problem<'_> {
        let session = self.session();
        Problem {
            network: &session.network,
            dataset: &session.dataset,
            loss: self.loss(),
            curvature: self.curvature(),
            lenient: session.lenient,
        }
    }

    /// A result of files that were not changed meanwhile, whose numbers are finite or may be otherwise; else the error that
    /// says where they stopped being so. It was computed in the device's precision.
    pub(super) fn finite<T>(
        &self,
        result: Result<T>,
        second: bool,
        control: &Control<'_>,
        is_finite: impl FnOnce(&T) -> bool,
    ) -> Result<T> {
        let precision = self.session().device().precision();
        self.finite_in(precision, result, second, control, is_finite)
    }

    /// The same of one that was computed in that precision.
    pub(super) fn finite_in<T>(
        &self,
        precision: Precision,
        result: Result<T>,
        second: bool,
        control: &Control<'_>,
        is_finite: impl FnOnce(&T) -> bool,
    ) -> Result<T> {
        // A file that was changed meanwhile is the cause of whatever came of it.
        if matches!(result, Ok(_) | Err(Error::NotFinite { .. })) {
            self.session().files.check_times()?;
        }
        let what = match result {
            Ok(result) if self.session().lenient || is_finite(&result) => return Ok(result),
            Ok(_) => "the result holds NaN or infinite numbers".into(),
            Err(Error::NotFinite { message, .. }) => message,
            Err(other) => return Err(other),
        };
        let limits = Device::cpu(Precision::F64).limits(RunOptions::default());
        let found = match precision {
            Precision::F64 => operator::locate::<f64>(&self.work(), second, limits, control),
            Precision::F32 => operator::locate::<f32>(&self.work(), second, limits, control),
        };
        let first = match found {
            Ok(Some(first)) => format!("the first that is not finite: {first}"),
            Ok(None) => format!(
                "each operation's numbers are finite in {precision} on the CPU, so sums of them overflow"
            ),
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(error) => format!("where it begins was not found: {error}"),
        };
        let (cure, mut remedies) = match precision {
            Precision::F64 => ("mend the data or the weights".to_string(), Vec::new()),
            Precision::F32 => (
                format!(
                    "try {PRECISION} f64, scale the inputs ({SCALE}, {MEAN}, {STD}), or mend data or weights"
                ),
                vec![Remedy::DoublePrecision, Remedy::ScaleInputs],
            ),
        };
        remedies.push(Remedy::AllowNonFinite);
        Err(Error::NotFinite {
            message: format!(
                "{what}; {first}; {cure}, or take {ALLOW_NON_FINITE} to have what there is"
            ),
            remedies,
        })
    }

    /// Plans parts for a number type and limits, without running anything.
    ///
    /// # Errors
    /// [`Error::Budget`] where not even one tile fits; [`Error::Request`] for parts that no disk could hold.
    #[doc(hidden)]
    pub fn plan_within(
        &self,
        parts: Vec<ResolvedPart>,
        precision: Precision,
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
        let (network, dataset) = (work.network, work.dataset);
        let sizes = Sizes {
            samples: dataset.len(),
            directions: hessian.directions(network.outputs()),
            signed: hessian.signed(),
            curvature: self.curvature(),
            number_bytes: precision.bytes(),
            target: match dataset.target_shape() {
                Some(shape) => shape.iter().product(),
                None => 0,
            },
            batch: options.batch,
            units: options.units,
            grid,
            tiling: options.tiling,
            // What is cut off the factor is known of its directions: products would make all of them for each vector.
            way: options
                .way
                .or(self.rank().is_some().then_some(Way::Backward)),
        };
        let plan = plan(network, parts, sizes, limits)?;
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

    /// Plans parts for the session's device, as they go to files.
    ///
    /// # Errors
    /// As [`Operator::plan_within`].
    #[doc(hidden)]
    pub fn plan_with(&self, parts: Vec<ResolvedPart>, options: RunOptions) -> Result<Plan> {
        let device = self.session().device();
        // Chunks of an array are the same for every device.
        let grid = match options.tiling.regular {
            true => Grid::Squares,
            false => device.grid(),
        };
        self.plan_within(
            parts,
            device.precision(),
            device.limits(options),
            options,
            grid,
        )
    }

    /// Runs a plan into a sink on backends of one kind, which take tiles from one queue; the caller finishes the sink. The plan is
    /// to be one that each of them has room for.
    ///
    /// # Errors
    /// What data, device and sink report; [`Error::DeviceLost`] where all are lost.
    #[doc(hidden)]
    pub fn run_on<B: Contract>(
        &self,
        backends: &[&B],
        plan: &Plan,
        sink: &mut dyn Sink<B::Real>,
        control: &Control<'_>,
    ) -> Result<RunReport> {
        let second = self.curvature().needs_second_derivatives();
        let report = run_on_all(backends, &self.work(), plan, sink, control);
        let precision = B::Real::PRECISION;
        self.finite_in(precision, report, second, control, |_| true)
    }

    /// Entries straight from the definition, on the CPU in a precision of choice: single says how far its rounding alone takes an
    /// entry.
    pub(crate) fn entries_in<R: Real>(
        &self,
        pairs: &[(usize, usize)],
        control: &Control<'_>,
    ) -> Result<Vec<f64>> {
        let limits = Device::cpu(Precision::F64).limits(self.session().options);
        operator::entries::<R>(&self.work(), pairs, limits, control)
    }
}
