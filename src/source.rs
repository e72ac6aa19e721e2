//! Where a session comes from: files and options, as the command line and a result's provenance name them.

use crate::error::{Error, Result};
use crate::files::watch::Watch;
use crate::import::data::{ArraySource, Dataset, MeanImage, Preprocess, split_key};
use crate::import::onnx::{self, OnnxOptions};
use crate::loss::{self, Curvature, GivenHessian, LossOptions};
use crate::session::{Operator, Session, SessionBuilder};
use crate::setting::{LOSS, LOSS_GRADIENT, LOSS_HESSIAN, SAMPLES, TARGETS};
use crate::sink::{HashedFile, Provenance};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A file of inputs, with the network's input that it is for.
///
/// It is read from `FILE`, where the network has one input, or from `NAME=FILE`, where NAME is all before
/// the first `=`. A text that as a whole names a file or folder that is there is taken for its path, so that
/// paths may hold `=` (for another, `NAME=PATH` leaves no doubt).
///
/// ```
/// use hessblock::InputFile;
/// let file: InputFile = "tokens=data/x.npz:ids".parse()?;
/// assert_eq!((file.name.as_deref(), file.path.to_str()), (Some("tokens"), Some("data/x.npz:ids")));
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputFile {
    /// The input; `None` where the network has only one.
    pub name: Option<String>,
    /// The file, folder, or array of an archive (`FILE.npz:KEY`).
    pub path: PathBuf,
}

/// The file of a network of one input.
impl From<PathBuf> for InputFile {
    fn from(path: PathBuf) -> InputFile {
        InputFile { name: None, path }
    }
}

impl FromStr for InputFile {
    type Err = Error;

    fn from_str(text: &str) -> Result<InputFile> {
        let there = split_key(Path::new(text)).0.exists();
        let (name, path) = match text.split_once('=').filter(|_| !there) {
            Some((name, path)) if !name.is_empty() && !path.is_empty() => (Some(name), path),
            Some(_) => {
                return Err(Error::Request(format!(
                    "{text:?} is no file that is there, and not NAME=FILE either"
                )));
            }
            None => (None, text),
        };
        Ok(InputFile {
            name: name.map(str::to_string),
            path: path.into(),
        })
    }
}

/// The files of network, data and loss, with every option that decides the numbers.
///
/// It is written into a result's provenance (`options.source`), so that `verify` finds everything again.
///
/// ```
/// use hessblock::{Device, Precision, Source};
/// let source = Source {
///     model: "examples/digits/model.onnx".into(),
///     inputs: vec!["examples/digits/images.npy".parse()?],
///     targets: Some("examples/digits/labels.npy".into()),
///     samples: Some((0, 10)),
///     loss: Some("cross-entropy".into()),
///     ..Source::default()
/// };
/// let session = source.session()?.device(Device::cpu(Precision::F32)).build()?;
/// println!("tr G = {:.3}", source.operator(&session)?.trace()?);
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Source {
    /// The network, ONNX.
    pub model: PathBuf,
    /// safetensors that replace the file's weights by name.
    pub weights: Option<PathBuf>,
    /// Patterns of initializers that are constants.
    pub constant: Vec<String>,
    /// Patterns of initializers that are parameters.
    pub trainable: Vec<String>,
    /// Shared initializers that become one parameter per use.
    pub untie: Vec<String>,
    /// Copies of initializers that become one parameter with their source.
    pub tie: Vec<String>,
    /// Extents of symbolic dimensions other than the batch.
    pub dimensions: BTreeMap<String, usize>,
    /// The output that the loss is taken of, where the network has several.
    pub output: Option<String>,
    /// Inputs, one file for each of the network's.
    pub inputs: Vec<InputFile>,
    /// Targets.
    pub targets: Option<PathBuf>,
    /// Samples taken, half-open.
    pub samples: Option<(usize, usize)>,
    /// Input = ((x − mean image)·scale − mean) / std.
    pub scale: Option<f64>,
    /// One number, or one per channel.
    pub mean: Vec<f64>,
    /// One number, or one per channel.
    pub std: Vec<f64>,
    /// A file, or `self` for the mean of the samples taken.
    pub mean_image: Option<String>,
    /// Name of the loss.
    pub loss: Option<String>,
    /// `mean` or `sum`.
    pub reduction: Option<String>,
    /// Cross-entropy: a file with one weight per class.
    pub class_weights: Option<PathBuf>,
    /// Cross-entropy: ε.
    pub label_smoothing: Option<f64>,
    /// Cross-entropy: the label that does not count.
    pub ignore_index: Option<i64>,
    /// BCE: a file with the weight of positive labels.
    pub positive_weight: Option<PathBuf>,
    /// Cross-entropy, and BCE with a positive weight: the axis of the outputs that holds the classes.
    pub class_axis: Option<isize>,
    /// `[samples, outputs, outputs]` in place of loss and targets.
    pub loss_hessian: Option<PathBuf>,
    /// `[samples, outputs]` beside it.
    pub loss_gradient: Option<PathBuf>,
    /// The matrix.
    pub curvature: Curvature,
    /// The share of every sample's Σ ‖S_r‖² that may be cut off ([`Operator::with_rank_tolerance`]).
    pub rank_tolerance: Option<f64>,
    /// Whether results may hold numbers that are not finite ([`SessionBuilder::allow_non_finite`]).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub allow_non_finite: bool,
}

