//! Softmax cross-entropy, PyTorch's `CrossEntropyLoss`.

use super::axes::{Axes, Position};
use super::reduction::{missing, not_finite, same_shape};
use super::{Loss, OutputShape, Reduction, Sample, Target, TargetBatch};
use crate::error::{Error, Result};
use crate::random::Draws;
use std::ops::Range;

/// ℓ = −Σ_t Σ_c q_c log π_c over the positions t, with π the softmax over classes and q_c = t_c·w_c over
/// the divisor, t the (smoothed) target and w the class weights.
///
/// With ω = Σ_c q_c per position: ∇ℓ = ωπ − q, ∇²ℓ = ω(diag(π) − ππᵀ), S = √ω(diag(√π) − π√πᵀ), block
/// diagonal over positions.
///
/// Outputs are `[classes]` or `[classes, positions…]` per sample, or have the classes on another axis
/// ([`CrossEntropy::class_axis`]). Targets are class indices, shaped as the outputs without that axis (whole
/// numbers in a floating-point file count as such), or class probabilities shaped as the outputs. The
/// divisor of a mean is Σ w_y over kept targets for indices and the number of targets for probabilities.
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
    /// The axis of the outputs that holds the classes, as in the file, the axis of samples included, and
    /// from the end where negative; `None` is PyTorch's, 1.
    pub class_axis: Option<isize>,
    /// What a mean divides by; NaN until [`Loss::prepare`] has found it.
    divisor: f64,
    /// Where the classes lie; `None` until [`Loss::prepare`].
    axes: Option<Axes>,
}

impl CrossEntropy {
    /// The mean over samples, with all else as in [`CrossEntropy::new`].
    pub fn mean() -> Self {
        Self::new(Reduction::Mean)
    }

    /// The sum over samples, with all else as in [`CrossEntropy::new`].
    pub fn sum() -> Self {
        Self::new(Reduction::Sum)
    }

