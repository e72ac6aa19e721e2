//! Softmax cross-entropy, PyTorch's `CrossEntropyLoss`.

use super::reduction::{missing, not_finite, same_shape};
use super::{Loss, Reduction, Sample, Target, TargetBatch};
use crate::error::{Error, Result};
use std::ops::Range;

/// ℓ = −Σ_t Σ_c q_c log π_c over the positions t, with π the softmax over classes and q_c = t_c·w_c over
/// the divisor, t the (smoothed) target and w the class weights.
///
/// With ω = Σ_c q_c per position: ∇ℓ = ωπ − q, ∇²ℓ = ω(diag(π) − ππᵀ), S = √ω(diag(√π) − π√πᵀ), block
/// diagonal over positions.
///
/// Outputs are `[classes]` or `[classes, positions…]` per sample. Targets are class indices
/// `[positions…]` (whole numbers in a floating-point file count as such), or class probabilities shaped as
/// the outputs. The divisor of a mean is Σ w_y over kept
/// targets for indices and the number of targets for probabilities.
///
/// ```
/// use hessblock::loss::{CrossEntropy, Reduction};
/// let loss = CrossEntropy::new(Reduction::Mean).label_smoothing(0.1).ignore_index(Some(255));
/// ```
#[derive(Clone, Debug)]
pub struct CrossEntropy {
    /// Mean or sum.
    pub reduction: Reduction,
    /// w: one per class.
    pub class_weights: Option<Vec<f64>>,
    /// ε of t = (1−ε)·t + ε/classes.
    pub label_smoothing: f64,
    /// Targets of this value count for nothing.
    pub ignore_index: Option<i64>,
    /// What a mean divides by; NaN until [`Loss::prepare`] has found it.
    divisor: f64,
    /// Classes, the first axis of a sample's outputs; 0 until [`Loss::prepare`].
    classes: usize,
}

impl CrossEntropy {
    /// With that reduction, no class weights, no smoothing, and PyTorch's index to ignore, -100.
    pub fn new(reduction: Reduction) -> Self {
        Self {
            reduction,
            class_weights: None,
            label_smoothing: 0.0,
            ignore_index: Some(-100),
            divisor: match reduction {
                Reduction::Sum => 1.0,
                Reduction::Mean => f64::NAN,
            },
            classes: 0,
        }
    }

    /// Sets w, one per class.
    pub fn class_weights(mut self, weights: Vec<f64>) -> Self {
        self.class_weights = Some(weights);
        self
    }

    /// Sets ε.
    pub fn label_smoothing(mut self, smoothing: f64) -> Self {
        self.label_smoothing = smoothing;
        self
    }

    /// Sets the target value that counts for nothing; `None` keeps all.
    pub fn ignore_index(mut self, index: Option<i64>) -> Self {
        self.ignore_index = index;
        self
    }

    fn class_weight(&self, class: usize) -> f64 {
        self.class_weights.as_ref().map_or(1.0, |w| w[class])
    }

    /// The class index of a position; `None` where the target is class probabilities.
    fn label(target: Target<'_>, classes: usize, positions: usize, position: usize) -> Option<i64> {
        match target {
            Target::Classes(labels) => Some(labels[position]),
            // Whole numbers, as `prepare` has seen to.
            Target::Dense(labels) if classes > 1 && labels.len() == positions => {
                Some(labels[position] as i64)
            }
            _ => None,
        }
    }

    /// Classes and positions of a sample with that many outputs.
    fn extents(&self, sample: &Sample<'_>) -> (usize, usize) {
        let outputs = sample.outputs.len();
        // Unprepared, the target tells: as many positions as labels, or probabilities at one position.
        let classes = match (self.classes, sample.target) {
            (0, Target::Classes(labels)) => outputs / labels.len().max(1),
            (0, _) => outputs,
            (classes, _) => classes,
        };
        (classes, outputs / classes.max(1))
    }

