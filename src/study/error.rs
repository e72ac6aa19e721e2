//! How good the approximate chain rule is along the gradient: |gᵀ(H − G)g| / ‖g‖² per layer, over initialisations.
//!
//! Source: Skorski, "Approximating Hessians for Neural Networks", 2021, figure 3.

use super::quantiles::Quantiles;
use crate::error::{Error, Result};
use crate::network::initialise::{Initialisation, Initialiser};
use crate::network::{Layer, Network};
use crate::operator::Form;
use crate::operator::Steps;
use crate::session::{Operator, Session};
use crate::setting::{DRAWS, LAYERS as LAYERS_SETTING, PRECISION};
use ndarray::Array2;
use serde::Serialize;

/// Layers whose forms are computed at once: more share the passes of the values, fewer have structural zeros before
/// the first of them.
const LAYERS: usize = 8;
/// Numbers that the directions of a call may hold.
const NUMBERS: usize = 1 << 25;

/// What is drawn.
///
/// ```
/// use hessblock::network::initialise::Initialiser;
/// use hessblock::study::error::Draw;
/// let draw = Draw { initialiser: Initialiser::Glorot, count: 20, seed: 0 };
/// assert_eq!(draw.draws(), 20);
/// // The file's own weights are a single initialisation.
/// assert_eq!(Draw { initialiser: Initialiser::File, ..draw }.draws(), 1);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Draw {
    /// Distribution of the weights.
    pub initialiser: Initialiser,
    /// How many initialisations; [`Initialiser::File`] has one.
    pub count: u32,
    /// Key of the random numbers.
    pub seed: u64,
}

impl Draw {
    /// The number of different initialisations.
    pub fn draws(&self) -> u32 {
        match self.initialiser {
            Initialiser::File => 1,
            _ => self.count,
        }
    }
}

/// The three forms of a layer at one initialisation, along its gradient of length 1.
///
/// ```
/// use hessblock::study::error::Along;
/// let along = Along { gradient_norm: 0.5, ggn: 3.0, residual: -1.0 };
/// assert_eq!(along.hessian(), 2.0);
/// assert_eq!(along.relative(), Some(0.5));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Along {
    /// ‖g‖.
    pub gradient_norm: f64,
    /// gᵀGg / ‖g‖².
    pub ggn: f64,
    /// gᵀ(H − G)g / ‖g‖², with its sign.
    pub residual: f64,
}

impl Along {
    /// gᵀHg / ‖g‖².
    pub fn hessian(self) -> f64 {
        self.ggn + self.residual
    }

    /// |gᵀ(H − G)g| / |gᵀHg|; `None` where gᵀHg is 0.
    pub fn relative(self) -> Option<f64> {
        let hessian = self.hessian().abs();
        (hessian > 0.0).then(|| self.residual.abs() / hessian)
    }
}

/// A layer over all draws.
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
/// #     .device(Device::cpu(Precision::F64)).build()?;
/// use hessblock::network::initialise::Initialiser;
/// use hessblock::study::error::{Draw, gradient_error};
/// let draw = Draw { initialiser: Initialiser::He, count: 3, seed: 0 };
/// let error = gradient_error(&session, &session.network().layers(), draw)?;
/// for layer in &error.layers {
///     println!("{}: {:?}", layer.layer, layer.error.map(|quantiles| quantiles.median));
/// }
/// assert_eq!((error.layers[0].parameters, error.layers[0].draws.len()), (16, 3));
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerError {
    /// Its name.
    pub layer: String,
    /// Its entries.
    pub parameters: usize,
    /// Of |gᵀ(H − G)g| / ‖g‖²; `None` where every gradient was 0, here and below.
    pub error: Option<Quantiles>,
    /// Of gᵀGg / ‖g‖².
    pub ggn: Option<Quantiles>,
    /// Of gᵀHg / ‖g‖².
    pub hessian: Option<Quantiles>,
    /// Of |gᵀ(H − G)g| / |gᵀHg|.
    pub relative: Option<Quantiles>,
    /// Each draw; `None` where the layer's gradient was 0.
    pub draws: Vec<Option<Along>>,
}

impl LayerError {
    fn new(layer: String, parameters: usize, draws: Vec<Option<Along>>) -> LayerError {
        let quantiles =
            |of: fn(Along) -> f64| Quantiles::of(draws.iter().flatten().copied().map(of));
        LayerError {
            layer,
            parameters,
            error: quantiles(|along| along.residual.abs()),
            ggn: quantiles(|along| along.ggn),
            hessian: quantiles(Along::hessian),
            relative: Quantiles::of(draws.iter().flatten().filter_map(|a| a.relative())),
            draws,
        }
    }
}

