//! How a session is made: its parts, and the check of each against the others.

use super::Session;
use crate::bytes::Bytes;
use crate::control::Watcher;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::files::watch::Watch;
use crate::import::data::Dataset;
use crate::loss::{Loss, OutputShape};
use crate::network::Network;
use crate::plan::RunOptions;
use std::sync::Arc;

/// Bytes of targets, in double precision, that are looked at together when a loss is prepared.
const PREPARE_BYTES: usize = 16 << 20;

/// The memory that work may take. What is not said is found: 0.8 of what is free.
///
/// ```
/// use hessblock::Memory;
/// let memory = Memory::default().host("2GiB".parse()?).device("8GiB".parse()?);
/// assert_eq!(memory, Memory::default().device("8GiB".parse()?).host("2GiB".parse()?));
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    host: Option<u64>,
    device: Option<u64>,
    held: u64,
}

impl Memory {
    /// Anonymous host memory. The network and the data are beside it; results that are made in memory are within.
    #[must_use]
    pub fn host(self, bytes: Bytes) -> Memory {
        Memory {
            host: Some(bytes.saturated()),
            ..self
        }
    }

    /// Memory of a GPU. On the CPU the host's alone counts.
    #[must_use]
    pub fn device(self, bytes: Bytes) -> Memory {
        Memory {
            device: Some(bytes.saturated()),
            ..self
        }
    }

    /// What of the host's budget ([`Memory::host`]) the process uses already, and work may not use again: by default nothing. Without
    /// a budget it says nothing: what is free is beside what is used.
    #[must_use]
    pub fn held(self, bytes: Bytes) -> Memory {
        Memory {
            held: bytes.saturated(),
            ..self
        }
    }

    /// These budgets in the options of a run.
    pub(super) fn set(self, options: &mut RunOptions) {
        options.memory = self.device;
        options.host_memory = self.host;
        options.held = self.held;
    }
}

/// Puts a [`Session`] together.
///
/// ```
/// # use hessblock::data::Dataset;
/// # use hessblock::loss::SquaredError;
/// # use hessblock::network::builder::Builder;
/// # use hessblock::{Memory, Session};
/// # use ndarray::arr2;
/// let network = Builder::new(&[3]).linear("fc", 2).initialize(0).build()?;
/// let session = Session::builder(network)
///     .data(Dataset::from_arrays(arr2(&[[0.1, 0.2, 0.3]]), arr2(&[[1.0, -1.0]])))
///     .loss(SquaredError::default())
///     .memory(Memory::default().host("1GiB".parse()?))
///     .build()?;
/// assert_eq!(session.dataset().len(), 1);
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "a session is made by `build`"]
pub struct SessionBuilder {
    network: Network,
    dataset: Option<Dataset>,
    loss: Option<Box<dyn Loss>>,
    device: Option<Device>,
    options: RunOptions,
    lenient: bool,
    files: Watch,
}

impl SessionBuilder {
    pub(super) fn new(network: Network) -> SessionBuilder {
        SessionBuilder {
            network,
            dataset: None,
            loss: None,
            device: None,
            options: RunOptions::default(),
            lenient: false,
            files: Watch::default(),
        }
    }

    /// The samples and their targets. Needed.
    pub fn data(mut self, dataset: Dataset) -> SessionBuilder {
        self.dataset = Some(dataset);
        self
    }

    /// The loss. Needed.
    pub fn loss(self, loss: impl Loss + 'static) -> SessionBuilder {
        self.boxed_loss(Box::new(loss))
    }

    /// A loss that is chosen when the program runs, such as one of [`crate::loss::parse`].
    pub fn boxed_loss(mut self, loss: Box<dyn Loss>) -> SessionBuilder {
        self.loss = Some(loss);
        self
    }

    /// Where it is computed; by default [`Device::auto`].
    pub fn device(mut self, device: Device) -> SessionBuilder {
        self.device = Some(device);
        self
    }

    /// The memory that work may take; by default a share of what is free.
    pub fn memory(mut self, memory: Memory) -> SessionBuilder {
        memory.set(&mut self.options);
        self
    }