impl Source {
    /// Reads the network.
    ///
    /// # Errors
    /// What the importer finds.
    pub fn network(&self) -> Result<crate::network::Network> {
        let options = OnnxOptions {
            constant: self.constant.clone(),
            trainable: self.trainable.clone(),
            untie: self.untie.clone(),
            tie: self.tie.clone(),
            weights: self.weights.clone(),
            dimensions: self.dimensions.clone(),
            output: self.output.clone(),
        };
        onnx::load(&self.model, &options)
    }

    fn loss(&self) -> Result<Box<dyn loss::Loss>> {
        let values = |path: &Option<PathBuf>| -> Result<Option<Vec<f64>>> {
            let Some(path) = path else { return Ok(None) };
            let source = ArraySource::open(path)?;
            let count = source.shape().first().copied().unwrap_or(1);
            source.read_f64(0..count).map(Some)
        };
        let reduction = self.reduction.as_deref().map(str::parse).transpose()?;
        let options = LossOptions {
            reduction,
            class_weights: values(&self.class_weights)?,
            label_smoothing: self.label_smoothing,
            ignore_index: self.ignore_index,
            positive_weight: values(&self.positive_weight)?,
            class_axis: self.class_axis,
        };
        match (&self.loss, &self.loss_hessian) {
            (Some(_), Some(_)) => Err(Error::Request(format!(
                "{LOSS_HESSIAN} takes the place of {LOSS} and {TARGETS}: give one or the other"
            ))),
            (None, Some(_)) => {
                let given = loss::parse("given-hessian", &options)?;
                Ok(match self.given_gradient()? {
                    Some(gradient) => Box::new(GivenHessian::with_gradient(gradient)),
                    None => given,
                })
            }
            (Some(_), None) if self.loss_gradient.is_some() => Err(Error::Request(format!(
                "{LOSS_GRADIENT} stands beside {LOSS_HESSIAN}; a named loss has its own"
            ))),
            (Some(name), None) => loss::parse(name, &options),
            (None, None) => Err(Error::Request(format!(
                "no loss was given: {LOSS} takes {}",
                loss::NAMES.join(", ")
            ))),
        }
    }