/// The error of every layer along its gradient.
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
/// #     .device(Device::cpu(Precision::F64)).build()?;
/// use hessblock::network::initialise::Initialiser;
/// use hessblock::study::error::{Draw, gradient_error};
/// let draw = Draw { initialiser: Initialiser::He, count: 3, seed: 0 };
/// let error = gradient_error(&session, &session.network().layers(), draw)?;
/// assert_eq!((error.draws, error.samples), (3, 2));
/// assert_eq!(error.losses.len(), 3); // one per initialisation
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GradientError {
    /// Distribution of the weights.
    pub initialiser: Initialiser,
    /// Number of initialisations.
    pub draws: u32,
    /// Key of the random numbers.
    pub seed: u64,
    /// Samples that the loss is taken over.
    pub samples: usize,
    /// The loss at each draw.
    pub losses: Vec<f64>,
    /// Layers in the network's order.
    pub layers: Vec<LayerError>,
}

/// Measures |gᵀ(H − G)g| / ‖g‖² of the layers `layers`, g each one's gradient over the session's samples, over draws
/// of the network's parameters.
///
/// ```
/// # use hessblock::data::Dataset;
/// # use hessblock::loss::CrossEntropy;
/// # use hessblock::network::builder::Builder;
/// # use hessblock::{Device, Precision, Session};
/// # use ndarray::{arr1, arr2};
/// use hessblock::study::error::{Draw, gradient_error};
/// use hessblock::network::initialise::Initialiser;
/// let network = Builder::new(&[3]).linear("fc1", 4).tanh().linear("fc2", 2).initialize(0).build()?;
/// let data = Dataset::from_arrays(arr2(&[[0.1, 0.2, 0.3], [0.5, -0.4, 0.0]]), arr1(&[0i64, 1]));
/// let session = Session::builder(network)
///     .data(data)
///     .loss(CrossEntropy::mean())
///     .device(Device::cpu(Precision::F64))
///     .build()?;
/// let draw = Draw { initialiser: Initialiser::Glorot, count: 20, seed: 0 };
/// let error = gradient_error(&session, &session.network().layers(), draw)?;
/// assert_eq!(error.layers[1].error.map(|e| e.high), Some(0.0)); // The last layer of any network.
/// # Ok::<(), hessblock::Error>(())
/// ```
///
/// # Errors
/// [`Error::Request`] for no draw, no layer or a loss without gradient; [`Error::Value`] where a gradient or form is not
/// finite; what data and device report.
pub fn gradient_error(session: &Session, layers: &[Layer], draw: Draw) -> Result<GradientError> {
    check(session, layers)?;
    if draw.draws() == 0 {
        return Err(Error::Request(format!(
            "{DRAWS} 0: a study needs one initialisation at least"
        )));
    }
    let initialisation = Initialisation::new(session.network(), draw.initialiser, draw.seed);
    let samples = session.dataset().len();
    let directions = (layers.len() as u64 + 1) * u64::from(draw.draws());
    let (mut losses, mut forms) = (Vec::new(), vec![Vec::new(); layers.len()]);
    session.watcher().control(|control| -> Result<()> {
        let steps = Steps::new(control, samples, directions);
        for k in 0..draw.draws() {
            let drawn = session.with_parameters(&initialisation.draw(k))?;
            let at = Place {
                operator: drawn.ggn(),
                steps: &steps,
                draw: k,
            };
            let gradient = steps.step(1, |control| at.operator.gradient(control))?;
            losses.push(gradient.loss);
            for (forms, form) in forms.iter_mut().zip(at.along(layers, &gradient.values)?) {
                forms.push(form);
            }
        }
        Ok(())
    })?;
    let count = |layer: &Layer| session.network().ranges(layer).map(|r| r.len()).sum();
    let layers = layers.iter().zip(forms);
    Ok(GradientError {
        initialiser: draw.initialiser,
        draws: draw.draws(),
        seed: draw.seed,
        samples,
        losses,
        layers: layers
            .map(|(l, forms)| LayerError::new(l.name.clone(), count(l), forms))
            .collect(),
    })
}

