//! A request for parts of an operator: planned, made in memory, or written.

use super::output::Output;
use super::plan::Plan;
use super::{Number, Operator};
use crate::bytes::Bytes;
use crate::control::{CancelToken, Control, Progress};
use crate::device::with_backends;
use crate::error::{Error, Result};
use crate::plan::request::{ResolvedPart, bytes_of};
use crate::plan::tiles::{Grid, Tiling};
use crate::plan::{Limits, Plan as Tiles, RunOptions, Way};
use crate::precision::Precision;
use crate::run::RunReport;
use crate::sink::{Memory, PartLayout, Sink};
use crate::tensor::{Contract, Real};
use ndarray::{Array2, ArrayD, ArrayView2, Ix1, Ix2};
use std::borrow::Borrow;
use std::ops::Range;

/// A part of a matrix in memory.
///
/// ```
/// # use hessblock::data::Dataset;
/// # use hessblock::loss::SquaredError;
/// # use hessblock::network::builder::Builder;
/// # use hessblock::{Block, Device, Part, Precision, Session};
/// # use ndarray::arr2;
/// # let network = Builder::new(&[3]).linear("fc", 2).initialize(0).build()?;
/// # let data = Dataset::from_arrays(arr2(&[[0.1, 0.2, 0.3]]), arr2(&[[1.0, -1.0]]));
/// # let session = Session::builder(network).data(data).loss(SquaredError::default())
/// #     .device(Device::cpu(Precision::F32)).build()?;
/// let parts = [Part::range(0..1, 2..4), Part::Diagonal];
/// let blocks: Vec<Block<f32>> = session.ggn().parts(parts)?.to_arrays()?;
/// assert_eq!((blocks[0].name.as_str(), blocks[0].array.shape()), ("range=0..1,2..4", &[1, 2][..]));
/// assert_eq!((blocks[1].columns.is_none(), blocks[1].matrix().dim()), (true, (8, 1)));
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Block<R> {
    /// The part's name, such as `layer=fc1`. Each layer of [`Part::Layers`](crate::Part::Layers) is a part of its own.
    pub name: String,
    /// Flat indices of the rows: ascending half-open ranges.
    pub rows: Vec<Range<usize>>,
    /// Flat indices of the columns; `None` for a vector, such as a diagonal.
    pub columns: Option<Vec<Range<usize>>>,
    /// `[rows, columns]`, or `[rows]` for a vector.
    pub array: ArrayD<R>,
}

impl<R: Number> Block<R> {
    fn new((layout, array): (PartLayout, Array2<R>)) -> Block<R> {
        let array = match layout.columns {
            Some(_) => array.into_dyn(),
            None => array.into_flat().into_dyn(),
        };
        Block {
            name: layout.name,
            rows: layout.rows,
            columns: layout.columns,
            array,
        }
    }

    /// The matrix, `[rows, columns]`; a vector as one column.
    ///
    /// # Panics
    /// Where the fields were changed so that `array` has not the axes that `columns` says.
    pub fn matrix(&self) -> ArrayView2<'_, R> {
        let view = self.array.view();
        let matrix = match self.columns {
            Some(_) => view.into_dimensionality::<Ix2>(),
            None => {
                let vector = view.into_dimensionality::<Ix1>();
                vector.map(|vector| vector.insert_axis(ndarray::Axis(1)))
            }
        };
        matrix.expect("a block has as many axes as it has lists of ranges")
    }

    /// The matrix itself, `[rows, columns]`; a vector as one column.
    ///
    /// # Panics
    /// As [`Block::matrix`].
    pub fn into_matrix(self) -> Array2<R> {
        let array = match self.columns {
            Some(_) => self.array,
            None => self.array.insert_axis(ndarray::Axis(1)),
        };
        let matrix = array.into_dimensionality::<Ix2>();
        matrix.expect("a block has as many axes as it has lists of ranges")
    }

    /// The same in another precision.
    fn converted<T: Number>(self) -> Block<T> {
        Block {
            name: self.name,
            rows: self.rows,
            columns: self.columns,
            array: self.array.mapv(|v| T::from_f64(v.to_f64())),
        }
    }
}

/// Parts of an operator that were asked for ([`Operator::parts`]).
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
/// let request = session.ggn().parts([Part::layer("fc2"), Part::between("fc1", "fc2")])?;
/// println!("{}", request.plan()?);
/// let blocks = request.to_arrays::<f32>()?;
/// assert_eq!(blocks[1].array.shape(), [16, 10]);
///
/// # let folder = std::env::temp_dir().join(format!("hessblock-request-{}", std::process::id()));
/// let report = request.write(Output::folder(&folder).overwrite(true))?;
/// assert_eq!(report.entries, 10 * 10 + 16 * 10);
/// # std::fs::remove_dir_all(&folder).map_err(hessblock::Error::io(&folder))?;
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Request {
    operator: Operator,
    parts: Vec<ResolvedPart>,
    tiling: Tiling,
    way: Option<Way>,
}

impl Request {
    pub(super) fn new(operator: Operator, parts: Vec<ResolvedPart>) -> Request {
        Request {
            operator,
            parts,
            tiling: Tiling::default(),
            way: None,
        }
    }