    /// With that reduction, no class weights, no smoothing, and PyTorch's index to ignore, -100.
    pub fn new(reduction: Reduction) -> Self {
        Self {
            reduction,
            class_weights: None,
            label_smoothing: 0.0,
            ignore_index: Some(-100),
            class_axis: None,
            divisor: match reduction {
                Reduction::Sum => 1.0,
                Reduction::Mean => f64::NAN,
            },
            axes: None,
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

    /// Sets the axis of the outputs that holds the classes, as in the file: −1 for [N, T, C].
    pub fn class_axis(mut self, axis: isize) -> Self {
        self.class_axis = Some(axis);
        self
    }

    fn class_weight(&self, class: usize) -> f64 {
        self.class_weights.as_ref().map_or(1.0, |w| w[class])
    }

    /// The class index of a position; `None` where the target is class probabilities.
    fn label(target: Target<'_>, axes: Axes, position: usize) -> Option<i64> {
        match target {
            Target::Classes(labels) => Some(labels[position]),
            // Whole numbers, as `prepare` has seen to.
            Target::Dense(labels) if axes.classes > 1 && labels.len() == axes.positions() => {
                Some(labels[position] as i64)
            }
            _ => None,
        }
    }

    /// Where the classes lie in a sample's outputs.
    fn axes(&self, sample: &Sample<'_>) -> Axes {
        let outputs = sample.outputs.len();
        self.axes.unwrap_or_else(|| {
            // Unprepared, the target tells: as many positions as labels, or probabilities at one position.
            let positions = match sample.target {
                Target::Classes(labels) => labels.len().max(1),
                _ => 1,
            };
            Axes::new(&[outputs / positions, positions], 0)
        })
    }

    /// q_c of one position: `[classes]`; returns ω = Σ_c q_c, which is 0 where the target is ignored.
    fn weights(&self, sample: &Sample<'_>, axes: Axes, position: Position, q: &mut [f64]) -> f64 {
        let smooth = self.label_smoothing / axes.classes as f64;
        let label = Self::label(sample.target, axes, position.index);
        if label.is_some() && label == self.ignore_index {
            q.fill(0.0);
            return 0.0;
        }
        for (c, q) in q.iter_mut().enumerate() {
            let target = match (label, sample.target) {
                (Some(label), _) => f64::from(label == c as i64),
                (None, Target::Dense(probabilities)) => probabilities[position.at(c)],
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
        mut each: impl FnMut(Position, &[f64], f64, &[f64], (f64, f64)),
    ) {
        let axes = self.axes(sample);
        let (mut q, mut pi) = (vec![0.0; axes.classes], vec![0.0; axes.classes]);
        for t in (0..axes.positions()).map(|t| axes.position(t)) {
            let omega = self.weights(sample, axes, t, &mut q);
            let lse = softmax(sample.outputs, t, &mut pi);
            each(t, &q, omega, &pi, lse);
        }
    }

    /// Checks one batch and returns its share of the mean's divisor.
    fn check_batch(&self, outputs: &OutputShape, axis: usize, batch: &TargetBatch) -> Result<f64> {
        let Axes { classes, .. } = Axes::new(&outputs.sample, axis);
        let wanted = outputs.without(axis);
        match batch {
            TargetBatch::None(_) => Err(missing("cross-entropy")),
            TargetBatch::Classes {
                first,
                shape,
                values,
            } => self.check_classes(outputs, axis, shape, (*first, values)),
            TargetBatch::Dense {
                first,
                shape,
                values,
            } if classes > 1 && same_shape(shape, &wanted) => {
                let positions: usize = wanted.iter().product();
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
                self.check_classes(outputs, axis, shape, (*first, &labels))
            }
            TargetBatch::Dense {
                first,
                shape,
                values,
            } => {
                self.check_probabilities(outputs, axis, shape, (*first, values))?;
                Ok((batch.samples() * wanted.iter().product::<usize>()) as f64)
            }
        }
    }

    /// Checks class indices of samples from `first` on, of `shape` each, and returns their share of the mean's divisor.
    fn check_classes(
        &self,
        outputs: &OutputShape,
        axis: usize,
        shape: &[usize],
        (first, values): (usize, &[i64]),
    ) -> Result<f64> {
        let Axes { classes, .. } = Axes::new(&outputs.sample, axis);
        let wanted = outputs.without(axis);
        let positions: usize = wanted.iter().product();
        if !same_shape(shape, &wanted) {
            let cure = if same_shape(shape, &outputs.sample) {
                "; class probabilities (one-hot labels too) must be floating-point numbers".into()
            } else {
                outputs.hint(axis, shape)
            };
            return Err(Error::Shape(format!(
                "cross-entropy needs {positions} class index(es) per sample, of shape {wanted:?}, for \
                 the network's outputs {outputs} with {classes} classes on axis {}, but the targets \
                 have shape {shape:?} per sample{cure}",
                outputs.in_file(axis)
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

    /// Checks class probabilities of samples from `first` on, of `shape` each.
    fn check_probabilities(
        &self,
        outputs: &OutputShape,
        axis: usize,
        shape: &[usize],
        (first, values): (usize, &[f64]),
    ) -> Result<()> {
        let Axes { classes, .. } = Axes::new(&outputs.sample, axis);
        let wanted = outputs.without(axis);
        let positions: usize = wanted.iter().product();
        if !same_shape(shape, &outputs.sample) {
            return Err(Error::Shape(format!(
                "cross-entropy needs class indices of shape {wanted:?}, or class probabilities shaped \
                 as the network's outputs {:?} (per sample), but the targets have shape {shape:?} per \
                 sample{}",
                outputs.sample,
                outputs.hint(axis, shape)
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
        Ok(())
    }
}

impl Default for CrossEntropy {
    fn default() -> Self {
        Self::new(Reduction::Mean)
    }
}

/// π of one position into `pi`; returns the largest output and the logarithm of the sum of exponentials with
/// it taken off, whose sum is the log-sum-exp: apart they cancel nothing against a large output.
fn softmax(outputs: &[f64], position: Position, pi: &mut [f64]) -> (f64, f64) {
    let z = |c: usize| outputs[position.at(c)];
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

/// Writes √ω(δ √π − π√π_r) of a class r at a position into a column of S that is zero yet.
fn write_column(t: Position, class: usize, omega: f64, pi: &[f64], column: &mut [f64]) {
    let (root, root_pi) = (omega.sqrt(), pi[class].sqrt());
    for (c, pi) in pi.iter().enumerate() {
        let diagonal = if c == class { root_pi } else { 0.0 };
        column[t.at(c)] = root * (diagonal - pi * root_pi);
    }
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
        if let Some(axis) = self.class_axis {
            name += &format!(", class axis {axis}");
        }
        name + ")"
    }

    fn prepare(
        &mut self,
        outputs: &OutputShape,
        targets: &mut dyn FnMut() -> Result<Option<TargetBatch>>,
    ) -> Result<()> {
        if outputs.sample.is_empty() || outputs.count() == 0 {
            return Err(Error::Shape(format!(
                "cross-entropy needs outputs of shape [classes] or [classes, positions…] per sample, and the \
                 network's are {:?}",
                outputs.sample
            )));
        }
        let axis = outputs.class_axis(self.class_axis)?;
        let axes = Axes::new(&outputs.sample, axis);
        let classes = axes.classes;
        if !(0.0..=1.0).contains(&self.label_smoothing) {
            return Err(Error::Value(format!(
                "label smoothing is {}: it must be between 0 and 1",
                self.label_smoothing
            )));
        }
        if let Some(weights) = &self.class_weights {
            if weights.len() != classes {
                return Err(Error::Shape(format!(
                    "{} class weights are given for a network of {classes} classes (outputs {outputs}): give \
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
            divisor += self.check_batch(outputs, axis, &batch)?;
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
        self.axes = Some(axes);
        self.divisor = match self.reduction {
            Reduction::Sum => 1.0,
            Reduction::Mean => divisor,
        };
        Ok(())
    }

    fn value(&self, sample: &Sample<'_>) -> f64 {
        let mut value = 0.0;
        self.for_positions(sample, |t, q, _, _, (largest, log_sum)| {
            for (c, q) in q.iter().enumerate() {
                // A class of no weight adds nothing, even if its output is -inf.
                if *q != 0.0 {
                    value += q * ((largest - sample.outputs[t.at(c)]) + log_sum);
                }
            }
        });
        value
    }

    fn gradient(&self, sample: &Sample<'_>, gradient: &mut [f64]) {
        self.for_positions(sample, |t, q, omega, pi, _| {
            for (c, (q, pi)) in q.iter().zip(pi).enumerate() {
                gradient[t.at(c)] = omega * pi - q;
            }
        });
    }

    fn hessian_product(&self, sample: &Sample<'_>, vector: &[f64], product: &mut [f64]) {
        self.hessian_products(sample, vector, product);
    }

    /// The softmax, whose exponentials cost more than a product, is taken once for all vectors.
    fn hessian_products(&self, sample: &Sample<'_>, vectors: &[f64], products: &mut [f64]) {
        let each = sample.outputs.len().max(1);
        self.for_positions(sample, |t, _, omega, pi, _| {
            let vectors = vectors.chunks_exact(each);
            for (vector, product) in vectors.zip(products.chunks_exact_mut(each)) {
                let v = |c: usize| vector[t.at(c)];
                let mean: f64 = pi.iter().enumerate().map(|(c, pi)| pi * v(c)).sum();
                for (c, pi) in pi.iter().enumerate() {
                    product[t.at(c)] = omega * pi * (v(c) - mean);
                }
            }
        });
    }

    fn weight(&self, sample: &Sample<'_>) -> f64 {
        let (mut sum, mut kept) = (0.0, 0);
        self.for_positions(sample, |_, _, omega, _, _| {
            sum += omega;
            kept += usize::from(omega > 0.0);
        });
        sum / f64::from(kept.max(1) as u32)
    }

    fn draws(&self) -> bool {
        true
    }

    /// One class of the softmax per position, independently of each other.
    fn draw(&self, sample: &Sample<'_>, draws: &mut Draws, column: &mut [f64]) {
        self.for_positions(sample, |t, _, omega, pi, _| {
            let mut left = draws.uniform();
            // What rounding leaves over falls to the last class.
            let class = pi.iter().position(|pi| {
                left -= pi;
                left < 0.0
            });
            let class = class.unwrap_or(pi.len() - 1);
            for (c, pi) in pi.iter().enumerate() {
                let drawn = if c == class { 1.0 } else { 0.0 };
                column[t.at(c)] = omega.sqrt() * (pi - drawn);
            }
        });
    }

    fn signed(&self) -> bool {
        false
    }

    /// ω π_r (1 − 2π_r + ‖π‖²), π of the direction's position.
    fn direction_squares(&self, sample: &Sample<'_>, squares: &mut [f64]) {
        self.for_positions(sample, |t, _, omega, pi, _| {
            // ‖e_r − π‖² = (1 − π_r)² + Σ_{c≠r} π_c², the sum without the greatest apart: nothing cancels near 1.
            let greatest = (0..pi.len()).fold(0, |g, c| if pi[c] > pi[g] { c } else { g });
            let square = |c: usize| pi[c] * pi[c];
            let small = (0..pi.len()).filter(|&c| c != greatest).map(square);
            let small: f64 = small.sum();
            for (c, own) in pi.iter().enumerate() {
                let others = if c == greatest {
                    small
                } else {
                    square(greatest) + (small - square(c)).max(0.0)
                };
                squares[t.at(c)] = omega * own * ((1.0 - own) * (1.0 - own) + others);
            }
        });
    }

    /// Direction `r` is that of output `r`, a class at a position: column S[·, r] is √ω(δ √π − π√π_r) at that
    /// position and zero at the others.
    fn factor(
        &self,
        sample: &Sample<'_>,
        directions: Range<usize>,
        factor: &mut [f64],
        signs: &mut [f64],
    ) {
        let outputs = sample.outputs.len();
        factor.fill(0.0);
        signs.fill(1.0);
        self.for_positions(sample, |t, _, omega, pi, _| {
            // The directions of this position.
            let first = t.classes_before(directions.start);
            for class in first..t.classes_before(directions.end).min(pi.len()) {
                let k = t.at(class) - directions.start;
                let column = &mut factor[k * outputs..(k + 1) * outputs];
                write_column(t, class, omega, pi, column);
            }
        });
    }

    fn factor_columns(
        &self,
        sample: &Sample<'_>,
        directions: &[usize],
        factor: &mut [f64],
        signs: &mut [f64],
    ) {
        let outputs = sample.outputs.len();
        factor.fill(0.0);
        signs.fill(1.0);
        self.for_positions(sample, |t, _, omega, pi, _| {
            for class in 0..pi.len() {
                if let Ok(k) = directions.binary_search(&t.at(class)) {
                    let column = &mut factor[k * outputs..(k + 1) * outputs];
                    write_column(t, class, omega, pi, column);
                }
            }
        });
    }

    fn accuracy(&self, sample: &Sample<'_>) -> Option<(usize, usize)> {
        let axes = self.axes(sample);
        let largest = |values: &[f64], t: Position| {
            (0..axes.classes).fold(0, |best, c| {
                let better = values[t.at(c)] > values[t.at(best)];
                if better { c } else { best }
            })
        };
        let (mut right, mut kept) = (0, 0);
        for t in (0..axes.positions()).map(|t| axes.position(t)) {
            let label = Self::label(sample.target, axes, t.index);
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