/// The layers whose names match one of the patterns (`*`, `?`, `[…]`); all of them without patterns.
///
/// # Errors
/// [`Error::Request`] for a pattern that is none, or matches no layer.
pub fn choose_layers(network: &Network, patterns: &[String]) -> Result<Vec<Layer>> {
    let layers = network.layers();
    let mut chosen = vec![patterns.is_empty(); layers.len()];
    for text in patterns {
        let pattern = glob::Pattern::new(text)
            .map_err(|e| Error::Request(format!("{LAYERS_SETTING} {text:?} is no pattern: {e}")))?;
        let mut any = false;
        for (chosen, layer) in chosen.iter_mut().zip(&layers) {
            let matches = pattern.matches(&layer.name);
            *chosen |= matches;
            any |= matches;
        }
        if !any {
            let names: Vec<&str> = layers.iter().map(|l| l.name.as_str()).take(12).collect();
            return Err(Error::Request(format!(
                "{LAYERS_SETTING} {text:?} matches no layer; there are {}{}",
                names.join(", "),
                if layers.len() > names.len() {
                    ", …"
                } else {
                    ""
                }
            )));
        }
    }
    Ok(layers
        .into_iter()
        .zip(chosen)
        .filter(|(_, c)| *c)
        .map(|(l, _)| l)
        .collect())
}

/// Refuses what no study can do without.
///
/// # Errors
/// [`Error::Request`] for no layer or a loss without gradient.
pub(super) fn check(session: &Session, layers: &[Layer]) -> Result<()> {
    if layers.is_empty() {
        return Err(Error::Request(
            "the network has no parameters, so there is no layer to study".into(),
        ));
    }
    if !session.loss().has_gradient() {
        return Err(Error::Request(format!(
            "the loss {} gives a Hessian only, and H − G needs its gradient in the outputs too",
            session.loss().name()
        )));
    }
    Ok(())
}

/// Where a draw is evaluated.
struct Place<'a> {
    operator: Operator,
    steps: &'a Steps<'a>,
    draw: u32,
}

impl Place<'_> {
    fn network(&self) -> &Network {
        self.operator.session().network()
    }

    /// The forms of every layer along its part of `gradient`, `[p]`; `None` where that part is 0.
    fn along(&self, layers: &[Layer], gradient: &[f64]) -> Result<Vec<Option<Along>>> {
        let p = gradient.len();
        let mut out = Vec::with_capacity(layers.len());
        for turn in layers.chunks((NUMBERS / p.max(1)).clamp(1, LAYERS)) {
            let norms: Vec<f64> = turn.iter().map(|l| self.norm(l, gradient)).collect();
            if let Some(at) = norms.iter().position(|n| !n.is_finite()) {
                return Err(self.not_finite(&turn[at], "the gradient", norms[at]));
            }
            let there: Vec<usize> = (0..turn.len()).filter(|&k| norms[k] > 0.0).collect();
            let mut vectors = Array2::zeros((there.len(), p));
            for (mut vector, &k) in vectors.rows_mut().into_iter().zip(&there) {
                for entry in self.network().ranges(&turn[k]).flatten() {
                    vector[entry] = gradient[entry] / norms[k];
                }
            }
            let mut forms = vec![None; turn.len()];
            if !there.is_empty() {
                let computed = self.steps.step(turn.len(), |control| {
                    let rows = vectors.as_slice().unwrap_or_default();
                    self.operator.forms_of(rows, true, control)
                })?;
                for (form, &k) in computed.into_iter().zip(&there) {
                    forms[k] = Some(self.along_one(&turn[k], norms[k], form)?);
                }
            }
            out.extend(forms);
        }
        Ok(out)
    }

    fn norm(&self, layer: &Layer, gradient: &[f64]) -> f64 {
        let values = self
            .network()
            .ranges(layer)
            .flat_map(|range| &gradient[range]);
        values.map(|g| g * g).sum::<f64>().sqrt()
    }

    fn along_one(&self, layer: &Layer, gradient_norm: f64, form: Form) -> Result<Along> {
        match [form.ggn, form.residual]
            .into_iter()
            .find(|f| !f.is_finite())
        {
            Some(value) => Err(self.not_finite(layer, "gᵀHg", value)),
            None => Ok(Along {
                gradient_norm,
                ggn: form.ggn,
                residual: form.residual,
            }),
        }
    }

    fn not_finite(&self, layer: &Layer, what: &str, value: f64) -> Error {
        Error::Value(format!(
            "layer {:?}, draw {}: {what} is {value} in {}: the network overflows with these weights; take {PRECISION} \
             f64, another initialiser or the file's own weights",
            layer.name,
            self.draw,
            self.operator.session().device().precision()
        ))
    }
}