    /// The same, whose progress is told to `progress`, from whatever thread works on it.
    #[must_use]
    pub fn progress(mut self, progress: impl Fn(Progress) + Send + Sync + 'static) -> Request {
        self.operator = self.operator.progress(progress);
        self
    }

    /// The same, which stops once the token is cancelled. Of one that is written, the tiles made so far are kept beside the output,
    /// and the same request resumes the run.
    #[must_use]
    pub fn cancel(mut self, token: &CancelToken) -> Request {
        self.operator = self.operator.cancel(token);
        self
    }

    /// Tiles of so many rows, where they are not to be as large as memory allows.
    #[must_use]
    pub fn tile_rows(mut self, rows: usize) -> Request {
        self.tiling.side = rows;
        self
    }

    /// Whether blocks of G are made forward from the parameters or backwards from the loss; by default what takes fewer operations,
    /// for every part.
    #[must_use]
    pub fn way(mut self, way: Way) -> Request {
        self.way = Some(way);
        self
    }

    /// Without the parts that take more than so many bytes, and the names and sizes of these.
    ///
    /// ```
    /// # use hessblock::data::Dataset;
    /// # use hessblock::loss::CrossEntropy;
    /// # use hessblock::network::builder::Builder;
    /// # use hessblock::{Device, Part, Precision, Session};
    /// # use ndarray::{arr1, arr2};
    /// # let network = Builder::new(&[3]).linear("fc1", 4).tanh().linear("fc2", 2).initialize(0).build()?;
    /// # let data = Dataset::from_arrays(arr2(&[[0.1, 0.2, 0.3], [0.5, -0.4, 0.0]]), arr1(&[0i64, 1]));
    /// # let session = Session::builder(network).data(data).loss(CrossEntropy::mean())
    /// #     .device(Device::cpu(Precision::F32)).build()?;
    /// let (request, larger) = session.ggn().parts([Part::Layers])?.without_larger("512".parse()?);
    /// assert_eq!((request.names().next(), &*larger[0].0), (Some("layer=fc2"), "layer=fc1"));
    /// # Ok::<(), hessblock::Error>(())
    /// ```
    pub fn without_larger(mut self, limit: Bytes) -> (Request, Vec<(String, Bytes)>) {
        let each = self.operator.session().device().precision().bytes();
        let size = |part: &ResolvedPart| part.bytes(each);
        let (kept, larger) = self.parts.into_iter().partition(|part| size(part) <= limit);
        self.parts = kept;
        let larger: Vec<ResolvedPart> = larger;
        let larger = larger.into_iter().map(|part| {
            let size = size(&part);
            (part.name, size)
        });
        (self, larger.collect())
    }