    fn given_gradient(&self) -> Result<Option<Vec<f64>>> {
        let (Some(path), Some(hessian)) = (&self.loss_gradient, &self.loss_hessian) else {
            return Ok(None);
        };
        let source = ArraySource::open(path)?;
        let beside = ArraySource::open(hessian)?;
        let (&[samples, ..], &[rows, ref rest @ ..]) = (beside.shape(), source.shape()) else {
            return Err(Error::file(
                path,
                "it holds a single number, not [samples, outputs]",
            ));
        };
        let (square, outputs) = (
            beside.shape()[1..].iter().product::<usize>(),
            rest.iter().product::<usize>(),
        );
        if rows != samples || outputs.checked_mul(outputs) != Some(square) {
            return Err(Error::file(
                path,
                format!(
                    "it holds an array of shape {:?}; beside {} of shape {:?} it must be [samples, outputs] for all of its samples ({SAMPLES} takes from both)",
                    source.shape(),
                    hessian.display(),
                    beside.shape()
                ),
            ));
        }
        source.read_f64(0..rows).map(Some)
    }

    /// Reads network, data and loss: a session that lacks its device and budgets.
    ///
    /// ```no_run
    /// use hessblock::{Device, Source};
    /// let source = Source {
    ///     model: "model.onnx".into(),
    ///     inputs: vec!["images.npy".parse()?],
    ///     targets: Some("labels.npy".into()),
    ///     loss: Some("cross-entropy".into()),
    ///     ..Source::default()
    /// };
    /// let session = source.session()?.device(Device::auto()?).build()?;
    /// let g = source.operator(&session)?;
    /// # Ok::<(), hessblock::Error>(())
    /// ```
    ///
    /// # Errors
    /// What importer, data and loss find.
    pub fn session(&self) -> Result<SessionBuilder> {
        if let Some(tolerance) = self.rank_tolerance {
            loss::check_tolerance(tolerance)?;
        }
        // Before anything is read.
        let watch = self.watch();
        let loss = self.loss()?;
        let targets = match (&self.targets, &self.loss_hessian) {
            (Some(_), Some(_)) => {
                return Err(Error::Request(format!(
                    "{LOSS_HESSIAN} takes the place of {LOSS} and {TARGETS}: give one or the other"
                )));
            }
            (None, None) => {
                return Err(Error::Request(format!(
                    "the loss {} needs {TARGETS} FILE",
                    loss.name()
                )));
            }
            (targets, hessian) => targets.as_ref().or(hessian.as_ref()),
        };
        let network = self.network()?;
        let mean_image = match self.mean_image.as_deref() {
            None => MeanImage::None,
            Some("self") => MeanImage::SelfMean,
            Some(file) => MeanImage::File(file.into()),
        };
        let mut dataset = Dataset::new();
        for file in &self.inputs {
            dataset = dataset.with(file.name.clone(), ArraySource::open(&file.path)?);
        }
        dataset = dataset.with_preprocess(Preprocess {
            scale: self.scale.unwrap_or(1.0),
            mean: self.mean.clone(),
            std: self.std.clone(),
            mean_image,
        });
        if let Some(targets) = targets {
            dataset = dataset.with_targets(targets)?;
        }
        if let Some((start, end)) = self.samples {
            dataset = dataset.with_samples(start..end)?;
        }
        Ok(Session::builder(network)
            .data(dataset)
            .boxed_loss(loss)
            .allow_non_finite(self.allow_non_finite)
            .files(watch))
    }

    /// The matrix that is meant, of a session of this source, with its loss factor cut where that was asked for.
    ///
    /// # Errors
    /// [`Error::Request`] where the loss does not give what the matrix needs; as [`Operator::with_rank_tolerance`].
    pub fn operator(&self, session: &Session) -> Result<Operator> {
        self.curvature.check(session.loss())?;
        let operator = session.operator(self.curvature);
        match self.rank_tolerance {
            Some(tolerance) => operator.with_rank_tolerance(tolerance),
            None => Ok(operator),
        }
    }

