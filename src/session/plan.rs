//! A plan as its maker sees it: what will be done, in what time and memory.

use super::Session;
use crate::control::{CancelToken, Control, Progress};
use crate::error::Result;
use crate::files::folders::nearest;
use crate::files::parent;
use crate::forecast::{Forecast, Rates, write_rate};
use crate::plan::Plan as Tiles;
use crate::sink::takes_tensors;
use serde::{Serialize, Serializer};
use std::fmt;
use std::path::PathBuf;

/// The plan of a request ([`Request::plan`](crate::Request::plan)): its tiles, operations and memory, as text and as JSON.
///
/// ```
/// # use hessblock::data::Dataset;
/// # use hessblock::loss::SquaredError;
/// # use hessblock::network::builder::Builder;
/// # use hessblock::{Device, Part, Precision, Session};
/// # use ndarray::arr2;
/// # let network = Builder::new(&[3]).linear("fc", 2).initialize(0).build()?;
/// # let data = Dataset::from_arrays(arr2(&[[0.1, 0.2, 0.3]]), arr2(&[[1.0, -1.0]]));
/// # let session = Session::builder(network).data(data).loss(SquaredError::default())
/// #     .device(Device::cpu(Precision::F64)).build()?;
/// let plan = session.ggn().parts([Part::Full])?.plan()?;
/// assert!(plan.to_string().contains("full"));
/// assert_eq!(serde_json::json!(plan)["output_bytes"], 8 * 8 * 8);
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Plan {
    tiles: Tiles,
    session: Session,
    /// The share of the result that is yet to be made.
    left: f64,
    out: Option<PathBuf>,
}

impl Plan {
    pub(super) fn new(tiles: Tiles, session: Session, left: f64, out: Option<PathBuf>) -> Plan {
        Plan {
            tiles,
            session,
            left,
            out,
        }
    }

    /// The same, whose forecast stops once the token is cancelled.
    #[must_use]
    pub fn cancel(mut self, token: &CancelToken) -> Plan {
        self.session = self.session.cancel(token);
        self
    }

    /// The same, whose forecast tells its progress to `progress`.
    #[must_use]
    pub fn progress(mut self, progress: impl Fn(Progress) + Send + Sync + 'static) -> Plan {
        self.session = self.session.progress(progress);
        self
    }

    /// Bytes of host memory that it counts on at most, beside the network, the data and what was held before. On the CPU all of it is here.
    pub fn host_bytes(&self) -> u64 {
        self.tiles.host_bytes
    }

    /// Bytes of device memory that it counts on at most.
    pub fn device_bytes(&self) -> u64 {
        self.tiles.device_bytes
    }

    /// The tiles themselves.
    #[doc(hidden)]
    pub fn tiles(&self) -> &Tiles {
        &self.tiles
    }

    /// How long it is expected to take, and its likely memory. The first forecast on a device measures it for some seconds, once.
    ///
    /// # Errors
    /// What the device reports.
    pub fn forecast(&self) -> Result<Forecast> {
        let measure = |control: &Control<'_>| Rates::of(self.session.device(), control);
        let rates = self.session.watcher().control(measure)?;
        self.forecast_at(&rates, true)
    }

    /// The forecast at rates that are known; the disk is measured where that is wished and the output is known.
    pub(crate) fn forecast_at(&self, rates: &Rates, measure_disk: bool) -> Result<Forecast> {
        let result = self.tiles.entries() * self.tiles.number_bytes() as u128;
        let result = u64::try_from(result).unwrap_or(u64::MAX);
        let out = self.out.as_deref().filter(|_| measure_disk);
        let share = (result as f64 * self.left) as u64;
        let write_rate = out.and_then(|out| write_rate(&nearest(&parent(out)), share));
        let (network, devices) = (self.session.network(), self.session.device().count());
        let mut forecast =
            Forecast::new(&self.tiles, network, rates, devices, self.left, write_rate)?;
        if out.is_some_and(takes_tensors) {
            // It is made in memory, and whole.
            forecast.peak_host_bytes = forecast.peak_host_bytes.saturating_add(result);
        }
        Ok(forecast)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tiles.describe(self.tiles.number_bytes()).fmt(f)
    }
}

impl Serialize for Plan {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let description = self.tiles.describe(self.tiles.number_bytes());
        description.serialize(serializer)
    }
}