    /// The names of the parts, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().map(|part| part.name.as_str())
    }

    /// The size of all parts in the device's precision.
    pub fn bytes(&self) -> Bytes {
        bytes_of(
            &self.parts,
            self.operator.session().device().precision().bytes(),
        )
    }

    /// The operator that the parts are of.
    pub fn operator(&self) -> &Operator {
        &self.operator
    }

    /// The parts with their rows and columns.
    #[doc(hidden)]
    pub fn resolved(&self) -> &[ResolvedPart] {
        &self.parts
    }

    /// The plan of [`Request::to_arrays`] in the device's precision: its tiles, operations and memory. It computes nothing.
    ///
    /// # Errors
    /// [`crate::Error::Budget`] where the memory does not hold the result with the least work.
    pub fn plan(&self) -> Result<Plan> {
        let device = self.operator.session().device();
        let tiles = self.plan_in_memory(&Place {
            precision: device.precision(),
            converted: None,
            largest: None,
            in_place: device.shares_host_memory(),
        })?;
        Ok(Plan::new(tiles, self.operator.session().clone(), 1.0, None))
    }

    /// The plan of [`Request::write`] to that output, or to files of which nothing is known.
    ///
    /// # Errors
    /// [`crate::Error::Budget`] where the memory does not hold the least work; as [`Request::write`] for what the output cannot take.
    pub fn plan_for(&self, output: &Output) -> Result<Plan> {
        self.check_parts()?;
        let precision = self.operator.session().device().precision();
        self.operator.check_output(&self.parts, precision, output)?;
        let options =
            self.operator
                .output_options(&self.parts, precision, output, self.options())?;
        let tiles = self.operator.plan_with(self.parts.clone(), options)?;
        let left = output.left_of(&tiles)?;
        let session = self.operator.session().clone();
        Ok(Plan::new(tiles, session, left, Some(output.path().into())))
    }

    /// The plan of one of several equal shares of files of which nothing is known.
    #[cfg(feature = "cli")]
    pub(crate) fn plan_on_disk(&self, shares: usize) -> Result<Plan> {
        let tiles = self
            .operator
            .plan_with(self.parts.clone(), self.options())?;
        let left = 1.0 / shares.max(1) as f64;
        Ok(Plan::new(
            tiles,
            self.operator.session().clone(),
            left,
            None,
        ))
    }

    /// Computes the parts into memory, within the session's budget: results take their share of it.
    ///
    /// Numbers are computed in the device's precision. Where `R` is another, each part is converted when all are there, and its memory
    /// is counted too.
    ///
    /// # Errors
    /// [`crate::Error::Budget`] where the memory does not hold the result with the least work; what data and device report;
    /// [`crate::Error::Interrupted`] once the token is cancelled.
    pub fn to_arrays<R: Number>(&self) -> Result<Vec<Block<R>>> {
        with_backends!(self.operator.session().device(), backends => self.arrays_on(backends))
    }

    /// The same on backends of one kind, which share the tiles.
    ///
    /// # Errors
    /// As [`Request::to_arrays`].
    #[doc(hidden)]
    pub fn arrays_on<B: Contract, R: Number>(&self, backends: &[&B]) -> Result<Vec<Block<R>>> {
        let own = B::Real::PRECISION;
        let plan = self.plan_in_memory(&Place {
            precision: own,
            converted: (own != R::PRECISION).then_some(R::PRECISION),
            largest: backends.iter().map(|b| b.largest_tensor()).min(),
            in_place: backends.iter().all(|b| b.accumulates_in_host_memory()),
        })?;
        let watcher = self.operator.session().watcher();
        let blocks = watcher.control(|control| self.blocks_of(backends, &plan, control))?;
        Ok(match own == R::PRECISION {
            true => same(blocks),
            false => blocks.into_iter().map(Block::converted).collect(),
        })
    }

    fn blocks_of<B: Contract>(
        &self,
        backends: &[&B],
        plan: &Tiles,
        control: &Control<'_>,
    ) -> Result<Vec<Block<B::Real>>> {
        let mut sink = Memory::<B::Real>::new();
        self.operator.run_on(backends, plan, &mut sink, control)?;
        sink.finish()?;
        Ok(sink.into_parts().into_iter().map(Block::new).collect())
    }

    /// Plans a result that is made in memory.
    fn plan_in_memory(&self, place: &Place) -> Result<Tiles> {
        let device = self.operator.session().device();
        self.check_parts()?;
        let each = place.precision.bytes() + place.converted.map_or(0, Precision::bytes);
        self.operator.check_memory(&self.parts, each)?;
        let bytes = bytes_of(&self.parts, each).saturated();
        let options = self.options();
        let mut limits = device.limits(options);
        limits.held = limits.held.saturating_add(bytes);
        limits.tensor = place.largest.unwrap_or(limits.tensor);
        limits.unified = place.in_place;
        let grid = match place.in_place {
            true => Grid::Whole,
            false => Grid::Squares,
        };
        let plan = |limits| {
            let parts = self.parts.clone();
            self.operator
                .plan_within(parts, place.precision, limits, options, grid)
        };
        if limits.held < limits.host {
            return plan(limits);
        }
        // What the work takes beside the result is in the refusal of a plan that has nothing.
        let nothing = Limits {
            host: limits.held,
            ..limits
        };
        Err(super::checks::no_room(bytes, &limits, plan(nothing).err()))
    }

    /// Refuses a request of which nothing is left.
    fn check_parts(&self) -> Result<()> {
        match self.parts.is_empty() {
            true => Err(Error::Request("no part is left of the request".into())),
            false => Ok(()),
        }
    }

    /// Computes the parts into files and puts them under their final name. Several devices share the tiles.
    ///
    /// # Errors
    /// [`crate::Error::Request`], [`crate::Error::File`] and [`crate::Error::Budget`] for what the output or its disk cannot take; what data, device and disk
    /// report; [`crate::Error::Interrupted`] once the token is cancelled. Nothing is left under the final name then. The tiles made
    /// so far stay under `NAME.partial`, and the same request to the same output resumes the run.
    pub fn write(&self, output: impl Borrow<Output>) -> Result<RunReport> {
        let output = output.borrow();
        self.write_planned(&self.plan_for(output)?, output)
    }

    /// [`Request::write`] by a plan that was made for this output ([`Request::plan_for`]): what was shown is what is done.
    ///
    /// # Errors
    /// As [`Request::write`].
    pub fn write_planned(&self, plan: &Plan, output: &Output) -> Result<RunReport> {
        let watcher = self.operator.session().watcher();
        watcher.control(|control| self.operator.write_plan(plan.tiles(), output, control))
    }

    fn options(&self) -> RunOptions {
        RunOptions {
            tiling: self.tiling,
            way: self.way,
            ..self.operator.options()
        }
    }
}

/// The conditions under which a result in memory is made.
struct Place {
    precision: Precision,
    /// The other precision that it is converted to.
    converted: Option<Precision>,
    /// Bytes of the largest tensor, where the device does not say it.
    largest: Option<u64>,
    /// Whether blocks are made where they stay.
    in_place: bool,
}

/// Blocks of a type that is the other under another name.
fn same<A: Number, R: Number>(blocks: Vec<Block<A>>) -> Vec<Block<R>> {
    let any: Box<dyn std::any::Any> = Box::new(blocks);
    let blocks = any.downcast::<Vec<Block<R>>>();
    *blocks.expect("types of one precision are one type")
}