    /// The files that decide the numbers: the network's, and those of data and loss, without keys.
    fn files(&self) -> (Vec<PathBuf>, Vec<PathBuf>) {
        let mut model = vec![self.model.clone()];
        model.extend(self.weights.clone());
        let mean_image = self
            .mean_image
            .as_ref()
            .filter(|f| *f != "self")
            .map(PathBuf::from);
        let inputs = self.inputs.iter().map(|file| &file.path);
        let others = [
            self.targets.as_ref(),
            self.loss_hessian.as_ref(),
            self.loss_gradient.as_ref(),
            self.class_weights.as_ref(),
            self.positive_weight.as_ref(),
            mean_image.as_ref(),
        ];
        (
            model,
            inputs
                .chain(others.into_iter().flatten())
                .map(|path| split_key(path).0)
                .collect(),
        )
    }

    /// Takes down what all files are, before they are read.
    fn watch(&self) -> Watch {
        let (model, data) = self.files();
        // What is wrong with the network's file is said when it is read.
        let external = onnx::external_files(&self.model).unwrap_or_default();
        Watch::new(model.into_iter().chain(external).chain(data))
    }

    /// Hashes of the files of the network, external data included, and of the data. They are what the session's files are to
    /// hold until its work is done ([`Session::check_files`]).
    ///
    /// # Errors
    /// [`Error::Io`] where a file cannot be read.
    pub fn hashes(&self, session: &Session) -> Result<(Vec<HashedFile>, Vec<HashedFile>)> {
        let (mut model, data) = self.files();
        model.extend(onnx::external_files(&self.model)?);
        let hash = |file: &PathBuf| HashedFile::watched(file, session.files());
        let all = |files: &[PathBuf]| files.iter().map(hash).collect::<Result<Vec<_>>>();
        let mut data = all(&data)?;
        for file in &mut data {
            if Path::new(&file.path).is_dir() {
                file.shards = ArraySource::open(&file.path)?.shards();
            }
        }
        Ok((all(&model)?, data))
    }

    /// Hashes every file and says what they are run with: before the work, so that no file changes meanwhile unseen
    /// ([`Session::check_files`]).
    ///
    /// # Errors
    /// [`Error::Io`] where a file cannot be read.
    pub fn provenance(&self, operator: &Operator) -> Result<Provenance> {
        let session = operator.session();
        let (model, data) = self.hashes(session)?;
        let mut provenance = operator.provenance();
        provenance.model = model;
        provenance.data = data;
        let source = serde_json::to_value(self.absolute())
            .map_err(|e| Error::Request(format!("provenance: {e}")))?;
        provenance.options.insert("source".into(), source);
        Ok(provenance)
    }

    /// The source that a result was made from.
    ///
    /// # Errors
    /// [`Error::Request`] where the provenance does not say.
    pub fn from_provenance(provenance: &Provenance) -> Result<Source> {
        let source = provenance.options.get("source").cloned().ok_or_else(|| {
            Error::Request("the result does not say what it was made from".into())
        })?;
        serde_json::from_value(source)
            .map_err(|e| Error::Request(format!("the result's provenance cannot be read: {e}")))
    }

    /// The source with absolute paths, so that a result can be checked from anywhere, and with the default reduction named, so that
    /// a run that names it counts as the same run.
    fn absolute(&self) -> Source {
        let absolute = |path: &mut PathBuf| {
            if let Ok(full) = std::path::absolute(&*path) {
                *path = full;
            }
        };
        let mut source = self.clone();
        if source.loss.is_some() && source.reduction.is_none() {
            source.reduction = Some(loss::Reduction::default().to_string());
        }
        absolute(&mut source.model);
        let inputs = source.inputs.iter_mut().map(|file| &mut file.path);
        inputs.for_each(absolute);
        let optional = [
            &mut source.weights,
            &mut source.targets,
            &mut source.class_weights,
            &mut source.positive_weight,
            &mut source.loss_hessian,
            &mut source.loss_gradient,
        ];
        optional.into_iter().flatten().for_each(absolute);
        if let Some(file) = source.mean_image.as_mut().filter(|f| *f != "self") {
            let mut path = PathBuf::from(&*file);
            absolute(&mut path);
            *file = path.display().to_string();
        }
        source
    }
}