    /// q_c of one position: `[classes]`; returns ω = Σ_c q_c, which is 0 where the target is ignored.
    fn weights(&self, sample: &Sample<'_>, position: usize, q: &mut [f64]) -> f64 {
        let classes = q.len();
        let positions = sample.outputs.len() / classes.max(1);
        let smooth = self.label_smoothing / classes as f64;
        let label = Self::label(sample.target, classes, positions, position);
        if label.is_some() && label == self.ignore_index {
            q.fill(0.0);
            return 0.0;
        }
        for (c, q) in q.iter_mut().enumerate() {
            let target = match (label, sample.target) {
                (Some(label), _) => f64::from(label == c as i64),
                (None, Target::Dense(probabilities)) => probabilities[c * positions + position],
                (None, _) => f64::NAN,
            };
            *q = (target * (1.0 - self.label_smoothing) + smooth) * self.class_weight(c)
                / self.divisor;
        }
        q.iter().sum()
    }

    /// Calls `each(position, q, ω, π, what [`softmax`] returns)` for every position.
    fn for_positions(
        &self,
        sample: &Sample<'_>,
        mut each: impl FnMut(usize, &[f64], f64, &[f64], (f64, f64)),
    ) {
        let (classes, positions) = self.extents(sample);
        let (mut q, mut pi) = (vec![0.0; classes], vec![0.0; classes]);
        for t in 0..positions {
            let omega = self.weights(sample, t, &mut q);
            let lse = softmax(sample.outputs, positions, t, &mut pi);
            each(t, &q, omega, &pi, lse);
        }
    }

    /// Checks one batch and returns its share of the mean's divisor.
    fn check_batch(&self, outputs: &[usize], batch: &TargetBatch) -> Result<f64> {
        let classes = outputs[0];
        let positions: usize = outputs[1..].iter().product();
        match batch {
            TargetBatch::None(_) => Err(missing("cross-entropy")),
            TargetBatch::Classes {
                first,
                positions: given,
                values,
            } => {
                if *given != positions {
                    let one_hot = if *given == classes * positions {
                        "; class probabilities (one-hot labels too) must be floating-point numbers"
                    } else {
                        ""
                    };
                    return Err(Error::Shape(format!(
                        "cross-entropy needs {positions} class index(es) per sample for the network's outputs \
                         {outputs:?} ([classes, positions…]), but the targets have {given} per sample{one_hot}"
                    )));
                }
                let mut divisor = 0.0;
                for (k, &label) in values.iter().enumerate() {
                    if Some(label) == self.ignore_index {
                        continue;
                    }
                    let class = usize::try_from(label).ok().filter(|c| *c < classes);
                    let class = class.ok_or_else(|| {
                        let ignored = match self.ignore_index {
                            Some(index) => format!("{index} is the index that is ignored"),
                            None => "no index is ignored".into(),
                        };
                        Error::Value(format!(
                            "the label of sample {} is {label}, but the network has {classes} classes, \
                             0..={}; {ignored}: set ignore_index to {label} if such samples shall not count",
                            first + k / positions.max(1),
                            classes - 1
                        ))
                    })?;
                    divisor += self.class_weight(class);
                }
                Ok(divisor)
            }
            TargetBatch::Dense {
                first,
                shape,
                values,
            } if classes > 1 && same_shape(shape, &outputs[1..]) => {
                let mut labels = Vec::with_capacity(values.len());
                for (k, value) in values.iter().enumerate() {
                    if value.fract() != 0.0 || value.abs() > 9e15 {
                        return Err(Error::Value(format!(
                            "the label of sample {} is {value}, which is no class index",
                            first + k / positions.max(1)
                        )));
                    }
                    labels.push(*value as i64);
                }
                self.check_batch(
                    outputs,
                    &TargetBatch::Classes {
                        first: *first,
                        positions,
                        values: labels,
                    },
                )
            }
            TargetBatch::Dense {
                first,
                shape,
                values,
            } => {
                if !same_shape(shape, outputs) {
                    return Err(Error::Shape(format!(
                        "cross-entropy needs class indices, or class probabilities shaped as the network's \
                         outputs {outputs:?} (per sample), but the targets have shape {shape:?} per sample"
                    )));
                }
                if let Some(index) = self.ignore_index.filter(|i| *i >= 0) {
                    return Err(Error::Request(format!(
                        "ignore_index {index} is for class indices, but the targets are class probabilities"
                    )));
                }
                let each = classes * positions;
                for (k, &value) in values.iter().enumerate() {
                    let n = first + k / each.max(1);
                    if !value.is_finite() {
                        return Err(not_finite(n, value));
                    }
                    if value < 0.0 {
                        return Err(Error::Value(format!(
                            "the target of sample {n} holds the class probability {value}: probabilities \
                             cannot be negative; class indices must come as integers"
                        )));
                    }
                }
                Ok((batch.samples() * positions) as f64)
            }
        }
    }
}

