//! A loss from its name and options, as a command line gives them.

use super::{BinaryCrossEntropy, CrossEntropy, GivenHessian, Loss, Reduction, SquaredError};
use crate::error::{Error, Result};

/// Options of the losses; `None` where not given.
///
/// ```
/// use hessblock::loss::{self, LossOptions, Reduction, Sample, Target};
/// let reduction = Some(Reduction::Sum);
/// let options = LossOptions { reduction, class_weights: Some(vec![1.0, 3.0]), ..Default::default() };
/// let loss = loss::parse("cross-entropy", &options)?;
/// let sample = Sample { index: 0, outputs: &[0.0, 0.0], target: Target::Classes(&[1]) };
/// assert!((loss.value(&sample) - 3.0 * 2f64.ln()).abs() < 1e-15);
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LossOptions {
    /// Mean (the default) or sum.
    pub reduction: Option<Reduction>,
    /// Cross-entropy: one weight per class.
    pub class_weights: Option<Vec<f64>>,
    /// Cross-entropy: ε.
    pub label_smoothing: Option<f64>,
    /// Cross-entropy: the label that counts for nothing (default -100).
    pub ignore_index: Option<i64>,
    /// BCE: the weight of positive labels, one or one per class.
    pub positive_weight: Option<Vec<f64>>,
    /// Cross-entropy, and BCE with a positive weight: the axis of the outputs that holds the classes.
    pub class_axis: Option<isize>,
}

/// The names that people give; `given-hessian` stands for a Hessian given in place of a loss.
pub const NAMES: [&str; 3] = ["cross-entropy", "mse", "bce"];

/// Returns the one name of a loss that has several; another text is returned as it is.
///
/// ```
/// use hessblock::loss::canonical;
/// assert_eq!((canonical("ce"), canonical("mse"), canonical("huber")), ("cross-entropy", "mse", "huber"));
/// ```
pub fn canonical(name: &str) -> &str {
    match name {
        "ce" | "softmax-cross-entropy" => "cross-entropy",
        "squared-error" => "mse",
        "binary-cross-entropy" | "bce-with-logits" => "bce",
        "given" => "given-hessian",
        name => name,
    }
}

/// Makes a loss from its name (`cross-entropy`, `mse`, `bce`, `given-hessian`) and
/// options.
///
/// # Errors
/// [`Error::Request`] for an unknown name, with the nearest one, and for an option that is not this loss's.
///
/// ```
/// use hessblock::loss::{self, LossOptions};
/// let options = LossOptions { label_smoothing: Some(0.1), ..Default::default() };
/// assert_eq!(loss::parse("cross-entropy", &options)?.name(), "cross-entropy(mean, label smoothing 0.1)");
/// assert!(loss::parse("mse", &options).is_err());
/// # Ok::<(), hessblock::Error>(())
/// ```
pub fn parse(name: &str, options: &LossOptions) -> Result<Box<dyn Loss>> {
    let name = canonical(name);
    let given = [
        ("class weights", options.class_weights.is_some()),
        ("label smoothing", options.label_smoothing.is_some()),
        ("an index to ignore", options.ignore_index.is_some()),
        ("a positive weight", options.positive_weight.is_some()),
        ("a class axis", options.class_axis.is_some()),
        ("a reduction", options.reduction.is_some()),
    ];
    let allowed: &[&str] = match name {
        "cross-entropy" => &[
            "class weights",
            "label smoothing",
            "an index to ignore",
            "a class axis",
            "a reduction",
        ],
        "mse" => &["a reduction"],
        "bce" if options.positive_weight.is_some() => {
            &["a positive weight", "a class axis", "a reduction"]
        }
        // Without a weight per class its classes are outputs like any other.
        "bce" => &["a reduction"],
        "given-hessian" => &[],
        _ => return Err(Error::unknown("loss", name, &NAMES)),
    };
    if let Some((option, _)) = given
        .iter()
        .find(|(option, given)| *given && !allowed.contains(option))
    {
        return Err(Error::Request(format!(
            "the loss {name} takes no {}: leave it out",
            option.trim_start_matches("a ").trim_start_matches("an ")
        )));
    }
    let reduction = options.reduction.unwrap_or_default();
    Ok(match name {
        "cross-entropy" => {
            let mut loss = CrossEntropy::new(reduction);
            loss.class_weights = options.class_weights.clone();
            loss.label_smoothing = options.label_smoothing.unwrap_or(0.0);
            loss.ignore_index = options.ignore_index.or(loss.ignore_index);
            loss.class_axis = options.class_axis;
            Box::new(loss)
        }
        "mse" => Box::new(SquaredError::new(reduction)),
        "bce" => {
            let mut loss = BinaryCrossEntropy::new(reduction);
            loss.positive_weight = options.positive_weight.clone();
            loss.class_axis = options.class_axis;
            Box::new(loss)
        }
        _ => Box::new(GivenHessian::default()),
    })
}