    /// Samples that are worked on at once; by default as many as the memory holds. Sums over samples are rounded accordingly.
    pub fn batch(mut self, samples: usize) -> SessionBuilder {
        self.options.batch = Some(samples);
        self
    }

    /// Whether results may hold NaN and infinities. Otherwise they are an error, [`Error::NotFinite`], which names the operation
    /// and the sample that made the first.
    pub fn allow_non_finite(mut self, allow: bool) -> SessionBuilder {
        self.lenient = allow;
        self
    }

    /// The files that network and data were read from, watched before: no result is made where one of them changes meanwhile.
    pub(crate) fn files(mut self, files: Watch) -> SessionBuilder {
        self.files = files;
        self
    }

    /// Checks network, data and loss against each other.
    ///
    /// # Errors
    /// [`Error::Shape`] where shapes do not fit, [`Error::Value`] for labels out of range, [`Error::Request`]
    /// where data or loss are missing, or the network's inputs and the arrays given for them are not the same.
    pub fn build(self) -> Result<Session> {
        let missing =
            |what| Error::Request(format!("the session has no {what}: give it by .{what}(…)"));
        if self.options.batch == Some(0) {
            return Err(Error::Request(
                "a batch of no samples: take one at least".into(),
            ));
        }
        let mut dataset = self.dataset.ok_or_else(|| missing("data"))?;
        let mut loss = self.loss.ok_or_else(|| missing("loss"))?;
        dataset.bind(&self.network)?;
        prepare(loss.as_mut(), &self.network, &dataset)?;
        tracing::info!(
            parameters = self.network.parameter_count(),
            operations = self.network.nodes.len(),
            samples = dataset.len(),
            loss = loss.name(),
            "opened"
        );
        let device = self.device.map_or_else(Device::auto, Ok)?;
        Ok(Session {
            network: Arc::new(self.network),
            dataset: Arc::new(dataset),
            loss: loss.into(),
            device,
            options: self.options,
            lenient: self.lenient,
            files: Arc::new(self.files),
            watcher: Watcher::default(),
        })
    }
}

/// Shows the loss the shape of the outputs and all targets.
fn prepare(loss: &mut dyn Loss, network: &Network, dataset: &Dataset) -> Result<()> {
    let outputs = output_shape(network)?;
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
    })
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

/// Refuses a network that is not the same model as `own`, whatever its weights are.
pub(super) fn check_same(own: &Network, other: &Network) -> Result<()> {
    type Outline<'n> = (
        Vec<(&'n str, &'n [usize])>,
        Vec<(&'n str, &'n [usize], usize, bool)>,
    );
    fn outline(network: &Network) -> Outline<'_> {
        let parameters = network.parameters.iter();
        let inputs = network.inputs.iter();
        (
            parameters.map(|p| (&*p.name, &*p.data.shape)).collect(),
            inputs
                .map(|i| (&*i.name, &*i.rest, i.sample_axis, i.integer))
                .collect(),
        )
    }
    let (own_outline, other_outline) = (outline(own), outline(other));
    let first = own_outline.0.iter().zip(&other_outline.0);
    let differs = match first.into_iter().find(|(own, other)| own != other) {
        Some((own, other)) => format!(
            "parameter {:?} of shape {:?} stands where {:?} of shape {:?} was",
            other.0, other.1, own.0, own.1
        ),
        None if own_outline.0.len() != other_outline.0.len() => format!(
            "it has {} parameters, where {} were",
            other_outline.0.len(),
            own_outline.0.len()
        ),
        None if own_outline.1 != other_outline.1 => "its inputs are others".into(),
        None if own.rest(own.output) != other.rest(other.output)
            || own.output_sample_axis != other.output_sample_axis =>
        {
            format!(
                "its output has shape {:?}, where it had {:?}",
                other.rest(other.output),
                own.rest(own.output)
            )
        }
        None => return Ok(()),
    };
    Err(Error::Shape(format!(
        "the network is another model: {differs}; build a new session for it"
    )))
}