impl Default for CrossEntropy {
    fn default() -> Self {
        Self::new(Reduction::Mean)
    }
}

/// π of one position into `pi`; returns the largest output and the logarithm of the sum of exponentials with
/// it taken off, whose sum is the log-sum-exp: apart they cancel nothing against a large output.
fn softmax(outputs: &[f64], positions: usize, position: usize, pi: &mut [f64]) -> (f64, f64) {
    let z = |c: usize| outputs[c * positions + position];
    let largest = (0..pi.len()).map(z).fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    for (c, pi) in pi.iter_mut().enumerate() {
        *pi = (z(c) - largest).exp();
        sum += *pi;
    }
    for pi in pi.iter_mut() {
        *pi /= sum;
    }
    (largest, sum.ln())
}

impl Loss for CrossEntropy {
    fn name(&self) -> String {
        let mut name = format!("cross-entropy({}", self.reduction);
        if let Some(weights) = &self.class_weights {
            name += &format!(", class weights {weights:?}");
        }
        if self.label_smoothing != 0.0 {
            name += &format!(", label smoothing {}", self.label_smoothing);
        }
        if self.ignore_index != Some(-100) {
            match self.ignore_index {
                Some(index) => name += &format!(", ignore index {index}"),
                None => name += ", ignore no index",
            }
        }
        name + ")"
    }

    fn prepare(
        &mut self,
        outputs: &[usize],
        targets: &mut dyn FnMut() -> Result<Option<TargetBatch>>,
    ) -> Result<()> {
        let Some(&classes) = outputs.first().filter(|c| **c > 0) else {
            return Err(Error::Shape(format!(
                "cross-entropy needs outputs of shape [classes] or [classes, positions…] per sample, and the \
                 network's are {outputs:?}"
            )));
        };
        if !(0.0..=1.0).contains(&self.label_smoothing) {
            return Err(Error::Value(format!(
                "label smoothing is {}: it must be between 0 and 1",
                self.label_smoothing
            )));
        }
        if let Some(weights) = &self.class_weights {
            if weights.len() != classes {
                return Err(Error::Shape(format!(
                    "{} class weights are given for a network of {classes} classes (outputs {outputs:?}): give \
                     one per class",
                    weights.len()
                )));
            }
            if let Some(bad) = weights.iter().find(|w| !(w.is_finite() && **w >= 0.0)) {
                return Err(Error::Value(format!(
                    "a class weight is {bad}: they must be finite and not negative"
                )));
            }
        }
        let (mut divisor, mut samples) = (0.0, 0);
        while let Some(batch) = targets()? {
            divisor += self.check_batch(outputs, &batch)?;
            samples += batch.samples();
        }
        if samples == 0 {
            return Err(missing("cross-entropy"));
        }
        if divisor == 0.0 {
            return Err(Error::Value(format!(
                "no target of the {samples} sample(s) counts: all are ignored (ignore_index {}) or of classes \
                 with weight 0",
                self.ignore_index.map_or("none".into(), |i| i.to_string())
            )));
        }
        self.classes = classes;
        self.divisor = match self.reduction {
            Reduction::Sum => 1.0,
            Reduction::Mean => divisor,
        };
        Ok(())
    }

    fn value(&self, sample: &Sample<'_>) -> f64 {
        let (_, positions) = self.extents(sample);
        let mut value = 0.0;
        self.for_positions(sample, |t, q, _, _, (largest, log_sum)| {
            for (c, q) in q.iter().enumerate() {
                // A class of no weight adds nothing, even if its output is -inf.
                if *q != 0.0 {
                    value += q * ((largest - sample.outputs[c * positions + t]) + log_sum);
                }
            }
        });
        value
    }

    fn gradient(&self, sample: &Sample<'_>, gradient: &mut [f64]) {
        let (_, positions) = self.extents(sample);
        self.for_positions(sample, |t, q, omega, pi, _| {
            for (c, (q, pi)) in q.iter().zip(pi).enumerate() {
                gradient[c * positions + t] = omega * pi - q;
            }
        });
    }

    fn hessian_product(&self, sample: &Sample<'_>, vector: &[f64], product: &mut [f64]) {
        let (_, positions) = self.extents(sample);
        self.for_positions(sample, |t, _, omega, pi, _| {
            let v = |c: usize| vector[c * positions + t];
            let mean: f64 = pi.iter().enumerate().map(|(c, pi)| pi * v(c)).sum();
            for (c, pi) in pi.iter().enumerate() {
                product[c * positions + t] = omega * pi * (v(c) - mean);
            }
        });
    }

    fn signed(&self) -> bool {
        false
    }

    /// Direction `r` is entry (class, position) = (r / positions, r % positions): column S[·, r] is
    /// √ω(δ √π − π√π_r) at its position and zero at the others.
    fn factor(
        &self,
        sample: &Sample<'_>,
        directions: Range<usize>,
        factor: &mut [f64],
        signs: &mut [f64],
    ) {
        let (_, positions) = self.extents(sample);
        let outputs = sample.outputs.len();
        factor.fill(0.0);
        signs.fill(1.0);
        self.for_positions(sample, |t, _, omega, pi, _| {
            let root = omega.sqrt();
            // The directions of this position: those with r ≡ t.
            let skip = (t + positions - directions.start % positions) % positions;
            for r in (directions.start + skip..directions.end).step_by(positions) {
                let k = r - directions.start;
                let column = &mut factor[k * outputs..(k + 1) * outputs];
                let class = r / positions;
                let root_pi = pi[class].sqrt();
                for (c, pi) in pi.iter().enumerate() {
                    let diagonal = if c == class { root_pi } else { 0.0 };
                    column[c * positions + t] = root * (diagonal - pi * root_pi);
                }
            }
        });
    }

    fn accuracy(&self, sample: &Sample<'_>) -> Option<(usize, usize)> {
        let (classes, positions) = self.extents(sample);
        let largest = |values: &[f64], t: usize| {
            (0..classes).fold(0, |best, c| {
                let better = values[c * positions + t] > values[best * positions + t];
                if better { c } else { best }
            })
        };
        let (mut right, mut kept) = (0, 0);
        for t in 0..positions {
            let label = Self::label(sample.target, classes, positions, t);
            let target = match (label, sample.target) {
                (Some(_), _) if label == self.ignore_index => continue,
                (Some(label), _) => usize::try_from(label).ok(),
                (None, Target::Dense(probabilities)) => Some(largest(probabilities, t)),
                (None, _) => return None,
            };
            kept += 1;
            right += usize::from(target == Some(largest(sample.outputs, t)));
        }
        Some((right, kept))
    }
}
